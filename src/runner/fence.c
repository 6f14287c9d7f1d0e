/* fence.c - joining the blobs of PMIx fences */
#include "runner/fence.h"
#include "base/str.h"
#include "runner/pmix_wire.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct part {
    int node;
    void *blob;
    size_t len;
};

/* The parts stand in the order of their nodes. */
struct fence {
    struct fence *next;
    char key[TY_PMIX_KEY_MAX + 1];
    uint32_t wanted;
    int count;
    size_t bytes;
    struct part parts[]; /* wanted */
};

struct ty_fences {
    int nodes, open;
    struct fence *first;
    struct fence *done; /* what the last call gave; its key and nodes */
    struct ty_str joined;
    int *who;
};

static struct fence *fence_free(struct fence *x)
{
    for (int i = 0; x && i < x->count; i++)
        free(x->parts[i].blob);
    free(x);
    return NULL;
}

struct ty_fences *ty_fences_new(int nodes)
{
    struct ty_fences *f = calloc(1, sizeof *f);

    if (f)
        f->who = calloc((size_t)nodes, sizeof *f->who);
    if (!f || !f->who)
        return ty_fences_free(f);
    f->nodes = nodes;
    return f;
}

/* What the last call gave is no longer needed. */
static void forget(struct ty_fences *f)
{
    f->done = fence_free(f->done);
    ty_str_done(&f->joined);
}

struct ty_fences *ty_fences_free(struct ty_fences *f)
{
    if (!f)
        return NULL;
    forget(f);
    for (struct fence *x = f->first, *next; x; x = next) {
        next = x->next;
        fence_free(x);
    }
    free(f->who);
    free(f);
    return NULL;
}

int ty_fences_open(const struct ty_fences *f)
{
    return f->open;
}

static struct fence **find(struct ty_fences *f, const char *key, size_t n)
{
    struct fence **at = &f->first;

    while (*at && (strncmp((*at)->key, key, n) != 0 || (*at)->key[n] != '\0'))
        at = &(*at)->next;
    return at;
}

/* The fence of this key, a new one at the end of the list when there is none. */
static int obtain(struct ty_fences *f, const char *key, size_t n, uint32_t parts,
                  struct fence ***ret)
{
    struct fence **at = find(f, key, n);

    if (*at && (*at)->wanted != parts)
        return -EINVAL;
    if (!*at) {
        if (f->open >= TY_FENCES_OPEN_MAX)
            return -ENOSPC;
        *at = calloc(1, sizeof **at + parts * sizeof(struct part));
        if (!*at)
            return -ENOMEM;
        memcpy((*at)->key, key, n);
        (*at)->wanted = parts;
        f->open++;
    }
    *ret = at;
    return 0;
}

static int insert(struct fence *x, int node, const void *blob, size_t len)
{
    int at = x->count;
    void *copy;

    for (int i = 0; i < x->count; i++)
        if (x->parts[i].node == node)
            return -EEXIST;
    if (len > TY_FENCES_BYTES_MAX - x->bytes)
        return -ENOSPC;
    copy = malloc(len ? len : 1);
    if (!copy)
        return -ENOMEM;
    if (len)
        memcpy(copy, blob, len);
    for (; at > 0 && x->parts[at - 1].node > node; at--)
        x->parts[at] = x->parts[at - 1];
    x->parts[at] = (struct part){ .node = node, .blob = copy, .len = len };
    x->count++;
    x->bytes += len;
    return 0;
}

static int join(struct ty_fences *f, const struct fence *x, struct ty_fence_joined *ret)
{
    for (int i = 0; i < x->count; i++) {
        ty_str_addn(&f->joined, x->parts[i].blob, x->parts[i].len);
        f->who[i] = x->parts[i].node;
    }
    if (f->joined.failed)
        return -ENOMEM;
    *ret = (struct ty_fence_joined){ .key = x->key,
                                     .nodes = f->who,
                                     .nnodes = x->count,
                                     .blob = f->joined.text ? f->joined.text : "",
                                     .len = f->joined.len };
    return 1;
}

int ty_fences_add(struct ty_fences *f, int node, const char *key, size_t key_len, uint32_t parts,
                  const void *blob, size_t len, struct ty_fence_joined *ret)
{
    struct fence **at;
    int r;

    forget(f);
    if (node < 0 || node >= f->nodes || parts == 0 || parts > (uint32_t)f->nodes || key_len == 0 ||
        key_len > TY_PMIX_KEY_MAX || memchr(key, '\0', key_len))
        return -EINVAL;
    r = obtain(f, key, key_len, parts, &at);
    if (r < 0)
        return r;
    r = insert(*at, node, blob, len);
    if (r < 0 || (uint32_t)(*at)->count < parts)
        return r;
    f->done = *at;
    *at = f->done->next;
    f->open--;
    return join(f, f->done, ret);
}
