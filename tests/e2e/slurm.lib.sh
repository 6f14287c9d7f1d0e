# slurm.lib.sh - a real Slurm cluster on this machine, on loopback only; sourced after lib.sh
#
# One slurmctld and several slurmd run as the user of the test, each slurmd under a node's name and on a port of its own.
# Nobody is authenticated (auth/none): whoever can reach the ports on 127.0.0.1 is believed.  Everything lies in $S.
#
#   slurm_refused            why no cluster can be had here, or nothing
#   slurm_conf [LINE...]     write the configuration of $SLURM_NODES (four nodes n1 to n4 with 4 CPUs and 4000 MB); each LINE
#                            goes into slurm.conf behind the rest (a setting named twice counts as it is named last)
#   slurm_up, slurm_down     start it and wait until every node is idle; end it, with the jobs
#   slurm_node NODE, slurm_node_off NODE, slurm_node_dead NODE     one slurmd: start; end; kill with all that runs below it
#   slurm_ctld, slurm_ctld_off                                     the controller
S=$T/slurm
SLURM_NODES=${SLURM_NODES:-n1 n2 n3 n4}
SLURM_MARK=ty$$
export SLURM_CONF=$S/slurm.conf

# $PATH of an ordinary user may lack the folder of daemons.
slurm_daemon() { PATH=$PATH:/usr/sbin:/sbin command -v "$1"; }
slurm_refused() {
    local program
    for program in slurmctld slurmd sbatch; do
        [ -n "$(slurm_daemon $program)" ] || { echo "$program is not installed"; return; }
    done
    [ -n "$(find /usr/lib -path '*slurm*' -name auth_none.so 2>/dev/null | head -n 1)" ] || echo "this build of Slurm has no auth/none"
}
slurm_ports() { # COUNT: free ports of 127.0.0.1, all different, and none that connections are given: they are bound later
    $PY -c 'import random, socket, sys
with open("/proc/sys/net/ipv4/ip_local_port_range") as f:
    first, last = map(int, f.read().split())
wanted, held = int(sys.argv[1]), []
for port in random.sample([p for p in range(10000, 65000) if not first <= p <= last] or range(first, last), 1000):
    s = socket.socket()
    try:
        s.bind(("127.0.0.1", port))
    except OSError:
        continue
    held.append(s)
    if len(held) == wanted:
        break
print(*[s.getsockname()[1] for s in held])' "$1"
}

slurm_common() {
    local me
    me=$(id -un)
    cat <<X
AuthType=auth/none
CredType=cred/none
SlurmUser=$me
SlurmdUser=$me
MailProg=/bin/true
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=100
ReturnToService=2
SlurmctldTimeout=10
SlurmdTimeout=10
InactiveLimit=0
KillWait=2
MinJobAge=60
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
StateSaveLocation=$S/state
SlurmctldPidFile=$S/ctld.pid
SlurmctldLogFile=$S/log/ctld
SlurmctldParameters=enable_configless
SlurmdPidFile=$S/%n.pid
SlurmdLogFile=$S/log/%n
SlurmdSpoolDir=$S/spool/%n
SlurmdParameters=config_overrides
X
}
slurm_conf() {
    local ports node
    mkdir -p "$S/state" "$S/log" "$S/spool" || return
    chmod 755 "$T" "$S"
    ports=$(slurm_ports $(($(echo $SLURM_NODES | wc -w) + 1)))
    set -- "$ports" "$@"
    {
        ports=$1; shift
        echo "ClusterName=$SLURM_MARK"
        echo "SlurmctldHost=$(hostname -s)(127.0.0.1)"
        echo "SlurmctldPort=${ports%% *}"
        slurm_common
        for node in $SLURM_NODES; do
            ports=${ports#* }
            mkdir -p "$S/spool/$node"
            echo "NodeName=$node NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=${ports%% *} CPUs=4 CoresPerSocket=4 RealMemory=4000 State=UNKNOWN"
        done
        [ "${SLURM_PARTITIONS-}" = own ] || echo "PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP"
        [ $# -eq 0 ] || printf '%s\n' "$@"
    } > "$SLURM_CONF"
    echo "CgroupPlugin=cgroup/v1" > "$S/cgroup.conf"
}

# A daemon in the foreground of a session of its own: its process id is a child of this shell, and stays its own until it is waited for.
declare -A slurm_pid
slurm_daemon_up() { # NAME PROGRAM ARGUMENT...
    local name=$1 program; shift
    program=$(slurm_daemon "$1"); shift
    setsid "$program" "$@" < /dev/null > "$S/log/$name.out" 2>&1 &
    slurm_pid[$name]=$!
}
slurm_daemon_off() { # NAME [SIGNAL]
    local pid=${slurm_pid[$1]-}
    [ -n "$pid" ] || return 0
    unset "slurm_pid[$1]"
    kill "-${2:-TERM}" "$pid" 2>/dev/null
    exactly 10 gone "$pid" || kill -KILL "$pid" 2>/dev/null
    wait "$pid" 2>/dev/null
    return 0
}
slurm_ctld() { slurm_daemon_up ctld slurmctld -D "$@" -f "$SLURM_CONF"; }
slurm_ctld_off() { slurm_daemon_off ctld; }
slurm_node() { slurm_daemon_up "$1" slurmd -D -N "$1" -f "$SLURM_CONF"; }
slurm_node_off() { slurm_daemon_off "$1"; }
# The processes of jobs on one node, or on all: those whose environment says so; first those that would tell of the others' death.
slurm_job_pids() {
    $PY - "SLURM_CONF=$SLURM_CONF" "${1:+SLURMD_NODENAME=$1}" <<'X'
import os, sys
mark, node = (a.encode() for a in (sys.argv[1], sys.argv[2]))
steps, jobs = {}, {}
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        with open("/proc/%s/environ" % pid, "rb") as f:
            names = f.read().split(b"\0")
        with open("/proc/%s/stat" % pid) as f:
            comm, rest = f.read().rsplit(")", 1)
    except OSError:
        continue
    if mark not in names or int(pid) == os.getpid():
        continue
    if comm.endswith("(slurmstepd"):
        steps[int(pid)] = node == b""   # of no node by its own environment
    elif any(n.startswith(b"SLURM_JOB") for n in names) and (not node or node in names):
        jobs[int(pid)] = int(rest.split()[1])
parents = set(jobs.values())
print(*[pid for pid, wanted in steps.items() if wanted or pid in parents], *sorted(jobs), sep="\n")
X
}
slurm_node_dead() { # a power cut: the daemon and everything of the node's jobs
    local pid
    slurm_daemon_off "$1" KILL
    for pid in $(slurm_job_pids "$1"); do kill -KILL "$pid" 2>/dev/null; done
}
slurm_idle() { [ "$(sinfo -h -o %T 2>/dev/null | sort -u)" = idle ]; }
slurm_no_jobs() { [ -z "$(squeue -h 2>/dev/null)" ]; }
slurm_up() {
    local node
    slurm_ctld -i
    for node in $SLURM_NODES; do slurm_node "$node"; done
    until_true 30 slurm_idle
}
slurm_down() {
    local node pid
    if [ -n "${slurm_pid[ctld]-}" ]; then
        scancel --full -u "$(id -un)" >/dev/null 2>&1
        exactly 15 slurm_no_jobs
    fi
    for node in "${!slurm_pid[@]}"; do [ "$node" = ctld ] || slurm_node_off "$node"; done
    slurm_ctld_off
    for pid in $(slurm_job_pids); do kill -KILL "$pid" 2>/dev/null; done
}
job_field() { scontrol show job -o "$1" 2>/dev/null | tr ' ' '\n' | sed -n "s/^$2=//p" | head -n 1; }
job_in() { [ "$(job_field "$1" JobState)" = "$2" ]; }
