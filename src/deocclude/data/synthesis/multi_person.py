"""Composed photos of several people, or of none: each person's visible and amodal mask and the depth order are exact.

People and objects share one ground plane: a larger person is nearer, has lower feet and is pasted later. Some scenes
are a person's own photo, unchanged or with distractors pasted in front and behind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np

from deocclude.data.sources.layers import Layer, Library, PersonPhoto
from deocclude.data.sources.lazy import Joined, Selected, trait_of
from deocclude.data.sources.procedural import draw_slab
from deocclude.data.synthesis.config import check_ranges
from deocclude.data.synthesis.photometric import camera, photometric
from deocclude.data.synthesis.rendering import blend, warp_layer
from deocclude.data.synthesis.scene import Placed
from deocclude.imaging.arrays import Float, Int

Rng = np.random.Generator


@dataclass(frozen=True)
class CrowdConfig:
    """How scenes are drawn. Lengths are fractions of the photo's longer side unless stated otherwise."""

    p_negative: float = 0.12  # fraction of scenes without a person (background negatives)
    # relative frequency of 1, 2, ... pasted people in a scene
    people: tuple[float, ...] = (0.24, 0.22, 0.17, 0.13, 0.09, 0.06, 0.05, 0.04)
    p_own_photo: float = 0.3  # fraction of scenes in a person's own photo
    p_alone: float = 0.5  # fraction of those to which no person is added
    p_alone_things: float = 0.3  # fraction of those, in turn, to which objects are added
    smallest: float = 0.0625  # least height of a person: 40 pixels in a photo of 640
    middle: tuple[float, float] = (0.12, 1.1)  # height about which a scene's people vary; log-uniform
    spread: float = 0.35  # standard deviation of log height within a scene
    # height of the camera, in heights of a person: feet lie this much of their own height below the horizon
    camera_height: tuple[float, float] = (0.7, 1.5)
    p_beside: float = 0.5  # probability that a person is placed beside another one, so that bodies overlap
    p_thing_in_front: float = 0.22  # probability of an object in front of each person
    most_things: int = 3  # largest number of objects in a scene
    p_slab: float = 0.12  # fraction of objects that are rectangular occluders, such as a wall or a counter
    min_visible: float = 0.15  # least visible fraction of each body in the photo; other placements are rejected
    max_enlarged: float = 1.6  # largest upscaling of a cut-out: blur would reveal pasted people
    p_relit: float = 0.6  # fraction of pasted layers whose light and colour are changed
    p_wild_covered: float = 0.0  # fraction of real photos in which cut-out people and objects are pasted in front
    p_wild_mosaic: float = 0.0  # fraction of samples of real photos that show four of them in one frame, half as large
    p_wild_people: float = 0.0  # fraction of pasted people that are the visible part of a person in a real photo
    wild_stretch: float = 0.0  # the aspect ratio of real photos changes by a factor of up to exp(wild_stretch)
    attempts: int = 5  # tried placements of one person

    def __post_init__(self) -> None:
        check_ranges(self, rising=("middle", "camera_height"))
        if min(self.people, default=0) < 0 or not any(self.people):
            raise ValueError(f"people must be frequencies of at least 0, not all 0, got {list(self.people)}")
        if self.middle[0] <= 0:
            raise ValueError(f"middle must be above 0, got {list(self.middle)}")


@dataclass(frozen=True)
class AssetPool:
    """The layers that scenes are composed from.

    Attributes:
        people: layers that are pasted as people; whole people, except those added by `with_layers`.
        people_shares: (P,) relative frequency of each, summing to 1.
        photo_owners: people with a photo of their own, truncated by the image border or not.
        photo_owner_shares: the same of `photo_owners`.
        library: occluders and backgrounds.
    """

    people: Sequence[Layer]
    people_shares: np.ndarray
    photo_owners: Sequence[PersonPhoto]
    photo_owner_shares: np.ndarray
    library: Library

    @classmethod
    def of(cls, library: Library) -> AssetPool:
        """The pool of a library, with the library's weights within each group."""
        whole, with_photo = (trait_of(library.people, trait) for trait in ("whole", "has_background"))
        (people, shares), (photo_owners, photo_owner_shares) = (_subset(library, mask) for mask in (whole, with_photo))
        return cls(people, shares, photo_owners, photo_owner_shares, library)

    def with_layers(self, others: Sequence[Layer], share: float) -> AssetPool:
        """The pool with `others` added, uniformly weighted, as a fraction `share` of all drawn people."""
        if not others:
            return self
        shares = np.concatenate([(1 - share) * self.people_shares, np.full(len(others), share / len(others))])
        return replace(self, people=Joined([self.people, others]), people_shares=shares / shares.sum())


@dataclass(frozen=True)
class Pasted:
    """A layer in the photo's pixels. rgb: (h, w, 3) uint8, alpha: (h, w) uint8, its upper left at (left, top)."""

    name: str
    is_person: bool
    left: int
    top: int
    rgb: np.ndarray
    alpha: np.ndarray

    @property
    def slices(self) -> tuple[slice, slice]:
        """Where the layer lies in the photo."""
        h, w = self.alpha.shape
        return slice(self.top, self.top + h), slice(self.left, self.left + w)

    def mask(self, size_hw: tuple[int, int]) -> np.ndarray:
        """(H, W) bool, the silhouette within the photo."""
        out = np.zeros(size_hw, bool)
        out[self.slices] = self.alpha >= 128
        return out


@dataclass(frozen=True)
class CrowdScene:
    """A composed photo and the truth about its N people, listed back to front.

    Attributes:
        names: the people's names.
        photo: (H, W, 3) uint8.
        visible: (N, H, W) bool, disjoint.
        amodal: (N, H, W) bool, within the photo.
        ignore: (H, W) bool, where the photo may show unlabelled people.
    """

    names: tuple[str, ...]
    photo: np.ndarray
    visible: np.ndarray
    amodal: np.ndarray
    ignore: np.ndarray

    @cached_property
    def boxes_xyxy(self) -> np.ndarray:
        """(N, 4) float32 boxes around the visible masks; zeros for an empty mask."""
        boxes = np.zeros((len(self.visible), 4), np.float32)
        for row, mask in zip(boxes, self.visible, strict=True):
            x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
            row[:] = x, y, x + w, y + h
        return boxes

    @cached_property
    def hidden_fraction(self) -> Float:
        """(N,) occluded fraction of each amodal mask, 0 to 1, by people or objects."""
        hidden: Float = 1 - self.visible.sum((1, 2)) / np.maximum(1, self.amodal.sum((1, 2)))
        return hidden

    @cached_property
    def hidden_by_px(self) -> Int:
        """(N, N) int: in row i, column j the pixels of j's amodal mask that lie behind i's."""
        flat = self.amodal.reshape(len(self.amodal), self.photo.shape[0] * self.photo.shape[1]).astype(np.float32)
        hidden_px: Int = np.tril(flat @ flat.T, -1).astype(int)
        return hidden_px


def compose(canvas: np.ndarray, layers: Sequence[Pasted], ignore: np.ndarray) -> CrowdScene:
    """Paste layers, back to front, onto a copy of `canvas`, (H, W, 3) uint8. ignore: (H, W) bool of the canvas."""
    photo, ignored, size_hw = canvas.copy(), ignore.copy(), canvas.shape[:2]
    people = [layer for layer in layers if layer.is_person]
    visible, amodal = np.zeros((2, len(people), *size_hw), bool)
    count = 0
    for layer in layers:
        rows, columns = layer.slices
        blend(photo[rows, columns], layer.rgb, layer.alpha)
        covered = layer.alpha >= 128
        visible[:count, rows, columns] &= ~covered
        ignored[rows, columns] &= ~covered
        if layer.is_person:
            visible[count, rows, columns] = amodal[count, rows, columns] = covered
            count += 1
    return CrowdScene(tuple(p.name for p in people), photo, visible, amodal, ignored)


def compose_crowd(pool: AssetPool, rng: Rng, config: CrowdConfig, size_px: int) -> CrowdScene:
    """A scene of `size_px` on its longer side, after photometric augmentation and camera noise."""
    owner, alone = None, False
    is_negative = rng.random() < config.p_negative or not (pool.people or pool.photo_owners)
    if not is_negative and pool.photo_owners and (rng.random() < config.p_own_photo or not pool.people):
        number = rng.choice(len(pool.photo_owners), p=pool.photo_owner_shares)
        canvas, owner, ignore = _own_photo(pool.photo_owners[number], rng, size_px)
        alone = rng.random() < config.p_alone or not pool.people
    else:
        canvas = _background(pool.library, rng, size_px)
        ignore = np.zeros(canvas.shape[:2], bool)
    count = 0
    if not is_negative and not alone:
        shares = np.array(config.people)
        count = 1 + int(rng.choice(len(shares), p=shares / shares.sum()))
    composer = _SceneComposer(pool, rng, config, canvas.shape[:2], owner)
    # a person's own photo without added people stays unchanged, except for an occasional object
    objects = rng.integers(0, config.most_things + 1) if not alone or rng.random() < config.p_alone_things else 0
    composer.fill(count, int(objects))
    scene = compose(canvas, composer.layers, ignore)
    (photo,) = camera(photometric([scene.photo], rng), rng)
    return CrowdScene(scene.names, photo, scene.visible, scene.amodal, scene.ignore)


class _SceneComposer:
    """Places the layers of one scene on its ground plane, from far to near."""

    def __init__(self, pool: AssetPool, rng: Rng, config: CrowdConfig, size_hw: tuple[int, int], owner: Pasted | None):
        self.pool, self.rng, self.config, self.size_hw = pool, rng, config, size_hw
        self.layers: list[Pasted] = []
        self.positions: list[tuple[float, float]] = []  # (x, height) of the people placed, in pixels
        self.visible: list[np.ndarray] = []  # (H, W) bool masks of the people placed
        self.areas: list[int] = []  # pixels of their amodal masks within the photo
        self.camera_height = rng.uniform(*config.camera_height)
        h, longer = size_hw[0], max(size_hw)
        self.owner = owner
        # pixels that the photo's owner will cover, until the owner is placed
        self.owner_mask = np.zeros(size_hw, bool) if owner is None else owner.mask(size_hw)
        if owner is None:
            self.median_height_px = longer * np.exp(rng.uniform(*np.log(config.middle)))
            if self.median_height_px > 0.9 * h and rng.random() < 0.8:  # a close-up shows heads, not feet
                feet = self.median_height_px + rng.uniform(0.0, 0.4) * h
            elif rng.random() < 0.25:  # the photo ends somewhere on their bodies
                feet = h + rng.uniform(0.1, 0.5) * self.median_height_px
            else:
                feet = rng.uniform(min(max(0.5 * h, 0.95 * self.median_height_px), h), 1.02 * h)
        else:
            x, y, w, body = cv2.boundingRect((owner.alpha >= 128).astype(np.uint8))
            self.median_height_px, feet = float(max(body, 1)), float(y + body)
            self.owner_x, self.owner_feet = x + w / 2, feet
        self.horizon = feet - self.camera_height * self.median_height_px

    def fill(self, people: int, objects: int) -> None:
        """Place people and objects, the farthest first."""
        rng, longest = self.rng, 1.3 * self.size_hw[0]
        shortest = self.config.smallest * max(self.size_hw)
        spots = []
        for number in range(people + objects):
            height = np.clip(self.median_height_px * np.exp(rng.normal(0, self.config.spread)), shortest, longest)
            spots.append((height, number < people))
        pending_owner = self.owner
        for height, is_person in sorted(spots):
            if pending_owner is not None and height > self.median_height_px:
                self._add_owner(pending_owner)
                pending_owner = None
            # the head stays in the photo, or nearly: photos truncate feet more often than heads
            feet = max(self.horizon + self.camera_height * height, rng.uniform(0.85, 1.05) * height)
            place = self._place_person if is_person else self._place_object
            place(feet, height)
        if pending_owner is not None:
            self._add_owner(pending_owner)
        if self.owner is not None and rng.random() < self.config.p_thing_in_front and people + objects:
            self._place_object_in_front(self.owner_x, self.owner_feet, self.median_height_px)

    def _place_person(self, feet: float, height: float) -> None:
        """Place a random person, unless all attempts fail. feet: y of the feet, height: of the body, in pixels."""
        rng, config = self.rng, self.config
        for _ in range(config.attempts):
            layer = self.pool.people[rng.choice(len(self.pool.people), p=self.pool.people_shares)]
            if height > config.max_enlarged * longer_side(layer):
                continue
            x = rng.uniform(0.0, 1.0) * self.size_hw[1]
            if self.positions and rng.random() < config.p_beside:
                beside, their_height = self.positions[rng.integers(len(self.positions))]
                x = beside + rng.choice([-1, 1]) * rng.uniform(0.08, 0.5) * min(height, their_height)
            pasted = self._paste(layer, x, feet + rng.normal(0, 0.02) * height, height, 6.0, is_person=True)
            if pasted is not None and self._fits(pasted, layer, height):
                self._add(pasted, x, height)
                if rng.random() < config.p_thing_in_front:
                    self._place_object_in_front(x, feet, height)
                return

    def _place_object(self, feet: float, height: float) -> None:
        """Place a random object where a person of this height would stand, smaller than that person."""
        x = self.rng.uniform(-0.05, 1.05) * self.size_hw[1]
        self._add_object(x, feet, height * self.rng.uniform(0.25, 0.9))

    def _place_object_in_front(self, x: float, feet: float, height: float) -> None:
        """Place an object in front of a person: mostly on the ground, else in front of the upper body."""
        rng = self.rng
        bottom = feet + rng.uniform(0, 0.1) * height
        if rng.random() < 0.35:
            bottom -= rng.uniform(0.1, 0.5) * height
        self._add_object(x + rng.normal(0, 0.15) * height, bottom, height * rng.uniform(0.25, 0.75))

    def _add_object(self, x: float, bottom: float, size: float) -> None:
        """Paste a random object, `size` px on its longer side, unless it would leave too little of a person visible."""
        library, rng = self.pool.library, self.rng
        if rng.random() < self.config.p_slab:
            layer = draw_slab(library, rng)
        else:
            layer = library.occluders[int(rng.integers(len(library.occluders)))]
        pasted = self._paste(layer, x, bottom, size, 8.0, is_person=False)
        if pasted is not None and self._leaves_visible(pasted):
            self._add(pasted, x, size)

    def _paste(
        self, layer: Layer, x: float, bottom: float, size: float, max_angle_deg: float, *, is_person: bool
    ) -> Pasted | None:
        """`layer`, `size` px on its longer side, middle of its lower edge at (x, bottom); None outside the photo."""
        rng = self.rng
        pasted = paste(
            layer, rng, x, bottom, size, angle_deg=rng.uniform(-1, 1) * max_angle_deg, mirrored=rng.random() < 0.5,
            size_hw=self.size_hw, is_person=is_person,
        )  # fmt: skip
        if pasted is None or rng.random() >= self.config.p_relit:
            return pasted
        (rgb,) = photometric([pasted.rgb], rng)
        return Pasted(pasted.name, is_person, pasted.left, pasted.top, rgb, pasted.alpha)

    def _fits(self, pasted: Pasted, layer: Layer, height: float) -> bool:
        """Whether enough of a person is in the photo, and enough of all other people stays visible."""
        whole = pixels_at(layer, height)
        body = pasted.alpha >= 128
        shown_px = np.count_nonzero(body & ~self.owner_mask[pasted.slices])
        enough = body.sum() > 0.15 * whole and shown_px >= self.config.min_visible * body.sum()
        return enough and self._leaves_visible(pasted)

    def _leaves_visible(self, pasted: Pasted) -> bool:
        """Whether a layer leaves enough of each person that it covers visible."""
        covered = pasted.alpha >= 128
        for visible, area in zip(self.visible, self.areas, strict=True):
            lost = np.count_nonzero(visible[pasted.slices] & covered)
            if lost and np.count_nonzero(visible) - lost < self.config.min_visible * area:
                return False
        return True

    def _add_owner(self, owner: Pasted) -> None:
        """Add the photo's owner in front of the layers so far."""
        self.owner_mask[:] = False
        self._add(owner, self.owner_x, self.median_height_px)

    def _add(self, pasted: Pasted, x: float, height: float) -> None:
        """Add a layer in front of the layers so far. x, height: of a person, in pixels."""
        covered = pasted.alpha >= 128
        for visible in self.visible:
            visible[pasted.slices] &= ~covered
        self.layers.append(pasted)
        if pasted.is_person:
            self.positions.append((x, height))
            self.visible.append(pasted.mask(self.size_hw) & ~self.owner_mask)
            self.areas.append(int(covered.sum()))


def paste(
    layer: Layer, rng: Rng, x: float, bottom: float, size: float, *, angle_deg: float = 0.0, mirrored: bool = False,
    size_hw: tuple[int, int], is_person: bool,
) -> Pasted | None:  # fmt: skip
    """A layer in the pixels of a photo, its sides stretched by up to 5 %; None where no pixel falls inside the photo.

    Args:
        layer: what is pasted.
        rng: draws the stretch.
        x: horizontal position of the box's middle, in pixels.
        bottom: vertical position of the box's lower edge, in pixels.
        size: longer side of the box, in pixels.
        angle_deg: rotation in the image plane.
        mirrored: whether the layer is flipped horizontally.
        size_hw: the photo's (H, W).
        is_person: whether the layer shows a person.
    """
    x0, y0, x1, y1 = layer.box_xyxy
    a = np.deg2rad(angle_deg)
    scale = np.diag(size / max(x1 - x0, y1 - y0) * rng.uniform(0.95, 1.05, 2)) @ np.diag([-1.0 if mirrored else 1.0, 1])
    linear = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]) @ scale
    to_photo = np.column_stack([linear, np.array([x, bottom]) - linear @ np.array([(x0 + x1) / 2, y1])])
    # two pixels more than the box, for the feathered rim
    corners = np.array([[u, v, 1] for u in (x0 - 2, x1 + 2) for v in (y0 - 2, y1 + 2)]) @ to_photo.T
    left, top = np.maximum(np.floor(corners.min(0)).astype(int), 0)
    right, below = np.minimum(np.ceil(corners.max(0)).astype(int), size_hw[::-1])
    if right <= left or below <= top:
        return None
    shift = np.array([[1.0, 0, -left], [0, 1.0, -top]])
    rgb, alpha = warp_layer(Placed(layer, to_photo), shift, (int(below - top), int(right - left)))
    return Pasted(layer.name, is_person, int(left), int(top), rgb, alpha) if (alpha >= 128).any() else None


def _own_photo(person: PersonPhoto, rng: Rng, size_px: int) -> tuple[np.ndarray, Pasted | None, np.ndarray]:
    """A person's own photo or a crop of it: the photo, its owner as a layer, and the ignore mask.

    The layer is None where the crop shows nothing of the owner.

    Background people are unlabelled. They are rare close to the owner, whose surroundings teach where a person ends.
    Farther away the photo is ignored; scenes without people teach the background.
    """
    h, w = person.rgb.shape[:2]
    x0, y0, x1, y1 = person.box_xyxy
    left, top, right, below = 0, 0, w, h
    if rng.random() < 0.5:  # a crop that keeps the middle of the body
        cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
        left, right = int(rng.uniform(0, 0.8) * cx), int(np.ceil(w - rng.uniform(0, 0.8) * (w - cx)))
        top, below = int(rng.uniform(0, 0.8) * cy), int(np.ceil(h - rng.uniform(0, 0.8) * (h - cy)))
    part = (slice(top, below), slice(left, right))
    scale = size_px / max(below - top, right - left)
    size = max(1, round((right - left) * scale)), max(1, round((below - top) * scale))
    kernel = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    canvas, alpha = (cv2.resize(a[part], size, interpolation=kernel) for a in (person.rgb, person.alpha))
    if rng.random() < 0.5:
        canvas, alpha = np.ascontiguousarray(canvas[:, ::-1]), np.ascontiguousarray(alpha[:, ::-1])
    ignore = np.ones(alpha.shape, bool)
    bx, by, bw, bh = cv2.boundingRect((alpha >= 128).astype(np.uint8))
    if bw == 0:
        return canvas, None, ignore
    margin = round(0.1 * max(bw, bh))
    ignore[max(0, by - margin) : by + bh + margin, max(0, bx - margin) : bx + bw + margin] = False
    return canvas, Pasted(person.name, True, 0, 0, canvas, alpha), ignore


def _background(library: Library, rng: Rng, size_px: int) -> np.ndarray:
    """A crop of a background with an aspect ratio from 1:1.8 to 1.8:1 and `size_px` on its longer side."""
    source = library.backgrounds[int(rng.integers(len(library.backgrounds)))]
    short = max(1, round(size_px * rng.uniform(1 / 1.8, 1.0)))
    w, h = (size_px, short) if rng.random() < 0.5 else (short, size_px)
    sh, sw = source.shape[:2]
    scale = min(sw / w, sh / h) * rng.uniform(0.5, 1.0)
    cw, ch = max(1, int(w * scale)), max(1, int(h * scale))
    x, y = rng.integers(0, sw - cw + 1), rng.integers(0, sh - ch + 1)
    part = source[y : y + ch, x : x + cw]
    out = cv2.resize(part, (w, h), interpolation=cv2.INTER_AREA if scale > 1 else cv2.INTER_LINEAR)
    return np.ascontiguousarray(out[:, ::-1]) if rng.random() < 0.5 else out


def longer_side(layer: Layer) -> int:
    """Longer side of the layer's box, in the layer's own pixels."""
    x0, y0, x1, y1 = layer.box_xyxy
    return max(x1 - x0, y1 - y0)


def pixels_at(layer: Layer, size: float) -> float:
    """Number of pixels of the full silhouette when its box's longer side is `size` pixels."""
    return float((layer.alpha >= 128).sum() * (size / longer_side(layer)) ** 2)


def _subset(library: Library, mask: np.ndarray) -> tuple[Sequence[PersonPhoto], np.ndarray]:
    """The library's people where `mask`, (P,) bool, is True, and their weights, scaled to sum to 1."""
    shares = library.weights[mask]
    return Selected(library.people, np.flatnonzero(mask)), shares / max(1e-12, shares.sum())
