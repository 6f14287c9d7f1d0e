/* model.c - the event loop: one event for the head of each segment (or chunk, with racks) at each place that can be busy */
#include "model.h"
#include "coll/exec.h"
#include <math.h>
#include <stdlib.h>

#define ELEMENT 4         /* float32 */
#define CHUNK (256 << 10) /* segments that meet at a place share it in pieces of this size */

enum place { UPLINK, DOWNLINK, RECEIVER };

struct event {
    double time; /* when its head is at the place */
    double sent; /* when its tail has left the place before */
    int place, from, to;
    int step, segment;
    uint32_t bytes;
    bool first, last; /* chunk of its segment */
};
/* A segment that has arrived, or is arriving. */
struct arrival {
    struct arrival *next;
    int step, segment;
    double begin, end;
    bool whole;
};
struct node {
    double now, sender_free, receiver_free, bandwidth;
    double tokens, filled; /* the bucket, and when that was in it */
    int step, segment;
    struct ty_step what;
    int64_t sends, receives; /* bytes of the whole step */
    double sent;             /* when this exchange's segment has left */
    bool waits, done;
    struct arrival *arrived, **end;
};
struct sim {
    const struct sim_net *net;
    enum ty_plan_kind kind;
    int nodes, steps;
    int64_t count, segment;
    struct node *node;
    double *up, *down; /* when the uplink of each rack is free, in each direction */
    struct event *heap;
    size_t events, room;
    struct arrival *spare;
    uint64_t random;
    bool failed;
};

/* ---- events, the earliest first ---- */

static void push(struct sim *s, struct event e)
{
    if (s->events == s->room) {
        size_t room = s->room ? s->room * 2 : 1024;
        struct event *heap = realloc(s->heap, room * sizeof *heap);

        if (!heap) {
            s->failed = true;
            return;
        }
        s->heap = heap;
        s->room = room;
    }
    size_t at = s->events++;

    for (; at && s->heap[(at - 1) / 2].time > e.time; at = (at - 1) / 2)
        s->heap[at] = s->heap[(at - 1) / 2];
    s->heap[at] = e;
}

static struct event pop(struct sim *s)
{
    struct event top = s->heap[0], last = s->heap[--s->events];
    size_t at = 0;

    for (;;) {
        size_t child = 2 * at + 1;

        if (child >= s->events)
            break;
        if (child + 1 < s->events && s->heap[child + 1].time < s->heap[child].time)
            child++;
        if (s->heap[child].time >= last.time)
            break;
        s->heap[at] = s->heap[child];
        at = child;
    }
    s->heap[at] = last;
    return top;
}

static double uniform(struct sim *s)
{
    s->random = s->random * 6364136223846793005u + 1442695040888963407u;
    return ((double)(s->random >> 11) + 0.5) / 9007199254740992.0;
}

/* ---- what a node does ---- */

static int64_t part_of(int64_t whole, int64_t at, int64_t most)
{
    return at >= whole ? 0 : whole - at < most ? whole - at : most;
}

static int rack_of(const struct sim *s, int node)
{
    return s->net->rack ? node / s->net->rack : 0;
}

/* How many of the bytes that a node begins to send leave at once. */
static double take_tokens(const struct sim *s, struct node *n, double begin, double bytes)
{
    double there = fmin(s->net->burst, n->tokens + (begin - n->filled) * n->bandwidth);
    double ret = fmin(there, bytes);

    n->tokens = there - ret;
    n->filled = begin + (bytes - ret) /
                            n->bandwidth; /* while it sends, what comes into the bucket leaves it */
    return ret;
}

static void send_segment(struct sim *s, int from, int64_t bytes)
{
    struct node *n = &s->node[from];
    double begin = fmax(n->now, n->sender_free);
    double alpha = s->net->alpha - (s->net->jitter > 0 ? s->net->jitter * log(uniform(s)) : 0);
    bool leaves = rack_of(s, from) != rack_of(s, n->what.to);

    double at_once = take_tokens(s, n, begin, (double)bytes);

    n->sent = n->sender_free = begin + ((double)bytes - at_once) / n->bandwidth;
    for (int64_t at = 0; at < bytes; at += CHUNK) {
        int64_t len = part_of(bytes, at, CHUNK);

        push(s, (struct event){
                    .time = begin + alpha + fmax((double)at - at_once, 0) / n->bandwidth,
                    .sent = begin + alpha + fmax((double)(at + len) - at_once, 0) / n->bandwidth,
                    .place = leaves ? UPLINK : RECEIVER,
                    .from = from,
                    .to = n->what.to,
                    .step = n->step,
                    .segment = n->segment,
                    .bytes = (uint32_t)len,
                    .first = at == 0,
                    .last = at + len == bytes });
    }
}

/* This exchange's segment has come (bytes 0: none is expected): add it, and go on to the next. */
static void finish_exchange(struct sim *s, struct node *n, int64_t bytes, double begin, double end)
{
    const struct sim_net *net = s->net;

    if (bytes && n->what.use == TY_STEP_REDUCE && net->reduce > 0) {
        double takes = (double)bytes / net->reduce;
        double tail = (double)part_of(bytes, 0, (int64_t)net->part) / net->reduce;

        /* Whole buffers are exchanged: nothing may be added before it has been sent, so nothing early. */
        if (net->part == 0 || n->what.send[0].at == n->what.recv[0].at)
            n->now = fmax(n->now, end) + takes;
        else
            n->now = fmax(fmax(n->now, begin) + takes, end + tail);
    } else if (bytes)
        n->now = fmax(n->now, end);
    n->now = fmax(n->now, n->sent);
    n->segment++;
}

static bool next_step(struct sim *s, int rank)
{
    struct node *n = &s->node[rank];
    struct ty_plan p = { .kind = s->kind, .rank = rank, .n = s->nodes, .count = s->count };

    if (++n->step == s->steps)
        return false;
    n->segment = 0;
    ty_plan_step(&p, n->step, &n->what);
    n->sends = n->what.to < 0 ? 0 : (n->what.send[0].count + n->what.send[1].count) * ELEMENT;
    n->receives = n->what.from < 0 ? 0 : (n->what.recv[0].count + n->what.recv[1].count) * ELEMENT;
    return true;
}

/* Where the arrival of a segment stands in the node's list; its end if it does not. */
static struct arrival **find(struct node *n, int step, int segment)
{
    struct arrival **a = &n->arrived;

    while (*a && ((*a)->step != step || (*a)->segment != segment))
        a = &(*a)->next;
    return a;
}

static bool take(struct sim *s, struct node *n, double *begin, double *end)
{
    struct arrival **at = find(n, n->step, n->segment), *a = *at;

    if (!a || !a->whole)
        return false;
    *begin = a->begin;
    *end = a->end;
    if (!(*at = a->next))
        n->end = at;
    a->next = s->spare;
    s->spare = a;
    return true;
}

/* Run a node until it waits for a segment or is done. */
static void advance(struct sim *s, int rank)
{
    struct node *n = &s->node[rank];

    for (;;) {
        int64_t at = n->segment * s->segment;

        if (!n->waits) {
            if (at >= n->sends && at >= n->receives) {
                if (!next_step(s, rank)) {
                    n->done = true;
                    return;
                }
                continue;
            }
            n->sent = n->now;
            if (at < n->sends)
                send_segment(s, rank, part_of(n->sends, at, s->segment));
        }
        int64_t bytes = part_of(n->receives, at, s->segment);
        double begin = 0, end = 0;

        n->waits = bytes && !take(s, n, &begin, &end);
        if (n->waits)
            return;
        finish_exchange(s, n, bytes, begin, end);
    }
}

/* ---- what the network does ---- */

/* Pass a place: when the tail has left it.  What comes slower than the place could take it leaves room for others. */
static double pass(double *free, double bandwidth, const struct event *e, double *begin)
{
    *begin = fmax(e->time, *free);
    *free = *begin + e->bytes / bandwidth;
    return fmax(*free, e->sent);
}

static struct arrival *new_arrival(struct sim *s)
{
    struct arrival *a = s->spare;

    if (a)
        s->spare = a->next;
    else if (!(a = malloc(sizeof *a)))
        s->failed = true;
    return a;
}

static void arrive(struct sim *s, const struct event *e)
{
    struct node *n = &s->node[e->to];
    double begin, end = pass(&n->receiver_free,
                             s->net->receive > 0 ? s->net->receive : n->bandwidth, e, &begin);
    struct arrival *a;

    if (e->first) {
        if (!(a = new_arrival(s)))
            return;
        *a = (struct arrival){ .step = e->step, .segment = e->segment, .begin = begin };
        *n->end = a;
        n->end = &a->next;
    } else
        a = *find(n, e->step, e->segment);
    if (!e->last)
        return;
    a->end = end;
    a->whole = true;
    if (n->waits)
        advance(s, e->to);
}

static void happen(struct sim *s, struct event e)
{
    double uplink = s->net->rack * s->net->bandwidth / fmax(s->net->oversubscription, 1e-9), begin;

    switch ((enum place)e.place) {
    case UPLINK:
        e.sent = pass(&s->up[rack_of(s, e.from)], uplink, &e, &begin);
        break;
    case DOWNLINK:
        e.sent = pass(&s->down[rack_of(s, e.to)], uplink, &e, &begin);
        break;
    case RECEIVER:
    default:
        arrive(s, &e);
        return;
    }
    e.time = begin;
    e.place++;
    push(s, e);
}

static bool set_up(struct sim *s)
{
    size_t racks = (size_t)rack_of(s, s->nodes - 1) + 1;

    s->node = calloc((size_t)s->nodes, sizeof *s->node);
    s->up = calloc(racks, sizeof *s->up);
    s->down = calloc(racks, sizeof *s->down);
    if (!s->node || !s->up || !s->down)
        return false;
    for (int i = 0; i < s->nodes; i++) {
        struct node *n = &s->node[i];
        bool slow = s->net->slow_share > 0 && uniform(s) < s->net->slow_share;

        n->bandwidth = s->net->bandwidth / (slow ? s->net->slow_factor : 1);
        n->tokens = s->net->burst;
        n->end = &n->arrived;
        n->step = -1;
    }
    return true;
}

static void free_arrivals(struct arrival *a)
{
    while (a) {
        struct arrival *next = a->next;

        free(a);
        a = next;
    }
}

static void take_down(struct sim *s)
{
    for (int i = 0; s->node && i < s->nodes; i++)
        free_arrivals(s->node[i].arrived);
    free_arrivals(s->spare);
    free(s->node);
    free(s->up);
    free(s->down);
    free(s->heap);
}

double sim_allreduce(const struct sim_net *net, enum ty_plan_kind kind, int nodes, int64_t bytes)
{
    struct sim s = { .net = net,
                     .kind = kind,
                     .nodes = nodes,
                     .count = (bytes + ELEMENT - 1) / ELEMENT,
                     .segment = net->segment ? (int64_t)net->segment : TY_EXEC_SEGMENT,
                     .random = net->seed * 2 + 1 };
    struct ty_plan p = { .kind = kind, .rank = 0, .n = nodes, .count = s.count };
    double last = 0;

    s.steps = ty_plan_steps(&p);
    s.failed = !set_up(&s);
    for (int i = 0; !s.failed && i < nodes; i++)
        advance(&s, i);
    while (!s.failed && s.events)
        happen(&s, pop(&s));
    for (int i = 0; !s.failed && i < nodes; i++) {
        last = fmax(last, s.node[i].now);
        if (!s.node[i].done) /* a plan that waits for what nobody sends */
            abort();
    }
    take_down(&s);
    return s.failed ? -1 : last;
}
