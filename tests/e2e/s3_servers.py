"""Servers of object storage for tests: s3rver (npm), moto (PyPI), and a proxy that misbehaves, which may stand before either.

Both are fetched once into build/test-servers (or $TRAINYARD_TEST_SERVERS); Missing is raised where that cannot be done.
"""
import fcntl
import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.request

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CACHE = os.environ.get("TRAINYARD_TEST_SERVERS") or os.path.join(TOP, "build", "test-servers")
S3RVER = "3.7.1"
MOTO = "5.1.5"
START_SECONDS = 120
FETCH_SECONDS = 300


class Missing(Exception):
    """A server is not there and cannot be fetched."""


def fetch(name, probe, commands):
    """Make the folder CACHE/name by running the commands (in a folder beside it), once; returns it."""
    place = os.path.join(CACHE, name)
    os.makedirs(CACHE, exist_ok=True)
    with open(place + ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.path.exists(os.path.join(place, probe)):
            return place
        shutil.rmtree(place, ignore_errors=True)
        os.makedirs(place)
        for argv in commands:
            try:
                done = subprocess.run(argv, cwd=place, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                      text=True, timeout=FETCH_SECONDS)
            except (OSError, subprocess.TimeoutExpired) as e:
                raise Missing("%s cannot be fetched: %s" % (name, e))
            if done.returncode != 0:
                lines = [line for line in done.stdout.splitlines() if line.strip()]
                raise Missing("%s cannot be fetched: %s" % (name, lines[-1][:150] if lines else done.returncode))
    return place


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    """A process that listens on a port of its own, which `url` names."""

    def start(self, argv, folder, env=None):
        self.log = open(os.path.join(folder, type(self).__name__.lower() + ".log"), "ab")
        self.argv, self.env = argv, env
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, env=env)
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and self.process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return self
            except OSError:
                time.sleep(0.05)
        self.stop()
        raise Missing("%s does not start" % argv[-1])

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.log.close()

    @property
    def url(self):
        return "http://127.0.0.1:%d" % self.port


class S3rver(Server):
    """Knows one key, S3RVER, and checks no signature."""
    key, secret = "S3RVER", "S3RVER"

    def __init__(self, folder, bucket="tbk"):
        place = fetch("s3rver-" + S3RVER, "node_modules/s3rver/package.json",
                      [["npm", "install", "--no-audit", "--no-fund", "--no-update-notifier", "--ignore-scripts", "--fetch-retries=1",
                        "--prefix", ".", "s3rver@" + S3RVER]])
        self.port = free_port()
        self.files = os.path.join(folder, "s3rver")
        os.makedirs(self.files, exist_ok=True)
        self.start(["node", os.path.join(place, "node_modules/s3rver/bin/s3rver.js"), "-s", "-a", "127.0.0.1", "-p", str(self.port),
                    "-d", self.files, "--configure-bucket", bucket], folder)


def moto_python():
    """An interpreter that has moto and botocore."""
    place = fetch("moto-" + MOTO, "bin/moto_server",
                  [[sys.executable, "-m", "venv", "."],
                   [os.path.join("bin", "pip"), "install", "-q", "--retries", "1", "--timeout", "20", "moto[server,s3]==" + MOTO]])
    return os.path.join(place, "bin", "python")


class Moto(Server):
    """Checks signatures: the key is one that it has made for us.  With odd names in a request it computes another one than
    botocore does, so that boto3 fails there, too."""

    def __init__(self, folder):
        python = moto_python()
        self.port = free_port()
        env = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
        self.start([python, os.path.join(os.path.dirname(python), "moto_server"), "-H", "127.0.0.1", "-p",
                    str(self.port)], folder, dict(env, INITIAL_NO_AUTH_ACTION_COUNT="3"))
        self.ask("Action=CreateUser&UserName=ty")
        made = self.ask("Action=CreateAccessKey&UserName=ty")
        self.key = made.split("<AccessKeyId>")[1].split("<")[0]
        self.secret = made.split("<SecretAccessKey>")[1].split("<")[0]
        self.ask("Action=PutUserPolicy&UserName=ty&PolicyName=all&PolicyDocument=%7B%22Version%22%3A%222012-10-17%22%2C%22Statement%22"
                 "%3A%5B%7B%22Effect%22%3A%22Allow%22%2C%22Action%22%3A%22*%22%2C%22Resource%22%3A%22*%22%7D%5D%7D")

    def ask(self, query):
        """The three calls that it lets pass without a signature."""
        r = urllib.request.Request(self.url + "/", data=(query + "&Version=2010-05-08").encode(), headers={
            "Content-Type": "application/x-www-form-urlencoded",
            "Authorization": "AWS4-HMAC-SHA256 Credential=x/20130524/us-east-1/iam/aws4_request, SignedHeaders=host, Signature=x"})
        with urllib.request.urlopen(r, timeout=30) as a:
            return a.read().decode()


class Faulty:
    """A proxy before a server.  `rules`: functions of (number of the request, method, path) that return None (pass it on), or
    ("status", 503, headers, body), ("cut", n): pass on and close after n bytes of the answer's body, ("hang",): say nothing,
    ("drop",): take the request's body to its end, pass it on, and close without an answer, ("deaf",): close before the body is taken.
    """

    def __init__(self, port, certificate=None):
        """`certificate`: a file with one and its key: TLS is spoken."""
        self.tls = None
        if certificate:
            self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.tls.load_cert_chain(certificate)
        self.target, self.rules, self.count, self.seen, self.lock = port, [], 0, [], threading.Lock()
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self.socket.getsockname()[1]
        self.ended = threading.Event()
        threading.Thread(target=self.accept, daemon=True).start()

    @property
    def url(self):
        return "http%s://127.0.0.1:%d" % ("s" if self.tls else "", self.port)

    def reset(self, *rules):
        with self.lock:
            self.rules, self.count, self.seen = list(rules), 0, []

    def stop(self):
        self.ended.set()
        self.socket.close()

    def accept(self):
        while True:
            try:
                s, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(s,), daemon=True).start()

    def serve(self, s):
        try:
            if self.tls:
                s = self.tls.wrap_socket(s, server_side=True)
            with s, s.makefile("rb", 1 << 16) as f:
                while self.one(s, f):
                    pass
        except (OSError, ValueError, http.client.HTTPException):
            pass

    def verdict(self, method, path, headers):
        with self.lock:
            self.count += 1
            self.seen.append((method, path, headers))
            for rule in self.rules:
                what = rule(self.count, method, path)
                if what:
                    return what
        return ("pass",)

    def one(self, s, f):
        line = f.readline()
        if not line.strip():
            return False
        method, path, _ = line.decode("latin-1").split(" ", 2)
        headers = {}
        while True:
            h = f.readline()
            if not h.strip():
                break
            k, _, v = h.decode("latin-1").partition(":")
            headers[k.strip().lower()] = v.strip()
        what = self.verdict(method, path, headers)
        if what[0] == "hang":
            self.ended.wait(60)
            return False
        if what[0] == "deaf":
            return False
        left = int(headers.get("content-length", 0))
        body = f.read(left) if left else b""
        if len(body) < left:
            return False
        if what[0] == "status":
            s.sendall(("HTTP/1.1 %d Because\r\n" % what[1]).encode() + b"".join(b"%s: %s\r\n" % (k.encode(), v.encode())
                                                                              for k, v in what[2].items())
                      + b"Content-Length: %d\r\n\r\n" % len(what[3]) + (b"" if method == "HEAD" else what[3]))
            return True
        status, answer_headers, answer = self.forward(method, path, headers, body)
        if what[0] == "drop":
            return False
        if what[0] == "edit":
            answer = what[1](answer)
        s.sendall(b"HTTP/1.1 %d OK\r\n" % status + b"".join(b"%s: %s\r\n" % (k.encode(), v.encode()) for k, v in answer_headers
                                                            if k.lower() not in ("transfer-encoding", "connection", "content-length",
                                                                                 "keep-alive"))
                  + b"Content-Length: %d\r\n\r\n" % (len(answer) if method != "HEAD" else
                                                     int(dict((k.lower(), v) for k, v in answer_headers).get("content-length", 0))))
        if what[0] == "cut":
            s.sendall(answer[:what[1]])
            return False
        s.sendall(b"" if method == "HEAD" else answer)
        return True

    def forward(self, method, path, headers, body):
        c = http.client.HTTPConnection("127.0.0.1", self.target, timeout=60)
        try:
            c.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for k, v in headers.items():
                c.putheader(k, v)
            c.endheaders(body)
            a = c.getresponse()
            return a.status, a.getheaders(), a.read()
        finally:
            c.close()


def error_xml(code, message="because", **more):
    return ("<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>%s</Code><Message>%s</Message>%s</Error>" % (
        code, message, "".join("<%s>%s</%s>" % (k, v, k) for k, v in more.items()))).encode()


def access(url, bucket, key, secret, **more):
    return {"name": "d", "kind": "s3", "config": dict({"bucket": bucket, "endpoint": url, "access_key_id": key,
                                                       "secret_access_key": secret}, **more)}


def write_access(path, *args, **more):
    with open(path, "w") as f:
        json.dump(access(*args, **more), f)
    return path
