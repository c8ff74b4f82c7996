"""codec eval and what it computes with: points, means, BD-rates, tables."""

import csv
import io
import itertools
import json
import math
import os

import numpy as np
import pytest
from conftest import MODELS, error_line, needs_pipes
from PIL import Image

from codec_cli.codec import Codec
from codec_cli.evaluation import figures, metrics, runner
from codec_cli.evaluation.others import KNOWN, others
from codec_cli.evaluation.tables import csv_text, text_table
from codec_cli.pictures.images import Picture
from codec_cli.zoo import Zoo

TINY = ("--model", "tiny")
RESULT_KEYS = [
    *("image", "codec", "setting", "bytes", "bpp"),
    *("psnr_rgb_db", "psnr_luma_db", "ssim", "ms_ssim", "ms_ssim_db", "lpips"),
    *("encode_s", "decode_s", "width", "height"),
]


@pytest.fixture
def photos(write_photo, tmp_path):
    folder = tmp_path / "photos"
    write_photo(folder / "large.png", 208, 192)
    write_photo(folder / "sub" / "small.png", 64, 48)
    return folder


def evaluated(run, *arguments, code=0):
    result = run("eval", *arguments, "--json", "-", *TINY)
    assert result.exit_code == code
    return json.loads(result.stdout)


def test_points_are_measured_on_the_encoded_bytes(run, photos, models_dir, photo):
    report = evaluated(run, photos, "-q", "10,90")
    assert report["schema"] == 1
    assert report["bd_rate"] == report["skipped"] == []
    assert [(p["image"], p["setting"]) for p in report["results"]] == [
        (str(photos / name), quality) for name in ("large.png", "sub/small.png") for quality in (10, 90)
    ]
    point = report["results"][1]
    assert list(point) == RESULT_KEYS
    codec, pixels = Codec("tiny", models_dir=models_dir), photo(208, 192)
    data = codec.encode_picture(Picture(pixels), 90)
    result = codec.decode(data)
    expected = {
        "codec": "codec:tiny-1",
        "bytes": len(data),
        "bpp": round(len(data) * 8 / pixels[..., 0].size, 6),
        "psnr_rgb_db": round(metrics.psnr(pixels, result), 6),
        "psnr_luma_db": round(metrics.psnr_luma(pixels, result), 6),
        "ssim": round(metrics.ssim(pixels, result), 6),
        "ms_ssim": round(metrics.ms_ssim(pixels, result), 6),
        "ms_ssim_db": round(metrics.to_db(metrics.ms_ssim(pixels, result)), 6),
        "lpips": None,
        "width": 208,
        "height": 192,
    }
    assert {name: point[name] for name in expected} == expected
    assert point["encode_s"] > 0
    assert point["decode_s"] > 0


def test_ms_ssim_is_null_for_small_images(run, photos):
    report = evaluated(run, photos, "-q", "50")
    assert [point["ms_ssim"] is None for point in report["results"]] == [False, True]
    (mean,) = report["means"]
    assert (mean["ms_ssim"], mean["ms_ssim_db"]) == (None, None)
    assert mean["images"] == 2
    assert mean["bpp"] == pytest.approx(np.mean([point["bpp"] for point in report["results"]]), abs=1e-5)
    assert mean["psnr_rgb_db"] == pytest.approx(
        np.mean([point["psnr_rgb_db"] for point in report["results"]]), abs=1e-5
    )


def test_qualities(run, photos, models_dir):
    info = Zoo(models_dir).info("tiny")
    everything = evaluated(run, photos / "sub", "-q", "all")["means"]
    assert [info.level_of_quality(mean["setting"]) for mean in everything] == list(range(info.levels))
    default = [mean["setting"] for mean in evaluated(run, photos / "sub")["means"]]
    assert default == runner.usable_qualities(info, 8)


def test_usable_qualities_spread_over_the_levels():
    class Model:
        default_quality = 40

        def level_of_quality(self, quality):
            return round((quality - 1) / 99 * 47)

    model = Model()
    qualities = runner.usable_qualities(model, 8)
    assert [model.level_of_quality(quality) for quality in qualities] == [0, 7, 13, 20, 27, 34, 40, 47]
    assert len(runner.usable_qualities(model)) == 48
    assert runner.usable_qualities(model, 1) == [40]


@pytest.mark.usefixtures("needs_scipy")
def test_against_other_codecs(run, write_photo, tmp_path):
    write_photo(tmp_path / "photos" / "a.png", 176, 176)
    result = run(
        "eval", tmp_path / "photos", "-q", "1,30,60,100", "--against", "jpeg, webp", "--json", "-", *TINY
    )
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    names = {point["codec"] for point in report["results"]}
    assert names == {"codec:tiny-1", "jpeg", "webp"}
    for name in ("jpeg", "webp"):
        (other,) = others([name])
        assert [mean["setting"] for mean in report["means"] if mean["codec"] == name] == other.settings()
    assert [(rate["test"], rate["anchor"], rate["metric"]) for rate in report["bd_rate"]] == [
        (test, anchor, metric)
        for test, anchor in itertools.permutations(("codec:tiny-1", "jpeg", "webp"), 2)
        for metric in ("psnr_rgb_db", "ms_ssim_db")
    ]
    between = {
        (rate["test"], rate["anchor"]): rate for rate in report["bd_rate"] if rate["metric"] == "psnr_rgb_db"
    }
    webp = between["webp", "jpeg"]
    assert webp["percent"] < 0 < webp["delta_db"]
    assert webp["delta_db"] == pytest.approx(-between["jpeg", "webp"]["delta_db"])
    assert "BD-rate (PSNR) of codec:tiny-1 against jpeg: " in result.stderr
    assert "of webp against" not in result.stderr
    about = report["about"]
    assert list(about["codecs"]) == ["jpeg", "webp"]
    assert about["models"] == {"codec:tiny-1": Zoo(MODELS).info("tiny-1").fingerprint.hex()}


@pytest.mark.usefixtures("needs_scipy")
def test_several_models_are_compared_with_the_first(run, photos):
    report = evaluated(run, photos / "large.png", "--model", "tiny-factorized", "-q", "1,30,60,100")
    assert all(rate["percent"] is not None for rate in report["bd_rate"])
    table = run("eval", photos / "large.png", "--model", "tiny-factorized", "-q", "1,30,60,100", *TINY).stdout
    assert "of codec:tiny-1 against codec:tiny-factorized-1: " in table
    assert "against codec:tiny-1: " not in table


def test_unavailable_codecs_are_skipped(run, photos, monkeypatch):
    monkeypatch.setattr(
        type(others(["webp"])[0]), "available", lambda codec: "not built" if codec.name == "webp" else None
    )
    result = run("eval", photos / "sub", "-q", "50", "--against", "webp,jpeg", *TINY)
    assert result.exit_code == 0
    assert "codec: webp skipped: not built" in result.stderr
    assert "jpeg" in result.stdout


def test_help_names_all_other_codecs(run):
    text = " ".join(run("eval", "--help").stdout.split())
    assert ", ".join(KNOWN) in text


def test_gray_and_alpha(run, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.fromarray(np.arange(1024, dtype=np.uint16).reshape(32, 32).astype(np.uint8)).save(
        folder / "gray.png"
    )
    Image.new("RGBA", (32, 32), (1, 2, 3, 4)).save(folder / "alpha.png")
    result = run("eval", folder, "-q", "50", "--against", "jpeg", *TINY)
    assert result.exit_code == 0
    assert "alpha.png: warning: alpha is not measured" in result.stderr


def test_table(run, photos):
    result = run("eval", photos, "-q", "1,100", *TINY)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].split()[:4] == ["codec", "setting", "image", "bpp"]
    assert len(lines) == 3
    assert all("mean of 2" in line for line in lines[1:])
    verbose = run("eval", photos, "-q", "1,100", "--verbose", *TINY).stdout
    assert len(verbose.splitlines()) == 7
    assert "small.png" in verbose
    quiet = run("eval", photos, "-q", "1,100", "--quiet", *TINY)
    assert quiet.output == ""


def test_files(run, photos, tmp_path):
    arguments = (
        "eval",
        photos,
        "-q",
        "1,100",
        "--json",
        tmp_path / "r.json",
        "--csv",
        tmp_path / "r.csv",
        *TINY,
    )
    assert run(*arguments).exit_code == 0
    report = json.loads((tmp_path / "r.json").read_text())
    rows = list(csv.DictReader(io.StringIO((tmp_path / "r.csv").read_text())))
    assert list(rows[0]) == RESULT_KEYS
    assert [row["image"] for row in rows[-2:]] == ["mean", "mean"]
    assert [float(row["bpp"]) for row in rows] == [p["bpp"] for p in (*report["results"], *report["means"])]
    assert rows[2]["ms_ssim"] == ""
    again = run(*arguments)
    assert again.exit_code == 7
    assert "r.json: exists; use --force" in error_line(again)
    assert run(*arguments, "--force").exit_code == 0
    assert run("eval", photos, "-q", "1", "--csv", "-", *TINY).stdout.startswith("image,codec,")


def test_jobs_give_the_same_figures(run, photos):
    def figures(report):
        return [{k: v for k, v in point.items() if not k.endswith("_s")} for point in report["results"]]

    one = evaluated(run, photos, "-q", "50")
    two = evaluated(run, photos, "-q", "50", "--jobs", "2")
    assert figures(one) == figures(two)


def test_unreadable_images_are_listed_and_skipped(run, photos, tmp_path):
    (photos / "bad.png").write_bytes(b"bad")
    result = run("eval", photos, tmp_path / "none.png", "-q", "50", "--json", "-", *TINY)
    assert result.exit_code == 1
    assert (
        f"codec: {photos / 'bad.png'}: not an image that can be read (unknown format); skipped"
        in result.stderr
    )
    report = json.loads(result.stdout)
    assert [skipped["image"] for skipped in report["skipped"]] == [
        str(photos / "bad.png"),
        str(tmp_path / "none.png"),
    ]
    assert report["means"][0]["images"] == 2
    alone = run("eval", photos / "bad.png", *TINY)
    assert alone.exit_code == 3
    assert alone.stdout == ""


def test_errors(run, photos, tmp_path):
    (tmp_path / "empty").mkdir()
    result = run("eval", tmp_path / "empty", *TINY)
    assert result.exit_code == 3
    assert "no images in this directory" in error_line(result)
    assert run("eval", photos, "--model", "nothing").exit_code == 6
    assert run("eval", photos, "--max-pixels", "5000", "-q", "1", *TINY).exit_code == 1


@needs_pipes
def test_pipe_in_a_directory(run, photos):
    """It is not waited for: nothing is measured until it is out of the way."""
    pipe = photos / "sub" / "pipe.png"
    os.mkfifo(pipe)
    result = run("eval", photos, *TINY)
    assert result.exit_code == 3
    assert error_line(result).startswith(f"codec: {pipe}: cannot read: not a regular file; ")
    assert run("eval", photos, "--exclude", "pipe.png", "-q", "1", *TINY).exit_code == 0


@pytest.mark.parametrize(
    "arguments",
    [["-q", "0"], ["-q", "10,x"], ["-q", ""], ["--against", "gif"], ["--json", "-", "--csv", "-"]],
    ids=" ".join,
)
def test_wrong_usage(run, photos, arguments):
    assert run("eval", photos, *TINY, *arguments).exit_code == 2


def test_include_and_exclude(run, photos):
    report = evaluated(run, photos, "-q", "1", "--exclude", "sub")
    assert [point["image"] for point in report["results"]] == [str(photos / "large.png")]


# The library below the command


def point(codec="a", setting=1, image="i", bpp=1.0, psnr=30.0, ms_ssim=0.9, lpips=None):
    return figures.Point(
        image=image,
        codec=codec,
        setting=setting,
        bytes=100,
        bpp=bpp,
        psnr_rgb_db=psnr,
        psnr_luma_db=psnr,
        ssim=0.9,
        ms_ssim=ms_ssim,
        ms_ssim_db=None if ms_ssim is None else metrics.to_db(ms_ssim),
        lpips=lpips,
        encode_s=0.1,
        decode_s=0.1,
        width=10,
        height=10,
    )


def test_means():
    points = [point(bpp=1, psnr=30), point(image="j", bpp=2, psnr=33), point(setting=2, psnr=None)]
    first, second = figures.means(points)
    assert (first.images, first.bpp, first.psnr_rgb_db) == (2, 1.5, 31.5)
    assert (second.setting, second.psnr_rgb_db) == (2, None)
    assert figures.means([]) == []


@pytest.mark.usefixtures("needs_scipy")
def test_bd_rates():
    curve = [(0.25, 28), (0.5, 31), (1, 34), (2, 37)]
    points = [point("a", i, bpp=bpp, psnr=psnr) for i, (bpp, psnr) in enumerate(curve)]
    points += [point("b", i, bpp=bpp / 2, psnr=psnr) for i, (bpp, psnr) in enumerate(curve)]
    points += [point("c", i, bpp=bpp, psnr=psnr + 50) for i, (bpp, psnr) in enumerate(curve)]
    rates = figures.bd_rates(figures.means(points), ["a", "b"], ["a", "c"])
    found = {(rate.test, rate.anchor): rate for rate in rates if rate.metric == "psnr_rgb_db"}
    assert set(found) == {("a", "c"), ("b", "a"), ("b", "c")}
    assert math.isclose(found["b", "a"].percent, -50)
    assert found["a", "c"].percent is None
    assert "share no range" in found["a", "c"].reason
    assert ": none (" in text_table([], figures.means(points), rates)


def test_tables_say_why_a_figure_is_missing():
    small, exact = point(ms_ssim=None), point(psnr=None)
    heading, *rows = text_table([small, exact], [], []).splitlines()
    assert "MS-SSIM" in heading
    assert [row.count("not defined") for row in rows] == [2, 0]
    assert [row.count("infinite") for row in rows] == [0, 2]


def test_columns_without_values_are_left_out():
    with_lpips, without = point(lpips=0.1234), point(image="j")
    assert "LPIPS" not in text_table([without], figures.means([without]), [])
    heading, *rows = text_table([with_lpips, without], [], []).splitlines()
    assert "LPIPS" in heading
    assert ["0.1234" in row for row in rows] == [True, False]
    assert len(heading) < 150


def test_csv_has_no_infinities():
    assert ",," in csv_text([point(psnr=None)], [])


def test_an_image_that_one_codec_can_not_do_gives_no_points(models_dir, write_photo, tmp_path):
    model = Zoo(models_dir).info("tiny")
    wide = write_photo(tmp_path / "wide.png", 16384, 1)  # WebP ends at 16383.
    evaluator = runner.Evaluator(
        (runner.Subject.ours(model, [50]), *runner.Subject.others(["webp"])), models_dir
    )
    result = evaluator(wide)
    assert result.points == ()
    assert "webp can't encode" in str(result.error)
