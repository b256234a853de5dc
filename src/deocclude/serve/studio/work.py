"""What the studio's process does: photos are opened and changed step by step, and each state goes back.

The process can be ended at any time: the states are kept on the other side (process.py).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from deocclude.errors import DeoccludeError
from deocclude.inference.memory import give_back_freed
from deocclude.io.decoder import quiet_pillow
from deocclude.people.editing import Editing, EditingState
from deocclude.serve.settings import ServeSettings
from deocclude.serve.studio.packing import pack, unpack
from deocclude.types import Result

if TYPE_CHECKING:
    from deocclude.io.openraster import Layer


class Pipeline(Protocol):
    """An opened model, as `Deoccluder`."""

    def edit(self, image: bytes) -> Editing:
        """Open a photo for editing."""

    def edit_again(self, state: EditingState) -> Editing:
        """Open a photo in a former state."""


class OpenPhoto:
    """A photo that this process has open."""

    def __init__(self, editing: Editing) -> None:
        self.editing = editing
        self._background: tuple[Result, Layer] | None = None

    @property
    def result(self) -> Result:
        """Everyone as completed last."""
        return self.editing.result

    def background(self) -> Layer:
        """The scene without people, filled once for each result. It takes seconds."""
        result = self.result
        if self._background is None or self._background[0] is not result:
            self._background = (result, result.layers()[1])
        return self._background[1]


@dataclass(frozen=True)
class Step:
    """Something to do with a photo.

    Attributes:
        photo_id: of the photo.
        act: what to do; it can be pickled, and so can what it returns. None: only forget the closed photos.
        file: of a photo to open; None: the photo is open.
        state: the packed state to begin with; None: the one that the process has.
        closed: ids of photos that were closed.
    """

    photo_id: str
    act: Callable[[OpenPhoto], Any] | None
    file: bytes | None = None
    state: bytes | None = None
    closed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Done:
    """What a step gives.

    Attributes:
        value: what the act returned.
        state: the packed state afterwards. To unpack it takes the parts of the state before; for a new photo, none.
    """

    value: Any
    state: bytes


@dataclass(frozen=True)
class Failed:
    """A step that changed nothing."""

    error: DeoccludeError


def open_work(settings: ServeSettings, scratch: Path) -> StudioWork:
    """Open the model in the studio's process. Raises what `deocclude.load` raises."""
    from deocclude.pipeline import load

    tempfile.tempdir = str(scratch)
    quiet_pillow()
    threads = settings.threads or None
    return StudioWork(load(settings.model, device=settings.device, weights_dir=settings.weights_dir, threads=threads))


class StudioWork:
    """The work on steps, one after another."""

    def __init__(self, pipeline: Pipeline) -> None:
        """Keep a pipeline for all steps of this process."""
        self._pipeline = pipeline
        self._open: dict[str, OpenPhoto] = {}

    def __call__(self, step: Step) -> Done | Failed:
        """Do a step. Errors that are no DeoccludeError are bugs, and end the process."""
        for photo_id in step.closed:
            self._open.pop(photo_id, None)
        if step.act is None:
            return Done(None, b"")
        try:
            photo, before = self._photo(step)
            value = step.act(photo)
            return Done(value, pack(photo.editing.state, before))
        except DeoccludeError as error:
            return Failed(error)
        finally:
            give_back_freed()

    def _photo(self, step: Step) -> tuple[OpenPhoto, dict[str, object]]:
        """The step's photo in the state to begin with, and the parts of that state, which the other side has too."""
        if step.file is not None:
            opened = self._open[step.photo_id] = OpenPhoto(self._pipeline.edit(step.file))
            return opened, {}
        photo = self._open.get(step.photo_id)
        if photo is None:
            assert step.state is not None
            photo = self._open[step.photo_id] = OpenPhoto(self._pipeline.edit_again(unpack(step.state, {})))
        elif step.state is not None:
            photo.editing.restore(unpack(step.state, photo.editing.state.parts()))
        return photo, photo.editing.state.parts()
