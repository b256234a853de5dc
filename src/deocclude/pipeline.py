"""Deoccluder: a photo and its prompts in, a Result out. The whole flow, top to bottom."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from deocclude.completion import CompletionOutput, MaskCompletion
from deocclude.composite import paste_hidden_box
from deocclude.crop import Region
from deocclude.errors import InputError, UsageError
from deocclude.image_io import ImageSource, load_image, load_photo
from deocclude.masks import BoxXyxy, box_to_mask, check_mask
from deocclude.order import Body, share_out_pixels
from deocclude.people import Choice, Segmenter, as_instances, keep, left_to_right, merge_duplicates
from deocclude.recovery import ContentRecovery, hidden_on_photo
from deocclude.runtime import find_model, open_networks
from deocclude.types import Person, Result

# Detectors round a box past the photo's edge; more than this is a box of another photo.
_BOX_SLACK_PX = 1.0


def load(
    model: str = "base",
    *,
    device: str = "auto",
    weights_dir: str | Path | None = None,
    average: bool = True,
    threads: int | None = None,
    segmenter: Segmenter | None = None,
) -> Deoccluder:
    """Open a model once, for any number of photos and threads. Nothing is downloaded.

    Args:
        model: a name of the weights' manifest.
        device: "auto" (CUDA when ONNX Runtime offers it, else the CPU), "cpu" or "cuda".
        weights_dir: a folder with a manifest.json and its files; None for the weights in the package.
        average: let the mask network look at each person four times, mirrored and from further away: a little better,
            a little slower.
        threads: CPU threads a network may use; None for one a core.
        segmenter: who finds people in photos that come without masks and boxes: any callable from (H, W, 3) uint8 RGB
            to a list of masks, (mask, score) pairs or `people.Instance`.

    Raises:
        UsageError: an unknown model or device. DeviceError: a device that is not there.
        WeightsError: weights that are missing or damaged.
    """
    info = find_model(model, weights_dir)
    networks, running_on = open_networks(info, device, threads)
    return Deoccluder(
        MaskCompletion(networks["mask_completion"], average=average),
        ContentRecovery(networks["content_recovery"]),
        device=running_on,
        model=model,
        segmenter=segmenter,
    )


def run(
    image: ImageSource,
    masks: Sequence[np.ndarray] | None = None,
    boxes_xyxy: Sequence[BoxXyxy] | None = None,
    *,
    model: str = "base",
    device: str = "auto",
    seed: int = 0,
) -> Result:
    """Recover one photo: `load(model)` and one call. For several photos, load once and call the Deoccluder."""
    return load(model, device=device)(image, masks=masks, boxes_xyxy=boxes_xyxy, seed=seed)


class Deoccluder:
    """Makes people whole. Holds the stages and nothing of any photo, so threads may share one."""

    def __init__(
        self,
        completion: MaskCompletion,
        recovery: ContentRecovery,
        *,
        device: str,
        model: str,
        segmenter: Segmenter | None = None,
    ) -> None:
        self.device = device
        self.model = model
        self._segmenter = segmenter
        self._complete = completion
        self._recover = recovery

    def __call__(
        self,
        image: ImageSource,
        masks: Sequence[np.ndarray] | None = None,
        boxes_xyxy: Sequence[BoxXyxy] | None = None,
        seed: int = 0,
        *,
        segmenter: Segmenter | None = None,
        person: str = "all",
        min_score: float = 0.0,
        min_height_px: float = 0.0,
    ) -> Result:
        """Recover the people that the prompts point at; people are numbered from 1, masks first, then boxes.

        Without prompts the segmenter finds people, who are numbered from left to right; nobody found is no error.

        Args:
            image: path, bytes, Pillow image or (H, W, 3) uint8 RGB array.
            masks: rough visible masks, (H, W) bool or 0/255 uint8 of the upright photo's size.
            boxes_xyxy: (x0, y0, x1, y1) in pixels around what is seen of a person, end excluded.
            seed: same photo, prompts and seed, same output. No stage draws random numbers so far.
            segmenter: in place of the one given to `load`, for this photo.
            person: of those found, "all", "largest", "N" (the N-th from the left) or "x,y" (who is at that pixel).
            min_score, min_height_px: of those found, only people with this score (0 to 1) and height of the box.

        Raises:
            UsageError: no prompt and no segmenter. InputError: a photo, mask or box that cannot be used.
        """
        clock = _Clock()
        with clock.stage("load"):
            photo, icc_profile = load_photo(image)
            if masks is None and boxes_xyxy is None:
                finder = segmenter or self._segmenter
                initial_masks = _found_masks(photo, finder, Choice.parse(person), min_score, min_height_px)
            else:
                initial_masks = _prompted_masks(photo.shape[:2], masks, boxes_xyxy)

        with clock.stage("complete"):
            bodies = [self._complete(photo, initial_mask) for initial_mask in initial_masks]
            # each pixel is one person's: who is in front
            shared_out = share_out_pixels([Body(body.region, body.visible, body.amodal) for body in bodies])
            bodies = [body.seeing_less(seen, photo.shape[:2]) for body, seen in zip(bodies, shared_out, strict=True)]

        people = []
        for number, body in enumerate(bodies, start=1):
            with clock.stage("recover"):
                hidden_region, hidden_rgb = self._recover_hidden(body, photo.shape[:2])
            people.append(
                Person(
                    id=number,
                    score=body.score,
                    photo=photo,
                    region=body.region,
                    visible_part=body.visible,
                    amodal_part=body.amodal,
                    amodal_prob_part=body.amodal_prob,
                    parsing_part=body.parsing,
                    hidden_region=hidden_region,
                    hidden_rgb=hidden_rgb,
                )
            )
        return Result(photo, tuple(people), clock.timings(), self.device, self.model, icc_profile)

    def recover(self, image: ImageSource, visible_mask: np.ndarray, amodal_mask: np.ndarray) -> np.ndarray:
        """Recover appearance alone, for a body whose masks are known.

        `visible_mask`, `amodal_mask`: (H, W) bool or 0/255 uint8; what is seen outside the amodal mask is ignored.
        Returns (H, W, 3) uint8: the photo with amodal-and-not-visible recovered and every other pixel as it was.
        Raises InputError for a photo or mask that cannot be used.
        """
        photo = load_image(image)
        size_hw = photo.shape[:2]
        amodal = check_prompt(amodal_mask, size_hw, "the amodal mask")
        visible = check_prompt(visible_mask, size_hw, "the visible mask") & amodal
        picture = photo.copy()
        invisible = amodal & ~visible
        if invisible.any():
            crop, crop_image, *parsings = self._complete.look_at(photo, visible, amodal)
            crop_amodal = crop.extract(amodal)
            content = self._recover(crop_image, crop.extract(visible) & crop_amodal, crop_amodal, *parsings)
            region, colours = hidden_on_photo(content, crop, invisible, Region(0, 0, *size_hw), size_hw)
            paste_hidden_box(picture, region, colours, invisible, amodal)
        return picture

    def _recover_hidden(self, body: CompletionOutput, size_hw: tuple[int, int]) -> tuple[Region, np.ndarray]:
        """The box of what is hidden and its colours; without running the network when nothing is."""
        invisible = body.amodal & ~body.visible
        content = body.crop_image
        if invisible.any():
            content = self._recover(
                body.crop_image,
                body.crop_visible,
                body.crop_amodal,
                body.crop_visible_parsing,
                body.crop_amodal_parsing,
            )
        return hidden_on_photo(content, body.crop, invisible, body.region, size_hw)


def check_prompt(mask: np.ndarray, size_hw: tuple[int, int], name: str) -> np.ndarray:
    """A mask as (H, W) bool. Raises InputError unless it is bool or 0/255 (or 0/1) uint8, of that size, not empty."""
    mask = check_mask(mask, size_hw, name)
    if not mask.any():
        raise InputError(f"{name} is empty: it must mark at least one pixel of the person")
    return mask


def check_box(box_xyxy: BoxXyxy, size_hw: tuple[int, int], name: str) -> np.ndarray:
    """The filled box as an (H, W) bool mask. Raises InputError for a box that is inverted or not in the photo."""
    try:
        box = tuple(float(edge) for edge in box_xyxy)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} must be four numbers (x0, y0, x1, y1), got {box_xyxy!r}") from error
    if len(box) != 4 or not all(np.isfinite(box)):
        raise InputError(f"{name} must be four finite numbers (x0, y0, x1, y1), got {box_xyxy!r}")
    shown = ", ".join(f"{edge:g}" for edge in box)
    x0, y0, x1, y1 = box
    if x0 >= x1 or y0 >= y1:
        raise InputError(f"{name} must have x0 < x1 and y0 < y1, got ({shown})")
    height, width = size_hw
    if min(x0, y0) < -_BOX_SLACK_PX or x1 > width + _BOX_SLACK_PX or y1 > height + _BOX_SLACK_PX:
        raise InputError(f"{name} must lie in the photo, 0 to {width} wide and 0 to {height} high, got ({shown})")
    mask = box_to_mask(box, size_hw)
    if not mask.any():
        raise InputError(f"{name} must hold at least one pixel's centre, got ({shown})")
    return mask


def _found_masks(
    photo: np.ndarray, segmenter: Segmenter | None, choice: Choice, min_score: float, min_height_px: float
) -> list[np.ndarray]:
    """Masks of the people found in a photo, left to right, one a body."""
    if segmenter is None:
        raise UsageError("finding people by itself is not there yet: pass masks, boxes_xyxy or a segmenter")
    found = as_instances(segmenter(photo), photo.shape[:2])
    people = left_to_right(merge_duplicates(keep(found, min_score, min_height_px)))
    return [one.mask for one in choice.pick(people, photo.shape[:2])]


def _prompted_masks(
    size_hw: tuple[int, int], masks: Sequence[np.ndarray] | None, boxes_xyxy: Sequence[BoxXyxy] | None
) -> list[np.ndarray]:
    checked = [check_prompt(mask, size_hw, f"mask {i}") for i, mask in enumerate(_listed(masks, "masks"), start=1)]
    boxes = _listed(boxes_xyxy, "boxes_xyxy")
    return checked + [check_box(box, size_hw, f"box {i}") for i, box in enumerate(boxes, start=1)]


def _listed(prompts: Sequence | None, name: str) -> list:
    """Prompts as a list; a single mask or box in place of a list is a slip that deserves a clear word."""
    if prompts is None:
        return []
    try:
        entries = list(prompts)
    except TypeError as error:
        raise InputError(f"{name} must be a list with one entry a person, got {type(prompts).__name__}") from error
    single_mask = isinstance(prompts, np.ndarray) and prompts.ndim == 2 and name == "masks"
    single_box = name == "boxes_xyxy" and len(entries) == 4 and all(np.isscalar(edge) for edge in entries)
    if single_mask or single_box:
        raise InputError(f"{name} must be a list with one entry a person, got a single one: put it in a list")
    return entries


class _Clock:
    """Seconds by stage, summed over people."""

    def __init__(self) -> None:
        self._begun = time.perf_counter()
        self._stages = {"load": 0.0, "complete": 0.0, "recover": 0.0}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        self._stages[name] += time.perf_counter() - begun

    def timings(self) -> dict[str, float]:
        return {**self._stages, "total": time.perf_counter() - self._begun}
