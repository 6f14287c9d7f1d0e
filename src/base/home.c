/* home.c - where the state folder is
 *
 * Apart from conf.c, because the client library asks too and may need only glibc.
 */
#include "base/conf.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/str.h"
#include <errno.h>
#include <limits.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>

static const char *named(const char *variable)
{
    const char *value = getenv(variable);

    return value && *value ? value : NULL;
}

static int absolute(const char *path, char **ret, struct ty_error *err)
{
    int r = ty_path_absolute(path, ret);

    if (r == -ENOMEM)
        return ty_error_oom(err);
    return r < 0
               ? ty_error_set(
                     err, r, "cannot find the state folder '%s': the working directory is gone: %s",
                     path, strerror(-r))
               : 0;
}

/* $HOME, else what the user database says, malloc'ed; NULL: neither. */
static char *user_folder(void)
{
    const char *home = named("HOME");
    struct passwd entry, *found = NULL;
    char buf[4096];

    if (home)
        return strdup(home);
    if (getpwuid_r(getuid(), &entry, buf, sizeof buf, &found) == 0 && found && found->pw_dir &&
        found->pw_dir[0] == '/')
        return strdup(found->pw_dir);
    return NULL;
}

bool ty_home_is_system(const char *home)
{
    CLEANUP_FREE char *mark = ty_path_join(home, TY_SYSTEM_MARK);
    struct stat st;

    return mark && lstat(mark, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == 0;
}

int ty_home(char **ret, struct ty_error *err)
{
    const char *home = named("TRAINYARD_HOME"), *state = named("XDG_STATE_HOME");
    CLEANUP_FREE char *user = NULL, *path = NULL;

    if (home)
        return absolute(home, ret, err);
    if (ty_home_is_system(TY_SYSTEM_HOME))
        return absolute(TY_SYSTEM_HOME, ret, err);
    /* The XDG rules say that relative paths are to be ignored. */
    if (state && state[0] == '/') {
        path = ty_path_join(state, "trainyard");
    } else {
        user = user_folder();
        if (!user)
            return ty_error_set(
                err, -ENOENT,
                "cannot find a state folder: neither TRAINYARD_HOME nor HOME is set; set TRAINYARD_HOME");
        path = ty_path_join(user, ".local/state/trainyard");
    }
    return path ? absolute(path, ret, err) : ty_error_oom(err);
}
