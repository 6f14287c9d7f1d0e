#!/bin/bash
# Data references in object stores, against Azurite and s3rver: downloaded through the cache, mounted, uploaded.
. "$(dirname "$0")/lib.sh"
. "$SOURCE/tests/e2e/objects.lib.sh"
servers=
at_last() {
    code=$?
    azurite_stop
    exec 7>&-
    for p in $servers; do wait "$p" 2> /dev/null; done
    (exit $code)
    at_end
}
trap at_last EXIT

warnings_of() { trainyard api "runs/$1/events" | grep -o '"text":"[^"]*"'; }
error_of() { trainyard show "$1" --json | field error; }
notes_of() { trainyard artifacts get "$1" azureml-logs/60_control_log.txt -o - 2> /dev/null; }
saw() { trainyard logs "$1" 2> /dev/null | grep -qx "$2"; }
cache=$TRAINYARD_HOME/cache/data
cached() { find "$cache" -type f -not -name 'lock*' -not -name about -not -name '.*' -printf '%p %i\n' 2> /dev/null | sort; }

# s3_start: S3_URL, or fails and sets s3_why
s3_start() {
    mkfifo "$T/s3.in" "$T/s3.out"
    cat > "$T/s3.py" <<'P'
import sys
sys.path.insert(0, sys.argv[1])
import s3_servers
try:
    s = s3_servers.S3rver(sys.argv[2])
except s3_servers.Missing as e:
    print("none", e, flush=True)
    sys.exit()
print(s.url, flush=True)
sys.stdin.read()
s.stop()
P
    $PY "$T/s3.py" "$SOURCE/tests/e2e" "$T" < "$T/s3.in" > "$T/s3.out" 2> "$T/s3.err" &
    servers="$servers $!"
    exec 7> "$T/s3.in"
    read -r S3_URL s3_why < "$T/s3.out"
    case $S3_URL in http*) return 0 ;; esac
    return 1
}

cd "$T" && mkdir -p set/sub "set/with blank"
for i in $(seq 40); do echo "file $i" > "set/sub/f$i"; done
head -c 9000000 /dev/urandom > set/big
printf '' > set/empty
echo x > "set/with blank/ü%.txt"
cd "$T/project" || exit 1
want=$(cd ../set && find . -type f | sort | xargs -d '\n' sha256sum | sha256sum)
cat > look.sh <<'C'
cd "$1" && find . -type f | sort | xargs -d '\n' sha256sum | sha256sum
C

# the_store NAME: everything, for a datastore that is empty
the_store() {
    n=$1
    check "$n: data are put" trainyard data put ../set "$n:set"
    run=$(trainyard submit -q --data "d=$n/set:download" -- sh -c 'sh look.sh "$AZUREML_DATAREFERENCE_d"; echo mine > "$AZUREML_DATAREFERENCE_d/new"')
    trainyard wait "$run" > /dev/null 2>&1
    equal "$n: a download ends well" Completed "$(state_of "$run")"
    equal "$n: ...and is whole" "$want" "$(trainyard logs "$run")"
    equal "$n: ...and nothing of it is said to have changed" "" "$(warnings_of "$run")"
    before=$(cached)
    has "$n: it lies in the cache" "$before" "/data/"
    run=$(trainyard submit -q --data "d=$n/set:download" -- sh -c 'sh look.sh "$AZUREML_DATAREFERENCE_d"')
    trainyard wait "$run" > /dev/null 2>&1
    equal "$n: a second run has the same" "$want" "$(trainyard logs "$run")"
    equal "$n: ...from the cache" "$before" "$(cached)"
    victim=$(find "$cache" -type f -size +8M | head -1)
    chmod u+w "$victim" && echo spoilt >> "$victim"
    run=$(trainyard submit -q --data "d=$n/set:download" -- sh -c 'sh look.sh "$AZUREML_DATAREFERENCE_d"')
    trainyard wait "$run" > /dev/null 2>&1
    equal "$n: a file of the cache that was spoilt is not used" "$want" "$(trainyard logs "$run")"
    run=$(trainyard submit -q --data "d=$n/set/big:download" -- sh -c 'sha256sum < "$AZUREML_DATAREFERENCE_d"')
    trainyard wait "$run" > /dev/null 2>&1
    equal "$n: a single object is downloaded" "$(sha256sum < ../set/big)" "$(trainyard logs "$run")"
    run=$(trainyard submit -q --data "d=$n/nothing:download" -- true)
    trainyard wait "$run" > /dev/null 2>&1
    has "$n: what is not there is named" "$(error_of "$run")" "PreparationFailed.*data reference 'd': cannot download 'nothing': datastore '$n' has nothing there"

    run=$(trainyard submit -q --data "o=$n/out:upload" -- sh -c 'cd "$AZUREML_DATAREFERENCE_o" && mkdir deep && echo one > a && head -c 9000000 /dev/zero > deep/zeros && printf "" > empty')
    trainyard wait "$run" > /dev/null 2>&1
    rm -rf ../got && check "$n: an upload can be had" trainyard data get "$n:out" ../got
    equal "$n: ...and is whole" "one 9000000 0" "$(cat ../got/out/a) $(stat -c %s ../got/out/deep/zeros) $(stat -c %s ../got/out/empty)"
    run=$(trainyard submit -q --data "o=$n/out:upload" -- sh -c 'cd "$AZUREML_DATAREFERENCE_o" && echo two > a && echo new > b')
    trainyard wait "$run" > /dev/null 2>&1
    has "$n: what is there is not replaced, and named" "$(warnings_of "$run")" "data reference 'o': 'out/a' was not put into datastore '$n': there is another one of that name"
    rm -rf ../got && trainyard data get "$n:out" ../got > /dev/null
    equal "$n: ...what is new comes all the same" "one new" "$(cat ../got/out/a) $(cat ../got/out/b)"
}

# a_mount NAME HOW [filled] [OPTION]: it is mounted as HOW says
a_mount() {
    n=$1
    run=$(trainyard submit -q $4 --data "m=$n/set:mount" -- sh -c 'cd "$AZUREML_DATAREFERENCE_m" && sh "$OLDPWD/look.sh" . && echo changed > sub/f7 && mkdir new && echo made > new/file')
    trainyard wait "$run" > /dev/null 2>&1
    equal "$n: a run with a mount ends well ($2)" Completed "$(state_of "$run")"
    has "$n: it is mounted as it can be here" "$(notes_of "$run")" "$2"
    equal "$n: ...and is whole" "$want" "$(trainyard logs "$run")"
    rm -rf ../got && trainyard data get "$n:set" ../got > /dev/null
    equal "$n: what the job wrote there is in the store" "changed made" "$(cat ../got/set/sub/f7) $(cat ../got/set/new/file)"
    check "$n: nothing is mounted any more" sh -c "! grep -q '$T' /proc/self/mountinfo"
    run=$(trainyard submit -q $4 --data "m=$n/set:mount" -- sh -c 'echo begun; while ! [ -e go ]; do sleep 0.05; done; cat "$AZUREML_DATAREFERENCE_m/sub/f1"')
    check "$n: a run with a mount begins" until_true 20 saw "$run" begun
    echo theirs > ../set/sub/f9 && trainyard data put ../set/sub/f9 "$n:set/sub/f9" --overwrite > /dev/null
    : > "$TRAINYARD_HOME/jobs/$run/work/go"
    trainyard wait "$run" > /dev/null 2>&1
    has "$n: a file that somebody else changed is named" "$(warnings_of "$run")" "data reference 'm': 1 file of datastore '$n' changed while the run was running: sub/f9"
    if [ "$3" = filled ]; then
        run=$(trainyard submit -q $4 --data "m=$n/set:mount" -- sh -c 'echo begun; while ! [ -e go ]; do sleep 0.05; done; echo mine > "$AZUREML_DATAREFERENCE_m/sub/f8"')
        check "$n: a run that writes begins" until_true 20 saw "$run" begun
        echo theirs > ../set/sub/f8 && trainyard data put ../set/sub/f8 "$n:set/sub/f8" --overwrite > /dev/null
        : > "$TRAINYARD_HOME/jobs/$run/work/go"
        trainyard wait "$run" > /dev/null 2>&1
        has "$n: what somebody else changed is not replaced" "$(warnings_of "$run")" "data reference 'm': 'set/sub/f8' was not put into datastore '$n': it was changed there while the run was running"
        rm -rf ../got && trainyard data get "$n:set" ../got > /dev/null
        equal "$n: ...and is what they wrote" theirs "$(cat ../got/set/sub/f8)"
        run=$(trainyard submit -q $4 --data "m=$n/set:mount" -- sh -c 'rm "$AZUREML_DATAREFERENCE_m/sub/f3"')
        trainyard wait "$run" > /dev/null 2>&1
        has "$n: what a run removes is said to stay" "$(warnings_of "$run")" "data reference 'm': 1 file that the run has removed stays in datastore '$n': sub/f3"
        has "$n: ...and does" "$(trainyard data ls "$n:set/sub/f3")" "set/sub/f3 "
    fi
    run=$(trainyard submit -q $4 --data "m=$n/set:mount" -- sh -c 'echo begun; exec sleep 1000')
    check "$n: a run with a mount begins" until_true 20 saw "$run" begun
    trainyard cancel "$run" > /dev/null
    trainyard wait "$run" > /dev/null 2>&1
    equal "$n: it can be canceled" Canceled "$(state_of "$run")"
    check "$n: ...and nothing is mounted then" until_true 10 sh -c "! grep -q '$T' /proc/self/mountinfo"
    check "$n: ...its folder is gone" until_true 10 sh -c "! [ -e '$TRAINYARD_HOME/jobs/$run' ]"
    run=$(trainyard submit -q $4 --data "m=$n/set:mount" -- sh -c 'echo begun; exec sleep 1000')
    check "$n: a run with a mount begins" until_true 20 saw "$run" begun
    kill -9 "$(runner_pid "$run")"
    trainyard wait "$run" > /dev/null 2>&1
    equal "$n: its runner is killed" Failed "$(state_of "$run")"
    check "$n: ...and nothing is mounted then" until_true 10 sh -c "! grep -q '$T' /proc/self/mountinfo"
    check "$n: ...its folder is gone" until_true 10 sh -c "! [ -e '$TRAINYARD_HOME/jobs/$run' ]"
    rm -rf ../got && trainyard data get "$n:set" ../got > /dev/null
    equal "$n: ...and the store has all it had" "44 theirs" "$(find ../got/set -type f | wc -l | tr -d ' ') $(cat ../got/set/sub/f9)"
    for i in 8 9; do echo "file $i" > "../set/sub/f$i"; done
}

# the_trouble: what only a store that hesitates shows, and one that does not know our key any more; in Azurite
the_trouble() {
    front_start "$T" "$AZ_ENDPOINT" "GET,set/big,busy=3,0,1" "PUT,denied,old=1200,0,1000"
    check "a store that hesitates is registered" trainyard data add slow --kind azureblob --account "$AZ_ACCOUNT" --container con --endpoint "http://$FRONT/$AZ_ACCOUNT" --protocol http --key-env AZ_KEY
    a=$(trainyard submit -q --data "d=slow/set:download" -- sh -c 'sha256sum < "$AZUREML_DATAREFERENCE_d/big"')
    check "a run fetches a folder" until_true 20 grep -q "set/big busy" "$T/front"
    b=$(trainyard submit -q --data "d=slow/set/big:download" -- sh -c 'sha256sum < "$AZUREML_DATAREFERENCE_d"')
    trainyard wait "$a" > /dev/null 2>&1; trainyard wait "$b" > /dev/null 2>&1
    equal "another one that wants a file of it waits for that" "$(sha256sum < ../set/big) $(sha256sum < ../set/big)" "$(trainyard logs "$a") $(trainyard logs "$b")"
    has "...and says so" "$(notes_of "$b")" "data reference 'd': another run downloads the same data; this one waits for it"
    run=$(trainyard submit -q --data "o=slow/denied:upload" -- sh -c 'cd "$AZUREML_DATAREFERENCE_o" && for i in $(seq 300); do echo $i > $i; done')
    trainyard wait "$run" > /dev/null 2>&1
    named=$(warnings_of "$run" | grep -c "was not put into datastore 'slow'")
    more=$(warnings_of "$run" | sed -n 's/.*: \([0-9]*\) more files were not put there.*/\1/p')
    equal "a store that refuses the first file gets no other, and all that are not there are counted" 300 $((named + ${more:-0}))
    # What somebody fetches that never comes holds nobody who wants something else, nor what has come meanwhile.
    rm -rf "$cache"
    front_start "$T" "$AZ_ENDPOINT" "GET,set/big,hold,0,1000"
    check "a store that keeps silent about a file is registered" trainyard data add silent --kind azureblob --account "$AZ_ACCOUNT" --container con --endpoint "http://$FRONT/$AZ_ACCOUNT" --protocol http --key-env AZ_KEY
    a=$(trainyard submit -q --data "d=silent:download" -- true)
    check "a run fetches all of it" until_true 20 grep -q "set/big hold" "$T/front"
    b=$(trainyard submit -q --data "d=silent/set/sub:download" -- sh -c 'cat "$AZUREML_DATAREFERENCE_d/f1"')
    check "another one that wants a folder of it ends meanwhile" trainyard wait "$b"
    equal "...and has it" "file 1" "$(trainyard logs "$b")"
    equal "...while the first one still waits" Queued "$(state_of "$a")"
    has "the cache is shown" "$(trainyard data cache --plain)" "$FRONT/$AZ_ACCOUNT/con"
    trainyard cancel "$a" > /dev/null
    trainyard wait "$a" > /dev/null 2>&1
    front_stop
}

fuse=1
command -v rclone > /dev/null && command -v fusermount3 > /dev/null && [ -r /dev/fuse ] && [ -w /dev/fuse ] || fuse=0

if azurite_start "$T/azurite"; then
    azure PUT /con restype=container > /dev/null < /dev/null
    check "a container is registered" trainyard data add az --kind azureblob --account "$AZ_ACCOUNT" --container con --endpoint "$AZ_URL" --protocol http --key-env AZ_KEY
    the_store az
    if [ $fuse = 1 ]; then
        a_mount az "mounted by rclone"
        run=$(trainyard submit -q --data "m=az/set:mount" -- sh -c 'for p in /proc/[0-9]*; do tr "\0" " " < $p/cmdline 2> /dev/null | grep "^[^ ]*rclone mount"; done; true')
        trainyard wait "$run" > /dev/null 2>&1
        said=$(trainyard logs "$run")
        has "rclone's command line is seen" "$said" "rclone mount ty:con/set"
        equal "...and has neither a key nor a SAS" "" "$(printf '%s\n' "$said" | grep -F -e sig= -e "$AZ_KEY")"
    else
        a_mount az "it is not mounted, but brought before the script" filled
    fi
    the_trouble
else
    skip "data in Azure Blob" "$objects_why"
fi
if s3_start; then
    export S3_KEY=S3RVER
    check "a bucket is registered" trainyard data add s3 --bucket tbk --endpoint "$S3_URL" --key-id S3RVER --key-env S3_KEY
    the_store s3
    if [ $fuse = 1 ]; then
        a_mount s3 "mounted by rclone"
        # Where FUSE cannot come in: a private view of the files.
        if command -v bwrap > /dev/null; then
            trainyard data add view --bucket tbk --prefix view --endpoint "$S3_URL" --key-id S3RVER --key-env S3_KEY
            check "view: data are put" trainyard data put ../set view:set
            a_mount view "it is not mounted, but brought before the script" filled --sandbox
        else
            skip "a mount in a private view" "bubblewrap is not here"
        fi
    else
        skip "a mount by rclone" "rclone, fuse3 or /dev/fuse is not here"
    fi
    run=$(trainyard submit -q --data "d=s3/set:download" -- sh -c 'cat "$AZUREML_DATAREFERENCE_d/sub/f1"')
    trainyard wait "$run" > /dev/null 2>&1
    equal "it is still there" "file 1" "$(trainyard logs "$run")"

    # ---- two at once ----
    rm -rf "$cache"
    a=$(trainyard submit -q --data "d=s3/set:download" -- sh -c 'sh look.sh "$AZUREML_DATAREFERENCE_d"')
    b=$(trainyard submit -q --data "d=s3/set:download" -- sh -c 'sh look.sh "$AZUREML_DATAREFERENCE_d"')
    trainyard wait "$a" > /dev/null 2>&1; trainyard wait "$b" > /dev/null 2>&1
    equal "two runs at once have the same" "$(trainyard logs "$a")" "$(trainyard logs "$b")"
else
    skip "data in S3" "$s3_why"
fi
equal "no key is in what people can read" "" "$(grep -rlF -e "${AZ_KEY:-none of these}" "$TRAINYARD_HOME/log" "$TRAINYARD_HOME"/*.log 2> /dev/null)"
