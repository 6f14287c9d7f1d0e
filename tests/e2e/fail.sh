#!/bin/bash
# Jobs of two logical nodes of this box that are hurt: the true end, the one to blame named, nothing left, no line lost.
# (nodes.sh does so with hosts, slurmfail.sh on a cluster.)
. "$(dirname "$0")/lib.sh"
SIDE=$T/side
. "$SOURCE/tests/e2e/fail.lib.sh"
mkdir -p "$XDG_CONFIG_HOME/trainyard"
printf '[sched]\ncpus = 64\nmemory_mb = 64000\n' > "$XDG_CONFIG_HOME/trainyard/config"
side() { cat "$SIDE/$3" 2> /dev/null; }
clean_of() { [ -z "$($PY left.py "$TRAINYARD_HOME/jobs" "${run[$1]}")" ]; }
left() { if until_true 30 clean_of "$1"; then ok "$1: ...and nothing is left"; else not_ok "$1: ...and nothing is left" "$($PY left.py "$TRAINYARD_HOME/jobs" "${run[$1]}")"; fi; }

trainyard up > /dev/null 2>&1
hurt raise local -- raise 3
hurt exit local -- exit 2
hurt kill local -- kill 1
hurt wrapper local -- wrapper 3
hurt again local --max-restarts error=1 -- exit 2 40
hurt runner local -- none
hurt lives local -- none -1 200
hurt lost local --max-restarts node_lost=1 -- long -1 40
for name in runner lives lost; do await_going $name; done
ends raise 60 Failed "^ScriptFailed \| rank 3 \(node node-1\) exited with code 1 \| .*line 3 20/.*RuntimeError: this one is mine"
ends exit 60 Failed "^ScriptFailed \| rank 2 \(node node-1\) exited with code 3 \| .*line 2 20/fails"
ends kill 60 Failed "^ScriptKilled \| rank 1 \(node node-0\) was killed by signal 9.* \| .*line 1 20/fails"
ends wrapper 60 Failed "^RunnerLost \| the process that watched rank 3 \(node node-1\) was killed by signal 9"
for name in raise:3 exit:2 kill:1 wrapper:3; do
    soon ${name%:*} ${name#*:}
    whole ${name%:*} 1
done
daemon=$(daemon_pid)
kill -9 "$daemon"; until_true 5 gone "$daemon"
kill -9 "$(runner_pid "${run[runner]}")" "$(runner_pid "${run[lost]}")"
trainyard up > /dev/null 2>&1
ends runner 60 Failed "^RunnerLost \| "
whole runner 1
ends again 60 Completed
whole again 2 40
ends lost 60 Completed
equal "lost: ...in its second attempt" 2 "$(trainyard show "${run[lost]}" --json | field attempt)"
whole lost 2 40
ends lives 60 Completed
whole lives 1 200
for name in raise exit kill wrapper again runner lost lives; do left $name; done
