"""Refinement of latents by gradient (efforts 7 to 9)."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from codec_cli.codec import EFFORT_STEPS, Codec
from codec_cli.evaluation.metrics import psnr
from codec_cli.pictures.images import Picture

pytest.importorskip("tensorflow", reason="refinement needs the train extra")

MODELS = Path(__file__).parent / "data" / "models"


@pytest.fixture(scope="module")
def pixels():
    rows, columns = np.indices((72, 90))
    waves = np.stack([128 + 80 * np.sin(rows / (4 + c) + columns / 9) for c in range(3)], 2)
    return np.clip(waves + np.random.default_rng(2).normal(0, 8, waves.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("name", ["tiny", "tiny-factorized"])
@pytest.mark.parametrize("level", [3, 4])
def test_refinement_lowers_the_loss(name, level, pixels):
    codec = Codec(name, models_dir=MODELS)
    lambdas = codec.info.facts["config"]["levels"]["lambdas"]
    between = codec.info.facts["config"]["levels"]["between"] + 1
    weight = np.exp(np.interp(level / between, range(len(lambdas)), np.log(lambdas)))

    def loss(data):
        assert codec.decode(data).shape == pixels.shape
        mse = 255**2 * 10 ** (-psnr(pixels, codec.decode(data)) / 10)
        return 8 * len(data) / (72 * 90) + weight * mse

    plain = codec.encode_picture(Picture(pixels), level=level, effort=1)
    refined = codec.pack(
        Picture(pixels), codec.refined(pixels, codec.latents(pixels), level, 60), level, effort=1
    )
    assert loss(refined) < loss(plain)


@pytest.mark.parametrize(("flags", "precision"), [("avx2 avx512_bf16", "bfloat16"), ("avx2", "float32")])
def test_bfloat16_only_where_the_processor_knows_it(flags, precision, pixels, monkeypatch, tmp_path):
    """Elsewhere TensorFlow emulates it, slower than float32."""
    import tensorflow as tf

    from codec_cli.training import context, networks

    (tmp_path / "cpuinfo").write_text(f"processor: 0\nflags: fpu {flags} ibs\n")
    found = networks.native_bfloat16(tmp_path / "cpuinfo")
    assert not networks.native_bfloat16(tmp_path / "missing")
    monkeypatch.setattr(networks, "native_bfloat16", lambda: found)
    seen = []

    def watch(module, name):
        plain = getattr(module, name)

        def watched(*arguments):
            seen.append(arguments[-1])
            return plain(*arguments)

        monkeypatch.setattr(module, name, watched)

    watch(networks, "synthesis")
    watch(context, "pass_bits")
    codec = Codec("tiny", models_dir=MODELS)
    assert codec.info.facts["config"]["run"].get("precision", "bfloat16") == "bfloat16"
    list(codec.refined(pixels, codec.latents(pixels), 3, 1))
    assert seen == [tf.dtypes.as_dtype(precision)] * 2


@pytest.mark.parametrize("effort", [5, 7])
def test_every_step_is_counted(effort, pixels, monkeypatch):
    monkeypatch.setitem(EFFORT_STEPS, 7, 2)
    codec, counts = Codec("tiny", models_dir=MODELS), []
    codec.advance = counts.append
    picture = Picture(np.tile(pixels, (1, 12, 1)))  # 1080 columns: two tiles.
    codec.encode_picture(picture, level=1, effort=effort)
    assert codec.gradient_steps(*picture.pixels.shape[:2], effort) == sum(counts) == (4 if effort == 7 else 0)


def test_threads_limit_tensorflow():
    script = (
        "import pathlib\n"
        "from codec_cli import Codec\n"
        f"codec = Codec('tiny', models_dir=pathlib.Path({str(MODELS)!r}), threads=1)\n"
        "codec._refiner\n"
        "import tensorflow as tf\n"
        "print(tf.config.threading.get_intra_op_parallelism_threads())\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout == "1\n"


def test_graphs_are_built_once(pixels, monkeypatch):
    """TensorFlow keeps every graph: a directory of images would take ever more memory."""
    monkeypatch.setitem(EFFORT_STEPS, 7, 1)
    codec = Codec("tiny", models_dir=MODELS)
    for level in (1, 2, 1):
        codec.encode_picture(Picture(pixels), level=level, effort=7)
    steps = codec._refiner._steps
    assert sorted(steps) == [1, 2]
    assert [step.experimental_get_tracing_count() for step in steps.values()] == [1, 1]


def test_without_tensorflow_one_line_says_what_to_install(tmp_path):
    script = (
        "import sys; sys.modules['tensorflow'] = None\n"
        "import numpy as np\n"
        "from codec_cli import Codec, CodecError\n"
        "from codec_cli.pictures.images import Picture\n"
        f"codec = Codec('tiny', models_dir=__import__('pathlib').Path({str(MODELS)!r}))\n"
        "try:\n"
        "    codec.encode_picture(Picture(np.zeros((8, 8, 3), np.uint8)), effort=7)\n"
        "except CodecError as error:\n"
        "    print(error)\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "pip install '.[train]'" in result.stdout
