/* stubs.h - one call per route of core/routes.h
 *
 * ty_client_run_get(c, &call, &reply, &err): call->args fill the braces of the path, in order,
 * as plain text.
 */
#ifndef TY_CLIENT_STUBS_H
#define TY_CLIENT_STUBS_H
#include "core/routes.h"
#include <trainyard/client.h>

#define X(m, p, r, h, i, o, s) \
    int ty_client_##h(struct ty_client *c, const struct ty_call *call, struct ty_reply *reply, \
                      struct ty_error *err);
TY_ROUTES(X)
#undef X
/* The same by the route's number. */
int ty_client_route(struct ty_client *c, enum ty_route_id route, const struct ty_call *call,
                    struct ty_reply *reply, struct ty_error *err);
#endif
