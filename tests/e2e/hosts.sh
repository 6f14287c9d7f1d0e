#!/bin/bash
# Runs on hosts that are reached over ssh: nothing of ours is there before.
. "$(dirname "$0")/hosts.lib.sh"
lab_enter "runs on hosts" "$@"
. "$(dirname "$0")/lib.sh"
trap 'code=$?; trainyard down > /dev/null 2>&1; lab_down; (exit $code); at_end' EXIT

# ---- the lab itself ----
lab=1; lab_up h1 h2 || lab=0
equal "two hosts are up" 1 $lab
equal "ssh reaches the first" h1 "$(ssh -o BatchMode=yes h1 hostname)"
equal "...and the second" h2 "$(ssh -o BatchMode=yes h2 hostname)"
check "they reach each other" host_run h1 bash -c "exec 3<>/dev/tcp/h2/22"
check "nothing of ours is there" host_run h1 sh -c "! test -e '$BUILD/trainyard-agent'; ! test -e '$T'"
sshd_stop h2
exits "a host whose sshd is stopped refuses" 255 ssh -o BatchMode=yes h2 true
sshd_start h2
check "...and answers when it is started" ssh -o BatchMode=yes h2 true
cable_cut h2
exits "a cut cable leads nowhere" 255 ssh -o BatchMode=yes -o ConnectTimeout=1 h2 true
cable_mend h2
check "...until it is mended" until_true 20 ssh -o BatchMode=yes -o ConnectTimeout=2 h2 true
host_off h2
exits "a host that is off does not answer" 255 ssh -o BatchMode=yes -o ConnectTimeout=1 h2 true
check "...and does when it is on again" host_on h2
check "...with sshd" ssh -o BatchMode=yes h2 true

# ---- one process on a bare host ----
cat > target.json <<'J'
{"kind": "hosts", "hosts": [{"host": "h1"}]}
J
check "a target of one host is made" trainyard api -X PUT targets/one -d @target.json
cat > job.py <<'P'
import os, sys, socket
from azureml.core import Run
run = Run.get_context()
print("on", socket.gethostname(), sys.argv[1:])
for i in range(100):
    run.log("i", i)
os.makedirs("outputs", exist_ok=True)
with open("outputs/big", "wb") as f:
    f.write(os.urandom(3 << 20))
print("done")
P
run=$(trainyard submit -q --target one -- $PY job.py a 'b c')
equal "a run on a host ends well" Completed "$(trainyard wait "$run" > /dev/null 2>&1; state_of "$run")"
equal "...with its log" "on h1 ['a', 'b c']
done" "$(trainyard logs "$run")"
