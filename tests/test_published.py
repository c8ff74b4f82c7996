"""Published curves: complete, with their sources, and what they say about each other."""

import json
from pathlib import Path

import pytest

from codec_cli.errors import CodecError
from codec_cli.evaluation import published
from codec_cli.evaluation.bdrate import bd_rate

ANCHORS = Path(__file__).parents[2] / "shared" / "anchors" / "kodak_rd.json"


def test_every_curve_is_whole():
    for entry in published.select(["all"]):
        assert entry.label
        assert "@" in entry.source
        assert len(entry.bpp) == len(entry.psnr_rgb_db) >= 5
        assert len(entry.ms_ssim) in (0, len(entry.bpp))
        assert all(0.5 < value < 1 for value in entry.ms_ssim)
        assert list(entry.bpp) == sorted(entry.bpp)
        assert all(5 < value < 50 for value in entry.psnr_rgb_db)
        assert entry.values("psnr_rgb_db") == entry.psnr_rgb_db
        assert entry.values("ms_ssim") == entry.ms_ssim
        assert entry.values("ms_ssim_db") == ()
        assert entry.values("lpips") == ()


@pytest.mark.parametrize(("name", "percent"), [("webp", 44), ("factorized", 32.5), ("bpg", 0)])
def test_against_bpg(name, percent):
    pytest.importorskip("scipy", reason="scipy (extra `eval`) interpolates the curves")
    anchor, test = published.select(["bpg", name])[0], published.select([name])[0]
    assert bd_rate(anchor.bpp, anchor.psnr_rgb_db, test.bpp, test.psnr_rgb_db) == pytest.approx(
        percent, abs=1
    )


def test_figures_are_those_of_their_sources():
    if not ANCHORS.exists():
        pytest.skip(f"the collected sources are not here ({ANCHORS})")
    given = {entry["source"]: entry for entry in json.loads(ANCHORS.read_text())["series"].values()}
    for entry in published.select(["all"]):
        expected = given[entry.source]
        assert dict(zip(entry.bpp, entry.psnr_rgb_db, strict=True)) == dict(
            zip(expected["bpp"], expected["psnr_rgb_db"], strict=True)
        )


def test_selection():
    assert [entry.name for entry in published.select(["vtm", "bpg", "vtm"])] == ["vtm", "bpg"]
    assert published.select([]) == []
    with pytest.raises(CodecError, match="no published curve nothing: known are all, factorized"):
        published.select(["nothing", "bpg"])


def test_tree_is_laid_out_as_the_file():
    tree = published.tree(published.select(["bpg"]))
    assert list(tree["series"]) == ["bpg"]
    assert {"label", "source", "bpp", "psnr_rgb_db"} <= set(tree["series"]["bpg"])
