/* datastore.c - the table of kinds, and what is the same for all of them */
#include "data/datastore.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fs.h"
#include <errno.h>
#include <string.h>

static const struct ty_datastore_kind *const kinds[] = { &ty_ds_file };

int ty_datastore_open(const char *name, const char *kind, const char *root,
                      struct ty_datastore **ret, struct ty_error *err)
{
    struct ty_datastore *d = calloc(1, sizeof *d);
    int r;

    if (!d || !(d->name = strdup(name))) {
        free(d);
        return ty_error_oom(err);
    }
    d->root = -1;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(kinds[i]->name, kind) == 0)
            d->kind = kinds[i];
    r = d->kind
            ? d->kind->open(d, root, err)
            : ty_error_set(err, -EINVAL,
                           "datastore '%s' is of the kind '%s', which this version does not know",
                           name, kind);
    if (r < 0) {
        ty_datastore_free(d);
        return r;
    }
    *ret = d;
    return 0;
}

struct ty_datastore *ty_datastore_free(struct ty_datastore *d)
{
    if (d) {
        if (d->kind)
            d->kind->close(d);
        free(d->name);
        free(d);
    }
    return NULL;
}

static int check_path(const struct ty_datastore *d, const char *path, struct ty_error *err)
{
    if (ty_path_is_inside(path))
        return 0;
    return ty_error_set(
        err, -EINVAL,
        "'%.200s' cannot be the path of a file in datastore '%s': it is relative, without empty "
        "parts, '.' and '..'",
        path, d->name);
}

int ty_datastore_list(struct ty_datastore *d, const char *prefix, ty_data_fn fn, void *ctx,
                      struct ty_error *err)
{
    return d->kind->list(d, prefix ? prefix : "", fn, ctx, err);
}

int ty_datastore_read(struct ty_datastore *d, const char *path, int *fd, uint64_t *bytes,
                      struct ty_error *err)
{
    int r = check_path(d, path, err);

    return r < 0 ? r : d->kind->read(d, path, fd, bytes, err);
}

int ty_datastore_put(struct ty_datastore *d, const char *path, bool overwrite,
                     struct ty_data_put **ret, struct ty_error *err)
{
    int r = check_path(d, path, err);

    return r < 0 ? r : d->kind->put_begin(d, path, overwrite, ret, err);
}

int ty_data_put_write(struct ty_data_put *p, const void *bytes, size_t n, struct ty_error *err)
{
    return p->store->kind->put_write(p, bytes, n, err);
}

int ty_data_put_finish(struct ty_data_put *p, struct ty_error *err)
{
    return p->store->kind->put_finish(p, err);
}

void ty_data_put_abort(struct ty_data_put *p)
{
    if (p)
        p->store->kind->put_abort(p);
}
