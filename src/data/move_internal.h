/* move_internal.h - what the files of the mover share
 *
 * The mover has some files under way (struct ty_moving) and as many slots as requests may be under way.  A way
 * (up or down) says what a file needs next; move.c runs it, tries again, and tells.
 */
#ifndef TY_MOVE_INTERNAL_H
#define TY_MOVE_INTERNAL_H
#include "data/http.h"
#include "data/move.h"
#include "data/move_hash.h"
#include "base/error.h"
#include <sys/stat.h>

#define TY_MOVE_SMALL (256 << 10) /* bytes: such files go through memory, and are hashed where they are */
#define TY_MOVE_AHEAD 8           /* parts of a file that are hashed before they are sent */

enum ty_op { OP_HEAD, OP_PUT, OP_FIND, OP_PARTS, OP_ABANDON, OP_BEGIN, OP_PART, OP_FINISH, OP_GET };

/* What is known of the object. */
struct ty_known {
    enum { KNOWN_NOT, KNOWN_ABSENT, KNOWN_LISTED, KNOWN_ASKED } how;
    struct ty_object o; /* its path is the file's */
    char *etag;         /* what o.etag points to, malloc'ed; NULL: "" */
};
/* 0 or -ENOMEM; what was known is freed. */
int ty_known_set(struct ty_known *k, const struct ty_object *o, int how);

struct ty_part {
    enum { PART_TODO, PART_HASHING, PART_HASHED, PART_GOING, PART_DONE } state;
    bool there; /* up: the store has one, of sum there_md5; down: whole in the part file already */
    uint8_t md5[TY_MD5_BYTES], there_md5[TY_MD5_BYTES];
    char *etag;
    uint64_t got; /* down: bytes of it that have come, 0 again when it is tried again */
    struct ty_hash_job job;
};

/* A file that is under way. */
struct ty_moving {
    const struct ty_move_file *f;
    struct ty_known known;
    int phase; /* the way's */
    int fd;    /* up: the file; down: the part file */
    struct stat st;
    uint64_t bytes, part_bytes;
    struct ty_part *parts;
    unsigned nparts, next_hash, hashing, ahead, done_parts;
    bool want_whole; /* `whole` is computed: one job after the other */
    struct ty_md5 whole;
    uint8_t whole_md5[TY_MD5_BYTES];
    char *content; /* of a small file, up */
    char *upload, *marker;
    bool denied;    /* the store said that we have no right */
    bool verifying; /* up: what is there now may be ours */
    bool misfit; /* the unfinished upload has parts of another size */
    bool resumed;
    int restarts, state_fd; /* down: of the state file */
    char *part_path, *state_path;
    unsigned requests; /* under way or waiting for their next try */
    uint64_t counted;  /* bytes that count as moved already */
    enum ty_move_what what;
    int code;     /* < 0: it has failed, for the reason in why */
    char *why;
    struct ty_moving *next;
};

struct ty_slot {
    struct ty_http_req r;
    struct ty_moving *w; /* NULL: free */
    enum ty_op op;
    unsigned part, tries;
    int64_t due_us; /* > 0: waits for its next try */
    struct ty_mover *mover;
};

struct ty_way {
    const char *doing; /* "upload" */
    /* Open the file; 1: there is nothing to do for it (w->what is set). */
    int (*open)(struct ty_mover *v, struct ty_moving *w, struct ty_error *err);
    /* What comes next: 1: `s` has op and part, and is to be started; 0: nothing can be started now; 2: the file is complete. */
    int (*next)(struct ty_mover *v, struct ty_moving *w, struct ty_slot *s, struct ty_error *err);
    int (*build)(struct ty_mover *v, struct ty_slot *s, struct ty_error *err);
    /* The end of a request: `code` is what judge() said, its text in err.  0: all is well; negative: the file has failed, err says why;
     * 1: try the same request again. */
    int (*answer)(struct ty_mover *v, struct ty_slot *s, int code, struct ty_error *err);
    int (*hashed)(struct ty_mover *v, struct ty_moving *w, struct ty_hash_job *j, struct ty_error *err);
    void (*close)(struct ty_mover *v, struct ty_moving *w);
};
extern const struct ty_way ty_way_up, ty_way_down;

struct ty_mover {
    const struct ty_move *m;
    struct ty_object_store *store;
    const struct ty_object_kind *kind;
    const struct ty_way *way;
    const struct ty_move_file *files;
    struct ty_known *known; /* up: one for each file, from a listing; NULL: nothing is known */
    size_t n, next;
    struct ty_slot *slots;
    unsigned nslots, allowed, busy, calm; /* allowed: requests at once, fewer after a throttle */
    struct ty_moving *first;
    unsigned nmoving;
    struct ty_hashers *hashers;
    struct ty_move_sum sum;
    uint64_t total, counted; /* bytes */
    int64_t told_us;
    bool answered; /* the store has said something */
    int result;    /* < 0: stop */
    struct ty_error *err;
};

/* Take back a slot, and its request when one is under way. */
void ty_slot_release(struct ty_mover *v, struct ty_slot *s);
/* Fail the file for this reason (a sentence). */
int ty_moving_fail(struct ty_mover *v, struct ty_moving *w, int code, struct ty_error *err, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
/* w->bytes into parts: part_bytes 0: as the kind wants it. */
int ty_moving_cut(struct ty_mover *v, struct ty_moving *w, uint64_t part_bytes, struct ty_error *err);
uint64_t ty_part_bytes_of(const struct ty_moving *w, unsigned part);
/* Have hashed what may be hashed by now: parts in order, at most `ahead` that are not sent yet. */
int ty_moving_hash(struct ty_mover *v, struct ty_moving *w, unsigned ahead, struct ty_error *err);
/* All parts are hashed (w->next_hash reached the end and none is running): is this the content of o? */
bool ty_moving_is(const struct ty_moving *w, const struct ty_object *o);
/* Can it be told from o whether a local file is the same?  Which cut it takes is in *part_bytes (0: any). */
bool ty_object_can_compare(const struct ty_object *o, uint64_t *part_bytes);
#endif
