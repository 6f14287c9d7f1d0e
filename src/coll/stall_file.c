/* stall_file.c - what waits for too long, in a file that somebody else watches
 *
 * Times are those of the monotonic clock, so that the text is the same for as long as the same ranks are late with the same:
 * whoever watches is woken when something has changed, and not each time that this rank looks.
 */
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/str.h"
#include "coll/stall.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SHOWN 8        /* most operations in it */
#define RANKS_SHOWN 64 /* most ranks of an operation */

struct list {
    struct ty_str text;
    int64_t older_us;
    int n;
};

static void add(struct ty_coll *c, const struct ty_req *r, int64_t waits_us, void *ctx)
{
    struct list *l = ctx;
    struct ty_str *s = &l->text;
    int *ranks = c->stall->ranks, n;

    if (waits_us < l->older_us)
        return;
    n = ty_stall_missing(c, r, ranks);
    if (!ty_stall_mine(c, r->ch, ranks, n) || l->n++ >= SHOWN)
        return;
    ty_str_addf(s, "%s{\"name\": ", l->n > 1 ? ",\n " : "");
    if (r->name)
        ty_str_add_json(s, r->name, strlen(r->name));
    else
        ty_str_add(s, "null");
    ty_str_addf(s,
                ", \"kind\": \"%s\", \"set\": %d, \"since_us\": %" PRId64
                ", \"moving\": %s, \"late\": [",
                ty_coll_kind_name(r->kind), r->ch->id, c->stall->looked_us - waits_us,
                r->state == TY_REQ_RUNNING ? "true" : "false");
    for (int i = 0; i < n && i < RANKS_SHOWN; i++)
        ty_str_addf(s, "%s%d", i ? ", " : "", ranks[i]);
    ty_str_addf(s, "], \"nlate\": %d}", n);
}

static int put(const char *path, const char *text)
{
    CLEANUP_FREE char *fresh = ty_strf("%s.new", path);
    CLEANUP_CLOSE int fd = -1;
    int r;

    if (!fresh)
        return -ENOMEM;
    fd = FAULT("stall.file", -1,
               open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (fd < 0)
        return -errno;
    r = ty_write_all(fd, text, strlen(text));
    return r < 0 ? r : rename(fresh, path) < 0 ? -errno : 0;
}

/* Takes text; NULL: nothing waits.  What cannot be written is written when this rank looks again. */
static void tell(struct ty_coll *c, char *text)
{
    struct ty_stall *s = c->stall;
    bool same = text && s->told && strcmp(text, s->told) == 0;

    if (same || (!text && !s->told)) {
        free(text);
        return;
    }
    pthread_mutex_unlock(&c->lock);
    if (!text)
        unlink(s->file);
    else if (put(s->file, text) < 0)
        text[0] = '\0'; /* differs from all that may be told */
    pthread_mutex_lock(&c->lock);
    free(s->told);
    s->told = text;
}

void ty_stall_file(struct ty_coll *c, int64_t older_us)
{
    struct list l = { .older_us = older_us };

    if (!c->stall->file)
        return;
    ty_str_add(&l.text, "[");
    ty_stall_each(c, add, &l);
    ty_str_add(&l.text, "]\n");
    if (l.n == 0)
        ty_str_done(&l.text);
    tell(c, l.n > 0 ? ty_str_take(&l.text) : NULL);
}

void ty_stall_file_over(struct ty_coll *c)
{
    if (c->stall->file)
        tell(c, NULL);
}
