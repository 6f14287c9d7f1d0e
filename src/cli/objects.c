/* objects.c - asking the data helper, and saying what it did */
#include "cli/objects.h"
#include "base/fs.h"
#include "base/proc.h"
#include "base/str.h"
#include "cli/out.h"
#include "cli/runs.h"
#include "client/start_daemon.h"
#include "client/stubs.h"
#include "core/datastore_spec.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PROGRAM "trainyard-agent"
#define LINE_MAX_BYTES (4 << 20)

/* ---- what the daemon says ---- */

int ty_objects_access(struct ty_cli *cli, const char *datastore, json_t **ret, struct ty_error *err)
{
    const struct ty_call call = { .args = { datastore } };
    CLEANUP_JSON json_t *access = NULL;
    int r = ty_cli_get(cli, TY_ROUTE_datastore_access, &call, &access, err);

    if (r < 0)
        return r;
    *ret = ty_datastore_is_object(ty_out_str(access, "kind")) ? TAKE(access) : NULL;
    return 0;
}

char *ty_objects_where(const json_t *datastore)
{
    const json_t *config = json_object_get(datastore, "config");
    const char *kind = ty_out_str(datastore, "kind"), *prefix = ty_out_str(config, "prefix"),
               *endpoint = ty_out_str(config, "endpoint"), *slash = *prefix ? "/" : "";

    if (strcmp(kind, "s3") == 0)
        return ty_strf("s3://%s%s%s%s%s", ty_out_str(config, "bucket"), slash, prefix,
                       *endpoint ? " at " : "", endpoint);
    if (strcmp(kind, "azureblob") == 0 && strstr(endpoint, "://"))
        return ty_strf("%s/%s%s%s", endpoint, ty_out_str(config, "container_name"), slash, prefix);
    if (strcmp(kind, "azureblob") == 0)
        return ty_strf("%s://%s.blob.%s/%s%s%s", ty_out_str(config, "protocol"),
                       ty_out_str(config, "account_name"), endpoint,
                       ty_out_str(config, "container_name"), slash, prefix);
    return strdup(ty_out_str(datastore, "root"));
}

/* ---- the helper ---- */

/* It lies beside the daemon's program. */
static char *find_helper(struct ty_error *err)
{
    CLEANUP_FREE char *daemon = NULL;
    char *slash;

    if (ty_daemon_find(NULL, &daemon, err) < 0)
        return NULL;
    slash = strrchr(daemon, '/');
    return ty_strf("%.*s" PROGRAM, slash ? (int)(slash - daemon) + 1 : 0, daemon);
}

static int start(const char *helper, const char *text, pid_t *pid, int *ret, struct ty_error *err)
{
    const char *argv[] = { helper, "data", NULL };
    CLEANUP_CLOSE int in = memfd_create("asked", MFD_CLOEXEC);
    CLEANUP_CLOSE int from = -1;
    CLEANUP_CLOSE int to = -1;
    struct ty_spawn spawn = { .argv = argv, .err = 2 };
    int fds[2], r;

    if (in < 0 || (r = ty_write_all(in, text, strlen(text))) < 0 || lseek(in, 0, SEEK_SET) < 0 ||
        pipe2(fds, O_CLOEXEC) < 0)
        return ty_error_set(err, -EIO, "cannot start '%s': %m", helper);
    from = fds[0];
    to = fds[1];
    spawn.in = in;
    spawn.out = to;
    r = ty_spawn(&spawn, pid, err);
    if (r == 0)
        *ret = TAKE_FD(from);
    return r;
}

static int errno_of(const char *code)
{
    static const struct {
        const char *code;
        int r;
    } codes[] = {
        { "bad_request", -EINVAL },  { "forbidden", -EACCES }, { "not_found", -ENOENT },
        { "no_container", -ENOENT }, { "conflict", -EEXIST },  { "no_space", -ENOSPC },
    };

    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (strcmp(codes[i].code, code) == 0)
            return codes[i].r;
    return -EIO;
}

/* One line: 0; 1: the last one, which is `done`; or a negative errno. */
static int hear(const char *line, size_t n, ty_objects_fn fn, void *ctx, json_t **done,
                struct ty_error *err)
{
    CLEANUP_JSON json_t *j = NULL;
    const char *word;
    json_t *value;
    int r = ty_json_parse(line, n, &j, err);

    if (r < 0)
        return ty_error_prefix(err, "what " PROGRAM " said");
    value = json_object_get(j, "done");
    if (value) {
        if (done)
            *done = json_incref(value);
        return 1;
    }
    value = json_object_get(j, "error");
    if (value)
        return ty_error_set(err, errno_of(ty_out_str(value, "code")), "%s",
                            ty_out_str(value, "message"));
    json_object_foreach (j, word, value)
        if (fn && (r = fn(word, value, ctx)) < 0)
            return r;
    return 0;
}

static int listen_to(int from, ty_objects_fn fn, void *ctx, json_t **done, struct ty_error *err)
{
    CLEANUP_STR struct ty_str in = { 0 };
    char piece[65536];
    int r = 0;

    while (r == 0) {
        ssize_t n = read(from, piece, sizeof piece);
        size_t at = 0;
        char *end;

        if (n < 0 && errno == EINTR && !*ty_cli_stop())
            continue;
        if (n <= 0)
            return ty_error_set(err, -EIO, PROGRAM " ended without saying what came of it");
        ty_str_addn(&in, piece, (size_t)n);
        if (in.failed || in.len > LINE_MAX_BYTES)
            return ty_error_set(err, -EIO, "what " PROGRAM " said is too long");
        while (r == 0 && (end = memchr(in.text + at, '\n', in.len - at))) {
            r = hear(in.text + at, (size_t)(end - in.text) - at, fn, ctx, done, err);
            at = (size_t)(end - in.text) + 1;
        }
        memmove(in.text, in.text + at, in.len - at + 1);
        in.len -= at;
    }
    return r < 0 ? r : 0;
}

int ty_objects_ask(const json_t *access, json_t *asked, ty_objects_fn fn, void *ctx, json_t **done,
                   struct ty_error *err)
{
    CLEANUP_FREE char *helper = find_helper(err);
    CLEANUP_FREE char *text = NULL;
    CLEANUP_CLOSE int from = -1;
    pid_t pid = 0;
    int r;

    if (!helper)
        return err->code ? err->code : ty_error_oom(err);
    if (!asked || json_object_set_new(asked, "version", json_integer(1)) < 0 ||
        json_object_set(asked, "access", (json_t *)access) < 0 || !(text = ty_json_text(asked)))
        return ty_error_oom(err);
    r = start(helper, text, &pid, &from, err);
    if (r < 0)
        return ty_error_prefix(err, "the data helper");
    r = listen_to(from, fn, ctx, done, err);
    close(TAKE_FD(from)); /* it ends when nobody listens */
    if (r < 0)
        kill(pid, SIGTERM);
    /* However it was heard of: by this process, or by the helper, which a terminal interrupts too. */
    if (r < 0 && *ty_cli_stop())
        r = ty_error_set(err, -EINTR,
                         "interrupted; what was moved is kept, and the same command goes on from "
                         "there");
    ty_wait(pid, NULL);
    return r;
}

/* ---- listing ---- */

static int on_listed(const char *word, const json_t *value, void *ctx)
{
    json_t *file;

    if (strcmp(word, "file") != 0)
        return 0;
    file = json_copy((json_t *)value);
    return !file || json_object_set_new(file, "kind", json_string("data")) < 0 ||
                   json_object_set_new(file, "sha256", json_null()) < 0 ||
                   json_array_append_new(ctx, file) < 0
               ? -ENOMEM
               : 0;
}

int ty_objects_list(const json_t *access, const char *prefix, json_t **ret, struct ty_error *err)
{
    CLEANUP_JSON json_t *files = json_array();
    CLEANUP_JSON json_t *asked = json_pack("{s:s s:s}", "do", "ls", "path", prefix ? prefix : "");
    int r = files ? ty_objects_ask(access, asked, on_listed, files, NULL, err) : ty_error_oom(err);

    if (r == 0)
        *ret = TAKE(files);
    return r;
}

/* ---- moving ---- */

struct moving {
    struct ty_cli *cli;
    const char *what;
    struct ty_progress bar;
    uint64_t failed;
};

static uint64_t number(const json_t *o, const char *key)
{
    json_int_t n = json_integer_value(json_object_get(o, key));

    return n > 0 ? (uint64_t)n : 0;
}

/* One line of trouble, above the bar. */
static void complain(struct moving *m, const char *text)
{
    CLEANUP_FREE char *safe = ty_out_safe(text);

    ty_progress_clear(&m->bar);
    fprintf(stderr, "trainyard: %s\n", safe ? safe : "");
}

static int on_moved(const char *word, const json_t *value, void *ctx)
{
    struct moving *m = ctx;

    if (*ty_cli_stop())
        return -EINTR;
    if (strcmp(word, "progress") == 0) {
        ty_progress_draw(&m->bar, m->what, number(value, "bytes"), number(value, "total"), false);
    } else if (strcmp(word, "warning") == 0) {
        complain(m, json_string_value(value));
    } else if (strcmp(ty_out_str(value, "state"), "failed") == 0 && m->failed++ > 0) {
        /* the first is the error that everything ends with */
        complain(m, ty_out_str(json_object_get(value, "error"), "message"));
    }
    return 0;
}

static int move(struct moving *m, const json_t *access, json_t *asked, json_t **done,
                struct ty_error *err)
{
    int r;

    m->bar.on = m->cli->err_terminal;
    if (!asked ||
        json_object_set_new(asked, "overwrite", json_boolean(ty_cli_flag(m->cli, "overwrite"))) < 0)
        return ty_error_oom(err);
    r = ty_objects_ask(access, asked, on_moved, m, done, err);
    ty_progress_clear(&m->bar);
    return r;
}

static void say_done(uint64_t files, uint64_t there, const char *verb, const char *where)
{
    fprintf(stderr, "%s%llu file%s in '%s'", verb, (unsigned long long)files, files == 1 ? "" : "s",
            where);
    if (there)
        fprintf(stderr, ", %llu of them there already", (unsigned long long)there);
    fputc('\n', stderr);
}

static int put_one(struct moving *m, const json_t *access, const json_t *source, json_t **done,
                   struct ty_error *err)
{
    const char *from = ty_out_str(source, "from");
    CLEANUP_FREE char *whole = realpath(from, NULL);
    CLEANUP_JSON json_t *asked = NULL;

    if (!whole)
        return ty_error_set(err, -errno, "cannot read '%s': %m", from);
    asked = json_pack("{s:s s:s s:O}", "do", "put", "local", whole, "path",
                      json_object_get(source, "to"));
    if (!asked)
        return ty_error_set(err, -EINVAL, "cannot store '%s': its name is not valid UTF-8", whole);
    return move(m, access, asked, done, err);
}

int ty_objects_put(struct ty_cli *cli, const json_t *access, const json_t *sources,
                   struct ty_error *err)
{
    struct moving m = { .cli = cli, .what = "upload" };
    uint64_t files = 0, there = 0;
    const json_t *source;
    size_t i;

    json_array_foreach (sources, i, source) {
        CLEANUP_JSON json_t *done = NULL;
        int r = put_one(&m, access, source, &done, err);

        if (r < 0)
            return r;
        files += number(done, "files");
        there += number(done, "there");
    }
    say_done(files, there, "stored ", ty_out_str(access, "name"));
    return 0;
}

static int on_stat(const char *word, const json_t *value, void *ctx)
{
    (void)value;
    *(bool *)ctx |= strcmp(word, "file") == 0;
    return 0;
}

static int is_object(const json_t *access, const char *path, bool *ret, struct ty_error *err)
{
    CLEANUP_JSON json_t *asked = json_pack("{s:s s:s}", "do", "stat", "path", path);
    int r;

    *ret = false;
    if (!*path)
        return 0;
    r = ty_objects_ask(access, asked, on_stat, ret, NULL, err);
    return r == -ENOENT ? 0 : r;
}

/* A folder arrives in DEST under its own name; a file becomes DEST, or arrives in it when DEST is a folder. */
static char *place_of(const char *named, const char *dest, bool is_file)
{
    const char *slash = strrchr(named, '/'), *name = slash ? slash + 1 : named;
    CLEANUP_FREE char *here = *dest == '/' ? strdup("") : realpath(".", NULL);
    CLEANUP_FREE char *whole = here ? *here ? ty_path_join(here, dest) : strdup(dest) : NULL;
    struct stat st;
    bool into =
        !is_file || ty_ends_with(dest, "/") || (stat(dest, &st) == 0 && S_ISDIR(st.st_mode));

    return whole && into && *name ? ty_path_join(whole, name) : TAKE(whole);
}

int ty_objects_get(struct ty_cli *cli, const json_t *access, const char *named, const char *dest,
                   struct ty_error *err)
{
    CLEANUP_JSON json_t *asked = NULL;
    CLEANUP_JSON json_t *done = NULL;
    CLEANUP_FREE char *place = NULL;
    struct moving m = { .cli = cli, .what = "download" };
    bool is_file = false;
    int r = is_object(access, named, &is_file, err);

    if (r < 0)
        return r;
    place = place_of(named, dest, is_file);
    if (!place)
        return ty_error_oom(err);
    asked = json_pack("{s:s s:s s:s}", "do", "get", "path", named, "local", place);
    r = move(&m, access, asked, &done, err);
    if (r == 0)
        say_done(number(done, "files"), number(done, "there"), "", dest);
    return r;
}
