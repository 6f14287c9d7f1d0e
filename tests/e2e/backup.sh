#!/bin/bash
# A backup of a daemon at work, and what comes back.
. "$(dirname "$0")/lib.sh"
OTHER=$T/other
at() { trainyard --home "$OTHER" "$@"; }
at_end_other() { at down >/dev/null 2>&1; at_end; }
trap at_end_other EXIT

cat > train.py <<'X'
from azureml.core import Run
run = Run.get_context()
for i in range(100):
    run.log("loss", 1 / (i + 1))
import os
os.makedirs("outputs", exist_ok=True)
open("outputs/model", "w").write("weights")
print("trained")
X
done=$(trainyard submit -q --env PYTHONPATH="$PYTHONPATH" --tag a=b -- $PY train.py)
check "a run completes" trainyard wait "$done"
echo datum > file && trainyard data put file workspaceblobstore:in/file 2>/dev/null
echo hush | trainyard secret set key 2>/dev/null
going=$(trainyard submit -q -- sh -c 'i=0; while :; do i=$((i+1)); echo line $i; done')
check "another one goes on, and prints what it can" until_true 20 in_state "$going" Running
pid=$(trainyard api "runs/$going/events" | $PY -c 'import json,sys; print([e["data"]["pid"] for e in json.load(sys.stdin)["events"] if (e.get("data") or {}).get("pid")][-1])')
trainyard queue pause 2>/dev/null
waits=$(trainyard submit -q -- true)

ln -s "$T/elsewhere" "$T/b.tar.gz.partial"
check "a backup is made meanwhile" trainyard backup "$T/b.tar.gz"
equal "...for its owner alone" 600 "$(stat -c %a "$T/b.tar.gz")"
check "...not where a link in its way leads" test ! -e "$T/elsewhere" -a ! -e "$T/b.tar.gz.partial"
check "...and nothing of it stays" test ! -e "$TRAINYARD_HOME/backup"
equal "...it says what it holds" 3 "$(trainyard backup "$T/b.tar" --json | field runs)"
check "a pipe takes one, too" sh -c "trainyard backup - | tar -tz | grep -q '^state.db\$'"
exits "a name that is none is refused" 2 trainyard backup "$T/b.zip"
exits "a place that cannot be written is named" 3 trainyard backup "$T/none/b.tar"
has "...with the reason" "$out" "No such file"
flock -s "$TRAINYARD_HOME/backup.lock" sh -c "trainyard gc > '$T/gc' 2>&1; echo \$? >> '$T/gc'"
has "no garbage is collected while one is made" "$(cat "$T/gc")" "a backup is being made"

# ---- on the same machine, beside the original ----
check "it is restored elsewhere" at restore "$T/b.tar.gz"
equal "the run is there" Completed "$(at show "$done" --json | field state)"
equal "...with its tag" b "$(at show "$done" --json | $PY -c 'import json,sys; print(json.load(sys.stdin)["tags"]["a"])')"
equal "...its log" trained "$(at logs "$done")"
equal "...its metrics" 100 "$(at metrics "$done" --json | $PY -c 'import json,sys; print(len(json.load(sys.stdin)["metrics"]["loss"]))')"
mkdir "$T/got" && (cd "$T/got" && at artifacts get "$done" outputs/model >/dev/null 2>&1)
equal "...its files" weights "$(cat "$T"/got/outputs/model "$T"/got/model 2>/dev/null)"
check "the data lies in the new place" at data get workspaceblobstore:in/file "$T/got/datum"
equal "...as it was" datum "$(cat "$T/got/datum" 2>/dev/null || cat "$T/got/datum/file")"
equal "...which the datastore names" "$OTHER/data/workspaceblobstore" "$(at api datastores/workspaceblobstore | field root)"
equal "the secret can be read" hush "$(at secret get key)"
equal "a run that went on has failed there" Failed "$(at show "$going" --json | field state)"
has "...and says why" "$(at show "$going" --json)" '"code": ?"Restored"'
check "...while the original goes on" in_state "$going" Running
check "...and so does its process" test -e "/proc/$pid"
equal "what waited waits" Queued "$(at show "$waits" --json | field state)"
has "...until the queue goes on" "$(at show "$waits" --json | field why)" "the queue is paused"
at queue resume 2>/dev/null
check "...which it then does" at wait "$waits"
equal "the events give what the tables say" 0 "$(at api check | field differ)"
at down 2>/dev/null; at up 2>/dev/null
has "the mark is gone: a second start is as any" "$(at queue ls --json)" '"paused": ?false'

# ---- what is not done ----
exits "nothing is restored over a state folder" 5 at restore "$T/b.tar.gz"
has "...and the way out is named" "$out" "--home DIR"
exits "a file that is not there is named" 3 trainyard --home "$T/new" restore "$T/none.tar"
head -c 3000 "$T/b.tar.gz" > "$T/cut.tar.gz"
exits "half a backup is none" 1 trainyard --home "$T/new" restore "$T/cut.tar.gz"
check "...and leaves nothing" test ! -e "$T/new" -a ! -e "$T/new.restoring"
tar -cf "$T/foreign.tar" -C "$T/project" train.py
exits "another archive is no backup" 1 trainyard --home "$T/new" restore "$T/foreign.tar"
has "...and is told so" "$out" "no backup that Trainyard made"
mkdir "$T/unpacked" && tar -xf "$T/b.tar" -C "$T/unpacked"
blob=$(find "$T/unpacked/blobs" -type f -path '*/??/*' | head -1)
chmod u+w "$blob" && echo more >> "$blob"
tar -cf "$T/damaged.tar" -C "$T/unpacked" .
exits "a file that has changed is found" 1 trainyard --home "$T/new" restore "$T/damaged.tar"
has "...by its hash" "$out" "is damaged"
check "...and nothing is put in place" test ! -e "$T/new"
if [ "$(id -u)" = 0 ]; then
    mkdir "$T/small" && mount -t tmpfs -o size=16k none "$T/small"
    exits "a full disk gives no half backup" 1 trainyard backup "$T/small/b.tar"
    has "...and the reason" "$out" "No space left"
    check "...nor anything of it" is_empty "$T/small"
    umount "$T/small"
else
    skip "a full disk gives no half backup" "it is mounted for the test"
fi
trainyard cancel "$going" >/dev/null 2>&1
