#!/bin/bash
# A command runs: its output, its exit code, what it finds around it.
. "$(dirname "$0")/lib.sh"

equal "output comes through, byte for byte" "$(printf 'a\tb\nlast line without end')" \
    "$(trainyard run --no-snapshot -- /usr/bin/printf 'a\tb\nlast line without end' 2>/dev/null)"
head -c 300000 /dev/urandom > blob.bin
trainyard run -- cat blob.bin > got.bin 2>/dev/null
check "binary output comes through" cmp blob.bin got.bin

exits "the job's exit code is passed through" 3 trainyard run -- sh -c 'exit 3'
exits "a signal becomes 128 + signal" 137 trainyard run -- sh -c 'kill -9 $$'
exits "a missing program is the command's own failure" 125 trainyard run -- no-such-program-here
has "...and the sentence names it" "$out" "no-such-program-here"
exits "an unknown option is the command's own failure" 125 trainyard run --no-such-option -- true
exits "in other commands a usage error is 2" 2 trainyard ps --no-such-option
exits "an unknown command is a usage error" 2 trainyard shwo
has "...with a suggestion" "$out" "show"

run=$(trainyard submit -q -- sh -c 'echo out; echo err >&2; echo $HOME; pwd; ls')
check "wait succeeds" trainyard wait "$run"
log=$(trainyard logs "$run")
has "standard output and error are in the log" "$log" "^err$"
has "the working directory holds the snapshot" "$log" "^blob.bin$"
equal "the state is Completed" Completed "$(state_of "$run")"
has "the control log exists" "$(trainyard artifacts ls "$run" --json; trainyard show "$run" --json; ls "$TRAINYARD_HOME/logs/$run/azureml-logs")" "60_control_log.txt"

SECRET_OF_THE_SHELL=leak trainyard run --no-snapshot --env GIVEN=yes -- sh -c 'env' > env.txt 2>/dev/null
has "a variable that was asked for is there" "$(cat env.txt)" "^GIVEN=yes$"
if grep -q SECRET_OF_THE_SHELL env.txt; then not_ok "the shell's environment does not reach the job"; else ok "the shell's environment does not reach the job"; fi

exits "wait tells a failed run" 1 trainyard wait "$(trainyard submit -q -- sh -c 'exit 4')"
exits "wait --exit-status passes the job's code" 4 trainyard wait --exit-status @last
exits "wait gives up after its timeout" 124 trainyard wait --timeout 0.2 "$(trainyard submit -q -- sleep 60)"
check "the sleeper is canceled" trainyard cancel @last
check "...and ends" until_true 20 in_state @last Canceled
exits "an unknown run is not found" 3 trainyard show no-such-run
has "show tells the error of a failed run" "$(trainyard run -- sh -c 'echo last words; exit 7' 2>/dev/null; trainyard show @last)" "exited with code 7"
has "ps lists runs" "$(trainyard ps -a)" "Completed"
check "ps --json is JSON" $PY -c 'import json,subprocess,sys; json.loads(subprocess.check_output(["trainyard","ps","-a","--json"]))'
has "version" "$(trainyard --version)" "^trainyard [0-9]+\.[0-9]+\.[0-9]+"
check "doctor finds nothing wrong" trainyard doctor
exits "a state that is none is refused" 2 trainyard ps -s Runing
has "...with the one that was meant" "$out" "did you mean 'Running'"

trainyard down 2>/dev/null
printf '%2000s\n' old > "$TRAINYARD_HOME/daemon.log"
check "a daemon starts whose log is too long" env TRAINYARD_DAEMON_LOG_BYTES=1000 trainyard up
has "...which is set aside" "$(cat "$TRAINYARD_HOME/daemon.log.1")" "old\$"
has "...and begun anew" "$(cat "$TRAINYARD_HOME/daemon.log")" "serves '"
