#include "kit.h"
#include "base/error.h"
#include "base/fs.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define NOBODY INT_MAX /* no process has it: it can be ended and is not there */
#define MUCH (8 << 20)

static void must(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "kit: %s: %s\n", what, strerror(errno));
    abort();
}

static void listen_there(struct kit *k)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };

    snprintf(k->socket, sizeof k->socket, "%s/runner.sock", k->dir);
    snprintf(a.sun_path, sizeof a.sun_path, "%s", k->socket);
    k->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    must(k->listener >= 0 && bind(k->listener, (struct sockaddr *)&a, sizeof a) == 0 &&
             listen(k->listener, 8) == 0,
         "cannot listen");
}

static void read_specs(struct kit *k, int nhosts, const char *target)
{
    CLEANUP_JSON json_t *o = NULL;
    CLEANUP_JSON json_t *spec =
        json_pack("{s:i s:s s:[s] s:s s:i}", "version", 1, "experiment", "first", "command",
                  "/bin/true", "communicator", "Gloo", "node_count", nhosts);
    struct ty_error err = { 0 };

    if (ty_json_parse(target, strlen(target), &o, &err) < 0 ||
        ty_target_spec_parse(o, &k->c.target, &err) < 0 ||
        ty_run_spec_parse(spec, &k->c.spec, &err) < 0) {
        fprintf(stderr, "kit: %s\n", err.text);
        abort();
    }
}

void kit_begin(struct kit *k, const char *base, int nhosts, const char *target)
{
    CLEANUP_FREE char *blobs = NULL;
    struct ty_courier *c = &k->c;

    *k = (struct kit){ .daemon = TY_FLOW_INIT, .far = { TY_FLOW_INIT, TY_FLOW_INIT } };
    snprintf(k->dir, sizeof k->dir, "%s/ty-cour-XXXXXX", base);
    must(mkdtemp(k->dir) != NULL, "cannot make a folder");
    listen_there(k);
    *c = (struct ty_courier){ .lock = -1,
                              .signals = -1,
                              .run = "r_1",
                              .token = "t",
                              .socket = k->socket,
                              .attempt = 1,
                              .node_lost_us = 60 * (int64_t)KIT_SECOND,
                              .now_us = 1000 * (int64_t)KIT_SECOND,
                              .relay = { .daemon = TY_FLOW_INIT },
                              .voice = { .daemon = TY_FLOW_INIT } };
    c->dir = ty_path_join(k->dir, "job");
    blobs = ty_path_join(k->dir, "blobs");
    must(c->dir && blobs && ty_mkdir_p(c->dir, 0700) == 0 &&
             ty_blobs_open(blobs, &c->blobs, NULL) == 0,
         "cannot make the job folder");
    c->dir_fd = open(c->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    c->job = json_pack("{s:s s:s s:o}", "run", "r_1", "token", "t", "target", json_object());
    c->nodes = json_array();
    c->hosts = calloc((size_t)nhosts, sizeof *c->hosts);
    read_specs(k, nhosts, target);
    must(c->dir_fd >= 0 && c->hosts && c->target->nhosts >= nhosts, "cannot make the courier");
    memset(c->link_key, 'a', 64);
    for (int i = 0; i < nhosts; i++) {
        ty_host_init(&c->hosts[i], c, &c->target->hosts[i], i);
        c->hosts[i].heard_us = c->now_us;
        c->hosts[i].retry_us = TY_NEVER;
        c->nhosts++;
    }
}

void kit_end(struct kit *k)
{
    struct ty_courier *c = &k->c;

    ty_relay_close(c, false);
    ty_voice_stop(c);
    for (int i = 0; i < c->nhosts; i++) {
        ty_host_let_go(&c->hosts[i]);
        ty_host_done(&c->hosts[i]);
        ty_flow_close(&k->far[i]);
    }
    ty_relay_close(c, false); /* with no host, it forgets what was on its way */
    ty_flow_close(&k->daemon);
    free(c->hosts);
    ty_content_done(&c->content);
    ty_blobs_free(c->blobs);
    ty_run_spec_free(c->spec);
    ty_target_spec_free(c->target);
    json_decref(c->nodes);
    json_decref(c->link);
    json_decref(c->verdict);
    json_decref(c->job);
    free(c->dir);
    close(c->dir_fd);
    if (k->listener >= 0)
        close(k->listener);
    must(ty_rm_rf(k->dir) == 0, "cannot remove the folder");
}

void kit_connect(struct kit *k, int i)
{
    struct ty_courier_host *h = &k->c.hosts[i];
    int fds[2], null = open("/dev/null", O_RDONLY | O_CLOEXEC);

    must(null >= 0 && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0,
         "cannot make a channel");
    ty_flow_close(&k->far[i]);
    ty_flow_open(&k->far[i], fds[1], fds[1]);
    h->ssh = (struct ty_ssh)TY_SSH_INIT;
    h->ssh.pid = NOBODY;
    ty_flow_open(&h->ssh.flow, fds[0], fds[0]);
    ty_flow_open(&h->ssh.err, null, null);
    h->state = TY_HOST_HELLO;
    h->touched = true;
    h->heard_us = h->spoken_us = k->c.now_us;
}

bool kit_accept(struct kit *k)
{
    int fd, last = -1;

    while ((fd = accept4(k->listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
        if (last >= 0)
            close(last);
        last = fd;
    }
    if (last < 0)
        return false;
    ty_flow_close(&k->daemon);
    ty_flow_open(&k->daemon, last, last);
    return true;
}

void kit_turn(struct kit *k)
{
    struct ty_courier *c = &k->c;

    for (int i = 0; i < c->nhosts; i++)
        if (ty_flow_is_open(&k->far[i]))
            (void)ty_flow_write(&k->far[i]);
    if (ty_flow_is_open(&k->daemon))
        (void)ty_flow_write(&k->daemon);
    for (int i = 0; i < c->nhosts; i++)
        ty_host_turn(&c->hosts[i]);
    ty_relay_turn(c);
    ty_voice_turn(c);
    ty_way(c);
    for (int i = 0; i < c->nhosts; i++)
        if (ty_host_up(&c->hosts[i]))
            (void)ty_flow_write(&c->hosts[i].ssh.flow);
    if (k->listener >= 0)
        kit_accept(k);
    for (int i = 0; i < c->nhosts; i++)
        if (ty_flow_is_open(&k->far[i]))
            (void)ty_flow_read(&k->far[i], MUCH);
    if (ty_flow_is_open(&k->daemon))
        (void)ty_flow_read(&k->daemon, MUCH);
}

bool kit_has(const struct kit *k, const char *name)
{
    return faccessat(k->c.dir_fd, name, F_OK, 0) == 0;
}
