#!/bin/bash
# The daemon is killed with -9 in the middle of a run, and comes back.
. "$(dirname "$0")/lib.sh"

cat > count.sh <<'X'
i=1
while [ $i -le 60 ]; do
    echo "line $i"; i=$((i + 1)); sleep 0.05
    [ $i -ne 40 ] || until [ -e "$GATE" ]; do sleep 0.05; done # however slow the one is who hurts it
done
mkdir -p outputs; echo done > outputs/result
X
says() { grep -q "$2" "$TRAINYARD_HOME/logs/$1/azureml-logs/70_driver_log.txt"; }
run=$(trainyard submit -q --env GATE="$T/gate-1" -- sh count.sh)
check "the run starts" until_true 20 in_state "$run" Running
pid=$(daemon_pid)
runner=$(runner_pid "$run")
kill -9 "$pid"
check "the daemon is dead" until_true 5 gone "$pid"
check "the runner lives on" test -d "/proc/$runner"
touch "$T/gate-1"
check "the next call starts a daemon, and the run is waited for" trainyard wait "$run"
[ "$(daemon_pid)" != "$pid" ] && ok "it is another daemon" || not_ok "it is another daemon"
equal "no line is lost, none is doubled" "$(seq -f 'line %g' 60)" "$(trainyard logs "$run")"
equal "the state is true" Completed "$(state_of "$run")"
has "the outputs came" "$(trainyard artifacts ls "$run")" "outputs/result"
check "the job folder is gone" until_true 5 test ! -e "$TRAINYARD_HOME/jobs/$run"

run=$(trainyard submit -q -- sh -c "until [ -e '$T/gate-2' ]; do sleep 0.05; done; echo late; exit 5")
check "a second run starts" until_true 20 in_state "$run" Running
pid=$(daemon_pid)
kill -9 "$pid"; until_true 5 gone "$pid"
touch "$T/gate-2"
check "it ends while no daemon is there" until_true 20 grep -qE '^(collected|exited)' "$TRAINYARD_HOME/jobs/$run/phase"
exits "its true end is told afterwards" 5 trainyard wait --exit-status "$run"
equal "with its log" late "$(trainyard logs "$run")"

trainyard run --env GATE="$T/gate-3" -- sh count.sh > followed.txt 2>/dev/null &
follower=$!
check "a followed run starts" until_true 20 in_state @last Running
until_true 5 grep -q 'line 5' followed.txt
kill -9 "$(daemon_pid)"
touch "$T/gate-3"
wait $follower
equal "the follower's exit code is the job's" 0 $?
equal "the follower saw each line once" "$(seq -f 'line %g' 60)" "$(cat followed.txt)"

run=$(trainyard submit -q -- sh -c 'echo before; sleep 100')
check "a third run starts" until_true 20 says "$run" before
kill -9 "$(runner_pid "$run")"
check "a run whose runner was killed ends as Failed" until_true 10 in_state "$run" Failed
has "...and the error names the runner" "$(trainyard show "$run" --json | field error)" "runner"
equal "...and its log is kept" before "$(trainyard logs "$run")"
check "...and nothing of it is left" until_true 5 no_strays

run=$(trainyard submit -q -- sh -c 'mkdir outputs; echo x > outputs/half; sleep 100')
check "a fourth run starts" until_true 20 in_state "$run" Running
until_true 5 test -e "$TRAINYARD_HOME/jobs/$run/work/outputs/half"
pid=$(daemon_pid); runner=$(runner_pid "$run")
kill -9 "$pid" "$runner"
until_true 5 gone "$pid"
export TRAINYARD_TEST_BOOT_ID=00000000-1111-2222-3333-444444444444
trainyard up 2>/dev/null
check "after a reboot the run is told as Failed" until_true 10 in_state "$run" Failed
has "...because the machine was restarted" "$(trainyard show "$run" --json | field error)" "restarted"
has "...with the outputs it had" "$(trainyard artifacts ls "$run")" "outputs/half"

unset TRAINYARD_TEST_BOOT_ID
trainyard down 2>/dev/null
export TRAINYARD_SCHED_SILENT_SECONDS=1 TRAINYARD_SCHED_NODE_LOST_SECONDS=60
run=$(trainyard submit -q -- sh -c 'echo before; sleep 100')
check "a fifth run starts" until_true 20 in_state "$run" Running
kill -STOP "$(runner_pid "$run")"
check "a runner that says nothing is noticed" until_true 20 in_state "$run" NotResponding
kill -CONT "$(runner_pid "$run")"
check "...and so is its voice" until_true 20 in_state "$run" Running
trainyard cancel "$run" >/dev/null
check "...and it still obeys" until_true 20 in_state "$run" Canceled

trainyard down 2>/dev/null
export TRAINYARD_SCHED_NODE_LOST_SECONDS=2
run=$(trainyard submit -q -- sh -c 'echo before; sleep 100')
check "a sixth run starts" until_true 20 says "$run" before
kill -STOP "$(runner_pid "$run")"
check "a runner that stays silent is replaced, and the run told as Failed" until_true 30 in_state "$run" Failed
equal "...with its log" before "$(trainyard logs "$run")"
check "...and nothing of it is left" until_true 5 no_strays
