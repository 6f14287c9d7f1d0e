#!/bin/bash
# What goes wrong while data are brought to a job: full disks, files that vanish or change, cancel, a runner that is killed.
. "$(dirname "$0")/lib.sh"
. "$SOURCE/tests/e2e/objects.lib.sh"
at_last() {
    code=$?
    umount "$T/small" 2> /dev/null
    [ -n "$proxy" ] && kill "$proxy" 2> /dev/null
    azurite_stop
    (exit $code)
    at_end
}
trap at_last EXIT
error_of() { trainyard show "$1" --json | field error; }
warnings_of() { trainyard api "runs/$1/events" | grep -o '"text":"[^"]*"'; }
control() { cat "$TRAINYARD_HOME/jobs/$1/log/azureml-logs/60_control_log.txt" 2> /dev/null; }
store=$TRAINYARD_HOME/data/workspaceblobstore
cd "$T" && mkdir set && for i in $(seq 20); do head -c 1000000 /dev/urandom > set/f$i; done
cd "$T/project" || exit 1
trainyard data put ../set workspaceblobstore:set > /dev/null

# ---- folders ----
run=$(trainyard submit -q --data d=workspaceblobstore/set:download -- sh -c 'echo begun; while ! [ -e go ]; do sleep 0.05; done')
check "a run begins" until_true 20 sh -c "trainyard logs $run 2> /dev/null | grep -q begun"
echo more >> "$store/set/f3"; rm "$store/set/f4"; echo new > "$store/set/f99"
: > "$TRAINYARD_HOME/jobs/$run/work/go"
trainyard wait "$run" > /dev/null 2>&1
has "what changes under a running job is named" "$(warnings_of "$run")" "data reference 'd': 3 files of datastore 'workspaceblobstore' changed while the run was running \(1 changed, 1 gone, 1 new\): f3, f99, f4"
ln -s nowhere "$store/set/f4"
run=$(trainyard submit -q --data d=workspaceblobstore/set:download -- true)
trainyard wait "$run" > /dev/null 2>&1
has "a file that cannot be copied is named" "$(error_of "$run")" "PreparationFailed.*data reference 'd': cannot download 'f4': it has vanished"
rm "$store/set/f4"

if [ "$(id -u)" = 0 ] && mkdir "$T/small" && mount -t tmpfs -o size=8m tmpfs "$T/small" 2> /dev/null; then
    run=$(trainyard submit -q --data "$(printf 'd=workspaceblobstore/set:download')" -- true)
    trainyard wait "$run" > /dev/null 2>&1
    equal "there is room on the disk" Completed "$(state_of "$run")"
    trainyard down > /dev/null 2>&1
    mkdir -p "$T/small/jobs" && mount --bind "$T/small/jobs" "$TRAINYARD_HOME/jobs"
    run=$(trainyard submit -q --data d=workspaceblobstore/set:download -- true)
    trainyard wait "$run" > /dev/null 2>&1
    has "a full disk is named, with what is needed" "$(error_of "$run")" "PreparationFailed.*data reference 'd': cannot download 'f[0-9]+': No space left on device; the data are 19.* of which .* were copied, and .* free"
    trainyard down > /dev/null 2>&1
    until_true 5 umount "$TRAINYARD_HOME/jobs"
else
    skip "a full disk is named, with what is needed" "it is mounted for the test, which only root can do"
fi

# ---- object stores ----
if ! azurite_start "$T/azurite"; then
    skip "data in Azure Blob" "$objects_why"
    exit 0
fi
azure PUT /con restype=container > /dev/null < /dev/null
# A proxy that lets so many answers of objects through, and is silent then.
cat > "$T/proxy.py" <<'P'
import sys
sys.path.insert(0, sys.argv[1])
import s3_servers, threading
p = s3_servers.Faulty(int(sys.argv[2]))
left = int(sys.argv[3])
def rule(n, method, path):
    global left
    if method != "GET" or "comp=list" in path or "/set/" not in path:
        return None
    left -= 1
    return None if left >= 0 else ("hang",)
p.reset(rule)
print(p.port, flush=True)
threading.Event().wait()
P
mkfifo "$T/port"
$PY "$T/proxy.py" "$SOURCE/tests/e2e" "$AZ_PORT" 5 > "$T/port" & proxy=$!
read -r port < "$T/port"
check "a container is registered" trainyard data add az --kind azureblob --account "$AZ_ACCOUNT" --container con --endpoint "$AZ_URL" --protocol http --key-env AZ_KEY
trainyard data put ../set az:set > /dev/null
check "...and once more, behind a proxy" trainyard data add slow --kind azureblob --account "$AZ_ACCOUNT" --container con --endpoint "http://127.0.0.1:$port/$AZ_ACCOUNT" --protocol http --key-env AZ_KEY
cached() { find "$TRAINYARD_HOME/cache/data" -type f -perm 444 2> /dev/null | wc -l; }
some_cached() { [ "$(cached)" -ge 1 ] || ls "$TRAINYARD_HOME"/cache/data/*/*/.*part > /dev/null 2>&1; }
run=$(trainyard submit -q --data d=slow/set:download -- true)
check "a download begins" until_true 20 some_cached
trainyard cancel "$run" > /dev/null
check "...and is canceled while it waits" until_true 5 in_state "$run" Canceled
run=$(trainyard submit -q --data d=slow/set:download -- sh -c 'ls "$AZUREML_DATAREFERENCE_d" | wc -l')
check "another one begins" until_true 20 sh -c "grep -qs preparing '$TRAINYARD_HOME/jobs/$run/log/azureml-logs/60_control_log.txt'"
other=$(trainyard submit -q --data d=slow/set:download -- true)
waits() { { control "$other"; control "$run"; } | grep -q "another run downloads the same data"; }
check "a second one of the same data waits for it, and says so" until_true 20 waits
trainyard cancel "$other" > /dev/null
check "...until it is canceled" until_true 5 in_state "$other" Canceled
kill -9 "$(runner_pid "$run")"
check "a runner that is killed while it downloads is lost" until_true 30 in_state "$run" Failed
check "...its folder goes" until_true 10 sh -c "! [ -e '$TRAINYARD_HOME/jobs/$run' ]"
kill "$proxy"; wait "$proxy" 2> /dev/null; proxy=
run=$(trainyard submit -q --data d=az/set:download -- sh -c 'cd "$AZUREML_DATAREFERENCE_d" && sha256sum * | sha256sum')
trainyard wait "$run" > /dev/null 2>&1
equal "nothing half is used by the next" "$(cd ../set && sha256sum * | sha256sum)" "$(trainyard logs "$run")"
if mountpoint -q "$T/small" 2> /dev/null; then
    find "$TRAINYARD_HOME/cache/data" -type f -delete
    mkdir -p "$T/small/data" && mount --bind "$T/small/data" "$TRAINYARD_HOME/cache/data"
    run=$(trainyard submit -q --data d=az/set:download -- true)
    trainyard wait "$run" > /dev/null 2>&1
    has "a full cache is named, with what is needed" "$(error_of "$run")" "PreparationFailed.*data reference 'd': No space left on device; the data are 20.0 MB, of which 0 B were there, and 8.* free in '"
    for f in 6000000:old 4000000:fresh; do head -c "${f%:*}" /dev/urandom > "../${f#*:}" && trainyard data put "../${f#*:}" "az:${f#*:}" > /dev/null; done
    run=$(trainyard submit -q --data d=az/old:download -- true)
    trainyard wait "$run" > /dev/null 2>&1
    equal "what there is room for is cached" "Completed 1" "$(state_of "$run") $(cached)"
    find "$TRAINYARD_HOME/cache/data" -type f -perm 444 -exec touch -a -d '2 hours ago' {} +
    run=$(trainyard submit -q --data d=az/fresh:download -- sh -c 'sha256sum < "$AZUREML_DATAREFERENCE_d"')
    trainyard wait "$run" > /dev/null 2>&1
    equal "a full cache makes room of what no run uses" "$(sha256sum < ../fresh)" "$(trainyard logs "$run")"
    has "...and says so" "$(trainyard artifacts get "$run" azureml-logs/60_control_log.txt -o - 2> /dev/null)" "data reference 'd': the disk is full; [0-9.]+ MB of downloaded data that no run uses were removed from the cache"
    umount "$TRAINYARD_HOME/cache/data"
fi
# ---- a node without libcurl ----
cat > "$T/nocurl.sh" <<'C'
for l in libcurl.so.4 libcurl-gnutls.so.4; do
    f=$(ldconfig -p | sed -n "s/.*$l .*=> //p" | head -1)
    [ -z "$f" ] || mount --bind /dev/null "$(readlink -f "$f")" || exit 1
done
run=$(trainyard submit -q --data o=az/none:upload -- true)
trainyard wait "$run" > /dev/null 2>&1
trainyard show "$run" --json
trainyard down > /dev/null 2>&1
C
trainyard down > /dev/null 2>&1
if [ "$(id -u)" = 0 ] && command -v ldconfig > /dev/null && unshare --mount true 2> /dev/null; then
    out=$(unshare --mount bash "$T/nocurl.sh" | field error)
    has "a node without libcurl is named, with what to install" "$out" "PreparationFailed.*data reference 'o': .*apt install libcurl4"
else
    skip "a node without libcurl is named, with what to install" "it is hidden for the test, which only root can do"
fi

azurite_stop
run=$(trainyard submit -q --data d=az/other:download -- true)
trainyard wait "$run" > /dev/null 2>&1
has "a store that does not answer is named" "$(error_of "$run")" "PreparationFailed.*data reference 'd': .*(refused|connect)"
