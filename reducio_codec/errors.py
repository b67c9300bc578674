"""Errors that users meet. Every message says the value that was wrong and what is allowed."""

import re

LONGEST_MESSAGE = 700
"""Characters of an error's message. Libraries quote whole files where they find them damaged."""

_BREAK = re.compile(r"\s*[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]\s*")


def one_line(text: str) -> str:
    """A text without line breaks, shortened in its middle to ``LONGEST_MESSAGE`` characters."""
    line = _BREAK.sub(" ", text).strip()
    tail = LONGEST_MESSAGE // 4  # the beginning says what it is about, the end what to do
    return line if len(line) <= LONGEST_MESSAGE else f"{line[: LONGEST_MESSAGE - tail - 5]} ... {line[-tail:]}"


class ReducioError(Exception):
    """Base of every error this package raises on purpose. Its message is one line.

    ``exit_code`` is what the command line ends with: 2 for a wrong argument, 1 for anything else.
    """

    exit_code = 1

    def __str__(self) -> str:
        return one_line(super().__str__())


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
