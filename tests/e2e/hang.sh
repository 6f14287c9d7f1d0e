#!/bin/bash
# Ranks that keep others waiting: they are named while it lasts, and end the job when the run says so.
. "$(dirname "$0")/lib.sh"

cat > late.py <<'X'
import os, signal, sys, time
import torch
import horovod.torch as hvd
hvd.init()
hvd.allreduce(torch.ones(10), name="first")
if hvd.rank() == 1:
    if sys.argv[1] == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    while not os.path.exists(sys.argv[2]):
        time.sleep(0.02)
hvd.allreduce(torch.ones(10), name="grad.3")
X
submit() { trainyard submit -q --backend mpi "$@"; }
ended() { case "$(state_of "$1")" in Completed|Failed|Canceled) true;; *) false;; esac; }
settle() { until_true 60 ended "$1" || not_ok "run $1 ends" "$(trainyard show "$1")"; }
warnings() { trainyard show "$1" --json | $PY -c 'import json,sys; print("\n".join(json.load(sys.stdin)["warnings"]))'; }
warned() { warnings "$1" | grep -qE "$2"; }
error_of() { trainyard show "$1" --json | $PY -c 'import json,sys; e=json.load(sys.stdin)["error"] or {}; print(e.get("code"), "|", e.get("message"))'; }
data_of() { trainyard api "runs/$1/events" | $PY -c 'import json,sys; [print(json.dumps(e["data"])) for e in json.load(sys.stdin)["events"] if e["kind"] == sys.argv[1]]' "$2"; }
# The engine says it again each second, in the log of the rank that waits.
said_often() { [ "$(grep -c "ranks are late" "$TRAINYARD_HOME/logs/$1/azureml-logs/70_driver_log_0.txt")" -ge 3 ]; }

go=$T/go
run=$(submit --nodes 2 --env HOROVOD_STALL_CHECK_TIME_SECONDS=1 -- $PY late.py sleep "$go")
check "a late rank is told of" until_true 60 warned "$run" "keeps the others waiting: allreduce 'allreduce.grad.3'"
has "...which, where, with what, since when" "$(warnings "$run")" "^rank 1 \(node node-1\) keeps the others waiting: allreduce 'allreduce.grad.3' since [1-9][0-9]* s$"
has "...also by why" "$(trainyard why "$run")" "is Running since .*: its processes wait for rank 1 \(node node-1\) since 20.* ago\): allreduce 'allreduce.grad.3'"
has "...and by its JSON" "$(trainyard why --json "$run")" '"who": *"rank 1 \(node node-1\)"'
until_true 20 said_often "$run"
equal "...once" 1 "$(warnings "$run" | grep -c "keeps the others waiting: allreduce 'allreduce.grad.3'")"
equal "without a limit it is waited for" Running "$(state_of "$run")"
touch "$go"
settle "$run"
equal "it comes, and all is well" Completed "$(state_of "$run")"
rm -f "$go"

# One that comes late and does not end: that it is over is told, too.
run=$(submit --procs 2 --env HOROVOD_STALL_CHECK_TIME_SECONDS=1 -- /bin/sh -c "$PY late.py sleep $go; until test -e $go.2; do sleep 0.1; done")
until_true 60 warned "$run" "keeps the others waiting: allreduce 'allreduce.grad.3'"
touch "$go"
check "that it is over is told" until_true 20 warned "$run" "^the processes go on: rank 1 \(node .*\) had kept the others waiting for [1-9][0-9]* s \(allreduce 'allreduce.grad.3'\)$"
equal "...and why knows of nothing any more" "" "$(trainyard why "$run" | grep "wait for")"
touch "$go.2"
settle "$run"
rm -f "$go"

# With a limit the engine looks early enough by itself.
for how in sleep stop; do
    run=$(submit --procs 2 --hang-timeout 3s -- $PY late.py $how "$go")
    settle "$run"
    has "a hang ends the job ($how)" "$(error_of "$run")" "^Hang \| rank 1 \(node .*\) kept the others waiting for [1-9][0-9]* s: allreduce 'allreduce.grad.3' \(hang_timeout_seconds is 3\)"
    has "...its event names the rank" "$(data_of "$run" exited_bad)" '"rank": 1'
    check "...nothing is left" until_true 10 no_strays
done

# A hang is an error, as restarts go.
run=$(submit --procs 2 --hang-timeout 2s --max-restarts error=1 -- $PY late.py sleep "$go")
check "a hang may be followed by another attempt" until_true 60 warned "$run" "^attempt 1 ended: rank 1 .* kept the others waiting"
touch "$go"
settle "$run"
equal "...that ends well" "Completed 2" "$(state_of "$run") $(trainyard show "$run" --json | field attempt)"
