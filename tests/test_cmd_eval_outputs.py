"""codec eval: the cache, curves, the HTML report and baselines, through the command line."""

import json
import shutil

import numpy as np
import pytest
from conftest import MODELS, error_line
from helpers import copy_model, rewrite

from codec_cli.evaluation import runner

TINY = ("--model", "tiny")
QUALITIES = ("-q", "1,40,100")


@pytest.fixture
def photos(write_photo, tmp_path):
    folder = tmp_path / "photos"
    write_photo(folder / "a.png", 192, 176)
    write_photo(folder / "b.png", 180, 200)
    return folder


@pytest.fixture
def count(monkeypatch):
    """A list that grows by a codec's name whenever something is measured."""
    measured = []
    plain = runner.Evaluator._measure

    def watched(self, subject, *arguments):
        measured.append(subject.name)
        return plain(self, subject, *arguments)

    monkeypatch.setattr(runner.Evaluator, "_measure", watched)
    return measured


class TestCache:
    def test_a_second_run_measures_nothing(self, run, photos, count):
        first = run("eval", photos, *QUALITIES, "--json", "-", *TINY)
        assert len(count) == 6
        second = run("eval", photos, *QUALITIES, "--json", "-", *TINY)
        assert len(count) == 6
        assert first.stdout == second.stdout

    def test_an_added_codec_costs_only_itself(self, run, photos, count):
        run("eval", photos, *QUALITIES, *TINY)
        count.clear()
        run("eval", photos, *QUALITIES, "--against", "jpeg", *TINY)
        assert set(count) == {"jpeg"}

    def test_an_added_quality_costs_only_itself(self, run, photos, count):
        run("eval", photos, *QUALITIES, *TINY)
        count.clear()
        run("eval", photos, "-q", "1,40,70,100", *TINY)
        assert len(count) == 2

    def test_the_same_pixels_under_another_name(self, run, photos, count):
        run("eval", photos, *QUALITIES, *TINY)
        (photos / "a.png").rename(photos / "c.png")
        count.clear()
        report = json.loads(run("eval", photos, *QUALITIES, "--json", "-", *TINY).stdout)
        assert count == []
        assert {point["image"] for point in report["results"]} == {
            str(photos / n) for n in ("b.png", "c.png")
        }

    def test_other_pixels_are_measured(self, run, photos, write_photo, count):
        run("eval", photos, *QUALITIES, *TINY)
        write_photo(photos / "a.png", 176, 176)
        count.clear()
        run("eval", photos, *QUALITIES, *TINY)
        assert len(count) == 3

    def test_another_model_of_the_same_name_is_measured(self, run, photos, tmp_path, count):
        models = tmp_path / "models"
        copy_model(models / "tiny-1")
        run("eval", photos, *QUALITIES, "--models-dir", models, *TINY)
        count.clear()
        description = models / "tiny-1" / "model.json"
        description.write_text(description.read_text() + "\n")
        run("eval", photos, *QUALITIES, "--models-dir", models, *TINY)
        assert len(count) == 6

    def test_no_cache(self, run, photos, tmp_path, count):
        for _ in range(2):
            run("eval", photos, *QUALITIES, "--no-cache", "--cache-dir", tmp_path / "cache", *TINY)
        assert len(count) == 12
        assert not (tmp_path / "cache").exists()

    def test_cache_dir(self, run, photos, tmp_path):
        run("eval", photos, *QUALITIES, "--cache-dir", tmp_path / "cache", *TINY)
        assert len(list((tmp_path / "cache").rglob("*.json"))) == 6


class TestPlot:
    def test_plot(self, run, photos, tmp_path):
        pytest.importorskip("matplotlib", reason="matplotlib (extra `eval`) draws")
        target = tmp_path / "curves.svg"
        result = run(
            "eval", photos, *QUALITIES, "--against", "jpeg", "--published", "bpg,vtm", "--plot", target, *TINY
        )
        assert result.exit_code == 0
        text = target.read_text()
        assert "Mean over 2 images" in text
        assert "VVC (VTM), published" in text
        # Published curves are drawn, and nothing else is made of them.
        assert "VTM" not in result.stdout

    def test_unknown_suffix_before_the_work(self, run, photos, tmp_path, count):
        result = run("eval", photos, *QUALITIES, "--plot", tmp_path / "curves.gif", *TINY)
        assert result.exit_code == 7
        assert ".png, .svg, .pdf" in error_line(result)
        assert count == []

    def test_existing_file_before_the_work(self, run, photos, tmp_path, count):
        (tmp_path / "curves.png").write_text("mine")
        result = run("eval", photos, *QUALITIES, "--plot", tmp_path / "curves.png", *TINY)
        assert result.exit_code == 7
        assert count == []
        assert (tmp_path / "curves.png").read_text() == "mine"

    def test_unknown_published_curve(self, run, photos):
        result = run("eval", photos, *QUALITIES, "--published", "mine", *TINY)
        assert result.exit_code == 2
        assert "known are all, factorized" in result.stderr


class TestReport:
    def test_report(self, run, photos, tmp_path):
        target = tmp_path / "report"
        arguments = ("--against", "jpeg", "--report", target, "--report-qualities", "40,100", *TINY)
        assert run("eval", photos, *QUALITIES, *arguments).exit_code == 0
        page = (target / "index.html").read_text()
        assert "a.png" in page
        # Of each image: the original and two qualities of two codecs, and a small one to choose by.
        assert len(list(target.rglob("*.webp"))) >= 2 * (1 + 2 * 2)

    def test_existing_directory_before_the_work(self, run, photos, tmp_path, count):
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "letter.txt").write_text("dear")
        for force in ((), ("--force",)):
            result = run("eval", photos, *QUALITIES, "--report", tmp_path / "mine", *force, *TINY)
            assert result.exit_code == 7
            assert count == []
        assert [path.name for path in (tmp_path / "mine").iterdir()] == ["letter.txt"]


class TestBaseline:
    @pytest.fixture
    def models(self, tmp_path):
        """A models directory whose ``tiny-1`` a test may spoil."""
        copy_model(tmp_path / "models" / "tiny-1")
        return tmp_path / "models"

    @pytest.fixture
    def check(self, run, photos, models, tmp_path):
        """Runs against a baseline that was written with the unspoilt model."""
        pytest.importorskip("scipy", reason="scipy (extra `eval`) interpolates the curves")
        stored = tmp_path / "baseline.json"
        written = run("eval", photos, *QUALITIES, "--write-baseline", stored, "--models-dir", models, *TINY)
        assert written.exit_code == 0

        def compare(*arguments, folder=photos, qualities=QUALITIES, model=TINY):
            return run(
                *("eval", folder, *qualities, "--baseline", stored, "--models-dir", models, "--quiet"),
                *(*arguments, *model),
            )

        return compare

    def test_unchanged_passes(self, check):
        result = check("--max-bd-rate", "0", "--max-size-increase", "0%", "--max-psnr-drop", "0")
        assert result.exit_code == 0
        assert result.stderr == "baseline: 8 comparisons, none worse than allowed\n"

    def test_a_worsened_model_fails(self, check, models):
        """Tables that no longer fit the latents: decoded pixels are the same, files larger."""
        worsen(models / "tiny-1")
        result = check()
        assert result.exit_code == 11
        assert "size at 40" in result.stderr
        assert "BD-rate (PSNR)" in result.stderr
        assert "codec:tiny-1 has other weights than the baseline's" in result.stderr
        last = result.stderr.splitlines()[-1]
        assert last.startswith("codec: worse than the baseline in ")
        assert "--write-baseline" in last

    def test_a_corrupted_table_fails(self, check, models):
        tables = models / "tiny-1" / "tables.npz"
        data = bytearray(tables.read_bytes())
        data[len(data) // 2] ^= 1
        tables.write_bytes(data)
        result = check()
        assert result.exit_code == 1
        assert "tables.npz" in result.stderr
        assert "baseline neither written nor compared" in result.stderr

    def test_a_synthesis_that_is_worse_fails(self, check, models):
        """The other tiny model under this one's name."""
        shutil.rmtree(models / "tiny-1")
        copy_model(models / "tiny-1", "tiny-factorized-1")
        assert check().exit_code == 11

    def test_limits(self, check, models):
        worsen(models / "tiny-1")
        generous = ("--max-bd-rate", "1000", "--max-size-increase", "1000%", "--max-psnr-drop", "50")
        assert check(*generous).exit_code == 0

    def test_other_images_are_refused(self, check, photos, write_photo, count):
        write_photo(photos / "c.png", 180, 180)
        count.clear()
        result = check()
        assert result.exit_code == 1
        assert "the baseline is of other images: c.png is new" in error_line(result)
        assert count == []

    def test_other_pixels_are_refused(self, check, photos, write_photo):
        name = sorted(photos.iterdir())[0]
        write_photo(name, 190, 190)
        result = check()
        assert result.exit_code == 1
        assert f"the baseline is of other images: {name.name} has other pixels" in error_line(result)

    def test_other_models_are_refused(self, check, models, count):
        copy_model(models / "tiny-factorized-1", "tiny-factorized-1")
        count.clear()
        result = check(model=("--model", "tiny-factorized"))
        assert result.exit_code == 1
        assert "the baseline is of codec:tiny-1, which this run does not measure" in error_line(result)
        assert count == []

    def test_other_qualities_are_refused(self, check, count):
        count.clear()
        result = check(qualities=("-q", "1,50"))
        assert result.exit_code == 1
        assert "codec:tiny-1 at 40, codec:tiny-1 at 100" in error_line(result)
        assert count == []

    def test_a_path_that_does_not_exist_is_named(self, check, photos):
        """Before differences of the images, which it would look like."""
        result = check(folder=photos / "missing")
        assert result.exit_code == 3
        assert f"{photos / 'missing'}: cannot read: No such file or directory" in result.stderr
        assert "other images" not in result.stderr

    def test_images_of_one_name_give_no_baseline(self, run, photos, tmp_path, write_photo, count):
        (photos / "more").mkdir()
        write_photo(photos / "more" / "a.png", 180, 180)
        result = run("eval", photos, "--write-baseline", tmp_path / "new.json", *TINY)
        assert result.exit_code == 1
        assert "have the same name" in error_line(result)
        assert count == []

    def test_all_qualities_include_the_baselines(self, check):
        """Whose levels `all` may measure at other qualities."""
        assert check(qualities=("-q", "all")).exit_code == 0

    def test_without_qualities_the_baselines_are_measured(self, check):
        result = check(qualities=())
        assert result.exit_code == 0
        assert result.stderr == "baseline: 8 comparisons, none worse than allowed\n"

    def test_what_is_no_baseline_is_refused_before_the_work(self, run, photos, tmp_path, count):
        (tmp_path / "x.json").write_text("{}")
        result = run("eval", photos, "--baseline", tmp_path / "x.json", *TINY)
        assert result.exit_code == 1
        assert "not a baseline" in error_line(result)
        assert count == []

    def test_a_failed_comparison_writes_no_baseline(self, check, models, tmp_path):
        shutil.rmtree(models / "tiny-1")
        copy_model(models / "tiny-1", "tiny-factorized-1")
        assert check("--write-baseline", tmp_path / "new.json").exit_code == 11
        assert not (tmp_path / "new.json").exists()

    @pytest.mark.parametrize("value", ["-1", "x", "nan", "inf"])
    def test_limits_are_percentages(self, run, photos, value):
        result = run("eval", photos, "--max-bd-rate", value, *TINY)
        assert result.exit_code == 2


def worsen(folder):
    """Moves the predicted scales and means of every pass to its neighbouring channel."""
    with np.load(folder / "tables.npz") as archive:
        moved = {name: np.roll(archive[name], 1, 1) for name in archive.files if name.endswith("layer2/bias")}
    rewrite(folder, tables=moved)


def test_outputs_of_one_name(run, photos, tmp_path):
    result = run("eval", photos, "--json", tmp_path / "x", "--csv", tmp_path / "x", *TINY)
    assert result.exit_code == 2
    assert MODELS.exists()
