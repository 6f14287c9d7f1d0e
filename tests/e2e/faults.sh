#!/bin/bash
# Every fault point fails, in the service and in the client: for builds with faults.
. "$(dirname "$0")/lib.sh"
export TRAINYARD_SCHED_BEGIN_SECONDS=1 # a fault that stays is not waited for
export TMPDIR=$T
$PY "$SOURCE/tests/e2e/faults.py" "$SOURCE" || failed=1
