#!/bin/bash
# Moving files to and from S3: against s3rver and moto, and a proxy that misbehaves.
. "$(dirname "$0")/lib.sh"
$PY "$SOURCE/tests/e2e/s3_check.py" "$BUILD/bench/data/mover" "$T" || failed=1
