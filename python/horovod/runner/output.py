"""What workers write: to the launcher's own streams with the rank before each line, and to files by rank."""
import os
import sys
import time
from typing import Dict, Tuple

MAX_LINE = 65536        # a line that is longer is passed on in pieces


class Output:
    """`directory`: also write rank.N/stdout and rank.N/stderr there, as they came."""

    def __init__(self, np: int, directory: str = None, timestamps: bool = False, stdout=None, stderr=None):
        self._width = len(str(max(np - 1, 0)))
        self._directory, self._timestamps = directory, timestamps
        self._streams = {"stdout": stdout or sys.stdout, "stderr": stderr or sys.stderr}
        self._rest: Dict[Tuple[object, str], bytes] = {}
        self._files: Dict[str, object] = {}
        if directory:
            os.makedirs(directory, exist_ok=True)

    def write(self, source, rank, stream: str, data: bytes) -> None:
        """Bytes of one stream of the worker `source`, which is rank `rank` now; b"" at its end."""
        if self._directory and data:
            self._file(rank, stream).write(data)
        rest = self._rest.pop((source, stream), b"") + data
        lines = rest.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        if rest.endswith(b"\r") and data:       # its \n may be on the way
            lines = lines[:-2] + [lines[-2] + b"\r"]
        last = lines.pop()
        if last and (not data or len(last) > MAX_LINE):
            lines.append(last)
            last = b""
        if last:
            self._rest[source, stream] = last
        if lines:
            self._show(rank, stream, lines)

    def _show(self, rank, stream, lines):
        head = "%s[%s]<%s>:" % (time.asctime() if self._timestamps else "", rank, stream)
        text = "".join("%s%s\n" % (head, line.rstrip(b"\r").decode("utf-8", "replace")) for line in lines)
        target = self._streams[stream]
        try:
            target.write(text)
            target.flush()
        except UnicodeEncodeError:
            target.write(text.encode("ascii", "backslashreplace").decode("ascii"))
            target.flush()
        except BrokenPipeError:         # nobody reads any more; the job and its files go on
            self._streams[stream] = open(os.devnull, "w", encoding="utf-8")

    def _file(self, rank, stream):
        path = os.path.join(self._directory, "rank.%s" % str(rank).zfill(self._width), stream)
        if path not in self._files:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            self._files[path] = open(path, "wb", buffering=0)
        return self._files[path]

    def close(self) -> None:
        for file in self._files.values():
            file.close()
        self._files = {}
