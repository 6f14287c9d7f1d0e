"""Are the packages there? Specifications as users of pip and conda write them."""
import pytest

from trainyard import packages

HAVE = {"torch": "1.13.0a0+gitunknown", "numpy": "1.24.2", "scikit-learn": "1.2.1", "typing-extensions": "4.4.0", "x": "2.0rc1"}


@pytest.mark.parametrize("spec", [
    "numpy", "numpy==1.24.2", "numpy>=1.20", "numpy>=1.20,<2", "numpy<=1.24.2", "numpy!=1.23", "numpy~=1.24.0", "numpy~=1.20",
    "numpy==1.24.*", "numpy>1.24.1", "NumPy >= 1.20", "numpy=1.24", "numpy=1", "numpy=1.24.2=py311_0", "conda-forge::numpy",
    "scikit_learn", "sklearn", "scikit-learn[alldeps]>=1.0", "typing_extensions>=4", "pytorch", "torch", "pytorch=1.13",
    "torch>=1.13", "pytorch-nightly", "pip", "numpy; python_version > '3'", "numpy 1.24", "x<2.0", "x>=2.0a1",
    "azureml-sdk", "azureml-defaults", "azureml-core==1.0.2", "azureml-train-core", "horovod==0.15.2",
])
def test_satisfied(spec):
    assert packages.missing([spec], HAVE) == []


@pytest.mark.parametrize("spec, why", [
    ("numpy==1.23", "1.24.2"), ("numpy>=2", "1.24.2"), ("numpy<1.24", "1.24.2"),
    ("numpy!=1.24.2", "1.24.2"), ("numpy~=1.23.0", "1.24.2"), ("numpy=1.2", "1.24.2"), ("numpy==1.2.*", "1.24.2"),
    ("numpy!=1.24.*", "1.24.2"), ("pytorch=2.0", "1.13.0"), ("x>=2.0", "2.0rc1"), ("x==2.0", "2.0rc1"),
    ("tensorflow", "not installed"), ("azureml-mlflow", "not installed"),
])
def test_missing(spec, why):
    (found,) = packages.missing([spec], HAVE)
    assert found.spec == spec and why in found.why


@pytest.mark.parametrize("spec", ["", "==1.0", "git+https://example.org/x.git", "numpy==", "numpy>>1"])
def test_no_specification(spec):
    with pytest.raises(packages.SpecError):
        packages.parse(spec)


@pytest.mark.parametrize("spec, version, fits", [
    ("python=3.11", (3, 11, 2), True), ("python=3.11.7", (3, 11, 2), True), ("python=3.6.2", (3, 11, 2), False),
    ("python>=3.8", (3, 11, 2), True), ("python<3.9", (3, 11, 2), False), ("python", (3, 11, 2), True),
    ("python=3.1", (3, 11, 2), False), ("python==3.*", (3, 11, 2), True),
])
def test_python(spec, version, fits):
    assert packages.python_matches(spec, version) is fits


def test_python_is_no_package():
    assert packages.missing(["python=2.7"], {}) == []
    assert packages.python_of(["numpy", "python=3.6"]) == "python=3.6"
    assert packages.python_of(["numpy"]) is None


@pytest.mark.parametrize("older, newer", [
    ("1.9", "1.10"), ("1.0.dev1", "1.0a1"), ("1.0a1", "1.0b1"), ("1.0rc1", "1.0"), ("1.0", "1.0.post1"), ("1.0.post1", "1.0.1"),
])
def test_order(older, newer):
    assert packages.satisfies(newer, [(">", older)]) and not packages.satisfies(older, [(">=", newer)])


def test_same_version_in_other_words():
    assert packages.satisfies("1.0", [("==", "1.0.0")])
    assert packages.satisfies("1.0+cpu", [("==", "1.0")])
    assert not packages.satisfies("1.0+cpu", [("==", "1.0+cu118")])
