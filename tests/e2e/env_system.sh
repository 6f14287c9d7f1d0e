#!/bin/bash
# Environments under one daemon for all users: built as the user, in a cache of theirs, and ended with their run.
if [ "$(id -u)" != 0 ] || ! unshare --mount true 2>/dev/null; then
    echo "ok - environments of several users # SKIP only root can start a daemon for all users"
    exit 0
fi
# A user with a home of their own, for this script alone.
[ -n "$TRAINYARD_TEST_MOUNTS" ] || exec unshare --mount env TRAINYARD_TEST_MOUNTS=1 bash "$0" "$@"
. "$(dirname "$0")/lib.sh"
. "$SOURCE/tests/e2e/env.lib.sh"
trap 'code=$?; index_stop; kill $serve 2>/dev/null; wait $serve 2>/dev/null; (exit $code); at_end' EXIT
A=games
chmod 755 "$T"
if [ ! -d "$T/bin" ]; then
    mkdir "$T/bin" && cp "$BUILD/trainyard" "$BUILD/trainyardd" "$BUILD/trainyard-agent" "$T/bin" && cp -rL "$SOURCE/build/python" "$T/bin/python"
fi
chmod -R a+rX "$T/bin"
mkdir -p "$T/$A/project" && chown -R $A "$T/$A"
sed "s#^$A:\([^:]*:[^:]*:[^:]*:[^:]*\):[^:]*:#$A:\1:$T/$A:#" /etc/passwd > "$T/passwd" && mount --bind "$T/passwd" /etc/passwd
equal "a user has a home" "$T/$A" "$(getent passwd $A | cut -d: -f6)"
as() {
    (cd "$T/$A/project" && exec setpriv --reuid=$A --regid="$(id -g $A)" --init-groups \
        env -i PATH="$T/bin:/usr/bin:/bin" HOME="$T/$A" NO_COLOR=1 TRAINYARD_HOME="$TRAINYARD_HOME" PYTHONPATH="$T/bin/python" "$@")
}
export PATH=$T/bin:$PATH
unset PYTHONPATH
trainyard serve --system > "$T/serve.log" 2>&1 &
serve=$!
check "the daemon of the machine listens" until_true 10 trainyard status
index_start
wheel tyone 1.0
wheel tytwo 1.0
cd "$T/$A/project" && wants r.txt tyone && wants two.txt tytwo

out=$(as trainyard run --requirements r.txt -- $PY -c 'import sys, tyone; print(tyone.__version__, sys.prefix)' 2> "$T/err")
has "the user's job has its package, from a cache in their home" "$out" "^1.0 $T/$A/.cache/trainyard/envs/"
equal "...which is theirs" $A "$(stat -c %U "$T/$A/.cache/trainyard/envs" "$(printf '%s' "$out" | cut -d' ' -f2)" | sort -u)"
has "...and they see it" "$(as trainyard env ls)" "tyone"
equal "...in the record, too" True "$(of "$(trainyard ps -a -q | head -1)" built)"
gate tytwo
run=$(as trainyard submit -q --requirements two.txt -- $PY -c 'import tytwo')
check "a build waits" until_true 30 is_building "$run"
pip_is_theirs() { strays | while read -r p; do stat -c %U "/proc/$p" 2>/dev/null; done | grep -q "^$A$"; }
check "...as that user" until_true 10 pip_is_theirs
check "the run is canceled" as trainyard cancel "$run"
check "...and ends" until_true 10 in_state "$run" Canceled
check "...with its pip" until_true 10 no_strays
run=$(as trainyard submit -q --requirements two.txt -- $PY -c 'import tytwo')
check "another builds" until_true 30 pip_is_theirs
kill -9 "$(runner_pid "$run")"
check "a runner that is killed leaves no pip of theirs" until_true 10 no_strays
exits "...and its run fails" 1 as trainyard wait "$run"
open_gate tytwo
exits "the next one builds it" 0 as trainyard run --requirements two.txt -- $PY -c 'import tytwo'
