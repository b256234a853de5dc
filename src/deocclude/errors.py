"""The package's errors, each with the exit code of the command line.

Every message is one line: what was expected, what was given, and the file where there is one.
"""

from __future__ import annotations

import re
import reprlib
from typing import Any


class DeoccludeError(Exception):
    """Base class of all errors of this package."""

    exit_code: int = 1


class InputError(DeoccludeError):
    """A photo, mask or box that cannot be used."""

    exit_code = 1


class NoPersonError(InputError):
    """A prompt without a pixel of a person: an error for a user's prompt, while a detection is dropped."""


class UsageError(DeoccludeError):
    """A call with an unknown option, or with options that exclude each other."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration with an unknown key or a value out of range."""


class WeightsError(DeoccludeError):
    """Weights that are missing, damaged, or of another format."""

    exit_code = 3


class DeviceError(DeoccludeError):
    """A device that was requested by name and is not available."""

    exit_code = 4


class MissingPackageError(DeoccludeError):
    """A feature that needs a package outside the package's extras, such as a model's own dependency."""

    exit_code = 4


class MissingExtraError(MissingPackageError):
    """A feature that needs an optional extra of the package.

    >>> str(MissingExtraError("training", "train"))
    'training needs the extra [train]: pip install "deocclude[train]"'
    """

    def __init__(self, purpose: str, extra: str) -> None:
        super().__init__(f'{purpose} needs the extra [{extra}]: pip install "deocclude[{extra}]"')
        self._given = (purpose, extra)

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str]]:
        """Pickle the arguments, not the message: worker processes send their errors by pickle."""
        return type(self), self._given


class TrainingError(DeoccludeError):
    """Training cannot continue, for example because the loss is not finite."""


def kind_of(value: Any) -> str:
    """The type of a value, or of an array's elements, for error messages."""
    dtype = getattr(value, "dtype", None)
    return type(value).__name__ if dtype is None else str(dtype)


def shown(value: Any) -> str:
    """A value for error messages: one line of at most 80 characters."""
    # reprlib shortens before it formats: a list may have a million entries; arrays have a line for each row
    text = re.sub(r"\s*\n\s*", " ", reprlib.repr(value))
    return text if len(text) <= 80 else f"{text[:77]}..."


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def short_name(name: str) -> str:
    r"""A name of any content for error messages: printable, and in at most about 200 characters.

    >>> print(short_name("a\nb.jpg"))
    a\nb.jpg
    """
    short = name if len(name) <= 200 else f"{name[:100]}...{name[-50:]}"
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in short)
