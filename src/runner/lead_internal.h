/* lead_internal.h - what the parts of lead.h share
 *
 *   lead.c       who is there: connections, states, time
 *   lead_take.c  what nodes send: records, logs, rows, content
 */
#ifndef TY_LEAD_INTERNAL_H
#define TY_LEAD_INTERNAL_H
#include "blob/blob.h"
#include "runner/child.h"
#include "runner/fetch.h"
#include "runner/lead.h"
#include "runner/spool.h"
#include "runner/stream.h"

/* Queues of those who are waited for.  In each everybody has the same patience, so that the first in it is the first whose
 * time is over.  A node is in at most one of the last three. */
enum ty_queue_id {
    TY_Q_GUEST,  /* connections that have not said who they are */
    TY_Q_STALL,  /* connections that are not read for a moment */
    TY_Q_HEARD,  /* nodes that are heard */
    TY_Q_SILENT, /* nodes that are not */
    TY_Q_CLOSED, /* nodes whose connection was closed over there */
    TY_Q_COUNT
};
struct ty_wait {
    struct ty_wait *next, *before;
    int64_t since_us;
    enum ty_queue_id in;
    bool waits;
    void *who; /* struct ty_conn or struct ty_node */
};

struct ty_conn {
    struct ty_stream *stream;
    struct ty_node *node; /* NULL: it has not said yet */
    uint32_t slot, serial; /* where it stands among the lead's, and which one it is of those that ever stood there */
    bool watched;          /* it is in the epoll set, */
    uint32_t events;       /* for these */
    struct ty_wait wait;
};

/* A record that is not told yet. */
struct ty_told {
    uint64_t seq;
    json_t *o;
    const char *sha;  /* of an artifact; borrowed from o */
    uint64_t sync_no; /* the sync that brings its content to the disk for sure; 0: the content is not here yet */
};

struct ty_node_writer {
    struct ty_spool_writer *spool; /* NULL: none, or none could be made */
    uint64_t next;
    int64_t full_us; /* since when its spool has no room; 0: it has */
    bool given_up;
};

struct ty_node {
    struct ty_lead *lead;
    int index;
    enum ty_node_state state;
    bool silent, refused;
    struct ty_conn *conn; /* NULL: not connected */
    struct ty_wait wait;
    char *who;            /* malloc'ed: boot, pid and start of its agent; NULL: it has not come yet */
    uint64_t record_next; /* wanted from it */
    struct ty_told *told; /* told[told_at..ntold) wait */
    size_t told_at, ntold, told_cap;
    struct ty_fetch *fetch;
    uint64_t *logged; /* bytes, by rank of the node */
    uint64_t control; /* bytes of its control log */
    uint64_t built;   /* bytes of what building its environment said */
    struct ty_str line; /* what of that is no whole line yet */
    struct ty_node_writer *writer;
    uint32_t nwriters;
};

/* A fence that was complete: its frame, encoded. */
#define TY_LEAD_FENCES 64
struct ty_fence_told {
    char *name; /* malloc'ed; NULL: none */
    struct ty_str frame;
};

struct ty_lead {
    const struct ty_jobfile *job;
    const struct ty_lead_hooks *hooks;
    void *ctx;
    struct ty_gate *gate;
    struct ty_blobs *blobs;
    int epoll;
    struct ty_conn **conn; /* by slot; NULL: free */
    uint32_t *free, nfree, nconn, serial; /* slots that are free */
    int64_t now_us, patience[TY_Q_COUNT];
    struct {
        struct ty_wait *first, *last;
    } queue[TY_Q_COUNT];
    struct ty_node *node; /* those that are led: node[0] is the job's node `first` */
    int first, n, count[TY_NODE_STATE_COUNT];
    char address[48];
    struct ty_fence_told fence[TY_LEAD_FENCES];
    unsigned nfences;  /* so far */
    char *go;          /* the JSON of GO; NULL: not yet */
    int64_t end_ms;    /* -1: not yet */
    bool released;
    struct ty_child syncer; /* brings content to the disk */
    uint64_t syncing, synced; /* the number of the last sync that was begun, and of the last that was done */
    bool sync_wanted, take;   /* take: artifacts of nodes are told of */
    int64_t sync_due_us;
    json_t *files;     /* path -> SHA-256 of every artifact */
    int64_t nfiles, file_bytes;
    bool files_full_told, writers_told;
};

/* What epoll tells of: the gate, the syncer, or the connection with that serial in the slot that follows.  A connection that
 * is closed here may still be open in a child that was just forked, and be told of: hence the serial. */
enum { TY_EVENT_GATE, TY_EVENT_SYNCER, TY_EVENT_CONN };

/* lead_take.c: 0; -EAGAIN: not now, the same frame again later; else the connection ends. */
int ty_lead_take(struct ty_node *n, const struct ty_frame *f);
void ty_lead_take_free(struct ty_node *n);
/* What WELCOME says that is here. */
json_t *ty_lead_taken(const struct ty_node *n);
/* Tell of what has become complete. */
void ty_lead_tell(struct ty_node *n);
void ty_lead_sync(struct ty_lead *l);       /* begin one, if need be */
void ty_lead_sync_heard(struct ty_lead *l); /* it has something to say */
/* lead.c */
void ty_lead_set(struct ty_node *n, enum ty_node_state s);
void ty_lead_watch(struct ty_node *n); /* something was sent */
#endif
