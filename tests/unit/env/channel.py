"""Conda channels for the tests of environments, made here of what this machine has; nothing comes from a network.

    channel.py make FOLDER      FOLDER/main: python (this machine's own, of two versions' names), ty-noarch, ty-native, ty-shared, ...
                                FOLDER/empty: a channel without packages
    channel.py serve FOLDER     FOLDER over HTTP on loopback, until stdin closes; the port goes to stdout, requests to FOLDER/requests

`python` is Debian's interpreter with a copy of its standard library: prefixes made of it really run.
"""
import bz2
import hashlib
import io
import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import tempfile

from index import serve

PLACEHOLDER = "/opt/placeholder_of_a_prefix_that_is_long_enough_for_any_place" + "_x" * 90
MINOR = "%d.%d" % sys.version_info[:2]
ARCH = {"aarch64": "linux-aarch64", "ppc64le": "linux-ppc64le"}.get(os.uname().machine, "linux-64")


def add(tar, path, raw, mode=0o644, link=None):
    """A file or link of a package."""
    entry = tarfile.TarInfo(path)
    entry.mode, entry.mtime = mode, 1577836800
    if link is not None:
        entry.type, entry.linkname = tarfile.SYMTYPE, link
        tar.addfile(entry)
        return
    entry.size = len(raw)
    tar.addfile(entry, io.BytesIO(raw))


def package(channel, name, version, files, depends=(), build="0", noarch=None, prefixed=(), links=None, extra=None):
    """Write a .tar.bz2 package into `channel`; `prefixed`: text files with PLACEHOLDER in them. Returns its entry of repodata."""
    subdir = "noarch" if noarch else ARCH
    index = {"name": name, "version": version, "build": build, "build_number": 0, "depends": list(depends), "subdir": subdir,
             "license": "MIT", "timestamp": 1577836800000}
    if noarch:
        index["noarch"] = noarch
    paths = []
    for path, raw in sorted(files.items()):
        raw = raw[0] if isinstance(raw, tuple) else raw
        one = {"_path": path, "path_type": "hardlink", "sha256": hashlib.sha256(raw).hexdigest(), "size_in_bytes": len(raw)}
        if path in prefixed:
            one.update(prefix_placeholder=PLACEHOLDER, file_mode="text")
        paths.append(one)
    for path in sorted(links or {}):
        paths.append({"_path": path, "path_type": "softlink", "sha256": hashlib.sha256(b"").hexdigest(), "size_in_bytes": 0})
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        add(tar, "info/index.json", json.dumps(index).encode())
        add(tar, "info/paths.json", json.dumps({"paths": paths, "paths_version": 1}).encode())
        add(tar, "info/files", "".join(p["_path"] + "\n" for p in paths).encode())
        for path, content in (extra or {}).items():
            add(tar, path, content)
        for path, raw in sorted(files.items()):
            raw, mode = raw if isinstance(raw, tuple) else (raw, 0o644)
            add(tar, path, raw, mode)
        for path, target in sorted((links or {}).items()):
            add(tar, path, b"", 0o777, target)
    raw = bz2.compress(out.getvalue(), 1)
    file = "%s-%s-%s.tar.bz2" % (name, version, build)
    os.makedirs(os.path.join(channel, subdir), exist_ok=True)
    with open(os.path.join(channel, subdir, file), "wb") as f:
        f.write(raw)
    index.update(md5=hashlib.md5(raw).hexdigest(), sha256=hashlib.sha256(raw).hexdigest(), size=len(raw))
    return subdir, file, index


def distribution(name, version):
    """The metadata by which a conda package of a Python module is one of Python's distributions, too."""
    return {"%s-%s.dist-info/METADATA" % (name.replace("-", "_"), version): b"Metadata-Version: 2.1\nName: %s\nVersion: %s\n" % (
        name.encode(), version.encode()), "%s-%s.dist-info/RECORD" % (name.replace("-", "_"), version): b""}


def noarch_python(channel, name, version, depends=("python",), script=None):
    """A noarch package of one module, with a script when asked for."""
    module = name.replace("-", "_")
    files = {"site-packages/%s/__init__.py" % module: b"VERSION = %r\ndef main():\n    print(VERSION)\n" % version}
    files.update({"site-packages/" + k: v for k, v in distribution(name, version).items()})
    extra = {"info/link.json": json.dumps({"noarch": {"type": "python", "entry_points": ["%s = %s:main" % (script, module)] if script else []},
                                           "package_metadata_version": 1}).encode()}
    return package(channel, name, version, files, depends, noarch="python", extra=extra)


SKIPPED = {"test", "tests", "idlelib", "tkinter", "turtledemo", "lib2to3", "__pycache__", "site-packages", "dist-packages", "ensurepip"}


def python(channel):
    """This interpreter and its standard library."""
    stdlib, files = sysconfig.get_path("stdlib"), {}
    place = "lib/python%s" % MINOR
    for folder, folders, names in os.walk(stdlib):
        folders[:] = [f for f in folders if f not in SKIPPED and not f.startswith("config-")]
        for name in names:
            path = os.path.join(folder, name)
            if os.path.isfile(path) and not name.endswith((".pyc", ".a")) and name not in ("sitecustomize.py", "EXTERNALLY-MANAGED"):
                with open(path, "rb") as f:
                    files[os.path.join(place, os.path.relpath(path, stdlib))] = f.read()
    files[place + "/site-packages/README.txt"] = b"packages\n"
    # Outside of a venv Debian's interpreter looks into dist-packages alone, conda's into site-packages.
    files[place + "/sitecustomize.py"] = (
        b"import os, site, sys\nsite.addsitedir(os.path.join(sys.prefix, 'lib', 'python%d.%d' % sys.version_info[:2], 'site-packages'))\n")
    with open(os.path.realpath(sys.executable), "rb") as f:
        files["bin/python" + MINOR] = (f.read(), 0o755)
    version = "%d.%d.%d" % sys.version_info[:3]
    links = {"bin/python3": "python" + MINOR, "bin/python": "python" + MINOR}
    return package(channel, "python", version, files, links=links)


def native(channel):
    """A package with a program that the compiler has just made, and files that know their prefix."""
    with tempfile.TemporaryDirectory() as folder:
        source, program = os.path.join(folder, "a.c"), os.path.join(folder, "a")
        with open(source, "w") as f:
            f.write('#include <stdio.h>\nint main(void) { puts("native"); return 0; }\n')
        subprocess.run(["cc", "-o", program, source], check=True)
        with open(program, "rb") as f:
            raw = f.read()
    script = b"#!/bin/sh\necho %s\n" % PLACEHOLDER.encode()
    return package(channel, "ty-native", "1.2", {"bin/ty-native": (raw, 0o755), "bin/ty-where": (script, 0o755)},
                   prefixed=("bin/ty-where",))


def index(channel, entries):
    """repodata.json of each folder."""
    for subdir in (ARCH, "noarch"):
        os.makedirs(os.path.join(channel, subdir), exist_ok=True)
        data = {"info": {"subdir": subdir}, "packages": {f: i for s, f, i in entries if s == subdir}, "packages.conda": {}}
        with open(os.path.join(channel, subdir, "repodata.json"), "w") as f:
            json.dump(data, f)


def make(root):
    """All channels."""
    main = os.path.join(root, "main")
    index(main, [
        python(main), native(main),
        noarch_python(main, "ty-noarch", "1.0", script="ty-noarch-say"), noarch_python(main, "ty-noarch", "2.0", script="ty-noarch-say"),
        noarch_python(main, "ty-second", "3.1", ("python", "ty-noarch >=1")),
        noarch_python(main, "ty-needs-old", "1.0", ("python", "ty-noarch <1")),
        package(main, "ty-shared", "1.0", {"share/ty-shared/data": os.urandom(4 << 20)}, noarch="generic"),
    ])
    index(os.path.join(root, "empty"), [])


if __name__ == "__main__":
    {"make": make, "serve": serve}[sys.argv[1]](sys.argv[2])
