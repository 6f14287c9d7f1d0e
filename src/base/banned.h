/* banned.h - functions that this project does without; using one fails the build
 *
 * Included by the build into every C file (-include).
 */
#ifndef TY_BANNED_H
#define TY_BANNED_H
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#define TY_BAN(name, instead) sorry_##name##_is_banned_use_##instead
#undef strcpy
#define strcpy(a, b) TY_BAN(strcpy, ty_str)
#undef strcat
#define strcat(a, b) TY_BAN(strcat, ty_str)
#undef strncpy
#define strncpy(a, b, n) TY_BAN(strncpy, snprintf)
#undef strncat
#define strncat(a, b, n) TY_BAN(strncat, ty_str)
#undef sprintf
#define sprintf(...) TY_BAN(sprintf, snprintf)
#undef vsprintf
#define vsprintf(...) TY_BAN(vsprintf, vsnprintf)
#undef strtok
#define strtok(a, b) TY_BAN(strtok, strtok_r)
#undef gmtime
#define gmtime(t) TY_BAN(gmtime, gmtime_r)
#undef localtime
#define localtime(t) TY_BAN(localtime, localtime_r)
#undef ctime
#define ctime(t) TY_BAN(ctime, ty_time_iso)
#undef asctime
#define asctime(t) TY_BAN(asctime, ty_time_iso)
#undef atoi
#define atoi(s) TY_BAN(atoi, ty_parse_i64)
#undef atol
#define atol(s) TY_BAN(atol, ty_parse_i64)
#undef tmpnam
#define tmpnam(s) TY_BAN(tmpnam, mkstemp)
#undef mktemp
#define mktemp(s) TY_BAN(mktemp, mkstemp)
#endif
