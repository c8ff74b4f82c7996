"""Directory runs: many files in, each written whole, each accounted for, and no source lost."""

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import stat
import subprocess
import sys

import numpy as np
import pytest
from conftest import error_line
from PIL import Image, PngImagePlugin

from codec_cli import files
from codec_cli.commands import _done, _plan
from codec_cli.commands._verbs import Compress, Decompress
from codec_cli.pictures.images import load_picture
from codec_cli.report import Outcome, Report

TINY = ("--model", "tiny")
POSIX = pytest.mark.skipif(os.name != "posix", reason="POSIX files and signals")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def lines(manifest):
    return [json.loads(line) for line in manifest.read_bytes().splitlines()]


@pytest.fixture
def photos(write_photo, tmp_path):
    """A folder of three images."""
    for index in range(3):
        write_photo(tmp_path / "photos" / f"{index}.png", 96, 64 + index)
    return tmp_path / "photos"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def leave_temporary(folder):
    """What a killed process leaves behind."""
    folder.mkdir(exist_ok=True)
    path = folder / f".x.bin.0123456789abcdef{files.TEMPORARY_SUFFIX}"
    path.write_bytes(b"half of")
    return path


# Outputs that are written by a function


@pytest.fixture
def streaming(monkeypatch):
    """Makes ``compress`` hand over a function that writes instead of bytes."""
    convert = Compress.convert

    def deferred(self, *args):
        done = convert(self, *args)
        return dataclasses.replace(done, data=lambda path: path.write_bytes(done.data))

    monkeypatch.setattr(Compress, "convert", deferred)


def test_function_writes_the_output(run, streaming, write_photo, tmp_path):
    source, path = write_photo(tmp_path / "a.png"), tmp_path / "a.bin"
    result = run("compress", source, "--json", *TINY)
    assert result.exit_code == 0
    assert f'"bytes": {path.stat().st_size},' in result.stdout
    assert path.stat().st_size > 16
    assert run("decompress", path, tmp_path / "b.png").exit_code == 0
    assert names(tmp_path) == ["a.bin", "a.png", "b.png"]


def test_function_writes_standard_output(run, streaming, write_photo, tmp_path):
    source = write_photo(tmp_path / "a.png")
    piped = run("compress", source, "-", *TINY)
    assert piped.exit_code == 0
    assert run("compress", source, tmp_path / "a.bin", *TINY).exit_code == 0
    assert piped.stdout_bytes == (tmp_path / "a.bin").read_bytes()


# Plans


@pytest.mark.parametrize("options", [(), ("--force",), ("--resume",)])
def test_two_images_of_a_directory_for_one_output(run, photos, write_photo, out, options):
    write_photo(photos / "sub" / "1.png", 16, 16)
    write_photo(photos / "1.jpg", 16, 16)
    result = run("compress", photos, out, *TINY, *options)
    assert result.exit_code == 7
    line = error_line(result)
    assert "1.jpg" in line
    assert "1.png" in line
    assert "nothing was done" in line
    assert not out.exists()


def test_clash_between_a_file_and_a_directory(run, photos, write_photo, tmp_path, out):
    other = write_photo(tmp_path / "2.png", 16, 16)
    result = run("compress", photos, other, "-o", out, *TINY)
    assert (result.exit_code, "nothing was done" in error_line(result)) == (7, True)
    assert not out.exists()


@pytest.mark.parametrize("place", ["photos/0.png", "out/1.bin", "out/../photos/2.png"])
def test_manifest_is_neither_input_nor_output(run, photos, out, tmp_path, place):
    before = (photos / "0.png").read_bytes()
    result = run("compress", photos, out, "--manifest", tmp_path / place, "--force", *TINY)
    assert result.exit_code == 7
    assert "manifest" in error_line(result)
    assert (photos / "0.png").read_bytes() == before
    assert not out.exists()


@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="there, these are one file anyway")
@pytest.mark.parametrize("pair", [("A", "a"), ("\u00fc", "u\u0308"), ("STRASSE", "stra\u00dfe")])
def test_names_that_some_disks_take_for_one(run, write_photo, tmp_path, out, pair):
    for name in pair:
        write_photo(tmp_path / "photos" / f"{name}.png", 16, 16)
    result = run("compress", tmp_path / "photos", out, "--force", "--delete-source", *TINY)
    assert result.exit_code == 7
    assert "on disks that take them for one; nothing was done" in error_line(result)
    assert len(names(tmp_path / "photos")) == 2
    assert run("compress", tmp_path / "photos", out, *TINY).exit_code == 0
    assert len(names(out)) == 2


def test_plan_is_walked_and_not_kept(photos, out, monkeypatch):
    rules = _plan.Rules("compress", ".bin", lambda name: True, files.ImageError, "images", 8)
    options = {"output_dir": None, "include": (), "exclude": (), "force": False}
    made = _plan.plan(rules, [str(photos), str(out)], **options)
    assert made.size == 3
    assert [item.number for item in made] == [0, 1, 2]
    assert [item.output for item in made] == [str(out / f"{index}.bin") for index in range(3)]
    (photos / "0.png").unlink()
    assert len(list(made)) == 2


def test_report_counts_and_does_not_remember(capsys):
    report = Report(quiet=True, verbose=False, json=False, stdout_taken=False)
    outcomes = [
        Outcome("a", "b"),
        Outcome("c", "d", error="c: no", exit_code=3),
        Outcome("e", "f", skipped=True),
    ]
    for outcome in outcomes:
        report.add(outcome)
    assert report.finish() == 1
    assert report._outcomes == []
    assert capsys.readouterr().err == "codec: c: no\ncodec: 1 of 3 files failed\n"


# Names and kinds of files


ODD = (
    b"two words.png",
    b"new\nline.png",
    b"gr\xfcn \xff.png",
    b"-dash.png",
    "日本 é.png".encode(),
    b"a.b.c.png",
)


@POSIX
@pytest.mark.parametrize("jobs", [1, 2])
def test_odd_names(run, write_photo, tmp_path, out, jobs):
    photos, manifest = tmp_path / "photos", tmp_path / "m.jsonl"
    for name in ODD:
        write_photo(photos / os.fsdecode(name), 16, 16)
    result = run("compress", photos, out, "--json", "--manifest", manifest, "--jobs", jobs, *TINY)
    assert result.exit_code == 0
    expected = sorted(os.fsencode(photos) + b"/" + name for name in ODD)
    for entries in (json.loads(result.stdout)["files"], lines(manifest)):
        assert sorted(os.fsencode(entry["input"]) for entry in entries) == expected
    assert sorted(map(os.fsencode, names(out))) == sorted(name[:-4] + b".bin" for name in ODD)
    assert run("decompress", out, tmp_path / "again").exit_code == 0
    assert sorted(map(os.fsencode, names(tmp_path / "again"))) == sorted(ODD)
    again = run("compress", photos, out, "--resume", *TINY)
    assert again.stdout.splitlines()[-1].startswith("0 files, 6 skipped")


@POSIX
def test_links_and_files_that_are_none(run, photos, write_photo, tmp_path, out):
    other = write_photo(tmp_path / "elsewhere" / "x.png", 16, 16)
    (photos / "link.png").symlink_to(other)
    (photos / "dangling.png").symlink_to(tmp_path / "nowhere.png")
    (photos / "loop").symlink_to(photos)
    (photos / "elsewhere").symlink_to(other.parent)
    os.mkfifo(photos / "pipe.png")
    result = run("compress", photos, out, *TINY)
    assert result.exit_code == 1
    assert sorted(result.stderr.splitlines()) == [
        f"codec: {photos / 'dangling.png'}: cannot read: No such file or directory",
        f"codec: {photos / 'pipe.png'}: cannot read: not a regular file",
        "codec: 2 of 6 files failed",
    ]
    assert names(out) == ["0.bin", "1.bin", "2.bin", "link.bin"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read anything")
def test_unreadable_file(run, photos, out):
    (photos / "1.png").chmod(0)
    result = run("compress", photos, out, *TINY)
    assert result.exit_code == 1
    assert f"{photos / '1.png'}: cannot read: Permission denied" in result.stderr
    assert names(out) == ["0.bin", "2.bin"]


# --resume


def test_resume_skips_what_is_done(run, photos, out):
    assert run("compress", photos, out, *TINY).exit_code == 0
    (out / "1.bin").unlink()
    before = (out / "0.bin").stat()
    result = run("compress", photos, out, "--resume", "--json", *TINY)
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert [file["skipped"] for file in report["files"]] == [True, False, True]
    assert (report["skipped"], report["failed"], report["not_begun"]) == (2, 0, 0)
    assert report["files"][0]["bytes"] == before.st_size
    after = (out / "0.bin").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    text = run("compress", photos, out, "--resume", *TINY).stdout.splitlines()
    assert text[0] == f"{photos / '0.png'} -> {out / '0.bin'}  skipped: done before"
    assert text[-1].startswith("0 files, 3 skipped  ")


def damage(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def make_old(path):
    os.utime(path, (1, 1))


@pytest.mark.parametrize("spoil", [damage, make_old])
@pytest.mark.parametrize("verb", ["compress", "decompress"])
def test_resume_redoes_what_is_not_done(run, photos, out, tmp_path, verb, spoil):
    assert run("compress", photos, out, *TINY).exit_code == 0
    arguments, target = ["compress", photos, out, *TINY], out / "1.bin"
    if verb == "decompress":
        arguments, target = ["decompress", out, tmp_path / "again"], tmp_path / "again" / "1.png"
        assert run(*arguments).exit_code == 0
    whole = target.read_bytes()
    spoil(target)
    options = ["--resume"]
    if verb == "decompress":  # An image that is older may be what was compressed.
        spoiled = target.read_bytes()
        refused = run(*arguments, "--resume")
        assert refused.exit_code == 1
        assert f"{target}: exists; use --force to overwrite" in refused.stderr
        assert target.read_bytes() == spoiled
        options = ["--resume", "--force"]
    result = run(*arguments, *options, "--json")
    assert [file["skipped"] for file in json.loads(result.stdout)["files"]] == [True, False, True]
    assert target.read_bytes() == whole


def no_work(monkeypatch):
    def convert(*args):
        pytest.fail("this was to be refused before the work")

    monkeypatch.setattr(Compress, "convert", convert)
    monkeypatch.setattr(Decompress, "convert", convert)


def test_resume_replaces_nothing_but_compressed_files(run, photos, out, monkeypatch):
    out.mkdir()
    (out / "1.bin").write_bytes(b"someone's precious data, none of ours")
    make_old(out / "1.bin")
    no_work(monkeypatch)
    result = run("compress", photos / "1.png", "-o", out, "--resume", *TINY)
    assert result.exit_code == 7
    assert error_line(result) == f"codec: {out / '1.bin'}: exists; use --force to overwrite"
    assert (out / "1.bin").read_bytes().startswith(b"someone's")


def test_resume_never_replaces_the_original(run, photos, monkeypatch):
    original = photos / "1.png"
    make_old(original)
    before = original.read_bytes()
    assert run("compress", original, *TINY).exit_code == 0
    no_work(monkeypatch)
    result = run("decompress", photos / "1.bin", "--resume")
    assert result.exit_code == 7
    assert original.read_bytes() == before


def test_resume_notices_an_older_image_of_another_size(run, photos, out, write_photo):
    assert run("compress", photos, out, *TINY).exit_code == 0
    make_old(write_photo(photos / "1.png", 50, 40))
    result = run("compress", photos, out, "--resume", *TINY)
    assert result.exit_code == 1
    assert f"{out / '1.bin'}: exists" in result.stderr


@pytest.mark.parametrize("jobs", [1, 2])
def test_resume_of_a_damaged_input(run, photos, out, tmp_path, jobs):
    assert run("compress", photos, out, *TINY).exit_code == 0
    again = tmp_path / "again"
    # As --salvage may have left them: an image that is whole and newer.
    assert run("decompress", out, again).exit_code == 0
    data = bytearray((out / "1.bin").read_bytes())
    data[-20] ^= 1
    (out / "1.bin").write_bytes(data)
    make_old(out / "1.bin")
    saved = (again / "1.png").read_bytes()
    result = run("decompress", out, again, "--resume", "--jobs", jobs)
    assert result.exit_code == 1
    assert f"{out / '1.bin'}: damaged: checksum does not match" in result.stderr
    alone = run("decompress", out / "1.bin", "-o", again, "--resume")
    assert alone.exit_code == 4
    twice = run("decompress", out / "1.bin", "-o", again, "--resume", "--salvage")
    assert (twice.exit_code, "exists; use --force" in error_line(twice)) == (7, True)
    assert (again / "1.png").read_bytes() == saved


@pytest.mark.parametrize("options", [(), ("--preserve",), ("--force",), ("--delete-source",)])
def test_input_that_changes_while_it_is_read(run, write_photo, tmp_path, monkeypatch, options):
    source, target = write_photo(tmp_path / "a.png"), tmp_path / "a.bin"
    make_old(source)
    convert = Compress.convert

    def slow(self, *args):
        done = convert(self, *args)
        write_photo(source, 40, 40)
        make_old(source)  # Its size is another one.
        return done

    with monkeypatch.context() as patch:
        patch.setattr(Compress, "convert", slow)
        result = run("compress", source, *TINY, *options)
    assert result.exit_code in (3, 4)  # 4 where decoding gives another size.
    if "--delete-source" not in options:
        line = error_line(result)
        assert line == f"codec: {source}: changed while it was read; nothing was written, run again"
    assert names(tmp_path) == ["a.png"]
    assert run("compress", source, "--resume", *TINY).exit_code == 0
    assert names(tmp_path) == ["a.bin", "a.png"]
    assert target.stat().st_size > 0


def test_resume_does_not_take_another_image_for_ours(run, photos, out, tmp_path, write_photo):
    assert run("compress", photos, out, *TINY).exit_code == 0
    write_photo(tmp_path / "again" / "1.png", 99, 99)
    result = run("decompress", out, tmp_path / "again", "--resume")
    assert f"{tmp_path / 'again' / '1.png'}: exists" in result.stderr


def test_resume_after_preserve(run, photos, out):
    for path in photos.iterdir():
        make_old(path)
    assert run("compress", photos, out, "--preserve", *TINY).exit_code == 0
    assert "3 skipped" in run("compress", photos, out, "--resume", "--preserve", *TINY).stdout


@POSIX
def test_what_killed_runs_left_is_swept(run, photos, out):
    left = leave_temporary(out)
    assert run("compress", photos, out, *TINY).exit_code == 0
    assert not left.exists()
    # Also where there is nothing to write.
    left = leave_temporary(out)
    assert run("compress", photos, out, "--resume", *TINY).exit_code == 0
    assert names(out) == ["0.bin", "1.bin", "2.bin"]


# --manifest


def test_manifest(run, photos, out, tmp_path):
    (photos / "bad.png").write_bytes(b"bad")
    manifest = tmp_path / "m.jsonl"
    result = run("compress", photos, out, "--manifest", manifest, "--verify", *TINY)
    assert result.exit_code == 1
    entries = {entry["input"]: entry for entry in lines(manifest)}
    assert len(entries) == 4
    good, bad = entries[str(photos / "0.png")], entries[str(photos / "bad.png")]
    size = (out / "0.bin").stat().st_size
    assert good["output"] == str(out / "0.bin")
    assert (good["input_bytes"], good["bytes"]) == ((photos / "0.png").stat().st_size, size)
    assert good["bpp"] == round(size * 8 / 6144, 4)
    assert good["seconds"] > 0
    assert good["psnr_rgb_db"] > 15
    assert (good["error"], good["skipped"]) == (None, False)
    assert bad["error"].startswith(f"{photos / 'bad.png'}: not an image")
    assert bad["bytes"] is None


def test_manifest_is_not_overwritten(run, photos, out, tmp_path):
    manifest = tmp_path / "m.jsonl"
    manifest.write_bytes(b"precious")
    result = run("compress", photos, out, "--manifest", manifest, *TINY)
    assert result.exit_code == 7
    assert error_line(result) == f"codec: {manifest}: exists; use --force to overwrite"
    assert manifest.read_bytes() == b"precious"
    assert names(out) == []
    assert run("compress", photos, out, "--manifest", manifest, "--force", *TINY).exit_code == 0
    assert len(lines(manifest)) == 3


@pytest.mark.parametrize(
    "content", [b"precious", b"[1]\n", b'{"input": 1}\n', b"\xff\xfe\n", b"\n", b'{"a": "b"}\n{}\n']
)
def test_only_manifests_are_continued(run, photos, out, tmp_path, content):
    manifest = tmp_path / "m.jsonl"
    manifest.write_bytes(content)
    options = ("--manifest", manifest, "--resume")
    result = run("compress", photos, out, *options, *TINY)
    assert result.exit_code == 7
    line = f"codec: {manifest}: exists, and is no manifest; use --force to overwrite"
    assert error_line(result) == line
    assert manifest.read_bytes() == content
    assert names(out) == []
    assert run("compress", photos, out, *options, "--force", *TINY).exit_code == 0
    assert len(lines(manifest)) == 3


@pytest.mark.parametrize("start", [b"", b'{"input": "/pictures/a.pn'])
def test_empty_and_cut_manifests_are_continued(run, photos, out, tmp_path, start):
    manifest = tmp_path / "m.jsonl"
    manifest.write_bytes(start)
    assert run("compress", photos, out, "--manifest", manifest, "--resume", *TINY).exit_code == 0
    every = manifest.read_bytes().splitlines()
    assert every[: bool(start)] == [start] * bool(start)
    assert len([json.loads(line) for line in every[bool(start) :]]) == 3


@pytest.mark.parametrize("cut", [False, True])
def test_manifest_of_a_resumed_run(run, photos, out, tmp_path, cut):
    manifest = tmp_path / "m.jsonl"
    assert run("compress", photos, out, "--manifest", manifest, *TINY).exit_code == 0
    if cut:
        manifest.write_bytes(manifest.read_bytes()[:-5])
    assert run("compress", photos, out, "--manifest", manifest, "--resume", *TINY).exit_code == 0
    every = manifest.read_bytes().splitlines()
    assert len(every) == 6
    assert [json.loads(line)["skipped"] for line in every[3:]] == [True] * 3


def test_manifest_that_can_not_be_written(run, photos, out, tmp_path):
    result = run("compress", photos, out, "--manifest", tmp_path / "none" / "m.jsonl", *TINY)
    assert result.exit_code == 7
    assert error_line(result).endswith("m.jsonl: cannot write: No such file or directory")
    if os.path.exists("/dev/full"):  # noqa: PTH110
        result = run("compress", photos, out, "--manifest", "/dev/full", *TINY)
        assert result.exit_code == 7
        assert "codec: /dev/full: cannot write: No space left on device" in result.stderr


# --preserve


@POSIX
def test_preserve(run, photos, out, tmp_path):
    when = (1_500_000_000_123_456_789, 1_400_000_000_987_654_321)
    for path in photos.iterdir():
        path.chmod(0o640)
        os.utime(path, ns=when)
    assert run("compress", photos, out, "--preserve", *TINY).exit_code == 0
    assert run("decompress", out, tmp_path / "again", "--preserve").exit_code == 0
    for folder in (out, tmp_path / "again"):
        for path in folder.iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o640
            assert path.stat().st_mtime_ns == when[1]
    assert run("compress", photos / "0.png", "-", "--preserve", *TINY).exit_code == 0


# --delete-source


@pytest.mark.parametrize("jobs", [1, 2])
def test_delete_source(run, photos, out, tmp_path, jobs):
    reference = tmp_path / "reference"
    shutil.copytree(photos, reference)
    options = ("--delete-source", "--jobs", jobs)
    result = run("compress", photos, out, "--json", *options, *TINY)
    assert result.exit_code == 0
    assert names(photos) == []
    assert names(out) == ["0.bin", "1.bin", "2.bin"]
    entries = json.loads(result.stdout)["files"]
    assert all(entry["source_deleted"] and entry["psnr_rgb_db"] > 15 for entry in entries)
    assert run("compress", reference, tmp_path / "plain", *TINY).exit_code == 0
    for path in out.iterdir():
        assert path.read_bytes() == (tmp_path / "plain" / path.name).read_bytes()
    assert run("decompress", out, tmp_path / "again", *options).exit_code == 0
    assert names(out) == []
    assert names(tmp_path / "again") == ["0.png", "1.png", "2.png"]


@pytest.mark.parametrize("suffix", ["png", "webp", "tif", "bmp", "ppm"])
def test_decompress_deletes_after_formats_without_loss(run, compressed, tmp_path, suffix):
    expected = run("decompress", compressed, tmp_path / "expected.png")
    assert expected.exit_code == 0
    result = run("decompress", compressed, tmp_path / f"a.{suffix}", "--delete-source")
    assert (result.exit_code, result.stderr) == (0, "")
    assert not compressed.exists()
    pictures = [load_picture(tmp_path / name, name, 1 << 20) for name in ("expected.png", f"a.{suffix}")]
    assert np.array_equal(pictures[0].pixels, pictures[1].pixels)


@pytest.mark.parametrize(
    ("suffix", "reason"),
    [("jpg", ".jpg does not keep every pixel"), ("avif", ".avif does not keep every pixel")],
)
def test_decompress_keeps_the_source_of_lossy_images(run, compressed, tmp_path, suffix, reason):
    result = run("decompress", compressed, "-o", tmp_path, "--format", suffix, "--delete-source")
    assert result.exit_code == 0
    assert compressed.exists()
    assert f"{compressed}: warning: {reason}" in result.stderr
    assert f"{compressed}: warning: source kept" in result.stderr


def test_decompress_keeps_the_source_of_what_a_format_drops(run, photo, tmp_path):
    rgba = np.dstack([photo(32, 32), np.full((32, 32), 255, np.uint8)])
    Image.fromarray(rgba).save(tmp_path / "a.png", icc_profile=b"x" * 200)
    assert run("compress", tmp_path / "a.png", *TINY).exit_code == 0
    result = run("decompress", tmp_path / "a.bin", tmp_path / "a.bmp", "--delete-source")
    assert result.exit_code == 0
    assert ".bmp does not keep the alpha plane" in result.stderr
    assert (tmp_path / "a.bin").exists()
    assert run("decompress", tmp_path / "a.bin", tmp_path / "b.png", "--delete-source").exit_code == 0
    assert not (tmp_path / "a.bin").exists()


def test_decompress_keeps_the_source_of_a_region(run, compressed, tmp_path):
    result = run("decompress", compressed, tmp_path / "a.png", "--region", "0,0,16,16", "--delete-source")
    assert result.exit_code == 0
    assert "only a region was decoded" in result.stderr
    assert compressed.exists()


def deep(path):
    Image.fromarray(np.arange(4096, dtype=np.uint16).reshape(64, 64) * 16).save(path)


def two_frames(path):
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    frames[0].save(path, save_all=True, append_images=frames[1:])


def checkerboard(path):
    Image.fromarray((np.indices((256, 256)).sum(0) % 2 * 255).astype(np.uint8)).convert("RGB").save(path)


@pytest.mark.parametrize("make", [deep, two_frames, checkerboard])
def test_compress_keeps_the_source_of_what_it_warns_of(run, tmp_path, make):
    source = tmp_path / "a.png"
    make(source)
    before = source.read_bytes()
    result = run("compress", source, "--delete-source", "-q", "90", "--json", *TINY)
    assert result.exit_code == 0
    (entry,) = json.loads(result.stdout)["files"]
    assert entry["source_deleted"] is False
    assert len(entry["warnings"]) == len(set(entry["warnings"])) >= 2
    assert entry["warnings"][-1] == "source kept, for what is said above"
    assert source.read_bytes() == before
    assert (tmp_path / "a.bin").exists()


def spoil_written(monkeypatch):
    """Makes every output differ on the disk from what was to be written."""
    write = files.Path.write_bytes

    def wrong(self, data):
        changed = bytearray(data)
        if self.name.endswith(files.TEMPORARY_SUFFIX):
            changed[len(changed) // 2] ^= 1
        return write(self, bytes(changed))

    monkeypatch.setattr(files.Path, "write_bytes", wrong)


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("verb", ["compress", "decompress"])
def test_failed_proof_loses_nothing(run, compressed, tmp_path, monkeypatch, verb, old):
    source = compressed.with_name("source.png") if verb == "compress" else compressed
    target = tmp_path / ("x.bin" if verb == "compress" else "x.png")
    if old:
        target.write_bytes(b"old")
    before = source.read_bytes()
    spoil_written(monkeypatch)
    options = TINY if verb == "compress" else ()
    result = run(verb, source, target, "--delete-source", "--force", *options)
    assert result.exit_code in (3, 4, 7)
    assert error_line(result).startswith(f"codec: {source}: ")
    assert source.read_bytes() == before
    assert names(tmp_path) == ["made", *(["x.bin"] if verb == "compress" else ["x.png"]) * old]
    assert not old or target.read_bytes() == b"old"


def test_source_that_changes_during_the_proof(run, write_photo, tmp_path, monkeypatch):
    source = write_photo(tmp_path / "a.png")
    prove = Compress.prove

    def slow(self, *args):
        proof = prove(self, *args)
        write_photo(source, 40, 40)
        return proof

    monkeypatch.setattr(Compress, "prove", slow)
    result = run("compress", source, "--delete-source", *TINY)
    assert result.exit_code == 3
    assert "changed while it was read" in error_line(result)
    assert names(tmp_path) == ["a.png"]


def test_source_that_changes_at_last_is_kept(write_photo, tmp_path):
    source = write_photo(tmp_path / "a.png")
    before = _done.identity(source.stat())
    write_photo(source, 40, 40)
    assert _done.delete(source, before, ()) == ("source kept: it was changed meanwhile",)
    assert source.exists()
    assert _done.delete(source, _done.identity(source.stat()), ()) == ()
    assert not source.exists()


@POSIX
def test_links_are_not_deleted(run, write_photo, tmp_path):
    source, link = write_photo(tmp_path / "a.png"), tmp_path / "link.png"
    link.symlink_to(source)
    result = run("compress", link, "--delete-source", *TINY)
    assert result.exit_code == 0
    assert "source kept: it is a symbolic link" in result.stderr
    assert link.is_symlink()
    assert source.exists()


def test_source_that_can_not_be_deleted(run, write_photo, tmp_path, monkeypatch):
    source = write_photo(tmp_path / "a.png")
    unlink = files.Path.unlink

    def closed(self, *args):
        if self == source:
            raise PermissionError(13, "Permission denied")
        unlink(self, *args)

    monkeypatch.setattr(files.Path, "unlink", closed)
    result = run("compress", source, "--delete-source", *TINY)
    assert result.exit_code == 1
    assert error_line(result) == f"codec: {source}: written, but cannot be deleted: Permission denied"


@POSIX
@pytest.mark.parametrize("option", ["--delete-source", "--resume"])
def test_only_ordinary_files_may_be_deleted_or_resumed(run, write_photo, tmp_path, option):
    source = write_photo(tmp_path / "a.png")
    for arguments in ((source, "/dev/null"), (source, "-"), ("-", tmp_path / "x.bin")):
        result = run("compress", *arguments, option, *TINY, input=source.read_bytes())
        assert result.exit_code == 1
        assert f"{option} needs ordinary files" in error_line(result)
    assert names(tmp_path) == ["a.png"]


def test_resumed_run_deletes_nothing_that_it_did_not_write(run, photos, out):
    assert run("compress", photos / "0.png", "-o", out, *TINY).exit_code == 0
    result = run("compress", photos, out, "--resume", "--delete-source", *TINY)
    assert result.exit_code == 0
    assert names(photos) == ["0.png"]
    assert "0.png: warning: source kept: its output was made by an earlier run" in result.stderr


def test_stripped_metadata_is_no_reason_to_keep_the_source(run, photo, tmp_path):
    facts = PngImagePlugin.PngInfo()
    facts.add_text("Comment", "not kept anyway")
    Image.fromarray(photo(64, 64)).save(tmp_path / "a.png", pnginfo=facts, icc_profile=b"x" * 200)
    result = run("compress", tmp_path / "a.png", "--strip", "--delete-source", *TINY)
    assert (result.exit_code, result.stderr) == (0, "")
    assert names(tmp_path) == ["a.bin"]


# Disks


@POSIX
@pytest.mark.parametrize("jobs", [1, 2])
def test_full_disk(run, photos, out, tmp_path, jobs):
    out.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", out], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("may not mount a small file system")
    try:
        (out / "filler").write_bytes(bytes(4096))
        manifest = tmp_path / "m.jsonl"
        options = ("--jobs", jobs, "--manifest", manifest, "--delete-source")
        result = run("compress", photos, out, *options, *TINY)
        assert result.exit_code == 1
        expected = [f"codec: {out / f'{i}.bin'}: cannot write: No space left on device" for i in range(3)]
        assert sorted(result.stderr.splitlines()) == sorted([*expected, "codec: 3 of 3 files failed"])
        assert names(out) == ["filler"]
        assert names(photos) == ["0.png", "1.png", "2.png"]
        assert [entry["error"] is None for entry in lines(manifest)] == [False] * 3
        alone = run("compress", photos / "0.png", out / "x.bin", *TINY)
        assert alone.exit_code == 7
        assert error_line(alone) == f"codec: {out / 'x.bin'}: cannot write: No space left on device"
        subprocess.run(["mount", "-o", "remount,ro", out], check=True)
        alone = run("compress", photos / "0.png", out / "x.bin", *TINY)
        assert alone.exit_code == 7
        assert "cannot write: " in error_line(alone)
    finally:
        subprocess.run(["umount", out], check=True)


@POSIX
def test_limit_on_the_size_of_files(spawn, write_photo, tmp_path):
    resource = pytest.importorskip("resource")
    source, old = write_photo(tmp_path / "a.png", 256, 256), tmp_path / "old.bin"
    old.write_bytes(b"old")

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (512, 512))

    for target in (tmp_path / "new.bin", old):
        result = spawn("compress", source, target, "--force", *TINY, preexec_fn=limit)
        assert result.returncode == 7
        assert result.stderr.decode().strip() == f"codec: {target}: cannot write: File too large"
    assert names(tmp_path) == ["a.png", "old.bin"]
    assert old.read_bytes() == b"old"


# Ctrl-C


MANY = 60


@pytest.fixture
def many(write_photo, tmp_path):
    first = write_photo(tmp_path / "many" / "000.png", 256, 192)
    for index in range(1, MANY):
        shutil.copy(first, first.with_name(f"{index:03}.png"))
    return first.parent


@pytest.fixture
def begin(environment):
    """A function that starts a command and returns the process after it has printed its first line."""
    with contextlib.ExitStack() as stack:

        def start(*arguments):
            command = [sys.executable, "-u", "-m", "codec_cli", *map(str, arguments)]
            pipe = subprocess.PIPE
            # A session of its own: like a terminal, the test interrupts all of its processes.
            process = stack.enter_context(
                subprocess.Popen(command, bufsize=0, stdout=pipe, stderr=pipe, start_new_session=True)
            )
            stack.callback(process.kill)
            assert process.stdout.readline().endswith(b" s\n")
            return process

        yield start


@POSIX
@pytest.mark.parametrize("jobs", [1, 2])
def test_interrupt_finishes_what_was_begun(begin, run, many, out, tmp_path, jobs):
    manifest = tmp_path / "m.jsonl"
    process = begin("compress", many, out, "--jobs", jobs, "--manifest", manifest, *TINY)
    os.killpg(process.pid, signal.SIGINT)
    output, error = process.communicate(timeout=60)
    assert process.returncode == 130
    done = [line for line in output.decode().splitlines() if " -> " in line and line.endswith(" s")]
    heard, left = error.decode().splitlines()
    assert heard == "codec: interrupted; finishing what was begun (Ctrl-C again stops at once)"
    assert left == f"codec: interrupted; {MANY - len(names(out))} files were not begun"
    assert 1 <= len(done) + 1 == len(names(out)) == len(lines(manifest)) < MANY
    assert f"{len(names(out))} files  " in output.decode().splitlines()[-1]
    assert all(name.endswith(".bin") for name in names(out))
    resumed = run("compress", many, out, "--resume", *TINY)
    assert resumed.exit_code == 0
    assert f"{len(done) + 1} skipped" in resumed.stdout
    assert len({path.read_bytes() for path in out.iterdir()}) == 1


@POSIX
@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_second_interrupt_stops_at_once(begin, many, out, jobs, number):
    process = begin("compress", many, out, "--jobs", jobs, "--effort", "1", *TINY)
    if number == signal.SIGINT:
        os.killpg(process.pid, signal.SIGINT)
        assert b"interrupted; finishing" in process.stderr.readline()
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    # What was begun may have been finished before the second one was heard.
    assert process.returncode == (130 if number == signal.SIGINT else 143)
    assert b"Traceback" not in error
    assert all(name.endswith(".bin") for name in names(out))
    assert len(names(out)) < MANY
