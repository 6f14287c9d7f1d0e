"""Numbers about communication: what it moved, and what of it a training step had to wait for.

`hvd.metrics()` has them at any time. Inside a Trainyard run, rank 0 also logs them to the run, at most once a second,
under the names of LOGGED. HOROVOD_LOG_LEVEL=info (or lower) prints a summary when the engine closes.
"""
import json
import os
import sys
import time
from typing import Any, Dict, List, Optional

LOG_SECONDS = 1.0
SUMMARY_LEVELS = ("trace", "debug", "info")
STALLED_MS = 1000               # what metrics() shows as stalled
LOGGED = ("hvd_step_ms", "hvd_exposed_ms", "hvd_mb_per_step")


class _Steps:
    """What is counted between two ends of a step."""

    def __init__(self) -> None:
        self.context: Any = None
        self.count = 0
        self.exposed_us = self.exposed_last_us = 0
        self.seconds = self.seconds_last = 0.0
        self.begun = self.time = 0.0
        self.wait_us = self.bytes = 0       # of the engine, at the last end of a step
        self.logged_at = 0.0
        self.logged_count = self.logged_exposed_us = self.logged_bytes = 0
        self.logged_seconds = 0.0


_steps = _Steps()
_last: Dict[str, Any] = {}      # of the context that was closed last


def begin(context: Any) -> None:
    """A context was opened: count anew."""
    global _steps
    _steps = _Steps()
    _steps.context = context
    _steps.begun = _steps.time = _steps.logged_at = time.monotonic()


def step() -> None:
    """A training step is over: what was waited for since the last one was its exposed communication."""
    s = _steps
    if s.context is None:
        return
    stats, now = s.context.stats(), time.monotonic()
    s.exposed_last_us, s.seconds_last = stats["wait_us"] - s.wait_us, now - s.time
    s.wait_us, s.bytes, s.time = stats["wait_us"], stats["bytes"], now
    s.count += 1
    if s.count > 1:             # before the first one lies everything that a script does before it trains
        s.exposed_us += s.exposed_last_us
        s.seconds += s.seconds_last
    if now - s.logged_at >= LOG_SECONDS:
        _log(s, now)


def _run() -> Any:
    if not (os.environ.get("TRAINYARD_RUN_ID") and os.environ.get("TRAINYARD_SPOOL_DIR")):
        return None
    try:
        from trainyard import context
    except ImportError:
        return None
    return context.current()


def _log(s: _Steps, now: float) -> None:
    steps = max(s.count - 1, 0) - s.logged_count
    if steps > 0 and s.context.topology()[0] == 0:
        run = _run()
        if run is not None:
            values = ((s.seconds - s.logged_seconds) * 1e3 / steps, (s.exposed_us - s.logged_exposed_us) / 1e3 / steps,
                      (s.bytes - s.logged_bytes) / 1e6 / steps)
            for name, value in zip(LOGGED, values):
                run.log(name, value, step=s.count)
    s.logged_at, s.logged_count, s.logged_bytes = now, max(s.count - 1, 0), s.bytes
    s.logged_exposed_us, s.logged_seconds = s.exposed_us, s.seconds


def _read(context: Any, s: _Steps) -> Dict[str, Any]:
    stats = context.stats()
    topology = context.topology()
    steps = max(s.count - 1, 0)
    stalled: List[Any] = json.loads(context.stalled(STALLED_MS))
    return {
        "rank": topology[0], "size": topology[1],
        "seconds": time.monotonic() - s.begun,
        "operations": stats["ops"], "bytes": stats["bytes"],
        "exposed_s": stats["wait_us"] / 1e6, "busy_s": stats["busy_us"] / 1e6,
        "bytes_per_s": stats["bytes"] / (stats["busy_us"] / 1e6) if stats["busy_us"] else 0.0,
        "negotiations": stats["negotiations"], "paths": stats["paths"],
        "late_rank": None if stats["late_rank"] < 0 else stats["late_rank"], "late_s": stats["late_us"] / 1e6,
        "steps": s.count,
        "step_s": s.seconds / steps if steps else None, "step_exposed_s": s.exposed_us / 1e6 / steps if steps else None,
        "last_step_s": s.seconds_last if s.count else None,
        "last_step_exposed_s": s.exposed_last_us / 1e6 if s.count else None,
        "stalled": stalled,
    }


def metrics() -> Dict[str, Any]:
    """Counters since hvd.init(); after hvd.shutdown() those of its end, and {} before the first init().

    operations, bytes (of their inputs), bytes_per_s while data moved, paths (operations by the way that their data took)
    exposed_s      seconds in which a caller waited for communication
    steps, step_s, step_exposed_s      optimizer steps, and the mean of their time and of what of it was such waiting
    late_rank, late_s      the rank that came last most often (None: nobody), and the time spent waiting for it
    stalled        operations that some rank owes for over a second: name, kind, set, waiting_s, missing (ranks)
    """
    return _read(_steps.context, _steps) if _steps.context is not None else dict(_last)


def _summary(m: Dict[str, Any]) -> str:
    text = "horovod: rank %d of %d: %d operations, %.1f MB, %.2f s exposed of %.2f s" % (
        m["rank"], m["size"], m["operations"], m["bytes"] / 1e6, m["exposed_s"], m["seconds"])
    if m["step_s"]:
        text += "; a step took %.1f ms, of which %.1f ms were communication" % (m["step_s"] * 1e3, m["step_exposed_s"] * 1e3)
    paths = ", ".join("%d %s" % (n, name) for name, n in m["paths"].items() if n)
    if paths:
        text += "; by path: " + paths
    if m["late_rank"] is not None:
        text += "; rank %d was last most often (%.2f s)" % (m["late_rank"], m["late_s"])
    return text


def end(context: Any) -> None:
    """The context is about to be closed: keep its numbers, log what is left, and print the summary if that is wanted."""
    global _last
    if _steps.context is not context:
        return
    try:
        _last = _read(context, _steps)
        _log(_steps, time.monotonic())
    except RuntimeError:        # in a forked child there is nothing to read
        pass
    else:
        if os.environ.get("HOROVOD_LOG_LEVEL", "").strip().lower() in SUMMARY_LEVELS:
            print(_summary(_last), file=sys.stderr, flush=True)
    _steps.context = None
