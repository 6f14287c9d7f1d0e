/* writer.c - the writer thread: batches, failures, delivery, checkpoints, sweeping
 *
 * The loop pushes units on `incoming`; this thread applies each inside a savepoint of the open
 * transaction and commits when nothing is left to do, or when the batch is old or large enough.
 * Then the units go to `done`, in the order in which they came, and the loop is woken.  Three
 * kinds of failure:
 *
 *   a unit's own      a gap, a duplicate, an unknown run: its savepoint is undone; the others go on
 *   the batch's       a full disk, an I/O error: the transaction is undone, all its units fail with that code,
 *                     and so does every unit that was queued before the loop learned of it.  Such a unit carries
 *                     the epoch of the failure (or an earlier one); ty_store_resume() starts a new epoch
 *   housekeeping's    checkpoints and sweeps are tried again later: nothing rests on them
 *
 * Log bytes are written before the commit.  When it fails they lie beyond the stored size, where
 * nobody reads, and the next writer of that offset overwrites them.
 */
#include "base/clock.h"
#include "base/fault.h"
#include "store/store_internal.h"
#include <errno.h>
#include <signal.h>
#include <string.h>

struct batch {
    struct ty_unit *head, **tail;
    int64_t rows, since_us; /* since_us: monotonic, of its first unit */
    int failed;             /* 0, or why the whole of it fails */
};

#define unit_of(i) ty_container(i, struct ty_unit, item)

/* ---- on the writer thread ---- */

static bool is_logical(int r)
{
    return r == -EPROTO || r == -EEXIST || r == -ENOENT || r == -EINVAL;
}

static int apply_ops(struct ty_store *st, const struct ty_unit *u)
{
    for (const struct op *op = u->head; op; op = op->next) {
        int r = op->apply(st, op);

        if (r < 0)
            return r;
    }
    return 0;
}

static int undo_unit(struct ty_store *st, const struct doomed *before)
{
    int r = store_exec(&st->writer, STMT_unit_undo, "");

    store_keys_forget(st);
    store_doomed_forget(st, before);
    return r < 0 ? r : store_exec(&st->writer, STMT_unit_keep, "");
}

/* Apply the unit inside a savepoint.  Sets its own result; the return is what fails the batch. */
static int apply_unit(struct ty_store *st, struct ty_unit *u)
{
    const struct doomed *before = st->doomed;
    int r;

    if (u->failed)
        return -ENOMEM;
    r = store_exec(&st->writer, STMT_unit_begin, "");
    if (r < 0)
        return r;
    u->result = apply_ops(st, u);
    if (is_logical(u->result))
        return undo_unit(st, before);
    return u->result < 0 ? u->result : store_exec(&st->writer, STMT_unit_keep, "");
}

static void remove_doomed_logs(struct ty_store *st)
{
    for (const struct doomed *d = st->doomed; d; d = d->next) {
        store_log_close(st, d->run);
        store_log_remove(st, d->name); /* a failure is mended by the sweep */
        st->sweep = true;
    }
    store_doomed_forget(st, NULL);
}

static void batch_fail(struct ty_store *st, struct batch *b, int r)
{
    if (!sqlite3_get_autocommit(st->writer.db))
        store_exec(&st->writer, STMT_rollback, "");
    store_keys_forget(st);
    store_doomed_forget(st, NULL);
    for (struct ty_unit *u = b->head; u; u = (struct ty_unit *)u->item.next) {
        u->result = r;
        st->failed_epoch = u->epoch;
    }
    st->failed_code = r;
    atomic_store(&st->failed, r);
}

static void batch_end(struct ty_store *st, struct batch *b)
{
    int rc, r = b->failed;

    if (r == 0) {
        rc = FAULT("store.commit", -1, sqlite3_step(st->writer.q[STMT_commit]));
        r = store_errno(st->writer.db, rc);
        sqlite3_reset(st->writer.q[STMT_commit]);
    }
    if (r < 0)
        batch_fail(st, b, r);
    else
        remove_doomed_logs(st);
    for (struct ty_unit *u = b->head, *next; u; u = next) {
        next = (struct ty_unit *)u->item.next;
        ty_queue_push(&st->done, &u->item);
    }
    *b = (struct batch){ 0 };
    st->wake(st->ctx);
}

static void batch_add(struct ty_store *st, struct batch *b, struct ty_unit *u)
{
    u->item.next = NULL;
    if (u->epoch <= st->failed_epoch) { /* it may rest on what was not stored */
        u->result = st->failed_code;
        ty_queue_push(&st->done, &u->item);
        st->wake(st->ctx);
        return;
    }
    if (!b->head) {
        b->tail = &b->head;
        b->since_us = ty_mono_us();
        b->failed = store_exec(&st->writer, STMT_begin, "");
    }
    *b->tail = u;
    b->tail = (struct ty_unit **)&u->item.next;
    b->rows += 1 + u->rows;
    if (b->failed == 0)
        b->failed = apply_unit(st, u);
    if (b->failed < 0 || b->rows >= STORE_BATCH_ROWS ||
        ty_mono_us() - b->since_us >= STORE_BATCH_MS * 1000)
        batch_end(st, b);
}

/* After a commit: its frames are in the log; move them into the database file while nobody waits
 * for a reply. */
static void checkpoint(struct ty_store *st)
{
    int mode = st->wal_pages >= STORE_WAL_PAGES_MAX ? SQLITE_CHECKPOINT_RESTART
                                                    : SQLITE_CHECKPOINT_PASSIVE;
    int in_log = 0, moved = 0;

    if (st->wal_pages < st->checkpoint_at)
        return;
    /* A long reader must not keep the writer, and everybody who waits for it. */
    sqlite3_busy_timeout(st->writer.db, STORE_CHECKPOINT_MS);
    sqlite3_wal_checkpoint_v2(st->writer.db, NULL, mode, &in_log, &moved);
    sqlite3_busy_timeout(st->writer.db, STORE_BUSY_MS);
    st->checkpoint_at =
        in_log >= 0 && in_log == moved ? STORE_WAL_PAGES : st->wal_pages + STORE_WAL_PAGES;
    st->wal_pages = 0;
}

static int on_wal(void *ctx, sqlite3 *db, const char *name, int pages)
{
    struct ty_store *st = ctx;

    (void)db;
    (void)name;
    st->wal_pages = pages;
    return SQLITE_OK;
}

/* One bounded step of removing what deleted runs left. */
static int sweep_step(struct ty_store *st)
{
    sqlite3_stmt *q = store_bind(&st->writer, STMT_garbage_next, "");
    int64_t run = 0;
    int r = store_step(q);

    if (r == 1) {
        run = sqlite3_column_int64(q, 0);
        if (store_text(q, 1))
            r = store_log_remove(st, store_text(q, 1));
    }
    sqlite3_reset(q);
    if (r <= 0)
        return r < 0 ? r : -ENOENT;
    r = store_exec(&st->writer, STMT_metric_sweep, "ii", run, (int64_t)STORE_SWEEP_ROWS);
    if (r == 0 && sqlite3_changes(st->writer.db) < STORE_SWEEP_ROWS)
        r = store_exec(&st->writer, STMT_garbage_done, "i", run);
    return r;
}

static void sweep(struct ty_store *st)
{
    int r = store_exec(&st->writer, STMT_begin, "");

    if (r == 0)
        r = sweep_step(st);
    if (r == 0)
        r = store_exec(&st->writer, STMT_commit, "");
    if (!sqlite3_get_autocommit(st->writer.db))
        store_exec(&st->writer, STMT_rollback, "");
    if (r < 0)
        st->sweep =
            false; /* all done, or the disk is full: then the next deletion or start takes it up */
}

static void *writer_main(void *arg)
{
    struct ty_store *st = arg;
    struct batch b = { 0 };

    for (;;) {
        struct ty_queue_item *chain = ty_queue_poll_all(&st->incoming);

        if (!chain && b.head) {
            batch_end(st, &b);
            continue;
        }
        if (!chain && st->sweep && !st->failed) {
            sweep(st);
            continue;
        }
        if (!b.head)
            checkpoint(st);
        if (!chain && !(chain = ty_queue_take_all(&st->incoming)))
            return NULL;
        for (struct ty_queue_item *next; chain; chain = next) {
            next = chain->next;
            batch_add(st, &b, unit_of(chain));
        }
    }
}

/* ---- on the loop ---- */

static void refill_spares(struct ty_store *st)
{
    for (int i = 0; i < STORE_SPARE_UNITS; i++)
        if (!st->spares[i])
            st->spares[i] = ty_unit_new();
}

/* A unit without operations, for the news that there was no memory for another one. */
static struct ty_unit *take_spare(struct ty_store *st)
{
    for (int i = 0; i < STORE_SPARE_UNITS; i++)
        if (st->spares[i]) {
            struct ty_unit *u = st->spares[i];

            st->spares[i] = NULL;
            u->failed = true;
            return u;
        }
    return NULL;
}

int store_writer_start(struct ty_store *st)
{
    sigset_t all, before;
    int r;

    refill_spares(st);
    st->checkpoint_at = STORE_WAL_PAGES;
    sqlite3_wal_hook(st->writer.db, on_wal, st);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    r = -FAULT("store.open", errno, pthread_create(&st->thread, NULL, writer_main, st));
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    st->threaded = r == 0;
    return r;
}

void store_writer_stop(struct ty_store *st)
{
    ty_queue_close(&st->incoming);
    if (st->threaded)
        pthread_join(st->thread, NULL);
    st->threaded = false;
}

void ty_store_commit(struct ty_store *st, struct ty_unit *u, ty_unit_done done, void *ctx)
{
    if (!u)
        u = take_spare(st);
    if (!u) { /* more calls without memory than there are spares: no order to keep with others that fail the same way */
        if (done)
            done(ctx, -ENOMEM);
        return;
    }
    u->done = done;
    u->ctx = ctx;
    u->epoch = st->epoch;
    if (ty_queue_push(&st->incoming, &u->item) < 0) {
        u->result = -ESHUTDOWN;
        ty_queue_push(&st->done, &u->item);
    }
}

static void deliver(struct ty_queue_item *chain)
{
    for (struct ty_queue_item *next; chain; chain = next) {
        struct ty_unit *u = unit_of(chain);

        next = chain->next;
        if (u->done)
            u->done(u->ctx, u->result);
        ty_unit_free(u);
    }
}

void ty_store_deliver(struct ty_store *st)
{
    struct ty_queue_item *chain;

    while ((chain = ty_queue_poll_all(&st->done)))
        deliver(chain);
    if (!st->closing)
        refill_spares(st);
}

static void on_settled(void *ctx, int r)
{
    *(int *)ctx = r;
}

int ty_store_settle(struct ty_store *st)
{
    int r = 1;

    ty_store_commit(st, ty_unit_new(), on_settled, &r);
    while (r > 0)
        deliver(ty_queue_take_all(&st->done));
    return r;
}

int ty_store_resume(struct ty_store *st)
{
    if (atomic_load(&st->failed)) {
        st->epoch++;
        atomic_store(&st->failed, 0);
    }
    return 0;
}

int ty_store_failed(const struct ty_store *st)
{
    return atomic_load(&((struct ty_store *)st)->failed);
}
