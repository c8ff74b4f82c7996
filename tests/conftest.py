"""What the tests of the command line share."""

import inspect
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import settings
from PIL import Image

from codec_cli.main import cli
from codec_cli.pictures.rows import have_vips

ROOT = Path(__file__).parents[1]
# Before click 8.2, standard error had to be asked for.
SEPARATE = {"mix_stderr": False} if "mix_stderr" in inspect.signature(CliRunner).parameters else {}
MODELS = ROOT / "tests" / "data" / "models"

needs_pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
needs_vips = pytest.mark.skipif(not have_vips(), reason="pyvips (the extra `large`) is not installed")

# How long an example takes says more about the machine than about us.
settings.register_profile("codec", deadline=None)
settings.load_profile("codec")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell's background jobs ignore Ctrl-C, and so would every process that the tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def needs_scipy():
    """For BD-rates, which the base install can't compute."""
    pytest.importorskip("scipy", reason="scipy (extra `eval`) interpolates the curves")


@pytest.fixture
def models_dir():
    """The frozen models of the tests: ``tiny`` and ``tiny-factorized``."""
    return MODELS


@pytest.fixture(scope="session")
def photo():
    """A function of a size (width, height): something like a photograph, R'G'B', always the same."""

    def make(width=96, height=64):
        rng = np.random.default_rng(5)
        y, x = np.mgrid[:height, :width]
        shade = np.stack([128 + 90 * np.sin(x / 31 + i) * np.cos(y / 23 - i / 2) for i in range(3)], axis=2)
        shade[(x - width / 2) ** 2 + (y - height / 2) ** 2 < min(width, height) ** 2 / 16] = (220, 60, 40)
        shade += rng.normal(0, 3, (height, width, 1))
        return np.clip(shade, 0, 255).astype(np.uint8)

    return make


@pytest.fixture
def write_photo(photo):
    """A function that writes the photograph to a file in the format of its name, and returns the path."""

    def write(path, width=96, height=64, mode="RGB", **options):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo(width, height)).convert(mode).save(path, **options)
        return path

    return write


@pytest.fixture
def environment(monkeypatch, tmp_path_factory):
    """Only the models of the tests are found, whatever the user has; the same for child processes."""
    monkeypatch.setenv("CODEC_MODELS_DIR", str(MODELS))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("user")))
    monkeypatch.setenv("CODEC_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for name in ("CODEC_DEBUG", "CODEC_LPIPS_WEIGHTS", "_CODEC_COMPLETE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def run(environment):
    """A function that runs a command line in this process.

    Its result has ``exit_code``, ``stdout``, ``stderr`` and ``stdout_bytes``. An error other than an exit
    fails the test: no user may ever see one.
    """

    def invoke(*args, input=None):
        result = CliRunner(**SEPARATE).invoke(cli, [str(arg) for arg in args], input=input, prog_name="codec")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert "Traceback" not in result.stderr
        return result

    return invoke


@pytest.fixture
def spawn(environment, tmp_path):
    """A function that runs a command line in a process of its own; returns a ``CompletedProcess`` (bytes)."""

    def start(*args, **options):
        command = [sys.executable, "-m", "codec_cli", *map(str, args)]
        settings = {"capture_output": True, "timeout": 60, "cwd": tmp_path, "check": False}
        if {"stdout", "stderr"} & set(options):
            del settings["capture_output"]
        return subprocess.run(command, **{**settings, **options}, env=dict(os.environ))

    return start


@pytest.fixture
def compressed(run, write_photo, tmp_path):
    """A compressed file."""
    path = tmp_path / "made" / "photo.bin"
    source = write_photo(path.with_name("source.png"))
    assert run("compress", source, path, "--model", "tiny").exit_code == 0
    return path


def error_line(result):
    """The one line that an error consists of."""
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("codec: ")
    return lines[0]
