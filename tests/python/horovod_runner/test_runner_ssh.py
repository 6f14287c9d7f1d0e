"""Jobs on other hosts, through a real sshd."""
import os
import re
import signal
import sys

from running import Job, lines, run

SHOW = "import os; print(' '.join(os.environ['HOROVOD_' + n] for n in " \
       "'RANK SIZE LOCAL_RANK LOCAL_SIZE CROSS_RANK CROSS_SIZE HOSTNAME'.split()), 'SSH_CONNECTION' in os.environ)"


def far(sshd, *words, **options):
    return run("-p", sshd.port, "-i", sshd.identity, *words, env=dict(sshd.env, **options.pop("env", {})), **options)


def test_places(sshd):
    status, out, err = far(sshd, "-np", 4, "-H", "localhost:1,127.0.0.2:2,127.0.0.3:1", sys.executable, "-c", SHOW)
    assert status == 0, err
    assert lines(out) == {0: ["0 4 0 1 0 3 localhost False"], 1: ["1 4 0 2 1 3 127.0.0.2 True"],
                          2: ["2 4 1 2 0 1 127.0.0.2 True"], 3: ["3 4 0 1 2 3 127.0.0.3 True"]}


def test_environment_and_folder_go_along(sshd, tmp_path):
    values = {"TEST_ODD": "a'b\"c $d\n`e` \\ !x", "TEST_EMPTY": ""}
    code = "import os; print(os.getcwd(), ascii(os.environ['TEST_ODD']), ascii(os.environ['TEST_EMPTY']))"
    status, out, err = far(sshd, "-H", "127.0.0.2:1", sys.executable, "-c", code, env=values, cwd=str(tmp_path))
    assert status == 0, err
    assert lines(out)[0] == ["%s %s ''" % (os.path.realpath(tmp_path), ascii(values["TEST_ODD"]))]


def test_large_environment(sshd):
    status, out, err = far(sshd, "-H", "127.0.0.2:1", sys.executable, "-c",
                           "import os; print(sum(len(os.environ['BIG%d' % i]) for i in range(4)))",
                           env={"BIG%d" % i: "x'" * 30000 for i in range(4)})
    assert status == 0 and lines(out)[0] == ["240000"], err


def test_secret_is_on_no_command_line(sshd):
    code = """import os
secrets = [os.environ[n].encode() for n in ("TRAINYARD_COLL_SECRET", "HOROVOD_SECRET_KEY")]
seen = 0
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        line = open("/proc/%s/cmdline" % pid, "rb").read()
    except OSError:
        continue
    seen += b"BatchMode" in line
    assert not any(s in line for s in secrets)
print("looked", seen > 0)"""
    status, out, err = far(sshd, "-H", "127.0.0.2:1", sys.executable, "-c", code)
    assert status == 0 and lines(out)[0] == ["looked True"], err


def test_many_ranks_on_a_host(sshd):
    # More at once than the 10 connections of which sshd begins to drop some.
    status, out, err = far(sshd, "-H", "127.0.0.2:16", "sh", "-c", "echo $HOROVOD_RANK")
    assert status == 0, err
    assert lines(out) == {r: [str(r)] for r in range(16)}


def test_failure_is_named_and_ends_the_others(sshd):
    status, _, err = far(sshd, "-H", "127.0.0.2:2,localhost:1", "sh", "-c",
                         "[ $HOROVOD_RANK = 1 ] && exit 9; sleep 300 & sleep 300")
    assert status == 9 and "rank 1 (host 127.0.0.2) exited with status 9" in err


def test_host_that_cannot_be_reached(sshd):
    status, _, err = far(sshd, "-H", "127.0.0.4:1,localhost:1", "sleep", "300")
    assert status == 255 and "ssh to host 127.0.0.4 failed" in err and "Connection refused" in err


def test_key_that_is_not_accepted(sshd, tmp_path):
    import subprocess

    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "k")], check=True)
    status, _, err = run("-p", sshd.port, "-i", tmp_path / "k", "-H", "127.0.0.2:1", "true", env=sshd.env)
    assert status == 255 and "ssh to host 127.0.0.2 failed" in err and "Permission denied" in err


def test_interrupt_ends_all(sshd):
    job = Job("-p", sshd.port, "-i", sshd.identity, "-H", "127.0.0.2:1,127.0.0.3:1", "sh", "-c",
              "sleep 300 & echo up; sleep 300", env=sshd.env)
    job.wait_for(r"^\[0\]<stdout>:up")
    job.wait_for(r"^\[1\]<stdout>:up")
    job.process.send_signal(signal.SIGINT)
    assert job.end() == 130


def test_killed_launcher_leaves_nothing(sshd):
    job = Job("-p", sshd.port, "-i", sshd.identity, "-H", "127.0.0.2:1", "sh", "-c",
              "trap '' TERM; echo up; while :; do sleep 0.1; done", env=sshd.env)
    job.wait_for(":up$")
    assert any(re.search("while :", line) for _, line in job.left())
    job.process.kill()
    job.process.wait()
    job.gone()
