"""`codec study`: each subcommand on a few fabricated images, in seconds."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
from conftest import error_line
from PIL import Image

from codec_cli.errors import OutputError, TrainingError


@pytest.fixture
def extras():
    """Skips a test where the extras are not installed."""
    for name in ("pydantic", "tensorflow", "tensorflow_compression", "matplotlib", "scipy", "sklearn"):
        pytest.importorskip(name, reason="needs the extras `train` and `eval`")


def strokes(count, seed, classes=3):
    """Something like characters: a bright bar whose direction is its class, uint8 (n, 28, 28) and labels."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:28, :28] - 13.5
    labels = np.arange(count) % classes
    images = np.empty((count, 28, 28), np.uint8)
    for i, label in enumerate(labels):
        angle = np.pi * label / classes + rng.normal(0, 0.1)
        across = np.abs(x * np.sin(angle) - y * np.cos(angle) + rng.normal(0, 2))
        along = np.abs(x * np.cos(angle) + y * np.sin(angle))
        images[i] = 255 * np.clip(2.5 - across, 0, 1) * (along < 9)
    return images, labels.astype(np.int64)


@pytest.fixture(scope="session")
def characters(tmp_path_factory):
    """An npz file of characters."""
    path = tmp_path_factory.mktemp("study") / "characters.npz"
    (x, y), (z, w) = strokes(120, 1), strokes(60, 2)
    np.savez(path, x_train=x, y_train=y, x_test=z, y_test=w)
    return path


@pytest.fixture(scope="session")
def others(tmp_path_factory):
    """Other characters: of more classes, and fainter."""
    path = tmp_path_factory.mktemp("study") / "others.npz"
    (x, y), (z, w) = strokes(120, 3, 5), strokes(60, 4, 5)
    np.savez(path, x_train=x // 2, y_train=y, x_test=z // 2, y_test=w)
    return path


def rows(path):
    with path.open() as stream:
        return list(csv.DictReader(stream))


def losses(run):
    """Training losses of a run, the first ones and the last ones."""
    values = [json.loads(line)["loss"] for line in (run / "train.jsonl").read_text().splitlines()]
    return values[0], values[-1]


def assert_complete(folder):
    """Every file that the summary shows is there, and is what its name says."""
    text = (folder / "summary.md").read_text()
    shown = [part.split(")")[0] for part in text.split("](")[1:]]
    assert shown
    for name in shown:
        with Image.open(folder / name) as image:
            assert image.format == "PNG"
            assert min(image.size) > 50
    assert "nan" not in text.lower().replace("nance", "")
    return text


# Without data or extras


def test_help_loads_nothing_heavy():
    code = (
        "import sys\n"
        "from click.testing import CliRunner\n"
        "from codec_cli.main import cli\n"
        "for words in (['--help'], ['study', '--help'], ['study', 'decoders', '--help'], "
        "['study', 'latents', '--help']):\n"
        "    result = CliRunner().invoke(cli, words)\n"
        "    assert result.exit_code == 0, result.output\n"
        "    assert 'latents' in result.output or words == ['--help'] or words[1] == 'decoders'\n"
        "for name in ('numpy', 'tensorflow', 'matplotlib', 'sklearn', 'pydantic'):\n"
        "    assert name not in sys.modules, name\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["latents", "out"], "--data"),
        (["decoders", "out"], "--data"),
        (["decoders", "out", "--data", "x", "--from", "."], "--fine-tune-on"),
        (["latents", "out", "--data", "x", "--seeds", "0"], "--seeds"),
        (["latents", "out", "--data", "x", "--rise", "0"], "--rise"),
        (["nothing", "out"], "No such command"),
    ],
)
def test_a_wrong_command_line(run, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    result = run("study", *arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert not (tmp_path / "out").exists()


def test_steps_or_epochs(run, extras, tmp_path):
    result = run("study", "latents", tmp_path / "out", "--data", "x", "--steps", "5", "--epochs", "1")
    assert result.exit_code == 2
    assert "not both" in result.stderr


def test_errors_are_one_line(run, extras, characters, tmp_path):
    result = run("study", "latents", tmp_path / "out", "--data", tmp_path / "missing", "--quiet")
    assert result.exit_code == TrainingError.exit_code
    assert "missing" in error_line(result)
    result = run("study", "decoders", tmp_path / "out2", "--data", characters, "--decoder", "best", "--quiet")
    assert result.exit_code == TrainingError.exit_code
    assert "there are plain, deep" in error_line(result)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("mine")
    result = run("study", "latents", tmp_path / "full", "--data", characters, "--quiet")
    assert result.exit_code == OutputError.exit_code
    assert "choose a new folder" in error_line(result)


# Latents


def test_latents(run, extras, characters, tmp_path):
    out = tmp_path / "out"
    words = ("study", "latents", out, "--data", characters, "--tiny", "--latent", "20", "--latent", "4")
    result = run(*words, "--seeds", "2", "--steps", "200")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{out / 'summary.md'}\n"
    text = assert_complete(out)
    assert "2 seed(s)" in text
    for name in (
        "curve.svg",
        "classes.svg",
        "tsne.png",
        "reconstructions.png",
        "classes.csv",
        "divergence.csv",
    ):
        assert (out / name).is_file()
    sizes = rows(out / "sizes.csv")
    assert [row["size"] for row in sizes] == ["20", "4"]
    assert all(0 < float(row["mse"]) < 0.2 for row in sizes)
    runs = rows(out / "runs.csv")
    assert [(row["seed"], row["size"]) for row in runs] == [("1", "20"), ("1", "4"), ("2", "20"), ("2", "4")]
    for row in runs:
        first, last = losses(out / "runs" / f"latent-{row['size']}-seed-{row['seed']}")
        assert last < 0.7 * first
        # Rounding costs about what it may; each image by itself takes whole bytes.
        assert float(row["mse_rounded"]) < 1.2 * float(row["mse"])
        assert 0 < float(row["bits"]) < 32 * int(row["size"])
        assert float(row["bits_alone"]) > float(row["bits"]) - 8
    assert len(rows(out / "classes.csv")) == 2 * 2 * 3
    assert all(0 <= float(row["energy_pixels"]) <= 1 for row in rows(out / "divergence.csv"))

    # The same command again trains nothing, other settings are refused.
    before = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/checkpoint.npz")}
    assert len(before) == 4
    assert run(*words, "--seeds", "2", "--steps", "200", "--quiet").stderr == ""
    assert {path: path.stat().st_mtime_ns for path in before} == before
    result = run(*words, "--seeds", "2", "--steps", "50", "--quiet")
    assert result.exit_code == TrainingError.exit_code
    assert "train anew with --force" in error_line(result)


# Decoders


def compare(run, characters, out, *more):
    words = ("study", "decoders", out, "--data", characters, "--tiny", "--steps", "40", "--latent", "10")
    return run(*words, "--decoder", "plain", "--decoder", "upsample", *more)


def test_decoders(run, extras, characters, others, tmp_path):
    from codec_cli.study import measure
    from codec_cli.study.images import load_split
    from codec_cli.study.runs import reload

    out = tmp_path / "out"
    result = compare(run, characters, out, "--latent", "5", "--fine-tune-on", others, "--tune-share", "1")
    assert result.exit_code == 0, result.stderr
    text = assert_complete(out)
    assert "others.npz" in text
    full, alone = rows(out / "full.csv"), rows(out / "alone.csv")
    assert [row["decoder"] for row in full] == [row["decoder"] for row in alone] == ["plain", "upsample"]
    assert [float(row["latent"]) for row in rows(out / "latents.csv")] == [10, 5]
    for row in full:
        first, last = losses(out / "runs" / f"{row['decoder']}-10-seed-1")
        assert last < 0.8 * first
        assert float(row["parameters"]) > 0
    assert all(float(row["alone_mse"]) > 0 and float(row["decode_us"]) > 0 for row in alone)

    # Decoders alone have the encoder of the first, as it was.
    saved = reload(out / "runs" / "plain-10-seed-1")
    for name in ("plain", "upsample"):
        params = reload(out / "runs" / f"{name}-10-seed-1-alone").params
        for key, value in saved.params.items():
            if key.startswith("analysis/"):
                np.testing.assert_allclose(params[key], value, atol=1e-4, rtol=1e-4)

    # A saved run gives back what was measured.
    split = load_split(str(characters), saved.config)
    decoded = measure.decode(
        saved.params, saved.config, measure.encode(saved.params, saved.config, split.test)
    )
    assert measure.quality(split.test, decoded).mse == pytest.approx(float(full[0]["mse"]), rel=1e-3)

    before, after, fresh = rows(out / "fine-tuning.csv")
    assert float(after["mse"]) < float(before["mse"])
    assert float(after["mse"]) < float(fresh["mse"])

    # The same from the command line, from a run.
    result = run(
        "study", "decoders", tmp_path / "tuned", "--from", out / "runs" / "plain-10-seed-1",
        "--fine-tune-on", others, "--tune-share", "0.5", "--tiny", "--steps", "40", "--quiet",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert_complete(tmp_path / "tuned")
    before, after, _ = rows(tmp_path / "tuned" / "fine-tuning.csv")
    assert float(after["mse"]) < float(before["mse"])


def test_the_configurations_differ_in_their_decoders_only(extras):
    from codec_cli.study.decoders import DECODERS
    from codec_cli.training.config import load_config

    configs = [load_config(f"emnist-{name}") for name in DECODERS]
    trees = [config.model_dump() for config in configs]
    for tree in trees:
        del tree["name"], tree["transforms"]["synthesis"]
    assert all(tree == trees[0] for tree in trees)
    for name, config in zip(DECODERS, configs, strict=True):
        operations = {layer.op for layer in config.transforms.synthesis}
        assert ("conv_transpose" in operations) == (name != "upsample")
        assert {layer.op for layer in config.transforms.analysis} == {"conv", "flatten", "dense"}
