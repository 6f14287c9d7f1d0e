#!/bin/bash
# Jobs of two nodes of a Slurm cluster that are hurt: ranks, agents, courier, daemon, nodes, the controller; with the true
# end, the one to blame named, nothing left running, and no line lost.
. "$(dirname "$0")/lib.sh"
SLURM_NODES="n1 n2 n3 n4"
. "$SOURCE/tests/e2e/slurm.lib.sh"
SIDE=$T/side
. "$SOURCE/tests/e2e/fail.lib.sh"
trap 'ended=$?; slurm_down; (exit $ended); at_end' EXIT

refused=$(slurm_refused)
if [ -n "$refused" ]; then
    skip "jobs on a cluster of Slurm that fail" "$refused"
    exit 0
fi
# Each node has room for all of these jobs at once.
SLURM_PARTITIONS=own
slurm_conf "PreemptType=preempt/partition_prio" "PreemptMode=CANCEL" \
    "PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=3" \
    "PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=off"
sed -i 's/ CPUs=4 CoresPerSocket=4 RealMemory=4000/ CPUs=64 CoresPerSocket=64 RealMemory=64000/' "$SLURM_CONF"
slurm_up
equal "a cluster of four nodes starts" 0 $?
export TRAINYARD_SCHED_SILENT_SECONDS=4 TRAINYARD_SCHED_NODE_LOST_SECONDS=600
target() { # NAME [KEY: VALUE]
    printf '{"kind": "slurm", "folder": "%s", "environment": {"SLURM_CONF": "%s"}%s}' "$T/nodes" "$SLURM_CONF" "${2:+, $2}" > "$1.json"
    trainyard api -X PUT "targets/$1" -d "@$1.json"
}
check "a target is made" target hpc

# What a node had not sent goes with its agent that is killed, and with the leader; what had come does not.
# Of an allocation that is taken away, too.
side() { case $1$2 in leader[23]|agent[23]|outside?) return;; esac; cat "$SIDE/$3" 2> /dev/null; }
job_of() { $PY -c 'import json,sys
for a in json.load(open(sys.argv[1]))["allocations"]:
    if (a["run"] or "").startswith(sys.argv[2]) and a["job"]: print(a["job"])' "$TRAINYARD_HOME/slurm/${2:-hpc}/status" "${run[$1]}"; }
# stepds JOB NODE: the processes of Slurm that our agent's on that node are children of
stepds() {
    $PY - "SLURM_CONF=$SLURM_CONF" "SLURM_JOB_ID=$1" "SLURMD_NODENAME=$2" <<'C'
import os, sys
marks = [a.encode() for a in sys.argv[1:]]
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        with open("/proc/%s/environ" % pid, "rb") as f:
            names = f.read().split(b"\0")
        with open("/proc/%s/stat" % pid) as f:
            parent = f.read().rsplit(")", 1)[1].split()[1]
        with open("/proc/%s/comm" % parent) as f:
            if f.read().startswith("slurmstepd") and all(m in names for m in marks) and int(pid) != os.getpid():
                print(parent)
    except OSError:
        pass
C
}
node_of() { scontrol show hostnames "$(job_field "$(job_of "$1")" NodeList)" | sed -n "$2p"; }
far_pid() { cut -d' ' -f2 "$T/nodes/jobs/${run[$1]}${2-}/runner.id"; }
far_left() { $PY left.py "$T/nodes/jobs" "${run[$1]}"; }
clean_of() { [ -z "$(far_left "$1")" ]; }
left() { if until_true 60 clean_of "$1"; then ok "$1: ...and nothing is left"; else not_ok "$1: ...and nothing is left" "$(far_left "$1")"; fi; }

# ---- ranks and agents ----
hang hpc
hurt raise hpc -- raise 3
hurt exit hpc -- exit 2
hurt kill hpc -- kill 1
hurt wrapper hpc -- wrapper 3
hurt again hpc --max-restarts error=1 -- exit 2 40
hurt agent hpc -- none
hurt leader hpc -- none
hurt lives hpc -- none -1 500
hurt drained hpc -- none -1 150
hurt outside hpc --max-restarts error=1,node_lost=1,preempted=1 -- none
for name in agent leader lives drained outside; do await_going $name; done
drained=$(node_of drained 2)
check "a node is drained" scontrol update "nodename=$drained" state=drain reason=test
ends raise 60 Failed "^ScriptFailed \| rank 3 \(node n[1-4]\) exited with code 1 \| .*line 3 20/.*RuntimeError: this one is mine"
ends exit 60 Failed "^ScriptFailed \| rank 2 \(node n[1-4]\) exited with code 3 \| .*line 2 20/fails"
ends kill 60 Failed "^ScriptKilled \| rank 1 \(node n[1-4]\) was killed by signal 9.* \| .*line 1 20/fails"
ends wrapper 60 Failed "^RunnerLost \| the process that watched rank 3 \(node n[1-4]\) (was killed by signal 9|is gone)"
for name in raise:3 exit:2 kill:1 wrapper:3; do
    soon ${name%:*} ${name#*:}
    whole ${name%:*} 1
done
kill -9 "$(far_pid agent .1)"
kill -9 "$(far_pid leader)"
check "outside: scancel" scancel "$(job_of outside)"
ends outside 60 Canceled
has "outside: ...from outside" "$(error_of outside)" '^Canceled \| Slurm job [0-9]+ was canceled from outside'
daemon=$(daemon_pid)
kill -9 "$(runner_pid "${run[lives]}")" "$daemon" "$(cat "$TRAINYARD_HOME/slurm/hpc/pid")"
until_true 5 gone "$daemon"
slurm_ctld_off
ends agent 60 Failed "^NodeLost \| .*node 'n[1-4]' was lost"
ends leader 60 Failed "^RunnerLost \| "
equal "lives: daemon, courier and keeper were killed, slurmctld is away: it goes on" Running "$(state_of "${run[lives]}")"
slurm_ctld
if [ -n "${run[hang]-}" ]; then
    ends hang 90 Failed "^Hang \| rank 1 \(node n[1-4]\) kept the others waiting for [1-9][0-9]* s: allreduce 'allreduce.grad.3'"
    left hang
fi
ends again 60 Completed
equal "again: ...in its second attempt" 2 "$(trainyard show "${run[again]}" --json | field attempt)"
whole again 2 40
ends drained 60 Completed
whole drained 1 150
ends lives 120 Completed
whole lives 1 500
whole agent 1
whole leader 1
whole outside 1
for name in raise exit kill wrapper again agent leader outside drained lives; do left $name; done
check "the queue is empty" until_true 20 slurm_no_jobs
check "the node is resumed" scontrol update "nodename=$drained" state=resume

# ---- nodes ----
trainyard down 2> /dev/null
export TRAINYARD_SCHED_SILENT_SECONDS=2 TRAINYARD_SCHED_NODE_LOST_SECONDS=8
check "all nodes are idle" until_true 30 slurm_idle
check "a target of the last two nodes is made" target upper '"sbatch_options": ["--nodelist=n3,n4"]'
hurt other_dead hpc --max-restarts node_lost=1 -- long -1 60
hurt stepd upper -- none
hurt slurmd upper -- none
for name in other_dead stepd slurmd; do await_going $name; done
dead=$(node_of other_dead 2)
has "other_dead: its second node is known" "$dead" "^n[12]$"
kill -9 $(stepds "$(job_of stepd upper)" n4)
slurm_daemon_off n4 KILL
slurm_node_dead "$dead"
ends stepd 60 Failed "^(NodeLost|RunnerLost) \| "
left stepd
ends slurmd 120 Failed "^NodeLost \| "
left slurmd
ends other_dead 120 Completed
has "other_dead: ...in a second attempt, since" "$(trainyard show "${run[other_dead]}")" "attempt 1 ended: .*$dead"
equal "other_dead: ...which is its last" 2 "$(trainyard show "${run[other_dead]}" --json | field attempt)"
whole other_dead 2 60
left other_dead
check "no job of theirs is left" until_true 30 slurm_no_jobs

# ---- a job of a higher tier takes the nodes ----
slurm_node n4; slurm_node "$dead"
check "the nodes are back" until_true 60 slurm_idle
check "a target of whole nodes is made" target hpc '"sbatch_options": ["--exclusive"]'
hurt taken hpc --max-restarts preempted=1 -- long -1 40
await_going taken
check "a job of a higher tier comes" sbatch -p urgent -N4 --exclusive -o /dev/null --wrap "sleep 1"
ends taken 120 Completed
has "taken: ...in a second attempt, since" "$(trainyard show "${run[taken]}")" "attempt 1 ended: .*(restart 1 of 1 for cause 'preempted')"
whole taken 2 40
left taken
check "the queue is empty" until_true 30 slurm_no_jobs
slurm_down
equal "nothing of the cluster is left" "" "$(slurm_job_pids)"
