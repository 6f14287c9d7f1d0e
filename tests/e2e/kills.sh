#!/bin/bash
# Daemon and runner are killed with -9 at seeded random moments (KILLS of them, default 20; SEED to repeat).
. "$(dirname "$0")/lib.sh"
$PY "$SOURCE/tests/e2e/kills.py" || failed=1
