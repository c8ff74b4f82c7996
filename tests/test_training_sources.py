"""Arrays of images: idx files, npz files, TensorFlow Datasets."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from training_helpers import one_line

from codec_cli.errors import TrainingError
from codec_cli.training import sources
from codec_cli.training.idx import read_idx
from codec_cli.training.sources import has_test, identity, is_array_source, load_source

SHARED = Path(__file__).parents[2] / "shared" / "data"
RNG = np.random.default_rng(0)
TRAIN, TEST = (RNG.integers(0, 256, (n, 5, 7), np.uint8) for n in (6, 4))
TRAIN_LABELS, TEST_LABELS = (np.arange(n, dtype=np.uint8) % 3 for n in (6, 4))


def idx(array):
    """An array of bytes as an idx file."""
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_idx(folder, packed=True, prefix="", test="t10k"):
    """The four files of MNIST."""
    folder.mkdir(exist_ok=True)
    for split, images, labels in (("train", TRAIN, TRAIN_LABELS), (test, TEST, TEST_LABELS)):
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            path = folder / f"{prefix}{split}-{kind}-ubyte{'.gz' if packed else ''}"
            path.write_bytes(gzip.compress(idx(array)) if packed else idx(array))
    return folder


def write_npz(path, **changes):
    arrays = {"x_train": TRAIN, "y_train": TRAIN_LABELS, "x_test": TEST, "y_test": TEST_LABELS}
    arrays = {name: value for name, value in (arrays | changes).items() if value is not None}
    np.savez_compressed(path, **arrays)
    return path


def failing(source, split="train", **more):
    """The one line of the error that a source gives."""
    with pytest.raises(TrainingError) as error:
        load_source(source, split, 1, **more)
    text = one_line(error)
    assert str(source) in text
    return text


# idx


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("test", ["t10k", "test"])
def test_a_directory_of_idx_files(tmp_path, packed, test):
    folder = write_idx(tmp_path / "mnist", packed, test=test)
    assert is_array_source(folder)
    assert has_test(folder)
    for split, images, labels in (("train", TRAIN, TRAIN_LABELS), ("test", TEST, TEST_LABELS)):
        found = load_source(folder, split, 1)
        assert (found.images.dtype, found.labels.dtype) == (np.uint8, np.int64)
        np.testing.assert_array_equal(found.images[..., 0], images)
        np.testing.assert_array_equal(found.labels, labels)


def test_one_idx_file(tmp_path):
    path = write_idx(tmp_path / "mnist") / "train-images-idx3-ubyte.gz"
    found = load_source(str(path), "train", 3)
    assert found.images.shape == (6, 5, 7, 3)
    assert (found.images == TRAIN[..., None]).all()
    assert found.labels is not None
    assert not has_test(path)
    assert "name the directory" in failing(path, "test")
    alone = tmp_path / "digits.bin"
    alone.write_bytes(path.read_bytes())
    assert load_source(alone, "train", 1).labels is None


def test_names_with_a_dot_before_idx(tmp_path):
    path = tmp_path / "train-images.idx3-ubyte"
    path.write_bytes(idx(TRAIN))
    path.with_name("train-labels.idx1-ubyte").write_bytes(idx(TRAIN_LABELS))
    np.testing.assert_array_equal(load_source(tmp_path, "train", 1).labels, TRAIN_LABELS)
    assert not has_test(tmp_path)
    assert "t10k-images" in failing(tmp_path, "test")


def test_a_file_that_lies_there_plain_and_packed_counts_once(tmp_path):
    write_idx(tmp_path, packed=False)
    write_idx(tmp_path, packed=True)
    assert len(load_source(tmp_path, "train", 1).images) == 6


def test_files_of_emnist_are_brought_upright(tmp_path):
    folder = write_idx(tmp_path, prefix="emnist-letters-", test="test")
    np.testing.assert_array_equal(load_source(folder, "test", 1).images[..., 0], TEST.transpose(0, 2, 1))
    assert load_source(folder, "test", 1).labels is not None
    write_idx(tmp_path, prefix="emnist-digits-", test="test")
    assert "emnist-digits-train" in failing(folder)


def test_a_directory_of_images_is_no_array_source(tmp_path):
    Image.new("L", (5, 5)).save(tmp_path / "a.png")
    assert not is_array_source(tmp_path)
    assert not is_array_source(tmp_path / "none")
    assert "no file train-images" in failing(tmp_path)


HEADER = struct.pack(">4B3I", 0, 0, 8, 3, 6, 5, 7)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "neither an idx nor an npz"),
        (b"\0\0", "neither an idx nor an npz"),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), "neither an idx nor an npz"),
        (b"\0\0\x08\x03\0\0\0", "within its header"),
        (bytes([0, 0, 13, 3]) + bytes(99), "of type 13"),
        (bytes([0, 0, 8, 2]) + bytes(99), "with 2 dimensions"),
        (bytes([0, 0, 8, 255]) + bytes(2000), "with 255 dimensions"),
        (HEADER + bytes(209), "less than the 6x5x7"),
        (HEADER + bytes(211), "more than the 6x5x7"),
        (HEADER, "less than"),
        (struct.pack(">4B3I", 0, 0, 8, 3, 0, 28, 28), "its header says 0x28x28"),
        (struct.pack(">4B3I", 0, 0, 8, 3, *[0xFFFFFFFF] * 3), "too large"),
        # As much as is allowed: nothing of that size may be asked for before it is seen to be there.
        (struct.pack(">4B3I", 0, 0, 8, 3, 1 << 12, 1 << 10, 1 << 10), "less than"),
        (idx(TRAIN_LABELS), "holds labels"),
    ],
)
@pytest.mark.parametrize("packed", [True, False])
def test_damaged_idx_files(tmp_path, data, reason, packed):
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(gzip.compress(data) if packed else data)
    assert reason in failing(path)


@pytest.mark.parametrize("change", ["cut", "flipped", "only the start"])
def test_damaged_gzip_files(tmp_path, change):
    data = gzip.compress(idx(TRAIN))
    spoilt = {"cut": data[:-9], "flipped": data[:-6] + b"\xff" + data[-5:], "only the start": data[:2]}
    path = tmp_path / "images.gz"
    path.write_bytes(spoilt[change])
    assert "cannot be read" in failing(path)


def test_labels_that_do_not_fit(tmp_path):
    folder = write_idx(tmp_path)
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(TEST_LABELS)))
    with pytest.raises(TrainingError, match=r"train-labels.*for each of the 6 images"):
        load_source(folder, "train", 1)
    np.testing.assert_array_equal(read_idx(folder / "train-labels-idx1-ubyte.gz"), TEST_LABELS)


# npz


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (5, 7, 3), (5, 7, 4)])
def test_npz(tmp_path, shape):
    images = RNG.integers(0, 256, (6, *shape), np.uint8)
    path = write_npz(tmp_path / "a.npz", x_train=images, characters=np.array(["a", "b"]))
    assert is_array_source(path)
    assert has_test(path)
    found = load_source(path, "train", 3)
    np.testing.assert_array_equal(
        found.images, np.broadcast_to(images.reshape(6, 5, 7, -1)[..., :3], (6, 5, 7, 3))
    )
    np.testing.assert_array_equal(found.labels, TRAIN_LABELS)
    gray = load_source(path, "train", 1).images
    assert gray.shape == (6, 5, 7, 1)
    if len(shape) == 3 and shape[2] >= 3:
        np.testing.assert_array_equal(gray[2, ..., 0], Image.fromarray(images[2, ..., :3]).convert("L"))
    np.testing.assert_array_equal(load_source(path, "test", 1).images[..., 0], TEST)


def test_npz_with_images_alone(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, images=TRAIN)
    found = load_source(path, "train", 1)
    assert found.images.shape == (6, 5, 7, 1)
    assert found.labels is None
    assert not has_test(path)
    assert "holds no array x_test, but images" in failing(path, "test")


def test_labels_in_a_column(tmp_path):
    path = write_npz(tmp_path / "a.npz", y_train=TRAIN_LABELS[:, None].astype(np.int32))
    np.testing.assert_array_equal(load_source(path, "train", 1).labels, TRAIN_LABELS)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"x_train": TRAIN / 255}, "x_train holds float64; store it as uint8"),
        ({"x_train": TRAIN.astype(object)}, "not an npz file that can be read"),
        ({"x_train": TRAIN[0]}, "x_train is 5x7"),
        ({"x_train": TRAIN[..., None, None]}, "x_train is 6x5x7x1x1"),
        ({"x_train": TRAIN[..., None].repeat(5, 3)}, "x_train is 6x5x7x5"),
        ({"x_train": TRAIN[:0], "y_train": None}, "x_train is 0x5x7"),
        ({"x_train": None}, "holds no array x_train or images, but x_test, y_test, y_train"),
        ({"y_train": TRAIN_LABELS[:4]}, "y_train is 4 of uint8"),
        ({"y_train": TRAIN_LABELS / 2}, "y_train is 6 of float64"),
        ({"y_train": np.eye(6, dtype=np.uint8)}, "y_train is 6x6"),
    ],
)
def test_npz_files_that_do_not_serve(tmp_path, change, reason):
    assert reason in failing(write_npz(tmp_path / "a.npz", **change))


@pytest.mark.parametrize("keep", [2, 60, -30, -3000])
def test_cut_npz_files(tmp_path, keep):
    path = tmp_path / "a.npz"
    np.savez(path, x_train=RNG.integers(0, 256, (99, 9, 9), np.uint8))
    path.write_bytes(path.read_bytes()[:keep])
    assert "not an npz file that can be read" in failing(path)
    with pytest.raises(TrainingError, match="not an npz file that can be read"):
        has_test(path)


def test_arrays_that_are_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "MAX_BYTES", 200)
    assert "split the file" in failing(write_npz(tmp_path / "a.npz"))


# Paths


def test_a_path_that_leads_nowhere(tmp_path):
    assert "a TensorFlow data set is tfds:NAME" in failing(tmp_path / "none")
    with pytest.raises(TrainingError, match="cannot read"):
        identity(tmp_path / "none")


def test_identity_changes_with_the_file(tmp_path):
    path = write_npz(tmp_path / "a.npz")
    first = identity(path)
    assert identity(path) == first
    write_npz(path, x_train=TRAIN[:2], y_train=None)
    assert identity(path) != first
    folder = write_idx(tmp_path / "mnist")
    assert identity(folder) == identity(folder / "train-images-idx3-ubyte.gz")


# TensorFlow Datasets, offline


@pytest.fixture
def tfds():
    pytest.importorskip("tensorflow_compression", reason="needs the extra `train`")
    return pytest.importorskip("tensorflow_datasets", reason="needs the extra `train`")


@pytest.fixture
def store(tfds, tmp_path):
    """A function that stores a data set with these splits of images and labels."""
    import tensorflow as tf

    def make(name, **splits):
        tfds.disable_progress_bar()
        stored = {
            split: tf.data.Dataset.from_tensor_slices(
                {"image": images[..., None], "label": np.arange(len(images)) % 3}
            )
            for split, images in splits.items()
        }
        features = {
            "image": tfds.features.Image(shape=(None, None, 1)),
            "label": tfds.features.ClassLabel(num_classes=3),
        }
        tfds.dataset_builders.store_as_tfds_dataset(
            name,
            "1.0.0",
            tfds.features.FeaturesDict(features),
            stored,
            data_dir=tmp_path,
            disable_shuffling=True,
        )
        return f"tfds:{name}"

    return make


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10"])
def test_a_tensorflow_data_set(tfds, tmp_path, name):
    with tfds.testing.mock_data(num_examples=5):
        found = load_source(f"tfds:{name}", "train", 1, tmp_path)
    side = 32 if name == "cifar10" else 28
    assert found.images.shape == (5, side, side, 1)
    assert found.labels.shape == (5,)


@pytest.mark.parametrize("name", ["emnist/balanced", "emnist/digits", "emnist", "mnist", "kmnist"])
def test_only_emnist_is_turned(tfds, tmp_path, name):
    import tensorflow as tf

    image = np.zeros((28, 28, 1), np.uint8)
    image[:, 3] = 255  # A vertical line.

    def as_dataset(self, *_, **__):
        return tf.data.Dataset.from_tensors({"image": image, "label": np.int64(7)})

    with tfds.testing.mock_data(as_dataset_fn=as_dataset):
        found = load_source(f"tfds:{name}", "train", 1, tmp_path)
    upright = image.transpose(1, 0, 2) if name.startswith("emnist") else image
    np.testing.assert_array_equal(found.images, upright[None])
    assert found.labels.tolist() == [7]


def test_splits_of_a_data_set(store, tmp_path):
    name = store("splits", train=TRAIN, test=TEST)
    np.testing.assert_array_equal(load_source(name, "train", 1, tmp_path).images[..., 0], TRAIN)
    found = load_source(name, "test", 3, tmp_path)
    assert (found.images == TEST[..., None]).all()
    assert found.labels.tolist() == [0, 1, 2, 0]
    assert sources.tfds_split(name, ("validation", "test"), tmp_path) == "test"
    validated = store("validated", train=TRAIN, validation=TEST)
    np.testing.assert_array_equal(load_source(validated, "test", 1, tmp_path).images[..., 0], TEST)
    assert "no test images" in failing(store("plain", train=TRAIN), "test", data_dir=tmp_path)


def test_images_of_several_sizes(tfds, tmp_path):
    import tensorflow as tf

    def as_dataset(self, *_, **__):
        images = ({"image": np.zeros((8, 8 + i, 3), np.uint8)} for i in range(3))
        spec = {"image": tf.TensorSpec((None, None, 3), tf.uint8)}
        return tf.data.Dataset.from_generator(lambda: images, output_signature=spec)

    with tfds.testing.mock_data(as_dataset_fn=as_dataset):
        assert "of several sizes" in failing("tfds:mnist", data_dir=tmp_path)


# The shared data


@pytest.mark.skipif(not (SHARED / "mnist").is_dir(), reason="needs shared/data/mnist, which is not here")
def test_mnist():
    train, test = (load_source(SHARED / "mnist", split, 1) for split in ("train", "test"))
    assert train.images.shape == (60000, 28, 28, 1)
    assert test.images.shape == (10000, 28, 28, 1)
    assert train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert np.bincount(test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


EMNIST = SHARED / "emnist" / "emnist_bymerge_subset.npz"


@pytest.mark.skipif(not EMNIST.is_file(), reason="needs shared/data/emnist, which is not here")
def test_emnist_is_upright():
    found = load_source(EMNIST, "test", 1)
    assert found.images.shape == (4700, 28, 28, 1)
    assert sorted(set(found.labels.tolist())) == list(range(47))
    # Ones are tall.
    ones = found.images[found.labels == 1][..., 0].mean(0)
    assert ones.max(1).mean() > ones.max(0).mean()
