/* cmd_data.c - trainyard data ls, put, get: files of datastores
 *
 * Names follow cp -r.  put: with one SRC, PATH is its new name unless it ends in '/' or is
 * empty; else each keeps its name below PATH.  get: a folder arrives in DEST under its own name;
 * a file becomes DEST, or arrives in it when DEST is a folder.
 */
#include "base/fs.h"
#include "base/str.h"
#include "cli/commands.h"
#include "cli/files.h"
#include "cli/objects.h"
#include "cli/runs.h"
#include "client/stubs.h"
#include <errno.h>
#include <sys/stat.h>

/* "STORE:PATH" */
struct where {
    char *store;
    const char *path; /* "" when missing; points into the argument */
};

static void where_done(struct where *w)
{
    free(w->store);
}

static int parse_where(const char *text, struct where *w, struct ty_error *err)
{
    const char *colon = strchr(text, ':');

    if (!colon || colon == text)
        return ty_error_set(
            err, -EINVAL, "'%s' is not DATASTORE:PATH, for example workspaceblobstore:corpus/a.txt",
            text);
    w->path = colon + 1;
    w->store = ty_strf("%.*s", (int)(colon - text), text);
    if (!w->store)
        return ty_error_oom(err);
    if (w->path[0] == '/')
        return ty_error_set(err, -EINVAL, "'%s': the path after ':' must not begin with '/'", text);
    return 0;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

/* ---- ls ---- */

static int ls_stores(struct ty_cli *cli, struct ty_error *err)
{
    CLEANUP_TABLE struct ty_table t = { .heads = { "DATASTORE", "KIND", "DEFAULT", "WHERE" },
                                        .state_column = -1 };
    CLEANUP_JSON json_t *reply = NULL;
    const json_t *store;
    size_t i;
    int r = ty_cli_get(cli, TY_ROUTE_datastore_list, NULL, &reply, err);

    if (r < 0)
        return ty_cli_fail(cli, err);
    if (ty_cli_flag(cli, "json"))
        return ty_out_json(cli, reply);
    json_array_foreach (json_object_get(reply, "datastores"), i, store) {
        CLEANUP_FREE char *where = ty_objects_where(store);
        const char *cells[] = { ty_out_str(store, "name"), ty_out_str(store, "kind"),
                                json_is_true(json_object_get(store, "default")) ? "yes" : "no",
                                where };

        ty_table_row(&t, cells);
    }
    return ty_table_print(cli, &t);
}

static int ls_files(struct ty_cli *cli, const char *text, struct ty_error *err)
{
    CLEANUP_TABLE struct ty_table t = { .heads = { "PATH", "SIZE" },
                                        .state_column = -1,
                                        .right = 1 << 1 };
    CLEANUP_JSON json_t *files = NULL;
    CLEANUP_FREE char *store = strndup(text, strcspn(text, ":"));
    const char *prefix = strchr(text, ':') ? strchr(text, ':') + 1 : NULL;
    struct ty_place place = ty_place_datastore(store);
    CLEANUP_JSON json_t *access = NULL;
    const json_t *file;
    size_t i;
    int r = store ? ty_objects_access(cli, store, &access, err) : ty_error_oom(err);

    ty_cli_catch_signals();
    if (r == 0)
        r = access ? ty_objects_list(access, prefix, &files, err)
                   : ty_files_list(cli, &place, prefix, &files, err);

    if (r < 0)
        return ty_cli_fail(cli, err);
    if (ty_cli_flag(cli, "json")) {
        CLEANUP_JSON json_t *all = json_pack("{sO}", "files", files);

        return ty_out_json(cli, all);
    }
    json_array_foreach (files, i, file) {
        uint64_t n = (uint64_t)json_integer_value(json_object_get(file, "bytes"));
        char size[24];
        const char *cells[] = { ty_out_str(file, "path"), size };

        if (ty_cli_flag(cli, "plain"))
            snprintf(size, sizeof size, "%llu", (unsigned long long)n);
        else
            ty_show_bytes(n, size);
        ty_table_row(&t, cells);
    }
    if (t.rows == 0 && !ty_cli_flag(cli, "quiet") && !ty_cli_flag(cli, "plain"))
        fprintf(stderr, "datastore '%s' has no file%s%s%s\n", store,
                prefix && *prefix ? " in '" : "", prefix ? prefix : "",
                prefix && *prefix ? "'" : "");
    return ty_table_print(cli, &t);
}

static int ls(struct ty_cli *cli)
{
    struct ty_error err = { 0 };

    if (ty_cli_client(cli, true, &err) < 0)
        return ty_cli_fail(cli, &err);
    return cli->nargs ? ls_files(cli, cli->args[0], &err) : ls_stores(cli, &err);
}

/* ---- put ---- */

/* What is to be sent: pairs of a local file and its path in the datastore. */
struct plan {
    json_t *files; /* [{"from", "path", "bytes"}] */
    const char *from, *to;
    struct ty_error *err;
};

static int plan_add(struct plan *p, const char *from, const char *path, uint64_t bytes)
{
    if (json_array_append_new(p->files, json_pack("{sssssI}", "from", from, "path", path, "bytes",
                                                  (json_int_t)bytes)) < 0)
        return ty_error_set(p->err, -EINVAL, "cannot store '%s': its name is not valid UTF-8",
                            from);
    return 0;
}

static int on_entry(const char *rel, const struct stat *entry, void *ctx)
{
    struct plan *p = ctx;
    CLEANUP_FREE char *from = ty_path_join(p->from, rel);
    CLEANUP_FREE char *path = *p->to ? ty_path_join(p->to, rel) : strdup(rel);
    struct stat st;

    if (!from || !path)
        return ty_error_oom(p->err);
    if (S_ISDIR(entry->st_mode))
        return 0;
    if (stat(from, &st) < 0 || !S_ISREG(st.st_mode)) {
        fprintf(stderr, "trainyard: left out '%s': neither a file nor a link to one\n", from);
        return 0;
    }
    return plan_add(p, from, path, (uint64_t)st.st_size);
}

static int plan_source(struct plan *p, const char *from, const char *to)
{
    struct stat st;

    if (stat(from, &st) < 0)
        return ty_error_set(p->err, -errno, "cannot read '%s': %m", from);
    if (S_ISREG(st.st_mode))
        return plan_add(p, from, to, (uint64_t)st.st_size);
    p->from = from;
    p->to = to;
    return ty_walk(from, on_entry, p, p->err);
}

/* Where SRC goes: below or as `path` (see above). */
static char *put_name(const char *path, const char *source, bool one)
{
    CLEANUP_FREE char *clean = NULL;
    bool below = !one || !*path || ty_ends_with(path, "/");
    CLEANUP_FREE char *whole = realpath(source, NULL);
    const char *name = base_name(whole ? whole : source);

    if (below && *path)
        return ty_path_join(
            ty_ends_with(path, "/") ? (clean = ty_strf("%.*s", (int)strlen(path) - 1, path)) : path,
            name);
    return strdup(below ? name : path);
}

static int send_all(struct ty_cli *cli, const char *store, const json_t *files,
                    struct ty_error *err)
{
    struct ty_transfer t = { .what = "upload",
                             .all = ty_files_bytes(files),
                             .bar = { .on = cli->err_terminal } };
    const json_t *file;
    size_t i;
    int r = 0;

    json_array_foreach (files, i, file) {
        r = ty_file_store(cli, store, ty_out_str(file, "path"), ty_out_str(file, "from"),
                          ty_cli_flag(cli, "overwrite"), err);
        if (r < 0)
            break;
        t.done += (uint64_t)json_integer_value(json_object_get(file, "bytes"));
        ty_progress_draw(&t.bar, t.what, t.done, t.all, false);
    }
    ty_progress_clear(&t.bar);
    if (r == 0)
        fprintf(stderr, "stored %zu file%s in '%s'\n", json_array_size(files),
                json_array_size(files) == 1 ? "" : "s", store);
    return r;
}

/* [{"from", "to"}] of each SRC, which has to be a file or a folder. */
static int sources_of(const struct ty_cli *cli, const char *path, json_t *ret, struct ty_error *err)
{
    int n = cli->nargs - 1;

    for (int i = 0; i < n; i++) {
        CLEANUP_FREE char *to = put_name(path, cli->args[i], n == 1);
        struct stat st;

        if (!to)
            return ty_error_oom(err);
        if (stat(cli->args[i], &st) < 0)
            return ty_error_set(err, -errno, "cannot read '%s': %m", cli->args[i]);
        if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
            return ty_error_set(
                err, -EINVAL, "cannot store '%s': it is neither a file nor a folder", cli->args[i]);
        if (json_array_append_new(ret, json_pack("{s:s s:s}", "from", cli->args[i], "to", to)) < 0)
            return ty_error_set(err, -EINVAL, "cannot store '%s': its name is not valid UTF-8",
                                cli->args[i]);
    }
    return 0;
}

static int put_files(struct ty_cli *cli, const char *store, const json_t *sources,
                     struct ty_error *err)
{
    struct plan plan = { .files = json_array(), .err = err };
    CLEANUP_JSON json_t *files = plan.files;
    const json_t *one;
    size_t i;
    int r = 0;

    json_array_foreach (sources, i, one)
        if ((r = plan_source(&plan, ty_out_str(one, "from"), ty_out_str(one, "to"))) < 0)
            return r;
    return send_all(cli, store, files, err);
}

static int put(struct ty_cli *cli)
{
    struct ty_error err = { 0 };
    CLEANUP(where_done) struct where w = { 0 };
    CLEANUP_JSON json_t *sources = json_array();
    CLEANUP_JSON json_t *access = NULL;
    int r = parse_where(cli->args[cli->nargs - 1], &w, &err);

    if (r == -EINVAL)
        return ty_cli_usage(cli, "%s", err.text);
    if (r == 0)
        r = sources_of(cli, w.path, sources, &err);
    if (r == 0)
        r = ty_cli_client(cli, true, &err);
    if (r == 0)
        r = ty_objects_access(cli, w.store, &access, &err);
    ty_cli_catch_signals();
    if (r == 0)
        r = access ? ty_objects_put(cli, access, sources, &err)
                   : put_files(cli, w.store, sources, &err);
    return r < 0 ? ty_cli_fail(cli, &err) : TY_EXIT_OK;
}

/* ---- get ---- */

/* Where a file of the datastore goes. `named` is what was asked for, without '/' at its end. */
static char *get_name(const char *path, const char *named, const char *dest, bool into)
{
    CLEANUP_FREE char *top = into && *named ? ty_path_join(dest, base_name(named)) : strdup(dest);
    const char *rest = path + strlen(named);

    if (!top)
        return NULL;
    rest += *rest == '/';
    return *rest ? ty_path_join(top, rest) : TAKE(top);
}

static int save_all(struct ty_cli *cli, const struct ty_place *place, const json_t *files,
                    const char *named, struct ty_error *err)
{
    const char *dest = cli->nargs > 1 ? cli->args[1] : ".";
    struct ty_transfer t = { .what = "download",
                             .all = ty_files_bytes(files),
                             .bar = { .on = cli->err_terminal } };
    bool into = ty_ends_with(dest, "/");
    const json_t *file;
    struct stat st;
    size_t i;
    int r = 0;

    into = into || (stat(dest, &st) == 0 && S_ISDIR(st.st_mode)) ||
           strcmp(ty_out_str(json_array_get(files, 0), "path"), named) != 0;
    json_array_foreach (files, i, file) {
        const char *path = ty_out_str(file, "path");
        CLEANUP_FREE char *to = ty_path_is_inside(path) ? get_name(path, named, dest, into) : NULL;

        if (!to)
            r = ty_error_set(
                err, -EINVAL,
                "the datastore has a file with the name '%s', which would lie outside of '%s'",
                path, dest);
        else
            r = ty_file_save(cli, place, path, to, ty_cli_flag(cli, "overwrite"), &t, err);
        if (r < 0)
            break;
    }
    ty_progress_clear(&t.bar);
    if (r == 0)
        fprintf(stderr, "%zu file%s in '%s'\n", json_array_size(files),
                json_array_size(files) == 1 ? "" : "s", dest);
    return r;
}

static int get_files(struct ty_cli *cli, const char *store, const char *named, struct ty_error *err)
{
    struct ty_place place = ty_place_datastore(store);
    CLEANUP_JSON json_t *listed = NULL;
    CLEANUP_JSON json_t *files = NULL;
    int r = ty_files_list(cli, &place, named, &listed, err);

    if (r < 0)
        return r;
    files = ty_files_select(listed, named);
    if (json_array_size(files) == 0)
        return ty_error_set(
            err, -ENOENT,
            "datastore '%s' has no file or folder '%s'; 'trainyard data ls %s:' lists what it has",
            store, named, store);
    return save_all(cli, &place, files, named, err);
}

static int get(struct ty_cli *cli)
{
    struct ty_error err = { 0 };
    CLEANUP(where_done) struct where w = { 0 };
    CLEANUP_JSON json_t *access = NULL;
    CLEANUP_FREE char *named = NULL;
    int r = parse_where(cli->args[0], &w, &err);

    if (r == -EINVAL)
        return ty_cli_usage(cli, "%s", err.text);
    if (r == 0)
        r = *w.path ? ty_path_clean(w.path, &named) : (named = strdup("")) ? 0 : -ENOMEM;
    if (r == -EINVAL)
        return ty_cli_usage(cli, "'%s' leads out of the datastore", w.path);
    if (r == 0)
        r = ty_cli_client(cli, true, &err);
    if (r == 0)
        r = ty_objects_access(cli, w.store, &access, &err);
    ty_cli_catch_signals();
    if (r == 0)
        r = access ? ty_objects_get(cli, access, named, cli->nargs > 1 ? cli->args[1] : ".", &err)
                   : get_files(cli, w.store, named, &err);
    return r < 0 ? ty_cli_fail(cli, &err) : TY_EXIT_OK;
}

static const struct ty_cli_option ls_options[] = { TY_OPT_JSON, TY_OPT_PLAIN, TY_OPT_QUIET,
                                                   TY_OPT_END };
static const struct ty_cli_option copy_options[] = {
    { 0, "overwrite", NULL, "replace files that exist" }, TY_OPT_END
};

const struct ty_cli_command ty_cmd_data_ls = {
    .name = "data ls",
    .usage = "[DATASTORE[:PREFIX]]",
    .summary = "List datastores, or the files of one",
    .options = ls_options,
    .max = 1,
    .run = ls,
};
const struct ty_cli_command ty_cmd_data_put = {
    .name = "data put",
    .usage = "SRC... DATASTORE:PATH",
    .summary = "Copy files and folders into a datastore",
    .examples =
        "  trainyard data put corpus workspaceblobstore:            as corpus/...\n"
        "  trainyard data put a.txt b.txt workspaceblobstore:in/    as in/a.txt and in/b.txt\n",
    .text =
        "With one SRC, PATH is its new name, unless PATH is empty or ends in '/'; else each SRC keeps its name below PATH.\n",
    .options = copy_options,
    .min = 2,
    .max = -1,
    .run = put,
};
const struct ty_cli_command ty_cmd_data_get = {
    .name = "data get",
    .usage = "DATASTORE:PATH [DEST]",
    .summary = "Copy a file or folder out of a datastore",
    .examples = "  trainyard data get workspaceblobstore:corpus ./copy    as copy/corpus/...\n",
    .text =
        "PATH is a file or a folder; empty: everything.  A folder arrives in DEST (default: .) under its own name; a file becomes\n"
        "DEST, or arrives in it when DEST is a folder or ends in '/'.\n",
    .options = copy_options,
    .min = 1,
    .max = 2,
    .run = get,
};
