/* clock.c - the two clocks, in microseconds */
#include "base/clock.h"
#include <stdio.h>
#include <time.h>

static int64_t read_us(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

int64_t ty_wall_us(void)
{
    return read_us(CLOCK_REALTIME);
}

int64_t ty_mono_us(void)
{
    return read_us(CLOCK_MONOTONIC);
}

const char *ty_time_iso(int64_t wall_us, char buf[32])
{
    int64_t fraction = wall_us % 1000000;
    time_t seconds = (time_t)(wall_us / 1000000) - (fraction < 0);
    struct tm tm;
    size_t n;

    if (!gmtime_r(&seconds, &tm) || tm.tm_year > 9999 - 1900 || tm.tm_year < -1900) {
        snprintf(buf, 32, "0000-00-00T00:00:00.000000Z");
        return buf;
    }
    if (fraction < 0)
        fraction += 1000000;
    n = strftime(buf, 32, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(buf + n, 32 - n, ".%06dZ", (int)fraction);
    return buf;
}
