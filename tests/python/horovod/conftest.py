"""Where torch is missing, only what can be tested without it is collected."""
import importlib.util

collect_ignore = [] if importlib.util.find_spec("torch") else ["test_torch.py"]
