#!/bin/bash
# Jobs of several hosts that are hurt: each kind of failure of ranks, agents, daemon, connections and machines, with the
# true end, the one to blame named, nothing left running, and no line lost.
. "$(dirname "$0")/hosts.lib.sh"
lab_enter "jobs on hosts that fail" "$@"
. "$(dirname "$0")/lib.sh"
trap 'code=$?; trainyard down > /dev/null 2>&1; lab_down; (exit $code); at_end' EXIT
. "$SOURCE/tests/e2e/fail.lib.sh"

all="h1 h2 h3 h4 h5 h6 h7 h8 h9"
lab=1; lab_up $all || lab=0
equal "nine hosts are up" 1 $lab
far=$LAB_HOME/.cache/trainyard
host_sh() { lab_s=$1; shift; host_run "$lab_s" sh -c "$*"; }
# The machine of a rank, in the last attempt.
host_of() { trainyard api "runs/${run[$1]}/events" | $PY -c 'import json,sys; print([e["data"]["nodes"] for e in json.load(sys.stdin)["events"] if e["kind"] == "started"][-1][int(sys.argv[1]) // 2])' "$2"; }
# What a node had not sent goes with its agent that is killed, and with the leader; what had come does not.
side() { case $1$2 in leader[23]|agent[23]) return;; esac; host_sh "$(host_of "$1" "$2")" "cat $SIDE/$3 2> /dev/null"; }
far_left() { host_run "$1" $PY - "$far/jobs" "${run[$2]}" < "$T/project/left.py"; }
clean_of() { [ -z "$(far_left "$1" "$2")" ]; }
# left NAME HOST...: nothing of it is left on these hosts
left() {
    local name=$1 h; shift
    for h in "$@"; do until_true 60 clean_of "$h" "$name" || { not_ok "$name: ...and nothing is left on $h" "$(far_left "$h" "$name")"; return; }; done
    ok "$name: ...and nothing is left on $*"
}
pair() { # NAME HOST...
    local name=$1 hosts= h; shift
    for h in "$@"; do hosts="$hosts${hosts:+, }{\"host\": \"$h\", \"cpus\": 40, \"memory_mb\": 64000}"; done
    printf '{"kind": "hosts", "hosts": [%s]}' "$hosts" > target.json
    check "a target of $*" trainyard api -X PUT "targets/$name" -d @target.json
}
export TRAINYARD_SCHED_SILENT_SECONDS=4 TRAINYARD_SCHED_NODE_LOST_SECONDS=600
pair one h1 h2; pair two h3 h4; pair three h5 h6; pair four h7 h8 h9

# ---- ranks and agents; cables that are cut for a while ----
hang one
hurt raise one -- raise 3
hurt exit one -- exit 2
hurt kill one -- kill 1
hurt wrapper one -- wrapper 3
hurt again one --max-restarts error=1 -- exit 2 40
hurt agent one -- none
hurt leader one -- none
hurt cuts one -- none -1 200
hurt cable two -- none -1 250
hurt first three -- none -1 250
await_going cable; cable_cut h4
await_going first; cable_cut h5
cut_at=$SECONDS
for name in agent leader cuts; do await_going $name; done
ends raise 60 Failed "^ScriptFailed \| rank 3 \(node h2\) exited with code 1 \| .*line 3 20/.*RuntimeError: this one is mine"
ends exit 60 Failed "^ScriptFailed \| rank 2 \(node h2\) exited with code 3 \| .*line 2 20/fails"
ends kill 60 Failed "^ScriptKilled \| rank 1 \(node h1\) was killed by signal 9.* \| .*line 1 20/fails"
ends wrapper 60 Failed "^RunnerLost \| the process that watched rank 3 \(node h2\) was killed by signal 9"
for name in raise:3 exit:2 kill:1 wrapper:3; do
    soon ${name%:*} ${name#*:}
    whole ${name%:*} 1
done

kill -9 "$(runner_pid "${run[cuts]}")"
host_sh h2 "kill -9 \$(cut -d' ' -f2 $far/jobs/${run[agent]}.1/runner.id)"
ends agent 60 Failed "^NodeLost \| .*node 'h2' was lost"
host_sh h1 "kill -9 \$(cut -d' ' -f2 $far/jobs/${run[leader]}/runner.id)"
ends leader 60 Failed "^RunnerLost \| the runner on node 'h1' was killed; all 4 processes were ended with it"
whole agent 1
whole leader 1
ssh_cut h1; ssh_cut h2
daemon=$(daemon_pid)
kill -9 "$daemon"; until_true 5 gone "$daemon"
trainyard up > /dev/null 2>&1
check "cable: a host that cannot be heard is told of" until_true 30 in_state "${run[cable]}" NotResponding
check "cable: ...by name" until_true 10 saw_event cable '^silent .*"node": "h4"'
has "cable: ...also by why" "$(trainyard why "${run[cable]}")" "its node 'h4' has not been heard"
check "first: a host that cannot be heard is told of" until_true 30 in_state "${run[first]}" NotResponding
cut_long_enough() { [ $((SECONDS - cut_at)) -ge 15 ]; }
until_true 20 cut_long_enough
cable_mend h4; cable_mend h5
ends cuts 60 Completed
whole cuts 1 200
if [ -n "${run[hang]-}" ]; then
    ends hang 90 Failed "^Hang \| rank 1 \(node h2\) kept the others waiting for [1-9][0-9]* s: allreduce 'allreduce.grad.3'"
    left hang h1 h2
fi
ends again 60 Completed
equal "again: ...in its second attempt" 2 "$(trainyard show "${run[again]}" --json | field attempt)"
whole again 2 40
ends cable 90 Completed
check "cable: ...and was heard again" saw_event cable '^heard '
whole cable 1 250
ends first 90 Completed
check "first: ...and was heard again" saw_event first '^heard '
whole first 1 250
for name in raise exit kill wrapper again agent leader cuts; do left $name h1 h2; done
left cable h3 h4
left first h5 h6

# ---- all is told, and the courier is killed before it has cleaned ----
run[late]=$(trainyard submit -q --target three --nodes 2 --backend gloo -- sh -c 'until [ -e /tmp/go ]; do sleep 0.05; done')
check "late: it runs" until_true 60 in_state "${run[late]}" Running
leader=$(host_of late 0) daemon=$(daemon_pid) courier=$(runner_pid "${run[late]}")
kill -STOP "$daemon"
for h in h5 h6; do host_sh $h "touch /tmp/go"; done
check "late: it has ended there" until_true 60 host_sh "$leader" "grep -q collected $far/jobs/${run[late]}/phase"
kill -9 "$courier"; kill -CONT "$daemon"
ends late 60 Completed
left late h5 h6

# ---- machines that are lost ----
trainyard down 2> /dev/null
export TRAINYARD_SCHED_SILENT_SECONDS=2 TRAINYARD_SCHED_NODE_LOST_SECONDS=8
hurt first_off one -- none
hurt other_off four --max-restarts node_lost=1 -- long -1 60
hurt other_cut two -- none
hurt first_cut three -- none
for name in first_off other_off other_cut first_cut; do await_going $name; done
courier=$(runner_pid "${run[first_off]}")
host_off h1
host_off h8
cable_cut h4
cable_cut h5
ends first_off 60 Failed "^NodeLost \| .*h1"
ends other_cut 60 Failed "^NodeLost \| .*node 'h4' was lost"
ends first_cut 60 Failed "^NodeLost \| .*h5"
left first_off h2
left other_cut h3
left first_cut h6
nobody() { ! host_sh "$1" "cat /proc/[0-9]*/cmdline" | tr '\0' ' ' | grep -q ranks.sh; }
check "other_cut: the host that is cut off ends its part by itself" until_true 30 nobody h4
ends other_off 90 Completed
has "other_off: ...in a second attempt, since" "$(trainyard show "${run[other_off]}")" "attempt 1 ended: .*h8"
left other_off h7 h9
check "first_off: its courier goes on, until the host is clean" kill -0 "$courier"
cable_mend h4; cable_mend h5
host_on h1; host_on h8
left first_off h1
left other_cut h4
left first_cut h5
left other_off h8
