"""What needs no torch and no job."""
import importlib.machinery
import importlib.metadata
import subprocess
import sys

import job
import pytest


def test_installers_see_horovod():
    import horovod

    assert importlib.metadata.version("horovod") == horovod.__version__ == "0.28.1"


@pytest.mark.parametrize("name", ["tensorflow", "keras", "mxnet", "spark", "ray"])
def test_other_frameworks_are_named_in_the_error(name):
    with pytest.raises(ImportError, match="horovod.torch"):
        importlib.import_module("horovod." + name)


def test_cuda_is_found_or_not(monkeypatch, capsys, tmp_path):
    from horovod.common import cuda, util

    monkeypatch.setenv("TRAINYARD_COLL_NCCL", "none")
    monkeypatch.setenv("TRAINYARD_COLL_CUDART", str(tmp_path / "libcudart.so.12"))
    assert not util.nccl_built() and not util.cuda_built(verbose=True)
    assert str(tmp_path) in capsys.readouterr().err
    package = tmp_path / "torch"
    for file in ("torch/__init__.py", "torch/lib/libcudart-d0da41ae.so.11.0", "torch/lib/libother.so",
                 "nvidia/nccl/lib/libnccl.so.2"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_bytes(b"")
    monkeypatch.setattr(cuda.importlib.util, "find_spec", lambda name: importlib.machinery.ModuleSpec(name, None, is_package=True))
    assert cuda.search_path() == ""
    spec = importlib.machinery.ModuleSpec("torch", None, is_package=True)
    spec.submodule_search_locations.append(str(package))
    monkeypatch.setattr(cuda.importlib.util, "find_spec", lambda name: spec)
    monkeypatch.setenv("TRAINYARD_COLL_CUDA_PATH", "/mine")
    assert cuda.search_path() == "/mine:%s/lib/libcudart-d0da41ae.so.11.0:%s/nvidia/nccl/lib" % (package, tmp_path)


def test_util():
    from horovod.common import util

    assert util.mpi_built() and util.gloo_built(verbose=True)
    assert not util.extension_available("tensorflow")
    with pytest.raises(ImportError):
        util.check_extension("horovod.tensorflow", "HOROVOD_WITH_TENSORFLOW", "x")
    assert util.split_list([1, 2, 3, 4, 5], 2) == [[1, 2, 3], [4, 5]]
    assert [n for n in range(-2, 20) if util.num_rank_is_power_2(n)] == [1, 2, 4, 8, 16]
    calls = []

    @util._cache
    def twice(a):
        calls.append(a)
        return 2 * a

    assert [twice(1), twice(1), twice(2)] == [2, 2, 4] and calls == [1, 2]


def test_environment_is_put_back(monkeypatch):
    import os

    from horovod.common import util

    monkeypatch.setenv("HVD_TEST_A", "1")
    with util.env(HVD_TEST_A=None, HVD_TEST_B="2"):
        assert "HVD_TEST_A" not in os.environ and os.environ["HVD_TEST_B"] == "2"
    assert os.environ["HVD_TEST_A"] == "1" and "HVD_TEST_B" not in os.environ


def test_nothing_but_glibc_is_linked():
    import horovod._coll

    needed = subprocess.run(["ldd", horovod._coll.__file__], stdout=subprocess.PIPE, text=True, check=True).stdout
    names = {line.split()[0].split("/")[-1].split(".so")[0] for line in needed.splitlines()}
    assert names <= {"linux-vdso", "libc", "libm", "libpthread", "libdl", "librt", "ld-linux-x86-64", "ld-linux-aarch64"}, needed
    shown = subprocess.run(["nm", "-D", "--defined-only", horovod._coll.__file__], stdout=subprocess.PIPE, text=True, check=True).stdout
    assert [line.split()[-1] for line in shown.splitlines()] == ["PyInit__coll"]


def test_a_context_without_a_job():
    """The extension alone, in a process of its own: one context is one world, and several may be open."""
    text = ("from horovod import _coll\n"
            "import ctypes\n"
            "a, b = _coll.Context(size=1), _coll.Context(size=1)\n"
            "assert a.topology()[:2] == (0, 1)\n"
            "x = (ctypes.c_float * 2)(1.5, 2.5)\n"
            "p = ctypes.addressof(x)\n"
            "f = _coll.DTYPE_NUMBERS['float32']\n"
            "for c in (a, b):\n"
            "    h = c.submit(_coll.ALLREDUCE, 'n', 0, f, _coll.SUM, 2.0, 1.0, 0, ((p, 2, (2,), p, 2),))\n"
            "    assert c.wait(h) == 0\n"
            "assert list(x) == [6.0, 10.0]\n"
            "m = a.arena_alloc(100)\n"
            "a.close()\n"
            "a.close()\n"
            "assert bytes(m) == bytes(100)\n"
            "try:\n"
            "    a.topology()\n"
            "except RuntimeError:\n"
            "    print('fine')\n")
    done = subprocess.run([sys.executable, "-c", text], env=job.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, timeout=60)
    assert done.stdout == "fine\n" and done.returncode == 0, done.stdout


def test_wrong_arguments_of_the_extension():
    text = ("from horovod import _coll\n"
            "c = _coll.Context(size=1)\n"
            "ok = (_coll.ALLREDUCE, None, 0, 0, _coll.SUM, 1.0, 1.0, 0)\n"
            "for args in ((), (99,) + ok[1:] + ((),), ok + ([],), ok + ((1,),), ok + (((1, 1, [1], 0, 0),),), ok + (((0, 1, (1,), 0, 1),),),\n"
            "             ok + (((0, 0, (1,) * 40, 0, 1),),), ok + ((), ['x']), ok[:2] + (7,) + ok[3:] + ((),)):\n"
            "    try:\n"
            "        c.submit(*args)\n"
            "    except (TypeError, ValueError):\n"
            "        continue\n"
            "    raise SystemExit('accepted: %r' % (args,))\n"
            "for bad in (lambda: c.wait(12345), lambda: c.poll(12345), lambda: c.set_ranks(9), lambda: c.arena_alloc(0)):\n"
            "    try:\n"
            "        bad()\n"
            "    except (ValueError, RuntimeError):\n"
            "        continue\n"
            "    raise SystemExit('accepted')\n"
            "print('fine')\n")
    done = subprocess.run([sys.executable, "-c", text], env=job.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, timeout=60)
    assert done.stdout == "fine\n" and done.returncode == 0, done.stdout
