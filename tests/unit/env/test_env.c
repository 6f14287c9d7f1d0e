/* test_env.c - from a specification to an interpreter, with a real pip and an index of the test's own */
#include "base/cleanup.h"
#include "base/fs.h"
#include "base/json.h"
#include "box.h"
#include "env/env_internal.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define ALPHA "{\"pip\":{\"packages\":[\"ty-alpha==1.0\"],\"index_url\":\"%I\"}}"

static const char *text_of(const json_t *o, const char *key)
{
    const char *text = json_string_value(json_object_get(o, key));

    return text ? text : "";
}

static void get(struct box *b, const char *spec, struct ty_env *e)
{
    struct ask a = { .spec = spec };

    if (box_get(b, &a, e) < 0)
        fail_msg("%s\n%s", b->err.text, b->log.text ? b->log.text : "");
}

static void prints(const char *interpreter, const char *code, const char *wanted)
{
    int status;
    CLEANUP_FREE char *said = box_python(interpreter, code, &status);

    assert_string_equal(said, wanted);
    assert_int_equal(status, 0);
}

static void says(const struct box *b, const char *words)
{
    if (!strstr(b->err.text, words))
        fail_msg("'%s' is not in: %s", words, b->err.text);
}

/* ---- nothing to do ---- */

static void nothing_asked_for_is_the_interpreter_itself(void **state)
{
    struct box *b = *state;
    struct ty_env e;

    get(b, "{}", &e);
    assert_string_equal(e.interpreter, "/usr/bin/python3");
    assert_null(e.prefix);
    assert_int_equal(e.hold, -1);
    ty_env_done(&e);
    assert_int_equal(access(b->cache, F_OK), -1); /* not even a folder */
}

static void what_is_there_is_used(void **state)
{
    struct box *b = *state;
    struct ty_env e;

    get(b,
        "{\"pip\":{\"packages\":[\"pip>=1\",\"horovod>=0.19\",\"azureml-defaults\"],\"index_url\":\"%I\"}}",
        &e);
    assert_string_equal(e.interpreter, "/usr/bin/python3");
    assert_null(e.prefix);
    ty_env_done(&e);
    assert_int_equal(box_requests(b, "GET"), 0);
}

/* ---- building ---- */

static void what_is_secret_in_an_address_is_masked(void **state)
{
    static const char *const texts[][2] = {
        { "see https://me:geheim@h:1/simple now", "see https://me:***@h:1/simple now" },
        { "https://conda.anaconda.org/t/me-geheim/lab/noarch",
          "https://conda.anaconda.org/t/***/lab/noarch" },
        { "\"https://me:geheim@h/t/geheim/lab\"", "\"https://me:***@h/t/***/lab\"" },
        { "https://token-geheim@h/simple", "https://***@h/simple" },
        { "x @ git+https://geheim@h/x.git", "x @ git+https://***@h/x.git" },
        { "https://geheim:@h/ https://:geheim@h/", "https://***@h/ https://:***@h/" },
        { "git+ssh://git@h/x.git", "git+ssh://git@h/x.git" },
        { "git+ssh://git:geheim@h/x.git", "git+ssh://git:***@h/x.git" },
        { "https://me:***@h/ https://***@h/", "https://me:***@h/ https://***@h/" },
        { "https://me:ge@heim@h/", "https://me:***@h/" },
        { "https://h/simple/t/", "https://h/simple/t/" },
        { "file:///t/x", "file:///t/x" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        CLEANUP_FREE char *masked = ty_env_mask(texts[i][0]);

        assert_string_equal(masked, texts[i][1]);
    }
}

struct watched {
    char password[32];
    bool seen;
    int lines;
};

/* Is there a process whose command line has the password? */
static void look_at_processes(const char *line, void *ctx)
{
    struct watched *w = ctx;
    CLEANUP_DIR DIR *d = opendir("/proc");
    const struct dirent *e;

    w->lines++;
    if (strstr(line, w->password))
        w->seen = true;
    while (d && (e = readdir(d))) {
        CLEANUP_FREE char *path = ty_strf("/proc/%s/cmdline", e->d_name);
        CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
        char text[8192];
        ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text);

        if (n > 0 && memmem(text, (size_t)n, w->password, strlen(w->password)))
            w->seen = true;
    }
}

static void passwords_of_addresses_are_in_no_command_line(void **state)
{
    struct box *b = *state;
    struct watched w = { 0 };
    int n = snprintf(w.password, sizeof w.password, "geheim%d", (int)getpid());
    CLEANUP_FREE char *url = ty_strf("http://me:%s@%s", w.password, b->index + strlen("http://"));
    CLEANUP_FREE char *spec =
        ty_strf("{\"pip\":{\"packages\":[\"ty-alpha==1.0\"],\"index_url\":\"%s\","
                "\"extra_index_urls\":[\"%s\"]}}",
                url, url);
    struct ask a = { .spec = spec, .log = look_at_processes, .ctx = &w };
    CLEANUP_FREE char *told = NULL;
    struct ty_env e;

    assert_true(n > 0);
    if (box_get(b, &a, &e) < 0)
        fail_msg("%s", b->err.text);
    assert_non_null(e.prefix);
    assert_true(w.lines > 2);
    assert_false(w.seen);
    CLEANUP_FREE char *about = ty_strf("%s.json", e.prefix);
    assert_int_equal(ty_read_file(about, 1 << 20, &told, NULL), 0);
    assert_non_null(strstr(told, "me:***@"));
    assert_null(strstr(told, w.password));
    ty_env_done(&e);
}

/* What pip is told to do is stronger than what the job's own variables tell it. */
static void variables_of_pip_do_not_lead_elsewhere(void **state)
{
    struct box *b = *state;
    struct ty_env e;

    setenv("PIP_USER", "1", 1);
    get(b, ALPHA, &e);
    unsetenv("PIP_USER");
    assert_non_null(e.prefix);
    ty_env_done(&e);
}

static void a_package_is_built_into_a_prefix_once(void **state)
{
    struct box *b = *state;
    struct ty_env e, again;
    int status;

    get(b, ALPHA, &e);
    assert_non_null(e.prefix);
    assert_true(ty_starts_with(e.prefix, b->cache));
    assert_true(json_is_true(json_object_get(e.record, "built")));
    prints(e.interpreter, "import ty_alpha, ty_beta; print(ty_alpha.VERSION, ty_beta.VERSION)",
           "1.0 1.1");
    CLEANUP_FREE char *script = ty_strf("%s/bin/ty-alpha-say", e.prefix);
    CLEANUP_FREE char *wanted = ty_strf("1.0 %s/bin/python3", e.prefix);
    const char *argv[] = { script, NULL };
    CLEANUP_FREE char *said = box_run(argv, &status);
    assert_string_equal(said, wanted);
    CLEANUP_FREE char *note = ty_strf("%s/share/ty-alpha/note", e.prefix);
    assert_int_equal(access(note, R_OK), 0);

    const json_t *pip = json_object_get(json_object_get(e.record, "lock"), "pip");
    assert_int_equal(json_array_size(pip), 2);
    assert_int_equal(strlen(text_of(json_array_get(pip, 0), "sha256")), 64);

    int before = box_requests(b, "GET");
    b->log.len = 0;
    get(b, ALPHA, &again);
    assert_string_equal(again.prefix, e.prefix);
    assert_true(json_is_false(json_object_get(again.record, "built")));
    assert_true(
        json_equal(json_object_get(e.record, "lock"), json_object_get(again.record, "lock")));
    assert_int_equal(box_requests(b, "GET"), before);
    assert_int_equal(b->log.len, 0);
    assert_true(again.hold >= 0);
    ty_env_done(&e);
    ty_env_done(&again);
}

static void a_prefix_can_be_activated(void **state)
{
    struct box *b = *state;
    struct ty_env e;
    int status;

    get(b, ALPHA, &e);
    CLEANUP_FREE char *command =
        ty_strf(". %s/bin/activate; echo $VIRTUAL_ENV; command -v ty-alpha-say", e.prefix);
    CLEANUP_FREE char *wanted = ty_strf("%s\n%s/bin/ty-alpha-say", e.prefix, e.prefix);
    const char *argv[] = { "/bin/sh", "-c", command, NULL };
    CLEANUP_FREE char *said = box_run(argv, &status);
    assert_string_equal(said, wanted);
    ty_env_done(&e);
}

/* The modules of Python's own packages stay visible, and the prefix wins over them. */
static void the_interpreters_packages_are_seen(void **state)
{
    struct box *b = *state;
    struct ty_env e;

    get(b, ALPHA, &e);
    prints(e.interpreter, "import pip, sys; print(pip.__file__.startswith(sys.prefix))", "False");
    ty_env_done(&e);
}

static void what_we_provide_is_never_fetched(void **state)
{
    struct box *b = *state;
    struct ty_env e;

    get(b, "{\"pip\":{\"packages\":[\"ty-needs-ours\"],\"index_url\":\"%I\"}}", &e);
    assert_int_equal(box_requests(b, "horovod"), 0);
    assert_int_equal(box_requests(b, "azureml"), 0);
    assert_int_equal(json_array_size(json_object_get(json_object_get(e.record, "lock"), "pip")), 2);
    ty_env_done(&e);
}

static ino_t inode(const char *prefix, const char *code_path)
{
    CLEANUP_FREE char *path = ty_strf("%s/lib/python3.11/site-packages/%s", prefix, code_path);
    struct stat st;

    if (stat(path, &st) < 0)
        fail_msg("%s: %s", path, strerror(errno));
    return st.st_ino;
}

static void a_second_environment_shares_files(void **state)
{
    struct box *b = *state;
    struct ty_env one, two;

    get(b, ALPHA, &one);
    get(b, "{\"pip\":{\"packages\":[\"ty-alpha==1.0\",\"ty-bulky\"],\"index_url\":\"%I\"}}", &two);
    assert_string_not_equal(one.prefix, two.prefix);
    assert_true(inode(one.prefix, "ty_alpha/table.txt") == inode(two.prefix, "ty_alpha/table.txt"));
    assert_true(inode(one.prefix, "ty_alpha/__pycache__/__init__.cpython-311.pyc") ==
                inode(two.prefix, "ty_alpha/__pycache__/__init__.cpython-311.pyc"));
    assert_int_equal(box_requests(b, "ty_alpha-1.0-py3-none-any.whl"), 1);
    ty_env_done(&one);
    ty_env_done(&two);
}

static void folders_and_files_are_places_of_packages(void **state)
{
    struct box *b = *state;
    struct ty_env e, f;

    get(b,
        "{\"pip\":{\"packages\":[\"ty-alpha\"],\"find_links\":[\"%F\"],\"index_url\":\"%I\",\"constraints\":[\"ty-alpha<2\"]}}",
        &e);
    prints(e.interpreter, "import ty_alpha; print(ty_alpha.VERSION)", "1.0");
    get(b, "{\"pip\":{\"packages\":[\"%F/ty_beta-1.1-py3-none-any.whl\"],\"index_url\":\"%I\"}}",
        &f);
    prints(f.interpreter, "import ty_beta; print(ty_beta.VERSION)", "1.1");
    ty_env_done(&e);
    ty_env_done(&f);
}

static void source_packages_are_built(void **state)
{
    struct box *b = *state;
    struct ty_env e;

    get(b, "{\"pip\":{\"packages\":[\"ty-source\"],\"index_url\":\"%I\"}}", &e);
    prints(e.interpreter, "import ty_source; print(ty_source.VERSION)", "0.5");
    ty_env_done(&e);
}

/* ---- exactly as before ---- */

static void a_lock_gives_the_same_again(void **state)
{
    struct box *b = *state;
    struct ty_env e, f;

    get(b, "{\"pip\":{\"packages\":[\"ty-alpha<2\"],\"index_url\":\"%I\"}}", &e);
    CLEANUP_JSON json_t *spec =
        json_pack("{s:{s:[s], s:s}, s:O}", "pip", "packages", "ty-alpha", "index_url", b->index,
                  "lock", json_object_get(e.record, "lock"));
    CLEANUP_FREE char *text = json_dumps(spec, 0);
    CLEANUP_FREE char *other = box_path(b, "other");
    struct ask a = { .spec = text, .cache = other }; /* nothing is there yet */

    if (box_get(b, &a, &f) < 0)
        fail_msg("%s\n%s", b->err.text, b->log.text);
    prints(f.interpreter, "import ty_alpha, ty_beta; print(ty_alpha.VERSION, ty_beta.VERSION)",
           "1.0 1.1");
    assert_true(json_equal(json_object_get(e.record, "lock"), json_object_get(f.record, "lock")));
    ty_env_done(&f);

    /* Other bytes under the same name are refused. */
    json_t *item = json_array_get(json_object_get(json_object_get(spec, "lock"), "pip"), 0);
    json_object_set_new(
        item, "sha256",
        json_string("00000000000000000000000000000000000000000000000000000000000000aa"));
    json_object_set_new(
        item, "id",
        json_string("00000000000000000000000000000000000000000000000000000000000000aa"));
    CLEANUP_FREE char *wrong = json_dumps(spec, 0);
    CLEANUP_FREE char *third = box_path(b, "third");
    a = (struct ask){ .spec = wrong, .cache = third };
    assert_true(box_get(b, &a, &f) < 0);
    says(b, "hash");

    /* So is what the interpreter has in another version now, and no prefix holds. */
    json_t *locked = json_object_get(spec, "lock");
    json_object_set_new(locked, "system",
                        json_pack("[{s:s, s:s}]", "name", "pip", "version", "0.1"));
    CLEANUP_FREE char *changed = json_dumps(spec, 0);
    a = (struct ask){ .spec = changed };
    assert_int_equal(box_get(b, &a, &f), -ENOENT);
    says(b, "pip 0.1");

    /* And so is another Python. */
    json_object_set_new(json_object_get(spec, "lock"), "python", json_string("3.7.1"));
    CLEANUP_FREE char *old = json_dumps(spec, 0);
    a = (struct ask){ .spec = old };
    assert_int_equal(box_get(b, &a, &f), -EINVAL);
    says(b, "3.7.1");
    ty_env_done(&e);
}

/* ---- other tools ---- */

/* A folder with uv: of whoever runs the tests, or from the public index, once, beside the build.  NULL: neither. */
static char *uv_folder(void)
{
    const char *tools = getenv("TY_TEST_TOOLS"), *path = getenv("TY_TEST_PATH");
    CLEANUP_FREE char *found = ty_strf("PATH='%s'; command -v uv", path ? path : "");
    CLEANUP_FREE char *fetch = ty_strf(
        "[ -x '%s/uv/bin/uv' ] || timeout 60 /usr/bin/python3 -m pip install -q --retries 0 --target '%s/uv' uv",
        tools, tools);
    const char *look[] = { "/bin/sh", "-c", found, NULL },
               *get[] = { "/bin/sh", "-c", fetch, NULL };
    int status;
    char *where = box_run(look, &status);

    if (status == 0) {
        *strrchr(where, '/') = '\0';
        return where;
    }
    free(where);
    free(box_run(get, &status));
    return status == 0 ? ty_strf("%s/uv/bin", tools) : NULL;
}

static void uv_installs_where_it_is(void **state)
{
    struct box *b = *state;
    CLEANUP_FREE char *folder = uv_folder(),
                      *path = ty_strf("%s:/usr/bin:/bin", folder ? folder : ""),
                      *uv_cache = box_path(b, "uv");
    struct ty_env e, two;

    if (!folder)
        skip();
    setenv("PATH", path, 1);
    setenv("UV_CACHE_DIR", uv_cache, 1);
    get(b, ALPHA, &e);
    assert_string_equal(text_of(e.record, "tool"), "uv");
    prints(e.interpreter, "import ty_alpha, ty_beta; print(ty_alpha.VERSION, ty_beta.VERSION)",
           "1.0 1.1");
    get(b, "{\"pip\":{\"packages\":[\"ty-alpha==1.0\",\"ty-source\"],\"index_url\":\"%I\"}}", &two);
    assert_true(inode(e.prefix, "ty_alpha/table.txt") == inode(two.prefix, "ty_alpha/table.txt"));
    assert_true(inode(e.prefix, "ty_alpha/__pycache__/__init__.cpython-311.pyc") > 0);
    ty_env_done(&e);
    ty_env_done(&two);
}

/* A venv made without pip, whose own package is seen, though the prefix is a venv of what that was made of. */
static void an_interpreter_without_pip_gets_one(void **state)
{
    struct box *b = *state;
    CLEANUP_FREE char *venv = box_path(b, "base"), *python = ty_strf("%s/bin/python3", venv);
    CLEANUP_FREE char *own = ty_strf("%s/lib/python3.11/site-packages/ty_own.py", venv);
    const char *make[] = { "/usr/bin/python3", "-m", "venv", "--without-pip", venv, NULL };
    struct ask a = { .spec = ALPHA, .interpreter = python };
    struct ty_env e;
    int status;

    free(box_run(make, &status));
    assert_int_equal(status, 0);
    assert_int_equal(ty_write_file(own, "X = 5\n", 6, 0600), 0);
    if (box_get(b, &a, &e) < 0)
        fail_msg("%s\n%s", b->err.text, b->log.text);
    prints(e.interpreter, "import ty_own, ty_alpha; print(ty_own.X, ty_alpha.VERSION)", "5 1.0");
    ty_env_done(&e);
}

/* One whose pip cannot tell what it would install gets another one, here Debian's. */
static void an_old_pip_is_not_used(void **state)
{
    struct box *b = *state;
    CLEANUP_FREE char *venv = box_path(b, "base"), *python = ty_strf("%s/bin/python3", venv);
    CLEANUP_FREE char *site = ty_strf("%s/lib/python3.11/site-packages", venv);
    CLEANUP_FREE char *pip = ty_strf("%s/pip/__main__.py", site),
                      *info = ty_strf("%s/pip-20.3.4.dist-info/METADATA", site),
                      *tools = ty_strf("%s/tools/pip-3.11.2/bin/python3", b->cache);
    const char *make[] = { "/usr/bin/python3", "-m", "venv", "--without-pip", venv, NULL };
    const char *text = "Metadata-Version: 2.1\nName: pip\nVersion: 20.3.4\n";
    struct ask a = { .spec = ALPHA, .interpreter = python };
    struct ty_env e;
    int status;

    free(box_run(make, &status));
    assert_int_equal(status, 0);
    assert_int_equal(ty_mkdir_parent(pip, 0700), 0);
    assert_int_equal(ty_write_file(pip, "raise SystemExit(5)\n", 20, 0600), 0);
    assert_int_equal(ty_mkdir_parent(info, 0700), 0);
    assert_int_equal(ty_write_file(info, text, strlen(text), 0600), 0);
    if (box_get(b, &a, &e) < 0)
        fail_msg("%s\n%s", b->err.text, b->log.text);
    prints(e.interpreter, "import ty_alpha; print(ty_alpha.VERSION)", "1.0");
    assert_true(access(tools, X_OK) == 0 || strncmp(text_of(e.record, "python"), "3.11.2", 6) != 0);
    ty_env_done(&e);
}

/* Packages of the interpreter that a prefix counts on are changed under it. */
static void another_interpreter_gets_another_prefix(void **state)
{
    struct box *b = *state;
    CLEANUP_FREE char *venv = box_path(b, "base"), *python = ty_strf("%s/bin/python3", venv);
    CLEANUP_FREE char *info =
        ty_strf("%s/lib/python3.11/site-packages/ty_beta-1.5.dist-info", venv);
    CLEANUP_FREE char *metadata = ty_strf("%s/METADATA", info);
    const char *make[] = { "/usr/bin/python3", "-m", "venv", "--without-pip", venv, NULL };
    const char *text = "Metadata-Version: 2.1\nName: ty-beta\nVersion: 1.5\n";
    struct ask a = { .spec = ALPHA, .interpreter = python };
    struct ty_env one, two, three;
    const json_t *lock;
    int status;

    free(box_run(make, &status));
    assert_int_equal(status, 0);
    assert_int_equal(ty_mkdir_p(info, 0700), 0);
    assert_int_equal(ty_write_file(metadata, text, strlen(text), 0600), 0);
    assert_int_equal(box_get(b, &a, &one), 0);
    lock = json_object_get(one.record, "lock");
    assert_int_equal(json_array_size(json_object_get(lock, "pip")), 1); /* alpha alone */
    assert_int_equal(json_array_size(json_object_get(lock, "system")), 1);
    assert_string_equal(text_of(json_array_get(json_object_get(lock, "system"), 0), "version"),
                        "1.5");

    ty_rm_rf(info);
    assert_int_equal(box_get(b, &a, &two), 0);
    assert_string_not_equal(one.prefix, two.prefix);
    assert_int_equal(access(one.prefix, F_OK), 0); /* somebody runs in it */
    prints(two.interpreter, "import ty_beta; print(ty_beta.VERSION)", "1.1");
    assert_int_equal(box_get(b, &a, &three), 0);
    assert_string_equal(two.prefix, three.prefix);
    ty_env_done(&one);
    ty_env_done(&two);
    ty_env_done(&three);
}

static void a_password_is_used_and_shown_to_nobody(void **state)
{
    struct box *b = *state;
    CLEANUP_FREE char *url =
        ty_strf("http://me:geheim@%sprivate/simple/", b->index + strlen("http://"));
    CLEANUP_FREE char *spec = NULL, *lock = NULL, *record = NULL, *other = box_path(b, "other");
    struct ask a = { 0 };
    struct ty_env e, f;
    char *simple = strstr(url, "simple/private");

    memmove(simple, simple + strlen("simple/"), strlen(simple + strlen("simple/")) + 1);
    spec = ty_strf("{\"pip\":{\"packages\":[\"ty-alpha==1.0\"],\"index_url\":\"%s\"}}", url);
    get(b, spec, &e);
    record = json_dumps(e.record, 0);
    assert_null(strstr(b->log.text, "geheim"));
    assert_null(strstr(record, "geheim"));

    /* A lock has no password; the specification beside it has. */
    CLEANUP_JSON json_t *j = json_loads(spec, 0, NULL);
    json_object_set(j, "lock", json_object_get(e.record, "lock"));
    lock = json_dumps(j, 0);
    a = (struct ask){ .spec = lock, .cache = other };
    if (box_get(b, &a, &f) < 0)
        fail_msg("%s\n%s", b->err.text, b->log.text);
    prints(f.interpreter, "import ty_alpha; print(ty_alpha.VERSION)", "1.0");
    assert_null(strstr(b->log.text, "geheim"));
    ty_env_done(&e);
    ty_env_done(&f);
}

/* ---- what cannot be ---- */

static void refused(struct box *b, const char *spec, int code, const char *words)
{
    struct ask a = { .spec = spec };
    struct ty_env e;
    int r = box_get(b, &a, &e);

    if (r == 0)
        fail_msg("%s was built", spec);
    says(b, words);
    assert_int_equal(r, code);
    CLEANUP_FREE char *envs =
        ty_strf("ls %s/envs 2>/dev/null | grep -v -e known -e lock", b->cache);
    const char *argv[] = { "/bin/sh", "-c", envs, NULL };
    int status;
    CLEANUP_FREE char *left = box_run(argv, &status);
    assert_string_equal(left, "");
}

/* Of the locks of several kinds of nodes, a node takes its own: here the Python, what it has and the GPU decide. */
static void a_node_takes_the_lock_of_its_kind(void **state)
{
    struct box *b = *state;
    struct ty_env old, new, e;
    CLEANUP_FREE char *other = box_path(b, "other");

    get(b, "{\"pip\":{\"packages\":[\"ty-alpha<2\"],\"index_url\":\"%I\"}}", &old);
    get(b, "{\"pip\":{\"packages\":[\"ty-alpha\"],\"index_url\":\"%I\"}}", &new);
    for (int i = 0; i < 4; i++) {
        CLEANUP_JSON json_t *first = json_deep_copy(json_object_get(new.record, "lock"));
        CLEANUP_JSON json_t *spec = json_pack("{s:{s:[s], s:s}, s:O}", "pip", "packages",
                                              "ty-alpha", "index_url", b->index, "lock", first);
        json_t *own = json_deep_copy(json_object_get(old.record, "lock"));

        json_object_set_new(first, "others", json_pack("[o]", own));
        if (i == 0)
            json_object_set_new(first, "python", json_string("3.4.5"));
        else if (i == 1)
            json_object_set_new(first, "platform", json_string("linux-vax"));
        else if (i == 2)
            json_object_set_new(first, "system",
                                json_pack("[{s:s, s:s}]", "name", "pip", "version", "0.1"));
        else
            json_object_set_new(first, "build", json_string("cu124"));
        CLEANUP_FREE char *text = json_dumps(spec, 0);
        struct ask a = { .spec = text, .cache = other };

        if (box_get(b, &a, &e) < 0)
            fail_msg("%d: %s", i, b->err.text);
        prints(e.interpreter, "import ty_alpha; print(ty_alpha.VERSION)", "1.0");
        ty_env_done(&e);
    }
    ty_env_done(&old);
    ty_env_done(&new);
}

static void the_resolvers_words_are_told(void **state)
{
    struct box *b = *state;

    refused(b, "{\"pip\":{\"packages\":[\"ty-nowhere\"],\"index_url\":\"%I\"}}", -ENOENT,
            "No matching distribution found for ty-nowhere");
    refused(b, "{\"pip\":{\"packages\":[\"ty-alpha==9\"],\"index_url\":\"%I\"}}", -ENOENT,
            "(from versions: 1.0, 2.0)");
    refused(b, "{\"pip\":{\"packages\":[\"ty-impossible\"],\"index_url\":\"%I\"}}", -ENOENT,
            "ty-beta>=7");
}

/* "sha256:..." of a file of the index. */
static char *hash_of(const struct box *b, const char *file)
{
    CLEANUP_FREE char *path = box_path(b, "index/flat"), *whole = ty_strf("%s/%s", path, file);
    const char *argv[] = { "/usr/bin/sha256sum", whole, NULL };
    int status;
    CLEANUP_FREE char *said = box_run(argv, &status);

    assert_int_equal(status, 0);
    return ty_strf("--hash=sha256:%.64s", said);
}

/* As with pip: whoever names one has to name all, and what comes is what is named. */
static void hashes_of_requirements_count(void **state)
{
    struct box *b = *state;
    CLEANUP_FREE char *alpha = hash_of(b, "ty_alpha-1.0-py3-none-any.whl"),
                      *other = hash_of(b, "ty_alpha-2.0-py3-none-any.whl"),
                      *beta = hash_of(b, "ty_beta-1.1-py3-none-any.whl");
    CLEANUP_FREE char *good = ty_strf("{\"pip\":{\"packages\":[\"ty-alpha==1.0 %s %s\","
                                      "\"ty-beta==1.1 %s\"],\"index_url\":\"%%I\"}}",
                                      other, alpha, beta),
                      *wrong = ty_strf("{\"pip\":{\"packages\":[\"ty-alpha==1.0 %s\","
                                       "\"ty-beta==1.1 %s\"],\"index_url\":\"%%I\"}}",
                                       other, beta),
                      *lacking = ty_strf("{\"pip\":{\"packages\":[\"ty-alpha==1.0 %s\"],"
                                         "\"index_url\":\"%%I\"}}",
                                         alpha),
                      *there = ty_strf("{\"pip\":{\"packages\":[\"pip>=1 %s\"]}}", alpha);
    struct ty_env e;

    refused(b, wrong, -ENOENT, "DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE");
    says(b, other + strlen("--hash=sha256:"));
    says(b, alpha + strlen("--hash=sha256:"));
    refused(b, lacking, -ENOENT, "In --require-hashes mode, all requirements must have");
    says(b, "ty-beta>=1");
    get(b, good, &e);
    prints(e.interpreter, "import ty_alpha, ty_beta; print(ty_alpha.VERSION, ty_beta.VERSION)",
           "1.0 1.1");
    ty_env_done(&e);
    get(b, there, &e); /* what is there has no file that could be looked at */
    assert_null(e.prefix);
    ty_env_done(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nothing_asked_for_is_the_interpreter_itself, box_set_up,
                                        box_tear_down),
        cmocka_unit_test_setup_teardown(what_is_there_is_used, box_set_up, box_tear_down),
        cmocka_unit_test(what_is_secret_in_an_address_is_masked),
        cmocka_unit_test_setup_teardown(passwords_of_addresses_are_in_no_command_line, box_set_up,
                                        box_tear_down),
        cmocka_unit_test_setup_teardown(variables_of_pip_do_not_lead_elsewhere, box_set_up,
                                        box_tear_down),
        cmocka_unit_test_setup_teardown(a_package_is_built_into_a_prefix_once, box_set_up,
                                        box_tear_down),
        cmocka_unit_test_setup_teardown(a_prefix_can_be_activated, box_set_up, box_tear_down),
        cmocka_unit_test_setup_teardown(the_interpreters_packages_are_seen, box_set_up,
                                        box_tear_down),
        cmocka_unit_test_setup_teardown(what_we_provide_is_never_fetched, box_set_up,
                                        box_tear_down),
        cmocka_unit_test_setup_teardown(a_second_environment_shares_files, box_set_up,
                                        box_tear_down),
        cmocka_unit_test_setup_teardown(folders_and_files_are_places_of_packages, box_set_up,
                                        box_tear_down),
        cmocka_unit_test_setup_teardown(source_packages_are_built, box_set_up, box_tear_down),
        cmocka_unit_test_setup_teardown(a_lock_gives_the_same_again, box_set_up, box_tear_down),
        cmocka_unit_test_setup_teardown(uv_installs_where_it_is, box_set_up, box_tear_down),
        cmocka_unit_test_setup_teardown(an_interpreter_without_pip_gets_one, box_set_up,
                                        box_tear_down),
        cmocka_unit_test_setup_teardown(an_old_pip_is_not_used, box_set_up, box_tear_down),
        cmocka_unit_test_setup_teardown(another_interpreter_gets_another_prefix, box_set_up,
                                        box_tear_down),
        cmocka_unit_test_setup_teardown(a_password_is_used_and_shown_to_nobody, box_set_up,
                                        box_tear_down),
        cmocka_unit_test_setup_teardown(the_resolvers_words_are_told, box_set_up, box_tear_down),
        cmocka_unit_test_setup_teardown(hashes_of_requirements_count, box_set_up, box_tear_down),
        cmocka_unit_test_setup_teardown(a_node_takes_the_lock_of_its_kind, box_set_up,
                                        box_tear_down),
    };

    return cmocka_run_group_tests_name("env", tests, NULL, NULL);
}
