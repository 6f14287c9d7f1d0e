/* hash.c - what an environment is called */
#include "base/cleanup.h"
#include "blob/blob.h"
#include "env/env.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

int ty_env_hash(const struct ty_env_spec *s, char hex[TY_ENV_HASH + 1])
{
    CLEANUP_FREE char *text = ty_env_spec_canonical(s);

    if (!text)
        return -ENOMEM;
    ty_sha256_hex(text, strlen(text), hex);
    return 0;
}
