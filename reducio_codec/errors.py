"""Errors that users meet. Every message says the value that was wrong and what is allowed."""


class ReducioError(Exception):
    """Base of every error this package raises on purpose.

    ``exit_code`` is what the command line ends with: 2 for a wrong argument, 1 for anything else.
    """

    exit_code = 1


class InputError(ReducioError, ValueError):
    """An argument is wrong: shape, dtype, range, option value, or output path."""

    exit_code = 2


class FrameIndexError(InputError, IndexError):
    """A frame, clip, file or time beyond the end was asked for; also an IndexError, as Python's sequences raise."""


class DiskFullError(ReducioError):
    """There is no space left to write to, whatever is read meanwhile."""


class VideoError(ReducioError):
    """A video or picture can't be read or written."""


class FormatError(ReducioError):
    """An ``.rdc`` file is damaged, truncated, or from a newer version."""


class WeightsError(ReducioError):
    """A model is unknown, its files are missing or damaged, or it doesn't belong to this file."""


class MissingDependencyError(ReducioError, ImportError):
    """An optional package is needed; the message carries the pip command that installs it."""
