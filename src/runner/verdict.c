/* verdict.c - which rank has ended the job */
#include "runner/verdict.h"
#include <signal.h>
#include <sys/wait.h>

enum weight { KILLED, FAILED, VICTIM };

static enum weight weight(const struct ty_member *m)
{
    if (m->victim)
        return VICTIM;
    if (!m->reported || (WIFSIGNALED(m->status) && WTERMSIG(m->status) != SIGABRT))
        return KILLED;
    return FAILED;
}

int ty_verdict(const struct ty_ranks *s, int64_t now_us, int64_t *due_us)
{
    const struct ty_member *best = NULL;
    int64_t first_us = INT64_MAX, wait_us;

    for (int i = 0; s->bad > 0 && i < s->n; i++) {
        const struct ty_member *m = &s->at[i];

        if (!m->ended || ty_member_good(m))
            continue;
        if (m->ended_us < first_us)
            first_us = m->ended_us;
        if (!best || weight(m) < weight(best) ||
            (weight(m) == weight(best) && m->ended_us < best->ended_us))
            best = m;
    }
    if (!best) {
        *due_us = INT64_MAX;
        return -1;
    }
    wait_us = weight(best) == VICTIM ? TY_VERDICT_VICTIM_US : TY_VERDICT_WAIT_US;
    if (weight(best) == KILLED || s->ended == s->n || now_us >= first_us + wait_us)
        return (int)(best - s->at);
    *due_us = first_us + wait_us;
    return -1;
}
