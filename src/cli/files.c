/* files.c - files of runs and datastores: listed, fetched, stored */
#include "cli/files.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/str.h"
#include "cli/runs.h"
#include "client/stubs.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define TRIES_MAX 5 /* connections in a row that bring nothing of a file */

struct ty_place ty_place_run(const char *id)
{
    return (struct ty_place){ .list = TY_ROUTE_file_list, .get = TY_ROUTE_file_get, .owner = id };
}

struct ty_place ty_place_datastore(const char *name)
{
    return (struct ty_place){ .list = TY_ROUTE_data_list, .get = TY_ROUTE_data_get, .owner = name };
}

int ty_files_list(struct ty_cli *cli, const struct ty_place *p, const char *prefix, json_t **ret,
                  struct ty_error *err)
{
    CLEANUP_JSON json_t *reply = NULL;
    CLEANUP_STR struct ty_str query = { 0 };
    struct ty_call call = { .args = { p->owner } };
    int r;

    if (prefix && *prefix) {
        ty_str_add(&query, "prefix=");
        ty_str_add_url(&query, prefix, false);
        if (query.failed)
            return ty_error_oom(err);
        call.query = query.text;
    }
    r = ty_cli_get(cli, p->list, &call, &reply, err);
    if (r == 0)
        *ret = json_incref(json_object_get(reply, "files"));
    return r;
}

json_t *ty_files_select(const json_t *files, const char *path)
{
    json_t *some = json_array(), *file;
    size_t n = strlen(path), i;

    while (n > 0 && path[n - 1] == '/')
        n--;
    json_array_foreach (files, i, file) {
        const char *name = ty_out_str(file, "path");

        if (n == 0 || (!strncmp(name, path, n) && (!name[n] || name[n] == '/')))
            json_array_append(some, file);
    }
    return some;
}

uint64_t ty_files_bytes(const json_t *files)
{
    const json_t *file;
    uint64_t all = 0;
    size_t i;

    json_array_foreach (files, i, file)
        all += (uint64_t)json_integer_value(json_object_get(file, "bytes"));
    return all;
}

struct fetch {
    int (*fn)(const char *bytes, size_t n, void *ctx);
    void *ctx;
    int64_t got;
    struct ty_transfer *t;
};

static int on_data(const char *bytes, size_t n, void *ctx)
{
    struct fetch *f = ctx;
    int r = f->fn(bytes, n, f->ctx);

    if (r < 0)
        return r;
    f->got += (int64_t)n;
    if (f->t) {
        f->t->done += n;
        ty_progress_draw(&f->t->bar, f->t->what, f->t->done, f->t->all, false);
    }
    return 0;
}

int ty_file_read(struct ty_cli *cli, const struct ty_place *p, const char *path, int64_t offset,
                 int (*fn)(const char *bytes, size_t n, void *ctx), void *ctx,
                 struct ty_transfer *t, struct ty_error *err)
{
    struct fetch f = { .fn = fn, .ctx = ctx, .t = t };
    int tries = 0, r;

    do {
        struct ty_call call = {
            .args = { p->owner, path }, .on_data = on_data, .ctx = &f, .stop = ty_cli_stop()
        };
        CLEANUP_FREE char *query = ty_strf("offset=%lld", (long long)(offset + f.got));
        int64_t before = f.got;

        if (!query)
            return ty_error_oom(err);
        call.query = offset + f.got ? query : NULL;
        r = ty_client_route(cli->client, (enum ty_route_id)p->get, &call, NULL, err);
        tries = f.got > before ? 0 : tries + 1;
    } while (r == -ECONNRESET && tries < TRIES_MAX);
    return r;
}

struct output {
    int fd;
    const char *path;
    struct ty_error *err;
};

static int write_out(const char *bytes, size_t n, void *ctx)
{
    const struct output *o = ctx;
    int r = ty_write_all(o->fd, bytes, n);

    if (r == 0)
        return 0;
    errno = -r;
    return ty_error_set(o->err, r, "cannot write what came of '%s': %m", o->path);
}

int ty_file_fetch(struct ty_cli *cli, const struct ty_place *p, const char *path, int64_t offset,
                  int fd, struct ty_transfer *t, struct ty_error *err)
{
    struct output o = { .fd = fd, .path = path, .err = err };

    return ty_file_read(cli, p, path, offset, write_out, &o, t, err);
}

/* Give a file made by mkstemp the mode that open(2) would have given it. */
static void usual_mode(int fd)
{
    mode_t mask = umask(022);

    umask(mask);
    (void)fchmod(fd, 0666 & ~mask);
}

static int put_in_place(const char *part, const char *dest, bool overwrite, struct ty_error *err)
{
    int r = overwrite ? (rename(part, dest) < 0 ? -errno : 0)
                      : ty_rename_noreplace(AT_FDCWD, part, AT_FDCWD, dest);

    if (r == -EEXIST)
        return ty_error_set(err, r, "'%s' exists already; --overwrite replaces it", dest);
    return r < 0 ? ty_error_set(err, r, "cannot write '%s': %s", dest, strerror(-r)) : 0;
}

int ty_file_save(struct ty_cli *cli, const struct ty_place *p, const char *path, const char *dest,
                 bool overwrite, struct ty_transfer *t, struct ty_error *err)
{
    CLEANUP_FREE char *part = ty_strf("%s.part-XXXXXX", dest);
    CLEANUP_CLOSE int fd = -1;
    struct stat st;
    int r;

    if (!part)
        return ty_error_oom(err);
    if (!overwrite && lstat(dest, &st) == 0)
        return ty_error_set(err, -EEXIST, "'%s' exists already; --overwrite replaces it", dest);
    r = ty_mkdir_parent(dest, 0777);
    fd = r < 0 ? -1 : FAULT("cli.part", -1, mkostemp(part, O_CLOEXEC));
    if (fd < 0) {
        errno = r < 0 ? -r : errno;
        return ty_error_set(err, -errno, "cannot write '%s': %m", dest);
    }
    usual_mode(fd);
    r = ty_file_fetch(cli, p, path, 0, fd, t, err);
    if (r == 0)
        r = put_in_place(part, dest, overwrite, err);
    if (r < 0)
        unlink(part);
    return r;
}

int ty_file_store(struct ty_cli *cli, const char *datastore, const char *path, const char *from,
                  bool overwrite, struct ty_error *err)
{
    CLEANUP_CLOSE int fd = open(from, O_RDONLY | O_CLOEXEC);
    struct ty_call call = { .args = { datastore, path },
                            .body_type = "application/octet-stream",
                            .stop = ty_cli_stop(),
                            .query = overwrite ? "overwrite=1" : NULL,
                            .silence_ms = -1 };
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0)
        return ty_error_set(err, -errno, "cannot read '%s': %m", from);
    if (!S_ISREG(st.st_mode))
        return ty_error_set(err, -EINVAL, "cannot store '%s': it is not a regular file", from);
    call.body_fd = fd;
    call.body_len = (size_t)st.st_size;
    return ty_client_data_put(cli->client, &call, NULL, err);
}
