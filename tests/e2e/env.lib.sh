# env.lib.sh - a package index of a test's own (after lib.sh)
#
# $INDEX is its folder, $INDEX_URL its address. A test may close a gate: `gate NAME` keeps whoever asks for NAME waiting, `open NAME`
# lets them go.
INDEX=$T/index
# A build with sanitizers has no Python packages beside it, and an interpreter is asked with one of them.
if [ ! -d "$BUILD/python/trainyard" ]; then
    mkdir "$T/bin"
    cp "$BUILD/trainyard" "$BUILD/trainyardd" "$BUILD/trainyard-agent" "$T/bin/" && cp -rL "$SOURCE/build/python" "$T/bin/python"
    BUILD=$T/bin PATH=$T/bin:$PATH
fi
index_pid=

wheel() { $PY "$SOURCE/tests/e2e/env_index.py" wheel "$INDEX" "$@"; }
gate() { : > "$INDEX/gate-$1"; }
open_gate() { rm -f "$INDEX/gate-$1"; }
# index_start [HOST] [COMMAND...]: HOST to listen at (127.0.0.1); the command in front, such as one that enters a namespace
index_start() {
    host=${1:-127.0.0.1}; [ $# -gt 0 ] && shift
    mkdir -p "$INDEX"
    "$@" $PY "$SOURCE/tests/e2e/env_index.py" serve "$INDEX" "$host" > /dev/null 2>&1 &
    index_pid=$!
    until_true 20 test -s "$INDEX/port" || { not_ok "the package index of the test starts"; exit 1; }
    INDEX_URL=http://$host:$(cat "$INDEX/port")/simple
}
index_stop() { [ -n "$index_pid" ] && kill "$index_pid" 2>/dev/null; wait "$index_pid" 2>/dev/null; index_pid=; }
requests() { wc -l < "$INDEX/requests"; }
# wants FILE PACKAGE...: a requirements file
wants() { file=$1; shift; { echo "-i $INDEX_URL"; printf '%s\n' "$@"; } > "$file"; }
# of RUN PATH: a value of the record of the run's environment, such as lock.pip.0.version
of() {
    trainyard show "$1" --json | $PY -c '
import json, sys
v = json.load(sys.stdin)["environment"]
for key in sys.argv[1].split("."):
    v = None if v is None else v[int(key)] if isinstance(v, list) else v.get(key)
print("" if v is None else v)' "$2"
}
why_of() { trainyard show "$1" --json | field why; }
tells_how_far() { why_of "$1" | grep -qE "building its environment \([0-9]+ %, "; }
is_building() { why_of "$1" | grep -q "building its environment"; }
build_log() { echo "$TRAINYARD_HOME/logs/$1/azureml-logs/20_image_build_log${2:-}.txt"; }
