/* test_helper.c - the data helper: requests that it refuses, what it says of a store, and its end
 *
 * Each request is served by a process of its own, as in life.  The store is one thread that answers what a test wrote down; real stores
 * are spoken to end to end.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/str.h"
#include "data/helper.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- the store ---- */

struct store {
    int fd, port;
    const char *const *answers; /* of the requests in turn; NULL: says nothing more */
    char *heads[16];
    int n;
    pthread_t thread;
};

static void *serve(void *arg)
{
    struct store *s = arg;

    for (; s->answers && s->answers[s->n]; s->n++) {
        CLEANUP_CLOSE int c = accept(s->fd, NULL, NULL);
        char head[8192] = "";
        size_t n = 0;

        if (c < 0)
            return NULL;
        while (n < sizeof head - 1 && !strstr(head, "\r\n\r\n")) {
            ssize_t got = read(c, head + n, sizeof head - 1 - n);

            if (got <= 0)
                break;
            n += (size_t)got;
            head[n] = '\0';
        }
        s->heads[s->n] = strdup(head);
        ty_write_all(c, s->answers[s->n], strlen(s->answers[s->n]));
    }
    return NULL;
}

static void store_open(struct store *s, const char *const *answers)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t n = sizeof a;

    *s = (struct store){ .answers = answers };
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(s->fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(s->fd, 16), 0);
    assert_int_equal(getsockname(s->fd, (struct sockaddr *)&a, &n), 0);
    s->port = ntohs(a.sin_port);
    assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

static void store_close(struct store *s)
{
    shutdown(s->fd, SHUT_RDWR);
    pthread_join(s->thread, NULL);
    close(s->fd);
    for (int i = 0; i < 16; i++)
        free(s->heads[i]);
}

#define ANSWER(status, body) \
    "HTTP/1.1 " status "\r\nConnection: close\r\nContent-Type: application/xml\r\n\r\n" body

/* ---- the helper ---- */

static pid_t start(const char *request, int *out)
{
    int in[2], from[2];
    pid_t pid;

    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(from, O_CLOEXEC), 0);
    fflush(NULL);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        int code;

        close(in[1]);
        close(from[0]);
        code = ty_data_helper(in[0], from[1]);
        _exit(code);
    }
    close(in[0]);
    close(from[1]);
    assert_int_equal(ty_write_all(in[1], request, strlen(request)), 0);
    close(in[1]);
    *out = from[0];
    return pid;
}

static int end_of(pid_t pid)
{
    int status = 0;

    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* All that it says, malloc'ed; its exit code has to be `code`. */
static char *say(const char *request, int code)
{
    CLEANUP_STR struct ty_str text = { 0 };
    CLEANUP_CLOSE int out = -1;
    pid_t pid = start(request, &out);
    char piece[4096];
    ssize_t n;
    int got;

    while ((n = read(out, piece, sizeof piece)) > 0)
        ty_str_addn(&text, piece, (size_t)n);
    got = end_of(pid);
    if (got != code)
        fail_msg("exit code %d, not %d: %s", got, code, text.text ? text.text : "");
    return ty_str_take(&text);
}

static void has(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("'%s' should have '%s'", text, part);
}

#define S3(port) \
    "{\"name\":\"d\",\"kind\":\"s3\",\"config\":{\"bucket\":\"abc\",\"region\":\"us-east-1\",\"endpoint\":\"http://127.0.0.1:" port \
    "\",\"path_style\":true,\"access_key_id\":\"id\",\"secret_access_key\":\"hush\"}}"
#define ASK(more) "{\"version\":1,\"access\":" S3("1") "," more "}\n"

static void test_refused(void **state)
{
    static const struct {
        const char *request, *says;
    } bad[] = {
        { "", "bad_request" },
        { "[]\n", "the request is not a JSON object" },
        { "{\"version\":1", "bad_request" },
        { "{\"do\":\"ls\"}", "has no 'version'" },
        { "{\"version\":2,\"do\":\"ls\"}", "version" },
        { "{\"version\":1}", "there are put, get, ls, stat, rm, make and validate" },
        { "{\"version\":1,\"do\":\"dance\"}", "there are put, get" },
        { "{\"version\":1,\"do\":\"ls\"}", "has no 'access'" },
        { "{\"version\":1,\"do\":\"ls\",\"access\":{\"name\":\"d\",\"kind\":\"file\",\"config\":{\"root\":\"/\"}}}",
          "'file'" },
        { ASK("\"do\":\"ls\",\"colour\":1"), "colour" },
        { ASK("\"do\":\"ls\",\"overwrite\":true"), "overwrite" },
        { ASK("\"do\":\"ls\",\"path\":1"), "path" },
        { ASK("\"do\":\"stat\""), "has no 'path'" },
        { ASK("\"do\":\"stat\",\"path\":\"a/../b\""), "bad_request" },
        { ASK("\"do\":\"rm\",\"path\":\"a\\nb\""), "bad_request" },
        { ASK("\"do\":\"rm\",\"files\":{}"), "is not a list" },
        { ASK("\"do\":\"rm\",\"files\":[{}]"), "each has a 'path'" },
        { ASK("\"do\":\"put\""), "a list 'files', or a 'local' and a 'path'" },
        { ASK("\"do\":\"put\",\"files\":[],\"path\":\"x\",\"local\":\"/x\""),
          "a list 'files', or" },
        { ASK("\"do\":\"put\",\"files\":[1]"), "must hold objects" },
        { ASK("\"do\":\"put\",\"files\":[{\"local\":\"/x\"}]"), "each has a 'local' and a 'path'" },
        { ASK("\"do\":\"put\",\"files\":[{\"local\":\"x\",\"path\":\"x\"}]"), "is not absolute" },
        { ASK("\"do\":\"put\",\"files\":[{\"local\":\"/x\",\"path\":\"../x\"}]"), "bad_request" },
        { ASK("\"do\":\"put\",\"local\":\"x\",\"path\":\"x\""), "is not absolute" },
        { ASK("\"do\":\"put\",\"local\":\"/no/such/file\",\"path\":\"x\""), "not_found" },
        { ASK("\"do\":\"get\",\"local\":\"/x\",\"path\":\"..\""), "bad_request" },
        { ASK("\"do\":\"get\",\"files\":[],\"parallel\":0"), "parallel" },
        { ASK("\"do\":\"get\",\"files\":[],\"overwrite\":1"), "overwrite" },
        { ASK("\"do\":\"validate\",\"make\":1"), "make" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CLEANUP_FREE char *said = say(bad[i].request, 1);

        if (!strstr(said, "{\"error\":{\"code\":") || !strstr(said, bad[i].says))
            fail_msg("%s: %s", bad[i].request, said);
        if (strstr(said, "hush"))
            fail_msg("a key was said: %s", said);
    }
}

static char *request(const struct store *s, const char *more)
{
    CLEANUP_FREE char *access = ty_strf(S3("%d"), s->port);

    return ty_strf("{\"version\":1,\"access\":%s,%s}\nand more that is not read", access, more);
}

#define PAGE(objects) \
    ANSWER("200 OK", \
           "<?xml version=\"1.0\"?><ListBucketResult><IsTruncated>false</IsTruncated>" objects \
           "</ListBucketResult>")
#define OBJECT(key, bytes) \
    "<Contents><Key>" key "</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified>" \
    "<ETag>&quot;900150983cd24fb0d6963f7d28e17f72&quot;</ETag><Size>" bytes "</Size></Contents>"

static void test_ls(void **state)
{
    static const char *const answers[] = { PAGE(OBJECT("a/b", "3") OBJECT("a/&lt;c&gt;", "4")),
                                           NULL };
    CLEANUP_FREE char *asked = NULL, *said = NULL;
    struct store s;

    (void)state;
    store_open(&s, answers);
    asked = request(&s, "\"do\":\"ls\",\"path\":\"a/\"");
    said = say(asked, 0);
    store_close(&s);
    assert_string_equal(
        said,
        "{\"file\":{\"path\":\"a/b\",\"bytes\":3,\"etag\":\"\\\"900150983cd24fb0d6963f7d28e17f72\\\"\","
        "\"md5\":\"900150983cd24fb0d6963f7d28e17f72\",\"modified\":\"2026-01-02T03:04:05.000000Z\"}}\n"
        "{\"file\":{\"path\":\"a/<c>\",\"bytes\":4,\"etag\":\"\\\"900150983cd24fb0d6963f7d28e17f72\\\"\","
        "\"md5\":\"900150983cd24fb0d6963f7d28e17f72\",\"modified\":\"2026-01-02T03:04:05.000000Z\"}}\n"
        "{\"done\":{\"files\":2,\"bytes\":7,\"there\":0,\"failed\":0}}\n");
}

/* Names that lead out of the folder are left out, and named; so are those that are no files. */
static void test_get_of_names_that_lead_out(void **state)
{
    static const char *const answers[] = {
        ANSWER("404 Not Found", ""),
        PAGE(OBJECT("a/../../evil", "3") OBJECT("a//x", "3") OBJECT("a/x&#10;y", "3")), NULL
    };
    char dir[] = "/tmp/ty-helper-XXXXXX";
    CLEANUP_FREE char *more = NULL, *asked = NULL, *said = NULL;
    struct store s;

    (void)state;
    assert_non_null(mkdtemp(dir));
    more = ty_strf("\"do\":\"get\",\"path\":\"a\",\"local\":\"%s/to\"", dir);
    store_open(&s, answers);
    asked = request(&s, more);
    said = say(asked, 1);
    store_close(&s);
    has(said, "{\"warning\":\"left out the object 'a/../../evil': it cannot be a file\"}");
    has(said, "{\"warning\":\"left out the object 'a//x'");
    has(said, "a/x\\ny");
    has(said, "\"code\":\"not_found\"");
    assert_int_equal(rmdir(dir), 0); /* nothing was made */
}

static void test_store_refuses(void **state)
{
    static const char *const answers[] = {
        ANSWER("403 Forbidden",
               "<Error><Code>SignatureDoesNotMatch</Code><Message>no</Message></Error>"),
        NULL
    };
    CLEANUP_FREE char *asked = NULL, *said = NULL;
    struct store s;

    (void)state;
    store_open(&s, answers);
    asked = request(&s, "\"do\":\"validate\"");
    said = say(asked, 1);
    has(s.heads[0], "Authorization: AWS4-HMAC-SHA256");
    store_close(&s);
    has(said, "\"code\":\"forbidden\"");
    assert_null(strstr(said, "hush"));
}

/* Whoever asked has gone: there is nobody to work for, however long the store takes. */
static void test_ends_with_its_reader(void **state)
{
    CLEANUP_FREE char *asked = NULL;
    struct store s;
    int out;
    pid_t pid;

    (void)state;
    store_open(&s, NULL); /* takes connections, and says nothing */
    asked = request(&s, "\"do\":\"ls\"");
    pid = start(asked, &out);
    close(out);
    assert_int_equal(end_of(pid), 1);
    store_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_ls),
        cmocka_unit_test(test_get_of_names_that_lead_out),
        cmocka_unit_test(test_store_refuses),
        cmocka_unit_test(test_ends_with_its_reader),
    };

    alarm(380);
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests_name("helper", tests, NULL, NULL);
}
