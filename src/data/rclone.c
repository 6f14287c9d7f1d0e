/* rclone.c - mounting object stores by rclone */
#include "data/rclone.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/proc.h"
#include "base/program.h"
#include "base/str.h"
#include "data/azblob_internal.h"
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define READY_US (20 * 1000 * 1000)
#define STILL_US ((int64_t)60 * 1000000) /* nothing more is sent for so long: it is given up */
#define PAUSE_MS 20
#define ENV_MAX 32
#define META_MAX (1 << 20)
#define SAS_S (90 * 24 * 3600)

static const char *find(const char *name, char path[64])
{
    static const char *const where[] = { "/usr/local/bin", "/usr/bin", "/bin" };

    for (size_t i = 0; i < sizeof where / sizeof *where; i++) {
        snprintf(path, 64, "%s/%s", where[i], name);
        if (ty_program_is(path))
            return path;
    }
    return NULL;
}

static const char *text_of(const json_t *config, const char *key)
{
    return json_string_value(json_object_get(config, key));
}

static bool is_azure(const json_t *access)
{
    const char *kind = text_of(access, "kind");

    return kind && strcmp(kind, "azureblob") == 0;
}

const char *ty_rclone_why_not(void)
{
    char path[64];

    if (!find("rclone", path))
        return "rclone is not installed";
    if (!find("fusermount3", path))
        return "fusermount3 is not installed (package fuse3)";
    if (faccessat(AT_FDCWD, "/dev/fuse", R_OK | W_OK, AT_EACCESS) < 0)
        return "this user may not use /dev/fuse";
    return NULL;
}

/* --- starting it --- */

struct env {
    char *at[ENV_MAX + 1];
    int n;
    bool failed;
};

static void add(struct env *e, const char *name, const char *value)
{
    if (!value || e->n == ENV_MAX)
        return;
    e->at[e->n] = ty_strf("%s=%s", name, value);
    e->failed |= !e->at[e->n];
    e->n += e->at[e->n] != NULL;
}

static void for_s3(struct env *e, const json_t *config)
{
    const char *endpoint = text_of(config, "endpoint");

    add(e, "RCLONE_CONFIG_TY_TYPE", "s3");
    add(e, "RCLONE_CONFIG_TY_PROVIDER", endpoint ? "Other" : "AWS");
    add(e, "RCLONE_CONFIG_TY_ENDPOINT", endpoint);
    add(e, "RCLONE_CONFIG_TY_REGION", text_of(config, "region"));
    add(e, "RCLONE_CONFIG_TY_ACCESS_KEY_ID", text_of(config, "access_key_id"));
    add(e, "RCLONE_CONFIG_TY_SECRET_ACCESS_KEY", text_of(config, "secret_access_key"));
    add(e, "RCLONE_CONFIG_TY_SESSION_TOKEN", text_of(config, "session_token"));
    add(e, "RCLONE_CONFIG_TY_FORCE_PATH_STYLE",
        json_is_false(json_object_get(config, "path_style")) ? "false" : "true");
    add(e, "RCLONE_CONFIG_TY_NO_CHECK_BUCKET", "true");
}

/* rclone knows the address of an account only as https://ACCOUNT.blob.SUFFIX, but for a SAS.  One that is made of the key gives it no more
 * than the container, for longer than any run lasts. */
static int for_azure(struct env *e, const json_t *access, struct ty_error *err)
{
    struct ty_object_store *store = NULL;
    CLEANUP_FREE char *url = NULL;
    int r = ty_object_open(access, &store, err);

    if (r < 0)
        return r;
    url = ty_az_sas_url(store, ty_wall_us() / 1000000 + SAS_S);
    ty_object_close(store);
    e->failed |= !url;
    add(e, "RCLONE_CONFIG_TY_TYPE", "azureblob");
    add(e, "RCLONE_CONFIG_TY_SAS_URL", url);
    return 0;
}

/* As this process reaches the store, so does rclone. */
static void for_the_way(struct env *e)
{
    static const char *const names[] = { "http_proxy",    "https_proxy", "no_proxy",
                                         "HTTP_PROXY",    "HTTPS_PROXY", "NO_PROXY",
                                         "SSL_CERT_FILE", "SSL_CERT_DIR" };

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        add(e, names[i], getenv(names[i]));
}

static char *remote_of(const struct ty_rclone *m)
{
    const json_t *config = json_object_get(m->access, "config");
    const char *top = text_of(config, is_azure(m->access) ? "container_name" : "bucket"),
               *prefix = text_of(config, "prefix");

    return ty_strf("ty:%s%s%s%s%s", top ? top : "", prefix && *prefix ? "/" : "",
                   prefix ? prefix : "", *m->path ? "/" : "", m->path);
}

static int start(const struct ty_rclone *m, pid_t *pid, struct ty_error *err)
{
    CLEANUP_FREE char *remote = remote_of(m);
    CLEANUP_CLOSE int log =
        open(m->log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    const json_t *config = json_object_get(m->access, "config");
    struct env e = { 0 };
    char path[64];
    const char *argv[] = { find("rclone", path),
                           "mount",
                           remote,
                           m->at,
                           "--config",
                           "/dev/null",
                           "--cache-dir",
                           m->cache,
                           "--vfs-cache-mode",
                           "writes",
                           "--vfs-write-back",
                           "0s",
                           "--dir-cache-time",
                           "10s",
                           "--attr-timeout",
                           "1s",
                           "--poll-interval",
                           "0",
                           NULL };
    struct ty_spawn spawn = { .argv = argv, .cwd = "/", .in = -1, .out = log, .err = log };
    int r = 0;

    if (is_azure(m->access))
        r = for_azure(&e, m->access, err);
    else
        for_s3(&e, config);
    add(&e, "PATH", "/usr/local/bin:/usr/bin:/bin");
    add(&e, "HOME", "/nonexistent");
    for_the_way(&e);
    spawn.envp = (const char *const *)e.at;
    if (r == 0)
        r = e.failed || !remote || log < 0 || !argv[0]
                ? ty_error_set(err, -ENOMEM, "rclone cannot be started")
                : ty_spawn(&spawn, pid, err);
    for (int i = 0; i < e.n; i++)
        free(e.at[i]);
    return r;
}

static void pause_ms(long ms)
{
    nanosleep(&(struct timespec){ .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 }, NULL);
}

bool ty_is_mounted(const char *path)
{
    struct statx s;

    return statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_TYPE, &s) < 0
               ? errno == ENOTCONN
               : (s.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
}

/* The last line that it has said; of what it says only its own words, no request, goes to people. */
static void last_words(const char *log, char *buf, size_t n)
{
    CLEANUP_FREE char *text = NULL;
    char *end, *line;
    size_t len = 0;

    snprintf(buf, n, "it does not say why");
    if (ty_read_file(log, META_MAX, &text, &len) < 0 || len == 0)
        return;
    for (end = text + len; end > text && (end[-1] == '\n' || end[-1] == ' '); end--)
        ;
    *end = '\0';
    line = strrchr(text, '\n');
    snprintf(buf, n, "%.200s", line ? line + 1 : text);
    buf[strcspn(buf, "?")] = '\0'; /* a SAS stands behind it */
}

int ty_rclone_mount(const struct ty_rclone *m, pid_t *pid, struct ty_error *err)
{
    int64_t end = ty_mono_us() + READY_US;
    char words[256];
    int status, r = ty_mkdir_p(m->at, 0700);

    if (r == 0)
        r = ty_mkdir_p(m->cache, 0700);
    if (r < 0)
        return ty_error_set(err, r, "cannot make the folder '%s': %s", m->at, strerror(-r));
    r = start(m, pid, err);
    if (r < 0)
        return r;
    while (!ty_is_mounted(m->at) && ty_mono_us() < end) {
        if (waitpid(*pid, &status, WNOHANG) == *pid) {
            last_words(m->log, words, sizeof words);
            return ty_error_set(err, -EIO, "rclone ended: %s", words);
        }
        pause_ms(PAUSE_MS);
    }
    if (ty_is_mounted(m->at))
        return 0;
    kill(*pid, SIGKILL);
    ty_wait(*pid, NULL);
    ty_unmount_below(m->at);
    last_words(m->log, words, sizeof words);
    return ty_error_set(err, -ETIMEDOUT, "rclone has not mounted it in 20 s: %s", words);
}

/* --- what is not sent yet --- */

/* rclone keeps a JSON file about each cached one; what has to be sent is "Dirty" there. */
static bool is_dirty(const char *path)
{
    CLEANUP_FREE char *text = NULL;
    CLEANUP_JSON json_t *o = NULL;
    size_t n;

    return ty_read_foreign(path, META_MAX, &text, &n) == 0 &&
           ty_json_parse(text, n, &o, NULL) == 0 && json_is_true(json_object_get(o, "Dirty"));
}

static int dirty(const char *cache)
{
    CLEANUP_FREE char *meta = ty_path_join(cache, "vfsMeta");
    char *roots[] = { meta, NULL };
    FTS *fts = meta ? fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL) : NULL;
    FTSENT *e;
    int n = 0;

    if (!fts)
        return meta ? -errno : -ENOMEM;
    while ((e = fts_read(fts)))
        n += e->fts_info == FTS_F && is_dirty(e->fts_accpath);
    fts_close(fts);
    return n;
}

int ty_rclone_flush(const char *cache)
{
    int64_t since = ty_mono_us();
    long pause = 2 * PAUSE_MS;
    int before = INT32_MAX, n;

    /* What was closed this moment may not be marked yet. */
    pause_ms(pause);
    while ((n = dirty(cache)) > 0) {
        if (n < before)
            since = ty_mono_us();
        before = n;
        if (ty_mono_us() - since > STILL_US)
            return n;
        pause_ms(pause);
        pause = pause < 1000 ? 2 * pause : 1000;
    }
    return n;
}

/* --- taking it away --- */

static void unescape(char *s)
{
    char *to = s;

    for (; *s; s++)
        if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] && s[3]) {
            *to++ = (char)((s[1] - '0') * 64 + (s[2] - '0') * 8 + (s[3] - '0'));
            s += 3;
        } else {
            *to++ = *s;
        }
    *to = '\0';
}

/* What lies below the folder is a user's, who may put a link in the place of any part of the path at any time: root, who may
 * unmount everything, goes by descriptors that do not leave the folder.  What is no mount any more went with the one it was in. */
static int unmount_beneath(const char *dir, const char *rel)
{
    CLEANUP_CLOSE int top = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    CLEANUP_CLOSE int fd =
        top < 0 ? -1 : ty_open_beneath(top, *rel ? rel : ".", O_PATH | O_NOFOLLOW | O_CLOEXEC, 0);
    char path[64];

    if (top < 0)
        return -errno;
    if (fd < 0)
        return fd == -ENOENT ? 0 : fd;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return umount2(path, MNT_DETACH) == 0 || errno == EINVAL ? 0 : -errno;
}

/* As anybody else: fusermount3 looks whose it is. */
static int unmount_own(const char *path)
{
    char program[64];
    const char *argv[] = { find("fusermount3", program), "-u", "-z", "-q", path, NULL };
    struct ty_spawn spawn = { .argv = argv, .cwd = "/", .in = -1, .out = -1, .err = -1 };
    int status;
    pid_t pid;

    if (!argv[0])
        return -ENOENT;
    if (ty_spawn(&spawn, &pid, NULL) < 0 || ty_wait(pid, &status) < 0)
        return -EIO;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EBUSY;
}

int ty_unmount_below(const char *dir)
{
    CLEANUP_FREE char *real = realpath(dir, NULL);
    FILE *in = fopen("/proc/self/mountinfo", "re");
    char line[8192], where[4096];
    size_t n;
    int r = 0;

    if (!in || !real) {
        if (in)
            fclose(in);
        return real ? -errno : 0;
    }
    n = strlen(real);
    while (fgets(line, sizeof line, in)) {
        if (sscanf(line, "%*s %*s %*s %*s %4095s", where) != 1)
            continue;
        unescape(where);
        if (strncmp(where, real, n) != 0 || (where[n] != '\0' && where[n] != '/'))
            continue;
        if (geteuid() == 0 ? unmount_beneath(real, where[n] ? where + n + 1 : "") < 0
                           : unmount_own(where) < 0)
            r = -EBUSY;
    }
    fclose(in);
    return r;
}
