"""The script that downloads the Kodak images, from a folder instead of the Internet."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT

SCRIPT = ROOT / "scripts" / "fetch_kodak.sh"
KODAK = ROOT.parent / "shared" / "data" / "kodak"
NAMES = [f"kodim{i:02}.png" for i in range(1, 25)]

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, ("bash", "curl"))), reason="needs bash and curl (which reads file: addresses)"
)
needs_images = pytest.mark.skipif(not KODAK.is_dir(), reason="needs the Kodak images in ../shared/data/kodak")


def fetch(source, *arguments, **environment):
    environment = {**os.environ, "KODAK_URL": source.absolute().as_uri(), **environment}
    return subprocess.run(
        ["bash", SCRIPT, *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def served(tmp_path):
    """A folder to fetch from, in which images may be spoiled."""
    folder = tmp_path / "served"
    folder.mkdir()
    for name in NAMES:
        (folder / name).symlink_to(KODAK / name)
    return folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@needs_images
def test_all_images(tmp_path):
    target = tmp_path / "deep" / "kodak images"
    result = fetch(KODAK, target)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == f"{target}: all 24 images are right (24 fetched, 0 were there)\n"
    assert names(target) == NAMES
    assert all((target / name).read_bytes() == (KODAK / name).read_bytes() for name in NAMES)


@needs_images
def test_what_is_right_is_kept(served, tmp_path):
    target = tmp_path / "target"
    missing = served / NAMES[-1]
    missing.unlink()
    result = fetch(served, target)
    assert result.returncode == 1
    assert "kodim24.png: can't be downloaded; try again" in result.stderr
    assert names(target) == NAMES[:-1]
    times = [(target / name).stat().st_mtime_ns for name in NAMES[:-1]]
    missing.symlink_to(KODAK / missing.name)
    result = fetch(served, target)
    assert "(1 fetched, 23 were there)" in result.stdout
    assert [(target / name).stat().st_mtime_ns for name in NAMES[:-1]] == times


@needs_images
def test_other_bytes_are_refused(served, tmp_path):
    spoiled = served / "kodim03.png"
    spoiled.unlink()
    spoiled.write_bytes((KODAK / "kodim03.png").read_bytes() + b"\0")
    result = fetch(served, tmp_path / "target")
    assert result.returncode == 1
    assert "served/kodim03.png: its SHA-256 is not that of the original" in result.stderr
    assert "1 of 24 images differ. Some public copies were saved again" in result.stderr
    assert names(tmp_path / "target") == [name for name in NAMES if name != "kodim03.png"]


@needs_images
def test_a_wrong_file_of_the_user_is_not_overwritten(served, tmp_path):
    target = tmp_path / "target"
    target.mkdir()
    (target / "kodim07.png").write_bytes(b"mine")
    result = fetch(served, target)
    assert result.returncode == 1
    assert f"{target}/kodim07.png: its SHA-256 is not" in result.stderr
    assert (target / "kodim07.png").read_bytes() == b"mine"


def test_usage(tmp_path):
    for arguments in ([], ["a", "b"], ["--help"]):
        result = fetch(tmp_path, *arguments)
        assert result.returncode == 1
        assert "usage: fetch_kodak.sh DIR" in result.stderr


def test_knows_24_check_sums():
    assert re.findall(r"^[0-9a-f]{64}  (\S+)$", SCRIPT.read_text(), re.MULTILINE) == NAMES
    assert os.access(SCRIPT, os.X_OK)
    assert "https://r0k.us/graphics/kodak/kodak" in SCRIPT.read_text()


def test_needs_a_downloader(tmp_path):
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in ("bash", "cut", "sha256sum", "mkdir"):
        if found := shutil.which(tool):
            (folder / tool).symlink_to(found)
    result = fetch(Path("/nowhere"), tmp_path / "target", PATH=str(folder))
    assert "needs curl or wget" in result.stderr or "needs sha256sum" in result.stderr
