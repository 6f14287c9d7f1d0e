/* limits.c - what one run may hold: asked before something is added, told once when something was dropped
 *
 * The store counts; what it counts is stored, so a limit may be passed by what is on its way to it.
 */
#include "base/conf.h"
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
    [LIMIT_ARTIFACTS] =   { "limits.artifacts",   "files" },
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

int limits_tag(struct live *l, const char *key, struct ty_error *err)
{
    if (limits_tag_fits(l, key))
        return 0;
    return ty_error_set(
        err, -EUSERS,
        "cannot add tag '%.80s' to run '%s', which has the most that it may have: %lld "
        "(limits.tags in the daemon's configuration)",
        key, l->name, (long long)limit_of(l, LIMIT_TAGS));
}

/* ---- files ---- */

int limits_artifact(struct live *l, const char *path, const char *sha, struct ty_error *err)
{
    int64_t most = limit_of(l, LIMIT_ARTIFACTS), count = 0;
    char there[TY_SHA256_HEX + 1];
    uint64_t bytes;

    if (ty_store_artifact(l->sched->o.store, l->id, path, there, &bytes) == 0) {
        if (strcmp(there, sha) == 0)
            return 0;
        return ty_error_set(
            err, -EEXIST,
            "run '%s' has a file '%.200s' already, with other content; give this one another "
            "name",
            l->name, path);
    }
    if (!most || (ty_store_artifact_count(l->sched->o.store, l->id, &count) == 0 && count < most))
        return 0;
    return ty_error_set(
        err, -EUSERS,
        "cannot add '%.200s' to run '%s', which has the most files that it may have: %lld "
        "(limits.artifacts in the daemon's configuration)",
        path, l->name, (long long)most);
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
