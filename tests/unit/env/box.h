/* box.h - a cache and a package index of a test's own */
#ifndef TY_TEST_BOX_H
#define TY_TEST_BOX_H
#include "base/error.h"
#include "base/str.h"
#include "env/env.h"
#include <sys/types.h>

struct box {
    char dir[64];        /* of everything */
    char *cache, *index; /* folder; "http://127.0.0.1:PORT/simple/" */
    pid_t server;
    int server_in;     /* it ends when this is closed */
    struct ty_str log; /* of every build so far, with a newline behind each line */
    struct ty_error err;
};

int box_set_up(void **state);
int box_tear_down(void **state);
/* The environment of a specification (JSON text; "%I" in it stands for the index, "%F" for the folder of find_links). */
struct ask {
    const char *spec;
    const char *interpreter; /* NULL: Debian's */
    const char *cache;       /* NULL: the box's */
    bool offline, use_gpu, interpreter_any;
    const char *torch_index; /* NULL: none is named */
    int64_t cache_bytes_max;
    void (*log)(const char *line, void *ctx); /* NULL: to the box's log */
    void *ctx;
};
int box_get(struct box *b, const struct ask *a, struct ty_env *ret);
/* What "python -c code" of that environment prints, without the last newline: malloc'ed; its exit status goes to *status. */
char *box_python(const char *interpreter, const char *code, int *status);
char *box_run(const char *const *argv, int *status);
/* How many requests the index has had so far whose line has `word` in it. */
int box_requests(const struct box *b, const char *word);
char *box_path(const struct box *b, const char *rel);
#endif
