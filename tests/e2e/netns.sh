#!/bin/bash
# netns.sh - a world across network namespaces: with a slow network, with one that loses frames, with one that is cut
#
# Four ranks on three "nodes": two share the first.  Between them stands a switch of our own (bench/sim/delay), as not every
# kernel has netem; nobody starts the ranks but the variables that they are given.
. "$(dirname "$0")/lib.sh"
NODE_OF=(0 0 1 2)   # by rank
PREFIX=tynet
switch=
pids=()

space() { echo "$PREFIX-$$-$1"; }
end_ranks() { for p in "${pids[@]}"; do kill -9 "$p"; wait "$p"; done 2>/dev/null; pids=(); }
# frames: how many came to the switch; lost: how many of them it lost
end_switch() {
    [ -n "$switch" ] || return
    { eval "exec ${to_switch}>&-"; read -r -t 10 frames lost <&"$from_switch" || kill "$switch"; wait "$switch"; } 2>/dev/null
    eval "exec ${from_switch}<&-"
    switch=
}
# Those of this test, and of such tests that were killed.
remove_spaces() {
    ip netns list 2>/dev/null | while read -r name rest; do
        maker=${name#"$PREFIX"-}; maker=${maker%-*}
        case $name in "$PREFIX"-*-*) [ "$maker" = $$ ] || [ ! -e "/proc/$maker" ] && ip netns del "$name";; esac
    done
}
clean() { end_ranks; end_switch; remove_spaces; }
trap 'ended=$?; clean; (exit $ended); at_end' EXIT

# allowed: may namespaces and devices in them be made here?
allowed() {
    [ "$(id -u)" = 0 ] && ip netns add "$(space 0)" && ip -n "$(space 0)" tuntap add dev probe mode tap &&
        ip -n "$(space 0)" link del probe && ip netns del "$(space 0)"
}
# join MICROSECONDS LOSS: three new namespaces with a switch between them
join() {
    end_switch; remove_spaces
    for n in 0 1 2; do ip netns add "$(space $n)" || return 1; done
    coproc SWITCH { exec "$BUILD/bench/sim/delay" "$1" "$2" "$(space 0)" "$(space 1)" "$(space 2)" 2>&1; }
    switch=$SWITCH_PID to_switch=${SWITCH[1]}
    exec {from_switch}<&"${SWITCH[0]}"  # one that stays when the switch has ended
    read -r -t 20 line <&"$from_switch" || return 1
    [ "$line" = ready ] || { echo "$line"; return 1; }
    for n in 0 1 2; do
        ip -n "$(space $n)" addr add "10.97.0.$((n + 1))/24" dev lan0 &&
            ip -n "$(space $n)" link set dev lo up && ip -n "$(space $n)" link set dev lan0 up || return 1
    done
}
# start NAME MODE VARIABLE=VALUE...: the ranks of a world; what they say is in NAME.<rank>
start() {
    name=$1 mode=$2; shift 2
    for r in 0 1 2 3; do
        env "$@" RANK=$r WORLD_SIZE=4 TRAINYARD_COLL_NODE="node ${NODE_OF[r]}" TRAINYARD_COLL_INTERFACES=lan0 \
            ip netns exec "$(space ${NODE_OF[r]})" ./netns_main "$mode" > "$name.$r" 2>&1 &
        pids+=($!)
    done
}
# The ranks end by themselves: all have a limit.
await_ranks() { codes=; for p in "${pids[@]}"; do wait "$p"; codes+="$? "; done; pids=(); }
all_ready() { [ "$(cat idle.* busy.* | grep -c '^ready')" = 8 ]; }
small_us() { sed -n 's/^small \([0-9]*\) us$/\1/p' "$1.0"; }
# right NAME: what the ranks of a world say when all was right
right() {
    equal "$1: every rank ends well" "0 0 0 0 " "$codes"
    for r in 0 1 2 3; do has "$1: ...and has what it must, rank $r" "$(cat "$1.$r")" "^all is right on rank $r$"; done
}
# ended_by_cut NAME: those on the first two nodes name the rank of the third, which names one of them
ended_by_cut() {
    for r in 0 1 2 3; do
        said=$(cat "$1.$r"); others=3
        [ $r = 3 ] && others='[012]'
        has "$1: a cut ends the world of rank $r, which is told whom it lost" "$said" "^ended [0-9]+ 130 .*rank $others\b"
        at=$(printf '%s\n' "$said" | sed -n 's/^ended \([0-9]*\) .*/\1/p')
        check "$1: ...soon" test "$((${at:-$((cut_at + 99999))} - cut_at))" -lt 60000
    done
}

if ! refused=$(allowed 2>&1); then
    skip "worlds across network namespaces" "they cannot be made here: $(printf '%s' "${refused:-not root}" | head -n 1)"
    exit 0
fi
check "the program of a rank compiles" gcc -std=gnu17 -O2 -Wall -Wextra -Werror -o netns_main "$SOURCE/tests/e2e/netns_main.c" \
    -I"$SOURCE/include" -L"$BUILD/src/coll" -ltycoll
export LD_LIBRARY_PATH=$BUILD/src/coll

joined=1; join 2000 0 || joined=0
equal "three nodes, 2 ms apart" 1 $joined
start late check MASTER_ADDR=10.97.0.1 MASTER_PORT=29500
await_ranks
right late
# No rank has a sum before it has heard of the others: ten in a row take nine times the 2 ms at least.
check "...and the network was slow" test "$(small_us late)" -ge 18000

joined=1; join 100 0.01 || joined=0
equal "three nodes, and one frame in a hundred is lost" 1 $joined
start lossy check TRAINYARD_COLL_RENDEZVOUS=10.97.0.1:29500 TRAINYARD_COLL_SECRET=netns
await_ranks
right lossy
end_switch
check "...and frames were lost" test "${lost:-0}" -ge $((${frames:-0} / 200 + 20))

joined=1; join 100 0 || joined=0
equal "three nodes, to be cut" 1 $joined
start idle idle TRAINYARD_COLL_RENDEZVOUS=10.97.0.1:29500
start busy busy TRAINYARD_COLL_RENDEZVOUS=10.97.0.1:29501
check "two worlds at once" until_true 30 all_ready
cut_at=$(date +%s%3N)
ip -n "$(space 2)" link set dev lan0 down
await_ranks
equal "every rank of them ends by itself" "0 0 0 0 0 0 0 0 " "$codes"
ended_by_cut idle
ended_by_cut busy
clean
equal "no namespace is left" "" "$(ip netns list | grep "^$PREFIX-$$-")"
