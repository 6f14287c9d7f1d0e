#!/bin/bash
# What `make install` puts in place works by itself: the programs, the Python packages, and the C library for others.
. "$(dirname "$0")/lib.sh"
unset PYTHONPATH
# As sudo does it: with a PATH that knows nothing of the build folder.
check "it is installed" env PATH="${PATH#"$BUILD":}" meson install -C "$BUILD" --destdir "$T/root"
top=$(dirname "$(dirname "$(find "$T/root" -name trainyardd)")")
export PATH=$top/bin:/usr/bin:/bin
equal "a run of the installed programs" "made by trainyard" \
    "$(trainyard run -- /usr/bin/python3 -c 'from azureml.core import Run; Run.get_context().log("a", 1); print("made by trainyard")' 2>/dev/null)"
equal "...whose metrics were kept" 1 "$(trainyard metrics @last --json | $PY -c 'import json,sys; print(json.load(sys.stdin)["metrics"]["a"])')"
# An image has nothing but the folder itself: no bin/ that ".." could leave.
equal "...which finds the packages by their plain name" "$top/lib/trainyard/python" \
    "$(trainyard run -- /bin/sh -c 'echo "${PYTHONPATH##*:}"' 2>/dev/null)"
exits "Python finds the service" 0 env PYTHONPATH="$top/lib/trainyard/python" $PY -c \
    'from azureml.core import Workspace; print([e for e in Workspace.from_config().experiments])'
has "...and its experiment" "$out" "project"

man=$top/share/man
plain() { sed 's/.\x08//g'; }
equal "each command has a page of the manual" "$(trainyard help | sed -n '/^Start:/,/^Options/s/^  \([a-z]*\)\( [a-z]\{2,\}\)\{0,1\}  .*/\1\2/p' | tr ' ' - | sort)" \
    "$(cd "$man/man1" && ls trainyard-*.1 | sed 's/^trainyard-//; s/\.1$//' | sort)"
exits "...without a mistake in their language" 0 sh -c "mandoc -T lint -W warning '$man'/man1/*.1 '$man'/man5/*.5"
page=$(mandoc -T ascii "$man/man1/trainyard-run.1" | plain)
has "...which says what --help says" "$page" "The exit code is the job's own \(128 \+ signal\)"
has "...with the options" "$page" "--max-run-duration TIME"
has "...and the examples" "$page" "trainyard run --env SEED=1 --cpus 2 --max-run-duration 2h -- ./train.sh"
has "...one lists the exit codes" "$(mandoc -T ascii "$man/man1/trainyard.1" | plain)" "^ *125 +run, rerun"
has "...and one the configuration" "$(mandoc -T ascii "$man/man5/trainyard-config.5" | plain)" "limits.snapshot_bytes \(bytes; default 300MB\)"
has "completion is where bash looks" "$(bash -c ". '$top/share/bash-completion/completions/trainyard'; complete -p trainyard")" "_trainyard trainyard"
check "...where zsh looks" grep -q '^#compdef trainyard' "$top/share/zsh/site-functions/_trainyard"
check "...and where fish looks" grep -q 'complete -c trainyard' "$top/share/fish/vendor_completions.d/trainyard.fish"

has "the service manager finds the unit" "$(cat "$top/lib/systemd/system/trainyard.service")" "^ExecStart=.*/bin/trainyard serve --system"

cat > client.c <<'X'
#include <stdio.h>
#include <trainyard/client.h>
int main(void)
{
    struct ty_client *c;
    struct ty_error err = { 0 };
    struct ty_reply reply = { 0 };

    if (ty_client_open(NULL, &c, &err) < 0 || ty_client_request(c, "GET", "/api/v1/runs", NULL, &reply, &err) < 0) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    puts(reply.body);
    ty_reply_done(&reply);
    if (ty_client_request(c, "GET", "/api/v1/runs/none", NULL, &reply, &err) == 0)
        return 2;
    fprintf(stderr, "%s\n", err.text);
    ty_client_free(c);
    return 0;
}
X
lib=$(dirname "$(find "$T/root" -name libtrainyard.so)")
for std in c99 c17; do
    check "a C program of others compiles ($std)" gcc -std=$std -Wall -Wextra -Werror -pedantic -o client client.c \
        -I"$top/include" -L"$lib" -ltrainyard
done
echo "#include <trainyard/client.h>" > client.cc
check "...and the header is C++ too" g++ -Wall -Wextra -Werror -fsyntax-only -I"$top/include" client.cc
exits "...and speaks to the daemon" 0 env LD_LIBRARY_PATH="$lib" ./client
has "...about the runs" "$out" '"state":"Completed"'
has "...and has its sentences" "$out" "no run 'none'"
equal "the library shows what its header declares, and nothing else" \
    "$(grep -o 'ty_[a-z_]*(' "$top/include/trainyard/client.h" | tr -d '(' | sort -u | tr '\n' ' ')" \
    "$(nm -D --defined-only "$lib/libtrainyard.so" | awk '{print $3}' | sort -u | tr '\n' ' ')"

trainyard down 2>/dev/null
check "it is removed again" "$SOURCE/tools/uninstall" "$BUILD"
equal "...to the last file" "" "$(find "$T/root" ! -type d)"
