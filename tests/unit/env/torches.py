"""PyTorch in name only, for the tests of which build is chosen: an index for each build, as PyTorch's own has them.

    torches.py FOLDER       FOLDER/whl/{cpu,cu118,cu124}/torch/..., FOLDER/simple/torch and .../torchvision (pip's own index)
"""
import os
import sys

import index

BUILDS = {"cpu": ("2.3.0", "2.4.0", "2.4.1", "2.9.0"), "cu118": ("2.3.0", "2.4.1"), "cu124": ("2.4.0", "2.4.1")}
VISION = {"2.3.0": "0.18.0", "2.4.0": "0.19.0", "2.4.1": "0.19.1", "2.9.0": "0.24.0"}


def torch(folder, version, vision, build):
    """Both wheels of one version."""
    local = "+" + build if build else ""
    cuda = repr("%s.%s" % (build[2:-1], build[-1])) if build.startswith("cu1") else None
    for name in ("torch", "torchvision"):
        os.makedirs(os.path.join(folder, name), exist_ok=True)
    needs = () if build else ["nvidia-ty-cuda"]  # as pip's own index has it
    index.wheel(os.path.join(folder, "torch"), "torch", version + local, needs,
                {"torch/__init__.py": "__version__ = %r\n" % (version + local), "torch/version.py": "cuda = %s\n" % cuda})
    index.wheel(os.path.join(folder, "torchvision"), "torchvision", vision + local, ["torch==" + version])


def main(root):
    """All of them."""
    for build, versions in BUILDS.items():
        for version in versions:
            torch(os.path.join(root, "whl", build), version, VISION[version], build)
    os.makedirs(os.path.join(root, "simple", "nvidia-ty-cuda"), exist_ok=True)
    index.wheel(os.path.join(root, "simple", "nvidia-ty-cuda"), "nvidia-ty-cuda", "1.0")
    for version in ("2.4.1", "2.9.0"):
        torch(os.path.join(root, "simple"), version, VISION[version], "")


if __name__ == "__main__":
    main(sys.argv[1])
