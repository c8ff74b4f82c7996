"""BPG (Bellard 2014: HEVC intra in a small container) through its own programs, ``bpgenc`` and ``bpgdec``.

No package brings them; who wants BPG builds https://bellard.org/bpg/ and has both on the PATH.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from codec_cli.errors import CodecError
from codec_cli.evaluation.others.base import OtherCodec, Pixels, check_pixels, one_line

__all__ = ["BPG"]

_OPTIONS = ("-f", "444", "-c", "ycbcr", "-b", "8", "-m", "8", "-e", "x265")


@dataclass(frozen=True)
class _Bpg(OtherCodec):
    """Runs a program for every file.

    Attributes:
        timeout: Seconds that one run may take; a 24-megapixel image takes about a minute.
    """

    name: str = "bpg"
    description: str = "BPG, HEVC intra by x265, YCbCr 4:4:4, 8 bits, bpgenc -m 8; setting: QP, falling"
    scale: range = range(51, -1, -1)
    sweep: tuple[int, ...] = (44, 40, 36, 33, 30, 26, 22, 19)
    timeout: float = 600

    def settings(self) -> list[int]:
        return list(self.sweep)

    def encode(self, pixels: Pixels, setting: int) -> bytes:
        check_pixels(pixels)
        png = io.BytesIO()
        Image.fromarray(pixels).save(png, "PNG", compress_level=1)
        return self._run("encode this image", "bpgenc", (*_OPTIONS, "-q", str(setting)), png.getvalue())

    def decode(self, data: bytes) -> Pixels:
        png = self._run("decode this file", "bpgdec", (), data)
        try:
            with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
                return np.array(image.convert("RGB"))
        except (OSError, ValueError, SyntaxError) as error:
            raise CodecError(f"bpg can't decode this file: bpgdec wrote no PNG: {one_line(error)}") from error

    def available(self) -> str | None:
        missing = [program for program in ("bpgenc", "bpgdec") if shutil.which(program) is None]
        if missing:
            names, verb = " and ".join(missing), "are" if len(missing) > 1 else "is"
            return f"{names} {verb} not on the PATH; build them from https://bellard.org/bpg/"
        try:
            self.decode(self.encode(np.zeros((16, 16, 3), np.uint8), self.sweep[0]))
        except CodecError as error:
            return str(error)
        return None

    def version(self) -> str:
        program = shutil.which("bpgenc")
        if program is None:
            return "not installed"
        try:  # Without arguments it prints its version and usage, and fails.
            told = subprocess.run(
                [program], stdin=subprocess.DEVNULL, capture_output=True, timeout=10, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return "bpgenc of unknown version"
        lines = (told.stdout + told.stderr).decode("utf-8", "replace").splitlines()
        return next((one_line(line) for line in lines if "version" in line), "bpgenc of unknown version")

    @property
    def identity(self) -> str:
        return f"{self.name} {' '.join(_OPTIONS)} [{self.version()}]"

    def _run(self, purpose: str, program: str, options: Sequence[str], data: bytes) -> bytes:
        """One run of a program on temporary files: it reads and writes named files only."""
        suffixes = (".png", ".bpg") if program == "bpgenc" else (".bpg", ".png")
        with tempfile.TemporaryDirectory(prefix="codec-bpg-") as folder:
            source, target = (Path(folder) / f"image{suffix}" for suffix in suffixes)
            source.write_bytes(data)
            command = [program, *options, "-o", str(target), str(source)]
            try:
                told = subprocess.run(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    timeout=self.timeout,
                    check=False,
                    # Its messages are quoted: in one language.
                    env={**os.environ, "LC_ALL": "C"},
                )
            except FileNotFoundError as error:
                raise CodecError(f"bpg can't {purpose}: {program} is not on the PATH") from error
            except subprocess.TimeoutExpired as error:
                raise CodecError(f"bpg can't {purpose}: {program} took over {self.timeout:g} s") from error
            except OSError as error:
                raise CodecError(f"bpg can't {purpose}: {program}: {error.strerror}") from error
            if told.returncode or not target.is_file():
                reason = one_line(told.stderr.decode("utf-8", "replace")) or f"exit code {told.returncode}"
                raise CodecError(f"bpg can't {purpose}: {program}: {reason}")
            return target.read_bytes()


BPG: OtherCodec = _Bpg()
"""Needs ``bpgenc`` and ``bpgdec`` on the PATH."""
