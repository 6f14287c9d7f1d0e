/* program.c - which file the name of a program stands for */
#include "base/program.h"
#include "base/str.h"
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool ty_program_is(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

char *ty_program_find(const char *name, const char *path)
{
    const char *p = path ? path : getenv("PATH");

    while (p && *p) {
        size_t n = strcspn(p, ":");
        CLEANUP_FREE char *file = *p == '/' ? ty_strf("%.*s/%s", (int)n, p, name) : NULL;

        if (file && ty_program_is(file))
            return TAKE(file);
        p += n + (p[n] == ':');
    }
    return NULL;
}
