"""The script that watches memory in long runs: it finds what grows slowly, and its runs have enough names."""

import argparse
import sys
from importlib.util import module_from_spec, spec_from_file_location

import pytest
from conftest import ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="scripts/soak.py reads /proc")


@pytest.fixture(scope="module")
def soak():
    """The script as a module."""
    spec = spec_from_file_location("soak", ROOT / "scripts" / "soak.py")
    module = module_from_spec(spec)
    # Where dataclasses look for what annotations name.
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "soak", module)
        spec.loader.exec_module(module)
        yield module


def run_of(soak, totals, jobs=1, rate=10):
    samples = [soak.Sample(float(i), i * rate, total, total) for i, total in enumerate(totals)]
    return soak.Run(jobs, len(totals) * rate, samples, 1.0)


class TestGrowth:
    def test_slow(self, soak, capsys):
        """Half an hour of a little more with every sample."""
        run = run_of(soak, [1000 + i // 4 for i in range(360)])
        assert run.growth == pytest.approx((1085 - 1013) / 1013, abs=0.002)
        assert soak.judge([run]) == 1
        assert "growth +7" in capsys.readouterr().out

    def test_start_does_not_count(self, soak):
        """What is loaded in the first tenth, and peaks between, are no growth."""
        totals = [500] * 36 + [1000] * 324
        totals[100:200:7] = [1500] * len(totals[100:200:7])
        assert run_of(soak, totals).growth == 0
        assert soak.judge([run_of(soak, totals)]) == 0

    def test_throughput(self, soak):
        single = run_of(soak, [1000] * 20)
        assert soak.judge([single, run_of(soak, [1000] * 20, jobs=2, rate=18)]) == 0
        assert soak.judge([single, run_of(soak, [1000] * 20, jobs=2, rate=16)]) == 1


def test_names(soak, tmp_path):
    soak.make_images(tmp_path / "images", 3, 8)
    assert soak.link_images(tmp_path / "images", tmp_path / "many", 7) == 9
    links = sorted((tmp_path / "many").rglob("*.png"))
    images = sorted((tmp_path / "images").rglob("*.png"))
    assert len(links) == 9
    assert {link.stat().st_ino for link in links} == {image.stat().st_ino for image in images}


def test_one_run(soak, environment, tmp_path, capsys, monkeypatch):
    """The command is started once, and interrupted when its time is over; its outputs are removed."""
    monkeypatch.setattr(soak, "FASTEST", 2000)
    soak.make_images(tmp_path / "images", 5, 64)
    options = argparse.Namespace(minutes=1 / 20, every=0.2, model="tiny", files=5)
    run = soak.soak(tmp_path, 1, options)
    assert run.files >= run.samples[-1].files > 0
    assert len(capsys.readouterr().out.splitlines()) == 3 + len(run.samples)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "manifest.jsonl"]
