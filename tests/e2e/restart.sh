#!/bin/bash
# Runs that begin again: training goes on where its last checkpoint is, and what earlier attempts said is kept.
. "$(dirname "$0")/lib.sh"

# Ten steps in all, a checkpoint after each.  At step 3 the first attempt waits to be killed, at step 6 the second one raises.
cat > train.py <<'X'
import os, sys, time
import torch
from azureml.core import Run
attempt, folder = int(os.environ["TRAINYARD_ATTEMPT"]), os.environ["TRAINYARD_CHECKPOINT_DIR"]
path = os.path.join(folder, "model.pt")
run = Run.get_context()
model = torch.nn.Linear(1, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
begin = 0
if os.path.exists(path):
    state = torch.load(path)
    model.load_state_dict(state["model"])
    begin = state["step"]
print("attempt", attempt, "begins at", begin, flush=True)
for step in range(begin, 10):
    if step == 3 and attempt == 1:
        print("waiting", flush=True)
        time.sleep(1000)
    if step == 6 and attempt == 2:
        raise RuntimeError("the second attempt fails")
    loss = ((model(torch.ones(4, 1)) - 3) ** 2).mean()
    optimizer.zero_grad(); loss.backward(); optimizer.step()
    run.log("loss", loss.item())
    run.log("attempt of step %d" % step, attempt)
    print("attempt", attempt, "step", step, flush=True)
    torch.save({"model": model.state_dict(), "step": step + 1}, path + ".new")
    os.rename(path + ".new", path)
os.makedirs("outputs", exist_ok=True)
torch.save(model.state_dict(), "outputs/model.pt")
X
# Two ranks: the one that is named fails in the first attempt.
cat > ranks.py <<'X'
import os, sys, time
from azureml.core import Run
rank, attempt = os.environ["RANK"], os.environ["TRAINYARD_ATTEMPT"]
run = Run.get_context()
run.log("rank %s attempt %s" % (rank, attempt), 1)
print("rank", rank, "attempt", attempt, flush=True)
if attempt == "1":
    while not os.path.exists(sys.argv[1]):
        time.sleep(0.02)
    if rank == "1":
        sys.exit(5)
    time.sleep(1000)
X
ended() { case "$(state_of "$1")" in Completed|Failed|Canceled) true;; *) false;; esac; }
settle() { until_true 60 ended "$1" || not_ok "run $1 ends" "$(trainyard show "$1")"; }
says() { trainyard logs "$1" 2>/dev/null | grep -q "$2"; }
rows() { trainyard metrics "$1" --json --rows | $PY -c 'import json,sys; [print(r["name"], r["value"]) for r in json.load(sys.stdin)["rows"]]'; }
events() { trainyard api "runs/$1/events" | $PY -c 'import json,sys; [print(e["kind"], json.dumps(e["data"])) for e in json.load(sys.stdin)["events"]]'; }
checkpoints() { ls "$TRAINYARD_HOME/checkpoints/$1" 2>/dev/null; }

run=$(trainyard submit -q --env PYTHONPATH="$PYTHONPATH" --max-restarts node_lost=1,error=1 -- $PY train.py)
check "a run begins" until_true 60 says "$run" waiting
equal "its checkpoint is in the state folder" model.pt "$(checkpoints "$run")"
kill -9 "$(runner_pid "$run")"
check "its runner is killed: it begins again from the checkpoint" until_true 60 says "$run" "^attempt 2 begins at 3$"
settle "$run"
equal "it raises, and begins again; then it is Completed" "Completed 3" "$(state_of "$run") $(trainyard show "$run" --json | field attempt)"
has "show says which attempt it is" "$(trainyard show "$run")" "^state +Completed.*, attempt 3$"
has "...whoever followed it is told" "$(trainyard attach "$run" 2>&1 > /dev/null)" "^trainyard: run '$run' began again: this was attempt 3; "
has "...and so does its control log" "$(trainyard logs --file azureml-logs/60_control_log.txt "$run")" "preparing run $run, attempt 3$"
has "...and how the first ended" "$(trainyard show "$run")" "^warning +attempt 1 ended: the runner was killed.*; the run starts again \(restart 1 of 1 for cause 'node_lost'\)$"
has "...and the second" "$(trainyard show "$run")" "^warning +attempt 2 ended: the command exited with code 1.*restart 1 of 1 for cause 'error'"
equal "the log has all attempts, in their order" "attempt 1 begins at 0|attempt 2 begins at 3|attempt 3 begins at 6|" "$(trainyard logs "$run" | grep begins | tr '\n' '|')"
equal "...each step once" "1 1 1 2 2 2 3 3 3 3" "$(trainyard logs "$run" | sed -n 's/^attempt \([0-9]\) step .*/\1/p' | xargs)"
has "...and what was raised" "$(trainyard logs "$run")" "^RuntimeError: the second attempt fails$"
equal "metrics of all attempts are one run's" 10 "$(rows "$run" | grep -c '^loss ')"
equal "...each with its own" "1 1 1 2 2 2 3 3 3 3" "$(rows "$run" | sed -n 's/^attempt of step [0-9] \([0-9]\).*/\1/p' | xargs)"
has "the event log says why" "$(events "$run")" '^requeued .*"cause": "node_lost"'
has "...each time" "$(events "$run")" '^requeued .*"cause": "error".*"message": "the command exited with code 1'
has "the model is there" "$(trainyard artifacts ls "$run")" "outputs/model.pt"
check "the checkpoints have gone" until_true 20 test ! -e "$TRAINYARD_HOME/checkpoints/$run"
check "the database agrees with the event log" trainyard doctor

# As many as were allowed, and no more.
cat > fails.py <<'X'
import os, sys
open(os.path.join(os.environ["TRAINYARD_CHECKPOINT_DIR"], "of-" + os.environ["TRAINYARD_ATTEMPT"]), "w")
sys.exit("no")
X
run=$(trainyard submit -q --env PYTHONPATH="$PYTHONPATH" --max-restarts error=2 -- $PY fails.py)
settle "$run"
equal "a run fails when its restarts are used up" "Failed 3" "$(state_of "$run") $(trainyard show "$run" --json | field attempt)"
equal "...its checkpoints stay to be looked at" "of-1 of-2 of-3" "$(checkpoints "$run" | xargs)"
trainyard rm -y "$run" >/dev/null 2>&1
check "...until it is removed" until_true 20 test ! -e "$TRAINYARD_HOME/checkpoints/$run"
run=$(trainyard submit -q --env PYTHONPATH="$PYTHONPATH" --max-restarts node_lost=2 -- $PY fails.py)
settle "$run"
equal "another cause is another matter" "Failed 1" "$(state_of "$run") $(trainyard show "$run" --json | field attempt)"
run=$(trainyard submit -q --env PYTHONPATH="$PYTHONPATH" --max-restarts error=3 -- /bin/sh -c 'echo ready; exec sleep 1000')
until_true 20 says "$run" ready
trainyard cancel "$run" >/dev/null 2>&1
settle "$run"
equal "a run that is canceled does not begin again" "Canceled 1" "$(state_of "$run") $(trainyard show "$run" --json | field attempt)"

# Several processes: each has its log and its rows through all attempts.
run=$(trainyard submit -q --env PYTHONPATH="$PYTHONPATH" --procs 2 --backend gloo --max-restarts error=1 -- $PY ranks.py "$T/go")
until_true 60 says "$run" "rank 1 attempt 1"
until_true 60 says "$run" "rank 0 attempt 1"
touch "$T/go"
settle "$run"
equal "a rank fails: all begin again" "Completed 2" "$(state_of "$run") $(trainyard show "$run" --json | field attempt)"
has "...the rank is named" "$(trainyard show "$run")" "^warning +attempt 1 ended: rank 1 \(node .*\) exited with code 5; the run starts again"
for rank in 0 1; do
    equal "...the log of rank $rank has both" "rank $rank attempt 1|rank $rank attempt 2|" "$(trainyard logs --rank $rank "$run" | grep "^rank" | tr '\n' '|')"
done
equal "...and so have the metrics" "rank 0 attempt 1|rank 0 attempt 2|rank 1 attempt 1|rank 1 attempt 2|" "$(rows "$run" | sed 's/ 1\(\.0\)*$//' | grep '^rank' | sort | tr '\n' '|')"

# The daemon may die between two attempts.
run=$(trainyard submit -q --env PYTHONPATH="$PYTHONPATH" --max-restarts node_lost=1 -- $PY train.py)
until_true 60 says "$run" waiting
kill -9 "$(daemon_pid)" "$(runner_pid "$run")"
check "a daemon that is killed with the runner: the run begins again" until_true 60 says "$run" "^attempt 2 begins at 3$"
settle "$run"
equal "...and then fails by itself" "Failed 2" "$(state_of "$run") $(trainyard show "$run" --json | field attempt)"
