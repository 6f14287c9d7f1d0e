/* lists.c - writing, reading and comparing lists of pending operations
 *
 * Bytes of an entry: struct wire, counts[nsegs], dims[ndims], name with its NUL, padded to 8.  All members run on
 * machines of one byte order; a list of another is refused by its magic.
 */
#include "coll/lists.h"
#include "base/fault.h"
#include "coll/map.h"
#include "coll/names.h"
#include "coll/req.h"
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC 0x3174736c6c6f6354u /* "Tcollst1" */
#define ENTRIES_MAX 1000000

struct wire_head {
    uint64_t magic;
    int64_t joined_us; /* ago; -1: it has not */
    uint32_t entries, pad;
};
struct wire {
    uint64_t pairing, base, digest;
    uint8_t kind, dtype, op, device;
    int32_t root, nsegs, ndims;
    double prescale, postscale;
    int64_t age_us;
    uint32_t name; /* bytes with the NUL; 0: unnamed */
    uint32_t pad;
};

/* ---- write ---- */

uint64_t ty_list_pairing(const struct ty_req *r, int before)
{
    return r->name ? r->name_key : (uint64_t)(r->kind + 1) << 32 | (uint64_t)(before + 1);
}

static size_t entry_bytes(const struct ty_req *r)
{
    return sizeof(struct wire) + (size_t)r->nsegs * 8 +
           (r->nsegs ? (size_t)r->seg[0].ndims * 8 : 0) +
           (r->name ? (strlen(r->name) + 8) / 8 * 8 : 0);
}

static unsigned char *write_entry(unsigned char *at, const struct ty_req *r, int before,
                                  int64_t now_us)
{
    static const unsigned char key[crypto_shorthash_KEYBYTES] = "trainyard.name.";
    struct wire w = { .pairing = ty_list_pairing(r, before),
                      .digest = r->digest,
                      .kind = (uint8_t)r->kind,
                      .dtype = (uint8_t)r->dtype,
                      .op = (uint8_t)r->op,
                      .device = r->device >= 0,
                      .root = r->root,
                      .nsegs = r->nsegs,
                      .ndims = r->nsegs ? r->seg[0].ndims : 0,
                      .prescale = r->prescale,
                      .postscale = r->postscale,
                      .age_us = now_us - r->submitted_us,
                      .name = r->name ? (uint32_t)strlen(r->name) + 1 : 0 };

    if (r->name)
        crypto_shorthash((unsigned char *)&w.base, (const unsigned char *)r->name, w.name, key);
    memcpy(at, &w, sizeof w);
    at += sizeof w;
    for (int i = 0; i < r->nsegs; i++, at += 8)
        memcpy(at, &r->seg[i].count, 8);
    if (w.ndims)
        memcpy(at, r->seg[0].dims, (size_t)w.ndims * 8);
    at += (size_t)w.ndims * 8;
    if (r->name) {
        memset(at, 0, (w.name + 7u) / 8 * 8);
        memcpy(at, r->name, w.name);
        at += (w.name + 7u) / 8 * 8;
    }
    return at;
}

int ty_list_write(const struct ty_req *oldest, int64_t now_us, void **ret, size_t *n)
{
    struct wire_head head = { MAGIC, -1, 0, 0 };
    size_t bytes = sizeof head;
    int unnamed[TY_COLL_KINDS] = { 0 };
    unsigned char *block, *at;

    for (const struct ty_req *r = oldest; r; r = r->next)
        bytes += entry_bytes(r);
    block = FAULT("lists.alloc", NULL, malloc(bytes));
    if (!block)
        return -ENOMEM;
    at = block + sizeof head;
    for (const struct ty_req *r = oldest; r; r = r->next) {
        if (r->kind == TY_COLL_JOIN) {
            head.joined_us = now_us - r->submitted_us;
            continue;
        }
        at = write_entry(at, r, unnamed[r->kind], now_us);
        unnamed[r->kind] += r->name == NULL;
        head.entries++;
    }
    memcpy(block, &head, sizeof head);
    *ret = block;
    *n = (size_t)(at - block);
    return 0;
}

/* ---- read ---- */

/* Numbers of elements that can be: they are multiplied by the size of one. */
static bool plausible(const int64_t *counts, int n)
{
    int64_t sum = 0;

    for (int i = 0; i < n; i++)
        if (counts[i] < 0 || __builtin_add_overflow(sum, counts[i], &sum) || sum > INT64_MAX / 16)
            return false;
    return true;
}

static bool read_entry(const unsigned char **at, const unsigned char *end, struct ty_entry *e)
{
    struct wire w;
    size_t left;

    if ((size_t)(end - *at) < sizeof w)
        return false;
    memcpy(&w, *at, sizeof w);
    *at += sizeof w;
    left = (size_t)(end - *at);
    if (w.kind >= TY_COLL_KINDS || w.dtype >= TY_COLL_DTYPES || w.op >= TY_COLL_OPS ||
        w.nsegs < 0 || w.ndims < 0 || w.ndims > TY_COLL_DIMS || (size_t)w.nsegs > left / 8 ||
        w.name > left || ((size_t)w.nsegs + (size_t)w.ndims) * 8 + (w.name + 7u) / 8 * 8 > left)
        return false;
    *e = (struct ty_entry){ .pairing = w.pairing,
                            .base = w.base,
                            .digest = w.digest,
                            .kind = w.kind,
                            .dtype = w.dtype,
                            .op = w.op,
                            .device = w.device,
                            .root = w.root,
                            .nsegs = w.nsegs,
                            .ndims = w.ndims,
                            .prescale = w.prescale,
                            .postscale = w.postscale,
                            .age_us = w.age_us };
    e->counts = (const int64_t *)*at;
    *at += (size_t)w.nsegs * 8;
    e->dims = (const int64_t *)*at;
    *at += (size_t)w.ndims * 8;
    if (w.name) {
        e->name = (const char *)*at;
        if (e->name[w.name - 1])
            return false;
        *at += (w.name + 7u) / 8 * 8;
    }
    return w.pairing != 0 && (w.base == 0 || w.name) && plausible(e->counts, e->nsegs);
}

int ty_list_read(const void *bytes, size_t n, struct ty_list *ret)
{
    struct wire_head head;
    struct ty_list l = { 0 };
    const unsigned char *at, *end;

    if (n < sizeof head)
        return -EPROTO;
    memcpy(&head, bytes, sizeof head);
    if (head.magic != MAGIC || head.entries > ENTRIES_MAX || head.entries > n / sizeof(struct wire))
        return -EPROTO;
    l.block = FAULT("lists.alloc", NULL, malloc(n + 1));
    l.entry = FAULT("lists.alloc", NULL, calloc(head.entries + 1u, sizeof *l.entry));
    if (!l.block || !l.entry) {
        ty_list_done(&l);
        return -ENOMEM;
    }
    memcpy(l.block, bytes, n);
    l.joined = head.joined_us >= 0;
    l.joined_us = head.joined_us;
    at = (const unsigned char *)l.block + sizeof head;
    end = (const unsigned char *)l.block + n;
    for (; l.n < (int)head.entries; l.n++)
        if (!read_entry(&at, end, &l.entry[l.n])) {
            ty_list_done(&l);
            return -EPROTO;
        }
    *ret = l;
    return 0;
}

void ty_list_done(struct ty_list *l)
{
    free(l->entry);
    free(l->block);
    memset(l, 0, sizeof *l);
}

/* ---- differences, in words ---- */

static void shape_text(const struct ty_entry *e, char *buf, size_t cap)
{
    size_t n = (size_t)snprintf(buf, cap, "[");

    for (int d = 0; d < e->ndims && n < cap; d++)
        n += (size_t)snprintf(buf + n, cap - n, "%s%lld", d ? ", " : "", (long long)e->dims[d]);
    if (n < cap)
        snprintf(buf + n, cap - n, "]");
}

static bool same_shape(const struct ty_entry *a, const struct ty_entry *b)
{
    int skip = a->kind == TY_COLL_ALLGATHER || a->kind == TY_COLL_ALLTOALL;

    if (a->ndims != b->ndims)
        return false;
    for (int d = skip; d < a->ndims; d++)
        if (a->dims[d] != b->dims[d])
            return false;
    return true;
}

/* The first thing in which a (of rank ra) and b (of rank rb) differ. */
static void difference(const struct ty_entry *a, int ra, const struct ty_entry *b, int rb,
                       char *buf, size_t cap)
{
    char x[160], y[160];

    if (a->dtype != b->dtype) {
        snprintf(buf, cap, "mismatched data types: rank %d gave %s, rank %d %s", ra,
                 ty_coll_dtype_name(a->dtype), rb, ty_coll_dtype_name(b->dtype));
    } else if (a->device != b->device) {
        snprintf(buf, cap, "mixed devices: rank %d gave a tensor on the %s, rank %d on the %s", ra,
                 a->device ? "GPU" : "CPU", rb, b->device ? "GPU" : "CPU");
    } else if (a->nsegs != b->nsegs) {
        snprintf(buf, cap, "mismatched group sizes: rank %d gave %d tensors, rank %d %d", ra,
                 a->nsegs, rb, b->nsegs);
    } else if (!same_shape(a, b)) {
        shape_text(a, x, sizeof x);
        shape_text(b, y, sizeof y);
        snprintf(buf, cap, "mismatched %s tensor shapes: rank %d gave %s, rank %d %s",
                 ty_coll_kind_name(a->kind), ra, x, rb, y);
    } else if (a->op != b->op) {
        snprintf(buf, cap, "mismatched reduction operations: rank %d gave %s, rank %d %s", ra,
                 ty_coll_op_name(a->op), rb, ty_coll_op_name(b->op));
    } else if (a->root != b->root) {
        snprintf(buf, cap, "mismatched root ranks: rank %d gave %d, rank %d %d", ra, a->root, rb,
                 b->root);
    } else if (a->prescale != b->prescale) {
        snprintf(buf, cap, "mismatched prescale factors: rank %d gave %g, rank %d %g", ra,
                 a->prescale, rb, b->prescale);
    } else if (a->postscale != b->postscale) {
        snprintf(buf, cap, "mismatched postscale factors: rank %d gave %g, rank %d %g", ra,
                 a->postscale, rb, b->postscale);
    } else {
        for (int i = 0; i < a->nsegs; i++)
            if (a->counts[i] != b->counts[i]) {
                snprintf(
                    buf, cap,
                    "mismatched shapes in the group: of its tensor %d rank %d gave %lld elements, rank %d %lld",
                    i, ra, (long long)a->counts[i], rb, (long long)b->counts[i]);
                return;
            }
        snprintf(buf, cap, "ranks %d and %d gave different arguments", ra, rb);
    }
}

/* ---- decide ---- */

static bool takes_part_without_data(int kind)
{
    return kind == TY_COLL_ALLREDUCE || kind == TY_COLL_BARRIER;
}

static const struct ty_entry *find(const struct ty_map *m, const struct ty_list *l, uint64_t key)
{
    uint64_t i;

    return ty_map_get(m, key, &i) ? &l->entry[i] : NULL;
}

struct look {
    const struct ty_list *lists;
    const int *world;
    int n, first,
        joined; /* first: the first member that has not joined; joined: one that has, or -1 */
    struct ty_map *by_pairing, *by_base; /* [n] */
};

static int index_lists(struct look *k)
{
    for (int i = 0; i < k->n; i++)
        for (int j = 0; j < k->lists[i].n; j++) {
            const struct ty_entry *e = &k->lists[i].entry[j];

            if (ty_map_reserve(&k->by_pairing[i]) < 0 || ty_map_reserve(&k->by_base[i]) < 0)
                return -ENOMEM;
            ty_map_put(&k->by_pairing[i], e->pairing, (uint64_t)j);
            if (e->base)
                ty_map_put(&k->by_base[i], e->base, (uint64_t)j);
        }
    return 0;
}

/* An operation of member i that has e's name, but another kind, and that the first member does not have either: the two
 * were meant to be one.  Others of that name may well be pending beside it. */
static const struct ty_entry *stray(const struct look *k, int i, const struct ty_entry *e)
{
    uint64_t any;

    if (!e->base || !ty_map_get(&k->by_base[i], e->base, &any))
        return NULL;
    for (int j = 0; j < k->lists[i].n; j++) {
        const struct ty_entry *x = &k->lists[i].entry[j];

        if (x->base == e->base && !ty_map_get(&k->by_pairing[k->first], x->pairing, &any))
            return x;
    }
    return NULL;
}

/* What becomes of e, of the first member: 1 runs, -1 fails with text, 0 waits. */
static int look_at(const struct look *k, const struct ty_entry *e, char *text, size_t cap,
                   bool *every_kind)
{
    bool everywhere = true, named_everywhere = e->base != 0;
    const struct ty_entry *other = NULL;
    int other_rank = 0, mine = k->world[k->first];
    char title[160], what[400];

    ty_req_title(e->kind, e->name, title, sizeof title);
    for (int i = 0; i < k->n; i++) {
        const struct ty_entry *x;

        if (k->lists[i].joined || i == k->first)
            continue;
        x = find(&k->by_pairing[i], &k->lists[i], e->pairing);
        if (x && x->digest != e->digest && !other) {
            other = x;
            other_rank = k->world[i];
        }
        if (x)
            continue;
        everywhere = false;
        x = stray(k, i, e);
        if (!x)
            named_everywhere = false;
        else if (!other || other->kind == e->kind) {
            other = x;
            other_rank = k->world[i];
        }
    }
    *every_kind = !everywhere && named_everywhere;
    if (*every_kind) {
        snprintf(
            text, cap,
            "%s failed: mismatched operations: rank %d called %s, rank %d %s for the same name",
            title, mine, ty_coll_kind_name(e->kind), other_rank, ty_coll_kind_name(other->kind));
        return -1;
    }
    if (!everywhere)
        return 0;
    if (other) {
        difference(e, mine, other, other_rank, what, sizeof what);
        snprintf(text, cap, "%s failed: %s; give all ranks the same", title, what);
        return -1;
    }
    if (k->joined >= 0 && (!takes_part_without_data(e->kind) || e->op == TY_COLL_ADASUM)) {
        snprintf(
            text, cap,
            "%s failed: it is not supported with join: rank %d has joined, and can take part in allreduce and "
            "barrier alone",
            title, k->world[k->joined]);
        return -1;
    }
    return 1;
}

static int decide_all(const struct look *k, struct ty_decisions *d)
{
    const struct ty_list *l = &k->lists[k->first];
    char text[900];

    d->at = FAULT("lists.alloc", NULL, calloc((size_t)l->n + 1, sizeof *d->at));
    if (!d->at)
        return -ENOMEM;
    for (int j = 0; j < l->n; j++) {
        bool every_kind = false;
        int r = look_at(k, &l->entry[j], text, sizeof text, &every_kind);
        char *copy = r < 0 ? strdup(text) : NULL;

        if (r < 0 && !copy)
            return -ENOMEM;
        if (r == 0)
            d->waiting++;
        else
            d->at[d->n++] = (struct ty_decision){ &l->entry[j], copy, every_kind };
    }
    return 0;
}

int ty_lists_decide(const struct ty_list *lists, int n, const int *world, struct ty_decisions *ret)
{
    struct look k = { .lists = lists, .world = world, .n = n, .first = -1, .joined = -1 };
    struct ty_decisions d = { .last_joined = -1 };
    int r = 0;

    for (int i = 0; i < n; i++) {
        if (!lists[i].joined && k.first < 0)
            k.first = i;
        if (lists[i].joined && (k.joined < 0 || lists[i].joined_us <= lists[k.joined].joined_us))
            k.joined = i;
    }
    if (k.first < 0) {
        d.last_joined = k.joined;
        *ret = d;
        return 0;
    }
    k.by_pairing = calloc((size_t)n, sizeof *k.by_pairing);
    k.by_base = calloc((size_t)n, sizeof *k.by_base);
    r = k.by_pairing && k.by_base ? index_lists(&k) : -ENOMEM;
    if (r == 0)
        r = decide_all(&k, &d);
    for (int i = 0; i < n && k.by_pairing && k.by_base; i++) {
        ty_map_done(&k.by_pairing[i]);
        ty_map_done(&k.by_base[i]);
    }
    free(k.by_pairing);
    free(k.by_base);
    if (r < 0)
        ty_decisions_done(&d);
    else
        *ret = d;
    return r;
}

void ty_decisions_done(struct ty_decisions *d)
{
    for (int i = 0; i < d->n; i++)
        free(d->at[i].error);
    free(d->at);
    memset(d, 0, sizeof *d);
}

int ty_lists_missing(const struct ty_list *lists, int n, const int *world, uint64_t pairing,
                     int *ranks)
{
    int missing = 0;

    for (int i = 0; i < n; i++) {
        bool has = lists[i].joined;

        for (int j = 0; !has && j < lists[i].n; j++)
            has = lists[i].entry[j].pairing == pairing;
        if (!has)
            ranks[missing++] = world[i];
    }
    return missing;
}
