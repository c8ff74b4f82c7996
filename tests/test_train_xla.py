"""The train step on other devices: its lowering, and ``scripts/train_xla.py`` against TensorFlow.

The script needs jax, which TensorFlow 2.14 can't share an environment with everywhere: the variable
CODEC_JAX_PYTHON may name another interpreter that has jax, numpy and Pillow.
"""

import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from training_helpers import ROOT, SMALL, photos, pictures, tiny

pytest.importorskip("pydantic", reason="needs the extra `train`")
pytest.importorskip("tensorflow", reason="needs the extra `train`")
pytest.importorskip("tensorflow_compression", reason="needs the extra `train`")

import tensorflow as tf

from codec_cli.training import checkpoint, lower, model, schedule, step

EXACT = "run.precision=float32"


@pytest.fixture(scope="module")
def patches():
    return pictures(12, 64)


@pytest.fixture(scope="module")
def bundled(tmp_path_factory, patches):
    """The bundle of the tiny configuration, its configuration and parameters."""
    config = tiny(EXACT)
    params = model.init_params(config, patches)
    folder = tmp_path_factory.mktemp("bundle")
    lower.lower(config, params, folder)
    return folder, config, params


def described(folder):
    return json.loads((folder / "bundle.json").read_text())


# Lowering


def test_the_bundle_describes_the_flat_order_of_the_step(bundled, patches):
    folder, config, params = bundled
    bundle = described(folder)
    # Labels in place of tensors, flattened as TensorFlow flattens the step's arguments.
    labels = {part: {name: f"{part}/{name}" for name in params} for part in ("params", "m", "v", "ema")}
    steering = {name: name for name in schedule.scalars(config.model_dump(), 0)}
    flat = tf.nest.flatten((labels, "images", "noise", steering))
    assert flat == [*bundle["state"], *bundle["arguments"][1:]]
    assert bundle["arguments"][0] == bundle["results"][0] == "state..."

    state = tf.nest.map_structure(tf.constant, step.init_state(params))
    scalars = {name: tf.constant(value) for name, value in schedule.scalars(config.model_dump(), 0).items()}
    new, metrics = step.train_step(config, state, tf.constant(patches[:6]), tf.zeros((6, 4, 4, 24)), scalars)
    found = {part: {name: f"{part}/{name}" for name in values} for part, values in new.items()}
    names = tf.nest.flatten((found, {name: name for name in metrics}))
    assert names == [*bundle["state"], *bundle["results"][1:]]


def test_the_bundle_holds_configuration_and_parameters(bundled):
    folder, config, params = bundled
    assert described(folder)["config"] == config.model_dump(mode="json")
    with np.load(folder / "state.npz", allow_pickle=False) as archive:
        assert set(archive.files) == {f"params/{name}" for name in params}
        for name, value in params.items():
            np.testing.assert_array_equal(archive[f"params/{name}"], value)


def test_the_program_takes_and_gives_what_the_bundle_says(bundled):
    hlo_pb2 = pytest.importorskip("tensorflow.compiler.xla.service.hlo_pb2", reason="TensorFlow without XLA")
    folder, _, params = bundled
    bundle = described(folder)
    program = hlo_pb2.HloModuleProto.FromString((folder / "step.hlo").read_bytes()).host_program_shape

    shapes = {
        f"{part}/{name}": value.shape
        for part in ("params", "m", "v", "ema")
        for name, value in params.items()
    }
    shapes |= {"images": (6, 64, 64, 3), "noise": (6, 4, 4, 24)}
    shapes |= dict.fromkeys(("bpp", "loss", "mse"), (3,))
    taken = [*bundle["state"], *bundle["arguments"][1:]]
    given = [*bundle["state"], *bundle["results"][1:]]
    assert [tuple(shape.dimensions) for shape in program.parameters] == [
        shapes.get(name, ()) for name in taken
    ]
    assert [tuple(shape.dimensions) for shape in program.result.tuple_shapes] == [
        shapes.get(name, ()) for name in given
    ]
    # Nothing is captured: every parameter is one of ours, and only images are bytes.
    kinds = [shape.element_type for shape in program.parameters]
    assert [name for name, kind in zip(taken, kinds, strict=True) if kind != kinds[0]] == ["images"]


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_other_configurations_lower(tmp_path, precision):
    config = tiny(*SMALL, f"run.precision={precision}", "transforms.channels=1", "levels.lambdas=[0.1]")
    lower.lower(config, model.init_params(config, pictures(4, 64, 1)), tmp_path)
    assert described(tmp_path)["config"]["run"]["precision"] == precision
    assert (tmp_path / "step.hlo").stat().st_size > 10000


# The script


@pytest.fixture(scope="module")
def jax_python():
    """An interpreter that has jax."""
    named = os.environ.get("CODEC_JAX_PYTHON")
    if named:
        return named
    if importlib.util.find_spec("jax") is None:
        pytest.skip("needs jax; CODEC_JAX_PYTHON may name an interpreter that has it")
    return sys.executable


def run_script(python, *arguments, code=0):
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    command = [python, ROOT / "scripts" / "train_xla.py", *arguments]
    result = subprocess.run(
        [str(part) for part in command],
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert result.returncode == code, result.stderr
    return result


def test_the_schedule_needs_no_tensorflow():
    """What the script imports of this project runs where there is neither TensorFlow nor pydantic."""
    code = (
        "import sys\n"
        "for name in ('tensorflow', 'pydantic', 'PIL', 'click'): sys.modules[name] = None\n"
        "from codec_cli.training import schedule\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


@pytest.mark.slow
def test_the_script_says_what_it_needs(jax_python, bundled, tmp_path):
    folder, _, _ = bundled
    result = run_script(jax_python, folder, "--work", tmp_path, "--out", tmp_path, code=2)
    assert "one of the arguments --photos --batches is required" in result.stderr


@pytest.mark.slow
def test_three_steps_are_those_of_tensorflow(jax_python, bundled, patches, tmp_path):
    folder, config, params = bundled
    rng = np.random.default_rng(0)
    images = np.stack([patches[rng.permutation(12)[:6]] for _ in range(3)])
    noise = rng.uniform(-0.5, 0.5, (3, 6, 4, 4, 24)).astype(np.float32)
    np.savez(tmp_path / "batches.npz", images=images, noise=noise)
    arguments = [
        folder,
        "--batches",
        tmp_path / "batches.npz",
        "--work",
        tmp_path / "work",
        "--out",
        tmp_path / "out",
    ]
    # In two calls: the second resumes.
    run_script(jax_python, *arguments, "--stop-at", "1")
    run_script(jax_python, *arguments)

    state = tf.nest.map_structure(tf.constant, step.init_state(params))
    compiled = tf.function(lambda *args: step.train_step(config, *args), autograph=False)
    expected = []
    for number in range(3):
        scalars = {
            name: tf.constant(value) for name, value in schedule.scalars(config.model_dump(), number).items()
        }
        state, metrics = compiled(state, tf.constant(images[number]), tf.constant(noise[number]), scalars)
        expected.append({name: value.numpy() for name, value in metrics.items()})

    with np.load(tmp_path / "out" / "metrics.npz") as archive:
        for number in (1, 2):
            for name, value in expected[number].items():
                np.testing.assert_allclose(archive[name][number - 1], value, rtol=1e-4, err_msg=name)

    with np.load(tmp_path / "work" / "checkpoint.npz") as archive:
        assert int(archive["step"]) == 3
        for part, values in state.items():
            for name, value in values.items():
                key, value = f"{part}/{name}", value.numpy()
                # Moments, relative to their largest.
                limit = 2e-3 * np.abs(value).max() if part in "mv" else 2e-5
                np.testing.assert_allclose(archive[key], value, rtol=0, atol=limit, err_msg=key)
        averaged = {name: archive[f"ema/{name}"] for name in params}

    # And back: a run that export takes.
    checkpoint.collect(config, [tmp_path / "out"], tmp_path / "run")
    collected, at, _ = checkpoint.load(tmp_path / "run")
    assert at == 3
    for name, value in collected["ema"].items():
        np.testing.assert_array_equal(value, averaged[name])


@pytest.mark.slow
def test_training_on_photographs(jax_python, bundled, tmp_path):
    folder, config, params = bundled
    arguments = [
        folder,
        "--photos",
        photos(),
        "--work",
        tmp_path / "work",
        "--out",
        tmp_path / "out",
        "--steps",
        "40",
    ]
    first = run_script(jax_python, *arguments, "--stop-at", "20", "--log-steps", "10")
    assert "done: step 20" in first.stdout
    second = run_script(jax_python, *arguments, "--log-steps", "10")
    assert "step 20 of 40" in second.stdout
    assert "done: step 40" in second.stdout
    checkpoint.collect(config, [tmp_path / "out"], tmp_path / "run")
    collected, at, _ = checkpoint.load(tmp_path / "run")
    assert at == 40
    assert all(np.isfinite(value).all() for value in collected["ema"].values())
    image = tf.constant(np.repeat(pictures(1, 64), 3, 0))
    before, after = (
        float(model.forward({k: tf.constant(v) for k, v in given.items()}, config, image, None, 1.0)[0])
        for given in (params, collected["ema"])
    )
    assert after < before
