#!/bin/bash
# Snapshots, outputs, artifacts, data, removal, collection.
. "$(dirname "$0")/lib.sh"

# The daemon that this very call starts has them already.
has "the first call of all finds the default datastore" "$(trainyard data ls 2>&1; echo "gave $?")" "gave 0"

mkdir -p src .git
echo 'print(open("src/data.txt").read())' > train.py
echo original > src/data.txt
head -c 100000 /dev/zero > big.tmp
echo '*.tmp' > .amlignore
echo 'train.py' > .gitignore
ln -s src/data.txt link

run=$(trainyard submit -q -- sh -c 'cat link; echo changed > src/data.txt; ls -a; mkdir -p outputs/deep logs; echo m > outputs/deep/model; echo l > logs/events; ln -s /etc/passwd outputs/leak')
trainyard wait "$run" >/dev/null
log=$(trainyard logs "$run")
has "links inside are kept" "$log" "^original$"
has ".amlignore wins over .gitignore" "$log" "^train.py$"
if printf '%s\n' "$log" | grep -q '^big.tmp$'; then not_ok "ignored files stay"; else ok "ignored files stay"; fi
files=$(trainyard artifacts ls "$run")
has "outputs are kept" "$files" "outputs/deep/model"
has "logs/ is kept" "$files" "logs/events"
if printf '%s\n' "$files" | grep -q leak; then not_ok "a link that leads out is not followed"; else ok "a link that leads out is not followed"; fi
check "an artifact is fetched" trainyard artifacts get "$run" outputs/deep/model --output "$T/got"
check "...whole" grep -qx m "$T/got"
equal "a script that writes its own files does not change the store" original \
    "$(trainyard run -- cat src/data.txt 2>/dev/null)"
equal "...and not the source directory" original "$(cat src/data.txt)"

ln -s /etc/passwd outside
exits "a link that leads out is refused" 125 trainyard run -- true
has "...by name" "$out" "outside"
rm outside
TRAINYARD_LIMITS_SNAPSHOT_BYTES=50000 exits_out=$(TRAINYARD_LIMITS_SNAPSHOT_BYTES=50000 trainyard run -- true 2>&1)
rm .amlignore .gitignore
out=$(TRAINYARD_LIMITS_SNAPSHOT_BYTES=50000 trainyard run -- true 2>&1); code=$?
equal "a snapshot over its limit is refused" 125 $code
has "...and the text names the largest file and .amlignore" "$out" "big.tmp.*amlignore|amlignore.*big.tmp"

mkdir -p up/sub; echo 1 > up/a; echo 2 > up/sub/b
check "data put" trainyard data put up workspaceblobstore:set
has "data ls" "$(trainyard data ls workspaceblobstore:set)" "set/.*sub/b"
check "data get" trainyard data get workspaceblobstore:set "$T/down"
check "...whole" diff -r up "$T/down/set"
equal "a job finds a data reference as a directory" 2 \
    "$(trainyard run --no-snapshot --data d=workspaceblobstore/set -- sh -c 'cat "$AZUREML_DATAREFERENCE_d/sub/b"' 2>/dev/null)"
exits "data put outside the store is refused" 1 trainyard data put up/a workspaceblobstore:../../evil
check "...and nothing was written" test ! -e "$TRAINYARD_HOME/../evil"

blobs() { find "$TRAINYARD_HOME/blobs" -mindepth 2 -type f | wc -l; }
before=$(blobs)
for r in $(trainyard ps -a -q); do trainyard rm -y "$r" >/dev/null || not_ok "rm $r"; done
equal "all runs are removed" "" "$(trainyard ps -a -q)"
check "the log folders are gone" until_true 5 is_empty "$TRAINYARD_HOME/logs"
check "gc runs" trainyard gc
equal "within the grace time blobs stay" "$before" "$(blobs)"
trainyard down
TRAINYARD_BLOB_GC_GRACE_SECONDS=0 trainyard up 2>/dev/null
gone_by_gc() { trainyard gc >/dev/null && [ "$(blobs)" = 0 ]; }
check "gc without grace leaves nothing of them" until_true 5 gone_by_gc

printf 'open sesame\n' | trainyard secret set token 2>/dev/null
equal "a secret without the end of its line" "open sesame" "$(trainyard secret get token)"
printf 'from a file' > "$T/value"
check "a secret from a file" trainyard secret set other --file "$T/value"
equal "their names" "other
token" "$(trainyard secret ls -q)"
check "a secret is removed" trainyard secret rm token
exits "one that is not there" 3 trainyard secret get token
exits "a name that cannot be" 1 sh -c 'echo x | trainyard secret set "a b"'
