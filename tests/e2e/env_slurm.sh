#!/bin/bash
# Environments on a real Slurm: built within the allocation, which waits for them.
. "$(dirname "$0")/lib.sh"
. "$SOURCE/tests/e2e/slurm.lib.sh"
. "$SOURCE/tests/e2e/env.lib.sh"
trap 'ended=$?; index_stop; slurm_down; (exit $ended); at_end' EXIT
refused=$(slurm_refused)
if [ -n "$refused" ]; then
    skip "environments on a cluster of Slurm" "$refused"
    exit 0
fi
slurm_conf
slurm_up
equal "a cluster starts" 0 $?
index_start
wheel tyone 1.0
wheel tytwo 1.0
printf '{"kind": "slurm", "folder": "%s", "environment": {"SLURM_CONF": "%s"}}' "$T/on" "$SLURM_CONF" > target.json
check "a target of kind slurm is made" trainyard api -X PUT targets/cluster -d @target.json
SAY='import os, tyone; print(tyone.__version__, os.environ["AZUREML_CONDA_ENVIRONMENT_PATH"])'

wants r.txt tyone
out=$(timeout 120 trainyard run -t cluster --requirements r.txt -- $PY -c "$SAY" 2> err.txt)
has "a node has the package that the job needs" "$out" "^1.0 $T/on/envs/"
equal "...and has built it" True "$(of @last built)"
check "...with its log here" grep -q "linking" "$(build_log "$(trainyard ps -a -q | head -1)")"
asked=$(requests)
out=$(timeout 120 trainyard run -t cluster --nodes 2 --backend gloo --requirements r.txt -- $PY -c "$SAY" 2> err.txt)
equal "two nodes find it where both look" "2 $asked" "$(printf '%s\n' "$out" | grep -c "1.0 $T/on/envs/") $(requests)"

gate tytwo
wants two.txt tytwo
run=$(trainyard submit -q -t cluster --requirements two.txt -- $PY -c 'import tytwo')
check "a run that waits for its packages says so" until_true 60 is_building "$run"
no_builds() { ! grep -lqa "TRAINYARD_JOB=$T/on/" /proc/[0-9]*/environ 2>/dev/null; }
some_builds() { ! no_builds; }
check "...while pip is at work" until_true 20 some_builds
check "it is canceled" trainyard cancel "$run"
check "...and ends" until_true 30 in_state "$run" Canceled
check "...with what was building" until_true 20 no_builds
open_gate tytwo
exits "the next one builds it" 0 timeout 120 trainyard run -t cluster --requirements two.txt -- $PY -c 'import tytwo'
