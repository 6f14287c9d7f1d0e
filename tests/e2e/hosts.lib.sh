# hosts.lib.sh - several machines on this one: namespaces with a network between them, and sshd in each
#
# A script sources this file *first* and lib.sh after it:
#
#     . "$(dirname "$0")/hosts.lib.sh"; lab_enter "what is skipped" "$@"
#     . "$(dirname "$0")/lib.sh";       lab_up h1 h2
#
# lab_enter begins the script anew inside namespaces of its own (network, mounts, processes, host name): there it is the
# machine "here", 10.88.0.1 on the bridge lab0, with a home folder of its own.  Each host is one more set of namespaces
# with its own host name, network, processes, IPC, /tmp, /dev/shm, /run and home folder; of this build it sees nothing, and
# of $T only what LAB_SHARED names (folders, absolute, separated by blanks).  Host number n has the address 10.88.0.<n + 1>.
# No namespace has a name: all of them, and what runs in them, are gone with the script.
#
#     host_run NAME COMMAND...    run a command on a host, as root; its exit status comes through
#     host_off NAME; host_on NAME power off (everything on it dies at once), and on again: its home folder stays
#     cable_cut NAME; cable_mend NAME
#     sshd_stop NAME; sshd_start NAME   the listener alone: connections that are open live on
#     ssh_cut NAME                every ssh connection of that host ends, new ones are accepted
#     host_home NAME              its home folder, seen from here
# ~/.ssh/config of "here" knows the hosts and a key, and demands the host keys that it knows.

lab_allowed() {
    [ "$(id -u)" = 0 ] || { echo "it takes root"; return 1; }
    command -v ip sshd ssh ssh-keygen > /dev/null || [ -x /usr/sbin/sshd ] || { echo "iproute2 and openssh-server are not here"; return 1; }
    unshare --mount --net --uts --ipc --pid --fork sh -c \
        'mount -t tmpfs tmpfs /mnt && ip link add name lab0 type bridge && ip link add name lab1 type veth peer name lab2' 2>&1 | head -n 1 |
        { read -r why && { echo "$why"; exit 1; }; exit 0; }
}

# lab_enter WHAT ARGUMENT...: returns inside the lab; where there can be none, WHAT is skipped and the script ends
lab_enter() {
    if [ "$TRAINYARD_TEST_LAB" = "$$" ]; then
        trap 'exit 143' TERM
        trap 'exit 130' INT
        lab_begin || { echo "not ok - a lab is made"; exit 1; }
        return 0
    fi
    lab_what=$1; shift
    if ! lab_refused=$(lab_allowed); then
        echo "ok - $lab_what # SKIP no hosts can be made here: $lab_refused"
        exit 0
    fi
    # The script becomes process 1 there: whatever it leaves behind dies with it.
    exec unshare --mount --net --uts --pid --fork --kill-child --mount-proc \
        env TRAINYARD_TEST_LAB=1 bash "$0" "$@"
}

lab_begin() {
    LAB=$(mktemp -d "${TMPDIR:-/tmp}/ty-lab.XXXXXX") && chmod 755 "$LAB" || return 1
    LAB_HOME=$(getent passwd 0 | cut -d: -f6)
    mkdir -p "$LAB/here/home/.ssh" && chmod 700 "$LAB/here/home/.ssh" || return 1
    hostname here
    mount --make-rprivate / && mount --bind "$LAB/here/home" "$LAB_HOME" || return 1
    printf '127.0.0.1 localhost\n10.88.0.1 here\n' > "$LAB/hosts"
    mount --bind "$LAB/hosts" /etc/hosts || return 1
    mount -t tmpfs tmpfs /run && mkdir -p /run/sshd
    ip link set lo up && ip link add name lab0 type bridge && ip addr add 10.88.0.1/24 dev lab0 && ip link set lab0 up || return 1
    ssh-keygen -q -t ed25519 -N '' -C here -f "$LAB/here/home/.ssh/id_ed25519" || return 1
    cat > "$LAB/here/home/.ssh/config" <<C
Host *
    StrictHostKeyChecking yes
    UserKnownHostsFile $LAB/known_hosts
C
    : > "$LAB/known_hosts"
    LAB_HOSTS=
}

# lab_up NAME...: make hosts and switch them on
lab_up() {
    for lab_h in "$@"; do
        LAB_HOSTS="$LAB_HOSTS $lab_h"
        set_n=$(echo "$LAB_HOSTS" | wc -w)
        lab_d=$LAB/$lab_h
        mkdir -p "$lab_d/home/.ssh" && chmod 700 "$lab_d/home" "$lab_d/home/.ssh"
        echo "10.88.0.$((set_n + 1))" > "$lab_d/address"
        echo "10.88.0.$((set_n + 1)) $lab_h" >> "$LAB/hosts"
        cp "$LAB/here/home/.ssh/id_ed25519.pub" "$lab_d/home/.ssh/authorized_keys"
        ssh-keygen -q -t ed25519 -N '' -C "$lab_h" -f "$lab_d/hostkey"
        echo "$lab_h,10.88.0.$((set_n + 1)) $(cut -d' ' -f1,2 "$lab_d/hostkey.pub")" >> "$LAB/known_hosts"
        cat > "$lab_d/sshd_config" <<C
HostKey $lab_d/hostkey
AuthorizedKeysFile .ssh/authorized_keys
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
UsePAM no
UseDNS no
PidFile /run/sshd.pid
MaxStartups 100
C
    done
    for lab_h in "$@"; do host_on "$lab_h" || return 1; done
}

# What process 1 of a host does: its place is made, it says so, waits for its network, and then only collects the dead.
lab_host_main() {
    name=$1 dir=$2; shift 2
    hostname "$name"
    n=9
    for shared in "$@"; do eval "exec $n<\"\$shared\""; n=$((n + 1)); done
    [ -d "$TRAINYARD_TEST_HIDE" ] && mount -t tmpfs tmpfs "$TRAINYARD_TEST_HIDE"
    mount --bind "$dir/home" "$LAB_HOME" && mount -t tmpfs -o mode=1777 tmpfs /dev/shm && mount -t tmpfs tmpfs /run || exit 1
    mkdir /run/sshd
    exec 8< "$dir"
    mount -t tmpfs -o mode=1777 tmpfs /tmp
    mkdir -p "$dir" && mount --no-canonicalize --bind /proc/self/fd/8 "$dir"
    n=9
    for shared in "$@"; do
        mkdir -p "$shared" && mount --no-canonicalize --bind "/proc/self/fd/$n" "$shared"
        eval "exec $n<&-"; n=$((n + 1))
    done
    exec 8<&-
    cd /
    for i in $(seq 500); do ip link show eth0 > /dev/null 2>&1 && break; sleep 0.01; done
    ip link set lo up
    ip addr add "$(cat "$dir/address")/24" dev eth0 && ip link set eth0 up || exit 1
    env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin /usr/sbin/sshd -f "$dir/sshd_config" -E "$dir/sshd.log"
    until [ -e /run/sshd.pid ]; do sleep 0.01; done  # it listens
    touch "$dir/up"
    sleep infinity &
    while :; do wait; done
}

host_on() {
    lab_d=$LAB/$1
    rm -f "$lab_d/up"
    export LAB_HOME TRAINYARD_TEST_HIDE=${BUILD:-}
    export -f lab_host_main
    unshare --net --mount --uts --ipc --pid --fork --kill-child --mount-proc \
        bash -c 'lab_host_main "$@"' host "$1" "$lab_d" $LAB_SHARED < /dev/null > "$lab_d/out" 2>&1 &
    lab_p=$!
    disown "$lab_p"
    lab_init=
    for lab_i in $(seq 500); do
        [ "$(readlink "/proc/$lab_p/ns/net")" != "$(readlink /proc/self/ns/net)" ] &&
            { read -r lab_init _ < "/proc/$lab_p/task/$lab_p/children"; [ -n "$lab_init" ]; } && break  # no newline ends that file
        sleep 0.01
    done 2> /dev/null
    [ -n "$lab_init" ] || { cat "$lab_d/out"; return 1; }
    echo "$lab_init" > "$lab_d/init"

    ip link add name "v-$1" type veth peer name eth0 address "02:00:00:00:00:$(sed "s/.*\.//" "$lab_d/address" | xargs printf %02x)" netns "$lab_p" && ip link set "v-$1" master lab0 up || { cat "$lab_d/out"; return 1; }
    for lab_i in $(seq 1000); do [ -e "$lab_d/up" ] && return 0; sleep 0.01; done
    cat "$lab_d/out"
    return 1
}

host_home() { echo "$LAB/$1/home"; }
host_address() { cat "$LAB/$1/address"; }
host_is_on() { [ -e "/proc/$(cat "$LAB/$1/init")/ns/net" ]; }
host_run() { lab_n=$1; shift; nsenter -t "$(cat "$LAB/$lab_n/init")" -m -u -n -i -p -- "$@"; }
host_off() {
    kill -9 "$(cat "$LAB/$1/init")"
    for lab_i in $(seq 500); do host_is_on "$1" || break; sleep 0.01; done
    ip link del "v-$1" 2> /dev/null
    return 0
}
cable_cut() { ip link set "v-$1" down; }
cable_mend() { ip link set "v-$1" up; }
sshd_stop() { host_run "$1" sh -c 'kill "$(cat /run/sshd.pid)"; while [ -e /run/sshd.pid ]; do sleep 0.02; done'; }
sshd_start() {
    host_run "$1" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin /usr/sbin/sshd -f "$LAB/$1/sshd_config" -E "$LAB/$1/sshd.log"
    host_run "$1" sh -c 'until [ -e /run/sshd.pid ]; do sleep 0.01; done'
}
# What serves one connection is named after it ("sshd: root@notty"); the listener is not.
ssh_cut() { host_run "$1" sh -c 'for p in /proc/[0-9]*; do case "$(tr "\0" " " < $p/cmdline 2> /dev/null)" in "sshd: "*listener*) ;; "sshd: "*) kill -9 "${p#/proc/}";; esac; done' 2> /dev/null; true; }
# To be called when the script ends, before lib.sh removes $T.
lab_down() { for lab_h in $LAB_HOSTS; do host_is_on "$lab_h" && host_off "$lab_h"; done; cd /; rm -rf "$LAB"; }
