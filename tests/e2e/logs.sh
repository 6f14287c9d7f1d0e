#!/bin/bash
# A log from a time on, and the lines of it that match.
. "$(dirname "$0")/lib.sh"
cat > job.sh <<'X'
echo "early Loss=1"
while [ ! -e "$GATE" ]; do sleep 0.05; done
printf 'late loss=2\nlate other\nlate LOSS=3'
X
run=$(trainyard submit -q --env GATE="$T/gate" -- sh job.sh)
later() { [ "$(date +%s)" -ge "$then" ]; }
check "the first line is there" until_true 20 sh -c "trainyard logs $run | grep -q early"
then=$(($(date +%s) + 3)) iso=
iso=$(date -u -d "@$((then - 1))" +%Y-%m-%dT%H:%M:%SZ)
check "time passes" until_true 10 later
touch "$T/gate"
equal "following from a time on, lines that match" "$(printf 'late loss=2\nlate LOSS=3')" \
    "$(trainyard logs -f --since "$iso" --grep 'loss=[0-9]$' -i "$run")"
check "the run ends" trainyard wait "$run"
equal "a time in UTC" "$(printf 'late loss=2\nlate other\nlate LOSS=3')" "$(trainyard logs --since "$iso" "$run")"
equal "the same time here" "late LOSS=3" "$(TZ=XYZ-5 trainyard logs --since "$(TZ=XYZ-5 date -d "@$((then - 1))" +%Y-%m-%dT%H:%M:%S)" -n 1 "$run")"
equal "a long time ago: all of it" 4 "$(trainyard logs --since 2h "$run" | grep -c '')"
equal "from tomorrow on nothing" "" "$(trainyard logs --since "$(date -u -d tomorrow +%Y-%m-%dT%H:%MZ)" "$run")"
equal "lines that match" "early Loss=1" "$(trainyard logs --grep '^early' "$run")"
exits "a bad time" 2 trainyard logs --since yesterday "$run"
exits "a bad expression" 2 trainyard logs --grep '(' "$run"

# ---- several processes: whole lines of all, in the order in which they came ----
cat > ranks.sh <<'Y'
n=0
while [ $n -lt 200 ]; do echo "$RANK: line $n"; n=$((n + 1)); done
echo "$RANK waits"
while [ ! -e "$GATE$RANK" ]; do sleep 0.05; done
printf 'half '; sleep 0.2; printf "of %s\nlast of %s" "$RANK" "$RANK"
Y
run=$(trainyard submit -q --nodes 2 --procs 1 --env GATE="$T/rank" -- sh ranks.sh)
has "its processes are told of" "$(trainyard show "$run")" "^processes +2: 2 nodes x 1 \\(Mpi\\)"
has "...also in the list" "$(trainyard ps --plain)" "$run.*local 2x1"
trainyard logs -f "$run" > "$T/followed" &
follower=$!
waits() { [ "$(grep -c waits "$T/followed")" = 2 ]; }
check "both are followed" until_true 20 waits
kill -9 "$(daemon_pid)"
touch "$T/rank1"
check "a line comes over the death of the daemon" until_true 40 grep -q "half of 1" "$T/followed"
equal "...and the other process goes on" Running "$(state_of "$run")"
touch "$T/rank0"
check "the run ends" trainyard wait "$run"
wait $follower
for rank in 0 1; do
    equal "each line of process $rank came once, with its rank" "$(seq -f "[$rank] $rank: line %g" 0 199; printf '[%s] %s\n' "$rank" "$rank waits" "$rank" "half of $rank" "$rank" "last of $rank")" \
        "$(grep "^\\[$rank\\]" "$T/followed")"
    equal "the log of process $rank alone" "$(seq -f "$rank: line %g" 0 199; printf '%s waits\nhalf of %s\nlast of %s' $rank $rank $rank)" "$(trainyard logs --rank $rank "$run")"
    equal "...under its later name" "last of $rank" "$(trainyard api "/api/v1/runs/$run/files/user_logs/std_log_process_$rank.txt" | tail -n 1)"
done
equal "nothing else was printed" 406 "$(grep -c '' "$T/followed")"
equal "afterwards they are the same" "$(sort "$T/followed")" "$(trainyard logs "$run" | sort)"
equal "the last line of each" "$(printf '[0] last of 0\n[1] last of 1')" "$(trainyard logs -n 1 "$run" | sort)"
equal "lines that match" "[1] half of 1" "$(trainyard logs --grep '^half of 1' "$run")"
exits "a process that there is not" 1 trainyard logs --rank 2 "$run"
has "...is told of" "$out" "has 2 processes, ranks 0 to 1"
exits "a backend that there is not" 125 trainyard run --nodes 2 --backend ps -- true
