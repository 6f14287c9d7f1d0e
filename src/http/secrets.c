/* secrets.c - secrets: listed by name, read, set, removed
 *
 * Under a daemon of the whole machine each user has secrets of their own, stored as <user>/<name>; a '/' can be
 * in no name that is asked for.
 */
#include "base/conf.h"
#include "core/ascii.h"
#include "http/request.h"
#include "store/store.h"
#include <errno.h>
#include <string.h>

#define NAME_MAX_SECRET 127
#define VALUE_MAX 65536

static int check_name(struct request *req)
{
    const char *name = req->args[0];

    if (*name && strlen(name) <= NAME_MAX_SECRET && ty_ascii_only(name, "_-."))
        return 0;
    return ty_error_set(
        &req->err, -EINVAL,
        "'%.80s' cannot be the name of a secret: it has 1 to %d letters, digits, '_', "
        "'-' or '.'",
        name, NAME_MAX_SECRET);
}

/* The name under which the store has it: malloc'ed, NULL: out of memory. */
static char *stored_name(const struct request *req)
{
    return req->http->o.system ? ty_strf("%s/%s", req->who.name, req->args[0])
                               : strdup(req->args[0]);
}

/* Of all secrets those of `user`, as they call them. */
static json_t *own(const json_t *all, const char *user)
{
    CLEANUP_JSON json_t *mine = json_array();
    size_t i, n = strlen(user);
    const json_t *one;

    json_array_foreach (all, i, one) {
        const char *name = json_string_value(json_object_get(one, "name"));
        json_t *copy;

        if (strncmp(name, user, n) != 0 || name[n] != '/')
            continue;
        copy = json_copy((json_t *)one);
        if (!copy || json_object_set_new(copy, "name", json_string(name + n + 1)) < 0 ||
            json_array_append_new(mine, copy) < 0)
            return NULL;
    }
    return TAKE(mine);
}

static int list(struct request *req, json_t **ret)
{
    CLEANUP_JSON json_t *all = NULL;
    int r = ty_store_secrets(req->http->o.store, &all);

    errno = -r;
    if (r < 0)
        return ty_error_set(&req->err, r, "cannot read the secrets from the state folder: %m");
    *ret = req->http->o.system ? own(all, req->who.name) : TAKE(all);
    return *ret ? 0 : ty_error_oom(&req->err);
}

static int no_secret(struct request *req)
{
    return ty_error_set(&req->err, -ENOENT,
                        "there is no secret '%s'; `trainyard secret ls` lists those that are",
                        req->args[0]);
}

int ty_http_secret_list(struct request *req, struct reply *reply)
{
    json_t *found = NULL;
    int r = list(req, &found);

    return r < 0 ? r : reply_json(reply, 200, json_pack("{s:o}", "secrets", found));
}

int ty_http_secret_get(struct request *req, struct reply *reply)
{
    CLEANUP_FREE char *value = NULL;
    CLEANUP_FREE char *name = stored_name(req);
    int r = name ? check_name(req) : ty_error_oom(&req->err);

    if (r == 0)
        r = ty_store_secret(req->http->o.store, name, &value, &req->err);
    if (r == -ENOENT)
        return no_secret(req);
    return r < 0 ? r
                 : reply_json(reply, 200,
                              json_pack("{s:s s:s}", "name", req->args[0], "value", value));
}

static void on_stored(void *ctx, int r)
{
    struct request *req = ctx;

    if (r == 0)
        r = reply_nothing(&req->reply);
    else {
        errno = -r;
        ty_error_set(&req->err, r, "cannot store the change of secret '%s': %m", req->args[0]);
    }
    request_changed(req, r, NULL);
}

static int commit(struct request *req, struct ty_unit *u)
{
    request_hold(req);
    ty_store_commit(req->http->o.store, u, on_stored, req);
    return REQUEST_HELD;
}

static bool is_known(const json_t *secrets, const char *name)
{
    const json_t *one;
    size_t i;

    json_array_foreach (secrets, i, one)
        if (strcmp(json_string_value(json_object_get(one, "name")), name) == 0)
            return true;
    return false;
}

static int check_room(struct request *req)
{
    int64_t most = ty_conf_number(req->http->o.conf, "limits.secrets");
    CLEANUP_JSON json_t *found = NULL;
    int r = list(req, &found);

    if (r < 0 || !most || (int64_t)json_array_size(found) < most || is_known(found, req->args[0]))
        return r;
    return ty_error_set(&req->err, -EUSERS,
                        "cannot add secret '%s': there may be %lld (limits.secrets in the daemon's "
                        "configuration); remove one that is not needed",
                        req->args[0], (long long)most);
}

static int read_value(struct request *req, const json_t *body, const char **ret)
{
    static const char *const known[] = { "value", NULL };
    const char *value = NULL;
    int r = ty_json_only(body, "the secret", known, &req->err);

    if (r == 0)
        r = ty_json_get_str(body, "the secret", "value", &value, &req->err);
    if (r < 0)
        return r;
    if (!value || !*value || strlen(value) > VALUE_MAX)
        return ty_error_set(&req->err, -EINVAL,
                            "the value of secret '%s' is a text of 1 to %d bytes", req->args[0],
                            VALUE_MAX);
    *ret = value;
    return 0;
}

int ty_http_secret_put(struct request *req, struct reply *reply)
{
    CLEANUP_JSON json_t *body = NULL;
    CLEANUP_FREE char *name = stored_name(req);
    const char *value = NULL;
    struct ty_unit *u;
    int r = name ? check_name(req) : ty_error_oom(&req->err);

    (void)reply;
    if (r == 0)
        r = request_json(req, "secret", &body);
    if (r == 0)
        r = read_value(req, body, &value);
    if (r == 0)
        r = check_room(req);
    if (r < 0)
        return r;
    u = ty_unit_new();
    r = ty_unit_secret_put(u, req->http->o.store, name, value, &req->err);
    if (r < 0) {
        ty_unit_free(u);
        return r;
    }
    return commit(req, u);
}

int ty_http_secret_delete(struct request *req, struct reply *reply)
{
    CLEANUP_JSON json_t *found = NULL;
    CLEANUP_FREE char *name = stored_name(req);
    struct ty_unit *u;
    int r = name ? check_name(req) : ty_error_oom(&req->err);

    (void)reply;
    if (r == 0)
        r = list(req, &found);
    if (r < 0)
        return r;
    if (!is_known(found, req->args[0]))
        return no_secret(req);
    u = ty_unit_new();
    ty_unit_secret_delete(u, name);
    return commit(req, u);
}
