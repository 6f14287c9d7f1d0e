/* log.c - what a program tells its operator
 *
 * A line is built whole and goes out in one write(2), so that lines of several threads, and of several processes
 * with one O_APPEND file, never mix.
 */
#include "base/log.h"
#include "base/clock.h"
#include "base/str.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 2048 };

static struct {
    int fd;
    enum ty_log_level level;
    char program[32];
} logger = { .fd = 2, .level = TY_LOG_INFO };

static const char *const words[] = {
    [TY_LOG_ERROR] = "error",
    [TY_LOG_WARN] = "warn",
    [TY_LOG_INFO] = "info",
    [TY_LOG_DEBUG] = "debug",
};

void ty_log_init(int fd, const char *program)
{
    const char *wanted = getenv("TRAINYARD_LOG");

    logger.fd = fd;
    logger.level = TY_LOG_INFO;
    snprintf(logger.program, sizeof logger.program, "%s", program ? program : "");
    for (size_t i = 0; wanted && i < sizeof words / sizeof *words; i++)
        if (strcmp(words[i], wanted) == 0)
            logger.level = (enum ty_log_level)i;
}

/* One line stays one line, whatever a foreign text brings along. */
static void flatten(char *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)text[i] < ' ' || text[i] == 0x7f)
            text[i] = ' ';
}

void ty_log(enum ty_log_level level, const char *fmt, ...)
{
    char line[LINE_MAX_BYTES], when[32];
    int saved = errno, head, body;
    size_t n;
    va_list ap;

    if (level > logger.level)
        return;
    head = snprintf(line, sizeof line, "%s %s%s%s ", ty_time_iso(ty_wall_us(), when), words[level],
                    logger.program[0] ? " " : "", logger.program);
    errno = saved;
    va_start(ap, fmt);
    body = vsnprintf(line + head, sizeof line - (size_t)head, fmt, ap);
    va_end(ap);
    n = (size_t)head + (size_t)(body < 0 ? 0 : body);
    if (n > sizeof line - 1)
        n = ty_utf8_whole(line, sizeof line - 1);
    flatten(line, n);
    line[n] = '\n';
    /* A log that cannot be written has nobody left to be told. */
    while (write(logger.fd, line, n + 1) < 0 && errno == EINTR)
        ;
    errno = saved;
}
