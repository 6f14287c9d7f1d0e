/* hang.c - ranks that keep others waiting: who, with what, since when */
#include "runner/hang.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/owner.h"
#include "base/str.h"
#include "runner/runner_internal.h"
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#define FILE_MAX (256 << 10)
#define LOOK_US (5 * 1000 * 1000) /* where there is no inotify */
#define OVER_US (1000 * 1000)     /* nothing was heard for so long: those who waited go on */
#define TOLD_MAX 20               /* hangs that people are told of; the control log has all */
#define END_GRACE_US (1000 * 1000)
#define NAME_SHOWN 100 /* bytes of the name of an operation */

void ty_hang_init(struct ty_hang *h)
{
    *h = (struct ty_hang){ .inotify = -1, .look_us = TY_NEVER, .over_us = TY_NEVER };
}

void ty_hang_done(struct ty_hang *h)
{
    if (h->inotify >= 0)
        close(h->inotify);
    free(h->at);
    free(h->message);
    ty_hang_init(h);
}

/* ---- what files say ---- */

/* "stall.<rank>" of a rank that runs here? */
static bool is_ours(const struct ty_runner *r, const char *name)
{
    const struct ty_ranks *s = &r->ranks;
    int64_t rank, i;

    if (!ty_starts_with(name, "stall.") || ty_parse_i64(name + strlen("stall."), &rank) < 0)
        return false;
    i = s->n > 0 ? rank - s->at[0].plan.rank : -1;
    return i >= 0 && i < s->n && s->at[i].wrapper.pid && !s->at[i].ended;
}

static void take_late(const struct ty_runner *r, const json_t *late, json_int_t n,
                      struct ty_stalled *ret)
{
    const json_t *item;
    size_t i;
    int named = 0;

    json_array_foreach (late, i, item) {
        json_int_t rank = json_is_integer(item) ? json_integer_value(item) : -1;

        if (rank >= 0 && rank < r->job->size && named < TY_STALLED_LATE)
            ret->late[named++] = (int)rank;
    }
    ret->nlate = n > named && n <= r->job->size ? (int)n : named;
}

static void take_what(const json_t *o, struct ty_stalled *ret)
{
    const char *kind = json_string_value(json_object_get(o, "kind")),
               *name = json_string_value(json_object_get(o, "name"));
    size_t n = name ? strnlen(name, NAME_SHOWN) : 0;

    while (n == NAME_SHOWN && n > 0 && ((unsigned char)name[n] & 0xc0) == 0x80)
        n--; /* whole characters */
    if (name)
        snprintf(ret->what, sizeof ret->what, "%.30s '%.*s'", kind ? kind : "operation", (int)n,
                 name);
    else
        snprintf(ret->what, sizeof ret->what, "%.30s", kind ? kind : "an operation");
}

/* Into *ret what has waited for longer than what is there already (since_us 0: nothing). */
static void read_file(const struct ty_runner *r, const char *path, struct ty_stalled *ret)
{
    CLEANUP_FREE char *text = NULL;
    CLEANUP_JSON json_t *all = NULL;
    const json_t *o;
    size_t n, i;

    if (ty_read_foreign(path, FILE_MAX, &text, &n) < 0 || ty_json_parse(text, n, &all, NULL) < 0)
        return;
    json_array_foreach (all, i, o) {
        int64_t since_us = json_integer_value(json_object_get(o, "since_us"));

        if (since_us <= 0 || since_us > r->now_us || (ret->since_us && since_us >= ret->since_us))
            continue;
        ret->since_us = since_us;
        take_late(r, json_object_get(o, "late"), json_integer_value(json_object_get(o, "nlate")),
                  ret);
        take_what(o, ret);
    }
}

/* What waits for the longest on this node; since_us 0: nothing does.  The files lie in the owner's hands. */
static struct ty_stalled find(const struct ty_runner *r)
{
    struct ty_stalled found = { .node = r->job->node };
    CLEANUP_DIR DIR *d = NULL;

    ty_owner_enter(r->job->owner);
    d = opendir(r->job->spool);
    for (struct dirent *e; d && (e = readdir(d));) {
        CLEANUP_FREE char *path =
            is_ours(r, e->d_name) ? ty_path_join(r->job->spool, e->d_name) : NULL;

        if (path)
            read_file(r, path, &found);
    }
    ty_owner_leave(r->job->owner);
    return found;
}

/* ---- what all nodes say ---- */

static const struct ty_stalled *oldest(const struct ty_hang *h)
{
    const struct ty_stalled *s = NULL;

    for (int i = 0; i < h->n; i++)
        if (!s || h->at[i].since_us < s->since_us)
            s = &h->at[i];
    return s;
}

/* False: it has said the same before. */
static bool put(struct ty_hang *h, const struct ty_stalled *s)
{
    struct ty_stalled *more;
    int i = 0;

    while (i < h->n && h->at[i].node != s->node)
        i++;
    if (i < h->n && memcmp(&h->at[i], s, sizeof *s) == 0)
        return false;
    if (!s->since_us) {
        if (i == h->n)
            return false;
        h->at[i] = h->at[--h->n];
        return true;
    }
    if (i == h->n) {
        more = realloc(h->at, (size_t)(h->n + 1) * sizeof *more);
        if (!more)
            return false; /* this node is not heard then */
        h->at = more;
        h->n++;
    }
    h->at[i] = *s;
    return true;
}

/* ---- telling ---- */

/* "rank 1 (node h2)", "ranks 1, 2 and 5 more"; from a few to text. */
static void say_who(const struct ty_runner *r, const struct ty_stalled *s, struct ty_str *out)
{
    int named = s->nlate < TY_STALLED_LATE ? s->nlate : TY_STALLED_LATE;

    if (s->nlate == 0)
        ty_str_add(out, "a rank that is not known");
    else if (s->nlate == 1)
        ty_str_addf(out, "rank %d (node %s)", s->late[0],
                    ty_jobfile_node_of(r->job, s->late[0])->name);
    else
        ty_str_add(out, "ranks ");
    for (int i = 0; s->nlate > 1 && i < named; i++)
        ty_str_addf(out, "%s%d", i == 0 ? "" : i == s->nlate - 1 ? " and " : ", ", s->late[i]);
    if (s->nlate > named)
        ty_str_addf(out, " and %d more", s->nlate - named);
}

static int64_t seconds(const struct ty_runner *r, const struct ty_stalled *s)
{
    return (r->now_us - s->since_us + 500000) / 1000000;
}

/* A warning of which programs, too, can make something: `hang` is consumed. */
static void warn(struct ty_runner *r, const char *text, json_t *hang)
{
    CLEANUP_JSON json_t *mine = hang;

    ty_runner_note(r, "warning: %s", text);
    if (r->hang.count <= TOLD_MAX)
        ty_runner_record(r, json_pack("{s:s, s:o, s:O}", "kind", "warning", "text",
                                      ty_lossy_text(text, strlen(text)), "hang", mine));
}

static void tell(struct ty_runner *r, const struct ty_stalled *s)
{
    CLEANUP_STR struct ty_str who = { 0 };
    CLEANUP_FREE char *text = NULL;

    say_who(r, s, &who);
    text =
        who.failed
            ? NULL
            : ty_strf("%s keep%s the others waiting: %s since %" PRId64 " s%s", who.text,
                      s->nlate > 1 ? "" : "s", s->what, seconds(r, s),
                      ++r->hang.count == TOLD_MAX ? "; further ones are in the control log" : "");
    if (!text)
        return;
    r->hang.told = true;
    warn(r, text,
         json_pack("{s:s, s:o, s:I}", "who", who.text, "what",
                   ty_lossy_text(s->what, strlen(s->what)), "since_us",
                   (json_int_t)(ty_wall_us() - (r->now_us - s->since_us))));
}

static void tell_over(struct ty_runner *r)
{
    CLEANUP_STR struct ty_str who = { 0 };
    CLEANUP_FREE char *text = NULL;

    say_who(r, &r->hang.was, &who);
    text = who.failed ? NULL
                      : ty_strf("the processes go on: %s had kept the others waiting for %" PRId64
                                " s (%s)",
                                who.text, seconds(r, &r->hang.was), r->hang.was.what);
    r->hang.told = false;
    r->hang.over_us = TY_NEVER;
    if (text)
        warn(r, text, json_null());
}

static void tell_leader(struct ty_runner *r, const struct ty_stalled *s)
{
    json_t *late = json_array();

    for (int i = 0; i < s->nlate && i < TY_STALLED_LATE; i++)
        json_array_append_new(late, json_integer(s->late[i]));
    ty_runner_record(r, json_pack("{s:s, s:I, s:o, s:i, s:o}", "kind", "stalled", "waited_us",
                                  (json_int_t)(s->since_us ? r->now_us - s->since_us : 0), "late",
                                  late, "nlate", s->nlate, "what",
                                  ty_lossy_text(s->what, strlen(s->what))));
}

/* What follows from what is known now. */
static void changed(struct ty_runner *r)
{
    struct ty_hang *h = &r->hang;
    const struct ty_stalled *s = oldest(h);

    if (s) {
        h->was = *s;
        h->over_us = TY_NEVER;
        if (!h->told)
            tell(r, s);
    } else if (h->told) {
        h->over_us = r->now_us + OVER_US;
    }
}

static bool can_hang(const struct ty_runner *r)
{
    return r->phase == TY_PHASE_running && r->ending == TY_ENDING_SCRIPT && r->culprit < 0 &&
           r->mpi.aborted < 0;
}

static void look(struct ty_runner *r)
{
    struct ty_stalled s = find(r);

    if (!put(&r->hang, &s) || !can_hang(r))
        return;
    if (r->job->leads)
        changed(r);
    else
        tell_leader(r, &s);
}

void ty_hang_told(struct ty_runner *r, int node, const json_t *record)
{
    struct ty_stalled s = { .node = node };
    json_int_t waited_us = json_integer_value(json_object_get(record, "waited_us"));
    const char *what = json_string_value(json_object_get(record, "what"));

    s.since_us = waited_us > 0 && waited_us < r->now_us ? r->now_us - waited_us : 0;
    if (s.since_us) {
        take_late(r, json_object_get(record, "late"),
                  json_integer_value(json_object_get(record, "nlate")), &s);
        snprintf(s.what, sizeof s.what, "%.159s", what ? what : "an operation");
    }
    if (put(&r->hang, &s) && can_hang(r))
        changed(r);
}

/* ---- its end ---- */

/* The leader's table has each rank at its number. */
static void end_job(struct ty_runner *r, const struct ty_stalled *s)
{
    CLEANUP_STR struct ty_str who = { 0 };

    say_who(r, s, &who);
    r->hang.message = ty_strf(
        "%s kept the others waiting for %" PRId64 " s: %s (hang_timeout_seconds is %" PRId64 ")",
        who.text ? who.text : "", seconds(r, s), s->what, r->job->spec->hang_timeout_seconds);
    ty_life_end(r, TY_ENDING_HANG, END_GRACE_US);
    if (s->nlate > 0 && s->late[0] < r->ranks.n)
        r->culprit = s->late[0];
}

/* When it has lasted for too long; TY_NEVER: nothing does. */
static int64_t end_us(const struct ty_runner *r)
{
    int64_t timeout_s = r->job->spec->hang_timeout_seconds;
    const struct ty_stalled *s = oldest(&r->hang);

    return r->job->leads && timeout_s > 0 && s && can_hang(r) ? s->since_us + timeout_s * 1000000
                                                              : TY_NEVER;
}

/* ---- events ---- */

void ty_hang_open(struct ty_runner *r)
{
    struct ty_hang *h = &r->hang;

    if (r->job->size == 1)
        return;
    h->inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (h->inotify >= 0 &&
        inotify_add_watch(h->inotify, r->job->spool, IN_MOVED_TO | IN_DELETE) < 0) {
        close(h->inotify);
        h->inotify = -1;
    }
    if (h->inotify < 0)
        h->look_us = r->now_us + LOOK_US;
}

void ty_hang_hear(struct ty_runner *r)
{
    char buf[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
    bool ours = false;
    ssize_t n;

    while ((n = read(r->hang.inotify, buf, sizeof buf)) > 0)
        for (char *at = buf; at < buf + n;) {
            const struct inotify_event *e = (const struct inotify_event *)at;

            ours |= (e->mask & IN_Q_OVERFLOW) || (e->len > 0 && ty_starts_with(e->name, "stall."));
            at += sizeof *e + e->len;
        }
    if (ours)
        look(r);
}

int64_t ty_hang_due(const struct ty_runner *r)
{
    const struct ty_hang *h = &r->hang;
    int64_t due = end_us(r);

    if (r->phase != TY_PHASE_running)
        return TY_NEVER;
    if (h->over_us < due)
        due = h->over_us;
    return h->look_us < due ? h->look_us : due;
}

void ty_hang_timers(struct ty_runner *r)
{
    struct ty_hang *h = &r->hang;

    if (r->phase != TY_PHASE_running)
        return;
    if (r->now_us >= h->look_us) {
        h->look_us = r->now_us + LOOK_US;
        look(r);
    }
    if (r->now_us >= h->over_us)
        tell_over(r);
    if (r->now_us < end_us(r))
        return;
    look(r); /* a rank that has ended meanwhile complains of nothing */
    if (r->now_us >= end_us(r))
        end_job(r, oldest(h));
}
