"""Makes the golden files in tests/data/golden and golden-archives. It was run once for each of them.

NEVER run it to replace existing files (it refuses): golden files stand for the files that users have, and
a decoder that no longer reads them the same way is broken, whatever the reason. To cover something new, add
cases under new names to :data:`PICTURES`, :data:`SYMBOLS` or :data:`ARCHIVES`; existing entries stay as they
are.

    python tests/make_golden.py
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

sys.path.insert(0, str(Path(__file__).parents[1]))

from helpers import (
    CONTEXT,
    FACTORIZED,
    GOLDEN,
    LEVELS,
    RELEASED,
    checksum,
    codec_of,
    entropy_of,
    info_of,
    random_symbols,
)

from codec_cli.bitstream import container
from codec_cli.bitstream.archive import parse
from codec_cli.packing import pack_arrays, unpack_arrays
from codec_cli.pictures.images import Picture

INDEX = GOLDEN / "golden.json"
# Beside the files, whose folder holds nothing but what its index names.
GOLDEN_ARCHIVES = GOLDEN.with_name("golden-archives")
ARCHIVE_INDEX = GOLDEN_ARCHIVES / "golden.json"

# Name: (model, level, height, width, channels, metadata).
PICTURES = {
    **{f"context-rgb-level{level}": (CONTEXT, level, 61, 83, 3, False) for level in range(LEVELS)},
    "context-1x1": (CONTEXT, 6, 1, 1, 3, False),
    "context-gray-1x1": (CONTEXT, 0, 1, 1, 1, False),
    "context-1x17": (CONTEXT, 3, 17, 1, 3, False),
    "context-17x1": (CONTEXT, 5, 1, 17, 3, False),
    "context-16x16": (CONTEXT, 6, 16, 16, 3, False),
    "context-gray": (CONTEXT, 4, 47, 59, 1, False),
    "context-gray-alpha": (CONTEXT, 2, 35, 22, 2, False),
    "context-rgba": (CONTEXT, 6, 43, 31, 4, False),
    "context-rgba-metadata": (CONTEXT, 5, 33, 50, 4, True),
    "context-metadata": (CONTEXT, 1, 50, 33, 3, True),
    "context-two-tiles": (CONTEXT, 6, 40, 1040, 3, False),
    "context-four-tiles": (CONTEXT, 0, 1030, 1027, 1, False),
    "factorized-rgb-level0": (FACTORIZED, 0, 61, 83, 3, False),
    "factorized-rgb-level3": (FACTORIZED, 3, 61, 83, 3, False),
    "factorized-rgb-level6": (FACTORIZED, 6, 61, 83, 3, False),
    "factorized-1x1": (FACTORIZED, 2, 1, 1, 3, False),
    "factorized-gray-alpha": (FACTORIZED, 5, 23, 41, 2, False),
    "factorized-rgba-metadata": (FACTORIZED, 4, 29, 37, 4, True),
    "factorized-two-tiles": (FACTORIZED, 1, 1040, 40, 3, False),
    # From here on images of several tiles are files of version 2; those above are of version 1.
    "context-tiles-metadata": (CONTEXT, 3, 1040, 35, 4, True),
    "context-tiles-six": (CONTEXT, 0, 1025, 2049, 1, False),
    "factorized-tiles-gray": (FACTORIZED, 4, 20, 2060, 1, False),
    **{
        f"released-{model}-level{level}": (
            model,
            level,
            *((28, 28, 1) if model.startswith("mnist") else (150, 170, 3)),
            False,
        )
        for model, levels in RELEASED.items()
        for level in levels
    },
}
# Symbols that no picture gives, for the range coder's sake: escapes, extremes, means at their clips. Only
# the symbols count, not the pixels. Name: (model, level, rows, columns of latents, what).
SYMBOLS = {
    "context-symbols-laplace": (CONTEXT, 6, 9, 13, "laplace"),
    "context-symbols-extreme": (CONTEXT, 3, 5, 4, "extreme"),
    "context-symbols-large": (CONTEXT, 6, 7, 6, "large"),
    "context-symbols-zero": (CONTEXT, 0, 6, 70, "zero"),
    "factorized-symbols-laplace": (FACTORIZED, 6, 8, 9, "laplace"),
    "factorized-symbols-extreme": (FACTORIZED, 2, 3, 5, "extreme"),
}
# Name: (model, level, height, width, channels, names or the number of images).
ARCHIVES = {
    "context-rgb": (CONTEXT, 3, 20, 30, 3, ["one", "two.2", "three"]),
    "context-gray": (CONTEXT, 6, 17, 9, 1, 2),
    "context-two-tiles": (CONTEXT, 1, 16, 1040, 3, ["\u017eluva", "\U0001f40e", "a b"]),
    "factorized-digits": (FACTORIZED, 2, 28, 28, 1, 12),
    "factorized-one": (FACTORIZED, 5, 1, 1, 3, ["1"]),
}


def picture(height, width, channels, metadata):
    """Something like a photograph: soft shades, discs with sharp edges, stripes, a little noise."""
    rng = np.random.default_rng([height, width, channels])
    y, x = np.mgrid[:height, :width]
    colour = np.stack([120 + 90 * np.sin(x / 31 + i) * np.cos(y / 23 - i / 2) for i in range(3)], 2)
    for centre, radius, value in (((20, 30), 14, (220, 60, 40)), ((45, 12), 9, (20, 90, 200))):
        colour[((y % 97 - centre[0]) ** 2 + (x % 131 - centre[1]) ** 2) < radius**2] = value
    stripes = (x % 131 > 50) & (x % 131 < 75) & (y % 97 > 15) & (y % 97 < 40)
    colour[stripes] += np.where((x + y) // 3 % 2, 50, -50)[stripes][:, None]
    colour = np.clip(colour + rng.normal(0, 3, (height, width, 1)), 0, 255).astype(np.uint8)
    pixels = colour if channels >= 3 else colour[:, :, 1:2].copy()
    alpha = ((y * 5 + x * 3) % 256).astype(np.uint8) if channels in (2, 4) else None
    icc = exif = None
    if metadata:
        icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        tags = Image.Exif()
        tags[0x010F], tags[0x0110], tags[0x0112] = "a camera", "golden", 1
        exif = tags.tobytes().removeprefix(b"Exif\0\0")
    return Picture(pixels, alpha, icc, exif)


def symbols(height, width, what):
    rng = np.random.default_rng([height, width])
    if what == "laplace":
        return random_symbols(height, width)
    shape = (height, width, 24)
    if what == "extreme":
        return rng.choice(np.array([-32768, -32767, -256, -1, 0, 1, 255, 256, 32767], np.int16), shape)
    if what == "large":
        return np.rint(rng.normal(0, 300, shape)).astype(np.int16)
    return np.zeros(shape, np.int16)


def file_of_symbols(model, level, plane):
    """A file of the given latent plane, with an image that fills it."""
    info = info_of(model)
    height, width = plane.shape[:2]
    tiles = tuple(
        entropy_of(model).encode(plane[top : top + 64, left : left + 64], level)
        for top in range(0, height, 64)
        for left in range(0, width, 64)
    )
    header = container.Header(
        info.fingerprint, level, False, False, width * info.stride, height * info.stride
    )
    return container.serialize(container.Container(header, container.Metadata(), tiles), info.tile_pixels)


def series(count, height, width, channels):
    """uint8 (count, height, width, channels): cuttings of one picture, so that no two are the same."""
    whole = picture(height + 13 * count, width, channels, False).pixels
    return np.stack([whole[13 * i : 13 * i + height] for i in range(count)])


def file_of_image(model, parsed, index):
    """One image of a parsed archive as a file of its own."""
    one = container.Container(parsed.header, container.Metadata(), parsed.images[index])
    return container.serialize(one, info_of(model).tile_pixels)


def digest(data):
    return None if data is None else hashlib.sha256(data).hexdigest()


def make_archives():
    """Writes the archives that are missing; the pixels of their images stand below each other in one PNG."""
    GOLDEN_ARCHIVES.mkdir(parents=True, exist_ok=True)
    index = json.loads(ARCHIVE_INDEX.read_text()) if ARCHIVE_INDEX.exists() else {}
    for name, (model, level, height, width, channels, names) in ARCHIVES.items():
        path = GOLDEN_ARCHIVES / f"{name}.pack"
        if name in index or path.exists():
            print(f"{name}: exists, left as it is")
            continue
        count, names = (names, None) if isinstance(names, int) else (len(names), names)
        data = pack_arrays(codec_of(model), series(count, height, width, channels), level, names=names)
        decoded = unpack_arrays(data, codec_of(model))
        assert decoded.shape == (count, height, width, channels)
        plain = decoded.reshape(count * height, width, channels)
        plain = plain[:, :, 0] if channels == 1 else plain
        Image.fromarray(plain).save(GOLDEN_ARCHIVES / f"{name}.png", optimize=True)
        path.write_bytes(data)
        parsed = parse(data, info_of(model).tile_pixels, 1 << 28)
        files = [file_of_image(model, parsed, i) for i in range(count)]
        index[name] = {
            "model": model,
            "level": level,
            "shape": [count, height, width, channels],
            "names": names,
            "bytes": len(data),
            "symbols": [checksum(codec_of(model).symbols(file)) for file in files],
        }
        print(f"{name}: {len(data)} bytes")
    ARCHIVE_INDEX.write_text(json.dumps(index, indent=1) + "\n")


def main():
    """Writes what is missing."""
    make_archives()
    GOLDEN.mkdir(parents=True, exist_ok=True)
    index = json.loads(INDEX.read_text()) if INDEX.exists() else {}
    for name in [*PICTURES, *SYMBOLS]:
        path = GOLDEN / f"{name}.bin"
        if name in index or path.exists():
            print(f"{name}: exists, left as it is")
            continue
        entry = {}
        if name in PICTURES:
            model, level, height, width, channels, metadata = PICTURES[name]
            source = picture(height, width, channels, metadata)
            data = codec_of(model).encode_picture(source, level=level)
            decoded = codec_of(model).decode(data)
            assert decoded.shape == (height, width, channels)
            # The store holds every 8th pixel of a large image, every 4th of a middling one.
            step = 8 if height * width > 100_000 else 4 if height * width > 10_000 else 1
            plain = (decoded[:, :, 0] if channels == 1 else decoded)[::step, ::step]
            Image.fromarray(plain).save(GOLDEN / f"{name}.png", optimize=True)
            entry |= {
                "icc": digest(source.icc),
                "exif": digest(source.exif),
                "pixels": f"{name}.png",
                "step": step,
            }
        else:
            model, level, rows, columns, what = SYMBOLS[name]
            plane = symbols(rows, columns, what)
            data = file_of_symbols(model, level, plane)
            stride = info_of(model).stride
            height, width, channels = rows * stride, columns * stride, 3
        path.write_bytes(data)
        index[name] = {
            "model": model,
            "level": level,
            "shape": [height, width, channels],
            "bytes": len(data),
            "symbols": checksum(codec_of(model).symbols(data)),
            **entry,
        }
        print(f"{name}: {len(data)} bytes")
    INDEX.write_text(json.dumps(index, indent=1) + "\n")


if __name__ == "__main__":
    main()
