/* slurm_give.c - what an allocation is given, and what a keeper keeps on disk
 *
 * In the keeper's folder, 0600 each: `key` (of the links, for as long as the folder lives), `port` (so that a keeper that is
 * started again listens where its holders call), `state` (the allocations).  In the user's folder, when that is shared with the
 * nodes: the agent, by its content, and one small file for each allocation with our addresses.
 */
#include "base/error.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/owner.h"
#include "base/proc.h"
#include "blob/blob.h"
#include "target/slurm_keeper_internal.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define FOLDER "~/.cache/trainyard"
#define STATE_MAX (64 << 20)
#define GZIP "/bin/gzip"

/* ---- folders ---- */

static bool shared(const struct keeper *k)
{
    return k->target->slurm.shared_home;
}

char *keep_folder(const struct keeper *k)
{
    const char *folder = k->target->folder ? k->target->folder : FOLDER;

    return shared(k) && ty_starts_with(folder, "~/") ? ty_path_join(k->home, folder + 2)
                                                     : strdup(folder);
}

static char *agent_path(const struct keeper *k)
{
    CLEANUP_FREE char *folder = keep_folder(k);

    return folder ? ty_strf("%s/agents/%s/trainyard-agent", folder, k->sha) : NULL;
}

static char *address_path(const struct keeper *k, const char *id)
{
    CLEANUP_FREE char *folder = keep_folder(k);

    return folder ? ty_strf("%s/slurm/%s", folder, id) : NULL;
}

/* ---- the agent ---- */

static int hash_agent(struct keeper *k, struct ty_error *err)
{
    CLEANUP_CLOSE int fd = open(k->agent, O_RDONLY | O_CLOEXEC);
    uint64_t bytes;
    int r;

    if (k->sha[0])
        return 0;
    if (fd < 0)
        return ty_error_set(err, -errno, "cannot read the agent '%s': %m", k->agent);
    r = ty_sha256_file(fd, k->sha, &bytes);
    return r < 0 ? ty_error_set(err, r, "cannot read the agent '%s': %s", k->agent, strerror(-r))
                 : 0;
}

/* As the owner, whole or not at all. */
static int copy_agent(const struct keeper *k, int from, const char *path)
{
    CLEANUP_FREE char *fresh = ty_strf("%s.%d", path, (int)getpid());
    int r = fresh ? ty_mkdir_parent(path, 0700) : -ENOMEM;

    if (r == 0) {
        CLEANUP_CLOSE int to =
            open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0700);

        r = to < 0 ? -errno : ty_copy_fd(from, to);
        if (r == 0 && fchmod(to, 0700) < 0)
            r = -errno;
    }
    if (r == 0 && rename(fresh, path) < 0)
        r = -errno;
    if (r < 0 && fresh)
        unlink(fresh);
    (void)k;
    return r;
}

static int place_agent(struct keeper *k, const char *path, struct ty_error *err)
{
    CLEANUP_CLOSE int from = open(k->agent, O_RDONLY | O_CLOEXEC);
    int r = 0;

    if (from < 0)
        return ty_error_set(err, -errno, "cannot read the agent '%s': %m", k->agent);
    ty_owner_enter(k->owner);
    if (access(path, X_OK) < 0)
        r = copy_agent(k, from, path);
    ty_owner_leave(k->owner);
    if (r < 0) {
        errno = -r;
        return ty_error_set(
            err, r,
            "cannot put the agent at '%s' for the nodes: %m; name a folder of the target "
            "that can be written ('folder')",
            path);
    }
    return 0;
}

/* The agent through gzip, mapped for as long as this process lives. */
static int pack_agent(const struct keeper *k, const void **ret, size_t *n, struct ty_error *err)
{
    static void *packed;
    static size_t bytes;
    const char *argv[] = { GZIP, "-9nc", k->agent, NULL };
    CLEANUP_CLOSE int out = memfd_create("agent", MFD_CLOEXEC);
    struct ty_spawn spawn = { .argv = argv, .cwd = "/", .in = -1, .out = out, .err = -1 };
    struct stat st;
    int status = -1, r;
    pid_t pid;

    if (!packed) {
        r = ty_spawn(&spawn, &pid, err);
        if (r < 0)
            return r;
        ty_wait(pid, &status);
        if (status != 0 || fstat(out, &st) < 0 || st.st_size == 0)
            return ty_error_set(err, -EIO, "gzip could not pack the agent '%s'", k->agent);
        bytes = (size_t)st.st_size;
        packed = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE, out, 0);
        if (packed == MAP_FAILED) {
            packed = NULL;
            return ty_error_oom(err);
        }
    }
    *ret = packed;
    *n = bytes;
    return 0;
}

/* ---- the batch script ---- */

static json_t *addresses_of(const struct keeper *k)
{
    char **list = NULL;
    json_t *o = json_array();

    (void)k;
    if (ty_link_addresses(&list, NULL) == 0)
        for (char **a = list; *a; a++)
            json_array_append_new(o, json_string(*a));
    json_array_append_new(o, json_string("127.0.0.1")); /* a node may be this machine */
    ty_link_addresses_free(list);
    return o;
}

int give_script(struct keeper *k, const struct alloc *a, struct ty_str *ret, struct ty_error *err)
{
    CLEANUP_FREE char *path = NULL, *address = NULL, *config = NULL;
    CLEANUP_JSON json_t *o = NULL;
    struct ty_slurm_script s = { .path = json_string_value(
                                     json_object_get(k->target->slurm.environment, "PATH")) };
    int r = hash_agent(k, err);

    if (r < 0)
        return r;
    path = agent_path(k);
    address = address_path(k, a->id);
    if (!path || !address)
        return ty_error_oom(err);
    r = shared(k) ? place_agent(k, path, err) : pack_agent(k, &s.packed, &s.packed_bytes, err);
    if (r < 0)
        return r;
    o = json_pack("{s:i s:s s:s s:i s:o s:s? s:b}", "version", 1, "allocation", a->id, "key",
                  k->key_text, "port", ty_gate_port(k->gate), "addresses", addresses_of(k),
                  "address_file", address, "bcast", !shared(k));
    config = o ? ty_json_text(o) : NULL;
    if (!config)
        return ty_error_oom(err);
    s.agent = path;
    s.config = config;
    r = ty_slurm_script(&s, ret);
    if (r == -E2BIG)
        return ty_error_set(
            err, r,
            "the batch script with the packed agent is longer than Slurm takes; let the "
            "nodes see the folder of the target ('shared_home')");
    return r < 0 ? ty_error_oom(err) : 0;
}

static char *address_text(const struct keeper *k)
{
    CLEANUP_JSON json_t *o =
        json_pack("{s:i s:o}", "port", ty_gate_port(k->gate), "addresses", addresses_of(k));

    return o ? ty_json_text(o) : NULL;
}

int tell_address(struct keeper *k, struct alloc *a)
{
    CLEANUP_FREE char *path = address_path(k, a->id), *text = address_text(k);
    CLEANUP_FREE char *job = ty_strf("--jobid=%" PRIu32, a->job),
                      *nodes = ty_strf("--nodes=%d", a->nodes),
                      *tasks = ty_strf("--ntasks=%d", a->nodes);
    const char *argv[] = {
        "timeout",
        "15",
        "srun",
        job,
        nodes,
        tasks,
        "--ntasks-per-node=1",
        "--overlap",
        "--mem=0",
        "--export=NONE",
        "--chdir=/",
        "--quiet",
        "/bin/sh",
        "-c",
        "umask 077; PATH=/usr/bin:/bin; h=$(getent passwd \"$(id -u)\" | cut -d: -f6); "
        "case $1 in '~/'*) f=$h/${1#??};; *) f=$1;; esac; mkdir -p \"${f%/*}\" && "
        "printf '%s\\n' \"$2\" > \"$f.$$\" && mv \"$f.$$\" \"$f\"",
        "sh",
        path,
        text,
        NULL
    };
    struct ty_slurm_setting where = keeper_setting(k);
    struct ty_error err;

    if (!path || !text || !job || !nodes || !tasks)
        return -ENOMEM;
    return ty_slurm_command_start(&a->command, &where, argv, NULL, 0, &err);
}

void give_address(struct keeper *k, const struct alloc *a)
{
    CLEANUP_FREE char *text = address_text(k);
    CLEANUP_FREE char *path = k->target && shared(k) ? address_path(k, a->id) : NULL;
    int r;

    if (!text || !path)
        return;
    ty_owner_enter(k->owner);
    r = ty_mkdir_parent(path, 0700);
    if (r == 0)
        r = ty_write_file(path, text, strlen(text), 0600);
    ty_owner_leave(k->owner);
    if (r < 0)
        ty_log(TY_LOG_WARN, "cannot write '%s': %s", path, strerror(-r));
}

void take_address(struct keeper *k, const struct alloc *a)
{
    CLEANUP_FREE char *path = k->target && shared(k) ? address_path(k, a->id) : NULL;

    if (!path)
        return;
    ty_owner_enter(k->owner);
    unlink(path);
    ty_owner_leave(k->owner);
}

/* ---- key and port ---- */

int keep_key(struct keeper *k, int *port, struct ty_error *err)
{
    CLEANUP_FREE char *path = ty_path_join(k->folder, "key"), *at = ty_path_join(k->folder, "port");
    CLEANUP_FREE char *text = NULL, *number = NULL;
    int64_t n = 0;
    int r = path && at ? 0 : -ENOMEM;

    if (r == 0 && ty_read_file(path, 2 * TY_LINK_KEY, &text, NULL) == 0 &&
        ty_link_key_parse(text, k->key) == 0) {
        memcpy(k->key_text, text, sizeof k->key_text);
    } else if (r == 0) {
        r = ty_link_key_make(k->key_text);
        if (r == 0)
            r = ty_write_file(path, k->key_text, strlen(k->key_text), 0600);
        if (r == 0)
            r = ty_link_key_parse(k->key_text, k->key);
    }
    if (r < 0)
        return ty_error_set(err, r, "cannot keep a key in '%s': %s", k->folder, strerror(-r));
    if (ty_read_file(at, 16, &number, NULL) == 0 && ty_parse_i64(number, &n) == 0 && n > 0 &&
        n < 65536)
        *port = (int)n;
    return 0;
}

void keep_port(struct keeper *k)
{
    CLEANUP_FREE char *path = ty_path_join(k->folder, "port");
    char text[16];

    snprintf(text, sizeof text, "%d", ty_gate_port(k->gate));
    if (path && ty_write_file(path, text, strlen(text), 0600) < 0)
        ty_log(TY_LOG_WARN, "cannot write '%s': %m", path);
}

/* ---- the allocations ---- */

static json_t *alloc_json(const struct keeper *k, const struct alloc *a)
{
    CLEANUP_FREE char *why = alloc_why(k, a);
    int here = 0;

    for (int i = 0; i < a->nodes; i++)
        here += a->members[i].link != NULL;
    return json_pack(
        "{s:s s:s? s:s? s:s? s:O? s:i s:I s:I s:s s:s s:s s:i s:b s:b s:b s:b s:b s:s? s:s? s:s?}",
        "id", a->id, "shape", a->shape, "run", a->run, "job_dir", a->job_dir, "spec", a->spec,
        "nodes", a->nodes, "idle_seconds", (json_int_t)a->idle_seconds, "job", (json_int_t)a->job,
        "state", a->word, "reason", a->reason, "list", a->list, "here", here, "up", a->up, "over",
        a->over, "ending", a->ending, "cancel", a->cancel, "reserve", a->reserve, "end_reason",
        a->end_reason, "end_message", a->end_message, "why", why);
}

void keep_state(struct keeper *k)
{
    CLEANUP_JSON json_t *list = json_array();
    CLEANUP_JSON json_t *o = NULL;
    CLEANUP_FREE char *text = NULL, *path = ty_path_join(k->folder, TY_KEEPER_STATUS);
    int r;

    k->changed = false;
    for (const struct alloc *a = k->allocs; a; a = a->next)
        json_array_append_new(list, alloc_json(k, a));
    o = json_pack("{s:i s:O s:O? s:s?}", "version", 1, "allocations", list, "target",
                  k->target ? k->target->json : NULL, "trouble", k->trouble);
    text = o ? ty_json_text(o) : NULL;
    r = text && path ? ty_write_file(path, text, strlen(text), 0600) : -ENOMEM;
    if (r < 0)
        ty_log(TY_LOG_ERROR, "cannot write '%s': %s", path ? path : k->folder, strerror(-r));
}

static char *copy_of(const json_t *o, const char *key)
{
    const char *v = json_string_value(json_object_get(o, key));

    return v ? strdup(v) : NULL;
}

static void alloc_load(struct keeper *k, json_t *o)
{
    const char *id = json_string_value(json_object_get(o, "id"));
    struct alloc *a = id && strlen(id) == 16
                          ? alloc_new(k, (int)json_integer_value(json_object_get(o, "nodes")))
                          : NULL;

    if (!a)
        return;
    snprintf(a->id, sizeof a->id, "%s", id);
    a->shape = copy_of(o, "shape");
    a->run = copy_of(o, "run");
    a->job_dir = copy_of(o, "job_dir");
    a->end_reason = copy_of(o, "end_reason");
    a->end_message = copy_of(o, "end_message");
    a->job = (uint32_t)json_integer_value(json_object_get(o, "job"));
    a->idle_seconds = json_integer_value(json_object_get(o, "idle_seconds"));
    snprintf(a->word, sizeof a->word, "%s", json_string_value(json_object_get(o, "state")));
    snprintf(a->list, sizeof a->list, "%s", json_string_value(json_object_get(o, "list")));
    a->state = *a->word ? ty_slurm_state(a->word) : TY_SLURM_PENDING;
    a->up = json_is_true(json_object_get(o, "up"));
    a->over = json_is_true(json_object_get(o, "over"));
    a->ending = json_is_true(json_object_get(o, "ending"));
    a->cancel = json_is_true(json_object_get(o, "cancel"));
    a->reserve = json_is_true(json_object_get(o, "reserve"));
    a->unsure = a->job == 0;
    if (json_is_object(json_object_get(o, "spec")))
        a->spec = json_incref(json_object_get(o, "spec"));
    a->idle_us = k->now_us;
    a->check_us = k->now_us;
    if (a->cancel)
        a->retry_us = 0;
    if (!a->over)
        give_address(k, a);
    a->tell = k->moved && !shared(k) && a->up && !a->over;
    if (a->tell)
        a->retry_us = 0;
}

int keep_load(struct keeper *k, struct ty_error *err)
{
    CLEANUP_FREE char *path = ty_path_join(k->folder, TY_KEEPER_STATUS);
    CLEANUP_FREE char *text = NULL;
    CLEANUP_JSON json_t *o = NULL;
    json_t *a;
    size_t i, n;
    int r = path ? ty_read_file(path, STATE_MAX, &text, &n) : -ENOMEM;

    if (r == -ENOENT)
        return 0;
    if (r == 0)
        r = ty_json_parse(text, n, &o, err);
    if (r < 0)
        return ty_error_set(err, r, "cannot read '%s': %s", path ? path : "", strerror(-r));
    if (json_is_object(json_object_get(o, "target")) &&
        ty_target_spec_parse(json_object_get(o, "target"), &k->target, err) < 0)
        return err->code;
    json_array_foreach (json_object_get(o, "allocations"), i, a)
        alloc_load(k, a);
    return 0;
}
