/* get.c - how long ty_env_get takes: get CACHE PYTHON_PATH TIMES SPECIFICATION; a line of milliseconds for each time, then the prefix */
#include "base/clock.h"
#include "base/error.h"
#include "base/json.h"
#include "base/str.h"
#include "env/env.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
    struct ty_env_spec *spec = NULL;
    CLEANUP_JSON json_t *json = NULL;
    struct ty_error err = { 0 };
    struct ty_env e;
    int64_t times = 0;
    int r = 0;

    if (argc != 5 || ty_parse_i64(argv[3], &times) < 0)
        return 2;
    r = ty_json_parse(argv[4], strlen(argv[4]), &json, &err);
    if (r == 0)
        r = ty_env_spec_parse(json, &spec, &err);
    for (int64_t i = 0; r == 0 && i < times; i++) {
        struct ty_env_request q = { .spec = spec,
                                    .interpreter = "/usr/bin/python3",
                                    .cache = argv[1],
                                    .python_path = argv[2] };
        int64_t begun = ty_mono_us();

        r = ty_env_get(&q, &e, &err);
        if (r < 0)
            break;
        printf("%.3f\n", (double)(ty_mono_us() - begun) / 1e3);
        if (i == times - 1)
            printf("%s\n", e.prefix ? e.prefix : "");
        ty_env_done(&e);
    }
    if (r < 0)
        fprintf(stderr, "get: %s\n", err.text);
    ty_env_spec_free(spec);
    return r < 0;
}
