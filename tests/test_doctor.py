"""The parts of an installation that `lstmstate doctor` shows."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from importlib import metadata

import numpy as np
import pytest
from commands import PROJECT, Shell
from networks import alone, cell

import lstmstate
from lstmstate.engines import compiled_cell
from lstmstate.exports.targets import TARGETS
from lstmstate.operations import doctor

EXTENSION = "lstmstate.engines._steps"


@pytest.fixture
def unset() -> Iterator[None]:
    """Look for the extension anew in this test."""
    compiled_cell.extension.cache_clear()
    yield
    compiled_cell.extension.cache_clear()


def test_the_versions(shell: Shell) -> None:
    document = shell.json("doctor")
    assert document["kind"] == "installation"
    assert document["version"] == lstmstate.__version__
    assert document["python"].endswith(".".join(map(str, sys.version_info[:3])))
    versions = {one["name"]: one["version"] for one in document["packages"] if one["installed"]}
    assert versions["numpy"] == np.__version__
    assert versions["h5py"] == metadata.version("h5py")
    head, place, *_ = shell("doctor", code=0).out.splitlines()
    assert head == f"lstmstate {lstmstate.__version__}"
    assert place == f"{document['python']} on {document['platform']}"


@pytest.mark.skipif(
    compiled_cell.extension() is None, reason="the compiled steps are not built, or switched off"
)
def test_compiled_steps(shell: Shell) -> None:
    found = compiled_cell.extension()
    document = shell.json("doctor")
    assert (document["compiled"], document["reason"]) == (True, None)
    assert document["file"] == found.__file__
    vectors = [(one["name"], one["bytes"]) for one in document["vectors"]]
    assert vectors == [*found.vectors()]
    lines = shell("doctor", code=0).out.splitlines()
    assert f"  compiled ({vectors[0][0]} vectors, abi3)" in lines
    assert f"  file: {found.__file__}" in lines
    kinds = ", ".join(f"{name} ({size} bytes)" for name, size in vectors)
    assert f"  vectors of this processor: {kinds}" in lines


@pytest.mark.parametrize("cause", ["switched off", "not built", "of another system"])
def test_steps_of_numpy_and_the_reason(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, unset: None, cause: str
) -> None:
    monkeypatch.delenv(compiled_cell.SWITCH, raising=False)
    if cause == "switched off":
        monkeypatch.setenv(compiled_cell.SWITCH, "0")
        reason = "LSTMSTATE_KERNEL is 0"
    elif cause == "not built":
        monkeypatch.setitem(sys.modules, EXTENSION, None)
        reason = "the extension was not built"
    else:
        monkeypatch.delitem(sys.modules, EXTENSION, raising=False)
        monkeypatch.setattr(sys, "meta_path", [_Unloadable(), *sys.meta_path])
        reason = "the extension cannot be loaded (invalid ELF header)"
    document = shell.json("doctor")
    assert (document["compiled"], document["reason"]) == (False, reason)
    assert (document["file"], document["vectors"]) == (None, None)
    assert f"  NumPy: {reason}\n" in shell("doctor", code=0).out
    assert not compiled_cell.can_run(cell(np.random.default_rng(0), 3, 4))


class _Unloadable:
    """An extension that the system cannot load."""

    def find_spec(self, name: str, *_: object) -> None:
        if name == EXTENSION:
            raise ImportError("invalid ELF header")


def test_packages_that_are_missing_or_of_another_name(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find(name: str) -> bool | None:
        return None if name == "cramjam" else True

    def version(name: str) -> str:
        if name == "tensorflow":  # of a package tensorflow-cpu
            raise metadata.PackageNotFoundError(name)
        return f"1.0 of {name}"

    monkeypatch.setattr(doctor, "find_spec", find)
    monkeypatch.setattr(doctor.metadata, "version", version)
    packages = {one.pop("name"): one for one in shell.json("doctor")["packages"]}
    need = {"need": "extra", "extra": "snappy"}
    assert packages["cramjam"] == {**need, "installed": False, "version": None}
    assert packages["haiku"]["version"] == "1.0 of dm-haiku"
    assert packages["tensorflow"]["installed"]
    assert packages["tensorflow"]["version"] is None
    lines = [line.split(maxsplit=1) for line in shell("doctor").out.splitlines() if line]
    rows = {name: " ".join(rest[0].split()) for name, *rest in lines if rest}
    assert rows["cramjam"] == "not installed the extra snappy"
    assert rows["tensorflow"] == "unknown the extra tensorflow"
    assert rows["numpy"] == "1.0 of numpy everything"
    assert rows["torch"] == "1.0 of torch export --check"


def test_every_extra_for_users_is_listed() -> None:
    tomllib = pytest.importorskip("tomllib")  # from Python 3.11 on
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for developers in ("bench", "robust", "docs", "test"):
        del project["optional-dependencies"][developers]
    listed: dict[str, list[str]] = {}
    for one in doctor.examine().packages:
        if one.extra is not None:
            listed.setdefault(one.extra, []).append(one.name)
    assert listed == {
        extra: [one.partition(">=")[0].replace("-", "_") for one in requirements]
        for extra, requirements in project["optional-dependencies"].items()
    }


def test_the_tag_of_a_wheel_has_the_oldest_python_of_the_extension() -> None:
    tomllib = pytest.importorskip("tomllib")  # from Python 3.11 on
    found = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    source = (PROJECT / "lstmstate/engines/steps.c").read_text(encoding="utf-8")
    (limit,) = re.findall(r"^#define Py_LIMITED_API 0x(..)(..)0000$", source, re.MULTILINE)
    major, minor = (int(number, 16) for number in limit)
    tag = f"cp{major}{minor}"
    assert found["project"]["requires-python"] == f">={major}.{minor}"
    settings = found["tool"]["cibuildwheel"]["config-settings"]
    assert settings.endswith(f"--py-limited-api={tag}")
    assert found["tool"]["cibuildwheel"]["build"] == f"{tag}-*"


def test_every_package_that_an_export_imports_is_listed() -> None:
    network = alone(cell(np.random.default_rng(0), 3, 4))
    listed = {one.name for one in doctor.examine().packages}
    imported = set()
    for target in TARGETS[1:]:
        for node in ast.walk(ast.parse(target.source(network, "x.npz"))):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            imported |= {name.partition(".")[0] for name in names}
    assert imported - listed - sys.stdlib_module_names == set()
    assert set(doctor._OF_EXPORTS) <= imported
