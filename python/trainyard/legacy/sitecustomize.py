"""Old names for old scripts: numpy's ``np.float`` and its like, and ``sklearn.externals.joblib``.

Runs that ask for legacy_aliases have this folder on PYTHONPATH, so Python runs this file before the script. Nothing is imported
that the script does not import: the names are put in as soon as it has. A library that has a name of its own keeps it.
"""
import importlib
import importlib.machinery
import importlib.util
import os
import sys

NUMPY_NAMES = {"float": float, "int": int, "str": str, "bool": bool, "object": object, "complex": complex}
JOBLIB = "sklearn.externals.joblib"


class NumpyFinder:
    """Finds numpy as the other finders do, and gives it its old names when it has been run."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name != "numpy":
            return None
        for finder in sys.meta_path:
            spec = finder.find_spec(name, path, target) if finder is not cls and hasattr(finder, "find_spec") else None
            if spec is not None:
                return cls.hooked(spec)
        return None

    @staticmethod
    def hooked(spec):
        run = getattr(spec.loader, "exec_module", None)

        def run_and_restore(module):
            run(module)
            for name, kind in NUMPY_NAMES.items():
                vars(module).setdefault(name, kind)

        if run is not None:
            spec.loader.exec_module = run_and_restore
        return spec


class JoblibFinder:
    """Asked last: joblib itself, where scikit-learn has none of its own any more."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return importlib.machinery.ModuleSpec(name, cls) if name == JOBLIB else None

    @staticmethod
    def create_module(spec):
        return None

    @staticmethod
    def exec_module(module):
        sys.modules[module.__name__] = importlib.import_module("joblib")


def run_hidden():
    """Run the sitecustomize that this file stands before, for example the system's."""
    here = os.path.dirname(os.path.abspath(__file__))
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", [p for p in sys.path if os.path.abspath(p) != here])
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


sys.meta_path.insert(0, NumpyFinder)
sys.meta_path.append(JoblibFinder)
run_hidden()
