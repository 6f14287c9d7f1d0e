#!/bin/bash
# A state folder that release 0.1.0 wrote is taken over whole: tests/fixtures/state-0.1.0.tar.gz holds three runs of two experiments
# (completed, failed, canceled), what they logged, their files, a compute target and a datastore.
. "$(dirname "$0")/lib.sh"
GOOD=first_1795455471_0530a90f BAD=first_1795455471_97c58c6e CANCELED=second_1795455472_f3ab9c5b
mkdir -m 700 "$TRAINYARD_HOME"
tar -xzf "$SOURCE/tests/fixtures/state-0.1.0.tar.gz" -C "$TRAINYARD_HOME"

check "the daemon opens it" trainyard up
equal "the runs" "$CANCELED Canceled
$BAD Failed
$GOOD Completed" "$(trainyard ps -a --json | $PY -c 'import json,sys
for r in json.load(sys.stdin)["runs"]: print(r["id"], r["state"])')"
equal "exit code, tags and properties" "3 {'bare': None, 'phase': 'one'} {'kept': 'for ever'}" "$(trainyard show "$BAD" --json | $PY -c '
import json, sys
r = json.load(sys.stdin)
print(r["exit_code"], r["tags"], r["properties"])')"
equal "what was logged" "True" "$(trainyard metrics "$GOOD" --json | $PY -c '
import json, sys
m = json.load(sys.stdin)["metrics"]
print(m["loss"] == [1 / (i + 1) for i in range(20)] and m["accuracy"] == 0.75 and m["primes"] == [2, 3, 5, 7]
      and m["curve"] == {"x": [0, 1, 2], "y": [0, 1, 4]} and m["table"] == {"a": [1, 2], "b": ["x", "y"]}
      and m["odd"] == {"$float": "NaN"} and m["note"] == "a text")')"
equal "the log" "line one error line" "$(trainyard logs "$GOOD" | sort -r | tr '\n' ' ' | sed 's/line one error line $/line one error line/;s/ $//')"
equal "a file's bytes" "$($PY -c 'import sys; sys.stdout.buffer.write(bytes(range(256)) * 16)' | sha256sum)" \
    "$(trainyard artifacts get "$GOOD" outputs/model.bin -o - | sha256sum)"
check "the tables agree with the event log" trainyard doctor
run=$(trainyard submit -q --experiment first --target box -- sh -c 'echo again')
check "a new run on the old target" trainyard wait "$run"
equal "its number follows" "3" "$(trainyard show "$run" --json | field number)"
