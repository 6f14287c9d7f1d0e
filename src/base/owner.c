/* owner.c - file accesses of one thread as a user
 *
 * The raw system calls change the calling thread alone; glibc's setgroups would change the whole process.
 * A change of the file system's uid clears the signal that a process asked for at its parent's death: it is
 * asked for again.
 */
#include "base/owner.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/proc.h"
#include "base/str.h"
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PASSWD_BUFFER 16384

static void owner_freep(struct ty_owner **o)
{
    ty_owner_free(*o);
}

static int look_up(const char *name, struct passwd *entry, char *buf, size_t n,
                   struct passwd **found)
{
    int64_t uid;
    int r = getpwnam_r(name, entry, buf, n, found);

    if (r == 0 && !*found && ty_parse_i64(name, &uid) == 0 && uid >= 0 && uid < (uid_t)-1)
        r = getpwuid_r((uid_t)uid, entry, buf, n, found);
    return -r;
}

static int fill(const struct passwd *entry, struct ty_owner **ret, struct ty_error *err)
{
    CLEANUP(owner_freep) struct ty_owner *o = calloc(1, sizeof *o);

    if (!o)
        return ty_error_oom(err);
    o->uid = entry->pw_uid;
    o->gid = entry->pw_gid;
    o->name = strdup(entry->pw_name);
    o->home = strdup(entry->pw_dir && entry->pw_dir[0] == '/' ? entry->pw_dir : "/");
    o->shell = strdup(entry->pw_shell && *entry->pw_shell ? entry->pw_shell : "/bin/sh");
    if (!o->name || !o->home || !o->shell)
        return ty_error_oom(err);
    o->ngroups = TY_OWNER_GROUPS_MAX;
    if (getgrouplist(o->name, o->gid, o->groups, &o->ngroups) < 0)
        return ty_error_set(err, -E2BIG, "user '%s' is in more than %d groups", o->name,
                            TY_OWNER_GROUPS_MAX);
    *ret = TAKE(o);
    return 0;
}

int ty_owner_find(const char *name, struct ty_owner **ret, struct ty_error *err)
{
    CLEANUP_FREE char *buf = malloc(PASSWD_BUFFER);
    struct passwd entry, *found = NULL;
    int r;

    if (!buf)
        return ty_error_oom(err);
    r = look_up(name, &entry, buf, PASSWD_BUFFER, &found);
    if (r < 0 && r != -ENOENT && r != -ESRCH) {
        errno = -r;
        return ty_error_set(err, r, "cannot look up the user '%s': %m", name);
    }
    if (!found)
        return ty_error_set(err, -ENOENT, "this machine knows no user '%s'", name);
    return fill(found, ret, err);
}

struct ty_owner *ty_owner_free(struct ty_owner *o)
{
    if (!o)
        return NULL;
    free(o->name);
    free(o->home);
    free(o->shell);
    free(o);
    return NULL;
}

static void act_as(uid_t uid, gid_t gid, const gid_t *groups, int ngroups)
{
    int at_parents_death = 0;

    prctl(PR_GET_PDEATHSIG, &at_parents_death);
    /* The groups first: without root's rights they cannot be set any more; back, the uid first. */
    if (uid == 0)
        setfsuid(uid);
    if (syscall(SYS_setgroups, ngroups, groups) < 0)
        abort();
    setfsgid(gid);
    if (uid != 0)
        setfsuid(uid);
    if (setfsuid((uid_t)-1) != (int)uid || setfsgid((gid_t)-1) != (int)gid)
        abort();
    if (at_parents_death)
        prctl(PR_SET_PDEATHSIG, at_parents_death);
}

void ty_owner_enter(const struct ty_owner *o)
{
    if (o)
        act_as(o->uid, o->gid, o->groups, o->ngroups);
}

void ty_owner_leave(const struct ty_owner *o)
{
    if (o)
        act_as(0, 0, NULL, 0);
}

int ty_owner_become(const struct ty_owner *o)
{
    int at_parents_death = 0;

    if (!o)
        return 0;
    prctl(PR_GET_PDEATHSIG, &at_parents_death);
    if (syscall(SYS_setgroups, o->ngroups, o->groups) < 0 ||
        syscall(SYS_setresgid, o->gid, o->gid, o->gid) < 0 ||
        syscall(SYS_setresuid, o->uid, o->uid, o->uid) < 0)
        return -errno;
    if (at_parents_death)
        prctl(PR_SET_PDEATHSIG, at_parents_death);
    return 0;
}

/* In a child, which may fail. */
int ty_owner_check(void)
{
    static const struct ty_owner anybody = {
        .uid = 65534, .gid = 65534, .groups = { 65534 }, .ngroups = 1
    };
    pid_t pid = fork();
    int status = 0;

    if (pid == 0)
        _exit(ty_owner_become(&anybody) == 0 ? 0 : 1);
    if (pid > 0)
        ty_wait(pid, &status);
    return pid > 0 && status == 0 ? 0 : -EPERM;
}
