"""What a script logs, as it stands in the spool file (docs/spec/rows.md); no daemon and no runner."""
import json
import math
import os
import struct
import threading
import warnings

import pytest

from trainyard import _core, context

HEAD = 4096


def rows(folder, writer=0):
    """(kind, name, step, value bytes) of the rows in a spool file, padding left out."""
    data = (folder / ("rows-%d.spool" % writer)).read_bytes()
    end, at, found = struct.unpack_from("<Q", data, 16)[0], 0, []
    while at < end:
        size, kind, _, name_len, step, _, value_len = struct.unpack_from("<IBBHqqI", data, HEAD + at)
        if size == 0:
            at += (1 << 20) - at % (1 << 20)
            continue
        if kind != _core.PAD:
            name = data[HEAD + at + 32:HEAD + at + 32 + name_len]
            value = data[HEAD + at + 32 + name_len:HEAD + at + 32 + name_len + value_len]
            found.append((kind, name.decode(), None if step == -2 ** 63 else step, value))
        at += size
    return found


@pytest.fixture
def live(tmp_path):
    return context.LiveRun("tests_1_0", _core.Rows(str(tmp_path)))


class Scalar:
    """What a scalar of numpy or torch looks like from outside."""

    ndim = 0

    def __init__(self, value):
        self.value = value

    def item(self):
        return self.value


class Array:
    ndim = 1

    def __init__(self, values):
        self.values = values

    def item(self):
        raise ValueError("can only convert an array of size 1")

    def tolist(self):
        return self.values


def test_scalars(live, tmp_path):
    live.log("d", 0.5)
    live.log("i", -3, step=7)
    live.log("s", "grün")
    live.log("b", True)
    live.log("np", Scalar(2.25))
    live.log("big", 10 ** 30)
    live.log("nan", float("nan"))
    got = rows(tmp_path)
    assert [(k, n, s) for k, n, s, _ in got] == [
        (_core.DOUBLE, "d", None), (_core.INT, "i", 7), (_core.TEXT, "s", None), (_core.INT, "b", None), (_core.DOUBLE, "np", None),
        (_core.DOUBLE, "big", None), (_core.DOUBLE, "nan", None)]
    assert struct.unpack("<d", got[0][3])[0] == 0.5
    assert struct.unpack("<q", got[1][3])[0] == -3
    assert got[2][3].decode() == "grün"
    assert struct.unpack("<d", got[5][3])[0] == 1e30
    assert math.isnan(struct.unpack("<d", got[6][3])[0])


@pytest.mark.parametrize("value", [None, object(), [1, 2], {"a": 1}, Array([1, 2])])
def test_what_is_no_single_value_is_refused(live, value, tmp_path):
    with pytest.raises(TypeError):
        live.log("x", value)
    assert not list(tmp_path.iterdir()) or rows(tmp_path) == []


def test_lists(live, tmp_path):
    live.log_list("generator", (i * i for i in range(4)))
    live.log_list("array", Array([1.5, float("inf")]))
    live.log_list("scalars", [Scalar(1), Scalar(0.5)])
    assert [json.loads(v) for _, _, _, v in rows(tmp_path)] == [[0, 1, 4, 9], [1.5, {"$float": "Infinity"}], [1, 0.5]]


def test_a_long_list_becomes_several_rows_of_one_series(live, tmp_path):
    live.log_list("long", range(100_000))
    parts = rows(tmp_path)
    assert len(parts) > 1 and all(k == _core.LIST and len(v) <= _core.ROW_VALUE_MAX for k, _, _, v in parts)
    assert [i for _, _, _, v in parts for i in json.loads(v)] == list(range(100_000))


def test_rows_and_tables(live, tmp_path):
    live.log_row("r", {"a": 1, "b": Scalar(2.5), "c": "x"})
    live.log_table("t", {"x": (i for i in range(3)), "y": Array([4.0, 5.0, 6.0]), "z": 1})
    live.log_table("big", {"x": list(range(60_000)), "y": list(range(60_000))})
    got = [(k, json.loads(v)) for k, _, _, v in rows(tmp_path)]
    assert got[0] == (_core.ROW, {"a": 1, "b": 2.5, "c": "x"})
    assert got[1] == (_core.TABLE, {"x": [0, 1, 2], "y": [4.0, 5.0, 6.0], "z": 1})
    big = [o for k, o in got[2:]]
    assert len(big) > 1
    assert [i for o in big for i in o["x"]] == [i for o in big for i in o["y"]] == list(range(60_000))


def test_tags(live, tmp_path):
    live.tag("k", "v")
    live.tag("none", None)
    live.add_property("p", "q")
    assert [(k, n, json.loads(v)) for k, n, _, v in rows(tmp_path)] == [
        (_core.TAG, "k", "v"), (_core.TAG, "none", None), (_core.PROPERTY, "p", "q")]


def test_limits_are_told(live):
    with pytest.raises(ValueError, match="at most 1024"):
        live.log("n" * 2000, 1.0)
    with pytest.raises(ValueError, match="at most 262144"):
        live.log("text", "x" * 300_000)


def test_a_spool_that_cannot_be_written_warns_once_and_training_goes_on(tmp_path):
    live = context.LiveRun("tests_1_0", _core.Rows(str(tmp_path / "gone")))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(5):
            live.log("loss", 1.0)
        live.tag("k", "v")
    assert live.dropped == 6
    assert len(caught) == 1 and "loss" in str(caught[0].message)


def test_a_full_spool_drops_and_counts(live):
    """64 MiB may be unacknowledged; nobody acknowledges here."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(300):
            live.log("text", "x" * 260_000)
    assert live.dropped > 0 and len(caught) == 1
    assert live.rows.written() + live.dropped == 300


def test_a_forked_child_logs_to_a_file_of_its_own(live, tmp_path):
    live.log("who", "parent")
    pid = os.fork()
    if pid == 0:
        live.log("who", "child")
        os._exit(0 if live.rows.written() == 1 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    live.log("who", "parent again")
    assert [v for _, _, _, v in rows(tmp_path, 0)] == [b"parent", b"parent again"]
    assert [v for _, _, _, v in rows(tmp_path, 1)] == [b"child"]


def test_threads_lose_nothing(live, tmp_path):
    def work(n):
        for i in range(1000):
            live.log("t%d" % n, i)
    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    got = rows(tmp_path)
    for n in range(4):
        assert [struct.unpack("<q", v)[0] for _, name, _, v in got if name == "t%d" % n] == list(range(1000))


def test_flush_gives_up_in_time(live):
    live.log("x", 1)
    assert live.flush(0.05) is False


def test_flush_without_rows_is_done(live):
    assert live.flush(0) is True


def test_step_is_a_number(live):
    with pytest.raises(TypeError):
        live.log("x", 1.0, step="first")
