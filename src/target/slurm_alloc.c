/* slurm_alloc.c - an allocation: asked for, waited for, used, kept, given back
 *
 * The holders' links come first: what is connected is up, whatever Slurm says.  Slurm's own word comes second, from one list
 * of all jobs.  When Slurm says that a job is over, it is; when it says nothing, nothing changes.
 */
#include "base/clock.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/log.h"
#include "core/launch_plan.h"
#include "target/slurm_keeper_internal.h"
#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <string.h>

#define ABSENT_MAX 2          /* lists without a job, after which it is gone */
#define CHECK_US (100 * 1000) /* between two looks whether a run that nobody speaks for is over */
#define LEAVES_US (5 * 1000 * 1000) /* how long an allocation is waited for whose run has ended */
#define CUT_US (3 * 1000 * 1000)    /* after its end, what has not ended by itself is cut */
#define MEMBER_SILENT_US (30LL * 1000 * 1000)
#define SENTENCE 400
#define LONG_SECONDS (30 * 24 * 3600) /* a limit that nobody has named */
#define LASTS_SECONDS 600 /* that an allocation has to have left for a run without a limit */

struct alloc *alloc_of_run(struct keeper *k, const char *run)
{
    for (struct alloc *a = k->allocs; a; a = a->next)
        if (a->run && strcmp(a->run, run) == 0)
            return a;
    return NULL;
}

struct alloc *alloc_new(struct keeper *k, int nodes)
{
    struct alloc *a = calloc(1, sizeof *a);
    unsigned char random[8];

    if (!a || nodes < 1 || !(a->members = calloc((size_t)nodes, sizeof *a->members))) {
        free(a);
        return NULL;
    }
    randombytes_buf(random, sizeof random);
    sodium_bin2hex(a->id, sizeof a->id, random, sizeof random);
    a->nodes = nodes;
    a->left_seconds = -1;
    a->command = (struct ty_slurm_command)TY_SLURM_COMMAND_INIT;
    a->retry_us = a->check_us = NEVER;
    a->next = k->allocs;
    k->allocs = a;
    k->changed = true;
    return a;
}

static void member_leave(struct member *m)
{
    m->link = ty_link_free(m->link);
    ty_lines_done(&m->lines);
}

void alloc_free(struct alloc *a)
{
    ty_slurm_command_kill(&a->command);
    for (int i = 0; i < a->nodes; i++) {
        member_leave(&a->members[i]);
        json_decref(a->members[i].about);
        free(a->members[i].node);
    }
    free(a->members);
    if (a->names)
        ty_strv_free(a->names);
    json_decref(a->spec);
    free(a->shape);
    free(a->run);
    free(a->job_dir);
    free(a->end_reason);
    free(a->end_message);
    free(a);
}

bool alloc_whole(const struct alloc *a)
{
    for (int i = 0; i < a->nodes; i++)
        if (!a->members[i].link)
            return false;
    return true;
}

struct member *alloc_member(const struct alloc *a, int node)
{
    return node >= 0 && node < a->nodes ? &a->members[node] : NULL;
}

static bool any_member(const struct alloc *a)
{
    for (int i = 0; i < a->nodes; i++)
        if (a->members[i].link)
            return true;
    return false;
}

static void serve_nobody(struct keeper *k, struct alloc *a)
{
    free(a->run);
    free(a->job_dir);
    a->run = a->job_dir = NULL;
    a->idle_us = k->now_us;
    a->check_us = NEVER;
    k->changed = true;
}

/* ---- which one ---- */

/* Those that serve nobody make room: the target may hold only so many nodes. */
static void make_room(struct keeper *k, int nodes)
{
    int total = nodes, max = k->target->max_nodes;

    for (const struct alloc *a = k->allocs; a; a = a->next)
        total += a->over || a->ending ? 0 : a->nodes;
    for (struct alloc *a = k->allocs; a && max > 0 && total > max; a = a->next)
        if (!a->run && !a->over && !a->ending) {
            a->idle_seconds = 0;
            a->idle_us = 0;
            total -= a->nodes;
        }
}

static bool drained(const struct keeper *k, const struct alloc *a)
{
    for (int i = 0; i < a->nodes; i++)
        if (a->members[i].node && ty_target_spec_drains(k->target, a->members[i].node))
            return true;
    return false;
}

/* It is of that shape, and will last as long as the run may take. */
static bool fits(const struct keeper *k, const struct alloc *a, const char *shape, int64_t seconds)
{
    return !a->over && !a->ending && !a->cancel && a->shape &&
           ty_slurm_shape_fits(a->shape, shape) && alloc_whole(a) &&
           (a->left_seconds < 0 || a->left_seconds >= seconds) && !drained(k, a);
}

static struct alloc *kept_one(struct keeper *k, const char *shape, int64_t seconds)
{
    for (struct alloc *a = k->allocs; a; a = a->next)
        if (!a->run && fits(k, a, shape, seconds))
            return a;
    return NULL;
}

static bool job_has(const struct alloc *a, const char *name)
{
    CLEANUP_FREE char *path = ty_path_join(a->job_dir, name);

    return !path || access(path, F_OK) == 0;
}

static bool run_is_over(const struct alloc *a)
{
    return !job_has(a, "job.json");
}

/* One whose run has ended, and only clears away what it has left: worth waiting a moment for. */
static bool one_is_left(const struct keeper *k, const char *shape, int64_t seconds)
{
    for (const struct alloc *a = k->allocs; a; a = a->next)
        if (a->run && fits(k, a, shape, seconds) && (run_is_over(a) || job_has(a, "released")))
            return true;
    return false;
}

/* Whether the client may wait for one that is being left; `later_us` says when to look again. */
static bool waits_a_moment(struct keeper *k, struct client *c)
{
    if (!c->asked_us)
        c->asked_us = k->now_us;
    if (k->now_us - c->asked_us >= LEAVES_US)
        return false;
    c->later_us = k->now_us + CHECK_US;
    return true;
}

/* What idle_seconds_before_scaledown says; where it says nothing, nothing is kept: clusters are shared, and time is counted. */
int64_t alloc_idle_seconds(const struct ty_target_spec *t)
{
    return json_is_integer(json_object_get(t->json, "idle_seconds_before_scaledown"))
               ? t->idle_seconds
               : 0;
}

static bool serve(struct alloc *a, const struct client *c)
{
    a->run = strdup(c->run);
    a->job_dir = strdup(c->job_dir);
    a->check_us = NEVER;
    return a->run && a->job_dir;
}

struct alloc *alloc_for(struct keeper *k, struct client *c, struct ty_error *err)
{
    struct ty_run_spec *spec = NULL;
    struct ty_slurm_shape shape;
    struct alloc *a = alloc_of_run(k, c->run);
    int64_t idle = alloc_idle_seconds(k->target), seconds;

    c->later_us = 0;
    if (a)
        return a;
    /* The job folder is a later attempt's now. */
    for (struct alloc *old = k->allocs; old; old = old->next)
        if (old->job_dir && strcmp(old->job_dir, c->job_dir) == 0)
            serve_nobody(k, old);
    if (ty_run_spec_parse(c->spec, &spec, err) < 0)
        return NULL;
    ty_slurm_shape(k->target, spec, idle > 0 || k->target->min_nodes > 0, &shape);
    seconds = spec->max_run_seconds > 0 && spec->max_run_seconds < LONG_SECONDS
                  ? spec->max_run_seconds
                  : LASTS_SECONDS;
    ty_run_spec_free(spec);
    CLEANUP_FREE char *text = ty_slurm_shape_text(&shape);
    a = text ? kept_one(k, text, seconds) : NULL;
    if (!a && text && idle > 0 && one_is_left(k, text, seconds) && waits_a_moment(k, c))
        return NULL;
    if (!a && text) {
        make_room(k, shape.nodes);
        a = alloc_new(k, shape.nodes);
        if (a) {
            a->shape = TAKE(text);
            a->spec = json_incref(c->spec);
            a->retry_us = 0;
        }
    }
    if (!a || !serve(a, c)) {
        ty_error_oom(err);
        return NULL;
    }
    a->idle_seconds = idle;
    k->changed = true;
    return a;
}

/* ---- the end ---- */

__attribute__((format(printf, 4, 5))) static void over(struct keeper *k, struct alloc *a,
                                                       const char *reason, const char *fmt, ...)
{
    CLEANUP_STR struct ty_str s = { 0 };
    va_list ap;

    if (a->over)
        return;
    va_start(ap, fmt);
    ty_str_addv(&s, fmt, ap);
    va_end(ap);
    a->over = true;
    a->end_reason = strdup(reason);
    a->end_message = ty_str_take(&s);
    a->drop_us = k->now_us + CUT_US;
    a->check_us = k->now_us;
    k->changed = true;
    take_address(k, a);
    reserve_lost(k, a);
    ty_log(TY_LOG_INFO, "allocation %s (job %" PRIu32 ") is over: %s", a->id, a->job,
           a->end_message ? a->end_message : reason);
}

/* The holder that left first was on it. */
static const char *first_lost(const struct alloc *a)
{
    const struct member *lost = NULL;

    for (int i = 0; i < a->nodes; i++)
        if (a->members[i].left_us && (!lost || a->members[i].left_us < lost->left_us))
            lost = &a->members[i];
    return lost ? lost->node : NULL;
}

static void over_as_slurm_says(struct keeper *k, struct alloc *a, const char *more)
{
    switch (a->state) {
    case TY_SLURM_CANCELED:
        if (a->cancel)
            over(k, a, "cancel", "Slurm job %" PRIu32 " was canceled", a->job);
        else
            over(k, a, "cancel", "Slurm job %" PRIu32 " was canceled from outside (scancel)",
                 a->job);
        return;
    case TY_SLURM_TIMEOUT:
        over(k, a, "time_limit",
             "Slurm ended its job %" PRIu32 " at the time limit of the allocation", a->job);
        return;
    case TY_SLURM_PREEMPTED:
        over(k, a, "preempted", "Slurm took the nodes of its job %" PRIu32 " for another job",
             a->job);
        return;
    case TY_SLURM_NODE_FAIL:
        a->end_node = first_lost(a);
        over(k, a, "node_lost", "node %s of Slurm job %" PRIu32 " failed",
             a->end_node ? a->end_node : a->list, a->job);
        return;
    case TY_SLURM_OOM:
        over(k, a, "out_of_memory",
             "Slurm job %" PRIu32
             " used more memory than it had; ask for more (resources, memory_mb)",
             a->job);
        return;
    default:
        break;
    }
    if (a->up)
        over(k, a, "lost", "Slurm job %" PRIu32 " ended before the run did (%s%s%s)", a->job,
             a->word, *more ? ", " : "", more);
    else
        over(
            k, a, "prepare",
            "Slurm job %" PRIu32
            " on %s ended (%s%s%s) before its agent could reach this machine; look "
            "whether the nodes see the folder of the target ('shared_home', 'folder') and reach this machine "
            "over TCP",
            a->job, *a->list ? a->list : "its node", a->word, *more ? ", " : "", more);
}

/* A batch process that ended badly: with what? */
static void ask_for_exit_code(struct keeper *k, struct alloc *a)
{
    CLEANUP_FREE char *number = ty_strf("%" PRIu32, a->job);
    const char *argv[] = { "scontrol", "show", "job", "-o", number, NULL };
    struct ty_slurm_setting where = keeper_setting(k);
    struct ty_error err;

    if (!number || ty_slurm_command_start(&a->command, &where, argv, NULL, 0, &err) < 0)
        over_as_slurm_says(k, a, "");
    else
        a->doing = DOING_LOOK;
}

/* ---- commands ---- */

static bool worth_waiting(const char *sentence)
{
    static const char *const words[] = { "Unable to contact slurm controller", "Socket timed out",
                                         "temporarily unable to accept", "Connection refused",
                                         "slurmctld is not running" };

    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strstr(sentence, words[i]))
            return true;
    return false;
}

static void submit(struct keeper *k, struct alloc *a)
{
    struct ty_slurm_setting where = keeper_setting(k);
    struct ty_run_spec *spec = NULL;
    CLEANUP_STR struct ty_str script = { 0 };
    struct ty_slurm_shape shape;
    struct ty_error err = { 0 };
    char **argv = NULL;
    int r = ty_run_spec_parse(a->spec, &spec, &err);

    a->retry_us = NEVER;
    if (r == 0)
        r = give_script(k, a, &script, &err);
    if (r == 0) {
        ty_slurm_shape(k->target, spec, a->idle_seconds > 0 || k->target->min_nodes > 0, &shape);
        r = ty_slurm_args("sbatch", k->target, &shape, a->run ? a->run : "trainyard", a->id, &argv);
        if (r < 0)
            ty_error_oom(&err);
    }
    if (r == 0)
        r = ty_slurm_command_start(&a->command, &where, (const char *const *)argv, script.text,
                                   script.len, &err);
    if (r == 0)
        a->doing = DOING_SUBMIT;
    else
        over(k, a, "prepare", "cannot ask Slurm for nodes: %s", err.text);
    if (argv)
        ty_strv_free(argv);
    ty_run_spec_free(spec);
}

/* Drained nodes are excluded by name, and Slurm takes no job that excludes what it does not know. */
static bool drains_a_stranger(const struct keeper *k, const char *sentence)
{
    return strstr(sentence, "Invalid node name") && json_array_size(k->target->drained_nodes) > 0;
}

static void submitted(struct keeper *k, struct alloc *a, int r, const char *out,
                      const char *complaint)
{
    char sentence[SENTENCE];

    ty_slurm_sentence(complaint, sentence, sizeof sentence);
    if (r == 0 && ty_slurm_job_number(out, &a->job) == 0) {
        a->state = TY_SLURM_PENDING;
        snprintf(a->word, sizeof a->word, "PENDING");
        json_decref(a->spec);
        a->spec = NULL;
        k->look_us = k->now_us + SOON_US;
    } else if (a->cancel) {
        over(k, a, "cancel", "the run was canceled before Slurm had a job for it");
    } else if (r < 0 && worth_waiting(sentence)) {
        a->retry_us = k->now_us + RETRY_US;
        snprintf(a->reason, sizeof a->reason, "%s", sentence);
    } else {
        over(k, a, "prepare", "Slurm refuses the job: %s%s", *sentence ? sentence : out,
             drains_a_stranger(k, sentence)
                 ? "; of the target's drained nodes one is not of this cluster ('trainyard target "
                   "show' names them): take it back with 'trainyard target resume'"
                 : "");
    }
    k->changed = true;
}

static void cancel(struct keeper *k, struct alloc *a)
{
    CLEANUP_FREE char *number = ty_strf("%" PRIu32, a->job);
    const char *argv[] = { "scancel", number, NULL };
    struct ty_slurm_setting where = keeper_setting(k);
    struct ty_error err;

    a->retry_us = NEVER;
    if (!number || ty_slurm_command_start(&a->command, &where, argv, NULL, 0, &err) < 0)
        a->retry_us = k->now_us + RETRY_US;
    else
        a->doing = DOING_CANCEL;
}

void alloc_cancel(struct alloc *a)
{
    if (a->cancel)
        return;
    a->cancel = true;
    a->retry_us = 0;
}

/* Until all have called, or one step was on every node. */
static void tell(struct keeper *k, struct alloc *a)
{
    a->retry_us = NEVER;
    a->tell &= !alloc_whole(a);
    if (a->tell && tell_address(k, a) == 0)
        a->doing = DOING_TELL;
}

static void told(struct keeper *k, struct alloc *a, int r, const char *complaint)
{
    char sentence[SENTENCE];

    a->tell = r < 0;
    if (r == 0)
        return;
    a->retry_us = k->now_us + RETRY_US;
    ty_log(TY_LOG_WARN, "the nodes of job %" PRIu32 " could not be told where this keeper is: %s",
           a->job, ty_slurm_sentence(complaint, sentence, sizeof sentence));
}

static void canceled(struct keeper *k, struct alloc *a, int r)
{
    if (r < 0)
        a->retry_us = k->now_us + RETRY_US;
    k->look_us = k->now_us + SOON_US;
    /* One that had not begun is over with that; of another the list tells. */
    if (r == 0 && !any_member(a) && a->state == TY_SLURM_PENDING)
        over(k, a, "cancel", "Slurm job %" PRIu32 " was canceled", a->job);
}

static void looked(struct keeper *k, struct alloc *a, const char *out)
{
    char code[24] = "", text[64] = "";

    if (ty_slurm_value(out, "ExitCode", code, sizeof code))
        snprintf(text, sizeof text, "exit code %s", code);
    over_as_slurm_says(k, a, text);
}

static void hear_command(struct keeper *k, struct alloc *a)
{
    CLEANUP_FREE char *out = NULL, *complaint = NULL;
    enum doing was = a->doing;
    int r = ty_slurm_command_end(&a->command, &out, &complaint);

    a->doing = DOING_NOTHING;
    if (was == DOING_SUBMIT)
        submitted(k, a, r, out ? out : "", complaint ? complaint : "");
    else if (was == DOING_CANCEL)
        canceled(k, a, r);
    else if (was == DOING_TELL)
        told(k, a, r, complaint ? complaint : "");
    else
        looked(k, a, out ? out : "");
}

/* ---- what Slurm says ---- */

/* The job that a keeper before this one has asked for. */
static void found(struct alloc *a, uint32_t job)
{
    a->job = job;
    a->unsure = false;
    json_decref(a->spec);
    a->spec = NULL;
    a->retry_us = a->cancel ? 0 : a->retry_us;
}

static void heard(struct keeper *k, struct alloc *a, const struct ty_slurm_job *j)
{
    bool list_known = *j->node_list != '\0';

    a->absent = 0;
    if (!a->job)
        found(a, j->number);
    if (strcmp(a->word, j->word) != 0 || strcmp(a->reason, j->reason) != 0)
        k->changed = true;
    a->state = j->state;
    a->left_seconds = j->left_seconds;
    snprintf(a->word, sizeof a->word, "%s", j->word);
    snprintf(a->reason, sizeof a->reason, "%s", j->reason);
    if (list_known)
        snprintf(a->list, sizeof a->list, "%s", j->node_list);
    if (ty_slurm_over(a->state) && a->doing == DOING_NOTHING && !a->over) {
        if (a->state == TY_SLURM_FAILED && !a->ending)
            ask_for_exit_code(k, a);
        else
            over_as_slurm_says(k, a, "");
    }
}

static bool is_it(const struct alloc *a, const struct ty_slurm_job *j)
{
    return a->job ? a->job == j->number
                  : ty_starts_with(j->comment, TY_SLURM_COMMENT) &&
                        strcmp(j->comment + strlen(TY_SLURM_COMMENT), a->id) == 0;
}

/* Slurm knows nothing of it. */
static void missed(struct keeper *k, struct alloc *a)
{
    if (a->job || !a->spec) {
        over(k, a, a->up ? "lost" : "prepare",
             "Slurm does not know its job %" PRIu32 " any more, which ended before the run did",
             a->job);
        return;
    }
    a->unsure = false; /* the keeper before this one did not come to ask for it */
    a->absent = 0;
    a->retry_us = 0;
}

void allocs_heard(struct keeper *k, char *queue)
{
    char *line, *rest = NULL;

    for (struct alloc *a = k->allocs; a; a = a->next)
        a->absent += a->doing != DOING_SUBMIT && (a->job || a->retry_us == NEVER);
    for (line = strtok_r(queue, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        struct ty_slurm_job j;

        if (ty_slurm_queue_line(line, &j) < 0)
            continue;
        for (struct alloc *a = k->allocs; a; a = a->next)
            if (is_it(a, &j))
                heard(k, a, &j);
    }
    /* What is connected is there, whatever the list says. */
    for (struct alloc *a = k->allocs; a; a = a->next)
        if (a->absent >= ABSENT_MAX && !a->over && !any_member(a))
            missed(k, a);
}

char *alloc_why(const struct keeper *k, const struct alloc *a)
{
    CLEANUP_STR struct ty_str s = { 0 };
    const char *text = ty_slurm_reason(a->reason);

    if (!a->job && a->reason[0])
        ty_str_addf(&s, "Slurm takes no jobs now (%s); asked again every 5 seconds", a->reason);
    else if (!a->job)
        ty_str_add(&s, "asks Slurm for nodes");
    else if (a->state == TY_SLURM_PENDING)
        ty_str_addf(&s, "Slurm job %" PRIu32 " waits: %s%s%s%s", a->job,
                    *a->reason && strcmp(a->reason, "None") != 0 ? a->reason : "not looked at yet",
                    text ? " (" : "", text ? text : "", text ? ")" : "");
    else if (a->state == TY_SLURM_STARTING)
        ty_str_addf(&s, "Slurm makes %s ready for job %" PRIu32, *a->list ? a->list : "nodes",
                    a->job);
    else
        ty_str_addf(
            &s, "Slurm job %" PRIu32 " is %s on %s; its agents have not reached this machine yet",
            a->job, a->word, *a->list ? a->list : "its nodes");
    if (k->trouble)
        ty_str_addf(&s, "; Slurm does not answer now (%s)", k->trouble);
    return ty_str_take(&s);
}

/* ---- holders ---- */

/* The names that the first holder has brought give each its place. */
static struct member *place_of(struct alloc *a, const json_t *about)
{
    const char *node = json_string_value(json_object_get(about, "node"));
    const char *list = json_string_value(json_object_get(about, "node_list"));

    if (!a->names && list && ty_slurm_node_names(list, &a->names) < 0)
        a->names = NULL;
    for (int i = 0; node && a->names && a->names[i] && i < a->nodes; i++)
        if (strcmp(a->names[i], node) == 0)
            return &a->members[i];
    return a->nodes == 1 ? a->members : NULL;
}

bool alloc_join(struct keeper *k, struct stranger *s, json_t *about)
{
    const char *id = json_string_value(json_object_get(about, "allocation"));
    const char *node = json_string_value(json_object_get(about, "node"));
    const char *number = json_string_value(json_object_get(about, "job"));
    int64_t job = 0;
    struct alloc *a = k->allocs;
    struct member *m;

    while (a && (!id || strcmp(a->id, id) != 0))
        a = a->next;
    if (number)
        ty_parse_i64(number, &job);
    /* One that was asked for twice has one job too many, whose holders end when nobody speaks to them. */
    m = a && !a->over && (!a->job || a->job == job) ? place_of(a, about) : NULL;
    if (!m)
        return false;
    member_leave(m);
    json_decref(m->about);
    free(m->node);
    m->node = strdup(node ? node : "");
    m->about = json_incref(about);
    m->link = TAKE(s->link);
    m->lines = s->lines;
    s->lines = (struct ty_lines){ 0 };
    m->heard_us = k->now_us;
    m->left_us = 0;
    if (!a->job && job > 0)
        found(a, (uint32_t)job);
    if (a->ending)
        ty_lines_add(&m->lines, json_pack("{s:b}", "end", 1));
    a->up |= alloc_whole(a);
    k->changed = true;
    return true;
}

/* The one that has told us has warned those on its node itself. */
static void warn_others(struct alloc *a, const struct member *teller, const char *text)
{
    for (int i = 0; i < a->nodes; i++)
        if (a->members[i].link && &a->members[i] != teller)
            ty_lines_add(&a->members[i].lines, json_pack("{s:s}", "warn", text));
}

static void hear_holder(struct keeper *k, struct alloc *a, struct member *m, const json_t *line)
{
    const char *kind = json_string_value(json_object_get(line, "kind"));
    const char *sig = json_string_value(json_object_get(line, "signal"));

    m->heard_us = k->now_us;
    if (kind && strcmp(kind, "ping") == 0)
        ty_lines_add(&m->lines, json_pack("{s:b}", "pong", 1));
    if (!sig)
        return;
    k->look_us = k->now_us;
    if (strcmp(sig, "TERM") == 0)
        a->state = TY_SLURM_ENDING;
    if (strcmp(sig, "USR1") == 0)
        warn_others(a, m, "Slurm ends this allocation soon\n");
}

static void member_turn(struct keeper *k, struct alloc *a, struct member *m)
{
    json_t *line;
    int r = ty_link_turn(m->link, k->now_us);

    if (r == 0)
        r = ty_lines_send(&m->lines, -1, m->link);
    if (r == 0)
        r = ty_lines_read(&m->lines, -1, m->link);
    while (ty_lines_next(&m->lines, &line) == 0) {
        hear_holder(k, a, m, line);
        json_decref(line);
    }
    if (r == 0) /* what was added just now */
        r = ty_lines_send(&m->lines, -1, m->link);
    if (r < 0 || k->now_us - m->heard_us > MEMBER_SILENT_US) {
        member_leave(m);
        m->left_us = k->now_us;
        k->look_us = k->now_us + SOON_US;
    }
}

/* ---- keeping and giving back ---- */

/* Nobody speaks for its run: because that has ended, or because a courier has to be started again? */
static void check_run(struct keeper *k, struct alloc *a)
{
    if (!a->run || clients_of(k, a->run)) {
        a->check_us = NEVER;
        return;
    }
    if (a->check_us == NEVER)
        a->check_us = k->now_us;
    if (k->now_us < a->check_us)
        return;
    a->check_us = k->now_us + CHECK_US;
    if (run_is_over(a))
        serve_nobody(k, a);
}

static bool may_go(struct keeper *k, const struct alloc *a)
{
    if (a->run || a->over || a->ending)
        return false;
    if (a->idle_us > 0 && (a->up || a->reserve) && reserve_holds(k, a))
        return false;
    if (a->idle_seconds == 0 || !a->up) /* what has never been had is not kept */
        return true;
    return k->now_us - a->idle_us >= a->idle_seconds * 1000000;
}

static void end_holders(struct keeper *k, struct alloc *a)
{
    a->ending = true;
    k->changed = true;
    take_address(k, a);
    for (int i = 0; i < a->nodes; i++)
        if (a->members[i].link)
            ty_lines_add(&a->members[i].lines, json_pack("{s:b}", "end", 1));
    /* One that is not whole, or that waits, has nobody who could end it. */
    if (!a->members[0].link)
        alloc_cancel(a);
}

void alloc_turn(struct keeper *k, struct alloc *a)
{
    struct pollfd p = { .fd = a->command.ended, .events = POLLIN };

    if (a->doing != DOING_NOTHING && poll(&p, 1, 0) == 1)
        hear_command(k, a);
    for (int i = 0; i < a->nodes; i++)
        if (a->members[i].link)
            member_turn(k, a, &a->members[i]);
    if (a->doing == DOING_NOTHING && !a->over && k->now_us >= a->retry_us) {
        if (a->cancel && a->job)
            cancel(k, a);
        else if (a->cancel && a->unsure)
            a->retry_us = NEVER; /* the list will name its job */
        else if (a->cancel)
            over(k, a, "cancel", "the run was canceled before Slurm had a job for it");
        else if (a->job)
            tell(k, a);
        else
            submit(k, a);
    }
    check_run(k, a);
    if (may_go(k, a))
        end_holders(k, a);
}

int64_t alloc_due(const struct keeper *k, const struct alloc *a)
{
    int64_t due = a->check_us;

    if (a->doing == DOING_NOTHING && !a->over && a->retry_us < due)
        due = a->retry_us;
    if (!a->run && a->up && !a->over && !a->ending && a->idle_us + a->idle_seconds * 1000000 < due)
        due = a->idle_us + a->idle_seconds * 1000000;
    if (!a->run && due < k->now_us) /* min_nodes holds it back */
        due = k->now_us + LOOK_US;
    for (int i = 0; i < a->nodes; i++)
        if (a->members[i].link && ty_link_holds(a->members[i].link))
            due = 0;
    return due;
}
