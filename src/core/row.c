/* row.c - rows to bytes and back; every size is checked before it is believed */
#include "core/row.h"
#include <errno.h>
#include <string.h>

#define ALIGN 8

static const char *const words[] = {
#define X(name, word) [TY_ROW_##name] = word,
    TY_ROW_KINDS(X)
#undef X
};

static void put(unsigned char *at, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++)
        at[i] = (unsigned char)(v >> 8 * i);
}

static uint64_t get(const unsigned char *at, int bytes)
{
    uint64_t v = 0;

    for (int i = 0; i < bytes; i++)
        v |= (uint64_t)at[i] << 8 * i;
    return v;
}

size_t ty_row_size(const struct ty_row *row)
{
    return (TY_ROW_HEAD + row->name_len + row->value_len + ALIGN - 1) / ALIGN * ALIGN;
}

static bool is_number(enum ty_row_kind kind)
{
    return kind == TY_ROW_DOUBLE || kind == TY_ROW_INT;
}

/* Have name and value the sizes that the kind asks for? */
static bool fits(const struct ty_row *row)
{
    return row->name_len > 0 && row->name_len <= TY_ROW_NAME_MAX &&
           (is_number(row->kind) ? row->value_len == 8 : row->value_len <= TY_ROW_VALUE_MAX);
}

int ty_row_encode(const struct ty_row *row, void *out)
{
    unsigned char *p = out;
    size_t size = ty_row_size(row), used = TY_ROW_HEAD + row->name_len + row->value_len;

    if (row->kind <= TY_ROW_PAD || row->kind >= TY_ROW_KIND_COUNT || !fits(row))
        return -EINVAL;
    put(p, size, 4);
    p[4] = (unsigned char)row->kind;
    p[5] = 0;
    put(p + 6, row->name_len, 2);
    put(p + 8, (uint64_t)row->step, 8);
    put(p + 16, (uint64_t)row->at_us, 8);
    put(p + 24, row->value_len, 4);
    put(p + 28, 0, 4);
    memcpy(p + TY_ROW_HEAD, row->name, row->name_len);
    if (row->value_len)
        memcpy(p + TY_ROW_HEAD + row->name_len, row->value, row->value_len);
    memset(p + used, 0, size - used);
    return 0;
}

/* The head of a row; what lies behind it is not looked at. */
static int decode_head(const unsigned char *p, struct ty_row *ret, size_t *size)
{
    unsigned kind = p[4];
    struct ty_row row = { .step = (int64_t)get(p + 8, 8),
                          .at_us = (int64_t)get(p + 16, 8),
                          .name = (const char *)p + TY_ROW_HEAD };

    *size = get(p, 4);
    if (*size < TY_ROW_HEAD || *size % ALIGN || kind >= TY_ROW_KIND_COUNT || p[5] || get(p + 28, 4))
        return -EBADMSG;
    row.kind = (enum ty_row_kind)kind;
    if (row.kind != TY_ROW_PAD) {
        row.name_len = get(p + 6, 2);
        row.value_len = get(p + 24, 4);
        if (!fits(&row) || *size != ty_row_size(&row))
            return -EBADMSG;
    } else if (*size > TY_ROW_PAD_MAX) {
        return -EBADMSG;
    }
    *ret = row;
    return 0;
}

ptrdiff_t ty_row_decode(const void *in, size_t n, struct ty_row *ret)
{
    struct ty_row row;
    size_t size;
    int r;

    if (n < TY_ROW_HEAD)
        return -EAGAIN;
    r = decode_head(in, &row, &size);
    if (r < 0)
        return r;
    if (size > n)
        return -EAGAIN;
    row.value = row.name + row.name_len;
    *ret = row;
    return (ptrdiff_t)size;
}

const char *ty_row_kind_word(enum ty_row_kind k)
{
    return words[k];
}

bool ty_row_is_system(const char *name, size_t n)
{
    return n >= sizeof TY_ROW_SYSTEM - 1 &&
           memcmp(name, TY_ROW_SYSTEM, sizeof TY_ROW_SYSTEM - 1) == 0;
}
