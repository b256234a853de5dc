"""The errors that this package raises on purpose, each with the exit code that the command line gives it.

Every message is one line: what was expected, what came, and which file where there is one.
"""

from __future__ import annotations

import reprlib
from typing import Any


class DeoccludeError(Exception):
    """Base of all errors of this package; catch it to catch them all."""

    exit_code: int = 1


class InputError(DeoccludeError):
    """A photo, mask or box that cannot be used."""

    exit_code = 1


class NoPersonError(InputError):
    """A mask or box of which not a pixel of a person is left: an error for who points there, nobody for a finder."""


class UsageError(DeoccludeError):
    """A call that asks for something that does not exist or does not fit together."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration with an unknown key or a value out of range."""


class WeightsError(DeoccludeError):
    """Weights that are missing, damaged, or of another format."""

    exit_code = 3


class DeviceError(DeoccludeError):
    """A device that was asked for by name and cannot be used here."""

    exit_code = 4


class MissingPackageError(DeoccludeError):
    """Something that needs a package which no extra of ours installs, as it belongs to where data or models lie."""

    exit_code = 4


class MissingExtraError(MissingPackageError):
    """A command that needs an optional part of the package.

    >>> str(MissingExtraError("training", "train"))
    'training needs the extra [train]: pip install "deocclude[train]"'
    """

    def __init__(self, purpose: str, extra: str) -> None:
        super().__init__(f'{purpose} needs the extra [{extra}]: pip install "deocclude[{extra}]"')


class TrainingError(DeoccludeError):
    """Training cannot go on, for example because the loss is not finite."""


def kind_of(value: Any) -> str:
    """What came, for an error: the type of a value, or of an array's entries."""
    dtype = getattr(value, "dtype", None)
    return type(value).__name__ if dtype is None else str(dtype)


def shown(value: Any) -> str:
    """A value for an error, in at most 80 letters."""
    # shortened before it is written out: a list may have a million entries
    text = reprlib.repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
