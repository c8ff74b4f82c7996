import json

import numpy as np
import pytest
from helpers import MODELS, write_weighted

from codec_cli.bitstream.entropy import Tables
from codec_cli.bitstream.quantize import choose
from codec_cli.codec import Codec
from codec_cli.pictures.images import Picture

# One table over -2..2 and an escape, peaked at 0.
TABLES = Tables(
    np.array([-2], np.int32), np.array([6], np.int32), np.array([64, 2000, 61344, 2000, 64, 64], np.uint16)
)


# The same one step up, as where a mean lies just below the next integer: its floor is not the likely symbol.
ABOVE = Tables(TABLES.offsets + 1, TABLES.lengths, TABLES.counts)


def chosen(values, weight, centre=0, tables=TABLES):
    wanted = np.array(values, np.float32)[:, None]
    index = np.zeros(len(values), np.int32)
    return choose(wanted, tables, index, np.full(len(values), centre, np.int32), np.float32([weight]))[
        :, 0
    ].tolist()


def test_no_weight_is_plain_rounding():
    assert chosen([-1.6, -0.4, 0.6, 1.2, 40.0], 0.0) == [-2, 0, 1, 1, 40]


def test_cheap_error_moves_towards_the_likely_symbol():
    # 0 costs some 5 bits less than 1: worth an extra squared error of 0.36 - 0.16 at 10 bits each.
    assert chosen([0.6, -0.6], 10.0) == [0, 0]
    # Not worth 1 - 0.
    assert chosen([1.0, -1.0], 10.0) == [1, -1]


def test_dear_error_keeps_the_nearest():
    assert chosen([0.6, -1.6], 1000.0) == [1, -2]


def test_moves_one_step_at_the_place_of_the_centre():
    assert chosen([4.45, 5.6], 1.0, centre=5) == [5, 5]


def test_moves_towards_the_likely_symbol_not_the_floor_of_the_mean():
    # The floor itself moves up, what is likely stays, and what is above comes down.
    assert chosen([0.4, 0.6, 1.6], 10.0, tables=ABOVE) == [1, 1, 1]
    assert chosen([-0.6, 0.4, 0.6], 10.0, centre=-1, tables=ABOVE) == [0, 0, 0]


def test_the_choice_never_costs_more_than_rounding():
    rng = np.random.default_rng(3)
    values = rng.normal(0, 2, 500).astype(np.float32)
    weight = 6.0
    picked = np.array(chosen(values, weight))

    def cost(symbols):
        entry = np.where(np.abs(symbols) <= 2, symbols + 2, 5)
        return TABLES.bits[entry] + weight * (values - symbols) ** 2

    plain = np.rint(values).astype(int)
    assert (cost(picked) <= cost(plain) + 1e-4).all()
    assert (picked != plain).any()


@pytest.fixture
def weighted(tmp_path):
    return write_weighted(tmp_path / "weighted-1")


@pytest.fixture(scope="module")
def pixels():
    rows, columns = np.indices((160, 144))
    waves = np.stack([128 + 70 * np.sin(rows / (5 + c)) * np.cos(columns / 7) for c in range(3)], 2)
    return np.clip(waves + np.random.default_rng(1).normal(0, 12, waves.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("config", "optimised"),
    [
        ({"losses": [{"name": "mse", "weight": 1.0}]}, True),
        ({"losses": [{"name": "mse", "weight": 0.1}, {"name": "lpips", "weight": 50.0}]}, False),
        ({"losses": "?"}, True),
        ({}, True),
        (None, True),
    ],
)
def test_the_worth_of_squared_errors_is_for_models_trained_for_them(weighted, pixels, config, optimised):
    facts = json.loads((weighted / "model.json").read_text())
    (weighted / "model.json").write_text(json.dumps({**facts, "config": config}))
    codec = Codec(str(weighted))
    plain, default = (codec.encode_picture(Picture(pixels), level=5, effort=effort) for effort in (1, 5))
    assert (plain != default) == optimised


def test_effort_makes_smaller_files_that_any_decoder_reads(weighted, pixels):
    codec = Codec(str(weighted))
    plain, optimised = (codec.encode_picture(Picture(pixels), level=5, effort=effort) for effort in (1, 5))
    assert len(optimised) < len(plain)
    # The fingerprint does not cover what only the encoder uses.
    stock = Codec("tiny", models_dir=MODELS)
    assert stock.decode(optimised).shape == pixels.shape
    assert any((a != b).any() for a, b in zip(stock.symbols(plain), stock.symbols(optimised), strict=True))
