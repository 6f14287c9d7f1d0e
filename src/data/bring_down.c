/* bring_down.c - from an object store through the cache to a job
 *
 * A listing is gone through in batches: what the cache lacks of one is fetched, then each of its files is cloned (where the file system can),
 * linked (a job that may not write to it, as another user than root), or copied to its place.
 *
 * Two runs that want the same at once fetch it once: an object is locked while it is fetched, and only that.  Who meets a locked one
 * fetches the others first, and waits while it holds none, so nobody waits in a circle.
 */
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/str.h"
#include "blob/blob.h"
#include "data/bring_internal.h"
#include "data/cache.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define BATCH 4096
#define BATCH_BYTES ((uint64_t)8 << 30)
#define SETTLE_US ((int64_t)5 * 1000000) /* between two looks at what is whole meanwhile... */
#define SETTLE_TIMES 10 /* ...and many times what one takes: the disk may be slow */
#define TRIES 3         /* a file that is collected or spoilt between its fetching and its use */

/* One file of a batch. */
struct piece {
    char *rel, *mark, *path, *cached; /* owned; path: of the object */
    uint64_t bytes;
    int64_t mtime_us;
    off_t at;           /* of its byte in the lock file */
    bool fetched, have; /* by this run: whole; and its place in the cache is settled */
    struct ty_object object;
};
struct batch {
    struct ty_bring *b;
    const char *to;
    bool own;
    struct piece *at;
    size_t n, placed;           /* of n, in order: those that the job has, also from a try before */
    struct ty_move_file *files; /* that have to be fetched */
    struct piece **of;          /* of files[i] */
    size_t nfiles, nfetched;    /* fetched: and not settled */
    int64_t settle_us;          /* when that is due */
    uint64_t bytes;             /* of those n */
    char *dir;                  /* <cache>/data/<store> */
    int lock;                   /* <dir>/lock */
    bool waited, made_room;
    struct ty_error *err;
};

/* --- names in the cache --- */

static char *cached_path(const struct batch *s, struct piece *p)
{
    CLEANUP_STR struct ty_str key = { 0 };
    char sha[TY_SHA256_HEX + 1], head[16];

    ty_str_addf(&key, "%s\n%s\n%llu\n%lld", p->path, p->object.etag, (unsigned long long)p->bytes,
                *p->object.etag ? 0LL : (long long)p->mtime_us);
    if (key.failed)
        return NULL;
    ty_sha256_hex(key.text, key.len, sha);
    snprintf(head, sizeof head, "%.15s", sha);
    p->at = (off_t)strtoull(head, NULL, 16);
    return ty_strf("%s/%.2s/%.40s", s->dir, sha, sha + 2);
}

static struct timespec time_of(int64_t us)
{
    return (struct timespec){ .tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000 };
}

/* As it was put there?  Then it is marked as used. */
static bool is_good(const struct piece *p)
{
    struct timespec now[2] = { { .tv_nsec = UTIME_NOW }, { .tv_nsec = UTIME_OMIT } };
    struct stat st;

    if (lstat(p->cached, &st) < 0)
        return false;
    if (S_ISREG(st.st_mode) && (uint64_t)st.st_size == p->bytes && (st.st_mode & 0777) == 0444 &&
        ty_time_us(st.st_mtim) == p->mtime_us)
        return utimensat(AT_FDCWD, p->cached, now, 0) == 0 || errno == EPERM;
    return false;
}

static int settle(const struct piece *p)
{
    struct timespec t[2] = { { .tv_nsec = UTIME_NOW }, time_of(p->mtime_us) };

    return chmod(p->cached, 0444) < 0 || utimensat(AT_FDCWD, p->cached, t, 0) < 0 ? -errno : 0;
}

/* --- fetching --- */

static int sync_folder(const char *dir)
{
    CLEANUP_CLOSE int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    return fd < 0 || syncfs(fd) < 0 ? -errno : 0;
}

static int fetch_failed(const struct batch *s, int r)
{
    char all[16], done[16], room[16];

    if (r != -ENOSPC && r != -EDQUOT)
        return ty_error_prefix(s->err, "data reference '%s'", s->b->o.ref->name);
    return ty_error_set(s->err, r,
                        "data reference '%s': %s; the data are %s, of which %s were there, and %s "
                        "are free in '%s'",
                        s->b->o.ref->name, strerror(-r), ty_show_bytes(s->b->bytes_all, all),
                        ty_show_bytes(s->b->bytes, done),
                        ty_show_bytes(ty_fs_free_bytes(s->dir), room), s->dir);
}

/* type: F_WRLCK or F_UNLCK; how: F_OFD_SETLK or F_OFD_SETLKW. */
static int grip(const struct batch *s, const struct piece *p, short type, int how)
{
    struct flock l = { .l_type = type, .l_whence = SEEK_SET, .l_start = p->at, .l_len = 1 };

    while (fcntl(s->lock, how, &l) < 0)
        if (errno != EINTR)
            return errno == EACCES ? -EAGAIN : -errno;
    return 0;
}

static void let_go(const struct batch *s)
{
    struct flock all = { .l_type = F_UNLCK, .l_whence = SEEK_SET };

    (void)fcntl(s->lock, F_OFD_SETLK, &all);
}

/* What is not as it should be goes; only who has locked it may say so, for another may have it half settled.  1: the cache lacks it. */
static int take_up(const struct batch *s, const struct piece *p)
{
    int r = grip(s, p, F_WRLCK, F_OFD_SETLK);

    if (r < 0)
        return r;
    if (is_good(p))
        return grip(s, p, F_UNLCK, F_OFD_SETLK);
    if (unlink(p->cached) < 0 && errno != ENOENT)
        return -errno;
    return 1;
}

/* Collect what the cache lacks, and lock it.  *busy: another run is fetching this one; NULL: none. */
static int look(struct batch *s, const struct piece **busy)
{
    s->nfiles = 0;
    *busy = NULL;
    for (size_t i = 0; i < s->n; i++) {
        struct piece *p = &s->at[i];
        int r = p->have || is_good(p) ? 0 : take_up(s, p);

        if (r == -EAGAIN)
            *busy = p;
        else if (r < 0)
            return r;
        if (r != 1)
            continue;
        p->fetched = false;
        s->of[s->nfiles] = p;
        s->files[s->nfiles++] =
            (struct ty_move_file){ .local = p->cached, .path = p->path, .object = &p->object };
    }
    return 0;
}

static int wait_for(struct batch *s, const struct piece *p)
{
    CLEANUP_FREE char *note =
        ty_strf("data reference '%s': another run downloads the same data; this one waits for it",
                s->b->o.ref->name);
    int r;

    if (note && !s->waited && s->b->o.note)
        s->b->o.note(note, s->b->o.ctx);
    s->waited = true;
    r = grip(s, p, F_WRLCK, F_OFD_SETLKW);
    let_go(s);
    return r;
}

/* What is whole is the cache's from now on, and who waits for it may have it.  The times that say "whole" must not outlive, in a power
 * cut, the bytes that they speak of. */
static int settle_fetched(struct batch *s)
{
    int64_t begun = ty_mono_us();
    int r = s->nfetched > 0 ? sync_folder(s->dir) : 0;

    for (size_t i = 0; r == 0 && s->nfetched > 0 && i < s->nfiles; i++) {
        struct piece *p = s->of[i];

        if (!p->fetched)
            continue;
        r = settle(p);
        if (r < 0)
            break;
        p->have = true;
        p->fetched = false;
        s->nfetched--;
        (void)grip(s, p, F_UNLCK, F_OFD_SETLK);
    }
    s->settle_us = ty_mono_us() + SETTLE_US + SETTLE_TIMES * (ty_mono_us() - begun);
    return r;
}

static int on_progress(uint64_t bytes, uint64_t total, uint64_t files, uint64_t files_total,
                       void *ctx)
{
    struct batch *s = ctx;
    struct ty_bring *b = s->b;

    (void)total, (void)files_total;
    ty_progress_tell(&b->progress, b->bytes + bytes, b->bytes_all, b->files + files, b->files_all);
    if (ty_mono_us() > s->settle_us)
        (void)settle_fetched(s); /* what fails is tried again at the end */
    return 0;
}

static int on_file(const struct ty_move_file *f, enum ty_move_what what, int code, const char *why,
                   const struct ty_object *o, void *ctx)
{
    struct batch *s = ctx;

    (void)why, (void)o;
    if (what == TY_MOVE_FAILED)
        return code;
    s->of[f - s->files]->fetched = true;
    s->nfetched++;
    return 0;
}

/* What look() has collected. */
static int get(struct batch *s)
{
    struct ty_move m = { .store = s->b->store,
                         .http = s->b->http,
                         .overwrite = true,
                         .progress = on_progress,
                         .each = on_file,
                         .ctx = s };
    int r, settled;

    s->nfetched = 0;
    s->settle_us = ty_mono_us() + SETTLE_US;
    r = FAULT("bring.fetch", -errno, ty_move_down(&m, s->files, s->nfiles, NULL, s->err));
    ty_data_cache_grown(s->b->o.cache);
    settled = settle_fetched(s); /* also when others are not there: they need not come again */
    if (r < 0)
        return fetch_failed(s, r);
    r = settled;
    return r < 0
               ? ty_error_set(s->err, r, "cannot write to the cache '%s': %s", s->dir, strerror(-r))
               : 0;
}

static int fetch(struct batch *s)
{
    const struct piece *busy = NULL;
    int r = look(s, &busy);

    while (r == 0 && (s->nfiles > 0 || busy)) {
        if (s->nfiles > 0)
            r = get(s);
        else
            r = wait_for(s, busy);
        let_go(s);
        if (r == 0)
            r = look(s, &busy);
    }
    let_go(s);
    return r < 0 && !s->err->code
               ? ty_error_set(s->err, r, "cannot use the cache '%s': %s", s->dir, strerror(-r))
               : r;
}

/* --- to the job --- */

/* -EOPNOTSUPP and its like: this way is none here. */
static int clone_file(const char *from, const char *to)
{
    CLEANUP_CLOSE int in = open(from, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    CLEANUP_CLOSE int out =
        in < 0 ? -1 : open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
    int r;

    if (in < 0 || out < 0)
        return -errno;
    if (ioctl(out, FICLONE, in) == 0)
        return 0;
    r = -errno;
    unlink(to);
    return r;
}

static int copy_file(const char *from, const char *to)
{
    CLEANUP_CLOSE int in = open(from, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    CLEANUP_CLOSE int out =
        in < 0 ? -1 : open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
    int r = in < 0 || out < 0 ? -errno : ty_copy_fd(in, out);

    if (r < 0 && out >= 0)
        unlink(to);
    return r < 0 ? r : 0;
}

static int place(const struct batch *s, const struct piece *p, const char *to)
{
    struct timespec t[2] = { { .tv_nsec = UTIME_OMIT }, time_of(p->mtime_us) };
    int r = clone_file(p->cached, to);

    if (r == -EEXIST || r == -ENOENT || r == -ENOSPC)
        return r;
    if (r < 0 && !s->own && geteuid() != 0 && link(p->cached, to) == 0)
        return 0;
    if (r < 0)
        r = copy_file(p->cached, to);
    if (r == 0 && utimensat(AT_FDCWD, to, t, 0) < 0)
        r = -errno;
    return r;
}

static int place_failed(const struct batch *s, const struct piece *p, int r)
{
    char left[16], room[16];

    if (r == -ENOSPC || r == -EDQUOT)
        return ty_error_set(s->err, r,
                            "data reference '%s': cannot write '%s' into '%s': %s; %s are still to "
                            "be written, and %s are free",
                            s->b->o.ref->name, p->rel, s->to, strerror(-r),
                            ty_show_bytes(s->b->bytes_all - s->b->bytes, left),
                            ty_show_bytes(ty_fs_free_bytes(s->to), room));
    return ty_error_set(
        s->err, r, "data reference '%s': cannot write '%s' into '%s': %s", s->b->o.ref->name,
        p->rel, s->to, r == -EEXIST || r == -ENOTDIR ? "another file is in its way" : strerror(-r));
}

/* 0, -ESTALE: something of the batch has gone from the cache meanwhile; another try goes on where this one ended. */
static int place_all(struct batch *s)
{
    for (; s->placed < s->n; s->placed++) {
        struct piece *p = &s->at[s->placed];
        CLEANUP_FREE char *to = ty_path_join(s->to, p->rel);
        int r = to ? ty_mkdir_parent(to, 0777) : -ENOMEM;

        if (r == 0)
            r = place(s, p, to);
        if (r == -ENOENT && access(p->cached, F_OK) < 0)
            return -ESTALE;
        if (r < 0)
            return place_failed(s, p, r);
    }
    return 0;
}

static void clear(struct batch *s)
{
    for (size_t i = 0; i < s->n; i++) {
        free(s->at[i].rel);
        free(s->at[i].mark);
        free(s->at[i].path);
        free(s->at[i].cached);
    }
    s->n = s->placed = 0;
    s->bytes = 0;
}

/* The disk is full: what no run has used lately goes.  True: that was something, and it is worth another try. */
static bool make_room(struct batch *s, int r)
{
    CLEANUP_FREE char *note = NULL;
    uint64_t freed = 0;
    char size[16];

    if ((r != -ENOSPC && r != -EDQUOT) || s->made_room)
        return false;
    s->made_room = true;
    (void)ty_data_cache_collect(s->b->o.cache, 0, INT64_MAX, false, &freed, NULL);
    if (freed == 0)
        return false;
    note = ty_strf("data reference '%s': the disk is full; %s of downloaded data that no run uses "
                   "were removed from the cache",
                   s->b->o.ref->name, ty_show_bytes(freed, size));
    if (note && s->b->o.note)
        s->b->o.note(note, s->b->o.ctx);
    s->err->code = 0;
    return true;
}

static int fetch_and_place(struct batch *s)
{
    int r = -ESTALE;

    for (int try = 0; r == -ESTALE && try < TRIES; try++) {
        for (size_t i = 0; i < s->n; i++)
            s->at[i].have = false;
        r = fetch(s);
        if (r == 0)
            r = place_all(s);
    }
    if (r == -ESTALE && !s->err->code)
        ty_error_set(s->err, r,
                     "data reference '%s': files of the cache '%s' vanish while they are used",
                     s->b->o.ref->name, s->dir);
    return r;
}

static int do_batch(struct batch *s)
{
    int r = fetch_and_place(s);

    if (r < 0 && make_room(s, r))
        r = fetch_and_place(s);
    if (r < 0)
        return r;
    s->b->bytes += s->bytes;
    s->b->files += s->n;
    ty_progress_tell(&s->b->progress, s->b->bytes, s->b->bytes_all, s->b->files, s->b->files_all);
    clear(s);
    return 0;
}

static int take(const struct ty_listed *f, void *ctx)
{
    struct batch *s = ctx;
    const char *base = s->b->o.ref->path;
    struct piece *p = &s->at[s->n];

    *p = (struct piece){
        .rel = strdup(f->path), .mark = strdup(f->mark), .bytes = f->bytes, .mtime_us = f->mtime_us
    };
    p->path =
        s->b->file || !*base ? strdup(s->b->file ? base : f->path) : ty_path_join(base, f->path);
    s->n++;
    s->bytes += p->bytes;
    if (!p->rel || !p->mark || !p->path)
        return -ENOMEM;
    ty_bring_object(
        &(struct ty_listed){
            .path = p->path, .mark = p->mark, .bytes = p->bytes, .mtime_us = p->mtime_us },
        &p->object);
    p->cached = cached_path(s, p);
    if (!p->cached)
        return -ENOMEM;
    return s->n == BATCH || s->bytes >= BATCH_BYTES ? do_batch(s) : 0;
}

/* For people, what the store is. */
static void tell_about(const struct batch *s)
{
    CLEANUP_FREE char *path = ty_path_join(s->dir, TY_DATA_CACHE_ABOUT);

    if (path && access(path, F_OK) < 0)
        (void)ty_write_file(path, s->b->about, strlen(s->b->about), 0600);
}

static int open_cache(struct batch *s)
{
    CLEANUP_FREE char *path = ty_path_join(s->dir, "lock");
    int r = path ? ty_mkdir_p(s->dir, 0700) : -ENOMEM;

    if (r < 0)
        return r;
    s->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (s->lock < 0)
        return -errno;
    tell_about(s);
    return 0;
}

static int run(struct batch *s)
{
    int r = open_cache(s);

    if (r < 0)
        return ty_error_set(s->err, r, "cannot use the cache '%s': %s", s->dir, strerror(-r));
    r = ty_mkdir_p(s->to, 0777);
    if (r == 0)
        r = ty_listing_read(s->b->o.listing, take, s);
    if (r == 0 && s->n > 0)
        r = do_batch(s);
    if (r < 0 && !s->err->code)
        ty_error_set(s->err, r, "data reference '%s': %s", s->b->o.ref->name, strerror(-r));
    return r;
}

int ty_bring_down(struct ty_bring *b, const char *to, bool own, struct ty_error *err)
{
    struct batch s = { .b = b, .to = to, .own = own, .lock = -1, .err = err };
    int r;

    s.dir = ty_strf("%s/data/%s", b->o.cache, b->id);
    s.at = calloc(BATCH, sizeof *s.at);
    s.files = calloc(BATCH, sizeof *s.files);
    s.of = calloc(BATCH, sizeof(struct piece *));
    b->files = b->bytes = 0;
    err->code = 0;
    r = s.dir && s.at && s.files && s.of ? run(&s) : ty_error_oom(err);
    if (s.at)
        clear(&s);
    ty_closep(&s.lock);
    free(s.dir);
    free(s.at);
    free(s.files);
    free(s.of);
    return r;
}
