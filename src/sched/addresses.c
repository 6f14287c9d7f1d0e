/* addresses.c - passwords in the addresses of package indexes and channels: sealed as secrets are, and in no record
 *
 * Of a text of a run's specification that holds one, the specification keeps what is left without it ("https://me:***@host/simple"),
 * which names the secret that the whole text becomes.  A specification that is submitted again names it, too.
 */
#include "base/cleanup.h"
#include "base/error.h"
#include "base/str.h"
#include "core/run_spec.h"
#include "env/env.h"
#include "sched/sched_internal.h"
#include "store/store.h"
#include <errno.h>
#include <string.h>

/* NULL: no memory. */
static char *secret_name(const struct ty_sched *s, const char *user, const char *masked)
{
    char name[TY_ENV_SECRET];

    (void)ty_env_secret(masked, name);
    return s->o.system ? ty_strf("%s/%s", user, name) : strdup(name);
}

/* ---- the texts that may hold one ---- */

typedef int (*text_fn)(const char *text, json_t **instead, void *ctx);

/* A lock is of another run. */
static int each_text(json_t *value, text_fn fn, void *ctx)
{
    return ty_json_each_text(value, "lock", fn, ctx);
}

/* Of variables those that tools read. */
static int each_variable(json_t *variables, text_fn fn, void *ctx)
{
    const char *name;
    json_t *value;
    void *next;
    int r = 0;

    json_object_foreach_safe(variables, next, name, value)
    {
        json_t *instead = NULL;

        if (r == 0 && ty_env_is_for_tools(name) && json_is_string(value))
            r = fn(json_string_value(value), &instead, ctx);
        if (instead && json_object_set_new(variables, name, instead) < 0)
            r = -ENOMEM;
    }
    return r;
}

/* ---- at submission ---- */

static int mask(const char *text, json_t **instead, void *ctx)
{
    CLEANUP_FREE char *masked = ty_env_mask(text);
    json_t *found = ctx;

    if (!masked)
        return -ENOMEM;
    if (strcmp(masked, text) == 0)
        return 0;
    if (found && json_object_set_new(found, masked, json_string(text)) < 0)
        return -ENOMEM;
    *instead = json_string(masked);
    return *instead ? 0 : -ENOMEM;
}

static int mask_key(json_t *spec, const char *key,
                    int (*each)(json_t *value, text_fn fn, void *ctx), json_t *found)
{
    json_t *copy = json_deep_copy(json_object_get(spec, key));

    if (!copy)
        return json_object_get(spec, key) ? -ENOMEM : 0;
    return json_object_set_new(spec, key, copy) < 0 ? -ENOMEM : each(copy, mask, found);
}

int addresses_mask(json_t *spec, json_t *found, struct ty_error *err)
{
    int r = mask_key(spec, "environment", each_text, found);

    if (r == 0)
        r = mask_key(spec, "environment_variables", each_variable, found);
    if (r == 0) /* the SDK's own record of the same */
        r = mask_key(spec, "azureml", each_text, NULL);
    return r < 0 ? ty_error_oom(err) : 0;
}

/* ---- the whole texts ---- */

struct giving {
    struct ty_sched *s;
    const char *user;
    json_t *given; /* whole texts under what is left of them; some may be there already */
    struct ty_error *err;
};

static int unseal(const char *text, json_t **instead, void *ctx)
{
    const struct giving *g = ctx;
    CLEANUP_FREE char *name = secret_name(g->s, g->user, text), *value = NULL;
    char unused[TY_ENV_SECRET];
    int r;

    (void)instead;
    if (!ty_env_secret(text, unused) || json_object_get(g->given, text))
        return 0;
    r = name ? ty_store_secret(g->s->o.store, name, &value, g->err) : ty_error_oom(g->err);
    if (r == -ENOENT)
        return ty_error_set(
            g->err, r,
            "the password of the address '%.300s' is not known here: give the address with "
            "it, and it is kept for the next time",
            text);
    if (r < 0)
        return r;
    return json_object_set_new(g->given, text, json_string(value)) < 0 ? ty_error_oom(g->err) : 0;
}

static int find_all(struct giving *g, const json_t *spec)
{
    int r = each_text(json_object_get(spec, "environment"), unseal, g);

    return r < 0 ? r : each_variable(json_object_get(spec, "environment_variables"), unseal, g);
}

int addresses_give(struct ty_sched *s, const char *user, const json_t *spec, json_t *extra,
                   struct ty_error *err)
{
    CLEANUP_JSON json_t *given = json_object();
    struct giving g = { .s = s, .user = user, .given = given, .err = err };
    int r = given ? find_all(&g, spec) : ty_error_oom(err);

    if (r == 0 && json_object_size(given) > 0 && json_object_set(extra, "addresses", given) < 0)
        r = ty_error_oom(err);
    return r;
}

int addresses_seal(struct ty_sched *s, const char *user, const json_t *spec, json_t *found,
                   struct ty_unit *u, struct ty_error *err)
{
    CLEANUP_JSON json_t *all = json_copy(found);
    struct giving g = { .s = s, .user = user, .given = all, .err = err };
    const char *masked;
    json_t *text;
    int r = all ? find_all(&g, spec) : ty_error_oom(err);

    json_object_foreach (found, masked, text) {
        CLEANUP_FREE char *name = secret_name(s, user, masked);

        if (r == 0)
            r = name ? ty_unit_secret_put(u, s->o.store, name, json_string_value(text), err)
                     : ty_error_oom(err);
    }
    return r;
}
