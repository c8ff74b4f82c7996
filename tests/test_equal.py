"""The search for another codec's setting of equal size."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codec_cli.evaluation.equal import SizeSearch
from codec_cli.evaluation.others import others


def search(sizes, start=0):
    return SizeSearch(lambda setting: bytes(sizes[setting - start]), range(start, start + len(sizes)))


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=300), st.integers(0, 6000))
def test_no_setting_of_a_rising_scale_is_nearer(sizes, wanted):
    sizes.sort()
    setting, data = search(sizes, 1).nearest(wanted)
    assert len(data) == sizes[setting - 1]
    assert abs(len(data) - wanted) == min(abs(size - wanted) for size in sizes)


@given(st.integers(0, 6000), st.randoms(use_true_random=False))
def test_a_small_wiggle_costs_no_more_than_its_height(wanted, random):
    sizes = [20 * i + random.randint(0, 60) for i in range(200)]
    _, data = search(sizes).nearest(wanted)
    assert abs(len(data) - wanted) <= min(abs(size - wanted) for size in sizes) + 60


def test_at_equal_distance_the_larger_wins():
    assert search([10, 20]).nearest(15)[0] == 1


@pytest.mark.parametrize(("wanted", "setting"), [(0, 1), (10**6, 2400)])
def test_sizes_beyond_the_scale_give_its_ends(wanted, setting):
    assert search(range(100, 2500), 1).nearest(wanted)[0] == setting


def test_few_files_are_made_and_none_twice():
    made = []

    def encode(setting):
        made.append(setting)
        return bytes(setting * 7)

    sizes = SizeSearch(encode, range(101))
    sizes.nearest(333)
    first = len(made)
    assert first <= math.ceil(math.log2(102))
    sizes.nearest(333)
    assert len(made) == first
    sizes.nearest(500)
    assert len(made) == len(set(made)) == sizes.encodes < 2 * first


def test_no_more_files_than_twice_those_of_halving():
    for shape in (lambda i: i, lambda i: i**3, lambda i: int(1.1**i), lambda i: 1000 if i < 90 else 10**6):
        for wanted in (0, 5, 100, 5000, 500_000, 10**7):
            sizes = search([shape(i) for i in range(100)])
            sizes.nearest(wanted)
            assert sizes.encodes <= 2 * math.ceil(math.log2(101))


def test_a_falling_scale_of_settings():
    sizes = SizeSearch(lambda quantiser: bytes(1000 - 10 * quantiser), range(51, -1, -1))
    assert sizes.nearest(742)[0] == 26


def test_an_empty_scale_is_an_error():
    with pytest.raises(ValueError, match="without settings"):
        SizeSearch(bytes, range(0))


@pytest.mark.parametrize("name", ["jpeg", "webp"])
def test_real_codecs(name, photo):
    (codec,) = others([name])
    pixels = photo(160, 120)
    wanted = 2000
    setting, data = SizeSearch(lambda setting: codec.encode(pixels, setting), codec.scale).nearest(wanted)
    every = [len(codec.encode(pixels, setting)) for setting in codec.scale]
    assert abs(len(data) - wanted) <= min(abs(size - wanted) for size in every) + 0.02 * wanted
    assert np.array_equal(codec.decode(data), codec.decode(codec.encode(pixels, setting)))
