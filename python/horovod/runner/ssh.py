"""Starting a worker on another host with the system's ssh.

The command line that others can see holds only a fixed piece of shell.  It reads one line from its standard input: the
environment (with the secret), the folder and the command, and says MARK when it has them.  The end of that input
means that the launcher wants the worker to end, or has died: the worker's process group gets SIGTERM, and SIGKILL after
5 seconds.
"""
import re
import shlex
from typing import Dict, List

MARK = b"trainyard-worker-starts"

# No single quote and no exclamation mark: it is quoted for whatever login shell the user has.
_BOOTSTRAP = (
    'IFS= read -r l || exit 1; eval "$l"; echo %s; exec 3<&0 </dev/null; setsid "$@" 3<&- & p=$!; '
    'setsid sh -c "cat; kill -s TERM -- -$p; sleep 5; kill -s KILL -- -$p" <&3 3<&- >/dev/null 2>&1 & w=$!; '
    'exec 3<&- 2>/dev/null; wait $p; r=$?; kill -s KILL -- -$w || kill -s KILL $w; kill -s KILL -- -$p; exit $r' % MARK.decode())

# What belongs to the session here and not to the one there, or to the user there.
_STAYS = re.compile(r"^(BASH_FUNC_.*|OLDPWD|PWD|SHLVL|_|SHELL|HOME|USER|LOGNAME|MAIL|HOSTNAME|TERM|TERMCAP|TMUX.*|STY|"
                    r"DISPLAY|WAYLAND_DISPLAY|XAUTHORITY|XDG_.*|DBUS_.*|SSH_.*|SUDO_.*|LS_COLORS|WINDOWID|IFS|PS[124]|"
                    r".*_SECRET_KEY)$")
_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")


def exportable(environment: Dict[str, str]) -> Dict[str, str]:
    """The part of this process's environment that a worker on another host should have."""
    return {name: value for name, value in environment.items() if _NAME.match(name) and not _STAYS.match(name)}


def quote(text: str) -> str:
    """`text` for a POSIX shell, on one line."""
    return '"$nl"'.join(shlex.quote(part) if part else "" for part in text.split("\n")) or "''"


def first_line(host: str, environment: Dict[str, str], folder: str, command: List[str]) -> bytes:
    """What the bootstrap evaluates."""
    words = ['nl=$(printf "\\nx"); nl=${nl%x}']
    words += ["export %s=%s" % (name, quote(value)) for name, value in sorted(environment.items())]
    failure = "horovodrun: folder %s is not on host %s: start in a folder that all hosts share" % (folder, host)
    words += ["cd %s 2>/dev/null || { echo %s >&2; exit 1; }" % (quote(folder), quote(failure))]
    words += ["set -- " + " ".join(quote(word) for word in command)]
    return ("; ".join(words) + "\n").encode("utf-8", "surrogateescape")


def command_line(host: str, port: int = None, identity: str = None, connect_timeout_s: int = 30) -> List[str]:
    """The ssh that waits for first_line() on its standard input."""
    line = ["ssh", "-T", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=accept-new", "-o", "ServerAliveInterval=15",
            "-o", "ServerAliveCountMax=4", "-o", "ConnectTimeout=%d" % max(1, connect_timeout_s)]
    if port:
        line += ["-p", str(port)]
    if identity:
        line += ["-i", identity]
    return line + ["--", host, "exec /bin/sh -c %s" % shlex.quote(_BOOTSTRAP)]
