"""`codec study mnist` on fabricated digits, and the fixed transform beside it."""

import csv
import dataclasses
import json

import numpy as np
import pytest

pytest.importorskip("pydantic", reason="needs the extra `train`")
pytest.importorskip("tensorflow", reason="needs the extra `train`")
pytest.importorskip("tensorflow_compression", reason="needs the extra `train`")
pytest.importorskip("matplotlib", reason="needs the extra `eval`")
pytest.importorskip("scipy", reason="needs the extra `eval`")

from codec_cli.codec import Codec
from codec_cli.study import transform
from codec_cli.training.config import load_config
from codec_cli.zoo import read_info


def strokes(count, seed):
    """Something like digits: bars whose direction is their class, uint8 (n, 28, 28) and labels."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:28, :28] - 13.5
    labels = np.arange(count) % 10
    angle = np.pi * labels[:, None, None] / 10 + rng.normal(0, 0.05, (count, 1, 1))
    across = np.abs(x * np.sin(angle) - y * np.cos(angle))
    along = np.abs(x * np.cos(angle) + y * np.sin(angle))
    return (255 * np.clip(2.5 - across, 0, 1) * (along < 9)).astype(np.uint8), labels.astype(np.int64)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    path = tmp_path_factory.mktemp("digits") / "digits.npz"
    (x, y), (z, w) = strokes(240, 1), strokes(60, 2)
    np.savez(path, x_train=x, y_train=y, x_test=z, y_test=w)
    return path


@pytest.mark.parametrize("side", [4, 7, 14])
def test_the_block_dct_is_orthonormal_and_that_of_scipy(side):
    from scipy.fft import dctn

    basis = transform.block_dct(side)
    np.testing.assert_allclose(basis.T @ basis, np.eye(side**2), atol=1e-5)
    block = np.random.default_rng(0).random((side, side)).astype(np.float32)
    expected = dctn(block, norm="ortho").reshape(-1)
    np.testing.assert_allclose(block.reshape(-1) @ basis, expected, rtol=1e-4, atol=1e-5)


def test_the_fixed_transform_is_exact_but_for_rounding(digits, tmp_path):
    """Through training's networks, without a quantiser."""
    import tensorflow as tf

    from codec_cli.training import checkpoint, networks

    base = load_config("mnist", [f"data.path={digits}"])
    config = transform.dct_config(base, 7, [0.001, 0.01])
    transform.write_dct_run(config, tmp_path / "run", tmp_path / "cache", quiet=True)
    params = checkpoint.load(tmp_path / "run")[0]["ema"]
    images = tf.constant(np.random.default_rng(0).random((3, 28, 28, 1), np.float32))
    latents = networks.analysis(params, config.transforms, images)
    assert latents.shape == (3, 4, 4, 49)
    again = networks.synthesis(params, config.transforms, latents, tf.ones((3, 2)))
    np.testing.assert_allclose(again, images, atol=1e-5)


def test_the_study(run, digits, tmp_path):
    result = run("study", "mnist", tmp_path / "out", "--data", digits, "--tiny", "--quiet")
    assert result.exit_code == 0, result.stderr
    out = tmp_path / "out"
    summary = (out / "summary.md").read_text()
    for heading in ("Rate and quality", "Before and after training", "Generated digits", "What the prior"):
        assert heading in summary
    for picture in ("rates.png", "rates.svg", "reconstructions.png", "latents.png", "samples.png"):
        assert (out / picture).stat().st_size > 1000
    with (out / "rates.csv").open() as stream:
        rates = list(csv.DictReader(stream))
    assert {row["codec"] for row in rates} == {
        "learned",
        "with contexts",
        "with classes",
        "block DCT 7x7",
        "block DCT 14x14",
    }
    for name in ("block DCT 7x7", "block DCT 14x14"):
        curve = [(float(row["payload"]), float(row["psnr"])) for row in rates if row["codec"] == name]
        assert curve == sorted(curve)
        assert curve[-1][1] > curve[0][1] + 5
    log = [json.loads(line) for line in (out / "runs" / "learned" / "train.jsonl").read_text().splitlines()]
    assert log[-1]["loss"] < log[0]["loss"]
    with (out / "ablations.csv").open() as stream:
        assert len({row["variant"] for row in csv.DictReader(stream)}) == 7

    # What was exported is a model like any other, and the same command finds everything done.
    info = read_info(out / "models" / "mnist-1")
    image = strokes(1, 5)[0][0][:, :, None]
    codec = Codec(info)
    assert codec.decode(codec.encode(image)).shape == (28, 28, 1)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("checkpoint.npz") if "dct" not in str(path)}
    assert run("study", "mnist", out, "--data", digits, "--tiny", "--quiet").exit_code == 0
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_classes_only_where_bits_can_say_them(digits):
    from codec_cli.study import mnist
    from codec_cli.training.sources import load_source

    train = load_source(digits, "train", 1)
    options = mnist.Options(str(digits))
    assert set(mnist._systems(options, train)) == set(mnist.SYSTEMS)
    many = dataclasses.replace(train, labels=train.labels * 5)
    assert set(mnist._systems(options, many)) == {"learned", "with contexts"}


def test_needs_data(run, tmp_path):
    assert run("study", "mnist", tmp_path / "out").exit_code == 2


def test_models_of_one_size_refuse_other_images(run, digits, tmp_path, write_photo):
    """A digit's model takes digits."""
    out = tmp_path / "out"
    base = load_config("mnist", [f"data.path={digits}"])
    config = transform.dct_config(base, 14, [0.001, 0.01])
    transform.write_dct_run(config, tmp_path / "run", tmp_path / "cache", quiet=True)
    assert run("export", tmp_path / "run", out / "blocks-1", "--quiet").exit_code == 0
    info = read_info(out / "blocks-1")
    assert info.size == 28
    result = run("compress", write_photo(tmp_path / "photo.png", 30, 28, "L"), "--model", info.path)
    assert result.exit_code == 3
    assert "codes images of 28x28 only, this one is 30x28; choose another with --model" in result.stderr
    result = run("compress", write_photo(tmp_path / "colour.png", 28, 28), "--model", info.path)
    assert result.exit_code == 3
    assert "gray images only" in result.stderr
    digit = write_photo(tmp_path / "digit.png", 28, 28, "L")
    assert run("compress", digit, "--model", info.path).exit_code == 0
    assert (
        run("decompress", tmp_path / "digit.bin", tmp_path / "again.png", "--models-dir", out).exit_code == 0
    )
