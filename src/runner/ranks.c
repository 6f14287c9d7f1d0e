/* ranks.c - the table of ranks, and the lines to their wrappers */
#include "runner/ranks.h"
#include "base/error.h"
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#define EVENTS 64

int ty_ranks_open(struct ty_ranks *s, const struct ty_jobfile *j, struct ty_error *err)
{
    int first, n = ty_jobfile_own_ranks(j, &first);

    if (j->leads)
        n = j->size;
    s->at = calloc((size_t)n, sizeof *s->at);
    if (!s->at)
        return ty_error_oom(err);
    for (s->n = 0; s->n < n; s->n++) {
        const struct ty_job_node *node = ty_jobfile_node_of(j, first + s->n);

        s->at[s->n].plan = (struct ty_rank_plan){ .rank = first + s->n,
                                                  .node = (int)(node - j->nodes),
                                                  .local_rank = first + s->n - node->first,
                                                  .local_size = node->ranks };
        s->at[s->n].wrapper = (struct ty_rank)TY_RANK_INIT;
    }
    s->epoll = epoll_create1(EPOLL_CLOEXEC);
    return s->epoll < 0 ? ty_error_set(err, -errno, "cannot wait for the processes of the job: %m")
                        : 0;
}

void ty_ranks_done(struct ty_ranks *s)
{
    for (int i = 0; i < s->n; i++)
        ty_rank_done(&s->at[i].wrapper);
    free(s->at);
    if (s->epoll >= 0)
        close(s->epoll);
    *s = (struct ty_ranks)TY_RANKS_INIT;
}

int ty_ranks_start(struct ty_ranks *s, int i, const struct ty_launch_spec *how,
                   struct ty_error *err)
{
    struct ty_rank *w = &s->at[i].wrapper;
    struct epoll_event e = { .events = EPOLLIN, .data.u32 = (uint32_t)i };
    int r = ty_rank_start(how, w, err);

    if (r == 0 && epoll_ctl(s->epoll, EPOLL_CTL_ADD, w->line, &e) < 0)
        r = ty_error_set(err, -errno, "cannot wait for the process of rank %d: %m",
                         s->at[i].plan.rank);
    return r;
}

void ty_ranks_hear(struct ty_ranks *s, void (*fn)(int i, const struct ty_report *report, void *ctx),
                   void *ctx)
{
    struct epoll_event events[EVENTS];
    int n = s->epoll >= 0 ? epoll_wait(s->epoll, events, EVENTS, 0) : 0;

    for (int k = 0; k < n; k++) {
        int i = (int)events[k].data.u32, got = -EAGAIN;
        struct ty_report report;

        /* What is told may end the whole set. */
        while (i < s->n && s->at[i].wrapper.line >= 0 &&
               (got = ty_rank_report(&s->at[i].wrapper, &report)) == 0)
            fn(i, &report, ctx);
        if (got != -EPIPE)
            continue;
        close(s->at[i].wrapper.line); /* leaves the epoll set; its pid is still to be reaped */
        s->at[i].wrapper.line = -1;
        fn(i, NULL, ctx);
    }
}

bool ty_ranks_reaped(struct ty_ranks *s, pid_t pid, int status)
{
    for (int i = 0; i < s->n; i++)
        if (s->at[i].wrapper.pid == pid) {
            s->at[i].wrapper_status = status;
            s->at[i].reaped = true;
            return true;
        }
    return false;
}

void ty_ranks_started(struct ty_ranks *s, int i, pid_t pid)
{
    if (!s->at[i].pid)
        s->started++;
    s->at[i].pid = pid;
}

void ty_ranks_ended(struct ty_ranks *s, int i, const int *status, bool victim, int64_t now_us)
{
    struct ty_member *m = &s->at[i];

    if (m->ended)
        return;
    m->ended = true;
    m->ended_us = now_us;
    m->victim = victim;
    if (status) {
        m->reported = true;
        m->status = *status;
    }
    s->ended++;
    s->bad += !ty_member_good(m);
}

bool ty_member_good(const struct ty_member *m)
{
    return m->ended && m->reported && WIFEXITED(m->status) && WEXITSTATUS(m->status) == 0;
}
