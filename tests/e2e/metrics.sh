#!/bin/bash
# What a script logs, read back on the command line; also while no daemon is there.
. "$(dirname "$0")/lib.sh"
cat > train.py <<'X'
import os, time
from azureml.core.run import Run
run = Run.get_context()
run.log("once", 1.5)
for i in range(3):
    run.log("loss", 1 / (i + 1))
run.log_row("row", a=1, b="x")
run.log("nan", float("nan"))
run.tag("stage", "warm")
print("logged", flush=True)
while os.environ.get("GATE") and not os.path.exists(os.environ["GATE"]):
    time.sleep(0.05)
run.log("late", 7)
X
run=$(trainyard submit -q --env PYTHONPATH="$PYTHONPATH" -- $PY train.py)
check "the run ends" trainyard wait "$run"
shown=$(trainyard metrics "$run" --json)
equal "shapes of get_metrics" "True" "$(printf '%s' "$shown" | $PY -c '
import json, sys
m = json.load(sys.stdin)["metrics"]
print(m["once"] == 1.5 and m["loss"] == [1.0, 0.5, 1 / 3] and m["row"] == {"a": 1, "b": "x"} and m["nan"] == {"$float": "NaN"} and m["late"] == 7)')"
has "a table for people" "$(trainyard metrics "$run")" "loss"
equal "a tag that the script set" "warm" "$(trainyard show "$run" --json | $PY -c 'import json,sys; print(json.load(sys.stdin)["tags"]["stage"])')"

run=$(trainyard submit -q --env PYTHONPATH="$PYTHONPATH" --env GATE="$T/gate" -- $PY train.py)
check "a second run starts" until_true 20 in_state "$run" Running
pid=$(daemon_pid)
kill -9 "$pid"; until_true 5 gone "$pid"
touch "$T/gate"
until_true 20 grep -q collected "$TRAINYARD_HOME/jobs/$run/phase"
check "it ended while no daemon was there" trainyard wait "$run"
equal "each row is there once" "7" "$(trainyard metrics "$run" --rows --json | $PY -c '
import json, sys
rows = [r for r in json.load(sys.stdin)["rows"]]
assert len({(r["writer"], r["seq"]) for r in rows}) == len(rows)
print(len(rows))')"
