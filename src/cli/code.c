/* code.c - in which files two snapshots differ, and in which lines
 *
 * Files are compared by their manifests (docs/spec/snapshot.md); lines by the program `diff`, on
 * copies in a folder that is removed again.
 */
#include "cli/code.h"
#include "base/fs.h"
#include "base/proc.h"
#include "cli/files.h"
#include "cli/out.h"
#include "cli/runs.h"
#include "cli/submit.h"
#include "client/stubs.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/wait.h>

/* ---- manifests ---- */

struct entry {
    char *fields[4]; /* type, mode, bytes, hash */
    char *path, *target;
};
struct manifest {
    char *text; /* the entries point into it */
    struct entry *entries;
    size_t n;
};

static void manifest_done(struct manifest *m)
{
    free(m->entries);
    free(m->text);
}

static int read_line(char *line, struct entry *e)
{
    int i;

    e->path = line;
    for (i = 0; i < 4; i++) {
        e->fields[i] = strsep(&e->path, " ");
        if (!e->path)
            return -EBADMSG;
    }
    if (*e->fields[0] == 'l') {
        e->target = strstr(e->path, " -> ");
        if (!e->target)
            return -EBADMSG;
        *e->target = '\0';
        e->target += strlen(" -> ");
    }
    return ty_url_decode(e->path) < 0 || (e->target && ty_url_decode(e->target) < 0) ? -EBADMSG : 0;
}

/* `text` "": an empty one. */
static int manifest_read(const char *text, struct manifest *m, struct ty_error *err)
{
    char *rest, *line;
    size_t lines = 1;

    for (const char *c = text; *c; c++)
        lines += *c == '\n';
    m->text = strdup(text);
    m->entries = calloc(lines, sizeof *m->entries);
    if (!m->text || !m->entries)
        return ty_error_oom(err);
    rest = m->text;
    line = strsep(&rest, "\n");
    if (*line && strcmp(line, "trainyard-snapshot 1"))
        return ty_error_set(
            err, -EPROTO, "cannot compare code: '%.80s' begins no manifest that this release knows",
            line);
    while (rest && (line = strsep(&rest, "\n")))
        if (*line && read_line(line, &m->entries[m->n++]) < 0)
            return ty_error_set(err, -EBADMSG,
                                "cannot compare code: line %zu of a manifest cannot be read",
                                m->n + 1);
    return 0;
}

/* ---- files ---- */

static json_t *lossy(const char *text)
{
    CLEANUP_FREE char *safe = NULL;

    if (ty_utf8_valid(text, strlen(text)))
        return json_string(text);
    safe = ty_out_safe(text);
    return safe ? json_string(safe) : NULL;
}

static json_t *side(const struct entry *e)
{
    int64_t bytes = 0;

    if (!e)
        return json_null();
    ty_parse_i64(e->fields[2], &bytes);
    if (*e->fields[0] == 'f')
        return json_pack("{s:s s:I s:s s:s}", "type", "file", "bytes", (json_int_t)bytes, "mode",
                         e->fields[1], "sha256", e->fields[3]);
    if (*e->fields[0] == 'l')
        return json_pack("{s:s s:o}", "type", "link", "target", lossy(e->target));
    return json_pack("{s:s}", "type", "folder");
}

static bool same(const struct entry *a, const struct entry *b)
{
    int i;

    for (i = 0; i < 4; i++)
        if (strcmp(a->fields[i], b->fields[i]))
            return false;
    return !a->target || !strcmp(a->target, b->target);
}

static int add_file(json_t *files, const struct entry *a, const struct entry *b)
{
    const char *path = a ? a->path : b->path;
    json_t *file;

    if (a && b && same(a, b))
        return 0;
    file = json_pack("{s:o s:s s:o s:o}", "path", lossy(path), "change",
                     !a   ? "added"
                     : !b ? "removed"
                          : "changed",
                     "before", side(a), "after", side(b));
    if (file && !ty_utf8_valid(path, strlen(path)))
        json_object_set_new(file, "inexact", json_true());
    return json_array_append_new(files, file);
}

int ty_code_compare(const char *before, const char *after, json_t **ret, struct ty_error *err)
{
    CLEANUP(manifest_done) struct manifest a = { 0 };
    CLEANUP(manifest_done) struct manifest b = { 0 };
    CLEANUP_JSON json_t *files = json_array();
    size_t i = 0, k = 0;
    int r = manifest_read(before, &a, err), order;

    if (r == 0)
        r = manifest_read(after, &b, err);
    while (r == 0 && (i < a.n || k < b.n)) {
        order = i == a.n ? 1 : k == b.n ? -1 : strcmp(a.entries[i].path, b.entries[k].path);
        if (add_file(files, order <= 0 ? &a.entries[i] : NULL, order >= 0 ? &b.entries[k] : NULL) <
            0)
            return ty_error_oom(err);
        i += order <= 0;
        k += order >= 0;
    }
    if (r == 0)
        *ret = TAKE(files);
    return r;
}

static int get_manifest(struct ty_cli *cli, const char *id, char **ret, struct ty_error *err)
{
    struct ty_call call = { .args = { id }, .stop = ty_cli_stop() };
    struct ty_reply reply = { 0 };
    int r;

    if (!*id) {
        *ret = strdup("");
        return *ret ? 0 : ty_error_oom(err);
    }
    r = ty_client_snapshot_get(cli->client, &call, &reply, err);
    if (r == 0)
        *ret = TAKE(reply.body);
    ty_reply_done(&reply);
    return r;
}

int ty_code_files(struct ty_cli *cli, const char *before, const char *after, json_t **ret,
                  struct ty_error *err)
{
    CLEANUP_FREE char *a = NULL;
    CLEANUP_FREE char *b = NULL;
    int r;

    if (!strcmp(before, after)) {
        *ret = json_array();
        return *ret ? 0 : ty_error_oom(err);
    }
    r = get_manifest(cli, before, &a, err);
    if (r == 0)
        r = get_manifest(cli, after, &b, err);
    return r < 0 ? r : ty_code_compare(a, b, ret, err);
}

/* ---- lines ---- */

/* One comparison's place: files a, b and out in a folder of their own. */
struct bench {
    struct ty_cli *cli;
    char *program, *dir, *a, *b, *out;
};

static void bench_done(struct bench *w)
{
    if (w->dir)
        ty_rm_rf(w->dir);
    free(w->program);
    free(w->dir);
    free(w->a);
    free(w->b);
    free(w->out);
}

static int bench_open(struct bench *w, struct ty_error *err)
{
    const char *tmp = getenv("TMPDIR");
    char *dir = ty_strf("%s/trainyard-diff-XXXXXX", tmp && *tmp == '/' ? tmp : "/tmp");
    int r = ty_submit_program("diff", NULL, &w->program, err);

    if (r < 0 || !dir || !mkdtemp(dir)) {
        if (r == 0)
            r = ty_error_set(err, -errno, "cannot make the folder '%s' to compare files in: %m",
                             dir ? dir : "");
        else
            ty_error_prefix(err, "cannot compare lines (install diffutils)");
        free(dir);
        return r;
    }
    w->dir = dir;
    w->a = ty_path_join(dir, "a");
    w->b = ty_path_join(dir, "b");
    w->out = ty_path_join(dir, "out");
    return w->a && w->b && w->out ? 0 : ty_error_oom(err);
}

static int fetch(struct bench *w, const char *snapshot, const char *path, const char *to,
                 struct ty_error *err)
{
    struct ty_place place = { .get = TY_ROUTE_snapshot_file, .owner = snapshot };
    CLEANUP_CLOSE int fd = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    if (fd < 0)
        return ty_error_set(err, -errno, "cannot write '%s': %m", to);
    return ty_file_fetch(w->cli, &place, path, 0, fd, NULL, err);
}

/* As diff itself decides it: text has no NUL. */
static int is_text(const char *path, bool *ret, struct ty_error *err)
{
    CLEANUP_FREE char *bytes = NULL;
    size_t n;
    int r = ty_read_file(path, TY_CODE_FILE_BYTES, &bytes, &n);

    if (r < 0)
        return ty_error_set(err, r, "cannot read '%s' back", path);
    *ret = !memchr(bytes, '\0', n);
    return 0;
}

static int run_diff(struct bench *w, const char *path, struct ty_error *err)
{
    CLEANUP_FREE char *before = ty_strf("--label=a/%s", path),
                      *after = ty_strf("--label=b/%s", path);
    const char *argv[] = { w->program, "-u", before, after, w->a, w->b, NULL };
    CLEANUP_CLOSE int fd = open(w->out, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    struct ty_spawn spec = { .argv = argv, .in = -1, .out = fd, .err = -1 };
    char text[64];
    pid_t pid;
    int status = 0, r;

    if (!before || !after)
        return ty_error_oom(err);
    if (fd < 0)
        return ty_error_set(err, -errno, "cannot write '%s': %m", w->out);
    r = ty_spawn(&spec, &pid, err);
    if (r < 0)
        return r;
    r = ty_wait(pid, &status);
    if (r < 0)
        return ty_error_set(err, r, "cannot wait for '%s': %s", w->program, strerror(-r));
    if (!WIFEXITED(status) || WEXITSTATUS(status) > 1)
        return ty_error_set(err, -EIO, "cannot compare the lines of '%s': '%s' %s", path,
                            w->program, ty_status_text(status, text));
    return 0;
}

static int add_lines(struct bench *w, const char *path, struct ty_str *out, struct ty_error *err)
{
    CLEANUP_FREE char *lines = NULL;
    size_t n;
    int r = run_diff(w, path, err);

    if (r < 0)
        return r;
    r = ty_read_file(w->out, TY_CODE_LINES_BYTES, &lines, &n);
    if (r < 0) {
        errno = -r;
        return ty_error_set(err, r, "cannot read what '%s' says of '%s': %m", w->program, path);
    }
    ty_str_addn(out, lines, n);
    return out->failed ? ty_error_oom(err) : 0;
}

static json_int_t bytes_of(const json_t *file, const char *which)
{
    return json_integer_value(json_object_get(json_object_get(file, which), "bytes"));
}

/* Both sides are files whose content differs. */
static bool has_lines(const json_t *file)
{
    const json_t *a = json_object_get(file, "before"), *b = json_object_get(file, "after");

    return !strcmp(ty_out_str(a, "type"), "file") && !strcmp(ty_out_str(b, "type"), "file") &&
           strcmp(ty_out_str(a, "sha256"), ty_out_str(b, "sha256"));
}

static int compare_lines(struct bench *w, const char *before, const char *after, const json_t *file,
                         struct ty_str *out, struct ty_error *err)
{
    const char *path = ty_out_str(file, "path");
    bool text = true;
    int r;

    if (json_is_true(json_object_get(file, "inexact")) ||
        bytes_of(file, "before") > TY_CODE_FILE_BYTES ||
        bytes_of(file, "after") > TY_CODE_FILE_BYTES) {
        ty_str_addf(out, "Files a/%s and b/%s differ\n", path, path);
        return 0;
    }
    r = fetch(w, before, path, w->a, err);
    if (r == 0)
        r = fetch(w, after, path, w->b, err);
    if (r == 0)
        r = is_text(w->a, &text, err);
    if (r == 0 && text)
        r = is_text(w->b, &text, err);
    if (r == 0 && text)
        return add_lines(w, path, out, err);
    if (r == 0)
        ty_str_addf(out, "Binary files a/%s and b/%s differ\n", path, path);
    return r;
}

int ty_code_lines(struct ty_cli *cli, const char *before, const char *after, const json_t *files,
                  struct ty_str *out, struct ty_error *err)
{
    CLEANUP(bench_done) struct bench w = { .cli = cli };
    const json_t *file;
    size_t i;
    int n = 0, r = bench_open(&w, err);

    json_array_foreach (files, i, file) {
        if (r < 0)
            break;
        if (!has_lines(file))
            continue;
        if (n++ == TY_CODE_FILES_MAX) {
            ty_str_addf(out, "(only the first %d changed files are compared)\n", TY_CODE_FILES_MAX);
            break;
        }
        r = compare_lines(&w, before, after, file, out, err);
    }
    return r == 0 && out->failed ? ty_error_oom(err) : r;
}
