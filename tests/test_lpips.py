"""LPIPS against TensorFlow's convolutions and the original's published distances; its file of weights."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from codec_cli.errors import CodecError
from codec_cli.evaluation import lpips, metrics, quality
from codec_cli.evaluation.lpips import Lpips, names_and_shapes

DATA = Path(__file__).parents[2] / "shared" / "data" / "lpips"


@pytest.fixture(scope="module")
def weights():
    """Weights of the right shapes that keep the features' size from layer to layer."""
    rng = np.random.default_rng(11)
    arrays = {}
    for name, shape in names_and_shapes().items():
        if name.startswith("NetLin"):
            arrays[name] = rng.random(shape, np.float32)
        else:
            spread = np.sqrt(2 / np.prod(shape[:3])) if len(shape) == 4 else 0.1
            arrays[name] = rng.normal(0, spread, shape).astype(np.float32)
    return arrays


@pytest.fixture
def write_weights(weights, tmp_path):
    """A function that writes a file of weights, some of them changed or (...) left out."""

    def write(**changes):
        arrays = {**weights, **{name.replace("__", "."): value for name, value in changes.items()}}
        path = tmp_path / "lpips.npz"
        np.savez(path, **{name: value for name, value in arrays.items() if value is not ...})
        return path

    return write


def pair(height, width, channels=3, seed=0):
    rng = np.random.default_rng(seed)
    a = rng.integers(0, 256, (height, width, channels), dtype=np.uint8)
    noise = rng.integers(-30, 31, a.shape)
    return a, np.clip(a + noise, 0, 255).astype(np.uint8)


def tensorflow_lpips(tf, weights, a, b):
    """The definition in TensorFlow's own convolutions and pools."""

    def features(image):
        x = image[None].astype(np.float32) / 127.5 - 1
        x = tf.constant((x - np.float32([-0.030, -0.088, -0.188])) / np.float32([0.458, 0.448, 0.450]))
        for i, (stride, padding, pooled) in enumerate(
            [(4, 2, False), (1, 2, True), (1, 1, True), (1, 1, False), (1, 1, False)]
        ):
            if pooled:
                x = tf.nn.max_pool2d(x, 3, 2, "VALID")
            around = [[0, 0], [padding, padding], [padding, padding], [0, 0]]
            x = tf.nn.conv2d(x, weights[f"AlexNet_0.Conv_{i}.kernel"], stride, around)
            x = tf.nn.relu(x + weights[f"AlexNet_0.Conv_{i}.bias"])
            yield x / (tf.norm(x, axis=-1, keepdims=True) + 1e-10)

    total = 0.0
    for i, (x, y) in enumerate(zip(features(a), features(b), strict=True)):
        weighted = tf.nn.conv2d((x - y) ** 2, weights[f"NetLinLayer_{i}.Conv_0.kernel"], 1, "VALID")
        total += float(tf.reduce_mean(weighted))
    return total


@pytest.mark.parametrize("size", [(31, 31), (64, 97), (131, 70)])
def test_as_tensorflow(weights, size):
    tf = pytest.importorskip("tensorflow", reason="TensorFlow (extra `train`) is the oracle here")
    a, b = pair(*size)
    assert Lpips(weights)(a, b) == pytest.approx(tensorflow_lpips(tf, weights, a, b), rel=1e-5)


@pytest.mark.skipif(
    not DATA.is_dir(), reason="needs the published weights and images in ../shared/data/lpips"
)
def test_as_published():
    metric = Lpips.load(DATA / "lpips_alexnet.npz")
    reference, *others = (
        np.array(Image.open(DATA / f"ex_{name}.png").convert("RGB")) for name in ("ref", "p0", "p1")
    )
    # The README of richzhang/PerceptualSimilarity gives these for its example images.
    assert [metric(reference, other) for other in others] == pytest.approx([0.722, 0.138], abs=1e-3)
    assert metric(reference, reference) == 0


def test_memory_of_the_original_does_not_show(weights, monkeypatch):
    (a, b), (c, _) = pair(40, 50), pair(40, 50, seed=1)
    metric = Lpips(weights)
    first = metric(a, b)
    assert metric(a, b) == first
    assert metric(c, b) == Lpips(weights)(c, b) != first
    assert metric(a, b) == first
    changed = a.copy()
    metric(changed, b)
    changed[...] = c  # The same array with other contents is another original.
    assert metric(changed, b) == Lpips(weights)(c, b)
    monkeypatch.setattr(lpips, "_MEMO_PIXELS", 0)
    assert Lpips(weights)(a, b) == first


def test_strips_do_not_show(weights, monkeypatch):
    a, b = pair(75, 90)
    whole = Lpips(weights)(a, b)
    monkeypatch.setattr(lpips, "_STRIP_FLOATS", 1)
    assert Lpips(weights)(a, b) == pytest.approx(whole, rel=1e-5)


def test_properties(weights):
    a, b = pair(45, 33)
    metric = Lpips(weights)
    assert metric(a, a) == 0
    assert metric(a, b) == pytest.approx(metric(b, a), rel=1e-6)
    gray = a[..., :1], b[..., :1]
    assert metric(*gray) == metric(*(np.repeat(image, 3, axis=2) for image in gray))


def test_small_images(weights):
    image = np.zeros((31, 30, 3), np.uint8)
    with pytest.raises(metrics.NotDefined, match="at least 31 pixels on each side, this image is 30x31"):
        Lpips(weights)(image, image)


@pytest.mark.parametrize(
    ("a", "b", "text"),
    [
        (np.zeros((40, 40, 3), np.uint8), np.zeros((40, 41, 3), np.uint8), "differ in shape"),
        (np.zeros((40, 40, 3), np.uint8), np.zeros((40, 40, 3)), "needs uint8"),
        (np.zeros((40, 40, 2), np.uint8), np.zeros((40, 40, 2), np.uint8), "needs uint8"),
        (np.zeros((40, 40), np.uint8), np.zeros((40, 40), np.uint8), "needs uint8"),
    ],
)
def test_refuses_what_is_no_pair_of_images(weights, a, b, text):
    with pytest.raises(ValueError, match=text):
        Lpips(weights)(a, b)


def test_measure(write_weights, weights):
    a, b = pair(40, 44)
    path = write_weights()
    measure = quality.Measure(path)
    assert measure(a, b)["lpips"] == Lpips(weights)(a, b)
    assert pickle.loads(pickle.dumps(measure))(a, b) == measure(a, b)
    assert measure(a[:30], b[:30])["lpips"] is None
    path.unlink()
    with pytest.raises(CodecError, match="No such file"):
        quality.Measure(path).prepare()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"AlexNet_0__Conv_2__bias": ...}, r"AlexNet_0.Conv_2.bias is missing"),
        ({"AlexNet_0__Conv_0__bias": np.zeros(64)}, r"float64 \(64,\), not float32 \(64,\)"),
        ({"AlexNet_0__Conv_0__bias": np.zeros(65, np.float32)}, r"is float32 \(65,\), not"),
        ({"AlexNet_0__Conv_0__bias": np.full(64, np.nan, np.float32)}, "is not finite"),
        ({"AlexNet_0__Conv_0__bias": np.array([{}])}, "allow_pickle=False"),
    ],
)
def test_wrong_weights(write_weights, change, text):
    path = write_weights(**change)
    with pytest.raises(CodecError, match=rf"lpips.npz: not a file of LPIPS's weights \(.*{text}") as caught:
        Lpips.load(path)
    assert "scripts/fetch_lpips.py lpips.npz gets them" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_damaged_weights(write_weights, tmp_path):
    path = write_weights()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    lone = tmp_path / "lone.npy"
    np.save(lone, np.zeros(3))
    for wrong in (b"", b"nothing", pickle.dumps({}), data[:1000], lone.read_bytes(), data):
        path.write_bytes(wrong)
        with pytest.raises(CodecError, match=r"lpips.npz: not a file of LPIPS's weights"):
            Lpips.load(path)
    with pytest.raises(CodecError, match=r"none.npz: can't read the weights of LPIPS: No such file"):
        Lpips.load(tmp_path / "none.npz")
