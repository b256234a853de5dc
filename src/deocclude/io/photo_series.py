"""A series of photos: each is processed while another thread reads the next one, and results come in order."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sized
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from deocclude.errors import DeoccludeError, InputError, UsageError
from deocclude.io.images import ImageSource, Photo, load_photo, photo_name
from deocclude.types import Result

T = TypeVar("T")

ON_ERROR = ("raise", "yield")
"""Values of `on_error`: what becomes of the error of a photo."""

_END: Any = object()  # in place of an item: the iterable has ended


@dataclass(frozen=True, eq=False)
class Entry:
    """A photo of a series, read.

    Attributes:
        number: place in the series, from 1.
        name: the photo's file name; `photo2` for the second one where it has none.
        stem: the name without its suffix, with _2, _3, ... where an earlier photo of the series has it.
        shown: how error messages call the photo: its path, or `name`.
        photo: the photo, or why it cannot be read.
        seconds: duration of the reading.
        prompts: the photo's masks and boxes, by the name of their argument.
    """

    number: int
    name: str
    stem: str
    shown: str
    photo: Photo | DeoccludeError
    seconds: float
    prompts: Mapping[str, Any]


def process_series(
    recover: Callable[..., Result], photos: Iterable[ImageSource], prompts: Mapping[str, Iterable[Any] | None], *,
    on_error: str, progress: bool, options: Mapping[str, Any],
) -> Iterator[Result | DeoccludeError]:  # fmt: skip
    """The results of a series; `Deoccluder.batch` describes it.

    Args:
        recover: the pipeline: a Photo, its prompts and the options in, its result out.
        photos: the photos.
        prompts: by the name of an argument of `recover`, one value a photo; None: left out.
        on_error: one of ON_ERROR.
        progress: whether a bar is drawn.
        options: further arguments of `recover`, the same for every photo.

    Raises:
        UsageError: at once, for a single photo or an unknown `on_error`.
    """
    if on_error not in ON_ERROR:
        raise UsageError(f"on_error must be one of {', '.join(ON_ERROR)}, got {on_error!r}")
    given = {name: values for name, values in prompts.items() if values is not None}
    for name, values in {"photos": photos, **given}.items():
        _check_is_series(name, values)
        if isinstance(values, Sized) and isinstance(photos, Sized) and len(values) != len(photos):
            raise UsageError(
                f"{name} of a batch must have one entry a photo, got {len(values)} for {len(photos)} photos"
            )
    return _outcomes(recover, photos, given, on_error, progress, options)


def _check_is_series(name: str, values: object) -> None:
    """Raise UsageError unless an argument can hold one value for each photo."""
    is_one = isinstance(values, (str, bytes, bytearray, memoryview, Image.Image)) or hasattr(values, "read")
    is_one |= isinstance(values, np.ndarray) and values.ndim < (3 if name == "boxes_xyxy" else 4)
    if is_one or not isinstance(values, Iterable):
        raise UsageError(f"{name} of a batch must be a list with one entry a photo, got one {type(values).__name__}")


def _outcomes(
    recover: Callable[..., Result], photos: Iterable[ImageSource], prompts: Mapping[str, Iterable[Any]], on_error: str,
    progress: bool, options: Mapping[str, Any],
) -> Iterator[Result | DeoccludeError]:  # fmt: skip
    """The result of each photo, in order, or the error in its place; with on_error="raise" an error ends them."""
    with _progress_bar(photos, progress) as advance, closing(read_ahead(_entries(photos, prompts))) as entries:
        for entry in entries:
            outcome = _outcome(recover, entry, options)
            if isinstance(outcome, DeoccludeError) and on_error == "raise":
                raise outcome
            advance()
            yield outcome


def _outcome(recover: Callable[..., Result], entry: Entry, options: Mapping[str, Any]) -> Result | DeoccludeError:
    """The result of one photo, or the error that names it. Errors that are not of this photo are raised."""
    if isinstance(entry.photo, DeoccludeError):
        return _with_name(entry, entry.photo)
    try:
        result = recover(entry.photo, **entry.prompts, **options)
    except InputError as error:
        return _with_name(entry, error)
    timings = {name: s + (entry.seconds if name in ("load", "total") else 0) for name, s in result.timings.items()}
    return replace(result, name=entry.name, stem=entry.stem, id=entry.number, timings=timings)


def _with_name(entry: Entry, error: DeoccludeError) -> DeoccludeError:
    """The error, with the photo's name before its message where that lacks it."""
    if entry.shown not in str(error):
        error.args = (f"{entry.shown}: {error}",)
    return error


def _entries(photos: Iterable[ImageSource], prompts: Mapping[str, Iterable[Any]]) -> Iterator[Entry]:
    """Read the photos of a series, one at a time. Raises UsageError where prompts are fewer or more than photos."""
    stems = set[str]()
    for number, (photo, *values) in enumerate(zip_longest(photos, *prompts.values(), fillvalue=_END), start=1):
        for list_name, value in zip(("photos", *prompts), (photo, *values), strict=True):
            if value is _END:
                raise UsageError(f"a batch must have one entry a photo in every list, got {number - 1} in {list_name}")
        name = photo_name(photo) or f"photo{number}"
        shown = os.fspath(photo) if isinstance(photo, (str, os.PathLike)) else name
        begun = time.perf_counter()
        loaded = _load(photo)
        seconds = time.perf_counter() - begun
        yield Entry(
            number, name, _free_stem(name, stems), shown, loaded, seconds, dict(zip(prompts, values, strict=True))
        )


def _load(photo: ImageSource) -> Photo | DeoccludeError:
    """The photo, or the error that says why it cannot be read."""
    try:
        return load_photo(photo)
    except DeoccludeError as error:
        return error


def _free_stem(name: str, taken: set[str]) -> str:
    """A stem for a photo's files that no earlier one has, on disks that ignore case too; it is added to `taken`."""
    own = stem = Path(name).stem
    number = 1
    while stem.lower() in taken:
        number += 1
        stem = f"{own}_{number}"
    taken.add(stem.lower())
    return stem


def read_ahead(items: Iterable[T]) -> Generator[T, None, None]:
    """The items of an iterable in order, the next one taken on another thread while the caller works on one.

    An iterable is advanced by one thread at a time. Leaving the iteration early waits for the item that is being taken.

    Raises:
        What the iterable raises, in place of that item.
    """
    iterator = iter(items)
    with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as pool:
        coming = pool.submit(next, iterator, _END)
        while (item := coming.result()) is not _END:
            coming = pool.submit(next, iterator, _END)
            yield item


@contextmanager
def _progress_bar(photos: Iterable[Any], is_shown: bool) -> Iterator[Callable[[], None]]:
    """A progress bar on stderr where that is a terminal or a notebook; yields what advances it by one photo."""
    if not is_shown:
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("photos"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    disable = not (console.is_terminal or console.is_jupyter)
    # what the caller prints must not go to the bar's stream where stdout is a file or a pipe
    redirect = sys.stdout is not None and sys.stdout.isatty()  # a closed stream is None
    with Progress(*columns, console=console, disable=disable, redirect_stdout=redirect) as bar:
        task = bar.add_task("photos", total=len(photos) if isinstance(photos, Sized) else None)
        yield lambda: bar.advance(task)
