#!/bin/bash
# What a run uses of its machine: sampled beside it, shown when asked for, and never mixed with what its script logs.
. "$(dirname "$0")/lib.sh"
mkdir -p "$XDG_CONFIG_HOME/trainyard"
printf '[run]\nsystem_metrics_seconds = 1\n[limits]\nmetric_keys = 12\n' > "$XDG_CONFIG_HOME/trainyard/config"

# Busy until the file is there, with memory in a child.
cat > busy.py <<'P'
import os, sys, time
from azureml.core.run import Run
run = Run.get_context()
run.log("mine", 1)
for i in range(11):
    run.log_list("other %d" % i, [])
if os.fork() == 0:
    held = bytearray(64 << 20)
    time.sleep(600)
while not os.path.exists(sys.argv[1]):
    pass
run.log("mine", 2)
P
system_of() { trainyard metrics --system --json "$1"; }
samples() { system_of "$1" | $PY -c 'import json,sys; v=json.load(sys.stdin)["metrics"].get(sys.argv[1], []); print(len(v) if isinstance(v, list) else 1)' "$2"; }
at_least() { [ "$(samples "$1" "$2")" -ge "$3" ]; }
run=$(trainyard submit -q --env PYTHONPATH="$PYTHONPATH" -- $PY busy.py "$T/go")
check "samples come while it runs" until_true 30 at_least "$run" system/rank0/cpu_percent 3
helper_of() { for p in $(cat /proc/"$1"/task/"$1"/children); do [ "$(cat "/proc/$p/comm")" = trainyard-stat ] && echo "$p"; done; }
helper=$(helper_of "$(runner_pid "$run")")
check "a helper of its own takes them" test -n "$helper"
touch "$T/go"
check "the run ends" trainyard wait "$run"
check "and its helper with it" until_true 20 gone "$helper"
system_of "$run" > system.json
equal "what is known of the machine and of the rank" "" "$($PY - <<'P'
import json
m = json.load(open("system.json"))["metrics"]
for name, good in (("system/cpu_percent", lambda v: all(0 <= x <= 100 for x in v) and max(v) > 0), ("system/memory_used_mb", lambda v: v[-1] > 64),
                   ("system/memory_percent", lambda v: 0 < v[-1] < 100), ("system/disk_free_mb", lambda v: v[-1] > 0),
                   ("system/rank0/cpu_percent", lambda v: max(v) > 1), ("system/rank0/memory_mb", lambda v: max(v) > 64),
                   ("system/network_received_bytes_per_s", lambda v: min(v) >= 0)):
    if not good(m.get(name) or [-1]):
        print(name, m.get(name))
print(*[name for name in m if not name.startswith("system/")], end="")
P
)"
equal "what the script logged is all that its metrics are" "12 [1, 2]" "$(trainyard metrics --json "$run" | $PY -c 'import json,sys; m=json.load(sys.stdin)["metrics"]; print(len(m), m["mine"])')"
equal "also row by row" 13 "$(trainyard metrics --rows --plain "$run" | wc -l)"
equal "and followed" 13 "$(trainyard metrics -f "$run" | wc -l)"
has "a machine's are followed when asked for" "$(trainyard metrics -f --system "$run")" "^system/memory_percent"
has "one by its name" "$(trainyard metrics --name system/disk_free_mb "$run")" "^system/disk_free_mb"
equal "they take no room from what is logged (limits.metric_keys is 12)" "[]" "$(trainyard show --json "$run" | $PY -c 'import json,sys; print([w for w in json.load(sys.stdin)["warnings"] if "metric" in json.dumps(w)])')"

# A helper that is killed costs the run nothing but its samples.
rm -f "$T/go"
run=$(trainyard submit -q --env PYTHONPATH="$PYTHONPATH" -- $PY busy.py "$T/go")
check "another run is sampled" until_true 30 at_least "$run" system/rank0/memory_mb 1
kill -9 "$(helper_of "$(runner_pid "$run")")"
touch "$T/go"
check "a run survives its helper" trainyard wait "$run"

# None at all
trainyard down >/dev/null
printf '[run]\nsystem_metrics_seconds = 0\n' > "$XDG_CONFIG_HOME/trainyard/config"
run=$(trainyard submit -q -- sleep 2.5)
check "a run without samples" trainyard wait "$run"
equal "has none" '{}' "$(system_of "$run" | $PY -c 'import json,sys; print(json.load(sys.stdin)["metrics"])')"
has "and the command says why that may be" "$(trainyard metrics --system "$run" 2>&1)" "run.system_metrics_seconds"
