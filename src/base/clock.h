/* clock.h - the two clocks, in microseconds */
#ifndef TY_CLOCK_H
#define TY_CLOCK_H
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

int64_t ty_wall_us(void); /* since 1970, UTC; may jump: for records that people read */
int64_t ty_mono_us(void); /* since boot without sleep; never jumps: for every time-out */
/* Of a file's time, for example: since 1970. */
static inline int64_t ty_time_us(struct timespec t)
{
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}
/* "2026-11-23T11:52:03.123456Z" into buf[32]; returns buf. */
const char *ty_time_iso(int64_t wall_us, char buf[32]);
/* The reverse, of what ISO 8601 has: a day, "T" or a blank, a time to the minute, the second or a fraction, and "Z" or
 * "+01:00".  Without a zone, and a day alone: local time where `local`, else -EINVAL, as for all that is no time. */
int ty_time_parse(const char *text, bool local, int64_t *wall_us);
#endif
