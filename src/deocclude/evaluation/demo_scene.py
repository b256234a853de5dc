"""Demo scenes: a street photo of two people, a portrait behind a drawn plant, two people crossing; and their scores.

The plant is drawn by code, so that the occluded part is known; the pipeline never reads it.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from deocclude.imaging.masks import mask_iou
from deocclude.metrics.content import region_l1, region_psnr

PERSON, UNKNOWN = 255, 128
"""Values of the bundled mask: visible pixels of the person, and the helmet in front of unknown pixels."""

_SUPERSAMPLING = 4  # drawn so many times larger, for smooth edges
_PLANT_ROOT_XY = (96.0, 456.0)  # in pixels of the scene
_PLANT_SEED = 11
_CROSSING_HW = (540, 790)  # size of the scene of two people crossing, in pixels


@dataclass(frozen=True)
class Scene:
    """A photo with a synthetic occlusion.

    Attributes:
        original: (H, W, 3) uint8, without the occluder.
        photo: (H, W, 3) uint8, with the occluder.
        whole: (H, W) bool, the amodal mask.
        visible: (H, W) bool.
        unknown: (H, W) bool, pixels of unknown truth.
    """

    original: NDArray[np.uint8]
    photo: NDArray[np.uint8]
    whole: NDArray[np.bool_]
    visible: NDArray[np.bool_]
    unknown: NDArray[np.bool_]

    @property
    def hidden_fraction(self) -> float:
        """Occluded fraction of the amodal mask, in [0, 1]."""
        return 1.0 - self.visible.sum() / self.whole.sum()


@dataclass(frozen=True)
class Score:
    """Scores of a recovered person. IoU in [0, 1], L1 on the 0-255 scale, PSNR in dB."""

    full_iou: float
    invisible_iou: float
    l1: float
    psnr_db: float

    def as_dict(self) -> dict[str, float]:
        """The measures by name."""
        return asdict(self)


def street_photo() -> NDArray[np.uint8]:
    """The bundled photo of one person in front of another, (H, W, 3) uint8. What is hidden is not known."""
    return np.asarray(_asset("street.jpg").convert("RGB"))


def make_scene() -> Scene:
    """The bundled portrait with a potted plant in front of one arm and part of the torso."""
    original, labels = np.asarray(_asset("astronaut.jpg").convert("RGB")), np.asarray(_asset("astronaut_mask.png"))
    plant = draw_plant(original.shape[:2])
    alpha = plant[..., 3:].astype(np.float32) / 255.0
    photo = np.rint(plant[..., :3] * alpha + original * (1.0 - alpha)).astype(np.uint8)
    whole = labels == PERSON
    # every pixel with a trace of the plant is occluded: a mixed pixel would leak the plant's colour to the network
    return Scene(original, photo, whole, whole & (plant[..., 3] == 0), labels == UNKNOWN)


def make_crossing() -> tuple[NDArray[np.uint8], list[Scene]]:
    """Two people crossing: the portrait, and its mirror image behind it, in front of a drawn wall.

    Returns:
        The photo, (H, W, 3) uint8, and a scene per person from the left. The occluded person is on the left.
    """
    portrait, labels = _asset("astronaut.jpg").convert("RGB"), np.asarray(_asset("astronaut_mask.png"))
    # the person and her helmet, with the soft edge of a photo
    cut_out = Image.fromarray(np.where(labels > 0, np.uint8(255), np.uint8(0))).filter(ImageFilter.GaussianBlur(1))
    rows, columns = np.mgrid[: _CROSSING_HW[0], : _CROSSING_HW[1]]
    light = 1.0 - 0.3 * rows / _CROSSING_HW[0] - 0.15 * np.abs(columns / _CROSSING_HW[1] - 0.4)
    wall = (np.array([150.0, 158.0, 162.0]) * light[..., None]).astype(np.uint8)
    layers = []
    for mirrored, size_px, left in ((True, 470, 10), (False, 512, 262)):
        rgb, alpha = (picture.resize((size_px, size_px), Image.Resampling.LANCZOS) for picture in (portrait, cut_out))
        placed = Image.new("RGB", _CROSSING_HW[::-1]), Image.new("L", _CROSSING_HW[::-1])
        for canvas, picture in zip(placed, (rgb, alpha), strict=True):
            flipped = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else picture
            canvas.paste(flipped, (left, _CROSSING_HW[0] - size_px))
        layers.append((np.asarray(placed[0]), np.asarray(placed[1])))

    def blend(below: NDArray[np.uint8], rgb: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Composite `rgb` over `below`. alpha: (H, W), 255 is opaque."""
        share = alpha[..., None] / 255.0
        return np.rint(rgb * share + below * (1 - share)).astype(np.uint8)

    (far_rgb, far), (near_rgb, near) = layers
    alone = blend(wall, far_rgb, far)
    photo = blend(alone, near_rgb, near)
    unknown = np.zeros(_CROSSING_HW, bool)
    return photo, [
        Scene(alone, photo, far >= 128, (far >= 128) & (near < 128), unknown),
        Scene(photo, photo, near >= 128, near >= 128, unknown),
    ]


def _asset(name: str) -> Image.Image:
    """A picture of the package's assets."""
    with (files("deocclude") / "assets" / name).open("rb") as file:
        image = Image.open(file)
        image.load()
    return image


def draw_plant(size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """A potted plant for a photo of `size_hw`, as (H, W, 4) uint8 RGBA with smooth edges. Always the same plant."""
    height, width = size_hw
    k = _SUPERSAMPLING
    canvas = Image.new("RGBA", (width * k, height * k), (0, 0, 0, 0))
    draw = ImageDraw.Draw(canvas)
    rng = np.random.default_rng(_PLANT_SEED)
    root = np.array(_PLANT_ROOT_XY)
    leaves = 34
    for i in range(leaves):
        # from the outer leaves, far and dark, to the inner ones, near and light
        nearness = i / (leaves - 1)
        angle = math.radians(-90 + rng.uniform(-1, 1) * (85 - 30 * nearness))
        length = rng.uniform(0.8, 1.1) * (174 - 78 * nearness)
        green = np.array([38, 84, 44]) + nearness * np.array([50, 72, 26]) + rng.uniform(-10, 10, 3)
        _draw_leaf(
            draw, root + rng.uniform(-14, 14, 2), angle, length, rng.uniform(15, 21), green, rng.uniform(-0.5, 0.5)
        )
    _draw_pot(draw, root)
    smooth = canvas.filter(ImageFilter.GaussianBlur(k / 3))
    # BOX on premultiplied alpha: Pillow premultiplies RGBA before it resamples.
    return np.asarray(smooth.resize((width, height), Image.Resampling.BOX))


def _draw_leaf(
    draw: ImageDraw.ImageDraw,
    base: NDArray[np.float64],
    angle: float,
    length_px: float,
    half_width_px: float,
    green: NDArray[np.float64],
    bend: float,
) -> None:
    """Draw a leaf with a dark and a light half. angle: of its stem, radians; bend: radians that the rib turns by."""
    t = np.linspace(0.0, 1.0, 24)[:, None]
    direction = angle + bend * t
    rib = base + length_px * np.cumsum(np.hstack([np.cos(direction), np.sin(direction)]), axis=0) / len(t)
    normal = np.hstack([-np.sin(direction), np.cos(direction)])
    side = normal * half_width_px * np.sin(np.pi * t**0.8) ** 0.9
    for sign, shade in ((1, 0.85), (-1, 1.1)):
        outline = np.vstack([rib, (rib + sign * side)[::-1]])
        draw.polygon(_on_canvas(outline), fill=_rgba(green * shade))
    draw.line(_on_canvas(rib), fill=_rgba(green * 1.35 + 12), width=_SUPERSAMPLING)


def _draw_pot(draw: ImageDraw.ImageDraw, root: NDArray[np.float64]) -> None:
    """Draw the pot around the root of the leaves, (2,) x and y in pixels."""
    x, y = root
    glaze = np.array([92.0, 116.0, 138.0])
    for i in range(48):
        # vertical strips, lit from the left
        u0, u1 = i / 48 * 2 - 1, (i + 1) / 48 * 2 - 1
        light = 1.15 - 0.55 * (u0 + 0.35) ** 2
        body = [(x + u0 * 66, y + 14), (x + u1 * 66, y + 14), (x + u1 * 52, y + 90), (x + u0 * 52, y + 90)]
        rim = [(x + u0 * 72, y - 6), (x + u1 * 72, y - 6), (x + u1 * 70, y + 16), (x + u0 * 70, y + 16)]
        draw.polygon(_on_canvas(np.array(body)), fill=_rgba(glaze * light))
        draw.polygon(_on_canvas(np.array(rim)), fill=_rgba(glaze * light * 1.12))


def _on_canvas(xy: NDArray[np.float64]) -> list[tuple[float, float]]:
    """(N, 2) points of the photo on the canvas, which is _SUPERSAMPLING times as large."""
    return [(float(x) * _SUPERSAMPLING, float(y) * _SUPERSAMPLING) for x, y in xy]


def _rgba(rgb: NDArray[np.float64]) -> tuple[int, int, int, int]:
    """An opaque colour from (3,) values, clipped to 0-255."""
    r, g, b = np.clip(np.rint(rgb), 0, 255).astype(int).tolist()
    return r, g, b, 255


# --- scoring ---------------------------------------------------------------------------------------------------------


def score(scene: Scene, amodal: NDArray[np.bool_], content: NDArray[np.uint8]) -> Score:
    """Score a recovered person.

    The helmet's pixels are excluded from the masks, because the truth behind it is unknown. L1 and PSNR are over the
    whole occluded part; pixels outside the predicted mask keep the plant's colour.

    Args:
        scene: the truth.
        amodal: (H, W) bool, predicted amodal mask.
        content: (H, W, 3) uint8, recovered photo.
    """
    hidden = scene.whole & ~scene.visible
    known = ~scene.unknown
    return Score(
        full_iou=float(mask_iou(amodal & known, scene.whole)),
        invisible_iou=float(mask_iou(amodal & ~scene.visible & known, hidden)),
        l1=region_l1(content, scene.original, hidden),
        psnr_db=region_psnr(content, scene.original, hidden),
    )


def mean_colour_baseline(scene: Scene) -> Score:
    """Score of a trivial baseline: the visible mask unchanged, and the mean visible colour in the occluded part.

    The baseline gets the true occluded region, which the pipeline has to predict.
    """
    filled = scene.photo.copy()
    filled[scene.whole & ~scene.visible] = np.rint(scene.photo[scene.visible].mean(axis=0)).astype(np.uint8)
    return score(scene, scene.visible, filled)


# --- pictures --------------------------------------------------------------------------------------------------------


def on_checkerboard(rgba: NDArray[np.uint8], square_px: int = 16) -> NDArray[np.uint8]:
    """Composite (H, W, 4) uint8 RGBA over a grey checkerboard, (H, W, 3) uint8."""
    rows, columns = np.indices(rgba.shape[:2]) // square_px
    board = np.where((rows + columns) % 2, 204, 240)[..., None]
    alpha = rgba[..., 3:] / 255.0
    return np.rint(rgba[..., :3] * alpha + board * (1.0 - alpha)).astype(np.uint8)


def side_by_side(panels: dict[str, NDArray[np.uint8]], gap_px: int = 12, caption_px: int = 34) -> NDArray[np.uint8]:
    """Images of one size, (H, W, 3) uint8 each, in a row on white with captions above."""
    height, width = next(iter(panels.values())).shape[:2]
    sheet_width = len(panels) * (width + gap_px) + gap_px
    sheet = Image.new("RGB", (sheet_width, height + caption_px + gap_px), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(caption_px * 0.55)
    for i, (caption, panel) in enumerate(panels.items()):
        x = gap_px + i * (width + gap_px)
        draw.text((x + width / 2, caption_px / 2), caption, fill=(40, 40, 40), font=font, anchor="mm")
        sheet.paste(Image.fromarray(panel), (x, caption_px))
    return np.asarray(sheet)
