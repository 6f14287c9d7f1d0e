"""Where images come from."""
from typing import Optional


class ContainerRegistry:
    """address, username and password of a registry; kept, and without effect: runs use no images."""

    def __init__(self) -> None:
        self.address: Optional[str] = None
        self.username: Optional[str] = None
        self.password: Optional[str] = None
