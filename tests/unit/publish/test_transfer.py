from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from edgec.bundle.files import BundleFile
from edgec.errors import BundleError, PublishError
from edgec.publish.store import ByteStream
from edgec.publish.transfer import RetryPolicy, TransientError, copy_checked, download, mebibytes, retry

CONTENT = bytes(range(256)) * 40
FILE = BundleFile(name="model", sha256=hashlib.sha256(CONTENT).hexdigest(), size=len(CONTENT))
QUICK = RetryPolicy(timeout=1, retries=2, wait=0.001)
Source = Callable[[int], AbstractContextManager[ByteStream]]


class Location:
    """Gives `content`, in pieces of 1000 bytes; each number of `cuts` ends one try after so many bytes."""

    def __init__(self, content: bytes = CONTENT, *cuts: int, ranges: bool = True, orderly: bool = False) -> None:
        self.content, self.cuts, self.ranges, self.orderly = content, list(cuts), ranges, orderly
        self.asked: list[int] = []

    @contextmanager
    def __call__(self, start: int) -> Iterator[ByteStream]:
        self.asked.append(start)
        begin = start if self.ranges else 0
        yield ByteStream(begin, self._pieces(self.content[begin:]))

    def _pieces(self, rest: bytes) -> Iterator[bytes]:
        cut = self.cuts.pop(0) if self.cuts else None
        for at in range(0, len(rest) if cut is None else cut, 1000):
            yield rest[at : at + 1000 if cut is None else min(at + 1000, cut)]
        if cut is not None and not self.orderly:
            raise TransientError("the connection broke")


def get(location: Source, folder: Path, file: BundleFile = FILE) -> tuple[Path, list[str]]:
    told: list[str] = []
    return download(file, location, folder, QUICK, told.append), told


def test_a_file_arrives(tmp_path: Path) -> None:
    path, told = get(Location(), tmp_path / "cache")
    assert path == tmp_path / "cache" / FILE.sha256
    assert path.read_bytes() == CONTENT
    assert told == ["model (10240 B)"]
    assert list(path.parent.iterdir()) == [path]


def test_an_empty_file_needs_no_request(tmp_path: Path) -> None:
    location = Location(b"")
    empty = BundleFile(name="empty", sha256=hashlib.sha256(b"").hexdigest(), size=0)
    assert get(location, tmp_path, empty)[0].read_bytes() == b""
    assert location.asked == []


@pytest.mark.parametrize("orderly", [False, True])
def test_a_cut_connection_goes_on_where_it_was(tmp_path: Path, orderly: bool) -> None:
    location = Location(CONTENT, 4500, 100, orderly=orderly)
    path, told = get(location, tmp_path)
    assert path.read_bytes() == CONTENT
    assert location.asked == [0, 4500, 4600]
    assert sum("again in" in line for line in told) == 2


def test_a_place_without_ranges_begins_anew(tmp_path: Path) -> None:
    location = Location(CONTENT, 4500, ranges=False)
    assert get(location, tmp_path)[0].read_bytes() == CONTENT
    assert location.asked == [0, 4500]


def test_tries_are_bounded_and_the_next_run_goes_on(tmp_path: Path) -> None:
    with pytest.raises(TransientError, match=r"the connection broke \(3 tries\)"):
        get(Location(CONTENT, 1000, 1000, 1000), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [FILE.sha256 + ".partial"]
    location = Location()
    assert get(location, tmp_path)[0].read_bytes() == CONTENT
    assert location.asked == [3000]


def test_what_is_whole_is_checked_and_not_fetched(tmp_path: Path) -> None:
    get(Location(), tmp_path)
    location = Location()
    assert "here already" in get(location, tmp_path)[1][0]
    assert location.asked == []
    (tmp_path / FILE.sha256).write_bytes(CONTENT[:-1] + b"!")
    assert get(location, tmp_path)[0].read_bytes() == CONTENT
    assert location.asked == [0]


@pytest.mark.parametrize("kept", [b"!" * 500, b"!" * len(CONTENT), b"!" * (len(CONTENT) + 1)])
def test_a_wrong_part_is_thrown_away(tmp_path: Path, kept: bytes) -> None:
    (tmp_path / (FILE.sha256 + ".partial")).write_bytes(kept)
    location = Location()
    assert get(location, tmp_path)[0].read_bytes() == CONTENT
    assert location.asked[-1] == 0


def test_a_link_is_not_written_through(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"mine")
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / (FILE.sha256 + ".partial")).symlink_to(outside)
    (cache / FILE.sha256).symlink_to(outside)
    with pytest.raises(PublishError):
        get(Location(b"!" * len(CONTENT)), cache)
    assert outside.read_bytes() == b"mine"


@pytest.mark.parametrize("content", [b"!" + CONTENT[1:], CONTENT + b"!", b"!" * 10**6])
def test_what_was_tampered_with_is_refused_at_once(tmp_path: Path, content: bytes) -> None:
    location = Location(content)
    with pytest.raises(PublishError, match="does not match the index") as caught:
        get(location, tmp_path)
    assert not isinstance(caught.value, TransientError)
    assert location.asked == [0]
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_range_is_refused(tmp_path: Path) -> None:
    @contextmanager
    def location(start: int) -> Iterator[ByteStream]:
        yield ByteStream(7, iter([CONTENT[7:]]))

    with pytest.raises(PublishError, match="returned the bytes from 7 on, not from 0"):
        get(location, tmp_path)


def test_persist_waits_longer_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr("time.sleep", waited.append)

    def action() -> None:
        raise TransientError("busy", where="host")

    with pytest.raises(TransientError, match=r"host: busy \(7 tries\)"):
        retry(action, RetryPolicy(retries=6, wait=0.5), lambda step: None, "send")
    assert waited == [0.5, 1, 2, 4, 8, 10]


def test_copies_are_checked(tmp_path: Path) -> None:
    copy_checked([CONTENT[:9], CONTENT[9:]], FILE, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT
    with pytest.raises(BundleError, match="changed while it was read"):
        copy_checked([CONTENT, b"!"], FILE, tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_sizes() -> None:
    assert [mebibytes(size) for size in (812, 3 << 20)] == ["812 B", "3.0 MiB"]
