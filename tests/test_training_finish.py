"""The last stage: every usable level trained, on the symbols that are really sent."""

import numpy as np
import pytest
from training_helpers import MODELS, pictures, write_pictures

tf = pytest.importorskip("tensorflow", reason="training needs the train extra")

from codec_cli import zoo  # noqa: E402
from codec_cli.codec import Codec  # noqa: E402
from codec_cli.errors import TrainingError  # noqa: E402
from codec_cli.training import checkpoint, levels, networks, prior, sensitivity  # noqa: E402
from codec_cli.training.config import Adversarial, Config, Labels, Loss  # noqa: E402
from codec_cli.training.export import export_run  # noqa: E402
from codec_cli.training.finish import (  # noqa: E402
    LEVELS_PER_CROP,
    drawn_levels,
    finish,
    finished_config,
    transmit,
)
from codec_cli.training.spread import DEAD, DYING, spread  # noqa: E402
from codec_cli.training.step import init_state  # noqa: E402


def tiny(name="tiny"):
    info = zoo.Zoo(MODELS).info(name)
    params = {key: value.astype(np.float32) for key, value in info.arrays(zoo.WEIGHTS).items()}
    return Config.model_validate(info.facts["config"]), params


@pytest.fixture(scope="module")
def wide():
    return spread(*tiny())


def test_living_channels_keep_what_they_had(wide):
    """Between trained levels gains and conditioning are what interpolation gave: the same files come out."""
    config, params = tiny()
    lives = (np.diff(params["gain/forward"], axis=0) < DYING).all(0)
    assert lives.any()
    many, spreaded = wide
    assert many.levels.between == 0
    assert many.levels.usable == config.levels.usable
    assert np.allclose(levels.lambdas(many), levels.lambdas(config))
    for mine, given in zip(levels.gains(many, spreaded), levels.gains(config, params), strict=True):
        assert np.allclose(mine[:, lives], given[:, lives], rtol=1e-5)
    hats = levels.hat_weights(config)
    for name in ("synthesis/stage0/block0/level_scale", "context/pass-1-0/layer0/bias"):
        assert np.allclose(spreaded[name], hats @ params[name], atol=1e-6)
    for name in ("analysis/out/kernel", "context/pass-1-0/layer0/kernel"):
        assert np.array_equal(spreaded[name], params[name])


def test_a_channel_that_dies_comes_in_a_trained_level_before():
    """Not at the last step before it lives, as interpolated logarithms would have it."""
    config, params = tiny()
    living, narrow = (params[f"gain/{side}"].copy() for side in ("forward", "inverse"))
    params["gain/forward"] = living.copy()
    channel = 20
    params["gain/forward"][:2, channel] -= 9
    interpolated = levels.gains(config, params)[0][:, channel]
    _, out = spread(config, params)
    gains, step = out["gain/forward"][:, channel], config.levels.between + 1
    # Born at trained level 2: dead before trained level 1, alive from there.
    assert (gains[:step] == DEAD).all()
    others = [c for c in range(living.shape[1]) if c != channel]
    usual = np.median(living[2, others] - living[1, others])
    assert gains[2 * step] == pytest.approx(living[2, channel], rel=1e-5)
    assert gains[step] == pytest.approx(living[2, channel] - usual, rel=1e-4)
    assert (np.diff(gains[step:]) >= min(0, usual / step) - 1e-5).all()
    assert interpolated[2 * step - 1] < np.exp(gains[2 * step - 1]) / 5
    assert np.isfinite(out["gain/inverse"]).all()
    assert narrow.shape[1] == out["gain/inverse"].shape[1]


def test_biases_of_a_channel_before_its_level():
    config, params = tiny()
    params["gain/forward"] = params["gain/forward"].copy()
    channel = 15  # The fourth of the last group.
    params["gain/forward"][:2, channel] -= 9
    _, out = spread(config, params)
    step, place = config.levels.between + 1, channel - 12
    name = "context/pass-2-1/layer2/bias"
    size = config.entropy.context.groups[2]
    born = params[name][2]
    assert out[name][step, place] == pytest.approx(born[place], rel=1e-5)
    assert out[name][2 * step, size + place] == pytest.approx(born[size + place], rel=1e-5)
    # Symbols are smaller there, so is their scale.
    assert out[name][step, size + place] < out[name][step + 1, size + place] < born[size + place]
    assert out[name][0, size + place] < -7


def test_the_prior_of_every_level_is_that_of_the_nearest(wide):
    """On symbols of another step: the same probabilities of the same latents."""
    config, params = tiny()
    many, spreaded = wide
    size, step = config.entropy.context.groups[0], config.levels.between + 1
    old = prior.build_prior(params, (len(config.levels.lambdas), size), config.entropy).base
    new = prior.build_prior(spreaded, (many.levels.usable, size), many.entropy).base
    forward = levels.gains(config, params)[0][:, :size]
    for level in range(many.levels.usable):
        nearest = min(len(config.levels.lambdas) - 1, round(level / step))
        ratio = forward[nearest * step] / forward[level]
        for value in (-3.5, -0.5, 0.5, 2.5):
            given = np.zeros((len(config.levels.lambdas), size), np.float32)
            given[nearest] = value * ratio
            mine = np.full((many.levels.usable, size), value, np.float32)
            assert np.allclose(new.cdf(mine)[level], old.cdf(given)[nearest], atol=2e-5)


def test_levels_are_drawn_by_seed_and_step(wide):
    config, _ = wide
    draws = [drawn_levels(config, 40, step) for step in (0, 1, 0)]
    assert draws[0].shape == (40 * LEVELS_PER_CROP,)
    assert (draws[0] == draws[2]).all()
    assert (draws[0] != draws[1]).any()
    assert set(draws[0]) | set(draws[1]) == set(range(config.levels.usable))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"adversarial": Adversarial(layers=[{"op": "conv", "filters": 1}])}, "adversarial"),
        ({"labels": Labels()}, "labels"),
    ],
)
def test_what_it_does_not_know_is_not_spoilt(tmp_path, change, named):
    config, params = tiny()
    with pytest.raises(TrainingError, match=f"the section {named} can't be finished"):
        finish(config.model_copy(update=change), params, tmp_path / "run", minutes=1, strength=0.2)
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_not_finite_ends_it(tmp_path):
    config, params = tiny()
    images = write_pictures(tmp_path / "images")
    data = config.data.model_copy(update={"path": str(images), "cache_patches": 8})
    params["synthesis/out/bias"] = np.full_like(params["synthesis/out/bias"], np.nan)
    with pytest.raises(TrainingError, match=r"not finite at step 1; .* lower --learning-rate"):
        finish(
            config.model_copy(update={"data": data}), params, tmp_path / "run",
            minutes=1, strength=0.2, crop=64, batch=1, quiet=True,
        )  # fmt: skip


def test_what_comes_through_is_what_the_encoder_sends(wide, tmp_path):
    """The density's bits are near the file's, the decoded crop is what the file decodes to."""
    config, params = wide
    config = finished_config(config, strength=0.2, learning_rate=1e-5, crop=64)
    patches = pictures(6, 96)
    state = sensitivity.fit(config, init_state(params), patches)
    checkpoint.save(tmp_path, state, 0, 0.0)
    checkpoint.save_run_config(tmp_path, config)
    images = write_pictures(tmp_path / "images")
    info = export_run(
        tmp_path,
        tmp_path / "wide-1",
        overrides=(f"data.path={images}", "data.cache_patches=12"),
        table_patches=12,
        quiet=True,
    )
    assert info.levels == config.levels.usable
    codec = Codec(str(info.path))
    tensors = {name: tf.constant(value) for name, value in state["params"].items()}
    for level in (1, 5):
        original, image, bpp = transmit(
            tensors, config, tf.constant(patches[:1]), tf.constant([level]), tf.float32
        )
        np.testing.assert_allclose(original[0] * 255, patches[0], atol=1e-3)
        data = codec.segments(patches[0], level)
        decoded = codec.decode(codec.encode_picture(_picture(patches[0]), level=level))
        mine, error = (np.mean((x - patches[0]) ** 2) for x in (image[0] * 255, decoded.astype(float)))
        assert mine == pytest.approx(error, rel=0.1)
        assert float(bpp[0]) * 96 * 96 / 8 == pytest.approx(len(data[0]), rel=0.3)


def _picture(pixels):
    from codec_cli.pictures.images import Picture

    return Picture(pixels)


@pytest.mark.parametrize("other", [None, Loss(name="ssim", weight=1000.0)])
def test_finishing_lowers_the_loss_and_leaves_the_analysis(tmp_path, other):
    config, params = tiny()
    images = write_pictures(tmp_path / "images")
    data = config.data.model_copy(update={"path": str(images), "cache_patches": 16})
    mixed = [Loss(weight=0.1), other] if other else config.losses
    rows = finish(
        config.model_copy(update={"data": data, "losses": mixed}),
        params,
        tmp_path / "run",
        minutes=0.2,
        strength=0.25,
        learning_rate=2e-4,
        crop=64,
        batch=2,
        quiet=True,
    )
    half = len(rows) // 2
    lambdas = levels.lambdas(config)

    weights = [lambdas[int(row["level"])] ** -0.5 for row in rows[:half]]
    before, after = (np.dot(weights, [row["loss"] for row in part]) for part in (rows[:half], rows[half:]))
    assert after < before
    for row in () if other else rows:
        worse = lambdas[int(row["level"])] * 255**2 * 10 ** (-row["psnr"] / 10)
        assert row["loss"] == pytest.approx(row["bpp"] + worse, rel=1e-3)
    state, step, _ = checkpoint.load(tmp_path / "run")
    assert step > 3
    for name, value in params.items():
        if name.startswith("analysis/"):
            assert np.array_equal(state["ema"][name], value)
    assert state["ema"].keys() == state["params"].keys()
    trained = checkpoint.load_run_config(tmp_path / "run")
    assert trained.levels.between == 0
    assert networks.halo(trained.transforms) == networks.halo(config.transforms)
