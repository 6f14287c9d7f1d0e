"""Object stores as datastores, against s3rver, moto and Azurite.  Run by datastores.sh, whose state folder and programs it uses."""
import base64
import hashlib
import json
import os
import pty
import pwd
import re
import select
import shutil
import signal
import subprocess
import sys
import time

SOURCE, T, HOME = sys.argv[1], os.environ["T"], os.environ["TRAINYARD_HOME"]
sys.path.insert(0, os.path.join(SOURCE, "tests", "e2e"))
import s3_servers  # noqa: E402

SECONDS = 600       # for one command
DEADLINE = 180       # for something to become true
failed = 0
heard = []          # everything that was printed: no key may be in it
secrets = set()


def tell(what, wrong=None):
    global failed
    if wrong:
        failed += 1
        print("not ok - " + what)
        for line in str(wrong).splitlines():
            print("#   " + line)
    else:
        print("ok - " + what)
    sys.stdout.flush()


def trainyard(*args, env=None, stdin=None, cwd=None):
    """(exit code, standard output, standard error)"""
    done = subprocess.run(["trainyard", *args], capture_output=True, text=True, timeout=SECONDS, env=dict(os.environ, **(env or {})),
                          input=stdin, stdin=None if stdin is not None else subprocess.DEVNULL, cwd=cwd)
    heard.append(done.stdout + done.stderr)
    return done.returncode, done.stdout, done.stderr


def good(what, *args, says=None, **more):
    code, out, err = trainyard(*args, **more)
    wrong = code != 0 or (says and not re.search(says, out + err, re.M))
    tell(what, wrong and "trainyard %s gave %d, and no /%s/: %s%s" % (" ".join(args), code, says, out, err))
    return out


def bad(what, want, says, *args, **more):
    code, out, err = trainyard(*args, **more)
    tell(what, (code != want or not re.search(says, err, re.M)) and
         "trainyard %s gave %d (%d is wanted) and no /%s/: %s%s" % (" ".join(args), code, want, says, out, err))


def same(what, expected, got):
    tell(what, expected != got and "expected: %.600r\ngot:      %.600r" % (expected, got))


def until(fn):
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        if fn():
            return True
        time.sleep(0.05)
    return False


def short(data):
    return data if len(data) < 100 else (len(data), hashlib.sha256(data).hexdigest())


def tree(root):
    """{path: its bytes, or when they are many their digest}"""
    found = {}
    for folder, _, names in os.walk(root):
        for name in names:
            path = os.path.join(folder, name)
            if not os.path.isfile(path):
                continue
            with open(path, "rb") as f:
                found[os.path.relpath(path, root)] = short(f.read())
    return found


def make_tree(root):
    content = {"a.txt": b"alpha", "empty": b"", "sub/with blank & +%.bin": os.urandom(70000), "sub/deep/\u00e9\u00df.txt": b"accents",
               "sub/large.bin": os.urandom(9 << 20)}
    for path, data in content.items():
        full = os.path.join(root, path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "wb") as f:
            f.write(data)
    return content, tree(root)


def access_of(name):
    """With the key: the one answer that has it."""
    done = subprocess.run(["trainyard", "api", "/api/v1/datastores/%s/access" % name], capture_output=True, text=True, timeout=SECONDS)
    return json.loads(done.stdout)


def helper(access, **more):
    """The last line that the data helper says."""
    asked = json.dumps(dict({"version": 1, "access": access}, **more)) + "\n"
    done = subprocess.run(["trainyard-agent", "data"], input=asked, capture_output=True, text=True, timeout=SECONDS)
    return json.loads(done.stdout.splitlines()[-1])


def life(name, add, env, without, where, again=()):
    """From its registration to its end: `add` are the options that say where it is, `without` those of a store that is not there, `again` more
    for when it is full."""
    src, back = os.path.join(T, name + "-src"), os.path.join(T, name + "-back")
    content, made = make_tree(src)
    bad("%s: a container that is not there is no datastore" % name, 1, "datastore '%s' cannot be used: .*(container|bucket)" % name,
        "data", "add", name, *without, env=env)
    bad("%s: ...and nothing is registered" % name, 3, "there is no datastore '%s'" % name, "data", "show", name)
    good("%s: it is registered, and its container made" % name, "data", "add", name, *add, "--create", env=env, says="registered datastore")
    good("%s: the same again is no change" % name, "data", "add", name, *add, env=env)
    good("%s: it is listed with its place" % name, "data", "ls", says=r"^%s +\S+ +no +%s" % (name, where))
    good("%s: a folder is stored" % name, "data", "put", src, name + ":in", says="stored 5 files in '%s'$" % name)
    good("%s: what is there is not sent again" % name, "data", "put", src, name + ":in", says="stored 5 files in '%s', 5 of them there already" % name)
    listed = json.loads(good("%s: its files are listed" % name, "data", "ls", "--json", name + ":"))
    same("%s: ...with their sizes" % name, {"in/" + path: len(data) for path, data in content.items()},
         {f["path"]: f["bytes"] for f in listed["files"]})
    listed = json.loads(good("%s: ...below a prefix" % name, "data", "ls", "--json", name + ":in/sub/deep"))
    same("%s: ...alone" % name, ["in/sub/deep/\u00e9\u00df.txt"], [f["path"] for f in listed["files"]])
    good("%s: a folder comes back under its own name" % name, "data", "get", name + ":in", back, says="5 files in")
    same("%s: ...as it was" % name, made, tree(os.path.join(back, "in")))
    good("%s: a file becomes what it is asked to" % name, "data", "get", name + ":in/a.txt", os.path.join(back, "one"))
    same("%s: ...with its content" % name, b"alpha", tree(back)["one"])
    bad("%s: what is not there is told" % name, 3, "no file or folder 'in/none'", "data", "get", name + ":in/none", back)
    with open(os.path.join(src, "a.txt"), "w") as f:
        f.write("another")
    bad("%s: another content needs to be asked for" % name, 5, "a.txt", "data", "put", src, name + ":in")
    good("%s: ...and is stored then" % name, "data", "put", "--overwrite", src, name + ":in", says="4 of them there already")
    bad("%s: so does a local file" % name, 5, "a.txt", "data", "get", name + ":in", back)
    good("%s: ...which is replaced then" % name, "data", "get", "--overwrite", name + ":in", back)
    same("%s: ...by what is stored" % name, b"another", tree(back)["in/a.txt"])
    same("%s: nothing half is left" % name, [], [p for p in list(tree(src)) + list(tree(back)) if "trainyard-part" in p])
    good("%s: it is forgotten" % name, "data", "rm", name, says="its data stays")
    good("%s: registered anew, it has what it had" % name, "data", "add", name, *add, *again, env=env)
    good("%s: ...all of it" % name, "data", "ls", name + ":", says="^in/sub/large.bin")
    same("%s: an object of it is removed" % name, {"files": 1, "bytes": 0, "there": 0, "failed": 0},
         helper(access_of(name), do="rm", path="in/empty").get("done"))
    good("%s: ...and is gone" % name, "data", "ls", name + ":in/", says="^in/a.txt")


def s3rver():
    server = s3_servers.S3rver(T)
    try:
        env = {"S3_KEY": server.secret}
        place = ["--endpoint", server.url, "--key-id", server.key, "--key-env", "S3_KEY"]
        full = ["--skip-validation"]    # s3rver cannot say that there are more objects than were asked for (it wants an older Node)
        life("ssets", ["--bucket", "sets", "--prefix", "below/here"] + place, env, ["--bucket", "nobody"] + place,
             "s3://sets/below/here at " + server.url, full)
        good("a key from a file, and one from standard input", "data", "add", "again", "--bucket", "sets", "--endpoint", server.url, "--key-id",
             server.key, "--key-file", "-", *full, stdin=server.secret + "\n")
        good("...is good", "data", "ls", "again:below/", says="^below/here/in/a.txt")
        terminal(server)
        without_curl()
    finally:
        server.stop()
    bad("a store that is gone is told", 1, "cannot be connected to|connection", "data", "ls", "again:", env={"TRAINYARD_TEST_RETRY_MS": "1"})


def moto():
    server = s3_servers.Moto(T)
    try:
        secrets.add(server.secret)
        place = ["--bucket", "signed", "--endpoint", server.url, "--key-id", server.key]
        good("S3: a server that checks signatures takes ours", "data", "add", "signed", *place, "--key-env", "K", "--create", env={"K": server.secret})
        good("S3: ...and a file", "data", "put", "file", "signed:file", says="stored 1 file")
        bad("S3: a wrong key is told", 1, "datastore 'wrong' cannot be used: .*secret.*key", "data", "add", "wrong", *place, "--key-env", "K",
            env={"K": server.secret[:-1] + "x"})
        good("S3: ...unless nobody looks", "data", "add", "wrong", *place, "--key-env", "K", "--skip-validation", env={"K": server.secret[:-1] + "x"})
        secrets.add(server.secret[:-1] + "x")
        bad("S3: ...until it is used", 4, "check secret_access_key", "data", "put", "file", "wrong:file")
    finally:
        server.stop()


class Azurite:
    def __enter__(self):
        self.process = subprocess.Popen(["bash", os.path.join(SOURCE, "tests/e2e/objects.lib.sh"), "azurite"], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        if not line:
            why = self.process.stderr.read().strip()
            self.process.wait()
            raise s3_servers.Missing(why or "Azurite does not start")
        about = json.loads(line)
        os.environ.update(AZ_PORT=str(about["port"]), AZ_ACCOUNT=about["account"], AZ_KEY=about["key"], AZ_URL=about["url"])
        return about

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()


def azure():
    with Azurite() as about:
        import objects_azure
        secrets.add(about["key"])
        env = {"AZ": about["key"]}
        place = ["--account", about["account"], "--endpoint", about["url"], "--protocol", "http"]
        life("azsets", ["--container", "sets"] + place + ["--key-env", "AZ"], env, ["--container", "nobody"] + place + ["--key-env", "AZ"],
             about["url"] + "/sets")
        sas = objects_azure.sas("sets")
        old = objects_azure.sas("sets", se="2021-01-01T00:00:00Z")
        secrets.update(s.split("sig=")[1] for s in (sas, old))
        good("Azure: a SAS is a key, too", "data", "add", "bysas", "--container", "sets", *place, "--sas", "--key-env", "SAS", env={"SAS": "?" + sas})
        good("Azure: ...and good for all that is done", "data", "put", "file", "bysas:new", says="stored 1 file")
        bad("Azure: an expired SAS is told, with its time", 1, "datastore 'old' cannot be used: .*2021-01-01", "data", "add", "old", "--container",
            "sets", *place, "--sas", "--key-env", "SAS", env={"SAS": old})
        other = base64.b64encode(os.urandom(64)).decode()
        secrets.add(other)
        bad("Azure: a wrong key is told", 1, "datastore 'wrongaz' cannot be used: .*key", "data", "add", "wrongaz", "--container", "sets", *place,
            "--key-env", "AZ", env={"AZ": other})
        good("Azure: another container is registered", "data", "add", "gone", "--container", "gone", *place, "--key-env", "AZ", "--create", env=env)
        objects_azure.call("DELETE", "/gone", "restype=container")
        bad("Azure: one that has been removed since is told", 3, "container 'gone'", "data", "put", "file", "gone:file")
        bad("names that cannot be are refused before anybody is asked", 1, "cannot be its 'container_name'", "data", "add", "x", "--container",
            "a/../b", *place, "--no-key")
        jobs()


def wait_for(fd, text, said):
    """Read what the terminal shows until it has the text."""
    end = time.monotonic() + DEADLINE
    while text not in said and time.monotonic() < end:
        if select.select([fd], [], [], 0.1)[0]:
            try:
                said += os.read(fd, 65536).decode(errors="replace")
            except OSError:
                break
    return said


def on_terminal(*args, answer=None):
    """(exit code, what the terminal showed) of a command on a terminal of its own; `answer`: (wait for this, type that)."""
    pid, fd = pty.fork()
    if pid == 0:
        os.execvp("trainyard", ["trainyard", *args])
    said = ""
    if answer:
        said = wait_for(fd, answer[0], said)
        os.write(fd, (answer[1] + "\n").encode())
    said = wait_for(fd, "\0 never \0", said)
    os.close(fd)
    heard.append(said)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said


def terminal(server):
    secrets.add("typed-by-hand")
    code, said = on_terminal("data", "add", "typed", "--bucket", "sets", "--endpoint", server.url, "--key-id", server.key, "--skip-validation",
                             answer=("The secret access key: ", "typed-by-hand"))
    tell("a key is asked for on a terminal, which does not show it", (code != 0 or "typed-by-hand" in said) and "%d: %r" % (code, said))
    same("...and arrives", "typed-by-hand", access_of("typed")["config"]["secret_access_key"])
    proxy = s3_servers.Faulty(server.port)
    try:
        trainyard("data", "add", "slow", "--bucket", "sets", "--endpoint", proxy.url, "--key-id", server.key, "--key-env", "K", "--skip-validation",
                  env={"K": server.secret})
        os.makedirs("many", exist_ok=True)
        for i in range(40):
            with open("many/%d" % i, "wb") as f:
                f.write(os.urandom(20000))
        proxy.reset(lambda count, method, path: time.sleep(0.05))
        code, said = on_terminal("data", "put", "many", "slow:many")
        tell("a terminal shows how far an upload is", (code != 0 or not re.search(r"upload \[#*\.*\] .* of 800.0 kB", said)) and repr(said))
        code, said = on_terminal("data", "get", "slow:many", "many.back")
        tell("...and a download", (code != 0 or "download [" not in said) and repr(said))
        same("...which is whole", tree("many"), tree("many.back/many"))
        for name, number, send, what in (("int", signal.SIGINT, os.kill, "an upload that is interrupted"),
                                         ("terminal", signal.SIGINT, os.killpg, "an upload that a terminal interrupts, and its helper with it"),
                                         ("kill", signal.SIGKILL, os.kill, "an upload whose command is killed")):
            cut_off(proxy, "slow:cut-" + name, number, send, what)
    finally:
        proxy.stop()


def children(pid):
    with open("/proc/%d/task/%d/children" % (pid, pid)) as f:
        return [int(p) for p in f.read().split()]


def cut_off(proxy, name, number, send, what):
    """The helper goes with its command, and the next one goes on."""
    proxy.reset(lambda count, method, path: time.sleep(0.05))
    process = subprocess.Popen(["trainyard", "data", "put", "many", name], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True, start_new_session=True)
    until(lambda: sum(m == "PUT" for m, _, _ in proxy.seen) > 5)
    helpers = children(process.pid)
    send(process.pid, number)
    said = process.communicate()[0]
    heard.append(said)
    if number == signal.SIGINT:
        tell(what + " says so", (process.returncode != 130 or "interrupted; what was moved is kept" not in said) and
             "%d: %s" % (process.returncode, said))
    else:
        same(what + " ends", -9, process.returncode)
    tell("...and leaves no helper", (not helpers or not until(lambda: not any(os.path.exists("/proc/%d" % p) for p in helpers))) and helpers)
    proxy.reset()
    good("...and goes on where it was", "data", "put", "many", name, says="stored 40 files in 'slow', [0-9]+ of them there already")


def without_curl():
    folder = os.path.join(T, "nolib")
    os.makedirs(folder)
    for name in ("libcurl.so.4", "libcurl-gnutls.so.4"):
        open(os.path.join(folder, name), "w").close()
    bad("a machine without libcurl is told what it lacks", 1, "apt install libcurl4", "data", "ls", "again:", env={"LD_LIBRARY_PATH": folder})


# ---- a job, and what is seen of keys ----

JOB = """import json, os, stat
folder = os.environ["TRAINYARD_JOB"]
job = json.load(open(folder + "/job.json"))
print("mode", oct(stat.S_IMODE(os.stat(folder + "/job.json").st_mode)), oct(stat.S_IMODE(os.stat(folder).st_mode)))
print("dirs", job["data_dirs"], "access", [a and sorted(a) for a in job["data_access"]])
print("in", sorted(os.listdir(os.environ["AZUREML_DATAREFERENCE_d"])))
keys = [v for a in job["data_access"] if a for k, v in a["config"].items() if k in ("account_key", "sas_token")]
print("environment", [k for k, v in os.environ.items() if any(s in v for s in keys)])
open(os.environ["AZUREML_DATAREFERENCE_u"] + "/made", "w").write("by the job")
"""


def jobs():
    """Azurite is up: a job brings data from it, and sends some back."""
    with open("job.py", "w") as f:
        f.write(JOB)
    code, out, err = trainyard("submit", "-q", "--data", "d=azsets/in:download", "--data", "u=bysas/results:upload", "--data",
                               "f=workspaceblobstore/x", "--", "/usr/bin/python3", "job.py")
    run = out.strip()
    if code != 0:
        return tell("a job names object stores", out + err)
    good("a job brings data from an object store", "wait", run)
    log = trainyard("logs", run)[1]
    tell("...whose keys are in a file of its owner alone", "mode 0o600 0o700" not in log and (log or "no log"))
    tell("...that says of each reference where it is", "access [['config', 'kind', 'name'], ['config', 'kind', 'name'], None]" not in log and (log or "no log"))
    tell("...and in no environment", "environment []" not in log and (log or "no log"))
    tell("...which it can read", "in ['a.txt', 'sub']" not in log and (log or "no log"))
    good("...and sends data back", "data", "ls", "bysas:results/", says="^results/made")
    lost = trainyard("submit", "-q", "--env", "http_proxy=http://127.0.0.1:1", "--data", "d=azsets/in:download", "--", "true")[1].strip()
    bad("a job goes by the proxy that its variables name", 1, "cannot be connected to", "wait", lost)
    direct = trainyard("submit", "-q", "--env", "http_proxy=http://127.0.0.1:1", "--env", "no_proxy=127.0.0.1", "--data", "d=azsets/in:download",
                       "--", "true")[1].strip()
    good("...and not where they name none", "wait", direct)
    trainyard("data", "add", "held", "--container", "sets", "--account", os.environ["AZ_ACCOUNT"], "--endpoint", os.environ["AZ_URL"], "--key-env",
              "AZ_KEY")
    held = trainyard("submit", "-q", "--data", "d=held/in:upload", "--", "sleep", "600")[1].strip()
    bad("a datastore that a run uses stays", 5, "'%s' for one" % held, "data", "rm", "held")
    trainyard("cancel", held)
    trainyard("wait", held)
    good("...until that has ended", "data", "rm", "held")
    for args in (("show", run, "--json"), ("show", run), ("api", "/api/v1/runs/" + run), ("api", "/api/v1/runs/%s/events" % run), ("why", run),
                 ("api", "/api/v1/datastores"), ("data", "show", "azsets"), ("data", "show", "bysas", "--json"), ("api", "/api/v1/status")):
        trainyard(*args)


def keys_are_nowhere():
    trainyard("backup", os.path.join(T, "backup.tar.zst"))
    os.makedirs(os.path.join(T, "backup"))
    subprocess.run(["tar", "-C", os.path.join(T, "backup"), "-xf", os.path.join(T, "backup.tar.zst")], check=True)
    seen = []
    for root in (HOME, os.path.join(T, "system"), os.path.join(T, "backup"), os.path.join(T, "cache"), os.path.join(T, "config")):
        for path in [os.path.join(folder, name) for folder, _, names in os.walk(root) for name in names] + [os.path.join(T, "system.log")]:
            if os.path.isfile(path):
                with open(path, "rb") as f:
                    content = f.read()
                seen += [path for s in secrets if s.encode() in content]
    tell("no key is in the state folder, its logs, or a backup of it (%d keys)" % len(secrets), "\n".join(seen))
    seen = [text[:300] for text in heard for s in secrets if s in text]
    tell("no key was ever printed, but to who asked for it", "\n".join(seen))


# ---- one daemon for all users ----

USERS_JOB = """import os
path = os.environ["AZUREML_DATAREFERENCE_d"]
print("read", open(path if os.path.isfile(path) else path + "/one").read())
try:
    open(os.environ["TRAINYARD_JOB"] + "/job.json")
    print("open")
except PermissionError:
    print("closed")
"""

def users():
    """Root registers, everybody uses: on a daemon of its own."""
    what = "datastores of the whole machine"
    if os.geteuid() != 0:
        return print("ok - %s # SKIP only root can start it" % what)
    home, programs = os.path.join(T, "system"), os.path.join(T, "programs")
    shutil.copytree(os.environ["PATH"].split(":")[0], programs, ignore=lambda d, names: [n for n in names if not n.startswith("trainyard") or
                                                                                         os.path.isdir(os.path.join(d, n))])
    os.chmod(T, 0o755)
    env = {"PATH": programs + ":/usr/bin:/bin", "TRAINYARD_HOME": home, "NO_COLOR": "1", "TMPDIR": "/tmp", "TRAINYARD_LOG": "debug"}
    server = s3_servers.S3rver(T)
    daemon = subprocess.Popen([os.path.join(programs, "trainyardd"), "--system", "--home", home, "--foreground"], env=env,
                              stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=open(os.path.join(T, "system.log"), "wb"))

    def ask(user, *args, **more):
        pw = pwd.getpwnam(user)
        place = os.path.join(T, "as-" + user)
        if not os.path.isdir(place):
            os.makedirs(place)
            os.chown(place, pw.pw_uid, pw.pw_gid)
        argv = ["setpriv", "--reuid=%s" % user, "--regid=%d" % pw.pw_gid, "--init-groups"] if user != "root" else []
        done = subprocess.run(argv + ["trainyard", *args], capture_output=True, text=True, timeout=SECONDS, cwd=place, stdin=subprocess.DEVNULL,
                              env=dict(env, HOME=place, **more))
        heard.append(done.stdout + done.stderr)
        return done.returncode, done.stdout + done.stderr

    def check(text, want, says, user, *args, **more):
        code, out = ask(user, *args, **more)
        tell(text, (code != want or not re.search(says, out, re.M)) and "%s: trainyard %s gave %d: %s" % (user, " ".join(args), code, out))

    try:
        until(lambda: ask("root", "status")[0] == 0)
        add = ["data", "add", "shared", "--bucket", "users", "--endpoint", server.url, "--key-id", server.key, "--key-env", "K", "--create"]
        check("a user registers none", 4, "only an administrator", "games", *add, K=server.secret)
        check("root does", 0, "registered", "root", *add, K=server.secret)
        for user, name in (("games", "one"), ("nobody", "two")):
            place = os.path.join(T, "as-" + user)
            ask(user, "status")
            with open(os.path.join(place, name), "w") as f:
                f.write(name)
            check("%s puts a file there" % user, 0, "stored 1 file", user, "data", "put", name, "shared:" + name)
        check("...and sees that of the other", 0, "^one", "nobody", "data", "ls", "shared:")
        check("...and fetches it", 0, "1 file", "nobody", "data", "get", "shared:one", "got")
        check("what is shown of it has no key", 0, "credentials +access_key", "games", "data", "show", "shared")
        check("a user does not change what is the default", 4, "only an administrator", "games", "data", "default", "shared")
        check("...nor removes one", 4, "only an administrator", "games", "data", "rm", "shared")
        check("root makes it the default", 0, "the default datastore is 'shared'", "root", "data", "default", "shared")
        secrets.add("everybodys-key")
        check("a key is registered", 0, "registered", "root", "data", "add", "keyed", "--bucket", "users", "--endpoint", server.url, "--key-id", "S3RVER",
              "--key-env", "K", "--skip-validation", K="everybodys-key")
        with open(os.path.join(T, "as-games", "job.py"), "w") as f:
            f.write(USERS_JOB)
        run = ask("games", "submit", "-q", "--data", "d=keyed/one:download", "--", "/usr/bin/python3", "job.py")[1].strip()
        check("a job of a user reads from it", 0, "", "games", "wait", run)
        check("...what another has put there", 0, "^read one$", "games", "logs", run)
        check("...but not root's file with the key", 0, "^closed$", "games", "logs", run)
        folder = os.path.join(T, "for-all")
        check("a folder is made for all", 0, "registered", "root", "data", "add", "folder", "--root", folder, "--create")
        check("...to which each writes", 0, "stored 1 file", "games", "data", "put", "one", "folder:one")
        same("...as who they are", pwd.getpwnam("games").pw_uid, os.stat(os.path.join(folder, "one")).st_uid)
        check("...but not what is closed to them", 4, "one", "nobody", "data", "get", "folder:one", "closed")
    finally:
        daemon.terminate()
        daemon.wait()
        server.stop()


def main():
    with open("file", "w") as f:
        f.write("x")
    os.environ["TRAINYARD_LOG"] = "debug"   # of the daemon, too: its log must have no key either
    for part, what in ((s3rver, "S3 by s3rver"), (moto, "S3 by moto"), (azure, "Azure Blob by Azurite"), (users, "datastores of the whole machine")):
        try:
            part()
        except s3_servers.Missing as e:
            print("ok - %s # SKIP %s" % (what, e))
    keys_are_nowhere()
    return 1 if failed else 0


sys.exit(main())
