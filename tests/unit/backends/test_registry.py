"""Backends by name: built-in ones, a third party's, and those that do not load."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edgec.backends.interface import Package
from edgec.backends.registry import (
    BUILT_IN,
    backend_names,
    get_backend,
    install_command,
    missing_packages,
    package_version,
    require_packages,
)
from edgec.errors import BackendUnavailableError, TargetError


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, *rows: str) -> None:
    """A distribution with entry points, as pip would leave it in `folder`."""
    info = folder / "acme_backend-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-backend\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text("[edgec.backends]\n" + "".join(f"{row}\n" for row in rows))
    source = (
        "from edgec.backends.onnxruntime.backend import OnnxRuntimeBackend\nBACKEND = OnnxRuntimeBackend(name='acme')\n"
    )
    (folder / "acme_backend_module.py").write_text(source)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "acme_backend_module", raising=False)


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_backends_load(name: str) -> None:
    assert get_backend(name).name == name
    assert get_backend(name) is get_backend(name)


def test_an_unknown_name_gets_a_suggestion() -> None:
    with pytest.raises(TargetError) as caught:
        get_backend("tflit")
    assert caught.value.hint == 'did you mean "tflite"?'
    with pytest.raises(TargetError) as caught:
        get_backend("zzz")
    assert caught.value.hint.startswith("backends: fbgemm, qnnpack")


def test_a_third_partys_backend_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, "acme = acme_backend_module:BACKEND")
    assert backend_names() == (*BUILT_IN, "acme")
    assert get_backend("acme").name == "acme"
    assert package_version("acme-backend") == "1.2"


def test_an_entry_point_that_does_not_load_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, "acme = acme_backend_module:NOTHING")
    with pytest.raises(BackendUnavailableError) as caught:
        get_backend("acme")
    assert 'entry point of backend "acme" cannot be loaded' in caught.value.what
    assert caught.value.where == "acme_backend_module:NOTHING"


def test_a_second_backend_of_one_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, "tflite = acme_backend_module:BACKEND")
    with pytest.raises(TargetError, match='"tflite" is registered twice'):
        backend_names()


def test_missing_packages_are_told_with_what_installs_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = get_backend("onnxruntime")
    require_packages(backend, "int8")
    assert missing_packages(backend, "int8") == ()
    gone = Package(distribution="edgec-no-such-package", purpose="run")
    more = type(backend)(packages=(*backend.packages, gone))  # type: ignore[call-arg]
    assert missing_packages(more, "int8") == ("edgec-no-such-package",)
    with pytest.raises(BackendUnavailableError) as caught:
        require_packages(more, "int8")
    assert "int8 needs packages that are not installed: edgec-no-such-package" in str(caught.value)
    assert "pip install 'edgec[onnx]'" in caught.value.hint
    core = type(backend)(packages=(gone,), extra="")  # type: ignore[call-arg]
    with pytest.raises(BackendUnavailableError) as caught:
        require_packages(core, "int8")
    assert caught.value.hint == "pip install edgec-no-such-package"


def test_a_package_without_wheels_for_this_python_is_not_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = get_backend("tflite")
    runtime = next(item for item in backend.packages if item.python_below)
    monkeypatch.setattr("edgec.backends.registry.package_version", lambda name: None)
    assert runtime.distribution in missing_packages(backend, "fp32")
    monkeypatch.setattr(sys, "version_info", (3, 13, 0))
    assert runtime.no_wheel == "tflite-runtime has no wheel for this Python (3.13)"
    assert runtime.distribution not in missing_packages(backend, "fp32")


def test_a_package_may_be_needed_for_some_precisions_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgec.backends.registry.package_version", lambda name: None)
    backend = get_backend("tflite")
    assert "tensorflow" in missing_packages(backend, "int8")
    assert "tensorflow" not in missing_packages(backend, "fp32")


@pytest.mark.parametrize(
    ("missing", "python", "command"),
    [
        (("onnx2tf",), (3, 11), "pip install --no-deps --ignore-requires-python onnx2tf==2.6.9"),
        (("onnx2tf",), (3, 12), "pip install 'edgec[tflite-direct]'"),
        (("tensorflow",), (3, 11), "pip install 'edgec[tflite]'"),
        (("onnx", "ai-edge-litert"), (3, 11), "pip install 'edgec[tflite-direct]'"),
        (
            ("onnx", "onnx2tf", "tensorflow"),
            (3, 11),
            "pip install 'edgec[tflite]' && pip install --no-deps --ignore-requires-python onnx2tf==2.6.9",
        ),
        (("onnx", "onnx2tf", "tensorflow"), (3, 13), "pip install 'edgec[tflite]'"),
    ],
)
def test_no_more_is_installed_than_what_is_missing(
    missing: tuple[str, ...], python: tuple[int, int], command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "version_info", (*python, 0))
    assert install_command(get_backend("tflite"), missing) == command
