/* object.c - what is the same for all object stores, and operations that wait */
#include "data/object.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fs.h"
#include "data/http.h"
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#define PAUSE_FIRST_MS 500
#define PAUSE_MAX_MS 20000
#define CLOCK_OFF_S 300 /* stores allow 15 minutes */

static const struct ty_object_kind *const kinds[] = { &ty_s3, &ty_azblob };

const struct ty_object_kind *ty_object_kind_of(const char *name)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(kinds[i]->name, name) == 0)
            return kinds[i];
    return NULL;
}

static void leave_no_core(void)
{
    const struct rlimit none = { 0 };

    (void)setrlimit(RLIMIT_CORE, &none);
}

int ty_object_open(const json_t *access, struct ty_object_store **ret, struct ty_error *err)
{
    const char *kind = json_string_value(json_object_get(access, "kind"));
    const char *name = json_string_value(json_object_get(access, "name"));
    const json_t *config = json_object_get(access, "config");
    const struct ty_object_kind *k = kind ? ty_object_kind_of(kind) : NULL;
    int r;

    if (!k)
        return ty_error_set(
            err, -EINVAL,
            "datastore '%s' is of the kind '%s', which is no object store of this version",
            name ? name : "", kind ? kind : "");
    if (!json_is_object(config))
        return ty_error_set(err, -EINVAL, "datastore '%s' has no \"config\"", name ? name : "");
    leave_no_core();
    r = k->open(config, ret, err);
    return r < 0 && name ? ty_error_prefix(err, "datastore '%s'", name) : r;
}

struct ty_object_store *ty_object_close(struct ty_object_store *s)
{
    if (s)
        s->kind->close(s);
    return NULL;
}

int ty_object_path_check(const char *path, struct ty_error *err)
{
    CLEANUP_STR struct ty_str shown = { 0 };

    if (ty_path_is_inside(path) && ty_utf8_valid(path, strlen(path)))
        return 0;
    ty_str_add_json(&shown, path, strnlen(path, 200));
    return ty_error_set(
        err, -EINVAL,
        "%s cannot be the path of a file in an object store: it is relative, UTF-8, without empty "
        "parts, '.', '..' and control characters",
        shown.text ? shown.text : "it");
}

int ty_object_prefix(const char *prefix, char **ret, struct ty_error *err)
{
    size_t n;

    prefix = prefix ? prefix + strspn(prefix, "/") : "";
    n = strlen(prefix);
    while (n > 0 && prefix[n - 1] == '/')
        n--;
    *ret = strndup(prefix, n);
    if (!*ret)
        return ty_error_oom(err);
    return n > 0 ? ty_object_path_check(*ret, err) : 0;
}

/* ---- sentences ---- */

int ty_object_say(const struct ty_object_store *s, const char *doing, const char *path, int code,
                  struct ty_error *err, const char *fmt, ...)
{
    CLEANUP_STR struct ty_str text = { 0 };
    va_list ap;

    ty_str_addf(&text, "cannot %s ", doing);
    if (path)
        ty_str_addf(&text, "'%s' in ", path);
    ty_str_addf(&text, "%s: ", s->where);
    va_start(ap, fmt);
    ty_str_addv(&text, fmt, ap);
    va_end(ap);
    return text.failed ? ty_error_oom(err) : ty_error_set(err, code, "%s", text.text);
}

int ty_object_judge_result(const struct ty_object_store *s, const struct ty_http_req *r,
                           const char *doing, const char *path, int *again_ms, struct ty_error *err)
{
    switch (r->result) {
    case -ECONNREFUSED:
    case -ECONNRESET:
    case -ETIMEDOUT:
        *again_ms = 0;
        break;
    default:
        *again_ms = -1;
    }
    return ty_object_say(s, doing, path, r->result, err, "%s", r->why);
}

/* "Thu, 26 Nov 2026 20:31:51 GMT" of a Date header, or ISO 8601, as seconds since 1970; -1. */
static int64_t their_seconds(const char *text)
{
    struct tm tm = { 0 };
    int64_t us;

    if (ty_time_parse(text, false, &us) == 0)
        return us / 1000000;
    if (!strptime(text, "%a, %d %b %Y %H:%M:%S", &tm))
        return -1;
    return (int64_t)timegm(&tm);
}

int ty_object_judge_clock(const struct ty_object_store *s, const struct ty_http_req *r,
                          const char *doing, const char *path, const char *theirs,
                          struct ty_error *err)
{
    int64_t ours = ty_object_now_s(), other;
    char mine[32], his[32];

    if (!theirs)
        theirs = ty_http_answer(r, "Date");
    other = theirs ? their_seconds(theirs) : -1;
    if (other < 0 || (ours - other <= CLOCK_OFF_S && other - ours <= CLOCK_OFF_S))
        return 0;
    ty_time_iso(ours * 1000000, mine);
    ty_time_iso(other * 1000000, his);
    return ty_object_say(
        s, doing, path, -ETIME, err,
        "the clock of this machine says %.19sZ, that of the store %.19sZ, which is "
        "too far apart for a signature: set this machine's clock (timedatectl "
        "set-ntp true)",
        mine, his);
}

int64_t ty_object_now_s(void)
{
    const char *text = getenv("TRAINYARD_TEST_CLOCK_SHIFT");
    int64_t shift = 0;

    if (text && ty_parse_i64(text, &shift) < 0)
        shift = 0;
    return ty_wall_us() / 1000000 + shift;
}

int ty_object_pause_ms(unsigned tries, int again_ms)
{
    const char *text = getenv("TRAINYARD_TEST_RETRY_MS");
    int64_t first = PAUSE_FIRST_MS, ms;

    if (text && (ty_parse_i64(text, &first) < 0 || first < 1 || first > PAUSE_MAX_MS))
        first = PAUSE_FIRST_MS;
    ms = first << (tries > 10 ? 10 : tries > 0 ? tries - 1 : 0);
    if (ms > PAUSE_MAX_MS)
        ms = PAUSE_MAX_MS;
    ms = ms - ms / 10 + (ms > 4 ? ty_mono_us() % (ms / 5 + 1) : 0);
    return (int)(ms > again_ms ? ms : again_ms);
}

/* ---- one operation, with its tries ---- */

enum what { LIST, PROBE, MAKE, HEAD, REMOVE };

struct ask {
    struct ty_object_store *s;
    struct ty_http *h;
    enum what what;
    const char *doing;
    const char *path; /* or the prefix of LIST */
    const char *marker;
    unsigned tries; /* at most */
};

static int build(const struct ask *a, struct ty_http_req *r, struct ty_error *err)
{
    const struct ty_object_kind *k = a->s->kind;

    switch (a->what) {
    case LIST:
        return k->list(a->s, r, a->path, a->marker, err);
    case PROBE:
        return k->probe(a->s, r, err);
    case MAKE:
        return k->make_container(a->s, r, err);
    case HEAD:
        return k->head(a->s, r, a->path, err);
    default:
        return k->remove(a->s, r, a->path, err);
    }
}

static int operate(const struct ask *a, struct ty_http_req *r, struct ty_error *err)
{
    bool of_store = a->what == LIST || a->what == PROBE || a->what == MAKE;
    int again = -1, w = 0;

    for (unsigned tries = 1;; tries++) {
        ty_http_req_again(r);
        w = build(a, r, err);
        if (w == 0)
            w = ty_http_do(a->h, r, err);
        if (w < 0)
            return w;
        w = a->s->kind->judge(a->s, r, a->doing, of_store ? NULL : a->path, &again, err);
        if (w == 0 || again < 0 || tries == a->tries)
            return w;
        poll(NULL, 0, ty_object_pause_ms(tries, again));
    }
}

static int of_path(const struct ask *a, struct ty_http_req *r, struct ty_error *err)
{
    int w = ty_object_path_check(a->path, err);

    return w < 0 ? w : operate(a, r, err);
}

int ty_object_list(struct ty_object_store *s, struct ty_http *h, const char *prefix,
                   ty_object_fn fn, void *ctx, struct ty_error *err)
{
    struct ask a = {
        .s = s, .h = h, .what = LIST, .doing = "list", .path = prefix, .tries = TY_OBJECT_TRIES
    };
    CLEANUP_FREE char *marker = NULL;
    int w;

    do {
        CLEANUP_HTTP_REQ struct ty_http_req r = { 0 };
        char *next = NULL;

        a.marker = marker;
        w = operate(&a, &r, err);
        if (w == 0)
            w = s->kind->listed(s, &r, fn, ctx, &next, err);
        if (w == 0 && next && marker && strcmp(next, marker) == 0)
            w = ty_object_say(s, a.doing, NULL, -EPROTO, err,
                              "it answers with the same page of the list again and again");
        free(marker);
        marker = next;
    } while (w == 0 && marker);
    return w;
}

int ty_object_head(struct ty_object_store *s, struct ty_http *h, const char *path, ty_object_fn fn,
                   void *ctx, struct ty_error *err)
{
    struct ask a = {
        .s = s, .h = h, .what = HEAD, .doing = "look at", .path = path, .tries = TY_OBJECT_TRIES
    };
    CLEANUP_HTTP_REQ struct ty_http_req r = { 0 };
    struct ty_object o;
    int w = of_path(&a, &r, err);

    if (w == 0)
        w = s->kind->about(s, &r, &o);
    if (w < 0)
        return w;
    o.path = path;
    return fn ? fn(&o, ctx) : 0;
}

int ty_object_remove(struct ty_object_store *s, struct ty_http *h, const char *path,
                     struct ty_error *err)
{
    struct ask a = {
        .s = s, .h = h, .what = REMOVE, .doing = "remove", .path = path, .tries = TY_OBJECT_TRIES
    };
    CLEANUP_HTTP_REQ struct ty_http_req r = { 0 };
    int w = of_path(&a, &r, err);

    return w == -ENOENT ? 0 : w;
}

/* Somebody waits for this, who may just have mistyped the address: two tries. */
int ty_object_validate(struct ty_object_store *s, struct ty_http *h, struct ty_error *err)
{
    struct ask a = { .s = s, .h = h, .what = PROBE, .doing = "look into", .tries = 2 };
    CLEANUP_HTTP_REQ struct ty_http_req r = { 0 };

    return operate(&a, &r, err);
}

int ty_object_make_container(struct ty_object_store *s, struct ty_http *h, struct ty_error *err)
{
    struct ask a = { .s = s, .h = h, .what = MAKE, .doing = "make", .tries = 3 };
    CLEANUP_HTTP_REQ struct ty_http_req r = { 0 };
    int w = operate(&a, &r, err);

    return w == -EEXIST ? 0 : w;
}
