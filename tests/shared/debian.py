"""Programs of Debian's that tests need: the installed one, or that of the downloaded package."""

from __future__ import annotations

import atexit
import functools
import shutil
import subprocess
import tempfile
from pathlib import Path


@functools.cache
def program(name: str, package: str) -> str:
    """Path of a program; where it is not installed, its package is unpacked into a folder that goes with the process.

    Raises:
        subprocess.CalledProcessError: the package cannot be had.
    """
    if found := shutil.which(name):
        return found
    folder = Path(tempfile.mkdtemp(prefix=f"{package}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    subprocess.run(["apt-get", "download", package], cwd=folder, check=True, capture_output=True)
    (archive,) = folder.glob("*.deb")
    subprocess.run(["dpkg", "-x", archive, folder], check=True, capture_output=True)
    (found_there,) = (path for path in folder.rglob(name) if path.parent.name == "bin")
    return str(found_there)
