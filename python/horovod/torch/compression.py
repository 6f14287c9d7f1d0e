"""What is done to tensors before they travel."""
from typing import Any, Tuple

import torch


class Compressor:
    """What a class given as `compression` has: both directions, as static methods."""

    @staticmethod
    def compress(tensor: torch.Tensor) -> Tuple[torch.Tensor, Any]:
        """What travels, and what decompress() has to know."""
        raise NotImplementedError("a compression has a static method compress(tensor)")

    @staticmethod
    def decompress(tensor: torch.Tensor, ctx: Any) -> torch.Tensor:
        """What travelled, as it was before."""
        raise NotImplementedError("a compression has a static method decompress(tensor, ctx)")


class NoneCompressor(Compressor):
    """Tensors travel as they are."""

    @staticmethod
    def compress(tensor: torch.Tensor) -> Tuple[torch.Tensor, Any]:
        return tensor, None

    @staticmethod
    def decompress(tensor: torch.Tensor, ctx: Any) -> torch.Tensor:
        return tensor


class FP16Compressor(Compressor):
    """Floating point numbers travel in 16 bits."""

    @staticmethod
    def compress(tensor: torch.Tensor) -> Tuple[torch.Tensor, Any]:
        if not tensor.dtype.is_floating_point:
            return tensor, None
        return tensor.to(torch.float16), tensor.dtype

    @staticmethod
    def decompress(tensor: torch.Tensor, ctx: Any) -> torch.Tensor:
        return tensor if ctx is None else tensor.to(ctx)


class Compression:
    """The choices: `hvd.Compression.none`, which is the default, and `hvd.Compression.fp16`."""

    none = NoneCompressor
    fp16 = FP16Compressor
