/* test_file_commands.c - artifacts, data, logs and metrics: names that cannot be, several files at
 * once, long logs, and every form of output
 *
 * Their plain ways are in test_commands.c.
 */
#include "base/cleanup.h"
#include "base/fs.h"
#include "base/str.h"
#include "capture.h"
#include "fake.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define A "first_1780000000_0a1b2c3d"
#define B "first_1780000001_0a1b2c3d"
#define LOG "azureml-logs/70_driver_log.txt"
#define FILES \
    "{\"files\": [{\"path\": \"" LOG "\", \"bytes\": 14, \"kind\": \"log\"}, " \
    "{\"path\": \"outputs/a\", \"bytes\": 1500000, \"kind\": \"artifact\"}, " \
    "{\"path\": \"outputs/b\", \"bytes\": 2, \"kind\": \"artifact\"}]}"
#define EVENTS "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"

static struct fake *f;

static void says(struct captured c, int code, const char *out, const char *err)
{
    if (c.code != code)
        fail_msg("exit code %d, not %d: '%s' '%s'", c.code, code, c.out, c.err);
    if (out)
        assert_string_equal(c.out, out);
    if (err)
        assert_string_equal(c.err, err);
    captured_done(&c);
}

static void refuses(struct captured c, int code, const char *part)
{
    assert_int_equal(c.code, code);
    assert_string_equal(c.out, "");
    if (!strstr(c.err, part))
        fail_msg("'%s' should say '%s'", c.err, part);
    captured_done(&c);
}

#define TRY(...) CAPTURE(fake_home(f), __VA_ARGS__)

static void reads(const char *dir, const char *name, const char *text)
{
    CLEANUP_FREE char *path = ty_path_join(dir, name), *got = NULL;

    assert_int_equal(ty_read_file(path, 100, &got, NULL), 0);
    assert_string_equal(got, text);
}

static void test_artifacts_ls(void **state)
{
    struct fake_answer answers[] = {
        { .match = "GET /api/v1/runs/" A "/files ", .raw = fake_json(FILES) },
        { .match = "GET", .raw = fake_reply(404, "text/plain", "no such run") },
        { 0 }
    };
    struct captured c;

    (void)state;
    f = fake_start(answers);
    says(TRY("artifacts", "ls", "-q", A), 0, LOG "\noutputs/a\noutputs/b\n", "");
    says(TRY("artifacts", "ls", A), 0,
         "PATH                            KIND      SIZE\n" LOG "  log       14 B\n"
         "outputs/a                       artifact  1.5 MB\n"
         "outputs/b                       artifact  2 B\n",
         "");
    c = TRY("artifacts", "ls", "--json", A);
    assert_true(ty_starts_with(c.out, "{\"files\":[{\"path\":\"" LOG "\",\"bytes\":14"));
    captured_done(&c);
    refuses(TRY("artifacts", "ls", "first_1780000000_0a1b2c3e"), 3, "trainyard: no such run\n");
    fake_stop(f);
}

static void test_artifacts_get(void **state)
{
    struct fake_answer answers[] = {
        { .match = "GET /api/v1/runs/" A "/files ", .raw = fake_json(FILES) },
        { .match = "GET /api/v1/runs/" A "/files/outputs/a ", .raw = fake_reply(200, "x/y", "A") },
        { .match = "GET /api/v1/runs/" A "/files/outputs/b ", .raw = fake_reply(200, "x/y", "B") },
        { .match = "GET /api/v1/runs/" A "/files/" LOG " ", .raw = fake_reply(200, "x/y", "L") },
        { 0 }
    };

    (void)state;
    f = fake_start(answers);
    CLEANUP_FREE char *all = ty_path_join(fake_home(f), "all"),
                      *some = ty_path_join(fake_home(f), "some/");
    CLEANUP_FREE char *said_all = ty_strf("3 files in '%s'\n", all),
                      *said_some = ty_strf("1 file in '%s'\n", some);
    CLEANUP_FREE char *said_as = NULL, *as = ty_path_join(fake_home(f), "as");
    said_as = ty_strf("1 file as '%s'\n", as);
    says(TRY("artifacts", "get", A, "-o", all), 0, "", said_all);
    reads(all, "outputs/a", "A");
    reads(all, "outputs/b", "B");
    reads(all, LOG, "L");
    says(TRY("artifacts", "get", A, "outputs/b", "-o", some), 0, "", said_some);
    reads(some, "outputs/b", "B");
    says(TRY("artifacts", "get", A, "outputs/b", "-o", as), 0, "", said_as);
    reads(fake_home(f), "as", "B");
    says(TRY("artifacts", "get", A, "outputs/b", "-o", as), 5, "", NULL);
    refuses(TRY("artifacts", "get", A, "outputs", "-o", "-"), 1,
            "'-o -' prints one file, but 2 are named");
    refuses(TRY("artifacts", "get", A, "outputs/b", "none"), 3,
            "run '" A "' has no file or folder 'none'; 'trainyard artifacts ls " A
            "' lists what it has");
    fake_stop(f);
}

static void test_places_that_cannot_be(void **state)
{
    struct fake_answer answers[] = { { 0 } };

    (void)state;
    f = fake_start(answers);
    refuses(TRY("data", "put", "a", "nowhere"), 2,
            "'nowhere' is not DATASTORE:PATH, for example workspaceblobstore:corpus/a.txt");
    refuses(TRY("data", "get", ":path"), 2, "':path' is not DATASTORE:PATH");
    refuses(TRY("data", "get", "ds:/etc"), 2,
            "'ds:/etc': the path after ':' must not begin with '/'");
    refuses(TRY("data", "put", "a", "ds:/etc"), 2, "the path after ':' must not begin with '/'");
    refuses(TRY("data", "get", "ds:a/../../b"), 2, "'a/../../b' leads out of the datastore");
    refuses(TRY("data", "put", "ds:"), 2, "'data put' needs SRC... DATASTORE:PATH");
    refuses(TRY("data", "put", "/no/such/file", "ds:x"), 3,
            "cannot read '/no/such/file': No such file or directory");
    refuses(TRY("data", "put", "/dev/null", "ds:x"), 1,
            "cannot store '/dev/null': it is neither a file nor a folder");
    assert_int_equal(fake_count(f), 0);
    fake_stop(f);
}

static void test_data_ls(void **state)
{
    struct fake_answer answers[] = {
        { .match = "GET /api/v1/datastores/ds/access ",
          .raw =
              fake_json("{\"name\": \"ds\", \"kind\": \"file\", \"config\": {\"root\": \"/r\"}}") },
        { .match = "GET /api/v1/datastores/ds/files?prefix=set%2F ",
          .raw = fake_json("{\"files\": [{\"path\": \"set/a\", \"bytes\": 1500}]}") },
        { .match = "GET /api/v1/datastores/ds/files ", .raw = fake_json("{\"files\": []}") },
        { .match = "GET /api/v1/datastores ",
          .raw = fake_json(
              "{\"datastores\": [{\"name\": \"ds\", \"kind\": \"file\", \"root\": \"/r\", "
              "\"default\": false}]}") },
        { .match = "GET", .raw = fake_reply(404, "text/plain", "no datastore 'x'") },
        { 0 }
    };

    (void)state;
    f = fake_start(answers);
    says(TRY("data", "ls", "--plain", "ds:set/"), 0, "set/a\t1500\n", "");
    says(TRY("data", "ls", "ds:set/"), 0, "PATH   SIZE\nset/a  1.5 kB\n", "");
    says(TRY("data", "ls", "--json", "ds:set/"), 0,
         "{\"files\":[{\"path\":\"set/a\",\"bytes\":1500}]}\n", "");
    says(TRY("data", "ls", "-q", "ds"), 0, "", "");
    says(TRY("data", "ls", "-q", "ds:"), 0, "", "");
    says(TRY("data", "ls"), 0, "DATASTORE  KIND  DEFAULT  WHERE\nds         file  no       /r\n",
         "");
    refuses(TRY("data", "ls", "x"), 3, "trainyard: no datastore 'x'\n");
    fake_stop(f);
}

/* What is neither file nor folder is named and left out; the rest is stored. */
static void test_data_put_a_folder(void **state)
{
    struct fake_answer answers[] = {
        { .match = "GET /api/v1/datastores/ds/access ",
          .raw =
              fake_json("{\"name\": \"ds\", \"kind\": \"file\", \"config\": {\"root\": \"/r\"}}") },
        { .match = "PUT", .raw = fake_reply(201, "application/json", "{}") },
        { 0 }
    };

    (void)state;
    f = fake_start(answers);
    CLEANUP_FREE char *up = ty_path_join(fake_home(f), "up"), *a = ty_path_join(up, "a"),
                      *fifo = ty_path_join(up, "fifo"), *link = ty_path_join(up, "link");
    CLEANUP_FREE char *said = ty_strf("trainyard: left out '%s': neither a file nor a link to one\n"
                                      "stored 2 files in 'ds'\n",
                                      fifo);
    CLEANUP_FREE char *empty = ty_path_join(fake_home(f), "empty");
    assert_int_equal(ty_mkdir_p(up, 0700), 0);
    assert_int_equal(ty_mkdir_p(empty, 0700), 0);
    assert_int_equal(ty_write_file(a, "A", 1, 0600), 0);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_int_equal(symlink("a", link), 0);
    says(TRY("data", "put", up, "ds:in/"), 0, "", said);
    assert_true(ty_starts_with(fake_head(f, 1), "PUT /api/v1/datastores/ds/files/in/up/a HTTP"));
    assert_true(ty_starts_with(fake_head(f, 2), "PUT /api/v1/datastores/ds/files/in/up/link HTTP"));
    assert_string_equal(fake_body(f, 2, NULL), "A");
    says(TRY("data", "put", empty, "ds:"), 0, "", "stored 0 files in 'ds'\n");
    assert_int_equal(fake_count(f), 4);
    fake_stop(f);
}

static void test_data_get_all(void **state)
{
    struct fake_answer answers[] = {
        { .match = "GET /api/v1/datastores/ds/access ",
          .raw =
              fake_json("{\"name\": \"ds\", \"kind\": \"file\", \"config\": {\"root\": \"/r\"}}") },
        { .match = "GET /api/v1/datastores/evil/access ",
          .raw = fake_json(
              "{\"name\": \"evil\", \"kind\": \"file\", \"config\": {\"root\": \"/r\"}}") },
        { .match = "GET /api/v1/datastores/ds/files ",
          .raw = fake_json(
              "{\"files\": [{\"path\": \"a\", \"bytes\": 1}, {\"path\": \"s/b\", \"bytes\": 1}]}") },
        { .match = "GET /api/v1/datastores/ds/files?prefix=s%2Fb ",
          .raw = fake_json(
              "{\"files\": [{\"path\": \"s/b\", \"bytes\": 1}, {\"path\": \"s/bc\", \"bytes\": 1}]}") },
        { .match = "GET /api/v1/datastores/evil/files ",
          .raw = fake_json("{\"files\": [{\"path\": \"../../evil\", \"bytes\": 1}]}") },
        { .match = "GET /api/v1/datastores/ds/files?prefix=none ",
          .raw = fake_json("{\"files\": []}") },
        { .match = "GET /api/v1/datastores/ds/files/a ", .raw = fake_reply(200, "x/y", "A") },
        { .match = "GET /api/v1/datastores/ds/files/s/b ", .raw = fake_reply(200, "x/y", "B") },
        { 0 }
    };

    (void)state;
    f = fake_start(answers);
    CLEANUP_FREE char *all = ty_path_join(fake_home(f), "all"),
                      *into = ty_path_join(fake_home(f), "into/");
    CLEANUP_FREE char
        *said = ty_strf("2 files in '%s'\n", all),
        *evil = ty_strf(
            "the datastore has a file with the name '../../evil', which would lie outside of '%s'",
            all);
    says(TRY("data", "get", "ds:", all), 0, "", said);
    reads(all, "a", "A");
    reads(all, "s/b", "B");
    says(TRY("data", "get", "ds:./s//b/", into), 0, "", NULL);
    reads(into, "b", "B");
    says(TRY("data", "get", "ds:s/b", all), 0, "", NULL); /* a folder that is there */
    reads(all, "b", "B");
    says(TRY("data", "get", "ds:s/b", all), 5, "", NULL);
    says(TRY("data", "get", "--overwrite", "ds:s/b", all), 0, "", NULL);
    refuses(TRY("data", "get", "evil:", all), 1, evil);
    refuses(
        TRY("data", "get", "ds:none", all), 3,
        "datastore 'ds' has no file or folder 'none'; 'trainyard data ls ds:' lists what it has");
    fake_stop(f);
}

static void test_logs_words(void **state)
{
    struct fake_answer answers[] = { { 0 } };

    (void)state;
    f = fake_start(answers);
    refuses(TRY("logs", "--rank", "one", A), 2, "--rank 'one' is neither a number from 0 on");
    refuses(TRY("logs", "--rank=-1", A), 2, "--rank '-1' is neither");
    refuses(TRY("logs", "--rank", "0", "--file", "a", A), 2, "--rank and --file both name a log");
    refuses(TRY("logs", "--tail", "few", A), 2, "--tail 'few' is not a number of lines");
    refuses(TRY("logs", "--tail=-1", A), 2, "--tail '-1' is not a number of lines");
    refuses(TRY("logs", "--json", A), 2, "--json needs --follow: a log itself is no JSON");
    refuses(TRY("logs"), 2, "'logs' needs [OPTIONS] RUN");
    refuses(TRY("logs", "--since", "yesterday", A), 2, "--since 'yesterday' is neither a time ago");
    refuses(TRY("logs", "--since", "2026-11-31", A), 2,
            "--since '2026-11-31' is neither a time ago");
    refuses(TRY("logs", "--grep", "a(", A), 2, "--grep 'a(' is no regular expression: ");
    refuses(TRY("logs", "-i", A), 2, "--ignore-case needs --grep");
    refuses(TRY("logs", "-f", "--json", "--grep", "a", A), 2, "--grep chooses lines");
    assert_int_equal(fake_count(f), 0);
    fake_stop(f);
}

/* Lines that are longer than what is looked at first: further back is looked at, too. */
static void test_logs_tail_of_long_lines(void **state)
{
    enum { LINE = 100000 };
    char *text = malloc(3 * LINE + 1);
    CLEANUP_FREE char *files =
        ty_strf("{\"files\": [{\"path\": \"" LOG "\", \"bytes\": %d}]}", 3 * LINE);
    struct captured c;

    (void)state;
    assert_non_null(text);
    memset(text, 'x', 3 * LINE);
    text[3 * LINE] = '\0';
    for (int i = 1; i <= 3; i++)
        text[i * LINE - 1] = '\n';
    struct fake_answer answers[] = {
        { .match = "GET /api/v1/runs/" A " ", .raw = fake_json("{\"id\": \"" A "\"}") },
        { .match = "GET /api/v1/runs/" A "/files ", .raw = fake_json(files) },
        /* 3 * 100,000 - 65,536, then four times as much, from which on the last line is printed */
        { .match = "GET /api/v1/runs/" A "/files/" LOG "?offset=234464 ",
          .raw = fake_reply(200, "x/y", text + 234464) },
        { .match = "GET /api/v1/runs/" A "/files/" LOG "?offset=37856 ",
          .raw = fake_reply(200, "x/y", text + 37856) },
        { .match = "GET /api/v1/runs/" A "/files/" LOG "?offset=200000 ",
          .raw = fake_reply(200, "x/y", text + 200000) },
        { .match = "GET /api/v1/runs/" A "/files/" LOG "?offset=0 ",
          .raw = fake_reply(200, "x/y", text) },
        { .match = "GET /api/v1/runs/" A "/files/" LOG " ", .raw = fake_reply(200, "x/y", text) },
        { 0 }
    };
    f = fake_start(answers);
    c = TRY("logs", "-n", "1", A);
    assert_int_equal(c.code, 0);
    assert_int_equal(c.out_len, LINE);
    captured_done(&c);
    c = TRY("logs", "-n", "99", A); /* more than there are: all */
    assert_int_equal(c.out_len, 3 * LINE);
    captured_done(&c);
    fake_stop(f);
    free(text);
}

#define SINCE "GET /api/v1/runs/" A "/files?since=2026-11-23T11:52:03.500000Z "

static void test_logs_since(void **state)
{
    struct fake_answer answers[] = {
        { .match = "GET /api/v1/runs/" A " ", .raw = fake_json("{\"id\": \"" A "\"}") },
        { .match = SINCE,
          .raw = fake_json(
              "{\"files\": [{\"path\": \"" LOG
              "\", \"bytes\": 14, \"kind\": \"log\", \"sha256\": null, "
              "\"offset\": 4}, {\"path\": \"outputs/a\", \"bytes\": 1, \"kind\": \"artifact\", "
              "\"sha256\": null}]}") },
        { .match = "GET /api/v1/runs/" A "/files/" LOG "?offset=0 ",
          .raw = fake_reply(200, "x/y", "one\ntwo\nthree\n") },
        { .match = "GET /api/v1/runs/" A "/files/" LOG "?offset=4 ",
          .raw = fake_reply(200, "x/y", "two\nthree\n") },
        { .match = "GET /api/v1/runs/" A "/files/" LOG "?offset=8 ",
          .raw = fake_reply(200, "x/y", "three\n") },
        { .match = "GET /api/v1/runs/" A "/follow?log=azureml-logs%2F70_driver_log.txt&after=0:4 ",
          .close = true,
          .raw = EVENTS "event: log\ndata: {\"offset\": 4, \"text\": \"two\\nth\"}\n\n"
                        "event: log\ndata: {\"offset\": 10, \"text\": \"ree\\nend\"}\n\n"
                        "event: end\ndata: {\"id\": \"" A "\", \"state\": \"Completed\"}\n\n" },
        { 0 }
    };

    (void)state;
    f = fake_start(answers);
    says(TRY("logs", "--since", "2026-11-23T12:52:03.5+01:00", A), 0, "two\nthree\n", "");
    says(TRY("logs", "--since", "2026-11-23T11:52:03.5Z", "-n", "1", A), 0, "three\n", "");
    says(TRY("logs", "--since", "2026-11-23T11:52:03.5Z", "-n", "9", A), 0, "two\nthree\n", "");
    says(TRY("logs", "--since", "2026-11-23T11:52:03.5Z", "--grep", "^t.o", A), 0, "two\n", "");
    says(TRY("logs", "-f", "--since", "2026-11-23T11:52:03.5Z", "--grep", "E", "-i", A), 0,
         "three\nend", "");
    refuses(TRY("logs", "--since", "2026-11-23T11:52:03.5Z", "--file", "outputs/a", A), 1,
            "is no log; --since");
    assert_int_equal(fake_count(f), 18);
    fake_stop(f);
}

static void test_logs_follow(void **state)
{
    struct fake_answer answers[] = {
        { .match = "GET /api/v1/runs/" A " ", .raw = fake_json("{\"id\": \"" A "\"}") },
        { .match = "GET /api/v1/runs/" A "/files ", .raw = fake_json(FILES) },
        { .match = "GET /api/v1/runs/" A "/files/" LOG "?offset=0 ",
          .raw = fake_reply(200, "x/y", "one\ntwo\nthree\n") },
        { .match = "GET /api/v1/runs/" A "/follow?log=azureml-logs%2F70_driver_log.txt&after=0:8 ",
          .close = true,
          .raw = EVENTS "event: log\ndata: {\"offset\": 8, \"text\": \"three\\n\"}\n\n"
                        "event: end\ndata: {\"id\": \"" A "\", \"state\": \"Completed\"}\n\n" },
        { .match = "GET /api/v1/runs/" A "/follow?log=azureml-logs%2F70_driver_log.txt ",
          .close = true,
          .raw = EVENTS "event: log\ndata: {\"offset\": 0, \"base64\": \"/w==\"}\n\nevent: end\n"
                        "data: {\"id\": \"" A "\", \"state\": \"Failed\", \"exit_code\": 4, "
                        "\"error\": {\"message\": \"m\"}}\n\n" },
        { .match = "GET", .raw = fake_reply(404, "text/plain", "no such run") },
        { 0 }
    };
    struct captured c;

    (void)state;
    f = fake_start(answers);
    says(TRY("logs", "-f", "-n", "1", A), 0, "three\n", "");
    says(TRY("logs", "-f", A), 0, "\xff",
         "trainyard: run '" A "' Failed: m\n"); /* the log is what was asked for */
    c = TRY("logs", "-f", "--json", A);
    assert_int_equal(c.code, 0);
    assert_true(ty_starts_with(c.out,
                               "{\"event\":\"log\",\"data\":{\"offset\":0,\"base64\":\"/w==\"}}\n"
                               "{\"event\":\"end\",\"data\":{"));
    captured_done(&c);
    refuses(TRY("logs", "-f", "first_1780000000_0a1b2c3e"), 3, "trainyard: no such run\n");
    refuses(TRY("logs", "-f", "-n", "1", "first_1780000000_0a1b2c3e"), 3,
            "trainyard: no such run\n");
    fake_stop(f);
}

static void test_logs_of_a_file(void **state)
{
    struct fake_answer answers[] = {
        { .match = "GET /api/v1/runs/" A " ", .raw = fake_json("{\"id\": \"" A "\"}") },
        { .match = "GET /api/v1/runs/" A "/files ", .raw = fake_json(FILES) },
        { .match = "GET /api/v1/runs/" A "/files/outputs/b ",
          .raw = fake_reply(200, "x/y", "B\n") },
        { .match = "GET /api/v1/runs/" A "/files/" LOG " ",
          .raw = fake_reply(503, "text/plain", "not now") },
        { 0 }
    };

    (void)state;
    f = fake_start(answers);
    says(TRY("logs", "--file", "outputs/b", A), 0, "B\n", "");
    refuses(TRY("logs", "--file", "none.txt", A), 3,
            "run '" A "' has no log 'none.txt'; 'trainyard artifacts ls " A "' lists its files");
    refuses(TRY("logs", A), 1, "trainyard: not now\n");
    fake_stop(f);
}

#define RANK(n) "azureml-logs/70_driver_log_" #n ".txt"
#define PIECE(n, at, text) \
    "event: log\ndata: {\"name\": \"" RANK(n) "\", \"rank\": " #n ", \"offset\": " #at \
                                              ", \"text\": \"" text "\"}\n\n"
#define MERGED "GET /api/v1/runs/" A "/follow?log=azureml-logs%2F70_driver_log_0.txt&ranks=1"
#define ENDED "event: end\ndata: {\"id\": \"" A "\", \"state\": \"Completed\"}\n\n"

/* A stream that the service has ended. */
static const char *whole(const char *events)
{
    static char made[2][2048];
    static int n;
    char *text = made[n++ % 2];

    snprintf(
        text, sizeof made[0],
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        "%zx\r\n%s\r\n0\r\n\r\n",
        strlen(events), events);
    return text;
}

static void test_logs_of_ranks(void **state)
{
    struct fake_answer answers[] = {
        { .match = "GET /api/v1/runs/" A " ",
          .raw =
              fake_json("{\"id\": \"" A "\", \"node_count\": 2, \"process_count_per_node\": 1}") },
        { .match = "GET /api/v1/runs/" B " ",
          .raw = fake_json("{\"id\": \"" B "\", \"state\": \"Queued\", \"node_count\": 1, "
                           "\"process_count_per_node\": 2}") },
        { .match = "GET /api/v1/runs/" A "/files ",
          .raw = fake_json("{\"files\": [{\"path\": \"" RANK(
              0) "\", \"bytes\": 8, \"kind\": \"log\"}, "
                 "{\"path\": \"" RANK(1) "\", \"bytes\": 4, \"kind\": \"log\"}]}") },
        { .match = "GET /api/v1/runs/" B "/files ", .raw = fake_json("{\"files\": []}") },
        { .match = "GET /api/v1/runs/" A "/files/" RANK(0) "?offset=0 ",
          .raw = fake_reply(200, "x/y", "one\ntwo\n") },
        { .match = "GET /api/v1/runs/" A "/files/" RANK(1) "?offset=0 ",
          .raw = fake_reply(200, "x/y", "uno\n") },
        { .match = "GET /api/v1/runs/" A "/files/" RANK(1) " ",
          .raw = fake_reply(200, "x/y", "uno\n") },
        { .match = MERGED "&now=1&after=0:0.0 ",
          .raw = whole(PIECE(0, 0, "one\\n") PIECE(1, 0, "uno\\n") PIECE(0, 4, "two\\n")) },
        { .match = MERGED "&now=1&after=0:4.0 ",
          .raw = whole(PIECE(1, 0, "uno\\n") PIECE(0, 4, "two\\n")) },
        { .match = "GET /api/v1/runs/" A "/follow?log=azureml-logs%2F70_driver_log.txt&ranks=1 ",
          .close = true,
          .raw = EVENTS PIECE(0, 0, "one\\n") PIECE(1, 0, "uno\\n") PIECE(0, 4, "two\\nx")
              PIECE(1, 4, "due") ENDED },
        /* what was sent before comes again in part, and a last line has no end */
        { .match = MERGED " ",
          .close = true,
          .raw = EVENTS PIECE(0, 0, "one\\n") PIECE(1, 0, "uno\\n") PIECE(0, 0, "one\\ntwo\\nx")
              PIECE(1, 4, "due") ENDED },
        { 0 }
    };

    (void)state;
    f = fake_start(answers);
    says(TRY("logs", A), 0, "[0] one\n[1] uno\n[0] two\n", "");
    says(TRY("logs", "--rank", "all", "--tail", "1", A), 0, "[1] uno\n[0] two\n", "");
    says(TRY("logs", "--grep", "^.n", A), 0, "[0] one\n[1] uno\n", "");
    says(TRY("logs", "--rank", "1", A), 0, "uno\n", "");
    says(TRY("logs", "-f", A), 0, "[0] one\n[1] uno\n[0] two\n[0] x\n[1] due\n", "");
    says(TRY("attach", A), 0, "[0] one\n[1] uno\n[0] two\n[0] x\n[1] due\n", "");
    says(TRY("logs", B), 0, "", "run '" B "' has written no log; it is Queued\n");
    refuses(TRY("logs", "--rank", "2", A), 1, "run '" A "' has 2 processes, ranks 0 to 1");
    fake_stop(f);
}

static void test_metrics(void **state)
{
    struct fake_answer answers[] = {
        { .match = "GET /api/v1/runs/" A "/metrics?form=azureml ",
          .raw = fake_json("{\"metrics\": {\"loss\": [2.5, 0.1], \"t\": {\"a\": [1]}, \"e\": [], "
                           "\"note\": \"two\\nlines\", \"none\": null}}") },
        { .match = "GET /api/v1/runs/" B "/metrics?form=azureml ",
          .raw = fake_json("{\"metrics\": {}}") },
        { .match = "GET /api/v1/runs/" A "/metrics?form=azureml&name=a%2Fb%20c ",
          .raw = fake_json("{\"metrics\": {}}") },
        { .match = "GET /api/v1/runs/" A "/metrics?form=rows ",
          .raw = fake_json(
              "{\"rows\": [{\"name\": \"loss\", \"step\": null, \"at\": \"T\", \"value\": 1}, "
              "{\"name\": \"l\", \"step\": -3, \"at\": \"T\", \"value\": [1, 2]}]}") },
        { .match = "GET", .raw = fake_reply(404, "text/plain", "no such run") },
        { 0 }
    };
    struct captured c;

    (void)state;
    f = fake_start(answers);
    c = TRY("metrics", "--plain", A);
    assert_int_equal(c.code, 0);
    assert_true(ty_starts_with(c.out, "loss\t2\t0.1\nt\t1\t{\"a\":[1]}\ne\t0\t[]\nnote\t1\ttwo"));
    assert_null(strstr(c.out, "two\nlines")); /* one row stays one line */
    captured_done(&c);
    says(TRY("metrics", "-q", A), 0, "loss\nt\ne\nnote\nnone\n", "");
    says(TRY("metrics", "--rows", "--plain", A), 0, "loss\t-\tT\t1\nl\t-3\tT\t[1,2]\n", "");
    refuses(TRY("metrics", "--name", "a/b c", "--json", A), 3,
            "run '" A "' has no metric 'a/b c'; 'trainyard metrics " A "' lists those it has\n");
    says(TRY("metrics", B), 0, NULL, "no metrics were logged\n");
    says(TRY("metrics", "--plain", B), 0, "", "");
    says(TRY("metrics", "--json", B), 0, "{\"metrics\":{}}\n", "");
    refuses(TRY("metrics", "first_1780000000_0a1b2c3e"), 3, "trainyard: no such run\n");
    fake_stop(f);
}

static void test_metrics_follow(void **state)
{
    struct fake_answer answers[] = {
        { .match = "GET /api/v1/runs/" A " ", .raw = fake_json("{\"id\": \"" A "\"}") },
        { .match = "GET /api/v1/runs/" A "/follow?log=&rows=1 ",
          .close = true,
          .raw = EVENTS
          "id: 1:0\nevent: state\ndata: {\"state\": \"Running\"}\n\n"
          "id: 1:0:2\nevent: rows\ndata: {\"rows\": [{\"name\": \"loss\", \"step\": 7, \"at\": \"T\", "
          "\"value\": 0.5}, {\"name\": \"a\\tb\", \"step\": null, \"at\": \"U\", \"value\": "
          "{\"$float\": \"NaN\"}}]}\n\n"
          "id: 1:0:3\nevent: rows\ndata: {\"rows\": [{\"name\": \"loss\", \"step\": 8, \"at\": \"V\", "
          "\"value\": 1}]}\n\n"
          "event: end\ndata: {\"id\": \"" A "\", \"state\": \"Failed\", \"exit_code\": 4, "
          "\"error\": {\"message\": \"m\"}}\n\n" },
        { .match = "GET", .raw = fake_reply(404, "text/plain", "no such run") },
        { 0 }
    };

    (void)state;
    f = fake_start(answers);
    says(TRY("metrics", "-f", A), 0, "loss\t7\tT\t0.5\na b\t-\tU\tNaN\nloss\t8\tV\t1\n",
         "trainyard: run '" A "' Failed: m\n");
    says(TRY("metrics", "-f", "--json", "--name", "loss", A), 0,
         "{\"name\":\"loss\",\"step\":7,\"at\":\"T\",\"value\":0.5}\n"
         "{\"name\":\"loss\",\"step\":8,\"at\":\"V\",\"value\":1}\n",
         "trainyard: run '" A "' Failed: m\n");
    refuses(TRY("metrics", "-f", "-q", A), 2, "--quiet lists names");
    refuses(TRY("metrics", "-f", "first_1780000000_0a1b2c3e"), 3, "trainyard: no such run\n");
    fake_stop(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_artifacts_ls),
        cmocka_unit_test(test_artifacts_get),
        cmocka_unit_test(test_places_that_cannot_be),
        cmocka_unit_test(test_data_ls),
        cmocka_unit_test(test_data_put_a_folder),
        cmocka_unit_test(test_data_get_all),
        cmocka_unit_test(test_logs_words),
        cmocka_unit_test(test_logs_tail_of_long_lines),
        cmocka_unit_test(test_metrics_follow),
        cmocka_unit_test(test_logs_since),
        cmocka_unit_test(test_logs_follow),
        cmocka_unit_test(test_logs_of_a_file),
        cmocka_unit_test(test_logs_of_ranks),
        cmocka_unit_test(test_metrics),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
