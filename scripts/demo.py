"""Compresses and decompresses a real photograph with the installed `codec`, and says what came of it.

The photograph is NASA's public-domain portrait of the astronaut Eileen Collins, which scikit-image ships.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image


def main() -> None:
    """Command line: demo.py FOLDER [--photo FILE]."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where astronaut.png, .bin and the decoded PNG go")
    parser.add_argument("--photo", type=Path, help="another photograph instead")
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    original = arguments.photo
    if original is None:
        try:
            from skimage import data
        except ImportError:
            raise SystemExit(
                "scikit-image is missing: pip install scikit-image, or give --photo FILE"
            ) from None
        original = folder / "astronaut.png"
        Image.fromarray(data.astronaut()).save(original)
    packed, unpacked = folder / f"{original.stem}.bin", folder / f"{original.stem}-decoded.png"
    codec = [sys.executable, "-m", "codec_cli"]
    subprocess.run([*codec, "compress", "--force", str(original), str(packed)], check=True)
    subprocess.run([*codec, "decompress", "--force", str(packed), str(unpacked)], check=True)
    with Image.open(original) as first, Image.open(unpacked) as second:
        a, b = (np.asarray(image.convert("RGB"), np.float64) for image in (first, second))
    psnr = 10 * np.log10(255**2 / np.mean((a - b) ** 2))
    print(
        f"{original}: {original.stat().st_size} bytes, "
        f"{packed}: {packed.stat().st_size} bytes, PSNR {psnr:.2f} dB"
    )
    print(f"Look at both: {original} and {unpacked}")


if __name__ == "__main__":
    main()
