/* sse.c - server-sent events as bytes */
#include "http/sse.h"
#include "store/store.h"
#include <errno.h>
#include <string.h>

#define CURSOR_TEXT_MAX (64 * 1024)

static int parse_part(const char *text, int64_t *ret)
{
    int64_t n;
    int r = ty_parse_i64(text, &n);

    if (r < 0 || n < 0)
        return -EINVAL;
    *ret = n;
    return 0;
}

/* "<writer>-<row>.<writer>-<row>..." */
static int parse_rows(char *text, struct ty_row_places *rows)
{
    char *part, *writer;
    int64_t w, n;
    int r = 0;

    while (r == 0 && (part = strsep(&text, "."))) {
        writer = strsep(&part, "-");
        if (!part || parse_part(writer, &w) < 0 || parse_part(part, &n) < 0 || w > UINT32_MAX)
            return -EINVAL;
        r = ty_row_places_set(rows, (uint32_t)w, (uint64_t)n);
    }
    return r;
}

/* "<offset>.<offset>..." */
static int parse_ranks(char *text, struct sse_cursor *c)
{
    char *part;
    int n = 0;

    while ((part = strsep(&text, ".")))
        if (n == c->nranks || parse_part(part, &c->ranks[n++]) < 0)
            return -EINVAL;
    return 0;
}

int sse_cursor_parse(const char *text, struct sse_cursor *ret, struct ty_row_places *rows)
{
    CLEANUP_FREE char *copy = strlen(text) < CURSOR_TEXT_MAX ? strdup(text) : NULL;
    char *rest = copy, *seq, *offset;
    struct sse_cursor c = *ret;

    seq = strsep(&rest, ":");
    offset = strsep(&rest, ":");
    if (!offset || parse_part(seq, &c.seq) < 0 ||
        (c.ranks ? parse_ranks(offset, &c) : parse_part(offset, &c.offset)) < 0)
        return -EINVAL;
    if (rest) {
        int r = parse_rows(rest, rows);

        if (r < 0)
            return r;
    }
    *ret = c;
    return 0;
}

static void add_head(struct ty_str *out, const struct sse_cursor *c, const char *event)
{
    int known = c->nranks;

    ty_str_addf(out, "id: %lld:", (long long)c->seq);
    while (known > 1 && !c->ranks[known - 1])
        known--;
    for (int i = 0; i < known; i++)
        ty_str_addf(out, "%s%lld", i ? "." : "", (long long)c->ranks[i]);
    if (!c->ranks)
        ty_str_addf(out, "%lld", (long long)c->offset);
    for (uint32_t i = 0; c->rows && i < c->rows->n; i++)
        ty_str_addf(out, "%c%u-%llu", i == 0 ? ':' : '.', c->rows->list[i].writer,
                    (unsigned long long)c->rows->list[i].next);
    ty_str_addf(out, "\nevent: %s\ndata: ", event);
}

void sse_json(struct ty_str *out, const struct sse_cursor *c, const char *event, const json_t *data)
{
    CLEANUP_FREE char *text = data ? ty_json_text(data) : NULL;

    if (!text) {
        out->failed = true;
        return;
    }
    add_head(out, c, event);
    ty_str_add(out, text);
    ty_str_add(out, "\n\n");
}

void sse_state(struct ty_str *out, const struct sse_cursor *c, const char *state,
               const json_t *moved, const json_t *why)
{
    CLEANUP_JSON json_t *data =
        json_pack("{s:s s:O? s:O? s:O?}", "state", state, "at", json_object_get(moved, "at"), "why",
                  why, "kind", json_object_get(moved, "kind"));

    sse_json(out, c, "state", data);
}

/* Readers of JSON differ over NUL in a text: such a piece goes as base64. */
static bool is_text(const char *bytes, size_t n)
{
    return ty_utf8_valid(bytes, n) && !memchr(bytes, '\0', n);
}

size_t sse_log(struct ty_str *out, struct sse_cursor *c, const char *name, int rank,
               const char *bytes, size_t n, bool last)
{
    size_t whole = ty_utf8_whole(bytes, n);
    int64_t *place = rank < 0 ? &c->offset : &c->ranks[rank], from = *place;

    if (whole < n && (whole > 0 || !last))
        n = whole;
    if (n == 0)
        return 0;
    *place = from + (int64_t)n;
    add_head(out, c, "log");
    ty_str_add(out, "{\"name\":");
    ty_str_add_json(out, name, strlen(name));
    if (rank >= 0)
        ty_str_addf(out, ",\"rank\":%d", rank);
    ty_str_addf(out, ",\"offset\":%lld,", (long long)from);
    if (is_text(bytes, n)) {
        ty_str_add(out, "\"text\":");
        ty_str_add_json(out, bytes, n);
    } else {
        ty_str_add(out, "\"base64\":\"");
        ty_str_add_base64(out, bytes, n);
        ty_str_add(out, "\"");
    }
    ty_str_add(out, "}\n\n");
    return n;
}
