/* box.c - a cache and a package index of a test's own */
#include "box.h"
#include "base/cleanup.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/proc.h"
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define PYTHON "/usr/bin/python3"

static const char *here(const char *variable)
{
    const char *path = getenv(variable);

    assert_non_null(path); /* tests/unit/env/meson.build says what it is */
    return path ? path : "";
}

char *box_path(const struct box *b, const char *rel)
{
    return ty_strf("%s/%s", b->dir, rel);
}

/* ---- programs ---- */

char *box_run(const char *const *argv, int *status)
{
    CLEANUP_STR struct ty_str out = { 0 };
    CLEANUP_CLOSE int in = -1;
    struct ty_error err;
    char buf[4096];
    int fds[2];
    ssize_t n;
    pid_t pid;

    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    in = fds[0];
    struct ty_spawn s = { .argv = argv, .cwd = "/", .in = -1, .out = fds[1], .err = fds[1] };
    assert_int_equal(ty_spawn(&s, &pid, &err), 0);
    close(fds[1]);
    while ((n = read(in, buf, sizeof buf)) > 0)
        ty_str_addn(&out, buf, (size_t)n);
    assert_int_equal(waitpid(pid, status, 0), pid);
    *status = WIFEXITED(*status) ? WEXITSTATUS(*status) : 128 + WTERMSIG(*status);
    while (out.len > 0 && out.text[out.len - 1] == '\n')
        out.text[--out.len] = '\0';
    return ty_str_take(&out);
}

char *box_python(const char *interpreter, const char *code, int *status)
{
    const char *argv[] = { interpreter, "-c", code, NULL };

    return box_run(argv, status);
}

/* ---- the index ---- */

static void start_index(struct box *b)
{
    CLEANUP_FREE char *root = box_path(b, "index"), *said = NULL;
    const char *script = here("TY_TEST_INDEX");
    const char *make[] = { PYTHON, script, "make", root, NULL };
    const char *serve[] = { PYTHON, script, "serve", root, NULL };
    int in[2], out[2], status;
    struct ty_error err;
    char port[16] = "";
    FILE *f;

    said = box_run(make, &status);
    if (status != 0)
        fail_msg("cannot make the packages: %s", said);
    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    struct ty_spawn s = { .argv = serve, .cwd = "/", .in = in[0], .out = out[1], .err = 2 };
    assert_int_equal(ty_spawn(&s, &b->server, &err), 0);
    close(in[0]);
    close(out[1]);
    f = fdopen(out[0], "r");
    assert_non_null(fgets(port, sizeof port, f));
    fclose(f);
    port[strcspn(port, "\n")] = '\0';
    b->server_in = in[1];
    b->index = ty_strf("http://127.0.0.1:%s/simple/", port);
}

int box_requests(const struct box *b, const char *word)
{
    CLEANUP_FREE char *path = box_path(b, "index/requests"), *text = NULL;
    int n = 0;

    if (ty_read_file(path, 1 << 24, &text, NULL) < 0)
        return 0;
    for (const char *p = text; (p = strstr(p, word)); p++)
        n++;
    return n;
}

/* ---- environments ---- */

static void keep_line(const char *line, void *ctx)
{
    struct box *b = ctx;

    ty_str_add(&b->log, line);
    ty_str_add(&b->log, "\n");
}

static char *fill_in(const struct box *b, const char *spec)
{
    CLEANUP_STR struct ty_str s = { 0 };

    for (const char *p = spec; *p; p++) {
        if (ty_starts_with(p, "%I"))
            ty_str_add(&s, b->index), p++;
        else if (ty_starts_with(p, "%F"))
            ty_str_addf(&s, "%s/index/flat", b->dir), p++;
        else
            ty_str_addn(&s, p, 1);
    }
    return ty_str_take(&s);
}

static void spec_freep(struct ty_env_spec **s)
{
    ty_env_spec_free(*s);
}

int box_get(struct box *b, const struct ask *a, struct ty_env *ret)
{
    CLEANUP_FREE char *text = fill_in(b, a->spec);
    CLEANUP(spec_freep) struct ty_env_spec *spec = NULL;
    CLEANUP_JSON json_t *json = NULL;
    struct ty_env_request q = { .interpreter = a->interpreter ? a->interpreter : PYTHON,
                                .cache = a->cache ? a->cache : b->cache,
                                .python_path = here("TY_TEST_PYTHON"),
                                .offline = a->offline,
                                .use_gpu = a->use_gpu,
                                .interpreter_any = a->interpreter_any,
                                .torch_index = a->torch_index,
                                .cache_bytes_max = a->cache_bytes_max,
                                .log = a->log ? a->log : keep_line,
                                .ctx = a->log ? a->ctx : b };
    int r = ty_json_parse(text, strlen(text), &json, &b->err);

    if (r == 0)
        r = ty_env_spec_parse(json, &spec, &b->err);
    if (r < 0)
        return r;
    q.spec = spec;
    return ty_env_get(&q, ret, &b->err);
}

/* ---- life ---- */

int box_set_up(void **state)
{
    static const char *const settings[] = {
        "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX", "PIP_CONSTRAINT",
        "http_proxy",    "HTTP_PROXY",          "all_proxy",      "ALL_PROXY",    NULL
    };
    struct box *b = calloc(1, sizeof *b);

    if (!b)
        return -1;
    snprintf(b->dir, sizeof b->dir, "/tmp/ty-env-XXXXXX");
    assert_non_null(mkdtemp(b->dir));
    b->cache = box_path(b, "cache");
    setenv("PIP_CACHE_DIR", b->dir,
           1); /* neither the user's packages nor those of the test before */
    setenv("TY_TEST_PATH", getenv("PATH"), 0);
    setenv("PATH", "/usr/bin:/bin", 1); /* without uv */
    setenv("PIP_CONFIG_FILE", "/dev/null", 1);
    setenv("PIP_TRUSTED_HOST", "127.0.0.1",
           1); /* as one with a certificate is: what it sends is cached */
    for (const char *const *v = settings; *v; v++)
        unsetenv(*v);
    start_index(b);
    *state = b;
    return 0;
}

int box_tear_down(void **state)
{
    struct box *b = *state;
    int status;

    if (b->server_in >= 0) {
        close(b->server_in);
        waitpid(b->server, &status, 0);
    }
    ty_rm_rf(b->dir);
    free(b->cache);
    free(b->index);
    ty_str_done(&b->log);
    free(b);
    return 0;
}
