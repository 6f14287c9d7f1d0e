/* fs_kind.c - which file system a path lies on, and how much room there is
 *
 * A path need not exist yet: then the nearest folder above it that does is asked.
 */
#include "base/cleanup.h"
#include "base/fs.h"
#include "base/str.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>

enum { FUSE_TYPE = 0x65735546, MOUNTS_MAX = 4 << 20 };

/* f_type of statfs(2). */
/* clang-format off */
static const struct {
    uint32_t type;
    const char *kind;
} network[] = {
    { 0x6969, "nfs" },        { 0x517b, "smb" },        { 0xff534d42, "cifs" },   { 0xfe534d42, "smb2" },
    { 0x5346414f, "afs" },    { 0x6b414653, "afs" },    { 0x00c36400, "ceph" },   { 0x0bd00bd0, "lustre" },
    { 0x01021997, "9p" },     { 0x47504653, "gpfs" },   { 0x19830326, "beegfs" }, { 0x20030528, "pvfs2" },
    { 0x73757245, "coda" },   { 0x564c, "ncp" },        { 0xaad7aaea, "panfs" },
};
/* clang-format on */

/* Types of FUSE in /proc/self/mountinfo that reach over a network, without "fuse."; others are local. */
static const char *const fuse_network[] = {
    "sshfs",    "s3fs",      "rclone",    "goofys",   "gcsfuse", "blobfuse",  "blobfuse2",
    "ceph",     "ceph-fuse", "glusterfs", "mfs",      "davfs",   "curlftpfs", "juicefs",
    "mount-s3", "hdfs",      "fuse_dfs",  "lizardfs", "cvmfs2",  "seaweedfs", NULL,
};

/* Cut `path` down to what exists; "." when nothing of a relative path does. */
static int existing_part(const char *path, char **ret)
{
    CLEANUP_FREE char *part = strdup(*path ? path : ".");
    struct stat st;
    char *slash;

    while (part && stat(part, &st) < 0) {
        slash = strrchr(part, '/');
        if (!slash) {
            free(part);
            part = strdup(".");
            break;
        }
        slash[slash == part] = 0;
        if (slash == part && stat(part, &st) < 0)
            return -errno;
    }
    if (!part)
        return -ENOMEM;
    *ret = TAKE(part);
    return 0;
}

/* `line` of mountinfo: "36 35 98:0 /root /mount options - type source superoptions". */
static const char *fuse_kind(const char *line, dev_t device)
{
    char type[64];
    const char *dash = strstr(line, " - ");
    unsigned high, low;

    if (sscanf(line, "%*u %*u %u:%u", &high, &low) != 2 || makedev(high, low) != device || !dash)
        return NULL;
    if (sscanf(dash, " - %63s", type) != 1)
        return NULL;
    for (size_t i = 0; fuse_network[i]; i++)
        if (strcmp(ty_starts_with(type, "fuse.") ? type + 5 : type, fuse_network[i]) == 0)
            return fuse_network[i];
    return NULL;
}

static const char *fuse_network_kind(const char *path)
{
    CLEANUP_FREE char *mounts = NULL;
    const char *kind = NULL;
    char *rest, *line;
    struct stat st;

    if (stat(path, &st) < 0 || ty_read_file("/proc/self/mountinfo", MOUNTS_MAX, &mounts, NULL) < 0)
        return NULL;
    for (line = strtok_r(mounts, "\n", &rest); line && !kind; line = strtok_r(NULL, "\n", &rest))
        kind = fuse_kind(line, st.st_dev);
    return kind;
}

/* Tests have no network file system at hand and name a folder that counts as one. */
static bool declared_network(const char *path)
{
    const char *prefix = getenv("TRAINYARD_TEST_NETWORK_FS");
    size_t n = prefix ? strlen(prefix) : 0;

    return n > 0 && strncmp(path, prefix, n) == 0 &&
           (path[n] == 0 || path[n] == '/' || prefix[n - 1] == '/');
}

const char *ty_fs_network_kind(const char *path)
{
    CLEANUP_FREE char *part = NULL;
    struct statfs fs;

    if (declared_network(path))
        return "nfs";
    if (existing_part(path, &part) < 0 || statfs(part, &fs) < 0)
        return NULL;
    if ((uint32_t)fs.f_type == FUSE_TYPE)
        return fuse_network_kind(part);
    for (size_t i = 0; i < sizeof network / sizeof *network; i++)
        if ((uint32_t)fs.f_type == network[i].type)
            return network[i].kind;
    return NULL;
}

uint64_t ty_fs_free_bytes(const char *path)
{
    CLEANUP_FREE char *part = NULL;
    struct statvfs fs;

    if (existing_part(path, &part) < 0 || statvfs(part, &fs) < 0)
        return 0;
    return (uint64_t)fs.f_bavail * fs.f_frsize;
}
