"""What programs call themselves towards the cloud. It is kept, and sent nowhere."""
from typing import List, Optional

_names: List[str] = []


def append(key: str, value: Optional[str] = None) -> None:
    """Add a name, and its version."""
    _names.append(key if value is None else "%s/%s" % (key, value))


def get_user_agent() -> str:
    """All names that were added."""
    return " ".join(_names)
