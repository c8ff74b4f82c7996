"""What the tests of real-world images share: rows of docs/INPUTS.md, the programs that make and read files.

A row names commands of other programs that make a file, and of another program that reads it. Files are small
and made anew for each test. What a command needs and this machine lacks is a reason to skip.
"""

import functools
import importlib.util
import json
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from helpers import texture
from PIL import Image

from codec_cli.pictures.contents import FRAMES_NOTE
from codec_cli.pictures.images import REDUCED_NOTE, load_picture

WIDTH, HEIGHT = 53, 37  # primes
MANY = 1 << 20
INSTALL = "`make tools` installs it on Debian"
ICC = Path("/usr/share/color/icc/ghostscript")  # Of Debian's libgs-common.
EXIFTOOL = "exiftool -q -overwrite_original -n"
SIZES = ((1, 1), (1, 31), (31, 1), (17, 1), (1, 17), (13, 47))
FLOATING = "floating-point input reduced to 8 bits"
XMP_DROPPED = "XMP dropped: only ICC profile and EXIF are kept"
KEPT, MADE = "kept", "made"

__all__ = ["FRAMES_NOTE", "REDUCED_NOTE"]


@dataclass(frozen=True)
class Row:
    """A kind of input that is read.

    Attributes:
        name: What docs/INPUTS.md calls it.
        commands: Make ``{out}``, one per line, out of :func:`pictures`; see :func:`program`. After `` > ``,
            the file that gets standard output.
        facts: What ``exiftool -S`` must say of the file (beginnings of lines): that it is of that kind.
        suffix: Of the file.
        reader: Commands of which the last writes the pixels as PNM or PAM to standard output.
        channels: 1 gray, 3 R'G'B'.
        alpha: Whether there is transparency.
        tolerance: The largest difference from the reader's pixels, in levels of 255, and from its alpha.
        warnings: What must be warned of.
        profile: ``kept`` if the file's ICC profile must travel byte for byte, ``made`` if one is made.
        exif: Tags that must travel; exiftool's names.
        needs: A module without which it can't be read.
    """

    name: str
    commands: str
    facts: tuple[str, ...] = ()
    suffix: str = ".png"
    reader: str = "magick {out}[0] -depth 16 pam:-"
    channels: int = 3
    alpha: bool = False
    tolerance: float = 0
    warnings: tuple[str, ...] = ()
    profile: str = ""
    exif: tuple[str, ...] = ()
    needs: str = ""


@dataclass(frozen=True)
class Refusal:
    """A kind of input that ends with exit code 3.

    Attributes:
        name: See :class:`Row`.
        commands: See :class:`Row`.
        suffix: See :class:`Row`.
        message: In the error.
    """

    name: str
    commands: str
    suffix: str
    message: str


@functools.cache
def program(name):
    """Where a program is, or None. ``magick`` may be ImageMagick 6's ``convert``."""
    for candidate in ("magick", "convert") if name == "magick" else (name,):
        path = shutil.which(candidate)
        # Windows has a `convert` that is something else altogether.
        if path and (name != "magick" or b"ImageMagick" in execute([path, "-version"])):
            return path
    return None


def execute(command, folder=None):
    """Standard output of a command."""
    done = subprocess.run(command, capture_output=True, timeout=60, check=False, cwd=folder)
    assert done.returncode == 0, f"{command}: {done.stderr.decode(errors='replace')}"
    return done.stdout


def call(commands, folder, out=None):
    """Runs command lines in a folder; standard output of the last."""
    shown = b""
    for line in filter(None, map(str.strip, commands.splitlines())):
        command, _, target = line.partition(" > ")
        first, *rest = (word.format(out=out, icc=ICC) for word in shlex.split(command))
        if program(first) is None:
            pytest.skip(f"needs {first}, which is not installed; {INSTALL}")
        shown = execute([program(first), *rest], folder)
        if target:
            (folder / target.format(out=out)).write_bytes(shown)
    return shown


def pnm(array, maximum=255):
    """A binary PGM or PPM file, or PAM where there is alpha, of integers (height, width, channels)."""
    height, width, depth = array.shape
    if depth in (1, 3):
        header = f"P{5 if depth == 1 else 6}\n{width} {height}\n{maximum}\n"
    else:
        kind = "GRAYSCALE_ALPHA" if depth == 2 else "RGB_ALPHA"
        header = (
            f"P7\nWIDTH {width}\nHEIGHT {height}\nDEPTH {depth}\nMAXVAL {maximum}\nTUPLTYPE {kind}\nENDHDR\n"
        )
    return header.encode() + array.astype(">u2" if maximum > 255 else "u1").tobytes()


def parse_pnm(data):
    """Samples (height, width, channels), float64 in levels of 255, of a binary PNM or PAM file."""
    if data.startswith(b"P7"):
        head, body = data.split(b"ENDHDR\n", 1)
        lines = [line.split(None, 1) for line in head.split(b"\n")[1:] if line and not line.startswith(b"#")]
        facts = dict(lines)
        shape = [int(facts[key]) for key in (b"HEIGHT", b"WIDTH", b"DEPTH")]
        maximum = int(facts[b"MAXVAL"])
    else:
        match = re.match(rb"P([456])\s+(?:#.*\s+)?(\d+)\s+(\d+)\s", data)
        body = data[match.end() :]
        kind, width, height = map(int, match.groups())
        shape = [height, width, 3 if kind == 6 else 1]
        if kind == 4:
            bits = np.frombuffer(body, np.uint8).reshape(height, -1)
            return 255.0 * (1 - np.unpackbits(bits, axis=1)[:, :width, None])
        match = re.match(rb"\s*(\d+)\s", body)
        body, maximum = body[match.end() :], int(match[1])
    samples = np.frombuffer(body, ">u2" if maximum > 255 else "u1")
    return samples[: np.prod(shape)].reshape(shape) * (255 / maximum)


@functools.cache
def pictures():
    """What all files are made of: a name to the bytes of a PNM or PAM file."""
    colour, gray = texture(HEIGHT, WIDTH), texture(HEIGHT, WIDTH, 1)
    alpha = texture(HEIGHT, WIDTH, 1, seed=1)
    rng = np.random.default_rng(3)
    fine = rng.integers(0, 65536, (HEIGHT, WIDTH, 4))  # With every low byte.
    palette, index = rng.integers(0, 256, (256, 3)), gray[..., 0]
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    slope = np.stack([rows * 4 + 40, columns * 4 + 20, 200 - rows - columns], 2)
    made = {
        "colour.ppm": pnm(colour),
        "gray.pgm": pnm(gray),
        "bits.pgm": pnm(gray // 128, 1),
        "gray2.pgm": pnm(gray // 64, 3),
        "gray4.pgm": pnm(gray // 16, 15),
        "gray-alpha.pam": pnm(np.dstack([gray, alpha])),
        "colour-alpha.pam": pnm(np.dstack([colour, alpha])),
        "gray16.pgm": pnm(fine[..., :1], 65535),
        "colour16.ppm": pnm(fine[..., :3], 65535),
        "gray-alpha16.pam": pnm(fine[..., :2], 65535),
        "colour-alpha16.pam": pnm(fine, 65535),
        "two.ppm": pnm(palette[index // 128]),
        "four.ppm": pnm(palette[index // 64]),
        "sixteen.ppm": pnm(palette[index // 16]),
        "many.ppm": pnm(palette[index]),
        "slope.ppm": pnm(slope),
        "red.ppm": pnm(np.full((HEIGHT, WIDTH, 3), (200, 10, 20))),
        "mask.pgm": pnm(255 * (alpha > 100)),
    }
    for width, height in SIZES:
        made[f"colour-{width}x{height}.ppm"] = pnm(texture(height, width))
    return made


def make(row, folder):
    """The file of a row, in a folder."""
    if "{icc}" in row.commands + getattr(row, "reader", "") and not ICC.is_dir():
        pytest.skip(f"needs the ICC profiles of libgs-common; {INSTALL}")
    for name, data in pictures().items():
        if re.search(rf"(?<![\w-]){re.escape(name)}", row.commands + getattr(row, "reader", "")):
            (folder / name).write_bytes(data)
    out = folder / f"{row.name}{row.suffix}"
    call(row.commands, folder, out)
    return out


def parametrize(rows):
    """Of a test with the argument ``row``."""
    return pytest.mark.parametrize("row", rows, ids=[row.name for row in rows])


def check_row(row, folder, run):
    """What is read of a row's file, and what comes back of it after compress and decompress."""
    if row.needs and importlib.util.find_spec(row.needs) is None:
        pytest.skip(f"needs {row.needs} (pip install '.[eval]')")
    Image.init()
    if row.suffix == ".avif" and "AVIF" not in Image.SAVE:
        pytest.skip("this Pillow has no AVIF")
    out = make(row, folder)
    facts = call("exiftool -S -a {out}", folder, out).decode().splitlines() if row.facts else []
    assert [fact for fact in row.facts if not any(line.startswith(fact) for line in facts)] == [], facts

    picture = load_picture(out, out.name, MANY)
    assert picture.warnings == row.warnings
    assert picture.pixels.shape[2] == row.channels
    assert (picture.alpha is not None) == row.alpha
    _compare(row, picture, parse_pnm(call(row.reader, folder, out)))

    packed, again = folder / "packed.bin", folder / "decompressed.png"
    done = run("compress", out, packed, "--model", "tiny", "--verify")
    assert done.exit_code == 0, done.stderr
    for warning in row.warnings:
        assert f"{out}: warning: {warning}" in done.stderr
    assert run("decompress", packed, again).exit_code == 0
    decoded = load_picture(again, again.name, MANY)
    assert decoded.pixels.shape == picture.pixels.shape
    if row.alpha:
        np.testing.assert_array_equal(decoded.alpha, picture.alpha)
    _compare_metadata(row, folder, out, again, picture)


def _compare(row, picture, expected):
    """The pixels with those of another program. Colours that can't be seen don't count."""
    values = picture.pixels.astype(float)
    transparent = expected.shape[2] in (2, 4)
    colours = expected[..., :-1] if transparent else expected
    assert colours.shape[:2] == values.shape[:2]
    difference = np.abs(colours - values)
    if row.alpha:
        assert transparent, "the reader gives no alpha"
        assert np.abs(expected[..., -1] - picture.alpha).max() <= row.tolerance
        difference = difference[picture.alpha > 0]
    assert difference.max(initial=0) <= row.tolerance


def _compare_metadata(row, folder, out, again, picture):
    """By exiftool, in the source and in what was decompressed."""
    assert (picture.icc is not None) == bool(row.profile)
    assert (picture.exif is not None) == bool(row.exif)
    if row.profile:
        profile = call("exiftool -icc_profile -b {out}", folder, again)
        assert profile == picture.icc
        assert row.profile == MADE or profile == call("exiftool -icc_profile -b {out}", folder, out)
    if row.exif:
        source, result = (
            json.loads(call("exiftool -j -n -ee0 {out}", folder, path))[0] for path in (out, again)
        )
        # Not all of exiftool's versions read EXIF everywhere that we do; the maker is always this one.
        assert {tag: result.get(tag) for tag in row.exif} == {"Make": "Maker"} | {
            tag: source[tag] for tag in row.exif if tag in source
        }
        assert result.get("Orientation", 1) == 1
        assert not {"ThumbnailImage", "ThumbnailLength", "ThumbnailOffset"} & set(result)


def check_refusal(row, folder, run):
    """That compressing a row's file ends with one line, the exit code, and no file."""
    out = make(row, folder)
    done = run("compress", out, folder / "packed.bin", "--model", "tiny")
    assert done.exit_code == 3
    (line,) = [line for line in done.stderr.splitlines() if line.strip()]
    assert str(out) in line
    assert row.message in line
    assert not (folder / "packed.bin").exists()
