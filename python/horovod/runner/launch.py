"""horovodrun: start a command as the ranks of a job, on this host and on others."""
import argparse
import os
import sys
from typing import List, Optional

from . import config
from .settings import LaunchError, Settings

EPILOG = """Lines of the workers come out with their rank in front.  If a worker fails, the others are ended and it is
named; the exit status is its own (128 + n for signal n).  docs: horovodrun.md."""

_PLAIN = ["verbose", "start-timeout", "output-filename", "prefix-output-with-timestamp", "disable-cache", "ssh-port",
          "ssh-identity-file", "network-interfaces", "elastic-timeout", "reset-limit", "slots-per-host", "min-np",
          "max-np"]


def _cooldown(words: List[str]) -> Optional[tuple]:
    if not words:
        return None
    low, high = words
    if not 0 < low <= high:
        raise ValueError("--blacklist-cooldown-range takes two numbers of seconds, the lower first")
    return (low, high)


def make_parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="horovodrun", epilog=EPILOG, allow_abbrev=False,
                                usage="horovodrun [-np N] [-H HOST:SLOTS,...] [OPTION ...] COMMAND [ARGUMENT ...]",
                                description="Start COMMAND as the ranks of a Horovod job.")
    p.add_argument("-v", "--version", action="store_true", help="show the version")
    p.add_argument("-cb", "--check-build", action="store_true", help="show what this build can do")
    p.add_argument("--verbose", action="store_true", default=None, help="say what the launcher does")
    p.add_argument("--config-file", metavar="FILE", help="options from a file; the command line wins")
    p.add_argument("--disable-cache", action="store_true", default=None, help="accepted; nothing is cached")
    p.add_argument("--start-timeout", type=int, metavar="S", help="bound on the start of all ranks (30)")
    p.add_argument("--output-filename", metavar="FOLDER", help="also write rank.N/stdout and rank.N/stderr there")
    p.add_argument("-prefix-timestamp", "--prefix-output-with-timestamp", action="store_true", default=None,
                   help="the time in front of each line")
    g = p.add_argument_group("size and hosts")
    g.add_argument("-np", "--num-proc", dest="np", type=int, metavar="N", help="ranks; default: all slots")
    g.add_argument("-H", "--hosts", metavar="HOST:SLOTS,...", help="hosts and how many ranks each can run")
    g.add_argument("-hostfile", "--hostfile", metavar="FILE", help="the same from a file: lines 'host slots=4'")
    g.add_argument("-p", "--ssh-port", type=int, metavar="PORT")
    g.add_argument("-i", "--ssh-identity-file", metavar="FILE")
    g.add_argument("--network-interfaces", "--network-interface", metavar="NAME,...",
                   help="where ranks reach the launcher and each other")
    g = p.add_argument_group("elastic jobs")
    g.add_argument("--host-discovery-script", metavar="FILE", help="prints 'host:slots' lines; asked each second")
    g.add_argument("--min-np", "--min-num-proc", type=int, metavar="N", help="go on with as few ranks (-np)")
    g.add_argument("--max-np", "--max-num-proc", type=int, metavar="N", help="grow to as many ranks")
    g.add_argument("--slots-per-host", "--slots", type=int, metavar="N", help="of hosts that name none")
    g.add_argument("--elastic-timeout", type=int, metavar="S", help="wait so long for enough ranks (600)")
    g.add_argument("--reset-limit", type=int, metavar="N", help="fail after as many changes of the world")
    g.add_argument("--blacklist-cooldown-range", type=float, nargs=2, metavar=("LOW", "HIGH"), default=[],
                   help="a host that failed is used again after LOW seconds, doubled each time, up to HIGH")
    g = p.add_argument_group("tuning, handed to the ranks as HOROVOD_* variables")
    for option in config.TUNING:
        if option.kind is bool:
            g.add_argument("--" + option.flag, dest=option.flag, action="store_const", const=True, help=option.help)
            g.add_argument("--no-" + option.flag, dest=option.flag, action="store_const", const=False,
                           help=argparse.SUPPRESS if option.flag != "stall-check" else "no such reports")
        else:
            g.add_argument("--" + option.flag, dest=option.flag, type=option.kind, metavar="N" if option.kind is not str
                           else "TEXT", help=option.help,
                           choices=config.LOG_LEVELS if option.flag == "log-level" else None)
    for name, value in (("--log-without-timestamp", True), ("--log-with-timestamp", False)):
        g.add_argument(name, dest="log-hide-timestamp", action="store_const", const=value, help=argparse.SUPPRESS)
    g = p.add_argument_group("controllers")
    g.add_argument("--gloo", action="store_true", help="accepted; this launcher always starts the ranks itself")
    g.add_argument("--mpi", action="store_true", help="accepted; to start ranks by MPI, call mpirun")
    g.add_argument("--jsrun", action="store_true", help="refused: there is no LSF support")
    for name in ("--mpi-args", "--binding-args"):
        g.add_argument(name, help="accepted; belongs to mpirun, which is not used")
    g.add_argument("--tcp", action="store_true", help="accepted; hosts always speak TCP")
    p.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND")
    return p


def parse_args(argv: List[str] = None) -> argparse.Namespace:
    """The command line, completed from --config-file; a mistake ends the program with status 2."""
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.command[:1] == ["--"]:
        args.command = args.command[1:]
    if args.config_file:
        try:
            for flag, value in config.from_file(args.config_file, _PLAIN).items():
                name = flag if hasattr(args, flag) else flag.replace("-", "_")
                if getattr(args, name) is None:
                    setattr(args, name, value)
        except (OSError, ValueError) as e:
            parser.error(str(e))
    if args.version or args.check_build:
        return args
    if args.jsrun:
        parser.error("--jsrun needs LSF, which is not supported; name hosts with -H, or use mpirun")
    if not args.command:
        parser.error("no command to run")
    return args


def _int_of_environment(name, default):
    text = os.environ.get(name) or ""
    return int(text) if text.isdigit() else default


def settings_of(args: argparse.Namespace) -> Settings:
    """ValueError when the options contradict each other."""
    def first(value, default):
        return default if value is None else value

    for name in ("np", "min_np", "max_np", "slots_per_host", "start_timeout", "elastic_timeout"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise ValueError("--%s must be at least 1" % name.replace("_", "-"))
    return Settings(
        command=args.command, np=args.np, hosts=args.hosts, hostfile=args.hostfile,
        environment=config.variables({option.flag: getattr(args, option.flag) for option in config.TUNING}),
        ssh_port=args.ssh_port, ssh_identity_file=args.ssh_identity_file,
        interfaces=[name for name in (args.network_interfaces or "").split(",") if name],
        output_filename=args.output_filename, timestamps=bool(args.prefix_output_with_timestamp),
        verbose=int(bool(args.verbose)),
        start_timeout_s=first(args.start_timeout, _int_of_environment("HOROVOD_START_TIMEOUT", 30)),
        host_discovery_script=args.host_discovery_script, min_np=args.min_np, max_np=args.max_np,
        slots=args.slots_per_host, reset_limit=args.reset_limit,
        elastic_timeout_s=first(args.elastic_timeout, _int_of_environment("HOROVOD_ELASTIC_TIMEOUT", 600)),
        cooldown_range=_cooldown(args.blacklist_cooldown_range))


def run_settings(settings: Settings, function: Optional[bytes] = None) -> list:
    """Run a job to its end; LaunchError when it fails, ValueError when the settings contradict each other."""
    return job_of(settings, function).run()


def job_of(settings: Settings, function: Optional[bytes] = None):
    """The job that `settings` describe, not begun."""
    if settings.elastic:
        from .elastic.job import ElasticJob

        return ElasticJob(settings, function)
    from .static import StaticJob

    return StaticJob(settings, function)


def check_build() -> str:
    """What `horovodrun --check-build` prints."""
    from horovod.common import util

    def has_torch():
        import importlib.util

        return importlib.util.find_spec("torch") is not None and importlib.util.find_spec("horovod.torch") is not None

    def box(title, rows):
        return "%s:\n%s\n" % (title, "\n".join("    [%s] %s" % ("X" if on else " ", name) for name, on in rows))

    return "\n".join(["Horovod v%s:\n" % version(),
                      box("Available Frameworks", [("TensorFlow", False), ("PyTorch", has_torch()), ("MXNet", False)]),
                      box("Available Controllers", [("MPI", util.mpi_built()), ("Gloo", True)]),
                      box("Available Tensor Operations", [
                          ("NCCL", util.nccl_built()), ("DDL", False), ("CCL", False),
                          ("MPI", util.mpi_built()), ("Gloo", True)])])


def version() -> str:
    import horovod

    return getattr(horovod, "__version__", "0.28.1")


def run_commandline(argv: List[str] = None) -> int:
    """The command horovodrun; its exit status."""
    args = parse_args(argv)
    if args.version:
        print(version())
        return 0
    if args.check_build:
        print(check_build(), end="")
        return 0
    try:
        settings = settings_of(args)
        job = job_of(settings)
    except (ValueError, OSError) as e:
        Settings().say(str(e))
        return 2
    try:
        job.run()
        return 0
    except LaunchError as e:
        settings.say(str(e))
        return e.status
    except OSError as e:
        settings.say(str(e))
        return 1


def main() -> None:
    sys.exit(run_commandline())


if __name__ == "__main__":
    main()
