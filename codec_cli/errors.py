"""Every way in which the codec fails on purpose, each with its documented exit code.

The exit codes are part of the command line's contract (README, "Exit codes").
"""

SAVED_IN_PART = 12
"""Exit code of ``decompress --salvage`` where something was lost: no failure, and not what was asked for."""


class CodecError(Exception):
    """Base of all expected failures: one line of text that says what to do.

    Attributes:
        exit_code: What a command that ends with this error returns to the shell.
    """

    exit_code = 1


class ImageError(CodecError):
    """The input is not an image that we can read."""

    exit_code = 3


class FormatError(CodecError):
    """The bytes are not a file of ours, or are damaged."""

    exit_code = 4


class VersionError(FormatError):
    """The file was written by a later version of the format."""

    exit_code = 5


class ModelError(CodecError):
    """A model is missing, unknown or damaged."""

    exit_code = 6


class OutputError(CodecError):
    """The output exists or can't be written."""

    exit_code = 7


class LimitError(CodecError):
    """A size is beyond a limit (``--max-pixels`` raises it)."""

    exit_code = 8


class TrainingError(CodecError):
    """Training can't start or has to stop (no data, a bad configuration, NaN)."""

    exit_code = 9


class TargetError(CodecError):
    """No quality level meets a target size or quality."""

    exit_code = 10


class RegressionError(CodecError):
    """``codec eval --baseline``: quality or rate is worse than the baseline allows."""

    exit_code = 11
