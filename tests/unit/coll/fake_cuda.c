/* fake_cuda.c - a stand-in for libcudart.so, see fake_cuda.h
 *
 * FAKE_CUDA_DEVICES is how many GPUs there are (4).  Only what the engine uses is here.
 */
#include "fake_cuda.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define INVALID 1
#define NO_MEMORY 2
#define NOT_READY 600
#define BLOCKS 4096

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct fake_counts counts;
static struct block {
    unsigned char *at, *alias;
    size_t bytes;
    int device;
} blocks[BLOCKS];
static struct pinned {
    unsigned char *at;
    size_t bytes;
} pinned[64];
static _Thread_local int current, last_error;

static int give(int error)
{
    if (error)
        last_error = error;
    return error;
}

/* ---- streams: a queue and a thread ---- */

struct task {
    struct task *next;
    void (*f)(void *arg);
    void *arg;
};
struct stream {
    pthread_mutex_t lock;
    pthread_cond_t work;
    pthread_t thread;
    struct task *first, **last;
    bool stop;
    int device;
};
struct event {
    pthread_mutex_t lock;
    pthread_cond_t done;
    int recorded, reached; /* how often */
};
struct copy {
    void *to;
    const void *from;
    size_t bytes;
};
struct mark {
    struct event *event;
    int count;
};

static void *stream_thread(void *arg)
{
    struct stream *s = arg;

    pthread_mutex_lock(&s->lock);
    while (!s->stop || s->first) {
        struct task *t = s->first;

        if (!t) {
            pthread_cond_wait(&s->work, &s->lock);
            continue;
        }
        s->first = t->next;
        if (!s->first)
            s->last = &s->first;
        pthread_mutex_unlock(&s->lock);
        t->f(t->arg);
        free(t);
        pthread_mutex_lock(&s->lock);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

EXPORT fake_enqueue_fn fake_enqueue;
void fake_enqueue(void *stream, void (*f)(void *arg), void *arg)
{
    struct stream *s = stream;
    struct task *t = malloc(sizeof *t);

    *t = (struct task){ NULL, f, arg };
    pthread_mutex_lock(&s->lock);
    *s->last = t;
    s->last = &t->next;
    pthread_cond_signal(&s->work);
    pthread_mutex_unlock(&s->lock);
}

EXPORT int cudaStreamCreateWithFlags(void **ret, unsigned flags);
int cudaStreamCreateWithFlags(void **ret, unsigned flags)
{
    struct stream *s = calloc(1, sizeof *s);

    if (flags != 1)
        return give(INVALID);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->work, NULL);
    s->last = &s->first;
    s->device = current;
    pthread_create(&s->thread, NULL, stream_thread, s);
    pthread_mutex_lock(&lock);
    counts.streams++;
    pthread_mutex_unlock(&lock);
    *ret = s;
    return 0;
}

EXPORT int cudaStreamDestroy(void *stream);
int cudaStreamDestroy(void *stream)
{
    struct stream *s = stream;

    pthread_mutex_lock(&s->lock);
    s->stop = true;
    pthread_cond_signal(&s->work);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->thread, NULL);
    free(s);
    pthread_mutex_lock(&lock);
    counts.streams--;
    pthread_mutex_unlock(&lock);
    return 0;
}

/* ---- events ---- */

EXPORT int cudaEventCreateWithFlags(void **ret, unsigned flags);
int cudaEventCreateWithFlags(void **ret, unsigned flags)
{
    struct event *e = calloc(1, sizeof *e);

    (void)flags;
    pthread_mutex_init(&e->lock, NULL);
    pthread_cond_init(&e->done, NULL);
    pthread_mutex_lock(&lock);
    counts.events++;
    pthread_mutex_unlock(&lock);
    *ret = e;
    return 0;
}

EXPORT int cudaEventDestroy(void *event);
int cudaEventDestroy(void *event)
{
    free(event);
    pthread_mutex_lock(&lock);
    counts.events--;
    pthread_mutex_unlock(&lock);
    return 0;
}

static void reach(void *arg)
{
    struct mark *m = arg;

    pthread_mutex_lock(&m->event->lock);
    m->event->reached = m->count;
    pthread_cond_broadcast(&m->event->done);
    pthread_mutex_unlock(&m->event->lock);
    free(m);
}

static void await(void *arg)
{
    struct mark *m = arg;

    pthread_mutex_lock(&m->event->lock);
    while (m->event->reached < m->count)
        pthread_cond_wait(&m->event->done, &m->event->lock);
    pthread_mutex_unlock(&m->event->lock);
    free(m);
}

EXPORT int cudaEventRecord(void *event, void *stream);
int cudaEventRecord(void *event, void *stream)
{
    struct mark *m = malloc(sizeof *m);
    struct event *e = event;

    pthread_mutex_lock(&e->lock);
    *m = (struct mark){ e, ++e->recorded };
    pthread_mutex_unlock(&e->lock);
    fake_enqueue(stream, reach, m);
    return 0;
}

EXPORT int cudaStreamWaitEvent(void *stream, void *event, unsigned flags);
int cudaStreamWaitEvent(void *stream, void *event, unsigned flags)
{
    struct mark *m = malloc(sizeof *m);
    struct event *e = event;

    (void)flags;
    pthread_mutex_lock(&e->lock);
    *m = (struct mark){ e, e->recorded };
    pthread_mutex_unlock(&e->lock);
    pthread_mutex_lock(&lock);
    counts.waits++;
    pthread_mutex_unlock(&lock);
    fake_enqueue(stream, await, m);
    return 0;
}

EXPORT int cudaEventQuery(void *event);
int cudaEventQuery(void *event)
{
    struct event *e = event;
    bool done;

    pthread_mutex_lock(&e->lock);
    done = e->reached == e->recorded;
    pthread_mutex_unlock(&e->lock);
    return done ? 0 : give(NOT_READY);
}

/* ---- memory ---- */

EXPORT fake_alias_fn fake_alias;
void *fake_alias(const void *p, size_t n, int device)
{
    const unsigned char *at = p;
    void *ret = NULL;

    pthread_mutex_lock(&lock);
    for (int i = 0; i < BLOCKS && !ret; i++)
        if (blocks[i].at && at >= blocks[i].at && at + n <= blocks[i].at + blocks[i].bytes &&
            (device < 0 || device == blocks[i].device))
            ret = blocks[i].alias + (at - blocks[i].at);
    pthread_mutex_unlock(&lock);
    return ret;
}

EXPORT int cudaMalloc(void **ret, size_t bytes);
int cudaMalloc(void **ret, size_t bytes)
{
    int fd = memfd_create("fake-cuda", MFD_CLOEXEC), error = NO_MEMORY;

    pthread_mutex_lock(&lock);
    for (int i = 0; i < BLOCKS && error && fd >= 0 && ftruncate(fd, (off_t)bytes) == 0; i++) {
        struct block *b = &blocks[i];

        if (b->at)
            continue;
        b->bytes = bytes;
        b->device = current;
        b->at = mmap(NULL, bytes, PROT_NONE, MAP_SHARED, fd, 0);
        b->alias = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        memset(b->alias, 0xa5, bytes);
        *ret = b->at;
        counts.blocks++;
        error = 0;
    }
    pthread_mutex_unlock(&lock);
    close(fd);
    return give(error);
}

EXPORT int cudaFree(void *p);
int cudaFree(void *p)
{
    int error = p ? INVALID : 0;

    pthread_mutex_lock(&lock);
    for (int i = 0; i < BLOCKS && p; i++)
        if (blocks[i].at == p) {
            munmap(blocks[i].at, blocks[i].bytes);
            munmap(blocks[i].alias, blocks[i].bytes);
            memset(&blocks[i], 0, sizeof blocks[i]);
            counts.blocks--;
            error = 0;
            break;
        }
    pthread_mutex_unlock(&lock);
    return give(error);
}

EXPORT int cudaHostRegister(void *p, size_t bytes, unsigned flags);
int cudaHostRegister(void *p, size_t bytes, unsigned flags)
{
    int error = getenv("FAKE_CUDA_NO_PINS") ? INVALID : 0;

    (void)flags;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < 64 && !error; i++)
        if (!pinned[i].at) {
            pinned[i] = (struct pinned){ p, bytes };
            counts.registered++;
            break;
        }
    pthread_mutex_unlock(&lock);
    return give(error);
}

EXPORT int cudaHostUnregister(void *p);
int cudaHostUnregister(void *p)
{
    int error = INVALID;

    pthread_mutex_lock(&lock);
    for (int i = 0; i < 64; i++)
        if (pinned[i].at == p) {
            pinned[i].at = NULL;
            counts.registered--;
            error = 0;
        }
    pthread_mutex_unlock(&lock);
    return give(error);
}

static void copy(void *arg)
{
    struct copy *c = arg;
    void *to = fake_alias(c->to, c->bytes, -1);
    const void *from = fake_alias(c->from, c->bytes, -1);

    memcpy(to ? to : c->to, from ? from : c->from, c->bytes);
    free(c);
}

EXPORT int cudaMemcpyAsync(void *to, const void *from, size_t bytes, int kind, void *stream);
int cudaMemcpyAsync(void *to, const void *from, size_t bytes, int kind, void *stream)
{
    struct copy *c = malloc(sizeof *c);

    if (kind != 4) {
        free(c);
        return give(INVALID);
    }
    *c = (struct copy){ to, from, bytes };
    pthread_mutex_lock(&lock);
    counts.copies++;
    pthread_mutex_unlock(&lock);
    fake_enqueue(stream, copy, c);
    return 0;
}

/* ---- devices ---- */

static int devices(void)
{
    const char *n = getenv("FAKE_CUDA_DEVICES");

    return n ? (int)strtol(n, NULL, 10) : 4;
}

EXPORT int cudaGetDeviceCount(int *n);
int cudaGetDeviceCount(int *n)
{
    *n = devices();
    return give(*n > 0 ? 0 : 100);
}

EXPORT int cudaGetDevice(int *device);
int cudaGetDevice(int *device)
{
    *device = current;
    return 0;
}

EXPORT int cudaSetDevice(int device);
int cudaSetDevice(int device)
{
    if (device < 0 || device >= devices())
        return give(101);
    current = device;
    return 0;
}

EXPORT int cudaDeviceGetPCIBusId(char *id, int cap, int device);
int cudaDeviceGetPCIBusId(char *id, int cap, int device)
{
    snprintf(id, (size_t)cap, "0000:%02x:00.0", device + 16);
    return 0;
}

EXPORT int cudaGetLastError(void);
int cudaGetLastError(void)
{
    int ret = last_error;

    last_error = 0;
    return ret;
}

EXPORT const char *cudaGetErrorString(int error);
const char *cudaGetErrorString(int error)
{
    return error == NO_MEMORY ? "out of memory"
           : error == 100     ? "no CUDA-capable device is detected"
                              : "invalid argument";
}

EXPORT fake_counts_fn fake_counts;
struct fake_counts fake_counts(void)
{
    struct fake_counts ret;

    pthread_mutex_lock(&lock);
    ret = counts;
    pthread_mutex_unlock(&lock);
    return ret;
}
