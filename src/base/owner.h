/* owner.h - acting as the user whom something belongs to
 *
 * A daemon that serves a whole machine runs as root, and so do its runners.  What lies in a user's hands
 * (a working directory, a row spool, the files of a datastore) they touch as that user only, so that the
 * kernel checks each access as it would the user's own: links and races lead nowhere new.
 *
 * In user mode there is no owner: every function takes NULL and then does nothing.
 */
#ifndef TY_OWNER_H
#define TY_OWNER_H
#include <sys/types.h>
struct ty_error;

#define TY_OWNER_GROUPS_MAX 256
struct ty_owner {
    uid_t uid;
    gid_t gid;
    char *name, *home, *shell;
    gid_t groups[TY_OWNER_GROUPS_MAX]; /* all of them, gid among them */
    int ngroups;
};

/* Look a user up, by name or by number; may wait for a directory server.  -ENOENT: there is none. */
int ty_owner_find(const char *name, struct ty_owner **ret, struct ty_error *err);
struct ty_owner *ty_owner_free(struct ty_owner *o);

/* From here on this thread's accesses to files are the owner's, until it leaves; other threads and the right
 * to signal stay as they are.  Calls do not nest.  A process that cannot give up its rights ends at once. */
void ty_owner_enter(const struct ty_owner *o);
void ty_owner_leave(const struct ty_owner *o);

/* May this process act as other users?  0 or -EPERM; root in a container often may not.  Forks. */
int ty_owner_check(void);

/* Become the owner for good.  Async-signal-safe: may be called between fork and exec.  0 or -errno. */
int ty_owner_become(const struct ty_owner *o);
#endif
