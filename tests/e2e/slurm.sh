#!/bin/bash
# slurm.sh - compute targets of kind slurm, on a real cluster: slurmctld and four slurmd on this machine
. "$(dirname "$0")/lib.sh"
. "$SOURCE/tests/e2e/slurm.lib.sh"
trap 'ended=$?; slurm_down; (exit $ended); at_end' EXIT

# A sanitized agent with all that a debugger wants would not fit into a batch script, which is how it comes to nodes that share no folder.
if [ "$(stat -c %s "$BUILD/trainyard-agent")" -gt 12000000 ]; then
    mkdir "$T/build" && cp "$BUILD/trainyard" "$BUILD/trainyardd" "$T/build/" && strip --strip-debug -o "$T/build/trainyard-agent" "$BUILD/trainyard-agent"
    BUILD=$T/build PATH=$T/build:$PATH
fi

refused=$(slurm_refused)
if [ -n "$refused" ]; then
    skip "a cluster of Slurm" "$refused"
    exit 0
fi
SLURM_PARTITIONS=own
slurm_conf "PreemptType=preempt/partition_prio" "PreemptMode=CANCEL" \
    "SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,preempt_send_user_signal" \
    "PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=3" \
    "PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=off" \
    "PartitionName=short Nodes=n1,n2 MaxTime=60 State=UP PriorityTier=1"
slurm_up
equal "a cluster of four nodes starts" 0 $?
id=$(printf '#!/bin/sh\nsrun -N4 -n4 printenv SLURMD_NODENAME\n' | sbatch --parsable -N4 -o "$T/first.out")
check "a job of four nodes ends well" until_true 30 job_in "$id" COMPLETED
equal "...and ran once on each" "n1 n2 n3 n4 " "$(sort "$T/first.out" | tr '\n' ' ')"

# target NAME [KEY: VALUE,...]: a target on it, whose folder all nodes share
target() {
    printf '{"kind": "slurm", "folder": "%s", "environment": {"SLURM_CONF": "%s"}%s}' "$T/on/$1" "$SLURM_CONF" "${2:+, $2}" > "$T/$1.json"
    trainyard api -X PUT "targets/$1" -d "@$T/$1.json"
}
# submit TARGET OPTION... -- COMMAND...: the name of the run
submit() { t=$1; shift; trainyard submit -q --target "$t" "$@"; }
ended() { case $(state_of "$1") in Completed|Failed|Canceled) true;; *) false;; esac; }
why() { trainyard show "$1" --json | field why; }
says_why() { why "$1" | grep -qE -- "$2"; }
error_of() { trainyard show "$1" --json | $PY -c 'import json,sys; e=json.load(sys.stdin)["error"] or {}; print(e.get("code"), e.get("message"))'; }
log_has() { trainyard logs "$1" 2>/dev/null | grep -qE -- "$2"; }
allocations_of() { $PY -c 'import json,sys
for a in json.load(open(sys.argv[1]))["allocations"]:
    if (a["run"] or "").startswith(sys.argv[2]) and a["job"] and not a["over"]: print(a["job"])' "$TRAINYARD_HOME/slurm/$1/status" "$2"; }
job_of() { allocations_of "$1" "$2"; } # TARGET RUN
no_jobs_of() { [ -z "$(allocations_of "$1" "")" ] && ! squeue -h -o %k | grep -qxF "$(ids_of "$1")"; }
ids_of() { $PY -c 'import json,sys
print("\n".join(["trainyard:" + a["id"] for a in json.load(open(sys.argv[1]))["allocations"]] or ["none"]))' "$TRAINYARD_HOME/slurm/$1/status"; }
allocations_here() { $PY -c 'import json,sys; print(sum(a["here"] for a in json.load(open(sys.argv[1]))["allocations"]))' "$TRAINYARD_HOME/slurm/$1/status"; }
nodes_of() { trainyard api "targets/$1" | $PY -c 'import json,sys; n=json.load(sys.stdin)["nodes"]; print(n["preparing"], n["running"], n["idle"])'; }
nodes_are() { [ "$(nodes_of "$1")" = "$2" ]; }
cat > hello.py <<'X'
import os
os.makedirs("outputs", exist_ok=True)
open("outputs/a.txt", "w").write("kept")
print("hello", os.environ["RANK"], os.environ["WORLD_SIZE"], flush=True)
X
cat > sleeper.py <<'X'
import os, signal, sys, time
def warned(sig, frame):
    print("warned:", open(os.environ["TRAINYARD_SPOOL_DIR"] + "/warning").read(), flush=True)
signal.signal(signal.SIGUSR1, warned)
print("sleeping", flush=True)
for _ in range(6000):
    time.sleep(0.1)
X

# Cases that leave each other alone go side by side, each with a target of its own; what they say comes in order.  In this
# folder they write nothing: it is the snapshot of the others' runs.
started=()
begin() { ( failed=0; "$1"; exit $failed ) > "$T/$1.said" 2>&1 & started+=("$1 $!"); }
finish() {
    local one
    for one in "${started[@]}"; do
        wait "${one#* }" || failed=1
        cat "$T/${one% *}.said"
    done
    started=()
}

case_one() {
    check "a target is made" target one
    run=$(submit one -- $PY hello.py)
    check "a run ends" until_true 60 ended "$run"
    equal "...well" Completed "$(state_of "$run")"
    has "...and has said what it did" "$(trainyard logs "$run")" "^hello 0 1$"
    check "...its files are kept" trainyard artifacts get "$run" outputs/a.txt -o "$T/kept.txt"
    equal "...whole" kept "$(cat "$T/kept.txt")"
    check "...its allocation goes" until_true 20 no_jobs_of one
    check "...and its folder on the nodes" until_true 10 is_empty "$T/on/one/jobs"
}
# Targets are looked at when they are made; the shell's SLURM_CONF says which cluster is meant.
case_added() {
    check "a target is added" trainyard target add added --partition main --folder "$T/on/added"
    has "...with what the cluster has" "$(trainyard target show added)" "^nodes +0 of 4 in use"
    exits "one with a partition that is not there is not" 1 trainyard target add absent --partition nosuch
    has "...and it is said what there is" "$out" "no partition 'nosuch'; it has main, urgent, short"
    exits "neither is one whose allocations are longer than its partition allows" 1 trainyard target add long --partition short --time-minutes 90
    has "...and both times are said" "$out" "90 minutes \(time_minutes\), and the partition allows 60"
    check "one that names no partition is added" trainyard target add anyhow --kind slurm --folder "$T/on/anyhow"
    has "...with the nodes of the default one" "$(trainyard target show anyhow)" "^nodes +0 of 4 in use"
    has "...of which the doctor tells the same" "$(trainyard doctor)" "slurm anyhow +Slurm answers, and has 4 nodes"
    exits "more nodes than there are are refused" 1 trainyard submit --target added --nodes 9 --backend gloo -- $PY hello.py
    has "...with the number" "$out" "has 4 nodes"
    exits "GPUs are refused where none is" 1 trainyard submit --target added --gpus 1 -- $PY hello.py
    has "...and it is said why" "$out" "asks for 1 GPU a process, and no node of target 'added' has one"
    run=$(trainyard api -X POST experiments/gpus/runs -d '{"version": 1, "experiment": "gpus", "command": ["/bin/echo", "on a CPU"], "target": "added", "use_gpu": true}' | field id)
    check "a run that would like one ends" until_true 60 ended "$run"
    equal "...well" Completed "$(state_of "$run")"
    has "...after a warning" "$(trainyard logs "$run")" "^Warning: use_gpu is true, but no node of target 'added' has a GPU: the run uses CPUs"
}
case_several() {
    check "a target is made" target several
    run=$(submit several --nodes 3 --procs 2 --backend gloo -- $PY hello.py)
    check "a run of three nodes ends" until_true 60 ended "$run"
    equal "...well" Completed "$(state_of "$run")"
    equal "...with six processes" "0 6,1 6,2 6,3 6,4 6,5 6," "$(trainyard logs --rank all "$run" | sed -n 's/^.*hello //p' | sort | tr '\n' ',')"
    check "...its allocation goes" until_true 20 no_jobs_of several
    check "...and its folders on the nodes" until_true 10 is_empty "$T/on/several/jobs"
}
case_bad() {
    check "a target with an unknown partition is made" target bad '"partition": "nosuch"'
    check "a target with an unknown option of sbatch is made" target odd '"sbatch_options": ["--no-such-option"]'
    check "a target with a drained node that is not there is made" target typo '"drained_nodes": ["n9"]'
    run=$(submit bad -- $PY hello.py)
    odd=$(submit odd -- $PY hello.py)
    typo=$(submit typo -- $PY hello.py)
    check "a run in an unknown partition ends" until_true 40 ended "$run"
    has "...and Slurm's own words say why" "$(error_of "$run")" "PreparationFailed .*Invalid partition name"
    check "a run with an unknown option ends" until_true 40 ended "$odd"
    has "...and Slurm's own words say why" "$(error_of "$odd")" "PreparationFailed .*no-such-option"
    check "a run beside a drained node that is not there ends" until_true 40 ended "$typo"
    has "...and it is said what mends it" "$(error_of "$typo")" "PreparationFailed .*Invalid node name.*drained nodes.*target resume"
}
# One that waits, and is canceled; one that is canceled from outside.
case_cancel() {
    check "a target whose jobs wait is made" target later '"sbatch_options": ["--begin=now+1hour"]'
    check "a target is made" target cancel
    later=$(submit later -- $PY hello.py)
    outside=$(submit cancel -- $PY sleeper.py)
    check "why tells Slurm's reason" until_true 40 says_why "$later" "Slurm job [0-9]+ waits: BeginTime"
    check "it can be canceled" trainyard cancel "$later"
    check "...ends" until_true 40 in_state "$later" Canceled
    check "...and leaves the queue" until_true 40 no_jobs_of later
    check "a run sleeps" until_true 60 log_has "$outside" "^sleeping"
    check "...its node is counted" until_true 10 nodes_are cancel "0 1 0"
    check "...scancel from outside" scancel "$(job_of cancel "$outside")"
    check "...ends it" until_true 40 ended "$outside"
    equal "...as canceled" Canceled "$(state_of "$outside")"
    run=$(submit cancel -- $PY sleeper.py)
    check "a run sleeps" until_true 60 log_has "$run" "^sleeping"
    check "...is canceled" trainyard cancel "$run"
    check "...ends" until_true 40 in_state "$run" Canceled
    check "...and so does its job" until_true 20 no_jobs_of cancel
}
case_limit() {
    check "a target is made" target limit
    run=$(submit limit -- $PY sleeper.py)
    check "a run sleeps" until_true 60 log_has "$run" "^sleeping"
    scontrol update "jobid=$(job_of limit "$run")" TimeLimit=1
    check "...is warned a minute before the limit" until_true 90 log_has "$run" "^warned: Slurm ends this allocation soon"
    scontrol update "jobid=$(job_of limit "$run")" TimeLimit=0
    check "Slurm's time limit ends it" until_true 90 ended "$run"
    has "...it is said to be the limit" "$(trainyard show "$run")" "time limit of the allocation"
}
case_warm() {
    check "a target that keeps its nodes is made" target warm '"idle_seconds_before_scaledown": 300, "max_nodes": 4'
    run=$(submit warm -- $PY hello.py)
    check "a run ends" until_true 60 in_state "$run" Completed
    check "...its node is kept" until_true 20 nodes_are warm "0 0 1"
    kept=$(allocations_of warm "")
    run=$(submit warm -- $PY hello.py)
    check "the next one ends" until_true 40 in_state "$run" Completed
    equal "...in the same allocation" "$kept" "$(allocations_of warm "")"
    for i in 1 2 3; do
        run=$(submit warm -- true)
        until_true 40 in_state "$run" Completed
    done
    equal "...and those that follow each other at once, too" "$kept" "$(allocations_of warm "")"
    node=$(job_field "$kept" NodeList)
    check "its node is drained" trainyard target drain warm --node "$node"
    run=$(submit warm -- $PY hello.py)
    check "another run ends" until_true 60 in_state "$run" Completed
    other=$(allocations_of warm "" | grep -vxF "$kept")
    has "...elsewhere" "$(job_field "$other" NodeList)" "^n[1-4]$"
    equal "...which is not there" "" "$(job_field "$other" NodeList | grep -xF "$node")"
    scancel "$other"
    scancel "$kept"
    check "it goes" until_true 40 no_jobs_of warm
}
case_alone() {
    check "a target without a shared folder is made" target alone '"shared_home": false'
    run=$(submit alone -- $PY hello.py)
    check "a run ends" until_true 60 in_state "$run" Completed
    check "...the agent came with the batch script" test -n "$(ls "$T/on/alone/agents")"
    # A keeper that is started again finds its port taken: the nodes are told by a step where it is now.
    run=$(submit alone --nodes 2 --backend gloo -- $PY sleeper.py)
    check "a run of two nodes sleeps" until_true 60 log_has "$run" "sleeping"
    $PY -c 'import socket, time
s = socket.socket(socket.AF_INET6)
s.bind(("::", 0)); s.listen(); print(s.getsockname()[1], flush=True); time.sleep(600)' > "$T/taken" & thief=$!
    check "a port is taken" until_true 20 test -s "$T/taken"
    keeper=$(cat "$TRAINYARD_HOME/slurm/alone/pid") old=$(cat "$TRAINYARD_HOME/slurm/alone/port")
    printf %s "$(cat "$T/taken")" > "$TRAINYARD_HOME/slurm/alone/port"
    kill -9 "$keeper"
    sed -i 's/"here":2/"here":0/' "$TRAINYARD_HOME/slurm/alone/status" # as it was is not what is asked for
    moved() { now=$(cat "$TRAINYARD_HOME/slurm/alone/port"); [ "$now" != "$old" ] && [ "$now" != "$(cat "$T/taken")" ] && [ "$(allocations_here alone)" = 2 ]; }
    check "a keeper that begins anew at another port is found by both nodes" until_true 60 moved
    equal "...the run goes on" Running "$(state_of "$run")"
    check "...can be canceled" trainyard cancel "$run"
    check "...and ends" until_true 40 in_state "$run" Canceled
    kill "$thief"
}
trainyard up > /dev/null 2>&1
for name in limit one added several bad cancel warm alone; do begin case_$name; done
finish
check "the queue is empty" until_true 30 slurm_no_jobs

# preemption, of all nodes
check "a target of whole nodes is made" target whole '"sbatch_options": ["--exclusive"]'
run=$(submit whole -- $PY sleeper.py)
check "a run sleeps" until_true 60 log_has "$run" "^sleeping"
watched() { squeue -h -s -o %i | grep -qE "^$(job_of whole "$run")\.[0-9]+$"; }
check "...and a step that hears of preemption stands beside it" until_true 20 watched
sbatch -p urgent -N4 --exclusive -o /dev/null --wrap "sleep 1" > /dev/null
check "a job of higher tier ends it" until_true 60 ended "$run"
has "...as preempted" "$(error_of "$run")" "^Preempted "
has "...after a warning" "$(trainyard logs "$run")" "^warned: "
check "the queue is empty" until_true 30 slurm_no_jobs

# the daemon, the courier and the keeper may die; slurmctld may be away
run=$(submit one -- $PY sleeper.py)
check "a run sleeps" until_true 60 log_has "$run" "^sleeping"
slurm_ctld_off
kill -9 "$(runner_pid "$run")"
kill -9 "$(daemon_pid)"
kill -9 "$(cat "$TRAINYARD_HOME/slurm/one/pid")"
check "a new daemon takes the run up" until_true 60 in_state "$run" Running
# So may a keeper whose sbatch finds no slurmctld: the next one looks whether there is a job, and asks for it.
later=$(submit one -- $PY hello.py)
check "a run that Slurm has not taken yet waits" until_true 60 says_why "$later" "Slurm takes no jobs now"
keeper=$(cat "$TRAINYARD_HOME/slurm/one/pid")
kill -9 "$keeper"
another() { [ "$(cat "$TRAINYARD_HOME/slurm/one/pid")" != "$keeper" ]; }
check "...also when its keeper is killed" until_true 60 another
slurm_ctld
check "...and is asked for by the next one" until_true 60 ended "$later"
equal "...and ends well" Completed "$(state_of "$later")"
equal "...it goes on" Running "$(state_of "$run")"
check "...can be canceled" trainyard cancel "$run"
check "...and ends" until_true 60 in_state "$run" Canceled
check "the queue is empty" until_true 30 slurm_no_jobs

# nodes fail: the second of two, and an only one
two=$(submit whole --nodes 2 --backend gloo -- $PY sleeper.py)
only=$(submit whole -- $PY sleeper.py)
check "a run of two nodes sleeps" until_true 60 log_has "$two" "sleeping"
check "a run of one node sleeps" until_true 60 log_has "$only" "sleeping"
second=$(scontrol show hostnames "$(job_field "$(job_of whole "$two")" NodeList)" | tail -n 1)
first=$(job_field "$(job_of whole "$only")" NodeList)
{ slurm_node_dead "$second"; slurm_node_dead "$first"; } 2> /dev/null
check "a second node dies, which ends its run" until_true 120 ended "$two"
has "...and is named" "$(error_of "$two")" "^NodeLost .*$second"
check "an only node dies, which ends its run" until_true 120 ended "$only"
has "...and is said to be lost" "$(error_of "$only")" "^NodeLost .*$first"
slurm_node "$second"
slurm_node "$first"
check "the queue is empty" until_true 60 slurm_no_jobs
check "the nodes are back" until_true 60 slurm_idle

no_couriers() { ! pgrep -f "trainyard-agent courier $TRAINYARD_HOME/" > /dev/null; }
check "no courier is left" until_true 30 no_couriers
slurm_down
equal "nothing of the cluster is left" "" "$(slurm_job_pids)"
