"""Fashion-MNIST's four arrays, wherever they are: the same bytes by checksum, or an error.

Looked for in this order: Debian's package ``dataset-fashion-mnist``, ``$EDGEC_DATA/fashion-mnist`` (IDX files or
fashion_mnist_{train,test}.npz), this example's own download folder, and then the network (31 MB, once).
"""

import gzip
import hashlib
import os
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
DOWNLOADS = Path(__file__).parent / "download"
MIRRORS = (
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
)
FILES = {
    ("train", "x"): "train-images-idx3-ubyte",
    ("train", "y"): "train-labels-idx1-ubyte",
    ("test", "x"): "t10k-images-idx3-ubyte",
    ("test", "y"): "t10k-labels-idx1-ubyte",
}
# Of the values, not of the .gz: those of Debian and of the authors differ in their gzip headers.
SHA256 = {
    ("train", "x"): "2e487a6c89124f78f2d7521542223cafe96f7123c3ca13d447772ac6ecbb3012",
    ("train", "y"): "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7",
    ("test", "x"): "c867c93ff95360594e8ec3287995350b824dd110b11595c0e13d5423f621867a",
    ("test", "y"): "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9",
}


def load(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (N, 28, 28) from 0 to 255 and labels int64 (N,) of "train" (60,000) or "test" (10,000)."""
    return _array(split, "x"), _array(split, "y").astype(np.int64)


def _array(split: str, key: str) -> np.ndarray:
    file = next(_places(split, key), None) or _download(FILES[split, key])
    try:
        array = np.load(file)[key] if file.suffix == ".npz" else parse_idx(_content(file))
    except (OSError, EOFError, ValueError, KeyError, zlib.error, zipfile.BadZipFile) as error:
        raise SystemExit(f"{file}: cannot be read: {error}; remove or replace it") from error
    if hashlib.sha256(array.tobytes()).hexdigest() != SHA256[split, key]:
        raise SystemExit(f"{file}: not Fashion-MNIST's {FILES[split, key]}: its SHA-256 differs; remove or replace it")
    return array


def _places(split: str, key: str) -> Iterator[Path]:
    """Files that exist and should hold the array, best first."""
    shared = [Path(os.environ["EDGEC_DATA"]) / "fashion-mnist"] if os.environ.get("EDGEC_DATA") else []
    for folder in (DEBIAN, *shared, DOWNLOADS):
        for name in (f"{FILES[split, key]}.gz", FILES[split, key], f"fashion_mnist_{split}.npz"):
            if (folder / name).is_file():
                yield folder / name


def _content(file: Path) -> bytes:
    return gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()


def parse_idx(content: bytes) -> np.ndarray:
    """The uint8 array of an IDX file: two zero bytes, type 8, number of axes, big-endian sizes, values.

    Raises:
        ValueError: the file is another, or incomplete.
    """
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise ValueError("not an IDX file of bytes")
    axes = content[3]
    shape = np.frombuffer(content, ">u4", axes, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)


def _download(name: str) -> Path:
    """The file, written whole or not at all."""
    failures = []
    for mirror in MIRRORS:
        url = f"{mirror}{name}.gz"
        try:
            print(f"download {url}")
            with urllib.request.urlopen(url, timeout=60) as response:
                content = response.read()
        except OSError as error:
            failures.append(f"  {url}: {error}")
            continue
        DOWNLOADS.mkdir(exist_ok=True)
        partial = DOWNLOADS / f"{name}.part"
        partial.write_bytes(content)
        return partial.replace(DOWNLOADS / f"{name}.gz")
    raise SystemExit(
        "Fashion-MNIST is not on this machine and cannot be downloaded:\n"
        + "\n".join(failures)
        + f"\ninstall Debian's dataset-fashion-mnist, or put its four IDX files into {DOWNLOADS}"
    )
