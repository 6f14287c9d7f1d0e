/* torch.c - see torch.h
 *
 * The table has a row for each minor version.  Sources: the versions and platforms that pypi.org lists for torch and torchvision,
 * what those wheels require of CUDA (Requires-Dist), the builds that pytorch.org/get-started/previous-versions names, the table of
 * pytorch/vision's README, and for drivers NVIDIA's "CUDA compatibility": a driver runs every build of its own CUDA version and of
 * older ones, and builds of the same major version whatever their minor one.
 */
#include "env/torch.h"
#include "base/str.h"
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CLAUSES_MAX 16
#define BUILDS_MAX 5
#define PATCHES 10 /* of a minor version, that are tried */

struct row {
    int major, minor;
    int python_first, python_last; /* 3.x */
    int vision;                    /* torchvision 0.x */
    int vision_last;               /* the last Python that one was built for; 0: as torch */
    int pip_cuda;                  /* of the build on pip's own index, as builds: 124 is 12.4 */
    int builds[BUILDS_MAX]; /* CUDA builds of PyTorch's index, newest first; none: not known */
};
static const struct row rows[] = {
    { 1, 0, 5, 7, 2, 0, 90, { 100, 90, 80 } },
    { 1, 1, 5, 7, 3, 0, 90, { 100, 90 } },
    { 1, 2, 5, 7, 4, 0, 100, { 100, 92 } },
    { 1, 3, 5, 7, 4, 0, 101, { 101, 100, 92 } },
    { 1, 4, 5, 8, 5, 0, 101, { 101, 100, 92 } },
    { 1, 5, 5, 8, 6, 0, 102, { 102, 101, 92 } },
    { 1, 6, 6, 8, 7, 0, 102, { 102, 101, 92 } },
    { 1, 7, 6, 9, 8, 0, 102, { 110, 102, 101, 92 } },
    { 1, 8, 6, 9, 9, 0, 102, { 111, 102, 101 } },
    { 1, 9, 6, 9, 10, 0, 102, { 111, 102 } },
    { 1, 10, 6, 9, 11, 0, 102, { 113, 111, 102 } },
    { 1, 11, 7, 10, 12, 0, 102, { 115, 113, 102 } },
    { 1, 12, 7, 10, 13, 0, 102, { 116, 113, 102 } },
    { 1, 13, 7, 11, 14, 10, 117, { 117, 116 } },
    { 2, 0, 8, 11, 15, 0, 117, { 118, 117 } },
    { 2, 1, 8, 11, 16, 0, 121, { 121, 118 } },
    { 2, 2, 8, 12, 17, 0, 121, { 121, 118 } },
    { 2, 3, 8, 12, 18, 0, 121, { 121, 118 } },
    { 2, 4, 8, 12, 19, 0, 121, { 124, 121, 118 } },
    { 2, 5, 9, 13, 20, 0, 124, { 124, 121, 118 } },
    { 2, 6, 9, 13, 21, 0, 124, { 126, 124, 118 } },
    { 2, 7, 9, 13, 22, 0, 126, { 128, 126, 118 } },
    { 2, 8, 9, 13, 23, 0, 128, { 129, 128, 126 } },
    { 2, 9, 10, 14, 24, 0, 128, { 130, 128, 126 } },
    { 2, 10, 10, 14, 25, 0, 128, { 130, 128, 126 } },
    { 2, 11, 10, 14, 26, 0, 130, { 130, 128, 126 } },
    { 2, 12, 10, 14, 27, 0, 130, { 132, 130, 129, 126 } },
    { 2, 13, 10, 14, 28, 0, 130, { 0 } },
    { 2, 14, 10, 14, 29, 0, 130, { 0 } },
    { 2, 15, 11, 14, 30, 0, 132, { 0 } },
};
#define ROWS ((int)(sizeof rows / sizeof *rows))

/* ---- versions ---- */

struct release {
    int part[4], n; /* n: how many were written */
    bool star;      /* "2.*" */
};

static struct release release_of(const char *text)
{
    struct release r = { 0 };

    text += *text == 'v';
    while (r.n < 4 && isdigit((unsigned char)*text)) {
        r.part[r.n++] = (int)strtol(text, (char **)&text, 10);
        if (*text != '.')
            break;
        text++;
    }
    r.star = *text == '*';
    return r;
}

static int compare(const struct release *a, const struct release *b, int n)
{
    for (int i = 0; i < n; i++)
        if (a->part[i] != b->part[i])
            return a->part[i] < b->part[i] ? -1 : 1;
    return 0;
}

/* One of "==", "!=", ">=", "<=", "~=", ">", "<", "=" or nothing, and a version; *p goes behind it. */
struct clause {
    char op[4];
    struct release want;
};

static bool next_clause(const char **p, struct clause *c)
{
    size_t n;

    *p += strspn(*p, " ,");
    if (!**p)
        return false;
    n = strspn(*p, "=!<>~");
    snprintf(c->op, sizeof c->op, "%.*s", (int)(n > 3 ? 3 : n), *p);
    *p += n;
    *p += strspn(*p, " ");
    c->want = release_of(*p);
    *p += strcspn(*p, ",");
    return true;
}

static bool holds(const struct release *have, const struct clause *c)
{
    const char *op = c->op;
    bool prefix = c->want.star || !*op || strcmp(op, "=") == 0;
    int order = compare(have, &c->want, prefix ? c->want.n : 4);

    if (strcmp(op, "!=") == 0)
        return order != 0;
    if (strcmp(op, "~=") == 0)
        return order >= 0 && compare(have, &c->want, c->want.n - 1) == 0;
    if (*op == '>')
        return op[1] ? order >= 0 : order > 0;
    if (*op == '<')
        return op[1] ? order <= 0 : order < 0;
    return order == 0;
}

static bool release_fits(const struct release *have, const char *asked)
{
    struct clause c;

    while (next_clause(&asked, &c))
        if (!holds(have, &c))
            return false;
    return true;
}

bool ty_torch_fits(const char *version, const char *asked)
{
    struct release have = release_of(version);

    return release_fits(&have, asked);
}

bool ty_torch_is_older(const char *version, const char *asked)
{
    struct release have = release_of(version);
    struct clause c;

    while (next_clause(&asked, &c))
        if (*c.op != '<' && *c.op != '!' && compare(&have, &c.want, c.want.n) < 0)
            return true;
    return false;
}

/* Clauses as pip understands them: "1.13" is "==1.13.*", "1.13.1" is "==1.13.1". */
static void requirement(const char *name, const char *asked, const char *more, char *to,
                        size_t size)
{
    CLEANUP_STR struct ty_str s = { 0 };
    int n = 0;

    ty_str_add(&s, name);
    for (const char *p = asked; n < CLAUSES_MAX; n++) {
        size_t op, len;

        p += strspn(p, " ,");
        if (!*p)
            break;
        op = strspn(p, "=!<>~");
        len = strcspn(p, ",");
        while (len > 0 && p[len - 1] == ' ')
            len--;
        ty_str_add(&s, n ? "," : "");
        if (op == 0 || (op == 1 && *p == '=')) {
            struct release r = release_of(p + op);

            ty_str_addf(&s, "==%.*s%s", (int)(len - op), p + op, r.star || r.n > 2 ? "" : ".*");
        } else {
            ty_str_addn(&s, p, len);
        }
        p += strcspn(p, ",");
    }
    ty_str_addf(&s, "%s%s", n && *more ? "," : "", more);
    snprintf(to, size, "%s", s.text && !s.failed ? s.text : name);
}

/* ---- the table ---- */

static bool some_fits(int major, int minor, int patches, const char *asked)
{
    for (int patch = 0; patch < patches; patch++) {
        struct release r = { .part = { major, minor, patch }, .n = 3 };

        if (release_fits(&r, asked))
            return true;
    }
    return false;
}

/* The minor version of a Python 3; a newer one than the table knows counts as the newest. */
static int python_minor(const char *version)
{
    struct release r = release_of(version);

    return r.part[1] < rows[ROWS - 1].python_last ? r.part[1] : rows[ROWS - 1].python_last;
}

static bool for_python(const struct row *r, int minor)
{
    return minor >= r->python_first && minor <= r->python_last;
}

static bool row_fits(const struct row *r, const struct ty_torch_ask *ask, int python)
{
    return for_python(r, python) &&
           (!ask->torch || some_fits(r->major, r->minor, PATCHES, ask->torch)) &&
           (!ask->torchvision || some_fits(0, r->vision, PATCHES, ask->torchvision));
}

/* Does the version that is asked for lie beyond the table?  Then only the index can tell. */
static bool beyond(const struct ty_torch_ask *ask)
{
    const struct row *last = &rows[ROWS - 1];

    if (!ask->torch || !*ask->torch)
        return false;
    for (int minor = last->minor + 1; minor < last->minor + 100; minor++)
        if (some_fits(last->major, minor, PATCHES, ask->torch))
            return true;
    return some_fits(last->major + 1, 0, PATCHES, ask->torch);
}

/* 12.4 is 124 */
static int cuda_number(const char *text)
{
    struct release r = release_of(text);

    return r.part[0] * 10 + (r.part[1] < 10 ? r.part[1] : 9);
}

/* How surely a driver runs a build: by NVIDIA's promise for minor versions, an older one, one of its own major version. */
enum { RUNS_NOT, RUNS_BY_PROMISE, RUNS_OLDER, RUNS };

static int runs(int build, int driver)
{
    bool same = build / 10 == driver / 10;

    if (build == 0 || driver == 0)
        return RUNS_NOT;
    if (build <= driver)
        return same ? RUNS : RUNS_OLDER;
    return same && build >= 110 ? RUNS_BY_PROMISE : RUNS_NOT;
}

/* The newest build of a row that the driver runs so surely, or 0; the oldest where only a promise speaks for it. */
static int build_for(const struct row *r, int driver, bool pip, int how)
{
    int found = 0;

    if (pip)
        return runs(r->pip_cuda, driver) >= how ? r->pip_cuda : 0;
    for (int i = 0; i < BUILDS_MAX && r->builds[i]; i++)
        if (runs(r->builds[i], driver) >= how && (!found || how == RUNS_BY_PROMISE))
            found = r->builds[i];
    return found;
}

static const struct row *row_for_gpu(const struct ty_torch_ask *ask, int python, int driver,
                                     bool pip, int *build)
{
    for (int how = RUNS; how > RUNS_NOT; how--)
        for (int i = ROWS - 1; i >= 0; i--)
            if (row_fits(&rows[i], ask, python) && (*build = build_for(&rows[i], driver, pip, how)))
                return &rows[i];
    return NULL;
}

static const struct row *newest_row(const struct ty_torch_ask *ask, int python)
{
    for (int i = ROWS - 1; i >= 0; i--)
        if (row_fits(&rows[i], ask, python))
            return &rows[i];
    return NULL;
}

static const struct row *row_of(const char *version)
{
    struct release r = release_of(version);

    for (int i = 0; i < ROWS; i++)
        if (rows[i].major == r.part[0] && rows[i].minor == r.part[1])
            return &rows[i];
    return NULL;
}

/* torchvision is asked for, is not there, and was never built for this Python in the version that goes with the torch that is
 * there: the newest row that satisfies otherwise, or NULL. */
static const struct row *newer_pair(const struct ty_torch_ask *ask,
                                    const struct ty_torch_node *node, int python)
{
    const struct row *have = node->torch ? row_of(node->torch) : NULL, *newest;

    if (!ask->torchvision || node->torchvision || !have || !have->vision_last ||
        python <= have->vision_last)
        return NULL;
    newest = newest_row(ask, python);
    return newest != have ? newest : NULL;
}

static const struct row *first_for(int python)
{
    for (int i = 0; i < ROWS; i++)
        if (for_python(&rows[i], python))
            return &rows[i];
    return &rows[ROWS - 1];
}

static const struct row *last_for(int python)
{
    for (int i = ROWS - 1; i >= 0; i--)
        if (for_python(&rows[i], python))
            return &rows[i];
    return &rows[0];
}

/* ---- the choice ---- */

static void say(struct ty_torch_choice *c, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
static void say(struct ty_torch_choice *c, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(c->reason, sizeof c->reason, fmt, ap);
    va_end(ap);
}

static void name_index(const struct ty_torch_ask *ask, struct ty_torch_choice *c)
{
    const char *base = ask->index ? ask->index : TY_TORCH_INDEX, *at = strstr(base, "{build}");
    size_t n = strlen(base);

    while (n > 0 && base[n - 1] == '/')
        n--;
    if (at)
        snprintf(c->index, sizeof c->index, "%.*s%s%s", (int)(at - base), base, c->build,
                 at + strlen("{build}"));
    else
        snprintf(c->index, sizeof c->index, "%.*s/%s", (int)n, base, c->build);
}

/* Of what is asked for with its version: "torch 1.6", "torch". */
static const char *asked_name(const char *asked, char *to, size_t size)
{
    snprintf(to, size, "torch%s%s", asked && *asked ? " " : "", asked ? asked : "");
    return to;
}

static bool wants_gpu(const struct ty_torch_ask *ask, const struct ty_torch_node *node)
{
    return ask->use_gpu && node->gpu;
}

static bool serves(const struct ty_torch_ask *ask, const struct ty_torch_node *node)
{
    return !wants_gpu(ask, node) || !node->cuda || *node->cuda;
}

/* torch is there; torchvision may be lacking, and must be the one of that torch. */
static void use(const struct ty_torch_ask *ask, const struct ty_torch_node *node,
                struct ty_torch_choice *c)
{
    const struct row *r = row_of(node->torch);
    char of_torch[32] = "";

    c->what = TY_TORCH_USE;
    if (!ask->torchvision ||
        (node->torchvision && ty_torch_fits(node->torchvision, ask->torchvision)))
        return;
    if (node->torchvision && r && !some_fits(0, r->vision, PATCHES, ask->torchvision)) {
        c->warn = true;
        say(c,
            "torchvision %s was asked for, and torch %s of the interpreter goes with torchvision 0.%d: torchvision %s of the "
            "interpreter is used",
            ask->torchvision, node->torch, r->vision, node->torchvision);
        return;
    }
    if (r)
        snprintf(of_torch, sizeof of_torch, "==0.%d.*", r->vision);
    requirement("torchvision", ask->torchvision, of_torch, c->torchvision, sizeof c->torchvision);
    c->what = TY_TORCH_INSTALL;
    snprintf(c->build, sizeof c->build, "%s",
             strchr(node->torch, '+') ? strchr(node->torch, '+') + 1 : "");
    if (strncmp(c->build, "cu", 2) != 0 && strcmp(c->build, "cpu") != 0)
        c->build[0] = '\0';
    if (*c->build && (!ask->index || strcmp(ask->index, TY_TORCH_INDEX_PIP) != 0))
        name_index(ask, c);
}

/* Bounds of a requirement: below the row's next version, and not the one that is there, which pip would be content with. */
static void bounds(int major, int below, const char *have, const char *asked, char *to, size_t size)
{
    size_t n = 0;

    *to = '\0';
    if (below > 0)
        n = (size_t)snprintf(to, size, "<%d.%d", major, below);
    if (have && ty_torch_fits(have, asked))
        snprintf(to + n, size - n, "%s!=%s", n ? "," : "", have);
}

static void install(const struct ty_torch_ask *ask, const struct ty_torch_node *node,
                    const struct row *r, bool bounded, struct ty_torch_choice *c)
{
    const char *asked = ask->torch ? ask->torch : "";
    char more[96];

    c->what = TY_TORCH_INSTALL;
    bounds(r->major, bounded ? r->minor + 1 : 0, node->torch, asked, more, sizeof more);
    requirement("torch", asked, more, c->torch, sizeof c->torch);
    if (!ask->torchvision)
        return;
    bounds(0, bounded ? r->vision + 1 : 0, node->torchvision, ask->torchvision, more, sizeof more);
    requirement("torchvision", ask->torchvision, more, c->torchvision, sizeof c->torchvision);
}

static void for_gpu(const struct ty_torch_ask *ask, const struct ty_torch_node *node, int python,
                    struct ty_torch_choice *c);
static void without_gpu(const struct ty_torch_ask *ask, const struct ty_torch_node *node,
                        const struct row *r, int python, struct ty_torch_choice *c);

static void install_pair(const struct ty_torch_ask *ask, const struct ty_torch_node *node,
                         const struct row *newer, int python, struct ty_torch_choice *c)
{
    if (wants_gpu(ask, node))
        for_gpu(ask, node, python, c);
    else
        without_gpu(ask, node, newer, python, c);
    if (c->what != TY_TORCH_INSTALL)
        return;
    c->warn = true;
    say(c,
        "a newer torch is installed with torchvision: torchvision 0.%d, the one for torch %s of the interpreter, was not built "
        "for Python 3.%d ('apt install python3-torchvision' on the node has both used as they are)",
        row_of(node->torch)->vision, node->torch, python);
}

/* There is none that satisfies, anywhere: what is there, if it is newer, else nothing. */
static void hopeless(const struct ty_torch_ask *ask, const struct ty_torch_node *node, int python,
                     struct ty_torch_choice *c)
{
    const struct row *first = first_for(python), *last = last_for(python);
    char name[96];

    asked_name(ask->torch, name, sizeof name);
    if (node->torch && !(ask->torch && ty_torch_is_older(node->torch, ask->torch))) {
        const struct ty_torch_ask any = { "", ask->torchvision ? "" : NULL, ask->use_gpu,
                                          ask->index };
        const struct row *newer = newer_pair(&any, node, python);

        if (newer) {
            install_pair(&any, node, newer, python, c);
            return;
        }
        use(ask, node, c);
        c->warn = true;
        say(c,
            "%s was asked for, and there is none for Python 3.%d (the first is %d.%d): torch %s of the interpreter is used",
            name, python, first->major, first->minor, node->torch);
        return;
    }
    c->what = TY_TORCH_REFUSE;
    say(c,
        "%s%s%s is not to be had for Python 3.%d, for which there is torch %d.%d to %d.%d: ask for one of these, name an "
        "interpreter of another version, or install PyTorch on the node ('apt install python3-torch')",
        name, ask->torchvision && *ask->torchvision ? " with torchvision " : "",
        ask->torchvision ? ask->torchvision : "", python, first->major, first->minor, last->major,
        last->minor);
}

static void for_gpu(const struct ty_torch_ask *ask, const struct ty_torch_node *node, int python,
                    struct ty_torch_choice *c)
{
    bool pip = ask->index && strcmp(ask->index, TY_TORCH_INDEX_PIP) == 0;
    /* A driver that does not say what it serves is taken to be none of the oldest. */
    int driver = *node->driver_cuda ? cuda_number(node->driver_cuda) : 118, build = 0;
    const struct row *r = row_for_gpu(ask, python, driver, pip, &build);
    char name[96];

    if (!r && !pip && (r = row_for_gpu(ask, python, driver, true, &build)))
        pip = true; /* too new for the table to know its builds */
    asked_name(ask->torch, name, sizeof name);
    if (r) {
        install(ask, node, r, true, c);
        if (!pip) {
            snprintf(c->build, sizeof c->build, "cu%d", build);
            name_index(ask, c);
        }
        say(c,
            "%s for CUDA %d.%d is installed for Python 3.%d: the driver of this node serves CUDA %s",
            name, build / 10, build % 10, python,
            *node->driver_cuda ? node->driver_cuda : "of a version that it does not tell");
    } else if (node->torch && ty_torch_fits(node->torch, ask->torch ? ask->torch : "")) {
        use(ask, node, c);
        c->warn = true;
        say(c,
            "torch %s of the interpreter is used, which was built without CUDA: there is none for Python 3.%d that the driver of "
            "this node runs (it serves CUDA %s); a newer driver is needed for its GPUs",
            node->torch, python, node->driver_cuda);
    } else {
        c->what = TY_TORCH_REFUSE;
        say(c,
            "there is no build of %s for Python 3.%d that the driver of this node runs (it serves CUDA %s): install a newer "
            "NVIDIA driver, ask for another version, or do not ask for GPUs (use_gpu)",
            name, python, *node->driver_cuda ? node->driver_cuda : "of an unknown version");
    }
}

static void without_gpu(const struct ty_torch_ask *ask, const struct ty_torch_node *node,
                        const struct row *r, int python, struct ty_torch_choice *c)
{
    char name[96];

    /* Its torchvision is to be the one of that version, and none that waits for a newer torch. */
    install(ask, node, r, ask->torch && *ask->torch && ask->torchvision && !beyond(ask), c);
    if (!ask->index || strcmp(ask->index, TY_TORCH_INDEX_PIP) != 0) {
        snprintf(c->build, sizeof c->build, "cpu");
        name_index(ask, c);
    }
    say(c, "%s is installed for Python 3.%d%s", asked_name(ask->torch, name, sizeof name), python,
        *c->index ? ", built for the CPU" : "");
}

void ty_torch_choose(const struct ty_torch_ask *ask, const struct ty_torch_node *node,
                     struct ty_torch_choice *ret)
{
    int python = python_minor(node->python);
    const struct row *r = newest_row(ask, python);
    const char *asked = ask->torch ? ask->torch : "";

    *ret = (struct ty_torch_choice){ 0 };
    if (node->torch && ty_torch_fits(node->torch, asked) && serves(ask, node)) {
        const struct row *newer = newer_pair(ask, node, python);

        say(ret, "torch %s of the interpreter is used", node->torch);
        if (newer)
            install_pair(ask, node, newer, python, ret);
        else
            use(ask, node, ret);
    } else if (!r && !beyond(ask)) {
        hopeless(ask, node, python, ret);
    } else if (wants_gpu(ask, node) && r) {
        for_gpu(ask, node, python, ret);
    } else {
        without_gpu(ask, node, r ? r : &rows[ROWS - 1], python, ret);
        if (wants_gpu(ask, node)) { /* newer than the table: pip's own index has CUDA builds */
            ret->build[0] = ret->index[0] = '\0';
            say(ret, "torch %s is installed for Python 3.%d from pip's own index", asked, python);
        }
    }
}
