/* marker.c - the word in a datastore's folder */
#include "data/marker.h"
#include "base/cleanup.h"
#include "base/fs.h"
#include "base/str.h"
#include "blob/blob.h"
#include "core/ascii.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define WORD "word "
#define LOOK "look "
#define RANDOM_BYTES 16
#define ENTRIES_MAX 64

static bool is_word(const char *text)
{
    return ty_ascii_hex(text, 2 * RANDOM_BYTES);
}

/* As the folder's own: a link of that name leads nowhere. */
static int read_word(int dir, char token[TY_MARKER_TOKEN])
{
    CLEANUP_CLOSE int fd =
        openat(dir, TY_MARKER_NAME, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    char text[2 * RANDOM_BYTES + 2];
    struct stat st;
    ssize_t n;

    if (fd < 0 || fstat(fd, &st) < 0)
        return -errno;
    n = ty_read_full(fd, text, sizeof text - 1);
    if (n < 0)
        return (int)n;
    text[n] = '\0';
    text[strcspn(text, "\n")] = '\0';
    if (!is_word(text))
        return -EBADMSG;
    snprintf(token, TY_MARKER_TOKEN, WORD "%s %" PRIu64, text, (uint64_t)st.st_ino);
    return 0;
}

/* Whole under its name, or not at all; who comes second takes the first one's. */
static int write_word(int dir)
{
    unsigned char bytes[RANDOM_BYTES];
    char text[2 * RANDOM_BYTES + 2], temp[64];
    CLEANUP_CLOSE int fd = -1;
    int r;

    if (getrandom(bytes, sizeof bytes, 0) != sizeof bytes)
        return -EIO;
    for (size_t i = 0; i < sizeof bytes; i++)
        snprintf(text + 2 * i, 3, "%02x", bytes[i]);
    snprintf(temp, sizeof temp, ".trainyard-new-%.16s", text);
    fd = openat(dir, temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (fd < 0)
        return -errno;
    text[2 * RANDOM_BYTES] = '\n';
    r = ty_write_all(fd, text, 2 * RANDOM_BYTES + 1);
    if (r == 0 && fchmod(fd, 0644) < 0)
        r = -errno;
    if (r == 0)
        r = ty_rename_noreplace(dir, temp, dir, TY_MARKER_NAME);
    if (r < 0)
        unlinkat(dir, temp, 0);
    return r == -EEXIST ? 0 : r;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static void add_look(struct ty_str *s, const char *name, const struct stat *st)
{
    ty_str_addf(s, "%s %" PRIu64 " %lld %lld.%09ld\n", name, (uint64_t)st->st_ino,
                (long long)st->st_size, (long long)st->st_mtim.tv_sec, st->st_mtim.tv_nsec);
}

static int look(const char *folder, char token[TY_MARKER_TOKEN])
{
    CLEANUP_STR struct ty_str s = { 0 };
    char sha[TY_SHA256_HEX + 1];
    struct dirent **list = NULL;
    struct stat st;
    int n;

    if (stat(folder, &st) < 0)
        return -errno;
    add_look(&s, ".", &st);
    n = scandir(folder, &list, NULL, by_name);
    for (int i = 0; i < n; i++) {
        CLEANUP_FREE char *path = ty_path_join(folder, list[i]->d_name);

        if (i < ENTRIES_MAX && list[i]->d_name[0] != '.' && path && lstat(path, &st) == 0)
            add_look(&s, list[i]->d_name, &st);
        free(list[i]);
    }
    free(list);
    if (n < 0 || s.failed)
        return n < 0 ? -errno : -ENOMEM;
    ty_sha256_hex(s.text, s.len, sha);
    snprintf(token, TY_MARKER_TOKEN, LOOK "%s", sha);
    return 0;
}

int ty_marker_token(const char *folder, char token[TY_MARKER_TOKEN])
{
    CLEANUP_CLOSE int dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (dir < 0)
        return -errno;
    if (read_word(dir, token) == 0 || (write_word(dir) == 0 && read_word(dir, token) == 0))
        return 0;
    return look(folder, token);
}

bool ty_marker_fits(const char *folder, const char *token)
{
    CLEANUP_CLOSE int dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    char here[TY_MARKER_TOKEN] = "";

    if (dir < 0)
        return false;
    if (ty_starts_with(token, LOOK))
        return look(folder, here) == 0 && strcmp(here, token) == 0;
    return read_word(dir, here) == 0 && strcmp(here, token) == 0;
}
