/* memlimit.c - see memlimit.h */
#include "runner/memlimit.h"
#include "base/cleanup.h"
#include "base/fs.h"
#include "base/str.h"
#include "runner/procstat.h"
#include <errno.h>
#include <string.h>

#define FILE_MAX_BYTES (16 * 1024)

/* A file that holds one number; "max" and what is no number: none. */
static bool read_number(const char *folder, const char *name, int64_t *ret)
{
    CLEANUP_FREE char *path = ty_path_join(folder, name);
    CLEANUP_FREE char *text = NULL;

    if (!path || ty_read_file(path, FILE_MAX_BYTES, &text, NULL) < 0)
        return false;
    text[strcspn(text, "\n")] = '\0';
    return ty_parse_i64(text, ret) == 0 && *ret > 0;
}

static const char *limit_file(bool unified)
{
    return unified ? "memory.max" : "memory.limit_in_bytes";
}

void ty_memlimit_find_below(const char *root, const char *path, bool unified,
                            struct ty_memlimit *ret)
{
    char folder[sizeof ret->folder];
    int64_t least = INT64_MAX, limit;
    size_t top = strlen(root);
    int n = snprintf(folder, sizeof folder, "%s%s", root, strcmp(path, "/") == 0 ? "" : path);

    *ret = (struct ty_memlimit){ .unified = unified };
    if (n < 0 || n >= (int)sizeof folder)
        return;
    for (;;) {
        char *slash;

        if (read_number(folder, limit_file(unified), &limit) && limit < least) {
            least = limit;
            memcpy(ret->folder, folder, sizeof folder);
        }
        slash = strrchr(folder, '/');
        if (!slash || (size_t)(slash - folder) < top)
            break;
        *slash = '\0';
    }
}

void ty_memlimit_find(struct ty_memlimit *ret)
{
    CLEANUP_FREE char *text = NULL;
    bool unified = true;
    char path[384];

    *ret = (struct ty_memlimit){ .unified = true };
    if (ty_read_file("/proc/self/cgroup", FILE_MAX_BYTES, &text, NULL) == 0 &&
        ty_procstat_cgroup(text, path, sizeof path, &unified) == 0)
        ty_memlimit_find_below(unified ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory", path, unified,
                               ret);
}

/* What can be given back at once (files that are clean and old) does not count, as it does not in MemAvailable. */
static int64_t inactive_files(const struct ty_memlimit *l)
{
    CLEANUP_FREE char *path = ty_path_join(l->folder, "memory.stat");
    CLEANUP_FREE char *text = NULL;
    uint64_t bytes = 0;

    if (path && ty_read_file(path, FILE_MAX_BYTES, &text, NULL) == 0)
        ty_procstat_value(text, l->unified ? "inactive_file" : "total_inactive_file", &bytes);
    return bytes < INT64_MAX ? (int64_t)bytes : 0;
}

void ty_memlimit_apply(const struct ty_memlimit *l, int64_t *used, int64_t *total)
{
    int64_t limit, now, inactive;

    if (!*l->folder || !read_number(l->folder, limit_file(l->unified), &limit) || limit >= *total ||
        !read_number(l->folder, l->unified ? "memory.current" : "memory.usage_in_bytes", &now))
        return;
    inactive = inactive_files(l);
    *total = limit;
    *used = now > inactive ? now - inactive : 0;
}
