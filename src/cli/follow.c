/* follow.c - following one run to its end, over restarts of the daemon
 *
 * The stream (docs/spec/http-api.md) ends with the event `end`.  A stream that ends in any other
 * way is opened again, which starts a daemon where none runs, with the id of the last whole
 * event; `offset` counts the bytes that were printed, so what comes twice is cut and nothing is
 * printed twice.
 */
#include "base/clock.h"
#include "base/str.h"
#include "cli/lines.h"
#include "cli/out.h"
#include "cli/runs.h"
#include "client/sse.h"
#include "client/stubs.h"
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#define SILENCE_MS 60000 /* the daemon says something every 15 s */
#define TRIES_MAX 8      /* reconnections in a row that bring nothing */
#define TRY_PAUSE_MS 100 /* before the second; each later one twice as long */

static volatile int stop;

struct follower {
    struct ty_cli *cli;
    struct ty_cli_follow *f;
    struct ty_sse sse;
    struct ty_error *err;
    bool heard;                          /* something came on this connection */
    char told[64];                       /* the state that was told of last */
    int64_t places[TY_FOLLOW_RANKS_MAX]; /* of the log of each rank */
};

static void on_signal(int sig)
{
    stop = sig;
}

void ty_cli_catch_signals(void)
{
    struct sigaction a = { .sa_handler = on_signal }; /* no SA_RESTART: a wait ends */

    sigaction(SIGINT, &a, NULL);
    sigaction(SIGTERM, &a, NULL);
    sigaction(SIGHUP, &a, NULL);
}

const volatile int *ty_cli_stop(void)
{
    return &stop;
}

void ty_cli_detached(const char *run)
{
    fflush(stdout);
    fprintf(
        stderr,
        "\ntrainyard: detached; run '%s' goes on\n  follow it   trainyard logs -f %s\n  cancel it   trainyard cancel %s\n",
        run, run, run);
}

static int base64_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Decode in place of a new buffer; NULL when it is no base64 or memory is out. */
static char *base64_decode(const char *s, size_t n, size_t *len)
{
    char *out = malloc(n / 4 * 3 + 4);
    unsigned bits = 0, have = 0;
    size_t k = 0, i;

    while (n > 0 && s[n - 1] == '=')
        n--;
    for (i = 0; out && i < n; i++) {
        int v = base64_value(s[i]);

        if (v < 0) {
            free(out);
            return NULL;
        }
        bits = bits << 6 | (unsigned)v;
        have += 6;
        if (have >= 8) {
            have -= 8;
            out[k++] = (char)(bits >> have & 0xff);
        }
    }
    *len = k;
    return out;
}

static int print_bytes(struct follower *w, const char *bytes, size_t n)
{
    bool written = w->f->print ? w->f->print(bytes, n, w->f->print_ctx) == 0
                               : fwrite(bytes, 1, n, stdout) == n && fflush(stdout) == 0;

    if (!written)
        return ty_error_set(w->err, -EIO, "cannot write the log of run '%s' to standard output: %m",
                            w->f->run);
    return 0;
}

/* Whole lines of one rank; what has no end gets one, so that the lines of others do not run into it. */
static int print_ranks(struct follower *w, int rank, const char *bytes, size_t n)
{
    bool good = true;

    while (n > 0 && good) {
        const char *nl = memchr(bytes, '\n', n);
        size_t line = nl ? (size_t)(nl - bytes) : n, taken = nl ? line + 1 : n;

        if (!w->f->only || ty_lines_match(w->f->only, bytes, line))
            good = printf("[%d] ", rank) > 0 && fwrite(bytes, 1, line, stdout) == line &&
                   putchar('\n') != EOF;
        bytes += taken;
        n -= taken;
    }
    if (!good || fflush(stdout) != 0)
        return ty_error_set(w->err, -EIO, "cannot write the log of run '%s' to standard output: %m",
                            w->f->run);
    return 0;
}

/* The bytes of a log event that were not printed yet. */
static int take_log(struct follower *w, const json_t *data)
{
    const json_t *text = json_object_get(data, "text"), *raw = json_object_get(data, "base64"),
                 *of = json_object_get(data, "rank");
    int64_t at = json_integer_value(json_object_get(data, "offset")), rank = json_integer_value(of);
    int64_t *place;
    CLEANUP_FREE char *decoded = NULL;
    const char *bytes = json_string_value(text);
    size_t n = json_string_length(text), skip;
    int r;

    if (json_is_string(raw)) {
        decoded = base64_decode(json_string_value(raw), json_string_length(raw), &n);
        bytes = decoded;
    }
    if (!bytes || rank < 0 || rank >= TY_FOLLOW_RANKS_MAX)
        return ty_error_set(w->err, -EBADMSG,
                            "the daemon sent a piece of the log of run '%s' that cannot be read",
                            w->f->run);
    place = json_is_integer(of) ? &w->places[rank] : &w->f->offset;
    skip = at < *place ? (size_t)(*place - at) : 0;
    if (skip >= n)
        return 0;
    r = json_is_integer(of) ? print_ranks(w, (int)rank, bytes + skip, n - skip)
                            : print_bytes(w, bytes + skip, n - skip);
    if (r == 0)
        *place = at + (int64_t)n;
    return r;
}

static void tell_state(struct follower *w, const json_t *data)
{
    CLEANUP_FREE char *line = NULL;
    CLEANUP_FREE char *safe = NULL;
    const char *state = ty_out_str(data, "state"), *why = ty_out_str(data, "why");

    bool again = !strcmp(w->told, state);

    if (!w->f->states || !w->cli->err_terminal || (again && !*why))
        return;
    snprintf(w->told, sizeof w->told, "%s", state);
    line = ty_strf("%s%s%s", state, why[0] ? ": " : "", why);
    safe = line ? ty_out_safe(line) : NULL;
    /* A reason that changes is drawn over: while a run waits, nothing else is printed. */
    if (safe)
        fprintf(stderr, "%s\033[2m%s\033[0m\n", again ? "\033[1A\033[2K" : "", safe);
}

static int print_event(struct follower *w, const char *event, json_t *data)
{
    CLEANUP_JSON json_t *line = json_pack("{ssso}", "event", event, "data", json_incref(data));

    if (!line || json_dumpf(line, stdout, JSON_COMPACT) < 0 || putchar('\n') == EOF ||
        fflush(stdout) != 0)
        return ty_error_set(w->err, -EIO, "cannot write to standard output: %m");
    if (!strcmp(event, "log"))
        w->f->offset = json_integer_value(json_object_get(data, "offset")) + 1;
    return 0;
}

static int on_event(const char *event, const char *text, size_t n, void *ctx)
{
    struct follower *w = ctx;
    CLEANUP_JSON json_t *data = json_loadb(text, n, JSON_ALLOW_NUL, NULL);
    int r = 0;

    if (!json_is_object(data))
        return ty_error_set(w->err, -EBADMSG,
                            "the daemon sent an event of run '%s' that cannot be read", w->f->run);
    if (w->f->json)
        r = print_event(w, event, data);
    else if (!strcmp(event, "log"))
        r = take_log(w, data);
    else if (!strcmp(event, "state"))
        tell_state(w, data);
    if (r == 0 && w->f->hear && strcmp(event, "log"))
        r = w->f->hear(event, data, w->f->hear_ctx);
    if (r == 0 && !strcmp(event, "end")) {
        json_decref(w->f->end);
        w->f->end = TAKE(data);
    }
    return r;
}

static int on_data(const char *bytes, size_t n, void *ctx)
{
    struct follower *w = ctx;

    w->heard = true;
    return ty_sse_feed(&w->sse, bytes, n, on_event, w);
}

/* One connection's worth. */
static int follow_once(struct follower *w)
{
    CLEANUP_STR struct ty_str query = { 0 };
    struct ty_call call = { .args = { w->f->run },
                            .on_data = on_data,
                            .ctx = w,
                            .stop = &stop,
                            .silence_ms = SILENCE_MS,
                            .deadline_us = w->f->deadline_us,
                            .last_event_id = ty_sse_last_id(&w->sse) };

    ty_str_add(&query, "log=");
    ty_str_add_url(&query, w->f->log ? w->f->log : "", false);
    if (w->f->rows)
        ty_str_add(&query, w->f->system ? "&rows=1&system=1" : "&rows=1");
    if (w->f->ranks)
        ty_str_add(&query, "&ranks=1");
    if (w->f->now)
        ty_str_add(&query, "&now=1");
    for (int i = 0; !call.last_event_id && i < w->f->noffsets; i++)
        ty_str_addf(&query, "%s%lld", i ? "." : "&after=0:", (long long)w->f->offsets[i]);
    if (!call.last_event_id && w->f->noffsets == 0 && w->f->offset > 0)
        ty_str_addf(&query, "&after=0:%lld", (long long)w->f->offset);
    if (query.failed)
        return ty_error_oom(w->err);
    call.query = query.text;
    ty_sse_restart(&w->sse);
    w->heard = false;
    return ty_client_run_follow(w->cli->client, &call, NULL, w->err);
}

/* Is this a failure that a new connection may mend? */
static bool may_mend(int r, const struct ty_cli_follow *f)
{
    if (r == -ETIMEDOUT)
        return !f->deadline_us || ty_mono_us() < f->deadline_us;
    return r == 0 || r == -ECONNRESET || r == -ECONNREFUSED || r == -EAGAIN;
}

int ty_cli_follow(struct ty_cli *cli, struct ty_cli_follow *f, struct ty_error *err)
{
    struct follower w = { .cli = cli, .f = f, .err = err };
    int tries = 0, r;

    for (;;) {
        r = follow_once(&w);
        if (f->end || (r == 0 && f->now)) {
            r = 0;
            break;
        }
        if (stop)
            r = -EINTR;
        tries = w.heard ? 0 : tries + 1;
        if (!may_mend(r, f) || tries >= TRIES_MAX)
            break;
        if (tries > 0)
            poll(NULL, 0, TRY_PAUSE_MS << (tries - 1));
    }
    if (r == 0 && !f->end && !f->now)
        r = ty_error_set(
            err, -ECONNRESET,
            "the daemon ended the stream of run '%s' again and again before the run's end", f->run);
    ty_sse_done(&w.sse);
    return r;
}

/* Its output was that of several attempts, one after the other. */
static void tell_attempts(const struct ty_cli_follow *f)
{
    json_int_t n = json_integer_value(json_object_get(f->end, "attempt"));

    if (n > 1 && !f->json)
        fprintf(
            stderr,
            "trainyard: run '%s' began again: this was attempt %lld; 'trainyard show %s' says how "
            "the earlier ones ended\n",
            f->run, (long long)n, f->run);
}

int ty_cli_follow_to_end(struct ty_cli *cli, const char *run)
{
    struct ty_cli_follow f = { .run = run,
                               .log = TY_DRIVER_LOG,
                               .ranks = true,
                               .json = ty_cli_flag(cli, "json"),
                               .states = true };
    struct ty_error err = { 0 };
    int r, code;

    ty_cli_catch_signals();
    r = ty_cli_follow(cli, &f, &err);
    if (r == -EINTR) {
        ty_cli_detached(run);
        return TY_EXIT_OWN;
    }
    if (r < 0) {
        code = ty_cli_fail(cli, &err);
        ty_cli_detached(run);
        return code;
    }
    tell_attempts(&f);
    code = ty_cli_run_code(f.end);
    if (code != TY_EXIT_OK)
        ty_cli_run_outcome(f.end);
    json_decref(f.end);
    return code;
}
