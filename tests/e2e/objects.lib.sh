# objects.lib.sh - real servers of object stores for tests: Azurite, which is Microsoft's own emulator of Azure Blob
#
# They come from the public npm index, are kept in build/test-servers, which all builds share, and are fetched once.
# Where that index or npm is not there, objects_need fails and sets objects_why, and the test skips what needs them by name.
#
# Sourced:    . objects.lib.sh           with or without lib.sh; the caller calls azurite_stop at its end (trap)
# Run:        objects.lib.sh azurite     starts one in a folder of its own, writes one line of JSON about it
#                                        ({"port","account","key","url","endpoint"}), and ends it when its standard input ends
#
# After azurite_start: AZ_PORT, AZ_ACCOUNT, AZ_KEY (base64), AZ_ENDPOINT (127.0.0.1:PORT), AZ_URL (http://127.0.0.1:PORT/ACCOUNT).
# azure METHOD PATH ...   a signed request by Python, which is no code of ours: see objects_azure.py

AZ_PID= FRONT_PID=
OBJECTS_HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
OBJECTS_CACHE=${TRAINYARD_TEST_SERVERS:-$(cd "$OBJECTS_HERE/../.." && pwd)/build/test-servers}
AZURITE_VERSION=3.35.0      # the last one that runs on Node 18 too
objects_why=

# objects_need PACKAGE VERSION: it is in $OBJECTS_CACHE/PACKAGE-VERSION/node_modules afterwards.  Two tests that need it at once fetch it once.
objects_need() {
    local place=$OBJECTS_CACHE/$1-$2 new
    [ -e "$place/node_modules/$1/package.json" ] && return 0
    if ! command -v npm >/dev/null || ! command -v node >/dev/null; then
        objects_why="there is no npm to fetch $1 with"
        return 1
    fi
    mkdir -p "$OBJECTS_CACHE" || return 1
    (
        flock 9
        [ -e "$place/node_modules/$1/package.json" ] && exit 0
        new=$place.new
        rm -rf "$new" "$place" && mkdir -p "$new" &&
            timeout 300 npm install --prefix "$new" --cache "$OBJECTS_CACHE/npm" --no-audit --no-fund --no-update-notifier --ignore-scripts \
                --omit=dev --fetch-retries=1 --fetch-retry-mintimeout=1000 "$1@$2" >"$OBJECTS_CACHE/$1.log" 2>&1 &&
            mv "$new" "$place"
    ) 9>"$OBJECTS_CACHE/$1.lock" && return 0
    objects_why="$1 cannot be fetched by npm: $(grep -m1 -E 'ERR!|npm error' "$OBJECTS_CACHE/$1.log" 2>/dev/null)"
    return 1
}

objects_gone() { [ ! -e "/proc/$1" ] || [ "$(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f1)" = Z ]; }

# azurite_start FOLDER [PORT]: at AZ_HOST (default: 127.0.0.1); its files lie in FOLDER; it can be started there again, with what it holds, at the same port.
azurite_start() {
    local dir=$1 n=900
    objects_need azurite "$AZURITE_VERSION" || return 1
    mkdir -p "$dir" || return 1
    AZ_ACCOUNT=${AZ_ACCOUNT:-tyaccount}
    AZ_KEY=${AZ_KEY:-$(head -c 64 /dev/urandom | base64 -w0)}
    : >"$dir/out"
    AZURITE_ACCOUNTS="$AZ_ACCOUNT:$AZ_KEY" node "$OBJECTS_CACHE/azurite-$AZURITE_VERSION/node_modules/azurite/dist/src/blob/main.js" \
        --blobHost "${AZ_HOST:-127.0.0.1}" --blobPort "${2:-0}" --location "$dir" --disableTelemetry --disableProductStyleUrl </dev/null >"$dir/out" 2>&1 9>&- &
    AZ_PID=$!
    AZ_PORT=
    while [ $n -gt 0 ] && ! objects_gone $AZ_PID; do
        AZ_PORT=$(sed -n 's,.*listens on http://[0-9.]*:\([0-9]*\).*,\1,p' "$dir/out" | tail -1)
        [ -n "$AZ_PORT" ] && break
        sleep 0.1
        n=$((n - 1))
    done
    if [ -z "$AZ_PORT" ]; then
        objects_why="Azurite does not start: $(tail -1 "$dir/out")"
        azurite_stop
        return 1
    fi
    AZ_ENDPOINT=${AZ_HOST:-127.0.0.1}:$AZ_PORT
    AZ_URL=http://$AZ_ENDPOINT/$AZ_ACCOUNT
    export AZ_PORT AZ_ACCOUNT AZ_KEY AZ_ENDPOINT AZ_URL
}

azurite_stop() {
    local n=50
    [ -n "$AZ_PID" ] || return 0
    kill "$AZ_PID" 2>/dev/null
    while [ $n -gt 0 ] && ! objects_gone "$AZ_PID"; do sleep 0.1; n=$((n - 1)); done
    kill -9 "$AZ_PID" 2>/dev/null
    wait "$AZ_PID" 2>/dev/null
    AZ_PID=
}

# azure METHOD /CONTAINER[/BLOB] [QUERY] [HEADER: VALUE]...   body on standard input of a PUT; prints the answer's body; fails over status 299
# azure sas CONTAINER [sp=rcwdl] [st=...] [se=...] [...]      a SAS of the container, without '?'
azure() { /usr/bin/python3 "$OBJECTS_HERE/objects_azure.py" "$@"; }

# front_start FOLDER HOST:PORT RULE...: a faulty server before that one (objects_front.py); FRONT is its HOST:PORT, FOLDER/front what it has done
front_start() {
    local dir=$1 n=1200 port
    shift
    front_stop
    rm -f "$dir/front.in" && mkfifo "$dir/front.in" && : >"$dir/front" || return 1
    /usr/bin/python3 "$OBJECTS_HERE/objects_front.py" "$@" <"$dir/front.in" >"$dir/front" 2>"$dir/front.err" &
    FRONT_PID=$!
    exec 7>"$dir/front.in"
    while [ $n -gt 0 ] && ! objects_gone $FRONT_PID; do
        port=$(sed -n 1p "$dir/front")
        [ -n "$port" ] && break
        sleep 0.05
        n=$((n - 1))
    done
    FRONT=127.0.0.1:$port
    [ -n "$port" ]
}

front_stop() {
    [ -n "$FRONT_PID" ] || return 0
    exec 7>&-
    kill "$FRONT_PID" 2>/dev/null
    wait "$FRONT_PID" 2>/dev/null
    FRONT_PID=
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    waiter=
    [ "$1" = azurite ] || { echo "usage: objects.lib.sh azurite" >&2; exit 2; }
    T=$(mktemp -d "${TMPDIR:-/tmp}/ty-objects.XXXXXX")
    trap 'kill $waiter 2>/dev/null; azurite_stop; rm -rf "$T"' EXIT
    trap 'exit 1' TERM INT HUP
    azurite_start "$T/azurite" || { echo "$objects_why" >&2; exit 1; }
    printf '{"port":%s,"account":"%s","key":"%s","url":"%s","endpoint":"%s"}\n' "$AZ_PORT" "$AZ_ACCOUNT" "$AZ_KEY" "$AZ_URL" "$AZ_ENDPOINT"
    exec 8<&0
    cat <&8 >/dev/null & waiter=$!  # so that a signal is heard at once
    wait $waiter
fi
