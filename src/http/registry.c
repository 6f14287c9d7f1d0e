/* registry.c - environments and datasets that are registered by name: listed, read, added in versions, forgotten
 *
 * Both are an object under a name and a version, and go through the same functions; what differs is what the object says.
 */
#include "base/clock.h"
#include "base/conf.h"
#include "base/fs.h"
#include "core/env_spec.h"
#include "core/run_spec.h"
#include "env/env.h"
#include "http/request.h"
#include "store/store.h"
#include <errno.h>
#include <string.h>

#define NAME_BYTES_MAX 255
#define CONTENT_BYTES_MAX (1 << 20)
#define PATHS_MAX 1000

struct kind {
    const char *word, *words; /* "environment"; "environments": the key of a list */
    int (*check)(const json_t *content, struct ty_error *err);
};

/* ---- what is registered ---- */

static int texts_only(const json_t *o, const char *what, struct ty_error *err)
{
    const char *key;
    json_t *value;

    if (o && !json_is_object(o))
        return ty_error_set(err, -EINVAL, "%s is not an object", what);
    json_object_foreach ((json_t *)o, key, value)
        if (!json_is_string(value))
            return ty_error_set(err, -EINVAL, "%s: '%.80s' is not a text", what, key);
    return 0;
}

static int object_only(const json_t *o, const char *what, struct ty_error *err)
{
    return !o || json_is_object(o) ? 0 : ty_error_set(err, -EINVAL, "%s is not an object", what);
}

/* Whoever may read it would see a password in it. */
static int check_password(const json_t *value, struct ty_error *err)
{
    CLEANUP_FREE char *text = value ? json_dumps(value, JSON_ENCODE_ANY) : strdup("");
    CLEANUP_FREE char *masked = text ? ty_env_mask(text) : NULL;

    if (!masked)
        return ty_error_oom(err);
    return strcmp(text, masked) == 0
               ? 0
               : ty_error_set(
                     err, -EINVAL,
                     "the environment has an address with a password in it, which whoever gets "
                     "the environment would see: leave it out ('***' in its place stands for the "
                     "one that a run of yours has given)");
}

static int check_passwords(const json_t *content, struct ty_error *err)
{
    const char *name;
    json_t *value;
    int r = check_password(json_object_get(content, "spec"), err);

    json_object_foreach (json_object_get(content, "environment_variables"), name, value)
        if (r == 0 && ty_env_is_for_tools(name))
            r = check_password(value, err);
    return r;
}

static int check_environment(const json_t *content, struct ty_error *err)
{
    static const char *const known[] = { "spec", "environment_variables", "azureml", "about",
                                         NULL };
    struct ty_env_spec *spec = NULL;
    int r = ty_json_only(content, "the environment", known, err);

    if (r == 0)
        r = ty_env_spec_parse(json_object_get(content, "spec"), &spec, err);
    ty_env_spec_free(spec);
    if (r == 0)
        r = texts_only(json_object_get(content, "environment_variables"),
                       "the environment's 'environment_variables'", err);
    if (r == 0)
        r = check_passwords(content, err);
    return r < 0 ? r
                 : object_only(json_object_get(content, "azureml"), "the environment's 'azureml'",
                               err);
}

static int check_path(const json_t *one, struct ty_error *err)
{
    static const char *const known[] = { "datastore", "path", NULL };
    static const char what[] = "a path of the dataset";
    const char *store = NULL, *path = NULL;
    int r = ty_json_only(one, what, known, err);

    if (r == 0)
        r = ty_json_get_str(one, what, "datastore", &store, err);
    if (r == 0)
        r = ty_json_get_str(one, what, "path", &path, err);
    if (r == 0 && (!store || !path))
        r = ty_error_set(err, -EINVAL, "%s has no 'datastore' or no 'path'", what);
    if (r == 0)
        r = ty_check_datastore_name(store, err);
    if (r == 0 && *path && !ty_path_is_inside(path))
        r = ty_error_set(
            err, -EINVAL,
            "%s, '%.300s', is not relative to its datastore, or has empty parts, '.' or "
            "'..'",
            what, path);
    return r;
}

static int check_dataset(const json_t *content, struct ty_error *err)
{
    static const char *const known[] = { "paths", "about", NULL };
    const json_t *paths = json_object_get(content, "paths"), *one;
    size_t i, n = json_array_size(paths);
    int r = ty_json_only(content, "the dataset", known, err);

    if (r == 0 && (n == 0 || n > PATHS_MAX))
        r = ty_error_set(err, -EINVAL, "the dataset's 'paths' is a list of 1 to %d", PATHS_MAX);
    json_array_foreach (paths, i, one)
        if (r == 0)
            r = check_path(one, err);
    return r;
}

static const struct kind environments = { "environment", "environments", check_environment };
static const struct kind datasets = { "dataset", "datasets", check_dataset };

static int check_name(struct request *req, const struct kind *k)
{
    const char *name = req->args[0];
    size_t n = strlen(name);

    for (size_t i = 0; i < n; i++)
        if ((unsigned char)name[i] < ' ' || name[i] == 0x7f)
            n = 0;
    if (n == 0 || n > NAME_BYTES_MAX || name[0] == ' ' || name[n - 1] == ' ' || name[0] == '-')
        return ty_error_set(
            &req->err, -EINVAL,
            "'%.80s' cannot be the name of %s %s: it has 1 to %d bytes, no '/' and no "
            "line break, no blank at its ends, and does not begin with '-'",
            name, k == &environments ? "an" : "a", k->word, NAME_BYTES_MAX);
    if (k == &environments &&
        (strncasecmp(name, "azureml", 7) == 0 || strncasecmp(name, "microsoft", 9) == 0))
        return ty_error_set(
            &req->err, -EINVAL,
            "'%.80s' cannot be registered: names that begin with AzureML and Microsoft "
            "are those of curated environments; choose another name",
            name);
    return 0;
}

/* ---- reading ---- */

static int unread(struct request *req, const struct kind *k, int r)
{
    if (r == -ENOENT)
        return ty_error_set(&req->err, r, "there is no %s '%.80s'", k->word, req->args[0]);
    errno = -r;
    return ty_error_set(&req->err, r, "cannot read the %s from the state folder: %m", k->words);
}

static int list(struct request *req, struct reply *reply, const struct kind *k)
{
    json_t *found = NULL;
    int r = ty_store_registered_list(req->http->o.store, k->word, &found);

    return r < 0 ? unread(req, k, r) : reply_json(reply, 200, json_pack("{s:o}", k->words, found));
}

static int versions(struct request *req, struct reply *reply, const struct kind *k)
{
    json_t *found = NULL;
    int r = ty_store_registered_versions(req->http->o.store, k->word, req->args[0], &found);

    if (r == 0 && json_array_size(found) == 0) {
        json_decref(found);
        r = -ENOENT;
    }
    return r < 0 ? unread(req, k, r) : reply_json(reply, 200, json_pack("{s:o}", k->words, found));
}

static int get(struct request *req, struct reply *reply, const struct kind *k)
{
    const char *text = req->args[1];
    int64_t version = 0;
    json_t *one = NULL;
    int r = 0;

    if (strcmp(text, "latest") != 0 && (ty_parse_i64(text, &version) < 0 || version < 1))
        return ty_error_set(
            &req->err, -EINVAL,
            "'%.80s' is no version of %s '%.80s': it is a number from 1 on, or 'latest'", text,
            k->word, req->args[0]);
    r = ty_store_registered(req->http->o.store, k->word, req->args[0], version, &one);
    if (r == -ENOENT && version > 0)
        return ty_error_set(&req->err, r, "there is no version %s of %s '%.80s'", text, k->word,
                            req->args[0]);
    return r < 0 ? unread(req, k, r) : reply_json(reply, 200, one);
}

/* ---- changing ---- */

struct registering {
    const struct kind *kind;
    json_t *content;
    bool known, only_first;
};

static void registering_free(void *data)
{
    struct registering *g = data;

    json_decref(g->content);
    free(g);
}

static int parse(struct request *req, struct registering *g)
{
    static const char *const known[] = { "content", "create_new_version", NULL };
    CLEANUP_JSON json_t *body = NULL;
    CLEANUP_FREE char *text = NULL;
    bool more = true;
    int r = request_json(req, g->kind->word, &body);

    if (r == 0)
        r = ty_json_only(body, "the registration", known, &req->err);
    if (r == 0)
        r = ty_json_get_bool(body, "the registration", "create_new_version", &more, &req->err);
    if (r < 0)
        return r;
    g->only_first = !more;
    g->content = json_incref(json_object_get(body, "content"));
    if (!json_is_object(g->content))
        return ty_error_set(&req->err, -EINVAL, "the registration has no object 'content'");
    text = json_dumps(g->content, JSON_COMPACT);
    if (!text)
        return ty_error_oom(&req->err);
    if (strlen(text) > CONTENT_BYTES_MAX)
        return ty_error_set(&req->err, -EFBIG, "%s '%.80s' is described by more than %d bytes",
                            g->kind->word, req->args[0], CONTENT_BYTES_MAX);
    r = object_only(json_object_get(g->content, "about"), "the content's 'about'", &req->err);
    return r < 0 ? r : g->kind->check(g->content, &req->err);
}

static int check_room(struct request *req, const struct kind *k)
{
    int64_t most = ty_conf_number(req->http->o.conf, "limits.registered"), there = 0;
    int r = ty_store_registered_count(req->http->o.store, k->word, &there);

    if (r < 0)
        return unread(req, k, r);
    if (!most || there < most)
        return 0;
    return ty_error_set(
        &req->err, -EUSERS,
        "cannot register %s '%.80s': there may be %lld versions (limits.registered in "
        "the daemon's configuration); remove names that are not needed",
        k->word, req->args[0], (long long)most);
}

static void on_registered(void *ctx, int r)
{
    struct request *req = ctx;
    const struct registering *g = req->data;
    json_t *one = NULL;

    if (r == 0 && req->conn) {
        r = ty_store_registered_same(req->http->o.store, g->kind->word, req->args[0], g->content,
                                     &one);
        if (r == 0)
            r = reply_json(&req->reply, g->known ? 200 : 201, one);
        else if (r == -ENOENT)
            r = ty_error_set(
                &req->err, -EEXIST,
                "there is %s '%.80s' already, with another content; ask for a new version "
                "(create_new_version), or choose another name",
                g->kind->word, req->args[0]);
        else
            r = unread(req, g->kind, r);
    } else if (r < 0) {
        errno = -r;
        ty_error_set(&req->err, r, "cannot store %s '%.80s': %m", g->kind->word, req->args[0]);
    }
    request_changed(req, r, NULL);
}

static int put(struct request *req, const struct kind *k)
{
    struct registering *g = calloc(1, sizeof *g);
    CLEANUP_JSON json_t *same = NULL;
    struct ty_unit *u;
    int r;

    if (!g)
        return ty_error_oom(&req->err);
    g->kind = k;
    request_keep(req, g, registering_free);
    r = check_name(req, k);
    if (r == 0)
        r = parse(req, g);
    if (r < 0)
        return r;
    g->known =
        ty_store_registered_same(req->http->o.store, k->word, req->args[0], g->content, &same) == 0;
    if (!g->known)
        r = check_room(req, k);
    if (r < 0)
        return r;
    u = ty_unit_new();
    ty_unit_registered_put(u, k->word, req->args[0], g->content, g->only_first, ty_wall_us());
    request_hold(req);
    ty_store_commit(req->http->o.store, u, on_registered, req);
    return REQUEST_HELD;
}

static void on_forgotten(void *ctx, int r)
{
    struct request *req = ctx;

    if (r == 0)
        r = reply_nothing(&req->reply);
    else {
        errno = -r;
        ty_error_set(&req->err, r, "cannot remove '%.80s': %m", req->args[0]);
    }
    request_changed(req, r, NULL);
}

static int forget(struct request *req, const struct kind *k)
{
    CLEANUP_JSON json_t *one = NULL;
    struct ty_unit *u;
    int r = ty_store_registered(req->http->o.store, k->word, req->args[0], 0, &one);

    if (r < 0)
        return unread(req, k, r);
    u = ty_unit_new();
    ty_unit_registered_delete(u, k->word, req->args[0]);
    request_hold(req);
    ty_store_commit(req->http->o.store, u, on_forgotten, req);
    return REQUEST_HELD;
}

/* ---- the routes ---- */

#define ROUTES(word, kind) \
    int ty_http_##word##_list(struct request *req, struct reply *reply) \
    { \
        return list(req, reply, kind); \
    } \
    int ty_http_##word##_versions(struct request *req, struct reply *reply) \
    { \
        return versions(req, reply, kind); \
    } \
    int ty_http_##word##_get(struct request *req, struct reply *reply) \
    { \
        return get(req, reply, kind); \
    } \
    int ty_http_##word##_put(struct request *req, struct reply *reply) \
    { \
        (void)reply; \
        return put(req, kind); \
    } \
    int ty_http_##word##_delete(struct request *req, struct reply *reply) \
    { \
        (void)reply; \
        return forget(req, kind); \
    }
ROUTES(environment, &environments)
ROUTES(dataset, &datasets)
