"""codec sample: a grid of pictures from a model's prior."""

import io

import numpy as np
import pytest
from conftest import error_line
from PIL import Image
from test_cli import modules_after

from codec_cli.sampling import GAP, grid, sample
from codec_cli.zoo import read_info

MODEL = "tiny-factorized"


def pixels(path_or_bytes):
    source = io.BytesIO(path_or_bytes) if isinstance(path_or_bytes, bytes) else path_or_bytes
    return np.asarray(Image.open(source))


def test_a_grid(run, tmp_path, models_dir):
    path = tmp_path / "grid.png"
    result = run("sample", MODEL, "-n", 6, "-o", path, "--seed", 4, "--columns", 3, "--scale", 2, "-q", 1)
    assert result.exit_code == 0
    info = read_info(models_dir / "tiny-factorized-1")
    expected = grid(list(sample(info, 6, seed=4, level=0)), 3, 2)
    np.testing.assert_array_equal(pixels(path), expected)
    height, width = expected.shape[:2]
    assert result.stdout == f"{path}: 6 pictures of tiny-factorized-1, level 0, {width}x{height}\n"


def test_defaults(run, tmp_path, monkeypatch, models_dir):
    monkeypatch.chdir(tmp_path)
    assert run("sample", models_dir / "tiny-factorized-1", "--quiet").stdout == ""
    side = 8 * (64 + GAP) + GAP
    assert pixels(tmp_path / "samples.png").shape == (side, side, 3)
    assert [path.name for path in tmp_path.iterdir()] == ["samples.png"]


def test_the_seed_decides(run, tmp_path):
    made = []
    for seed in (1, 1, 2):
        path = tmp_path / f"{len(made)}.png"
        assert run("sample", MODEL, "-n", 2, "-o", path, "--seed", seed).exit_code == 0
        made.append(path.read_bytes())
    assert made[0] == made[1] != made[2]


def test_a_model_with_contexts(run, tmp_path):
    assert run("sample", "tiny", "-n", 1, "-o", tmp_path / "a.png").exit_code == 0
    assert pixels(tmp_path / "a.png").std() > 1


def test_standard_output(run, tmp_path):
    result = run("sample", MODEL, "-n", 1, "-o", "-")
    assert result.exit_code == 0
    run("sample", MODEL, "-n", 1, "-o", tmp_path / "a.png")
    assert result.stdout_bytes == (tmp_path / "a.png").read_bytes()
    assert result.stderr == ""


def test_other_formats(run, tmp_path):
    assert run("sample", MODEL, "-n", 1, "-o", tmp_path / "a.webp").exit_code == 0
    assert pixels(tmp_path / "a.webp").shape == (68, 68, 3)
    result = run("sample", MODEL, "-n", 1, "-o", tmp_path / "a.xyz")
    assert result.exit_code == 7
    assert "unknown image suffix .xyz" in error_line(result)


def test_nothing_is_overwritten(run, tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"mine")
    result = run("sample", MODEL, "-n", 1, "-o", path)
    assert result.exit_code == 7
    assert "use --force" in error_line(result)
    assert path.read_bytes() == b"mine"
    assert run("sample", MODEL, "-n", 1, "-o", path, "--force").exit_code == 0
    assert pixels(path).shape == (68, 68, 3)


def test_no_such_model(run, tmp_path):
    result = run("sample", "nothing", "-o", tmp_path / "a.png")
    assert result.exit_code == 6
    assert "no such model" in error_line(result)


@pytest.mark.parametrize(
    "wrong", [["-n", "0"], ["-q", "0"], ["--scale", "0"], ["--columns", "0"], ["--seed", "-1"]]
)
def test_values_out_of_range(run, wrong):
    assert run("sample", MODEL, *wrong).exit_code == 2


def test_needs_no_tensorflow(environment, tmp_path):
    modules = modules_after("sample", MODEL, "-n", 1, "-o", tmp_path / "a.png")
    assert not {name for name in modules if name.startswith(("tensorflow", "keras", "jax"))}
    assert (tmp_path / "a.png").is_file()
