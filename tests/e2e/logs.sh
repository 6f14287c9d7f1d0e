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
then=$(($(date +%s) + 3))
check "time passes" until_true 10 later
touch "$T/gate"
equal "following from a time on, lines that match" "$(printf 'late loss=2\nlate LOSS=3')" \
    "$(trainyard logs -f --since 1s --grep 'loss=[0-9]$' -i "$run")"
check "the run ends" trainyard wait "$run"
iso=$(date -u -d "@$((then - 1))" +%Y-%m-%dT%H:%M:%SZ)
equal "a time in UTC" "$(printf 'late loss=2\nlate other\nlate LOSS=3')" "$(trainyard logs --since "$iso" "$run")"
equal "the same time here" "late LOSS=3" "$(TZ=XYZ-5 trainyard logs --since "$(TZ=XYZ-5 date -d "@$((then - 1))" +%Y-%m-%dT%H:%M:%S)" -n 1 "$run")"
equal "a long time ago: all of it" 4 "$(trainyard logs --since 2h "$run" | grep -c '')"
equal "from tomorrow on nothing" "" "$(trainyard logs --since "$(date -u -d tomorrow +%Y-%m-%dT%H:%MZ)" "$run")"
equal "lines that match" "early Loss=1" "$(trainyard logs --grep '^early' "$run")"
exits "a bad time" 2 trainyard logs --since yesterday "$run"
exits "a bad expression" 2 trainyard logs --grep '(' "$run"
