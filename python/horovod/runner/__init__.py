"""Starting Horovod jobs: run() for functions, launch for the command line."""
import os
import pickle
import sys

from .settings import LaunchError, Settings

__all__ = ["run", "LaunchError"]


def _script():
    """The caller's script, where functions of __main__ can be found again; None in a notebook or a shell."""
    path = getattr(sys.modules.get("__main__"), "__file__", None)
    return os.path.abspath(path) if path and getattr(sys.modules["__main__"], "__spec__", None) is None else None


def _pack(func, args, kwargs):
    from .outcome import dumps

    try:
        import cloudpickle  # noqa: F401
        script = None       # it carries functions of __main__ itself
    except ImportError:
        script = _script()
    try:
        function = dumps((func, tuple(args), dict(kwargs or {})))
    except Exception as e:
        raise ValueError("horovod.run cannot pickle the function or its arguments: %s; install cloudpickle to send "
                         "lambdas and nested functions" % e) from e
    return pickle.dumps(([p for p in sys.path if p], script, function))


def run(func, args=(), kwargs=None, num_proc=None, min_num_proc=None, max_num_proc=None, slots=None, reset_limit=None,
        cooldown_range=None, elastic_timeout=None, hosts=None, hostfile=None, start_timeout=None, ssh_port=None,
        ssh_identity_file=None, disable_cache=None, output_filename=None, verbose=None, use_gloo=None, use_mpi=None,
        mpi_args=None, network_interface=None, network_interfaces=None, executable=None, host_discovery_script=None,
        prefix_output_with_timestamp=False, env=None, np=None, min_np=None, max_np=None):
    """Call func(*args, **kwargs) in num_proc processes, each a rank, and return the list of results by rank.

    With min_num_proc, max_num_proc or host_discovery_script the job is elastic, and the list is that of the ranks of
    its last world.  A function that raises makes this raise LaunchError (a RuntimeError) with the rank and its
    traceback; the exception itself is the cause.  disable_cache, use_gloo, use_mpi and mpi_args are accepted; workers
    are always started by this launcher itself.
    """
    from .launch import run_settings

    # Where functions of the caller's script come from on the ranks that had to load it (task.py).
    sys.modules.setdefault("__mp_main__", sys.modules["__main__"])
    names = network_interfaces or network_interface or []
    settings = Settings(
        np=num_proc or np, min_np=min_num_proc or min_np, max_np=max_num_proc or max_np, slots=slots,
        reset_limit=reset_limit, cooldown_range=cooldown_range, hosts=hosts, hostfile=hostfile,
        start_timeout_s=start_timeout or int(os.environ.get("HOROVOD_START_TIMEOUT") or 30), ssh_port=ssh_port,
        ssh_identity_file=ssh_identity_file, output_filename=output_filename, verbose=int(verbose or 0),
        interfaces=names.split(",") if isinstance(names, str) else list(names), base_environment=env,
        host_discovery_script=host_discovery_script, timestamps=prefix_output_with_timestamp,
        elastic_timeout_s=elastic_timeout or int(os.environ.get("HOROVOD_ELASTIC_TIMEOUT") or 600),
        command=[executable or sys.executable, "-m", "horovod.runner.task"])
    if not settings.np and not settings.elastic and not hosts and not hostfile:
        settings.np = 1
    return run_settings(settings, _pack(func, args, kwargs))
