/* What is refused before ssh is started, and what is said when it ends. */
#include "base/error.h"
#include "base/json.h"
#include "base/owner.h"
#include "core/target_spec.h"
#include "courier/ssh.h"
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char sha[] = "00010203040506070809aabbccddeeff00010203040506070809aabbccddeeff";

static struct ty_target_spec *target(const char *text)
{
    CLEANUP_JSON json_t *o = NULL;
    struct ty_target_spec *s = NULL;
    struct ty_error err = { 0 };

    assert_int_equal(ty_json_parse(text, strlen(text), &o, &err), 0);
    if (ty_target_spec_parse(o, &s, &err) < 0)
        fail_msg("%s", err.text);
    return s;
}

static void test_folder(void **state)
{
    struct ty_target_spec *t = target(
        "{\"kind\": \"hosts\", \"folder\": \"/a'; reboot; '\", \"hosts\": [{\"host\": \"h\"}]}");
    struct ty_ssh s;
    struct ty_error err = { 0 };

    (void)state;
    assert_int_equal(ty_ssh_start(&s, t, &t->hosts[0], sha, NULL, &err), -EINVAL);
    assert_non_null(strstr(err.text, "folder"));
    assert_int_equal(s.pid, 0);
    ty_target_spec_free(t);
}

/* A service of all users runs ssh as each of them: nobody chooses programs for others. */
static void test_options_of_others(void **state)
{
    struct ty_target_spec *t = target(
        "{\"kind\": \"hosts\", \"ssh_options\": [\"ProxyCommand=/bin/evil\"], \"hosts\": [{\"host\": \"h\"}]}");
    struct ty_owner somebody = { .home = "/home/somebody" };
    struct ty_ssh s;
    struct ty_error err = { 0 };

    (void)state;
    assert_int_equal(ty_ssh_start(&s, t, &t->hosts[0], sha, &somebody, &err), -EINVAL);
    assert_non_null(strstr(err.text, "~/.ssh/config"));
    ty_target_spec_free(t);
}

/* ssh itself, against a port on which nobody listens. */
static void test_refused(void **state)
{
    struct ty_target_spec *t =
        target("{\"kind\": \"hosts\", \"hosts\": [{\"host\": \"127.0.0.1\", \"port\": 1}]}");
    struct ty_ssh s;
    struct ty_error err = { 0 };
    char why[512];
    int r = 0;

    (void)state;
    if (ty_ssh_start(&s, t, &t->hosts[0], sha, NULL, &err) < 0)
        fail_msg("%s", err.text);
    while (r == 0) {
        struct pollfd p[3];
        int n = ty_flow_poll(&s.flow, p, true);

        assert_true(poll(p, (nfds_t)n, 20000) >= 0);
        ty_ssh_listen(&s);
        r = ty_ssh_greet(&s, &err);
    }
    assert_true(r < 0);
    ty_ssh_why(&s, why, sizeof why);
    assert_non_null(strstr(why, "refused; is sshd running there"));
    ty_ssh_end(&s);
    ty_target_spec_free(t);
}

/* A program in ssh's place, or (`shell`) in that of the shell that stands before our command: why it has ended. */
static void ends(const char *script, bool shell, const char *expected)
{
    const char *argv[] = { "/bin/sh", "-c", script, NULL };
    struct ty_ssh s = TY_SSH_INIT;
    struct ty_error err = { 0 };
    char why[700] = "";
    int r = 0;

    s.shell = shell;
    if (ty_ssh_run(&s, argv, "/", NULL, &err) < 0)
        fail_msg("%s", err.text);
    while (r == 0) {
        struct pollfd p[3];
        int n = ty_flow_poll(&s.flow, p, true);

        assert_true(poll(p, (nfds_t)n, 20000) >= 0);
        r = ty_ssh_greet(&s, &err);
    }
    if (!err.code)
        ty_ssh_why(&s, why, sizeof why);
    ty_ssh_end(&s);
    if (!strstr(err.code ? err.text : why, expected))
        fail_msg("no '%s' in: %s%s", expected, err.text, why);
}

/* It says `lines` on standard error and ends as ssh does. */
static void says(const char *lines, const char *expected)
{
    CLEANUP_FREE char *script = ty_strf("printf '%s' >&2; exit 255", lines);

    ends(script, false, expected);
}

/* ssh's own words come first, and then what mends it. */
static void test_advice(void **state)
{
    (void)state;
    says("Host key verification failed.\\n", "verification failed; its key is not known here");
    says(
        "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\\n@@@\\nHost key verification failed.\\n",
        "verification failed; it has another key");
    says("ann@h1: Permission denied (publickey,password).\\n",
         "(publickey,password); ssh has to log in without asking");
    says("ssh: connect to host h1 port 22: No route to host\\n",
         "route to host; is the machine on");
    says("mkdir: cannot create directory /x: Permission denied\\n", "denied; name another folder");
    says("what nobody knows\\n", "what nobody knows");
}

/* It ends, or prints for ever: ssh has let us in. */
static void shell(const char *script, const char *expected)
{
    ends(script, true, expected);
}

static void test_shell(void **state)
{
    (void)state;
    shell("exit 3", "its shell exited with code 3 before it ran a command; look at");
    shell(
        "echo; echo This account is disabled; echo",
        "exited with code 0 before it ran a command, and said 'This account is disabled'; look at");
    shell("exit 255", "ssh exited with code 255");
    shell("exec yes", "its shell prints without end");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_folder),  cmocka_unit_test(test_options_of_others),
        cmocka_unit_test(test_refused), cmocka_unit_test(test_advice),
        cmocka_unit_test(test_shell),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
