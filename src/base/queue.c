/* queue.c - a first-in first-out queue between threads */
#include "base/queue.h"
#include <assert.h>
#include <errno.h>

void ty_queue_init(struct ty_queue *q)
{
    pthread_mutex_init(&q->lock, NULL);
    pthread_cond_init(&q->filled, NULL);
    q->head = NULL;
    q->tail = &q->head;
    q->count = 0;
    q->closed = false;
}

void ty_queue_done(struct ty_queue *q)
{
    assert(!q->head);
    pthread_cond_destroy(&q->filled);
    pthread_mutex_destroy(&q->lock);
}

int ty_queue_push(struct ty_queue *q, struct ty_queue_item *item)
{
    int r = 0;

    item->next = NULL;
    pthread_mutex_lock(&q->lock);
    if (q->closed) {
        r = -EPIPE;
    } else {
        *q->tail = item;
        q->tail = &item->next;
        q->count++;
        pthread_cond_signal(&q->filled);
    }
    pthread_mutex_unlock(&q->lock);
    return r;
}

/* With the lock held. */
static struct ty_queue_item *detach(struct ty_queue *q)
{
    struct ty_queue_item *chain = q->head;

    q->head = NULL;
    q->tail = &q->head;
    q->count = 0;
    return chain;
}

struct ty_queue_item *ty_queue_take_all(struct ty_queue *q)
{
    struct ty_queue_item *chain;

    pthread_mutex_lock(&q->lock);
    while (!q->head && !q->closed)
        pthread_cond_wait(&q->filled, &q->lock);
    chain = detach(q);
    pthread_mutex_unlock(&q->lock);
    return chain;
}

struct ty_queue_item *ty_queue_poll_all(struct ty_queue *q)
{
    struct ty_queue_item *chain;

    pthread_mutex_lock(&q->lock);
    chain = detach(q);
    pthread_mutex_unlock(&q->lock);
    return chain;
}

void ty_queue_close(struct ty_queue *q)
{
    pthread_mutex_lock(&q->lock);
    q->closed = true;
    pthread_cond_broadcast(&q->filled);
    pthread_mutex_unlock(&q->lock);
}
