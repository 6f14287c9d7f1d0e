#!/bin/bash
# Views: a job sees the machine's files, bubblewrap's view of them, or those of an image that podman runs.
# The image is made of this machine's own Python and shell, so that no registry is needed.
. "$(dirname "$0")/lib.sh"
has_python=$([ ! -d "$BUILD/python" ] || echo yes) # before the next line gives a sanitized build some
. "$SOURCE/tests/e2e/env.lib.sh"
trap 'code=$?; index_stop; (exit $code); at_end' EXIT
lacks() { if printf '%s\n' "$2" | grep -qF -- "$3"; then not_ok "$1" "'$3' in:" "$2"; else ok "$1"; fi; }
spec_run() { trainyard api experiments/views/runs -X POST -d "$1" 2>&1; }
# A run of `sh -c SCRIPT` with the environment given, submitted through the API: prints its name.
submit_sh() { spec_run "$($PY - "$1" "$2" "${3:-{\}}" <<'P'
import json, sys
print(json.dumps({"version": 1, "command": ["/bin/sh", "-c", sys.argv[2]], "environment": json.loads(sys.argv[1]),
                  "environment_variables": json.loads(sys.argv[3])}))
P
)" | field id; }
log_of() { trainyard logs "$1" 2>/dev/null; }
ends_well() { trainyard wait -q "$1" >/dev/null 2>&1 || { trainyard show "$1"; trainyard logs "$1" --file azureml-logs/60_control_log.txt; log_of "$1"; return 1; }; }

# ---- the sandbox ----
echo mine > "$T/outside"
if ! command -v bwrap >/dev/null; then
    skip "a sandbox" "bubblewrap is not here"
else
    run=$(submit_sh '{"sandbox": true}' "ls $T/outside; touch /usr/share/x; touch \$HOME/scratch && echo home; echo kept > outputs/kept; pwd; ls -A \$HOME")
    check "a run in a sandbox ends well" ends_well "$run"
    log=$(log_of "$run")
    lacks "does not see other files in /tmp" "$log" "mine"
    has "as if they were not there" "$log" "No such file"
    has "cannot change the machine" "$log" "Read-only file system"
    has "has an empty home folder to write to" "$log" "home"
    check "that is gone afterwards" test ! -e "$HOME/scratch"
    equal "and keeps its outputs" kept "$(trainyard api "runs/$run/files/outputs/kept")"
    # What starts the run is found, with what it needs beside it, where that lies in a folder that the sandbox empties.
    mkdir -p "$T/kit/bin" "$T/kit/lib" "$T/venv/bin"
    echo "of the kit" > "$T/kit/lib/word"
    printf '#!/bin/sh\ncat "%s/kit/lib/word"; ls "%s"\n' "$T" "$T" > "$T/kit/bin/tool"
    chmod 755 "$T/kit/bin/tool"
    ln -s "$T/kit/bin/tool" "$T/venv/bin/tool"
    run=$(trainyard submit -q --sandbox -- "$T/venv/bin/tool")
    check "a program that lies in such a folder is started in a sandbox" ends_well "$run"
    log=$(log_of "$run")
    has "by its link and with what lies beside it" "$log" "of the kit"
    lacks "but nothing else of there" "$log" "outside"
    run=$(trainyard submit -q --sandbox --data out=workspaceblobstore/not/yet -- sh -c 'mkdir -p $AZUREML_DATAREFERENCE_out && echo kept > $AZUREML_DATAREFERENCE_out/f')
    check "a mount of what is not there yet can be written to" ends_well "$run"
    has "and is in the datastore afterwards" "$(trainyard data ls workspaceblobstore:not 2>&1)" "not/yet/f"
    cat > both.py <<'P'
import torch, horovod.torch as hvd
hvd.init()
print("sum", int(hvd.allreduce(torch.tensor([hvd.rank() + 1.0]), op=hvd.Sum)[0]), hvd.size(), flush=True)
P
    [ -z "$has_python" ] || {
    run=$(trainyard submit -q --sandbox --procs 2 --backend mpi -- $PY both.py)
    check "two processes in sandboxes find each other" ends_well "$run"
    equal "and share their sum" "sum 3 2" "$(log_of "$run" | grep -o 'sum.*' | sort -u)"
    }
fi

# ---- nothing that runs images ----
mkdir -p "$T/bin"
exits "an image with a bad name is refused" 1 spec_run '{"version":1,"command":["/bin/true"],"environment":{"image":{"name":"a b"}}}'

# ---- podman ----
why=
command -v podman >/dev/null && command -v runc >/dev/null || why="podman and runc are not here"
[ -n "$why" ] || [ "$(id -u)" = 0 ] || why="only root has been set up for podman here"
if [ -z "$why" ]; then
    # Its store, its limits and its cgroups are the test's own; crun does not run where both versions of cgroups are mounted.
    printf '[containers]\n[engine]\nruntime="runc"\ncgroup_manager="cgroupfs"\nevents_logger="file"\n' > "$T/containers.conf"
    printf '[storage]\ndriver="vfs"\ngraphroot="%s/store"\nrunroot="%s/runroot"\n' "$T" "$T" > "$T/storage.conf"
    export CONTAINERS_CONF=$T/containers.conf CONTAINERS_STORAGE_CONF=$T/storage.conf
    R=$T/root
    mkdir -p "$R"/{usr/bin,usr/lib,bin,lib,lib64,tmp,proc,sys,dev,etc,run}
    take() { for f in "$@"; do cp --parents -L "$f" "$R/" 2>/dev/null; for l in $(ldd "$f" 2>/dev/null | grep -o '/[^ ]*'); do mkdir -p "$R$(dirname "$l")"; cp -Ln "$l" "$R$l"; done; done; }
    take /usr/bin/python3.11 /bin/sh /bin/ls /bin/cat /bin/sleep /usr/bin/touch
    ln -s python3.11 "$R/usr/bin/python3"
    cp --parents -a /usr/lib/python3.11 "$R/";  rm -rf "$R"/usr/lib/python3.11/{test,idlelib,tkinter,ensurepip,pydoc_data,lib2to3}
    take $(find /usr/lib/python3.11/lib-dynload -name '*.so')
    echo 'root:x:0:0::/root:/bin/sh' > "$R/etc/passwd"
    echo "of the image" > "$R/etc/os-name"
    if ! tar -C "$R" -c . | podman import - tytest:1 >"$T/import.log" 2>&1 ||
       ! timeout 60 podman run --rm --network host --ulimit "nofile=$(ulimit -Sn):$(ulimit -Hn)" --ulimit nproc=4096:4096 tytest:1 /bin/sh -c 'exit 0' >"$T/try.log" 2>&1; then
        why="podman cannot run a container here: $(tail -n 1 "$T/try.log" "$T/import.log" 2>/dev/null | tr '\n' ' ')"
    fi
    # The same with a pip in it.
    mkdir -p "$R/usr/lib/python3/dist-packages"
    cp -a /usr/lib/python3/dist-packages/pip /usr/lib/python3/dist-packages/pip-*-info "$R/usr/lib/python3/dist-packages/" 2>/dev/null
    [ -n "$why" ] || tar -C "$R" -c . | podman import - tytest:2 >"$T/import.log" 2>&1 || why="podman cannot import: $(tail -n 1 "$T/import.log")"
    rm -rf "$R"
fi
if [ -n "$why" ]; then
    skip "an image" "$why"
else
    tool="{\"CONTAINERS_CONF\": \"$CONTAINERS_CONF\", \"CONTAINERS_STORAGE_CONF\": \"$CONTAINERS_STORAGE_CONF\", \"WORD\": \"one two\"}"
    no_container() { [ -z "$(podman ps -aq)" ]; }
    run=$(submit_sh '{"image": {"name": "tytest:1"}}' 'cat /etc/os-name; echo "[$WORD] $RANK"; pwd; echo kept > outputs/kept; python3 -c "import sys; print(sys.prefix)"; exit 0' "$tool")
    check "a run from an image ends well" ends_well "$run"
    log=$(log_of "$run")
    has "and sees the image's files" "$log" "of the image"
    has "the run's variables" "$log" "one two. 0"
    has "its working directory" "$log" "/jobs/$run/work"
    has "and the image's Python" "$log" "/usr"
    run=$(submit_sh '{"image": {"name": "tytest:1"}}' 'exit 7' "$tool")
    exits "its exit code is the script's" 1 trainyard wait -q "$run"
    equal "by number" 7 "$(trainyard show "$run" --json | field exit_code)"
    # The script of a Python run, with our package in it; sanitized builds have none.
    [ -z "$has_python" ] || {
    cat > inside.py <<'P'
from azureml.core import Run
run = Run.get_context()
run.log("inside", 1.5)
print("logged from", open("/etc/os-name").read().strip())
P
    run=$(trainyard submit -q --image tytest:1 --env "CONTAINERS_CONF=$CONTAINERS_CONF" --env "CONTAINERS_STORAGE_CONF=$CONTAINERS_STORAGE_CONF" -- $PY inside.py)
    check "a script runs with the image's Python" ends_well "$run"
    named=$(PATH=$PATH:$T/here trainyard submit -q --image tytest:1 --env "CONTAINERS_CONF=$CONTAINERS_CONF" --env "CONTAINERS_STORAGE_CONF=$CONTAINERS_STORAGE_CONF" -- sh -c 'echo "found on $PATH"')
    check "a program is looked up in the image" ends_well "$named"
    lacks "on the image's PATH" "$(log_of "$named")" "$T/here"
    has "which is the image's" "$(log_of "$run")" "logged from of the image"
    has "and logs metrics" "$(trainyard metrics --plain "$run" 2>/dev/null)" "inside"
    }
    # Packages on top of it
    index_start
    wheel tyone 1.0
    wheel tytwo 1.0 tyone
    asks() { printf '{"image": {"name": "%s"}, "pip": {"packages": ["%s"], "index_url": "%s"}}' "$1" "$2" "$INDEX_URL"; }
    say='python3 -c "import sys, tytwo, tyone; print(tyone.__version__, sys.prefix)"; cat /etc/os-name'
    run=$(submit_sh "$(asks tytest:2 tytwo)" "$say" "$tool")
    check "packages that an image lacks are installed on top of it" ends_well "$run"
    log=$(log_of "$run")
    has "into a prefix of the cache" "$log" "1.0 $TRAINYARD_HOME/cache/envs/"
    has "which its Python has" "$log" "of the image"
    equal "the record says what was built" "True tytwo tyone" "$(of "$run" built) $(of "$run" lock.pip.0.name) $(of "$run" lock.pip.1.name)"
    equal "...and of which image" "tytest:2 $(podman image inspect --format '{{.Id}}' tytest:2)" "$(of "$run" image.name) $(of "$run" image.id)"
    has "...the log is one of the run" "$(cat "$(build_log "$run")")" "Collecting tytwo"
    asked=$(requests)
    again=$(submit_sh "$(asks tytest:2 tytwo)" "$say" "$tool")
    check "another run" ends_well "$again"
    equal "finds them built" "False $asked" "$(of "$again" built) $(requests)"
    check "no container of a build is left" no_container
    wheel tyone 2.0
    exact=$(trainyard rerun --exact -d -q "$run" 2>/dev/null)
    trainyard env gc --all >/dev/null
    check "rerun --exact has the same" ends_well "$exact"
    has "in its versions" "$(log_of "$exact")" "^1.0 "
    run=$(submit_sh "$(asks tytest:2 tynosuch)" "$say" "$tool")
    exits "a package that nobody has ends the run" 1 timeout 180 trainyard wait -q "$run"
    has "in the resolver's words" "$(trainyard show "$run" --json)" "No matching distribution found for tynosuch"
    run=$(submit_sh "$(asks tytest:1 tytwo)" "$say" "$tool")
    exits "an image without pip ends it, too" 1 timeout 180 trainyard wait -q "$run"
    has "with the reason" "$(trainyard show "$run" --json)" "on top of the image 'tytest:1': its Python has neither a pip"
    run=$(submit_sh '{"image": {"name": "tytest:2"}, "conda": {"packages": ["zlib"]}}' "$say" "$tool")
    exits "packages of conda end it" 1 timeout 180 trainyard wait -q "$run"
    has "with the way out" "$(trainyard show "$run" --json)" "packages of conda cannot be installed on top of the image"
    # Cancelled
    run=$(submit_sh '{"image": {"name": "tytest:1"}}' 'echo begun; sleep 600' "$tool")
    begun() { log_of "$run" | grep -q begun; }
    check "one that runs" until_true 20 begun
    check "can be cancelled" trainyard cancel "$run"
    exits "and is" 1 trainyard wait -q "$run"
    equal "with its state" Canceled "$(state_of "$run")"
    check "and leaves no container" until_true 20 no_container
    # Killed hard: the runner is gone
    run=$(submit_sh '{"image": {"name": "tytest:1"}}' 'echo begun; sleep 600' "$tool")
    check "one whose runner" until_true 20 begun
    kill -9 "$(runner_pid "$run")"
    exits "is killed ends" 1 timeout 60 trainyard wait -q "$run"
    check "and leaves no container either" until_true 20 no_container
    # What is not there
    run=$(submit_sh '{"image": {"name": "localhost:1/none:1"}}' 'exit 0' "$tool")
    exits "an image that cannot be had ends the run" 1 timeout 60 trainyard wait -q "$run"
    has "and says in podman's words why" "$(trainyard show "$run" --json)" "cannot get the image 'localhost:1/none:1'"
    mountpoint -q "$T/store/overlay" && umount "$T/store/overlay"
fi
exit $failed
