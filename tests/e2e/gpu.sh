#!/bin/bash
# GPUs of a box: found, shown, given to one run at a time, and to all ranks of a node alike.  A stand-in of NVIDIA's library
# (tests/unit/base/nvml_standin.c) has them; the scripts look at what they are told, as torch.cuda would.
. "$(dirname "$0")/lib.sh"
mkdir -p "$XDG_CONFIG_HOME/trainyard"
printf '[sched]\ncpus = 16\n[run]\nsystem_metrics_seconds = 1\n' > "$XDG_CONFIG_HOME/trainyard/config"
export TRAINYARD_TEST_NVML=$T/nvml.so
ln -s "$BUILD/tests/unit/base/libnvml-whole.so" "$TRAINYARD_TEST_NVML"
gpus() { for g in "$@"; do echo "gpu GPU-$g Stand-in_$g 16384 100 50 40 75"; done > "$T/gpus.new"; mv "$T/gpus.new" "$TRAINYARD_TEST_NVML.gpus"; }
target() { trainyard api "targets/$1" -X PUT -d "$2" >/dev/null; }

# One line from each rank: rank, local rank, what it may use.
cat > tell.py <<'P'
import os, sys, time
sys.stdout.write("%s %s %s\n" % (os.environ["RANK"], os.environ["LOCAL_RANK"], os.environ.get("CUDA_VISIBLE_DEVICES", "none")))
sys.stdout.flush()
while os.environ.get("GATE") and not os.path.exists(os.environ["GATE"]):
    time.sleep(0.05)
P
submit() { trainyard submit -q --env GATE="$T/$1" "${@:2}" -- $PY tell.py; }
told() { trainyard logs "$1" 2>/dev/null | grep -oE '[0-9]+ [0-9]+ (none|GPU-.*|MIG-.*|[0-9,]+)$' | sort -n; }
has_told() { [ "$(told "$1" | wc -l)" -ge "$2" ]; }
seen() { told "$1" | cut -d' ' -f3 | sort -u; }

# None: a label does not make one.
: > "$TRAINYARD_TEST_NVML.gpus"
target labelled '{"kind": "local", "vm_size": "Standard_NC24"}'
target strict '{"kind": "local", "require_gpu": true, "vm_size": "Standard_NC24"}'
equal "a box without a driver has none" 0 "$(trainyard target show local --json | field gpus)"
touch "$T/go"
run=$(submit go --target labelled --gpu 2>/dev/null)
check "a label alone is no GPU: the run uses the CPU" trainyard wait "$run"
equal "and is told of none" "0 0 none" "$(told "$run")"
has "with a warning" "$(trainyard show --json "$run")" "has no GPU: the run uses the CPU"
exits "a target that requires one refuses" 1 trainyard submit --target strict --gpu -- $PY tell.py
has "by name" "$out" "require_gpu"
trainyard down >/dev/null

# Four of them
gpus a b c d
equal "GPUs are counted" 4 "$(trainyard target show local --json | field gpus)"
one=$(submit go1 --gpu)
two=$(submit go1 --gpu --gpus 2)
check "two runs have GPUs" until_true 20 has_told "$two" 1
until_true 20 has_told "$one" 1
equal "one each asked for" "1 2" "$(seen "$one" | tr ',' '\n' | wc -l) $(seen "$two" | tr ',' '\n' | wc -l)"
equal "by number, which scripts take for integers" "0 1 2" "$( { seen "$one"; seen "$two"; } | tr ',' '\n' | sort -n | paste -sd' ')"
equal "and none serves both" "" "$( { seen "$one"; seen "$two"; } | tr ',' '\n' | sort | uniq -d)"
pid=$(daemon_pid)
kill -9 "$pid"; until_true 5 gone "$pid"
three=$(submit go3 --gpu --gpus 2)
check "a third waits for what is free, also after the daemon was killed" in_state "$three" Queued
has "and says for what" "$(trainyard show --json "$three" | field why)" "GPU"
plain=$(submit go --cpus 1)
check "one that wants none goes past it" trainyard wait "$plain"
equal "and sees none" none "$(seen "$plain")"
touch "$T/go1"
check "it begins when they are free" until_true 20 has_told "$three" 1
equal "with as many as it asked for" 2 "$(seen "$three" | tr ',' '\n' | wc -l)"
has_sample() { trainyard metrics --system --plain "$1" 2>/dev/null | grep -q "gpu[0-3]/power_watts"; }
check "its GPUs are among the system metrics" until_true 30 has_sample "$three"
equal "its own, and no others" 2 "$(trainyard metrics --system --plain "$three" | grep -c "/power_watts")"
touch "$T/go3"
check "all end" trainyard wait "$one" "$two" "$three"

# One that goes while a run waits for it, and comes back when nothing else happens.
one=$(submit go4 --gpu --gpus 1)
until_true 20 has_told "$one" 1
two=$(submit go --gpu --gpus 4)
check "a run waits for all of them" in_state "$two" Queued
gpus a b
few() { trainyard show --json "$two" | field why | grep -q "'.*' has 2 of its 4 GPUs"; }
check "it is told when they go" until_true 60 few
touch "$T/go4"
check "the other run ends" trainyard wait "$one"
gpus a b c d
check "it begins when they are back" until_true 60 has_told "$two" 1
trainyard wait "$two" > /dev/null 2>&1

# Two nodes of two ranks: each rank may say torch.cuda.set_device(local_rank).
run=$(submit go --nodes 2 --procs 2 --backend nccl --gpu)
check "two nodes of two ranks" trainyard wait "$run"
told "$run" > ranks
equal "each node has GPUs of its own, and its ranks see them alike" "True" "$($PY - <<'P'
rows = [line.split() for line in open("ranks")]
lists = [r[2].split(",") for r in rows]
print(len(rows) == 4 and [int(r[1]) for r in rows] == [0, 1, 0, 1] and lists[0] == lists[1] and lists[2] == lists[3]
      and not set(lists[0]) & set(lists[2]) and all(int(r[1]) < len(g) for r, g in zip(rows, lists)))
P
)"
exits "more than there are is refused" 1 trainyard submit --gpu --gpus 5 -- $PY tell.py
has "in numbers" "$out" "5 GPU"

# Where numbers would not mean the same to CUDA, ids do.
trainyard down >/dev/null
{ echo "gpu GPU-a Stand-in 16384 100 50 40 75"; echo lost; echo "gpu GPU-c Stand-in 16384 100 50 40 75"; } > "$T/gpus.new"; mv "$T/gpus.new" "$TRAINYARD_TEST_NVML.gpus"
run=$(submit go --gpu --gpus 2)
check "a run beside a GPU that has fallen off the bus" trainyard wait "$run"
equal "is told of its own by their ids" "GPU-a,GPU-c" "$(seen "$run")"
trainyard down >/dev/null
{ echo "gpu GPU-a Stand-in 16384 100 50 40 75"; echo "part MIG-b 8192"; echo "part MIG-c 8192"; } > "$T/gpus.new"; mv "$T/gpus.new" "$TRAINYARD_TEST_NVML.gpus"
run=$(submit go --gpu --gpus 2)
check "a run on parts of a GPU" trainyard wait "$run"
equal "is told of them by their ids" "MIG-b,MIG-c" "$(seen "$run")"
