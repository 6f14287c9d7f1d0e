/* limits.c - what one run may hold: asked before something is added, told once when something was dropped
 *
 * Where the store counts, it counts what is stored: a limit may be passed by what is on its way to it.  What may be
 * set only once is looked for on its way, too (`pending`).
 */
#include "base/conf.h"
#include "base/str.h"
#include "blob/blob.h"
#include "sched/sched_internal.h"
#include <assert.h>
#include <errno.h>
#include <string.h>

/* clang-format off */
static const struct {
    const char *option, *what;
} limits[] = {
    [LIMIT_METRIC_KEYS] = { "limits.metric_keys", "metrics with other names" },
    [LIMIT_METRIC_ROWS] = { "limits.metric_rows", "values of metrics" },
    [LIMIT_TAGS] =        { "limits.tags",        "tags" },
    [LIMIT_PROPERTIES] =  { "limits.properties",  "properties" },
    [LIMIT_ARTIFACTS] =   { "limits.artifacts",   "files" },
    [LIMIT_WRITERS] =     { "limits.writers",     "processes that log from outside" },
};
/* clang-format on */
static_assert((int)LIMIT_METRIC_KEYS == TY_STORE_METRIC_KEYS &&
                  (int)LIMIT_METRIC_ROWS == TY_STORE_METRIC_ROWS,
              "the store counts what it drops by the same numbers");

static int64_t limit_of(const struct live *l, enum limit what)
{
    return ty_conf_number(l->sched->o.conf, limits[what].option);
}

/* ---- tags ---- */

static const json_t *tags_of(struct live *l)
{
    CLEANUP_JSON json_t *run = NULL;

    if (!l->tags && ty_store_run(l->sched->o.store, l->name, false, &run) == 0)
        l->tags = json_incref(json_object_get(run, "tags"));
    return l->tags;
}

void limits_tagged(struct live *l, const char *key, bool there)
{
    if (l->tags && there)
        json_object_set_new(l->tags, key, json_null());
    else if (l->tags)
        json_object_del(l->tags, key);
}

/* A new tag needs room; the value of one that is there may change. */
bool limits_tag_fits(struct live *l, const char *key)
{
    int64_t most = limit_of(l, LIMIT_TAGS);
    const json_t *tags = most ? tags_of(l) : NULL;

    return !tags || (int64_t)json_object_size(tags) < most || json_object_get(tags, key);
}

/* Not one more of them: `what` names the thing that was to be added. */
static int too_many(const struct live *l, enum limit limit, const char *what, struct ty_error *err)
{
    return ty_error_set(err, -EUSERS,
                        "cannot add %s to run '%s': it may have %lld %s (%s in the daemon's "
                        "configuration)",
                        what, l->name, (long long)limit_of(l, limit), limits[limit].what,
                        limits[limit].option);
}

int limits_tags(struct live *l, const json_t *set, struct ty_error *err)
{
    int64_t most = limit_of(l, LIMIT_TAGS), count;
    const json_t *tags = most ? tags_of(l) : NULL;
    const char *key;
    json_t *value;

    count = (int64_t)json_object_size(tags);
    json_object_foreach ((json_t *)set, key, value)
        if (tags && !json_object_get(tags, key) && ++count > most) {
            CLEANUP_FREE char *what = ty_strf("tag '%.80s'", key);

            return too_many(l, LIMIT_TAGS, what ? what : "a tag", err);
        }
    return 0;
}

int limits_spec(const struct ty_sched *s, const struct ty_run_spec *spec, struct ty_error *err)
{
    const enum limit which[] = { LIMIT_TAGS, LIMIT_PROPERTIES };
    const json_t *const maps[] = { spec->tags, spec->properties };

    for (int i = 0; i < 2; i++) {
        int64_t most = ty_conf_number(s->o.conf, limits[which[i]].option);

        if (most && (int64_t)json_object_size(maps[i]) > most)
            return ty_error_set(err, -EUSERS,
                                "the run comes with %zu %s, and may have %lld (%s in the daemon's "
                                "configuration)",
                                json_object_size(maps[i]), limits[which[i]].what, (long long)most,
                                limits[which[i]].option);
    }
    return 0;
}

/* ---- what is set once ---- */

/* What is on its way under that name, or NULL. */
static const char *pending(const struct live *l, char sort, const char *name)
{
    CLEANUP_FREE char *key = ty_strf("%c%s", sort, name);

    return key ? json_string_value(json_object_get(l->pending, key)) : NULL;
}

static void set_pending(struct live *l, char sort, const char *name, const char *value)
{
    CLEANUP_FREE char *key = ty_strf("%c%s", sort, name);

    if (!l->pending)
        l->pending = json_object();
    if (key)
        json_object_set_new(l->pending, key, json_string(value));
}

bool limits_property_fits(struct live *l)
{
    int64_t most = limit_of(l, LIMIT_PROPERTIES);
    CLEANUP_JSON json_t *run = NULL;

    if (most && l->properties < 0 && ty_store_run(l->sched->o.store, l->name, false, &run) == 0)
        l->properties = (int64_t)json_object_size(json_object_get(run, "properties"));
    return !most || l->properties < most;
}

/* What is set cannot be set again, be it to the same value: who sets it knows that. */
int limits_properties(struct live *l, const json_t *set, struct ty_error *err)
{
    int64_t most = limit_of(l, LIMIT_PROPERTIES), count;
    CLEANUP_JSON json_t *run = NULL;
    const json_t *properties;
    const char *key;
    json_t *value;

    if (ty_store_run(l->sched->o.store, l->name, false, &run) < 0)
        return ty_error_set(err, -EIO, "cannot read run '%s' from the state folder", l->name);
    properties = json_object_get(run, "properties");
    count = (int64_t)(json_object_size(properties) + json_object_size(set));
    if (most && count > most)
        return too_many(l, LIMIT_PROPERTIES, "a property", err);
    json_object_foreach ((json_t *)set, key, value) {
        const char *there = json_string_value(json_object_get(properties, key));

        there = there ? there : pending(l, '=', key);
        if (there)
            return ty_error_set(
                err, -EEXIST,
                "the property '%.80s' is '%.200s' already; properties cannot be changed, tags can",
                key, there);
    }
    json_object_foreach ((json_t *)set, key, value)
        set_pending(l, '=', key, json_string_value(value));
    return 0;
}

/* ---- files ---- */

int limits_artifact(struct live *l, const char *path, const char *sha, struct ty_error *err)
{
    int64_t most = limit_of(l, LIMIT_ARTIFACTS), count = 0;
    char stored[TY_SHA256_HEX + 1];
    const char *there = pending(l, '/', path);
    uint64_t bytes;

    if (!there && ty_store_artifact(l->sched->o.store, l->id, path, stored, &bytes) == 0)
        there = stored;
    if (there) {
        if (strcmp(there, sha) == 0)
            return 0;
        return ty_error_set(
            err, -EEXIST,
            "run '%s' has a file '%.200s' already, with other content; give this one another "
            "name",
            l->name, path);
    }
    if (most && ty_store_artifact_count(l->sched->o.store, l->id, &count) == 0 && count >= most) {
        CLEANUP_FREE char *what = ty_strf("'%.200s'", path);

        return too_many(l, LIMIT_ARTIFACTS, what ? what : "a file", err);
    }
    set_pending(l, '/', path, sha);
    return 0;
}

/* ---- others ---- */

int limits_target(const struct ty_sched *s, const char *name, struct ty_error *err)
{
    int64_t most = ty_conf_number(s->o.conf, "limits.targets");

    if (!most || HASH_COUNT(s->targets) < most || target_any((struct ty_sched *)s, name))
        return 0;
    return ty_error_set(
        err, -EUSERS,
        "cannot create compute target '%s': there may be %lld (limits.targets in the "
        "daemon's configuration); remove one that is not needed",
        name, (long long)most);
}

int limits_writer(struct live *l, uint32_t writer, struct ty_error *err)
{
    int64_t most = limit_of(l, LIMIT_WRITERS), count = 0;
    bool known = false;

    if (!most || ty_store_outside_writers(l->sched->o.store, l->id, writer, &count, &known) < 0 ||
        known || count < most)
        return 0;
    return too_many(l, LIMIT_WRITERS, "another writer of metrics", err);
}

/* ---- what was dropped ---- */

static bool has_warning(struct live *l, const char *text)
{
    CLEANUP_JSON json_t *run = NULL;
    const json_t *warning;
    size_t i;

    if (ty_store_run(l->sched->o.store, l->name, false, &run) < 0)
        return false;
    json_array_foreach (json_object_get(run, "warnings"), i, warning)
        if (strcmp(json_string_value(warning), text) == 0)
            return true;
    return false;
}

/* The text is the same each time: a daemon that was started since finds it in the run's warnings. */
void limits_tell(struct live *l, struct ty_unit *u, enum limit what)
{
    char text[160];

    if (l->limits_told & 1u << what)
        return;
    l->limits_told |= 1u << what;
    snprintf(text, sizeof text,
             "%s beyond the first %lld are dropped (%s in the daemon's configuration)",
             limits[what].what, (long long)limit_of(l, what), limits[what].option);
    if (!has_warning(l, text))
        run_note(l, u, TY_NOTE_WARNED, json_pack("{s:s}", "text", text));
}

void limits_look(struct live *l)
{
    for (enum limit what = LIMIT_METRIC_KEYS; what <= LIMIT_METRIC_ROWS; what++) {
        int64_t before = l->seq;
        struct ty_unit *u;

        if (l->limits_told & 1u << what ||
            ty_store_dropped(l->sched->o.store, l->id, (enum ty_store_limit)what) == 0)
            continue;
        u = ty_unit_new();
        limits_tell(l, u, what);
        if (l->seq != before)
            run_commit(l, u, NULL, NULL);
        else
            ty_unit_free(u);
    }
}
