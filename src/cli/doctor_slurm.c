/* doctor_slurm.c - what trainyard doctor says of targets on Slurm: is the cluster there, and is it set so that jobs begin soon
 * and nodes can be switched off?
 *
 * Slurm is only asked.  The proposal is written for its administrator to read: nothing of Slurm is changed.
 */
#include "base/error.h"
#include "base/fs.h"
#include "base/str.h"
#include "cli/doctor.h"
#include "cli/out.h"
#include "cli/runs.h"
#include "client/stubs.h"
#include "core/target_spec.h"
#include "target/slurm_ask.h"
#include "target/slurm_command.h"
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define ASK_MS 10000
#define AGE_MIN 30 /* seconds that an ended job has to be listed */

/* The value of a line "Name    = value" of `scontrol show config` into buf[n]; "" where there is none. */
static const char *setting(const char *config, const char *name, char *buf, size_t n)
{
    size_t len = strlen(name);

    buf[0] = '\0';
    for (const char *line = config; line; line = strchr(line, '\n')) {
        const char *value;

        line += *line == '\n';
        value = line + len + strspn(line + (strncmp(line, name, len) == 0 ? len : 0), " ");
        if (strncmp(line, name, len) != 0 || *value != '=')
            continue;
        value += 1 + (value[1] == ' ');
        snprintf(buf, n, "%.*s", (int)strcspn(value, "\n"), value);
        if (strcmp(buf, "(null)") == 0)
            buf[0] = '\0';
        break;
    }
    return buf;
}

static void check_delay(struct doctor *d, const char *check, const char *config)
{
    char value[1024];
    const char *at =
        strstr(setting(config, "SchedulerParameters", value, sizeof value), "batch_sched_delay=");

    if (at && strtol(at + strlen("batch_sched_delay="), NULL, 10) == 0)
        doctor_note(d, check, GOOD, NULL, "batch jobs are looked at when they come");
    else
        doctor_note(
            d, check, DOUBT,
            "SchedulerParameters=batch_sched_delay=0 in slurm.conf, then 'scontrol reconfigure'",
            "batch jobs wait up to 3 seconds before Slurm looks at them");
}

static void check_age(struct doctor *d, const char *check, const char *config)
{
    char value[64];
    long age = strtol(setting(config, "MinJobAge", value, sizeof value), NULL, 10);

    if (value[0] && age < AGE_MIN)
        doctor_note(
            d, check, DOUBT, "MinJobAge=300 in slurm.conf",
            "Slurm forgets an ended job after %ld seconds, and then nobody can say how it ended",
            age);
}

static void check_power(struct doctor *d, const char *check, const char *config)
{
    char resume[512], suspend[512], seconds[64], hidden[256];

    setting(config, "ResumeProgram", resume, sizeof resume);
    setting(config, "SuspendProgram", suspend, sizeof suspend);
    setting(config, "SuspendTime", seconds, sizeof seconds);
    setting(config, "PrivateData", hidden, sizeof hidden);
    if (!resume[0] || !suspend[0]) {
        doctor_note(
            d, check, GOOD, NULL,
            "nodes are never switched off: no power saving is set ('trainyard doctor --write DIR' proposes one)");
        return;
    }
    if (strncmp(seconds, "NONE", 4) == 0 || strcmp(seconds, "INFINITE") == 0 ||
        strcmp(seconds, "-1") == 0)
        doctor_note(d, check, DOUBT, "SuspendTime=SECONDS in slurm.conf",
                    "power saving has programs, but idle nodes are never switched off");
    else
        doctor_note(d, check, GOOD, NULL, "idle nodes are switched off after %s", seconds);
    if (!strstr(hidden, "cloud"))
        doctor_note(
            d, check, DOUBT, "PrivateData=cloud in slurm.conf",
            "nodes of State=CLOUD that are off are not listed, and a target looks smaller than it is");
}

static void check_preemption(struct doctor *d, const char *check, const char *config)
{
    char mode[128];

    if (strcmp(setting(config, "PreemptMode", mode, sizeof mode), "OFF") != 0 && mode[0])
        doctor_note(
            d, check, GOOD, NULL,
            "jobs may be preempted (%s); runs go on in another attempt with max_restarts preempted=N",
            mode);
}

/* ---- the proposal ---- */

static int put(const char *folder, const char *name, mode_t mode, const char *text,
               struct ty_error *err)
{
    CLEANUP_FREE char *path = ty_path_join(folder, name);
    int r = path ? ty_mkdir_p(folder, 0755) : -ENOMEM;

    if (r == 0)
        r = ty_write_file(path, text, strlen(text), mode);
    if (r < 0)
        return ty_error_set(err, r, "cannot write '%s': %s", path ? path : name, strerror(-r));
    return 0;
}

static const char resume_text[] =
    "#!/bin/sh\n"
    "# Slurm's ResumeProgram: switch nodes on.  $1 is a list of nodes as Slurm shortens it.\n"
    "# Written for machines that wake by their network card (package etherwake, addresses in /etc/ethers).  In a cloud, put the\n"
    "# command that starts the instance in its place; it has to start slurmd with -b, or the node's time of boot is too old.\n"
    "for node in $(scontrol show hostnames \"$1\"); do\n"
    "    etherwake \"$node\" || logger -t slurm \"cannot switch on $node\"\n"
    "done\n";
static const char suspend_text[] =
    "#!/bin/sh\n"
    "# Slurm's SuspendProgram: switch nodes off.  $1 is a list of nodes as Slurm shortens it.\n"
    "# SlurmUser needs an ssh key that may do this on the nodes.\n"
    "for node in $(scontrol show hostnames \"$1\"); do\n"
    "    ssh -o BatchMode=yes -o ConnectTimeout=5 \"root@$node\" systemctl poweroff || logger -t slurm \"cannot switch off $node\"\n"
    "done\n";

static char *proposal(const struct ty_target_spec *t, const char *folder)
{
    const char *partition = t->slurm.partition ? t->slurm.partition : "PARTITION";
    CLEANUP_FREE char *max = t->max_nodes ? ty_strf(" MaxNodes=%d", t->max_nodes) : strdup("");
    CLEANUP_FREE char *real = realpath(folder, NULL);

    return ty_strf(
        "# Power saving as the target's min_nodes, max_nodes and idle_seconds_before_scaledown mean it: lines for slurm.conf.\n"
        "# Put the two programs where SlurmUser may run them, on the machine of slurmctld, and read them first.\n"
        "ResumeProgram=%s/resume\n"
        "SuspendProgram=%s/suspend\n"
        "SuspendTime=%d\n"
        "ResumeTimeout=600\n"
        "SuspendTimeout=120\n"
        "ResumeRate=0\n"
        "SuspendRate=0\n"
        "SlurmctldParameters=idle_on_node_suspend\n"
        "PrivateData=cloud\n"
        "SchedulerParameters=batch_sched_delay=0\n"
        "# Nodes that stay on (the target's min_nodes): NODES is the list of that partition's nodes.\n"
        "%sSuspendExcNodes=NODES:%d\n"
        "# Nodes that come and go are named with State=CLOUD; the partition allows a job as many as the target:\n"
        "#PartitionName=%s%s\n",
        real ? real : folder, real ? real : folder, t->idle_seconds > 0 ? t->idle_seconds : 1800,
        t->min_nodes > 0 ? "" : "#", t->min_nodes > 0 ? t->min_nodes : 1, partition,
        max ? max : "");
}

static void write_proposal(struct doctor *d, const char *check, const char *name,
                           const struct ty_target_spec *t, const char *folder)
{
    CLEANUP_FREE char *place = ty_path_join(folder, name);
    CLEANUP_FREE char *text = NULL;
    struct ty_error err = { 0 };
    int r = place ? put(place, "resume", 0755, resume_text, &err) : -ENOMEM;

    if (r == 0)
        r = put(place, "suspend", 0755, suspend_text, &err);
    text = r == 0 ? proposal(t, place) : NULL;
    if (text)
        r = put(place, "slurm.conf.part", 0644, text, &err);
    if (r < 0 || !text)
        doctor_note(d, check, BAD, "name a folder that you may write to (--write)", "%s",
                    err.code ? err.text : "out of memory");
    else
        doctor_note(d, check, GOOD, NULL, "a proposal for power saving is in '%s'", place);
}

/* ---- targets ---- */

static void check_cluster(struct doctor *d, const char *check, const struct ty_target_spec *t)
{
    const char *const ask_config[] = { "scontrol", "show", "config", NULL };
    const char *const ask_partitions[] = { "sinfo", "-h", "-o", TY_SLURM_PARTITION_FORMAT, NULL };
    struct ty_slurm_setting where = { .environment = t->slurm.environment };
    CLEANUP_FREE char *config = NULL, *partitions = NULL;
    struct ty_error err = { 0 };
    const char *named = ty_slurm_partition_of(t);
    struct ty_slurm_have have;

    if (ty_slurm_run(&where, ask_config, ASK_MS, &config, &err) < 0 ||
        ty_slurm_run(&where, ask_partitions, ASK_MS, &partitions, &err) < 0) {
        doctor_note(
            d, check, BAD,
            "see that Slurm's commands work here; SLURM_CONF can be set in the target's 'environment'",
            "%s", err.text);
        return;
    }
    ty_slurm_have(partitions, named, &have);
    ty_str_done(&have.names);
    if (!have.up || have.nodes == 0)
        doctor_note(d, check, BAD, "'sinfo' lists the partitions; change the target's 'partition'",
                    "no partition%s%s is up", named ? " " : "", named ? named : "");
    else
        doctor_note(d, check, GOOD, NULL, "Slurm answers, and has %d nodes", have.nodes);
    check_delay(d, check, config);
    check_age(d, check, config);
    check_power(d, check, config);
    check_preemption(d, check, config);
}

void doctor_slurm(struct doctor *d, const char *folder)
{
    CLEANUP_JSON json_t *reply = NULL;
    struct ty_error err = { 0 };
    const json_t *target;
    size_t i;

    if (ty_cli_get(d->cli, TY_ROUTE_target_list, NULL, &reply, &err) < 0)
        return; /* what ails the daemon has been said */
    json_array_foreach (json_object_get(reply, "targets"), i, target) {
        const json_t *spec = json_object_get(target, "spec");
        const char *name = ty_out_str(target, "name");
        struct ty_target_spec *t = NULL;
        CLEANUP_FREE char *check = ty_strf("slurm %s", name);

        if (strcmp(ty_out_str(spec, "kind"), "slurm") != 0 || !check ||
            ty_target_spec_parse(spec, &t, &err) < 0)
            continue;
        check_cluster(d, check, t);
        if (folder)
            write_proposal(d, check, name, t, folder);
        ty_target_spec_free(t);
    }
}
