"""The people of one image on their canvas: the image itself, or one extended beyond its borders."""

from __future__ import annotations

from dataclasses import dataclass, replace

from deocclude.imaging.arrays import ImageU8
from deocclude.imaging.crop import Region
from deocclude.imaging.truncation import Canvas, Truncation, find_truncation
from deocclude.inference.body import Body
from deocclude.inference.mask_completion import MaskCompletion
from deocclude.inference.occlusion_probability import OcclusionCalibration, with_hidden_probability

_MARGIN_PX = 2  # around each body on the extended image


@dataclass(frozen=True)
class Scene:
    """Bodies by the number of the person, on an image.

    Attributes:
        photo: (H, W, 3) uint8 RGB.
        bodies: bodies by number.
        truncations: by number, the borders of the user's image that truncate the body.
        photo_region: the user's image in `photo`; None where they are the same.
    """

    photo: ImageU8
    bodies: dict[int, Body]
    truncations: dict[int, Truncation]
    photo_region: Region | None = None

    @classmethod
    def of(cls, photo: ImageU8, bodies: dict[int, Body]) -> Scene:
        """The scene of an image without extension."""
        size_hw = photo.shape[:2]
        return cls(photo, bodies, {i: find_truncation(body.amodal, body.region, size_hw) for i, body in bodies.items()})

    @property
    def is_truncated(self) -> bool:
        """Whether a border of the image truncates any body."""
        return any(self.truncations.values())


def extend(scene: Scene, complete: MaskCompletion, calibration: OcclusionCalibration) -> Scene:
    """Complete truncated bodies beyond the image borders.

    Inside the image, what is left out of a body stays left out. A body without a visible pixel on the canvas stays
    unchanged.

    Args:
        scene: the scene of the user's image.
        complete: stage 1.
        calibration: for the probability of a hidden part.

    Returns:
        The scene on a canvas with room for every whole body.
    """
    size_hw = scene.photo.shape[:2]
    around = [(body.visible, scene.truncations[i]) for i, body in scene.bodies.items()]
    canvas = Canvas.around(around, size_hw)
    picture = canvas.lay_out(scene.photo)
    bodies = {}
    for number, body in scene.bodies.items():
        moved = body.moved(canvas.photo_region.left, canvas.photo_region.top)
        extended = _extended(body, picture, canvas, complete, size_hw) if scene.truncations[number] else None
        bodies[number] = moved if extended is None else with_hidden_probability(extended, calibration.body)
    del picture  # frees its memory: the next image is as large
    trimmed, left, top = canvas.trimmed([body.region for body in bodies.values()], margin_px=_MARGIN_PX)
    bodies = {number: body.moved(-left, -top) for number, body in bodies.items()}
    return Scene(trimmed.lay_out(scene.photo, fill=0), bodies, scene.truncations, trimmed.photo_region)


def _extended(
    body: Body, picture: ImageU8, canvas: Canvas, complete: MaskCompletion, size_hw: tuple[int, int]
) -> Body | None:
    """A body completed on the canvas; None where no pixel of it is visible, in the image or there."""
    if not body.area_px:
        return None
    visible = canvas.lay_out(body.on_photo(body.visible, size_hw), fill=0)
    whole = complete(picture, visible)
    # pixels of other people, and those beyond the image, are not visible
    kept = whole.visible & visible[whole.region.slices]
    if not kept.any():
        return None
    whole = replace(whole.with_visible(kept), score=body.score)
    if body.left_out is None:
        return whole
    unlikely = canvas.lay_out(body.on_photo(body.left_out, size_hw), fill=0)[whole.region.slices] & ~kept
    return whole.with_amodal(whole.amodal & ~unlikely) if unlikely.any() else whole
