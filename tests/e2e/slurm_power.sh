#!/bin/bash
# slurm_power.sh - nodes of Slurm that are switched on when a run needs them, and off when none does
. "$(dirname "$0")/lib.sh"
. "$SOURCE/tests/e2e/slurm.lib.sh"
trap 'ended=$?; slurm_down; (exit $ended); at_end' EXIT

refused=$(slurm_refused)
if [ -n "$refused" ]; then
    skip "a cluster of Slurm that switches its nodes off" "$refused"
    exit 0
fi
SLURM_NODES="n1 c1 c2"
SLURM_PARTITIONS=own
slurm_conf "SlurmctldParameters=idle_on_node_suspend" "PrivateData=cloud" "ResumeProgram=$S/resume" "SuspendProgram=$S/suspend" \
    "ResumeTimeout=200" "SuspendTimeout=4" "SuspendTime=8" "BatchStartTimeout=200" "SuspendExcParts=static" \
    "PartitionName=static Nodes=n1 Default=YES MaxTime=INFINITE State=UP" "PartitionName=cloud Nodes=c[1-2] MaxTime=INFINITE State=UP"
sed -i '/^NodeName=c/s/State=UNKNOWN/State=CLOUD/' "$SLURM_CONF"
# Both stand in for what starts a machine: a slurmd of a node that has just booted.
cat > "$S/resume" <<X
#!/bin/bash
for n in \$(scontrol show hostnames "\$1"); do
    echo "resume \$n" >> "$S/log/power"
    setsid "$(slurm_daemon slurmd)" -D -b -N \$n -f "$SLURM_CONF" < /dev/null > "$S/log/\$n.out" 2>&1 &
    echo \$! > "$S/\$n.started"
done
X
cat > "$S/suspend" <<X
#!/bin/bash
for n in \$(scontrol show hostnames "\$1"); do
    echo "suspend \$n" >> "$S/log/power"
    kill -KILL "\$(cat "$S/\$n.started")" 2>/dev/null
    rm -f "$S/\$n.started"
done
X
chmod +x "$S/resume" "$S/suspend"
# A slurmd that has just begun may not hear SIGTERM.
end_cloud() { for n in c1 c2; do [ -e "$S/$n.started" ] && kill -KILL "$(cat "$S/$n.started")" 2>/dev/null; done; }
trap 'ended=$?; slurm_down; end_cloud; (exit $ended); at_end' EXIT
static_idle() { [ "$(sinfo -h -p static -o %T)" = idle ]; }
slurm_ctld -i
slurm_node n1
check "the cluster starts, with two nodes switched off" until_true 30 static_idle

printf '{"kind": "slurm", "partition": "cloud", "min_nodes": 1, "max_nodes": 2, "folder": "%s", "environment": {"SLURM_CONF": "%s"}}' "$T/nodes" "$SLURM_CONF" > elastic.json
check "a target is made" trainyard api -X PUT targets/elastic -d @elastic.json
idle_is() { [ "$(trainyard api targets/elastic | $PY -c 'import json,sys; n=json.load(sys.stdin)["nodes"]; print(n["preparing"], n["running"], n["idle"])')" = "$1" ]; }
check "its least nodes are asked for without a run" until_true 20 idle_is "1 0 0"
check "...and kept" until_true 90 idle_is "0 0 1"
equal "...one was switched on" 1 "$(grep -c resume "$S/log/power")"
one=$(trainyard submit -q --target elastic -- $PY -c 'print("here")')
check "a run on it ends" until_true 30 in_state "$one" Completed
equal "...in the allocation that was there" 1 "$(squeue -h -o %i)"
run=$(trainyard submit -q --target elastic --nodes 2 --backend gloo -- $PY -c 'print("here")')
why_has() { trainyard show "$run" --json | field why | grep -qE "$1"; }
check "why says that nodes are made ready" until_true 30 why_has "Slurm makes .* ready"
ended() { case $(state_of "$run") in Completed|Failed|Canceled) true;; *) false;; esac; }
check "a run on nodes that were off ends" until_true 120 ended
equal "...well" Completed "$(state_of "$run")"
equal "...both were switched on" "resume c1 resume c2 " "$(grep resume "$S/log/power" | sort -u | tr '\n' ' ')"
check "one is kept again" until_true 60 idle_is "0 0 1"
out=$(trainyard doctor --write "$T/proposal")
has "doctor knows the cluster" "$out" "slurm elastic +Slurm answers, and has 2 nodes"
has "...sees that batch jobs begin at once" "$out" "slurm elastic +batch jobs are looked at when they come"
has "...that idle nodes are switched off" "$out" "slurm elastic +idle nodes are switched off after 8"
has "...and writes a proposal" "$(cat "$T/proposal/elastic/slurm.conf.part")" "^SuspendExcNodes=NODES:1$"
check "...whose programs are such" sh -n "$T/proposal/elastic/resume"

check "a target that keeps none" trainyard api -X PUT targets/elastic -d "$(sed 's/"min_nodes": 1/"min_nodes": 0/' elastic.json)"
check "...gives it back" until_true 30 slurm_no_jobs
off() { [ "$(grep -c suspend "$S/log/power")" -ge 2 ]; }
check "both are switched off when they are idle" until_true 60 off
end_cloud
slurm_down
equal "nothing of the cluster is left" "" "$(slurm_job_pids)"
