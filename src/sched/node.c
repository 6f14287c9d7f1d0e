/* node.c - what machines have, and what is held of it */
#include "sched/node.h"
#include "base/conf.h"
#include "base/gpu.h"
#include "base/str.h"
#include "sched/ask.h"
#include "sched/sched_internal.h"
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#define SLOTS_MAX 65536
#define MUCH (1LL << 40) /* of what nobody has counted */

static char *setting_of(const char *key)
{
    return ty_strf(NODE_SETTING "%s", key);
}

/* ---- the table ---- */

struct node *node_find(struct ty_sched *s, const char *key)
{
    struct node *n;

    HASH_FIND_STR(s->nodes, key, n);
    return n;
}

static void forget_gpus(struct node *n)
{
    for (int i = 0; i < n->ngpus; i++) {
        free(n->gpus[i].id);
        json_decref(n->gpus[i].info);
    }
    free(n->gpus);
}

static void node_free(struct node *n)
{
    forget_gpus(n);
    ty_target_spec_free(n->probe_spec);
    json_decref(n->facts);
    free(n->trouble);
    free(n->asker);
    free(n->runs_of_slot);
    free(n->cpu_of_slot);
    free(n->key);
    free(n->name);
    free(n);
}

static struct node *node_new(struct ty_sched *s, char *key, const char *name)
{
    struct node *n = calloc(1, sizeof *n);

    if (!n || !key || !(n->name = strdup(name))) {
        free(key);
        free(n);
        return NULL;
    }
    n->sched = s;
    n->key = key;
    HASH_ADD_KEYPTR(hh, s->nodes, n->key, strlen(n->key), n);
    return n;
}

static bool is_held(const struct node *n)
{
    bool held = n->cpus_used > 0 || n->memory_used_mb > 0;

    for (int i = 0; i < n->ngpus; i++)
        held |= n->gpus[i].runs > 0;
    return held;
}

static void drop_if_unused(struct node *n)
{
    struct ty_sched *s = n->sched;

    if (n->targets > 0 || is_held(n))
        return;
    node_stop_asking(n);
    HASH_DEL(s->nodes, n);
    node_free(n);
}

void node_unuse(struct node *n)
{
    n->targets--;
    drop_if_unused(n);
}

void nodes_close(struct ty_sched *s)
{
    struct node *n, *next;

    HASH_ITER (hh, s->nodes, n, next) {
        HASH_DEL(s->nodes, n);
        node_free(n);
    }
    s->box = NULL;
}

/* ---- what a node has ---- */

/* So many slots; what is held of those that stay is kept. */
static int set_slots(struct node *n, int cpus)
{
    int *runs;

    cpus = cpus < 1 ? 1 : cpus > SLOTS_MAX ? SLOTS_MAX : cpus;
    runs = calloc((size_t)cpus, sizeof *runs);
    if (!runs)
        return -ENOMEM;
    for (int i = 0; i < cpus && i < n->cpus; i++)
        runs[i] = n->runs_of_slot[i];
    free(n->runs_of_slot);
    n->runs_of_slot = runs;
    n->cpus = cpus;
    return 0;
}

/* numbers: of the CPUs that are there; taken over.  Where there are more slots than CPUs, slots are no CPUs. */
static void set_numbers(struct node *n, int *numbers, int count)
{
    free(n->cpu_of_slot);
    n->cpu_of_slot = numbers;
    if (n->cpus > count) {
        free(numbers);
        n->cpu_of_slot = NULL;
    }
}

static struct gpu_slot *gpu_find(struct node *n, const char *id)
{
    for (int i = 0; i < n->ngpus; i++)
        if (strcmp(n->gpus[i].id, id) == 0)
            return &n->gpus[i];
    return NULL;
}

/* Seen on the machine; `info` is taken over. */
static int gpu_seen(struct node *n, const char *id, json_t *info)
{
    struct gpu_slot *g = gpu_find(n, id);
    void *more;

    if (!g) {
        more = realloc(n->gpus, ((size_t)n->ngpus + 1) * sizeof *n->gpus);
        if (more)
            n->gpus = more;
        if (!more || !(n->gpus[n->ngpus].id = strdup(id))) {
            json_decref(info);
            return -ENOMEM;
        }
        g = &n->gpus[n->ngpus++];
        g->info = NULL;
        g->runs = 0;
    }
    json_decref(g->info);
    g->info = info;
    g->there = true;
    return 0;
}

static void gpus_gone(struct node *n)
{
    for (int i = 0; i < n->ngpus; i++)
        n->gpus[i].there = false;
}

int node_gpus(const struct node *n)
{
    int there = 0;

    for (int i = 0; i < n->ngpus; i++)
        there += n->gpus[i].there;
    return there;
}

/* ---- this box ---- */

/* Another number for other GPUs that are there: none is ever taken out of the table. */
static uint64_t which_gpus(const struct node *n)
{
    uint64_t which = 0;

    for (int i = 0; i < n->ngpus; i++)
        which = which * 31 + (n->gpus[i].there ? (uint64_t)i + 1 : 0);
    return which;
}

bool node_look_for_gpus(struct ty_sched *s)
{
    uint64_t before = which_gpus(s->box);
    struct ty_gpu *gpus = NULL;
    int n = 0;

    if (ty_target_gpu_list(&gpus, &n) < 0)
        return false; /* what is known stays */
    gpus_gone(s->box);
    for (int i = 0; i < n; i++) {
        char index[16];

        snprintf(index, sizeof index, "%d", gpus[i].index);
        gpu_seen(s->box, *gpus[i].uuid ? gpus[i].uuid : index,
                 json_pack("{s:i s:s s:s s:I}", "index", gpus[i].index, "uuid", gpus[i].uuid,
                           "name", gpus[i].name, "memory_mb", (json_int_t)gpus[i].memory_mb));
    }
    free(gpus);
    return which_gpus(s->box) != before;
}

/* The CPUs that this process may use. */
static int *own_cpus(int *count)
{
    cpu_set_t set;
    int *numbers = calloc(CPU_SETSIZE, sizeof *numbers);

    *count = 0;
    CPU_ZERO(&set);
    if (!numbers || sched_getaffinity(0, sizeof set, &set) < 0)
        return numbers;
    for (int i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &set))
            numbers[(*count)++] = i;
    return numbers;
}

int nodes_open(struct ty_sched *s, struct ty_error *err)
{
    char host[256] = "localhost";
    struct utsname system = { 0 };
    int cpus = (int)ty_conf_number(s->o.conf, "sched.cpus"), count, *numbers;

    gethostname(host, sizeof host - 1);
    uname(&system);
    s->box = node_new(s, strdup(""), host);
    if (!s->box)
        return ty_error_oom(err);
    s->box->targets = 1; /* it never goes */
    s->box->known = true;
    s->box->memory_mb = ty_conf_number(s->o.conf, "sched.memory_mb");
    if (s->box->memory_mb <= 0)
        s->box->memory_mb = ty_target_memory_mb();
    if (set_slots(s->box, cpus > 0 ? cpus : ty_target_cpus()) < 0 || !(numbers = own_cpus(&count)))
        return ty_error_oom(err);
    set_numbers(s->box, numbers, count);
    s->box->facts = json_pack("{s:s s:s s:i s:I}", "hostname", host, "arch", system.machine, "cpus",
                              count, "memory_mb", (json_int_t)ty_target_memory_mb());
    node_look_for_gpus(s);
    return 0;
}

/* ---- hosts ---- */

static int64_t fact(const struct node *n, const char *key, int64_t otherwise)
{
    const json_t *v = json_object_get(n->facts, key);

    return json_is_integer(v) && json_integer_value(v) > 0 ? json_integer_value(v) : otherwise;
}

/* The facts name the CPUs where they are not simply the first ones. */
static int set_host_numbers(struct node *n)
{
    const json_t *list = json_object_get(n->facts, "cpu_set");
    int count = (int)(json_is_array(list) ? (int64_t)json_array_size(list) : fact(n, "cpus", 0));
    int *numbers = calloc((size_t)count + 1, sizeof *numbers);

    if (!numbers)
        return -ENOMEM;
    for (int i = 0; i < count; i++)
        numbers[i] =
            json_is_array(list) ? (int)json_integer_value(json_array_get(list, (size_t)i)) : i;
    set_numbers(n, numbers, count);
    return 0;
}

/* So many, whatever was found: those that were found come first. */
static int set_host_gpus(struct node *n, int said)
{
    const json_t *gpu;
    char index[16];
    size_t i;
    int r = 0, count = 0;

    gpus_gone(n);
    json_array_foreach (json_object_get(n->facts, "gpus"), i, gpu) {
        const char *uuid = json_string_value(json_object_get(gpu, "uuid"));

        if (said >= 0 && count >= said)
            break;
        snprintf(index, sizeof index, "%lld",
                 (long long)json_integer_value(json_object_get(gpu, "index")));
        if (r == 0)
            r = gpu_seen(n, uuid && *uuid ? uuid : index, json_deep_copy(gpu));
        count++;
    }
    for (; count < said && r == 0; count++) {
        snprintf(index, sizeof index, "%d", count);
        r = gpu_seen(n, index, json_pack("{s:i}", "index", count));
    }
    return r;
}

int node_learn(struct node *n, json_t *facts, const struct ty_host *host)
{
    int r;

    if (facts) {
        json_incref(facts);
        json_decref(n->facts);
        n->facts = facts;
    }
    n->known = n->facts || host->cpus > 0;
    n->memory_mb = host->memory_mb > 0 ? host->memory_mb : fact(n, "memory_mb", 0);
    r = set_slots(n, host->cpus > 0 ? host->cpus : (int)fact(n, "cpus", 1));
    if (r == 0)
        r = set_host_numbers(n);
    return r == 0 ? set_host_gpus(n, host->gpus) : r;
}

/* What an earlier daemon was told. */
static void recall(struct node *n)
{
    CLEANUP_FREE char *setting = setting_of(n->key);
    CLEANUP_FREE char *text = NULL;
    struct ty_error none = { 0 };

    if (setting && ty_store_setting(n->sched->o.store, setting, &text) == 0)
        ty_json_parse(text, strlen(text), &n->facts, &none);
}

struct node *node_keep(struct ty_sched *s, const char *key)
{
    struct node *n = node_new(s, strdup(key), key);

    if (n && set_slots(n, 1) < 0) {
        drop_if_unused(n);
        return NULL;
    }
    return n;
}

static int rename_to(struct node *n, const char *name)
{
    char *fresh = strcmp(n->name, name) == 0 ? n->name : strdup(name);

    if (!fresh)
        return -ENOMEM;
    if (fresh != n->name)
        free(n->name);
    n->name = fresh;
    return 0;
}

struct node *node_use(struct ty_sched *s, const struct ty_host *host)
{
    CLEANUP_FREE char *key = ty_host_key(host);
    struct node *n = key ? node_find(s, key) : NULL;

    if (n && n->targets == 0 && rename_to(n, host->host) < 0)
        return NULL;

    if (key && !n && (n = node_new(s, strdup(key), host->host)))
        recall(n);
    if (!n)
        return NULL;
    n->targets++;
    if (node_learn(n, NULL, host) < 0) {
        node_unuse(n);
        return NULL;
    }
    return n;
}

/* ---- holding ---- */

struct plan_node node_plan(const struct node *n)
{
    struct plan_node p = { .all = { n->cpus, node_gpus(n), n->memory_mb },
                           .used = { n->cpus_used, 0, n->memory_used_mb },
                           .up = !n->trouble };

    if (!n->known)
        p.all.cpus = n->cpus_used > 0 ? n->cpus_used : MUCH;
    if (n->memory_mb == 0)
        p.all.memory_mb = MUCH;
    for (int i = 0; i < n->ngpus; i++)
        p.used.gpus += n->gpus[i].runs > 0 && n->gpus[i].there;
    return p;
}

static int hold_new(struct node *n, int slots, int gpus, struct hold *ret)
{
    *ret = (struct hold){ .node = n,
                          .slots = calloc((size_t)slots + 1, sizeof *ret->slots),
                          .gpus = calloc((size_t)gpus + 1, sizeof *ret->gpus) };
    if (ret->slots && ret->gpus)
        return 0;
    free(ret->slots);
    free(ret->gpus);
    return -ENOMEM;
}

static void hold_slot(struct hold *h, int slot)
{
    if (slot >= 0 && slot < h->node->cpus)
        h->node->runs_of_slot[slot]++;
    h->slots[h->nslots++] = slot;
    h->node->cpus_used++;
}

static void hold_gpu(struct hold *h, int gpu)
{
    h->node->gpus[gpu].runs++;
    h->gpus[h->ngpus++] = gpu;
}

/* The slots that fewest runs hold, in order. */
static void hold_slots(struct hold *h, int64_t wanted)
{
    for (int runs = 0; h->nslots < wanted; runs++) {
        for (int i = 0; i < h->node->cpus && h->nslots < wanted; i++)
            if (h->node->runs_of_slot[i] == runs)
                hold_slot(h, i);
        if (runs > h->node->cpus_used) /* more than there are */
            break;
    }
}

int node_take(struct node *n, const struct plan_room *room, struct hold *ret)
{
    int r = hold_new(n, (int)room->cpus, n->ngpus, ret);

    if (r < 0)
        return r;
    hold_slots(ret, room->cpus);
    for (int i = 0; i < n->ngpus && ret->ngpus < room->gpus; i++)
        if (n->gpus[i].there && n->gpus[i].runs == 0)
            hold_gpu(ret, i);
    ret->memory_mb = room->memory_mb;
    n->memory_used_mb += room->memory_mb;
    return 0;
}

int node_take_again(struct node *n, const json_t *slots, const json_t *gpus, int64_t memory_mb,
                    struct hold *ret)
{
    int r = hold_new(n, (int)json_array_size(slots), (int)json_array_size(gpus), ret);
    const json_t *v;
    size_t i;

    if (r < 0)
        return r;
    json_array_foreach (slots, i, v)
        hold_slot(ret, (int)json_integer_value(v));
    json_array_foreach (gpus, i, v) {
        const char *id = json_string_value(v);

        if (!id)
            continue;
        if (!gpu_find(n, id)) { /* not there now: nobody else gets it when it is back */
            r = gpu_seen(n, id, json_object());
            if (r < 0)
                break;
            gpu_find(n, id)->there = false;
        }
        hold_gpu(ret, (int)(gpu_find(n, id) - n->gpus));
    }
    ret->memory_mb = memory_mb;
    n->memory_used_mb += memory_mb;
    if (r < 0)
        node_give(ret);
    return r;
}

void node_give(struct hold *h)
{
    struct node *n = h->node;

    for (int i = 0; i < h->nslots; i++)
        if (h->slots[i] >= 0 && h->slots[i] < n->cpus && n->runs_of_slot[h->slots[i]] > 0)
            n->runs_of_slot[h->slots[i]]--;
    n->cpus_used -= h->nslots;
    n->memory_used_mb -= h->memory_mb;
    for (int i = 0; i < h->ngpus; i++)
        n->gpus[h->gpus[i]].runs--;
    free(h->slots);
    free(h->gpus);
    *h = (struct hold){ 0 };
    drop_if_unused(n);
}
