"""One image by several codecs at equal size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from codec_cli.errors import CodecError
from codec_cli.evaluation.equal import SizeSearch
from codec_cli.evaluation.page.pictures import Comparison, Packed, Shown, pack

if TYPE_CHECKING:
    from codec_cli.evaluation.runner import Coder, Subject

__all__ = ["Comparer", "Failure", "Rival", "compare_image"]

Pixels = npt.NDArray[np.uint8]
_Measure = Callable[[Pixels, Pixels], "dict[str, float | None]"]


@dataclass(frozen=True)
class Rival:
    """A codec to be matched in size.

    Attributes:
        name: As in the figures.
        coder: Its ``encode(pixels, setting)`` and ``decode(data)``.
        scale: Every setting, rising in rate.
        gray: Whether it takes pictures of one channel; else gray ones are repeated into three.
    """

    name: str
    coder: Coder
    scale: range
    gray: bool = False


def compare_image(
    image: str,
    pixels: Pixels,
    ours: tuple[str, Coder],
    settings: Iterable[int],
    rivals: Sequence[Rival],
    measure: _Measure,
) -> Comparison:
    """Codes an image with ours at some settings, and with each rival at the size nearest to each of ours.

    Args:
        image: Name of the image.
        pixels: uint8 ``(height, width, 1 or 3)``.
        ours: Name of our codec, and what encodes and decodes.
        settings: Ours, rising in rate.
        rivals: The others. One that can't encode this image is left out, and a note says so.
        measure: Gives the figures of a decoded picture: ``measure(original, decoded)``.

    Returns:
        The comparison; memory is that of all its pictures.

    Raises:
        CodecError: Ours can't encode or decode the image.
    """
    name, coder = ours
    rates = []
    for setting in settings:
        data = coder.encode(pixels, setting)
        rates.append([_shown(name, setting, data, pixels, coder, measure)])
    notes = []
    for rival in rivals:
        needs_three = pixels.shape[2] == 1 and not rival.gray
        taken = np.repeat(pixels, 3, axis=2) if needs_three else pixels
        try:
            matched = _matched(rival, taken, [rate[0].bytes for rate in rates], measure)
        except CodecError as error:
            notes.append(f"{rival.name} is left out: {error}")
            continue
        for rate, shown in zip(rates, matched, strict=True):
            rate.append(shown)
    return Comparison(image, pixels, rates, tuple(notes))


def _matched(rival: Rival, pixels: Pixels, sizes: Iterable[int], measure: _Measure) -> list[Shown]:
    """A rival at several sizes; the search for each is helped by those before it."""
    search = SizeSearch(lambda setting: rival.coder.encode(pixels, setting), rival.scale)
    nearest = [search.nearest(size) for size in sizes]
    return [_shown(rival.name, setting, data, pixels, rival.coder, measure) for setting, data in nearest]


def _shown(codec: str, setting: int, data: bytes, original: Pixels, coder: Coder, measure: _Measure) -> Shown:
    decoded = coder.decode(data)
    height, width = original.shape[:2]
    bpp = len(data) * 8 / (width * height)
    return Shown(codec, setting, len(data), bpp, measure(original, decoded), decoded)


@dataclass(frozen=True)
class Failure:
    """An image that could not be compared."""

    image: str
    error: CodecError | MemoryError


@dataclass
class Comparer:
    """Compares one image after the other; for :func:`codec_cli.workers.each`. Can be pickled before its use.

    Attributes:
        subjects: The first is ours; the others, models of ours among them, are matched to it in size.
        settings: Qualities of ours to show, rising.
        bpp: Bits per pixel; of each image the quality of ours that comes nearest is shown, too. None for
            none.
        measure: Gives the figures; None for :class:`codec_cli.evaluation.quality.Measure`.
        models_dir: Searched first for models.
        threads: Threads of our codec; None for all.
        max_pixels: The largest image to accept.
    """

    subjects: tuple[Subject, ...]
    settings: tuple[int, ...]
    bpp: float | None = None
    measure: _Measure | None = None
    models_dir: Path | None = None
    threads: int | None = None
    max_pixels: int = 1 << 28
    _rivals: list[Rival] = field(default_factory=list, init=False, repr=False)

    def __call__(self, path: Path) -> Packed | Failure:
        """Compares one image; failures that are expected are returned.

        Returns:
            The comparison with its pictures encoded, which is work for this process, too, and keeps small
            what waits to be written.
        """
        from codec_cli.evaluation.quality import Measure
        from codec_cli.pictures.images import load_picture

        name = str(path)
        try:
            self._rivals = self._rivals or [self._rival(subject) for subject in self.subjects]
            ours, *rivals = self._rivals
            pixels = load_picture(path, name, self.max_pixels, keep_metadata=False).pixels
            measure = self.measure or Measure()
            settings = self._settings(ours, pixels)
            return pack(compare_image(name, pixels, (ours.name, ours.coder), settings, rivals, measure))
        except (CodecError, MemoryError) as error:
            return Failure(name, error)

    def _settings(self, ours: Rival, pixels: Pixels) -> list[int]:
        if self.bpp is None:
            return list(self.settings)
        search = SizeSearch(lambda setting: ours.coder.encode(pixels, setting), ours.scale)
        setting, _ = search.nearest(round(self.bpp * pixels.shape[0] * pixels.shape[1] / 8))
        return sorted({*self.settings, setting})

    def _rival(self, subject: Subject) -> Rival:
        coder = subject.coder(self.models_dir, self.threads, self.max_pixels)
        if subject.model is not None:
            return Rival(subject.name, coder, range(1, 101), gray=True)
        from codec_cli.evaluation.others import others

        (codec,) = others([subject.name])
        return Rival(subject.name, coder, codec.scale)
