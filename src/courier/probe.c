/* probe.c - what a machine has: this one, or one behind ssh */
#include "base/clock.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/owner.h"
#include "blob/blob.h"
#include "core/target_spec.h"
#include "courier/channel.h"
#include "courier/courier.h"
#include "courier/facts.h"
#include "courier/ssh.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PLAN_MAX (4 << 20)
#define PROBE_US (60 * 1000 * 1000)

static void print(const json_t *o)
{
    CLEANUP_FREE char *text = ty_json_text(o);

    if (text && printf("%s\n", text) < 0)
        return;
    fflush(stdout);
}

static int why(struct ty_ssh *s, const struct ty_host *h, struct ty_error *err)
{
    char text[700];

    ty_ssh_why(s, text, sizeof text);
    return ty_error_set(err, -EHOSTUNREACH, "host '%s': %.600s", h->host, text);
}

static void wait_for(struct ty_ssh *s, int64_t end)
{
    struct pollfd p[3];
    int n = ty_flow_poll(&s->flow, p, true);
    int64_t left = end - ty_mono_us();

    if (!s->err.ended)
        p[n++] = (struct pollfd){ .fd = s->err.in, .events = POLLIN };
    poll(p, (nfds_t)n, left > 0 ? (int)(left / 1000) + 1 : 0);
    ty_ssh_listen(s);
}

/* One frame of the far end.  1: these are the facts. */
static int hear(const struct ty_channel_frame *f, const struct ty_host *h, json_t **ret,
                struct ty_error *err)
{
    CLEANUP_JSON json_t *o = NULL;
    const char *text;

    if (f->type == TY_CHANNEL_FACTS)
        return ty_channel_json(f, ret) < 0 ? -EPROTO : 1;
    if (f->type != TY_CHANNEL_FAILED || ty_channel_json(f, &o) < 0)
        return 0;
    text = json_string_value(json_object_get(o, "message"));
    return ty_error_set(err, -EIO, "host '%s': %.300s", h->host, text ? text : "it cannot");
}

static int talk(struct ty_ssh *s, const struct ty_host *h, json_t **ret, struct ty_error *err)
{
    int64_t end = ty_mono_us() + PROBE_US;
    struct ty_channel_frame f;
    bool greeted = false;
    int r;

    while (ty_mono_us() < end) {
        wait_for(s, end);
        if (!greeted) {
            r = ty_ssh_greet(s, err);
            if (r < 0)
                return err->code ? ty_error_prefix(err, "host '%s'", h->host) : why(s, h, err);
            greeted = r > 0;
            if (greeted)
                ty_channel_send(&s->flow, TY_CHANNEL_PROBE, NULL, 0);
        }
        if (!greeted)
            continue;
        r = ty_flow_read(&s->flow, TY_CHANNEL_PAYLOAD_MAX);
        int got = 0;
        while (got == 0 && ty_channel_next(&s->flow, &f) == 0)
            got = hear(&f, h, ret, err);
        if (got != 0)
            return got > 0 ? 0 : err->code ? got : why(s, h, err);
        if (r < 0 || ty_flow_write(&s->flow) < 0)
            return why(s, h, err);
    }
    return ty_error_set(err, -ETIMEDOUT, "host '%s': it did not answer within a minute", h->host);
}

static int ask(const json_t *plan, json_t **ret, struct ty_error *err)
{
    const char *name = json_string_value(json_object_get(plan, "host")),
               *run_as = json_string_value(json_object_get(plan, "run_as"));
    CLEANUP_CLOSE int self = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    struct ty_target_spec *target = NULL;
    struct ty_owner *owner = NULL;
    struct ty_ssh s = TY_SSH_INIT;
    char sha[TY_SHA256_HEX + 1];
    uint64_t bytes;
    int r = ty_target_spec_parse(json_object_get(plan, "target"), &target, err), i = 0;

    if (r == 0 && run_as)
        r = ty_owner_find(run_as, &owner, err);
    if (r == 0 && (self < 0 || ty_sha256_file(self, sha, &bytes) < 0))
        r = ty_error_set(err, -EIO, "cannot read our own program");
    while (r == 0 && i < target->nhosts && (!name || strcmp(target->hosts[i].host, name) != 0))
        i++;
    if (r == 0 && i == target->nhosts)
        r = ty_error_set(err, -ENOENT, "the target has no host '%.100s'", name ? name : "?");
    if (r == 0)
        r = ty_ssh_start(&s, target, &target->hosts[i], sha, owner, err);
    if (r == 0)
        r = talk(&s, &target->hosts[i], ret, err);
    ty_ssh_end(&s);
    ty_owner_free(owner);
    ty_target_spec_free(target);
    return r;
}

static int read_plan(const char *fd, json_t **ret, struct ty_error *err)
{
    CLEANUP_FREE char *path = ty_strf("/proc/self/fd/%s", fd);
    CLEANUP_FREE char *text = NULL;
    size_t n;
    int r = path ? ty_read_file(path, PLAN_MAX, &text, &n) : -ENOMEM;

    if (r < 0)
        return ty_error_set(err, r, "cannot read what is to be probed: %s", strerror(-r));
    return ty_json_parse(text, n, ret, err);
}

int ty_probe_main(const char *fd)
{
    CLEANUP_JSON json_t *plan = NULL, *facts = NULL;
    struct ty_error err = { 0 };
    int r = 0;

    signal(SIGPIPE, SIG_IGN);
    if (fd) {
        r = read_plan(fd, &plan, &err);
        if (r == 0)
            r = ask(plan, &facts, &err);
    } else {
        facts = ty_facts();
    }
    if (r < 0)
        facts = json_pack("{s:s}", "error", err.text);
    if (facts)
        print(facts);
    return r < 0 || !facts ? 1 : 0;
}
