/* stall.c - looking for operations that wait, and for whom */
#include "coll/stall.h"
#include "base/clock.h"
#include "base/fault.h"
#include "coll/net.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHOWN 8 /* most operations in a text */
#define TICK_MIN_US 50000
#define TICK_MAX_US 5000000
#define STOPPED_US 500000 /* who is this late to look was stopped, or had no processor */
#define NOTE_US 1000000   /* who waits for longer tells the other nodes */
#define LONG_US 1000000   /* an operation that is under way for longer keeps others waiting */
#define NOTES_MAX 4096

/* ---- notes of other nodes ---- */

struct note {
    uint64_t epoch, round;
    int32_t set, sender, n; /* n: of ranks */
    int32_t ranks[50];      /* that the sender waits for */
    int32_t zero;
};
_Static_assert(sizeof(struct note) == TY_NOTE_BYTES && TY_NOTE_BYTES <= TY_NET_SMALL_BYTES,
               "a note is a small message");

struct ty_notes {
    pthread_mutex_t lock;
    struct note *note; /* one for each set and sender */
    int n, room;
};

struct ty_notes *ty_notes_new(void)
{
    struct ty_notes *n = FAULT("notes.alloc", NULL, calloc(1, sizeof *n));

    if (n)
        pthread_mutex_init(&n->lock, NULL);
    return n;
}

struct ty_notes *ty_notes_free(struct ty_notes *n)
{
    if (!n)
        return NULL;
    pthread_mutex_destroy(&n->lock);
    free(n->note);
    free(n);
    return NULL;
}

static struct note *place_for(struct ty_notes *n, const struct note *got)
{
    for (int i = 0; i < n->n; i++)
        if (n->note[i].set == got->set && n->note[i].sender == got->sender)
            return &n->note[i];
    if (n->n == NOTES_MAX)
        n->n = 0;
    if (n->n == n->room) {
        int room = n->room * 2 + 16;
        struct note *more = realloc(n->note, (size_t)room * sizeof *more);

        if (!more)
            return NULL;
        n->note = more;
        n->room = room;
    }
    return &n->note[n->n++];
}

void ty_notes_heard(struct ty_notes *n, const void *bytes)
{
    struct note got, *at;

    memcpy(&got, bytes, sizeof got);
    if (got.n < 0 || got.n > (int)(sizeof got.ranks / sizeof *got.ranks))
        return;
    pthread_mutex_lock(&n->lock);
    at = place_for(n, &got);
    if (at)
        *at = got;
    pthread_mutex_unlock(&n->lock);
}

/* What a rank of that node of the set has said in this round. */
static bool noted(const struct ty_coll *c, const struct ty_chan *ch, int node, struct note *ret)
{
    struct ty_notes *n = c->notes;
    bool found = false;

    if (!n)
        return false;
    pthread_mutex_lock(&n->lock);
    for (int i = 0; i < n->n && !found; i++) {
        int member = n->note[i].set == ch->id && n->note[i].epoch == ch->epoch &&
                             n->note[i].round == ch->round
                         ? ty_chan_member(ch, n->note[i].sender)
                         : -1;

        found = member >= 0 && ch->node_of[member] == node;
        if (found)
            *ret = n->note[i];
    }
    pthread_mutex_unlock(&n->lock);
    return found;
}

/* ---- who is missing ---- */

/* Put a rank into a set of ranks. */
static int add(int *ranks, int n, int rank)
{
    for (int i = 0; i < n; i++)
        if (ranks[i] == rank)
            return n;
    ranks[n] = rank;
    return n + 1;
}

static int add_all(const struct ty_coll *c, int *ranks, int n, const struct note *note)
{
    for (int i = 0; i < note->n; i++)
        if (note->ranks[i] >= 0 && note->ranks[i] < c->size && note->ranks[i] != c->rank)
            n = add(ranks, n, note->ranks[i]);
    return n;
}

/* A rank of another node does not send or take what it should: it, or those whom it waits for itself. */
static int add_far(const struct ty_coll *c, const struct ty_chan *ch, int *ranks, int n, int rank)
{
    struct note note;
    int member = ty_chan_member(ch, rank);

    if (member >= 0 && noted(c, ch, ch->node_of[member], &note) && note.n > 0)
        return add_all(c, ranks, n, &note);
    return rank >= 0 && rank < c->size ? add(ranks, n, rank) : n;
}

/* Data do not move: local members that have not come to the phase in which this rank waits, and whom a rank waits for in an
 * exchange between nodes. */
static int missing_in_phase(const struct ty_coll *c, const struct ty_chan *ch, int *ranks)
{
    uint64_t phase = atomic_load(&ty_chan_phase(ch, ch->lme)->phase);
    uint32_t far = atomic_load(&ty_chan_phase(ch, ch->lme)->waits_for);
    int n = far ? add_far(c, ch, ranks, 0, (int)far - 1) : 0;

    for (int l = 0; l < ch->nlocal; l++) {
        const struct ty_phase *p = ty_chan_phase(ch, l);

        if (l == ch->lme || (int64_t)(atomic_load(&p->phase) - phase) >= 0)
            continue;
        far = atomic_load(&p->waits_for);
        n = far ? add_far(c, ch, ranks, n, (int)far - 1) : add(ranks, n, ch->world[ch->member[l]]);
    }
    return n;
}

/* Has the agreement brought word of that node to this leader? */
static bool spoken(const struct ty_chan *ch, int node)
{
    int back = (ch->my_node - node + ch->nnodes) % ch->nnodes;

    return ch->step >= 0 && back < 1 << ch->step;
}

/* Posts are missing: of local members; for a leader, what it knows of the other nodes. */
static int missing_posts(const struct ty_coll *c, const struct ty_chan *ch, int *ranks)
{
    int n = ty_chan_missing(ch, ranks);

    for (int k = 0; ch->net && ch->lme == 0 && k < ch->nnodes; k++) {
        struct note note;

        if (k == ch->my_node || spoken(ch, k))
            continue;
        if (noted(c, ch, k, &note)) {
            n = add_all(c, ranks, n, &note);
            continue;
        }
        for (int i = 0; i < ch->n; i++)
            if (ch->node_of[i] == k)
                n = add(ranks, n, ch->world[i]);
    }
    return n;
}

/* What the leader has found out about other nodes, for those who cannot: one rank. */
static int missing_by_leader(const struct ty_coll *c, const struct ty_chan *ch, int *ranks)
{
    uint64_t late = ch->lme > 0 && ch->net ? atomic_load(&ty_chan_phase(ch, 0)->late) : 0;

    return late >> 32 == (ch->round & 0xffffffff) && (uint32_t)late - 1 < (uint32_t)c->size
               ? add(ranks, 0, (int)(uint32_t)late - 1)
               : 0;
}

static void tell_node(const struct ty_chan *ch, const int *ranks, int n)
{
    for (int i = 0; ch->lme == 0 && i < n; i++) {
        int member = ty_chan_member(ch, ranks[i]);

        if (member >= 0 && ch->node_of[member] != ch->my_node) {
            atomic_store(&ty_chan_phase(ch, 0)->late,
                         (ch->round & 0xffffffff) << 32 | (uint32_t)(ranks[i] + 1));
            return;
        }
    }
}

/* All want the same, and members have not committed themselves to it: they are in another set's part. */
static int missing_commitments(const struct ty_chan *ch, int *ranks)
{
    int n = 0;

    for (int l = 0; l < ch->nlocal; l++)
        if (l != ch->lme &&
            (int64_t)(atomic_load(&ty_chan_phase(ch, l)->committed) - ch->round) < 0)
            ranks[n++] = ch->world[ch->member[l]];
    return n;
}

int ty_stall_missing(struct ty_coll *c, const struct ty_req *r, int *ranks)
{
    const struct ty_chan *ch = r->ch;
    int n = 0;

    if (c->blocked == ch)
        return missing_in_phase(c, ch, ranks);
    if (ch->posted)
        n = ch->agreed ? missing_commitments(ch, ranks) : missing_posts(c, ch, ranks);
    if (n == 0 && ch->posted && !ch->agreed)
        n = missing_by_leader(c, ch, ranks);
    if (n > 0)
        return n;
    if (r->missing && r->nmissing > 0) {
        memcpy(ranks, r->missing, (size_t)r->nmissing * sizeof *ranks);
        return r->nmissing;
    }
    return c->blocked ? missing_in_phase(c, c->blocked, ranks) : 0;
}

/* ---- how long ---- */

void ty_stall_enter(struct ty_coll *c, struct ty_chan *ch, struct ty_req *const *running, int n)
{
    c->blocked = ch;
    c->running = running;
    c->nrunning = n;
    c->moved.runs++;
}

void ty_stall_leave(struct ty_coll *c)
{
    c->blocked = NULL;
    c->running = NULL;
    c->nrunning = 0;
}

/* Since when has nothing moved in what the driver does?  As well as those who ask can tell. */
static int64_t still_since(struct ty_coll *c, int64_t now_us)
{
    uint64_t phase = atomic_load(&ty_chan_phase(c->blocked, c->blocked->lme)->phase),
             bytes = c->net ? ty_net_moved(c->net) : 0;

    if (c->moved.runs != c->moved.seen_runs || phase != c->moved.phase || bytes != c->moved.bytes) {
        c->moved.seen_runs = c->moved.runs;
        c->moved.phase = phase;
        c->moved.bytes = bytes;
        c->moved.since_us = now_us;
        if (c->moved.runs != c->moved.first_runs) {
            c->moved.first_runs = c->moved.runs;
            c->moved.first_us = now_us;
        }
    }
    /* What comes after a long operation waits for that, and for nobody. */
    if (c->nrunning > 0 && now_us - c->moved.first_us >= LONG_US)
        c->moved.busy_until_us = now_us;
    return c->moved.since_us;
}

static int64_t later(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

void ty_stall_each(struct ty_coll *c,
                   void (*fn)(struct ty_coll *c, const struct ty_req *r, int64_t waits_us,
                              void *ctx),
                   void *ctx)
{
    int64_t now_us = ty_mono_us(), since = c->blocked ? still_since(c, now_us) : now_us;

    if (c->stall)
        c->stall->looked_us = now_us;
    for (int i = 0; i < c->nrunning; i++)
        if (c->running[i]->state == TY_REQ_RUNNING)
            fn(c, c->running[i], now_us - since, ctx);
    for (int i = 0; i < c->nsets; i++)
        for (struct ty_req *r = c->set[i]->ch ? c->set[i]->ch->oldest : NULL; r; r = r->next) {
            if (!r->submitted_us) /* ty_coll_do reads no clock until it has to wait */
                r->submitted_us = now_us;
            if (r->kind != TY_COLL_JOIN)
                fn(c, r, now_us - later(r->submitted_us, c->moved.busy_until_us), ctx);
        }
}

/* ---- texts ---- */

/* For the first that waits. */
bool ty_stall_mine(const struct ty_coll *c, const struct ty_chan *ch, const int *ranks, int n)
{
    struct note note;

    for (int l = 0; l < ch->lme; l++) {
        bool missing = false;

        for (int i = 0; i < n && !missing; i++)
            missing = ranks[i] == ch->world[ch->member[l]];
        if (!missing)
            return false;
    }
    for (int k = 0; ch->net && k < ch->my_node; k++)
        if (spoken(ch, k) || noted(c, ch, k, &note))
            return false;
    return true;
}

struct text {
    int64_t older_us;
    bool mine;
    char *buf;
    size_t cap, len;
    int n;
};

static void add_text(struct text *t, const char *text)
{
    int n = snprintf(t->buf + t->len, t->cap - t->len, "%s", text);

    t->len = n < 0 || (size_t)n >= t->cap - t->len ? t->cap - 1 : t->len + (size_t)n;
}

static void describe(struct ty_coll *c, const struct ty_req *r, int64_t waits_us, void *ctx)
{
    struct text *t = ctx;
    int *ranks = c->stall->ranks, n;
    char piece[256];

    if (waits_us < t->older_us)
        return;
    n = ty_stall_missing(c, r, ranks);
    if ((t->mine && !ty_stall_mine(c, r->ch, ranks, n)) || t->n++ >= SHOWN)
        return;
    ty_req_title(r->kind, r->name, piece, sizeof piece);
    if (t->n > 1)
        add_text(t, ", ");
    add_text(t, piece);
    snprintf(piece, sizeof piece, " (%lld s; missing: %s",
             (long long)((waits_us + 500000) / 1000000),
             n > 1        ? "ranks"
             : n == 1     ? "rank"
             : r->ch->net ? "ranks of other nodes"
                          : "none any more");
    add_text(t, piece);
    for (int i = 0; i < n; i++) {
        snprintf(piece, sizeof piece, "%s%d", i ? ", " : " ", ranks[i]);
        add_text(t, i < 32 ? piece : i == 32 ? " and more" : "");
    }
    add_text(t, ")");
}

int ty_stall_text(struct ty_coll *c, int64_t older_us, bool mine, char *buf, size_t cap)
{
    struct text t = { older_us, mine, buf, cap, 0, 0 };
    char more[48];

    buf[0] = 0;
    if (!c->stall)
        return 0;
    ty_stall_each(c, describe, &t);
    if (t.n > SHOWN) {
        snprintf(more, sizeof more, " and %d more", t.n - SHOWN);
        add_text(&t, more);
    }
    return t.n;
}

/* ---- looking ---- */

struct look {
    int64_t oldest_us;
    const struct ty_req *oldest;
};

static void find_oldest(struct ty_coll *c, const struct ty_req *r, int64_t waits_us, void *ctx)
{
    struct look *l = ctx;

    (void)c;
    if (waits_us > l->oldest_us || !l->oldest) {
        l->oldest_us = waits_us;
        l->oldest = r;
    }
}

/* Tell the leaders of the other nodes whom this rank waits for, when it is the first of its node that waits. */
static void send_note(struct ty_coll *c, const struct ty_req *r)
{
    const struct ty_chan *ch = r->ch;
    struct note note = { .epoch = ch->epoch, .round = ch->round, .set = ch->id, .sender = c->rank };
    int n;

    if (!ch->net || (!ch->posted && c->blocked != ch))
        return;
    n = ty_stall_missing(c, r, c->stall->ranks);
    tell_node(ch, c->stall->ranks, n);
    for (int i = 0; i < n && note.n < (int)(sizeof note.ranks / sizeof *note.ranks); i++) {
        int member = ty_chan_member(ch, c->stall->ranks[i]);

        /* Of its own node it knows; of others it would repeat what it has heard.  While data move it waits for one rank. */
        if (c->blocked == ch || (member >= 0 && ch->node_of[member] == ch->my_node))
            note.ranks[note.n++] = c->stall->ranks[i];
    }
    for (int l = 0; l < ch->lme; l++) {
        bool missing = false;

        for (int i = 0; i < n && !missing; i++)
            missing = c->stall->ranks[i] == ch->world[ch->member[l]];
        if (!missing)
            return;
    }
    if (memcmp(&note, c->stall->note, sizeof note) == 0)
        return;
    memcpy(c->stall->note, &note, sizeof note);
    for (int k = 0; k < ch->nnodes; k++)
        if (k != ch->my_node)
            ty_net_post(c->net, ch->leader[k], TY_NET_TAG_NOTICE, &note, sizeof note);
}

/* It has waited for too long: this rank and, told by it, all others give up. */
static void give_up(struct ty_coll *c, int64_t older_us)
{
    if (c->ended || ty_node_broken(c->node))
        return;
    ty_stall_text(c, older_us, false, c->stall_text, sizeof c->stall_text);
    ty_engine_break(c, c->rank, TY_END_STALLED);
    atomic_fetch_add(&c->submits, 1);
    ty_node_ring_one(c->node, c->node->me);
    if (c->threaded)
        pthread_cond_signal(&c->work);
}

/* With the lock, which is given back while a person is told. */
static void warn(struct ty_coll *c, int64_t now_us, int64_t warn_us)
{
    char *line = FAULT("stall.line", NULL, malloc(2048));

    if (line) {
        int n = snprintf(line, 2048, "ranks are late for %d s or more: ", c->stall_warning_s);

        if (ty_stall_text(c, warn_us, true, line + n, 2048 - (size_t)n) > 0) {
            c->stall->warned_us = now_us;
            pthread_mutex_unlock(&c->lock);
            ty_engine_warn(c, line);
            pthread_mutex_lock(&c->lock);
        }
    }
    free(line);
}

/* With the lock, which is given back at times: the oldest may be done then. */
static void look(struct ty_coll *c)
{
    int64_t now_us = ty_mono_us(), warn_us = (int64_t)c->stall_warning_s * 1000000,
            end_us = (int64_t)c->stall_shutdown_s * 1000000;
    struct look l = { 0, NULL };
    bool late;

    if (now_us < c->stall->deaf_us)
        return;
    ty_stall_each(c, find_oldest, &l);
    late = l.oldest && warn_us > 0 && l.oldest_us >= warn_us;
    if (l.oldest && end_us > 0 && l.oldest_us >= end_us) {
        give_up(c, end_us);
        return;
    }
    if (l.oldest && (l.oldest_us >= NOTE_US || (warn_us > 0 && l.oldest_us >= warn_us / 8)))
        send_note(c, l.oldest);
    if (late && now_us - c->stall->warned_us >= warn_us)
        warn(c, now_us, warn_us);
    if (late)
        ty_stall_file(c, warn_us);
    else
        ty_stall_file_over(c);
}

static int64_t tick_us(const struct ty_coll *c)
{
    int64_t s = c->stall_warning_s > 0 ? c->stall_warning_s : c->stall_shutdown_s, tick;

    if (c->stall_shutdown_s > 0 && c->stall_shutdown_s < s)
        s = c->stall_shutdown_s;
    tick = s * 1000000 / 16;
    return tick < TICK_MIN_US ? TICK_MIN_US : tick > TICK_MAX_US ? TICK_MAX_US : tick;
}

/* While it was stopped itself it could hear nobody, and they may have been stopped with it: they get as long again to come. */
static void mind_the_gap(struct ty_stall *s, int64_t since_us, int64_t tick)
{
    int64_t now_us = ty_mono_us(), gap = now_us - since_us;

    if (gap > tick + STOPPED_US)
        s->deaf_us = now_us + gap;
}

static void *watch(void *arg)
{
    struct ty_coll *c = arg;
    struct ty_stall *s = c->stall;
    int64_t tick = tick_us(c), awake_us = ty_mono_us();

    pthread_mutex_lock(&c->lock);
    while (!s->stop) {
        int64_t until = ty_mono_us() + tick;
        struct timespec at = { until / 1000000, until % 1000000 * 1000 };

        if (c->pending == 0)
            ty_stall_file_over(c);
        if (s->stop)
            break;
        s->dormant = c->pending == 0;
        if (s->dormant) {
            pthread_cond_wait(&s->wake, &c->lock);
            awake_us = ty_mono_us();
            continue;
        }
        if (pthread_cond_timedwait(&s->wake, &c->lock, &at) == ETIMEDOUT && !s->stop) {
            mind_the_gap(s, awake_us, tick);
            awake_us = ty_mono_us();
            look(c);
        }
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

/* ---- life ---- */

int ty_stall_start(struct ty_coll *c)
{
    pthread_condattr_t a;
    sigset_t all, old;
    int r;

    if (c->stall_shutdown_s < c->stall_warning_s)
        c->stall_shutdown_s = 0; /* no end without a word before */
    c->stall = FAULT("stall.alloc", NULL, calloc(1, sizeof *c->stall));
    if (!c->stall)
        return -ENOMEM;
    pthread_condattr_init(&a);
    pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
    pthread_cond_init(&c->stall->wake, &a);
    pthread_condattr_destroy(&a);
    c->stall->warned_us = INT64_MIN / 2;
    c->stall->file = c->stall_file;
    c->stall->ranks = FAULT("stall.alloc", NULL, malloc((size_t)c->size * sizeof(int)));
    if (!c->stall->ranks)
        return -ENOMEM;
    if (c->size == 1 || (c->stall_warning_s <= 0 && c->stall_shutdown_s <= 0))
        return 0;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    r = -FAULT("stall.thread", EAGAIN, pthread_create(&c->stall->thread, NULL, watch, c));
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    c->stall->started = r == 0;
    return r;
}

void ty_stall_stop(struct ty_coll *c)
{
    struct ty_stall *s = c->stall;

    if (!s)
        return;
    pthread_mutex_lock(&c->lock);
    s->stop = true;
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&c->lock);
    if (s->started)
        pthread_join(s->thread, NULL);
    pthread_mutex_lock(&c->lock);
    ty_stall_file_over(c);
    c->stall = NULL;
    pthread_mutex_unlock(&c->lock);
    pthread_cond_destroy(&s->wake);
    free(s->ranks);
    free(s);
}
