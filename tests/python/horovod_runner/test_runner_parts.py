"""The parts of the launcher by themselves."""
import io
import os
import subprocess
import time

import pytest

from horovod.runner import config, launch, network, ssh
from horovod.runner.common.util.hosts import get_host_assignments, parse_host_files, parse_hosts, repr_of
from horovod.runner.output import Output
from horovod.runner.settings import world_secret
from horovod.runner.util.threads import in_thread
from horovod.runner.wire import MAX_BODY, Session, WireError

# ---- hosts ----


def test_hosts():
    assert list(map(repr, parse_hosts("a:2, b, a:1"))) == ["a:3", "b:1"]
    assert list(map(repr, parse_hosts("me@b", 4))) == ["me@b:4"]
    assert [(h.hostname, h.slots) for h in parse_hosts("[::1]:2,fe80::1:2")] == [("::1", 2), ("fe80::1:2", 1)]
    assert repr_of(parse_hosts("[::1]:2")[0]) == "[::1]:2"
    for wrong in ("", ",", "a:x", "a:0", "a:-1", "a:65537", "-oProxyCommand=x:1", "a b:1", "a;b:1"):
        with pytest.raises(ValueError):
            parse_hosts(wrong)


def test_host_file(tmp_path):
    path = tmp_path / "hosts"
    path.write_text("# ours\na slots=2\n\nb:3 # fast\nc\n")
    assert parse_host_files(str(path)) == "a:2,b:3,c:1"
    path.write_text("a slots=2\na slots 3\n")
    with pytest.raises(ValueError, match="line 2 of host file .*'a slots 3'"):
        parse_host_files(str(path))
    path.write_text("\n")
    with pytest.raises(ValueError, match="names no host"):
        parse_host_files(str(path))


def test_places():
    slots = get_host_assignments(parse_hosts("a:2,b:1,c:2"), 4)
    assert [(s.hostname, s.rank, s.local_rank, s.cross_rank, s.local_size, s.cross_size) for s in slots] == [
        ("a", 0, 0, 0, 2, 3), ("a", 1, 1, 0, 2, 1), ("b", 2, 0, 1, 1, 3), ("c", 3, 0, 2, 1, 3)]
    assert slots[3].environment()["HOROVOD_CROSS_RANK"] == "2"
    with pytest.raises(ValueError, match="6 workers need 6 slots, but a:2, b:1, c:2 have 5"):
        get_host_assignments(parse_hosts("a:2,b:1,c:2"), 6)


def test_local_names():
    assert network.is_local("localhost") and network.is_local("127.0.0.1")
    assert not network.is_local("127.0.0.2") and not network.is_local("no-such-host.invalid")
    assert network.address_for("127.0.0.2", []) == "127.0.0.1"
    with pytest.raises(ValueError, match="none of the network interfaces nosuch0 is here"):
        network.check_interfaces(["nosuch0"])
    network.check_interfaces(["nosuch0", "lo"])


# ---- options ----

def test_options_become_variables():
    args = launch.parse_args(["-np", "2", "--fusion-threshold-mb", "32", "--cycle-time-ms", "3.5", "--no-stall-check",
                              "--autotune", "--no-hierarchical-allreduce", "--log-level", "debug",
                              "--timeline-filename", "/t", "--log-without-timestamp", "python", "x.py", "-np", "7"])
    settings = launch.settings_of(args)
    assert settings.command == ["python", "x.py", "-np", "7"] and settings.np == 2 and not settings.elastic
    assert settings.environment == {
        "HOROVOD_FUSION_THRESHOLD": "33554432", "HOROVOD_CYCLE_TIME": "3.5", "HOROVOD_STALL_CHECK_DISABLE": "1",
        "HOROVOD_AUTOTUNE": "1", "HOROVOD_HIERARCHICAL_ALLREDUCE": "0", "HOROVOD_LOG_LEVEL": "debug",
        "HOROVOD_TIMELINE": "/t", "HOROVOD_LOG_HIDE_TIME": "1"}


def test_every_option_of_horovod_is_known():
    known = set(launch.make_parser()._option_string_actions)
    assert known >= set("""-np --num-proc -H --hosts --hostfile --host-discovery-script -p --ssh-port -i
        --ssh-identity-file --network-interfaces --network-interface --output-filename --verbose
        --prefix-output-with-timestamp --config-file --start-timeout --disable-cache --check-build --version
        --fusion-threshold-mb --cycle-time-ms --cache-capacity --hierarchical-allreduce --no-hierarchical-allreduce
        --hierarchical-allgather --torus-allreduce --autotune --autotune-log-file --autotune-warmup-samples
        --autotune-steps-per-sample --autotune-bayes-opt-max-samples --autotune-gaussian-process-noise --min-np --max-np
        --slots-per-host --elastic-timeout --reset-limit --blacklist-cooldown-range --timeline-filename
        --timeline-mark-cycles --no-stall-check --stall-check-warning-time-seconds
        --stall-check-shutdown-time-seconds --mpi-threads-disable --mpi-args --tcp --binding-args --num-nccl-streams
        --thread-affinity --gloo-timeout-seconds --log-level --log-without-timestamp --gloo --mpi --jsrun""".split())


@pytest.mark.parametrize("words, text", [
    (["-np", "2"], "no command"), (["--jsrun", "x"], "LSF"), (["--nosuch", "x"], "nosuch"),
    (["--log-level", "loud", "x"], "loud")])
def test_wrong_command_lines(words, text, capsys):
    with pytest.raises(SystemExit) as e:
        launch.parse_args(words)
    assert e.value.code == 2 and text in capsys.readouterr().err


@pytest.mark.parametrize("words, text", [
    (["-np", "0", "x"], "--np must be at least 1"),
    (["-H", "a:1", "--hostfile", "f", "x"], "not both"),
    (["-np", "2", "-H", "a:1", "x"], "2 workers need 2 slots"),
    (["--hostfile", "/no/such", "x"], "/no/such"),
    (["--network-interfaces", "nosuch0", "x"], "nosuch0"),
    (["--min-np", "3", "--max-np", "2", "x"], "--max-np 2 is less"),
    (["--min-np", "3", "-np", "2", "x"], "-np 2 is less"),
    (["--blacklist-cooldown-range", "5", "1", "--min-np", "1", "x"], "the lower first"),
    (["--host-discovery-script", "d", "-H", "a:1", "x"], "not both")])
def test_wrong_settings(words, text, capsys):
    assert launch.run_commandline(words) == 2
    assert text in capsys.readouterr().err


def test_configuration_file(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("""---
verbose: true      # outside of the sections
start-timeout: 7
params:
  fusion_threshold_mb: 32
  cycle-time-ms: 3
  hierarchical_allreduce: off
timeline:
    filename: '/tmp/#1.json'
    mark_cycles: yes
stall_check:
  enabled: false
library_options:
  mpi_args: --x
""")
    args = launch.parse_args(["--config-file", str(path), "--cycle-time-ms", "9", "x"])
    settings = launch.settings_of(args)
    assert settings.verbose == 1 and settings.start_timeout_s == 7
    assert settings.environment == {
        "HOROVOD_FUSION_THRESHOLD": "33554432", "HOROVOD_CYCLE_TIME": "9.0", "HOROVOD_HIERARCHICAL_ALLREDUCE": "0",
        "HOROVOD_TIMELINE": "/tmp/#1.json", "HOROVOD_TIMELINE_MARK_CYCLES": "1", "HOROVOD_STALL_CHECK_DISABLE": "1"}


@pytest.mark.parametrize("text, why", [
    ("params:\n  fusion_threshold_mb: many\n", "which is no int"),
    ("params:\n  fusion: 3\n", "sets 'params: fusion', which is no option"),
    ("params:\n  a:\n    b: 1\n", "line 3 .*only sections one deep"),
    ("params: [1]\n", "line 1 .*not read"),
    ("params:\n\tcache_capacity: 1\n", "line 2 .*no 'key: value'"),
    ("nonsense\n", "line 1 .*no 'key: value'"),
    ("params:\n  autotune: \"a\\n\"\n", "line 2 .*quoted")])
def test_wrong_configuration_files(text, why, tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=why):
        config.from_file(str(path), ["verbose"])


# ---- ssh ----

def test_environment_survives_the_shell(tmp_path):
    values = {"A": "", "B": "a'b\"c$d`e\\f!g", "C": "two\nlines\n", "D": "\n", "E": "ü \u2028 x", "F": "  spaces  "}
    line = ssh.first_line("h", dict(values), str(tmp_path), ["printf", "%s|", "it's", "", "a\nb", "*"])
    assert line.count(b"\n") == 1
    script = "IFS= read -r l; eval \"$l\"; pwd; \"$@\"; env -0"
    out = subprocess.run(["/bin/sh", "-c", script], input=line, stdout=subprocess.PIPE, check=True,
                         env={"PATH": os.environ["PATH"]}).stdout.decode()
    head = "%s\nit's||a\nb|*|" % os.path.realpath(tmp_path)
    assert out.startswith(head)
    found = dict(entry.split("=", 1) for entry in out[len(head):].split("\0") if entry)
    assert {name: found[name] for name in values} == values


def test_what_is_exported():
    assert ssh.exportable({"A": "1", "SSH_AUTH_SOCK": "x", "HOME": "/h", "BASH_FUNC_f%%": "x", "a.b": "x",
                           "HOROVOD_SECRET_KEY": "x", "PATH": "/p"}) == {"A": "1", "PATH": "/p"}


def test_folder_that_is_not_there():
    line = ssh.first_line("far", {}, "/no/such/folder", ["echo", "no"])
    done = subprocess.run(["/bin/sh", "-c", "IFS= read -r l; eval \"$l\"; \"$@\""], input=line, capture_output=True)
    assert done.returncode == 1 and not done.stdout
    assert b"folder /no/such/folder is not on host far" in done.stderr


# ---- output ----

def shown(*pieces, timestamps=False, stream="stdout"):
    out, err = io.StringIO(), io.StringIO()
    output = Output(2, None, timestamps, out, err)
    for piece in pieces:
        output.write("w", 1, stream, piece)
    output.close()
    return (out if stream == "stdout" else err).getvalue()


def test_lines_get_their_rank():
    assert shown(b"a\nb", b"c\n", b"") == "[1]<stdout>:a\n[1]<stdout>:bc\n"
    assert shown(b"no end", b"") == "[1]<stdout>:no end\n"
    assert shown(b"1%\r2%\r", b"3%\r\n\nx", b"\r", b"\ny\n", b"") == "".join(
        "[1]<stdout>:%s\n" % text for text in ("1%", "2%", "3%", "", "x", "y"))
    assert shown(b"\xff\n", stream="stderr") == "[1]<stderr>:\ufffd\n"
    assert shown(b"x" * 70000) == "[1]<stdout>:%s\n" % ("x" * 70000)


def test_lines_get_the_time():
    before = time.asctime()
    text = shown(b"a\n", timestamps=True)
    assert text in ("%s[1]<stdout>:a\n" % before, "%s[1]<stdout>:a\n" % time.asctime())


def test_files_by_rank(tmp_path):
    output = Output(11, str(tmp_path / "o"), False, io.StringIO(), io.StringIO())
    output.write("w", 1, "stdout", b"a\r\nb")
    output.write("v", 10, "stderr", b"c")
    output.close()
    assert (tmp_path / "o/rank.01/stdout").read_bytes() == b"a\r\nb"
    assert (tmp_path / "o/rank.10/stderr").read_bytes() == b"c"


# ---- messages ----

def pair(secret="s", other="s"):
    server, client = Session(secret, True), Session(other, False)
    return server, client


def carry(a, b):
    data = bytes(a.outgoing)
    a.outgoing.clear()
    return b.feed(data)


def shaken():
    server, client = pair()
    carry(server, client), carry(client, server), carry(server, client)
    assert server.ready and client.ready
    return server, client


def test_messages_byte_by_byte():
    server, client = pair()
    found = []
    for _ in range(3):
        for a, b in ((server, client), (client, server)):
            data = bytes(a.outgoing)
            a.outgoing.clear()
            for i in range(len(data)):
                found += b.feed(data[i:i + 1])
        if client.ready and not found:
            client.send({"op": "x", "n": 1}, b"a\nb")
            client.send({"op": "y"})
    assert found == [({"op": "x", "n": 1}, b"a\nb"), ({"op": "y"}, b"")]


def test_wrong_secret_on_either_side():
    server, client = pair("s", "t")
    carry(server, client)
    with pytest.raises(WireError, match="does not know the secret"):
        carry(client, server)
    assert not server.ready and not client.ready
    client = Session("s", False)
    client.feed(b"TYHD\x01" + b"n" * 32)
    with pytest.raises(WireError, match="does not know the secret"):
        client.feed(b"m" * 32)


def test_server_of_something_else():
    for data in (b"HTTP/1.1 400", b"TYHD\x02" + b"n" * 32):
        with pytest.raises(WireError, match="no launcher of this version"):
            Session("s", False).feed(data)


@pytest.mark.parametrize("change", ["flip", "repeat", "swap", "reflect"])
def test_changed_messages(change):
    server, client = shaken()
    client.send({"op": "a"})
    first = bytes(client.outgoing)
    client.outgoing.clear()
    client.send({"op": "b"})
    second = bytes(client.outgoing)
    with pytest.raises(WireError):
        if change == "flip":
            server.feed(first[:6] + bytes([first[6] ^ 1]) + first[7:])
        elif change == "repeat":
            server.feed(first + first)
        elif change == "swap":
            server.feed(second + first)
        else:
            client.feed(first)


def test_messages_that_are_none():
    server, client = shaken()
    with pytest.raises(WireError, match="the limit is %d" % MAX_BODY):
        server.feed(b"\xff\xff\xff\xff")
    server, client = shaken()
    client.send({"op": 1})
    with pytest.raises(WireError, match="no JSON object with 'op'"):
        carry(client, server)


def test_secrets_of_worlds_differ():
    assert len({world_secret(*a) for a in (("s", 1, "x"), ("s", 2, "x"), ("t", 1, "x"), ("s", 1, "y"))}) == 4


def test_in_thread():
    found = []
    in_thread(found.append, (1,)).join()
    in_thread(lambda: 1 / 0, silent=True).join()
    assert found == [1]
    with pytest.raises(ValueError):
        in_thread(found.append, 1)
