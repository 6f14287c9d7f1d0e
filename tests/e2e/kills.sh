#!/bin/bash
# Daemon and runner are killed with -9 at seeded random moments (KILLS of them, default 20; SEED to repeat).
. "$(dirname "$0")/lib.sh"
export TRAINYARD_SCHED_SILENT_SECONDS=1 # so that NotResponding is reached soon
$PY "$SOURCE/tests/e2e/kills.py" || failed=1
