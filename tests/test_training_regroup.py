"""Finer channel groups: nothing that was known is lost, what had no context gets one."""

import numpy as np
import pytest
from training_helpers import MODELS, pictures

tf = pytest.importorskip("tensorflow", reason="training needs the train extra")

from test_training_finish import tiny  # noqa: E402

from codec_cli.errors import TrainingError  # noqa: E402
from codec_cli.training import context, levels, prior  # noqa: E402
from codec_cli.training.loop import initial_params  # noqa: E402
from codec_cli.training.regroup import regroup, with_groups  # noqa: E402

PATCHES = pictures(6, 96)


def split(groups):
    config, params = tiny()
    return config, params, *regroup(config, params, groups, PATCHES)


def output(params, place, known, own, half, level_weights):
    """Mean and scale of a pass for symbols known before and those of its own group."""
    first = context.checkerboard(*own.shape[1:3])
    seen = [context.features(known)] if known.shape[-1] else []
    seen += [context.features(own * first)] if half else []
    tensors = {name: tf.constant(value) for name, value in params.items()}
    found = context.network(tensors, f"context/pass-{place[0]}-{half}", tf.concat(seen, -1), level_weights)
    mask = (first if half == 0 else 1 - first)[0, :, :, 0] > 0
    return [value.numpy()[0][mask] for value in found]


def test_later_parts_start_as_good_as_they_were():
    """The last part of a split group sees all that the group saw, and says the same."""
    config, params, finer, new = split([2, 2, 8, 4, 8])
    assert config.entropy.context.groups == [4, 8, 12]
    assert finer.entropy.context.groups == [2, 2, 8, 4, 8]
    rng = np.random.default_rng(0)
    symbols = tf.constant(rng.integers(-3, 4, (1, 8, 8, 24)).astype(np.float32))
    share = tf.one_hot([2], len(config.levels.lambdas))
    for old, now, half, begin, last, end in (
        (0, 1, 1, 0, 2, 4),
        (1, 2, 0, 4, 4, 12),
        (1, 2, 1, 4, 4, 12),
        (2, 4, 1, 12, 16, 24),
    ):
        before = output(params, (old,), symbols[..., :begin], symbols[..., begin:end], half, share)
        after = output(new, (now,), symbols[..., :last], symbols[..., last:end], half, share)
        for mine, given in zip(after, before, strict=True):
            np.testing.assert_allclose(mine, given[:, last - begin :], atol=1e-5)


def test_what_had_no_context_gets_one_and_the_rest_of_the_prior_stays():
    config, params, finer, new = split([1, 3, 8, 12])
    assert "context/pass-0-0/layer0/kernel" not in new
    assert new["context/pass-1-0/layer0/kernel"].shape[2] == 2
    assert new["context/pass-0-1/layer0/kernel"].shape[2] == 2
    # Its scale starts where the symbols are.
    assert (new["context/pass-1-0/layer2/bias"][-1, 3:] > new["context/pass-1-0/layer2/bias"][0, 3:]).all()
    count = len(config.levels.lambdas)
    old, mine = (
        prior.build_prior(values, (count, size), config.entropy).base
        for values, size in ((params, 4), (new, 1))
    )
    points = np.linspace(-4, 4, 9, dtype=np.float32)[:, None, None]
    np.testing.assert_allclose(
        mine.cdf(np.tile(points, (1, count, 1))),
        np.asarray(old.cdf(np.tile(points, (1, count, 4))))[..., :1],
        atol=1e-6,
    )
    assert levels.lambdas(finer).tolist() == levels.lambdas(config).tolist()
    for name, value in params.items():
        if not name.startswith(("context/", "prior/")):
            assert new[name] is value


def test_training_from_a_model_of_coarser_groups_keeps_its_networks():
    config, params, finer, new = split([1, 3, 8, 12])
    found = initial_params(finer, PATCHES, str(MODELS / "tiny-1"))
    assert found.keys() == new.keys()
    for name, value in new.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-6, err_msg=name)
    # Coarser ones it can't have: networks anew, transforms kept.
    fresh = initial_params(with_groups(config, [12, 12]), PATCHES, str(MODELS / "tiny-1"))
    assert fresh["context/pass-1-0/layer0/kernel"].shape[2] == 24
    np.testing.assert_array_equal(fresh["analysis/out/kernel"], params["analysis/out/kernel"])


@pytest.mark.parametrize("groups", [[2, 10, 12], [4, 8], [4, 8, 12, 1]])
def test_groups_must_split_the_old_ones(groups):
    with pytest.raises(TrainingError, match="do not split those of 4, 8, 12"):
        split(groups)
