"""s3_check.py MOVER FOLDER - what s3.sh checks, as lines of TAP."""
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import traceback

import s3_servers
from s3_servers import error_xml

MOVER, FOLDER = sys.argv[1:3]
SECONDS = 120
LARGE = 100 << 20
PART = 16 << 20
failed = 0
outputs = []                    # of every mover, to look for secrets


class Result:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err
        sums = [line for line in out.splitlines() if line.startswith("{")]
        self.sum = json.loads(sums[-1]) if sums else {}

    def count(self, word):
        return sum(1 for line in self.out.splitlines() if line.startswith(word + " "))


ENV = {k: v for k, v in os.environ.items() if k.lower() not in ("http_proxy", "https_proxy", "all_proxy")}
ENV["TRAINYARD_TEST_RETRY_MS"] = "5"


def mover(access, *words, **env):
    done = subprocess.run([MOVER, access, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS,
                          env=dict(ENV, **env))
    outputs.append(done.stdout + done.stderr)
    return Result(done.returncode, done.stdout, done.stderr)


def check(what, good, *details):
    global failed
    print(("ok - " if good else "not ok - ") + what, flush=True)
    if not good:
        failed = 1
        for d in details:
            text = "%s\n%s" % (d.out, d.err) if isinstance(d, Result) else str(d)
            print("\n".join("#   " + line for line in text.splitlines()[:30]), flush=True)


def path(*words):
    return os.path.join(FOLDER, *words)


def write(where, data):
    os.makedirs(os.path.dirname(where), exist_ok=True)
    with open(where, "wb") as f:
        f.write(data)
    return where


def read(where):
    with open(where, "rb") as f:
        return f.read()


def large_file(where, size=LARGE, seed=b"x"):
    """Of blocks that all differ, quick to make."""
    block = b"".join(hashlib.sha256(seed + bytes([i])).digest() for i in range(256)) * 128     # 1 MiB
    os.makedirs(os.path.dirname(where), exist_ok=True)
    with open(where, "wb") as f:
        for i in range(size // len(block)):
            f.write(i.to_bytes(8, "big") + block[8:])
        f.write(block[:size % len(block)])
    return where


def same_trees(a, b):
    return subprocess.run(["diff", "-r", a, b], capture_output=True).returncode == 0


def leftovers(folder):
    return [n for _, _, names in os.walk(folder) for n in names if "trainyard" in n]


NAMES = ["x", "empty", "b/mid", "deep/er/and/deeper/a file"]
ODD = ["b/sp ace+ä&=%?#.txt", "b/~f'(1)*!", "b/日本"]    # of which moto computes other signatures than botocore


def make_tree(where, names):
    for i, name in enumerate(names):
        write(os.path.join(where, name), b"" if name == "empty" else os.urandom(300000 if name == "b/mid" else 10 + i))
    large_file(os.path.join(where, "b/large"), 40000001)
    return where


# ---- what a store does ----

def round_trip(label, access, names):
    tree, back = make_tree(path(label + "-tree"), names), path(label + "-back")
    n = len(names) + 1
    r = mover(access, "make")
    check(label + ": a bucket is made, and is no error when it is there", r.code == 0 and mover(access, "make").code == 0, r)
    r = mover(access, "validate")
    check(label + ": a good configuration is found good", r.code == 0, r)
    r = mover(access, "up", tree, "to")
    check(label + ": a folder goes up", r.code == 0 and r.count("moved") == n, r)
    r = mover(access, "up", tree, "to")
    check(label + ": a second time nothing is sent", r.code == 0 and r.count("there") == n and r.sum["bytes"] == 0, r)
    r = mover(access, "ls", "to")
    listed = sorted(line.split(" ", 2)[2] for line in r.out.splitlines())
    check(label + ": a listing has every name", listed == sorted("to/" + n for n in names + ["b/large"]), r)
    r = mover(access, "down", back, "to")
    check(label + ": it comes down as it was", r.code == 0 and same_trees(tree, back), r)
    r = mover(access, "down", back, "to")
    check(label + ": a second time nothing is fetched", r.code == 0 and r.count("there") == n and r.sum["bytes"] == 0, r)
    # other content
    write(os.path.join(tree, "x"), b"other, longer")
    large_file(os.path.join(tree, "b/large"), 40000001, b"y")
    r = mover(access, "up", tree, "to", "--keep-going")
    check(label + ": what is another file there is not replaced unasked",
          r.code == 1 and r.count("failed") == 2 and "overwrite is not set" in r.out and "'to/x'" in r.out, r)
    r = mover(access, "up", tree, "to", "--overwrite")
    check(label + ": ...and is when asked, the others are left alone", r.code == 0 and r.count("moved") == 2, r)
    r = mover(access, "down", back, "to", "--keep-going")
    check(label + ": a local file is not replaced unasked", r.code == 1 and r.count("failed") == 2 and not same_trees(tree, back), r)
    r = mover(access, "down", back, "to", "--overwrite")
    check(label + ": ...and is when asked", r.code == 0 and same_trees(tree, back) and not leftovers(back), r, leftovers(back))
    r = mover(access, "up1", os.path.join(tree, "x"), "alone")
    r2 = mover(access, "up1", os.path.join(tree, "x"), "alone")
    check(label + ": a single file needs no listing", r.code == 0 and r2.count("there") == 1, r, r2)
    r = mover(access, "rm", "alone")
    r2 = mover(access, "rm", "alone")
    check(label + ": an object is removed, and that is no error when it is gone", r.code == 0 and r2.code == 0, r, r2)
    r = mover(access, "down1", path("nothing"), "alone")
    check(label + ": what is not there is named", r.code == 1 and "'alone'" in r.err and "there is no such object" in r.err
          and not os.path.exists(path("nothing")), r)


def signatures(store, proxy, access):
    """Every kind of request with odd names, checked by another implementation."""
    what = "signatures are those of botocore"
    try:
        python = s3_servers.moto_python()
    except s3_servers.Missing as e:
        print("ok - %s # SKIP %s" % (what, e), flush=True)
        return
    tree = make_tree(path("signed-tree"), NAMES + ODD)
    proxy.reset()
    r = mover(access, "up", tree, "ödd +%&")
    r2 = mover(access, "down", path("signed-back"), "ödd +%&")
    mover(access, "up1", os.path.join(tree, "x"), ODD[0])
    mover(access, "rm", ODD[0])
    seen = [[m, proxy.url + u, h] for m, u, h in proxy.seen]
    kinds = sorted({m + re.sub("=[^&]*", "", u[u.find("?"):] if "?" in u else "") for m, u, _ in proxy.seen})
    done = subprocess.run([python, os.path.join(os.path.dirname(__file__), "s3_verify.py"), store.key, store.secret],
                          input=json.dumps(seen), capture_output=True, text=True)
    check(what + ", for %d requests of %d kinds" % (len(seen), len(kinds)), r.code == 0 and r2.code == 0 and len(kinds) >= 9
          and done.stdout == "%d\n" % len(seen), done.stdout + done.stderr, kinds, r, r2)


def bad_names(access):
    bad = write(path("names", "new\nline"), b"x")
    r = mover(access, "up", path("names"), "n")
    check("a file with a line break in its name is refused by name", r.code == 1 and '"n/new\\nline"' in r.err
          and "control characters" in r.err, r)
    os.unlink(bad)
    for name in ("../x", "a/../../x", "a//b", "/a", ".", "a/"):
        r = mover(access, "up1", write(path("names", "f"), b"x"), name)
        check("the object '%s' is refused" % name, r.code == 1 and "cannot be the path" in r.err, r)
    write(path("unread", "secret"), b"x")
    write(path("unread", "other"), b"y")
    os.chmod(path("unread", "secret"), 0)
    if os.geteuid() != 0:
        r = mover(access, "up", path("unread"), "unread", "--keep-going")
        check("a file that may not be read stops no other", r.code == 1 and r.count("moved") == 1 and "Permission denied" in r.err, r)
    os.chmod(path("unread", "secret"), 0o600)
    r = mover(access, "up1", path("names"), "n")
    check("a folder is no file", r.code == 1 and "it is a folder" in r.err, r)
    r = mover(access, "up1", path("names", "none"), "n")
    check("a file that is not there is named", r.code == 1 and "names/none" in r.err and "No such file" in r.err, r)
    r = mover(access, "up1", write(path("names", "f"), b"x"), "k" * 1100)
    check("a name that no store takes is refused", r.code == 1 and "too long" in r.err, r)


def wrong_things(store, access_of):
    wrong = access_of("secret.json", secret="not the secret")
    r = mover(wrong, "validate")
    check("a wrong secret is told", r.code == 1 and "the secret key is not the one of access key" in r.err
          and store.key in r.err, r)
    r = mover(wrong, "up1", write(path("names", "f"), b"x"), "n")
    check("...also when a file is sent", r.code == 1 and "cannot upload 'n' in bucket" in r.err, r)
    r = mover(access_of("key.json", key="AKIDOFNOBODY"), "validate")
    check("an unknown key is told", r.code == 1 and "there is no access key 'AKIDOFNOBODY'" in r.err, r)
    r = mover(access_of("bucket.json", bucket="not-there"), "validate")
    check("a missing bucket is told", r.code == 1 and "there is no such bucket" in r.err and "'not-there'" in r.err, r)
    r = mover(access_of("nobody.json", url="http://127.0.0.1:%d" % s3_servers.free_port()), "validate")
    check("a store that is not there is told", r.code == 1 and "cannot be connected to" in r.err, r)
    r = mover(access_of("nohost.json", url="http://no-such-host.invalid"), "validate")
    check("a host that is not there is told", r.code == 1 and "there is no host 'no-such-host.invalid'" in r.err, r)


# ---- a store and a way to it that fail ----

def of_parts(n, what):
    """The first n requests for a part are answered so."""
    left = [n]

    def rule(count, method, url):
        if "partNumber=" in url and left[0] > 0:
            left[0] -= 1
            return what
        return None
    return rule


def first(n, what, methods=("GET", "PUT", "POST", "HEAD")):
    return lambda count, method, url: what if count <= n and method in methods else None


def faults(proxy, access):
    small = path("faults", "small")
    for i in range(20):
        write(os.path.join(small, "f%d" % i), os.urandom(1000 + i))
    large = large_file(path("faults", "large"))
    slow = ("status", 503, {"Retry-After": "0"}, error_xml("SlowDown", "Please reduce your request rate."))
    proxy.reset(first(9, slow, ("PUT",)))
    r = mover(access, "up", small, "s1")
    check("a store that is overloaded is asked again", r.code == 0 and r.count("moved") == 20, r)
    check("...and that is counted", r.sum["retries"] > 0, r)
    proxy.reset(lambda n, m, u: ("status", 500, {}, error_xml("InternalError")) if m == "PUT" and u.endswith("/f7") else None)
    r = mover(access, "up", small, "s2", "--keep-going")
    check("a store that fails on and on is given up, for that file", r.code == 1 and r.count("moved") == 19 and "f7" in r.err
          and "fault of its own" in r.err, r)
    check("...after six tries", sum(1 for m, u, _ in proxy.seen if m == "PUT" and u.endswith("/f7")) == 6, proxy.seen)
    proxy.reset(of_parts(3, ("drop",)))
    r = mover(access, "up1", large, "large1")
    check("answers to parts that are lost are made up for", r.code == 0 and r.sum["retries"] > 0, r)
    proxy.reset(first(1, ("drop",), ("POST",)))
    r = mover(access, "up1", large, "large2")
    check("a lost answer to the beginning is made up for", r.code == 0, r)
    finish = [1]

    def lose_finish(n, m, u):
        if m == "POST" and "uploadId=" in u and finish:
            finish.pop()
            return ("drop",)
        return None
    proxy.reset(lose_finish)
    r = mover(access, "up1", large, "large3")
    check("a lost answer to the end is made up for", r.code == 0 and r.count("moved") == 1, r)
    proxy.reset(lambda n, m, u: ("deaf",) if n in (2, 3) and m == "PUT" else None)
    r = mover(access, "up", small, "s3")
    check("connections that break are made anew", r.code == 0 and r.count("moved") == 20, r)
    proxy.reset()
    r = mover(access, "down1", path("faults", "l3"), "large3")
    check("what came up so is right", r.code == 0 and read(path("faults", "l3")) == read(large), r)
    proxy.reset(lambda n, m, u: ("cut", 100000) if m == "GET" and n in (3, 5) else None)
    r = mover(access, "down1", path("faults", "l4"), "large3")
    check("answers that end in the middle are asked for again", r.code == 0 and r.sum["retries"] == 2
          and read(path("faults", "l4")) == read(large), r)
    proxy.reset(first(3, ("hang",), ("GET",)))
    r = mover(access, "down1", path("faults", "l5"), "s1/f3", TRAINYARD_TEST_STALL_S="1")
    check("a store that says nothing is not waited for", r.code == 0 and r.sum["retries"] == 2, r)
    bend = ("edit", lambda body: body[:50] + bytes([body[50] ^ 1]) + body[51:])
    proxy.reset(lambda n, m, u: bend if m == "GET" and n == 2 else None)
    r = mover(access, "down1", path("faults", "l6"), "s1/f3")
    check("bytes that are bent on their way are fetched again", r.code == 0
          and read(path("faults", "l6")) == read(os.path.join(small, "f3")), r)
    proxy.reset(lambda n, m, u: bend if m == "GET" else None)
    r = mover(access, "down1", path("faults", "l7"), "s1/f3")
    check("...and if that does not help, there is no file", r.code == 1 and "its MD5 is another one" in r.err
          and not os.path.exists(path("faults", "l7")), r)
    r = mover(access, "down1", path("faults", "l8"), "large3")
    check("...nor one of parts", r.code == 1 and "its MD5 is another one" in r.err and not os.path.exists(path("faults", "l8"))
          and not leftovers(path("faults")), r, leftovers(path("faults")))
    skewed = error_xml("RequestTimeTooSkewed", "The difference is too large.", RequestTime="20261126T200000Z",
                       ServerTime="2026-11-26T20:20:00Z")
    proxy.reset(lambda n, m, u: ("status", 403, {}, skewed))
    r = mover(access, "validate", TRAINYARD_TEST_CLOCK_SHIFT="-1200")
    check("a clock that is wrong is told with both times", r.code == 1 and "the clock of this machine says" in r.err
          and "that of the store 2026-11-26T20:20:00Z" in r.err, r)
    proxy.reset(lambda n, m, u: ("status", 403, {"Date": time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime())}, b""))
    r = mover(access, "down1", path("faults", "l9"), "large3", TRAINYARD_TEST_CLOCK_SHIFT="-1200")
    check("...also of an answer that has no text", r.code == 1 and "the clock of this machine says" in r.err, r)
    proxy.reset(lambda n, m, u: ("status", 301, {"x-amz-bucket-region": "eu-west-3"}, b""))
    r = mover(access, "validate")
    check("the bucket's region is told", r.code == 1 and "is in region 'eu-west-3', not 'us-east-1'" in r.err, r)
    proxy.reset(lambda n, m, u: ("status", 200, {}, b"<html>a login page</html>") if m == "GET" else None)
    r = mover(access, "ls")
    check("what is no store is no empty store", r.code == 1, r)
    page = b"<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken></ListBucketResult>"
    proxy.reset(lambda n, m, u: ("status", 200, {}, page) if m == "GET" else None)
    r = mover(access, "ls")
    check("a list that has no end is given up", r.code == 1 and "the same page of the list again and again" in r.err, r)
    proxy.reset()


def sent_while_it_changes(proxy, access):
    for what, change, says in (("becomes shorter", lambda f: os.truncate(f, PART), "became shorter while it was sent"),
                               ("is written", lambda f: open(f, "r+b").write(b"changed"), "was changed while it was sent")):
        f = large_file(path("changing", "file"))
        acted = []

        def rule(n, m, u):
            if "partNumber=" in u and not acted:
                acted.append(1)
                change(f)
            return None
        proxy.reset(rule)
        r = mover(access, "up1", f, "changing")
        check("a large file that %s while it is sent is named" % what, r.code == 1 and says in r.err and "changing/file" in r.err, r)
        r = mover(access, "ls", "changing")
        check("...and nothing of it is to be seen", r.code == 0 and r.out == "", r)
    proxy.reset()


def changes_while_fetched(proxy, store, access, direct):
    old, new = large_file(path("moving", "old")), large_file(path("moving", "new"), LARGE, b"z")
    mover(direct, "up1", old, "moving", "--overwrite")
    acted = []

    def rule(n, m, u):
        if m == "GET" and n == 4 and not acted:
            acted.append(1)
            mover(direct, "up1", new, "moving", "--overwrite")
        return None
    proxy.reset(rule)
    r = mover(access, "down1", path("moving", "got"), "moving", "--parallel", "2")
    check("an object that changes while it is fetched comes whole", r.code == 0 and acted
          and read(path("moving", "got")) == read(new), r)
    proxy.reset()


def kill_at(argv, proxy, reached):
    """Start the mover, kill it when so many requests have come in."""
    p = subprocess.Popen([MOVER, *argv], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENV)
    end = time.monotonic() + 60
    while not reached() and time.monotonic() < end and p.poll() is None:
        time.sleep(0.02)
    p.send_signal(signal.SIGKILL)
    return p.wait() == -signal.SIGKILL and reached()


def killed(proxy, access, lists_uploads):
    """s3rver lists no unfinished uploads: there everything is sent again."""
    shutil.rmtree(path("killed"), ignore_errors=True)
    large = large_file(path("killed", "large"))
    def part_number(url):
        m = re.search(r"partNumber=(\d+)", url)
        return int(m.group(1)) if m else 0
    proxy.reset(lambda n, m, u: ("hang",) if part_number(u) > 4 or "uploadId=" in u and m == "POST" else None)
    # Of four at once the fifth, sixth and seventh are sent when three others have been answered: the store has those.
    good = kill_at([access, "up1", large, "killed", "--parallel", "4"], proxy, lambda: sum(1 for m, u, _ in proxy.seen if part_number(u) > 4) >= 3)
    time.sleep(0.3)     # parts that the proxy has taken still reach the server
    label = "" if lists_uploads else " (or all, where the store lists no uploads)"
    check("a process is killed while it sends", good)
    check("...and no half object is there", mover(access, "ls", "killed").out == "")
    proxy.reset()
    r = mover(access, "up1", large, "killed")
    sent = [part_number(u) for m, u, _ in proxy.seen if part_number(u)]
    check("the next one sends what is missing" + label, r.code == 0 and (0 < len(sent) < 7) == lists_uploads
          and (r.sum["bytes"] < LARGE) == lists_uploads, r, sent)
    got = path("killed", "got")

    def offset(headers):
        m = re.match(r"bytes=(\d+)-", headers.get("range", ""))
        return int(m.group(1)) if m else 0
    def rule(n, m, u):
        return ("hang",) if m == "GET" and n > 5 else None
    proxy.reset(rule)
    good = kill_at([access, "down1", got, "killed", "--parallel", "4"], proxy,
                   lambda: sum(1 for m, u, h in proxy.seen if m == "GET") >= 7)
    check("a process is killed while it fetches", good)
    check("...and there is no file of that name", not os.path.exists(got) and leftovers(path("killed")), os.listdir(path("killed")))
    proxy.reset()
    r = mover(access, "down1", got, "killed")
    check("the next one fetches what is missing", r.code == 0 and 0 < r.sum["bytes"] < LARGE and read(got) == read(large), r)
    check("...and leaves nothing beside it", not leftovers(path("killed")), leftovers(path("killed")))
    # what is begun is of another object by now
    proxy.reset(rule)
    os.unlink(got)
    kill_at([access, "down1", got, "killed", "--parallel", "4"], proxy, lambda: sum(1 for m, u, h in proxy.seen if m == "GET") >= 7)
    proxy.reset()
    other = large_file(path("killed", "other"), LARGE, b"q")
    mover(access, "up1", other, "killed", "--overwrite")
    r = mover(access, "down1", got, "killed")
    check("parts of an older object are not used", r.code == 0 and read(got) == read(other), r)
    two = [subprocess.Popen([MOVER, access, "down1", path("killed", "both"), "killed"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True, env=ENV) for _ in range(2)]
    results = [(p.communicate()[1], p.returncode) for p in two]
    check("two processes that fetch one file do not spoil it", read(path("killed", "both")) == read(other)
          and all(code == 0 or "another process is downloading it" in err for err, code in results), results)


def full_disk(access):
    place = path("disk")
    os.makedirs(place, exist_ok=True)
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=30m", "tmpfs", place],
                                           capture_output=True).returncode != 0:
        print("ok - a full disk # SKIP only root can mount one")
        return
    try:
        r = mover(access, "down1", os.path.join(place, "large"), "killed")
        check("a full disk is told before anything is fetched", r.code == 1 and "there is no space for" in r.err
              and "are needed" in r.err, r)
        check("...and nothing stays on it", os.listdir(place) == [], os.listdir(place))
        with open(os.path.join(place, "filler"), "wb") as f:
            os.posix_fallocate(f.fileno(), 0, (30 << 20) - 65536)
        r = mover(access, "down", os.path.join(place, "small"), "s1", "--overwrite")
        check("...also with small files", r.code == 1 and "there is no space for" in r.err, r)
        check("...of which none is half", all(os.path.getsize(os.path.join(d, n)) >= 1000 for d, _, names in
                                              os.walk(os.path.join(place, "small")) for n in names), r)
    finally:
        subprocess.run(["umount", place])


def over_tls(store):
    pem = path("tls.pem")
    done = subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", "-addext",
                           "subjectAltName=IP:127.0.0.1", "-keyout", pem + ".key", "-out", pem + ".crt"], capture_output=True, text=True)
    if done.returncode != 0:
        check("a certificate can be made", False, done.stderr)
        return
    write(pem, read(pem + ".crt") + read(pem + ".key"))
    proxy = s3_servers.Faulty(store.port, pem)
    try:
        access = s3_servers.write_access(path("tls.json"), proxy.url, "tbk", store.key, store.secret)
        unset = {"CURL_CA_BUNDLE": "", "SSL_CERT_FILE": ""}
        r = mover(access, "validate", **unset)
        check("a certificate that nobody vouches for is refused", r.code == 1 and "is not one that this machine trusts" in r.err
              and "CURL_CA_BUNDLE" in r.err, r)
        r = mover(access, "up1", large_file(path("tls"), 20 << 20), "tls", **dict(unset, CURL_CA_BUNDLE=pem + ".crt"))
        check("...and taken when CURL_CA_BUNDLE has it", r.code == 0 and r.count("moved") == 1, r)
        r = mover(access, "validate", **dict(unset, SSL_CERT_FILE=path("no-such-file")))
        check("...a list of authorities that is not there is told", r.code == 1 and "list of authorities" in r.err, r)
    finally:
        proxy.stop()


def with_s3rver():
    store = s3_servers.S3rver(FOLDER)
    proxy = s3_servers.Faulty(store.port)
    try:
        direct = s3_servers.write_access(path("s3rver.json"), store.url, "tbk", store.key, store.secret, prefix="p/q")
        through = s3_servers.write_access(path("proxy.json"), proxy.url, "tbk", store.key, store.secret, prefix="p/q")
        round_trip("s3rver", direct, NAMES + ODD)
        signatures(store, proxy, through)
        bad_names(direct)
        faults(proxy, through)
        sent_while_it_changes(proxy, through)
        changes_while_fetched(proxy, store, through, direct)
        killed(proxy, through, False)
        full_disk(direct)
        over_tls(store)
    finally:
        proxy.stop()
        store.stop()


def with_moto():
    store = s3_servers.Moto(FOLDER)
    proxy = s3_servers.Faulty(store.port)

    def access_of(name, url=store.url, bucket="mbk", key=store.key, secret=store.secret):
        return s3_servers.write_access(path(name), url, bucket, key, secret)
    try:
        access = access_of("moto.json")
        round_trip("moto", access, NAMES)
        wrong_things(store, access_of)
        killed(proxy, access_of("moto-proxy.json", url=proxy.url), True)
    finally:
        proxy.stop()
        store.stop()


def main():
    for name, test in (("S3 by s3rver", with_s3rver), ("S3 by moto", with_moto)):
        try:
            test()
        except s3_servers.Missing as e:
            print("ok - %s # SKIP %s" % (name, e), flush=True)
        except Exception:
            check(name + " comes to its end", False, traceback.format_exc())
    shutil.rmtree(path("killed"), ignore_errors=True)
    leaks = [o for o in outputs if "not the secret" in o or "S3RVER" in o and "access key 'S3RVER'" not in o]
    check("no secret is in any text", not leaks, *leaks)
    return failed


sys.exit(main())
