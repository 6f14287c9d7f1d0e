"""Where torch is missing, only what can be tested without it is collected."""
import glob
import importlib.util
import os

WITHOUT_TORCH = ("test_package.py",)

collect_ignore = [] if importlib.util.find_spec("torch") else \
    [path for path in glob.glob(os.path.join(os.path.dirname(os.path.abspath(__file__)), "test_*.py"))
     if os.path.basename(path) not in WITHOUT_TORCH]
