/* clock.c - the two clocks, in microseconds */
#include "base/clock.h"
#include <errno.h>
#include <stdio.h>
#include <time.h>

static int64_t read_us(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return ty_time_us(t);
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

/* ---- times as people write them ---- */

/* `n` digits as a number, and past them; -1: they are not there, or it is above `max`. */
static int take_digits(const char **at, int n, int max)
{
    int value = 0;

    for (; n > 0; n--, (*at)++) {
        if (**at < '0' || **at > '9')
            return -1;
        value = value * 10 + (**at - '0');
    }
    return value > max ? -1 : value;
}

static bool take_char(const char **at, char c)
{
    if (**at != c)
        return false;
    (*at)++;
    return true;
}

static bool take_day(const char **at, struct tm *tm)
{
    int year = take_digits(at, 4, 9999);

    tm->tm_year = year - 1900;
    tm->tm_mon = take_char(at, '-') ? take_digits(at, 2, 12) - 1 : -1;
    tm->tm_mday = take_char(at, '-') ? take_digits(at, 2, 31) : 0;
    return year >= 1000 && tm->tm_mon >= 0 && tm->tm_mday >= 1;
}

/* 12:30, 12:30:05 or 12:30:05.25 */
static bool take_clock(const char **at, struct tm *tm, int64_t *fraction_us)
{
    int64_t unit = 100000;

    tm->tm_hour = take_digits(at, 2, 23);
    tm->tm_min = take_char(at, ':') ? take_digits(at, 2, 59) : -1;
    if (tm->tm_hour < 0 || tm->tm_min < 0)
        return false;
    if (!take_char(at, ':'))
        return true;
    tm->tm_sec = take_digits(at, 2, 60);
    if (tm->tm_sec < 0 || !take_char(at, '.'))
        return tm->tm_sec >= 0;
    if (**at < '0' || **at > '9')
        return false;
    for (; **at >= '0' && **at <= '9'; (*at)++, unit /= 10)
        *fraction_us += (**at - '0') * unit;
    return true;
}

/* Seconds east of UTC.  1: there is a zone, 0: none, -1: what is there is none. */
static int take_zone(const char **at, int *seconds)
{
    int sign = **at == '-' ? -1 : 1, hours, minutes;

    *seconds = 0;
    if (take_char(at, 'Z'))
        return 1;
    if (!take_char(at, '+') && !take_char(at, '-'))
        return 0;
    hours = take_digits(at, 2, 23);
    take_char(at, ':');
    minutes = hours < 0 ? -1 : take_digits(at, 2, 59);
    *seconds = sign * (hours * 3600 + minutes * 60);
    return minutes < 0 ? -1 : 1;
}

int ty_time_parse(const char *text, bool local, int64_t *wall_us)
{
    struct tm tm = { .tm_isdst = -1 }, day;
    int64_t fraction = 0;
    int zone = 0, east = 0;
    time_t seconds;

    if (!take_day(&text, &tm))
        return -EINVAL;
    if (*text) {
        if ((!take_char(&text, 'T') && !take_char(&text, ' ')) ||
            !take_clock(&text, &tm, &fraction))
            return -EINVAL;
        zone = take_zone(&text, &east);
    }
    if (*text || zone < 0 || (zone == 0 && !local))
        return -EINVAL;
    day = tm;
    seconds = zone ? timegm(&tm) - east : mktime(&tm);
    if (tm.tm_mday != day.tm_mday || tm.tm_mon != day.tm_mon)
        if (day.tm_sec < 60) /* the 30th of February; a leap second may well end the day */
            return -EINVAL;
    *wall_us = (int64_t)seconds * 1000000 + fraction;
    return 0;
}
