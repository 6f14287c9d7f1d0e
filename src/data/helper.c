/* helper.c - `trainyard-agent data`: the request, the store, the small operations
 *
 * A thread waits for the reader of the answer to go away, and ends the process then: what waits for a network cannot look.
 */
#include "data/helper.h"
#include "base/str.h"
#include "data/helper_internal.h"
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define REQUEST_MAX (64 << 20)

/* ---- reading ---- */

/* Up to the end of the first line, or of the input. */
static int read_line(int in, struct ty_str *ret, struct ty_error *err)
{
    char piece[65536];
    ssize_t n;

    for (;;) {
        char *end;

        n = read(in, piece, sizeof piece);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return ty_error_set(err, -errno, "cannot read the request: %m");
        if (n == 0)
            return 0;
        end = memchr(piece, '\n', (size_t)n);
        ty_str_addn(ret, piece, end ? (size_t)(end - piece) : (size_t)n);
        if (ret->failed)
            return ty_error_oom(err);
        if (ret->len > REQUEST_MAX)
            return ty_error_set(err, -EINVAL, "the request has more than %d bytes", REQUEST_MAX);
        if (end)
            return 0;
    }
}

int helper_text(const struct helper *h, const char *key, const char **ret)
{
    return ty_json_get_str(h->asked, "the request", key, ret, h->err);
}

int helper_path(const struct helper *h, const char *path)
{
    return ty_object_path_check(path, h->err);
}

/* ---- operations ---- */

static int on_listed(const struct ty_object *o, void *ctx)
{
    struct helper *h = ctx;

    h->files++;
    h->bytes += o->bytes;
    return helper_say_object(h, o);
}

static int ls(struct helper *h)
{
    const char *path = "";
    int r = helper_text(h, "path", &path);

    return r < 0 ? r : ty_object_list(h->store, h->http, path, on_listed, h, h->err);
}

static int need_path(const struct helper *h, const char **ret)
{
    int r = helper_text(h, "path", ret);

    if (r == 0 && !*ret)
        r = ty_error_set(h->err, -EINVAL, "the request has no 'path'");
    return r < 0 ? r : helper_path(h, *ret);
}

static int one(struct helper *h)
{
    const char *path = NULL;
    int r = need_path(h, &path);

    return r < 0 ? r : ty_object_head(h->store, h->http, path, on_listed, h, h->err);
}

static int rm_one(struct helper *h, const char *path)
{
    int r = helper_path(h, path);

    if (r == 0)
        r = ty_object_remove(h->store, h->http, path, h->err);
    h->files += r == 0;
    return r;
}

static int rm(struct helper *h)
{
    const json_t *files = json_object_get(h->asked, "files"), *file;
    const char *path = NULL;
    size_t i;
    int r = 0;

    if (!files)
        return (r = need_path(h, &path)) < 0 ? r : rm_one(h, path);
    if (!json_is_array(files))
        return ty_error_set(h->err, -EINVAL, "the request, 'files' is not a list");
    json_array_foreach (files, i, file) {
        r = ty_json_get_str(file, "the request, 'files'", "path", &path, h->err);
        if (r == 0 && !path)
            r = ty_error_set(h->err, -EINVAL, "the request, 'files': each has a 'path'");
        if (r == 0)
            r = rm_one(h, path);
        if (r < 0)
            return r;
    }
    return 0;
}

static int make(struct helper *h)
{
    return ty_object_make_container(h->store, h->http, h->err);
}

static int validate(struct helper *h)
{
    bool wanted = false;
    int r = ty_json_get_bool(h->asked, "the request", "make", &wanted, h->err);

    if (r == 0)
        r = ty_object_validate(h->store, h->http, h->err);
    if (r != -ENODEV || !wanted)
        return r;
    r = make(h);
    return r < 0 ? r : ty_object_validate(h->store, h->http, h->err);
}

/* ---- the table ---- */

static const struct verb {
    const char *word;
    int (*run)(struct helper *h);
    const char *keys[8]; /* besides those of all */
} verbs[] = {
    { "put", helper_put, { "files", "local", "path", "overwrite", "parallel" } },
    { "get", helper_get, { "files", "local", "path", "overwrite", "parallel" } },
    { "ls", ls, { "path" } },
    { "stat", one, { "path" } },
    { "rm", rm, { "path", "files" } },
    { "make", make, { NULL } },
    { "validate", validate, { "make" } },
};

static int find_verb(const struct helper *h, const struct verb **ret)
{
    const char *known[12] = { "version", "access", "do" };
    const char *word = NULL;
    int64_t version = 0;
    int n = 3, r = ty_json_get_i64(h->asked, "the request", "version", 1, 1, &version, h->err);

    if (r == 0 && version != 1)
        r = ty_error_set(h->err, -EINVAL, "the request has no 'version'");
    if (r == 0)
        r = helper_text(h, "do", &word);
    if (r < 0)
        return r;
    for (size_t i = 0; word && i < sizeof verbs / sizeof *verbs; i++) {
        if (strcmp(verbs[i].word, word) != 0)
            continue;
        for (int k = 0; verbs[i].keys[k]; k++)
            known[n++] = verbs[i].keys[k];
        *ret = &verbs[i];
        return ty_json_only(h->asked, "the request", known, h->err);
    }
    return ty_error_set(h->err, -EINVAL,
                        "the request, 'do': there are put, get, ls, stat, rm, make and validate");
}

static int serve(struct helper *h)
{
    const struct verb *v = NULL;
    const json_t *access = json_object_get(h->asked, "access");
    int r = find_verb(h, &v);

    h->parallel = TY_MOVE_PARALLEL;
    if (r == 0)
        r = ty_json_get_i64(h->asked, "the request", "parallel", 1, 256, &h->parallel, h->err);
    if (r == 0 && !json_is_object(access))
        r = ty_error_set(h->err, -EINVAL, "the request has no 'access'");
    if (r == 0)
        r = ty_object_open(access, &h->store, h->err);
    if (r == 0)
        r = ty_http_new((unsigned)h->parallel, &h->http, h->err);
    if (r == 0)
        r = v->run(h);
    h->store = ty_object_close(h->store);
    h->http = ty_http_free(h->http);
    return r;
}

/* ---- the process ---- */

static void *await_reader(void *arg)
{
    struct pollfd p = { .fd = *(int *)arg };

    while (poll(&p, 1, -1) < 0 && errno == EINTR)
        ;
    if (p.revents & (POLLERR | POLLHUP | POLLNVAL))
        _exit(1);
    return NULL;
}

int ty_data_helper(int in, int out)
{
    static int watched;
    CLEANUP_STR struct ty_str text = { 0 };
    CLEANUP_JSON json_t *asked = NULL;
    struct ty_error err = { 0 };
    struct helper h = { .out = out, .err = &err };
    pthread_t thread;
    int r;

    prctl(PR_SET_NAME, "trainyard-data");
    signal(SIGPIPE, SIG_IGN);
    watched = out;
    if (pthread_create(&thread, NULL, await_reader, &watched) == 0)
        pthread_detach(thread);
    r = read_line(in, &text, &err);
    if (r == 0)
        r = ty_json_parse(text.text ? text.text : "", text.len, &asked, &err);
    if (r == 0 && !json_is_object(asked))
        r = ty_error_set(&err, -EINVAL, "the request is not a JSON object");
    if (r == 0) {
        h.asked = asked;
        r = serve(&h);
    }
    if (r < 0)
        return helper_fail(&h, r);
    r = helper_say(&h, "done",
                   json_pack("{s:I s:I s:I s:I}", "files", (json_int_t)h.files, "bytes",
                             (json_int_t)h.bytes, "there", (json_int_t)h.there, "failed",
                             (json_int_t)h.failed));
    return r < 0 ? 1 : 0;
}
