"""What ``compress`` and ``decompress`` each do with one file."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from codec_cli.bitstream import archive, container
from codec_cli.commands._batch import Converted, Proof, Verb
from codec_cli.commands._plan import Rules
from codec_cli.errors import CodecError, FormatError, ImageError, OutputError
from codec_cli.files import read_bytes

if TYPE_CHECKING:
    from codec_cli.codec import Codec
    from codec_cli.decoding import Region
    from codec_cli.pictures.images import Picture
    from codec_cli.pictures.rows import RowPicture
    from codec_cli.streaming import RowFile
    from codec_cli.target import Target
    from codec_cli.zoo import ModelInfo

__all__ = ["SUFFIX", "Compress", "Decompress", "is_image", "read_compressed", "size_limit"]

SUFFIX = ".bin"
"""What compressed files are called."""

UNITS = {"": 1.0, "B": 1.0, "KB": 1e3, "MB": 1e6}
LARGER = "the output is larger than the source"


@dataclass(frozen=True)
class Wish:
    """A target as the command line gives it; what it means may depend on the file.

    Attributes:
        kind: ``size``, ``percent``, ``bpp``, ``psnr`` or ``ms-ssim``.
        value: Bytes, percent of the source file, bits per pixel, dB, or 0 to 1.
    """

    kind: str
    value: float

    @classmethod
    def parse(cls, option: str, value: str | float) -> Wish:
        """From an option's name (``target_size``) and value; raises ``click.BadParameter``."""
        kind = option.removeprefix("target_").replace("_", "-")
        if not isinstance(value, str):
            if not math.isfinite(value):
                raise click.BadParameter(f"{value} is not a number to reach", param_hint=f"--target-{kind}")
            return cls(kind, float(value))
        number, unit = re.fullmatch(r"\s*([0-9.]*)\s*(.*?)\s*", value).groups()  # type: ignore[union-attr]
        try:
            amount = float(number)
            if amount <= 0:
                raise ValueError("no room for anything")
            if unit == "%":
                return cls("percent", amount)
            return cls(kind, amount * UNITS[unit.upper()])
        except (KeyError, ValueError) as error:
            raise click.BadParameter(
                f"{value!r} is not a size; write 50000, 50KB, 1.5MB or 10%", param_hint="--target-size"
            ) from error

    def target(self, size: int, pixels: int) -> Target:
        """For a source file of ``size`` bytes with ``pixels`` pixels."""
        from codec_cli.target import SIZE, Target

        if self.kind == "percent":
            return Target(SIZE, size * self.value / 100)
        if self.kind == "bpp":
            return Target(SIZE, pixels * self.value / 8)
        return Target(self.kind, self.value)


@dataclass
class Compress(Verb):
    """An image to a compressed file.

    Attributes:
        model: What encodes.
        models_dir: Searched first for models.
        threads: Processor threads; None for all.
        quality: 1 to 100; None for the model's default.
        wish: A target instead of a quality.
        effort: 1 to 9, see :meth:`codec_cli.Codec.encode_picture`.
        keep_metadata: Keep the ICC profile and EXIF.
        check: Decode what was made, before it is written, and compare it with the source.
        max_pixels: The largest image to accept.
        verbose: Describe each file.
        shows: Show how refinement, which takes minutes, is going on.
    """

    model: ModelInfo
    models_dir: Path | None
    threads: int | None
    quality: int | None
    wish: Wish | None
    effort: int
    keep_metadata: bool
    check: bool
    max_pixels: int
    verbose: bool
    shows: bool
    _codec: Codec | None = field(default=None, init=False, repr=False)

    compresses = True

    @property
    def rules(self) -> Rules:
        """See :class:`Verb`."""
        return Rules("compress", SUFFIX, is_image, ImageError, "images", 8)

    def convert(self, source: Path | bytes, size: int, name: str, suffix: str) -> Converted:
        """See :class:`Verb`."""
        from codec_cli.codec import Codec
        from codec_cli.pictures.rows import RowPicture

        if self._codec is None:
            self._codec = Codec(self.model, models_dir=self.models_dir, threads=self.threads)
        picture = self._picture(source, name)
        (height, width), quality = _shape(picture)[:2], None
        with self._shown(self._codec, height, width):
            if self.wish is None:
                data = self._codec.encode_picture(picture, self.quality, effort=self.effort)
            else:
                from codec_cli.target import encode_to

                data = encode_to(self._codec, picture, self.wish.target(size, height * width), self.effort)
                quality = self.model.quality_of_level(container.peek(data).level)
        notes = (*picture.warnings, LARGER) if len(data) > size else picture.warnings
        by_rows = isinstance(picture, RowPicture)
        details = _describe(picture, data, height * width, by_rows) if self.verbose else ""
        done = Converted(data, width, height, notes, details, quality=quality)
        return self._checked(self._codec, picture, data, done) if self.check else done

    def prove(self, source: Path, written: Path, name: str, suffix: str) -> Proof:
        """See :class:`Verb`: by the rules of ``--verify``."""
        from codec_cli.codec import Codec
        from codec_cli.pictures.keeping import unkept

        codec = self._codec or Codec(self.model, models_dir=self.models_dir, threads=self.threads)
        picture = self._picture(source, name)
        height, width = _shape(picture)[:2]
        data = read_bytes(written, error=FormatError)
        done = self._checked(codec, picture, data, Converted(data, width, height, picture.warnings))
        losses = unkept(source, name, self.max_pixels, strip=not self.keep_metadata)
        return Proof((*done.warnings, *losses), done.psnr)

    @contextlib.contextmanager
    def _shown(self, codec: Codec, height: int, width: int) -> Iterator[None]:
        """A progress bar of gradient steps, if there are any; bars of several processes would mix."""
        from codec_cli.report import progress

        if not (steps := codec.gradient_steps(height, width, self.effort)):
            yield
            return
        import multiprocessing

        # How many refined files a target takes is not known before.
        total = None if self.wish else steps
        alone = multiprocessing.parent_process() is None
        with progress(total, "gradient steps", self.shows and alone) as codec.advance:
            yield

    def _picture(self, source: Path | bytes, name: str) -> Picture | RowPicture:
        """The input, read by rows if it is large and that is possible."""
        from codec_cli.pictures.images import load_picture
        from codec_cli.pictures.rows import open_rows

        by_rows = open_rows(source, name, self.max_pixels, self.keep_metadata)
        with _memory_hint():
            return by_rows or load_picture(source, name, self.max_pixels, self.keep_metadata)

    def _checked(
        self, codec: Codec, picture: Picture | RowPicture, data: bytes, done: Converted
    ) -> Converted:
        """Verifies what was made.

        These bytes, not a file read back: a failure then leaves an old file as it was and standard output
        empty, and reading would come from the same memory anyway.
        """
        from codec_cli.pictures.rows import RowPicture
        from codec_cli.verification import advice, advice_untried, verify

        psnr = verify(codec, picture, data, self.max_pixels)
        promised = self.model.promised(container.peek(data).level)
        parts = container.layout(data, self.model.tile_pixels, self.max_pixels)
        # What every other format would have to keep, too.
        extras = sum(parts.get(name, 0) for name in container.SECTION_NAMES.values())
        if isinstance(picture, RowPicture):
            warning = advice_untried(psnr, promised)
        else:
            warning = advice(picture.pixels, len(data) - extras, psnr, promised)
        card = "no figure" if promised is None else f"{promised:.2f} dB"
        return replace(
            done,
            warnings=done.warnings if warning is None else (*done.warnings, warning),
            details=f"{done.details}; verified: {psnr:.2f} dB, model's card: {card}" if self.verbose else "",
            psnr=psnr,
        )


@dataclass
class Decompress(Verb):
    """A compressed file to an image.

    Attributes:
        models_dir: Searched first for models.
        threads: Processor threads; None for all.
        format: Suffix of the outputs without its dot; None to go by each output's name.
        region: The part of each image to decode; None for all of it.
        salvage: Of damaged files, save what is intact.
        max_pixels: The largest image to accept.
        verbose: Describe each file.
    """

    models_dir: Path | None
    threads: int | None
    format: str | None
    region: Region | None
    salvage: bool
    max_pixels: int
    verbose: bool
    _codec: Codec | None = field(default=None, init=False, repr=False)

    compresses = False

    @property
    def takes_damaged(self) -> bool:
        """See :class:`Verb`."""
        return self.salvage

    @property
    def rules(self) -> Rules:
        """See :class:`Verb`."""
        suffix = f".{self.format or 'png'}"
        return Rules("decompress", suffix, _is_compressed, FormatError, f"compressed files (*{SUFFIX})", 4)

    def check_output(self, target: Path | None) -> CodecError | None:
        """See :class:`Verb`."""
        from codec_cli.pictures.images import OUTPUT_SUFFIXES

        suffix = self._suffix("" if target is None else target.suffix)
        if suffix in OUTPUT_SUFFIXES:
            return None
        known = ", ".join(OUTPUT_SUFFIXES)
        return OutputError(f"{target}: unknown image suffix {suffix}; choose one of {known}, or --format")

    def convert(self, source: Path | bytes, size: int, name: str, suffix: str) -> Converted:
        """See :class:`Verb`."""
        from codec_cli.codec import Codec
        from codec_cli.decoding import Region
        from codec_cli.pictures.images import save_picture
        from codec_cli.pictures.rows import MIN_PIXELS
        from codec_cli.pictures.writing import can_write_rows
        from codec_cli.streaming import RowFile

        limit = self.rules.size_limit(self.max_pixels)
        data = source if isinstance(source, bytes) else read_compressed(source, limit, _peek_file)
        _refuse_archive(data)
        if self._codec is None:
            # Which model decodes, the file says.
            self._codec = Codec(models_dir=self.models_dir, threads=self.threads)
        if self.salvage:
            return self._saved(self._codec, data, self._suffix(suffix))
        parsed = self._codec.open(data, self.max_pixels)
        region = self.region or Region.whole(parsed.header)
        region.require(parsed.header)
        suffix, pixels = self._suffix(suffix), region.width * region.height
        by_rows = pixels >= MIN_PIXELS and can_write_rows(suffix)
        details = _describe(parsed.metadata, data, pixels, by_rows) if self.verbose else ""
        if by_rows:
            return self._by_rows(RowFile(self._codec, parsed, name, region), parsed.metadata, suffix, details)
        with _memory_hint():
            picture = self._codec.picture(parsed, name, region)
            image = save_picture(picture, suffix)
        part = self.region is not None
        return Converted(image, region.width, region.height, picture.warnings, details, part=part)

    def _saved(self, codec: Codec, data: bytes, suffix: str) -> Converted:
        """What is left of a damaged file."""
        from codec_cli.errors import SAVED_IN_PART
        from codec_cli.pictures.images import save_picture
        from codec_cli.salvage import salvage

        with _memory_hint():
            saved = salvage(codec, data, self.max_pixels)
            picture = saved.picture
            image = save_picture(picture, suffix)
        height, width = picture.pixels.shape[:2]
        metadata = container.Metadata(picture.icc, picture.exif)
        details = _describe(metadata, data, height * width, False) if self.verbose else ""
        notes = (*saved.report(), *picture.warnings)
        return Converted(image, width, height, notes, details, exit_code=0 if saved.intact else SAVED_IN_PART)

    def _by_rows(self, file: RowFile, metadata: container.Metadata, suffix: str, details: str) -> Converted:
        """A large image, decoded while it is written."""
        from codec_cli.pictures.images import output_format
        from codec_cli.pictures.writing import EXIF_DROPPED, save_rows

        height, width, channels = file.shape
        _, kind = output_format(suffix, channels, file.transparent())
        alpha = file.alpha and kind in ("PNG", "TIFF")

        def write(path: Path) -> None:
            shape = (height, width, channels + alpha)
            save_rows(path, suffix, shape, file.bands(alpha), metadata.icc, metadata.exif)

        notes = (EXIF_DROPPED,) if metadata.exif and kind == "TIFF" else ()
        return Converted(write, width, height, notes, details, part=self.region is not None)

    def prove(self, source: Path, written: Path, name: str, suffix: str) -> Proof:
        """See :class:`Verb`: the image has to hold every pixel, and all metadata, of what was decoded."""
        from codec_cli.codec import Codec
        from codec_cli.commands._done import LOSSY, lost, lost_by_rows
        from codec_cli.pictures.images import load_picture
        from codec_cli.pictures.rows import open_rows
        from codec_cli.streaming import RowFile

        suffix = self._suffix(suffix)
        if self.region is not None:
            return Proof(("only a region was decoded",))
        if suffix in LOSSY:
            return Proof((f"{suffix} does not keep every pixel",))
        codec = self._codec or Codec(models_dir=self.models_dir, threads=self.threads)
        data = read_bytes(source, self.rules.size_limit(self.max_pixels), FormatError)
        parsed = codec.open(data, self.max_pixels)
        by_rows = open_rows(written, name, self.max_pixels)
        if by_rows is not None:
            return Proof(lost_by_rows(RowFile(codec, parsed, name), parsed.metadata, by_rows, suffix))
        picture, image = codec.picture(parsed, name), load_picture(written, name, self.max_pixels)
        return Proof(lost(picture, image, suffix))

    def _suffix(self, suffix: str) -> str:
        return f".{self.format}" if self.format else suffix.lower() or ".png"


def size_limit(max_pixels: int) -> int:
    """Bytes that no file and no archive of so many pixels reaches."""
    return 8 * max_pixels + (64 << 20)


def read_compressed(path: Path, limit: int | None, peek: Callable[[bytes], object]) -> bytes:
    """Reads a compressed file or an archive, but not all of something large that is none of ours.

    Args:
        path: The file to read.
        limit: The most bytes to accept; None for any number.
        peek: Raises FormatError for beginnings (of all that a header takes) that are not what is wanted.

    Raises:
        FormatError: It can't be read, or (if large) does not begin like what is wanted.
        LimitError: It has more than ``limit`` bytes.
    """
    if path.is_file() and path.stat().st_size > 1 << 20:
        with path.open("rb") as file:
            peek(file.read(archive.HEADER_MAX_SIZE))
    return read_bytes(path, limit, FormatError)


def _peek_file(start: bytes) -> None:
    _refuse_archive(start)
    container.peek(start)


def _refuse_archive(data: bytes) -> None:
    if archive.is_archive(data):
        raise FormatError("an archive of several images; use `codec unpack`")


def is_image(name: str) -> bool:
    """Whether a file of this name (lower case) is an image to read, going by its suffix."""
    suffix = Path(name).suffix
    if suffix in ("", SUFFIX):
        return False  # Not by way of the import below, which takes a while.
    from codec_cli.pictures.images import input_suffixes

    return suffix in input_suffixes()


def _is_compressed(name: str) -> bool:
    return name.endswith(SUFFIX)


def _shape(picture: Picture | RowPicture) -> tuple[int, ...]:
    """(height, width, channels) without alpha."""
    from codec_cli.pictures.images import Picture

    return picture.pixels.shape if isinstance(picture, Picture) else picture.shape


@contextlib.contextmanager
def _memory_hint() -> Iterator[None]:
    """Says of an image that does not fit into memory what would help."""
    try:
        yield
    except MemoryError as error:
        from codec_cli.pictures.rows import have_vips

        help_ = "" if have_vips() else ", with pip install 'codec-cli[large]'"
        raise CodecError(
            f"not enough memory; PNG, JPEG, TIFF and PNM are read and written by rows{help_}"
        ) from error


def _describe(
    picture: Picture | RowPicture | container.Metadata, data: bytes, pixels: int, by_rows: bool
) -> str:
    """What ``--verbose`` says about a file, and of how many pixels, and how, it was converted."""
    from codec_cli.pictures.rows import MIN_PIXELS

    header = container.peek(data)
    parts = ["gray" if header.gray else "RGB"]
    parts += ["alpha"] * header.alpha
    parts += [f"{name} {len(raw)} B" for name, raw in (("ICC", picture.icc), ("EXIF", picture.exif)) if raw]
    kind, size = " + ".join(parts), f"{header.width}x{header.height}"
    told = f"{kind}, {size}, level {header.level} of model {header.fingerprint.hex()}"
    if pixels >= MIN_PIXELS:
        return f"{told}, by rows" if by_rows else f"{told}, all of it in memory (docs/LARGE.md)"
    return told
