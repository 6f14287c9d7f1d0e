"""What a web service or model needs of a machine."""
from typing import Optional


class ResourceConfiguration:
    """cpu, memory_in_gb and gpu. They are kept; what uses them comes with a later release."""

    def __init__(self, cpu: Optional[float] = None, memory_in_gb: Optional[float] = None, gpu: Optional[int] = None) -> None:
        self.cpu = cpu
        self.memory_in_gb = memory_in_gb
        self.gpu = gpu


__all__ = ["ResourceConfiguration"]
