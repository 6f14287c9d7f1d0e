#!/bin/bash
# The pages: who may see them, and what a browser shows.
. "$(dirname "$0")/lib.sh"
python_packages=$PYTHONPATH
cat > train.py <<'X'
import os, time
from azureml.core import Run
run = Run.get_context()
print("line 1 <script>alert(1)</script>", flush=True)
run.tag("kind", "<i>tag</i>")
def gate(n):
    while not os.path.exists(os.path.join(os.environ["GATES"], "gate%d" % n)):
        time.sleep(0.02)
gate(1)
for i in range(1, 51):
    run.log("loss", 1 / i)
print("line 2", flush=True)
gate(2)
os.makedirs("outputs", exist_ok=True)
open("outputs/model.txt", "w").write("weights")
X
mkdir "$T/gates"
run=$(trainyard submit -q --env GATES="$T/gates" --env PYTHONPATH="$python_packages" -- $PY train.py)
check "a run goes on" until_true 20 in_state "$run" Running
link=$(trainyard link "$run")
has "its link leads to this machine" "$link" "^http://127\\.0\\.0\\.1:[0-9]+/runs/$run\\?token="
port=$(printf '%s' "$link" | sed 's|.*:\([0-9]*\)/.*|\1|')
base=http://127.0.0.1:$port
token=${link##*token=}
status() { curl -s -o "$T/body" -w '%{http_code}' "$@"; }
equal "Python gives the same link" "$link" "$($PY -c 'import sys; from azureml.core import Workspace, Run, Experiment
ws = Workspace.from_config()
print(next(r for r in ws.experiments["project"].get_runs() if r.id == sys.argv[1]).get_portal_url())' "$run")"

# ---- the browser ----
other=$(trainyard submit -q -- sleep 1000)
$PY "$SOURCE/tests/e2e/page_browser.py" "$link" "$T/gates" "$SOURCE/build/test-logs" "$(trainyard link "$other")" || not_ok "the browser came to its end"

# ---- who may come in ----
equal "nobody comes in without a link" 403 "$(status "$base/runs/$run")"
has "...and is told how to get one" "$(cat "$T/body")" "trainyard link"
equal "...nor with half a token" 403 "$(status "$base/runs/$run?token=${token%?}")"
equal "...nor with another user's number" 403 "$(status "$base/runs/$run?token=1${token}")"
equal "the token is good as a header" 200 "$(status -H "Authorization: Bearer $token" "$base/api/v1/runs/$run")"
equal "...for Prometheus, too" 200 "$(status -H "Authorization: Bearer $token" "$base/metrics")"
equal "another host's name is refused" 403 "$(status -H "Host: evil.example" -H "Authorization: Bearer $token" "$base/")"
equal "a link becomes a cookie" 303 "$(status -c "$T/cookies" "$link")"
equal "...with which pages are read" 200 "$(status -b "$T/cookies" "$base/runs/$run")"
has "...which no script can read" "$(cat "$T/cookies")" "^#HttpOnly_127"
equal "...but nothing is changed from elsewhere" 403 "$(status -b "$T/cookies" -X POST -H "Origin: http://evil.example" "$base/api/v1/runs/$run/cancel")"
equal "...nor by a request that does not say from where" 403 "$(status -b "$T/cookies" -X POST "$base/api/v1/runs/$run/cancel")"
equal "...only by the pages themselves" 200 "$(status -b "$T/cookies" -X POST -H "Origin: $base" "$base/api/v1/runs/$run/cancel")"
equal "links are not given to browsers" 403 "$(status -b "$T/cookies" "$base/api/v1/link")"
equal "a file of a job is no page of ours" "default-src 'none'; sandbox" \
    "$(curl -s -D - -o /dev/null -b "$T/cookies" "$base/api/v1/runs/$run/files/outputs/model.txt" | tr -d '\r' | sed -n 's/^Content-Security-Policy: //p')"
equal "an unknown run is not found" 404 "$(status -b "$T/cookies" "$base/runs/none")"
equal "...nor is an unknown file" 404 "$(status -b "$T/cookies" "$base/static/none.js")"
etag=$(curl -s -D - -o /dev/null -b "$T/cookies" "$base/static/page.css" | tr -d '\r' | sed -n 's/^ETag: //p')
equal "what the browser has is not sent again" 304 "$(status -b "$T/cookies" -H "If-None-Match: $etag" "$base/static/page.css")"

# Whoever knocks without coming in takes no place from those who use the socket.
$PY - "$port" <<'X' &
import os, socket, sys, time
held = []
for _ in range(400):
    s = socket.socket()
    s.settimeout(5)
    try:
        s.connect(("127.0.0.1", int(sys.argv[1])))
        held.append(s)
    except OSError:
        pass
open("knocked", "w").close()
end = time.monotonic() + 20
while not os.path.exists("asked") and time.monotonic() < end:
    time.sleep(0.02)
X
knocks=$!
until_true 20 test -e knocked
check "many idle connections keep nobody from the socket" timeout 10 trainyard ps
touch asked
wait $knocks

# ---- over restarts ----
trainyard down 2>/dev/null
trainyard up 2>/dev/null
equal "links outlive the daemon" 303 "$(status "$link")"
check "until they are made void" trainyard link --revoke
equal "...then they lead nowhere" 403 "$(status "$link")"
equal "...nor does the cookie" 403 "$(status -b "$T/cookies" "$base/runs/$run")"
equal "...but a new one does" 303 "$(status "$(trainyard link "$run")")"
trainyard down 2>/dev/null
if [ "$(id -u)" = 0 ]; then
    # On a network of its own, where nobody else has the port whose number browsers leave out.
    PY="$PY" unshare --net bash -c '
        $PY -c "import fcntl, socket, struct
s = socket.socket()
fcntl.ioctl(s, 0x8914, struct.pack(\"16sh14x\", b\"lo\", 1 | 64))"
        TRAINYARD_HTTP_PORT=80 trainyard up 2>/dev/null
        link=$(trainyard link | sed "s/:80//")
        curl -s -o /dev/null -w "%{http_code} " -c "$0/jar" "$link"
        curl -s -o /dev/null -w "%{http_code} " -b "$0/jar" -X DELETE -H "Origin: http://127.0.0.1" http://127.0.0.1/api/v1/link
        curl -s -o /dev/null -w "%{http_code}" -H "Host: evil.example" "$link"
        trainyard down 2>/dev/null' "$T" > "$T/80"
    equal "port 80 is one that browsers do not name" "303 204 403" "$(cat "$T/80")"
else
    skip "port 80 is one that browsers do not name" "only root may listen there"
fi
TRAINYARD_HTTP_PAGES=false trainyard up 2>/dev/null
exits "pages can be forbidden" 4 trainyard link
has "...by name" "$out" "http.pages"
check "...and then nobody listens" test "$(status "$base/")" = 000
