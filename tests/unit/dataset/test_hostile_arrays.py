"""Headers of .npz and .npy files that lie end in a message, before memory or disk is used for what they claim."""

from __future__ import annotations

import io
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec.dataset.write import write_spool
from edgec.errors import DatasetError, StorageError
from edgec.model.spec import TensorSpec
from edgec.project.spec import DataSpec, Preprocess


def npy(shape: tuple[int, ...], content: bytes, *, fortran: bool = False, version: tuple[int, int] = (1, 0)) -> bytes:
    out = io.BytesIO()
    header = {"descr": "<f4", "fortran_order": fortran, "shape": shape}
    writers: dict[tuple[int, int], Any] = {
        (1, 0): np.lib.format.write_array_header_1_0,
        (2, 0): np.lib.format.write_array_header_2_0,
    }
    writers[version](out, header)
    return out.getvalue() + content


def npz(folder: Path, **members: bytes) -> None:
    with zipfile.ZipFile(folder / "d.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)


def read(folder: Path, data: str = "d.npz", labels: str | None = None) -> int:
    inputs = (TensorSpec(name="x", shape=(1, 4), dtype="float32"),)
    spec = DataSpec(data=data, labels=labels)
    spool = write_spool(spec, Preprocess(), inputs, folder / "spool", folder, samples=None, seed=0, what="evaluation")
    return spool.info.samples


X = npy((3, 1, 4), bytes(48))


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_an_honest_archive(tmp_path: Path, version: tuple[int, int]) -> None:
    npz(tmp_path, x=npy((3, 1, 4), np.arange(12, dtype="<f4").tobytes(), version=version), y=npy((3,), bytes(12)))
    with pytest.raises(DatasetError, match="labels"):  # of floats: they are no classes, but they were read
        read(tmp_path, labels="z")
    npz(tmp_path, x=npy((3, 1, 4), np.arange(12, dtype="<f4").tobytes(), version=version))
    assert read(tmp_path) == 3


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (npy((-4, 1, 4), b""), r"shape \(-4, 1, 4\)"),
        (npy((-3, -1, 4), bytes(48)), "shape"),
        (npy((3, 1, 4), bytes(47)), "takes 48 bytes, and has 47"),
        (npy((3, 1, 4), bytes(49)), "takes 48 bytes, and has 49"),
        (npy((1 << 62, 1 << 62, 4), bytes(48)), "bytes, and has 48"),
        (npy((1 << 40, 1, 4), bytes(48), fortran=True), "bytes, and has 48"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + b" " * 200_000, "header|EOF"),
        (b"", "magic|EOF|header"),
    ],
)
def test_a_header_that_lies(tmp_path: Path, content: bytes, words: str) -> None:
    npz(tmp_path, x=content)
    with pytest.raises(DatasetError, match=words):
        read(tmp_path)


def test_a_header_is_not_inflated_without_limit(tmp_path: Path) -> None:
    npz(tmp_path, x=b"\x93NUMPY\x02\x00\x00\x00\x00\x08" + bytes(128 << 20))
    tracemalloc.start()
    with pytest.raises(DatasetError):
        read(tmp_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 << 20


def test_labels_are_not_loaded_before_their_shape_is_right(tmp_path: Path) -> None:
    npz(tmp_path, x=X, y=npy((32 << 20,), bytes(128 << 20)))
    tracemalloc.start()
    with pytest.raises(DatasetError, match="there are 3 samples"):
        read(tmp_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 << 20


def test_an_npy_that_claims_more_than_it_has(tmp_path: Path) -> None:
    for shape in ((1 << 40, 1, 4), (-4, 1, 4)):
        (tmp_path / "d.npy").write_bytes(npy(shape, bytes(48)))
        with pytest.raises(DatasetError):
            read(tmp_path, "d.npy")
    (tmp_path / "d.npy").write_bytes(X)
    (tmp_path / "y.npy").write_bytes(npy((1 << 40,), bytes(12)))
    with pytest.raises(DatasetError):
        read(tmp_path, "d.npy", "y.npy")


def test_arrays_in_column_order_need_room_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "d.npz", x=np.asfortranarray(np.zeros((3, 1, 4), np.float32)))
    assert read(tmp_path) == 3
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 47})())
    with pytest.raises(StorageError, match="take 48 bytes, and 47 are free"):
        read(tmp_path)
