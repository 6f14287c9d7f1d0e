#!/bin/bash
# Whatever a job of several processes has is killed with -9 at seeded random moments (KILLS of them, default 20; SEED to repeat).
. "$(dirname "$0")/lib.sh"
$PY "$SOURCE/tests/e2e/kills_ranks.py" || failed=1

# A helper that is missed: the run fails within a bound, and a warning says what died.
if [ "$BUILD" != "$SOURCE/build" ]; then exit; fi  # torch in a job of a sanitized build says nothing more
cat > meet.py <<'X'
import os, sys, time
import torch
import horovod.torch as hvd
print("ready", flush=True)
while not os.path.exists(sys.argv[1]):
    time.sleep(0.02)
hvd.init()
X
cat > mpi.py <<'X'
import ctypes, os, sys, time
print("ready", flush=True)
while not os.path.exists(sys.argv[1]):
    time.sleep(0.02)
mpi = ctypes.CDLL("libmpi.so.40", mode=ctypes.RTLD_GLOBAL)
sys.exit(1 if mpi.MPI_Init(None, None) else 0)
X
ended() { case "$(state_of "$1")" in Completed|Failed|Canceled) true;; *) false;; esac; }
ready() { [ "$(trainyard logs "$1" 2>/dev/null | grep -c ready)" = 2 ]; }
helper_of() { # RUN WORD: the pid of that child of its runner
    for p in $(cat "/proc/$(runner_pid "$1")/task/$(runner_pid "$1")/children"); do
        tr '\0' ' ' < "/proc/$p/cmdline" | grep -q "trainyard-agent $2 \|^/proc/self/exe $2 " && echo "$p"
    done
}
missed() { # SCRIPT HELPER WARNING
    run=$(trainyard submit -q --procs 2 --backend mpi -- $PY "$1" "$T/go-$2")
    until_true 60 ready "$run"
    helper=$(helper_of "$run" "$2")
    check "there is a helper '$2'" test -n "$helper"
    kill -9 "$helper"
    check "...its death is told" until_true 20 sh -c "trainyard show '$run' | grep -q '$3'"
    touch "$T/go-$2"
    check "...processes that miss it end" until_true 60 ended "$run"
    equal "...and the run fails" Failed "$(state_of "$run")"
    has "...naming a rank" "$(trainyard show "$run")" "^error +rank [01] \(node .*\) "
    check "...nothing is left" until_true 10 no_strays
}
missed meet.py rendezvous "the rendezvous of the processes has ended before its time"
if [ -e /usr/lib/x86_64-linux-gnu/libmpi.so.40 ]; then missed mpi.py pmix "the PMIx server of this machine has ended before its time"; fi
