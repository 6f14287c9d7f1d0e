/* pmix_layout.c - the layout of a job in the words of PMIx */
#include "runner/pmix_layout.h"
#include "base/error.h"
#include "base/json.h"
#include "base/str.h"
#include "runner/pmix_lib.h"
#include "runner/pmix_wire.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define SETUP "the set-up of the PMIx helper"
#define RANKS_MAX 65536
#define NODES_MAX 10000

void ty_pmix_layout_done(struct ty_pmix_layout *l)
{
    for (int i = 0; i < l->nnodes; i++)
        free(l->nodes[i].name);
    free(l->nodes);
    free(l->name_space);
    free(l->tmp);
    free(l->shm);
    *l = (struct ty_pmix_layout){ 0 };
}

static int read_node(struct ty_pmix_layout *l, const json_t *o, struct ty_error *err)
{
    struct ty_pmix_place *p = &l->nodes[l->nnodes];
    const char *name = NULL;
    int64_t ranks = -1;

    if (ty_json_get_str(o, "a node of " SETUP, "name", &name, err) < 0 ||
        ty_json_get_i64(o, "a node of " SETUP, "ranks", 1, RANKS_MAX - l->size, &ranks, err) < 0)
        return -EINVAL;
    /* Lists of names are given to the library as text. */
    if (!name || !*name || strpbrk(name, ",;") || ranks < 0)
        return ty_error_set(err, -EINVAL, "a node of " SETUP " has no name or no ranks");
    p->name = strdup(name);
    if (!p->name)
        return ty_error_oom(err);
    p->first = l->size;
    p->ranks = (uint32_t)ranks;
    l->size += p->ranks;
    l->nnodes++;
    return 0;
}

static int read_nodes(struct ty_pmix_layout *l, const json_t *list, struct ty_error *err)
{
    size_t n = json_array_size(list), i;
    json_t *o;

    if (n == 0 || n > NODES_MAX)
        return ty_error_set(err, -EINVAL, SETUP " has no nodes, or more than %d", NODES_MAX);
    l->nodes = calloc(n, sizeof *l->nodes);
    if (!l->nodes)
        return ty_error_oom(err);
    json_array_foreach (list, i, o) {
        int r = read_node(l, o, err);

        if (r < 0)
            return r;
    }
    return 0;
}

static int read_setup(const json_t *o, struct ty_pmix_layout *l, struct ty_error *err)
{
    const char *name_space = NULL, *tmp = NULL, *shm = "";
    int64_t protocol = 0, node = -1;
    int r = read_nodes(l, json_object_get(o, "nodes"), err);

    if (r < 0)
        return r;
    if (ty_json_get_i64(o, SETUP, "protocol", 1, INT32_MAX, &protocol, err) < 0 ||
        ty_json_get_str(o, SETUP, "namespace", &name_space, err) < 0 ||
        ty_json_get_str(o, SETUP, "tmp", &tmp, err) < 0 ||
        ty_json_get_str(o, SETUP, "shm", &shm, err) < 0 ||
        ty_json_get_i64(o, SETUP, "cpus", 0, INT32_MAX, &l->cpus, err) < 0 ||
        ty_json_get_i64(o, SETUP, "node", 0, l->nnodes - 1, &node, err) < 0)
        return -EINVAL;
    if (protocol != TY_PMIX_PROTOCOL)
        return ty_error_set(err, -EPROTO, SETUP " is of protocol %lld, and this agent speaks %d",
                            (long long)protocol, TY_PMIX_PROTOCOL);
    if (!name_space || !*name_space || strlen(name_space) > PMIX_MAX_NSLEN || !tmp || *tmp != '/' ||
        node < 0)
        return ty_error_set(err, -EINVAL, SETUP " lacks its namespace, its folder or its node");
    l->node = (int)node;
    l->name_space = strdup(name_space);
    l->tmp = strdup(tmp);
    l->shm = strdup(shm);
    return l->name_space && l->tmp && l->shm ? 0 : ty_error_oom(err);
}

int ty_pmix_layout_read(const char *json, size_t n, struct ty_pmix_layout *ret,
                        struct ty_error *err)
{
    CLEANUP_JSON json_t *o = NULL;
    struct ty_pmix_layout l = { 0 };
    int r = ty_json_parse(json, n, &o, err);

    if (r == 0)
        r = read_setup(o, &l, err);
    if (r < 0) {
        ty_pmix_layout_done(&l);
        return r;
    }
    *ret = l;
    return 0;
}

int ty_pmix_layout_node_of(const struct ty_pmix_layout *l, uint32_t rank)
{
    int low = 0, high = l->nnodes - 1;

    if (rank >= l->size)
        return -1;
    while (low < high) {
        int mid = (low + high + 1) / 2;

        if (l->nodes[mid].first <= rank)
            low = mid;
        else
            high = mid - 1;
    }
    return low;
}

/* ---- infos ---- */

static pmix_value_t *add(struct ty_pmix_infos *s, const char *key, pmix_data_type_t type)
{
    if (s->n == s->cap) {
        size_t cap = s->cap ? 2 * s->cap : 16;
        pmix_info_t *v = s->failed ? NULL : realloc(s->v, cap * sizeof *v);

        if (!v) {
            s->failed = true;
            return NULL;
        }
        s->v = v;
        s->cap = cap;
    }
    s->v[s->n] = (pmix_info_t){ .value.type = type };
    snprintf(s->v[s->n].key, sizeof s->v[s->n].key, "%s", key);
    return &s->v[s->n++].value;
}

void ty_pmix_add_text(struct ty_pmix_infos *s, const char *key, const char *text)
{
    pmix_value_t *v = text ? add(s, key, PMIX_STRING) : NULL;

    if (v)
        v->data.string = strdup(text);
    if (!v || !v->data.string)
        s->failed = true;
}

void ty_pmix_add_u32(struct ty_pmix_infos *s, const char *key, uint32_t n)
{
    pmix_value_t *v = add(s, key, PMIX_UINT32);

    if (v)
        v->data.uint32 = n;
}

static void add_u16(struct ty_pmix_infos *s, const char *key, uint32_t n)
{
    pmix_value_t *v = add(s, key, PMIX_UINT16);

    if (v)
        v->data.uint16 = (uint16_t)n;
}

/* A long map is compressed and holds NULs: only the library knows where it ends.  Takes *map. */
static void add_map(struct ty_pmix_infos *s, const char *key, char **map)
{
    pmix_value_t *v = add(s, key, PMIX_REGEX);

    if (v) {
        v->data.bo.size = strlen(*map);
        v->data.bo.bytes = TAKE(*map);
    }
}

static void add_rank(struct ty_pmix_infos *s, const char *key, uint32_t rank)
{
    pmix_value_t *v = add(s, key, PMIX_PROC_RANK);

    if (v)
        v->data.rank = rank;
}

static void add_true(struct ty_pmix_infos *s, const char *key)
{
    pmix_value_t *v = add(s, key, PMIX_BOOL);

    if (v)
        v->data.flag = true;
}

/* Takes what `inner` has. */
static void add_array(struct ty_pmix_infos *s, const char *key, struct ty_pmix_infos *inner)
{
    pmix_value_t *v = add(s, key, PMIX_DATA_ARRAY);
    pmix_data_array_t *a = v ? calloc(1, sizeof *a) : NULL;

    if (!a || inner->failed) {
        free(a);
        ty_pmix_infos_done(inner);
        s->failed = true;
        return;
    }
    *a = (pmix_data_array_t){ .type = PMIX_INFO, .size = inner->n, .array = inner->v };
    v->data.darray = a;
    *inner = (struct ty_pmix_infos){ 0 };
}

static void array_free(pmix_data_array_t *a)
{
    if (a) {
        struct ty_pmix_infos inner = { .v = a->array, .n = a->size };

        ty_pmix_infos_done(&inner);
    }
    free(a);
}

void ty_pmix_infos_done(struct ty_pmix_infos *s)
{
    for (size_t i = 0; i < s->n; i++) {
        pmix_value_t *v = &s->v[i].value;

        if (v->type == PMIX_STRING)
            free(v->data.string);
        else if (v->type == PMIX_REGEX)
            free(v->data.bo.bytes);
        else if (v->type == PMIX_DATA_ARRAY)
            array_free(v->data.darray);
    }
    free(s->v);
    *s = (struct ty_pmix_infos){ 0 };
}

/* ---- the job ---- */

/* Names of the nodes, and their ranks ("0,1;2,3": a range counts as one rank), in the library's own compressed form. */
static int add_maps(const struct ty_pmix_layout *l, const struct ty_pmix_lib *lib,
                    struct ty_pmix_infos *s, struct ty_error *err)
{
    CLEANUP_STR struct ty_str names = { 0 }, ranks = { 0 };
    CLEANUP_FREE char *node_map = NULL, *proc_map = NULL;

    for (int i = 0; i < l->nnodes; i++) {
        const struct ty_pmix_place *p = &l->nodes[i];

        ty_str_addf(&names, "%s%s", i ? "," : "", p->name);
        for (uint32_t k = 0; k < p->ranks; k++)
            ty_str_addf(&ranks, "%s%u", k ? "," : i ? ";" : "", p->first + k);
    }
    if (names.failed || ranks.failed)
        return ty_error_oom(err);
    if (lib->generate_regex(names.text, &node_map) != PMIX_SUCCESS ||
        lib->generate_ppn(ranks.text, &proc_map) != PMIX_SUCCESS)
        return ty_error_set(err, -EIO, "libpmix cannot describe the %d nodes of the job",
                            l->nnodes);
    add_map(s, PMIX_NODE_MAP, &node_map);
    add_map(s, PMIX_PROC_MAP, &proc_map);
    return 0;
}

static void add_job(const struct ty_pmix_layout *l, struct ty_pmix_infos *s)
{
    const struct ty_pmix_place *here = &l->nodes[l->node];
    CLEANUP_STR struct ty_str peers = { 0 };

    for (uint32_t i = 0; i < here->ranks; i++)
        ty_str_addf(&peers, "%s%u", i ? "," : "", here->first + i);
    ty_pmix_add_text(s, PMIX_JOBID, l->name_space);
    ty_pmix_add_u32(s, PMIX_UNIV_SIZE, l->size);
    ty_pmix_add_u32(s, PMIX_JOB_SIZE, l->size);
    ty_pmix_add_u32(s, PMIX_MAX_PROCS, l->size);
    ty_pmix_add_u32(s, PMIX_JOB_NUM_APPS, 1);
    ty_pmix_add_u32(s, PMIX_APP_SIZE, l->size);
    ty_pmix_add_u32(s, PMIX_NUM_NODES, (uint32_t)l->nnodes);
    ty_pmix_add_u32(s, PMIX_LOCAL_SIZE, here->ranks);
    ty_pmix_add_u32(s, PMIX_NODE_SIZE, here->ranks);
    ty_pmix_add_text(s, PMIX_LOCAL_PEERS, peers.failed ? NULL : peers.text);
    add_rank(s, PMIX_LOCALLDR, here->first);
    add_rank(s, PMIX_NPROC_OFFSET, 0);
    ty_pmix_add_text(s, PMIX_TMPDIR, l->tmp);
    ty_pmix_add_text(s, PMIX_NSDIR, l->tmp);
    add_true(s, PMIX_TDIR_RMCLEAN);
}

static void add_proc(const struct ty_pmix_layout *l, int node, uint32_t local,
                     struct ty_pmix_infos *s)
{
    const struct ty_pmix_place *p = &l->nodes[node];
    uint32_t rank = p->first + local;
    struct ty_pmix_infos inner = { 0 };

    add_rank(&inner, PMIX_RANK, rank); /* must be the first */
    add_rank(&inner, PMIX_GLOBAL_RANK, rank);
    add_rank(&inner, PMIX_APP_RANK, rank);
    ty_pmix_add_u32(&inner, PMIX_APPNUM, 0);
    add_u16(&inner, PMIX_LOCAL_RANK, local);
    add_u16(&inner, PMIX_NODE_RANK, local);
    ty_pmix_add_u32(&inner, PMIX_NODEID, (uint32_t)node);
    ty_pmix_add_text(&inner, PMIX_HOSTNAME, p->name);
    add_array(s, PMIX_PROC_DATA, &inner);
}

int ty_pmix_layout_infos(const struct ty_pmix_layout *l, const struct ty_pmix_lib *lib,
                         struct ty_pmix_infos *ret, struct ty_error *err)
{
    struct ty_pmix_infos s = { 0 };
    int r;

    add_job(l, &s);
    r = add_maps(l, lib, &s, err);
    for (int node = 0; node < l->nnodes; node++)
        for (uint32_t i = 0; i < l->nodes[node].ranks; i++)
            add_proc(l, node, i, &s);
    if (r == 0 && s.failed)
        r = ty_error_oom(err);
    if (r < 0) {
        ty_pmix_infos_done(&s);
        return r;
    }
    *ret = s;
    return 0;
}
