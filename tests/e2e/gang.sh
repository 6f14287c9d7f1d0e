#!/bin/bash
# Gangs: several nodes at once or none, on CPUs of their own; who passes whom; what is refused; draining.
. "$(dirname "$0")/lib.sh"
mkdir -p "$XDG_CONFIG_HOME/trainyard"
printf '[sched]\ncpus = 4\nmemory_mb = 1000\n' > "$XDG_CONFIG_HOME/trainyard/config"

gate='until [ -e "$GATE" ]; do sleep 0.05; done'
# hold NAME OPTION...: a run that goes on until its gate is there
hold() { name=$1; shift; trainyard submit -q --no-snapshot --env GATE="$T/gate-$name" "$@" -- sh -c "$gate"; }
open_gate() { touch "$T/gate-$1"; }
why() { trainyard show "$1" --json | field why; }
# What job.json of a run says, by an expression of Python over j.
job() { $PY -c 'import json,sys; j=json.load(open(sys.argv[1])); print(eval(sys.argv[2]))' "$TRAINYARD_HOME/jobs/$1/job.json" "$2"; }
of_target() { trainyard target show "$1" --json | $PY -c 'import json,sys; print(json.load(sys.stdin)["nodes"][sys.argv[1]])' "$2"; }
node() { trainyard node ls --json | $PY -c 'import json,sys; n=json.load(sys.stdin)["nodes"][0]; print(eval(sys.argv[1]))' "$1"; }

# ---- nodes ----
check "a target of three nodes is made" trainyard target add trio --kind local --max-nodes 3
exits "...once" 5 trainyard target add trio --kind local
has "...and named" "$out" "'trio' already"
pair=$(hold pair --target trio --nodes 2 --procs 1 --backend gloo)
check "a run of two nodes starts" until_true 20 in_state "$pair" Running
equal "...on logical nodes" "['node-0', 'node-1']" "$(job "$pair" '[n["name"] for n in j["nodes"]]')"
equal "...with a slot each" 2 "$(job "$pair" 'len(set(j["holds"][0]["slots"]))')"
equal "...which the box counts" 2 "$(node 'n["cpus_used"]')"
equal "...and names" "['$pair']" "$(node 'n["runs"]')"
equal "the target counts nodes, not runs" 2 "$(of_target trio running)"
equal "...and those that are left" 1 "$(of_target trio idle)"
second=$(hold second --target trio --nodes 2 --procs 1 --backend gloo)
other=$(hold other)
check "another target's run starts" until_true 20 in_state "$other" Running
has "one that its target has no nodes for waits" "$(why "$second")" "waits for 2 nodes of target 'trio' \(2 of 3 in use\)"
pid=$(daemon_pid)
kill -9 "$pid"; until_true 5 gone "$pid"
equal "a daemon that is started again knows who holds what" 3 "$(node 'n["cpus_used"]')"
equal "...of the target, too" 2 "$(of_target trio running)"
equal "...and lets nobody start too early" Queued "$(state_of "$second")"
open_gate pair
check "the other pair starts when the first has ended" until_true 20 in_state "$second" Running
open_gate second; open_gate other
check "all end" trainyard wait "$pair" "$second" "$other"
equal "nothing is held then" 0 "$(node 'n["cpus_used"]')"

# ---- processes that share ----
warned=$(trainyard submit --no-snapshot --nodes 2 --procs 4 --backend gloo -- true 2>&1 > /dev/null)
has "more processes than slots are told that they share them" "$warned" "8 processes share 4 CPU slots"
trainyard wait @last > /dev/null 2>&1

# ---- what would wait for ever ----
exits "more nodes than the target may have are refused" 1 trainyard submit --no-snapshot --target trio --nodes 4 --backend gloo -- true
has "...by name" "$out" "node_count is 4, and target 'trio' has at most 3 nodes"
exits "memory for all processes that is not there is refused" 1 trainyard submit --no-snapshot --nodes 2 --backend gloo --memory 600M -- true
has "...in numbers" "$out" "11[0-9][0-9] MB of memory, and this box has 1000"

# ---- who passes whom ----
long=$(hold long --experiment never_before --cpus 2 --max-run-duration 600)
check "a run with a time limit holds two slots" until_true 20 in_state "$long" Running
wide=$(hold wide --cpus 4)
check "one that wants four waits" until_true 10 in_state "$wide" Queued
has "...and is told until when" "$(why "$wide")" "expected to start within about ([5-9]|1[01]) min: run $long ends by then"
small=$(hold small --max-run-duration 200)
check "a short one passes it: it ends before the other could start" until_true 20 in_state "$small" Running
slow=$(hold slow --max-run-duration 3000)
free=$(hold free)
check "others come behind it" until_true 10 in_state "$free" Queued
equal "one that may last longer does not pass" Queued "$(state_of "$slow")"
equal "...nor one without a limit, though a slot is free" Queued "$(state_of "$free")"
has "...and is told" "$(why "$free")" "waits for its turn, behind 2 other runs; what is free is kept for run $wide"
open_gate small; open_gate long
check "the head starts as soon as it can" until_true 20 in_state "$wide" Running
equal "...before those behind it" Queued "$(state_of "$slow")"
open_gate wide; open_gate slow; open_gate free
check "nobody waits for ever" trainyard wait "$wide" "$small" "$slow" "$free"

# ---- draining ----
busy=$(hold busy --target trio)
check "a run goes on" until_true 20 in_state "$busy" Running
check "its target is drained" trainyard target drain trio
late=$(hold late --target trio)
check "a run of it is accepted" until_true 10 in_state "$late" Queued
has "...and told why it waits" "$(why "$late")" "target 'trio' is drained"
equal "what goes on goes on" Running "$(state_of "$busy")"
equal "...on a node that is leaving" 1 "$(of_target trio leaving)"
pid=$(daemon_pid)
kill -9 "$pid"; until_true 5 gone "$pid"
has "a drained target stays drained" "$(why "$late")" "is drained"
check "...also when it is changed" trainyard target add trio --replace --kind local --max-nodes 2
has "...as one sees" "$(trainyard target ls --plain | grep ^trio)" drained
check "it is resumed" trainyard target resume trio
check "...and the run starts" until_true 20 in_state "$late" Running
box=$(node 'n["name"]')
exits "a node that is not there cannot be drained" 3 trainyard target drain trio --node nowhere
check "this box is drained, as a node" trainyard target drain trio --node "$box"
equal "...and says so" drained "$(node 'n["state"]')"
away=$(hold away)
check "nothing is placed on it" until_true 10 in_state "$away" Queued
has "...for any target" "$(why "$away")" "'$box' is drained"
exits "a target with runs cannot be removed" 5 trainyard target rm trio
check "the box is resumed" trainyard target resume trio --node "$box"
check "...and used" until_true 20 in_state "$away" Running
open_gate busy; open_gate late; open_gate away
check "all end" trainyard wait "$busy" "$late" "$away"
check "the target is removed" trainyard target rm trio
exits "...and gone" 3 trainyard target show trio
