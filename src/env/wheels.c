/* wheels.c - the packages that prefixes share: unpacked once, hard-linked into each
 *
 * wheels/<id>/site/...   what goes into site-packages
 * wheels/<id>/...        what goes into the prefix itself: bin/, share/
 * <id> is the wheel's SHA-256.  A folder of that name is whole: it is made beside its place and renamed.  What is in it is
 * read-only, since every prefix that links it has the same file.
 */
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fs.h"
#include "env/env_internal.h"
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define RECORD_MAX (64u << 20)
#define SCRIPT_MAX (4u << 20)
#define SHEBANG_MAX 127 /* bytes that the kernel reads of a script's first line */

bool env_wheel_has(const char *cache, const char *id)
{
    CLEANUP_FREE char *path = id ? env_path(cache, "wheels", id, "") : NULL;

    return path && access(path, F_OK) == 0;
}

/* ---- taking apart what pip has installed ---- */

/* Names as PEP 503 compares them, up to the first '-' that begins a version. */
static bool same_name(const char *dist_info, const char *name)
{
    const char *a = dist_info;

    for (const char *b = name; *b; a++, b++) {
        bool as = *a && strchr("-_.", *a), bs = strchr("-_.", *b);

        if (as && bs) {
            while (a[1] && strchr("-_.", a[1]))
                a++;
            while (b[1] && strchr("-_.", b[1]))
                b++;
        } else if (as != bs || tolower((unsigned char)*a) != tolower((unsigned char)*b)) {
            return false;
        }
    }
    return *a == '-';
}

static const json_t *item_of(const json_t *items, const char *dist_info)
{
    const json_t *item;
    size_t i;

    json_array_foreach (items, i, item)
        if (same_name(dist_info, json_string_value(json_object_get(item, "name"))))
            return item;
    return NULL;
}

/* The first field of a line of RECORD, which is CSV. *p goes to the next line. */
static char *record_path(const char **p)
{
    CLEANUP_STR struct ty_str s = { 0 };
    const char *c = *p;
    bool quoted = *c == '"';

    for (c += quoted; *c && *c != '\n' && (quoted || *c != ','); c++) {
        if (quoted && *c == '"') {
            if (c[1] != '"')
                break;
            c++;
        }
        ty_str_addn(&s, c, 1);
    }
    c += strcspn(c, "\n");
    *p = c + (*c == '\n');
    return ty_str_take(&s);
}

struct split {
    struct env_build *b;
    const char *staging; /* absolute */
    const char *site;    /* of staging: its site-packages, relative */
};

/* "../../../bin/x" of site-packages is bin/x of the prefix; what is in site-packages goes to site/. */
static char *place_of(const struct split *s, const char *path, char **from)
{
    CLEANUP_FREE char *joined = ty_strf("%s/%s", s->site, path), *clean = NULL;
    size_t n = strlen(s->site);

    if (!joined || ty_path_clean(joined, &clean) < 0 || !*clean)
        return NULL;
    *from = ty_strf("%s/%s", s->staging, clean);
    if (strncmp(clean, s->site, n) == 0 && clean[n] == '/')
        return ty_strf("site/%s", clean + n + 1);
    return strdup(clean);
}

static int move_file(const struct split *s, const char *path, const char *into,
                     struct ty_error *err)
{
    CLEANUP_FREE char *from = NULL, *place = place_of(s, path, &from), *to = NULL;
    struct stat st;
    int r;

    if (!place || !from)
        return ty_error_set(err, -EBADMSG,
                            "a package wants to put the file '%s' outside of its prefix", path);
    if (lstat(from, &st) < 0 || S_ISDIR(st.st_mode))
        return 0; /* RECORD may name what was not unpacked */
    to = ty_strf("%s/%s", into, place);
    r = to ? ty_mkdir_parent(to, 0755) : -ENOMEM;
    if (r == 0 && rename(from, to) < 0)
        r = -errno;
    if (r == 0 && S_ISREG(st.st_mode) && chmod(to, st.st_mode & 0555) < 0)
        r = -errno;
    return r < 0 ? ty_error_set(err, r, "cannot move '%s' to '%s': %s", from, to ? to : "",
                                strerror(-r))
                 : 0;
}

/* Where the byte code of a module is, which not every installer writes into RECORD: "a/__pycache__/b.cpython-311.pyc" of "a/b.py". */
static char *compiled_of(const struct env_build *b, const char *path)
{
    const char *version = json_string_value(json_object_get(b->asked, "version"));
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    size_t major = version ? strcspn(version, ".") : 0, minor;

    if (!version || !version[major] || !ty_ends_with(path, ".py"))
        return NULL;
    minor = strcspn(version + major + 1, ".");
    return ty_strf("%.*s__pycache__/%.*s.cpython-%.*s%.*s.pyc", (int)(name - path), path,
                   (int)(strlen(name) - strlen(".py")), name, (int)major, version, (int)minor,
                   version + major + 1);
}

static int split_one(const struct split *s, const char *dist_info, const char *id,
                     struct ty_error *err)
{
    CLEANUP_FREE char *record = ty_strf("%s/%s/%s/RECORD", s->staging, s->site, dist_info),
                      *text = NULL;
    CLEANUP_FREE char *final = env_path(s->b->q->cache, "wheels", id, "");
    CLEANUP_FREE char *made =
        ty_strf("%s.%lld%d", final ? final : "", (long long)ty_wall_us(), (int)getpid());
    int r;

    if (!record || !final || !made)
        return ty_error_oom(err);
    r = ty_read_file(record, RECORD_MAX, &text, NULL);
    if (r < 0)
        return ty_error_set(err, r, "cannot read '%s', which says what the package consists of: %s",
                            record, strerror(-r));
    ty_rm_rf(made);
    r = ty_mkdir_p(made, 0755);
    if (r < 0)
        return ty_error_set(err, r, "cannot make '%s': %s", made, strerror(-r));
    for (const char *p = text; *p && r == 0;) {
        CLEANUP_FREE char *path = record_path(&p);
        CLEANUP_FREE char *compiled = path ? compiled_of(s->b, path) : NULL;

        r = path ? (*path ? move_file(s, path, made, err) : 0) : ty_error_oom(err);
        if (r == 0 && compiled)
            r = move_file(s, compiled, made, err);
    }
    /* Somebody else may have been quicker with the same wheel. */
    if (r == 0 && rename(made, final) < 0 && errno != EEXIST && errno != ENOTEMPTY)
        r = ty_error_set(err, -errno, "cannot rename '%s' to '%s': %m", made, final);
    ty_rm_rf(made);
    return r;
}

/* The folder below staging that holds *.dist-info: a walk, since its name depends on the interpreter's build. */
static int look_for_site(const char *rel, const struct stat *st, void *ctx)
{
    char **found = ctx;

    if (S_ISDIR(st->st_mode) && ty_ends_with(rel, ".dist-info") && !*found) {
        const char *slash = strrchr(rel, '/');

        *found = slash ? strndup(rel, (size_t)(slash - rel)) : strdup(".");
    }
    return *found ? 1 : 0;
}

int env_wheels_split(struct env_build *b, const char *staging, const json_t *items,
                     struct ty_error *err)
{
    CLEANUP_FREE char *site = NULL, *folder = NULL;
    struct split s = { .b = b, .staging = staging };
    const struct dirent *e;
    size_t done = 0;
    DIR *d;
    int r = ty_walk(staging, look_for_site, &site, err);

    if (r < 0)
        return r;
    folder = site ? ty_strf("%s/%s", staging, site) : NULL;
    d = folder ? opendir(folder) : NULL;
    if (!d)
        return ty_error_set(err, -EIO, "pip has installed nothing below '%s'", staging);
    s.site = site;
    while (r == 0 && (e = readdir(d))) {
        const json_t *item =
            ty_ends_with(e->d_name, ".dist-info") ? item_of(items, e->d_name) : NULL;

        if (item) {
            r = split_one(&s, e->d_name, json_string_value(json_object_get(item, "id")), err);
            done++;
        }
    }
    closedir(d);
    if (r == 0 && done < json_array_size(items))
        r = ty_error_set(err, -EIO, "pip has installed %zu of %zu packages below '%s'", done,
                         json_array_size(items), staging);
    return r;
}

/* ---- linking ---- */

struct linking {
    struct env_build *b;
    const char *from; /* wheels/<id> */
    const char *site; /* of the prefix */
    struct ty_error *err;
};

/* The text of a script behind its first line (or the three lines that stand for one which is too long), NULL: it is no
 * script of a Python. */
static const char *script_body(const char *text)
{
    const char *line = strchr(text, '\n');

    if (!ty_starts_with(text, "#!") || !line)
        return NULL;
    if (ty_starts_with(text, "#!/bin/sh\n'''exec'")) {
        const char *end = strstr(line, "\n' '''\n");

        return end ? end + strlen("\n' '''\n") : NULL;
    }
    for (const char *p = text; p + 6 <= line; p++)
        if (strncmp(p, "python", 6) == 0)
            return line + 1;
    return NULL;
}

/* Without a sync for each file: the whole prefix is on disk before it gets its name. */
static int write_new(const char *path, const char *text, size_t n, mode_t mode)
{
    CLEANUP_CLOSE int fd = -1;

    if (unlink(path) < 0 && errno != ENOENT)
        return -errno;
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    return fd < 0 ? -errno : ty_write_all(fd, text, n);
}

/* A script of bin/ names the interpreter of its prefix.  1: written; 0: it is no such script. */
static int write_script(const struct linking *l, const char *from, const char *to, mode_t mode)
{
    CLEANUP_FREE char *text = NULL;
    CLEANUP_STR struct ty_str s = { 0 };
    const char *body;
    size_t n;
    int r = ty_read_file(from, SCRIPT_MAX, &text, &n);

    if (r == -EFBIG)
        return 0;
    if (r < 0)
        return r;
    body = strlen(text) == n ? script_body(text) : NULL;
    if (!body)
        return 0;
    ty_str_addf(&s, "#!%s/bin/python3\n", l->b->final);
    if (s.len > SHEBANG_MAX || strchr(l->b->final, ' ')) {
        s.len = 0;
        ty_str_addf(&s, "#!/bin/sh\n'''exec' \"%s/bin/python3\" \"$0\" \"$@\"\n' '''\n",
                    l->b->final);
    }
    ty_str_add(&s, body);
    r = s.failed ? -ENOMEM : write_new(to, s.text, s.len, mode | 0600);
    return r < 0 ? r : 1;
}

static int copy(const char *from, const char *to, mode_t mode)
{
    CLEANUP_CLOSE int in = open(from, O_RDONLY | O_CLOEXEC);
    CLEANUP_CLOSE int out = in < 0 ? -1 : open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);

    return in < 0 || out < 0 ? -errno : ty_copy_fd(in, out);
}

static int link_file(const char *from, const char *to, const struct stat *st)
{
    /* Two packages may bring the same file, an empty __init__.py: the later one counts, as with pip. */
    if (unlink(to) < 0 && errno != ENOENT)
        return -errno;
    if (S_ISLNK(st->st_mode)) {
        char target[4096];
        ssize_t n = readlink(from, target, sizeof target - 1);

        if (n < 0)
            return -errno;
        target[n] = '\0';
        return symlink(target, to) < 0 ? -errno : 0;
    }
    if (link(from, to) == 0)
        return 0;
    return errno == EXDEV || errno == EMLINK || errno == EPERM ? copy(from, to, st->st_mode & 0777)
                                                               : -errno;
}

static int link_one(const char *rel, const struct stat *st, void *ctx)
{
    const struct linking *l = ctx;
    bool in_site = strcmp(rel, "site") == 0 || ty_starts_with(rel, "site/");
    CLEANUP_FREE char *from = ty_strf("%s/%s", l->from, rel);
    CLEANUP_FREE char *to = in_site
                                ? ty_strf("%s/%s%s", l->b->building, l->site, rel + strlen("site"))
                                : ty_strf("%s/%s", l->b->building, rel);
    int r;

    if (!from || !to)
        return -ENOMEM;
    if (S_ISDIR(st->st_mode))
        return mkdir(to, 0755) < 0 && errno != EEXIST ? -errno : 0;
    r = ty_starts_with(rel, "bin/") && S_ISREG(st->st_mode)
            ? write_script(l, from, to, st->st_mode & 0777)
            : 0;
    if (r == 0)
        r = link_file(from, to, st);
    return r < 0 ? ty_error_set(l->err, r, "cannot link '%s' to '%s': %s", from, to, strerror(-r))
                 : 0;
}

int env_wheel_link(struct env_build *b, const char *id, const char *site, struct ty_error *err)
{
    CLEANUP_FREE char *from = env_path(b->q->cache, "wheels", id, "");
    struct linking l = { .b = b, .from = from, .site = site, .err = err };

    if (!from)
        return ty_error_oom(err);
    return ty_walk(from, link_one, &l, err);
}
