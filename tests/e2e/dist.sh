#!/bin/bash
# Several processes on one box: what each finds around it, how they find each other, and how they end together.
. "$(dirname "$0")/lib.sh"

# job NODES PROCESSES BACKEND [KEY=JSON...] -- COMMAND...: submit it with the snapshot of this folder; prints the run's id
job() {
    $PY - "$snapshot" "$@" > "$T/spec.json" <<'X'
import json, sys
snapshot, nodes, processes, backend, *rest = sys.argv[1:]
cut = rest.index("--")
spec = {"version": 1, "snapshot": snapshot, "node_count": int(nodes), "process_count_per_node": int(processes),
        "communicator": backend, "command": rest[cut + 1:]}
spec.update((key, json.loads(value)) for key, value in (option.split("=", 1) for option in rest[:cut]))
json.dump(spec, sys.stdout)
X
    trainyard api experiments/dist/runs -d "@$T/spec.json" | field id
}
ended() { case "$(state_of "$1")" in Completed|Failed|Canceled) true;; *) false;; esac; }
settle() { until_true 60 ended "$1" || not_ok "run $1 ends" "$(trainyard show "$1")"; }
log_of() { cat "$TRAINYARD_HOME/logs/$1/azureml-logs/70_driver_log_$2.txt"; }
said() { grep -q "$3" "$TRAINYARD_HOME/logs/$1/azureml-logs/70_driver_log_$2.txt" 2>/dev/null; }
error_of() { trainyard show "$1" --json | $PY -c 'import json,sys; e=json.load(sys.stdin)["error"] or {}; print(e.get("code"), "|", e.get("message"), "|", e.get("log_tail"))'; }

cat > facts.sh <<'X'
echo "$RANK/$WORLD_SIZE local $LOCAL_RANK/$LOCAL_WORLD_SIZE node $NODE_RANK master $MASTER_ADDR task $AZ_BATCHAI_TASK_INDEX"
echo "mpi $OMPI_COMM_WORLD_RANK/$OMPI_COMM_WORLD_SIZE $OMPI_COMM_WORLD_LOCAL_RANK/$OMPI_COMM_WORLD_LOCAL_SIZE"
echo "batch ${AZ_BATCH_MASTER_NODE:-none} $AZ_BATCHAI_MPI_MASTER_NODE"
echo "port $MASTER_PORT"
echo "init $AZ_BATCHAI_PYTORCH_INIT_METHOD"
echo "coll $TRAINYARD_COLL_RANK/$TRAINYARD_COLL_SIZE ${TRAINYARD_COLL_RENDEZVOUS%:*} ${#TRAINYARD_COLL_SECRET} ${TRAINYARD_COLL_NODE:-shared}"
echo "threads $OMP_NUM_THREADS"
echo "arguments $*"
X
cat > wait.sh <<'X'
trap 'echo asked to end; exit 0' TERM; echo ready; [ -z "$OUT" ] || touch "$OUT/$RANK"; while :; do sleep 0.05; done
X
cat > rows.py <<'X'
import os, sys
from azureml.core import Run
run = Run.get_context()
rank = int(os.environ["RANK"])
for i in range(3):
    run.log("loss", 10 * rank + i)
    run.log("of_rank_%d" % rank, i)
X
cat > hvd.py <<'X'
import os, signal, sys, time
import torch
import horovod.torch as hvd
hvd.init()
print("ranks", hvd.rank(), hvd.size(), hvd.local_rank(), hvd.local_size(), hvd.cross_rank(), hvd.cross_size(), flush=True)
print("sum", hvd.allreduce(torch.tensor([float(hvd.rank() + 1)]), op=hvd.Sum).item(), flush=True)
how = sys.argv[1] if len(sys.argv) > 1 else ""
for i in range(1000 if how else 1):
    hvd.allreduce(torch.ones(10), name="x")
    if i == 3 and hvd.rank() == 1:
        if how == "raise":
            raise RuntimeError("this one is mine")
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "exit":
            sys.exit(3)
    time.sleep(0.01)
X
cat > gloo.py <<'X'
import os
import torch, torch.distributed as dist
kind = os.environ["KIND"]
if kind == "file":
    dist.init_process_group("gloo", init_method=os.environ["AZ_BATCHAI_PYTORCH_INIT_METHOD"], rank=int(os.environ["AZ_BATCHAI_TASK_INDEX"]), world_size=int(os.environ["WORLD_SIZE"]))
else:
    dist.init_process_group("gloo")
t = torch.tensor([float(dist.get_rank() + 1)])
dist.all_reduce(t)
print("sum", t.item(), flush=True)
dist.destroy_process_group()
X
mkdir -p "$XDG_CONFIG_HOME/trainyard"
printf '[sched]\ncpus = 8\n' > "$XDG_CONFIG_HOME/trainyard/config"
trainyard up >/dev/null 2>&1
snapshot=$(trainyard show "$(trainyard submit -q -- true)" --json | field snapshot)

# ---- what each process finds ----

run=$(job 1 2 Mpi 'arguments=["$RANK of $WORLD_SIZE"]' 'expand=true' -- /bin/sh facts.sh)
settle "$run"
equal "one node, two processes: the run is Completed" Completed "$(state_of "$run")"
has "rank 1 is the second of its node" "$(log_of "$run" 1)" "^1/2 local 1/2 node 0 master 127.0.0.1 task 1\$"
has "...and finds what Open MPI sets" "$(log_of "$run" 1)" "^mpi 1/2 1/2\$"
has "...and no other node to be told of" "$(log_of "$run" 1)" "^batch none 127.0.0.1\$"
has "...and a place to meet" "$(log_of "$run" 1)" "^coll 1/2 127.0.0.1 64 shared\$"
has "...and arguments of its own" "$(log_of "$run" 1)" "^arguments 1 of 2\$"
has "rank 0 has others" "$(log_of "$run" 0)" "^arguments 0 of 2\$"
equal "one log is not another" "" "$(ls "$TRAINYARD_HOME/logs/$run/azureml-logs" | grep 'driver_log\.txt')"

run=$(job 2 1 Gloo -- /bin/sh facts.sh)
settle "$run"
has "two nodes, one process each: the local rank begins again" "$(log_of "$run" 1)" "^1/2 local 0/1 node 1 master 127.0.0.1 task 1\$"
has "...nothing of Open MPI where it was not asked for" "$(log_of "$run" 1)" "^mpi / /\$"
has "...the master is named with its port" "$(log_of "$run" 1)" "^batch 127.0.0.1:[0-9]+ 127.0.0.1\$"
has "...and the file to meet in" "$(log_of "$run" 0)" "^init file:///.*/tmp/init-1\$"
equal "both are told the same" "$(log_of "$run" 0 | grep -E '^(port|init|batch)')" "$(log_of "$run" 1 | grep -E '^(port|init|batch)')"
has "started names ranks and nodes" "$(trainyard api "runs/$run/events")" '"nodes": ?\["node-0", ?"node-1"\]'

run=$(job 4 3 Mpi -- /bin/sh facts.sh)
settle "$run"
has "more processes than slots are told of" "$(trainyard show "$run")" "12 processes share 8 CPU slots"
equal "four nodes of three: twelve logs" 12 "$(ls "$TRAINYARD_HOME/logs/$run/azureml-logs" | grep -c driver_log_)"
has "...rank 7 is the second of node 2" "$(log_of "$run" 7)" "^7/12 local 1/3 node 2 "
has "...and shares what there is" "$(log_of "$run" 7)" "^threads [1-9]"

run=$(job 3 1 None -- /bin/sh facts.sh)
settle "$run"
has "a command runs once per node without a communicator" "$(log_of "$run" 2)" "^2/3 local 0/1 node 2"
exits "several processes of a script need one" 1 trainyard api experiments/dist/runs -d '{"version": 1, "process_count_per_node": 2, "command": ["/bin/true"]}'
has "...and the sentence names what to give" "$out" "distributed_backend"

# Two at once do not meet at the same port.
first=$(job 2 1 Gloo -- /bin/sh -c 'echo port $MASTER_PORT; sleep 60')
until_true 20 said "$first" 0 port
second=$(job 2 1 Gloo -- /bin/sh -c 'echo port $MASTER_PORT')
settle "$second"
check "two jobs at once have two ports" test "$(log_of "$first" 0)" != "$(log_of "$second" 0)"
trainyard cancel "$first" >/dev/null 2>&1
settle "$first"

# ---- ends ----

mkdir "$T/ready"
run=$(job 2 2 Mpi "environment_variables={\"OUT\": \"$T/ready\"}" -- /bin/sh -c 'if [ $RANK = 2 ]; then until [ -e "$OUT/0" ] && [ -e "$OUT/1" ] && [ -e "$OUT/3" ]; do sleep 0.05; done; echo I fail; exit 3; fi; exec sh wait.sh')
settle "$run"
equal "one that fails ends the job, and is named" "ScriptFailed | rank 2 (node node-1) exited with code 3 | I fail" "$(error_of "$run")"
has "...the others were asked to end" "$(log_of "$run" 0)" "^asked to end\$"
equal "the run's exit code is that rank's" 3 "$(trainyard show "$run" --json | field exit_code)"

run=$(job 1 2 Mpi -- /bin/sh -c 'if [ $RANK = 0 ]; then echo I stay; trap "" TERM; while :; do sleep 1; done; fi; sleep 0.2; kill -9 $$')
settle "$run"
has "one that is killed ends the job, also those that do not listen" "$(error_of "$run")" "^ScriptKilled \| rank 1 \(node .*\) was killed by signal 9"
check "...and nothing is left" until_true 5 no_strays

run=$(job 2 1 Mpi -- /bin/sh -c 'echo pid $PPID; (setsid sleep 1000 &); exec sleep 1000')
until_true 20 said "$run" 1 pid
kill -9 "$(log_of "$run" 1 | sed -n 's/^pid //p')"
settle "$run"
has "a wrapper that is killed ends the job, and its rank is named" "$(error_of "$run")" "^RunnerLost \| the process that watched rank 1 \(node node-1\) was killed by signal 9"
check "...and nothing is left" until_true 5 no_strays

run=$(job 2 1 Mpi -- /bin/sh wait.sh)
until_true 20 said "$run" 1 ready
kill -9 "$(runner_pid "$run")"
settle "$run"
has "a runner that is killed takes all ranks with it" "$(error_of "$run")" "^RunnerLost"
check "...and nothing is left" until_true 10 no_strays

run=$(job 1 3 Mpi -- /bin/sh wait.sh)
for r in 0 1 2; do until_true 20 said "$run" $r ready; done
trainyard cancel "$run" >/dev/null 2>&1
settle "$run"
equal "all are canceled" Canceled "$(state_of "$run")"
equal "...each is asked first" "asked to end asked to end asked to end" "$(for r in 0 1 2; do log_of "$run" $r | tail -1; done | xargs echo)"

run=$(job 1 2 Mpi 'max_run_duration_seconds=1' -- /bin/sh wait.sh)
settle "$run"
equal "the time limit holds for all" Canceled "$(state_of "$run")"
has "...and is named" "$(trainyard show "$run")" "time limit"


check "a rank that ends well early ends nothing" test "$(run=$(job 1 2 Mpi -- /bin/sh -c 'test $RANK = 0 || { sleep 0.5; echo late; }'); settle "$run"; state_of "$run"; log_of "$run" 1)" = "Completed
late"

# ---- Python, and how processes speak with each other ----

run=$(job 1 2 Mpi "environment_variables={\"PYTHONPATH\": \"$PYTHONPATH\"}" -- $PY rows.py)
settle "$run"
rows=$(trainyard metrics "$run" --json)
has "values of both ranks are one run's" "$rows" "of_rank_0"
has "...of both" "$rows" "of_rank_1"

if [ "$BUILD" != "$SOURCE/build" ]; then exit; fi  # torch in a job of a sanitized build says nothing more

run=$(job 2 1 Mpi -- $PY hvd.py)
settle "$run"
has "horovod: two nodes of one box" "$(log_of "$run" 1)" "^ranks 1 2 0 1 1 2\$"
has "...work together" "$(log_of "$run" 0)" "^sum 3.0\$"
run=$(job 1 2 Mpi -- $PY hvd.py)
settle "$run"
has "horovod: one node of two processes" "$(log_of "$run" 1)" "^ranks 1 2 1 2 0 1\$"

run=$(job 2 1 Mpi -- $PY hvd.py raise)
settle "$run"
has "the rank that raises is named, and not those that miss it" "$(error_of "$run")" "^ScriptFailed \| rank 1 \(node node-1\) exited with code 1 "
has "...with its last lines" "$(error_of "$run")" "this one is mine"
run=$(job 2 1 Mpi -- $PY hvd.py exit)
settle "$run"
has "...one that leaves" "$(error_of "$run")" "^ScriptFailed \| rank 1 \(node node-1\) exited with code 3 "
run=$(job 2 1 Mpi -- $PY hvd.py kill)
settle "$run"
has "...one that is killed" "$(error_of "$run")" "^ScriptKilled \| rank 1 \(node node-1\) was killed by signal 9"

for kind in env file; do
    run=$(job 2 2 Gloo "environment_variables={\"KIND\": \"$kind\"}" -- $PY gloo.py)
    settle "$run"
    has "torch.distributed with gloo, by $kind" "$(log_of "$run" 3)" "^sum 10.0\$"
done
