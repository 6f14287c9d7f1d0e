/* helpers.c - programs that have to be there before a rank starts
 *
 * Each is a `trainyard-agent WORD ...` of its own (child.h) that starts while the job is prepared, says one JSON object a
 * line, and stays until the job is over:
 *   {"kind": "failed", "text": why}    the job cannot start
 *   {"kind": "note", "text": words}    for the control log
 * and what its row in the table understands.  The PMIx helper of MPI jobs has a protocol of its own (mpi.c).  One that ends while the ranks run is missed by those that come late only.
 */
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "runner/runner_internal.h"
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

struct kind {
    const char *what; /* for people */
    bool (*wanted)(const struct ty_runner *r);
    int (*start)(struct ty_runner *r, struct ty_child *c, struct ty_error *err);
    void (*line)(struct ty_runner *r,
                 const json_t *line); /* one that is neither "failed" nor "note" */
    bool (*ready)(const struct ty_runner *r);
};

/* --- the rendezvous of the collectives: {"kind": "port", "port": n} --- */

static bool rendezvous_wanted(const struct ty_runner *r)
{
    return r->job->leads && r->job->size > 1;
}

static int make_secret(char secret[65])
{
    unsigned char bytes[32];

    if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
        return -EIO;
    for (size_t i = 0; i < sizeof bytes; i++)
        snprintf(secret + 2 * i, 3, "%02x", bytes[i]);
    return 0;
}

/* In memory: a command line is for everybody to read. */
static int secret_fd(const char *secret)
{
    CLEANUP_CLOSE int fd = memfd_create("trainyard-secret", MFD_CLOEXEC);
    int r = fd < 0 ? -errno : ty_pwrite_all(fd, secret, strlen(secret), 0);

    return r < 0 ? r : TAKE_FD(fd);
}

static int rendezvous_start(struct ty_runner *r, struct ty_child *c, struct ty_error *err)
{
    int got = make_secret(r->meeting.secret);
    CLEANUP_CLOSE int fd = got < 0 ? got : secret_fd(r->meeting.secret);
    char size[16], secret[16];
    /* Ranks of other machines come over the network; where there are none, nobody from there is let in. */
    const char *host = r->job->own_nodes < r->job->nnodes ? NULL : "127.0.0.1";
    const char *args[] = { size, secret, host, NULL };
    struct ty_child_program p = { .word = "rendezvous",
                                  .args = args,
                                  .keep = fd,
                                  .job_dir = r->job->dir,
                                  .err = STDERR_FILENO,
                                  .owner = r->job->owner };

    if (fd < 0)
        return ty_error_set(err, fd, "cannot make the secret of the processes: %s", strerror(-fd));
    snprintf(size, sizeof size, "%d", r->job->size);
    snprintf(secret, sizeof secret, "%d", fd);
    return ty_child_exec(c, &p, err);
}

static void rendezvous_line(struct ty_runner *r, const json_t *line)
{
    json_int_t port = json_integer_value(json_object_get(line, "port"));

    if (port > 0 && port <= 65535)
        r->meeting.rendezvous = (int)port;
}

static bool rendezvous_ready(const struct ty_runner *r)
{
    return r->meeting.rendezvous > 0;
}

static const struct kind kinds[TY_HELPER_COUNT] = {
    [TY_HELPER_RENDEZVOUS] = { "the rendezvous of the processes", rendezvous_wanted,
                               rendezvous_start, rendezvous_line, rendezvous_ready },
};

/* --- all of them --- */

int ty_helpers_start(struct ty_runner *r, struct ty_error *err)
{
    for (int h = 0; h < TY_HELPER_COUNT; h++)
        if (kinds[h].wanted(r)) {
            int got = kinds[h].start(r, &r->helper[h], err);

            if (got < 0)
                return got;
        }
    ty_mpi_start(r);
    return 0;
}

bool ty_helpers_ready(const struct ty_runner *r)
{
    for (int h = 0; h < TY_HELPER_COUNT; h++)
        if (kinds[h].wanted(r) && !kinds[h].ready(r))
            return false;
    return ty_mpi_ready(r);
}

struct hearing {
    struct ty_runner *r;
    enum ty_helper h;
};

static void hear_line(json_t *line, void *ctx)
{
    struct hearing *x = ctx;
    const char *kind = json_string_value(json_object_get(line, "kind"));
    const char *text = json_string_value(json_object_get(line, "text"));

    if (!kind)
        return;
    if (strcmp(kind, "note") == 0)
        ty_runner_note(x->r, "%s", text ? text : "");
    else if (strcmp(kind, "failed") != 0)
        kinds[x->h].line(x->r, line);
    else if (!x->r->failure && x->r->phase == TY_PHASE_preparing)
        x->r->failure = ty_strf("%s: %s", kinds[x->h].what, text ? text : "it failed");
}

/* Perhaps nobody needs it any more; those who do will fail, and their log alone does not say why. */
static void missed(struct ty_runner *r, const char *what)
{
    CLEANUP_FREE char *text = ty_strf(
        "%s has ended before its time; processes that have not found each other yet cannot any more",
        what);

    if (text)
        ty_runner_warning(r, text);
}

void ty_helpers_hear(struct ty_runner *r, enum ty_helper h)
{
    struct hearing x = { .r = r, .h = h };
    bool failed;

    if (ty_child_read(&r->helper[h], hear_line, &x, &failed) < 0) {
        if (r->phase == TY_PHASE_running && r->ending == TY_ENDING_SCRIPT && r->culprit < 0)
            missed(r, kinds[h].what);
        if (r->phase == TY_PHASE_preparing && !kinds[h].ready(r) && !r->failure)
            r->failure = ty_strf("%s ended before it was ready", kinds[h].what);
    }
    ty_life_ready(r);
}

void ty_helpers_reaped(struct ty_runner *r, pid_t pid, int status)
{
    for (int h = 0; h < TY_HELPER_COUNT; h++)
        ty_child_reaped(&r->helper[h], pid, status);
    ty_mpi_reaped(r, pid, status);
}

void ty_helpers_stop(struct ty_runner *r)
{
    for (int h = 0; h < TY_HELPER_COUNT; h++)
        ty_child_kill(&r->helper[h]);
    ty_mpi_stop(r);
}
