"""The report's folder and page, without a browser: escaping, whole files, and what may be replaced."""

import hashlib
import html.parser
import io
import math
import pickle
import re
import subprocess
import sys
from base64 import b64encode
from dataclasses import replace

import numpy as np
import page_helpers as helpers
import pytest
from PIL import Image

from codec_cli.commands import _eval
from codec_cli.errors import CodecError, OutputError
from codec_cli.evaluation import page, runner
from codec_cli.evaluation.others import others
from codec_cli.evaluation.page.folder import MARKER
from codec_cli.evaluation.page.pictures import pack
from codec_cli.evaluation.page.summary import short_names
from codec_cli.evaluation.quality import Measure
from codec_cli.zoo import Zoo


class Tags(html.parser.HTMLParser):
    """What a browser would see: all start tags, and the text outside of scripts and styles."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.inside = [], "", None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside = tag

    def handle_data(self, data):
        if self.inside not in ("script", "style"):
            self.text += data


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return helpers.make(tmp_path_factory.mktemp("page") / "report")


@pytest.fixture(scope="module")
def text(report):
    return (report / "index.html").read_text("utf-8")


def test_the_folder_is_whole_and_its_names_are_ours(report, text):
    data = helpers.embedded(text)
    named = {
        name
        for image in data["comparisons"]
        for name in (image["original"], image["thumbnail"], *(s["file"] for r in image["rates"] for s in r))
    }
    assert {entry.name for entry in report.iterdir()} == {"index.html", "pictures"}
    assert {f"pictures/{entry.name}" for entry in (report / "pictures").iterdir()} == named
    assert all(re.fullmatch(r"pictures/\d{3}-[a-z0-9-]+\.webp", name) for name in named)
    assert list(report.parent.iterdir()) == [report]


def test_pictures_are_the_decoded_pixels(report, text):
    data = helpers.embedded(text)
    for facts, comparison in zip(data["comparisons"], helpers.comparisons(), strict=True):
        with Image.open(report / facts["original"]) as image:
            assert np.array_equal(np.array(image), np.broadcast_to(comparison.original, (64, 96, 3)))
        for shown, rate in zip(facts["rates"], comparison.rates, strict=True):
            for one, expected in zip(shown, rate, strict=True):
                with Image.open(report / one["file"]) as image:
                    assert np.array_equal(np.array(image), expected.pixels)
                assert (one["codec"], one["setting"], one["bytes"]) == (
                    expected.codec,
                    expected.setting,
                    expected.bytes,
                )


def test_names_are_text_and_never_markup(text):
    seen = Tags(text)
    assert [attributes for tag, attributes in seen.tags if tag == "script"] == [
        {"type": "application/json", "id": "data"},
        {},
    ]
    assert [tag for tag, _ in seen.tags].count("img") == 0
    assert "b" in [tag for tag, _ in seen.tags]  # the page's own
    assert not any(name.startswith("on") for _, attributes in seen.tags for name in attributes)
    assert "Tests <&>" in seen.text
    assert "webp<b>" in seen.text
    assert "<img src=x>: not an image & more" in seen.text
    assert "no <range>" in seen.text
    data = helpers.embedded(text)
    assert list(data["labels"]) == [image["image"] for image in data["comparisons"]] == list(helpers.NAMES)
    assert data["comparisons"][0]["notes"] == ["avif is left out: <too large>"]


def test_nothing_in_the_data_can_end_its_element(text):
    inside = text.split('id="data">')[1].split("</script>")[0]
    assert not set("<>&\u2028\u2029") & set(inside)


def test_nothing_is_loaded_from_elsewhere(text):
    assert not re.search(r"""(src|href)=["'](?!data:)""", text)
    assert not re.search(r"@import|url\((?!#)|fetch\(|XMLHttpRequest|import\(", text)
    assert set(re.findall(r"https?://[^\s\"')]+", text)) <= {"http://www.w3.org/2000/svg"}


def test_only_our_script_and_style_are_admitted(text):
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', text)
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_the_summary(text):
    seen = re.sub(r"\s+", " ", Tags(text).text)
    assert "12.3 %fewer bits than jpeg at equal PSNR RGB" in seen
    assert "−12.3 %" in seen
    assert "not defined" in seen
    assert "0.200 – 0.800" in seen
    assert "0.500" in seen
    assert "98.8" not in seen  # what other codecs need against ours is not the question
    assert "VTM" in seen


def test_metrics_without_any_value_are_left_out(text):
    assert [metric["key"] for metric in helpers.embedded(text)["metrics"]] == [
        "psnr_rgb_db",
        "psnr_luma_db",
        "ms_ssim",
        "lpips",
    ]


def test_no_images_and_no_figures(tmp_path):
    nothing = {"schema": 1, "results": [], "means": [], "bd_rate": [], "skipped": []}
    folder = helpers.make(tmp_path / "report", figures=nothing, comparisons=[], published=None)
    assert helpers.embedded((folder / "index.html").read_text("utf-8"))["comparisons"] == []


def test_names_that_are_no_text(tmp_path):
    data = helpers.figures()
    data["skipped"][0]["image"] = "bad\udcff.png"
    data["results"][0]["image"] = "bad\udcff.png"
    folder = helpers.make(tmp_path / "report", figures=data)
    assert "bad?.png" in (folder / "index.html").read_text("utf-8")


def test_values_that_json_does_not_know(tmp_path):
    (first, *_) = helpers.comparisons()
    endless = replace(first.rates[0][0], metrics={"psnr_rgb_db": math.inf})
    folder = helpers.make(tmp_path / "report", comparisons=[replace(first, rates=[[endless]])])
    data = helpers.embedded((folder / "index.html").read_text("utf-8"))
    assert data["comparisons"][0]["rates"][0][0]["metrics"] == {"psnr_rgb_db": None}


def test_a_picture_wider_than_webp_can_be(tmp_path):
    wide = np.zeros((2, 16400, 3), np.uint8)
    (name, data), *_ = pack(page.Comparison("wide", wide, [])).files
    assert name == "original.png"
    with Image.open(io.BytesIO(data)) as image:
        assert np.array_equal(np.array(image), wide)


def test_pictures_of_another_size_are_an_error(tmp_path):
    (first, *_) = helpers.comparisons()
    other = replace(first.rates[0][0], pixels=helpers.noise(0, 32, 32))
    with pytest.raises(ValueError, match="pixels decoded"):
        helpers.make(tmp_path / "report", comparisons=[replace(first, rates=[[other]])])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (["a/b/x.png", "a/b/y.png"], ["x.png", "y.png"]),
        (["a/b/x.png", "a/c/x.png"], ["b/x.png", "c/x.png"]),
        (["a/b/x.png"], ["x.png"]),
        (["/x", "y"], ["/x", "y"]),
        ([], []),
    ],
)
def test_short_names(names, short):
    assert short_names(names) == short


def test_an_existing_folder_is_refused(tmp_path):
    folder = helpers.make(tmp_path / "report")
    with pytest.raises(OutputError, match="use --force"):
        helpers.make(folder)
    with pytest.raises(OutputError, match="use --force"):
        page.check_folder(folder, False)


def test_force_replaces_a_former_report(tmp_path):
    folder = helpers.make(tmp_path / "report")
    helpers.make(folder, title="The second", comparisons=[], force=True)
    assert "The second" in (folder / "index.html").read_text("utf-8")
    assert list((folder / "pictures").iterdir()) == []
    assert list(tmp_path.iterdir()) == [folder]


def test_force_takes_an_empty_folder(tmp_path):
    (tmp_path / "report").mkdir()
    helpers.make(tmp_path / "report", force=True)
    assert (tmp_path / "report" / "index.html").exists()


@pytest.mark.parametrize(
    "files",
    [
        {"holiday.jpg": "mine"},
        {"index.html": "<html>my own page</html>"},
        {"index.html": MARKER, "notes.txt": "mine"},
        {"index.html": MARKER, "pictures/mine.webp": "mine"},
        {"index.html": "x" * 2000 + MARKER},
    ],
)
def test_force_never_touches_other_files(tmp_path, files):
    folder = tmp_path / "folder"
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    with pytest.raises(OutputError, match=r"not a former report|not of a report"):
        helpers.make(folder, force=True)
    assert {name: (folder / name).read_text() for name in files} == files
    assert list(tmp_path.iterdir()) == [folder]


def test_what_came_into_the_old_folder_meanwhile_stays(tmp_path):
    folder = helpers.make(tmp_path / "report")

    def shown():
        (folder / "notes.txt").write_text("mine")
        yield from helpers.comparisons()

    with pytest.raises(OutputError, match=r"notes\.txt"):
        helpers.make(folder, comparisons=shown(), force=True)
    assert (folder / "notes.txt").read_text() == "mine"
    assert list(tmp_path.iterdir()) == [folder]


def test_a_link_stays_and_its_folder_is_replaced(tmp_path):
    folder = helpers.make(tmp_path / "report")
    link = tmp_path / "link"
    link.symlink_to(folder)
    helpers.make(link, title="The second", force=True)
    assert link.is_symlink()
    assert "The second" in (folder / "index.html").read_text("utf-8")


@pytest.mark.parametrize("target", ["missing/report", "file/report", "nul\0"])
def test_a_place_that_can_not_be_written(tmp_path, target):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        helpers.make(tmp_path / target)


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="not a folder"):
        helpers.make(tmp_path / "file", force=True)


@pytest.mark.parametrize("error", [KeyboardInterrupt, CodecError])
def test_a_failure_leaves_the_former_report_and_nothing_else(tmp_path, error):
    folder = helpers.make(tmp_path / "report")
    before = (folder / "index.html").read_bytes()

    def shown():
        yield next(helpers.comparisons())
        raise error

    with pytest.raises(error):
        helpers.make(folder, comparisons=shown(), force=True)
    assert (folder / "index.html").read_bytes() == before
    assert list(tmp_path.iterdir()) == [folder]


class Sized:
    """A codec whose files have as many bytes as its setting says, and give back the picture."""

    def __init__(self, channels):
        self.channels, self.pixels = channels, None

    def encode(self, pixels, setting):
        assert pixels.shape[2] in self.channels
        self.pixels = pixels
        return bytes(setting)

    def decode(self, data):
        return self.pixels


class Failing(Sized):
    def encode(self, pixels, setting):
        raise CodecError("too <large>")


def test_rivals_are_matched_in_size():
    pixels = helpers.noise(1)
    rivals = [
        page.Rival("even", Sized((3,)), range(2, 500, 2)),
        page.Rival("short", Sized((3,)), range(1, 50)),
        page.Rival("broken", Failing((3,)), range(9)),
    ]
    comparison = page.compare_image(
        "x.png",
        pixels,
        ("ours", Sized((3,))),
        (41, 301),
        rivals,
        lambda a, b: {"same": float((a == b).all())},
    )
    assert [[(one.codec, one.setting, one.bytes) for one in rate] for rate in comparison.rates] == [
        [("ours", 41, 41), ("even", 42, 42), ("short", 41, 41)],
        [("ours", 301, 301), ("even", 302, 302), ("short", 49, 49)],
    ]
    assert comparison.notes == ("broken is left out: too <large>",)
    assert comparison.rates[0][1].bpp == 42 * 8 / (96 * 64)
    assert all(one.metrics == {"same": 1.0} for rate in comparison.rates for one in rate)


def test_gray_images():
    gray = helpers.noise(1, channels=1)
    rivals = [
        page.Rival("three", Sized((3,)), range(100)),
        page.Rival("another model", Sized((1,)), range(100), gray=True),
    ]
    comparison = page.compare_image(
        "x.png",
        gray,
        ("ours", Sized((1,))),
        (50,),
        rivals,
        lambda a, b: {"shapes": float(a.shape == b.shape)},
    )
    assert [one.metrics["shapes"] for one in comparison.rates[0]] == [1, 1, 1]
    assert pack(comparison).facts["width"] == 96


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_comparer_with_real_codecs(write_photo, models_dir, tmp_path, mode):
    path = write_photo(tmp_path / "photo.png", 200, 180, mode)
    ours = runner.Subject.ours(Zoo(models_dir).info("tiny"), [30])
    comparer = page.Comparer(
        (ours, *runner.Subject.others(["jpeg", "webp"])), (30, 70), models_dir=models_dir
    )
    packed = pickle.loads(pickle.dumps(comparer))(path)
    assert isinstance(packed, page.Packed)
    assert pickle.loads(pickle.dumps(packed)).facts == packed.facts
    files = dict(packed.files)
    with Image.open(path) as image, Image.open(io.BytesIO(files["original.webp"])) as again:
        assert np.array_equal(np.array(image.convert("RGB")), np.array(again))
    pixels = np.array(Image.open(path).convert("RGB"))
    for number, rate in enumerate(packed.facts["rates"], 1):
        assert [one["codec"] for one in rate] == ["codec:tiny-1", "jpeg", "webp"]
        (jpeg,) = others(["jpeg"])
        data = jpeg.encode(pixels, rate[1]["setting"])
        sizes = [len(jpeg.encode(pixels, setting)) for setting in jpeg.scale]
        assert rate[1]["bytes"] == len(data)
        assert abs(len(data) - rate[0]["bytes"]) == min(abs(size - rate[0]["bytes"]) for size in sizes)
        with Image.open(io.BytesIO(files[f"rate{number}-1.webp"])) as image:
            assert np.array_equal(np.array(image), jpeg.decode(data))
        psnr = Measure()(pixels, jpeg.decode(data))["psnr_rgb_db"]
        assert rate[1]["metrics"]["psnr_rgb_db"] == pytest.approx(psnr, abs=1e-6)


@pytest.mark.parametrize("bpp", [0.3, 2.0])
def test_comparer_at_a_rate(write_photo, models_dir, tmp_path, bpp):
    path = write_photo(tmp_path / "photo.png", 200, 180)
    info = Zoo(models_dir).info("tiny")
    ours = runner.Subject.ours(info, [30])
    jpeg = runner.Subject.others(["jpeg"])
    packed = page.Comparer((ours, *jpeg), (), bpp, models_dir=models_dir)(path)
    ((first, second),) = packed.facts["rates"]
    assert (first["codec"], second["codec"]) == ("codec:tiny-1", "jpeg")
    pixels = np.array(Image.open(path).convert("RGB"))
    codec = ours.coder(models_dir, 1, 1 << 28)
    sizes = {len(codec.encode(pixels, quality)) for quality in runner.usable_qualities(info, None)}
    assert len(sizes) > 3
    wanted = bpp * 200 * 180 / 8
    assert abs(first["bytes"] - wanted) == min(abs(size - wanted) for size in sizes)
    # Beside the qualities asked for, each once.
    both = page.Comparer((ours,), (1, first["setting"]), bpp, models_dir=models_dir)(path)
    assert [rate[0]["setting"] for rate in both.facts["rates"]] == sorted({1, first["setting"]})


def test_the_first_view_is_asked_for(tmp_path, text):
    assert helpers.embedded(text)["view"] == "slide"
    folder = helpers.make(tmp_path / "report", view="all")
    assert helpers.embedded((folder / "index.html").read_text("utf-8"))["view"] == "all"


def triplets(run, folder, tmp_path, *options):
    """The comparisons of a report at a rate, and what the command said."""
    target = tmp_path / "report"
    result = run("eval", *folder, "--model", "tiny", "-q", "50", "--report", target, "--bpp", "0.5", *options)
    assert result.exit_code == 0
    data = helpers.embedded((target / "index.html").read_text("utf-8"))
    assert data["view"] == "all"
    return data, result.stderr, (target / "index.html").read_text("utf-8")


@pytest.fixture
def folder(write_photo, tmp_path):
    for name in "abc":
        write_photo(tmp_path / "photos" / f"{name}.png", 180, 176)
    return tmp_path / "photos"


def test_triplets_show_the_first_codec_that_is_here(run, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(_eval, "BESIDE", ("bpg", "jpeg"))
    monkeypatch.setenv("PATH", str(tmp_path))  # Without BPG's programs.
    # What is named first comes first, and once.
    data, said, text = triplets(run, [folder / "b.png", folder], tmp_path)
    assert [one["image"][-5:] for one in data["comparisons"]] == ["b.png", "a.png", "c.png"]
    for one in data["comparisons"]:
        ((ours, other),) = one["rates"]
        assert (ours["codec"], other["codec"]) == ("codec:tiny-1", "jpeg")
        assert ours["bpp"] == pytest.approx(0.5, rel=0.2)
        assert other["bytes"] == pytest.approx(ours["bytes"], rel=0.1)
    # It is in the pictures alone.
    assert {codec for codec, *_ in data["means"]} == {"codec:tiny-1"}
    assert others(["jpeg"])[0].description in Tags(text).text
    assert "bpg" not in said


def test_triplets_show_the_codecs_of_against(run, folder, tmp_path):
    data, *_ = triplets(run, [folder / "a.png"], tmp_path, "--against", "webp")
    assert [[one["codec"] for one in rate] for rate in data["comparisons"][0]["rates"]] == [
        ["codec:tiny-1", "webp"]
    ]


def test_triplets_without_any_other_codec(run, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(_eval, "BESIDE", ("bpg",))
    monkeypatch.setenv("PATH", str(tmp_path))
    data, said, _ = triplets(run, [folder / "a.png"], tmp_path)
    assert [len(rate) for rate in data["comparisons"][0]["rates"]] == [1]
    assert "none of bpg is here" in said


@pytest.mark.parametrize("rate", ["0", "-1", "some"])
def test_rates_that_are_none(run, folder, tmp_path, rate):
    assert run("eval", folder, "--report", tmp_path / "report", "--bpp", rate).exit_code == 2


def test_a_rate_is_of_a_report(run, folder):
    result = run("eval", folder, "--bpp", "0.5")
    assert result.exit_code == 2
    assert "--report" in result.stderr


def test_comparer_returns_failures(models_dir, tmp_path):
    ours = runner.Subject.ours(Zoo(models_dir).info("tiny"), [30])
    failure = page.Comparer((ours,), (30,), models_dir=models_dir)(tmp_path / "missing.png")
    assert isinstance(failure, page.Failure)
    assert isinstance(failure.error, CodecError)


def test_importing_loads_nothing_heavy():
    code = (
        "import sys, codec_cli.evaluation.page; "
        "print([m for m in ('tensorflow', 'ai_edge_litert', 'scipy', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
