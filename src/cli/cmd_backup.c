/* cmd_backup.c - trainyard backup: the state folder as an archive, while the daemon works
 *
 * The daemon copies its database; then tar packs that copy and the files that it refers to.  Those only grow meanwhile: a lock
 * keeps the collection of garbage away, and what comes later is not in the copy of the database.
 */
#include "base/clock.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/str.h"
#include "cli/archive.h"
#include "cli/commands.h"
#include "cli/out.h"
#include "cli/runs.h"
#include "client/stubs.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define ARGS_MAX 24
#define FULL_BYTES 65536

static int lock_out_collection(const char *home, int *ret, struct ty_error *err)
{
    CLEANUP_FREE char *path = ty_path_join(home, "backup.lock");
    CLEANUP_CLOSE int fd = path ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;

    if (fd < 0)
        return ty_error_set(
            err, path ? -errno : -ENOMEM,
            "cannot lock the state folder '%s': %m; a backup is made on the machine "
            "of the daemon, by whom the folder belongs to",
            home);
    if (flock(fd, LOCK_EX) < 0) /* waits for a collection that is going on, or another backup */
        return ty_error_set(err, -errno, "cannot lock '%s': %m", path);
    *ret = TAKE_FD(fd);
    return 0;
}

/* Where and of what: for people, and for trainyard restore. */
static int describe(const json_t *backup, const char *home, struct ty_error *err)
{
    CLEANUP_FREE char *path = ty_path_join(home, "backup/backup.json");
    char now[32];
    CLEANUP_JSON json_t *o =
        json_pack("{s:i s:s s:s s:s s:O}", "version", 1, "trainyard", TY_VERSION, "home", home,
                  "made", ty_time_iso(ty_wall_us(), now), "runs", json_object_get(backup, "runs"));
    CLEANUP_FREE char *text = o ? ty_json_text(o) : NULL;
    int r = path && text ? ty_write_file(path, text, strlen(text), 0600) : -ENOMEM;

    return r < 0 ? ty_error_set(err, r, "cannot write '%s': %s", path ? path : "backup.json",
                                strerror(-r))
                 : 0;
}

static bool is_there(const char *home, const char *name)
{
    CLEANUP_FREE char *path = ty_path_join(home, name);

    return path && access(path, F_OK) == 0;
}

static int pack(struct ty_cli *cli, const char *home, const char *option, const char *to,
                struct ty_error *err)
{
    static const char *const more[] = { "system", "blobs", "logs", "data" };
    CLEANUP_FREE char *file = ty_strf("--file=%s", to), *folder = ty_strf("--directory=%s", home);
    const char *argv[ARGS_MAX] = { "/bin/tar",
                                   "--create",
                                   option,
                                   file,
                                   folder,
                                   "--transform=flags=r;s|^backup/||",
                                   "--exclude=blobs/tmp/*",
                                   "--warning=no-file-changed",
                                   "--warning=no-file-removed",
                                   "backup/backup.json",
                                   "backup/state.db" };
    size_t n = 0;

    if (!file || !folder)
        return ty_error_oom(err);
    while (argv[n])
        n++;
    if (!ty_cli_flag(cli, "without-key") && is_there(home, "secret.key"))
        argv[n++] = "secret.key";
    for (size_t i = 0; i < sizeof more / sizeof *more; i++)
        if (is_there(home, more[i]))
            argv[n++] = more[i];
    return ty_archive_run(cli, argv, strcmp(to, "-") == 0 ? STDOUT_FILENO : -1, to, err);
}

/* Beside its place, then renamed: there is a whole backup or none. */
static int pack_to_file(struct ty_cli *cli, const char *home, const char *file,
                        struct ty_error *err)
{
    CLEANUP_FREE char *tmp = ty_strf("%s.partial", file);
    CLEANUP_CLOSE int fd = -1;
    int r;

    if (!tmp)
        return ty_error_oom(err);
    unlink(tmp); /* of a backup that was killed */
    fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC,
              0600); /* ours from birth; tar keeps the mode of what is there */
    if (fd < 0)
        return ty_error_set(err, -errno, "cannot write '%s': %m", tmp);
    r = pack(cli, home, ty_archive_option(file), tmp, err);
    if (r == 0 && (fsync(fd) < 0 || rename(tmp, file) < 0))
        r = ty_error_set(err, -errno, "cannot write '%s': %m", file);
    if (r < 0 && ty_fs_free_bytes(tmp) < FULL_BYTES) /* which tar says in other words */
        r = ty_error_set(err, -ENOSPC, "cannot write '%s': %s", file, strerror(ENOSPC));
    if (r < 0)
        unlink(tmp);
    return r;
}

static int check_file(const char *file, struct ty_error *err)
{
    if (strcmp(file, "-") != 0 && !ty_archive_option(file))
        return ty_error_set(
            err, -EINVAL,
            "'%s' is no name for an archive: end it in .tar, .tar.gz, .tar.zst or .tar.xz, or give '-' "
            "for standard output",
            file);
    if (strcmp(file, "-") == 0 && isatty(STDOUT_FILENO))
        return ty_error_set(
            err, -EINVAL,
            "an archive is nothing for a terminal: name a file, or a pipe behind this command");
    return 0;
}

static int make(struct ty_cli *cli, const char *file, json_t **ret, struct ty_error *err)
{
    CLEANUP_JSON json_t *backup = NULL;
    CLEANUP_FREE char *folder = NULL;
    CLEANUP_CLOSE int lock = -1;
    const char *home = ty_client_home(cli->client);
    int r = lock_out_collection(home, &lock, err);

    if (r == 0)
        r = ty_cli_get(cli, TY_ROUTE_backup_begin, NULL, &backup, err);
    if (r == 0)
        r = describe(backup, home, err);
    if (r == 0)
        r = strcmp(file, "-") == 0 ? pack(cli, home, "--gzip", file, err)
                                   : pack_to_file(cli, home, file, err);
    folder = ty_path_join(home, "backup");
    if (folder)
        ty_rm_rf(folder);
    if (r == 0)
        *ret = TAKE(backup);
    return r;
}

static int report(struct ty_cli *cli, const char *file, const json_t *backup)
{
    bool key = !ty_cli_flag(cli, "without-key");
    struct stat st = { 0 };
    char size[16];

    if (strcmp(file, "-") == 0)
        return TY_EXIT_OK;
    stat(file, &st);
    if (ty_cli_flag(cli, "json")) {
        CLEANUP_JSON json_t *o =
            json_pack("{s:s s:I s:O}", "file", file, "bytes", (json_int_t)st.st_size, "runs",
                      json_object_get(backup, "runs"));

        return ty_out_json(cli, o);
    }
    fprintf(stderr, "%lld runs are in '%s' (%s)%s\n",
            json_integer_value(json_object_get(backup, "runs")), file,
            ty_show_bytes((uint64_t)st.st_size, size),
            key ? "; it holds the key of the secrets: keep it as you would keep them" : "");
    return TY_EXIT_OK;
}

static int run(struct ty_cli *cli)
{
    const char *file = cli->args[0];
    CLEANUP_JSON json_t *backup = NULL;
    struct ty_error err = { 0 };
    int r = check_file(file, &err);

    if (r < 0)
        return ty_cli_usage(cli, "%s", err.text);
    r = ty_cli_client(cli, true, &err);
    if (r == 0)
        r = make(cli, file, &backup, &err);
    if (r < 0) {
        ty_error_prefix(&err, "no backup was made");
        return ty_cli_fail(cli, &err);
    }
    return report(cli, file, backup);
}

static const struct ty_cli_option options[] = {
    { 0, "without-key", NULL,
      "leave the key of the secrets out: they cannot be read after a restore" },
    TY_OPT_JSON,
    TY_OPT_END,
};

const struct ty_cli_command ty_cmd_backup = {
    .name = "backup",
    .usage = "[OPTIONS] FILE",
    .summary = "Write runs, logs, files, data and secrets into one archive; runs go on meanwhile",
    .examples = "  trainyard backup trainyard-$(date +%F).tar.gz\n"
                "  trainyard backup - | ssh elsewhere 'cat > trainyard.tar.gz'\n",
    .text =
        "FILE ends in .tar, .tar.gz, .tar.zst or .tar.xz; '-' is standard output, compressed by gzip.  'trainyard restore'\n"
        "brings it back.\n",
    .options = options,
    .min = 1,
    .max = 1,
    .run = run,
};
