/* ask.c - asking machines what they have: when a target is made, and when one has failed
 *
 * A target that is to be asked is stored only when all of its hosts have answered, with what they have said.  A node that
 * has failed a run is asked every ten seconds until it answers; until then nothing is placed on it.
 */
#include "sched/ask.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "sched/sched_internal.h"
#include <errno.h>
#include <string.h>

#define AT_ONCE_MAX 32
#define FIRST_MS 2000
#define AGAIN_MS 10000
#define TOLD_MAX 5 /* hosts that an error names */

struct question {
    struct asking *asking;
    int host; /* -1: the target as a whole */
    struct ty_probe *probe;
    bool begun, over;
};

struct asking {
    struct ty_sched *sched;
    char *name;
    json_t *spec;
    struct ty_target_spec *checked;
    const struct ty_target_kind *kind;
    struct question *questions;
    json_t *facts; /* setting -> what was answered */
    struct ty_str failures;
    int n, going, failed;
    bool starting;
    ty_sched_done done;
    void *ctx;
    struct asking *next;
};

static void asking_free(struct asking *a)
{
    struct asking **at = &a->sched->askings;

    while (*at && *at != a)
        at = &(*at)->next;
    if (*at)
        *at = a->next;
    for (int i = 0; i < a->n; i++)
        if (a->questions[i].probe)
            a->questions[i].probe = a->kind->probe_free(a->questions[i].probe);
    ty_target_spec_free(a->checked);
    json_decref(a->spec);
    json_decref(a->facts);
    ty_str_done(&a->failures);
    free(a->questions);
    free(a->name);
    free(a);
}

void ask_close(struct ty_sched *s)
{
    while (s->askings)
        asking_free(s->askings);
    for (struct node *n = s->nodes; n; n = n->hh.next)
        if (n->probe) {
            n->probe_kind->probe_free(n->probe);
            n->probe = NULL;
        }
}

static char *setting_for(const struct asking *a, int host)
{
    CLEANUP_FREE char *key = host < 0 ? NULL : ty_host_key(&a->checked->hosts[host]);

    return host < 0 ? ty_strf(TARGET_SETTING "%s", a->name)
           : key    ? ty_strf(NODE_SETTING "%s", key)
                    : NULL;
}

static void finish(struct asking *a)
{
    struct ty_error err = { 0 };
    int r = 0;

    if (a->failed > 0)
        r = ty_error_set(&err, -EINVAL, "compute target '%s' cannot be used: %s%s", a->name,
                         a->failures.text ? a->failures.text : "",
                         a->failed > TOLD_MAX ? "; and others" : "");
    if (r == 0)
        r = target_store(a->sched, a->name, a->spec, a->facts, a->done, a->ctx, &err);
    if (r < 0)
        a->done(a->ctx, r, a->name, &err);
    asking_free(a);
}

static void ask_more(struct asking *a);

static void note_failure(struct asking *a, int host, const char *text)
{
    (void)host;
    if (a->failed++ < TOLD_MAX)
        ty_str_addf(&a->failures, "%s%s", a->failures.len ? "; " : "", text);
}

static void on_answer(void *ctx, int r, json_t *facts, const struct ty_error *err)
{
    struct question *q = ctx;
    struct asking *a = q->asking;
    CLEANUP_FREE char *setting = setting_for(a, q->host);

    q->over = true;
    a->going--;
    if (q->probe)
        q->probe = a->kind->probe_free(q->probe);
    if (r < 0)
        note_failure(a, q->host, err->text);
    else if (!setting || json_object_set(a->facts, setting, facts) < 0)
        note_failure(a, q->host, "out of memory");
    ask_more(a);
}

static void ask_one(struct asking *a, struct question *q)
{
    struct ty_error err = { 0 };
    const struct ty_probe_start how = {
        .loop = a->sched->o.loop,
        .agent = a->sched->o.agent,
        .home = a->sched->o.home,
        .target = a->checked,
        .host = q->host < 0 ? NULL : &a->checked->hosts[q->host],
        .done = on_answer,
        .ctx = q,
    };

    q->begun = true;
    a->going++;
    if (a->kind->probe(&how, &q->probe, &err) < 0) {
        q->over = true;
        a->going--;
        note_failure(a, q->host, err.text);
    }
}

/* As many at a time as do not drown this box; and the end, when all have answered. */
static void ask_more(struct asking *a)
{
    bool left = false;

    if (a->starting)
        return; /* called by ask_one, below */
    a->starting = true;
    for (int i = 0; i < a->n; i++) {
        if (a->going < AT_ONCE_MAX && !a->questions[i].begun)
            ask_one(a, &a->questions[i]);
        left |= !a->questions[i].over;
    }
    a->starting = false;
    if (!left)
        finish(a);
}

/* Answers come from the loop: a target whose every question fails at once is told of from there, too. */
int ask_target(struct ty_sched *s, const char *name, const json_t *spec,
               struct ty_target_spec *checked, ty_sched_done done, void *ctx, struct ty_error *err)
{
    struct asking *a = calloc(1, sizeof *a);
    int n = checked->nhosts ? checked->nhosts : 1;

    if (!a || !(a->questions = calloc((size_t)n, sizeof *a->questions)) ||
        !(a->name = strdup(name)) || !(a->facts = json_object())) {
        if (a) {
            json_decref(a->facts);
            free(a->name);
            free(a->questions);
        }
        free(a);
        ty_target_spec_free(checked);
        return ty_error_oom(err);
    }
    a->sched = s;
    a->spec = json_incref((json_t *)spec);
    a->checked = checked;
    a->kind = ty_target_kind(checked->kind);
    a->n = n;
    a->done = done;
    a->ctx = ctx;
    a->next = s->askings;
    s->askings = a;
    for (int i = 0; i < n; i++)
        a->questions[i] = (struct question){ .asking = a, .host = checked->nhosts ? i : -1 };
    ask_more(a);
    return 0;
}

/* ---- nodes that failed ---- */

/* A target that names it, and as which of its hosts. */
static const struct target *target_with(const struct node *n, int *host)
{
    for (const struct target *t = n->sched->targets; t; t = t->hh.next)
        for (int i = 0; i < t->nnodes; i++)
            if (t->nodes[i] == n) {
                *host = i;
                return t;
            }
    return NULL;
}

static void node_heals(struct node *n)
{
    ty_log(TY_LOG_INFO, "node %s can be used again", n->name);
    free(n->trouble);
    n->trouble = NULL;
    queue_changed(n->sched);
    place(n->sched);
}

static void on_again(void *ctx, int r, json_t *facts, const struct ty_error *err)
{
    struct node *n = ctx;
    int host;
    const struct target *t = target_with(n, &host);

    (void)err;
    n->probe = n->probe_kind->probe_free(n->probe);
    ty_target_spec_free(n->probe_spec);
    n->probe_spec = NULL;
    if (r < 0)
        return;
    if (t)
        node_learn(n, facts, &t->spec->hosts[host]);
    node_heals(n);
}

/* The probe keeps to a copy of the spec: the target may change under it. */
static void ask_again(struct node *n)
{
    struct ty_error none = { 0 };
    int host = 0;
    const struct target *t = target_with(n, &host);
    struct ty_probe_start how = { .loop = n->sched->o.loop,
                                  .agent = n->sched->o.agent,
                                  .home = n->sched->o.home,
                                  .done = on_again,
                                  .ctx = n };

    if (!t || n->probe)
        return;
    if (!t->kind || !t->kind->probe) { /* it cannot be asked: a run will find out */
        node_heals(n);
        return;
    }
    if (ty_target_spec_parse(t->spec->json, &n->probe_spec, &none) < 0)
        return;
    n->probe_kind = t->kind;
    how.target = n->probe_spec;
    how.host = &n->probe_spec->hosts[host];
    how.user = n->asker;
    if (t->kind->probe(&how, &n->probe, &none) < 0)
        n->probe_spec = ty_target_spec_free(n->probe_spec);
}

static void on_time(uv_timer_t *t)
{
    struct ty_sched *s = t->data;
    bool more = false;

    for (struct node *n = s->nodes, *next; n; n = next) {
        next = n->hh.next;
        if (n->trouble)
            ask_again(n);
        more |= n->trouble != NULL;
    }
    if (!more)
        uv_timer_stop(t);
}

/* Who serves the whole machine has no keys of its own to the hosts of its users: one of them asks. */
void node_fails(struct node *n, const char *why, const char *user)
{
    char *text;

    if (n == n->sched->box || !(text = strdup(why)))
        return;
    ty_log(TY_LOG_WARN, "node %s cannot be used: %s", n->name, why);
    free(n->trouble);
    n->trouble = text;
    free(n->asker);
    n->asker = n->sched->o.system ? strdup(user) : NULL;
    queue_changed(n->sched);
    if (!uv_is_active((uv_handle_t *)&n->sched->ask))
        uv_timer_start(&n->sched->ask, on_time, FIRST_MS, AGAIN_MS);
}

void node_stop_asking(struct node *n)
{
    if (n->probe)
        n->probe = n->probe_kind->probe_free(n->probe);
    n->probe_spec = ty_target_spec_free(n->probe_spec);
}
