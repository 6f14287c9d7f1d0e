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

# Followed while the daemon is killed again and again: each row comes once, in its order.
cat > many.py <<'X'
import os, sys, time
from azureml.core.run import Run
run = Run.get_context()
for i in range(2000):
    run.log("i", i, step=i)
    if i % 100 == 99:
        time.sleep(0.05)
        while not os.path.exists(sys.argv[1]) and i > 1000:
            time.sleep(0.02)
run.log_list("list", [1, 2])
X
run=$(trainyard submit -q --env PYTHONPATH="$PYTHONPATH" -- $PY many.py "$T/go")
trainyard metrics -f --json "$run" > rows.json 2> rows.err &
follower=$!
is_up() { pid=$(daemon_pid); [ -n "$pid" ]; }
more_than() { [ "$(wc -l < rows.json)" -gt "$1" ]; }
for n in 0 400 1000; do
    check "more than $n rows have come" until_true 20 more_than $n
    check "a daemon serves" until_true 20 is_up
    is_up && kill -9 "$pid"; until_true 5 gone "$pid"
done
touch "$T/go"
wait $follower
equal "the follower ends with the run" 0 $?
equal "each row once, whatever happened to the daemon" "2001 True True" "$($PY -c '
import json
rows = [json.loads(line) for line in open("rows.json")]
print(len(rows), [r["seq"] for r in rows] == sorted({r["seq"] for r in rows}), [r["value"] for r in rows[:2000]] == list(range(2000)))')"
equal "lines for other programs" "1999 1999" "$(trainyard metrics -f --name i "$run" | tail -1 | cut -f2,4 | tr '\t' ' ')"

# On a terminal: drawn in place, with the last picture left; on one that cannot, lines.
cat > screen.py <<'X'
import fcntl, os, pty, struct, sys, termios
pid, fd = pty.fork()
if pid == 0:
    os.environ["TERM"] = sys.argv[1]
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    os.execvp("trainyard", ["trainyard", "metrics", "-f", "--name", "i", sys.argv[2]])
said = b""
while True:
    try:
        piece = os.read(fd, 65536)
    except OSError:
        break
    if not piece:
        break
    said += piece
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
left = said.split(b"\x1b[?1049l")[-1].decode()
sys.stdout.write("%d %d %d\n%s" % (code, said.count(b"\x1b[?1049h"), b"\x1b[3" in said, left.replace("\r", "")))
X
shown=$($PY screen.py xterm "$run")
equal "a picture, without colour" "0 1 0" "$(printf '%s\n' "$shown" | head -1)"
has "has the last value" "$shown" "^i  1999  \(2000: 0 to 1999\)"
has "and both ends of its axis" "$shown" "step 0 +1999"
shown=$($PY screen.py dumb "$run")
equal "no picture on a dumb terminal" "0 0 0" "$(printf '%s\n' "$shown" | head -1)"
equal "but lines" 2000 "$(printf '%s\n' "$shown" | grep -c '^i	')"

# An interactive run's rows are followed, too.
cat > idle.py <<'X'
import sys, time
from azureml.core import Experiment, Workspace
run = Experiment(Workspace.from_config(), "followed").start_logging(snapshot_directory=None)
print(run.id, flush=True)
for i in range(5):
    run.log("outside", i)
    run.flush()
    time.sleep(0.1)
run.complete()
X
$PY idle.py > idle.id 2>/dev/null &
until_true 20 test -s idle.id
equal "rows from outside of a job are followed" "5" "$(trainyard metrics -f "$(cat idle.id)" --json 2>/dev/null | grep -c '"outside"')"
wait $!
