"""python -m horovod.runner.task: fetch the function of horovod.run() from the launcher, call it, hand its result back."""
import os
import pickle
import sys
import traceback

from .link import Link
from .outcome import packed_error, packed_result

FETCH_S = 60.0


def main() -> int:
    link = Link.from_env()
    link.send({"op": "function"})
    _, data = link.receive(FETCH_S)
    status = 0
    try:
        path, main_path, function = pickle.loads(data)
        sys.path[:] = path + [p for p in sys.path if p not in path]
        if main_path and os.path.exists(main_path):
            _become_main(main_path)
        function, args, kwargs = pickle.loads(function)
        result = packed_result(function(*args, **kwargs))
    except SystemExit as e:
        if not e.code:
            return 0
        result, status = packed_error(e), 1
    except Exception as e:
        traceback.print_exc()
        result, status = packed_error(e), 1
    link.send({"op": "result"}, result)
    link.receive(FETCH_S)
    link.close()
    return status


def _become_main(path):
    """What plain pickle names as __main__.f is found by loading the caller's script, not as __main__."""
    import runpy
    import types

    module = types.ModuleType("__mp_main__")
    module.__dict__.update(runpy.run_path(path, run_name="__mp_main__"))
    sys.modules["__main__"] = sys.modules["__mp_main__"] = module


if __name__ == "__main__":
    sys.exit(main())
