/* cmd_data_cache.c - trainyard data cache: what the runs of this machine have downloaded from object stores
 *
 * The cache is a folder of the user's own, and is looked at there, without a daemon.  What a run has, or used within the last hour, stays.
 */
#include "base/clock.h"
#include "base/conf.h"
#include "base/str.h"
#include "cli/commands.h"
#include "cli/environment.h"
#include "cli/objects.h"
#include "cli/out.h"
#include "cli/runs.h"
#include "data/cache.h"
#include <errno.h>

/* ---- what there is ---- */

struct listing {
    struct ty_table table;
    json_t *all; /* of --json; NULL: a table */
    bool plain;
    uint64_t bytes;
};

static int list_store(const struct ty_data_cache_store *s, void *ctx)
{
    struct listing *l = ctx;
    CLEANUP_FREE char *where = s->about ? ty_objects_where(s->about) : strdup(s->id),
                      *exact = ty_strf("%llu", (unsigned long long)s->bytes);
    char files[24], size[16], ago[16];
    const char *cells[] = { where, files, l->plain ? exact : ty_show_bytes(s->bytes, size),
                            ty_out_duration(ty_wall_us() - s->used_us, ago) };

    l->bytes += s->bytes;
    if (l->all)
        return json_array_append_new(
                   l->all, json_pack("{s:s s:O? s:I s:I s:I}", "id", s->id, "about", s->about,
                                     "files", (json_int_t)s->files, "bytes", (json_int_t)s->bytes,
                                     "used_us", (json_int_t)s->used_us)) < 0
                   ? -ENOMEM
                   : 0;
    if (!where || !exact)
        return -ENOMEM;
    snprintf(files, sizeof files, "%llu", (unsigned long long)s->files);
    ty_table_row(&l->table, cells);
    return 0;
}

static json_t *reply_of(const char *cache, int64_t limit)
{
    return json_pack("{s:s s:I s:[]}", "cache", cache, "limit_bytes", (json_int_t)limit, "stores");
}

/* Below the table, for people. */
static void sum_up(const struct listing *l, const char *cache, int64_t limit)
{
    char size[16], most[16] = "";

    if (limit)
        ty_show_bytes((uint64_t)limit, most);
    fprintf(stderr, "%s of downloaded data in '%s/data'; %s%s (data.cache_bytes)\n",
            ty_show_bytes(l->bytes, size), cache, limit ? "the limit is " : "there is no limit",
            most);
}

static int show(struct ty_cli *cli, const char *cache, int64_t limit)
{
    struct listing l = { .table = { .heads = { "STORE", "FILES", "SIZE", "USED" },
                                    .state_column = -1,
                                    .right = 1u << 1 | 1u << 2 | 1u << 3 },
                         .plain = ty_cli_flag(cli, "plain") };
    CLEANUP_JSON json_t *reply = ty_cli_flag(cli, "json") ? reply_of(cache, limit) : NULL;
    struct ty_error err = { 0 };
    int r, code;

    l.all = json_object_get(reply, "stores");
    r = ty_data_cache_list(cache, list_store, &l, &err);
    code = r < 0   ? ty_cli_fail(cli, &err)
           : reply ? ty_out_json(cli, reply)
                   : ty_table_print(cli, &l.table);
    if (r == 0 && !reply && !l.plain && !ty_cli_flag(cli, "quiet"))
        sum_up(&l, cache, limit);
    ty_table_done(&l.table);
    return code;
}

/* ---- what goes ---- */

struct wanted {
    uint64_t max;
    int64_t unused_us;
    bool any; /* of the options that remove */
};

static int wanted_of(const struct ty_cli *cli, struct wanted *w, struct ty_error *err)
{
    const char *max = ty_cli_value(cli, "max"), *unused = ty_cli_value(cli, "unused");

    *w = (struct wanted){ .max = UINT64_MAX,
                          .unused_us = INT64_MAX,
                          .any = max || unused || ty_cli_flag(cli, "clear") };
    if (max && ty_parse_bytes(max, &w->max) < 0)
        return ty_error_set(err, -EINVAL, "--max '%s' is not a size such as 500M or 20G", max);
    if (unused && ty_cli_parse_time(unused, &w->unused_us) < 0)
        return ty_error_set(err, -EINVAL, "--unused '%s' is not a time such as 12h or 30d", unused);
    if (ty_cli_flag(cli, "clear"))
        w->max = 0;
    if (!w->any && ty_cli_flag(cli, "dry-run"))
        return ty_error_set(err, -EINVAL, "--dry-run goes with --max, --unused or --clear");
    return 0;
}

static int collect(struct ty_cli *cli, const char *cache, const struct wanted *w)
{
    struct ty_error err = { 0 };
    bool dry = ty_cli_flag(cli, "dry-run");
    uint64_t freed = 0;
    char size[16];

    if (ty_data_cache_collect(cache, w->max, w->unused_us, dry, &freed, &err) < 0)
        return ty_cli_fail(cli, &err);
    if (ty_cli_flag(cli, "json")) {
        CLEANUP_JSON json_t *o =
            json_pack("{s:I s:b}", "freed_bytes", (json_int_t)freed, "dry", dry);

        return ty_out_json(cli, o);
    }
    printf("%s %s of downloaded data\n", dry ? "would remove" : "removed",
           ty_show_bytes(freed, size));
    return TY_EXIT_OK;
}

static int run(struct ty_cli *cli)
{
    CLEANUP_FREE char *cache = NULL;
    struct ty_conf *conf = NULL;
    struct ty_error err = { 0 };
    struct wanted w;
    int64_t limit = 0;
    int r = wanted_of(cli, &w, &err);

    if (r < 0)
        return ty_cli_usage(cli, "%s", err.text);
    r = ty_environment_cache(cli, &cache, &err);
    if (r == 0)
        r = ty_conf_load(".", &conf, &err);
    if (r < 0)
        return ty_cli_fail(cli, &err);
    limit = ty_conf_number(conf, "data.cache_bytes");
    ty_conf_free(conf);
    return w.any ? collect(cli, cache, &w) : show(cli, cache, limit);
}

static const struct ty_cli_option cache_options[] = {
    { 0, "max", "SIZE", "remove the least used until no more is left than this" },
    { 0, "unused", "TIME", "remove what no run has used for so long: 30d" },
    { 0, "clear", NULL, "remove everything that no run uses" },
    { 0, "dry-run", NULL, "only tell what would go" },
    TY_OPT_CACHE,
    TY_OPT_JSON,
    TY_OPT_PLAIN,
    TY_OPT_QUIET,
    TY_OPT_END,
};

const struct ty_cli_command ty_cmd_data_cache = {
    .name = "data cache",
    .usage = "[OPTIONS]",
    .summary = "Show what runs have downloaded from object stores, or remove it",
    .text =
        "After a run the least used goes until data.cache_bytes are left.  What a run has, or used within the last hour, stays.\n",
    .options = cache_options,
    .run = run,
};
