"""Conda packages without conda: py-rattler solves and installs. Run by the agent, once for each of the two:

    python3 condatool.py solve   < {"channels": [text], "specs": [text], "cache": folder, "offline": bool}      > [record]
    python3 condatool.py install < {"records": [record], "prefix": folder, "as": folder, "cache": folder}

A record is an entry of a channel's repodata.json with "url", "fn" and "channel". `as` is where the prefix will lie when it is
whole: what has its prefix written into it is made for that place. Packages lie unpacked in `cache` and are hard-linked.
Exit status: 0; 2 it cannot be solved; 3 a channel or package cannot be had; the last line of stderr says why.
"""
import asyncio
import json
import os
import sys
import tempfile
import time
from typing import Any, Dict, List

import rattler
from rattler.exceptions import SolverError

DEFAULTS = ("https://repo.anaconda.com/pkgs/main", "https://repo.anaconda.com/pkgs/r")
KEPT = ("name", "version", "build", "build_number", "subdir", "noarch", "depends", "constrains", "size", "license",
        "python_site_packages_path")


def channels_of(names: List[str]) -> List[rattler.Channel]:
    """Names and addresses as environment files have them; conda-forge when there are none."""
    found: List[str] = []
    for name in names or ["conda-forge"]:
        found.extend(DEFAULTS if name == "defaults" else ["file://" + name if name.startswith("/") else name])
    return [rattler.Channel(name) for name in found]


def as_dict(record: Any) -> Dict[str, Any]:
    """A record of the solver, as text."""
    values: Dict[str, Any] = {key: getattr(record, key, None) for key in KEPT}
    values["name"] = record.name.normalized
    values["version"], values["build"] = str(record.version), str(record.build)
    values["subdir"] = str(record.subdir)
    noarch = record.noarch
    values["noarch"] = "python" if noarch.python else "generic" if noarch.generic else None
    values["sha256"] = record.sha256.hex() if record.sha256 else None
    values["md5"] = record.md5.hex() if record.md5 else None
    values["url"], values["fn"], values["channel"] = record.url, record.file_name, record.channel
    return {key: value for key, value in values.items() if value is not None}


def as_record(values: Dict[str, Any], folder: str) -> rattler.RepoDataRecord:
    """The other way round."""
    index = {key: value for key, value in values.items() if key not in ("url", "fn", "channel")}
    index.setdefault("build_number", 0)
    index.setdefault("depends", [])
    path = os.path.join(folder, "index.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump({key: value for key, value in index.items() if key not in ("sha256", "md5", "size")}, file)
    package = rattler.PackageRecord.from_index_json(
        path, sha256=index.get("sha256"), md5=index.get("md5"), size=index.get("size"))
    name = values.get("fn") or values["url"].rpartition("/")[2]
    return rattler.RepoDataRecord(package, name, values["url"], values.get("channel") or values["url"].rsplit("/", 2)[0])


async def solve(question: Dict[str, Any]) -> None:
    """See the module."""
    gateway = rattler.Gateway(cache_dir=os.path.join(question["cache"], "repodata"),
                              default_config=rattler.SourceConfig(cache_action="force-cache-only") if question.get("offline") else None)
    records = await rattler.solve(channels_of(question["channels"]), question["specs"], gateway=gateway,
                                  virtual_packages=rattler.VirtualPackage.detect())
    json.dump([as_dict(record) for record in records], sys.stdout)


class Told(rattler.InstallerReporter):
    """Progress, at most a line in a second."""

    def __init__(self, total: int) -> None:
        self.total, self.linked, self.said = total, 0, 0.0

    def on_populate_cache_start(self, operation: int, package_name: str) -> int:
        """A package is looked for in the cache, or fetched."""
        self.say("unpacking %s" % package_name)
        return 0

    def on_link_complete(self, index: int) -> None:
        """A package is in the prefix."""
        self.linked += 1
        if self.linked == self.total:
            self.said = 0.0
        self.say("%d of %d packages are installed" % (self.linked, self.total))

    def say(self, line: str) -> None:
        """To the build log."""
        if time.monotonic() - self.said >= 1:
            self.said = time.monotonic()
            print(line, file=sys.stderr, flush=True)


async def install(question: Dict[str, Any]) -> None:
    """See the module."""
    with tempfile.TemporaryDirectory() as folder:
        records = [as_record(values, folder) for values in question["records"]]
    await rattler.install(records, question["prefix"], cache_dir=os.path.join(question["cache"], "pkgs"),
                          execute_link_scripts=True, show_progress=False, reporter=Told(len(records)),
                          alternative_target_prefix=question["as"])


def main() -> int:
    """See the module."""
    question = json.load(sys.stdin)
    try:
        asyncio.run({"solve": solve, "install": install}[sys.argv[1]](question))
    except SolverError as error:
        print("ERROR: %s" % " ".join(str(error).split()), file=sys.stderr)
        return 2
    except Exception as error:  # of many kinds, each with its sentence
        print("ERROR: %s" % " ".join(str(error).split()), file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    result = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(result)  # threads of py-rattler may still run, and must not meet an interpreter that is going
