#!/bin/bash
# Environments of jobs of this machine: built once, used again, broken off, repeated to the file.
. "$(dirname "$0")/lib.sh"
. "$SOURCE/tests/e2e/env.lib.sh"
trap 'code=$?; index_stop; (exit $code); at_end' EXIT
index_start
wheel tyone 1.0
wheel tytwo 1.0 tyone
wheel tythree 1.0
wheel tyfour 1.0
SAY='import sys, os, tyone; print(tyone.__version__, sys.prefix == os.environ["AZUREML_CONDA_ENVIRONMENT_PATH"], sys.prefix)'

# ---- built once ----
wants r.txt tyone
out=$(trainyard run --requirements r.txt -- $PY -c "$SAY" 2>err.txt)
has "a package of the index is there" "$out" "^1.0 True $TRAINYARD_HOME/cache/envs/"
first=$(trainyard ps -a -q | head -1)
equal "the record says that it was built" True "$(of "$first" built)"
equal "...and which version of what" "tyone 1.0" "$(of "$first" lock.pip.0.name) $(of "$first" lock.pip.0.version)"
has "...with its hash" "$(of "$first" lock.pip.0.sha256)" "^[0-9a-f]{64}$"
has "the build log is a log of the run" "$(trainyard artifacts ls "$first"; cat "$(build_log "$first")")" "[Dd]ownloading"
has "show tells of it" "$(trainyard show "$first")" "^environment +python 3.*1 package, built in"
has "the event log has it" "$(trainyard api "/api/v1/runs/$first/events")" '"kind": ?"environment"'
has "its environments can be asked for" "$(trainyard api "/api/v1/runs/$first/environments")" '"node": ?0'
asked=$(requests)
out=$(trainyard run --requirements r.txt -- sh -c "exec python3 -c '$SAY'" 2>/dev/null)
has "what PATH leads to has it too, the second time from the cache" "$out" "^1.0 True"
equal "...which asks the index nothing" "$asked" "$(requests)"
equal "...and builds nothing" False "$(of @last built)"
check "...and so has no build log" test ! -e "$(build_log "$(trainyard ps -a -q | head -1)")"
out=$(trainyard run --no-snapshot -- $PY -c 'import tyone' 2>&1)
has "a run that asks for nothing has nothing of it" "$out" "No module named 'tyone'"
equal "...and no record" "" "$(of @last built)"

# ---- two that need the same ----
gate tytwo
wants two.txt tytwo
a=$(trainyard submit -q --requirements two.txt -- $PY -c 'import tytwo, tyone')
trainyard attach --json "$a" > follow.txt 2> /dev/null &
follower=$!
check "a run that waits for its packages says so" until_true 30 is_building "$a"
check "...and how far it is" until_true 20 tells_how_far "$a"
b=$(trainyard submit -q --requirements two.txt -- $PY -c 'import tytwo, tyone')
check "the build log is there while it is built" until_true 30 grep -q "tytwo" "$(build_log "$a")"
equal "...and the run is not running" Queued "$(state_of "$a")"
open_gate tytwo
check "both come to their end" trainyard wait "$a" "$b"
wait $follower
has "...and who followed was told of it" "$(cat follow.txt)" '"event":"state".*"state":"Queued".*building its environment \('
equal "one of them has built it" "False True" "$(printf '%s\n' "$(of "$a" built)" "$(of "$b" built)" | sort | xargs)"
equal "...and both have it" "$(of "$a" prefix)" "$(of "$b" prefix)"

# ---- what breaks ----
wants bad.txt tynosuch
exits "a package that nobody has is no failure of the job" 125 trainyard run --requirements bad.txt -- $PY -c 1
has "...and the sentence is the resolver's own, with the log" "$out" "No matching distribution found for tynosuch.*20_image_build_log.txt"
equal "...and the error has its code" EnvironmentBuildFailed "$(trainyard show @last --json | $PY -c 'import json,sys; print(json.load(sys.stdin)["error"]["code"])')"
printf '%s\n' "-i http://127.0.0.1:1/simple" tynosuch > away.txt
exits "an index that does not answer is told of" 125 trainyard run --requirements away.txt -- $PY -c 1
has "...with the cache as the way out" "$out" "trainyard env ls"

gate tythree
wants three.txt tythree
c=$(trainyard submit -q --requirements three.txt -- $PY -c 'import tythree')
runner_known() { [ -n "$(runner_pid "$1")" ]; }
check "a build waits" until_true 30 is_building "$c"
check "a run is canceled while its environment is built" trainyard cancel "$c"
check "...and ends" until_true 10 in_state "$c" Canceled
check "...with all that built it" until_true 10 no_strays
d=$(trainyard submit -q --requirements three.txt -- $PY -c 'import tythree')
check "another one builds" until_true 30 is_building "$d"
check "...its runner is known" until_true 10 runner_known "$d"
kill -9 "$(runner_pid "$d")"
check "a runner that is killed leaves no pip behind" until_true 10 no_strays
exits "...and its run fails" 1 trainyard wait "$d"
open_gate tythree
exits "what was broken off is built by the next" 0 trainyard run --requirements three.txt -- $PY -c 'import tythree'

gate tyfour
wants four.txt tyfour
trainyard env build --interpreter $PY --requirements four.txt > /dev/null 2> four.log &
builder=$!
made() { ls "$TRAINYARD_HOME/cache/envs" | grep -q building; }
check "env build makes one, from an index that answers, but slowly" until_true 120 grep -q "answers, but slowly" four.log
check "...beside its place" made
kill -TERM $builder
wait $builder
equal "...until a signal breaks it off" 143 $?
lacks_made() { ! made; }
check "...and nothing of it is left" lacks_made
trainyard env build --interpreter $PY --requirements four.txt > /dev/null 2> four.log &
builder=$!
check "a slow index" until_true 120 grep -q "answers, but slowly" four.log
open_gate tyfour
wait $builder
equal "...is waited for" 0 $?

# ---- whose python ----
$PY -m venv --without-pip "$T/bare"
there=$($PY -c 'import importlib.metadata as m; print(min(d.metadata["Name"] for d in m.distributions() if d.metadata["Name"].lower() not in ("pip", "setuptools", "wheel")))')
equal "a bare python3 that lacks what another one has ($there) gives way to it" /usr \
    "$(PATH=$T/bare/bin:$PATH trainyard run --pip "$there" -- python3 -c 'import sys; print(sys.prefix)' 2>/dev/null)"

# ---- passwords ----
private=$(echo "$INDEX_URL" | sed 's|http://|http://me:geheim9@|; s|/simple|/private/simple|')
printf '%s\n' "-i $private" tytwo > private.txt
trainyard env gc --all > /dev/null
exits "an index may want a password" 0 trainyard run --no-snapshot --requirements private.txt --env "PIP_EXTRA_INDEX_URL=$private" -- \
    $PY -c 'import tytwo, os; print("me:geheim" + "9@" in os.environ["PIP_EXTRA_INDEX_URL"])'
has "...which the script has, where it is a variable of its own" "$out" "^True$"
secretive=$(trainyard ps -a -q | head -1)
told() {
    trainyard show "$1"; trainyard show "$1" --json; trainyard api "runs/$1"; trainyard api "runs/$1/events"; trainyard api "runs/$1/environments"
    trainyard why "$1"; cat "$(build_log "$1")" "$TRAINYARD_HOME/logs/$1/azureml-logs/60_control_log.txt"; trainyard env ls --json; trainyard secret ls
}
told "$secretive" > told.txt 2>&1
has "...that is told of without it" "$(cat told.txt)" "http://me:[*][*][*]@127.0.0.1"
equal "...everywhere" 0 "$(grep -c geheim9 told.txt)"
lies_nowhere() { [ -z "$(grep -rlas -D skip geheim9 "$TRAINYARD_HOME")" ]; }
check "...and lies nowhere as it is, once the run's folder is gone" until_true 60 lies_nowhere
trainyard env gc --all > /dev/null
exits "rerun has it again" 0 trainyard rerun "$secretive"
trainyard env gc --all > /dev/null
exits "...and so has rerun --exact" 0 trainyard rerun --exact "$secretive"
trainyard env gc --all > /dev/null
exits "...and so has env build" 0 trainyard env build --interpreter $PY "$secretive"
trainyard secret ls -q | grep '^address-' | xargs trainyard secret rm 2> /dev/null
exits "...unless the secret is gone" 3 trainyard env build --interpreter $PY "$secretive"
has "...which is told" "$out" "password of the address 'http://me:[*][*][*]@.* is not known here"
sed 's/me:geheim9/her:geraten/' private.txt > wrong.txt
exits "an index that refuses a password ends a run" 125 trainyard run --no-snapshot --requirements wrong.txt -- $PY -c 1
has "...which says so, since pip does not" "$out" "The package index http://her:[*][*][*]@127.0.0.1:[0-9]*/private/simple refuses us [(]401[)]"
sed 's/geheim9/***/; s/me:/you:/' private.txt > unknown.txt
exits "one that nobody has given is not known" 125 trainyard run --no-snapshot --requirements unknown.txt -- $PY -c 'import tytwo'
has "...by name" "$out" "password of the address 'http://you:[*][*][*]@"

# ---- to the file ----
wheel tyone 2.0
has "env ls lists what was built" "$(trainyard env ls)" "^[0-9a-f]{12} +3.* tytwo"
trainyard api -X PUT /api/v1/environments/mine -d "{\"content\": {\"spec\": {\"pip\": {\"packages\": [\"tytwo\"], \"index_url\": \"$INDEX_URL\"}}}}" >/dev/null
has "env ls --registered lists those with a name" "$(trainyard env ls --registered)" "^mine +1 .* tytwo"
equal "...their names alone, too" mine "$(trainyard env ls --registered -q)"
has "env build takes such a name" "$(trainyard env build -q --interpreter $PY mine)" "^$TRAINYARD_HOME/cache/envs/"
exits "a name that nobody has is not found" 3 trainyard env build nobodys
key=$(of "$a" key)
has "env show tells what one holds" "$(trainyard env show "$(echo "$key" | cut -c1-10)")" "^pip +tytwo 1.0"
has "...as JSON, too" "$(trainyard env show "$key" --json)" "\"key\":\"$key\""
exits "a key that nobody has is not found" 3 trainyard env show 0000000000
sleeper=$(trainyard submit -q --requirements r.txt -- $PY -c 'import time, sys; print("ready", flush=True); time.sleep(600)')
check "a run uses an environment" until_true 30 in_state "$sleeper" Running
has "env gc would remove the others" "$(trainyard env gc --all --dry-run)" "^would remove [1-9]"
has "...and does" "$(trainyard env gc --all)" "^removed [1-9]"
equal "...but for what is used" 1 "$(trainyard env ls -q | wc -l)"
trainyard cancel "$sleeper" > /dev/null 2>&1
trainyard wait "$sleeper" > /dev/null 2>&1
all_collected() { trainyard env gc --all > /dev/null && [ -z "$(trainyard env ls -q)" ]; }
check "...until it is not any more" until_true 20 all_collected
equal "env build makes one beforehand" "$TRAINYARD_HOME/cache/envs" "$(trainyard env build -q --interpreter $PY --requirements two.txt | xargs dirname | xargs dirname | xargs dirname)"
equal "...which a run finds" False "$(trainyard run --requirements two.txt -- $PY -c 'import tytwo' > /dev/null 2>&1; of @last built)"
trainyard env gc --all > /dev/null
equal "without the cache the newest is taken" 2.0 "$(trainyard run --requirements r.txt -- $PY -c 'import tyone; print(tyone.__version__)' 2>/dev/null)"
out=$(trainyard rerun --exact "$first" 2>/dev/null)
has "rerun --exact gives the version of then" "$out" "^1.0 True"
equal "...whose record says so" 1.0 "$(of @last lock.pip.0.version)"
equal "...and rerun alone what is newest" 2.0 "$(trainyard rerun "$first" 2>/dev/null | cut -d' ' -f1)"

# ---- other ways to ask ----
cat > conda.yml <<X
name: mine
dependencies:
- python>=3
- pip:
  - -i $INDEX_URL
  - tyfour
X
exits "a conda file with pip packages alone needs no conda" 0 trainyard run --conda-file conda.yml -- $PY -c 'import tyfour'
exits "a version of Python alone installs none" 0 trainyard run --python-version 3.99 -- $PY -c 'print("ran")'
has "...and says so" "$out" "--python-version 3.99: only with packages of conda"
exits "a wrong conda file is refused" 125 trainyard run --conda-file r.txt -- true
exits "a missing requirements file is refused" 125 trainyard run --requirements none.txt -- true
has "...by name" "$out" "none.txt"

printf '{"content": {"spec": {"pip": {"packages": ["tyfour"], "index_url": "%s"}}, "environment_variables": {"A": "1", "B": "2"}}}' "$INDEX_URL" > mine.json
check "an environment is registered" trainyard api -X PUT environments/mine -d @mine.json
equal "a run takes it by its name, with its variables" "1.0 1 3" \
    "$(trainyard run --environment mine --env B=3 -- $PY -c 'import os, tyfour; print(tyfour.__version__, os.environ["A"], os.environ["B"])' 2>/dev/null)"
has "...and env ls --registered lists it" "$(trainyard env ls --registered)" "^mine +[0-9]+ .*tyfour"
sed 's|http://|http://me:geheim9@|' mine.json > secretive.json
exits "one that has a password in it is refused" 1 trainyard api -X PUT environments/secretive -d @secretive.json
has "...with the way out" "$out" "has an address with a password in it"
exits "a version that is not there is not found" 125 trainyard run --environment mine:7 -- true
exits "a curated one that the command line does not know is refused" 125 trainyard run --environment AzureML-Nothing -- true
