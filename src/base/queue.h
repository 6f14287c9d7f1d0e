/* queue.h - a first-in first-out queue between threads, and an intrusive list */
#ifndef TY_QUEUE_H
#define TY_QUEUE_H
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

struct ty_queue_item {
    struct ty_queue_item *next;
};
struct ty_queue {
    pthread_mutex_t lock;
    pthread_cond_t filled;
    struct ty_queue_item *head, **tail;
    size_t count;
    bool closed;
};

void ty_queue_init(struct ty_queue *q);
void ty_queue_done(struct ty_queue *q); /* the queue must be empty */
int ty_queue_push(struct ty_queue *q, struct ty_queue_item *item); /* -EPIPE once closed */
/* All items in order as a chain, waiting until there is one; NULL when closed and empty. */
struct ty_queue_item *ty_queue_take_all(struct ty_queue *q);
/* The same without waiting; NULL when empty. */
struct ty_queue_item *ty_queue_poll_all(struct ty_queue *q);
void ty_queue_close(struct ty_queue *q);

#define ty_container(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
#endif
