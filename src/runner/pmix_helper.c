/* pmix_helper.c - the helper process that is the PMIx server of a node
 *
 * Three threads.  The main one reads what the runner says, and ends the process when the socket closes.
 * libpmix has its own, which call the functions of the module below; those answer at once, or keep what
 * the library wants to be called back with (a fence) until the runner has spoken.  A third one asks
 * libmpi for its version while the ranks start, for that takes longer than all the rest.
 * Writing to the socket may wait for the runner; reading from it never waits for libpmix, so the two
 * cannot lock each other.
 *
 * The functions of a module get no context from the library: what they share is `server`, one for the
 * process.
 */
#include "runner/pmix_helper.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/str.h"
#include "runner/pmix_layout.h"
#include "runner/pmix_lib.h"
#include "runner/pmix_wire.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sodium.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_BYTES (64 * 1024)
#define SIGNATURE_MAX 200 /* bytes; longer ones are hashed */

/* How often a set of ranks has come to a fence: nodes count alike, so the number names the fence. */
struct seen {
    struct seen *next;
    uint64_t times;
    char signature[];
};

/* A fence that waits for the other nodes. */
struct pending {
    struct pending *next;
    pmix_modex_cbfunc_t call;
    void *ctx;
    char key[TY_PMIX_KEY_MAX + 1];
};

static struct {
    struct ty_pmix_lib lib;
    struct ty_pmix_layout layout;
    int fd;
    pthread_mutex_t lock; /* of all below, and of writing to fd */
    pthread_cond_t done;
    bool is_done; /* the library has done what was asked */
    pmix_status_t status;
    struct seen *seen;
    struct pending *pending;
} server = { .fd = -1, .lock = PTHREAD_MUTEX_INITIALIZER, .done = PTHREAD_COND_INITIALIZER };

/* ---- to the runner ---- */

/* Without a runner there is nobody to tell that it failed; the main thread sees the end of the socket. */
static int send_frame(const struct ty_pmix_frame *f)
{
    CLEANUP_STR struct ty_str s = { 0 };
    int r = ty_pmix_encode(f, &s);

    if (r < 0)
        return r;
    pthread_mutex_lock(&server.lock);
    r = ty_write_all(server.fd, s.text, s.len);
    pthread_mutex_unlock(&server.lock);
    return r;
}

/* `o` is consumed. */
static int send_json(enum ty_pmix_frame_type type, json_t *o)
{
    CLEANUP_JSON json_t *owned = o;
    CLEANUP_FREE char *text = o ? ty_json_text(o) : NULL;

    return text ? send_frame(&(struct ty_pmix_frame){
                      .type = type, .body = text, .body_len = strlen(text) })
                : -ENOMEM;
}

static void note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void note(const char *fmt, ...)
{
    CLEANUP_STR struct ty_str s = { 0 };
    va_list ap;

    va_start(ap, fmt);
    ty_str_addv(&s, fmt, ap);
    va_end(ap);
    if (s.text)
        send_json(TY_PMIX_NOTE, json_pack("{s:s}", "text", s.text));
}

/* ---- the library asks ---- */

static pmix_status_t client_here(const pmix_proc_t *proc, void *object, pmix_op_cbfunc_t call,
                                 void *ctx)
{
    (void)proc, (void)object, (void)call, (void)ctx;
    return PMIX_OPERATION_SUCCEEDED;
}

static pmix_status_t client_here2(const pmix_proc_t *proc, void *object, pmix_info_t infos[],
                                  size_t n, pmix_op_cbfunc_t call, void *ctx)
{
    (void)infos, (void)n;
    return client_here(proc, object, call, ctx);
}

static pmix_status_t on_abort(const pmix_proc_t *proc, void *object, int status, const char text[],
                              pmix_proc_t procs[], size_t n, pmix_op_cbfunc_t call, void *ctx)
{
    CLEANUP_STR struct ty_str json = { 0 };
    json_t *why;

    (void)object, (void)procs, (void)n, (void)call, (void)ctx;
    ty_str_add_json(&json, text ? text : "", text ? strlen(text) : 0);
    why = json.failed ? NULL : json_loads(json.text, JSON_DECODE_ANY, NULL);
    send_json(TY_PMIX_ABORT, json_pack("{s:I, s:i, s:o}", "rank", (json_int_t)proc->rank, "code",
                                       status, "text", why));
    return PMIX_OPERATION_SUCCEEDED;
}

static int by_rank(const void *a, const void *b)
{
    const pmix_rank_t *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

/* The ranks of a fence as text ("*" or "0-3,7"), and how many nodes have some of them. */
static int describe(const pmix_proc_t procs[], size_t n, struct ty_str *text, uint32_t *nodes)
{
    CLEANUP(ty_freep) char *memory = malloc((n ? n : 1) * sizeof(pmix_rank_t));
    pmix_rank_t *ranks = (pmix_rank_t *)(void *)memory;
    int last = -1;

    *nodes = 0;
    if (!ranks)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++) {
        if (strncmp(procs[i].nspace, server.layout.name_space, PMIX_MAX_NSLEN) != 0)
            return -EINVAL;
        if (procs[i].rank == PMIX_RANK_WILDCARD) {
            ty_str_add(text, "*");
            *nodes = (uint32_t)server.layout.nnodes;
            return text->failed ? -ENOMEM : 0;
        }
        ranks[i] = procs[i].rank;
    }
    qsort(ranks, n, sizeof *ranks, by_rank);
    for (size_t i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n && ranks[end] - ranks[i] == end - i; end++)
            ;
        ty_str_addf(text, i ? ",%u" : "%u", ranks[i]);
        if (end > i + 1)
            ty_str_addf(text, "-%u", ranks[end - 1]);
    }
    for (size_t i = 0; i < n; i++) {
        int node = ty_pmix_layout_node_of(&server.layout, ranks[i]);

        if (node < 0)
            return -EINVAL;
        *nodes += node != last;
        last = node;
    }
    return text->failed ? -ENOMEM : 0;
}

static void shorten(struct ty_str *text)
{
    unsigned char hash[crypto_generichash_BYTES];
    char hex[2 * sizeof hash + 1];

    if (text->len <= SIGNATURE_MAX)
        return;
    crypto_generichash(hash, sizeof hash, (const unsigned char *)text->text, text->len, NULL, 0);
    sodium_bin2hex(hex, sizeof hex, hash, sizeof hash);
    ty_str_done(text);
    ty_str_addf(text, "h%s", hex);
}

/* Under the lock: which time is this, from 1?  0: out of memory. */
static uint64_t count(const char *signature)
{
    struct seen *s = server.seen;

    while (s && strcmp(s->signature, signature) != 0)
        s = s->next;
    if (!s) {
        size_t n = strlen(signature) + 1;

        s = calloc(1, sizeof *s + n);
        if (!s)
            return 0;
        memcpy(s->signature, signature, n);
        s->next = server.seen;
        server.seen = s;
    }
    return ++s->times;
}

/* The library is told after its function has returned; it has the blob freed when it is done with it. */
static pmix_status_t answer_alone(const char *data, size_t n, pmix_modex_cbfunc_t call, void *ctx)
{
    char *copy = malloc(n ? n : 1);

    if (!copy)
        return PMIX_ERR_NOMEM;
    if (n)
        memcpy(copy, data, n);
    call(PMIX_SUCCESS, copy, n, ctx, free, copy);
    return PMIX_SUCCESS;
}

static int ask_others(struct pending *p, const char *signature, uint32_t nodes, const char *data,
                      size_t n)
{
    uint64_t times;

    pthread_mutex_lock(&server.lock);
    times = count(signature);
    snprintf(p->key, sizeof p->key, "%s/%llu", signature, (unsigned long long)times);
    p->next = server.pending;
    server.pending = p;
    pthread_mutex_unlock(&server.lock);
    if (times == 0)
        return -ENOMEM;
    return send_frame(&(struct ty_pmix_frame){ .type = TY_PMIX_FENCE,
                                               .nodes = nodes,
                                               .key = p->key,
                                               .key_len = strlen(p->key),
                                               .body = data,
                                               .body_len = n });
}

/* Every rank of this node that takes part has come.  An error ends the fence on this node; the others
 * would wait for it, so the runner hears of it. */
static pmix_status_t on_fence(const pmix_proc_t procs[], size_t nprocs, const pmix_info_t infos[],
                              size_t ninfos, char *data, size_t n, pmix_modex_cbfunc_t call,
                              void *ctx)
{
    CLEANUP_STR struct ty_str text = { 0 };
    struct pending *p;
    uint32_t nodes;
    int r = describe(procs, nprocs, &text, &nodes);

    (void)infos, (void)ninfos;
    if (r < 0)
        return r == -ENOMEM ? PMIX_ERR_NOMEM : PMIX_ERR_NOT_SUPPORTED;
    if (nodes <= 1)
        return answer_alone(data, n, call, ctx);
    shorten(&text);
    p = calloc(1, sizeof *p);
    if (!p || text.failed) {
        free(p);
        return PMIX_ERR_NOMEM;
    }
    p->call = call;
    p->ctx = ctx;
    r = ask_others(p, text.text, nodes, data, n);
    if (r < 0)
        note("the ranks of this node cannot meet those of the others: %s", strerror(-r));
    return PMIX_SUCCESS;
}

/* Data of a rank elsewhere comes with fences alone: Open MPI's do collect it. */
static pmix_status_t on_get(const pmix_proc_t *proc, const pmix_info_t infos[], size_t n,
                            pmix_modex_cbfunc_t call, void *ctx)
{
    (void)proc, (void)infos, (void)n, (void)call, (void)ctx;
    return PMIX_ERR_NOT_FOUND;
}

static pmix_status_t on_spawn(const pmix_proc_t *proc, const pmix_info_t infos[], size_t ninfos,
                              const pmix_app_t apps[], size_t napps, pmix_spawn_cbfunc_t call,
                              void *ctx)
{
    (void)infos, (void)ninfos, (void)apps, (void)napps, (void)call, (void)ctx;
    note("rank %u called MPI_Comm_spawn, which is refused: a job keeps the processes that it was "
         "submitted with (ask for more of them with process_count_per_node or node_count)",
         proc->rank);
    return PMIX_ERR_NOT_SUPPORTED;
}

static pmix_server_module_t module = { .client_connected = client_here,
                                       .client_connected2 = client_here2,
                                       .client_finalized = client_here,
                                       .abort = on_abort,
                                       .fence_nb = on_fence,
                                       .direct_modex = on_get,
                                       .spawn = on_spawn };

/* ---- asking the library ---- */

static void on_done(pmix_status_t status, void *ctx)
{
    (void)ctx;
    pthread_mutex_lock(&server.lock);
    server.is_done = true;
    server.status = status;
    pthread_cond_signal(&server.done);
    pthread_mutex_unlock(&server.lock);
}

/* The end of a call that gave `status` and may call on_done. */
static pmix_status_t wait_done(pmix_status_t status)
{
    if (status == PMIX_OPERATION_SUCCEEDED)
        return PMIX_SUCCESS;
    if (status != PMIX_SUCCESS)
        return status;
    pthread_mutex_lock(&server.lock);
    while (!server.is_done)
        pthread_cond_wait(&server.done, &server.lock);
    server.is_done = false;
    status = server.status;
    pthread_mutex_unlock(&server.lock);
    return status;
}

static int failed(pmix_status_t status, struct ty_error *err, const char *what)
{
    return ty_error_set(err, -EIO, "libpmix cannot %s: %s (%d)", what,
                        server.lib.error_string(status), status);
}

static int start_library(struct ty_error *err)
{
    const struct ty_pmix_layout *l = &server.layout;
    CLEANUP(ty_pmix_infos_done) struct ty_pmix_infos s = { 0 };
    CLEANUP_FREE char *name = ty_strf("trainyard-server-%d", l->node);
    pmix_status_t status;

    ty_pmix_add_text(&s, PMIX_SERVER_TMPDIR, l->tmp);
    ty_pmix_add_text(&s, PMIX_SYSTEM_TMPDIR, l->tmp);
    ty_pmix_add_text(&s, PMIX_SERVER_NSPACE, name);
    ty_pmix_add_text(&s, PMIX_HOSTNAME, l->nodes[l->node].name);
    if (s.failed)
        return ty_error_oom(err);
    status = server.lib.server_init(&module, s.v, s.n);
    return status == PMIX_SUCCESS ? 0 : failed(status, err, "start its server");
}

static int register_job(struct ty_error *err)
{
    const struct ty_pmix_layout *l = &server.layout;
    const struct ty_pmix_place *here = &l->nodes[l->node];
    CLEANUP(ty_pmix_infos_done) struct ty_pmix_infos s = { 0 };
    int r = ty_pmix_layout_infos(l, &server.lib, &s, err);
    pmix_status_t status;

    if (r < 0)
        return r;
    status = wait_done(
        server.lib.register_nspace(l->name_space, (int)here->ranks, s.v, s.n, on_done, NULL));
    if (status != PMIX_SUCCESS)
        return failed(status, err, "take the layout of the job");
    for (uint32_t i = 0; i < here->ranks; i++) {
        pmix_proc_t proc = { .rank = here->first + i };

        snprintf(proc.nspace, sizeof proc.nspace, "%s", l->name_space);
        status =
            wait_done(server.lib.register_client(&proc, geteuid(), getegid(), NULL, on_done, NULL));
        if (status != PMIX_SUCCESS)
            return failed(status, err, "take a rank");
    }
    return 0;
}

/* What Open MPI 4 wants besides; users may set all of it otherwise. */
static int add_open_mpi(json_t *list)
{
    const struct ty_pmix_layout *l = &server.layout;
    int r = 0;

    /* It takes a process for one of its own daemon's, or for a world of one, unless it knows the launcher: Slurm, or
     * IBM's, whose sign is this variable.  Both mean: there is a PMIx server and nothing else, and processes are
     * bound already. */
    r |= json_array_append_new(list, json_string("JSM_JSRUN_PORT=0"));
    if (*l->shm) {
        r |= json_array_append_new(list,
                                   json_sprintf("OMPI_MCA_btl_vader_backing_directory=%s", l->shm));
        r |= json_array_append_new(list,
                                   json_sprintf("OMPI_MCA_osc_sm_backing_directory=%s", l->shm));
    }
    /* Ranks that wait give their CPU to those that are waited for. */
    if (l->cpus > 0 && l->nodes[l->node].ranks > l->cpus)
        r |= json_array_append_new(list, json_string("OMPI_MCA_mpi_yield_when_idle=1"));
    return r;
}

static json_t *texts(char **v)
{
    json_t *list = json_array();
    int r = list ? 0 : -1;

    for (; r == 0 && v && *v; v++)
        r = json_array_append_new(list, json_string(*v));
    if (r == 0 && add_open_mpi(list) == 0)
        return list;
    json_decref(list);
    return NULL;
}

static void strv_freep(char ***v)
{
    for (char **at = *v; at && *at; at++)
        free(*at);
    free(*v);
}

/* The environment of each rank of this node. */
static json_t *environments(struct ty_error *err)
{
    const struct ty_pmix_layout *l = &server.layout;
    const struct ty_pmix_place *here = &l->nodes[l->node];
    CLEANUP_JSON json_t *list = json_array();

    for (uint32_t i = 0; i < here->ranks; i++) {
        CLEANUP(strv_freep) char **env = NULL;
        pmix_proc_t proc = { .rank = here->first + i };
        pmix_status_t status;

        snprintf(proc.nspace, sizeof proc.nspace, "%s", l->name_space);
        status = server.lib.setup_fork(&proc, &env);
        if (status != PMIX_SUCCESS) {
            failed(status, err, "make the environment of a rank");
            return NULL;
        }
        if (json_array_append_new(list, texts(env)) < 0) {
            ty_error_oom(err);
            return NULL;
        }
    }
    return TAKE(list);
}

static int begin(const struct ty_pmix_frame *setup, struct ty_error *err)
{
    json_t *env;
    int r;

    if (setup->type != TY_PMIX_SETUP)
        return ty_error_set(err, -EPROTO, "the runner did not begin with the layout of the job");
    if ((r = ty_pmix_layout_read(setup->body, setup->body_len, &server.layout, err)) < 0 ||
        (r = ty_pmix_lib_open(&server.lib, err)) < 0 || (r = start_library(err)) < 0 ||
        (r = register_job(err)) < 0)
        return r;
    env = environments(err);
    if (!env)
        return err->code;
    return send_json(TY_PMIX_READY,
                     json_pack("{s:o, s:s}", "env", env, "pmix", server.lib.get_version()));
}

static void *ask_mpi(void *ctx)
{
    CLEANUP_FREE char *version = ty_mpi_version();

    (void)ctx;
    if (version)
        send_json(TY_PMIX_MPI, json_pack("{s:s}", "version", version));
    return NULL;
}

/* ---- the runner speaks ---- */

static struct pending *take_pending(const char *key, size_t n)
{
    struct pending **at = &server.pending, *p;

    pthread_mutex_lock(&server.lock);
    while (*at && (strlen((*at)->key) != n || memcmp((*at)->key, key, n) != 0))
        at = &(*at)->next;
    p = *at;
    if (p)
        *at = p->next;
    pthread_mutex_unlock(&server.lock);
    return p;
}

static void fence_done(const struct ty_pmix_frame *f)
{
    struct pending *p = take_pending(f->key, f->key_len);
    char *copy = p ? malloc(f->body_len ? f->body_len : 1) : NULL;

    if (copy) {
        memcpy(copy, f->body, f->body_len);
        p->call(PMIX_SUCCESS, copy, f->body_len, p->ctx, free, copy);
    } else if (p) {
        p->call(PMIX_ERR_NOMEM, NULL, 0, p->ctx, NULL, NULL);
    }
    free(p);
}

/* The first frame begins all; later ones are ends of fences. */
static int on_frame(const struct ty_pmix_frame *f, bool *begun)
{
    struct ty_error err = { 0 };
    pthread_t asker;

    if (*begun) {
        if (f->type == TY_PMIX_FENCE_DONE)
            fence_done(f);
        return 0;
    }
    if (begin(f, &err) < 0) {
        send_json(TY_PMIX_FAILED, json_pack("{s:i, s:s}", "error", -err.code, "text", err.text));
        return err.code ? err.code : -EIO;
    }
    *begun = true;
    if (pthread_create(&asker, NULL, ask_mpi, NULL) == 0)
        pthread_detach(asker);
    return 0;
}

/* Until the socket closes. */
static int serve(bool *begun)
{
    CLEANUP_STR struct ty_str in = { 0 };
    CLEANUP_FREE char *buf = malloc(READ_BYTES);
    struct ty_pmix_frame f;
    ssize_t n;

    while (buf && !in.failed && (n = read(server.fd, buf, READ_BYTES)) != 0) {
        ptrdiff_t used;

        if (n < 0 && errno != EINTR)
            return -errno;
        ty_str_addn(&in, buf, n > 0 ? (size_t)n : 0);
        while ((used = ty_pmix_decode(in.text, in.len, &f)) > 0) {
            int r = on_frame(&f, begun);

            if (r < 0)
                return r;
            in.len -= (size_t)used;
            memmove(in.text, in.text + used, in.len);
        }
        if (used == -EBADMSG)
            return -EBADMSG;
    }
    return buf && !in.failed ? 0 : -ENOMEM;
}

static void remove_shm(void)
{
    if (server.layout.shm && *server.layout.shm)
        ty_rm_rf(server.layout.shm);
}

int ty_pmix_helper_main(const char *fd)
{
    bool begun = false;
    int64_t n;
    int r;

    if (ty_parse_i64(fd, &n) < 0 || n < 3 || n > INT32_MAX || sodium_init() < 0)
        return 2;
    server.fd = (int)n;
    prctl(PR_SET_NAME, "trainyard-pmix");
    signal(SIGTERM, SIG_IGN); /* meant for the job, whose processes are all signalled */
    signal(SIGPIPE, SIG_IGN);
    r = serve(&begun);
    /* At once, for who comes after a runner that was killed may end this process, too; and again, for ranks may just have
     * made more. */
    remove_shm();
    if (begun)
        server.lib.server_finalize();
    remove_shm();
    _exit(r < 0);
}
