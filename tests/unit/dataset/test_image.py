"""Image files become arrays of the input's size and colours as the usual transforms do it, and say what was done."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgec.dataset.image import PAD, place, read_image
from edgec.dataset.write import write_spool
from edgec.errors import DatasetError, ProjectError
from edgec.model.spec import TensorSpec
from edgec.project.load import load_project
from edgec.project.spec import DataSpec, Preprocess

SIZES = ((48, 64), (64, 48), (33, 47), (501, 333), (64, 64))
FILTERS = ("bilinear", "bicubic", "nearest", "box", "lanczos")


def photo(folder: Path, height: int, width: int, mode: str = "RGB") -> Path:
    """A file of random pixels."""
    channels = len(Image.new(mode, (1, 1)).getbands())
    pixels = np.random.default_rng(height).integers(0, 256, (height, width, channels), dtype=np.uint8)
    path = folder / f"{mode}-{height}x{width}.png"
    Image.fromarray(pixels.squeeze(), mode).save(path)
    return path


def spec(height: int, width: int, channels: int = 3) -> TensorSpec:
    return TensorSpec(name="x", shape=(1, channels, height, width))


def torchvision_crop(image: Image.Image, size: int, short: int, method: Image.Resampling) -> Image.Image:
    """``Resize(short)`` and ``CenterCrop(size)`` of torchvision.transforms, as its source has them."""
    width, height = image.size
    shape = (short, int(short * height / width)) if width <= height else (int(short * width / height), short)
    resized = image if shape == image.size else image.resize(shape, method)
    left, top = round((shape[0] - size) / 2.0), round((shape[1] - size) / 2.0)
    return resized.crop((left, top, left + size, top + size))


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("name", FILTERS)
def test_center_crop_and_exact_are_torchvisions(tmp_path, height, width, name):
    path, method = photo(tmp_path, height, width), Image.Resampling[name.upper()]
    image = Image.open(path)
    for size, short in ((32, None), (32, 37), (224, 256), (63, None)):
        preprocess = Preprocess(resize="center-crop", resize_to=short, interpolation=name)
        wanted = np.asarray(torchvision_crop(image, size, short or size, method))
        assert np.array_equal(read_image(path, spec(size, size), preprocess).array, wanted)
    stretched = read_image(path, spec(20, 30), Preprocess(resize="exact", interpolation=name)).array
    assert np.array_equal(stretched, np.asarray(image.resize((30, 20), method)))


def test_a_crop_of_another_shape_is_covered_whole(tmp_path):
    path = photo(tmp_path, 48, 64)
    got = read_image(path, spec(48, 32), Preprocess(resize="center-crop")).array
    assert np.array_equal(got, np.asarray(Image.open(path))[:, 16:48])


def test_fit_keeps_the_whole_image_in_a_border(tmp_path):
    path = photo(tmp_path, 48, 64)
    got = read_image(path, spec(64, 64), Preprocess(resize="fit")).array
    assert np.array_equal(got[8:56], np.asarray(Image.open(path)))
    assert (got[:8] == PAD).all()
    assert (got[56:] == PAD).all()
    stated = read_image(path, spec(64, 64), Preprocess(resize="fit", pad=0)).array
    assert not stated[:8].any()
    gray = read_image(photo(tmp_path, 10, 20, "L"), spec(20, 20, 1), Preprocess(resize="fit", pad=7)).array
    assert gray.shape == (1, 20, 20)
    assert (gray[:, :5] == 7).all()


@pytest.mark.parametrize(
    ("size", "wanted", "resized", "offset"),
    [((480, 640), (640, 640), (480, 640), (80, 0)), ((427, 640), (320, 320), (214, 320), (53, 0)),
     ((100, 30), (64, 64), (64, 19), (0, 22)), ((1, 1000), (8, 8), (1, 8), (3, 0))],
)  # fmt: skip
def test_fit_is_yolos_letterbox(size, wanted, resized, offset):
    placement = place(size, wanted, Preprocess(resize="fit"))
    assert (placement.resized, placement.offset) == (resized, offset)


def test_another_size_is_refused_with_the_line_to_add(tmp_path):
    path = photo(tmp_path, 48, 64)
    with pytest.raises(DatasetError, match=r"48x64 .* takes 32x32, and nothing says") as caught:
        read_image(path, spec(32, 32), Preprocess())
    assert caught.value.where == str(path)
    assert 'resize = "center-crop"' in caught.value.hint
    assert "swapped" not in caught.value.hint
    with pytest.raises(DatasetError) as caught:
        read_image(path, spec(64, 48), Preprocess())
    assert caught.value.hint.startswith("height and width may be swapped in [[model.inputs]]")
    assert read_image(path, spec(48, 64), Preprocess()).array.shape == (48, 64, 3)


def test_a_resize_that_is_smaller_than_the_cut_is_refused(tmp_path):
    path = photo(tmp_path, 48, 64)
    with pytest.raises(DatasetError, match=r"is 40x53 .* after resize_to = 40"):
        read_image(path, spec(44, 44), Preprocess(resize="center-crop", resize_to=40))


def test_colours(tmp_path):
    path = photo(tmp_path, 6, 4)
    pixels = np.asarray(Image.open(path))
    assert np.array_equal(read_image(path, spec(6, 4), Preprocess()).array, pixels)
    assert np.array_equal(read_image(path, spec(6, 4), Preprocess(color="rgb")).array, pixels)
    swapped = read_image(path, spec(6, 4), Preprocess(color="bgr"))
    assert np.array_equal(swapped.array, pixels[:, :, ::-1])
    assert swapped.steps == ("6x4 RGB", "BGR")
    gray = read_image(path, spec(6, 4, 1), Preprocess(color="gray"))
    assert np.array_equal(gray.array[0], np.asarray(Image.open(path).convert("L")))
    assert gray.steps == ("6x4 RGB", "gray")
    for color, channels in (("gray", 3), ("rgb", 1), ("bgr", 1)):
        with pytest.raises(DatasetError, match=f'color = "{color}" does not fit'):
            read_image(path, spec(6, 4, channels), Preprocess(color=color))


def spool(root: Path, data: str, feeds: TensorSpec, preprocess: Preprocess):
    return write_spool(
        DataSpec(data=data), preprocess, (feeds,), root / "spool", root, samples=None, seed=0, what="evaluation"
    )


def test_colours_of_arrays_are_no_business_of_the_key(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.zeros((2, 6, 4, 3), np.uint8))
    (tmp_path / "f").mkdir()
    np.save(tmp_path / "f" / "a.npy", np.zeros((6, 4, 3), np.uint8))
    for data in ("d.npz", "f"):
        with pytest.raises(DatasetError, match=r'color = "bgr" is for image files'):
            spool(tmp_path, data, spec(6, 4), Preprocess(divide=255, color="bgr"))
    made = spool(tmp_path, "d.npz", spec(6, 4), Preprocess(divide=255, resize="exact"))
    assert "resize is not applied" in "; ".join(made.info.notes)


def test_a_stated_resize_alone_is_no_scaling(tmp_path):
    (tmp_path / "f").mkdir()
    photo(tmp_path / "f", 8, 8)
    with pytest.raises(DatasetError, match="no scaling is stated"):
        spool(tmp_path, "f", spec(6, 6), Preprocess(resize="exact"))


@pytest.mark.parametrize(
    ("preprocess", "line"),
    [
        ({"resize": "center-crop"}, "48x64 RGB -> center crop 32x32 -> / 255"),
        ({"resize": "center-crop", "resize_to": 40, "interpolation": "bicubic", "color": "bgr"},
         "48x64 RGB -> BGR -> center crop 32x32 (bicubic, shorter side 40) -> / 255"),
        ({"resize": "fit"}, "48x64 RGB -> fit 32x32 (border 114) -> / 255"),
        ({"resize": "exact", "mean": (0.5,), "std": (0.1, 0.2, 0.3)},
         "48x64 RGB -> stretch to 32x32 -> / 255 -> (x - mean) / std with mean 0.5, std [0.1, 0.2, 0.3]"),
    ],
)  # fmt: skip
def test_what_was_done_to_the_first_image_is_kept(tmp_path, preprocess, line):
    (tmp_path / "f").mkdir()
    photo(tmp_path / "f", 48, 64)
    made = spool(tmp_path, "f", spec(32, 32), Preprocess(divide=255, **preprocess))
    array = made[0]["x"]
    end = f" -> float32 [1,3,32,32], {array.min():.4g} to {array.max():.4g}"
    assert made.info.first_sample == (line + end,)


def test_what_was_done_to_the_first_array_is_kept(tmp_path):
    pixels = np.tile(np.array([0, 51, 255], np.uint8), (2, 6, 4, 1))
    np.savez(tmp_path / "d.npz", x=pixels)
    made = spool(tmp_path, "d.npz", spec(6, 4), Preprocess(divide=255, mean=(0.2,)))
    line = "uint8 [6,4,3] -> channels first -> / 255 -> x - mean with mean 0.2 -> float32 [1,3,6,4], -0.2 to 0.8"
    assert made.info.first_sample == (line,)
    (tmp_path / "data.py").write_text("import numpy as np\ndef samples():\n    return np.ones((3, 5), 'float32')\n")
    feeds = TensorSpec(name="v", shape=(1, 5))
    made = spool(tmp_path, "data.py:samples", feeds, Preprocess(divide=255))  # its floats are model input as they are
    assert made.info.first_sample == ("float32 [5] -> float32 [1,5], 1 to 1",)


def test_an_image_that_lies_on_its_side_is_turned(tmp_path):
    path = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it by a quarter
    Image.new("RGB", (64, 48)).save(path, exif=exif)
    assert read_image(path, spec(64, 48), Preprocess()).steps == ("48x64 RGB", "turned upright 64x48")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('resize = "centre-crop"', 'did you mean "center-crop"'),
        ('resize = "exact"\npad = 0', 'pad is for resize = "fit"'),
        ('interpolation = "box"', "interpolation is for resize"),
        ('resize = "fit"\nresize_to = 256', 'resize_to is for resize = "center-crop"'),
        ('resize = "fit"\npad = 256', "pad"),
        ('color = "RGB"', 'did you mean "rgb"|expected'),
    ],
)
def test_keys_that_do_not_go_together(tmp_path, table, message):
    (tmp_path / "edgec.toml").write_text(f"[preprocess]\n{table}\n")
    with pytest.raises(ProjectError, match=message):
        load_project(tmp_path)
