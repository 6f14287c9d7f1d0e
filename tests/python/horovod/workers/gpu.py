"""The way of a tensor on a GPU from hvd's operations into the engine and back, with stand-ins for CUDA, NCCL and torch's part.

No GPU is here: a "tensor" is an object with what mpi_ops asks of one, on memory of the stand-in for CUDA.
"""
import ctypes
import os
import types

import common
import horovod.torch as hvd
import torch
from horovod.common.basics import _basics
from horovod.torch import device

CUDA = ctypes.CDLL(os.environ["TRAINYARD_COLL_CUDART"])
CUDA.fake_alias.restype = ctypes.c_void_p
CUDA.fake_alias.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
CUDA.cudaFree.argtypes = (ctypes.c_void_p,)
recorded = []


class Event:
    """Events of the stand-in, recorded on a stream of it."""

    def __init__(self):
        event = ctypes.c_void_p()
        assert CUDA.cudaEventCreateWithFlags(ctypes.byref(event), 0) == 0
        self.cuda_event = event.value

    def record(self, stream):
        assert CUDA.cudaEventRecord(ctypes.c_void_p(self.cuda_event), stream) == 0
        recorded.append(self.cuda_event)


class OnGpu:
    """A float32 vector on the stand-in's memory."""
    dtype, layout, requires_grad = torch.float32, torch.strided, False

    def __init__(self, values):
        address = ctypes.c_void_p()
        assert CUDA.cudaSetDevice(hvd.rank()) == 0 and CUDA.cudaMalloc(ctypes.byref(address), 4 * len(values)) == 0
        self.address, self.shape = address.value, (len(values),)
        self.device = torch.device("cuda", hvd.rank())
        self.values()[:] = values

    def values(self):
        return values_at(self.address, self.shape[0])

    def free(self):
        assert CUDA.cudaFree(self.address) == 0

    def data_ptr(self):
        return self.address

    def numel(self):
        return self.shape[0]

    def dim(self):
        return 1

    def element_size(self):
        return 4

    def is_contiguous(self):
        return True


def values_at(address, n):
    alias = CUDA.fake_alias(address, 4 * n, -1)
    assert alias, "this is not on a GPU"
    return (ctypes.c_float * n).from_address(alias)


def as_tensor(block, device):
    """torch.as_tensor() reads this protocol, and keeps the object alive."""
    told = block.__cuda_array_interface__
    address, read_only = told["data"]
    assert told["typestr"] == "|u1" and not read_only and device.index == hvd.rank()
    result = list(values_at(address, told["shape"][0] // 4))
    return types.SimpleNamespace(view=lambda dtype: types.SimpleNamespace(
        reshape=lambda shape: types.SimpleNamespace(values=result, shape=shape, block=block.block)))


def check_questions():
    assert hvd.cuda_built() and hvd.nccl_built() is (os.environ["TRAINYARD_COLL_NCCL"] != "none")
    assert _basics.engine().gpu_ready() is None


def check_in_place():
    tensor = OnGpu([hvd.rank() + 1.0] * 5)
    for op, expected in ((hvd.Sum, hvd.size() * (hvd.size() + 1) / 2), (hvd.Max, hvd.size())):
        tensor.values()[:] = [hvd.rank() + 1.0] * 5
        events = len(recorded)
        assert hvd.synchronize(hvd.allreduce_async_(tensor, op=op, name="gpu")) is tensor
        assert list(tensor.values()) == [expected] * 5 and len(recorded) == events + 1
    tensor.values()[:] = [hvd.rank() + 1.0] * 5
    hvd.synchronize(hvd.broadcast_async_(tensor, hvd.size() - 1, name="gpu"))
    assert list(tensor.values()) == [hvd.size()] * 5
    tensor.free()


def check_groups():
    tensors = [OnGpu([hvd.rank() + float(i)] * 3) for i in range(4)]
    hvd.synchronize(hvd.grouped_allreduce_async_(tensors, op=hvd.Average, name="group"))
    for i, tensor in enumerate(tensors):
        assert all(abs(v - (i + (hvd.size() - 1) / 2)) < 1e-6 for v in tensor.values())
        tensor.free()


def check_blocks():
    tensor = OnGpu([float(hvd.rank())] * (hvd.rank() + 1))
    gathered = hvd.synchronize(hvd.allgather_async(tensor, name="rows"))
    assert gathered.values == [float(r) for r in range(hvd.size()) for _ in range(r + 1)]
    block = gathered.block
    assert block.device == hvd.rank() and block.nbytes == 4 * len(gathered.values)
    try:
        memoryview(block)
        raise AssertionError("memory of a GPU was given out as memory of the host")
    except BufferError:
        pass
    tensor.free()
    tensor = OnGpu([float(hvd.rank())] * hvd.size())
    output, received = hvd.synchronize(hvd.alltoall_async(tensor, name="all"))
    assert output.values == [float(r) for r in range(hvd.size())] and received.tolist() == [1] * hvd.size()
    tensor.free()


def check_path():
    paths = _basics.engine().stats()["paths"]
    shared = os.environ["TRAINYARD_COLL_NCCL"] == "none"
    assert (paths["nccl"], paths["host"] > 0) == (0, True) if shared else (paths["nccl"] > 0, paths["host"]) == (True, 0), paths


def main():
    stream = ctypes.c_void_p()
    hvd.init()
    assert CUDA.cudaStreamCreateWithFlags(ctypes.byref(stream), 1) == 0
    torch.version.cuda = "12.4"
    torch.cuda.Event, torch.cuda.current_stream = Event, lambda device: stream
    device.torch = types.SimpleNamespace(cuda=torch.cuda, version=torch.version, as_tensor=as_tensor)
    common.main(common.checks_of(globals()))
    hvd.shutdown()


if __name__ == "__main__":
    main()
