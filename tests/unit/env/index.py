"""Packages and a package index for the tests of environments: everything is made here, nothing comes from a network.

    index.py make FOLDER        wheels and a source package, in FOLDER/simple/NAME/ (an index) and FOLDER/flat/ (for find_links)
    index.py serve FOLDER       serve FOLDER on loopback until stdin closes; the port goes to stdout, requests to FOLDER/requests
"""
import base64
import functools
import hashlib
import http.server
import io
import os
import shutil
import sys
import tarfile
import threading
import zipfile

WHEEL = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def metadata(name, version, requires):
    """The text of METADATA or PKG-INFO."""
    return "Metadata-Version: 2.1\nName: %s\nVersion: %s\n%s" % (name, version, "".join("Requires-Dist: %s\n" % r for r in requires))


def wheel(folder, name, version, requires=(), files=None, scripts=(), data=None):
    """Write a wheel; its module is NAME, which knows its VERSION. Returns its path."""
    module, info = name.replace("-", "_"), "%s-%s" % (name.replace("-", "_"), version)
    content = {module + "/__init__.py": "VERSION = %r\ndef main():\n    import sys\n    print(VERSION, sys.executable)\n" % version}
    content.update(files or {})
    content.update({"%s.data/data/%s" % (info, k): v for k, v in (data or {}).items()})
    content[info + ".dist-info/METADATA"] = metadata(name, version, requires)
    content[info + ".dist-info/WHEEL"] = WHEEL
    if scripts:
        content[info + ".dist-info/entry_points.txt"] = "[console_scripts]\n" + "".join("%s = %s:main\n" % (s, module) for s in scripts)
    record = info + ".dist-info/RECORD"
    lines = []
    path = os.path.join(folder, info + "-py3-none-any.whl")
    with zipfile.ZipFile(path, "w") as z:
        for place, text in content.items():
            raw = text if isinstance(text, bytes) else text.encode()
            z.writestr(zipfile.ZipInfo(place, (2020, 1, 1, 0, 0, 0)), raw)
            digest = base64.urlsafe_b64encode(hashlib.sha256(raw).digest()).rstrip(b"=").decode()
            lines.append("%s,sha256=%s,%d\n" % (place, digest, len(raw)))
        z.writestr(zipfile.ZipInfo(record, (2020, 1, 1, 0, 0, 0)), "".join(lines) + record + ",,\n")
    return path


BACKEND = '''
import os, sys
sys.path.insert(0, os.path.dirname(__file__))
import index
def build_wheel(where, config_settings=None, metadata_directory=None):
    return os.path.basename(index.wheel(where, %r, %r))
'''


def sdist(folder, name, version):
    """A source package whose builder is this file: it needs no other package to be built."""
    base = "%s-%s" % (name, version)
    with open(__file__, "rb") as f:
        own = f.read()
    content = {"pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
               "backend.py": BACKEND % (name, version), "index.py": own, "PKG-INFO": metadata(name, version, ())}
    with tarfile.open(os.path.join(folder, base + ".tar.gz"), "w:gz") as t:
        for place, text in content.items():
            raw = text if isinstance(text, bytes) else text.encode()
            entry = tarfile.TarInfo(base + "/" + place)
            entry.size = len(raw)
            t.addfile(entry, io.BytesIO(raw))


def make(root):
    """All packages of the tests."""
    flat = os.path.join(root, "flat")
    os.makedirs(flat)
    for version in ("1.0", "2.0"):
        wheel(flat, "ty-alpha", version, ["ty-beta>=1"], {"ty_alpha/table.txt": "row\n" * 1000}, ["ty-alpha-say"], {"share/ty-alpha/note": "n\n"})
    wheel(flat, "ty-beta", "1.1")
    wheel(flat, "ty-needs-ours", "1.0", ["horovod>=0.18", "azureml-core", "ty-beta"])
    wheel(flat, "ty-impossible", "1.0", ["ty-beta>=7"])
    wheel(flat, "ty-bulky", "1.0", (), {"ty_bulky/part%d.bin" % i: os.urandom(1 << 20) for i in range(12)})
    sdist(flat, "ty-source", "0.5")
    for file in os.listdir(flat):
        name = file.split("-")[0] if file.endswith(".whl") else file.rsplit("-", 1)[0]
        page = os.path.join(root, "simple", name.replace("_", "-"))
        os.makedirs(page, exist_ok=True)
        shutil.copy(os.path.join(flat, file), page)


class Handler(http.server.SimpleHTTPRequestHandler):
    """Folders are pages with links, which is what an index is; what was asked for stands in `requests`."""

    protocol_version = "HTTP/1.1"

    def end_headers(self):
        """A file of an index never changes, and says so: whoever has it does not fetch it again."""
        if self.path.endswith((".whl", ".tar.gz")):
            self.send_header("Cache-Control", "max-age=365000000, immutable, public")
        super().end_headers()

    def translate_path(self, path):
        """What lies below /private/ is the same, for who knows the password."""
        return super().translate_path(path[len("/private"):] if path.startswith("/private/") else path)

    def do_GET(self):
        word = "Basic " + base64.b64encode(b"me:geheim").decode()
        if self.path.startswith("/private/") and self.headers.get("Authorization") != word:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="index"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        super().do_GET()

    def log_message(self, format, *args):
        with open(os.path.join(self.directory, "requests"), "a") as f:
            f.write(self.requestline + "\n")


def serve(root):
    """Until stdin closes."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=root))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    {"make": make, "serve": serve}[sys.argv[1]](sys.argv[2])
