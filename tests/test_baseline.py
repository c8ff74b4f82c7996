"""Baselines: what is worse is found, what is not comparable is refused."""

import json

import pytest

from codec_cli.errors import CodecError
from codec_cli.evaluation import baseline
from codec_cli.evaluation.baseline import Limits, compare, make, table
from codec_cli.evaluation.figures import Point

NAME = "codec:photo-1"
SETTINGS = {10: (1000, 28.0), 50: (4000, 33.0), 90: (12000, 39.0)}


@pytest.fixture(autouse=True, scope="module")
def _scipy():
    pytest.importorskip("scipy", reason="scipy (extra `eval`) interpolates the curves")


def points(images=("a.png", "b.png"), size=1.0, gain=0.0, codec=NAME, settings=SETTINGS, ms_ssim=True):
    """Points whose sizes are multiplied by ``size`` and whose PSNR is raised by ``gain`` dB."""
    return [
        Point(
            image=f"folder/{image}",
            codec=codec,
            setting=setting,
            bytes=round(count * size * (i + 1)),
            bpp=round(count * size * (i + 1)) / 5000,
            psnr_rgb_db=None if psnr is None else psnr + gain,
            psnr_luma_db=None,
            ssim=None,
            ms_ssim=None,
            ms_ssim_db=psnr - 15 + gain if ms_ssim else None,
            lpips=None,
            encode_s=0.1,
            decode_s=0.1,
            width=200,
            height=200,
        )
        for i, image in enumerate(images)
        for setting, (count, psnr) in settings.items()
    ]


def made(found, models=None):
    digests = {point.image: f"digest of {point.image}" for point in found}
    return make(found, digests, models or {NAME: "0a0b0c0d"})


def failures(now, then=None, limits=None):
    checks = compare(made(then or points()), made(now), limits or Limits())
    return [check.what for check in checks if not check.passed]


def test_nothing_changed():
    checks = compare(made(points()), made(points()), Limits(0, 0, 0))
    assert [check.what for check in checks] == [
        *(f"{what} at {setting}" for setting in SETTINGS for what in ("size", "PSNR")),
        "BD-rate (PSNR)",
        "BD-rate (MS-SSIM)",
    ]
    assert all(check.passed for check in checks)
    assert table(checks) == "baseline: 8 comparisons, none worse than allowed"


def test_better_passes():
    assert failures(points(size=0.9, gain=0.5)) == []


def test_larger_files():
    assert failures(points(size=1.01)) == [
        *(f"size at {setting}" for setting in SETTINGS),
        "BD-rate (PSNR)",
        "BD-rate (MS-SSIM)",
    ]
    assert failures(points(size=1.0015)) == []
    assert failures(points(size=1.0015), limits=Limits(size_increase=0.1)) == [
        f"size at {setting}" for setting in SETTINGS
    ]


def test_lower_quality():
    worse = failures(points(gain=-0.03), limits=Limits(bd_rate=5))
    assert worse == [f"PSNR at {setting}" for setting in SETTINGS]
    assert failures(points(gain=-0.019)) == []


def test_smaller_files_do_not_excuse_lower_quality():
    assert "BD-rate (PSNR)" in failures(points(size=0.99, gain=-0.5))


def test_one_bad_setting_is_named_with_its_worst_image():
    settings = {**SETTINGS, 50: (4100, 33.0)}
    checks = compare(made(points()), made(points(settings=settings)), Limits(bd_rate=5))
    (failed,) = (check for check in checks if not check.passed)
    assert (failed.what, failed.before, failed.after) == ("size at 50", "12000 B", "12300 B")
    assert failed.change == "+2.500 %"
    assert failed.worst.startswith(("a.png +2.500 %", "b.png +2.500 %"))
    lines = table(checks).splitlines()
    assert lines[0] == "baseline: 1 of 8 comparisons are worse than allowed:"
    assert lines[1].split() == ["codec", "what", "baseline", "now", "change", "allowed", "worst", "image"]
    assert lines[2].startswith(NAME)


def test_curves_that_share_nothing_any_more_are_worse():
    assert "BD-rate (PSNR)" in failures(points(gain=-20), limits=Limits(100, 100, 100))


def test_lossless_once_lossless_always():
    exact = {**SETTINGS, 90: (12000, None)}
    found = points(settings=exact, ms_ssim=False)
    assert failures(found, found) == []
    assert failures(points(ms_ssim=False), found) == ["PSNR at 90"]
    assert failures(found, points(ms_ssim=False)) == []


def test_without_ms_ssim():
    found = points(ms_ssim=False)
    assert failures(found, found) == []


def test_one_setting_has_no_bd_rate():
    one = {50: (4000, 33.0)}
    checks = compare(made(points(settings=one)), made(points(settings=one)), Limits())
    assert [check.what for check in checks] == ["size at 50", "PSNR at 50"]


def test_more_settings_than_the_baseline_are_welcome():
    few = {10: SETTINGS[10], 90: SETTINGS[90]}
    assert failures(points(), points(settings=few)) == []


@pytest.mark.parametrize(
    ("now", "message"),
    [
        (points(images=("a.png",)), "other images: b.png is missing"),
        (points(images=("a.png", "b.png", "c.png")), "other images: c.png is new"),
        (points(codec="codec:mine"), "is of codec:photo-1, which this run does not measure"),
        (points(settings={10: (1000, 28.0)}), "codec:photo-1 at 50, codec:photo-1 at 90"),
    ],
)
def test_refusals(now, message):
    models = {now[0].codec: "0a0b0c0d"}
    with pytest.raises(CodecError, match=message):
        compare(made(points()), made(now, models), Limits())


def test_refuses_other_pixels():
    now = made(points())
    now["images"]["b.png"] = "another"
    with pytest.raises(CodecError, match=r"b\.png has other pixels"):
        compare(made(points()), now, Limits())


def test_many_other_images_are_counted():
    with pytest.raises(CodecError, match="; and 4 more"):
        compare(made(points()), made(points(images=[f"{i}.png" for i in range(7)])), Limits())


def test_two_images_of_one_name():
    with pytest.raises(CodecError, match="have the same name"):
        make(points(), {"a/x.png": "1", "b/x.png": "2"}, {NAME: ""})


def test_round_trip(tmp_path):
    path = tmp_path / "baseline.json"
    path.write_text(json.dumps(made(points())))
    assert baseline.load(path) == made(points())


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "nothing",
            "[]",
            "{}",
            '{"schema": 2}',
            '{"schema": 1, "models": {}, "images": {}, "results": []}',
        ),
        '{"schema": 1, "models": {"m": ""}, "images": {"i": ""}, "results": [{"image": "j", "codec": "m"}]}',
        '{"schema": 1, "models": {"m": ""}, "images": {"i": ""}, "results": '
        '[{"image": "i", "codec": "m", "setting": 1, "bytes": "x"}]}',
        '{"schema": 1, "models": {"m": ""}, "images": {"i": ""}, "results": '
        '[{"image": "i", "codec": "m", "setting": 1, "bytes": 5, "psnr_rgb_db": "x"}]}',
        '{"schema": 1, "models": {"m": ""}, "images": {"i": ""}, "results": '
        '[{"image": "i", "codec": "m", "setting": 1, "bytes": 0, "psnr_rgb_db": 1}]}',
    ],
)
def test_what_is_no_baseline(tmp_path, text):
    path = tmp_path / "baseline.json"
    path.write_text(text)
    with pytest.raises(CodecError, match="not a baseline"):
        baseline.load(path)


def test_missing_file(tmp_path):
    with pytest.raises(CodecError, match="--write-baseline makes one"):
        baseline.load(tmp_path / "none.json")


class TestBeforeTheWork:
    """:func:`require_same` and :func:`require_distinct` refuse what would be refused after it."""

    STORED = make(
        points() + points(codec="codec:other", settings={20: (2000, 30.0)}),
        {"folder/a.png": "x", "folder/b.png": "y"},
        {NAME: "0a", "codec:other": "0b"},
    )
    MEASURED = {NAME: [10, 50, 90], "codec:other": [20], "codec:more": [1]}  # noqa: RUF012

    def test_settings_of(self):
        assert baseline.settings_of(self.STORED, NAME) == [10, 50, 90]
        assert baseline.settings_of(self.STORED, "codec:other") == [20]
        assert baseline.settings_of(self.STORED, "codec:more") == []

    def test_the_same_passes(self):
        baseline.require_same(self.STORED, ["elsewhere/b.png", "elsewhere/a.png"], self.MEASURED)

    @pytest.mark.parametrize(
        ("paths", "measured", "reason"),
        [
            (["a.png"], {}, "other images: b.png is missing"),
            (["a.png", "b.png", "c.png"], {}, "other images: c.png is new"),
            (["a.png", "x/a.png"], {}, "have the same name"),
            (["a.png", "b.png"], {NAME: [10, 90]}, "at 50; see --qualities"),
            (None, {"codec:other": [21]}, "codec:other at 20; see --qualities"),
        ],
    )
    def test_what_differs_is_named(self, paths, measured, reason):
        with pytest.raises(CodecError, match=reason):
            baseline.require_same(self.STORED, paths, self.MEASURED | measured)

    def test_a_model_that_is_not_measured(self):
        with pytest.raises(
            CodecError, match="the baseline is of codec:other, which this run does not measure"
        ):
            baseline.require_same(self.STORED, None, {NAME: [10, 50, 90]})

    def test_images_of_one_name(self):
        baseline.require_distinct(["a.png", "b.png"])
        with pytest.raises(CodecError, match="have the same name"):
            baseline.require_distinct(["x/a.png", "y/a.png"])
