#!/bin/bash
# The API against its own description.
. "$(dirname "$0")/lib.sh"
. "$SOURCE/tests/e2e/env.lib.sh" # Python packages beside the programs
trainyard up 2>/dev/null
$PY "$SOURCE/tests/e2e/api_check.py" || failed=1
