/* test_view.c - what the tools are told; that they do it is for tests/e2e/views.sh */
#include "base/cleanup.h"
#include "base/error.h"
#include "env/view.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *none[] = { NULL };
static char *job_argv[] = { (char *)"/usr/bin/python3", (char *)"train.py", (char *)"--lr",
                            (char *)"0.1", NULL };
static char *job_env[] = { (char *)"PATH=/usr/bin", (char *)"HOME=/home/u", (char *)"RANK=0",
                           (char *)"TOKEN=sesame", NULL };

struct made {
    struct ty_env_spec spec;
    struct ty_view view;
    json_t *asked;
    char **argv, **env;
};

static void make(struct made *m, enum ty_tool_kind kind, const char *path)
{
    static const char *const writable[] = { "/tmp", "/no/such/folder", NULL };
    static const char *const readable[] = { "/usr", NULL };

    *m = (struct made){
        .spec = { .view = TY_VIEW_IMAGE, .image = "team/torch:2", .image_arguments = none }
    };
    m->asked = json_pack("{s:s}", "TOKEN", "sesame");
    m->view = (struct ty_view){ .spec = &m->spec,
                                .tool = { .kind = kind },
                                .work = "/tmp/job/work",
                                .tmp = "/tmp/job/tmp",
                                .home = "/root",
                                .writable = writable,
                                .readable = readable,
                                .name = "trainyard-r1-0",
                                .user_environment = m->asked,
                                .uid = 1000,
                                .gid = 1001 };
    snprintf(m->view.tool.path, sizeof m->view.tool.path, "%s", path);
}

static void wrap(struct made *m)
{
    struct ty_error err = { 0 };

    assert_int_equal(ty_view_wrap(&m->view, job_argv, job_env, &m->argv, &m->env, &err), 0);
}

static void done(struct made *m)
{
    for (char **p = m->argv; p && *p; p++)
        free(*p);
    for (char **p = m->env; p && *p; p++)
        free(*p);
    free(m->argv);
    free(m->env);
    json_decref(m->asked);
}

/* Where `word` stands, -1: nowhere. */
static int at(char **v, const char *word)
{
    for (int i = 0; v[i]; i++)
        if (strcmp(v[i], word) == 0)
            return i;
    return -1;
}

static bool pair(char **v, const char *option, const char *value)
{
    for (int i = 0; v[i] && v[i + 1]; i++)
        if (strcmp(v[i], option) == 0 && strcmp(v[i + 1], value) == 0)
            return true;
    return false;
}

static void test_a_plain_view_changes_nothing(void **state)
{
    struct made m;

    (void)state;
    make(&m, TY_TOOL_NONE, "");
    wrap(&m);
    for (int i = 0; i < 5; i++)
        assert_true(m.argv[i] == job_argv[i] || strcmp(m.argv[i], job_argv[i]) == 0);
    assert_int_equal(at(m.env, "TOKEN=sesame"), 3);
    done(&m);
}

static void test_podman(void **state)
{
    struct made m;
    int image;

    (void)state;
    make(&m, TY_TOOL_PODMAN, "/usr/bin/podman");
    wrap(&m);
    assert_string_equal(m.argv[0], "/usr/bin/podman");
    assert_true(pair(m.argv, "--network", "host"));
    assert_true(pair(m.argv, "--ipc", "host"));
    assert_true(pair(m.argv, "--userns", "keep-id"));
    assert_true(pair(m.argv, "--volume", "/tmp:/tmp"));
    assert_true(pair(m.argv, "--volume", "/usr:/usr:ro"));
    assert_int_equal(at(m.argv, "/no/such/folder:/no/such/folder"), -1);
    assert_true(pair(m.argv, "--env", "TOKEN"));
    assert_true(pair(m.argv, "--env", "RANK"));
    assert_false(pair(m.argv, "--env", "PATH"));
    assert_true(pair(m.argv, "--env", "HOME=/tmp/job/tmp"));
    image = at(m.argv, "team/torch:2");
    assert_true(image > 0);
    assert_string_equal(m.argv[image + 1], "/usr/bin/python3");
    assert_string_equal(m.argv[image + 4], "0.1");
    assert_null(m.argv[image + 5]);
    done(&m);
}

static int count(char **v, const char *word)
{
    int n = 0;

    for (; *v; v++)
        n += strcmp(*v, word) == 0;
    return n;
}

/* podman: "duplicate mount destination" */
static void test_nothing_is_bound_twice(void **state)
{
    static const char *const writable[] = { "/tmp", "/tmp", NULL };
    static const char *const readable[] = { "/usr", "/tmp", "/usr", NULL };
    struct made m;

    (void)state;
    make(&m, TY_TOOL_PODMAN, "/usr/bin/podman");
    m.view.writable = writable;
    m.view.readable = readable;
    wrap(&m);
    assert_int_equal(count(m.argv, "/tmp:/tmp"), 1);
    assert_int_equal(count(m.argv, "/tmp:/tmp:ro"), 0);
    assert_int_equal(count(m.argv, "/usr:/usr:ro"), 1);
    done(&m);
}

static void test_no_value_is_an_argument(void **state)
{
    static const enum ty_tool_kind kinds[] = { TY_TOOL_BWRAP, TY_TOOL_PODMAN, TY_TOOL_DOCKER,
                                               TY_TOOL_APPTAINER };

    (void)state;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        struct made m;

        make(&m, kinds[i], "/usr/bin/tool");
        wrap(&m);
        for (char **p = m.argv; *p; p++)
            assert_null(strstr(*p, "sesame"));
        assert_true(at(m.env, "TOKEN=sesame") >= 0);
        done(&m);
    }
}

static void test_shared_memory_of_ones_own(void **state)
{
    struct made m;

    (void)state;
    make(&m, TY_TOOL_DOCKER, "/usr/bin/docker");
    m.spec.shm_bytes = 1 << 30;
    m.view.alone = true;
    m.view.gpu = true;
    wrap(&m);
    assert_true(pair(m.argv, "--shm-size", "1073741824"));
    assert_int_equal(at(m.argv, "--ipc"), -1);
    assert_true(pair(m.argv, "--gpus", "all"));
    assert_true(pair(m.argv, "--user", "1000:1001"));
    done(&m);
    make(&m, TY_TOOL_DOCKER, "/usr/bin/docker");
    m.spec.shm_bytes = 1 << 30; /* and others of the job, who must share it */
    wrap(&m);
    assert_true(pair(m.argv, "--ipc", "host"));
    done(&m);
}

static void test_apptainer(void **state)
{
    struct made m;

    (void)state;
    make(&m, TY_TOOL_APPTAINER, "/usr/bin/apptainer");
    m.view.gpu = true;
    wrap(&m);
    assert_string_equal(m.argv[1], "exec");
    assert_true(at(m.argv, "--nv") > 0);
    assert_true(at(m.argv, "docker://team/torch:2") > 0);
    assert_true(pair(m.argv, "--bind", "/usr:/usr:ro"));
    done(&m);
    make(&m, TY_TOOL_APPTAINER, "/usr/bin/apptainer");
    m.spec.image = "/images/torch.sif";
    wrap(&m);
    assert_true(at(m.argv, "/images/torch.sif") > 0);
    done(&m);
}

static void test_what_removes_a_container(void **state)
{
    struct ty_error err = { 0 };
    struct made m;
    char **after = NULL;

    (void)state;
    make(&m, TY_TOOL_PODMAN, "/usr/bin/podman");
    assert_int_equal(ty_view_after(&m.view, &after, &err), 0);
    assert_int_equal(at(after, "rm"), 1);
    assert_true(at(after, "trainyard-r1-0") > 1);
    for (char **p = after; *p; p++)
        free(*p);
    free(after);
    done(&m);
    make(&m, TY_TOOL_BWRAP, "/usr/bin/bwrap");
    assert_int_equal(ty_view_after(&m.view, &after, &err), 0);
    assert_null(after);
    done(&m);
}

static void test_what_is_missing_is_named(void **state)
{
    struct ty_env_spec s = { .view = TY_VIEW_SANDBOX };
    struct ty_tool t = TY_TOOL_INIT;
    struct ty_error err = { 0 };
    int r = ty_view_tool(&s, NULL, &t, &err);

    (void)state;
    if (access("/usr/bin/bwrap", X_OK) == 0) {
        assert_int_equal(r, 0);
        assert_int_equal(t.kind, TY_TOOL_BWRAP);
    } else {
        assert_int_equal(r, -ENOTSUP);
        assert_non_null(strstr(err.text, "apt install bubblewrap"));
    }
    s.view = TY_VIEW_PLAIN;
    assert_int_equal(ty_view_tool(&s, NULL, &t, &err), 0);
    assert_int_equal(t.kind, TY_TOOL_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_plain_view_changes_nothing),
        cmocka_unit_test(test_podman),
        cmocka_unit_test(test_nothing_is_bound_twice),
        cmocka_unit_test(test_no_value_is_an_argument),
        cmocka_unit_test(test_shared_memory_of_ones_own),
        cmocka_unit_test(test_apptainer),
        cmocka_unit_test(test_what_removes_a_container),
        cmocka_unit_test(test_what_is_missing_is_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
