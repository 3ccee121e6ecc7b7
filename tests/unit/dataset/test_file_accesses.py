"""What a project's code opens is seen, Python's own files and what is left out are not."""

from __future__ import annotations

import gzip
import importlib.metadata
import os
import shutil
import sys
import tempfile
from pathlib import Path

import importlib_metadata
import numpy as np
import pytest

from edgec.dataset.file_accesses import digest_names, record_file_accesses


def test_reads_are_seen(tmp_path: Path) -> None:
    folder = Path(__file__).parent  # the temporary folder is none that data would be kept in
    data, apart = tmp_path / "data.npz", tmp_path / "apart"
    apart.mkdir()
    np.savez(data, x=np.zeros(3))
    (apart / "known.txt").write_text("known")
    was, tempfile.tempdir = tempfile.tempdir, str(apart / "temporary")
    try:
        with record_file_accesses(tmp_path / "project", apart) as found:
            with np.load(data) as arrays:
                arrays["x"]
            (apart / "known.txt").read_text()
            (tmp_path / "written.txt").write_text("written")
            Path("/proc/self/status").read_text()
            (folder / "test_python_files.py").read_bytes()
            with gzip.open(tmp_path / "labels.gz", "wb") as stream:
                stream.write(b"1")
            with gzip.open(tmp_path / "labels.gz") as stream:
                stream.read()
    finally:
        tempfile.tempdir = was
    assert found.files == {data, folder / "test_python_files.py", tmp_path / "labels.gz"}
    (tmp_path / "later.txt").write_text("later")
    (tmp_path / "later.txt").read_text()
    assert tmp_path / "later.txt" not in found.files


def test_listings_of_the_project_are_seen(tmp_path: Path) -> None:
    root, out = tmp_path / "project", tmp_path / "project" / "dist"
    for name in ("images", "walked/deep", "imported", "dist/bundle"):
        (root / name).mkdir(parents=True)
    (root / "imported" / "module_of_listings.py").touch()
    with record_file_accesses(root, out) as found, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "dont_write_bytecode", False)
        patch.setattr(sys, "path", [str(root / "imported"), *sys.path])  # pytest's way lists the folder
        importlib.import_module("module_of_listings")
        for metadata in (importlib.metadata, importlib_metadata):
            with pytest.raises(ModuleNotFoundError):
                metadata.version("package-of-listings")
        list((root / "images").iterdir())
        list(os.walk(root / "walked"))
        list(tmp_path.iterdir())
        list((out / "bundle").iterdir())
        patch.chdir(root)
        os.scandir().close()
    sys.modules.pop("module_of_listings")
    assert found.files == {root / "imported" / "module_of_listings.py"}  # of this project, temporary though it is
    assert (root / "imported" / "__pycache__").exists()
    with record_file_accesses(root, out) as again, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(root / "imported"), *sys.path])
        importlib.import_module("module_of_listings")  # from compiled code
    sys.modules.pop("module_of_listings")
    assert again.files == found.files
    assert found.folders == {root, root / "images", root / "walked", root / "walked" / "deep"}

    before = digest_names(root, out)
    shutil.rmtree(out)
    (root / "__pycache__").mkdir()
    for name in (".hidden", "edgec.lock"):
        (root / name).touch()
    assert digest_names(root, out) == before
    (root / "new").touch()
    assert digest_names(root, out) != before
