/* slurm_warn.c - who is to be warned: those that descend from here, are marked as a job's, and catch the signal */
#include "target/slurm_warn.h"
#include "base/cleanup.h"
#include "base/fs.h"
#include "base/str.h"
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <sys/types.h>

#define ENVIRON_MAX (4 << 20)
#define DEPTH_MAX 200

static pid_t parent_of(pid_t pid)
{
    CLEANUP_FREE char *text = NULL;
    const char *end;
    char path[48];
    int parent;

    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    if (ty_read_file(path, 4096, &text, NULL) < 0 || !(end = strrchr(text, ')')) ||
        sscanf(end + 1, " %*c %d", &parent) != 1)
        return 0;
    return parent;
}

static bool descends(pid_t pid)
{
    for (int i = 0; i < DEPTH_MAX && pid > 1; i++)
        if ((pid = parent_of(pid)) == getpid())
            return true;
    return false;
}

/* The value of a variable that a process was started with; NULL: none.  malloc'ed. */
static char *variable_of(pid_t pid, const char *name)
{
    CLEANUP_FREE char *env = NULL;
    size_t len = 0, n = strlen(name);
    char path[48];

    snprintf(path, sizeof path, "/proc/%d/environ", (int)pid);
    if (ty_read_file(path, ENVIRON_MAX, &env, &len) < 0)
        return NULL;
    for (size_t at = 0; at < len; at += strlen(env + at) + 1)
        if (strncmp(env + at, name, n) == 0 && env[at + n] == '=')
            return strdup(env + at + n + 1);
    return NULL;
}

static bool catches(pid_t pid, int sig)
{
    CLEANUP_FREE char *text = NULL;
    const char *line;
    uint64_t mask = 0;
    char path[48];

    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    return ty_read_file(path, 65536, &text, NULL) == 0 && (line = strstr(text, "\nSigCgt:")) &&
           sscanf(line + 8, "%" SCNx64, &mask) == 1 && (mask >> (sig - 1) & 1);
}

static void write_warning(const char *spool, const char *text)
{
    CLEANUP_FREE char *path = ty_path_join(spool, TY_WARNING_FILE);
    CLEANUP_CLOSE int fd =
        path ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600) : -1;

    if (fd >= 0)
        (void)ty_write_all(fd, text, strlen(text));
}

int ty_slurm_warn(const char *text)
{
    CLEANUP_DIR DIR *dir = opendir("/proc");
    struct dirent *e;
    int n = 0;

    while (dir && (e = readdir(dir))) {
        pid_t pid = isdigit((unsigned char)e->d_name[0]) ? (pid_t)strtol(e->d_name, NULL, 10) : 0;
        CLEANUP_FREE char *spool = pid > 1 ? variable_of(pid, "TRAINYARD_SPOOL_DIR") : NULL;

        if (!spool || !descends(pid))
            continue;
        write_warning(spool, text); /* before the signal: its handler may want to read it */
        n += catches(pid, SIGUSR1) && kill(pid, SIGUSR1) == 0;
    }
    return n;
}
