"""Training images: directories, arrays, data sets, the cache of patches, crops."""

import gzip
import os
import shutil
import struct

import numpy as np
import pytest
from PIL import Image
from training_helpers import SIZES, one_line, picture, tiny, write_pictures

pytest.importorskip("pydantic", reason="needs the extra `train`")

from codec_cli.errors import TrainingError
from codec_cli.training import data, inputs
from codec_cli.training.config import load_config


def on(folder, *overrides, **more):
    """The tiny configuration on a directory of images."""
    given = [f"data.{name}={value}" for name, value in more.items()]
    return tiny(f"data.path={folder}", *given, *overrides)


@pytest.fixture
def folder(tmp_path):
    return write_pictures(tmp_path / "pictures")


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A directory of 45 small images."""
    return write_pictures(tmp_path_factory.mktemp("many"), [(20, 20)] * 45)


# Which files


def test_directories_are_searched_recursively(folder):
    train, held_out = data.split(on(folder))
    assert sorted([*train, *held_out]) == sorted(folder.rglob("*.png"))
    assert any(path.parent.name == "deeper" for path in train)


@pytest.mark.parametrize(
    "suffix", [".png", ".jpg", ".JPEG", ".webp", ".bmp", ".gif", ".tiff", ".ppm", ".tga", ".jp2"]
)
def test_every_format_that_pillow_reads(tmp_path, suffix):
    write_pictures(tmp_path, [(30, 20)] * 2, suffix)
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "page.pdf").write_bytes(b"%PDF-1.4")  # Pillow writes PDF, but can't read it.
    files = data.list_images(tmp_path)
    assert [path.suffix for path in files] == [suffix, suffix]
    for channels in (1, 3):
        assert data.load_image(files[0], channels).shape == (20, 30, channels)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F"])
def test_every_kind_of_pixel(tmp_path, mode, channels):
    gray = Image.fromarray(picture(1, 40, 30, 1)[..., 0])
    if mode == "I;16":
        image = Image.fromarray(np.asarray(gray).astype(np.uint16) * 257)
    elif mode == "F":
        image = Image.fromarray(np.asarray(gray).astype(np.float32) / 255)
    else:
        image = gray.convert(mode)
    path = tmp_path / "a.tif"
    image.save(path)
    pixels = data.load_image(path, channels)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (30, 40, channels)
    if mode != "1":  # Dithered.
        assert np.abs(pixels.astype(int) - np.asarray(gray)[..., None]).max() <= 1


def test_colour_to_gray(tmp_path):
    path = tmp_path / "a.png"
    image = Image.fromarray(picture(1, 40, 30))
    image.save(path)
    np.testing.assert_array_equal(data.load_image(path, 1)[..., 0], np.asarray(image.convert("L")))


# Training and validation


def test_without_a_validation_directory_every_twentieth_image_is_held_out(many):
    train, held_out = data.split(on(many))
    assert len(held_out) == 3
    assert len(train) == 42
    assert not set(train) & set(held_out)


def test_a_validation_directory(many, folder):
    train, held_out = data.split(on(many, validation=folder))
    assert len(train) == 45
    assert len(held_out) == len(SIZES)


def test_a_validation_directory_below_the_training_images_is_not_trained_on(folder):
    train, held_out = data.split(on(folder, validation=folder / "deeper"))
    assert len(train) == len(held_out) == len(SIZES) // 2
    assert not set(train) & set(held_out)
    link = folder.with_name("link")
    link.symlink_to(folder / "deeper")
    assert data.split(on(folder, validation=link))[0] == train


def test_patches_and_validation_crops_come_from_different_images(tmp_path):
    for i in range(25):
        Image.new("RGB", (120, 120), (10 * i, 0, 0)).save(tmp_path / f"{i:02}.png")
    config = on(tmp_path, "run.validation_images=8")
    patches = data.load_patches(config, tmp_path / "cache", quiet=True)
    shades = set(np.unique(patches[..., 0]).tolist())
    assert data.validation_crops(config)[..., 0].max(axis=(1, 2)).tolist() == [0, 200]
    assert shades == {10 * i for i in range(25)} - {0, 200}


@pytest.mark.parametrize("size", [(300, 200), (50, 90), (1, 1)])
def test_validation_crops(tmp_path, size):
    write_pictures(tmp_path, [size] * 3)
    config = on(tmp_path, "run.validation_images=5", validation=tmp_path)
    with pytest.raises(TrainingError, match="held out"):
        data.split(config)
    crops = data.validation_crops(on(tmp_path))
    assert crops.shape == (1, 128, 128, 3)
    np.testing.assert_array_equal(crops, data.validation_crops(on(tmp_path)))


# What goes wrong


def test_no_source():
    with pytest.raises(TrainingError, match="give --data DIR or --dataset tfds:NAME") as error:
        data.split(tiny())
    one_line(error)


@pytest.mark.parametrize("which", ["path", "validation"])
@pytest.mark.parametrize("kind", ["missing", "empty", "file", "no images"])
def test_directories_without_images(folder, tmp_path, which, kind):
    bad = tmp_path / "bad"
    if kind == "file":
        bad.write_text("here")
    elif kind != "missing":
        bad.mkdir()
    if kind == "no images":
        (bad / "a.txt").write_text("text")
        (bad / "b.png").mkdir()
    config = on(bad) if which == "path" else on(folder, validation=bad)
    with pytest.raises(TrainingError) as error:
        data.load_patches(config, tmp_path / "cache", quiet=True)
    assert one_line(error).startswith(str(bad))
    assert not (tmp_path / "cache").exists()


def test_a_single_image_is_not_enough(tmp_path):
    write_pictures(tmp_path, SIZES[:1])
    with pytest.raises(TrainingError, match="at least two images") as error:
        data.split(on(tmp_path))
    one_line(error)


@pytest.mark.parametrize("content", [b"", b"no image at all", "cut"])
def test_a_broken_image_is_named_and_leaves_nothing(folder, tmp_path, content):
    broken = folder / "3.png"
    broken.write_bytes((folder / "0.png").read_bytes()[:3000] if content == "cut" else content)
    with pytest.raises(TrainingError) as error:
        data.load_patches(on(folder), tmp_path / "cache", quiet=True)
    assert one_line(error).startswith(str(broken))
    assert "not an image that can be read" in str(error.value)
    assert not list((tmp_path / "cache").glob("*"))


# Patches


def test_patches(folder, tmp_path):
    config = on(folder, cache_patches=50)
    patches = data.load_patches(config, tmp_path / "cache", quiet=True)
    assert patches.shape == (50, 96, 96, 3)
    assert patches.dtype == np.uint8
    assert data.patch_size(config) == 96
    assert len({patch.tobytes() for patch in patches}) > 40


def test_images_smaller_than_the_patch(tmp_path):
    sizes = [(1, 1), (7, 5), (95, 96), (96, 95), (1, 200), (300, 2), (96, 96)]
    write_pictures(tmp_path, sizes)
    patches = data.load_patches(on(tmp_path, cache_patches=20), tmp_path / "cache", quiet=True)
    assert patches.shape == (20, 96, 96, 3)


def test_a_patch_that_fits_exactly_is_the_image():
    image = picture(2, 96, 96)
    np.testing.assert_array_equal(data._cut(image, 96, 0.5, np.random.default_rng(0)), image)


def test_small_images_are_padded_by_reflection():
    image = picture(2, 70, 96)
    patch = data._cut(image, 96, 0.5, np.random.default_rng(0))
    np.testing.assert_array_equal(patch, np.concatenate([image, image[:, :-27:-1]], 1))


def test_scales_stay_above_the_least_one():
    # A ramp of one step a pixel: its slope shows the scale.
    image = np.broadcast_to(np.arange(250, dtype=np.uint8)[None, :, None], (250, 250, 3))
    rng = np.random.default_rng(0)
    slopes = []
    for _ in range(60):
        row = data._cut(image, 32, 0.25, rng)[16, :, 0].astype(float)
        slopes.append(np.polyfit(np.arange(32), row, 1)[0])
    assert 0.98 < min(slopes) < 1.2
    assert 3 < max(slopes) < 4.1


def test_gray(folder, tmp_path):
    config = on(folder, "transforms.channels=1")
    patches = data.load_patches(config, tmp_path / "cache", quiet=True)
    assert patches.shape == (60, 96, 96, 1)
    assert data.batch_at(config, patches, 0).shape == (6, 64, 64, 1)
    assert data.validation_crops(config).shape == (1, 128, 128, 1)
    assert len(np.unique(patches)) > 100


def test_large_images_give_more_patches(tmp_path):
    Image.new("RGB", (400, 400), (255, 0, 0)).save(tmp_path / "big.png")
    for i in range(4):
        Image.new("RGB", (100, 100), (0, 0, 255)).save(tmp_path / f"small{i}.png")
    validation = write_pictures(tmp_path / "held out", SIZES[:1])
    config = on(tmp_path, validation=validation, cache_patches=40)
    patches = data.load_patches(config, tmp_path / "cache", quiet=True)
    red = int((patches[:, 0, 0, 0] == 255).sum())
    assert 28 <= red <= 36  # 16 of 20 parts of the area.
    assert red < 40


def test_more_images_than_patches(many, tmp_path, monkeypatch):
    decoded = []
    load = data.load_image
    monkeypatch.setattr(inputs, "load_image", lambda *args: decoded.append(args) or load(*args))
    patches = data.load_patches(on(many, cache_patches=5), tmp_path, quiet=True)
    assert len(patches) == 5
    assert len(decoded) == 5  # No image is decoded in vain.


def test_the_cache_is_used_again(folder, tmp_path, monkeypatch):
    config = on(folder)
    first = data.load_patches(config, tmp_path / "cache", quiet=True)
    (entry,) = (tmp_path / "cache").iterdir()
    written = entry.stat().st_mtime_ns
    monkeypatch.setattr(inputs, "load_image", None)
    again = data.load_patches(config, tmp_path / "cache", quiet=True)
    assert isinstance(again, np.memmap)
    np.testing.assert_array_equal(first, again)
    assert [entry] == list((tmp_path / "cache").iterdir())
    assert entry.stat().st_mtime_ns == written
    # What does not change patches does not make new ones.
    data.load_patches(on(folder, "run.steps=5", "data.batch=12"), tmp_path / "cache", quiet=True)


@pytest.mark.parametrize(
    "change",
    ["seed=9", "data.crop=32", "data.min_scale=0.7", "data.cache_patches=7", "transforms.channels=1"],
)
def test_another_configuration_has_a_cache_of_its_own(folder, tmp_path, change):
    data.load_patches(on(folder), tmp_path / "cache", quiet=True)
    data.load_patches(on(folder, change), tmp_path / "cache", quiet=True)
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_other_images_have_a_cache_of_their_own(folder, tmp_path):
    data.load_patches(on(folder), tmp_path / "cache", quiet=True)
    write_pictures(folder, SIZES[:1], start=77)
    data.load_patches(on(folder), tmp_path / "cache", quiet=True)
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_the_cache_depends_on_the_seed_alone(folder, tmp_path):
    patches = [data.load_patches(on(folder), tmp_path / name, quiet=True) for name in ("a", "b")]
    np.testing.assert_array_equal(*patches)


# Batches


def test_a_batch_is_a_function_of_seed_and_step():
    config = tiny()
    patches = np.stack([picture(seed) for seed in range(10)])
    batches = [data.batch_at(config, patches, step) for step in (0, 1, 2, 5, 10**6)]
    for step, batch in zip((10**6, 5, 2, 1, 0), reversed(batches), strict=True):
        np.testing.assert_array_equal(data.batch_at(config, patches, step), batch)
    assert batches[0].shape == (6, 64, 64, 3)
    assert len({batch.tobytes() for batch in batches}) == len(batches)
    assert data.batch_at(tiny("seed=4"), patches, 0).tobytes() != batches[0].tobytes()


def test_crops_are_parts_of_the_patches():
    config = tiny("data.batch=3", "data.crop=32")
    patch = picture(3, 48, 48)
    views = {
        one.tobytes()
        for top in range(17)
        for left in range(17)
        for cut in [patch[top : top + 32, left : left + 32]]
        for flipped in (cut, cut[:, ::-1])
        for one in (flipped, flipped.transpose(1, 0, 2))
    }
    seen = set()
    for step in range(60):
        for crop in data.batch_at(config, patch[None], step):
            assert crop.tobytes() in views
            seen.add(crop.tobytes())
    assert len(seen) > 150


# Arrays


def digits(*overrides, **more):
    """A configuration of transforms that take whole gray images of 28x28."""
    return load_config("mnist", [*(f"data.{name}={value}" for name, value in more.items()), *overrides])


def images_of(count, side=28, channels=None, first=0):
    """Images of one shade each, of which every one differs."""
    shape = (side, side) if channels is None else (side, side, channels)
    return np.stack([np.full(shape, first + i, np.uint8) for i in range(count)])


def write_mnist(folder, train, test=None):
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in (("train", train), ("t10k", test)):
        if array is not None:
            head = bytes([0, 0, 8, 3]) + struct.pack(">3I", *array.shape)
            (folder / f"{name}-images-idx3-ubyte.gz").write_bytes(gzip.compress(head + array.tobytes()))
    return folder


def shades_of(images):
    return np.asarray(images)[:, 0, 0, 0].tolist()


def source_of(tmp_path, kind, test):
    """20 training images of shades 0 to 19 and, if wanted, 5 for testing from 100 on, on disk."""
    train, held_out = images_of(20), images_of(5, first=100) if test else None
    if kind == "npz":
        path = tmp_path / "digits.npz"
        np.savez(path, x_train=train, **({"x_test": held_out} if test else {}))
        return path
    folder = write_mnist(tmp_path / "mnist", train, held_out)
    return folder if kind == "directory" else folder / "train-images-idx3-ubyte.gz"


@pytest.mark.parametrize("kind", ["npz", "directory", "file"])
@pytest.mark.parametrize("test", [True, False])
def test_an_array_gives_each_image_once_in_order(tmp_path, kind, test):
    config = digits("run.validation_images=3", path=source_of(tmp_path, kind, test))
    patches = data.load_patches(config, tmp_path / "cache", quiet=True)
    own = test and kind != "file"
    assert patches.shape == (20 if own else 17, 28, 28, 1)
    assert shades_of(patches) == list(range(len(patches)))
    assert shades_of(data.validation_crops(config)) == ([100, 101, 102] if own else [17, 18, 19])
    np.testing.assert_array_equal(data.validation_images(config), data.validation_crops(config))
    assert [entry.suffix for entry in (tmp_path / "cache").iterdir()] == [".npy"]
    assert data.batch_at(config, patches, 0).shape == (128, 28, 28, 1)


def test_no_more_images_of_an_array_than_asked_for(tmp_path):
    config = digits(path=source_of(tmp_path, "npz", True), cache_patches=7)
    assert shades_of(data.load_patches(config, tmp_path / "cache", quiet=True)) == list(range(7))


def test_whole_images_stay_as_they_are(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (2, 28, 28), np.uint8)
    np.savez(tmp_path / "a.npz", x_train=image, x_test=image)
    config = digits("data.min_scale=0.5", path=tmp_path / "a.npz")
    patches = data.load_patches(config, tmp_path / "cache", quiet=True)
    np.testing.assert_array_equal(patches[..., 0], image)
    batch = data.batch_at(config, patches, 3)
    assert {view.tobytes() for view in batch} == {one.tobytes() for one in image}


def test_a_validation_source_beats_the_array_s_own(tmp_path, folder):
    path = source_of(tmp_path, "directory", True)
    for validation, expected in (
        (path / "t10k-images-idx3-ubyte.gz", [100, 101]),
        (source_of(tmp_path, "npz", True), [100, 101]),
        (write_mnist(tmp_path / "other", images_of(4, first=50), images_of(4, first=70)), [70, 71]),
        (write_mnist(tmp_path / "more", images_of(4, first=50)), [50, 51]),
    ):
        config = digits("run.validation_images=2", path=path, validation=validation)
        assert shades_of(data.validation_crops(config)) == expected
        assert len(data.load_patches(config, tmp_path / "cache", quiet=True)) == 20
    for i in range(3):
        (tmp_path / "small").mkdir(exist_ok=True)
        Image.new("L", (28, 28), 200 + i).save(tmp_path / "small" / f"{i}.png")
    config = digits("run.validation_images=2", path=path, validation=tmp_path / "small")
    assert shades_of(data.validation_crops(config)) == [200, 201]
    # Photographs to train on, an array to validate on.
    config = on(folder, validation=tmp_path / "digits.npz")
    assert data.validation_crops(config).shape == (2, 128, 128, 3)
    assert data.load_patches(config, tmp_path / "cache", quiet=True).shape == (60, 96, 96, 3)


@pytest.mark.parametrize("channels", [1, 3])
def test_transforms_of_any_size_get_crops_of_an_array(tmp_path, channels):
    np.savez(tmp_path / "a.npz", x_train=images_of(9, 40, 3), x_test=images_of(4, 33))
    config = tiny(f"data.path={tmp_path / 'a.npz'}", "data.crop=16", f"transforms.channels={channels}")
    patches = data.load_patches(config, tmp_path / "cache", quiet=True)
    assert patches.shape == (9, 24, 24, channels)
    assert shades_of(patches) == list(range(9))
    assert data.validation_crops(config).shape == (2, 32, 32, channels)


@pytest.mark.parametrize("where", ["array", "validation", "directory"])
def test_whole_images_of_another_size(tmp_path, where):
    path = source_of(tmp_path, "npz", False)
    wrong = tmp_path / "wrong.npz"
    np.savez(wrong, x_train=images_of(9, 20))
    if where == "directory":
        wrong = tmp_path / "wrong"
        wrong.mkdir()
        for i in range(3):
            Image.new("L", (20, 20), i).save(wrong / f"{i}.png")
    config = (
        digits(path=path, validation=wrong) if where == "validation" else digits(path=wrong, validation=path)
    )
    with pytest.raises(TrainingError, match=r"20x20 pixels, but transforms\.size is 28") as error:
        data.validation_crops(config) if where == "validation" else data.load_patches(config, tmp_path, True)
    assert one_line(error).startswith(str(wrong))


def test_a_directory_of_whole_images(tmp_path):
    for i in range(22):
        Image.new("L", (28, 28), i).save(tmp_path / f"{i:02}.png")
    config = digits(path=tmp_path)
    patches = data.load_patches(config, tmp_path / "cache", quiet=True)
    assert shades_of(patches) == [*range(1, 20), 21]
    assert shades_of(data.validation_crops(config)) == [0, 20]


@pytest.mark.parametrize("count", [20, 25])
def test_an_array_that_is_too_small_for_validation(tmp_path, count):
    config = digits(f"run.validation_images={count}", path=source_of(tmp_path, "npz", False))
    with pytest.raises(TrainingError, match=f"run.validation_images = {count} of 20") as error:
        data.load_patches(config, tmp_path / "cache", quiet=True)
    one_line(error)
    assert not (tmp_path / "cache").exists()


def test_an_array_that_would_validate_on_what_it_trains_on(tmp_path):
    path = source_of(tmp_path, "file", True)
    with pytest.raises(TrainingError, match="every image in this file is held out"):
        data.load_patches(digits(path=path, validation=path), tmp_path / "cache", quiet=True)


def test_a_damaged_array_leaves_nothing(tmp_path):
    path = source_of(tmp_path, "file", True)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(TrainingError) as error:
        data.load_patches(digits(path=path), tmp_path / "cache", quiet=True)
    assert one_line(error).startswith(str(path))
    assert not (tmp_path / "cache").exists()


def test_the_cache_of_an_array(tmp_path, monkeypatch):
    path = source_of(tmp_path, "npz", False)
    config = digits("run.validation_images=3", path=path)
    first = data.load_patches(config, tmp_path / "cache", quiet=True)
    with monkeypatch.context() as patch:
        patch.setattr(inputs, "shares", None)
        np.testing.assert_array_equal(data.load_patches(config, tmp_path / "cache", quiet=True), first)
    # Fewer images held out are more to train on.
    more = digits("run.validation_images=2", path=path)
    assert len(data.load_patches(more, tmp_path / "cache", quiet=True)) == 18
    np.savez(path, x_train=images_of(20)[::-1])
    os.utime(path, ns=(1, 1))
    assert shades_of(data.load_patches(config, tmp_path / "cache", quiet=True))[0] == 19


# TensorFlow Datasets, offline


@pytest.fixture
def tfds():
    pytest.importorskip("tensorflow", reason="needs the extra `train`")
    module = pytest.importorskip("tensorflow_datasets", reason="needs the extra `train`")
    if not hasattr(module, "testing"):
        pytest.fail("tensorflow-datasets does not import: see its requirements in the extra `train`")
    return module


@pytest.mark.parametrize(
    ("name", "channels"), [("cifar10", 3), ("tfds:cifar10", 1), ("tfds:mnist", 1), ("tfds:mnist", 3)]
)
def test_a_tensorflow_data_set(tfds, tmp_path, name, channels):
    config = tiny(
        f"data.dataset={name}", f"data.data_dir={tmp_path}", "data.crop=16", f"transforms.channels={channels}"
    )
    with tfds.testing.mock_data(num_examples=20):
        patches = data.load_patches(config, tmp_path / "cache", quiet=True)
        crops = data.validation_crops(config)
    # Each image once: all are of one size. Mocked splits all hold the same 20 images.
    assert patches.shape == (20, 24, 24, channels)
    assert crops.shape == (2, 32, 32, channels)
    assert len(np.unique(patches)) > 100
    # The second time the data set is not even opened.
    np.testing.assert_array_equal(data.load_patches(config, tmp_path / "cache", quiet=True), patches)


@pytest.fixture
def store(tfds, tmp_path):
    """A function that stores a data set of these splits and returns what names it in a configuration."""
    import tensorflow as tf

    def make(name, **splits):
        tfds.disable_progress_bar()
        stored = {
            split: tf.data.Dataset.from_generator(
                lambda images=images: ({"image": image} for image in images),
                output_signature={"image": tf.TensorSpec((None, None, 3), tf.uint8)},
            )
            for split, images in splits.items()
        }
        tfds.dataset_builders.store_as_tfds_dataset(
            name,
            "1.0.0",
            tfds.features.FeaturesDict({"image": tfds.features.Image(shape=(None, None, 3))}),
            stored,
            data_dir=tmp_path,
            disable_shuffling=True,
        )
        return [f"data.data_dir={tmp_path}", f"data.dataset=tfds:{name}"]

    return make


@pytest.fixture
def shades(store):
    """A data set of 12 images of one shade each: 0, 20, 40, ..."""
    return store("shades", train=[np.full((50, 60, 3), 20 * i, np.uint8) for i in range(12)])


@pytest.mark.parametrize("split", ["test", "validation"])
def test_a_data_set_with_images_to_validate_on(store, tmp_path, split):
    place = store(f"own_{split}", **{"train": images_of(6, 28, 3), split: images_of(4, 28, 3, 100)})
    config = digits("run.validation_images=3", *place)
    patches = data.load_patches(config, tmp_path / "cache", quiet=True)
    assert patches.shape == (6, 28, 28, 1)
    assert shades_of(patches) == list(range(6))
    assert shades_of(data.validation_crops(config)) == [100, 101, 102]
    given = digits("run.validation_images=2", *place, validation=source_of(tmp_path, "npz", True))
    assert shades_of(data.validation_crops(given)) == [100, 101]


def test_photographs_of_a_data_set_are_cut_again_and_again(store, tmp_path):
    place = store("clicks", train=[picture(i, 120 + i, 100) for i in range(5)])
    patches = data.load_patches(tiny(*place, "run.validation_images=1"), tmp_path / "cache", quiet=True)
    assert patches.shape == (60, 96, 96, 3)
    assert len({patch.tobytes() for patch in patches}) > 50


def test_whole_images_of_a_data_set_with_another_size(store, tmp_path):
    config = digits("run.validation_images=1", *store("large", train=images_of(3, 30, 3)))
    with pytest.raises(TrainingError, match=r"30x30 pixels, but transforms\.size is 28") as error:
        data.load_patches(config, tmp_path / "cache", quiet=True)
    assert one_line(error).startswith("--dataset tfds:large: ")
    assert not list((tmp_path / "cache").iterdir())


def test_emnist_is_upright(tfds, tmp_path):
    import tensorflow as tf

    image = np.zeros((28, 28, 1), np.uint8)
    image[:, 3] = 255  # A vertical line.

    def as_dataset(self, *_, **__):
        return tf.data.Dataset.from_tensors({"image": image, "label": np.int64(7)}).repeat(3)

    config = digits(
        "run.validation_images=1", "data.dataset=tfds:emnist/letters", f"data.data_dir={tmp_path}"
    )
    with tfds.testing.mock_data(as_dataset_fn=as_dataset):
        patches = data.load_patches(config, tmp_path / "cache", quiet=True)
        crops = data.validation_crops(config)
    np.testing.assert_array_equal(patches, np.stack([image.transpose(1, 0, 2)] * 3))
    np.testing.assert_array_equal(crops[0], image.transpose(1, 0, 2))


def test_the_tail_of_a_data_set_is_held_out(shades, tmp_path):
    config = tiny(*shades, "run.validation_images=3")
    patches = data.load_patches(config, tmp_path / "cache", quiet=True)
    assert set(np.unique(patches).tolist()) == {20 * i for i in range(9)}
    assert data.validation_crops(config)[:, 0, 0, 0].tolist() == [180, 200, 220]


@pytest.mark.parametrize("count", [12, 20])
def test_a_data_set_that_is_too_small_for_validation(shades, tmp_path, count):
    with pytest.raises(TrainingError, match="--dataset tfds:shades: ") as error:
        data.load_patches(tiny(*shades, f"run.validation_images={count}"), tmp_path / "cache", quiet=True)
    one_line(error)
    assert not list((tmp_path / "cache").iterdir())


@pytest.mark.parametrize(
    ("name", "reason"),
    [("no-such", "not found|failed"), ("nosuch", "not found"), ("tfds:imdb_reviews", "holds no 8-bit")],
)
def test_a_data_set_that_does_not_serve(tfds, tmp_path, name, reason):
    config = tiny(f"data.dataset={name}", f"data.data_dir={tmp_path}")
    with tfds.testing.mock_data(num_examples=4), pytest.raises(TrainingError, match=reason) as error:
        data.load_patches(config, tmp_path / "cache", quiet=True)
    assert one_line(error).startswith(f"--dataset tfds:{name.removeprefix('tfds:')}: ")
    shutil.rmtree(tmp_path / "cache")
