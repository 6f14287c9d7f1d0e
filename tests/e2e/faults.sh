#!/bin/bash
# Every fault point fails, in the service and in the client: for builds with faults.
. "$(dirname "$0")/lib.sh"
export TMPDIR=$T
$PY "$SOURCE/tests/e2e/faults.py" "$SOURCE" || failed=1
