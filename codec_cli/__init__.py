"""codec: a learned image compressor.

The public Python API is small and loads lazily, so that ``codec --help`` starts fast:

* :class:`codec_cli.Codec` encodes arrays to bytes and decodes them;
* :mod:`codec_cli.training` trains, exports and evaluates models (needs the ``train`` extra).
"""

from __future__ import annotations

TYPE_CHECKING = False  # Not from `typing`: while that is imported, Ctrl-C would show a traceback.
__version__ = "0.1.0"
__all__ = ["Codec", "CodecError", "__version__"]

if TYPE_CHECKING:
    from typing import Any

    from codec_cli.codec import Codec
    from codec_cli.errors import CodecError


def __getattr__(name: str) -> Any:  # noqa: ANN401 - module attribute hook
    if name == "Codec":
        from codec_cli.codec import Codec

        return Codec
    if name == "CodecError":
        from codec_cli.errors import CodecError

        return CodecError
    raise AttributeError(f"module 'codec_cli' has no attribute {name!r}")
