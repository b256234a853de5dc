"""Completion prompts: what a user knows of a body beyond its visible part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from deocclude.imaging.arrays import Mask
from deocclude.imaging.boxes import BoxXyxy
from deocclude.inference.prompt_maps import Point, Stroke

# COCO's keypoints below the head, and the limbs between them.
LIMBS = (
    ("left_shoulder", "left_elbow"), ("left_elbow", "left_wrist"),
    ("right_shoulder", "right_elbow"), ("right_elbow", "right_wrist"),
    ("left_hip", "left_knee"), ("left_knee", "left_ankle"),
    ("right_hip", "right_knee"), ("right_knee", "right_ankle"),
    ("left_shoulder", "right_shoulder"), ("left_hip", "right_hip"),
    ("left_shoulder", "left_hip"), ("right_shoulder", "right_hip"),
)  # fmt: skip
THE_ONLY_PERSON = 0  # in place of a person's number, for prompts that name none: the photo's only person
MASK_FIELDS = ("front", "keep", "background")  # of CompletionPrompts
JOINTS = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
)  # fmt: skip
"""Names of joints: COCO's 17 keypoints."""


@dataclass(frozen=True, eq=False)
class CompletionPrompts:
    """What a user says of one person's whole body; whatever is not given is left to the model.

    All coordinates are image pixels, of the upright image, x first.

    Attributes:
        extent_xyxy: (x0, y0, x1, y1), the box of the whole body, hidden parts included, end excluded.
        points: (x, y) pixels that belong to the body.
        not_points: pixels that do not.
        joints: (x, y) by name, from JOINTS. Two given ends of a limb mark the limb between them.
        pose: the number of a typical pose, from 1 (`deocclude models poses`).
        hypothesis: which of the model's different answers to the same prompts, from 1; None: its single answer.
        front: (H, W) bool, what is in front of the body: only there hidden parts are completed. In Python also a path,
            bytes or a Pillow image, like every mask.
        keep: (H, W) bool, pixels that are never repainted.
        background: (H, W) bool, pixels that are no part of the body, visible or hidden.
    """

    extent_xyxy: BoxXyxy | None = None
    points: tuple[Point, ...] = ()
    not_points: tuple[Point, ...] = ()
    joints: Mapping[str, Point] = field(default_factory=dict)
    pose: int | None = None
    hypothesis: int | None = None
    front: Mask | None = None
    keep: Mask | None = None
    background: Mask | None = None

    def with_point(self, point: Point, *, is_body: bool) -> CompletionPrompts:
        """The prompts with one more point, which belongs to the body or does not."""
        if is_body:
            return replace(self, points=(*self.points, point))
        return replace(self, not_points=(*self.not_points, point))

    @property
    def for_head(self) -> bool:
        """Whether any prompt is one that the prompted head reads; masks alone only restrict its answer."""
        drawn = self.extent_xyxy or self.points or self.not_points or self.joints or self.pose
        return bool(drawn or self.hypothesis)

    @property
    def only_restricts(self) -> bool:
        """Whether the prompts only take pixels away: what is completed is then decided as without prompts."""
        return not (self.for_head or self.front is not None)

    @property
    def body_strokes(self) -> list[Stroke]:
        """Points, joints, and limbs with both ends given."""
        alone = [*self.points, *self.joints.values()]
        limbs = [(self.joints[a], self.joints[b]) for a, b in LIMBS if a in self.joints and b in self.joints]
        return [*((point, point) for point in alone), *limbs]

    @property
    def background_strokes(self) -> list[Stroke]:
        """Points that do not belong to the body."""
        return [(point, point) for point in self.not_points]
