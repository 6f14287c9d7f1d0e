/* manifest.c - the text form of a snapshot (docs/spec/snapshot.md)
 *
 * Entries are kept sorted by path; the manifest is written from them, and one that is read must come out byte for byte
 * the same: there is one way to write a snapshot.
 */
#include "base/cleanup.h"
#include "base/error.h"
#include "base/str.h"
#include "blob/snapshot_internal.h"
#include "core/ascii.h"
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define HEADER "trainyard-snapshot 1\n"

/* ---- entries ---- */

struct ty_snapshot *ty_snapshot_free(struct ty_snapshot *s)
{
    if (s) {
        for (size_t i = 0; i < s->n; i++) {
            free(s->entries[i].path);
            free(s->entries[i].target);
        }
        free(s->entries);
        free(s->regular);
        free(s->manifest);
        free(s);
    }
    return NULL;
}

struct entry *ty_snapshot_add(struct ty_snapshot *s, char type, const char *path)
{
    struct entry *e;

    if (s->n == s->cap) {
        size_t cap = s->cap ? s->cap * 2 : 64;
        struct entry *p = realloc(s->entries, cap * sizeof *p);

        if (!p)
            return NULL;
        s->entries = p;
        s->cap = cap;
    }
    e = &s->entries[s->n];
    *e = (struct entry){ .type = type, .path = strdup(path), .order = s->n };
    if (!e->path)
        return NULL;
    s->n++;
    return e;
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct entry *)a)->path, ((const struct entry *)b)->path);
}

void ty_snapshot_sort(struct ty_snapshot *s)
{
    if (s->n > 0)
        qsort(s->entries, s->n, sizeof *s->entries, by_path);
}

bool ty_snapshot_path_fits(const char *path)
{
    int depth = 0;

    if (strlen(path) > TY_SNAPSHOT_PATH_MAX)
        return false;
    for (const char *part = path;; depth++) {
        size_t n = strcspn(part, "/");

        if (n == 0 || (n <= 2 && strncmp(part, "..", n) == 0))
            return false;
        if (!part[n])
            return depth <= TY_SNAPSHOT_DEPTH_MAX;
        part += n + 1;
    }
}

bool ty_snapshot_link_fits(const char *path, const char *target)
{
    size_t above = 0, n;
    bool down = false;

    if (!*target || *target == '/')
        return false;
    for (const char *c = path; *c; c++)
        above += *c == '/';
    for (const char *part = target; *part; part += n + (part[n] == '/')) {
        n = strcspn(part, "/");
        if (n == 0 || (n == 1 && *part == '.'))
            continue;
        if (n != 2 || memcmp(part, "..", 2) != 0)
            down = true;
        else if (down || above-- == 0)
            return false;
    }
    return true;
}

/* ---- writing ---- */

static void add_encoded(struct ty_str *out, const char *text, bool link)
{
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;

        if (c < 0x20 || c == 0x7f || c == '%' || (link && c == '>'))
            ty_str_addf(out, "%%%02X", c);
        else
            ty_str_addn(out, text, 1);
    }
}

static void add_line(struct ty_str *out, const struct entry *e)
{
    if (e->type == 'f')
        ty_str_addf(out, "f %s %" PRIu64 " %s ", e->executable ? "755" : "644", e->bytes, e->sha);
    else if (e->type == 'l')
        ty_str_addf(out, "l - %zu - ", strlen(e->target));
    else
        ty_str_add(out, "d - - - ");
    add_encoded(out, e->path, e->type == 'l');
    if (e->type == 'l') {
        ty_str_add(out, " -> ");
        add_encoded(out, e->target, true);
    }
    ty_str_add(out, "\n");
}

int ty_snapshot_seal(struct ty_snapshot *s)
{
    CLEANUP_STR struct ty_str out = { 0 };

    s->bytes = s->files = 0;
    s->regular = calloc(s->n + 1, sizeof *s->regular);
    if (!s->regular)
        return -ENOMEM;
    ty_str_add(&out, HEADER);
    for (size_t i = 0; i < s->n; i++) {
        add_line(&out, &s->entries[i]);
        if (s->entries[i].type == 'f') {
            s->bytes += s->entries[i].bytes;
            s->regular[s->files++] = i;
        }
    }
    s->manifest_len = out.len;
    s->manifest = ty_str_take(&out);
    if (!s->manifest)
        return -ENOMEM;
    ty_sha256_hex(s->manifest, s->manifest_len, s->id);
    return 0;
}

/* ---- reading ---- */

static int read_file_fields(struct ty_snapshot *s, struct entry *e, const char *mode,
                            const char *size, const char *sha)
{
    int64_t bytes;

    if (!ty_ascii_hex(sha, TY_SHA256_HEX) || ty_parse_i64(size, &bytes) < 0 || bytes < 0 ||
        s->bytes + (uint64_t)bytes > INT64_MAX)
        return -EBADMSG;
    memcpy(e->sha, sha, sizeof e->sha);
    e->bytes = (uint64_t)bytes;
    e->executable = strcmp(mode, "755") == 0;
    s->bytes += e->bytes;
    return 0;
}

/* One line without its end: type, mode, size, hash and path.  What stands in a field that its type does not have comes
 * out when the manifest is written again. */
static int read_line(struct ty_snapshot *s, char *line)
{
    char *fields[4], *path = line, *target = NULL;
    struct entry *e;

    for (int i = 0; i < 4; i++) {
        fields[i] = strsep(&path, " ");
        if (!path)
            return -EBADMSG;
    }
    if (strlen(fields[0]) != 1 || !strchr("fld", *fields[0]))
        return -EBADMSG;
    if (*fields[0] == 'l') {
        target = strstr(path, " -> ");
        if (!target)
            return -EBADMSG;
        *target = '\0';
        target += strlen(" -> ");
    }
    if (ty_url_decode(path) < 0 || (target && ty_url_decode(target) < 0) ||
        !ty_snapshot_path_fits(path) ||
        (s->n > 0 && strcmp(s->entries[s->n - 1].path, path) >= 0) ||
        (target && !ty_snapshot_link_fits(path, target)))
        return -EBADMSG;
    e = ty_snapshot_add(s, *fields[0], path);
    if (!e || (target && !(e->target = strdup(target))))
        return -ENOMEM;
    return e->type == 'f' ? read_file_fields(s, e, fields[1], fields[2], fields[3]) : 0;
}

/* No entry lies inside another: only folders have content, and only empty ones are listed. */
static bool is_tree(const struct ty_snapshot *s)
{
    char path[TY_SNAPSHOT_PATH_MAX + 1];
    const struct entry key = { .path = path };

    for (size_t i = 0; i < s->n; i++) {
        char *slash;

        snprintf(path, sizeof path, "%s", s->entries[i].path);
        while ((slash = strrchr(path, '/'))) {
            *slash = '\0';
            if (bsearch(&key, s->entries, s->n, sizeof key, by_path))
                return false;
        }
    }
    return true;
}

static int read_manifest(struct ty_snapshot *s, char *text, size_t n, struct ty_error *err)
{
    char *line, *rest;
    int number = 1, r;

    if (strlen(text) != n || !ty_starts_with(text, HEADER) || text[n - 1] != '\n')
        return ty_error_set(err, -EBADMSG, "these bytes are not a snapshot manifest");
    rest = text + strlen(HEADER);
    while (*rest) {
        line = strsep(&rest, "\n");
        number++;
        r = read_line(s, line);
        if (r == -ENOMEM)
            return ty_error_oom(err);
        if (r < 0)
            return ty_error_set(
                err, r, "line %d of the snapshot manifest is malformed or out of order", number);
    }
    if (!is_tree(s))
        return ty_error_set(
            err, -EBADMSG,
            "the snapshot manifest lists an entry below another that is not a folder with content");
    return ty_snapshot_seal(s) < 0 ? ty_error_oom(err) : 0;
}

/* The first line in which two manifests differ. */
static int first_difference(const char *a, const char *b)
{
    int line = 1;

    for (; *a && *a == *b; a++, b++)
        line += *a == '\n';
    return line;
}

int ty_snapshot_parse(const char *manifest, size_t n, struct ty_snapshot **ret,
                      struct ty_error *err)
{
    CLEANUP_FREE char *text = malloc(n + 1);
    struct ty_snapshot *s = text ? calloc(1, sizeof *s) : NULL;
    int r;

    if (!s)
        return ty_error_oom(err);
    memcpy(text, manifest, n);
    text[n] = '\0';
    r = read_manifest(s, text, n, err);
    if (r == 0 && (s->manifest_len != n || memcmp(s->manifest, manifest, n) != 0)) {
        memcpy(text, manifest, n);
        r = ty_error_set(err, -EBADMSG,
                         "line %d of the snapshot manifest is not written as Trainyard writes it",
                         first_difference(s->manifest, text));
    }
    if (r < 0) {
        ty_snapshot_free(s);
        return r;
    }
    *ret = s;
    return 0;
}

/* ---- questions ---- */

const char *ty_snapshot_id(const struct ty_snapshot *s)
{
    return s->id;
}
uint64_t ty_snapshot_bytes(const struct ty_snapshot *s)
{
    return s->bytes;
}
size_t ty_snapshot_files(const struct ty_snapshot *s)
{
    return s->files;
}

const char *ty_snapshot_manifest(const struct ty_snapshot *s, size_t *n)
{
    *n = s->manifest_len;
    return s->manifest;
}

bool ty_snapshot_file(const struct ty_snapshot *s, size_t i, const char **path, const char **sha,
                      uint64_t *bytes)
{
    const struct entry *e;

    if (i >= s->files)
        return false;
    e = &s->entries[s->regular[i]];
    *path = e->path;
    *sha = e->sha;
    *bytes = e->bytes;
    return true;
}
