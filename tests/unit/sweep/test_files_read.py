"""What a project's code opens is seen, Python's own files and what is left out are not."""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path

import numpy as np

from edgec.sweep.reads import files_read


def test_reads_are_seen(tmp_path: Path) -> None:
    folder = Path(__file__).parent  # the temporary folder is none that data would be kept in
    data, apart = tmp_path / "data.npz", tmp_path / "apart"
    apart.mkdir()
    np.savez(data, x=np.zeros(3))
    (apart / "known.txt").write_text("known")
    was, tempfile.tempdir = tempfile.tempdir, str(apart / "temporary")
    try:
        with files_read(apart) as found:
            with np.load(data) as arrays:
                arrays["x"]
            (apart / "known.txt").read_text()
            (tmp_path / "written.txt").write_text("written")
            Path("/proc/self/status").read_text()
            (folder / "conftest.py").read_bytes()
            with gzip.open(tmp_path / "labels.gz", "wb") as stream:
                stream.write(b"1")
            with gzip.open(tmp_path / "labels.gz") as stream:
                stream.read()
    finally:
        tempfile.tempdir = was
    assert found == {data, folder / "conftest.py", tmp_path / "labels.gz"}
    (tmp_path / "later.txt").write_text("later")
    (tmp_path / "later.txt").read_text()
    assert tmp_path / "later.txt" not in found
