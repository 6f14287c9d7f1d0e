/* target.c - the table of kinds, and what this box offers */
#include "target/target.h"
#include "base/clock.h"
#include "base/gpu.h"
#include "target/hosts.h"
#include "target/local.h"
#include "target/slurm.h"
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RENEW_US (10 * 1000 * 1000)

static const struct ty_target_kind *const kinds[] = { &ty_target_local, &ty_target_hosts,
                                                      &ty_target_slurm };

const struct ty_target_kind *ty_target_kind(const char *name)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(kinds[i]->name, name) == 0)
            return kinds[i];
    return NULL;
}

int ty_target_cpus(void)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) < 0)
        return 1;
    return CPU_COUNT(&set) > 0 ? CPU_COUNT(&set) : 1;
}

int64_t ty_target_memory_mb(void)
{
    return (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE) / (1 << 20);
}

/* Asking takes as long as the driver likes, and they do come and go: what was found is renewed by a thread, while everybody
 * goes on with what is known.  The driver is let go of each time, so that an idle daemon is in nobody's way. */
static struct {
    pthread_mutex_t lock;
    struct ty_gpu *gpu; /* owned */
    int n;
    bool asking;
    int64_t asked_us; /* 0: never */
} known = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* Called without the lock. */
static void ask(void)
{
    struct ty_gpu *fresh = NULL, *old = NULL;
    int n = 0, r = ty_gpu_list(&fresh, &n);

    ty_gpu_release();
    pthread_mutex_lock(&known.lock);
    if (r == 0) {
        old = known.gpu;
        known.gpu = fresh;
        known.n = n;
    }
    known.asked_us = ty_mono_us();
    known.asking = false;
    pthread_mutex_unlock(&known.lock);
    free(old);
}

static void *ask_thread(void *arg)
{
    ask();
    return arg;
}

static void renew(void)
{
    bool first, due;
    pthread_t t;

    pthread_mutex_lock(&known.lock);
    first = known.asked_us == 0;
    due = !known.asking && (first || ty_mono_us() - known.asked_us > RENEW_US);
    if (due)
        known.asking = true;
    pthread_mutex_unlock(&known.lock);
    if (!due)
        return;
    if (first || pthread_create(&t, NULL, ask_thread, NULL) != 0)
        ask();
    else
        pthread_detach(t);
}

int ty_target_gpu_list(struct ty_gpu **ret, int *n)
{
    struct ty_gpu *copy = NULL;
    int r = 0;

    renew();
    pthread_mutex_lock(&known.lock);
    if (known.n > 0) {
        copy = malloc((size_t)known.n * sizeof *copy);
        if (copy)
            memcpy(copy, known.gpu, (size_t)known.n * sizeof *copy);
        else
            r = -ENOMEM;
    }
    if (r == 0) {
        *ret = copy;
        *n = known.n;
    }
    pthread_mutex_unlock(&known.lock);
    return r;
}

int ty_target_gpus(void)
{
    int n;

    renew();
    pthread_mutex_lock(&known.lock);
    n = known.n;
    pthread_mutex_unlock(&known.lock);
    return n;
}
