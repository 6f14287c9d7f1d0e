#!/bin/bash
# Runs on hosts that are reached over ssh: nothing of ours is there before.
. "$(dirname "$0")/hosts.lib.sh"
lab_enter "runs on hosts" "$@"
. "$(dirname "$0")/lib.sh"
trap 'code=$?; trainyard down > /dev/null 2>&1; lab_down; (exit $code); at_end' EXIT

# ---- the lab itself ----
lab=1; lab_up h1 h2 || lab=0
equal "two hosts are up" 1 $lab
equal "ssh reaches the first" h1 "$(ssh -o BatchMode=yes h1 hostname)"
equal "...and the second" h2 "$(ssh -o BatchMode=yes h2 hostname)"
check "they reach each other" host_run h1 bash -c "exec 3<>/dev/tcp/h2/22"
check "nothing of ours is there" host_run h1 sh -c "! test -e '$BUILD/trainyard-agent'; ! test -e '$T'"
sshd_stop h2
exits "a host whose sshd is stopped refuses" 255 ssh -o BatchMode=yes h2 true
sshd_start h2
check "...and answers when it is started" ssh -o BatchMode=yes h2 true
cable_cut h2
exits "a cut cable leads nowhere" 255 ssh -o BatchMode=yes -o ConnectTimeout=1 h2 true
cable_mend h2
check "...until it is mended" until_true 20 ssh -o BatchMode=yes -o ConnectTimeout=2 h2 true
host_off h2
exits "a host that is off does not answer" 255 ssh -o BatchMode=yes -o ConnectTimeout=1 h2 true
check "...and does when it is on again" host_on h2
check "...with sshd" ssh -o BatchMode=yes h2 true

# ---- one process on a bare host ----
put_target() { printf '%s' "$2" > target.json; trainyard api -X PUT "targets/$1" -d @target.json; }
error_of() { trainyard show "$1" --json | field error; }
host_sh() { lab_s=$1; shift; host_run "$lab_s" sh -c "$*"; }
far=$LAB_HOME/.cache/trainyard
no_jobs() { host_sh "$1" "test -z \"\$(ls -A $far/jobs)\""; }
# What a host has of ours, but for what jobs leave: names, sizes and times.
cached() { host_sh "$1" "cd $far && find agents blobs packages -type f -not -path '*/__pycache__/*' -printf '%p %s %i\n' 2> /dev/null | sort"; }
no_far_processes() { ! host_sh "$1" 'cat /proc/[0-9]*/comm' | grep -q ^trainyard; }
saw() { trainyard logs "$1" 2> /dev/null | grep -qx "$2"; }
here_gone() { [ ! -e "$TRAINYARD_HOME/jobs/$1" ]; }

check "a target of one host is made" put_target one '{"kind": "hosts", "hosts": [{"host": "h1"}]}'
cat > job.py <<'P'
import hashlib, os, socket, sys
from azureml.core import Run
run = Run.get_context()
print("on", socket.gethostname(), sys.argv[1:])
for i in range(100):
    run.log("i", i)
os.makedirs("outputs", exist_ok=True)
data = os.urandom(3 << 20)
with open("outputs/big", "wb") as f:
    f.write(data)
for i in range(20):
    with open("outputs/small%d" % i, "w") as f:
        f.write("file %d\n" % i)
print(hashlib.sha256(data).hexdigest())
P
# A build with sanitizers has no Python packages to bring: there a program of sh does the same.
with_packages() { [ -d "$BUILD/python/trainyard" ]; }
cat > job.sh <<'C'
echo "on $(hostname) ['$1', '$2']"
mkdir -p outputs; head -c 3000000 /dev/urandom > outputs/big
for i in $(seq 20); do echo "file $i" > outputs/small$i; done
sha256sum < outputs/big | cut -d' ' -f1
C
program="sh job.sh"
with_packages && program="$PY job.py"
run=$(trainyard submit -q --target one -- $program a 'b c')
trainyard wait "$run" > /dev/null 2>&1
equal "a run on a host ends well" Completed "$(state_of "$run")"
logs=$(trainyard logs "$run")
has "...with its log" "$logs" "^on h1 \['a', 'b c'\]$"
with_packages && equal "...its metrics" 100 "$(trainyard metrics "$run" --rows --json | grep -o '"name":"i"' | wc -l)"
equal "...its files" "$(printf '%s\n' "$logs" | tail -n 1)" "$(trainyard artifacts get "$run" outputs/big -o - | sha256sum | cut -d' ' -f1)"
equal "...all of them" 21 "$(trainyard artifacts ls "$run" | grep -c outputs/)"
check "the job's folder is gone from the host" until_true 10 no_jobs h1
check "...and from here" until_true 10 here_gone "$run"
check "...and nothing of ours runs there" until_true 10 no_far_processes h1

cat > count.sh <<'C'
i=1
while [ $i -le 60 ]; do
    echo "line $i"; i=$((i + 1)); sleep 0.05
    [ $i -ne 40 ] || until [ -e "/tmp/go-$TRAINYARD_RUN_ID" ]; do sleep 0.05; done # however slow the one is who hurts it
done
mkdir -p outputs; echo done > outputs/result
C
go_on() { host_sh "$1" "touch /tmp/go-$2"; }
before=$(cached h1)
run=$(trainyard submit -q --target one --no-snapshot -- sh -c 'echo again')
trainyard wait "$run" > /dev/null 2>&1
equal "a second run there" again "$(trainyard logs "$run")"
equal "...is sent nothing that is there" "$before" "$(cached h1)"

# ---- cancel ----
run=$(trainyard submit -q --target one -- sh -c 'echo begun; trap "echo bye; exit 3" TERM; while :; do sleep 0.1; done')
check "a run on a host can be canceled" until_true 20 saw "$run" begun
trainyard cancel "$run" > /dev/null
check "...and ends" until_true 20 in_state "$run" Canceled
has "...as its program ends" "$(trainyard logs "$run")" '^bye$'

# ---- what breaks in the middle ----
lines=$(seq -f 'line %g' 60)
run=$(trainyard submit -q --target one -- sh count.sh)
check "a run begins" until_true 20 saw "$run" "line 5"
ssh_cut h1
check "ssh is cut in the middle of it" until_true 20 saw "$run" "line 20"
ssh_cut h1
go_on h1 "$run"
trainyard wait "$run" > /dev/null 2>&1
equal "...and no line is lost or doubled" "$lines" "$(trainyard logs "$run")"
equal "...and it ends well" Completed "$(state_of "$run")"
has "...with its files" "$(trainyard artifacts ls "$run")" outputs/result

run=$(trainyard submit -q --target one -- sh count.sh)
check "a run begins" until_true 20 saw "$run" "line 5"
courier=$(runner_pid "$run")
kill -9 "$courier"
go_on h1 "$run"
trainyard wait "$run" > /dev/null 2>&1
equal "a courier is killed in the middle, and no line is lost or doubled" "$lines" "$(trainyard logs "$run")"
equal "...and the run ends well" Completed "$(state_of "$run")"

run=$(trainyard submit -q --target one -- sh count.sh)
check "a run begins" until_true 20 saw "$run" "line 5"
daemon=$(daemon_pid)
kill -9 "$daemon" "$(runner_pid "$run")"
until_true 5 gone "$daemon"
go_on h1 "$run"
trainyard wait "$run" > /dev/null 2>&1
equal "daemon and courier are killed, and no line is lost or doubled" "$lines" "$(trainyard logs "$run")"
equal "...and the run ends well" Completed "$(state_of "$run")"

run=$(trainyard submit -q --target one -- sh count.sh)
check "a run begins" until_true 20 saw "$run" "line 5"
host_sh h1 "kill -9 \$(cut -d' ' -f2 $far/jobs/$run/runner.id)"
check "a runner that is killed on its host is noticed" until_true 20 in_state "$run" Failed
has "...and named" "$(error_of "$run")" "runner"
check "...and nothing is left there" until_true 20 no_jobs h1
check "...no process either" until_true 10 no_far_processes h1

# ---- what does not begin ----
sshd_stop h1
run=$(trainyard submit -q --target one -- true)
check "a host that refuses ends the run" until_true 20 in_state "$run" Failed
has "...and is named with ssh's words" "$(error_of "$run")" "host 'h1': cannot be reached by ssh \(2 attempts\): .*Connection refused"
sshd_start h1
put_target nowhere '{"kind": "hosts", "hosts": [{"host": "no-such-host.invalid"}]}' > /dev/null
run=$(trainyard submit -q --target nowhere -- true)
check "a host that nobody knows ends the run" until_true 20 in_state "$run" Failed
has "...and is named with ssh's words" "$(error_of "$run")" "host 'no-such-host.invalid': .*resolve"
ssh-keygen -q -t ed25519 -N '' -f other-key
put_target stranger "{\"kind\": \"hosts\", \"ssh_options\": [\"IdentitiesOnly=yes\"], \"hosts\": [{\"host\": \"h1\", \"identity_file\": \"$PWD/other-key\"}]}" > /dev/null
run=$(trainyard submit -q --target stranger -- true)
check "a key that is not known ends the run" until_true 20 in_state "$run" Failed
has "...with ssh's words, and what mends it" "$(error_of "$run")" "host 'h1': cannot be reached by ssh: .*Permission denied.*ssh-copy-id"
sed -i.was '/^h1,/s| AAAA.*| '"$(cut -d' ' -f2 other-key.pub)"'|' "$LAB/known_hosts"
run=$(trainyard submit -q --target one -- true)
check "a host with another key than before ends the run" until_true 20 in_state "$run" Failed
has "...with ssh's words, and what mends it" "$(error_of "$run")" "host 'h1': .*[Hh]ost key.*another key than the known one.*ssh-keygen -R"
mv "$LAB/known_hosts.was" "$LAB/known_hosts"
host_sh h1 "mkdir -p /tmp/small && mount -t tmpfs -o size=1m tmpfs /tmp/small"
put_target full '{"kind": "hosts", "folder": "/tmp/small/trainyard", "hosts": [{"host": "h1"}]}' > /dev/null
run=$(trainyard submit -q --target full -- true)
check "a host without space ends the run" until_true 20 in_state "$run" Failed
has "...and says so" "$(error_of "$run")" "host 'h1': .*No space left.*another folder"
host_sh h1 "mkdir -p /tmp/noexec && mount -t tmpfs -o noexec tmpfs /tmp/noexec"
exits "a host whose folder lets no program run makes no target" 1 trainyard target add noexec --host h1 --folder /tmp/noexec/trainyard
has "...and says so" "$out" "host 'h1': no program can be run from /tmp/noexec/trainyard; .*noexec: name another folder"
echo "ForceCommand echo this account is disabled" >> "$LAB/h1/sshd_config"
sshd_stop h1; sshd_start h1
exits "an account that runs no commands makes no target" 1 trainyard target add disabled --host h1
has "...and what it says is told" "$out" "host 'h1': its shell exited with code 0 before it ran a command, and said 'this account is disabled'"
sed -i '/^ForceCommand/d' "$LAB/h1/sshd_config"
sshd_stop h1; sshd_start h1

# ---- what a machine has ----
facts=$(ssh h1 "$far/agents/*/trainyard-agent probe")
has "the agent says what a machine has" "$facts" '"hostname":"h1".*"cpus":[1-9].*"openmpi":'
equal "...in one line" 1 "$(printf '%s\n' "$facts" | wc -l)"

# ---- several hosts ----
check "a target of two hosts is made" put_target two '{"kind": "hosts", "hosts": [{"host": "h1"}, {"host": "h2"}]}'
cat > hvd.py <<'P'
import socket
import horovod.torch as hvd
import torch
hvd.init()
total = hvd.allreduce(torch.tensor([float(hvd.rank() + 1)]), op=hvd.Sum)
print("rank %d of %d, local %d, on %s: %d" % (hvd.rank(), hvd.size(), hvd.local_rank(), socket.gethostname(), total[0]))
P
cat > mpi.py <<'P'
import socket
from mpi4py import MPI
c = MPI.COMM_WORLD
print("rank %d of %d on %s: %d" % (c.Get_rank(), c.Get_size(), socket.gethostname(), c.allreduce(c.Get_rank() + 1)))
P
ranks() { trainyard logs --rank all "$1" | grep -o 'rank.*' | sort; }
if with_packages && $PY -c 'import torch' 2> /dev/null; then
    for procs in 1 2; do
        run=$(trainyard submit -q --target two --nodes 2 --procs $procs --backend mpi -- $PY hvd.py)
        trainyard wait "$run" > /dev/null 2>&1
        equal "horovod on two hosts, $procs on each" Completed "$(state_of "$run")"
        if [ $procs = 1 ]; then
            equal "...every rank is there" "rank 0 of 2, local 0, on h1: 3
rank 1 of 2, local 0, on h2: 3" "$(ranks "$run")"
        else
            equal "...every rank is there" "rank 0 of 4, local 0, on h1: 10
rank 1 of 4, local 1, on h1: 10
rank 2 of 4, local 0, on h2: 10
rank 3 of 4, local 1, on h2: 10" "$(ranks "$run")"
        fi
        check "...nothing is left on the first" until_true 10 no_jobs h1
        check "...nor on the second" until_true 10 no_jobs h2
    done
    # A rank of the second host keeps the first waiting, and the other way round: it is named, and ends the job.
    cat > late.py <<'P'
import sys, time
import horovod.torch as hvd
import torch
hvd.init()
hvd.allreduce(torch.ones(1), name="first")
if hvd.rank() == int(sys.argv[1]):
    time.sleep(1000)
hvd.allreduce(torch.ones(1), name="late")
P
    for late in 1 0; do
        run=$(trainyard submit -q --target two --nodes 2 --backend mpi --hang-timeout 4s -- $PY late.py $late)
        trainyard wait "$run" > /dev/null 2>&1
        has "a hang on two hosts ends the job" "$(trainyard show "$run")" "^error +rank $late \(node h$((late + 1))\) kept the others waiting for [1-9][0-9]* s: allreduce 'allreduce.late' \(hang_timeout_seconds is 4\)"
        has "...and was told of before" "$(trainyard show "$run")" "^warning +rank $late \(node h$((late + 1))\) keeps the others waiting: allreduce 'allreduce.late' since "
    done
elif with_packages; then
    skip "horovod on two hosts" "there is no torch for $PY"
fi
if $PY -c 'import mpi4py' 2> /dev/null; then
    run=$(trainyard submit -q --target two --nodes 2 --procs 2 --backend mpi -- $PY mpi.py)
    trainyard wait "$run" > /dev/null 2>&1
    equal "MPI on two hosts" Completed "$(state_of "$run")"
    equal "...every rank is there" "rank 0 of 4 on h1: 10
rank 1 of 4 on h1: 10
rank 2 of 4 on h2: 10
rank 3 of 4 on h2: 10" "$(ranks "$run")"
else
    skip "MPI on two hosts" "there is no mpi4py for $PY"
fi

cat > fails.sh <<'C'
echo "rank $RANK begins"
[ "$RANK" = 1 ] || exec sleep 1000
until [ -e go ]; do sleep 0.1; [ $((i = i + 1)) -gt 20 ] && break; done
echo "rank 1 fails"; exit 7
C
run=$(trainyard submit -q --target two --nodes 2 --backend gloo -- sh fails.sh)
check "a rank that fails on the second host ends the job" until_true 30 in_state "$run" Failed
has "...and is named with its host" "$(error_of "$run")" "rank 1 \(node h2\)"
control_says() { trainyard logs --file azureml-logs/60_control_log.txt "$1" | grep -qE -- "$2"; }
check "...whose agent does not say that all went well" until_true 15 control_says "$run" "^\[node h2\] .* its 1 process here has ended"
check "...and nothing is left on the first" until_true 15 no_jobs h1
check "...nor on the second" until_true 15 no_jobs h2
check "...no process either" until_true 15 no_far_processes h1
check "...nor there" until_true 15 no_far_processes h2

run=$(trainyard submit -q --target two --nodes 2 --backend gloo -- sh -c 'echo "rank $RANK begins"; exec sleep 1000')
begun() { [ "$(trainyard logs --rank all "$1" | grep -c begins)" = 2 ]; }
check "a job on two hosts begins" until_true 30 begun "$run"
trainyard cancel "$run" > /dev/null 2>&1
check "...and can be canceled" until_true 30 in_state "$run" Canceled
check "...and nothing is left on the second host" until_true 15 no_jobs h2
printf '%s\n' 'int MPI_Get_library_version(char *text, int *n) { const char *v = "Open MPI v3.9.9, for a test"; for (*n = 0; (text[*n] = v[*n]); ++*n); return 0; }' > old.c
mpi=$(readlink -f "$(ldconfig -p | sed -n 's/.*libmpi.so.40 .*=> //p' | head -n 1)" 2> /dev/null)
if [ -n "$mpi" ] && gcc -shared -fPIC -o old.so old.c; then
    mkdir -p "$LAB/h2/lib" && cp old.so "$LAB/h2/lib/"
    host_run h2 mount --bind "$LAB/h2/lib/old.so" "$mpi"
    run=$(trainyard submit -q --target two --nodes 2 --backend mpi -- true)
    check "two versions of Open MPI end the run" until_true 20 in_state "$run" Failed
    has "...and are named" "$(error_of "$run")" "version [0-9.]+ on host 'h1' and version 3.9.9 on host 'h2'"
    host_run h2 umount "$mpi"
else
    skip "two versions of Open MPI end the run" "Open MPI is not here"
fi
exits "more nodes than the target has hosts are refused" 1 trainyard submit -q --target two --nodes 3 --backend gloo -- true

# ---- data, and interpreters ----
run=$(trainyard submit -q --target one --data d=workspaceblobstore/nothing-there:download -- true)
check "data that are nowhere end the run" until_true 20 in_state "$run" Failed
has "...and are named" "$(error_of "$run")" "host 'h1': data reference 'd': cannot read 'nothing-there' of datastore 'workspaceblobstore': No such file"

# ---- a host that is lost ----
trainyard down 2> /dev/null
export TRAINYARD_SCHED_SILENT_SECONDS=1 TRAINYARD_SCHED_NODE_LOST_SECONDS=30
run=$(trainyard submit -q --target one -- sh count.sh)
check "a run begins" until_true 20 saw "$run" "line 5"
cable_cut h1
check "a cut cable is noticed" until_true 40 in_state "$run" NotResponding
cable_mend h1
go_on h1 "$run"
trainyard wait "$run" > /dev/null 2>&1
equal "...and when it is mended no line is lost or doubled" "$lines" "$(trainyard logs "$run")"
equal "...and the run ends well" Completed "$(state_of "$run")"

trainyard down 2> /dev/null
export TRAINYARD_SCHED_NODE_LOST_SECONDS=4
run=$(trainyard submit -q --target one -- sh -c 'echo begun; sleep 1000')
check "a run begins" until_true 20 saw "$run" begun
host_off h1
check "a host that is switched off is noticed" until_true 60 in_state "$run" Failed
has "...and named" "$(error_of "$run")" "NodeLost.*host 'h1'"
equal "...and the log is kept" begun "$(trainyard logs "$run")"
check "...and its folder here is gone" until_true 10 here_gone "$run"
host_on h1
check "when it is on again, what was left there is removed" until_true 60 no_jobs h1

trainyard down 2> /dev/null # and forget that the host is not to be used
run=$(trainyard submit -q --target one -- sh -c 'echo begun; sleep 1000')
check "a run begins" until_true 20 saw "$run" begun
cable_cut h1
check "a host that cannot be reached is given up" until_true 60 in_state "$run" Failed
cable_mend h1
check "when it can be again, the job there is ended" until_true 60 no_jobs h1
check "...with all its processes" until_true 10 no_far_processes h1

trainyard down 2> /dev/null
run=$(trainyard submit -q --target one -- sh -c 'echo begun; sleep 1000')
check "a run begins" until_true 20 saw "$run" begun
cable_cut h1
check "its host is given up" until_true 60 in_state "$run" Failed
left=$TRAINYARD_HOME/lost/$run.1
check "...and not forgotten" until_true 10 test -e "$left/runner.id"
kill -9 "$(cut -d ' ' -f 2 "$left/runner.id")"
cable_mend h1
trainyard down 2> /dev/null
run=$(trainyard submit -q --target one -- true)
check "when the box was switched off too, the next job on any host sees to it" until_true 60 no_jobs h1
check "...with all its processes" until_true 10 no_far_processes h1
check "...and it is done with" until_true 20 sh -c "! test -e '$left'"

trainyard down 2> /dev/null
run=$(trainyard submit -q --target two --nodes 2 --backend gloo -- sh -c 'echo "rank $RANK begins"; exec sleep 1000')
check "a job on two hosts begins" until_true 30 begun "$run"
host_off h2
check "the second host is switched off: the job ends" until_true 60 in_state "$run" Failed
has "...and names it" "$(error_of "$run")" "NodeLost.*h2"
check "...and nothing is left on the first" until_true 20 no_jobs h1
host_on h2
check "...nor on the second, when it is on again" until_true 60 no_jobs h2
