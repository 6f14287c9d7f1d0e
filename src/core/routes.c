/* routes.c - finding the route of a request, and building the path of one */
#include "core/routes.h"
#include "base/str.h"
#include <assert.h>
#include <errno.h>
#include <string.h>

const struct ty_route ty_routes[TY_ROUTE_COUNT] = {
#define X(m, p, r, h, i, o, s) { #m, p, #h, s, TY_ROLE_##r, TY_SCHEMA_##i, TY_SCHEMA_##o },
    TY_ROUTES(X)
#undef X
};

static const char *const schema_words[] = {
#define X(name, word) [TY_SCHEMA_##name] = word,
    TY_SCHEMAS(X)
#undef X
};

const char *ty_schema_name(enum ty_schema s)
{
    return schema_words[s];
}

/* One argument of the path, [*p, *p + n), as it will be cut out. */
struct span {
    char *at;
    size_t n;
};

/* Does the raw path follow the pattern?  Then spans[] holds what stands for the braces. */
static bool follows(const char *pattern, char *path, struct span *spans, int *count)
{
    *count = 0;
    while (*pattern) {
        if (*pattern != '{') {
            if (*pattern++ != *path++)
                return false;
            continue;
        }
        const char *close = strchr(pattern, '}');
        bool rest = close[-1] == '+';
        size_t n = rest ? strlen(path) : strcspn(path, "/");

        if (n == 0 || *count == TY_ROUTE_ARGS_MAX)
            return false;
        spans[(*count)++] = (struct span){ path, n };
        path += n;
        pattern = close + 1;
    }
    return *path == '\0';
}

static int cut(enum ty_route_id route, const struct span *spans, int count,
               struct ty_route_match *ret)
{
    struct ty_route_match match = { .route = route, .nargs = count };

    for (int i = 0; i < count; i++) {
        bool rest = i == count - 1 && strstr(ty_routes[route].path, "+}");

        spans[i].at[spans[i].n] = '\0';
        if (ty_url_decode(spans[i].at) < 0 || (!rest && strchr(spans[i].at, '/')))
            return -EINVAL;
        match.args[i] = spans[i].at;
    }
    *ret = match;
    return 0;
}

int ty_route_find(const char *method, char *path, struct ty_route_match *ret)
{
    struct span spans[TY_ROUTE_ARGS_MAX];
    bool other_method = false;
    int count;

    for (int i = 0; i < TY_ROUTE_COUNT; i++) {
        if (!follows(ty_routes[i].path, path, spans, &count))
            continue;
        if (strcmp(ty_routes[i].method, method) != 0) {
            other_method = true;
            continue;
        }
        return cut((enum ty_route_id)i, spans, count, ret);
    }
    return other_method ? -ENOTSUP : -ENOENT;
}

char *ty_route_path(enum ty_route_id route, const char *const *args)
{
    struct ty_str out = { 0 };

    for (const char *p = ty_routes[route].path; *p;) {
        const char *close;

        if (*p != '{') {
            ty_str_addn(&out, p++, 1);
            continue;
        }
        close = strchr(p, '}');
        assert(*args && "the route has more braces than arguments were given");
        ty_str_add_url(&out, *args++, close[-1] == '+');
        p = close + 1;
    }
    return ty_str_take(&out);
}
