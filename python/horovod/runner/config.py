"""Options that become HOROVOD_* variables, and the configuration file."""
import re
from typing import Dict, List, NamedTuple, Optional


class Tuning(NamedTuple):
    """One option of the command line: its key in a configuration file and its variable for the workers."""
    flag: str               # without the dashes; also the attribute, with _ for -
    section: str            # of the configuration file
    key: str
    kind: type              # bool: also --no-flag
    variable: str
    scale: int              # the variable is the option times this
    help: str


TUNING = [
    Tuning("fusion-threshold-mb", "params", "fusion_threshold_mb", int, "HOROVOD_FUSION_THRESHOLD", 1 << 20,
           "join small tensors up to this many MiB"),
    Tuning("cycle-time-ms", "params", "cycle_time_ms", float, "HOROVOD_CYCLE_TIME", 1, "time between rounds"),
    Tuning("cache-capacity", "params", "cache_capacity", int, "HOROVOD_CACHE_CAPACITY", 1, "responses to remember"),
    Tuning("hierarchical-allreduce", "params", "hierarchical_allreduce", bool, "HOROVOD_HIERARCHICAL_ALLREDUCE", 1,
           "reduce in each node first"),
    Tuning("hierarchical-allgather", "params", "hierarchical_allgather", bool, "HOROVOD_HIERARCHICAL_ALLGATHER", 1,
           "gather in each node first"),
    Tuning("torus-allreduce", "params", "torus_allreduce", bool, "HOROVOD_TORUS_ALLREDUCE", 1,
           "reduce in two dimensions"),
    Tuning("autotune", "autotune", "enabled", bool, "HOROVOD_AUTOTUNE", 1, "tune while training"),
    Tuning("autotune-log-file", "autotune", "log_file", str, "HOROVOD_AUTOTUNE_LOG", 1, "where the tuner writes"),
    Tuning("autotune-warmup-samples", "autotune", "warmup_samples", int, "HOROVOD_AUTOTUNE_WARMUP_SAMPLES", 1,
           "samples that the tuner drops"),
    Tuning("autotune-steps-per-sample", "autotune", "steps_per_sample", int, "HOROVOD_AUTOTUNE_STEPS_PER_SAMPLE", 1,
           "steps of a sample"),
    Tuning("autotune-bayes-opt-max-samples", "autotune", "bayes_opt_max_samples", int,
           "HOROVOD_AUTOTUNE_BAYES_OPT_MAX_SAMPLES", 1, "samples that the tuner takes"),
    Tuning("autotune-gaussian-process-noise", "autotune", "gaussian_process_noise", float,
           "HOROVOD_AUTOTUNE_GAUSSIAN_PROCESS_NOISE", 1, "noise that the tuner expects"),
    Tuning("timeline-filename", "timeline", "filename", str, "HOROVOD_TIMELINE", 1, "write a trace there, on rank 0"),
    Tuning("timeline-mark-cycles", "timeline", "mark_cycles", bool, "HOROVOD_TIMELINE_MARK_CYCLES", 1,
           "mark rounds in the trace"),
    Tuning("stall-check", "stall_check", "enabled", bool, "HOROVOD_STALL_CHECK_DISABLE", -1,
           "report ranks that are late (on by default)"),
    Tuning("stall-check-warning-time-seconds", "stall_check", "warning_time_seconds", int,
           "HOROVOD_STALL_CHECK_TIME_SECONDS", 1, "report after that time (60)"),
    Tuning("stall-check-shutdown-time-seconds", "stall_check", "shutdown_time_seconds", int,
           "HOROVOD_STALL_SHUTDOWN_TIME_SECONDS", 1, "fail after that time (0: never)"),
    Tuning("mpi-threads-disable", "library_options", "mpi_threads_disable", bool, "HOROVOD_MPI_THREADS_DISABLE", 1,
           "has no effect: MPI is not used"),
    Tuning("num-nccl-streams", "library_options", "num_nccl_streams", int, "HOROVOD_NUM_NCCL_STREAMS", 1,
           "streams of NCCL"),
    Tuning("thread-affinity", "library_options", "thread_affinity", str, "HOROVOD_THREAD_AFFINITY", 1,
           "cores of the engine's threads, by local rank"),
    Tuning("gloo-timeout-seconds", "library_options", "gloo_timeout_seconds", int, "HOROVOD_GLOO_TIMEOUT_SECONDS", 1,
           "bound on the start of a world (30)"),
    Tuning("log-level", "logging", "level", str, "HOROVOD_LOG_LEVEL", 1, "trace, debug, info, warning, error or fatal"),
    Tuning("log-hide-timestamp", "logging", "hide_timestamp", bool, "HOROVOD_LOG_HIDE_TIME", 1, "no time in the log"),
]

LOG_LEVELS = ("trace", "debug", "info", "warning", "error", "fatal")


def variables(values: Dict[str, object]) -> Dict[str, str]:
    """The variables for the options that are set; `values` by flag."""
    found = {}
    for option in TUNING:
        value = values.get(option.flag)
        if value is None:
            continue
        if option.kind is bool:
            found[option.variable] = str(int(value if option.scale > 0 else not value))
        elif option.scale != 1:
            found[option.variable] = str(value * option.scale)
        else:
            found[option.variable] = str(value)
    return found


# ---- the configuration file: the part of YAML that is needed for `key: value` in sections ----

_LINE = re.compile(r"""^(?P<indent>[ ]*)(?P<key>[A-Za-z0-9_-]+)\s*:(?:\s+(?P<value>.*))?$""")


def _scalar(text: str):
    if text[:1] in "\"'" and len(text) > 1:
        if text[-1] != text[0] or text[0] in text[1:-1] or "\\" in text:
            raise ValueError("quoted text that this reader does not know")
        return text[1:-1]
    if re.match(r"[\[\]{}&*!|>%@`,]|[-?](\s|$)", text):
        raise ValueError("lists, anchors and block text are not read")
    lower = text.lower()
    if lower in ("true", "yes", "on"):
        return True
    if lower in ("false", "no", "off"):
        return False
    if lower in ("", "null", "~"):
        return None
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def _without_comment(line: str) -> str:
    quoted = None
    for i, c in enumerate(line):
        if quoted:
            quoted = None if c == quoted else quoted
        elif c in "\"'":
            quoted = c
        elif c == "#" and (i == 0 or line[i - 1] in " \t"):
            return line[:i]
    return line


def read_file(path: str) -> Dict[str, Dict[str, object]]:
    """Sections of `key: value`; values outside of a section are in section "".  ValueError names the line."""
    sections: Dict[str, Dict[str, object]] = {"": {}}
    current, indent = "", 0
    with open(path, encoding="utf-8") as file:
        for number, raw in enumerate(file, 1):
            line = _without_comment(raw.rstrip("\n")).rstrip()
            if not line.strip() or line.strip() == "---":
                continue
            match = _LINE.match(line)
            try:
                if not match:
                    raise ValueError("it is no 'key: value'")
                depth, key = len(match.group("indent")), match.group("key").replace("-", "_")
                value = _scalar((match.group("value") or "").strip())
                if depth == 0:
                    current, indent = "", 0
                elif not current or (indent and depth != indent):
                    raise ValueError("only sections one deep are read")
                if depth == 0 and value is None:
                    current = key
                    sections.setdefault(key, {})
                else:
                    indent = depth
                    sections[current][key] = value
            except ValueError as e:
                raise ValueError("line %d of configuration file '%s' reads '%s': %s"
                                 % (number, path, raw.strip(), e)) from None
    return sections


def from_file(path: str, plain: List[str]) -> Dict[str, object]:
    """Values by flag from a configuration file; `plain` are the flags that stand outside of the sections.

    What the file says and no option reads is refused by name: a setting that is silently dropped helps nobody.
    """
    known = {(option.section, option.key): option for option in TUNING}
    flags = {flag.replace("-", "_"): flag for flag in plain}
    values: Dict[str, object] = {}
    for section, entries in read_file(path).items():
        for key, value in entries.items():
            option: Optional[Tuning] = known.get((section, key))
            if option:
                values[option.flag] = checked(option, value, path)
            elif not section and key in flags:
                values[flags[key]] = value
            elif (section, key) in (("library_options", "mpi_args"), ("library_options", "binding_args")):
                continue            # of mpirun, which is not used
            else:
                raise ValueError("configuration file '%s' sets '%s', which is no option"
                                 % (path, "%s: %s" % (section, key) if section else key))
    return values


def checked(option: Tuning, value, path: str):
    """`value` as the option's kind."""
    if option.kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if option.kind is str and value is not None:
        value = str(value)
    if type(value) is not option.kind:
        raise ValueError("configuration file '%s' sets '%s: %s' to '%s', which is no %s"
                         % (path, option.section, option.key, value, option.kind.__name__))
    return value
