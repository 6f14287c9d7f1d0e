"""What an interpreter has, and what of an environment it lacks: asked in a folder of distributions made here."""
import sys

import pytest

from trainyard import asked

NEEDS_PACKAGING = pytest.mark.skipif(not asked.holds("python_version > '3'") or asked.holds("python_version < '3'"), reason="nothing judges markers here")


def distribution(folder, name, version, requires=()):
    """Metadata as an installer leaves it."""
    info = folder / ("%s-%s.dist-info" % (name.replace("-", "_"), version))
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: %s\nVersion: %s\n%s" % (name, version, "".join("Requires-Dist: %s\n" % r for r in requires)))


@pytest.fixture
def ask(tmp_path, monkeypatch):
    """Ask what the interpreter has, which has nothing but what is made here."""
    site, ours = tmp_path / "site", tmp_path / "ours"
    distribution(site, "ty-one", "1.4", ["ty-two>=1", "ty-three; extra == 'more'", "ty-four==1; extra == 'less'"])
    distribution(site, "ty_two", "1.0")
    distribution(site, "ty-four", "1.0")
    distribution(ours, "horovod", "0.28.1")
    monkeypatch.setattr(sys, "path", [str(ours), str(site)])
    return lambda **question: asked.answer(question, str(ours))


def names(found):
    return [one["spec"] for one in found]


def test_what_is_there(ask):
    got = ask(pip=["ty-one>=1", "Ty.Two", "horovod==0.15", "azureml-core"])
    assert got["missing"] == []
    assert {one["name"]: one["from"] for one in got["satisfied"]} == {"ty-one": "interpreter", "ty-two": "interpreter", "horovod": "trainyard", "azureml-core": "trainyard"}
    assert {one["name"]: one["version"] for one in got["system"]} == {"ty-one": "1.4", "ty-two": "1.0"}


@pytest.mark.parametrize("spec, why", [
    ("ty-one>=2", "1.4"), ("ty-none", "not installed"), ("./folder", "address"), ("ty-one @ https://example.org/x.whl", "address"), ("ty-one>>2", "not a package"),
])
def test_what_is_not(ask, spec, why):
    (lost,) = ask(pip=[spec])["missing"]
    assert lost["spec"] == spec and why in lost["why"]


@NEEDS_PACKAGING
def test_extras(ask):
    assert ask(pip=["ty-one[less]"])["missing"] == []
    (lost,) = ask(pip=["ty-one[more,less]>=1"])["missing"]
    assert "ty-three" in lost["why"]


@NEEDS_PACKAGING
def test_markers(ask):
    assert ask(pip=["ty-none; python_version < '3'"])["missing"] == []
    assert names(ask(pip=["ty-none; python_version > '3'"])["missing"]) == ["ty-none; python_version > '3'"]


def test_constraints(ask):
    assert ask(pip=["ty-one"], constraints=["ty-one<2", "ty-none==1"])["missing"] == []
    (lost,) = ask(pip=["ty-one"], constraints=["ty-one<1"])["missing"]
    assert "ty-one<1" in lost["why"]


def test_python(ask):
    assert ask(python="%d.%d" % sys.version_info[:2])["python_matches"]
    assert not ask(python="2.7")["python_matches"]
