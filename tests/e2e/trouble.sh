#!/bin/bash
# Full disk, read-only folder, network file system, foreign requests, two daemons, long paths.
. "$(dirname "$0")/lib.sh"

# ---- the state folder ----
mkdir "$T/ro"; echo x > "$T/file"
exits "a state folder that is a file is refused" 6 env TRAINYARD_HOME="$T/file" trainyard ps
has "...by name" "$out" "$T/file"
exits "a network file system is refused" 6 env TRAINYARD_TEST_NETWORK_FS="$T" trainyard ps
has "...with the reason and a way out" "$out" "network file system.*TRAINYARD_HOME"
if [ "$(id -u)" = 0 ] && mount -t tmpfs -o size=8m,mode=700 ty-test "$T/ro" 2>/dev/null; then
    mount -o remount,ro "$T/ro"
    exits "a read-only state folder is refused" 6 env TRAINYARD_HOME="$T/ro" trainyard ps
    has "...by name" "$out" "$T/ro"
    mount -o remount,rw "$T/ro"

    # ---- a full disk ----
    export TRAINYARD_HOME=$T/ro
    good=$(trainyard submit -q --no-snapshot -- sh -c 'echo kept')
    trainyard wait "$good" >/dev/null
    dd if=/dev/zero of="$T/ro/filler" bs=64k 2>/dev/null
    cat /dev/zero > "$T/ro/filler2" 2>/dev/null
    exits "on a full disk a submission is refused" 1 trainyard submit -q --no-snapshot --env X="$(head -c 20000 /dev/zero | tr '\0' x)" -- true
    has "...and the text says so" "$out" "[Nn]o space|full"
    equal "what was there can be read" kept "$(trainyard logs "$good")"
    rm "$T/ro/filler" "$T/ro/filler2"
    submits() { trainyard submit -q --no-snapshot -- true > "$T/new"; }
    check "with space the service is back" until_true 10 submits
    check "...and runs" until_true 20 in_state "$(cat "$T/new")" Completed
    equal "nothing was left half done" "2" "$(trainyard ps -a -q | grep -c .)"

    run=$(trainyard submit -q --no-snapshot --env GATE="$T/gate" -- sh -c 'until [ -e "$GATE" ]; do sleep 0.05; done; for i in $(seq 200); do echo "row $i"; done; echo x > outputs/o')
    until_true 10 in_state "$run" Running
    dd if=/dev/zero of="$T/ro/filler" bs=4k 2>/dev/null
    touch "$T/gate"
    sleep 2
    rm "$T/ro/filler"
    check "a run that met a full disk ends" until_true 30 sh -c "trainyard show $run --json | grep -qE 'Completed|Failed'"
    has "...and says how" "$(trainyard show "$run")" "exited with code|Completed"
    trainyard down
    export TRAINYARD_HOME=$T/home
    umount "$T/ro" || not_ok "the test's file system can be unmounted"
else
    skip "read-only and full disks" "needs root and mount"
fi

# ---- long paths, two daemons ----
long=$T/$(printf 'a%.0s' $(seq 120))
check "a state folder with a path too long for a socket works" env TRAINYARD_HOME="$long" trainyard run --no-snapshot -- true
TRAINYARD_HOME=$long trainyard down
for i in 1 2 3 4 5 6; do trainyard ps > /dev/null 2> "$T/err$i" & pids="$pids $!"; done
bad=0
for p in $pids; do wait "$p" || bad=1; done
equal "six calls at once start one daemon" 0 $bad
exits "a second daemon is told that the folder is taken" 3 trainyardd --home "$TRAINYARD_HOME"
has "...in one word" "$out" "^busy"

# ---- foreign bytes ----
cat > "$T/raw.py" <<'X'
import os, socket, sys
def ask(data):
    s = socket.socket(socket.AF_UNIX); s.settimeout(10); s.connect(os.environ["TRAINYARD_HOME"] + "/" + sys.argv[1])
    try:
        s.sendall(data); s.shutdown(socket.SHUT_WR)
        got = b""
        while True:
            b = s.recv(65536)
            if not b: break
            got += b
    except (ConnectionResetError, BrokenPipeError): got = b"(reset)"
    return got.split(b"\r\n")[0]
cases = [l.encode().decode("unicode_escape").encode("latin1") for l in sys.stdin.read().split("\n") if l]
for c in cases: print(ask(c).decode("latin1"))
X
codes=$($PY "$T/raw.py" sock <<'X'
GET /api/v1/runs/%zz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n
GET /api/v1/runs/../../etc HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n
GET /api/v1/nothing HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n
PATCH /api/v1/status HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n
GET /api/v1/runs?limit=x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n
POST /api/v1/experiments/abc/runs HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 5\r\n\r\n{"a":
GET /api/v1/status HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTrainyard-Api: 99\r\n\r\n
GET /api/v1/datastores/workspaceblobstore/files/..%2f..%2fstate.db HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n
X
)
equal "malformed requests get their codes" "400 404 404 405 400 400 426 400" \
    "$(printf '%s\n' "$codes" | sed 's/^HTTP.1.1 \([0-9]*\).*/\1/' | tr '\n' ' ' | sed 's/ $//')"
printf '\\xff\\xff\\xff\\xff\\x01garbage\n\\x05\\x00\\x00\\x00\\x02hello\n' | $PY "$T/raw.py" runner.sock > /dev/null
head -c 3000000 /dev/zero | tr '\0' ' ' > "$T/huge"
exits_code=$($PY - <<X
import http.client, os, socket
class C(http.client.HTTPConnection):
    def connect(self): self.sock = socket.socket(socket.AF_UNIX); self.sock.connect(os.environ["TRAINYARD_HOME"] + "/sock")
c = C("x"); c.request("POST", "/api/v1/blobs/missing", headers={"Content-Length": "99999999999"})
print(c.getresponse().status)
X
)
equal "an oversized body is refused before it is read" 413 "$exits_code"
check "after all that the daemon answers" trainyard status

trainyard up 2>/dev/null
pid=$(daemon_pid)
rm -rf "$TRAINYARD_HOME"
check "a daemon whose state folder was removed ends" until_true 10 gone "$pid"
trainyard up 2>/dev/null
