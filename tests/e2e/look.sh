#!/bin/bash
# Looking into runs and doing them again: why, tag, rerun, attach, exec.
. "$(dirname "$0")/lib.sh"
mkdir -p "$XDG_CONFIG_HOME/trainyard"
printf '[sched]\ncpus = 2\n' > "$XDG_CONFIG_HOME/trainyard/config"
# The value of an expression over a JSON object `j` on standard input.
json() { $PY -c 'import json,sys; j=json.load(sys.stdin); print(eval(sys.argv[1]))' "$1"; }

# ---- why ----

gate='until [ -e "$GATE" ]; do sleep 0.05; done'
submit() { trainyard submit -q --no-snapshot --env GATE="$T/gate$1" --cpus "$2" -- sh -c "$gate; echo last words; exit $3"; }
a=$(submit 1 1 0)
wide=$(submit 2 2 0)
b=$(submit 3 1 4)
check "the first runs" until_true 20 in_state "$a" Running
has "why: a run runs, since when" "$(trainyard why "$a")" "^run '$a' is Running since 20[-0-9]+T[:.0-9]+Z \([0-9]+s ago\)$"
out=$(trainyard why "$b")
has "why: a run waits, behind how many" "$out" "is Queued since .*waits .*behind 1 other run; what is free is kept for run "
has "...behind which" "$out" "^ +1 +$wide +local "
has "...with how many slots in use" "$out" "^1 of 2 CPU slots are in use:$"
has "...by which run" "$out" "^$a +Running +1 "
equal "why --json says the same" "2 $wide $a 1 1" \
    "$(trainyard why --json "$b" | json '"%s %s %s %s %s" % (j["queue_place"], j["ahead"][0]["run"], j["holders"][0]["run"], j["holders"][0]["cpus"], j["slots"]["used"])')"
trainyard cancel "$wide" 2>/dev/null
check "the one before it is canceled" until_true 5 in_state "$wide" Canceled
has "why: it was canceled" "$(trainyard why "$wide")" "is Canceled since .*asked it to stop before it had started$"
touch "$T/gate1" "$T/gate3"
trainyard wait "$a" "$b" 2>/dev/null
has "why: it ended well" "$(trainyard why "$a")" "is Completed since .*exited with code 0$"
has "why: it ended badly" "$(trainyard why "$b")" "is Failed since .*exited with code 4$"
has "...with its last words" "$(trainyard why "$b")" "^  \| last words$"
exits "why: an unknown run is not found" 3 trainyard why no-such-run

# ---- tag ----

check "tags are set" trainyard tag "$a" lr=0.01 baseline
equal "...and listed" "$(printf 'baseline\t-\nlr\t0.01')" "$(trainyard tag --plain "$a")"
check "one gets a new value, one is removed" trainyard tag "$a" lr=0.1 --remove baseline
equal "...as is told" "{'lr': '0.1'}" "$(trainyard tag --json "$a" | json 'j["tags"]')"
equal "a run is found by it" "$a" "$(trainyard ps -q --tag lr=0.1)"
exits "tag: an unknown run is not found" 3 trainyard tag no-such-run k=v

# ---- rerun ----

printf 'echo "$GREETING, version 1"; exit 3\n' > go.sh
first=$(trainyard submit -q --env GREETING=hello --tag k=v --name again -- sh go.sh)
trainyard wait -q "$first"
printf 'echo "$GREETING, version 2"; exit 5\n' > go.sh
out=$(cd / && trainyard rerun "$first" 2> "$T/err"); code=$?
equal "rerun runs the files as they are now, from anywhere" "hello, version 2" "$out"
equal "...with the job's exit code" 5 $code
second=$(sed -n 's/^run //p' "$T/err")
equal "...and names what it repeats" "$first" "$(trainyard show --json "$second" | json 'j["properties"]["trainyard.rerun_of"]')"
same() { trainyard show --json "$1" | json 'sorted((k, v) for k, v in j["spec"].items() if k not in ("properties", "snapshot"))'; }
equal "...all else is as it was" "$(same "$first")" "$(same "$second")"
[ "$(trainyard show --json "$first" | field snapshot)" != "$(trainyard show --json "$second" | field snapshot)" ] &&
    ok "...but for the snapshot" || not_ok "...but for the snapshot"
mkdir "$T/project/deep"; cp go.sh "$T/project/deep"
third=$(trainyard submit -q --dir deep -- sh go.sh)
trainyard wait -q "$third"
rm -r deep
exits "a folder that is gone is refused" 125 trainyard rerun "$third"
has "...with the way out" "$out" "folder '.*/deep' is gone; 'trainyard rerun --exact $third' uses the recorded"
exits "rerun --exact runs the recorded files" 3 trainyard rerun --exact "$first"
has "...these" "$out" "^hello, version 1$"
again=$(trainyard rerun --exact --detach -q "$third")
exits "...also without the folder, detached" 5 trainyard wait --exit-status "$again"
has "show ends with how a run is reproduced" "$(trainyard show "$first" | tail -1)" "^reproduce +trainyard rerun --exact $first$"
equal "...with the same snapshot" "$(trainyard show --json "$third" | field snapshot)" "$(trainyard show --json "$again" | field snapshot)"
exits "rerun: an unknown run is its own failure" 125 trainyard rerun no-such-run

# ---- attach ----

a=$(trainyard submit -q --no-snapshot --env GATE="$T/gate9" -- sh -c "echo before; $gate; echo after; exit 6")
check "a run is there to attach to" until_true 20 in_state "$a" Running
trainyard attach "$a" > "$T/one" 2>&1 &
attached=$!
trainyard attach "$a" > "$T/two" 2> "$T/two.err" &
leaves=$!
check "attach shows what came before" until_true 20 grep -q before "$T/two"
kill -INT $leaves
wait $leaves
equal "Ctrl-C detaches" 125 $?
has "...and says so" "$(cat "$T/two.err")" "detached; run '$a' goes on"
equal "...and it does" Running "$(state_of "$a")"
touch "$T/gate9"
wait $attached
equal "the other one gets the job's exit code" 6 $?
equal "...and all of its output" "$(printf 'before\nafter')" "$(head -2 "$T/one")"
exits "attach to an ended run gives the same code" 6 trainyard attach "$a"
exits "attach: an unknown run is its own failure" 125 trainyard attach no-such-run

# ---- exec ----

a=$(trainyard submit -q --no-snapshot --env GREETING=hello --env GATE="$T/gate10" -- sh -c "echo there > marker; echo up; $gate")
check "a run is there to look into" until_true 20 in_state "$a" Running
check "...and has begun" until_true 20 test -e "$TRAINYARD_HOME/jobs/$a/work/marker"
equal "exec runs in the job's folder" there "$(trainyard exec "$a" -- cat marker)"
env=$(SECRET_OF_THE_SHELL=leak trainyard exec "$a" -- env)
has "...with its environment" "$env" "^GREETING=hello$"
has "...which names the run" "$env" "^TRAINYARD_RUN_ID=$a$"
if printf '%s\n' "$env" | grep -qE '^(SECRET_OF_THE_SHELL|TRAINYARD_JOB|TRAINYARD_SPOOL_DIR)='; then
    not_ok "...and neither with the shell's, nor as a part of the job" "$env"
else
    ok "...and neither with the shell's, nor as a part of the job"
fi
equal "standard input comes through" "in and out" "$(echo "in and out" | trainyard exec "$a" -- cat)"
equal "standard error is apart" "err" "$(trainyard exec "$a" -- sh -c 'echo out; echo err >&2' 2>&1 >/dev/null)"
exits "the exit code is the command's own" 42 trainyard exec "$a" -- sh -c 'exit 42'
exits "a missing program is exec's own failure" 125 trainyard exec "$a" -- no-such-program-here
has "...and the sentence names it" "$out" "cannot run 'no-such-program-here' in run '$a': no program of that name is on the job's PATH"
mkfifo "$T/fifo"
trainyard exec "$a" -- sh -c 'echo begun; read line; echo "still $line"' < "$T/fifo" > "$T/said" &
beside=$!
exec 9> "$T/fifo"
check "a command begins beside it" until_true 20 grep -q begun "$T/said"
touch "$T/gate10"
check "the run ends" trainyard wait "$a"
check "...and its folder is cleared away" until_true 10 test ! -e "$TRAINYARD_HOME/jobs/$a"
echo here >&9
exec 9>&-
wait $beside
equal "a command beside it is not ended with it" "still here" "$(tail -1 "$T/said")"
exits "exec: an ended run is refused" 125 trainyard exec "$a" -- true
has "...with its state" "$out" "it is Completed, and only a Running one"
exits "exec: an unknown run is its own failure" 125 trainyard exec no-such-run -- true
idle=$($PY -c 'from azureml.core import Experiment, Workspace
print(Experiment(Workspace.from_config(), "looked").start_logging(snapshot_directory=None).id)' 2>/dev/null)
exits "an interactive run has nothing to run again" 125 trainyard rerun "$idle"
has "...and that is said" "$out" "interactive, and has no program"

# In a real bash: what the script puts into COMPREPLY.
completed() {
    bash -c 'source <(trainyard completion bash); COMP_WORDS=(trainyard "$@"); COMP_CWORD=$#; compopt() { echo "files"; }; _trainyard
             printf "%s\n" "${COMPREPLY[@]}"' bash "$@" 2>&1
}
equal "bash completes a command" "attach" "$(completed att)"
equal "...an option" "--state" "$(completed ps --stat)"
has "...a run" "$(completed show '')" "^$idle$"
has "...a file, by itself" "$(completed run -- python3 '')" "^files$"
