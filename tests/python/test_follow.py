"""Server-sent events out of pieces."""
import pytest

from trainyard import errors
from trainyard.follow import Event, Parser

STREAM = (b"event: state\nid: 3:0\ndata: {\"state\": \"Running\"}\n\n:\n\n"
          b"event: log\nid: 3:6\ndata: {\"name\": \"l\", \"offset\": 0, \"text\": \"gr\xc3\xbcn\\n\"}\r\n\r\n"
          b"event: end\nid: 4:6\ndata: {\"id\":\ndata:  \"x\"}\n\n")


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_pieces_may_end_anywhere(size):
    parser, found = Parser(), []
    for at in range(0, len(STREAM), size):
        found += parser.feed(STREAM[at:at + size])
    assert [e.kind for e in found] == ["state", "log", "end"]
    assert found[1].text == "grün\n" and found[2].data == {"id": "x"}
    assert parser.last_id == "4:6"


def test_a_half_event_is_not_told_of_and_not_counted():
    parser = Parser()
    list(parser.feed(STREAM[:60]))
    assert parser.last_id == "3:0"
    list(parser.feed(b"event: log\nid: 9:9\ndata: {\"text\""))
    parser.restart()
    assert parser.last_id == "3:0"
    assert list(parser.feed(b"data: {\"a\": 1}\n\n")) == [Event("message", {"a": 1})]


def test_bytes_that_are_no_utf8():
    assert Event("log", {"base64": "/w=="}).text == "\ufffd"


def test_errors_by_number():
    import errno

    for code, kind in ((errno.ENOENT, errors.NotFound), (errno.EPROTO, errors.WrongVersion), (errno.ETIMEDOUT, errors.Unreachable)):
        error = errors.error_of(-code, "words")
        assert isinstance(error, kind) and str(error) == "words" and error.errno == code
    assert type(errors.error_of(-errno.EIO, "x")) is errors.TrainyardError
