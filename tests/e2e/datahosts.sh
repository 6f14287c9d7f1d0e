#!/bin/bash
# Data references of runs on hosts: folders that a host sees are used as they are, the files of others travel.
. "$(dirname "$0")/hosts.lib.sh"
. "$(dirname "$0")/objects.lib.sh"
[ "$TRAINYARD_TEST_LAB" ] || objects_need azurite "$AZURITE_VERSION" # there is no network in the lab
lab_enter "data of runs on hosts" "$@"
. "$(dirname "$0")/lib.sh"
trap 'code=$?; azurite_stop; trainyard down > /dev/null 2>&1; lab_down; (exit $code); at_end' EXIT

mkdir -p "$T/shared" && chmod 777 "$T/shared"
export LAB_SHARED=$T/shared
mkdir -p "$XDG_CONFIG_HOME/trainyard" && printf '[data]\ncache_bytes = 1\n' > "$XDG_CONFIG_HOME/trainyard/config" # what was used within the last hour stays
lab_up h1 h2 || { echo "not ok - the hosts are up"; exit 1; }
put_target() { printf '%s' "$2" > target.json; trainyard api -X PUT "targets/$1" -d @target.json; }
error_of() { trainyard show "$1" --json | field error; }
warnings_of() { trainyard api "runs/$1/events" 2>&1; }
host_sh() { lab_s=$1; shift; host_run "$lab_s" sh -c "$*"; }
far=$LAB_HOME/.cache/trainyard
blobs_there() { host_sh "$1" "find $far/blobs -type f -not -path '*/tmp/*' | wc -l"; }
check "a target of one host is made" put_target one '{"kind": "hosts", "hosts": [{"host": "h1"}]}'
check "...and one of two" put_target two '{"kind": "hosts", "hosts": [{"host": "h1"}, {"host": "h2"}]}'
store=$TRAINYARD_HOME/data/workspaceblobstore

# ---- what a host does not see travels ----
cd "$T" && mkdir -p set/sub "set/with blank"
for i in $(seq 30); do echo "file $i" > "set/sub/f$i"; done
head -c 5000000 /dev/urandom > set/big
printf '' > set/empty
echo x > "set/with blank/ü%.txt"
chmod 755 set/sub/f1
trainyard data put set workspaceblobstore:set > /dev/null || not_ok "data are put"
cd "$T/project" || exit 1
want=$(cd "$store/set" && find . -type f -not -name '.trainyard-*' | sort | xargs -d '\n' sha256sum | sha256sum)
cat > look.sh <<'C'
cd "$1" && find . -type f | sort | xargs -d '\n' sha256sum | sha256sum
[ -w big ] && echo writable
C
run=$(trainyard submit -q --target one --data d=workspaceblobstore/set:download -- sh -c 'sh look.sh "$AZUREML_DATAREFERENCE_d"; hostname')
trainyard wait "$run" > /dev/null 2>&1
equal "a download reaches a host that does not see the folder" Completed "$(state_of "$run")"
has "...whole" "$(trainyard logs "$run")" "^$want"
has "...as the job's own" "$(trainyard logs "$run")" "^writable$"
before=$(blobs_there h1)
run=$(trainyard submit -q --target one --data d=workspaceblobstore/set:download -- sh -c 'sh look.sh "$AZUREML_DATAREFERENCE_d"; echo spoilt > "$AZUREML_DATAREFERENCE_d/big"')
trainyard wait "$run" > /dev/null 2>&1
equal "...a second time nothing is sent" "$before" "$(blobs_there h1)"
run=$(trainyard submit -q --target one --data d=workspaceblobstore/set:download -- sh -c 'sh look.sh "$AZUREML_DATAREFERENCE_d"')
trainyard wait "$run" > /dev/null 2>&1
has "...and what one job writes into its copy no other sees" "$(trainyard logs "$run")" "^$want"
equal "the daemon's store has not taken the data in" 0 "$(find "$TRAINYARD_HOME/blobs" -type f -size +4M | wc -l)"
run=$(trainyard submit -q --target one --data d=workspaceblobstore/set/big:download -- sh -c 'sha256sum < "$AZUREML_DATAREFERENCE_d"')
trainyard wait "$run" > /dev/null 2>&1
equal "a single file is downloaded" "$(sha256sum < ../set/big)" "$(trainyard logs "$run")"
run=$(trainyard submit -q --target one --data d=workspaceblobstore/nothing-there:download -- true)
trainyard wait "$run" > /dev/null 2>&1
equal "data that are nowhere end the run" Failed "$(state_of "$run")"
has "...and are named" "$(error_of "$run")" "data reference 'd': cannot read 'nothing-there' of datastore 'workspaceblobstore': No such file"

# ---- and comes back ----
run=$(trainyard submit -q --target one --data o=workspaceblobstore/back:upload -- sh -c 'cd "$AZUREML_DATAREFERENCE_o" && mkdir -p deep && echo one > a && echo one > deep/same && printf "" > empty && head -c 3000000 /dev/zero > deep/zeros && mkfifo pipe')
trainyard wait "$run" > /dev/null 2>&1
equal "an upload from a host ends well" Completed "$(state_of "$run")"
equal "...and is in the datastore" "one one 0 3000000" "$(cat "$store/back/a") $(cat "$store/back/deep/same") $(stat -c %s "$store/back/empty") $(stat -c %s "$store/back/deep/zeros")"
has "...what is no file is named" "$(warnings_of "$run")" "'pipe' is not sent back to datastore 'workspaceblobstore': it is not a regular file"
run=$(trainyard submit -q --target one --data o=workspaceblobstore/back:upload -- sh -c 'cd "$AZUREML_DATAREFERENCE_o" && echo two > a && echo new > b')
trainyard wait "$run" > /dev/null 2>&1
equal "nothing is replaced" one "$(cat "$store/back/a")"
equal "...what is new comes all the same" new "$(cat "$store/back/b")"
has "...and what is kept out is named" "$(warnings_of "$run")" "data reference 'o': 'a' was not brought back to datastore 'workspaceblobstore': there is another file of that name"
run=$(trainyard submit -q --target two --nodes 2 --backend gloo --data o=workspaceblobstore/both:upload -- sh -c 'echo "of $(hostname)" > "$AZUREML_DATAREFERENCE_o/$(hostname)"')
trainyard wait "$run" > /dev/null 2>&1
equal "an upload from two hosts has the files of both" "of h1 of h2 " "$(cat "$store/both/h1") $(cat "$store/both/h2") $(warnings_of "$run" | grep -o '"text".*')"

# ---- mounts ----
run=$(trainyard submit -q --target one --data m=workspaceblobstore/set:mount -- sh -c 'cd "$AZUREML_DATAREFERENCE_m" && cat sub/f7 && echo changed > sub/f7 && echo new > sub/new')
trainyard wait "$run" > /dev/null 2>&1
equal "a mount reaches a host that does not see the folder" "file 7" "$(trainyard logs "$run")"
equal "...what the job changed there comes back, and what it made" "changed new" "$(cat "$store/set/sub/f7") $(cat "$store/set/sub/new")"
equal "...and nothing else was touched" "file 8" "$(cat "$store/set/sub/f8")"
cat > slow.sh <<'C'
cd "$AZUREML_DATAREFERENCE_m" && echo begun
while ! [ -e "$AZUREML_DATAREFERENCE_s/go" ]; do sleep 0.05; done
echo mine > sub/f9
C
saw() { trainyard logs "$1" 2> /dev/null | grep -qx "$2"; }

# ---- a folder that is the same there ----
mkdir "$T/shared/sets" && echo here > "$T/shared/sets/x"
printf '{"kind": "file", "config": {"root": "%s"}}' "$T/shared" > store.json
check "a datastore in a folder that the hosts share is registered" trainyard api -X PUT datastores/shared -d @store.json
run=$(trainyard submit -q --target one --data m=shared/sets:mount -- sh -c 'echo "$AZUREML_DATAREFERENCE_m"; cat "$AZUREML_DATAREFERENCE_m/x"; echo direct > "$AZUREML_DATAREFERENCE_m/y"')
trainyard wait "$run" > /dev/null 2>&1
equal "a folder that is the same there is used as it is" "$T/shared/sets here" "$(trainyard logs "$run" | tr '\n' ' ' | sed 's/ $//')"
equal "...and written to" direct "$(cat "$T/shared/sets/y")"

# ---- data that change ----
run=$(trainyard submit -q --target one --data m=workspaceblobstore/set:mount --data s=shared/sets:mount -- sh slow.sh)
check "a run with a mount begins" until_true 20 saw "$run" begun
echo theirs > "$store/set/sub/f9"; rm "$store/set/sub/f10"
: > "$T/shared/sets/go"
trainyard wait "$run" > /dev/null 2>&1
equal "a file that somebody else changed meanwhile is not replaced" theirs "$(cat "$store/set/sub/f9")"
has "...and named" "$(warnings_of "$run")" "data reference 'm': 'sub/f9' was not brought back .*it was changed there while the run was running"
has "...as are all that changed" "$(warnings_of "$run")" "data reference 'm': 2 files of datastore 'workspaceblobstore' changed while the run was running .*sub/f9, sub/f10"

# ---- a host that leaves the network ----
run=$(trainyard submit -q --target one --data o=workspaceblobstore/cut:upload -- sh -c 'cd "$AZUREML_DATAREFERENCE_o" && echo begun; for i in $(seq 300); do head -c 20000 /dev/urandom > f$i; done')
check "a run with an upload begins" until_true 20 saw "$run" begun
ssh_cut h1
trainyard wait "$run" > /dev/null 2>&1
equal "a channel that breaks costs no file" "Completed 300" "$(state_of "$run") $(ls "$store/cut" | wc -l)"
equal "...and leaves nothing half" "" "$(find "$store" -name '.trainyard-put*')"
rm -rf "$store/set/sub"

# ---- object stores, which hosts talk to themselves ----
if AZ_HOST=10.88.0.1 azurite_start "$T/azurite"; then
    azure PUT /con restype=container > /dev/null < /dev/null
    check "a container is registered" trainyard data add az --kind azureblob --account "$AZ_ACCOUNT" --container con --endpoint "$AZ_URL" --protocol http --key-env AZ_KEY
    trainyard data put ../set az:set > /dev/null
    whole=$(cd ../set && find . -type f | sort | xargs -d '\n' sha256sum | sha256sum)
    run=$(trainyard submit -q --target two --nodes 2 --backend gloo --data d=az/set:download --data m=az/set:mount --data o=az/out:upload -- sh -c 'sh look.sh "$AZUREML_DATAREFERENCE_d"; echo "of $(hostname)" > "$AZUREML_DATAREFERENCE_o/$(hostname)"; echo "mount of $(hostname)" > "$AZUREML_DATAREFERENCE_m/$(hostname)"')
    trainyard wait "$run" > /dev/null 2>&1
    equal "two hosts fetch from an object store" "Completed $whole $whole" "$(state_of "$run") $(trainyard logs "$run" --rank 0 | grep -- -$) $(trainyard logs "$run" --rank 1 | grep -- -$)"
    trainyard data get az:out ../got > /dev/null; trainyard data get az:set ../got > /dev/null
    equal "...and what each leaves is there" "of h1 of h2 mount of h1 mount of h2" "$(cat ../got/out/h1) $(cat ../got/out/h2) $(cat ../got/set/h1) $(cat ../got/set/h2)"
    check "...which each has in its own cache" host_sh h2 "test -n \"\$(find $far/data -type f -perm 444)\""
    check "no key is left on the hosts" host_sh h1 "! grep -rqF '$AZ_KEY' $far"
    host_sh h1 "find $far/data -type f -perm 444 -exec touch -a -d '2 hours ago' {} +"
    echo more > ../more && trainyard data put ../more az:more > /dev/null
    run=$(trainyard submit -q --target one --data d=az/more:download -- sh -c 'cat "$AZUREML_DATAREFERENCE_d"')
    trainyard wait "$run" > /dev/null 2>&1
    equal "a host fetches something else" more "$(trainyard logs "$run")"
    equal "...and its cache has no more than it may, but what was just used" 1 "$(host_sh h1 "find $far/data -type f -perm 444 | wc -l")"

    # ---- a dataset of several pieces, from a folder that the hosts do not see and an object store ----
    mkdir -p ../parts/a ../parts/b && for i in 1 2 3; do echo "part $i" > "../parts/a/p$i.txt"; echo "whole $i" > "../parts/b/w$i"; done
    echo no > ../parts/a/no.log
    trainyard data put ../parts workspaceblobstore:parts > /dev/null
    mkdir parts && cat > parts/show.sh <<'C'
cd "$1" && find -L . -type f | sort | xargs -d '\n' sha256sum | sha256sum
C
    mkdir ../want && cp -r ../parts/a ../parts/b ../want && rm ../want/a/no.log && for i in 1 10 11 12; do cp "../set/sub/f$i" ../want; done
    whole=$(cd ../want && find . -type f | sort | xargs -d '\n' sha256sum | sha256sum)
    cat > parts.py <<'P'
import sys
from azureml.core import Dataset, Datastore, Experiment, ScriptRunConfig, Workspace
from azureml.core.runconfig import PyTorchConfiguration
ws = Workspace.from_config()
near, far = ws.get_default_datastore(), Datastore(ws, "az")
dataset = Dataset.File.from_files([(near, "parts/a/*.txt"), (near, "parts/b"), (far, "set/sub/f1"), (far, "set/sub/f1[0-2]")])
given = getattr(dataset.as_named_input("pieces"), "as_" + sys.argv[1])()
config = ScriptRunConfig("parts", command=["sh", "show.sh", given], compute_target="two",
                         distributed_job_config=PyTorchConfiguration(process_count=2, node_count=2))
run = Experiment(ws, "pieces").submit(config)
print(run.id)
P
    for way in mount download; do
        run=$($PY parts.py $way)
        trainyard wait "$run" > /dev/null 2>&1
        equal "two hosts have a dataset of several pieces by $way" "Completed $whole $whole" "$(state_of "$run") $(trainyard logs "$run" --rank 0) $(trainyard logs "$run" --rank 1)"
    done
else
    skip "two hosts fetch from an object store" "$objects_why"
fi

# ---- progress ----
tc qdisc add dev lab0 root tbf rate 40mbit burst 32kb latency 400ms 2> /dev/null && shaped=1 || shaped=0
if [ $shaped = 1 ]; then
    head -c 30000000 /dev/urandom > "$store/large"
    run=$(trainyard submit -q --target one --data d=workspaceblobstore/large:download -- sh -c 'sha256sum < "$AZUREML_DATAREFERENCE_d"')
    trainyard wait "$run" > /dev/null 2>&1
    equal "a slow line brings the data, too" "$(sha256sum < "$store/large")" "$(trainyard logs "$run")"
    log=$(trainyard artifacts get "$run" azureml-logs/60_control_log.txt -o -)
    has "...and the control log says how far it was" "$log" "bringing files to host 'h1': [0-9.]+ MB, [0-9]+ of [0-9]+ files"
    has "...before all that the runner says" "$(printf '%s\n' "$log" | grep -E 'bringing|preparing' | head -1)" "bringing"
    tc qdisc del dev lab0 root
else
    skip "a slow line brings the data, too" "tc or its token bucket is not here"
fi
