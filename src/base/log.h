/* log.h - what a program tells its operator; libraries return errors instead
 *
 * Levels by consequence: ERROR something was lost or refused that should not be; WARN a person should
 * look; INFO a handful of lines in the life of a run; DEBUG for developers (TRAINYARD_LOG=debug).
 * One line each: time, level, text.
 */
#ifndef TY_LOG_H
#define TY_LOG_H

enum ty_log_level { TY_LOG_ERROR, TY_LOG_WARN, TY_LOG_INFO, TY_LOG_DEBUG };

/* Where lines go (default 2) and up to which level (default INFO, or TRAINYARD_LOG). */
void ty_log_init(int fd, const char *program);
void ty_log(enum ty_log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
#endif
