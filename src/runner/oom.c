/* oom.c - oom_score_adj */
#include "runner/oom.h"
#include "base/cleanup.h"
#include "base/fs.h"
#include "base/str.h"
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define FILE_NAME "/proc/self/oom_score_adj"

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
