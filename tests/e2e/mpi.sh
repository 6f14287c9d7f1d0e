#!/bin/bash
# MPI programs of several ranks without mpirun: they find each other through the agent's PMIx helper, and end together
. "$(dirname "$0")/lib.sh"

log_of() { cat "$TRAINYARD_HOME/logs/$1/azureml-logs/$2"; }
error_of() { trainyard show "$1" --json | $PY -c 'import json,sys; e=json.load(sys.stdin)["error"] or {}; print(e.get("code"), "|", e.get("message"))'; }
ended() { case "$(state_of "$1")" in Completed|Failed|Canceled) true;; *) false;; esac; }
# job NODES PROCESSES BACKEND COMMAND...: run it in an image of this folder, to its end; $id is the run's
job() {
    $PY - "$snapshot" "$@" > "$T/spec.json" <<'X'
import json, sys
snapshot, nodes, processes, backend, *command = sys.argv[1:]
json.dump({"version": 1, "snapshot": snapshot, "node_count": int(nodes), "process_count_per_node": int(processes),
           "communicator": backend, "command": command}, sys.stdout)
X
    id=$(trainyard api experiments/mpi/runs -d "@$T/spec.json" | field id)
    until_true 60 ended "$id" || not_ok "run $id ends" "$(trainyard show "$id")"
}

cat > train.py <<'X'
import os, sys
from mpi4py import MPI
c = MPI.COMM_WORLD
print("rank", c.rank, "of", c.size, "sum", c.allreduce(c.rank + 1), "local", os.environ["LOCAL_RANK"], flush=True)
if "abort" in sys.argv and c.rank == 1:
    c.Abort(7)
c.Barrier()
X
cat > both.py <<'X'
import torch, horovod.torch as hvd
from mpi4py import MPI
hvd.init()
c = MPI.COMM_WORLD
total = hvd.allreduce(torch.tensor([float(c.rank + 1)]), op=hvd.Sum).item()
print("both", (hvd.rank(), hvd.size()) == (c.rank, c.size), total, c.allreduce(hvd.rank() + 1), flush=True)
X
mkdir -p "$XDG_CONFIG_HOME/trainyard"
printf '[sched]\ncpus = 8\n' > "$XDG_CONFIG_HOME/trainyard/config"
trainyard up >/dev/null 2>&1
snapshot=$(trainyard show "$(trainyard submit -q -- true)" --json | field snapshot)

job 2 2 Mpi /usr/bin/python3 train.py
equal "four ranks on two logical nodes end well" Completed "$(state_of "$id")"
for rank in 0 1 2 3; do
    equal "rank $rank met the others" "rank $rank of 4 sum 10 local $((rank % 2))" "$(log_of "$id" 70_driver_log_$rank.txt)"
done
has "the control log says through what" "$(log_of "$id" 60_control_log.txt)" "MPI programs find each other through .*PMIx 4"

job 1 3 Mpi /usr/bin/python3 train.py abort
has "MPI_Abort ends the job, and the rank is named" "$(error_of "$id")" "rank 1 .*called MPI_Abort and exited with code 7"
until_true 10 no_strays || true
equal "nothing of it is left" "" "$(strays)"

if [ "$BUILD" = "$SOURCE/build" ]; then # a sanitized build has no Python packages
    job 1 2 Mpi /usr/bin/python3 both.py
    for rank in 0 1; do
        equal "MPI and Horovod side by side on rank $rank" "both True 3.0 3" "$(log_of "$id" 70_driver_log_$rank.txt)"
    done
fi

job 1 2 Gloo /bin/sh -c 'echo "[$PMIX_RANK]"'
equal "other jobs have no such helper" "[]" "$(log_of "$id" 70_driver_log_0.txt)"
job 1 2 Mpi /bin/sh -c 'echo "$OMPI_MCA_btl_vader_backing_directory"; test -d "$OMPI_MCA_btl_vader_backing_directory"'
equal "ranks have a folder in memory" Completed "$(state_of "$id")"
check "...which is gone with them" test ! -e "$(log_of "$id" 70_driver_log_0.txt)"
