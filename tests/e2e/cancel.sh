#!/bin/bash
# Cancel and time limit end the whole process tree.
. "$(dirname "$0")/lib.sh"

cat > tree.sh <<'X'
trap '' TERM
setsid sh -c 'trap "" TERM; echo $$ > "$OUT/session"; sleep 300' &
(sh -c 'echo $$ > "$OUT/orphan"; exec sleep 300' &)
sleep 300 & echo $! > "$OUT/child"
echo $$ > "$OUT/leader"
echo ready
wait
sleep 300
X
mkdir "$T/pids"
all_there() { [ -s "$T/pids/session" ] && [ -s "$T/pids/orphan" ] && [ -s "$T/pids/child" ] && [ -s "$T/pids/leader" ]; }
all_gone() { for f in "$T"/pids/*; do gone "$(cat "$f")" || return 1; done; }

mkdir -p "$XDG_CONFIG_HOME/trainyard"
printf '[run]\ncancel_grace_seconds = 1\n' > "$XDG_CONFIG_HOME/trainyard/config"

run=$(trainyard submit -q --env OUT="$T/pids" -- sh tree.sh)
check "the tree is up" until_true 20 all_there
check "cancel is accepted" trainyard cancel "$run"
check "the run is Canceled, though its processes ignore SIGTERM" until_true 15 in_state "$run" Canceled
check "every process of it is gone: child, orphan, own session" all_gone
has "its log was kept" "$(trainyard logs "$run")" "^ready$"
check "to cancel an ended run is no error" trainyard cancel "$run"

run=$(trainyard submit -q --cpus "$(trainyard status --json | $PY -c 'import json,sys; print(json.load(sys.stdin)["slots"]["cpus"])')" -- sleep 100)
waiting=$(trainyard submit -q -- sh -c 'echo never')
check "a second run waits" in_state "$waiting" Queued
has "...and says why" "$(trainyard show "$waiting" --json | field why)" "CPU slot"
check "a waiting run is canceled" trainyard cancel "$waiting"
check "...at once" until_true 2 in_state "$waiting" Canceled
check "the running one too" trainyard cancel "$run"
check "...with its end" until_true 15 in_state "$run" Canceled

rm -f "$T"/pids/*
run=$(trainyard submit -q --max-run-duration 5 --env OUT="$T/pids" -- sh tree.sh)
check "the second tree is up" until_true 20 all_there
check "the time limit ends the run" until_true 20 in_state "$run" Canceled
has "...and the error names the limit" "$(trainyard show "$run" --json | field error)" "max_run_duration_seconds"
check "...and its tree" all_gone

rm -f "$T"/pids/*
run=$(trainyard submit -q --env OUT="$T/pids" -- sh -c 'sh tree.sh & for f in session orphan child leader; do until [ -s "$OUT/$f" ]; do sleep 0.05; done; done; echo end')
check "a run that leaves processes behind ends with its script" trainyard wait "$run"
all_there && check "...and what it left is ended" all_gone || not_ok "the tree was up"
