/* slurm_client.c - couriers that ask for a channel to a node of their run
 *
 * A client asks once: {"run", "job_dir", "node", "argv", "target", "spec"}.  It is told why it has to wait, whenever that changes;
 * then that it is connected, and from there on its socket carries the bytes of the channel; or how its allocation ended.
 */
#include "base/error.h"
#include "base/log.h"
#include "target/slurm_keeper_internal.h"
#include <errno.h>
#include <sodium.h>
#include <string.h>

void client_new(struct keeper *k, int fd)
{
    struct client *c = calloc(1, sizeof *c);

    if (!c) {
        close(fd);
        return;
    }
    c->fd = fd;
    c->next = k->clients;
    k->clients = c;
}

void client_free(struct client *c)
{
    if (c->piped)
        ty_pump_close(&c->pump);
    else if (c->fd >= 0)
        close(c->fd);
    ty_lines_done(&c->lines);
    json_decref(c->argv);
    json_decref(c->target);
    json_decref(c->spec);
    free(c->run);
    free(c->job_dir);
    free(c->why);
    free(c->token);
    free(c);
}

bool clients_of(const struct keeper *k, const char *run)
{
    for (const struct client *c = k->clients; c; c = c->next)
        if (!c->gone && c->run && strcmp(c->run, run) == 0)
            return true;
    return false;
}

static void end_client(struct client *c, const char *reason, const char *message, const char *node)
{
    if (!c->ended)
        ty_lines_add(&c->lines, json_pack("{s:s s:s s:s? s:s}", "state", "ended", "reason", reason,
                                          "node", node, "message", message ? message : reason));
    c->ended = true;
}

static void set_target(struct keeper *k, struct client *c)
{
    struct ty_target_spec *spec = NULL;
    struct ty_error err = { 0 };

    if (ty_target_spec_parse(c->target, &spec, &err) < 0) {
        end_client(c, "prepare", err.text, NULL);
        return;
    }
    ty_target_spec_free(k->target);
    k->target = spec;
}

static void take_target(struct keeper *k, struct client *c)
{
    struct ty_error err = { 0 };

    set_target(k, c);
    if (!c->ended && !alloc_for(k, c, &err) && !c->later_us)
        end_client(c, "prepare", err.text, NULL);
}

/* The daemon says what the target is now. */
static void keep(struct keeper *k, struct client *c, json_t *target)
{
    c->target = json_incref(target);
    set_target(k, c);
    if (!c->ended)
        reserve_changed(k);
    k->changed = true;
    ty_lines_add(&c->lines, json_pack("{s:s}", "state", "kept"));
    c->ended = true;
}

static void ask(struct keeper *k, struct client *c, json_t *o)
{
    const char *run = json_string_value(json_object_get(o, "run"));
    const char *dir = json_string_value(json_object_get(o, "job_dir"));

    c->asked = true;
    if (!run || !dir) {
        c->gone = true;
        return;
    }
    /* Each attempt has an allocation of its own, unless the one before has left it. */
    c->run = ty_strf("%s.%lld", run, (long long)json_integer_value(json_object_get(o, "attempt")));
    c->job_dir = strdup(dir);
    c->node = (int)json_integer_value(json_object_get(o, "node"));
    c->argv = json_incref(json_object_get(o, "argv"));
    c->target = json_incref(json_object_get(o, "target"));
    c->spec = json_incref(json_object_get(o, "spec"));
    if (!c->run || !c->job_dir)
        c->gone = true;
    else
        take_target(k, c);
}

static void hear(struct keeper *k, struct client *c)
{
    json_t *o = NULL;

    while (!c->gone && ty_lines_next(&c->lines, &o) == 0) {
        struct alloc *a;

        if (!c->asked && json_is_object(json_object_get(o, "keep")))
            keep(k, c, json_object_get(o, "keep"));
        else if (!c->asked)
            ask(k, c, o);
        else if (json_is_true(json_object_get(o, "cancel")) && (a = alloc_of_run(k, c->run)))
            alloc_cancel(a);
        else if (json_is_true(json_object_get(o, "cancel")) && c->later_us)
            end_client(c, "cancel", "it was canceled before Slurm was asked", NULL);
        json_decref(o);
    }
}

/* The nodes, as their holders have introduced themselves. */
static json_t *nodes_json(const struct alloc *a)
{
    json_t *list = json_array();

    for (int i = 0; i < a->nodes; i++) {
        const json_t *about = a->members[i].about;

        json_array_append_new(list, json_pack("{s:s s:O? s:O? s:O?}", "name", a->members[i].node,
                                              "cpus", json_object_get(about, "cpus"), "cpu_set",
                                              json_object_get(about, "cpu_set"), "gpus",
                                              json_object_get(about, "gpus")));
    }
    return list;
}

/* Tell the holder of its node to open a channel; the token says whose it is. */
static void open_channel(struct client *c, struct member *m)
{
    unsigned char random[16];
    char token[2 * sizeof random + 1];

    randombytes_buf(random, sizeof random);
    sodium_bin2hex(token, sizeof token, random, sizeof random);
    c->token = strdup(token);
    ty_lines_add(&m->lines, json_pack("{s:s s:O?}", "open", token, "argv", c->argv));
}

static void proceed(struct keeper *k, struct client *c)
{
    struct alloc *a;
    struct member *m;
    CLEANUP_FREE char *why = NULL;

    if (!c->ended && c->later_us && k->now_us >= c->later_us)
        take_target(k, c);
    if (c->ended || c->later_us)
        return;
    a = alloc_of_run(k, c->run);
    m = a ? alloc_member(a, c->node) : NULL;
    if (!a || a->over) {
        end_client(c, a ? a->end_reason : "lost",
                   a ? a->end_message : "its allocation is not known any more",
                   a ? a->end_node : NULL);
        return;
    }
    if (!m) {
        end_client(c, "prepare", "the run has fewer nodes than channels are asked for", NULL);
        return;
    }
    if (alloc_whole(a) && a->state != TY_SLURM_ENDING) {
        if (!c->token)
            open_channel(c, m);
        return;
    }
    free(c->token); /* the holder may have gone, and then the order with it */
    c->token = NULL;
    why = alloc_why(k, a);
    if (why && (!c->why || strcmp(why, c->why) != 0)) {
        ty_lines_add(&c->lines, json_pack("{s:s s:s}", "state", "waiting", "why", why));
        free(c->why);
        c->why = TAKE(why);
    }
}

bool client_opened(struct keeper *k, struct stranger *s, const char *token)
{
    struct client *c = k->clients;
    struct alloc *a;
    size_t n;
    const char *rest;

    while (c && (!c->token || c->piped || c->gone || strcmp(c->token, token) != 0))
        c = c->next;
    a = c ? alloc_of_run(k, c->run) : NULL;
    if (!a)
        return false;
    ty_lines_add(&c->lines, json_pack("{s:s s:I s:o}", "state", "connected", "job",
                                      (json_int_t)a->job, "nodes", nodes_json(a)));
    /* The few bytes fit into the socket's buffer, whose other side reads. */
    if (ty_lines_send(&c->lines, c->fd, NULL) < 0 || ty_lines_waiting(&c->lines)) {
        c->gone = true;
        return false;
    }
    rest = ty_lines_rest(&s->lines, &n);
    c->piped = ty_pump_open(&c->pump, TAKE(s->link), c->fd, rest, n) == 0;
    c->gone |= !c->piped;
    c->fd = -1;
    return true;
}

void client_turn(struct keeper *k, struct client *c)
{
    const struct alloc *a = c->piped ? alloc_of_run(k, c->run) : NULL;
    int r;

    if (c->piped) {
        c->gone |= ty_pump_turn(&c->pump, k->now_us) != 0;
        /* What a dead node had sent has come by now. */
        c->gone |= !a || (a->over && k->now_us >= a->drop_us);
        return;
    }
    r = ty_lines_read(&c->lines, c->fd, NULL);
    hear(k, c);
    if (r == 0 && c->asked && !c->gone)
        proceed(k, c);
    if (r == 0)
        r = ty_lines_send(&c->lines, c->fd, NULL);
    c->gone |= r < 0 || (c->ended && !ty_lines_waiting(&c->lines));
}
