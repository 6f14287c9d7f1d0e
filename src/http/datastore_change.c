/* datastore_change.c - datastores are registered, changed, made the default, forgotten; and how they are reached
 *
 * Credentials come in with a registration and go out with ACCESS, and are in no other reply, no log and no error.  A store
 * is asked before it is registered: by the data helper, or for a folder on the pool.
 */
#include "base/clock.h"
#include "base/conf.h"
#include "base/fs.h"
#include "core/datastore_spec.h"
#include "core/run_spec.h"
#include "http/request.h"
#include "store/store.h"
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

/* What a registration carries from its body to the store. */
struct registering {
    struct ty_datastore_spec spec;
    bool overwrite, make, unseen;
    bool known; /* there is one of that name, which is replaced */
};

static void registering_free(void *data)
{
    struct registering *g = data;

    ty_datastore_spec_done(&g->spec);
    free(g);
}

static bool is_own(const char *name)
{
    return strcmp(name, "workspaceblobstore") == 0 || strcmp(name, "workspacefilestore") == 0;
}

static int reply_datastore(struct request *req, unsigned status)
{
    json_t *j = NULL;
    int r;

    if (!req->conn)
        return 0; /* nobody is left to be told, and the store may be closed */
    r = ty_store_datastore(req->http->o.store, req->args[0], &j);
    return r < 0 ? datastore_missing(req, r) : reply_json(&req->reply, status, j);
}

static int commit(struct request *req, struct ty_unit *u, void (*done)(void *ctx, int r))
{
    request_hold(req);
    ty_store_commit(req->http->o.store, u, done, req);
    return REQUEST_HELD;
}

static void changed(struct request *req, int r)
{
    if (r < 0 && !req->err.text[0]) {
        errno = -r;
        ty_error_set(&req->err, r, "cannot store the change of datastore '%s': %m", req->args[0]);
    }
    request_changed(req, r, NULL);
}

/* ---- registering ---- */

static int parse(struct request *req, struct registering *g)
{
    static const char *const known[] = { "kind",      "config",          "create_if_not_exists",
                                         "overwrite", "skip_validation", NULL };
    static const char what[] = "the description of a datastore";
    CLEANUP_JSON json_t *body = NULL;
    const char *kind = NULL;
    int r = request_json(req, "description of the datastore", &body);

    if (r == 0)
        r = ty_json_only(body, what, known, &req->err);
    if (r == 0)
        r = ty_json_get_str(body, what, "kind", &kind, &req->err);
    if (r == 0 && !kind)
        r = ty_error_set(&req->err, -EINVAL, "%s has no 'kind'", what);
    if (r == 0)
        r = ty_json_get_bool(body, what, "overwrite", &g->overwrite, &req->err);
    if (r == 0)
        r = ty_json_get_bool(body, what, "create_if_not_exists", &g->make, &req->err);
    if (r == 0)
        r = ty_json_get_bool(body, what, "skip_validation", &g->unseen, &req->err);
    return r < 0 ? r
                 : ty_datastore_spec_parse(kind, json_object_get(body, "config"), &g->spec,
                                           &req->err);
}

static json_t *access_of(const struct request *req)
{
    const struct registering *g = req->data;

    return ty_datastore_access(req->args[0], g->spec.kind, g->spec.config, g->spec.secrets);
}

static int check_room(struct request *req)
{
    int64_t most = ty_conf_number(req->http->o.conf, "limits.datastores");
    CLEANUP_JSON json_t *list = NULL;
    int r = ty_store_datastores(req->http->o.store, &list);

    if (r < 0)
        return datastore_missing(req, r);
    if (!most || (int64_t)json_array_size(list) < most)
        return 0;
    return ty_error_set(&req->err, -EUSERS,
                        "cannot add datastore '%s': there may be %lld (limits.datastores in the "
                        "daemon's configuration); remove one that is not needed",
                        req->args[0], (long long)most);
}

static int described_otherwise(struct request *req)
{
    return ty_error_set(&req->err, -EEXIST,
                        "datastore '%s' is there already, and is described otherwise; ask for it "
                        "to be overwritten (overwrite, --overwrite), or choose another name",
                        req->args[0]);
}

/* May it be stored under its name?  1: the same is there already. */
static int check_place(struct request *req)
{
    struct registering *g = req->data;
    struct ty_error why = { 0 };
    CLEANUP_JSON json_t *now = NULL;
    CLEANUP_JSON json_t *wanted = access_of(req);
    int r = ty_store_datastore_access(req->http->o.store, req->args[0], &now, &why);

    if (!wanted)
        return ty_error_oom(&req->err);
    g->known = r != -ENOENT;
    if (!g->known)
        return check_room(req);
    if (r == 0 && json_equal(now, wanted))
        return 1;
    if (is_own(req->args[0]))
        return ty_error_set(&req->err, -EBUSY,
                            "datastore '%s' is the service's own and stays as it is; choose "
                            "another name",
                            req->args[0]);
    return g->overwrite ? 0 : described_otherwise(req);
}

/* Two may register one name at the same moment: the first one stays, and the other is told. */
static int check_stored(struct request *req)
{
    const struct registering *g = req->data;
    CLEANUP_JSON json_t *now = NULL;
    CLEANUP_JSON json_t *wanted = NULL;
    int r;

    if (g->overwrite || !req->conn)
        return 0;
    wanted = access_of(req);
    if (!wanted)
        return ty_error_oom(&req->err);
    r = ty_store_datastore_access(req->http->o.store, req->args[0], &now, &req->err);
    if (r < 0)
        return r;
    return json_equal(now, wanted) ? 0 : described_otherwise(req);
}

static void on_registered(void *ctx, int r)
{
    struct request *req = ctx;
    const struct registering *g = req->data;

    if (r == 0)
        r = check_stored(req);
    if (r == 0)
        r = reply_datastore(req, g->known ? 200 : 201);
    changed(req, r);
}

static int store(struct request *req)
{
    struct registering *g = req->data;
    struct ty_unit *u;
    int r = check_place(req); /* again: the store was asked meanwhile */

    if (r != 0)
        return r < 0 ? r : reply_datastore(req, 200);
    u = ty_unit_new();
    r = ty_unit_datastore_put_sealed(u, req->http->o.store, req->args[0], g->spec.kind,
                                     g->spec.config, g->spec.credentials, g->spec.secrets,
                                     g->overwrite, ty_wall_us(), &req->err);
    if (r < 0) {
        ty_unit_free(u);
        return r;
    }
    return commit(req, u, on_registered);
}

static int after_asking(struct request *req, int r)
{
    if (r < 0)
        return ty_error_prefix(&req->err, "datastore '%s' cannot be used", req->args[0]);
    return store(req);
}

static int ask_store(struct request *req)
{
    const struct registering *g = req->data;
    CLEANUP_JSON json_t *asked = json_pack("{s:i s:o s:s s:b}", "version", 1, "access",
                                           access_of(req), "do", "validate", "make", g->make);

    return asked ? request_helper(req, asked, after_asking) : ty_error_oom(&req->err);
}

/* (pool) */
static int see_folder(struct request *req)
{
    const struct registering *g = req->data;
    const char *root = json_string_value(json_object_get(g->spec.config, "root"));
    bool made = false;
    struct stat st;
    int r = stat(root, &st) < 0 ? -errno : 0;

    if (r == -ENOENT && g->make) {
        r = ty_mkdir_p(root, 0700);
        made = r == 0;
    }
    /* Under a daemon of the whole machine as /tmp is: everybody writes, and nobody removes another's. */
    if (made && req->http->o.system && chmod(root, 01777) < 0)
        r = -errno;
    if (r == 0 && !made && !S_ISDIR(st.st_mode))
        r = -ENOTDIR;
    if (r == 0)
        return 0;
    errno = -r;
    return ty_error_set(
        &req->err, -EINVAL, "datastore '%s' cannot be used: its folder '%s': %m%s", req->args[0],
        root,
        r == -ENOENT ? "; make it, or ask for it to be made (create_if_not_exists, --create)" : "");
}

int ty_http_datastore_put(struct request *req, struct reply *reply)
{
    struct registering *g = calloc(1, sizeof *g);
    int r;

    (void)reply;
    if (!g)
        return ty_error_oom(&req->err);
    request_keep(req, g, registering_free);
    r = ty_check_datastore_name(req->args[0], &req->err);
    if (r == 0)
        r = parse(req, g);
    if (r == 0)
        r = check_place(req);
    if (r < 0)
        return r;
    if (r > 0)
        return reply_datastore(req, 200);
    if (g->unseen)
        return store(req);
    return ty_datastore_is_object(g->spec.kind) ? ask_store(req)
                                                : request_work(req, see_folder, store);
}

/* ---- the others ---- */

static int find(struct request *req, json_t **ret)
{
    int r = ty_store_datastore(req->http->o.store, req->args[0], ret);

    return r < 0 ? datastore_missing(req, r) : 0;
}

static void on_deleted(void *ctx, int r)
{
    struct request *req = ctx;

    changed(req, r < 0 ? r : reply_nothing(&req->reply));
}

int ty_http_datastore_delete(struct request *req, struct reply *reply)
{
    const char *name = req->args[0], *run;
    CLEANUP_JSON json_t *j = NULL;
    struct ty_unit *u;
    int r = find(req, &j);

    (void)reply;
    if (r < 0)
        return r;
    if (is_own(name))
        return ty_error_set(&req->err, -EBUSY, "datastore '%s' is the service's own and stays",
                            name);
    if (json_is_true(json_object_get(j, "default")))
        return ty_error_set(&req->err, -EBUSY,
                            "datastore '%s' is the default one; make another the default first "
                            "(`trainyard data default workspaceblobstore`)",
                            name);
    run = ty_sched_uses_datastore(req->http->o.sched, name);
    if (run)
        return ty_error_set(&req->err, -EBUSY,
                            "datastore '%s' is used by runs that have not ended, '%s' for one; "
                            "cancel them first, or wait",
                            name, run);
    u = ty_unit_new();
    ty_unit_datastore_delete(u, name);
    return commit(req, u, on_deleted);
}

static void on_default(void *ctx, int r)
{
    struct request *req = ctx;

    changed(req, r < 0 ? r : reply_datastore(req, 200));
}

int ty_http_datastore_default(struct request *req, struct reply *reply)
{
    CLEANUP_JSON json_t *j = NULL;
    struct ty_unit *u;
    int r = find(req, &j);

    (void)reply;
    if (r < 0)
        return r;
    u = ty_unit_new();
    ty_unit_setting(u, TY_STORE_DEFAULT_DATASTORE, req->args[0]);
    return commit(req, u, on_default);
}

int ty_http_datastore_access(struct request *req, struct reply *reply)
{
    json_t *j = NULL;
    int r = ty_store_datastore_access(req->http->o.store, req->args[0], &j, &req->err);

    if (r == -ENOENT)
        return datastore_missing(req, r);
    return r < 0 ? r : reply_json(reply, 200, j);
}
