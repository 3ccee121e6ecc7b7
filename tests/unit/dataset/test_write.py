"""Data sets of every kind become spools: right values, order, labels, and refusals that name the place."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgec.dataset.spool import Spool
from edgec.dataset.write import write_spool
from edgec.errors import DatasetError, StorageError
from edgec.model.spec import TensorSpec
from edgec.project.spec import DataSpec, Preprocess

IMAGE = (TensorSpec(name="image", shape=(1, 3, 6, 4)),)
VECTOR = (TensorSpec(name="v", shape=(1, 5)),)


def spool(
    root: Path,
    data: str,
    feeds: tuple[TensorSpec, ...] = VECTOR,
    *,
    preprocess: Preprocess | None = None,
    samples: int | None = None,
    what: str = "evaluation",
    **spec: object,
) -> Spool:
    data_spec = DataSpec.model_validate({"data": data, **spec})
    made = root / "spools" / what
    return write_spool(
        data_spec,
        preprocess or Preprocess(),
        feeds,
        made,
        root,
        samples=samples,
        seed=3,
        what=what,  # type: ignore[arg-type]
    )


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npz_rows_and_labels(tmp_path, rng, save, order):
    x, y = rng.normal(size=(7, 5)).astype(np.float32), np.arange(7) % 3
    save(tmp_path / "d.npz", x=np.asarray(x, order=order), y=y)
    made = spool(tmp_path, "d.npz")
    assert np.array_equal(np.stack([item["v"] for item in made]), x[:, None])
    assert np.array_equal(made.labels, y)
    assert list(made.source_indices()) == list(range(7))


def test_channels_last_bytes_are_normalised_and_moved(tmp_path, rng):
    raw = rng.integers(0, 256, (3, 6, 4, 3), dtype=np.uint8)
    np.savez(tmp_path / "d.npz", x=raw)
    preprocess = Preprocess(divide=255, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    made = spool(tmp_path, "d.npz", IMAGE, preprocess=preprocess)
    wanted = (raw / 255 - [0.1, 0.2, 0.3]) / [0.5, 0.6, 0.7]
    np.testing.assert_allclose(made[1]["image"], wanted[1].transpose(2, 0, 1)[None], atol=1e-6)
    assert any("channels moved first" in note for note in made.info.notes)


def test_several_inputs_by_name_and_by_mapping(tmp_path, rng):
    inputs = (TensorSpec(name="ids", shape=(1, 4), dtype="int64"), TensorSpec(name="mask", shape=(1, 4), dtype="bool"))
    ids, mask = rng.integers(0, 9, (5, 4), dtype=np.int32), rng.random((5, 4)) > 0.5
    np.savez(tmp_path / "d.npz", tokens=ids, mask=mask)
    made = spool(tmp_path, "d.npz", inputs, inputs={"ids": "tokens"})
    assert made[2]["ids"].dtype == np.int64
    assert np.array_equal(made[2]["ids"], ids[2:3])
    assert np.array_equal(made[4]["mask"], mask[4:5])
    with pytest.raises(DatasetError, match='no array for input "ids"'):
        spool(tmp_path, "d.npz", inputs)
    with pytest.raises(DatasetError, match='did you mean "tokens"'):
        spool(tmp_path, "d.npz", inputs, inputs={"ids": "tokkens"})


def test_npy_with_labels_beside_it(tmp_path, rng):
    x = rng.normal(size=(4, 1, 5)).astype(np.float64)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "t.npy", np.array([0, 1, 0, 1]))
    made = spool(tmp_path, "x.npy", labels="t.npy")
    assert made[3]["v"].dtype == np.float32
    assert list(made.labels) == [0, 1, 0, 1]


def test_image_folder(tmp_path):
    for name, value in (("cat", 10), ("ant", 200)):
        (tmp_path / "images" / name).mkdir(parents=True)
        for k in range(3):
            Image.new("RGB", (9, 9), (value, k, 0)).save(tmp_path / "images" / name / f"{k}.png")
    (tmp_path / "images" / "cat" / "notes.txt").write_text("not an image")
    made = spool(tmp_path, "images", IMAGE, preprocess=Preprocess(divide=1, resize="exact"))
    assert list(made.labels) == [0, 0, 0, 1, 1, 1]
    assert made[1]["image"].shape == (1, 3, 6, 4)
    assert made[1]["image"][0, :, 0, 0].tolist() == [200, 1, 0]
    assert any("classes in order: ant, cat" in note for note in made.info.notes)
    assert any("left out 1 files" in note for note in made.info.notes)


def test_gray_folder_without_classes_and_damaged_image(tmp_path):
    (tmp_path / "g").mkdir()
    Image.new("L", (4, 6), 128).save(tmp_path / "g" / "a.png")
    gray = (TensorSpec(name="g", shape=(1, 1, 6, 4)),)
    made = spool(tmp_path, "g", gray, preprocess=Preprocess(divide=255))
    assert made.labels is None
    np.testing.assert_allclose(made[0]["g"], 128 / 255)
    (tmp_path / "g" / "b.png").write_bytes(b"\x89PNG broken")
    with pytest.raises(DatasetError, match=r"b\.png: is not a readable image"):
        spool(tmp_path, "g", gray, preprocess=Preprocess(divide=255))


def test_folder_of_npy(tmp_path, rng):
    for label in ("0", "1"):
        (tmp_path / "f" / label).mkdir(parents=True)
        np.save(tmp_path / "f" / label / "s.npy", rng.normal(size=5).astype(np.float32))
    assert list(spool(tmp_path, "f").labels) == [0, 1]


ENTRIES = """
import numpy as np, random
from sibling import OFFSET
def arrays():
    return np.arange(10, dtype="float32").reshape(2, 5) + OFFSET, np.array([1, 0])
def pairs():
    for k in range(6):
        yield np.full(5, k + random.random(), "float32"), k % 2
def dicts():
    return [{"v": np.full((1, 5), 0.5)} for _ in range(3)]
def bytes_():
    return np.zeros((2, 5), np.uint8)
def broken():
    yield np.zeros(5, "float32")
    raise RuntimeError("the drive is gone")
def half():
    yield np.zeros(5, "float32"), 1
    yield np.zeros(5, "float32")
def nothing():
    return iter(())
def shuffled():
    for k in np.random.permutation(40):
        yield np.full(5, k, "float32"), k
UNSEEDED = np.random.default_rng()
def restless():
    for k in UNSEEDED.permutation(40):
        yield np.full(5, k, "float32"), k
"""


@pytest.fixture
def entries(tmp_path) -> Path:
    (tmp_path / "data.py").write_text(ENTRIES)
    (tmp_path / "sibling.py").write_text("OFFSET = 100\n")
    return tmp_path


def test_python_entries(entries):
    made = spool(entries, "data.py:arrays", preprocess=Preprocess(divide=255))
    assert made[0]["v"].tolist() == [[100, 101, 102, 103, 104]]  # its floats are model input as they are
    assert any("not applied" in note for note in made.info.notes)
    assert list(made.labels) == [1, 0]
    assert len(spool(entries, "data.py:dicts")) == 3
    chosen = spool(entries, "data.py:pairs", samples=4, what="calibration")
    assert sorted(chosen.labels) == [0, 0, 1, 1]
    again = spool(entries, "data.py:pairs", samples=4, what="calibration")
    assert again.info.content_digest == chosen.info.content_digest  # also its random numbers are seeded


def test_labels_belong_to_their_samples_however_often_the_entry_is_called(entries):
    made = spool(entries, "data.py:shuffled", samples=12)
    assert len(made) == 12
    assert [int(sample["v"][0, 0]) for sample in made] == made.labels.tolist()
    with pytest.raises(DatasetError, match="another label in the second pass"):
        spool(entries, "data.py:restless", samples=12)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("data.py:bytes_", "no scaling is stated"),
        ("data.py:broken", r"data\.py:15: RuntimeError: the drive is gone"),
        ("data.py:half", "1 of 2 samples have no label"),
        ("data.py:nothing", "is empty"),
        ("data.py:pars", 'did you mean "pairs"'),
        ("dat.py:pairs", 'did you mean "data.py"'),
        ("data.py", "a Python file needs a function"),
    ],
)
def test_python_entry_refusals(entries, entry, message):
    with pytest.raises(DatasetError, match=message):
        spool(entries, entry)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros((0, 5), np.float32)}, "is empty"),
        ({"x": np.full((3, 5), np.nan, np.float32)}, "sample 0: 5 of 5 values .* NaN or infinite"),
        ({"x": np.array([[0] * 5, [0, 0, np.inf, 0, 0]], np.float32)}, "sample 1: 1 of 5"),
        ({"x": np.full((1, 5), 1e300)}, "NaN or infinite"),
        ({"x": np.zeros((3, 6), np.float32)}, r"shape \[6\] does not fit input \"v\" of shape \[1, 5\]"),
        ({"x": np.zeros((3, 2, 5), np.float32)}, "looks like several samples"),
        ({"x": np.zeros((3, 5), np.uint8)}, "divide = 255"),
        ({"x": np.zeros((3, 5), np.float32), "y": np.zeros(4, int)}, r"shape \(4,\), but there are 3 samples"),
        ({"x": np.array([{"a": 1}], dtype=object)}, 'no array for input "v"'),
        ({"x": np.float32(1)}, "no sample axis"),
        ({"a": np.zeros((3, 5)), "b": np.zeros((3, 5))}, r'no array for input "v" \(arrays: a, b\)'),
    ],
)
def test_npz_refusals(tmp_path, arrays, message):
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(DatasetError, match=message):
        spool(tmp_path, "d.npz")
    assert not (tmp_path / "spools" / "evaluation").exists()
    assert list((tmp_path / "spools").iterdir()) == []


@pytest.mark.parametrize(
    ("dtype", "values", "message"),
    [
        ("int64", np.zeros((2, 5), np.float32), "float32, but input .* int64"),
        ("int8", np.full((2, 5), 200, np.int64), "from 200 to 200 do not fit int8"),
        ("int64", np.full((2, 5), 2**63, np.uint64), "do not fit int64"),
        ("bool", np.full((2, 5), 2, np.int64), "int64, but input .* bool"),
    ],
)
def test_integer_inputs_are_not_rounded(tmp_path, dtype, values, message):
    np.savez(tmp_path / "d.npz", x=values)
    with pytest.raises(DatasetError, match=message):
        spool(tmp_path, "d.npz", (TensorSpec(name="v", shape=(1, 5), dtype=dtype),))


@pytest.mark.parametrize(("stored", "fed"), [(np.int64, "bool"), (np.bool_, "float32"), (np.bool_, "int64")])
def test_masks_are_taken_as_what_the_model_wants(tmp_path, stored, fed):
    mask = np.array([[1, 0, 1, 1, 0], [0, 0, 1, 0, 1]], stored)
    np.savez(tmp_path / "d.npz", x=mask)
    made = spool(tmp_path, "d.npz", (TensorSpec(name="v", shape=(1, 5), dtype=fed),))
    assert made[1]["v"].dtype == np.dtype(fed)
    assert made[1]["v"].tolist() == [mask[1].tolist()]
    assert f"samples of 0 and 1 are taken as {fed}" in "; ".join(made.info.notes)


def test_missing_and_foreign_files(tmp_path):
    (tmp_path / "train.npz").write_bytes(b"PK\x03\x04 not really")
    (tmp_path / "d.csv").write_text("1,2")
    with pytest.raises(DatasetError, match=r'did you mean "train\.npz"'):
        spool(tmp_path, "trian.npz")
    with pytest.raises(DatasetError, match="damaged"):
        spool(tmp_path, "train.npz")
    with pytest.raises(DatasetError, match="edgec cannot read this as data"):
        spool(tmp_path, "d.csv")
    (tmp_path / "short.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(DatasetError, match="cannot be read"):
        spool(tmp_path, "short.npy")


def test_bad_preprocess(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.zeros((2, 6, 4, 3), np.uint8))
    with pytest.raises(DatasetError, match="mean has 2 values"):
        spool(tmp_path, "d.npz", IMAGE, preprocess=Preprocess(mean=(0.1, 0.2)))
    with pytest.raises(DatasetError, match="std must be above 0"):
        spool(tmp_path, "d.npz", IMAGE, preprocess=Preprocess(std=(0.0,)))


def test_unwritable_folder_is_a_storage_error(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.zeros((2, 5), np.float32))
    (tmp_path / "spools").write_text("a file where the folder should be")
    with pytest.raises(StorageError, match="cannot write the evaluation samples"):
        spool(tmp_path, "d.npz")


def test_a_spool_is_replaced_whole(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.ones((4, 5), np.float32), y=np.arange(4))
    first = spool(tmp_path, "d.npz").info.content_digest
    np.savez(tmp_path / "d.npz", x=np.ones((2, 5), np.float32))
    second = spool(tmp_path, "d.npz")
    assert len(second) == 2
    assert second.labels is None
    assert second.info.content_digest != first


def test_memory_does_not_grow_with_the_number_of_samples(tmp_path):
    row, samples = 64 * 1024, 400  # 26 MB in float32
    inputs = (TensorSpec(name="v", shape=(1, row // 4)),)
    np.savez_compressed(tmp_path / "d.npz", x=np.ones((samples, row // 4), np.float32))
    tracemalloc.start()
    try:
        made = spool(tmp_path, "d.npz", inputs, samples=samples - 1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(made) == samples - 1
    assert peak < 40 * row
