/* follow.h - who wants to hear of which run
 *
 * The hub only wakes; a follower then reads what is new from the store and the log files itself, so
 * a slow one costs nothing.  Loop thread only.
 */
#ifndef TY_FOLLOW_H
#define TY_FOLLOW_H
#include <stddef.h>
struct ty_follow_hub;
struct ty_topic;

struct ty_follower {
    void (*wake)(
        struct ty_follower *f);       /* something of the run was stored, or the run was removed */
    struct ty_follower *next, **slot; /* private to follow.c; slot NULL: not in a hub */
    struct ty_topic *topic;           /* private to follow.c */
};
struct ty_follow_hub *ty_follow_hub_new(void);                     /* NULL: out of memory */
struct ty_follow_hub *ty_follow_hub_free(struct ty_follow_hub *h); /* must be empty */
/* 0, -ENOMEM, or -EUSERS above `limit` followers in all. */
int ty_follow_add(struct ty_follow_hub *h, const char *run, struct ty_follower *f, size_t limit);
void ty_follow_remove(struct ty_follow_hub *h,
                      struct ty_follower *f); /* safe inside wake, and twice */
void ty_follow_notify(struct ty_follow_hub *h, const char *run);
void ty_follow_notify_all(struct ty_follow_hub *h);
#endif
