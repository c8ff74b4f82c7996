"""What `codec compress --verify` warns of: unusual contents, and photographs, which it must not warn of.

    python scripts/unusual.py                                  # docs/ROBUSTNESS.md's table of made contents
    python scripts/unusual.py --save build/unusual             # their pictures, beside what became of them
    python scripts/unusual.py ../shared/data/kodak             # photographs instead: warnings and extremes
    python scripts/unusual.py ../shared/data/kodak --shrink 8  # the same, an eighth as wide and high

The contents are made from fixed seeds; text is set in the font that comes with Pillow.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from codec_cli import Codec
from codec_cli.pictures.images import Picture, load_picture
from codec_cli.verification import Rivals, needs_rivals, rivals, verify, warning

SIDE = 512
BLACK, WHITE, RED, BLUE, CYAN = (0, 0, 0), (255, 255, 255), (255, 0, 0), (0, 0, 255), (0, 255, 255)
SENTENCE = "the quick brown fox jumps over a lazy dog while seven wizards box with grey quartz and vex"
WORDS = SENTENCE.split()
Pixels = np.ndarray
Colour = tuple[int, int, int]


def rng() -> np.random.Generator:
    """The same numbers for every content."""
    return np.random.default_rng(7)


def text(ink: Colour, paper: Colour, height: int = 13) -> Pixels:
    """A page full of words."""
    canvas, random = Image.new("RGB", (SIDE, SIDE), paper), rng()
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=height)
    for top in range(8, SIDE - height, int(height * 1.4)):
        draw.text((8, top), " ".join(random.choice(WORDS, 16)), ink, font)
    return np.asarray(canvas)


def screenshot() -> Pixels:
    """A window with a title, buttons, lines of text and icons."""
    canvas, random = Image.new("RGB", (SIDE, SIDE), (240, 240, 240)), rng()
    draw, small = ImageDraw.Draw(canvas), ImageFont.load_default(size=11)
    draw.rectangle((0, 0, SIDE, 30), (40, 60, 100))
    draw.text((10, 6), "Settings - General", WHITE, ImageFont.load_default(size=15))
    for i in range(12):
        top, chosen = 40 + 38 * i, i == 3
        draw.rectangle((8, top, 120, top + 30), (0, 120, 215) if chosen else WHITE, (180, 180, 180))
        draw.text((16, top + 8), " ".join(random.choice(WORDS, 2)), WHITE if chosen else BLACK, small)
        draw.rectangle((132, top, 504, top + 30), WHITE, (200, 200, 200))
        draw.text((140, top + 2), " ".join(random.choice(WORDS, 9)), (30, 30, 30), small)
        draw.text((140, top + 15), " ".join(random.choice(WORDS, 9)), (0, 102, 204), small)
        draw.rectangle((470, top + 8, 484, top + 22), tuple(map(int, random.integers(0, 256, 3))))
    return np.asarray(canvas)


def line_art() -> Pixels:
    """Black lines of one pixel: straight ones, circles, hatching."""
    canvas, random = Image.new("RGB", (SIDE, SIDE), WHITE), rng()
    draw = ImageDraw.Draw(canvas)
    for _ in range(60):
        draw.line(tuple(map(int, random.integers(0, SIDE, 4))), BLACK)
    for radius in range(10, 250, 8):
        draw.ellipse((256 - radius, 256 - radius, 256 + radius, 256 + radius), outline=BLACK)
    for left in range(0, 160, 5):
        draw.line((left, 352, left + 80, 512), BLACK)
    return np.asarray(canvas)


def chart() -> Pixels:
    """Four thin curves on a grid with labels."""
    canvas, random = Image.new("RGB", (SIDE, SIDE), WHITE), rng()
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=11)
    for i in range(11):
        draw.line((40, 20 + 44 * i, 500, 20 + 44 * i), (220, 220, 220))
        draw.text((8, 14 + 44 * i), f"{10 - i}.0", BLACK, font)
    for colour in (RED, BLUE, (0, 128, 0), (255, 0, 255)):
        heights = np.clip(256 + np.cumsum(random.normal(0, 12, 92)), 20, 460)
        draw.line([(40 + 5 * i, float(height)) for i, height in enumerate(heights)], colour)
    return np.asarray(canvas)


def cells(colours: list[Colour], side: int) -> Pixels:
    """Squares of random colours."""
    chosen = rng().integers(0, len(colours), (SIDE // side, SIDE // side))
    return np.array(colours, np.uint8)[chosen].repeat(side, 0).repeat(side, 1)


def checkerboard(a: Colour, b: Colour, side: int = 1) -> Pixels:
    """Squares of two colours in turn."""
    y, x = np.mgrid[:SIDE, :SIDE] // side
    return np.array([a, b], np.uint8)[(x + y) % 2]


def stripes(a: Colour, b: Colour) -> Pixels:
    """Columns of two colours in turn, one pixel wide."""
    return np.array([a, b], np.uint8)[np.mgrid[:SIDE, :SIDE][1] % 2]


def flat(colour: Colour) -> Pixels:
    """One colour."""
    return np.full((SIDE, SIDE, 3), colour, np.uint8)


def clouds(low: int = 0, high: int = 255) -> Pixels:
    """Noise with a spectrum like that of photographs, between two values."""
    random, frequencies = rng(), np.fft.fftfreq(SIDE)
    radius = np.hypot(frequencies[:, None], frequencies)
    radius[0, 0] = 1
    layers = [
        np.fft.ifft2(np.fft.fft2(random.normal(size=(SIDE, SIDE))) / radius**1.3).real for _ in range(4)
    ]
    planes = np.stack([layers[0] + 0.3 * layer for layer in layers[1:]], 2)
    planes = (planes - planes.min()) / (planes.max() - planes.min())
    return np.rint(low + planes * (high - low)).astype(np.uint8)


def hues() -> Pixels:
    """All hues at full saturation, darker towards the bottom."""
    y, x = np.mgrid[:SIDE, :SIDE]
    planes = (x * 256 // SIDE, np.full_like(x, 255), 255 - y * 128 // SIDE)
    return np.asarray(
        Image.merge("HSV", [Image.fromarray(p.astype(np.uint8)) for p in planes]).convert("RGB")
    )


def ramp() -> Pixels:
    """From black to white along the diagonal."""
    y, x = np.mgrid[:SIDE, :SIDE]
    return np.repeat(((x + y) * 255 // (2 * SIDE - 2)).astype(np.uint8)[:, :, None], 3, 2)


def stars() -> Pixels:
    """Single bright pixels on black."""
    sky, random = np.zeros((SIDE, SIDE, 3), np.uint8), rng()
    rows, columns = random.integers(0, SIDE, (2, 800))
    sky[rows, columns] = random.integers(60, 256, (800, 1))
    return sky


CONTENTS: dict[str, Callable[[], Pixels]] = {
    "text, black on white": partial(text, BLACK, WHITE),
    "text, 48 px": partial(text, BLACK, WHITE, 48),
    "text, red on blue": partial(text, RED, BLUE),
    "text, blue on black": partial(text, BLUE, BLACK),
    "screenshot": screenshot,
    "chart": chart,
    "line art": line_art,
    "stars": stars,
    "squares, black and white, 4 px": partial(cells, [BLACK, WHITE], 4),
    "squares, 6 colours, 8 px": partial(cells, [BLACK, RED, BLUE, CYAN, (255, 255, 0), WHITE], 8),
    "squares, 6 colours, 2 px": partial(cells, [BLACK, RED, BLUE, CYAN, (255, 255, 0), WHITE], 2),
    "checkerboard, 1 px": partial(checkerboard, BLACK, WHITE),
    "checkerboard, red and cyan, 1 px": partial(checkerboard, RED, CYAN),
    "stripes, red and blue, 1 px": partial(stripes, RED, BLUE),
    "1-bit dither": lambda: np.asarray(Image.fromarray(clouds()).convert("1").convert("RGB")),
    "16 colours, dithered": lambda: np.asarray(Image.fromarray(clouds()).quantize(16).convert("RGB")),
    "uniform noise": lambda: rng().integers(0, 256, (SIDE, SIDE, 3), np.uint8),
    "grain on gray, sigma 25": lambda: np.clip(128 + rng().normal(0, 25, (SIDE, SIDE, 3)), 0, 255).astype(
        np.uint8
    ),
    "clouds": clouds,
    "clouds, 0 to 16 of 255": partial(clouds, 0, 16),
    "clouds, 120 to 136": partial(clouds, 120, 136),
    "all hues, saturated": hues,
    "gray ramp": ramp,
    "flat gray": partial(flat, (128, 128, 128)),
    "flat red": partial(flat, RED),
    "flat blue": partial(flat, BLUE),
}


@dataclass(frozen=True)
class Point:
    """One picture at one level.

    Attributes:
        name: Of the picture.
        quality: Nearest to the level.
        pixels: Their number.
        size: Bytes of our file.
        psnr: Of our file.
        promised: By the card.
        others: What PNG and JPEG make of it; None if they were not tried.
        warning: Text of the warning, or None.
    """

    name: str
    quality: int
    pixels: int
    size: int
    psnr: float
    promised: float
    others: Rivals | None
    warning: str | None


_codecs: dict[str, Codec] = {}


def points(name: str, pixels: Pixels, model: str, levels: list[int], always: bool) -> Iterator[Point]:
    """One picture at several levels; other formats are tried ``always``, or where the rule asks for them."""
    codec = _codecs.setdefault(model, Codec(model, threads=1))
    picture = Picture(pixels)
    latents = list(codec.latents(pixels))
    for level in levels:
        data = codec.pack(picture, latents, level)
        achieved, promised = verify(codec, picture, data, pixels.size), codec.info.promised(level)
        if promised is None:
            raise SystemExit(f"{model}: the card has no figures")
        others = rivals(pixels, len(data)) if always or needs_rivals(achieved, promised) else None
        yield Point(
            name,
            codec.info.quality_of_level(level),
            pixels.shape[0] * pixels.shape[1],
            len(data),
            achieved,
            promised,
            others,
            warning(achieved, promised, len(data), others) if others else None,
        )


def photograph(path: Path, model: str, levels: list[int], shrink: int) -> list[Point]:
    """A file at several levels."""
    pixels = load_picture(path, path.name, 1 << 28).pixels
    if shrink > 1:
        image = Image.fromarray(pixels.squeeze())
        image = image.resize((image.width // shrink, image.height // shrink), Image.Resampling.LANCZOS)
        pixels = np.asarray(image).reshape(image.height, image.width, -1)
    return list(points(path.name, pixels, model, levels, False))


def content(name: str, model: str, levels: list[int]) -> list[Point]:
    """A made content at several levels."""
    return list(points(name, CONTENTS[name](), model, levels, True))


def print_contents(found: list[Point]) -> None:
    """The table of docs/ROBUSTNESS.md: a row for each content, a column for each quality."""
    rows: dict[str, list[Point]] = {}
    for point in found:
        rows.setdefault(point.name, []).append(point)
    first = next(iter(rows.values()))
    heads = [f"quality {point.quality}, card {point.promised:.1f} dB" for point in first]
    print("| content | PNG |", " | ".join(heads), "|")
    print("|---|---:|" + "---|" * len(heads))
    for name, row in rows.items():
        png = row[0].others.png_bytes if row[0].others else 0
        print(f"| {name} | {8 * png / row[0].pixels:.2f} |", " | ".join(map(cell, row)), "|")


def cell(point: Point) -> str:
    """Rate, PSNR, that of a JPEG of the same size, and what a warning says."""
    jpeg = point.others.jpeg_db if point.others else None
    shown = (
        f"{8 * point.size / point.pixels:.2f}: {point.psnr:.1f} ({'-' if jpeg is None else f'{jpeg:.1f}'})"
    )
    if point.warning is None:
        return shown
    return shown + next(
        (f" **{word}**" for word in ("PNG", "JPEG") if f" {word} " in point.warning), " **far**"
    )


def print_photographs(found: list[Point]) -> None:
    """How far photographs are from the rule's thresholds."""
    warned = [point for point in found if point.warning]
    print(f"{len({point.name for point in found})} pictures, {len(found)} points, {len(warned)} warnings")
    for point in warned:
        print(f"  {point.name}, quality {point.quality}: {point.warning}")
    tried = [(point, point.others) for point in found if point.others]
    leads = [(point.psnr - others.jpeg_db, point) for point, others in tried if others.jpeg_db is not None]
    factors = [(others.png_bytes / point.size, point) for point, others in tried]
    print(f"other formats tried: {len(tried)} points")
    for title, values in (
        ("least dB above the card", [(point.psnr - point.promised, point) for point in found]),
        ("least dB above JPEG, where tried", leads),
        ("least size of PNG over ours, where tried", factors),
    ):
        least = sorted(values, key=lambda pair: pair[0])[:4]
        print(f"{title}:", ", ".join(f"{value:.2f} ({p.name}, quality {p.quality})" for value, p in least))


def save(folder: Path, model: str, quality: int) -> None:
    """Writes every content beside what becomes of it."""
    folder.mkdir(parents=True, exist_ok=True)
    codec = Codec(model)
    for name, make in CONTENTS.items():
        pixels = make()
        both = np.concatenate([pixels, codec.decode(codec.encode(pixels, quality))], 1)
        Image.fromarray(both).save(folder / f"{name.replace(',', '').replace(' ', '-')}.png")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photographs", type=Path, nargs="*", help="images or directories")
    parser.add_argument("--model", default="photo")
    parser.add_argument("--qualities", default="15,58,86", help="of the made contents")
    parser.add_argument("--levels-step", type=int, default=7, help="take every n-th level of photographs")
    parser.add_argument("--every", type=int, default=1, help="take every n-th photograph of a directory")
    parser.add_argument("--shrink", type=int, default=1, help="divide the sides of photographs by this")
    parser.add_argument("--save", type=Path, metavar="DIR", help="write the contents, at the default quality")
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    info = Codec(arguments.model).info
    if arguments.save:
        save(arguments.save, arguments.model, info.default_quality)
        return
    with multiprocessing.get_context("spawn").Pool(arguments.jobs) as pool:
        if arguments.photographs:
            files = [
                path
                for place in arguments.photographs
                for path in (sorted(place.iterdir())[:: arguments.every] if place.is_dir() else [place])
            ]
            levels = list(range(0, info.levels, arguments.levels_step))
            work = partial(photograph, model=arguments.model, levels=levels, shrink=arguments.shrink)
            results = pool.imap(work, files)
        else:
            levels = [info.level_of_quality(int(quality)) for quality in arguments.qualities.split(",")]
            results = pool.imap(partial(content, model=arguments.model, levels=levels), CONTENTS)
        found = []
        for done in results:
            found += done
            print(f"\r{len(found)} points", end="", file=sys.stderr)
        print(file=sys.stderr)
    (print_photographs if arguments.photographs else print_contents)(found)


if __name__ == "__main__":
    main()
