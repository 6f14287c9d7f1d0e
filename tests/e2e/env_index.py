#!/usr/bin/python3
"""A package index of the tests' own, and wheels for it.

    env_index.py wheel DIR NAME VERSION [REQUIREMENT...]   make NAME-VERSION-py3-none-any.whl: a module NAME with __version__
    env_index.py serve DIR [HOST]                          serve DIR/*.whl; DIR/port holds the port once it listens

Below /private/ is the same, for who has the password geheim9. While DIR/gate-NAME exists, files of NAME are not sent: whoever asks waits. DIR/requests has a line for each request.
"""
import base64
import hashlib
import http.server
import os
import re
import sys
import threading
import time
import zipfile


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def wheel(folder, name, version, requires):
    path = os.path.join(folder, "%s-%s-py3-none-any.whl" % (name, version))
    info = "%s-%s.dist-info" % (name, version)
    files = {
        "%s.py" % name: "__version__ = %r\n" % version,
        info + "/METADATA": "Metadata-Version: 2.1\nName: %s\nVersion: %s\n" % (name, version)
        + "".join("Requires-Dist: %s\n" % r for r in requires),
        info + "/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join("%s,sha256=%s,%d\n" % (
        p, base64.urlsafe_b64encode(hashlib.sha256(t.encode()).digest()).rstrip(b"=").decode(), len(t)) for p, t in files.items())
    files[info + "/RECORD"] = record + "%s/RECORD,,\n" % info
    with zipfile.ZipFile(path + ".new", "w") as z:
        for p, text in files.items():
            z.writestr(zipfile.ZipInfo(p, (2020, 1, 1, 0, 0, 0)), text)
    os.rename(path + ".new", path)


class Index(http.server.BaseHTTPRequestHandler):
    folder = ""
    protocol_version = "HTTP/1.0"

    def log_message(self, *args):
        with open(os.path.join(self.folder, "requests"), "a") as f:
            f.write("%s\n" % self.path)

    def answer(self, code, body=b"", kind="text/html"):
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def do_GET(self):
        parts = self.path.strip("/").split("/")
        if parts[0] == "private":
            if self.headers.get("Authorization") != "Basic " + base64.b64encode(b"me:geheim9").decode():
                return self.answer(401)
            parts = parts[1:]
        wheels = sorted(f for f in os.listdir(self.folder) if f.endswith(".whl"))
        if parts[0] == "files" and parts[-1] in wheels:
            gate = os.path.join(self.folder, "gate-" + parts[-1].split("-")[0])
            while os.path.exists(gate):
                time.sleep(0.02)
            with open(os.path.join(self.folder, parts[-1]), "rb") as f:
                return self.answer(200, f.read(), "application/octet-stream")
        if parts[0] != "simple" or len(parts) > 2:
            return self.answer(404)
        names = sorted({normal(f.split("-")[0]) for f in wheels})
        if len(parts) == 1:
            return self.answer(200, "".join('<a href="/simple/%s/">%s</a>\n' % (n, n) for n in names).encode())
        links = ""
        for f in wheels:
            if normal(f.split("-")[0]) == normal(parts[1]):
                with open(os.path.join(self.folder, f), "rb") as g:
                    links += '<a href="/files/%s#sha256=%s">%s</a>\n' % (f, hashlib.sha256(g.read()).hexdigest(), f)
        return self.answer(200 if links else 404, links.encode())

    do_HEAD = do_GET


def serve(folder, host):
    Index.folder = folder
    server = http.server.ThreadingHTTPServer((host, 0), Index)
    server.daemon_threads = True
    path = os.path.join(folder, "port")
    with open(path + ".new", "w") as f:
        f.write("%d\n" % server.server_address[1])
    os.rename(path + ".new", path)
    threading.current_thread().name = "index"
    server.serve_forever()


if __name__ == "__main__":
    if sys.argv[1] == "wheel":
        wheel(sys.argv[2], sys.argv[3], sys.argv[4], sys.argv[5:])
    else:
        serve(sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else "127.0.0.1")
