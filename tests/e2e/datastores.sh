#!/bin/bash
# Object stores as datastores: registered, filled, read and forgotten from the command line, against real servers; what goes wrong is told;
# keys are seen nowhere; under one daemon for all users root registers, and everybody uses.
. "$(dirname "$0")/lib.sh"
export T
$PY "$SOURCE/tests/e2e/datastores.py" "$SOURCE" || failed=1
