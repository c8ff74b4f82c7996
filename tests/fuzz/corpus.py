"""The seed corpus: golden files and archives, small files of every kind, and the models of the tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from helpers import GOLDEN, KINDS, LEVELS, codec_of, info_of, texture

from codec_cli.bitstream import container
from codec_cli.packing import pack_arrays
from codec_cli.pictures.images import Picture
from fuzz import folders
from fuzz.harness import MAX_PIXELS, claimed_pixels
from fuzz.mutation import DICTIONARY, TILE_PIXELS

# Of golden files: larger ones take too long, and read no other code.
LARGEST = 2048
# Height, width, channels; all levels take turns.
SHAPES = (
    (1, 1, 3),
    (9, 30, 3),
    (20, 17, 1),
    (16, 16, 4),
    (16, 40, 2),
    (16, 48, 3),
    (2, 1040, 3),
    (1030, 1, 1),
)


def files() -> dict[str, bytes]:
    """Files and archives by name: golden ones that are small enough, and some of each shape and model."""
    golden = [*sorted(GOLDEN.glob("*.bin")), *sorted(GOLDEN.with_name("golden-archives").glob("*.pack"))]
    # Those of released models read no other code, and take the time of large models.
    found = {path.name: path.read_bytes() for path in golden if not path.name.startswith("released-")}
    found = {name: data for name, data in found.items() if 0 < claimed_pixels(data) <= LARGEST}
    for kind in KINDS:
        for number, (height, width, channels) in enumerate(SHAPES):
            data = codec_of(kind).encode_picture(_picture(height, width, channels), level=number % LEVELS)
            found[f"{kind}-{height}x{width}x{channels}"] = data
            parsed = container.parse(data, TILE_PIXELS, MAX_PIXELS)
            if len(parsed.tiles) > 1:  # As earlier releases wrote them.
                found[f"{kind}-{height}x{width}x{channels}-v1"] = container.serialize(parsed, TILE_PIXELS, 1)
        images = np.stack([texture(8, 8, 1, seed) for seed in range(4)])
        found[f"{kind}.pack"] = pack_arrays(codec_of(kind), images, 2, names=["a", "b.c", "d e", "\u00e9"])
    return found


def models() -> dict[str, bytes]:
    """Model folders by name."""
    return {kind: folders.seed(info_of(kind).path) for kind in KINDS}


def write(folder: Path, seeds: dict[str, bytes]) -> None:
    """Puts seeds into a folder, each in a file."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in seeds.items():
        (folder / name).write_bytes(data)


def write_dictionary(path: Path) -> None:
    """Puts the dictionary into a file, as libFuzzer reads it."""
    lines = ('"' + "".join(f"\\x{byte:02x}" for byte in token) + '"\n' for token in DICTIONARY)
    path.write_text("".join(lines))


def _picture(height: int, width: int, channels: int) -> Picture:
    pixels = texture(height, width, channels)
    colours = 1 if channels < 3 else 3
    alpha = pixels[:, :, colours] if channels > colours else None
    icc, exif = (bytes(range(200)), b"II*\0\x08\0\0\0\0\0\0\0\0\0") if alpha is not None else (None, None)
    return Picture(pixels[:, :, :colours], alpha, icc, exif)
