/* follow.c - who wants to hear of which run
 *
 * One topic per run that somebody follows.  While followers are woken, any of them may go and
 * others may come: each walk keeps the follower that is next, and a removal moves it on.  Walks
 * nest when a wake notifies again.
 */
#include "track/follow.h"
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

struct ty_topic {
    char *run;
    struct ty_follower *first;
    unsigned round; /* of ty_follow_notify_all, in which it had its turn */
    UT_hash_handle hh;
};

struct walk {
    struct ty_follower *next;
    struct walk *outer;
};

struct ty_follow_hub {
    struct ty_topic *topics;
    struct walk *walks;
    size_t count; /* followers in all topics */
    unsigned round;
};

struct ty_follow_hub *ty_follow_hub_new(void)
{
    return calloc(1, sizeof(struct ty_follow_hub));
}

struct ty_follow_hub *ty_follow_hub_free(struct ty_follow_hub *h)
{
    assert(!h || h->count == 0);
    free(h);
    return NULL;
}

static struct ty_topic *topic_find(struct ty_follow_hub *h, const char *run)
{
    struct ty_topic *t;

    HASH_FIND_STR(h->topics, run, t);
    return t;
}

static struct ty_topic *topic_add(struct ty_follow_hub *h, const char *run)
{
    struct ty_topic *t = calloc(1, sizeof *t);

    if (!t || !(t->run = strdup(run))) {
        free(t);
        return NULL;
    }
    HASH_ADD_KEYPTR(hh, h->topics, t->run, strlen(t->run), t);
    return t;
}

int ty_follow_add(struct ty_follow_hub *h, const char *run, struct ty_follower *f, size_t limit)
{
    struct ty_topic *t;

    assert(!f->slot);
    if (h->count >= limit)
        return -EUSERS;
    t = topic_find(h, run);
    if (!t)
        t = topic_add(h, run);
    if (!t)
        return -ENOMEM;
    f->topic = t;
    f->next = t->first;
    f->slot = &t->first;
    if (f->next)
        f->next->slot = &f->next;
    t->first = f;
    h->count++;
    return 0;
}

void ty_follow_remove(struct ty_follow_hub *h, struct ty_follower *f)
{
    struct ty_topic *t = f->topic;

    if (!f->slot)
        return;
    for (struct walk *w = h->walks; w; w = w->outer)
        if (w->next == f)
            w->next = f->next;
    *f->slot = f->next;
    if (f->next)
        f->next->slot = f->slot;
    f->next = NULL;
    f->slot = NULL;
    f->topic = NULL;
    h->count--;
    if (!t->first) {
        HASH_DEL(h->topics, t);
        free(t->run);
        free(t);
    }
}

/* The topic may be gone after any wake: only the walk is looked at. */
static void wake_from(struct ty_follow_hub *h, struct ty_follower *first)
{
    struct walk w = { .next = first, .outer = h->walks };

    h->walks = &w;
    while (w.next) {
        struct ty_follower *f = w.next;

        w.next = f->next;
        f->wake(f);
    }
    h->walks = w.outer;
}

void ty_follow_notify(struct ty_follow_hub *h, const char *run)
{
    struct ty_topic *t = topic_find(h, run);

    if (t)
        wake_from(h, t->first);
}

static struct ty_topic *topic_not_in(struct ty_follow_hub *h, unsigned round)
{
    struct ty_topic *t = h->topics;

    while (t && t->round == round)
        t = t->hh.next;
    return t;
}

/* A wake may take topics away, so each step looks from the beginning for one that had no turn. */
void ty_follow_notify_all(struct ty_follow_hub *h)
{
    unsigned round = ++h->round;
    struct ty_topic *t;

    while ((t = topic_not_in(h, round))) {
        t->round = round;
        wake_from(h, t->first);
    }
}
