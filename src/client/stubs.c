/* stubs.c - one call per route, expanded from core/routes.h */
#include "client/stubs.h"
#include "base/cleanup.h"
#include "base/error.h"
#include <assert.h>
#include <errno.h>

static_assert(TY_ROUTE_ARGS_MAX < 4,
              "ty_call.args must hold the arguments of every route and a NULL");

/* What stands in the braces of a route, by its number. */
static int refuse_empty(enum ty_route_id route, int i, struct ty_error *err)
{
    const char *p = ty_routes[route].path;

    do
        p = strchr(p, '{') + 1;
    while (i-- > 0);
    return ty_error_set(err, -EINVAL, "the name of the %.*s is empty", (int)strcspn(p, "+}"), p);
}

static int braces(const char *path)
{
    int n = 0;

    for (; *path; path++)
        n += *path == '{';
    return n;
}

int ty_client_route(struct ty_client *c, enum ty_route_id route, const struct ty_call *call,
                    struct ty_reply *reply, struct ty_error *err)
{
    static const struct ty_call nothing = { 0 };
    CLEANUP_FREE char *path = NULL;
    int i, n = braces(ty_routes[route].path);

    if (!call)
        call = &nothing;
    for (i = 0; i < n; i++)
        if (!call->args[i] || !*call->args[i])
            return refuse_empty(route, i, err);
    path = ty_route_path(route, call->args);
    if (!path)
        return ty_error_oom(err);
    return ty_client_request(c, ty_routes[route].method, path, call, reply, err);
}

#define X(m, p, r, h, i, o, s) \
    int ty_client_##h(struct ty_client *c, const struct ty_call *call, struct ty_reply *reply, \
                      struct ty_error *err) \
    { \
        return ty_client_route(c, TY_ROUTE_##h, call, reply, err); \
    }
TY_ROUTES(X)
#undef X
