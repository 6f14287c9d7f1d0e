/* oom.c - oom_score_adj, and the kernel's count of its victims */
#include "runner/oom.h"
#include "base/cleanup.h"
#include "base/fs.h"
#include "base/str.h"
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILE_NAME "/proc/self/oom_score_adj"
#define COUNTS "/proc/vmstat"
#define COUNTS_MAX (64 * 1024)

int ty_oom_get(void)
{
    CLEANUP_FREE char *text = NULL;
    int64_t n;
    size_t len;

    if (ty_read_file(FILE_NAME, 64, &text, &len) < 0)
        return 0;
    if (len > 0 && text[len - 1] == '\n')
        text[len - 1] = '\0';
    return ty_parse_i64(text, &n) < 0 ? 0 : (int)n;
}

void ty_oom_set(int adjust)
{
    CLEANUP_CLOSE int fd = open(FILE_NAME, O_WRONLY | O_CLOEXEC);
    char text[16];
    int n = snprintf(text, sizeof text, "%d", adjust);

    if (fd < 0 || write(fd, text, (size_t)n) < 0)
        return; /* not allowed here: the runner is as likely a victim as others */
}

int64_t ty_oom_kills(void)
{
    CLEANUP_FREE char *text = NULL;
    const char *line;
    size_t n;

    if (ty_read_file(COUNTS, COUNTS_MAX, &text, &n) < 0)
        return -1;
    line = strstr(text, "\noom_kill ");
    return line ? strtoll(line + strlen("\noom_kill "), NULL, 10) : -1;
}
