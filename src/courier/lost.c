/* lost.c - what is kept of jobs whose hosts could not be cleaned
 *
 *   jobs/<run>/ -> lost/<run>.<attempt>/    when the daemon has released the job and a host does not answer
 *
 * Its courier goes on with it there, for a day.  One that is killed, or ended with its box, leaves it behind: the next
 * courier of any job that comes by starts another for it.  After a month it is nobody's business any more.
 */
#include "base/error.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/proc.h"
#include "courier/courier_internal.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define FOLDER "lost"
#define KEEP_S (30 * 24 * 3600)
#define STARTS_MAX 64 /* couriers that one starts */

static char *folder_of(const struct ty_courier *c)
{
    const char *home = json_string_value(json_object_get(c->job, "home"));

    return home ? ty_path_join(home, FOLDER) : NULL;
}

static bool is_inside(const struct ty_courier *c, const char *folder)
{
    return ty_starts_with(c->dir, folder) && c->dir[strlen(folder)] == '/';
}

bool ty_lost_keep(struct ty_courier *c)
{
    CLEANUP_FREE char *folder = folder_of(c);
    CLEANUP_FREE char *to = NULL;
    int r;

    if (!folder)
        return false;
    if (is_inside(c, folder))
        return true;
    to = ty_strf("%s/%s.%lld", folder, c->run, (long long)c->attempt);
    r = to ? ty_mkdir_p(folder, 0700) : -ENOMEM;
    if (r == 0)
        r = ty_rm_rf(to);
    if (r == 0 && rename(c->dir, to) < 0)
        r = -errno;
    if (r < 0) {
        ty_log(TY_LOG_WARN, "cannot keep the job folder '%s': %s", c->dir, strerror(-r));
        return false;
    }
    free(c->dir);
    c->dir = TAKE(to);
    return true;
}

/* Does a courier hold it? */
static bool is_held(const char *dir)
{
    CLEANUP_FREE char *path = ty_path_join(dir, "lock");
    CLEANUP_CLOSE int fd = path ? open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW) : -1;

    return fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0;
}

/* True: a courier was started for it. */
static bool take_up(const char *dir)
{
    const char *argv[] = { "/proc/self/exe", "courier", dir, NULL };
    CLEANUP_FREE char *mark = ty_path_join(dir, "released");
    struct ty_spawn spawn = { .argv = argv, .cwd = "/", .in = -1, .out = -1, .err = -1 };
    struct ty_error err = { 0 };
    struct stat st;
    pid_t pid;

    if (is_held(dir))
        return false;
    /* The mark is made once; the folder is written to by each courier. */
    if (!mark || (stat(mark, &st) < 0 && stat(dir, &st) < 0) || st.st_mtime + KEEP_S < time(NULL)) {
        ty_rm_rf(dir);
        return false;
    }
    if (ty_spawn(&spawn, &pid, &err) < 0) {
        ty_log(TY_LOG_WARN, "what is left of a job on its hosts is not cleaned: %s", err.text);
        return false;
    }
    return true;
}

void ty_lost_take_up(const struct ty_courier *c)
{
    CLEANUP_FREE char *folder = folder_of(c);
    CLEANUP_DIR DIR *d = folder ? opendir(folder) : NULL;
    int started = 0;
    struct dirent *e;

    if (folder && is_inside(c, folder))
        return; /* one of them itself */
    while (d && started < STARTS_MAX && (e = readdir(d))) {
        CLEANUP_FREE char *dir = ty_path_join(folder, e->d_name);

        if (dir && e->d_name[0] != '.')
            started += take_up(dir);
    }
}
