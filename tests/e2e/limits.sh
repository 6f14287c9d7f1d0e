#!/bin/bash
# What one run may hold: what goes beyond is dropped and told once, or refused by name.
. "$(dirname "$0")/lib.sh"
export TRAINYARD_LIMITS_TAGS=2 TRAINYARD_LIMITS_METRIC_KEYS=3 TRAINYARD_LIMITS_METRIC_ROWS=50 TRAINYARD_LIMITS_ARTIFACTS=4 \
    TRAINYARD_LIMITS_LOG_BYTES=1000 TRAINYARD_LIMITS_ARTIFACT_BYTES=1MB TRAINYARD_LIMITS_QUEUED_RUNS=2 TRAINYARD_LIMITS_REQUEST_BYTES=20000 \
    TRAINYARD_LIMITS_SNAPSHOT_FILES=5 TRAINYARD_LIMITS_SNAPSHOT_BYTES=100KB

cat > much.py <<'X'
import os, sys
from azureml.core.run import Run
run = Run.get_context()
for i in range(5):
    run.tag("tag%d" % i, i)
run.tag("tag0", "changed")
for i in range(5):
    run.log("metric%d" % i, i)
for i in range(100):
    run.log("metric0", i)
os.makedirs("outputs", exist_ok=True)
for i in range(8):
    open("outputs/f%d" % i, "w").write("x")
open("outputs/big", "wb").truncate(2000000)
print("y" * 5000)
X
run=$(trainyard submit -q --env PYTHONPATH -- $PY much.py)
check "the run ends well" trainyard wait --exit-status "$run"
warnings=$(trainyard show "$run" --json | $PY -c 'import json,sys; print("\n".join(json.load(sys.stdin)["warnings"]))')
for option in tags metric_keys metric_rows; do
    equal "limits.$option is told once" 1 "$(echo "$warnings" | grep -c "limits.$option\b")"
done
equal "limits.log_bytes is told once a log" 1 "$(echo "$warnings" | grep -c "70_driver_log.*limits.log_bytes")"
has "limits.artifact_bytes is told by the file's name" "$warnings" "outputs/big.*limits.artifact_bytes"
equal "limits.artifacts is told for each file" 4 "$(echo "$warnings" | grep -c "outputs/f.*(limits.artifacts)")"
equal "tags: the first two, and a new value for one of them" '{"tag0": "changed", "tag1": "1"}' \
    "$(trainyard show "$run" --json | $PY -c 'import json,sys; print(json.dumps(json.load(sys.stdin)["tags"], sort_keys=True))')"
equal "metrics: three names" 3 "$(trainyard metrics "$run" --json | $PY -c 'import json,sys; print(len(json.load(sys.stdin)["metrics"]))')"
equal "metrics: fifty rows" 50 "$(trainyard metrics "$run" --rows --json | $PY -c 'import json,sys; print(len(json.load(sys.stdin)["rows"]))')"
equal "files: four" 4 "$(trainyard artifacts ls "$run" --json | $PY -c 'import json,sys; print(sum(f["kind"] == "artifact" for f in json.load(sys.stdin)["files"]))')"
check "the log is cut" test "$(trainyard logs "$run" | wc -c)" -lt 1500

# By hand, with the daemon's word for it.
api() { curl -s -o "$T/reply" -w '%{http_code}' --unix-socket "$TRAINYARD_HOME/sock" "$@"; }
equal "one tag more is refused" 429 "$(api -X PATCH "http://t/api/v1/runs/$run/tags" -d '{"set": {"new": "1"}}')"
has "...by name" "$(cat "$T/reply")" "limits.tags"
equal "a changed one is not" 200 "$(api -X PATCH "http://t/api/v1/runs/$run/tags" -d '{"set": {"tag1": "2"}}')"
equal "one file more is refused" 429 "$(api -X PUT "http://t/api/v1/runs/$run/files/outputs/new" --data-binary x)"
has "...by name" "$(cat "$T/reply")" "limits.artifacts"
equal "the same file again is not" 201 "$(api -X PUT "http://t/api/v1/runs/$run/files/outputs/f0" --data-binary x)"
equal "the same file with other content is" 409 "$(api -X PUT "http://t/api/v1/runs/$run/files/outputs/f0" --data-binary z)"
head -c 30000 /dev/zero | tr '\0' ' ' > "$T/large"
equal "a request that is too large is refused" 413 "$(api "http://t/api/v1/experiments/e/runs" --data-binary "@$T/large")"
has "...by name" "$(cat "$T/reply")" "limits.request_bytes"

one=$(trainyard submit -q --no-snapshot -- sleep 100)
two=$(trainyard submit -q --no-snapshot -- sleep 100)
exits "a third active run is refused" 125 trainyard run --no-snapshot -- true
has "...by name" "$out" "limits.queued_runs"
trainyard cancel "$one" "$two" >/dev/null
trainyard wait "$one" "$two" >/dev/null 2>&1

head -c 200000 /dev/urandom > heavy
exits "a snapshot with too many bytes is refused" 125 trainyard run -- true
has "...by name, with the largest file" "$out" "limits.snapshot_bytes.*heavy"
rm heavy
for i in 1 2 3 4 5 6; do echo $i > "file$i"; done
exits "a snapshot with too many files is refused" 125 trainyard run -- true
has "...by name" "$out" "limits.snapshot_files"
equal "nothing half-done was left of them" 3 "$(trainyard ps -a -q | wc -l)"
