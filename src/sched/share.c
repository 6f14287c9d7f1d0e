/* share.c - what each user holds, and has used lately
 *
 * Slots that are held now count first; among users who hold the same, whoever has used less lately is next.
 * "Lately" is slot-seconds that lose half their weight in sched.share_half_life, so that nobody is paid back for ever,
 * and a user with a thousand short runs does not keep the others waiting on a box with one slot.
 */
#include "base/clock.h"
#include "base/conf.h"
#include "base/log.h"
#include "base/str.h"
#include "sched/sched_internal.h"
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#define NOTE_US (60 * 1000 * 1000)
#define USED "queue.used/" /* setting: "<milliseconds of slots> <when, in microseconds>", by user */

static char *setting_of(const char *user)
{
    return ty_strf(USED "%s", user);
}

/* What an earlier daemon has noted. */
static void load(struct ty_sched *s, struct share *share)
{
    CLEANUP_FREE char *key = setting_of(share->user), *text = NULL;
    int64_t ms, at_us;

    share->at_us = ty_wall_us();
    if (!key || ty_store_setting(s->o.store, key, &text) < 0 ||
        sscanf(text, "%" SCNd64 " %" SCNd64, &ms, &at_us) != 2 || ms < 0 || at_us > share->at_us)
        return;
    share->used = (double)ms / 1000;
    share->at_us = share->noted_us = at_us;
}

struct share *share_of(struct ty_sched *s, const char *user)
{
    struct share *share;

    HASH_FIND_STR(s->shares, user, share);
    if (share)
        return share;
    share = calloc(1, sizeof *share);
    if (!share || !(share->user = strdup(user))) {
        free(share);
        return NULL;
    }
    load(s, share);
    HASH_ADD_KEYPTR(hh, s->shares, share->user, strlen(share->user), share);
    return share;
}

/* Bring `used` up to now: what was there has lost weight, and so has what came in meanwhile at the rate `cpus`. */
static void account(const struct ty_sched *s, struct share *share, int64_t now_us)
{
    double half_life = (double)ty_conf_number(s->o.conf, "sched.share_half_life");
    double seconds = now_us > share->at_us ? (double)(now_us - share->at_us) / 1e6 : 0;
    double kept = half_life > 0 ? exp2(-seconds / half_life) : 0;

    share->used = share->used * kept + share->cpus * (1 - kept) * half_life / M_LN2;
    share->at_us = now_us;
}

void share_account(struct ty_sched *s)
{
    int64_t now_us = ty_wall_us();

    for (struct share *share = s->shares; share; share = share->hh.next)
        account(s, share, now_us);
}

/* For the next daemon.  Not each time: what a killed daemon has not noted is a minute's unfairness. */
static void note(struct ty_sched *s, struct share *share)
{
    CLEANUP_FREE char *key = setting_of(share->user);
    char text[64];
    struct ty_unit *u;

    if (!key)
        return;
    share->noted_us = share->at_us;
    snprintf(text, sizeof text, "%" PRId64 " %" PRId64, (int64_t)(share->used * 1000),
             share->at_us);
    u = ty_unit_new();
    ty_unit_setting(u, key, text);
    ty_store_commit(s->o.store, u, NULL, NULL);
}

void share_change(struct ty_sched *s, struct share *share, int cpus)
{
    account(s, share, ty_wall_us());
    share->cpus += cpus;
    if (cpus < 0 && share->at_us - share->noted_us > NOTE_US)
        note(s, share);
}

void share_note(struct ty_sched *s)
{
    share_account(s);
    for (struct share *share = s->shares; share; share = share->hh.next)
        note(s, share);
}

int share_compare(const struct share *a, const struct share *b)
{
    if (a->cpus != b->cpus)
        return a->cpus < b->cpus ? -1 : 1;
    return a->used < b->used ? -1 : a->used > b->used;
}

void share_close(struct ty_sched *s)
{
    struct share *share, *next;

    HASH_ITER (hh, s->shares, share, next) {
        HASH_DEL(s->shares, share);
        free(share->user);
        free(share);
    }
}
