/* test_torch_get.c - an environment that asks for PyTorch: Debian's own, or wheels that are torch in name only, from indexes of
 * the test's own; GPUs are those of the stand-in of NVML */
#include "base/cleanup.h"
#include "base/fs.h"
#include "base/gpu.h"
#include "base/json.h"
#include "box.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define DEBIAN_TORCH "/usr/lib/python3/dist-packages/torch/version.py"

static char *whl; /* "http://127.0.0.1:PORT/whl" */

static int set_up(void **state)
{
    CLEANUP_FREE char *root = NULL, *said = NULL;
    struct box *b;
    int status;

    box_set_up(state);
    b = *state;
    root = box_path(b, "index");
    const char *argv[] = { "/usr/bin/python3", getenv("TY_TEST_TORCHES"), root, NULL };
    said = box_run(argv, &status);
    if (status != 0)
        fail_msg("%s", said);
    whl = ty_strf("%.*s/whl", (int)(strlen(b->index) - strlen("/simple/")), b->index);
    setenv("PIP_INDEX_URL", b->index, 1); /* pip's own */
    return 0;
}

static int tear_down(void **state)
{
    free(TAKE(whl));
    unsetenv("PIP_INDEX_URL");
    unsetenv("TRAINYARD_TEST_NVML");
    ty_gpu_release();
    return box_tear_down(state);
}

/* A GPU whose driver serves that CUDA version: 12040 is 12.4. */
static void have_gpu(const struct box *b, int cuda)
{
    CLEANUP_FREE char *from = ty_strf("%s/libnvml-whole.so", getenv("TRAINYARD_NVML_FOLDER"));
    CLEANUP_FREE char *library = box_path(b, "nvml.so"), *gpus = ty_strf("%s.gpus", library);
    CLEANUP_FREE char *text =
        ty_strf("driver 550.1 %d\ngpu GPU-a NVIDIA_A100 81920 1024 37 41 250\n", cuda);

    ty_gpu_release();
    unlink(library);
    assert_int_equal(symlink(from, library), 0);
    assert_int_equal(ty_write_file(gpus, text, strlen(text), 0600), 0);
    setenv("TRAINYARD_TEST_NVML", library, 1);
}

static int get(struct box *b, const char *spec, bool gpu, const char *index, struct ty_env *e)
{
    struct ask a = { .spec = spec, .use_gpu = gpu, .torch_index = index };

    return box_get(b, &a, e);
}

static void must_get(struct box *b, const char *spec, bool gpu, const char *index, struct ty_env *e)
{
    if (get(b, spec, gpu, index, e) < 0)
        fail_msg("%s\n%s", b->err.text, b->log.text ? b->log.text : "");
}

static void torch_is(const struct ty_env *e, const char *key, const char *wanted)
{
    const char *text = json_string_value(json_object_get(json_object_get(e->record, "torch"), key));

    assert_string_equal(text ? text : "", wanted);
}

static void reason_has(const struct ty_env *e, const char *words)
{
    const char *text =
        json_string_value(json_object_get(json_object_get(e->record, "torch"), "reason"));

    if (!text || !strstr(text, words))
        fail_msg("'%s' is not in: %s", words, text ? text : "no reason");
}

static void imports(const struct ty_env *e, const char *version)
{
    int status;
    CLEANUP_FREE char *said = box_python(
        e->interpreter, "import importlib.metadata as m; print(m.version('torch'))", &status);

    assert_string_equal(said, version);
}

#define NEEDS_DEBIANS_TORCH \
    if (access(DEBIAN_TORCH, R_OK) < 0) \
    skip()

static void what_is_there_is_used(void **state)
{
    struct box *b = *state;
    struct ty_env e;

    NEEDS_DEBIANS_TORCH;
    must_get(b, "{\"torch\":\"1.13\"}", false, whl, &e);
    assert_null(e.prefix);
    torch_is(&e, "from", "system");
    reason_has(&e, "of the interpreter is used");
    assert_int_equal(box_requests(b, "torch"), 0);
    ty_env_done(&e);
}

static void a_version_that_never_was_is_a_newer_one(void **state)
{
    struct box *b = *state;
    struct ty_env e;

    NEEDS_DEBIANS_TORCH;
    must_get(b, "{\"torch\":\"1.6\"}", false, whl, &e);
    assert_null(e.prefix);
    torch_is(&e, "from", "system");
    reason_has(&e, "torch 1.6 was asked for, and there is none for Python 3.");
    assert_true(json_is_true(json_object_get(json_object_get(e.record, "torch"), "warning")));
    assert_int_equal(box_requests(b, "torch"), 0);
    ty_env_done(&e);
}

static void a_node_without_gpu_gets_the_cpu_build(void **state)
{
    struct box *b = *state;
    struct ty_env e, again;

    must_get(b, "{\"torch\":\"2.4\",\"torchvision\":\"\"}", true, whl, &e);
    imports(&e, "2.4.1+cpu");
    torch_is(&e, "version", "2.4.1+cpu");
    torch_is(&e, "torchvision", "0.19.1+cpu");
    torch_is(&e, "from", "index");
    torch_is(&e, "build", "cpu");
    must_get(b, "{\"torch\":\"2.4\",\"torchvision\":\"\"}", true, whl, &again);
    assert_string_equal(e.prefix, again.prefix);
    torch_is(&again, "version", "2.4.1+cpu");
    ty_env_done(&e);
    ty_env_done(&again);
}

static void a_gpu_gets_what_its_driver_runs(void **state)
{
    struct box *b = *state;
    struct ty_env e, old;

    have_gpu(b, 12040);
    must_get(b, "{\"torch\":\"2\"}", true, whl, &e);
    imports(&e, "2.4.1+cu124"); /* and not 2.9 of pip's own index */
    reason_has(&e, "the driver of this node serves CUDA 12.4");
    have_gpu(b, 11080);
    must_get(b, "{\"torch\":\"2.3\"}", true, whl, &old);
    imports(&old, "2.3.0+cu118");
    torch_is(&old, "build", "cu118");
    ty_env_done(&e);
    ty_env_done(&old);
}

static void a_requirement_of_pips_gets_the_right_build_too(void **state)
{
    struct box *b = *state;
    struct ty_env e;

    have_gpu(b, 12040);
    must_get(b, "{\"pip\":{\"packages\":[\"torch>=2\"]}}", true, whl, &e);
    imports(&e, "2.4.1+cu124");
    ty_env_done(&e);
}

static void a_driver_that_is_too_old_is_told(void **state)
{
    struct box *b = *state;
    struct ty_env e;

    have_gpu(b, 10000);
    assert_int_equal(get(b, "{\"torch\":\"2.4\"}", true, whl, &e), -ENOENT);
    assert_non_null(strstr(b->err.text, "install a newer NVIDIA driver"));
    assert_int_equal(box_requests(b, "torch"), 0);
}

static void pips_own_index_is_the_way_out(void **state)
{
    struct box *b = *state;
    struct ty_env e;

    must_get(b, "{\"torch\":\"2.4\"}", false, "http://127.0.0.1:9/whl", &e);
    imports(&e, "2.4.1");
    torch_is(&e, "from", "index");
    assert_non_null(strstr(b->log.text, "pip's own index is asked"));
    /* What that has is for CUDA: how much is told before it is fetched, and kept. */
    assert_non_null(strstr(b->log.text, "torch 2.4.1: 2 packages are fetched, "));
    assert_null(strstr(b->log.text, "of unknown size"));
    assert_non_null(strstr(b->log.text, "warning: torch 2.4 is installed"));
    reason_has(&e, "is for CUDA, of which this node has no use: 2 packages");
    assert_true(json_is_true(json_object_get(json_object_get(e.record, "torch"), "warning")));
    ty_env_done(&e);
}

/* An index that has not what was asked for, or does not answer: the interpreter's own torch is better than none. */
static void torch_of_the_interpreter_is_better_than_none(void **state)
{
    struct box *b = *state;
    struct ty_env e;

    NEEDS_DEBIANS_TORCH;
    have_gpu(b, 12040);
    setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple", 1);
    must_get(b, "{\"torch\":\"\"}", true, "http://127.0.0.1:9/whl", &e);
    assert_null(e.prefix);
    torch_is(&e, "from", "system");
    reason_has(&e, "cannot be had");
    ty_env_done(&e);

    setenv("PIP_INDEX_URL", b->index, 1); /* it answers again, and is asked again */
    must_get(b, "{\"torch\":\"\"}", true, "http://127.0.0.1:9/whl", &e);
    torch_is(&e, "from", "index");
    ty_env_done(&e);
}

static void what_no_index_has_is_refused_in_pips_words(void **state)
{
    struct box *b = *state;
    struct ty_env e;

    assert_int_equal(get(b, "{\"torch\":\"2.5\"}", false, whl, &e), -ENOENT);
    assert_non_null(strstr(b->err.text, "torch==2.5.*"));
}

/* The lock says which one it was, and holds no other. */
static void a_lock_has_the_torch_of_the_interpreter(void **state)
{
    struct box *b = *state;
    struct ty_env e;
    json_t *system, *one;
    size_t i;
    bool seen = false;

    NEEDS_DEBIANS_TORCH;
    must_get(b, "{\"torch\":\"\"}", false, whl, &e);
    torch_is(&e, "from", "system");
    CLEANUP_JSON json_t *lock = json_deep_copy(json_object_get(e.record, "lock"));
    ty_env_done(&e);
    system = json_object_get(lock, "system");
    json_array_foreach (system, i, one)
        if (strcmp(json_string_value(json_object_get(one, "name")), "torch") == 0) {
            json_object_set_new(one, "version", json_string("0.1"));
            seen = true;
        }
    assert_true(seen);
    CLEANUP_JSON json_t *spec = json_pack("{s:s, s:O}", "torch", "", "lock", lock);
    CLEANUP_FREE char *text = json_dumps(spec, 0);
    assert_int_equal(get(b, text, false, whl, &e), -ENOENT);
    assert_non_null(strstr(b->err.text, "torch 0.1"));
}

static void another_interpreter_may_have_it(void **state)
{
    struct box *b = *state;
    CLEANUP_FREE char *bare = box_path(b, "bare"), *python = ty_strf("%s/bin/python3", bare),
                      *said = NULL;
    const char *argv[] = { "/usr/bin/python3", "-m", "venv", "--without-pip", bare, NULL };
    struct ask a = { .spec = "{\"torch\":\"1.13\"}",
                     .interpreter = python,
                     .interpreter_any = true,
                     .torch_index = whl };
    struct ty_env e;
    int status;

    NEEDS_DEBIANS_TORCH;
    said = box_run(argv, &status);
    assert_int_equal(status, 0);
    if (box_get(b, &a, &e) < 0)
        fail_msg("%s", b->err.text);
    assert_string_equal(e.interpreter, "/usr/bin/python3");
    assert_null(e.prefix);
    ty_env_done(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_there_is_used, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_version_that_never_was_is_a_newer_one, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_node_without_gpu_gets_the_cpu_build, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_gpu_gets_what_its_driver_runs, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_requirement_of_pips_gets_the_right_build_too, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_driver_that_is_too_old_is_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(pips_own_index_is_the_way_out, set_up, tear_down),
        cmocka_unit_test_setup_teardown(torch_of_the_interpreter_is_better_than_none, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_no_index_has_is_refused_in_pips_words, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_lock_has_the_torch_of_the_interpreter, set_up, tear_down),
        cmocka_unit_test_setup_teardown(another_interpreter_may_have_it, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
