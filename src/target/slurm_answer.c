/* slurm_answer.c - reading what Slurm's commands print
 *
 * The formats are ours (TY_SLURM_QUEUE_FORMAT and the like), so that a line is cut at '|' and nothing else.  The comment
 * stands last: it may hold anything.
 */
#include "base/error.h"
#include "core/launch_plan.h"
#include "target/slurm_ask.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* clang-format off */
static const struct { const char *word; enum ty_slurm_state state; } states[] = {
    { "PENDING", TY_SLURM_PENDING },       { "REQUEUED", TY_SLURM_PENDING },      { "REQUEUE_HOLD", TY_SLURM_PENDING },
    { "REQUEUE_FED", TY_SLURM_PENDING },   { "SPECIAL_EXIT", TY_SLURM_PENDING },  { "RESV_DEL_HOLD", TY_SLURM_PENDING },
    { "CONFIGURING", TY_SLURM_STARTING },  { "RUNNING", TY_SLURM_RUNNING },       { "SUSPENDED", TY_SLURM_RUNNING },
    { "STOPPED", TY_SLURM_RUNNING },       { "RESIZING", TY_SLURM_RUNNING },      { "SIGNALING", TY_SLURM_RUNNING },
    { "STAGE_OUT", TY_SLURM_RUNNING },     { "COMPLETING", TY_SLURM_ENDING },     { "COMPLETED", TY_SLURM_ENDED },
    { "CANCELLED", TY_SLURM_CANCELED },    { "REVOKED", TY_SLURM_CANCELED },      { "TIMEOUT", TY_SLURM_TIMEOUT },
    { "DEADLINE", TY_SLURM_TIMEOUT },      { "PREEMPTED", TY_SLURM_PREEMPTED },   { "NODE_FAIL", TY_SLURM_NODE_FAIL },
    { "BOOT_FAIL", TY_SLURM_NODE_FAIL },   { "OUT_OF_MEMORY", TY_SLURM_OOM },     { "FAILED", TY_SLURM_FAILED },
};
static const struct { const char *word, *text; } reasons[] = {
    { "Resources", "no nodes are free for it" },
    { "Priority", "others come before it" },
    { "Dependency", "it depends on another job" },
    { "BeginTime", "its time to begin has not come" },
    { "JobHeldUser", "it is held ('scontrol release' lets it go)" },
    { "JobHeldAdmin", "an administrator holds it" },
    { "PartitionDown", "the partition is down" },
    { "PartitionInactive", "the partition is inactive" },
    { "PartitionNodeLimit", "it asks for more nodes than the partition allows" },
    { "PartitionTimeLimit", "it asks for more time than the partition allows" },
    { "ReqNodeNotAvail", "nodes that it needs are not available" },
    { "AssocGrpCpuLimit", "the account has used its CPUs" },
    { "QOSMaxJobsPerUserLimit", "the user has as many jobs as the QOS allows" },
    { "QOSMaxCpuPerUserLimit", "the user has as many CPUs as the QOS allows" },
    { "Licenses", "a licence is not free" },
    { "Reservation", "its reservation has not begun" },
};
/* clang-format on */

enum ty_slurm_state ty_slurm_state(const char *word)
{
    for (size_t i = 0; i < sizeof states / sizeof *states; i++)
        if (strcmp(states[i].word, word) == 0)
            return states[i].state;
    return TY_SLURM_FAILED;
}

const char *ty_slurm_reason(const char *reason)
{
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++)
        if (strcmp(reasons[i].word, reason) == 0)
            return reasons[i].text;
    return NULL;
}

/* A number at the start of *text, which moves behind it; -EBADMSG. */
static int number_at(const char **text, uint64_t max, uint64_t *ret)
{
    const char *p = *text;
    uint64_t n = 0;

    if (*p < '0' || *p > '9')
        return -EBADMSG;
    for (; *p >= '0' && *p <= '9'; p++) {
        n = n * 10 + (uint64_t)(*p - '0');
        if (n > max)
            return -EBADMSG;
    }
    *text = p;
    *ret = n;
    return 0;
}

int ty_slurm_job_number(const char *text, uint32_t *ret)
{
    uint64_t n;

    if (number_at(&text, UINT32_MAX, &n) < 0 || n == 0 || (*text && !strchr(";\r\n", *text)))
        return -EBADMSG;
    *ret = (uint32_t)n;
    return 0;
}

/* Cut `line` at '|' into n parts, the last of which is all the rest; -EBADMSG: there are fewer. */
static int cut(char *line, char **parts, int n)
{
    line[strcspn(line, "\r\n")] = '\0';
    for (int i = 0; i < n; i++) {
        parts[i] = line;
        if (i == n - 1)
            break;
        line = strchr(line, '|');
        if (!line)
            return -EBADMSG;
        *line++ = '\0';
    }
    return 0;
}

/* "12", "12+", "2K": what the field of a list says of a count. */
static int count_of(const char *text, int64_t *ret)
{
    uint64_t n;

    if (number_at(&text, INT32_MAX, &n) < 0)
        return -EBADMSG;
    *ret = (int64_t)n * (*text == 'K' || *text == 'k' ? 1024 : *text == 'M' ? 1024 * 1024 : 1);
    return 0;
}

/* "1-02:03:04", "03:04", "4": seconds; -1 for a word. */
static int64_t duration_of(const char *text)
{
    int64_t days = 0, seconds = 0;
    uint64_t n;

    for (;;) {
        if (number_at(&text, INT32_MAX, &n) < 0)
            return -1;
        if (*text == '-') {
            days = (int64_t)n;
        } else {
            seconds = seconds * 60 + (int64_t)n;
            if (seconds > INT32_MAX)
                return -1;
        }
        if (!*text)
            return days * 24 * 3600 + seconds;
        if (*text != '-' && *text != ':')
            return -1;
        text++;
    }
}

int ty_slurm_queue_line(char *line, struct ty_slurm_job *ret)
{
    enum { NUMBER, STATE, REASON, NODES, LIST, LEFT, COMMENT, N };
    char *part[N];
    int64_t nodes;
    uint32_t number;

    /* An element of an array is "12_3": not one of ours, but it has a number all the same. */
    if (cut(line, part, N) < 0 || count_of(part[NODES], &nodes) < 0 || nodes > INT32_MAX)
        return -EBADMSG;
    part[NUMBER][strcspn(part[NUMBER], "_+")] = '\0';
    if (ty_slurm_job_number(part[NUMBER], &number) < 0)
        return -EBADMSG;
    *ret = (struct ty_slurm_job){ .number = number,
                                  .state = ty_slurm_state(part[STATE]),
                                  .nodes = (int)nodes,
                                  .word = part[STATE],
                                  .reason = part[REASON],
                                  .node_list = part[LIST],
                                  .left_seconds = duration_of(part[LEFT]),
                                  .comment = part[COMMENT] };
    return 0;
}

bool ty_slurm_value(const char *line, const char *name, char *buf, size_t n)
{
    size_t len = strlen(name), value;

    for (const char *p = line; (p = strstr(p, name)); p += len) {
        if ((p > line && p[-1] != ' ') || p[len] != '=')
            continue;
        p += len + 1;
        value = strcspn(p, " \r\n");
        if (value >= n)
            return false;
        memcpy(buf, p, value);
        buf[value] = '\0';
        return true;
    }
    return false;
}

int ty_slurm_partition_line(char *line, struct ty_slurm_partition *ret)
{
    enum { NAME, AVAILABLE, NODES, CPUS, MEMORY, GRES, LIMIT, STATE, N };
    char *part[N];
    int64_t nodes, cpus, memory;
    bool is_default;
    size_t star;

    if (cut(line, part, N) < 0 || !*part[NAME] || count_of(part[NODES], &nodes) < 0 ||
        count_of(part[CPUS], &cpus) < 0 || count_of(part[MEMORY], &memory) < 0 ||
        nodes > INT32_MAX || cpus > INT32_MAX)
        return -EBADMSG;
    star = strlen(part[NAME]) - 1;
    is_default = part[NAME][star] == '*';
    if (is_default)
        part[NAME][star] = '\0';
    *ret = (struct ty_slurm_partition){ .name = part[NAME],
                                        .limit = part[LIMIT],
                                        .gres = part[GRES],
                                        .state = part[STATE],
                                        .up = strcmp(part[AVAILABLE], "up") == 0,
                                        .is_default = is_default,
                                        .nodes = (int)nodes,
                                        .cpus = (int)cpus,
                                        .memory_mb = memory };
    return 0;
}

/* "gpu:2", "gpu:a100:4(S:0-1),mps:100": how many GPUs. */
static int gpus_of(const char *gres)
{
    int n = 0;

    for (const char *p = gres; (p = strstr(p, "gpu")); p++) {
        size_t len = strcspn(p, ",(");
        const char *colon = p + len;

        while (colon > p && *colon != ':')
            colon--;
        if (p == gres || p[-1] == ',')
            n += *colon == ':' && colon[1] >= '0' && colon[1] <= '9'
                     ? (int)strtol(colon + 1, NULL, 10)
                     : 1;
    }
    return n;
}

/* Is it an entry of the list, with commas between? */
static bool is_in(const char *list, const char *name)
{
    size_t n = strlen(name);

    for (const char *p = list; p; p = strchr(p, ',')) {
        p += *p == ',';
        if (strncmp(p, name, n) == 0 && (p[n] == '\0' || p[n] == ','))
            return true;
    }
    return false;
}

/* ", " stands between them: a partition has a line for each state of its nodes. */
static void add_partition_name(struct ty_str *names, const char *name)
{
    size_t n = strlen(name);

    for (const char *p = names->text; p; p = strchr(p, ',')) {
        p += *p == ',' ? 2 : 0;
        if (strncmp(p, name, n) == 0 && (p[n] == '\0' || p[n] == ','))
            return;
    }
    ty_str_addf(names, "%s%s", names->len ? ", " : "", name);
}

static void add_partition(struct ty_slurm_have *s, const struct ty_slurm_partition *p)
{
    int64_t limit = duration_of(p->limit);
    int gpus = gpus_of(p->gres);

    if (s->nodes == 0 || (limit > s->limit_seconds && s->limit_seconds >= 0) || limit < 0)
        s->limit_seconds = limit;
    s->up |= p->up;
    s->nodes += p->nodes;
    s->cpus = p->cpus > s->cpus ? p->cpus : s->cpus;
    s->gpus = gpus > s->gpus ? gpus : s->gpus;
    s->memory_mb = p->memory_mb > s->memory_mb ? p->memory_mb : s->memory_mb;
}

void ty_slurm_have(char *text, const char *wanted, struct ty_slurm_have *ret)
{
    struct ty_slurm_have all = { .limit_seconds = -1 }, some = { .limit_seconds = -1 };
    char *rest = NULL;

    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        struct ty_slurm_partition p;

        if (ty_slurm_partition_line(line, &p) < 0)
            continue;
        add_partition_name(&all.names, p.name);
        add_partition(&all, &p);
        if (wanted ? is_in(wanted, p.name) : p.is_default)
            add_partition(&some, &p);
    }
    some.names = all.names;
    *ret = wanted || some.nodes > 0 ? some : all;
}

/* ---- lists of nodes ---- */

struct names {
    char **v;
    size_t n, cap;
};

static int add_name(struct names *l, const char *prefix, size_t len, const char *digits, int width,
                    uint64_t number)
{
    if (l->n >= TY_SLURM_NODES_MAX)
        return -E2BIG;
    if (l->n + 2 > l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 16;
        char **more = realloc(l->v, cap * sizeof *more);

        if (!more)
            return -ENOMEM;
        l->v = more;
        l->cap = cap;
    }
    l->v[l->n] = digits ? ty_strf("%.*s%0*llu", (int)len, prefix, width, (unsigned long long)number)
                        : strndup(prefix, len);
    if (!l->v[l->n])
        return -ENOMEM;
    l->v[++l->n] = NULL;
    return 0;
}

/* What stands in brackets: "1-3,7".  *at is behind the '[' and moves behind the ']'. */
static int add_ranges(struct names *l, const char *prefix, size_t len, const char **at)
{
    const char *p = *at;

    for (;;) {
        const char *digits = p;
        uint64_t first, last;
        int width, r;

        if (number_at(&p, UINT32_MAX, &first) < 0)
            return -EBADMSG;
        width = (int)(p - digits);
        last = first;
        if (*p == '-' && (p++, number_at(&p, UINT32_MAX, &last) < 0 || last < first))
            return -EBADMSG;
        for (uint64_t i = first; i <= last; i++)
            if ((r = add_name(l, prefix, len, digits, width, i)) < 0)
                return r;
        if (*p == ']')
            break;
        if (*p++ != ',')
            return -EBADMSG;
    }
    *at = p + 1;
    return 0;
}

static int add_names(struct names *l, const char *p)
{
    int r = 0;

    while (r == 0 && *p) {
        size_t len = strcspn(p, "[,");
        const char *prefix = p;

        p += len;
        if (len == 0 || len > 255)
            return -EBADMSG;
        if (*p == '[') {
            p++;
            r = add_ranges(l, prefix, len, &p);
        } else {
            r = add_name(l, prefix, len, NULL, 0, 0);
        }
        /* What follows a bracket is the next name; a second bracket stands in no list that Slurm shortens itself. */
        if (r == 0 && *p && *p++ != ',')
            r = -EBADMSG;
    }
    return r;
}

int ty_slurm_node_names(const char *list, char ***ret)
{
    struct names l = { 0 };
    int r = *list ? add_names(&l, list) : -EBADMSG;

    if (r < 0) {
        if (l.v)
            ty_strv_free(l.v);
        return r;
    }
    *ret = l.v;
    return 0;
}

/* ---- errors ---- */

/* Without "sbatch: error: " and the like before it. */
static const char *behind_heads(const char *line, size_t *len)
{
    static const char *const heads[] = { "sbatch: ",   "squeue: ", "scancel: ", "sinfo: ",
                                         "scontrol: ", "srun: ",   "error: ",   "fatal: " };

    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++)
        if (*len > strlen(heads[i]) && ty_starts_with(line, heads[i])) {
            line += strlen(heads[i]);
            *len -= strlen(heads[i]);
        }
    return line;
}

const char *ty_slurm_sentence(const char *said, char *buf, size_t n)
{
    const char *end = said + strlen(said);
    size_t used = 0;

    *buf = '\0';
    while (said < end && used + 1 < n) {
        size_t len = strcspn(said, "\r\n");
        const char *next = said + len + 1;

        said = behind_heads(said, &len);
        if (len > 0 && len < 4096) {
            int got = snprintf(buf + used, n - used, "%s%.*s", used ? "; " : "", (int)len, said);

            used += got > 0 ? (size_t)got : 0;
        }
        said = next;
    }
    return buf;
}
