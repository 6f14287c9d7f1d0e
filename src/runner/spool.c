/* spool.c - the mapped row spool: writer (script) and reader (runner)
 *
 *   0      64     128              4096                4096 + 1 MiB
 *   | script | runner | spare ...  | segment 0         | segment 1 ...
 *
 * The script writes its half of the head through a mapping and publishes rows with a release store
 * of `end`. The runner uses pread and pwrite on the same pages.  Its place (bytes, row number)
 * stands twice, and `slot` says which one holds: a runner that is killed between two stores leaves
 * a pair that fits together.
 */
#include "runner/spool.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/str.h"
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEAD_BYTES 4096
#define PUNCH_STEP (256u << 10) /* give space back in steps of at least this */
#define PAGE 4096u

static const char magic[8] = { 'T', 'Y', 'R', 'O', 'W', 'S', '1', '\n' };

struct place {
    uint64_t bytes, row;
};

struct head {
    char magic[8];
    uint32_t writer, pid;
    _Atomic uint64_t end;
    _Atomic uint64_t count;
    _Atomic uint64_t dropped;
    uint64_t spare1[3];
    _Atomic uint64_t acked; /* offset 64 */
    _Atomic uint64_t freed;
    uint64_t slot;
    uint64_t spare2;
    struct place place[2]; /* offset 96 */
};
static_assert(offsetof(struct head, acked) == 64 && offsetof(struct head, place) == 96,
              "docs/spec/rows.md");

struct ty_spool_writer {
    pthread_mutex_t lock;
    int fd, pid;
    struct head *head;
    unsigned char *
        segment; /* mapped; the one that holds byte `end`, or the one before when `end` is its end */
    uint64_t segment_no;
};

/* --- writer --- */

static int segment_map(struct ty_spool_writer *w, uint64_t no)
{
    off_t at = (off_t)(HEAD_BYTES + no * TY_SPOOL_SEGMENT);
    void *p;
    int r;

    /* Space first: a store into a hole of a full disk is a SIGBUS. */
    r = posix_fallocate(w->fd, at, TY_SPOOL_SEGMENT);
    if (r != 0)
        return -r;
    p = mmap(NULL, TY_SPOOL_SEGMENT, PROT_READ | PROT_WRITE, MAP_SHARED, w->fd, at);
    if (p == MAP_FAILED)
        return -errno;
    if (w->segment)
        munmap(w->segment, TY_SPOOL_SEGMENT);
    w->segment = p;
    w->segment_no = no;
    return 0;
}

struct ty_spool_writer *ty_spool_writer_free(struct ty_spool_writer *w)
{
    if (!w)
        return NULL;
    if (w->segment)
        munmap(w->segment, TY_SPOOL_SEGMENT);
    if (w->head)
        munmap(w->head, HEAD_BYTES);
    if (w->fd >= 0)
        close(w->fd);
    pthread_mutex_destroy(&w->lock);
    free(w);
    return NULL;
}

static void writer_freep(struct ty_spool_writer **w)
{
    ty_spool_writer_free(*w);
}

/* The first free writer number, and its file. */
static int claim(const char *dir, int *fd, uint32_t *writer)
{
    for (uint32_t n = 0; n < TY_SPOOL_WRITERS_MAX; n++) {
        CLEANUP_FREE char *path = ty_strf("%s/rows-%u.spool", dir, n);

        if (!path)
            return -ENOMEM;
        *fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (*fd >= 0) {
            *writer = n;
            return 0;
        }
        if (errno != EEXIST)
            return -errno;
    }
    return -EMFILE;
}

int ty_spool_create(const char *dir, struct ty_spool_writer **ret, struct ty_error *err)
{
    CLEANUP(writer_freep) struct ty_spool_writer *w = calloc(1, sizeof *w);
    uint32_t writer = 0;
    void *p;
    int r;

    if (!w)
        return ty_error_oom(err);
    pthread_mutex_init(&w->lock, NULL);
    w->fd = -1;
    w->pid = getpid();
    r = claim(dir, &w->fd, &writer);
    if (r == 0) {
        r = -posix_fallocate(w->fd, 0, HEAD_BYTES);
        if (r == 0)
            r = segment_map(w, 0);
    }
    if (r < 0) {
        errno = -r;
        return ty_error_set(err, r, "cannot make a file for logged values in '%s': %m", dir);
    }
    p = mmap(NULL, HEAD_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, w->fd, 0);
    if (p == MAP_FAILED)
        return ty_error_set(err, -errno, "cannot map the file for logged values in '%s': %m", dir);
    w->head = p;
    w->head->writer = writer;
    w->head->pid = (uint32_t)w->pid;
    atomic_thread_fence(memory_order_release);
    memcpy(w->head->magic, magic, sizeof magic);
    *ret = TAKE(w);
    return 0;
}

static void put_pad(struct ty_spool_writer *w, uint64_t at, uint32_t bytes)
{
    unsigned char *p = w->segment + at % TY_SPOOL_SEGMENT;

    memset(p, 0, bytes);
    if (bytes < TY_ROW_HEAD)
        return;
    memcpy(p, &bytes, sizeof bytes);
    p[4] = TY_ROW_PAD;
}

/* Where the row goes; pads the present segment and maps the next one when it does not fit. */
static int make_room(struct ty_spool_writer *w, size_t size, uint64_t *at)
{
    uint64_t end = atomic_load_explicit(&w->head->end, memory_order_relaxed);
    uint64_t left = (w->segment_no + 1) * TY_SPOOL_SEGMENT - end;
    uint64_t start = size <= left ? end : end + left;
    int r;

    if (start + size - atomic_load_explicit(&w->head->freed, memory_order_acquire) >
        TY_SPOOL_UNACKED_MAX)
        return -ENOBUFS;
    if (start != end || left == 0) {
        unsigned char *old = w->segment;
        uint64_t old_no = w->segment_no;

        w->segment = NULL;
        r = segment_map(w, old_no + 1);
        if (r < 0) {
            w->segment = old;
            return r;
        }
        if (left > 0) {
            unsigned char *fresh = w->segment;

            w->segment = old;
            put_pad(w, end, (uint32_t)left);
            w->segment = fresh;
        }
        munmap(old, TY_SPOOL_SEGMENT);
    }
    *at = start;
    return 0;
}

static int write_locked(struct ty_spool_writer *w, const struct ty_row *row)
{
    size_t size = ty_row_size(row);
    uint64_t at = 0;
    int r;

    if (row->kind <= TY_ROW_PAD || row->kind >= TY_ROW_KIND_COUNT ||
        row->name_len > TY_ROW_NAME_MAX || row->value_len > TY_ROW_VALUE_MAX)
        return -EINVAL;
    r = make_room(w, size, &at);
    if (r < 0) {
        atomic_fetch_add_explicit(&w->head->dropped, 1, memory_order_relaxed);
        return r;
    }
    r = ty_row_encode(row, w->segment + at % TY_SPOOL_SEGMENT);
    if (r < 0)
        return r;
    atomic_fetch_add_explicit(&w->head->count, 1, memory_order_relaxed);
    atomic_store_explicit(&w->head->end, at + size, memory_order_release);
    return 0;
}

int ty_spool_write(struct ty_spool_writer *w, const struct ty_row *row)
{
    int r;

    pthread_mutex_lock(&w->lock);
    r = write_locked(w, row);
    pthread_mutex_unlock(&w->lock);
    return r;
}

uint64_t ty_spool_written(const struct ty_spool_writer *w)
{
    return atomic_load_explicit(&w->head->count, memory_order_relaxed);
}

uint64_t ty_spool_acked(const struct ty_spool_writer *w)
{
    return atomic_load_explicit(&w->head->acked, memory_order_relaxed);
}

uint32_t ty_spool_writer_number(const struct ty_spool_writer *w)
{
    return w->head->writer;
}

uint64_t ty_spool_room(const struct ty_spool_writer *w)
{
    uint64_t kept = atomic_load_explicit(&w->head->end, memory_order_relaxed) -
                    atomic_load_explicit(&w->head->freed, memory_order_acquire);

    /* The rest of a segment that a row does not fit into is lost. */
    return kept + TY_SPOOL_SEGMENT < TY_SPOOL_UNACKED_MAX
               ? TY_SPOOL_UNACKED_MAX - TY_SPOOL_SEGMENT - kept
               : 0;
}

int ty_spool_writer_pid(const struct ty_spool_writer *w)
{
    return w->pid;
}

/* --- reader --- */

struct ty_spool_reader {
    int fd;
    uint32_t writer;
    unsigned slot;
    struct place freed; /* all before it is acknowledged */
    struct place next;  /* what ty_spool_read gives next */
    uint64_t punched;   /* bytes */
};

static int head_get(int fd, size_t offset, uint64_t *ret)
{
    uint64_t a, b;

    for (int i = 0; i < 100; i++) {
        if (pread(fd, &a, sizeof a, (off_t)offset) != sizeof a ||
            pread(fd, &b, sizeof b, (off_t)offset) != sizeof b)
            return -EBADMSG;
        if (a == b) {
            atomic_thread_fence(memory_order_acquire);
            *ret = a;
            return 0;
        }
    }
    return -EAGAIN;
}

static void head_put(int fd, size_t offset, const void *bytes, size_t n)
{
    /* A failed store costs a delayed freeing only: the daemon's word decides where delivery goes on. */
    if (pwrite(fd, bytes, n, (off_t)offset) < 0)
        return;
}

struct ty_spool_reader *ty_spool_reader_free(struct ty_spool_reader *r)
{
    if (!r)
        return NULL;
    if (r->fd >= 0)
        close(r->fd);
    free(r);
    return NULL;
}

static void reader_freep(struct ty_spool_reader **r)
{
    ty_spool_reader_free(*r);
}

int ty_spool_reader_open(const char *path, struct ty_spool_reader **ret, struct ty_error *err)
{
    CLEANUP(reader_freep) struct ty_spool_reader *r = calloc(1, sizeof *r);
    struct head head;
    struct stat st;

    if (!r)
        return ty_error_oom(err);
    r->fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (r->fd < 0)
        return ty_error_set(err, -errno, "cannot open the row spool '%s': %m", path);
    if (fstat(r->fd, &st) < 0 || !S_ISREG(st.st_mode))
        return ty_error_set(err, -EBADMSG, "'%s' is not a row spool", path);
    if (pread(r->fd, &head, sizeof head, 0) != sizeof head || head.magic[0] == 0)
        return ty_error_set(err, -EAGAIN, "the row spool '%s' is not complete yet", path);
    if (memcmp(head.magic, magic, sizeof magic) != 0 || head.slot > 1)
        return ty_error_set(err, -EBADMSG, "'%s' is not a row spool of version 1", path);
    r->writer = head.writer;
    r->slot = (unsigned)head.slot;
    r->freed = r->next = head.place[r->slot];
    r->punched = r->freed.bytes & ~(uint64_t)(PAGE - 1);
    *ret = TAKE(r);
    return 0;
}

uint32_t ty_spool_reader_writer(const struct ty_spool_reader *r)
{
    return r->writer;
}

uint64_t ty_spool_reader_dropped(const struct ty_spool_reader *r)
{
    uint64_t n = 0;

    head_get(r->fd, offsetof(struct head, dropped), &n);
    return n;
}

bool ty_spool_reader_pending(const struct ty_spool_reader *r)
{
    uint64_t end;

    return head_get(r->fd, offsetof(struct head, end), &end) == 0 && end > r->next.bytes;
}

/* Step over the row or padding at *p: 1 a row, 0 padding, or a negative errno. */
static int step(const struct ty_spool_reader *r, struct place *p, uint64_t end)
{
    uint64_t left = TY_SPOOL_SEGMENT - p->bytes % TY_SPOOL_SEGMENT;
    unsigned char row[TY_ROW_HEAD];
    uint32_t size;

    if (left < TY_ROW_HEAD) {
        p->bytes += left;
        return 0;
    }
    if (pread(r->fd, row, sizeof row, (off_t)(HEAD_BYTES + p->bytes)) != sizeof row)
        return -EBADMSG;
    memcpy(&size, row, sizeof size);
    if (size < TY_ROW_HEAD || size % 8 != 0 || size > left || p->bytes + size > end)
        return -EBADMSG;
    p->bytes += size;
    if (row[4] == TY_ROW_PAD)
        return 0;
    p->row++;
    return 1;
}

/* The place of row `seq`, looked for from `from` on. */
static int find(const struct ty_spool_reader *r, struct place from, uint64_t seq, struct place *ret)
{
    uint64_t end;
    int got = head_get(r->fd, offsetof(struct head, end), &end);

    if (got < 0)
        return got;
    while (from.row < seq) {
        if (from.bytes >= end)
            return -EINVAL;
        got = step(r, &from, end);
        if (got < 0)
            return got;
    }
    *ret = from;
    return 0;
}

int ty_spool_reader_seek(struct ty_spool_reader *r, uint64_t seq)
{
    return seq < r->freed.row ? -EINVAL : find(r, r->freed, seq, &r->next);
}

/* Whole rows at the start of buf[0..n): their bytes; *count says how many; stops at padding. */
static ptrdiff_t whole_rows(const unsigned char *buf, size_t n, uint32_t *count)
{
    size_t used = 0;

    *count = 0;
    while (used + TY_ROW_HEAD <= n && buf[used + 4] != TY_ROW_PAD) {
        struct ty_row row;
        ptrdiff_t got = ty_row_decode(buf + used, n - used, &row);

        if (got == -EAGAIN)
            break;
        if (got <= 0)
            return -EBADMSG;
        used += (size_t)got;
        ++*count;
    }
    return (ptrdiff_t)used;
}

ptrdiff_t ty_spool_read(struct ty_spool_reader *r, void *buf, size_t cap, uint64_t *first,
                        uint32_t *count)
{
    uint64_t end;
    int got = head_get(r->fd, offsetof(struct head, end), &end);

    assert(cap >= TY_SPOOL_ROW_MAX);
    if (got < 0)
        return got == -EAGAIN ? 0 : got;
    while (r->next.bytes < end) {
        uint64_t room = TY_SPOOL_SEGMENT - r->next.bytes % TY_SPOOL_SEGMENT;
        size_t want = room < cap ? (size_t)room : cap;
        ptrdiff_t n;

        if (want > end - r->next.bytes)
            want = (size_t)(end - r->next.bytes);
        if (pread(r->fd, buf, want, (off_t)(HEAD_BYTES + r->next.bytes)) != (ssize_t)want)
            return -EBADMSG;
        n = whole_rows(buf, want, count);
        if (n < 0)
            return n;
        if (n > 0) {
            *first = r->next.row;
            r->next.bytes += (uint64_t)n;
            r->next.row += *count;
            return n;
        }
        if (step(r, &r->next, end) != 0)
            return -EBADMSG; /* a row that was not whole although `end` lies behind it */
    }
    return 0;
}

void ty_spool_ack(struct ty_spool_reader *r, uint64_t seq)
{
    struct place p;
    uint64_t slot = !r->slot, whole;

    if (seq <= r->freed.row || find(r, r->freed, seq, &p) < 0)
        return;
    head_put(r->fd, offsetof(struct head, place) + slot * sizeof p, &p, sizeof p);
    head_put(r->fd, offsetof(struct head, slot), &slot, sizeof slot);
    head_put(r->fd, offsetof(struct head, acked), &p.row, sizeof p.row);
    head_put(r->fd, offsetof(struct head, freed), &p.bytes, sizeof p.bytes);
    r->slot = (unsigned)slot;
    r->freed = p;
    if (r->next.bytes < p.bytes)
        r->next = p;
    whole = p.bytes & ~(uint64_t)(PAGE - 1);
    if (whole - r->punched >= PUNCH_STEP) {
        fallocate(r->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                  (off_t)(HEAD_BYTES + r->punched), (off_t)(whole - r->punched));
        r->punched = whole;
    }
}
