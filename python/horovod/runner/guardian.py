"""Ends the workers of a launcher that has died.

Started by the launcher as a program of its own, in a session of its own, with a pipe as standard input.  Lines
`+PGID` and `-PGID` name the process groups that live; `.` says that the launcher ends in order.  The end of the pipe
without it means that the launcher was killed: what is left gets SIGTERM, and SIGKILL after the seconds in argv[1].
"""
import os
import signal
import sys
import time


def end_groups(groups, grace_s):
    """SIGTERM to all, SIGKILL to those that are there after grace_s."""
    deadline = time.monotonic() + grace_s
    left, sent = set(groups), signal.SIGTERM
    while left:
        for group in sorted(left):
            try:
                os.killpg(group, sent)
            except OSError:
                left.discard(group)
        if sent == signal.SIGKILL:
            return
        sent = 0                    # only ask who is there, until the time is over
        time.sleep(0.05)
        if time.monotonic() > deadline:
            sent = signal.SIGKILL


def main():
    groups = set()
    for line in sys.stdin:
        word = line.strip()
        if word == ".":
            return
        if word[:1] == "+":
            groups.add(int(word[1:]))
        elif word[:1] == "-":
            groups.discard(int(word[1:]))
    end_groups(groups, float(sys.argv[1]))


if __name__ == "__main__":
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    main()
