/* ids.c - names of runs and of contents */
#include "core/ids.h"
#include "core/ascii.h"
#include <errno.h>
#include <stdio.h>

int ty_run_id_make(const char *experiment, int64_t unix_seconds, uint32_t random,
                   char ret[TY_RUN_ID_MAX + 1])
{
    char id[TY_RUN_ID_MAX + 1];
    int n = snprintf(id, sizeof id, "%s_%lld_%08x", experiment, (long long)unix_seconds, random);

    if (n < 0 || n >= (int)sizeof id || !ty_run_id_valid(id))
        return -EINVAL;
    memcpy(ret, id, (size_t)n + 1);
    return 0;
}

bool ty_run_id_valid(const char *id)
{
    return ty_ascii_alnum(*id) && strlen(id) <= TY_RUN_ID_MAX && ty_ascii_only(id, "_-");
}

bool ty_sha256_valid(const char *hex)
{
    return ty_ascii_hex(hex, 64);
}
