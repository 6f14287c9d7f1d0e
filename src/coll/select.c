/* select.c - which plan for how many bytes and nodes: a table of rules that a user can read and replace */
#include "base/error.h"
#include "base/str.h"
#include "coll/plan.h"
#include <assert.h>
#include <errno.h>
#include <limits.h>

/* What bench/sim and bench/sim/calibrate say: one exchange of everything costs least while latency is what counts; a
 * buffer on two nodes, until adding all of it on both costs more than a second latency; else halves. */
#define RULES_DEFAULT "allreduce:0-256k:2-3:rd#allreduce:0-32k:3-inf:rd#allreduce:0-inf:0-inf:hd"

struct rule {
    int64_t bytes_from, bytes_to; /* INT64_MAX: no end */
    int64_t nodes_from, nodes_to;
    enum ty_plan_kind kind;
};
struct ty_select {
    struct rule rules[TY_SELECT_RULES];
    int n;
    char *text;
};

static const struct {
    char letter;
    int shift;
} units[] = { { 'G', 30 }, { 'M', 20 }, { 'k', 10 } };

static bool number(const char *s, size_t len, int64_t *ret)
{
    size_t digits = 0;
    int64_t v = 0;

    if (len == 3 && memcmp(s, "inf", 3) == 0) {
        *ret = INT64_MAX;
        return true;
    }
    for (; digits < len && s[digits] >= '0' && s[digits] <= '9'; digits++)
        if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, s[digits] - '0', &v))
            return false;
    if (digits == 0 || len - digits > 1)
        return false;
    if (digits < len) {
        size_t u = 0;

        while (u < sizeof units / sizeof *units && (units[u].letter | 32) != (s[digits] | 32))
            u++;
        if (u == sizeof units / sizeof *units ||
            __builtin_mul_overflow(v, INT64_C(1) << units[u].shift, &v))
            return false;
    }
    *ret = v;
    return true;
}

/* "from-to" of len characters, not empty. */
static bool range(const char *s, size_t len, int64_t *from, int64_t *to)
{
    const char *dash = memchr(s, '-', len);

    return dash && number(s, (size_t)(dash - s), from) &&
           number(dash + 1, len - (size_t)(dash + 1 - s), to) && *from < *to;
}

static bool word(const char *s, size_t len, enum ty_plan_kind *ret)
{
    for (int k = 0; k < TY_PLAN_KINDS; k++) {
        const char *w = ty_plan_word((enum ty_plan_kind)k);

        if (strlen(w) == len && memcmp(w, s, len) == 0) {
            *ret = (enum ty_plan_kind)k;
            return true;
        }
    }
    return false;
}

/* NULL, or what is wrong with the rule s[0..len). */
static const char *read_rule(const char *s, size_t len, struct rule *ret)
{
    const char *field[4];
    size_t size[4];
    int n = 0;

    for (const char *end = s + len, *at = s;; n++) {
        const char *colon = memchr(at, ':', (size_t)(end - at));

        if (n == 4)
            return "it has more than four fields";
        field[n] = at;
        size[n] = (size_t)((colon ? colon : end) - at);
        if (!colon)
            break;
        at = colon + 1;
    }
    if (n != 3)
        return "it has less than four fields";
    if (size[0] != strlen("allreduce") || memcmp(field[0], "allreduce", size[0]) != 0)
        return "the only operation with a choice is allreduce";
    if (!range(field[1], size[1], &ret->bytes_from, &ret->bytes_to))
        return "its bytes are no range like 0-16k";
    if (!range(field[2], size[2], &ret->nodes_from, &ret->nodes_to))
        return "its nodes are no range like 2-inf";
    if (!word(field[3], size[3], &ret->kind))
        return "its algorithm is none of rd, hd and ring";
    return NULL;
}

static int add_rules(struct ty_select *s, const char *text, struct ty_error *err)
{
    for (const char *at = text;;) {
        size_t len = strcspn(at, "#");
        struct rule r;
        const char *wrong =
            s->n < TY_SELECT_RULES
                ? read_rule(at, len, &r)
                : "the table, with the default's rules at its end, has more than 64";

        if (wrong)
            return ty_error_set(err, -EINVAL,
                                "cannot use the rule \"%.*s\" for choosing algorithms: %s; write "
                                "allreduce:<bytes>:<nodes>:<rd, hd or ring>, rules separated by #",
                                (int)(len > 200 ? 200 : len), at, wrong);
        s->rules[s->n++] = r;
        if (!at[len])
            return 0;
        at += len + 1;
    }
}
static_assert(TY_SELECT_RULES == 64, "the sentence says 64");

static bool takes_all(const struct rule *r)
{
    return r->bytes_from == 0 && r->bytes_to == INT64_MAX && r->nodes_from <= 2 &&
           r->nodes_to == INT64_MAX;
}

static void show_number(struct ty_str *s, int64_t v, bool bytes)
{
    if (v == INT64_MAX) {
        ty_str_add(s, "inf");
        return;
    }
    for (size_t u = 0; bytes && v && u < sizeof units / sizeof *units; u++)
        if (v % (INT64_C(1) << units[u].shift) == 0) {
            ty_str_addf(s, "%lld%c", (long long)(v >> units[u].shift), units[u].letter);
            return;
        }
    ty_str_addf(s, "%lld", (long long)v);
}

static char *show(const struct ty_select *s)
{
    CLEANUP_STR struct ty_str text = { 0 };

    for (int i = 0; i < s->n; i++) {
        const struct rule *r = &s->rules[i];

        ty_str_add(&text, i ? "#allreduce:" : "allreduce:");
        show_number(&text, r->bytes_from, true);
        ty_str_add(&text, "-");
        show_number(&text, r->bytes_to, true);
        ty_str_add(&text, ":");
        show_number(&text, r->nodes_from, false);
        ty_str_add(&text, "-");
        show_number(&text, r->nodes_to, false);
        ty_str_addf(&text, ":%s", ty_plan_word(r->kind));
    }
    return ty_str_take(&text);
}

int ty_select_parse(const char *text, struct ty_select **ret, struct ty_error *err)
{
    struct ty_select *s = calloc(1, sizeof *s);
    bool whole = false;
    int r = 0;

    if (!s)
        return ty_error_oom(err);
    if (text && *text)
        r = add_rules(s, text, err);
    for (int i = 0; r == 0 && i < s->n; i++)
        whole |= takes_all(&s->rules[i]);
    if (r == 0 && !whole)
        r = add_rules(s, RULES_DEFAULT, err);
    if (r == 0 && !(s->text = show(s)))
        r = ty_error_oom(err);
    if (r < 0) {
        ty_select_free(s);
        return r;
    }
    *ret = s;
    return 0;
}

enum ty_plan_kind ty_select_plan(const struct ty_select *s, int64_t bytes, int nodes)
{
    /* A table ends in a rule that takes every count of bytes and every number of nodes from 2 on. */
    for (int i = 0; i < s->n; i++) {
        const struct rule *r = &s->rules[i];

        if (bytes >= r->bytes_from && bytes < r->bytes_to && nodes >= r->nodes_from &&
            nodes < r->nodes_to)
            return r->kind;
    }
    return TY_PLAN_HALVING_DOUBLING;
}

const char *ty_select_text(const struct ty_select *s)
{
    return s->text;
}

struct ty_select *ty_select_free(struct ty_select *s)
{
    if (s)
        free(s->text);
    free(s);
    return NULL;
}
