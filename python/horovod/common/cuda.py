"""Where the CUDA runtime and NCCL of an installed torch are: what the engine opens, without importing torch."""
import glob
import importlib.util
import os
from typing import List

VARIABLE = "TRAINYARD_COLL_CUDA_PATH"


def _of_torch() -> List[str]:
    try:
        spec = importlib.util.find_spec("torch")
    except (ImportError, ValueError):
        spec = None
    paths: List[str] = []
    for package in (spec.submodule_search_locations or ()) if spec is not None else ():
        lib = os.path.join(package, "lib")
        # Older wheels have the runtime under a name with a hash; newer ones have it in packages beside torch.
        paths += sorted(glob.glob(os.path.join(glob.escape(lib), "libcudart*.so*")))
        paths += sorted(glob.glob(os.path.join(glob.escape(lib), "libnccl*.so*")))
        paths += sorted(glob.glob(os.path.join(glob.escape(os.path.dirname(package)), "nvidia", "*", "lib")))
    return paths


def search_path() -> str:
    """Folders and files with ":" between them; the user's come first."""
    given = [path for path in os.environ.get(VARIABLE, "").split(":") if path]
    return ":".join(given + [path for path in _of_torch() if ":" not in path])
