#!/bin/bash
# The API against its own description.
. "$(dirname "$0")/lib.sh"
trainyard up 2>/dev/null
$PY "$SOURCE/tests/e2e/api_check.py" || failed=1
