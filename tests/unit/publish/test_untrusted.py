from __future__ import annotations

import pytest

from edgec.bundle.files import BundleFile
from edgec.errors import PublishError
from edgec.publish.store import RemoteBundle
from edgec.publish.untrusted import MAX_FILES, check_remote_bundle

SHA = "0" * 64


def bundle(*names: str, target: str = "rpi4-int8", sha256: str = SHA, size: int = 1) -> RemoteBundle:
    files = tuple(BundleFile(name=name, sha256=sha256, size=size) for name in names)
    return RemoteBundle(target=target, files=(BundleFile(name="manifest.json", sha256=SHA, size=1), *files))


def test_what_bundles_have_is_taken() -> None:
    check_remote_bundle(bundle("model.onnx", "bench/bench.py", "bench/deep er/ä.npz", "..hidden"), "here")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("/etc/passwd",), "absolute"),
        (("../x",), "leaves the bundle"),
        (("a/../../x",), "leaves the bundle"),
        (("a\\..\\x",), "backslash"),
        (("C:x",), "colon"),
        (("a\0b",), "control character"),
        (("a\x1b[2Jb",), "control character"),
        (("a\u202eb",), "control character"),
        (("\ud800",), "control character"),
        (("",), "empty part"),
        (("a//b",), "empty part"),
        (("./a",), "empty part"),
        (("a/",), "empty part"),
        (("x" * 256,), "too long"),
        (("/".join(["y" * 200] * 6),), "too long"),
        (("a", "a"), "one file"),
        (("Model.onnx", "model.onnx"), "one file"),
        (("\u00e4", "a\u0308"), "one file"),
        (("Bench/a", "bench/b"), "one folder"),
        (("bench", "bench/a"), "both a file and a folder"),
        (("BENCH", "bench/a"), "both a file and a folder"),
    ],
)
def test_names(names: tuple[str, ...], words: str) -> None:
    with pytest.raises(PublishError) as caught:
        check_remote_bundle(bundle(*names), "here")
    assert words in str(caught.value)
    assert str(caught.value).isprintable() or "\n" in str(caught.value)
    assert not {"\0", "\x1b", "\u202e"} & set(str(caught.value))


@pytest.mark.parametrize("target", ["../x", "", "a/b", "A", ".work", "x\0"])
def test_targets(target: str) -> None:
    with pytest.raises(PublishError, match="refused"):
        check_remote_bundle(bundle(target=target), "here")


def test_digests_sizes_and_numbers() -> None:
    for wrong in (bundle("x", sha256="0" * 63 + "G"), bundle("x", sha256="A" * 64), bundle("x", size=-1)):
        with pytest.raises(PublishError, match="refused"):
            check_remote_bundle(wrong, "here")
    with pytest.raises(PublishError, match="files; a bundle has"):
        check_remote_bundle(bundle(*map(str, range(MAX_FILES))), "here")
    large = BundleFile(name="manifest.json", sha256=SHA, size=1 << 30)
    with pytest.raises(PublishError, match="is not a valid size"):
        check_remote_bundle(RemoteBundle(target="x", files=(large,)), "here")
    with pytest.raises(PublishError, match="it has no manifest"):
        check_remote_bundle(RemoteBundle(target="x", files=()), "here")
