"""Deoccluder: a photo and its prompts in, a Result out. The whole flow, top to bottom."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from deocclude.errors import InputError, NobodyThereError, UsageError
from deocclude.imaging.appearance import hidden_on_photo, visible_in_crop
from deocclude.imaging.boxes import BoxXyxy, box_iou, box_to_mask
from deocclude.imaging.compositing import paste_hidden_box
from deocclude.imaging.crop import Region, SquareCrop
from deocclude.imaging.depth_order import Body, find_occlusions, share_out_pixels
from deocclude.imaging.masks import check_mask
from deocclude.imaging.truncation import Canvas, Cut, check_uncrop, find_cut
from deocclude.inference.body import CompletionOutput
from deocclude.inference.content_recovery import ContentRecovery
from deocclude.inference.mask_completion import MaskCompletion
from deocclude.inference.occlusion_probability import (
    UNCALIBRATED,
    UNTOUCHED_BELOW,
    Complete,
    HiddenCalibration,
    check_complete,
)
from deocclude.inference.runtime import find_model, open_networks
from deocclude.io.images import ImageSource, load_image, load_photo
from deocclude.people.choice import Choice, keep, left_to_right
from deocclude.people.deduplicate import merge_coincident, merge_duplicates, tell_apart
from deocclude.people.detector import PeopleFinder
from deocclude.people.instances import Segmenter, as_instances
from deocclude.people.prompts import Prompt, in_crowds
from deocclude.types import Person, Result

T = TypeVar("T")

# People of a photo who are worked on at once: more take memory, and the cores are busy with two.
_MOST_WORKERS = 2
# Detectors round a box past the photo's edge; more than this is a box of another photo.
_BOX_SLACK_PX = 1.0
# Somebody found by the detector whose visible part gets less from the mask network, on average, is nobody.
_LEAST_SEEN = 0.5
# Whoever is left in a box beside somebody else has to have about that box.
_FILLED_IOU = 0.6


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
        average: let the mask network look at each person four times, mirrored and from further away, and the detector
            at each photo twice: a little better, a little slower.
        threads: CPU threads a network may use, and 1: no two people at once; None for one a core.
        segmenter: who finds people in photos that come without masks and boxes, in place of the model's own detector:
            any callable from (H, W, 3) uint8 RGB to a list of masks, (mask, score) pairs or `people.Instance`.

    Raises:
        UsageError: an unknown model or device. DeviceError: a device that is not there.
        WeightsError: weights that are missing or damaged.
    """
    if not isinstance(model, str):
        raise UsageError(f"a model is given by its name, got {type(model).__name__}")
    _check_segmenter(segmenter)
    info = find_model(model, weights_dir)
    networks, running_on = open_networks(info, device, threads)
    stage1 = info.networks["mask_completion"].info
    finder = None
    if detector := networks.get("people_detector"):
        finder = PeopleFinder.of(detector, info.networks["people_detector"].info, average)
    return Deoccluder(
        MaskCompletion.of(networks, info, average),
        ContentRecovery(networks["content_recovery"]),
        device=running_on,
        model=model,
        finder=finder,
        segmenter=segmenter,
        calibration=HiddenCalibration(*stage1.get("hidden_calibration", UNCALIBRATED)),
        workers=min(_MOST_WORKERS, threads or os.cpu_count() or 1),
    )


def run(
    image: ImageSource,
    masks: Sequence[np.ndarray] | None = None,
    boxes_xyxy: Sequence[BoxXyxy] | None = None,
    *,
    model: str = "base",
    device: str = "auto",
    seed: int = 0,
    **options: Any,
) -> Result:
    """Recover one photo: `load(model)` and one call. For several photos, load once and call the Deoccluder.

    options: as the Deoccluder's call takes them: segmenter, person, min_score, min_height_px, complete, uncrop.
    """
    return load(model, device=device)(image, masks=masks, boxes_xyxy=boxes_xyxy, seed=seed, **options)


class Deoccluder:
    """Makes people whole. Holds the stages and nothing of any photo, so threads may share one."""

    def __init__(
        self,
        completion: MaskCompletion,
        recovery: ContentRecovery,
        *,
        device: str,
        model: str,
        finder: PeopleFinder | None = None,
        segmenter: Segmenter | None = None,
        calibration: HiddenCalibration = UNCALIBRATED,
        workers: int = 1,
    ) -> None:
        """workers: how many people of a photo are worked on at once."""
        self.device = device
        self.model = model
        self._detect = finder
        self._segmenter = segmenter
        self._calibration = calibration
        self._workers = workers
        self._complete = completion
        self._recover = recovery

    @property
    def finds_people(self) -> bool:
        """Whether photos may come without masks and boxes."""
        return self._segmenter is not None or self._detect is not None

    def __call__(
        self,
        image: ImageSource,
        masks: Sequence[np.ndarray] | None = None,
        boxes_xyxy: Sequence[BoxXyxy] | None = None,
        seed: int = 0,
        *,
        segmenter: Segmenter | None = None,
        person: str = "all",
        min_score: float | None = None,
        min_height_px: float = 0.0,
        complete: str = "auto",
        uncrop: bool = False,
    ) -> Result:
        """Recover the people that the prompts point at; people are numbered from 1, masks first, then boxes.

        Without prompts people are found, and numbered from left to right; nobody found is no error.

        Args:
            image: path, bytes, Pillow image or (H, W, 3) uint8 RGB array.
            masks: rough visible masks, (H, W) bool or 0/255 uint8 of the upright photo's size.
            boxes_xyxy: (x0, y0, x1, y1) in pixels around what is seen of a person, end excluded.
            seed: same photo, prompts and seed, same output. No stage draws random numbers so far.
            segmenter: who finds people in this photo, in place of the one given to `load` or the model's own detector.
            person: of those found, "all", "largest", "N" (the N-th from the left) or "x,y" (who is at that pixel).
            min_score: of those found, only people with this score (`Person.score`: the finder's times the mask
                network's), 0 to 1; None for the detector's own least, 0 of a segmenter's.
            min_height_px: of those found, only people with this height of the box.
            complete: whose hidden parts are recovered: "auto", everyone's but of people of whom more than 5 % is hidden
                with a probability below 0.1; "always", whatever stage 1 takes for hidden; "never", which gives refined
                visible masks.
            uncrop: complete people beyond the photo's edge too, where it cuts them: `Result.image` is then the photo on
                a canvas on which everyone fits, `Result.photo_region` its place there, `Result.alpha` what is filled.
                Not with complete="never".

        Raises:
            UsageError: no prompt, no segmenter and a model without a detector; prompts and a choice of who is found;
            an option that is none. InputError: a photo, mask or box that cannot be used.
        """
        clock = _Clock()
        choice, complete = Choice.parse(person), check_complete(complete)
        check_uncrop(uncrop, complete)
        prompted = masks is not None or boxes_xyxy is not None
        _check_finding(prompted, choice, min_score, min_height_px, segmenter)
        with clock.stage("load"):
            photo, icc_profile = load_photo(image)
            size_hw = photo.shape[:2]

        with clock.stage("find"):
            if prompted:
                prompts = _checked_prompts(size_hw, masks, boxes_xyxy)
            else:
                finder = self._segmenter if segmenter is None else segmenter
                prompts = self._find(photo, finder, min_score, min_height_px)

        with clock.stage("complete"):
            bodies = self._map(
                lambda prompt, crowded: self._complete_one(photo, prompt, pointed_at=prompted, crowded=crowded),
                prompts, in_crowds(prompts),
            )  # fmt: skip
            found = [(prompt, body) for prompt, body in zip(prompts, bodies, strict=True) if body is not None]
            bodies = [body for _, body in found]
            if not prompted:
                # a segmenter's masks tell two in one place apart
                from_boxes = any(prompt.doubtful for prompt in prompts)
                if from_boxes:
                    bodies = tell_apart(found, lambda prompt, known: self._complete_rest(photo, prompt, known))
                bodies = merge_duplicates(bodies)
                if from_boxes:
                    bodies = merge_coincident(bodies)
            bodies = _share_out(bodies, size_hw, may_repeat=prompted)
            # people who are found keep their number from the left, whoever of them is chosen
            bodies = bodies if prompted else left_to_right(bodies)
            # who hides whom is known of whoever is left as seen as well
            occlusions = find_occlusions([_masks(body) for body in bodies], range(1, len(bodies) + 1))
            bodies = [self._judge(body, complete) for body in bodies]
            chosen = bodies if prompted else choice.pick(bodies, size_hw)
            numbered = {i: body for i, body in enumerate(bodies, start=1) if any(body is one for one in chosen)}
            cut = {i: find_cut(body.amodal, body.region, size_hw) for i, body in numbered.items()}
            photo_region = None
            if uncrop and any(cut.values()):
                photo, photo_region, numbered = self._uncrop(photo, numbered, cut)

        with clock.stage("recover"):
            people = tuple(
                self._map(
                    lambda number, body: self._person(photo, number, body, cut[number].edges),
                    numbered, numbered.values(),
                )
            )  # fmt: skip
        timings = clock.timings()
        return Result(photo, people, timings, self.device, self.model, icc_profile, photo_region, occlusions)

    def _map(self, work: Callable[..., T], *arguments: Iterable) -> list[T]:
        """The work on each person, in order, on as many threads as there are; numpy, Pillow and the networks release
        the interpreter's lock, and no person's result depends on another's."""
        everyone = list(zip(*arguments, strict=True))
        if self._workers == 1 or len(everyone) < 2:
            return [work(*one) for one in everyone]
        with ThreadPoolExecutor(min(self._workers, len(everyone))) as pool:
            return list(pool.map(lambda one: work(*one), everyone))

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
            region = Region.of_mask(amodal).grow(1, size_hw)  # so that the body's edge is one
            parts = visible[region.slices], invisible[region.slices]
            box, colours = self._hidden_colours(photo, region, parts, crop, crop_image, crop.extract(amodal), parsings)
            paste_hidden_box(picture, box, colours, invisible, amodal)
        return picture

    def _find(
        self, photo: np.ndarray, segmenter: Segmenter | None, min_score: float | None, min_height_px: float
    ) -> list[Prompt]:
        """Who is in the photo, by the segmenter's masks or, without one, by the detector's boxes."""
        if segmenter is not None:
            least = min_score or 0.0
            found = keep(as_instances(segmenter(photo), photo.shape[:2]), least, min_height_px)
            return [Prompt(one.mask, one.score, least_score=least) for one in merge_duplicates(found)]
        if self._detect is None:
            raise UsageError(f"model {self.model} cannot find people: pass masks, boxes_xyxy or a segmenter")
        least = self._detect.min_score if min_score is None else min_score
        detections = self._detect(photo, min_score=least, min_height_px=min_height_px)
        return [Prompt(one.box_xyxy, one.score, doubtful=True, least_score=least) for one in detections]

    def _complete_one(
        self, photo: np.ndarray, prompt: Prompt, *, pointed_at: bool, crowded: bool
    ) -> CompletionOutput | None:
        """The body of one prompt.

        None for somebody found of whom nothing is seen after all, or of whom finder and mask network together are not
        sure enough.
        """
        try:
            body = self._complete(photo, prompt.mask(photo.shape[:2]), crowded=crowded)
        except NobodyThereError:
            if pointed_at:
                raise
            return None
        return _scored(body, prompt, certain=pointed_at)

    def _complete_rest(self, photo: np.ndarray, prompt: Prompt, known: CompletionOutput) -> CompletionOutput | None:
        """Whoever is in a box beside somebody who is known; None where that is nobody, or does not fill the box."""
        try:
            rest = self._complete.complete_rest(photo, prompt.mask(photo.shape[:2]), known)
        except NobodyThereError:
            return None
        rest = None if rest is None else _scored(rest, prompt, certain=False)
        if rest is None:
            return None
        (filled,) = box_iou(*np.array([[prompt.area], [rest.box_xyxy]], np.float32)).ravel()
        # the legs, say, of somebody whose upper body is known fill less of it
        return rest if filled >= _FILLED_IOU else None

    def _uncrop(
        self, photo: np.ndarray, numbered: dict[int, CompletionOutput], cut: Mapping[int, Cut]
    ) -> tuple[np.ndarray, Region, dict[int, CompletionOutput]]:
        """Bodies beyond the edges that cut them: the photo on a canvas, its place there, and the bodies on it."""
        size_hw = photo.shape[:2]
        canvas = Canvas.around([(body.visible, body.region, cut[i]) for i, body in numbered.items()], size_hw)
        picture = canvas.lay_out(photo)
        bodies = {}
        for number, body in numbered.items():
            moved = body.moved(canvas.photo_region.left, canvas.photo_region.top)
            if not cut[number]:
                bodies[number] = moved
                continue
            seen = np.zeros(size_hw, bool)
            seen[body.region.slices] = body.visible
            seen = canvas.lay_out(seen, fill=0)
            whole = self._complete(picture, seen)
            # what others own, and what lies beyond the photo, is not seen
            least = whole.visible & seen[whole.region.slices]
            whole = replace(whole.seeing_less(least, canvas.size_hw), score=body.score)
            bodies[number] = (
                self._judge(whole, "always")
                if least.any()
                else body.moved(canvas.photo_region.left, canvas.photo_region.top)
            )
        del picture  # as large as what follows, which needs it no more
        trimmed, left, top = canvas.trimmed([body.region for body in bodies.values()], margin_px=2)
        bodies = {number: body.moved(-left, -top) for number, body in bodies.items()}
        return trimmed.lay_out(photo, fill=0), trimmed.photo_region, bodies

    def _person(self, photo: np.ndarray, number: int, body: CompletionOutput, cut_edges: tuple[str, ...]) -> Person:
        """A body with its hidden appearance recovered."""
        hidden_region, hidden_rgb = self._recover_hidden(photo, body)
        return Person(
            id=number,
            score=body.score,
            hidden_probability=body.hidden_probability,
            photo=photo,
            region=body.region,
            visible_part=body.visible,
            amodal_part=body.amodal,
            amodal_prob_part=body.amodal_prob,
            parsing_part=body.parsing,
            hidden_region=hidden_region,
            hidden_rgb=hidden_rgb,
            cut_edges=cut_edges,
        )

    def _judge(self, body: CompletionOutput, complete: Complete) -> CompletionOutput:
        """The body with the probability that something is hidden; as seen where nothing is to be made up."""
        probability = self._calibration.probability(body.hidden_fraction, body.probable_hidden)
        body = replace(body, hidden_probability=probability)
        untouched = complete == "never" or (complete == "auto" and probability < UNTOUCHED_BELOW)
        return body.as_seen() if untouched else body

    def _recover_hidden(self, photo: np.ndarray, body: CompletionOutput) -> tuple[Region, np.ndarray]:
        """The box of what is hidden and its colours; without running the network when nothing is."""
        invisible = body.amodal & ~body.visible
        if not invisible.any():
            return Region(0, 0, 0, 0), np.zeros((0, 0, 3), dtype=np.uint8)
        return self._hidden_colours(
            photo, body.region, (body.visible, invisible), body.crop, body.crop_image, body.crop_amodal,
            (body.crop_visible_parsing, body.crop_amodal_parsing),
        )  # fmt: skip

    def _hidden_colours(
        self, photo: np.ndarray, region: Region, parts: tuple[np.ndarray, np.ndarray], crop: SquareCrop,
        crop_image: np.ndarray, crop_amodal: np.ndarray, parsings: Sequence[np.ndarray],
    ) -> tuple[Region, np.ndarray]:  # fmt: skip
        """As `hidden_on_photo`, of a body on its crop. parts: (h, w) bool in `region`, what is visible and what is
        invisible; crop_image, crop_amodal, parsings: as `CompletionOutput` has them."""
        visible, invisible = parts
        source, known = visible_in_crop(photo, visible, region, crop)
        source = crop_image if self._recover.reads_all else source
        appearance = self._recover(source, known, crop_amodal | known, *parsings)
        return hidden_on_photo(appearance, crop, photo, visible, invisible, region)


def _scored(body: CompletionOutput, prompt: Prompt, *, certain: bool) -> CompletionOutput | None:
    """The body with the score of finder and mask network together; None, unless `certain`, where that is too low."""
    score = body.score * prompt.score
    unsure = score < prompt.least_score or (prompt.doubtful and body.score < _LEAST_SEEN)
    if not certain and (unsure or not body.area_px):
        return None
    return replace(body, score=score)


def _masks(body: CompletionOutput) -> Body:
    return Body(body.region, body.visible, body.amodal, body.visible_prob)


def _share_out(
    bodies: Sequence[CompletionOutput], size_hw: tuple[int, int], *, may_repeat: bool
) -> list[CompletionOutput]:
    """The bodies with each pixel seen of one of them alone."""
    shared_out = share_out_pixels([_masks(body) for body in bodies], may_repeat=may_repeat)
    return [body.seeing_less(seen, size_hw) for body, seen in zip(bodies, shared_out, strict=True)]


def _check_segmenter(segmenter: Segmenter | None) -> None:
    if segmenter is not None and not callable(segmenter):
        raise UsageError(f"a segmenter is a function of an image, got {type(segmenter).__name__}")


def _check_finding(
    prompted: bool, choice: Choice, min_score: float | None, min_height_px: float, segmenter: Segmenter | None
) -> None:
    """Raises UsageError for options of finding people that are wrong, or that come with prompts."""
    for name, value, top in (("min_score", min_score, 1.0), ("min_height_px", min_height_px, np.inf)):
        number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
        if value is not None and not (number and 0 <= value <= top):
            raise UsageError(f"{name} must be a number{' from 0 to 1' if top == 1 else ' of pixels'}, got {value!r}")
    _check_segmenter(segmenter)
    if prompted and (choice.how != "all" or min_score is not None or min_height_px or segmenter is not None):
        raise UsageError(
            "person, min_score, min_height_px and segmenter are for people who are found: "
            "give them or masks and boxes, not both"
        )


def check_prompt(mask: np.ndarray, size_hw: tuple[int, int], name: str) -> np.ndarray:
    """A mask as (H, W) bool. Raises InputError unless it is bool or 0/255 (or 0/1) uint8, of that size, not empty."""
    mask = check_mask(mask, size_hw, name)
    if not mask.any():
        raise InputError(f"{name} is empty: it must mark at least one pixel of the person")
    return mask


def check_box(box_xyxy: BoxXyxy, size_hw: tuple[int, int], name: str) -> BoxXyxy:
    """The box as four floats. Raises InputError for a box that is inverted or not in the photo."""
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
    if not box_to_mask(box, size_hw).any():
        raise InputError(f"{name} must hold at least one pixel's centre, got ({shown})")
    return box


def _checked_prompts(
    size_hw: tuple[int, int], masks: Sequence[np.ndarray] | None, boxes_xyxy: Sequence[BoxXyxy] | None
) -> list[Prompt]:
    drawn = [check_prompt(mask, size_hw, f"mask {i}") for i, mask in enumerate(_listed(masks, "masks"), start=1)]
    boxes = [check_box(box, size_hw, f"box {i}") for i, box in enumerate(_listed(boxes_xyxy, "boxes_xyxy"), start=1)]
    return [Prompt(area) for area in (*drawn, *boxes)]


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
        self._stages = {"load": 0.0, "find": 0.0, "complete": 0.0, "recover": 0.0}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        self._stages[name] += time.perf_counter() - begun

    def timings(self) -> dict[str, float]:
        return {**self._stages, "total": time.perf_counter() - self._begun}
