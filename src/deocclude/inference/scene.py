"""The people of one image on the canvas they are recovered on: the image itself, or one extended beyond its edges."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from deocclude.imaging.crop import Region
from deocclude.imaging.truncation import Canvas, Truncation, find_truncation
from deocclude.inference.body import Body
from deocclude.inference.mask_completion import MaskCompletion
from deocclude.inference.occlusion_probability import HiddenCalibration, with_hidden_probability
from deocclude.inference.settings import OcclusionSettings

_MARGIN_PX = 2


@dataclass(frozen=True)
class Scene:
    """Bodies by the number of the person, on a picture.

    photo: (H, W, 3) uint8 RGB; photo_region: where the user's image lies in it, None where it is that image;
    truncations: which edges of the user's image truncate each body.
    """

    photo: ImageU8
    bodies: dict[int, Body]
    truncations: dict[int, Truncation]
    photo_region: Region | None = None

    @classmethod
    def of(cls, photo: ImageU8, bodies: dict[int, Body]) -> Scene:
        """The scene of an image as it is."""
        size_hw = photo.shape[:2]
        return cls(photo, bodies, {i: find_truncation(body.amodal, body.region, size_hw) for i, body in bodies.items()})

    @property
    def is_truncated(self) -> bool:
        """Whether an edge of the image truncates anybody."""
        return any(self.truncations.values())


def extend(
    scene: Scene, complete: MaskCompletion, calibration: HiddenCalibration, settings: OcclusionSettings
) -> Scene:
    """Truncated bodies completed beyond the edges: the scene on a canvas on which everyone fits.

    A body of which nothing is visible on the canvas any more stays as it was.
    """
    size_hw = scene.photo.shape[:2]
    around = [(body.visible, body.region, scene.truncations[i]) for i, body in scene.bodies.items()]
    canvas = Canvas.around(around, size_hw)
    picture = canvas.lay_out(scene.photo)
    bodies = {}
    for number, body in scene.bodies.items():
        moved = body.moved(canvas.photo_region.left, canvas.photo_region.top)
        extended = _extended(body, picture, canvas, complete, size_hw) if scene.truncations[number] else None
        bodies[number] = (
            moved if extended is None else with_hidden_probability(extended, calibration, "always", settings)
        )
    del picture  # as large as what follows, which needs it no more
    trimmed, left, top = canvas.trimmed([body.region for body in bodies.values()], margin_px=_MARGIN_PX)
    bodies = {number: body.moved(-left, -top) for number, body in bodies.items()}
    return Scene(trimmed.lay_out(scene.photo, fill=0), bodies, scene.truncations, trimmed.photo_region)


def _extended(
    body: Body, picture: ImageU8, canvas: Canvas, complete: MaskCompletion, size_hw: tuple[int, int]
) -> Body | None:
    """A body completed on the canvas; None where nothing of it is visible there."""
    visible = np.zeros(size_hw, bool)
    visible[body.region.slices] = body.visible
    visible = canvas.lay_out(visible, fill=0)
    whole = complete(picture, visible)
    # pixels of other people, and those beyond the image, are not visible
    kept = whole.visible & visible[whole.region.slices]
    return replace(whole.with_visible(kept), score=body.score) if kept.any() else None
