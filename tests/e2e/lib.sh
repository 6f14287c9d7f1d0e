# lib.sh - what every end-to-end script stands on: a state folder of its own, checks, and an end that leaves nothing
#
# BUILD names the build to test (default: build/).  A script prints `ok - what`, `not ok - what` or
# `ok - what # SKIP reason`, and exits with 1 when a check failed.

BUILD=${BUILD:-$(cd "$(dirname "$0")/../.." && pwd)/build}
SOURCE=$(cd "$(dirname "$0")/../.." && pwd)
T=$(mktemp -d "${TMPDIR:-/tmp}/ty-e2e.XXXXXX")
export TRAINYARD_HOME=$T/home XDG_CACHE_HOME=$T/cache XDG_CONFIG_HOME=$T/config
# A sanitized extension cannot be loaded into Python: those builds have none, and the plain one's serves.
export PATH=$BUILD:$PATH NO_COLOR=1 PYTHONPATH=$SOURCE/build/python
PY=/usr/bin/python3
failed=0
mkdir -p "$T/project"
cd "$T/project" || exit 1

# The processes whose environment names a job folder of this test.
strays() {
    $PY - "TRAINYARD_JOB=$TRAINYARD_HOME/" <<'X'
import os, sys
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        with open("/proc/%s/environ" % pid, "rb") as f:
            if any(v.startswith(sys.argv[1].encode()) for v in f.read().split(b"\0")):
                print(pid)
    except OSError:
        pass
X
}
daemon_pid() { trainyard status --json 2>/dev/null | field pid; }
# The value of a top-level key of a JSON object on standard input ("" for null).
field() { $PY -c 'import json,sys; v=json.load(sys.stdin).get(sys.argv[1]); print("" if v is None else v)' "$1"; }
state_of() { trainyard show "$1" --json | field state; }
# The pid that holds the lock of the job folder of a run.
runner_pid() { cut -d' ' -f2 "$TRAINYARD_HOME/jobs/$1/runner.id" 2>/dev/null; }

at_end() {
    code=$?
    trainyard down >/dev/null 2>&1
    until_true 20 no_strays
    left=$(strays)
    if [ -n "$left" ]; then
        echo "not ok - nothing is left running: $left"
        for p in $left; do kill -9 "$p" 2>/dev/null; done
        failed=1
    fi
    cd / && rm -rf "$T"
    [ "$code" -ne 0 ] && exit "$code"
    exit $failed
}
trap at_end EXIT

ok() { echo "ok - $1"; }
not_ok() { echo "not ok - $1"; shift; [ $# -gt 0 ] && printf '%s\n' "$@" | sed 's/^/#   /'; failed=1; }
skip() { echo "ok - $1 # SKIP $2"; }
# check WHAT COMMAND...: the command succeeds
check() { what=$1; shift; if out=$("$@" 2>&1); then ok "$what"; else not_ok "$what" "$* gave $?:" "$out"; fi; }
# equal WHAT EXPECTED GOT
equal() { if [ "$2" = "$3" ]; then ok "$1"; else not_ok "$1" "expected: $2" "got:      $3"; fi; }
# has WHAT TEXT PATTERN: the text holds the extended regular expression
has() { if printf '%s\n' "$2" | grep -qE -- "$3"; then ok "$1"; else not_ok "$1" "no /$3/ in:" "$2"; fi; }
# exits WHAT CODE COMMAND...: the exit code is CODE; $out holds what it printed
exits() { what=$1; want=$2; shift 2; out=$("$@" 2>&1); got=$?; if [ $got = "$want" ]; then ok "$what"; else not_ok "$what" "$* exited with $got, not $want:" "$out"; fi; }
# until_true SECONDS COMMAND...: wait for something to become true, bounded.  The seconds are those of a machine with nothing else to
# do; one that is busy, or stopped for a while, is given three times as many, and a minute at least.
until_true() {
    patience=$(($1 * 3)); shift
    [ "$patience" -ge 60 ] || patience=60
    exactly "$patience" "$@"
}
# exactly SECONDS COMMAND...: the same, where it may well stay untrue
exactly() {
    n=$(($1 * 20)); shift
    while [ "$n" -gt 0 ]; do
        "$@" >/dev/null 2>&1 && return 0
        sleep 0.05; n=$((n - 1))
    done
    return 1
}
no_strays() { [ -z "$(strays)" ]; }
is_empty() { [ -z "$(ls -A "$1")" ]; }
in_state() { [ "$(state_of "$1")" = "$2" ]; }
# A process whose first thread is a zombie holds its sockets until the last of its threads has ended.
gone() { [ ! -e "/proc/$1" ] || { [ "$(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f1)" = Z ] && [ "$(ls "/proc/$1/task" 2>/dev/null | wc -l)" -le 1 ]; }; }
