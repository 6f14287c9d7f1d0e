"""Do addresses of packages answer? Asked of a server of the test's own, of folders, and of a port where nobody listens."""
import http.server
import threading

import pytest

from trainyard import reached


@pytest.fixture
def server():
    """Answers 200 below /good with the right password, 405 below /head, else 404; its address, and what it was sent."""
    sent = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            sent.append((self.path, self.headers.get("Authorization")))
            if self.path.startswith("/to/"):
                self.send_response(302)
                self.send_header("Location", "http://%s/good" % self.path[4:])
                self.end_headers()
                return
            self.send_response(200 if self.path.startswith("/good") else 405 if self.path.startswith("/head") else 404)
            if self.path == "/good/sized":
                self.send_header("Content-Length", "1234")
            self.end_headers()

        do_GET = do_HEAD  # what follows a redirection

        def log_message(self, *args):
            pass

    service = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=service.serve_forever)
    thread.start()
    yield "127.0.0.1:%d" % service.server_address[1], sent
    service.shutdown()
    thread.join()
    service.server_close()


def test_what_answers_and_what_does_not(server, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    host, sent = server
    assert reached.ask("http://%s/good" % host) is None
    assert reached.ask("http://%s/head" % host) is None  # it is there, whatever it thinks of HEAD
    assert reached.ask("http://%s/nothing" % host) == "404"
    assert reached.ask("http://u:a%%40b@%s/good" % host) is None
    assert sent[-1] == ("/good", "Basic dTphQGI=")
    assert "refused" in reached.ask("http://127.0.0.1:9/x")


def test_a_password_does_not_go_to_another_host(server, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    host, sent = server
    assert reached.ask("http://u:secret@%s/to/%s" % (host, host)) is None
    assert [bool(password) for _, password in sent] == [True, True]
    assert reached.ask("http://u:secret@%s/to/%s" % (host, host.replace("127.0.0.1", "localhost"))) is None
    assert [bool(password) for _, password in sent[2:]] == [True, False]


def test_folders_and_what_is_no_address(tmp_path):
    (tmp_path / "repodata.json").write_text("{}")
    assert reached.ask("file://%s/repodata.json" % tmp_path) is None
    assert "No such file" in reached.ask("file://%s/other.json" % tmp_path)
    assert reached.ask("no address") is not None


def test_sizes(server, tmp_path):
    address, sent = server
    (tmp_path / "file").write_text("12345")
    assert reached.size("http://me:pass%%40word@%s/good/sized" % address) == 1234
    assert sent[-1][1].startswith("Basic ")
    assert reached.size((tmp_path / "file").as_uri()) == 5
    for url in ("http://%s/good/unsized" % address, "http://%s/none" % address, "http://127.0.0.1:9/x", "no address"):
        assert reached.size(url) is None
