#!/bin/bash
# The queue: all or nothing, in order, and why a run waits.
. "$(dirname "$0")/lib.sh"
mkdir -p "$XDG_CONFIG_HOME/trainyard"
printf '[sched]\ncpus = 2\n' > "$XDG_CONFIG_HOME/trainyard/config"

gate='until [ -e "$GATE" ]; do sleep 0.05; done'
submit() { trainyard submit -q --no-snapshot --env GATE="$T/gate$1" --cpus "$2" -- sh -c "$gate; date +%s.%N"; }
a=$(submit 1 1)
wide=$(submit 2 2)
b=$(submit 3 1)
check "the first runs" until_true 20 in_state "$a" Running
equal "one that wants two slots waits for both" Queued "$(state_of "$wide")"
equal "a later one does not overtake it" Queued "$(state_of "$b")"
has "it says why it waits" "$(trainyard show "$wide" --json | field why)" "waits for 2 CPU slots of this box \(1 of 2 in use\)"
equal "...and its place" 1 "$(trainyard show "$wide" --json | field queue_place)"
equal "...and the other's" 2 "$(trainyard show "$b" --json | field queue_place)"
equal "a run that waits holds no slot" 1 "$(trainyard status --json | $PY -c 'import json,sys; print(json.load(sys.stdin)["slots"]["used"])')"
touch "$T/gate1"
check "then it runs, on both" until_true 20 in_state "$wide" Running
equal "...and the other still waits" Queued "$(state_of "$b")"
pid=$(daemon_pid)
kill -9 "$pid"; until_true 5 gone "$pid"
check "the queue outlives the daemon" in_state "$b" Queued
equal "...and the slots stay taken" 2 "$(trainyard status --json | $PY -c 'import json,sys; print(json.load(sys.stdin)["slots"]["used"])')"
touch "$T/gate2" "$T/gate3"
check "all end" trainyard wait "$a" "$wide" "$b"
exits "a run that asks for more than the box has is refused" 1 trainyard submit --no-snapshot --cpus 4096 -- true
has "...in numbers" "$out" "4096 CPU slots"
equal "...and nothing of it is kept" 3 "$(trainyard ps -a -q | grep -c .)"

exits "an unknown target is refused" 3 trainyard submit --no-snapshot --target nowhere -- true
has "...by name" "$out" "nowhere"
warned=$(trainyard submit --no-snapshot --gpu -- true 2>&1 >/dev/null)
has "a GPU that is not there gives a warning at submission" "$warned" "no GPU"
trainyard wait @last >/dev/null
has "...in the run" "$(trainyard show @last --json | field warnings)" "no GPU"
has "...and as the log's first line" "$(trainyard logs @last | head -1)" "no GPU"

trainyard queue pause 2>/dev/null
low=$(trainyard submit -q --no-snapshot --priority -5 -- true)
high=$(trainyard submit -q --no-snapshot --priority 5 --memory 10M -- true)
equal "the queue in its order" "$high
$low" "$(trainyard queue ls -q 2>/dev/null)"
has "it says why nothing starts" "$(trainyard show "$high" --json | field why)" "the queue is paused"
has "...and so does the status" "$(trainyard status)" "the queue is paused"
trainyard queue resume 2>/dev/null
check "resumed, both end" trainyard wait "$low" "$high"
exits "a priority that cannot be" 1 trainyard submit --no-snapshot --priority 5000 -- true
exits "memory that is not there" 1 trainyard submit --no-snapshot --memory 1000T -- true
