#!/bin/bash
# One daemon for all users of a machine: jobs run as their owner, and nobody reads or changes what is another's.
. "$(dirname "$0")/lib.sh"
if [ "$(id -u)" != 0 ]; then
    skip "one daemon for all users" "only root can start it"
    exit 0
fi
# Two users that every Debian machine has.
A=games B=nobody
chmod 755 "$T"
mkdir "$T/bin" && cp "$BUILD/trainyard" "$BUILD/trainyardd" "$BUILD/trainyard-agent" "$T/bin" && cp -RL "$SOURCE/build/python" "$T/bin/python"
chmod -R a+rX "$T/bin"
for u in $A $B; do mkdir -p "$T/$u/project" && chown -R $u "$T/$u"; done
# as USER COMMAND...: in a folder of theirs, with nothing of root's but what is named
as() {
    u=$1; shift
    (cd "$T/$u/project" && exec setpriv --reuid="$u" --regid="$(id -g "$u")" --init-groups \
        env -i PATH="$T/bin:/usr/bin:/bin" HOME="$T/$u" NO_COLOR=1 TRAINYARD_HOME="$TRAINYARD_HOME" PYTHONPATH="$T/bin/python" "$@")
}
export PATH=$T/bin:$PATH
unset PYTHONPATH

has "the unit file starts what is installed" "$(cat "$BUILD/trainyard.service")" "^ExecStart=/.*/bin/trainyard serve --system\$"
exits "a user cannot start a daemon for all" 1 as $A env TRAINYARD_HOME="$T/$A/home" trainyardd --system
has "...and is told why" "$out" "must be started by root"
exits "root that cannot be anybody else does not start it either" 1 setpriv --bounding-set=-setuid,-setgid --inh-caps=-setuid,-setgid \
    trainyardd --system --home "$T/other"
has "...and says what is missing" "$out" "SETUID"
trainyard serve --system > "$T/serve.log" 2>&1 &
serve=$!
check "the daemon of the machine listens" until_true 10 trainyard status
check "...and another user reaches it" as $A trainyard status

# ---- a job is its owner's ----
cat > "$T/$A/project/train.py" <<'X'
import os, getpass, sys
from azureml.core import Run
run = Run.get_context()
run.log("loss", 0.5)
print("user", getpass.getuser(), "uid", os.getuid(), "groups", sorted(os.getgroups()), "home", os.environ["HOME"])
os.makedirs("outputs", exist_ok=True)
open("outputs/model.txt", "w").write("weights")
open(os.environ["TRAINYARD_CHECKPOINT_DIR"] + "/step", "w").write("1")
os.symlink("/etc/shadow", "outputs/shadow")
try:
    open("/etc/shadow"); print("reads shadow")
except PermissionError:
    print("no shadow")
for name in ("state.db", "secret.key", "runner.sock", "blobs", "logs"):
    try:
        os.listdir(os.path.join(os.environ["TRAINYARD_HOME"], name)) if name in ("blobs", "logs") else open(os.path.join(os.environ["TRAINYARD_HOME"], name), "rb")
        print("reads", name)
    except (PermissionError, OSError) as e:
        print("closed", name)
X
run=$(as $A trainyard submit -q -- /usr/bin/python3 train.py 2>"$T/err") || not_ok "a user submits" "$(cat "$T/err")"
check "their run completes" as $A trainyard wait "$run"
log=$(as $A trainyard logs "$run")
has "...as that user, with their groups and nobody else's" "$log" "user $A uid $(id -u $A) groups \[$(id -G $A | tr ' ' '\n' | sort -n | paste -sd, | sed 's/,/, /g')\]"
has "...in their own home" "$log" "home $(getent passwd $A | cut -d: -f6)\$"
has "...without root's rights" "$log" "no shadow"
equal "...or a look at the state of the service" 5 "$(printf '%s\n' "$log" | grep -c '^closed')"
equal "...their metrics are kept" 0.5 "$(as $A trainyard metrics "$run" --json | $PY -c 'import json,sys; print(json.load(sys.stdin)["metrics"]["loss"])')"
equal "...and their outputs, but not what a link leads to" "outputs/model.txt" "$(as $A trainyard artifacts ls "$run" --plain | cut -f1 | grep outputs/)"
equal "...the run says whose it is" $A "$(as $A trainyard show "$run" --json | field user)"
check "...and its folder is gone" test ! -e "$TRAINYARD_HOME/jobs/$run"

# ---- between users ----
exits "another user does not read it" 4 as $B trainyard logs "$run"
has "...and is told whose it is" "$out" "belongs to user '$A'"
exits "...nor remove it" 4 as $B trainyard rm -y "$run"
equal "...nor see it in a list" "" "$(as $B trainyard ps -a -q)"
exits "...nor ask for the runs of others" 4 as $B trainyard api "/api/v1/runs?user=$A"
equal "root sees it" "$run" "$(trainyard ps -a -q)"
several=$(as $A trainyard api experiments/dist/runs -d '{"version": 1, "process_count_per_node": 2, "communicator": "Gloo", "command": ["/bin/sh", "-c",
 "touch $TRAINYARD_SPOOL_DIR/victim.0; echo of $(id -un); exec sleep 60"]}' | field id)
check "several processes of one user run" until_true 20 in_state "$several" Running
pid=$(for p in $(strays); do [ "$(cat /proc/$p/comm)" = trainyard-meet ] && echo $p; done)
equal "...and the program through which they meet is that user's" "$(id -u $A)" "$(stat -c %u "/proc/$pid")"
check "...they are canceled" as $A trainyard cancel "$several"
check "...and end" until_true 20 in_state "$several" Canceled
equal "...each ran as that user" "of $A of $A" "$(as $A trainyard logs "$several" | grep -o "of $A" | xargs echo)"
cat > "$T/$A/project/sum.py" <<'X'
import os
from mpi4py import MPI
print("uid", os.getuid(), "sum", MPI.COMM_WORLD.allreduce(MPI.COMM_WORLD.rank + 1))
X
sum=$(as $A trainyard submit -q --procs 2 --backend mpi -- /usr/bin/python3 sum.py 2>"$T/err") || not_ok "a user submits an MPI job" "$(cat "$T/err")"
check "a user's MPI job completes" as $A trainyard wait "$sum"
has "...whose processes met as that user's" "$(as $A trainyard logs "$sum")" "uid $(id -u $A) sum 3"
as $A trainyard rm -y "$several" >/dev/null 2>&1
slow=$(as $A trainyard submit -q -- sleep 600)
check "a run of the first user goes on" until_true 20 in_state "$slow" Running
exits "the other cannot cancel it" 4 as $B trainyard cancel "$slow"
pid=$(trainyard api "/api/v1/runs/$slow/events" | $PY -c 'import json,sys; print([e["data"]["pid"] for e in json.load(sys.stdin)["events"] if (e.get("data") or {}).get("pid")][-1])')
equal "...its process is its owner's" "$(id -u $A)" "$(stat -c %u "/proc/$pid")"
equal "...and they enter it" "$(id -u $A) $TRAINYARD_HOME/jobs/$slow/work" "$(as $A trainyard exec "$slow" -- sh -c 'echo $(id -u) $PWD')"
equal "...or run and watch another one" "seen" "$(as $A trainyard run -- echo seen 2>/dev/null)"
exits "the queue is root's" 4 as $B trainyard queue pause
trainyard queue pause 2>/dev/null
waits=$(as $A trainyard submit -q -- true)
has "...in which everybody sees what waits" "$(as $B trainyard queue ls --json)" "\"user\":\"$A\""
trainyard queue resume 2>/dev/null
check "...and that goes on" as $A trainyard wait "$waits"
exits "nobody but root passes the others" 4 as $B trainyard submit -q --priority 1 -- true
has "...and they are told so" "$out" "administrator \\(root\\) can give a run a priority above 0"
check "...but may let them pass" as $B trainyard run --priority -1 -- true
exits "...the daemon too" 4 as $B trainyard down
exits "...and compute targets that exist" 4 as $B trainyard api -X PUT targets/local -d '{"kind":"local","require_gpu":true}'
# ---- targets that would start commands for others ----
as $A sh -c 'printf "#!/bin/sh\nid -u > \"%s/who\"\n" "$HOME" > "$HOME/sinfo" && chmod 755 "$HOME/sinfo"'
check "a user makes a target of this box" as $A trainyard api -X PUT targets/mine -d '{"vm_size":"STANDARD_D2_V2","max_nodes":1,"idle_seconds_before_scaledown":10}'
exits "...but none of machines of their choice" 4 as $A trainyard api -X PUT "targets/theirs?ask=1" -d "{\"kind\":\"hosts\",\"hosts\":[{\"host\":\"nowhere\"}],\"ssh_options\":[\"ProxyCommand=sh -c 'id -u > $T/$A/who'\"]}"
has "...and is told why" "$out" "only an administrator \\(root\\) can make a compute target with its own"
exits "...nor of a cluster whose commands are theirs" 4 as $A trainyard api -X PUT "targets/theirs?ask=1" -d "{\"kind\":\"slurm\",\"environment\":{\"PATH\":\"$T/$A\"}}"
exits "...not even of the configured kind" 4 as $A trainyard api -X PUT "targets/theirs?ask=1" -d "{\"environment\":{\"PATH\":\"$T/$A\"}}"
exits "...and none that drains this box for all" 4 as $A trainyard api -X PUT targets/theirs -d "{\"kind\":\"local\",\"drained_nodes\":[\"$(hostname)\"]}"
check "...nothing of theirs was started" test ! -e "$T/$A/who"
exits "a target of the machine's takes no options for ssh" 1 trainyard api -X PUT targets/theirs -d '{"kind":"hosts","hosts":[{"host":"h"}],"ssh_options":["ProxyCommand=true"]}'
has "...but the users' own" "$out" "ssh/config"
check "a user has secrets of their own" as $A sh -c 'echo one | trainyard secret set key'
check "...and another one of the same name" as $B sh -c 'echo two | trainyard secret set key'
equal "...which do not meet" "one two" "$(as $A trainyard secret get key) $(as $B trainyard secret get key)"
equal "...nor in lists" key "$(as $A trainyard secret ls -q)"

# ---- the default datastore ----
as $A sh -c 'echo data > file.txt && ln -s /etc/shadow link'
check "a user uploads data" as $A trainyard data put file.txt workspaceblobstore:mine/file.txt
equal "...which is theirs" $A "$(stat -c %U "$TRAINYARD_HOME/data/workspaceblobstore/mine/file.txt")"
exits "...and not another's to overwrite" 4 as $B trainyard data put /etc/hostname workspaceblobstore:mine/file.txt --overwrite
as $A ln -s /etc/shadow "$TRAINYARD_HOME/data/workspaceblobstore/mine/shadow"
exits "a link out of it leads nowhere" 3 as $A trainyard data get workspaceblobstore:mine/shadow "$T/$A/stolen"
check "...and nothing came" test ! -e "$T/$A/stolen"

check "another user has data there, too" as $B trainyard data put /etc/hostname workspaceblobstore:his/name.txt
equal "...and lists what they may read, past folders that are closed to them" "his/name.txt" "$(as $B trainyard data ls -q workspaceblobstore:)"
check "...and gets it" as $B trainyard data get workspaceblobstore:his/name.txt "$T/$B/name.txt"

# ---- what the daemon may see, and its users may not ----
mkdir -m 700 "$T/closed" && printf '#!/bin/sh\n' > "$T/closed/there" && chmod 755 "$T/closed/there"
for program in there nowhere; do
    peep=$(as $A trainyard api -X POST experiments/peep/runs -d "{\"version\":1,\"command\":[\"$T/closed/$program\"]}" | field id)
    check "a run of a program in a folder that is closed to its user ends ($program)" until_true 20 in_state "$peep" Failed
    as $A trainyard show "$peep" --json | $PY -c 'import json,sys; print(json.load(sys.stdin)["error"]["message"].replace(sys.argv[1], ""))' "$program" > "$T/$program"
done
has "...because that user may not run it" "$(cat "$T/there")" "Permission denied"
equal "...and tells nobody whether it is there" "$(cat "$T/nowhere")" "$(cat "$T/there")"

# ---- the daemon goes and comes back ----
kill -9 "$serve"; wait "$serve" 2>/dev/null
exits "without it a user is told what to do" 6 as $B trainyard ps
has "...in the machine's words" "$out" "systemctl start trainyard"
check "root starts it again" trainyard up
equal "...for all users" "$slow" "$(as $A trainyard ps -q | grep -Fx "$slow")"
check "a user cancels their run" as $A trainyard cancel "$slow"
check "...which ends" until_true 20 in_state "$slow" Canceled
check "...as does its process" until_true 10 gone "$pid"

# ---- where a user looks for it ----
exits "without a setting a user comes to the machine's daemon" 6 unshare --mount sh -c '
    mount -t tmpfs none /var/lib && mkdir -m 711 /var/lib/trainyard && : > /var/lib/trainyard/system
    exec setpriv --reuid='$A' --clear-groups env -i PATH="$PATH" HOME=/nowhere trainyard ps'
has "...at its place" "$out" "'/var/lib/trainyard'"
