"""Images out by rows, for those too large to hold in memory: PNG, JPEG and TIFF by libvips, PNM as it is.

libvips pulls its input; ours is pushed. So our rows become an uncompressed PNG, a stream that libvips can
read from its beginning on, in a thread of its own; the decoder stays in the main one, where Ctrl-C arrives.
"""

from __future__ import annotations

import contextlib
import queue
import struct
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from codec_cli.errors import OutputError
from codec_cli.pictures.images import PNG_LEVEL, output_format
from codec_cli.pictures.metadata import printable
from codec_cli.pictures.rows import band_rows, have_vips, vips
from codec_cli.transforms import Pixels

__all__ = ["EXIF_DROPPED", "can_write_rows", "png_bytes", "save_rows"]

EXIF_DROPPED = "EXIF dropped: large TIFF files are written without"

_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_COLOURS = {1: 0, 2: 4, 3: 2, 4: 6}  # Colour type by channels.
_PNG_HEADER_END = 33
_EXIF_START = b"Exif\0\0"
_MAX_JPEG_SEGMENT = 65533


def can_write_rows(suffix: str) -> bool:
    """Whether :func:`save_rows` writes this format here; a suffix as for ``save_picture``."""
    kind = output_format(suffix, 1, False)[1]
    return kind == "PPM" or (kind in ("PNG", "JPEG", "TIFF") and have_vips())


def save_rows(
    path: Path,
    suffix: str,
    shape: tuple[int, int, int],
    bands: Iterable[Pixels],
    icc: bytes | None = None,
    exif: bytes | None = None,
) -> None:
    """Writes an image as its rows come, encoded as :func:`codec_cli.pictures.images.save_picture` does.

    Args:
        path: What to write to; it need not have the suffix.
        suffix: Of a format of which :func:`can_write_rows` holds, in which the picture was checked to fit.
        shape: (height, width, channels); 1 channel is gray, 2 gray and alpha, 3 R'G'B', 4 with alpha.
        bands: uint8 (rows, width, channels), any number of rows at a time, from top to bottom.
        icc: ICC profile; not for PNM.
        exif: EXIF from its TIFF header on; not for PNM, and not for TIFF.

    Raises:
        OutputError: It can't be written.
        OSError: The disk is full, or the like.
    """
    kind = output_format(suffix, 1, False)[1]
    if kind == "PPM":
        _save_pnm(path, suffix, shape, bands)
        return
    if kind == "JPEG" and exif and len(exif) > _MAX_JPEG_SEGMENT - len(_EXIF_START):
        raise OutputError(f"cannot be written as {suffix} (EXIF data is too long); choose .png")
    with contextlib.ExitStack() as stack:
        target = _Target(stack.enter_context(path.open("w+b")), exif if kind != "TIFF" else None)
        save: Callable[[Any], None]
        if kind == "TIFF":
            save = lambda image: target.save(  # noqa: E731 - one of three
                image.tiffsave_target,
                compression="deflate",
                predictor="horizontal",
                level=PNG_LEVEL,
                bigtiff=shape[0] * shape[1] * shape[2] > 4_000_000_000,
                keep="icc",
            )
        elif kind == "PNG":
            save = lambda image: target.save(  # noqa: E731
                image.pngsave_target, compression=PNG_LEVEL, filter="all", keep="icc"
            )
        else:
            save = lambda image: target.save(  # noqa: E731
                image.jpegsave_target, Q=95, subsample_mode="off", keep="icc"
            )
        _through_vips(_png_stream(shape, bands), icc, save, suffix)


def png_bytes(shape: tuple[int, int, int], bands: Iterable[Pixels]) -> bytes:
    """A compressed PNG of nothing but pixels (chunks IHDR, IDAT and IEND); arguments as of `save_rows`."""
    return b"".join(_png_stream(shape, bands, 9))


def _png_stream(shape: tuple[int, int, int], bands: Iterable[Pixels], level: int = 0) -> Iterator[bytes]:
    """The pieces of a PNG; if it is compressed, rows are stored as differences from the row above."""
    height, width, channels = shape
    sizes = struct.pack(">IIBBBBB", width, height, 8, _PNG_COLOURS[channels], 0, 0, 0)
    yield _PNG_START + _chunk(b"IHDR", sizes)
    deflate = zlib.compressobj(level)
    above = np.zeros(width * channels, np.uint8)
    rows = band_rows(width, channels)
    for part in (band[top : top + rows] for band in bands for top in range(0, len(band), rows)):
        flat = part.reshape(len(part), -1)
        lines = np.empty((len(flat), 1 + flat.shape[1]), np.uint8)
        lines[:, 0] = 2 if level else 0  # Filter type: up, or none.
        lines[:, 1:] = flat
        if level:
            lines[0, 1:] -= above
            lines[1:, 1:] -= flat[:-1]
            above = flat[-1].copy()
        yield _chunk(b"IDAT", deflate.compress(lines.data))
    yield _chunk(b"IDAT", deflate.flush()) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))


def _save_pnm(path: Path, suffix: str, shape: tuple[int, int, int], bands: Iterable[Pixels]) -> None:
    height, width, channels = shape
    gray = channels == 1 and not suffix.lower().endswith("ppm")
    with path.open("wb") as file:
        file.write(f"P{5 if gray else 6}\n{width} {height}\n255\n".encode())
        for band in bands:
            shown = band if gray or channels == 3 else np.repeat(band, 3, axis=2)
            file.write(np.ascontiguousarray(shown).data)


class _Target:
    """A file that libvips writes to, with our EXIF put in: libvips would take it apart and write it anew.

    Not by its name: that need not be UTF-8, and a full disk should be told as it is.
    """

    def __init__(self, file: IO[bytes], exif: bytes | None) -> None:
        self._file, self._exif = file, exif
        self._head = b""
        self._failure: OSError | None = None

    def save(self, method: Callable[..., None], **options: Any) -> None:  # noqa: ANN401 - of libvips
        """Calls one of an image's ``..._target`` methods; raises OSError for a failed write."""
        pyvips = vips()
        target = pyvips.TargetCustom()
        target.on_write(self._write)
        target.on_read(lambda size: self._guarded(lambda: self._file.read(size), None))
        target.on_seek(lambda offset, whence: self._guarded(lambda: self._file.seek(offset, whence)))
        try:
            method(target, **options)
        except pyvips.Error:
            if self._failure is not None:
                raise self._failure from None
            raise
        self._file.write(self._head)

    def _guarded(self, work: Callable[[], Any], failed: Any = -1) -> Any:  # noqa: ANN401 - of libvips
        """Keeps a failure for later: it must not leave a callback of C."""
        try:
            return work()
        except OSError as error:
            self._failure = error
            return failed

    def _write(self, data: Any) -> int:  # noqa: ANN401 - a buffer of cffi
        count: int = self._guarded(lambda: self._written(data))
        return count

    def _written(self, data: Any) -> int:  # noqa: ANN401
        if self._exif is None:
            self._file.write(data)
            return len(data)
        self._head += bytes(data)
        place = self._place()
        if place is not None:
            self._file.write(self._head[:place] + self._wrapped(self._exif) + self._head[place:])
            self._head, self._exif = b"", None
        return len(data)

    def _place(self) -> int | None:
        """Where EXIF belongs: behind a PNG's header, or a JPEG's JFIF segment; None if more is needed."""
        head = self._head
        if len(head) < _PNG_HEADER_END:
            return None
        if head.startswith(_PNG_START):
            return _PNG_HEADER_END
        jfif = head[2:4] == b"\xff\xe0"
        return 4 + int.from_bytes(head[4:6], "big") if jfif else 2

    def _wrapped(self, exif: bytes) -> bytes:
        if self._head.startswith(_PNG_START):
            return _chunk(b"eXIf", exif)
        body = _EXIF_START + exif
        return b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body


def _through_vips(
    pieces: Iterable[bytes], icc: bytes | None, save: Callable[[Any], None], suffix: str
) -> None:
    """Has libvips read a stream of bytes as an image, in another thread, and save it."""
    pyvips = vips()
    waiting: queue.Queue[bytes | None] = queue.Queue(2)
    ended = threading.Event()
    failures: list[BaseException] = []
    rest = memoryview(b"")

    def read(size: int) -> memoryview | None:
        nonlocal rest
        if not rest:
            piece = None if ended.is_set() else waiting.get()
            if piece is None:
                ended.set()
                return None
            rest = memoryview(piece)
        part, rest = rest[:size], rest[size:]
        return part

    def work() -> None:
        try:
            source = pyvips.SourceCustom()
            source.on_read(read)
            image = pyvips.Image.new_from_source(source, "", access="sequential", fail_on="error").copy()
            if icc:
                image.set_type(pyvips.GValue.blob_type, "icc-profile-data", icc)
            save(image)
        except BaseException as error:
            failures.append(error)
        finally:
            ended.set()
            _drain(waiting)  # So that no one waits for room in it.

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        for piece in pieces:
            if ended.is_set():
                break
            waiting.put(piece)
    except BaseException:
        ended.set()
        _drain(waiting)
        raise
    finally:
        if not ended.is_set():
            waiting.put(None)
        else:
            with contextlib.suppress(queue.Full):
                waiting.put_nowait(None)
        thread.join()
    if failures:
        if not isinstance(failures[0], pyvips.Error):
            raise failures[0]
        lines = [printable(line) for line in str(failures[0]).splitlines() if line.strip()]
        reason = lines[-1][:200] if lines else "unknown"
        raise OutputError(f"cannot be written as {suffix} ({reason}); choose .png") from failures[0]


def _drain(waiting: queue.Queue[bytes | None]) -> None:
    with contextlib.suppress(queue.Empty):
        while True:
            waiting.get_nowait()
