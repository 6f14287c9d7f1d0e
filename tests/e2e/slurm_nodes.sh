#!/bin/bash
# slurm_nodes.sh - jobs on several machines that Slurm manages: h1 and h2 share one home folder, p1 and p2 have one each
. "$(dirname "$0")/hosts.lib.sh"
lab_enter "machines of a Slurm cluster" "$@"
. "$(dirname "$0")/lib.sh"
. "$SOURCE/tests/e2e/slurm.lib.sh"
trap 'ended=$?; trainyard down > /dev/null 2>&1; slurm_down; lab_down; (exit $ended); at_end' EXIT

refused=$(slurm_refused)
$PY -c 'import torch, mpi4py' 2> /dev/null || refused=${refused:-"torch or mpi4py is not installed"}
[ -d "$BUILD/python/trainyard" ] || refused=${refused:-"this build has no Python packages"}
[ -d /etc/slurm ] || refused=${refused:-"there is no /etc/slurm"}
if [ -n "$refused" ]; then
    skip "machines of a Slurm cluster" "$refused"
    exit 0
fi

# The cluster: its configuration lies where Slurm's commands look by themselves, on every machine.
unset SLURM_CONF
mkdir -p "$S/state" "$S/log"
mount --bind "$S" /etc/slurm
{
    slurm_common | grep -v -e '^SlurmdSpoolDir=' -e '^SlurmdPidFile=' -e '^MpiDefault='
    cat <<X
ClusterName=$SLURM_MARK
SlurmctldHost=here(10.88.0.1)
MpiDefault=none
SlurmdSpoolDir=/run/slurmd
SlurmdPidFile=/run/slurmd.pid
NodeName=h1 NodeAddr=10.88.0.2 CPUs=4 CoresPerSocket=4 RealMemory=4000 State=UNKNOWN
NodeName=h2 NodeAddr=10.88.0.3 CPUs=4 CoresPerSocket=4 RealMemory=4000 State=UNKNOWN
NodeName=p1 NodeAddr=10.88.0.4 CPUs=4 CoresPerSocket=4 RealMemory=4000 State=UNKNOWN
NodeName=p2 NodeAddr=10.88.0.5 CPUs=4 CoresPerSocket=4 RealMemory=4000 State=UNKNOWN
PartitionName=shared Nodes=h[1-2] Default=YES MaxTime=INFINITE State=UP
PartitionName=private Nodes=p[1-2] MaxTime=INFINITE State=UP
X
} > "$S/slurm.conf"
echo "CgroupPlugin=cgroup/v1" > "$S/cgroup.conf"
# One home folder for this machine and two of the others, as NFS gives it.
for h in h1 h2; do mkdir -p "$LAB/$h"; ln -s "$LAB/here/home" "$LAB/$h/home"; done
LAB_SHARED=$S
lab=1; lab_up h1 h2 p1 p2 || lab=0
equal "four machines are up" 1 $lab
slurm_on() { slurm_daemon_up "$1" nsenter -t "$(cat "$LAB/$1/init")" -m -u -n -i -p -- "$(slurm_daemon slurmd)" -D -N "$1"; }
slurm_daemon_up ctld slurmctld -D -i
for h in h1 h2 p1 p2; do slurm_on $h; done
check "a cluster of four machines starts" until_true 30 slurm_idle
check "one home folder is everybody's" sh -c "touch ~/seen; test -e '$(host_home h1)/seen' && ! test -e '$(host_home p1)/seen'"

mkdir -p "$XDG_CONFIG_HOME/trainyard"
printf '[target]\nslurm_partition = shared\n' > "$XDG_CONFIG_HOME/trainyard/config"
trainyard up > /dev/null 2>&1

# what users write
cat > train.py <<'X'
import os, socket
import torch, horovod.torch as hvd
hvd.init()
torch.manual_seed(hvd.rank())
model = torch.nn.Linear(4, 1)
optimizer = hvd.DistributedOptimizer(torch.optim.SGD(model.parameters(), lr=0.01), named_parameters=model.named_parameters())
hvd.broadcast_parameters(model.state_dict(), root_rank=0)
for step in range(3):
    optimizer.zero_grad()
    model(torch.randn(8, 4)).pow(2).mean().backward()
    optimizer.step()
same = hvd.allgather(model.weight.detach())
print("on", socket.gethostname(), "rank", hvd.rank(), "of", hvd.size(), "local", hvd.local_rank(), "of", hvd.local_size(), flush=True)
print("weights", bool((same == same[0]).all()), "sum", hvd.allreduce(torch.tensor([hvd.rank() + 1.0]), op=hvd.Sum).item(), flush=True)
if hvd.rank() == 0:
    from azureml.core import Run
    Run.get_context().log("loss", 0.5)
    os.makedirs("outputs", exist_ok=True)
    torch.save(model.state_dict(), "outputs/model.pt")
X
cat > both.py <<'X'
import socket, torch, horovod.torch as hvd
from mpi4py import MPI
c = MPI.COMM_WORLD
hvd.init()
total = hvd.allreduce(torch.tensor([float(c.rank + 1)]), op=hvd.Sum).item()
print("on", socket.gethostname(), "rank", c.rank, "of", c.size, "mpi", c.allreduce(c.rank + 1), "hvd", total, hvd.rank() == c.rank, flush=True)
X
cat > gloo.py <<'X'
import socket, torch, torch.distributed as dist
dist.init_process_group("gloo")
t = torch.tensor([float(dist.get_rank() + 1)])
dist.all_reduce(t)
print("on", socket.gethostname(), "rank", dist.get_rank(), "of", dist.get_world_size(), "sum", t.item(), flush=True)
dist.destroy_process_group()
X
cat > example.py <<'X'
import sys
from azureml.core import Experiment, Workspace
from azureml.core.compute import AmlCompute, ComputeTarget
from azureml.train.dnn import PyTorch
ws = Workspace.from_config() if len(sys.argv) > 1 else Workspace.get(name="default")
config = AmlCompute.provisioning_configuration(vm_size="STANDARD_NC6", max_nodes=2)
cluster = ComputeTarget.create(ws, "gpucluster", config)
cluster.wait_for_completion(show_output=False)
estimator = PyTorch(source_directory=".", entry_script="train.py", compute_target=cluster, node_count=2, process_count_per_node=2,
                    distributed_backend="mpi")
run = Experiment(ws, "nodes").submit(estimator)
run.wait_for_completion()
print("run", run.id, run.get_status(), run.get_metrics()["loss"], "outputs/model.pt" in run.get_file_names())
print("nodes", cluster.get_status().serialize()["nodeStateCounts"])
X
lines() { trainyard logs --rank all "$1" | sed -n "s/^.*$2/$2/p" | sort | tr '\n' ','; } # RUN WORD
no_far_processes() { ! host_run "$1" sh -c 'cat /proc/[0-9]*/comm' | grep -q ^trainyard; }
error_of() { trainyard show "$1" --json | field error; }

out=$($PY example.py 2>&1)
has "the distributed example ends well" "$out" "^run [^ ]+ (Completed|Finished) 0.5 True$"
run=$(printf '%s\n' "$out" | sed -n 's/^run \([^ ]*\) .*/\1/p')
equal "...its cluster is one of Slurm" slurm "$(trainyard api targets/gpucluster | $PY -c 'import json,sys; print(json.load(sys.stdin)["spec"]["kind"])')"
equal "...two ranks on each machine" "on h1 rank 0 of 4 local 0 of 2,on h1 rank 1 of 4 local 1 of 2,on h2 rank 2 of 4 local 0 of 2,on h2 rank 3 of 4 local 1 of 2," \
    "$(lines "$run" on)"
equal "...which agree" "weights True sum 10.0,weights True sum 10.0,weights True sum 10.0,weights True sum 10.0," "$(lines "$run" weights)"
check "its allocation goes" until_true 20 slurm_no_jobs

submit() { trainyard submit -q --target "$@"; }
printf '{"kind": "slurm", "partition": "private", "shared_home": false, "idle_seconds_before_scaledown": 60}' > alone.json
check "a target of machines that share nothing is made" trainyard api -X PUT targets/alone -d @alone.json
mpi=$(submit gpucluster --nodes 2 --procs 2 --backend mpi -- $PY both.py)
far=$(submit alone --nodes 2 --procs 2 --backend mpi -- $PY both.py)
for pair in "h $mpi" "p $far"; do
    h=${pair% *} run=${pair#* }
    trainyard wait "$run" > /dev/null 2>&1
    equal "MPI and Horovod side by side (${h}1 and ${h}2)" \
        "on ${h}1 rank 0 of 4 mpi 10 hvd 10.0 True,on ${h}1 rank 1 of 4 mpi 10 hvd 10.0 True,on ${h}2 rank 2 of 4 mpi 10 hvd 10.0 True,on ${h}2 rank 3 of 4 mpi 10 hvd 10.0 True," \
        "$(lines "$run" on)"
done
gloo=$(submit gpucluster --nodes 2 --procs 2 --backend gloo -- $PY gloo.py)
far=$(submit alone --nodes 2 --procs 2 --backend gloo -- $PY gloo.py)
for pair in "h $gloo" "p $far"; do
    h=${pair% *} run=${pair#* }
    trainyard wait "$run" > /dev/null 2>&1
    equal "torch.distributed with gloo (${h}1 and ${h}2)" "on ${h}1 rank 0 of 4 sum 10.0,on ${h}1 rank 1 of 4 sum 10.0,on ${h}2 rank 2 of 4 sum 10.0,on ${h}2 rank 3 of 4 sum 10.0," \
        "$(lines "$run" on)"
done
# ---- data: seen where the home folder is everybody's, brought where it is not ----
mkdir -p "$T/set/sub" && echo "of the store" > "$T/set/sub/a" && head -c 3000000 /dev/urandom > "$T/set/big"
trainyard data put "$T/set" workspaceblobstore:set > /dev/null
cat > data.sh <<'C'
[ -e "$AZUREML_DATAREFERENCE_d/.." ] && sha256sum < "$AZUREML_DATAREFERENCE_d/big"
echo "of $(hostname)" > "$AZUREML_DATAREFERENCE_o/$(hostname)"
C
far=$(submit alone --nodes 2 --backend gloo --data d=workspaceblobstore/set:download --data o=workspaceblobstore/back:upload -- sh data.sh)
trainyard wait "$far" > /dev/null 2>&1
sum=$(sha256sum < "$T/set/big")
equal "data reach machines that do not see their folder" "Completed $sum" "$(state_of "$far") $(trainyard logs "$far" --rank 1)"
equal "...and come back from both" "of p1 of p2" "$(cat "$TRAINYARD_HOME/data/workspaceblobstore/back/p1") $(cat "$TRAINYARD_HOME/data/workspaceblobstore/back/p2")"
mkdir ~/sets && cp "$T/set/big" ~/sets/big
printf '{"kind": "file", "config": {"root": "%s"}}' ~/sets > store.json
check "a datastore in the home folder is registered" trainyard api -X PUT datastores/home -d @store.json
near=$(submit gpucluster --nodes 2 --backend gloo --data d=home:mount --data o=workspaceblobstore/near:upload -- sh -c 'echo "$AZUREML_DATAREFERENCE_d"; exec sh data.sh')
trainyard wait "$near" > /dev/null 2>&1
equal "a folder that everybody sees is used as it is" "$HOME/sets $sum" "$(trainyard logs "$near" --rank 1 | tr '\n' ' ' | sed 's/ $//')"

check "what serves no run is kept where its target says so" test "$(squeue -h -p private | wc -l)" = 1
