/* ignore.c - gitignore patterns
 *
 * The last pattern that matches decides.  A pattern with a slash in its middle or beginning is anchored at the folder of
 * its file; one without matches the last part of a path at any depth.  `**` stands for any number of folders.
 *
 * A pattern is compiled into tokens when it is read.  Matching keeps two places to return to, the last '*' and the last
 * "**": a '*' ends at its part's end and a later "**" can swallow whatever an earlier one could, so no others are needed
 * and no pattern takes exponential time.
 *
 * As in git, the text before a pattern's first special character is taken off before "**" is looked for; so "foo**" of an
 * anchored pattern counts as foo and a "**" of its own.
 */
#include "blob/ignore.h"
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum token_kind {
    LITERAL, /* the character, a slash too */
    ANY,     /* ?: one character */
    CLASS,   /* [...] */
    STAR,    /* *: any characters of one part */
    DEEP,    /* a leading part "**": any number of whole parts, none included */
    REST,    /* a last part "**": all that is left */
    NEVER,   /* nothing matches: an unfinished class or escape */
};

struct token {
    uint8_t kind, character;
    uint16_t set; /* of a class: index in sets */
};

struct set {
    uint32_t bits[8];
};

struct pattern {
    char *base; /* folder of the file it stands in; "": the top */
    struct token *tokens;
    struct set *sets;
    size_t ntokens, nsets;
    bool negated, anchored, folders_only;
};

struct ty_ignore {
    struct pattern *patterns;
    size_t n, cap;
};

static void pattern_done(struct pattern *p)
{
    free(p->base);
    free(p->tokens);
    free(p->sets);
}

struct ty_ignore *ty_ignore_new(void)
{
    return calloc(1, sizeof(struct ty_ignore));
}

size_t ty_ignore_count(const struct ty_ignore *g)
{
    return g->n;
}

void ty_ignore_cut(struct ty_ignore *g, size_t count)
{
    while (g->n > count)
        pattern_done(&g->patterns[--g->n]);
}

struct ty_ignore *ty_ignore_free(struct ty_ignore *g)
{
    if (g) {
        ty_ignore_cut(g, 0);
        free(g->patterns);
        free(g);
    }
    return NULL;
}

/* ---- classes ---- */

static void set_add(struct set *s, unsigned from, unsigned to)
{
    for (unsigned c = from; c <= to; c++)
        s->bits[c / 32] |= 1u << c % 32;
}

static bool set_has(const struct set *s, unsigned char c)
{
    return s->bits[c / 32] >> c % 32 & 1;
}

/* [:name:], in ASCII; pairs of first and last character. */
static const struct {
    const char *name, *ranges;
} named_classes[] = {
    { "alnum", "09AZaz" },   { "alpha", "AZaz" },
    { "blank", "\t\t  " },   { "cntrl", "\001\037\177\177" },
    { "digit", "09" },       { "graph", "!~" },
    { "lower", "az" },       { "print", " ~" },
    { "punct", "!/:@[`{~" }, { "space", "\t\n\r\r  " },
    { "upper", "AZ" },       { "xdigit", "09AFaf" },
};

static bool set_add_named(struct set *s, const char *name, size_t n)
{
    for (size_t i = 0; i < sizeof named_classes / sizeof *named_classes; i++) {
        if (strlen(named_classes[i].name) != n || memcmp(named_classes[i].name, name, n) != 0)
            continue;
        for (const char *r = named_classes[i].ranges; *r; r += 2)
            set_add(s, (unsigned char)r[0], (unsigned char)r[1]);
        return true;
    }
    return false;
}

/* Read "[:name:]" at p.  Its end; p itself where it is a plain '['; NULL where the class cannot be. */
static const char *read_named(struct set *s, const char *p, const char *end)
{
    const char *name = p + 2, *close;

    if (end - p < 2 || p[1] != ':')
        return p;
    close = memchr(name, ']', (size_t)(end - name));
    if (!close)
        return NULL;
    if (close == name || close[-1] != ':')
        return p;
    return set_add_named(s, name, (size_t)(close - 1 - name)) ? close + 1 : NULL;
}

/* Read a class whose '[' is at p.  Its end, or NULL where it is not closed.  The first character may be ']'. */
static const char *read_class(struct set *s, const char *p, const char *end)
{
    unsigned char before = 0; /* what a '-' would begin with; 0: nothing */
    bool negated, first = true;

    negated = ++p < end && (*p == '!' || *p == '^');
    p += negated;
    for (; p < end && (*p != ']' || first); first = false) {
        bool range = *p == '-' && before && end - p > 1 && p[1] != ']';
        const char *after = *p == '[' ? read_named(s, p, end) : p;

        if (!after)
            return NULL;
        if (after != p) {
            p = after;
            before = 0;
            continue;
        }
        p += range;
        if (*p == '\\' && ++p == end)
            return NULL;
        set_add(s, range ? before : (unsigned char)*p, (unsigned char)*p);
        before = range ? 0 : (unsigned char)*p;
        p++;
    }
    for (int i = 0; negated && i < 8; i++)
        s->bits[i] = ~s->bits[i];
    return p < end ? p + 1 : NULL;
}

/* ---- reading ---- */

static void token(struct pattern *p, enum token_kind kind, char c)
{
    p->tokens[p->ntokens++] = (struct token){ .kind = (uint8_t)kind, .character = (uint8_t)c };
}

/* Stars at `at`; the text begins at `text`.  "**" is more than '*' only as a whole part of an anchored pattern. */
static const char *read_stars(struct pattern *p, const char *text, const char *at, const char *end)
{
    const char *after = at;

    while (after < end && *after == '*')
        after++;
    if (!p->anchored || after - at < 2 || (at > text && at[-1] != '/')) {
        token(p, STAR, 0);
    } else if (after == end) {
        token(p, REST, 0);
    } else if (*after == '/') {
        token(p, DEEP, 0);
        after++;
    } else if (end - after > 1 && after[0] == '\\' && after[1] == '/') {
        /* git's short cut to no part at all wants a plain slash */
        token(p, STAR, 0);
        token(p, LITERAL, '/');
        token(p, DEEP, 0);
        after += 2;
    } else {
        token(p, STAR, 0);
    }
    return after;
}

/* At most two tokens a character. */
static int compile(struct pattern *p, const char *text, size_t n)
{
    const char *end = text + n, *at = text;

    p->tokens = calloc(n * 2 + 1, sizeof *p->tokens);
    p->sets = calloc(n / 2 + 1, sizeof *p->sets);
    if (!p->tokens || !p->sets)
        return -ENOMEM;
    while (at < end && !strchr("*?[\\", *at))
        token(p, LITERAL, *at++);
    text = at;
    while (at && at < end) {
        if (*at == '*') {
            at = read_stars(p, text, at, end);
        } else if (*at == '[') {
            token(p, CLASS, 0);
            p->tokens[p->ntokens - 1].set = (uint16_t)p->nsets;
            at = p->nsets < UINT16_MAX ? read_class(&p->sets[p->nsets++], at, end) : NULL;
        } else if (*at == '\\') {
            at = end - at > 1 ? at + 2 : NULL;
            if (at)
                token(p, LITERAL, at[-1]);
        } else {
            token(p, *at == '?' ? ANY : LITERAL, *at);
            at++;
        }
    }
    if (!at)
        token(p, NEVER, 0);
    return 0;
}

/* Blanks at the end do not count, unless they are escaped. */
static size_t trim(const char *line, size_t n)
{
    size_t end = 0;

    for (size_t i = 0; i < n; i++) {
        if (line[i] == ' ')
            continue;
        if (line[i] == '\\' && i + 1 < n)
            i++;
        end = i + 1;
    }
    return end;
}

static int append(struct ty_ignore *g, struct pattern p)
{
    if (g->n == g->cap) {
        size_t cap = g->cap ? g->cap * 2 : 16;
        struct pattern *at = realloc(g->patterns, cap * sizeof *at);

        if (!at)
            return -ENOMEM;
        g->patterns = at;
        g->cap = cap;
    }
    g->patterns[g->n++] = p;
    return 0;
}

static int add_line(struct ty_ignore *g, const char *base, const char *line, size_t n)
{
    struct pattern p = { 0 };
    bool ends_with_cr = n > 0 && line[n - 1] == '\r';

    n = strnlen(line, n - ends_with_cr);
    if (n == 0 || line[0] == '#')
        return 0;
    n = trim(line, n);
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
    if (!p.base || compile(&p, line, n) < 0 || append(g, p) < 0) {
        pattern_done(&p);
        return -ENOMEM;
    }
    return 0;
}

int ty_ignore_add(struct ty_ignore *g, const char *base, const char *text, size_t n)
{
    static const char bom[] = "\xef\xbb\xbf";
    int r = 0;

    if (n >= 3 && memcmp(text, bom, 3) == 0) {
        text += 3;
        n -= 3;
    }
    while (r == 0 && n > 0) {
        const char *end = memchr(text, '\n', n);
        size_t len = end ? (size_t)(end - text) : n;

        r = add_line(g, base, text, len);
        len += end != NULL;
        text += len;
        n -= len;
    }
    return r;
}

/* ---- matching ---- */

static bool one_matches(const struct pattern *p, const struct token *t, char c)
{
    switch ((enum token_kind)t->kind) {
    case LITERAL:
        return (char)t->character == c;
    case ANY:
        return c != '/';
    case CLASS:
        return c != '/' && set_has(&p->sets[t->set], (unsigned char)c);
    case STAR:
    case DEEP:
    case REST:
    case NEVER:
        break;
    }
    return false;
}

static bool matches_text(const struct pattern *p, const char *s)
{
    const struct token *t = p->tokens, *end = t + p->ntokens;
    const struct token *after_star = NULL, *after_deep = NULL;
    const char *star = NULL, *deep = NULL; /* where the text went on behind them */

    for (;;) {
        if (t < end && t->kind == REST)
            return true;
        if (t < end && t->kind == DEEP) {
            after_deep = ++t;
            deep = s;
            after_star = NULL;
        } else if (t < end && t->kind == STAR) {
            after_star = ++t;
            star = s;
        } else if (t == end && !*s) {
            return true;
        } else if (t < end && *s && one_matches(p, t, *s)) {
            if (*s == '/')
                after_star = NULL;
            t++;
            s++;
        } else if (after_star && *star && *star != '/') {
            t = after_star;
            s = ++star;
        } else if (after_deep && (deep = strchr(deep, '/'))) {
            t = after_deep;
            s = ++deep;
            after_star = NULL;
        } else {
            return false;
        }
    }
}

static bool matches(const struct pattern *p, const char *path, bool is_dir)
{
    size_t n = strlen(p->base);
    const char *slash;

    if (p->folders_only && !is_dir)
        return false;
    if (n > 0) {
        if (strncmp(path, p->base, n) != 0 || path[n] != '/')
            return false;
        path += n + 1;
    }
    slash = p->anchored ? NULL : strrchr(path, '/');
    return matches_text(p, slash ? slash + 1 : path);
}

bool ty_ignore_match(const struct ty_ignore *g, const char *path, bool is_dir)
{
    for (size_t i = g->n; i-- > 0;)
        if (matches(&g->patterns[i], path, is_dir))
            return !g->patterns[i].negated;
    return false;
}
