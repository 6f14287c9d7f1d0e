# fail.lib.sh - jobs of several nodes that are hurt in the middle, on whatever target; sourced after lib.sh
#
# The processes of such a job print numbered lines, into their log and, behind each, into a file of their own in the folder
# SIDE of their machine: what is there must be in the log, in order and once, however the job ends.
#
#   hurt NAME TARGET OPTION... -- HOW RANK [LINES]   submit one of two nodes with two processes each; HOW: what rank RANK does
#           after its line 20 (none, raise, exit, kill, wrapper; in the first attempt alone); without that each prints LINES
#           lines (1000, of 0.1 s each) and ends well; long: the first attempt goes on longer.  The run's id is in ${run[NAME]}
#   going NAME            every process has printed five lines
#   side NODE_HOST FILE   (the script's) prints that file of SIDE on the machine that the rank runs on
declare -A run
SIDE=${SIDE:-/tmp/ty-side}
cat > ranks.sh <<'C'
# ranks.sh SIDE HOW RANK LINES
set -u
last=$4; [ "$2 $TRAINYARD_ATTEMPT" = "long 1" ] && last=1000
i=1 own=$1/$TRAINYARD_RUN_ID-$TRAINYARD_ATTEMPT-$RANK
mkdir -p "$1"
while [ $i -le "$last" ]; do
    echo "line $RANK $i"; echo "line $RANK $i" >> "$own"
    [ $((i = i + 1)) -eq 21 ] && [ "$RANK" = "$3" ] && [ "$TRAINYARD_ATTEMPT" = 1 ] && case $2 in
        raise) echo "fails at $(date +%s%6N)"; exec python3 -c 'raise RuntimeError("this one is mine")';;
        exit) echo "fails at $(date +%s%6N)"; exit 3;;
        kill) echo "fails at $(date +%s%6N)"; kill -9 $$;;
        wrapper) echo "fails at $(date +%s%6N)"; kill -9 $PPID; sleep 1000;;
    esac
    sleep 0.1
done
C
cat > left.py <<'C'
# left.py FOLDER RUN: what is left of a run on this machine, of whose jobs FOLDER has the folders
import os, sys
jobs, run = sys.argv[1:]
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        with open("/proc/%s/environ" % pid, "rb") as f:
            env = f.read().split(b"\0")
        with open("/proc/%s/cmdline" % pid, "rb") as f:
            args = f.read().replace(b"\0", b" ").decode("utf-8", "replace").strip()
    except OSError:
        continue
    job = os.path.join(jobs, run)
    if any(v.startswith(b"TRAINYARD_JOB=" + job.encode()) for v in env) or " " + job in args:
        print(pid, args)
for name in os.listdir(jobs):
    if run in name:
        print(os.path.join(jobs, name))
C
hurt() {
    local name=$1 target=$2; shift 2
    local options=()
    while [ "$1" != -- ]; do options+=("$1"); shift; done
    run[$name]=$(trainyard submit -q --target "$target" --nodes "${NODES:-2}" --procs 2 --backend gloo "${options[@]}" -- \
        sh ranks.sh "$SIDE" "$2" "${3:--1}" "${4:-1000}")
    [ -n "${run[$name]}" ] || { not_ok "$name is submitted"; exit 1; }
}
cat > late.py <<'C'
import time
import torch
import horovod.torch as hvd
hvd.init()
hvd.allreduce(torch.ones(10), name="first")
if hvd.rank() == 1:
    time.sleep(1000)
hvd.allreduce(torch.ones(10), name="grad.3")
C
# hang TARGET: a job of two nodes whose second process keeps the first waiting; the run is ${run[hang]}.  Fails without torch.
hang() {
    [ "$BUILD" = "$SOURCE/build" ] && $PY -c 'import torch' 2> /dev/null || { skip "hang: a hang" "there is no torch for $PY"; return 1; }
    run[hang]=$(trainyard submit -q --target "$1" --nodes 2 --backend mpi --hang-timeout 3s -- $PY late.py)
}
log_file() { echo "$TRAINYARD_HOME/logs/${run[$1]}/azureml-logs/70_driver_log_$2.txt"; }
going() {
    local r
    for r in 0 1 2 3; do grep -q "^line $r 5$" "$(log_file "$1" $r)" 2> /dev/null || return 1; done
}
await_going() { until_true 60 going "$1" || not_ok "$1: it goes on" "$(trainyard show "${run[$1]}")" "$(trainyard logs --rank all "${run[$1]}" | tail -n 20)"; }
ended() { case "$(state_of "${run[$1]}")" in Completed|Failed|Canceled) true;; *) false;; esac; }
# ends NAME SECONDS STATE ["CODE | MESSAGE"]: the job ends, as it must
ends() {
    timeout $(($2 * 3)) trainyard wait "${run[$1]}" > /dev/null 2>&1
    ended "$1" || not_ok "$1: it ends" "$(trainyard show "${run[$1]}")"
    equal "$1: it is $3" "$3" "$(state_of "${run[$1]}")"
    [ -z "${4-}" ] || has "$1: ...and says why" "$(error_of "$1")" "$4"
}
error_of() { trainyard show "${run[$1]}" --json | $PY -c 'import json,sys; e=json.load(sys.stdin)["error"] or {}; print(e.get("code"), "|", e.get("message"), "|", (e.get("log_tail") or "").replace("\n", "/"))'; }
events_of() { trainyard api "runs/${run[$1]}/events" | $PY -c 'import datetime,json,sys
for e in json.load(sys.stdin)["events"]:
    at = datetime.datetime.fromisoformat(e["at"].replace("Z", "+00:00"))
    print(e["kind"], round(at.timestamp() * 1e6), json.dumps(e.get("data")))'; }
saw_event() { events_of "$1" | grep -qE "$2"; }
# whole NAME ATTEMPT [LAST]: the lines of each process are numbered from 1 without a gap, to LAST if it is given, and hold
# all that is in the side files which `side` prints
whole() {
    local r said=
    for r in 0 1 2 3; do
        said=$(side "$1" $r "${run[$1]}-$2-$r" | tail -n 1)
        $PY - "$(log_file "$1" $r)" "$r" "${3:-0}" "$2" "${said##* }" <<'C' || { not_ok "$1: no line is lost or doubled"; return; }
import sys
path, rank, last, attempt, said = sys.argv[1:]
with open(path) as f:
    got = [int(l.split()[2]) for l in f if l.startswith("line %s " % rank)]
parts = []
for n in got:
    if n == 1:
        parts.append([])
    (parts or [[]])[-1].append(n)
    if not parts:
        sys.exit("#   rank %s begins with line %d" % (rank, n))
if len(parts) != int(attempt):
    sys.exit("#   rank %s: %d attempts are in its log, not %s" % (rank, len(parts), attempt))
for p in parts:
    if p != list(range(1, len(p) + 1)):
        sys.exit("#   rank %s: lines are lost or doubled: %s" % (rank, p))
end = len(parts[-1])
if int(last) and end != int(last):
    sys.exit("#   rank %s: %d lines, not %s" % (rank, end, last))
if said and end < int(said):
    sys.exit("#   rank %s: it printed %s lines, and %d are here" % (rank, said, end))
C
    done
    ok "$1: no line is lost or doubled"
}
# soon NAME RANK: from the rank's end to the job's.  Two seconds are what is promised, and what is measured; a machine that does
# other work may need more, so what fails is only what no pause explains.
soon() {
    local began over
    began=$(sed -n 's/^fails at //p' "$(log_file "$1" "$2")" | head -n 1)
    over=$(events_of "$1" | sed -n 's/^exited_bad \([0-9]*\) .*/\1/p;s/^lost \([0-9]*\) .*/\1/p' | head -n 1)
    if [ -n "$began" ] && [ -n "$over" ] && [ $(((over - began) / 1000)) -lt 40000 ]; then
        ok "$1: ...soon ($(((over - began) / 1000)) ms)"
    else
        not_ok "$1: ...soon" "it failed at ${began:-?}, and the job ended at ${over:-?}"
    fi
}
