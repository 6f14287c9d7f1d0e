#!/bin/bash
# slurm_users.sh - one daemon for all users, and a cluster of Slurm that knows by munge who asks: jobs are their users'
. "$(dirname "$0")/lib.sh"
. "$SOURCE/tests/e2e/slurm.lib.sh"
refused=$(slurm_refused)
[ "$(id -u)" = 0 ] || refused="only root can start it"
[ -n "$(slurm_daemon munged)" ] || refused=${refused:-"munge is not installed"}
if [ -n "$refused" ]; then
    skip "jobs of users on Slurm" "$refused"
    exit 0
fi
A=games
chmod 755 "$T"
mkdir "$T/bin" && cp "$BUILD/trainyard" "$BUILD/trainyardd" "$BUILD/trainyard-agent" "$T/bin" && cp -RL "$SOURCE/build/python" "$T/bin/python"
chmod -R a+rX "$T/bin"
mkdir -p "$T/$A/project" "$T/nodes" && chown -R $A "$T/$A" && chmod 1777 "$T/nodes"
as() { # USER COMMAND...: with nothing of root's but what is named
    u=$1; shift
    (cd "$T/$u/project" && exec setpriv --reuid="$u" --regid="$(id -g "$u")" --init-groups \
        env -i PATH="$T/bin:/usr/bin:/bin" HOME="$T/$u" NO_COLOR=1 TRAINYARD_HOME="$TRAINYARD_HOME" PYTHONPATH="$T/bin/python" "$@")
}
export PATH=$T/bin:$PATH
unset PYTHONPATH

# munge, under its own user
install -d -o munge -g munge -m 755 "$T/munge"
head -c 1024 /dev/urandom > "$T/munge/key"; chown munge: "$T/munge/key"; chmod 400 "$T/munge/key"
setsid setpriv --reuid=munge --regid=munge --init-groups "$(slurm_daemon munged)" -F --key-file="$T/munge/key" --socket="$T/munge/sock" \
    --pid-file="$T/munge/pid" --log-file="$T/munge/log" --seed-file="$T/munge/seed" < /dev/null > "$T/munge.out" 2>&1 &
munged=$!
serve=
stop_all() {
    [ -n "$serve" ] && { kill "$serve"; wait "$serve"; } 2> /dev/null
    slurm_down
    kill "$munged" 2> /dev/null
    wait "$munged" 2> /dev/null
}
trap 'ended=$?; stop_all; (exit $ended); at_end' EXIT
check "munge listens" until_true 10 test -S "$T/munge/sock"
SLURM_NODES="n1 n2"
slurm_conf "AuthInfo=socket=$T/munge/sock"
sed -i 's/^AuthType=.*/AuthType=auth\/munge/; s/^CredType=.*/CredType=cred\/munge/' "$SLURM_CONF"
slurm_up
equal "a cluster that knows its users starts" 0 $?
equal "...and who asks" "$(id -u $A)" "$(as $A env SLURM_CONF="$SLURM_CONF" srun id -u)"

trainyard serve --system > "$T/serve.log" 2>&1 &
serve=$!
check "the daemon of the machine listens" until_true 10 trainyard status
printf '{"kind": "slurm", "folder": "%s", "shared_home": false, "environment": {"SLURM_CONF": "%s"}}' "/tmp/trainyard-$$" "$SLURM_CONF" > hpc.json
check "root makes a target" trainyard api -X PUT targets/hpc -d @hpc.json
cat > "$T/$A/project/who.py" <<'X'
import getpass, os, time
print("user", getpass.getuser(), "uid", os.getuid(), "rank", os.environ["RANK"], flush=True)
while not os.path.exists(os.path.expanduser(os.environ["GO"])):
    time.sleep(0.1)
X
run=$(as $A trainyard submit -q --target hpc --nodes 2 --backend gloo --env "GO=$T/$A/go" -- $PY who.py 2> "$T/err") || not_ok "a user submits" "$(cat "$T/err")"
runs() { [ "$(as $A trainyard logs --rank all "$run" | grep -c "user $A uid $(id -u $A) ")" = 2 ]; }
check "a user's run goes on two nodes, as that user" until_true 60 runs
equal "...and its job is theirs for Slurm too" "$A" "$(squeue -h -o %u)"
as $A touch "$T/$A/go"
check "it ends well" as $A trainyard wait "$run"
check "...and its job goes" until_true 30 slurm_no_jobs
run=$(as $A trainyard submit -q --target hpc --env GO=/nonexistent -- $PY who.py)
check "another one runs" until_true 60 sh -c "trainyard show $run --json | grep -q '\"Running\"'"
check "...is canceled by its user" as $A trainyard cancel "$run"
check "...and its job goes" until_true 40 slurm_no_jobs
rm -rf "/tmp/trainyard-$$"
