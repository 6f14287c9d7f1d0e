/* ignore.c - gitignore patterns
 *
 * The last pattern that matches decides.  A pattern with a slash in its middle or beginning is anchored at the folder of
 * its file; one without matches the last part of a path at any depth.  `**` stands for any number of folders.
 */
#include "blob/ignore.h"
#include <stdlib.h>
#include <string.h>

struct pattern {
    char *base;    /* folder of the file it stands in; "": the top */
    char *text;    /* without '!', leading and trailing slash */
    bool negated, anchored, folders_only;
};

struct ty_ignore {
    struct pattern *patterns;
    size_t n, cap;
};

struct ty_ignore *ty_ignore_new(void) { return calloc(1, sizeof(struct ty_ignore)); }

struct ty_ignore *ty_ignore_free(struct ty_ignore *g)
{
    if (g) {
        for (size_t i = 0; i < g->n; i++) {
            free(g->patterns[i].base);
            free(g->patterns[i].text);
        }
        free(g->patterns);
        free(g);
    }
    return NULL;
}

/* ---- reading ---- */

/* Blanks at the end do not count, unless the last is escaped. */
static size_t trim(const char *line, size_t n)
{
    if (n > 0 && line[n - 1] == '\r')
        n--;
    while (n > 0 && (line[n - 1] == ' ' || line[n - 1] == '\t') && !(n > 1 && line[n - 2] == '\\'))
        n--;
    return n;
}

static int append(struct ty_ignore *g, struct pattern p)
{
    if (g->n == g->cap) {
        size_t cap = g->cap ? g->cap * 2 : 16;
        struct pattern *at = realloc(g->patterns, cap * sizeof *at);

        if (!at)
            return -1;
        g->patterns = at;
        g->cap = cap;
    }
    g->patterns[g->n++] = p;
    return 0;
}

static int add_line(struct ty_ignore *g, const char *base, const char *line, size_t n)
{
    struct pattern p = { 0 };

    if (n > 0 && line[0] == '#')
        return 0;
    if (n > 0 && line[0] == '!') {
        p.negated = true;
        line++;
        n--;
    }
    if (n > 0 && line[n - 1] == '/') {
        p.folders_only = true;
        n--;
    }
    p.anchored = memchr(line, '/', n) != NULL;
    if (n > 0 && line[0] == '/') {
        line++;
        n--;
    }
    if (n == 0)
        return 0;
    p.base = strdup(base);
    p.text = strndup(line, n);
    if (!p.base || !p.text || append(g, p) < 0) {
        free(p.base);
        free(p.text);
        return -1;
    }
    return 0;
}

int ty_ignore_add(struct ty_ignore *g, const char *base, const char *text, size_t n)
{
    while (n > 0) {
        const char *end = memchr(text, '\n', n);
        size_t len = end ? (size_t)(end - text) : n;

        if (add_line(g, base, text, trim(text, len)) < 0)
            return -1;
        len += end != NULL;
        text += len;
        n -= len;
    }
    return 0;
}

/* ---- matching ---- */

/* Does c belong to the class that begins at p (after '[')?  *end is set behind its ']'; NULL: it is not closed. */
static bool in_class(const char *p, char c, const char **end)
{
    bool not = *p == '!' || *p == '^', found = false;
    const char *start = p + not;

    for (p = start; *p && (*p != ']' || p == start);) {
        unsigned char lo, hi;

        if (*p == '\\' && p[1])
            p++;
        lo = hi = (unsigned char)*p++;
        if (*p == '-' && p[1] && p[1] != ']') {
            p++;
            if (*p == '\\' && p[1])
                p++;
            hi = (unsigned char)*p++;
        }
        found |= (unsigned char)c >= lo && (unsigned char)c <= hi;
    }
    *end = *p ? p + 1 : NULL;
    return found != not;
}

/* One part: '*' and '?' do not match '/'.  Iterative, with one place to return to per '*': never exponential. */
static bool glob_part(const char *p, const char *pend, const char *s, const char *send)
{
    const char *star = NULL, *back = NULL, *after;

    while (s < send || p < pend) {
        bool match = false;

        if (p < pend && *p == '*') {
            star = ++p;
            back = s;
            continue;
        }
        if (p < pend && s < send) {
            if (*p == '?') {
                match = true;
                after = p + 1;
            } else if (*p == '[') {
                match = in_class(p + 1, *s, &after) && after && after <= pend;
                if (!after || after > pend)
                    return false;
            } else {
                const char *q = *p == '\\' && p + 1 < pend ? p + 1 : p;

                match = *q == *s;
                after = q + 1;
            }
        }
        if (match) {
            p = after;
            s++;
        } else if (star && back < send) {
            p = star;
            s = ++back;
        } else {
            return false;
        }
    }
    return true;
}

static const char *part_end(const char *s)
{
    const char *slash = strchr(s, '/');

    return slash ? slash : s + strlen(s);
}

/* Parts against parts.  A "**" part swallows any number; the last one that was met is the only place to return to. */
static bool glob_path(const char *p, const char *s)
{
    const char *deep = NULL, *back = NULL;

    for (;;) {
        const char *pe = part_end(p), *se = part_end(s);

        if (pe - p == 2 && memcmp(p, "**", 2) == 0) {
            if (!*pe)
                return *s != '\0'; /* "a/ **" matches what is inside, not the folder itself */
            deep = p = pe + 1;
            back = s;
            continue;
        }
        if (*s && glob_part(p, pe, s, se)) {
            if (!*pe && !*se)
                return true;
            if (*pe && *se) {
                p = pe + 1;
                s = se + 1;
                continue;
            }
        }
        if (!deep || !*back)
            return false;
        const char *be = part_end(back);
        if (!*be)
            return false;
        back = s = be + 1;
        p = deep;
    }
}

static bool matches(const struct pattern *p, const char *path, bool is_dir)
{
    size_t n = strlen(p->base);

    if (p->folders_only && !is_dir)
        return false;
    if (n > 0) {
        if (strncmp(path, p->base, n) != 0 || path[n] != '/')
            return false;
        path += n + 1;
    }
    if (p->anchored)
        return glob_path(p->text, path);
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    return glob_part(p->text, p->text + strlen(p->text), name, name + strlen(name));
}

bool ty_ignore_match(const struct ty_ignore *g, const char *path, bool is_dir)
{
    for (size_t i = g->n; i-- > 0;)
        if (matches(&g->patterns[i], path, is_dir))
            return !g->patterns[i].negated;
    return false;
}
