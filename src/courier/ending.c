/* ending.c - the end of a job that no runner can tell of */
#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "courier/courier_internal.h"
#include "runner/child.h"
#include <errno.h>
#include <string.h>

#define VERDICT_MAX (64 * 1024)

static char *path_of(const struct ty_courier *c)
{
    return ty_path_join(c->dir, "verdict");
}

void ty_courier_end(struct ty_courier *c, const char *reason, const char *node, const char *message)
{
    CLEANUP_FREE char *path = path_of(c);
    CLEANUP_FREE char *text = NULL;
    int r = -ENOMEM;

    if (c->verdict)
        return;
    c->verdict = json_pack("{s:s s:I s:s s:o s:s}", "kind", "exited", "at_us",
                           (json_int_t)ty_wall_us(), "reason", reason, "message",
                           ty_lossy_text(message, strlen(message)), "log_tail", "");
    if (c->verdict && node)
        json_object_set_new(c->verdict, "node", json_string(node));
    ty_log(TY_LOG_WARN, "the run ends: %s", message);
    /* Told twice it could differ: the hosts may answer the next courier. */
    if (c->verdict && path && (text = ty_json_text(c->verdict)))
        r = ty_write_file(path, text, strlen(text), 0600);
    if (r < 0)
        ty_log(TY_LOG_WARN, "cannot keep the verdict in the job folder: %s", strerror(-r));
    ty_relay_close(c, true);
    c->phase = TY_COURIER_TELLING;
    c->voice.wanted = true;
    c->voice.retry_us = 0;
    ty_flow_close(&c->voice.daemon); /* it says its word with a fresh WELCOME */
    c->voice.welcomed = false;
}

int ty_courier_end_load(struct ty_courier *c)
{
    CLEANUP_FREE char *path = path_of(c);
    CLEANUP_FREE char *text = NULL;
    CLEANUP_JSON json_t *o = NULL;
    size_t n;
    int r = path ? ty_read_file(path, VERDICT_MAX, &text, &n) : -ENOMEM;

    if (r == 0)
        r = ty_json_parse(text, n, &o, NULL);
    if (r < 0 || !json_is_object(o))
        return r < 0 ? r : -EBADMSG;
    c->verdict = TAKE(o);
    c->phase = TY_COURIER_TELLING;
    c->voice.wanted = true;
    return 0;
}
