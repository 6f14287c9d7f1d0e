#!/bin/bash
# Environments on hosts that are reached over ssh: each builds its own, and the job waits for all.
. "$(dirname "$0")/hosts.lib.sh"
lab_enter "environments on hosts" "$@"
. "$(dirname "$0")/lib.sh"
. "$SOURCE/tests/e2e/env.lib.sh"
trap 'code=$?; index_stop; trainyard down > /dev/null 2>&1; lab_down; (exit $code); at_end' EXIT
lab_up h1 h2 || not_ok "two hosts are up"
index_start 10.88.0.1
wheel tyone 1.0
wheel tytwo 1.0 tyone
wheel tythree 1.0
export PIP_TRUSTED_HOST=10.88.0.1
far=$LAB_HOME/.cache/trainyard
put_target() { printf '%s' "$2" > target.json; trainyard api -X PUT "targets/$1" -d @target.json > /dev/null; }
far_build() { host_run "$1" sh -c 'cat /proc/[0-9]*/comm' | grep -qE "^(trainyard-build|pip)"; }
no_build() { ! far_build "$1"; }
check "a target of one host is made" put_target one '{"kind": "hosts", "hosts": [{"host": "h1"}]}'
check "...and one of two" put_target two '{"kind": "hosts", "hosts": [{"host": "h1"}, {"host": "h2"}]}'
SAY='import sys, os, socket, tyone; print(socket.gethostname(), tyone.__version__, os.environ["AZUREML_CONDA_ENVIRONMENT_PATH"])'

wants r.txt tyone
out=$(trainyard run -t one --env PIP_TRUSTED_HOST --requirements r.txt -- $PY -c "$SAY" 2> err.txt)
has "a host has the package that the job needs" "$out" "^h1 1.0 $far/envs/"
equal "...and has built it" "True h1" "$(of @last built) $(of @last node)"
check "...with its log here" grep -q "linking" "$(build_log "$(trainyard ps -a -q | head -1)")"
asked=$(requests)
out=$(trainyard run -t one --env PIP_TRUSTED_HOST --requirements r.txt -- $PY -c "$SAY" 2> err.txt)
has "the second time it is there" "$out" "^h1 1.0"
equal "...and nothing is asked for" "False $asked" "$(of @last built) $(requests)"

wants two.txt tytwo
gate tytwo
run=$(trainyard submit -q -t two --nodes 2 --backend gloo --env PIP_TRUSTED_HOST --requirements two.txt -- $PY -c "$SAY; import tytwo")
check "both hosts of a job build" until_true 30 sh -c "test -s '$(build_log "$run")' && test -s '$(build_log "$run" _1)'"
tells_how_far() { why_of "$1" | grep -qE "building its environment on node 'h[12]' \([0-9]+ %, "; }
check "...which is told" until_true 20 tells_how_far "$run"
equal "...and nobody has started" Queued "$(state_of "$run")"
open_gate tytwo
check "the job comes to its end" trainyard wait "$run"
has "...on the first" "$(trainyard logs "$run" --rank 0)" "^h1 1.0"
has "...and the second" "$(trainyard logs "$run" --rank 1)" "^h2 1.0"
equal "there is a record of each" "0 h1 True, 1 h2 True" "$(trainyard api "/api/v1/runs/$run/environments" | $PY -c '
import json, sys
print(", ".join("%d %s %s" % (e["node"], e["record"]["node"], e["record"]["built"]) for e in json.load(sys.stdin)["environments"]))')"

gate tythree
wants three.txt tythree
run=$(trainyard submit -q -t two --nodes 2 --backend gloo --env PIP_TRUSTED_HOST --requirements three.txt -- $PY -c 'import tythree')
check "both hosts build" until_true 30 test -s "$(build_log "$run" _1)"
check "the run is canceled" trainyard cancel "$run"
check "...and ends" until_true 20 in_state "$run" Canceled
check "...with the builds on both hosts" until_true 20 no_build h1
check "...of them" until_true 20 no_build h2
open_gate tythree
exits "what was broken off there is built by the next" 0 trainyard run -t two --nodes 2 --backend gloo --env PIP_TRUSTED_HOST --requirements three.txt -- $PY -c 'import tythree'

wants bad.txt tynosuch
exits "a package that no index has ends the job" 125 trainyard run -t two --nodes 2 --backend gloo --env PIP_TRUSTED_HOST --requirements bad.txt -- $PY -c 1
has "...by its name" "$out" "No matching distribution found for tynosuch"
equal "...and code" EnvironmentBuildFailed "$(trainyard show @last --json | $PY -c 'import json,sys; print(json.load(sys.stdin)["error"]["code"])')"
