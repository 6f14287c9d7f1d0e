/* cmd_restore.c - trainyard restore: a state folder out of a backup
 *
 * Unpacked and checked beside its place, then renamed: there is a whole folder or none.
 */
#include "base/conf.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/str.h"
#include "blob/blob.h"
#include "cli/archive.h"
#include "cli/commands.h"
#include "cli/out.h"
#include "client/start_daemon.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DESCRIPTION_MAX 65536

/* rmdir says whether a folder is empty, and makes way. */
static int make_way(const char *home, struct ty_error *err)
{
    int r;

    if (rmdir(home) < 0 && errno != ENOENT && errno != ENOTEMPTY && errno != EEXIST)
        return ty_error_set(err, -errno, "cannot put a folder in place of '%s': %m", home);
    if (access(home, F_OK) == 0)
        return ty_error_set(
            err, -EEXIST,
            "the state folder '%s' is not empty; restore to another one (--home DIR), or stop its daemon "
            "(trainyard down) and move it away",
            home);
    r = ty_mkdir_parent(home, 0755);
    return r < 0 ? ty_error_set(err, r, "cannot make the folder above '%s': %s", home, strerror(-r))
                 : 0;
}

static int unpack(struct ty_cli *cli, const char *file, const char *to, struct ty_error *err)
{
    CLEANUP_FREE char *from = ty_strf("--file=%s", file), *folder = ty_strf("--directory=%s", to);
    const char *argv[] = { "/bin/tar",
                           "--extract",
                           ty_archive_option(file),
                           from,
                           folder,
                           "--preserve-permissions",
                           "--delay-directory-restore",
                           NULL };

    return from && folder ? ty_archive_run(cli, argv, -1, NULL, err) : ty_error_oom(err);
}

static int check_description(const char *folder, const char *file, json_t **ret,
                             struct ty_error *err)
{
    CLEANUP_FREE char *path = ty_path_join(folder, "backup.json"), *text = NULL;
    CLEANUP_FREE char *database = ty_path_join(folder, "state.db");
    CLEANUP_JSON json_t *o = NULL;
    size_t n;

    if (!path || !database)
        return ty_error_oom(err);
    if (ty_read_file(path, DESCRIPTION_MAX, &text, &n) < 0 || access(database, R_OK) < 0 ||
        ty_json_parse(text, n, &o, NULL) < 0)
        return ty_error_set(err, -EINVAL, "'%s' is no backup that Trainyard made, or not whole",
                            file);
    if (json_integer_value(json_object_get(o, "version")) != 1)
        return ty_error_set(
            err, -EPROTONOSUPPORT,
            "'%s' was made by Trainyard %s, whose backups this version (%s) cannot read", file,
            ty_out_str(o, "trainyard"), TY_VERSION);
    unlink(path);
    *ret = TAKE(o);
    return 0;
}

/* ---- each blob is what its name says ---- */

struct checking {
    const char *folder;
    char *bad; /* the first that is not; NULL: none */
};

static int check_blob(const char *rel, const struct stat *st, void *ctx)
{
    struct checking *c = ctx;
    CLEANUP_FREE char *path = ty_path_join(c->folder, rel);
    CLEANUP_CLOSE int fd = -1;
    char sha[TY_SHA256_HEX + 1], name[TY_SHA256_HEX + 2];
    uint64_t bytes;

    if (!S_ISREG(st->st_mode) || strlen(rel) != TY_SHA256_HEX + 1)
        return 0;
    snprintf(name, sizeof name, "%.2s%s", rel, rel + 3);
    fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd >= 0 && ty_sha256_file(fd, sha, &bytes) == 0 && strcmp(sha, name) == 0)
        return 0;
    c->bad = strdup(rel);
    return -EBADMSG;
}

static int check_blobs(const char *folder, const char *file, struct ty_error *err)
{
    CLEANUP_FREE char *blobs = ty_path_join(folder, "blobs");
    struct checking c = { .folder = blobs };
    int r = blobs ? ty_walk(blobs, check_blob, &c, NULL) : -ENOMEM;

    if (r == -EBADMSG && c.bad)
        ty_error_set(err, r, "'%s' is damaged: the content of 'blobs/%s' is not what its name says",
                     file, c.bad);
    else if (r < 0 && r != -ENOENT)
        ty_error_set(err, r, "cannot check the files of '%s': %s", file, strerror(-r));
    free(c.bad);
    return r == -ENOENT ? 0 : r;
}

static int leave_mark(const char *folder, struct ty_error *err)
{
    CLEANUP_FREE char *mark = ty_path_join(folder, TY_RESTORED_MARK);
    int r = mark ? ty_write_file(mark, "", 0, 0600) : -ENOMEM;

    return r < 0 ? ty_error_set(err, r, "cannot write '%s': %s", mark ? mark : "", strerror(-r))
                 : 0;
}

static int bring_back(struct ty_cli *cli, const char *file, const char *home, const char *tmp,
                      json_t **ret, struct ty_error *err)
{
    int r = ty_mkdir_p(tmp, 0700);

    if (r < 0)
        return ty_error_set(err, r, "cannot make the folder '%s': %s", tmp, strerror(-r));
    r = unpack(cli, file, tmp, err);
    if (r == 0)
        r = check_description(tmp, file, ret, err);
    if (r == 0)
        r = check_blobs(tmp, file, err);
    if (r == 0)
        r = leave_mark(tmp, err);
    if (r == 0 && rename(tmp, home) < 0)
        r = ty_error_set(err, -errno, "cannot rename '%s' to '%s': %m", tmp, home);
    return r;
}

static int restore(struct ty_cli *cli, const char *file, const char *home, json_t **ret,
                   struct ty_error *err)
{
    CLEANUP_FREE char *tmp = ty_strf("%s.restoring", home);
    int r;

    if (!tmp)
        return ty_error_oom(err);
    if (access(file, R_OK) < 0)
        return ty_error_set(err, -errno, "cannot read '%s': %m", file);
    r = make_way(home, err);
    if (r == 0)
        ty_rm_rf(tmp); /* what an earlier try has left */
    if (r == 0)
        r = bring_back(cli, file, home, tmp, ret, err);
    if (r < 0)
        ty_rm_rf(tmp);
    return r;
}

static int run(struct ty_cli *cli)
{
    const char *file = cli->args[0];
    CLEANUP_JSON json_t *backup = NULL;
    CLEANUP_FREE char *home = NULL;
    struct ty_error err = { 0 };
    int r;

    if (!ty_archive_option(file)) {
        ty_error_set(&err, -EINVAL,
                     "'%s' has no name of an archive: .tar, .tar.gz, .tar.zst or .tar.xz", file);
        return ty_cli_usage(cli, "%s", err.text);
    }
    r = ty_client_find_home(ty_cli_value(cli, "home"), &home, &err);
    if (r == 0)
        r = restore(cli, file, home, &backup, &err);
    if (r < 0) {
        ty_error_prefix(&err, "nothing was restored");
        return ty_cli_fail(cli, &err);
    }
    if (ty_cli_flag(cli, "json"))
        return ty_out_json(cli, backup);
    fprintf(
        stderr,
        "restored %lld runs to '%s', as they were at %s\nthe queue is paused: 'trainyard queue resume' starts what waits\n",
        json_integer_value(json_object_get(backup, "runs")), home, ty_out_str(backup, "made"));
    return TY_EXIT_OK;
}

static const struct ty_cli_option options[] = { TY_OPT_JSON, TY_OPT_END };

const struct ty_cli_command ty_cmd_restore = {
    .name = "restore",
    .usage = "FILE",
    .summary = "Make a state folder out of what 'trainyard backup' has written",
    .examples =
        "  trainyard restore trainyard-2026-11-23.tar.gz\n"
        "  trainyard --home /tmp/look restore backup.tar.gz && trainyard --home /tmp/look ps -a\n",
    .text =
        "The state folder must be empty or not there.  Runs that were going on when the backup was made have Failed (Restored);\n"
        "those that waited wait on, and the queue is paused, so that nothing is done twice by accident.\n",
    .options = options,
    .min = 1,
    .max = 1,
    .run = run,
};
