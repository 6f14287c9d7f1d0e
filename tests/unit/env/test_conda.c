/* test_conda.c - prefixes of conda's packages: channels made by the test, and a real py-rattler */
#include "base/cleanup.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/proc.h"
#include "box.h"
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static const char *rattler; /* folder with py-rattler; NULL: it cannot be had here */
static char channels[] = "/tmp/ty-channels-XXXXXX";

static void run(const char *const *argv, const char *what)
{
    int status;
    CLEANUP_FREE char *said = box_run(argv, &status);

    if (status != 0)
        fail_msg("%s: %s", what, said);
}

/* py-rattler comes once from the package index; the channels are made once, too. */
static int set_up_all(void **state)
{
    const char *folder = getenv("TY_TEST_RATTLER");
    CLEANUP_FREE char *mine = ty_strf("%s.%d", folder, (int)getpid()), *said = NULL;
    const char *get[] = { "/usr/bin/python3",
                          "-m",
                          "pip",
                          "install",
                          "--quiet",
                          "--target",
                          mine,
                          "--only-binary",
                          ":all:",
                          "--retries",
                          "1",
                          "--timeout",
                          "10",
                          "py-rattler>=0.24,<1",
                          NULL };
    const char *make[] = { "/usr/bin/python3", getenv("TY_TEST_CHANNEL"), "make", channels, NULL };
    int status = 0;

    (void)state;
    assert_non_null(mkdtemp(channels));
    run(make, "channels");
    if (access(folder, F_OK) < 0) {
        said = box_run(get, &status);
        if (status == 0 && rename(mine, folder) < 0 && errno != EEXIST && errno != ENOTEMPTY)
            fail_msg("%s: %s", folder, strerror(errno));
        ty_rm_rf(mine);
    }
    rattler = status == 0 ? folder : NULL;
    return 0;
}

static int tear_down_all(void **state)
{
    (void)state;
    return ty_rm_rf(channels);
}

static int set_up(void **state)
{
    CLEANUP_FREE char *tools = NULL, *link = NULL;
    struct box *b;

    box_set_up(state);
    b = *state;
    tools = ty_strf("%s/tools", b->cache);
    link = ty_strf("%s/rattler", tools);
    assert_int_equal(ty_mkdir_p(tools, 0700), 0);
    if (rattler)
        assert_int_equal(symlink(rattler, link), 0);
    setenv("PATH", "/usr/bin:/bin", 1); /* no conda of this machine's */
    return 0;
}

static int try(struct box *b, const char *cache, const char *spec, struct ty_env *e)
{
    CLEANUP_STR struct ty_str s = { 0 };
    struct ask a = { .cache = cache };

    for (const char *p = spec; *p; p++) {
        if (ty_starts_with(p, "%C"))
            ty_str_add(&s, channels), p++;
        else
            ty_str_addn(&s, p, 1);
    }
    a.spec = s.text;
    return box_get(b, &a, e);
}

static void get(struct box *b, const char *spec, struct ty_env *e)
{
    if (try(b, NULL, spec, e) < 0)
        fail_msg("%s\n%s", b->err.text, b->log.text ? b->log.text : "");
}

static void refused(struct box *b, const char *spec, int wanted, const char *words)
{
    struct ty_env e;
    int r = try(b, NULL, spec, &e);

    if (r == 0)
        ty_env_done(&e);
    if (r != wanted || !strstr(b->err.text, words))
        fail_msg("%d, and not '%s' in: %s", r, words, r == 0 ? "" : b->err.text);
}

static void prints(const char *program, const char *argument, const char *wanted)
{
    const char *argv[] = { program, argument ? "-c" : NULL, argument, NULL };
    int status;
    CLEANUP_FREE char *said = box_run(argv, &status);

    assert_string_equal(said, wanted);
}

static void of_prefix_prints(const struct ty_env *e, const char *program, const char *wanted)
{
    CLEANUP_FREE char *path = ty_strf("%s/bin/%s", e->prefix, program);

    prints(path, NULL, wanted);
}

static const json_t *conda_lock(const struct ty_env *e)
{
    return json_object_get(json_object_get(e->record, "lock"), "conda");
}

#define NEEDS_RATTLER \
    if (!rattler) \
    skip()
#define MAIN "\"channels\":[\"file://%C/main\"]"

static void packages_get_a_prefix_that_runs(void **state)
{
    struct box *b = *state;
    struct ty_env e, again;

    NEEDS_RATTLER;
    get(b, "{\"conda\":{\"packages\":[\"ty-second\",\"ty-noarch=1\",\"ty-native\"]," MAIN "}}", &e);
    assert_non_null(e.prefix);
    prints(e.interpreter,
           "import ty_second, ty_noarch; print(ty_second.VERSION, ty_noarch.VERSION)", "3.1 1.0");
    prints(e.interpreter, "import sys; print(sys.prefix == sys.executable.rsplit('/', 2)[0])",
           "True");
    of_prefix_prints(&e, "ty-native", "native");
    of_prefix_prints(&e, "ty-where",
                     e.prefix); /* for the place where it lies, and not where it was made */
    of_prefix_prints(&e, "ty-noarch-say", "1.0");
    assert_int_equal(json_array_size(conda_lock(&e)), 4);
    assert_string_equal(
        json_string_value(json_object_get(json_array_get(conda_lock(&e), 0), "name")), "python");
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(
            strlen(json_string_value(json_object_get(json_array_get(conda_lock(&e), i), "sha256"))),
            64);
    get(b, "{\"conda\":{\"packages\":[\"ty-second\",\"ty-noarch=1\",\"ty-native\"]," MAIN "}}",
        &again);
    assert_string_equal(again.prefix, e.prefix);
    assert_true(json_is_false(json_object_get(again.record, "built")));
    ty_env_done(&e);
    ty_env_done(&again);
}

static void what_the_base_has_is_seen_and_pip_goes_in(void **state)
{
    struct box *b = *state;
    struct ty_env e;

    NEEDS_RATTLER;
    get(b,
        "{\"conda\":{\"packages\":[\"ty-noarch\"]," MAIN
        "},\"pip\":{\"packages\":[\"ty-alpha==1.0\",\"pip\",\"horovod\"],\"index_url\":\"%I\"}}",
        &e);
    prints(e.interpreter,
           "import ty_alpha, ty_beta, ty_noarch; print(ty_alpha.VERSION, ty_noarch.VERSION)",
           "1.0 2.0");
    prints(
        e.interpreter,
        "import pip, sys; print(pip.__file__.startswith(sys.prefix), sys.path[-1].endswith('dist-packages'))",
        "False True");
    assert_int_equal(json_array_size(json_object_get(json_object_get(e.record, "lock"), "pip")), 2);
    assert_int_equal(json_array_size(conda_lock(&e)), 2);
    ty_env_done(&e);
}

static ino_t inode(const struct ty_env *e, const char *rel)
{
    CLEANUP_FREE char *path = ty_strf("%s/%s", e->prefix, rel);
    struct stat st;

    if (stat(path, &st) < 0)
        fail_msg("%s: %s", path, strerror(errno));
    return st.st_ino;
}

static void a_second_prefix_shares_files(void **state)
{
    struct box *b = *state;
    struct ty_env one, two;

    NEEDS_RATTLER;
    get(b, "{\"conda\":{\"packages\":[\"ty-shared\"]," MAIN "}}", &one);
    get(b, "{\"conda\":{\"packages\":[\"ty-shared\",\"ty-noarch\"]," MAIN "}}", &two);
    assert_string_not_equal(one.prefix, two.prefix);
    assert_true(inode(&one, "share/ty-shared/data") == inode(&two, "share/ty-shared/data"));
    ty_env_done(&one);
    ty_env_done(&two);
}

static bool is_unpacked(const struct box *b, const char *package)
{
    CLEANUP_FREE char *path = ty_strf("%s/conda/pkgs/%s", b->cache, package);

    return access(path, F_OK) == 0;
}

static void packages_that_no_prefix_needs_go_with_it(void **state)
{
    struct box *b = *state;
    struct ty_env_gc gc = { .max_bytes = -1, .unused_us = -1, .all = true };
    struct ty_env one, two;

    NEEDS_RATTLER;
    get(b, "{\"conda\":{\"packages\":[\"ty-shared\"]," MAIN "}}", &one);
    get(b, "{\"conda\":{\"packages\":[\"ty-noarch=1\"]," MAIN "}}", &two);
    ty_env_done(&one);
    if (ty_env_collect(b->cache, &gc, &b->err) < 0)
        fail_msg("%s", b->err.text);
    assert_int_equal(gc.removed, 1); /* the other one is held */
    assert_true(gc.freed_bytes > 4 << 20);
    assert_false(is_unpacked(b, "ty-shared-1.0-0"));
    assert_true(is_unpacked(b, "ty-noarch-1.0-0"));
    prints(two.interpreter, "import ty_noarch; print(ty_noarch.VERSION)", "1.0");
    ty_env_done(&two);
}

static void a_lock_gives_the_same_again(void **state)
{
    struct box *b = *state;
    CLEANUP_FREE char *other = box_path(b, "other"), *tools = ty_strf("%s/tools", other),
                      *link = ty_strf("%s/rattler", tools);
    CLEANUP_FREE char *lock = NULL;
    CLEANUP_STR struct ty_str spec = { 0 };
    struct ty_env e, f;

    NEEDS_RATTLER;
    get(b,
        "{\"conda\":{\"packages\":[\"ty-noarch=1\"]," MAIN
        "},\"pip\":{\"packages\":[\"ty-beta\"],\"index_url\":\"%I\"}}",
        &e);
    lock = ty_json_text(json_object_get(e.record, "lock"));
    /* Newer ones are there; in a cache that knows nothing, the locked ones are installed. */
    ty_str_add(&spec, "{\"conda\":{\"packages\":[\"ty-noarch\"]," MAIN
                      "},\"pip\":{\"packages\":[\"ty-beta\"],\"index_url\":\"%I\"},\"lock\":");
    ty_str_add(&spec, lock);
    ty_str_add(&spec, "}");
    assert_int_equal(ty_mkdir_p(tools, 0700), 0);
    assert_int_equal(symlink(rattler, link), 0);
    if (try(b, other, spec.text, &f) < 0)
        fail_msg("%s\n%s", b->err.text, b->log.text);
    prints(f.interpreter, "import ty_noarch, ty_beta; print(ty_noarch.VERSION, ty_beta.VERSION)",
           "1.0 1.1");
    assert_true(json_equal(conda_lock(&e), conda_lock(&f)));
    ty_env_done(&e);
    ty_env_done(&f);
}

/* "http://me:geheim@127.0.0.1:PORT/private/channel", which is the channel main. */
static char *private_channel(const struct box *b)
{
    CLEANUP_FREE char *from = ty_strf("%s/main", channels), *to = box_path(b, "index/channel");
    const char *copy[] = { "/bin/cp", "-r", from, to, NULL };
    size_t host = strcspn(b->index + strlen("http://"), "/");

    run(copy, "channel");
    return ty_strf("http://me:geheim@%.*s/private/channel", (int)host,
                   b->index + strlen("http://"));
}

/* The lock has no password, and the specification's channel has. */
static void a_lock_of_a_private_channel_gives_the_same_again(void **state)
{
    struct box *b = *state;
    CLEANUP_FREE char *channel = private_channel(b), *other = box_path(b, "other"),
                      *tools = ty_strf("%s/tools", other), *link = ty_strf("%s/rattler", tools),
                      *lock = NULL;
    CLEANUP_FREE char *spec = ty_strf(
                          "{\"conda\":{\"packages\":[\"ty-noarch=1\"],\"channels\":[\"%s\"]}}",
                          channel),
                      *again = NULL;
    struct ty_env e, f;

    NEEDS_RATTLER;
    get(b, spec, &e);
    lock = ty_json_text(conda_lock(&e));
    assert_null(strstr(lock, "geheim"));
    assert_non_null(strstr(lock, "/private/channel/"));
    free(lock);
    lock = ty_json_text(json_object_get(e.record, "lock"));
    again = ty_strf("{\"conda\":{\"packages\":[\"ty-noarch\"],\"channels\":[\"%s\"]},\"lock\":%s}",
                    channel, lock);
    assert_int_equal(ty_mkdir_p(tools, 0700), 0);
    assert_int_equal(symlink(rattler, link), 0);
    if (try(b, other, again, &f) < 0)
        fail_msg("%s\n%s", b->err.text, b->log.text);
    prints(f.interpreter, "import ty_noarch; print(ty_noarch.VERSION)", "1.0");
    assert_true(json_equal(conda_lock(&e), conda_lock(&f)));
    assert_null(strstr(b->log.text, "geheim"));
    ty_env_done(&e);
    ty_env_done(&f);
}

/* A client that keeps what it was told, and installs nothing. */
static void tell_client(struct box *b, const char *name, const char *channel)
{
    CLEANUP_FREE char *bin = box_path(b, "bin"), *client = ty_strf("%s/%s", bin, name),
                      *told = box_path(b, "told"), *words = NULL, *settings = NULL;
    CLEANUP_FREE char *path = ty_strf("%s:/usr/bin:/bin", bin), *list = ty_strf("%s.rc", told);
    CLEANUP_FREE char *script = ty_strf(
        "#!/bin/sh\necho \"$@\" > %s\n[ -z \"$CONDARC\" ] || cat \"$CONDARC\" > %s\n"
        "for w; do [ \"$before\" != --rc-file ] || cat \"$w\" > %s; before=$w; done\nexit 7\n",
        told, list, list);
    CLEANUP_FREE char *spec =
        ty_strf("{\"conda\":{\"packages\":[\"ty-noarch\"],\"channels\":[\"%s\"]}}", channel);

    ty_rm_rf(bin);
    assert_int_equal(ty_mkdir_p(bin, 0700), 0);
    assert_int_equal(ty_write_file(client, script, strlen(script), 0700), 0);
    setenv("PATH", path, 1);
    refused(b, spec, -ENOENT, "(status 7)");
    setenv("PATH", "/usr/bin:/bin", 1);
    assert_int_equal(ty_read_file(told, 1 << 16, &words, NULL), 0);
    assert_non_null(strstr(words, "create --yes"));
    assert_null(strstr(words, "geheim"));
    assert_null(strstr(words, "--channel"));
    assert_int_equal(ty_read_file(list, 1 << 16, &settings, NULL), 0);
    assert_non_null(strstr(settings, channel));
    unlink(list);
}

static void passwords_of_channels_are_in_no_command_line(void **state)
{
    struct box *b = *state;
    CLEANUP_FREE char *channel = private_channel(b),
                      *envs = ty_strf("ls %s/envs | grep -c condarc", b->cache), *left = NULL;
    const char *look[] = { "/bin/sh", "-c", envs, NULL };
    int status;

    tell_client(b, "micromamba", channel);
    tell_client(b, "conda", channel);
    left = box_run(look, &status);
    assert_string_equal(left, "0");
}

static void what_cannot_be_solved_is_told_in_the_resolvers_words(void **state)
{
    struct box *b = *state;

    NEEDS_RATTLER;
    refused(b, "{\"conda\":{\"packages\":[\"ty-needs-old\"]," MAIN "}}", -ENOENT,
            "ty-needs-old 1.0 would require");
    refused(b, "{\"conda\":{\"packages\":[\"ty-none\"]," MAIN "}}", -ENOENT,
            "No candidates were found for ty-none");
    refused(b, "{\"python\":\"3.6\",\"conda\":{\"packages\":[\"ty-noarch\"]," MAIN "}}", -ENOENT,
            "python");
}

static void a_channel_that_is_not_there_is_named(void **state)
{
    struct box *b = *state;

    refused(b, "{\"conda\":{\"packages\":[\"ty-noarch\"],\"channels\":[\"file://%C/nowhere\"]}}",
            -ENOENT, "/nowhere' has no packages");
    refused(
        b,
        "{\"conda\":{\"packages\":[\"ty-noarch\"],\"channels\":[\"file://%C/main\",\"http://u:secret@127.0.0.1:9/dead\"]}}",
        -ENETUNREACH, "http://u:***@127.0.0.1:9/dead' does not answer");
    assert_null(strstr(b->err.text, "secret"));
    assert_non_null(strstr(b->err.text, "trainyard env ls"));
    if (b->log.text)
        assert_null(strstr(b->log.text, "secret"));
}

static void a_node_without_any_client_is_told_what_to_install(void **state)
{
    struct box *b = *state;
    CLEANUP_FREE char *link = ty_strf("%s/tools/rattler", b->cache);

    unlink(link);
    setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple", 1);
    refused(b, "{\"conda\":{\"packages\":[\"ty-noarch\"]," MAIN "}}", -ENETUNREACH,
            "there is no micromamba, mamba or conda on this node");
    unsetenv("PIP_INDEX_URL");
}

/* Killed while it installs, at its first line about packages: nothing half made is used, and the next one builds it whole. */
static void die(const char *line, void *ctx)
{
    (void)ctx;
    if (strstr(line, "unpacking"))
        kill(getpid(), SIGKILL);
}

static void a_killed_build_leaves_nothing_that_is_used(void **state)
{
    struct box *b = *state;
    CLEANUP_FREE char *spec = ty_strf(
        "{\"conda\":{\"packages\":[\"ty-noarch\",\"ty-shared\"],\"channels\":[\"%s/main\"]}}",
        channels);
    struct ask a = { .spec = spec, .log = die };
    struct ty_env e;
    pid_t pid;
    int status;

    NEEDS_RATTLER;
    pid = fork();
    if (pid == 0) {
        box_get(b, &a, &e);
        _exit(1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    get(b, spec, &e);
    prints(e.interpreter, "import ty_noarch; print(ty_noarch.VERSION)", "2.0");
    ty_env_done(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(packages_get_a_prefix_that_runs, set_up, box_tear_down),
        cmocka_unit_test_setup_teardown(what_the_base_has_is_seen_and_pip_goes_in, set_up,
                                        box_tear_down),
        cmocka_unit_test_setup_teardown(a_second_prefix_shares_files, set_up, box_tear_down),
        cmocka_unit_test_setup_teardown(packages_that_no_prefix_needs_go_with_it, set_up,
                                        box_tear_down),
        cmocka_unit_test_setup_teardown(a_lock_gives_the_same_again, set_up, box_tear_down),
        cmocka_unit_test_setup_teardown(what_cannot_be_solved_is_told_in_the_resolvers_words,
                                        set_up, box_tear_down),
        cmocka_unit_test_setup_teardown(a_channel_that_is_not_there_is_named, set_up,
                                        box_tear_down),
        cmocka_unit_test_setup_teardown(a_lock_of_a_private_channel_gives_the_same_again, set_up,
                                        box_tear_down),
        cmocka_unit_test_setup_teardown(passwords_of_channels_are_in_no_command_line, set_up,
                                        box_tear_down),
        cmocka_unit_test_setup_teardown(a_node_without_any_client_is_told_what_to_install, set_up,
                                        box_tear_down),
        cmocka_unit_test_setup_teardown(a_killed_build_leaves_nothing_that_is_used, set_up,
                                        box_tear_down),
    };

    return cmocka_run_group_tests(tests, set_up_all, tear_down_all);
}
