"""What an image file holds beside the one picture that is read of it; what only looks like a picture."""

from __future__ import annotations

from typing import Any

from PIL import Image

__all__ = ["FRAMES_NOTE", "check_first", "dropped"]

FRAMES_NOTE = "only the first of several frames is kept"
LAYERS_NOTE = "layers dropped: only the flat picture is kept"
CHANNELS_NOTE = "channels beside colours and alpha dropped"
SUBIFDS_NOTE = "further pictures in it (SubIFDs) dropped"
SIZES_NOTE = "only the largest of several sizes is kept"

# Tags of TIFF; see TIFF 6.0, its supplements, and Adobe's Photoshop TIFF Technical Notes.
_NEW_SUBFILE_TYPE, _SUBFILE_TYPE, _PHOTOMETRIC = 254, 255, 262
_SUB_IFDS, _EXTRA_SAMPLES, _IMAGE_SOURCE_DATA = 330, 338, 37724
_REDUCED, _OLD_REDUCED, _CMYK = 1, 2, 5


def check_first(image: Image.Image, start: bytes) -> None:
    """Refuses TIFFs whose first picture is a small copy of another: raw photographs of most cameras.

    Args:
        image: As Pillow opened it.
        start: The first 16 bytes of the file.

    Raises:
        ValueError: It is one.
    """
    tags: Any = getattr(image, "tag_v2", {})
    kind = tags.get(_NEW_SUBFILE_TYPE, 0)
    reduced = isinstance(kind, int) and kind & _REDUCED
    if reduced or tags.get(_SUBFILE_TYPE) == _OLD_REDUCED or (tags and start[8:10] == b"CR"):  # Canon's CR2
        raise ValueError("only a preview can be read of this raw photo or pyramid; convert it to PNG or TIFF")


def dropped(image: Image.Image) -> list[str]:
    """What of an image's content is not read: a line for each kind, for warnings."""
    tags: Any = getattr(image, "tag_v2", {})
    notes = [FRAMES_NOTE] * _has_frames(image)
    if _IMAGE_SOURCE_DATA in tags or _has_layers(image):
        notes.append(LAYERS_NOTE)
    extra = tags.get(_EXTRA_SAMPLES, ())
    # What Pillow reads is one channel of alpha, and none beside CMYK.
    if len(extra) > 1 or 0 in extra or (extra and tags.get(_PHOTOMETRIC) == _CMYK):
        notes.append(CHANNELS_NOTE)
    if _SUB_IFDS in tags:
        notes.append(SUBIFDS_NOTE)
    if len(set(image.info.get("sizes", ()))) > 1:
        notes.append(SIZES_NOTE)
    return notes


def _has_frames(image: Image.Image) -> bool:
    """Whether an image file holds more than one picture."""
    if image.format == "PSD":
        return False  # Its "frames" are layers; what we load is their composite.
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # Damage after the first frame doesn't concern us.
        return False


def _has_layers(image: Image.Image) -> bool:
    if image.format != "PSD":
        return False
    try:
        return int(getattr(image, "n_frames", 1)) > 1
    except Exception:  # They are damaged: they are there.
        return True
