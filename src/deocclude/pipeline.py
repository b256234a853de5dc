"""Deoccluder: an image and its prompts in, a Result out. The order of the steps, and nothing else."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from deocclude.errors import UsageError
from deocclude.imaging.boxes import BoxXyxy
from deocclude.imaging.compositing import paste_hidden_box
from deocclude.imaging.crop import Region
from deocclude.imaging.depth_order import find_occlusions
from deocclude.inference.body import Body
from deocclude.inference.content_recovery import ContentRecovery, Recovery, recover_hidden
from deocclude.inference.mask_completion import MaskCompletion
from deocclude.inference.occlusion_probability import UNCALIBRATED, HiddenCalibration, with_hidden_probability
from deocclude.inference.runtime import find_model, open_networks
from deocclude.inference.scene import Scene, extend
from deocclude.inference.settings import InferenceSettings
from deocclude.io.images import ImageSource, load_image, load_photo
from deocclude.people.choice import keep
from deocclude.people.deduplicate import merge_duplicates
from deocclude.people.detector import PeopleFinder
from deocclude.people.instances import Segmenter, as_instances
from deocclude.people.prompts import Prompt, check_prompt, checked_prompts, in_crowded_boxes
from deocclude.people.request import Request, check_segmenter
from deocclude.people.resolve import complete_prompt, resolve
from deocclude.types import Person, Result

T = TypeVar("T")

# People of an image who are worked on at once: more take memory, and the cores are busy with two.
_MAX_WORKERS = 2


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
    check_segmenter(segmenter)
    info = find_model(model, weights_dir)
    networks, running_on = open_networks(info, device, threads)
    stage1 = info.networks["mask_completion"].info
    finder = None
    if detector := networks.get("people_detector"):
        finder = PeopleFinder(detector, info.settings.detector, average)
    return Deoccluder(
        MaskCompletion.of(networks, info, average),
        ContentRecovery(networks["content_recovery"], settings=info.settings.recovery),
        device=running_on,
        model=model,
        finder=finder,
        segmenter=segmenter,
        calibration=HiddenCalibration(*stage1.get("hidden_calibration", UNCALIBRATED)),
        settings=info.settings,
        workers=min(_MAX_WORKERS, threads or os.cpu_count() or 1),
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
        recovery: Recovery,
        *,
        device: str,
        model: str,
        finder: PeopleFinder | None = None,
        segmenter: Segmenter | None = None,
        calibration: HiddenCalibration = UNCALIBRATED,
        settings: InferenceSettings = InferenceSettings(),
        workers: int = 1,
    ) -> None:
        """workers: how many people of a photo are worked on at once."""
        self.device = device
        self.model = model
        self._detect = finder
        self._segmenter = segmenter
        self._calibration = calibration
        self._settings = settings
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
        request = Request.of(
            masks, boxes_xyxy, segmenter=segmenter, person=person, min_score=min_score, min_height_px=min_height_px,
            complete=complete, uncrop=uncrop,
        )  # fmt: skip
        with clock.stage("load"):
            photo, icc_profile = load_photo(image)
        with clock.stage("find"):
            prompts = self._prompts(photo, request)
        with clock.stage("complete"):
            bodies = self._bodies(photo, prompts, request)
            # occlusions of people who are left without completion are known as well
            occlusions = find_occlusions(bodies, range(1, len(bodies) + 1))
            scene = self._scene(photo, bodies, request)
        with clock.stage("recover"):
            people = self._people(scene)
        return Result(
            scene.photo, people, clock.timings(), self.device, self.model, icc_profile, scene.photo_region, occlusions
        )

    def recover(self, image: ImageSource, visible_mask: Mask, amodal_mask: Mask) -> np.ndarray:
        """Recover appearance alone, for a body whose masks are known.

        `visible_mask`, `amodal_mask`: (H, W) bool or 0/255 uint8; what is visible outside the amodal mask is ignored.
        Returns (H, W, 3) uint8: the photo with amodal-and-not-visible recovered and every other pixel as it was.
        Raises InputError for a photo or mask that cannot be used.
        """
        photo = load_image(image)
        size_hw = photo.shape[:2]
        amodal = check_prompt(amodal_mask, size_hw, "the amodal mask")
        visible = check_prompt(visible_mask, size_hw, "the visible mask") & amodal
        picture, invisible = photo.copy(), amodal & ~visible
        if invisible.any():
            in_crop = self._complete.parse(photo, visible, amodal)
            region = Region.of_mask(amodal).grow(1, size_hw)  # so that the body's edge is one
            parts = visible[region.slices], invisible[region.slices]
            box, colours = recover_hidden(self._recover, photo, region, *parts, in_crop)
            paste_hidden_box(picture, box, colours, invisible, amodal)
        return picture

    def _prompts(self, photo: ImageU8, request: Request) -> list[Prompt]:
        """The user's prompts, or those of the people found: a segmenter's masks, else the detector's boxes."""
        size_hw = photo.shape[:2]
        if request.is_prompted:
            return checked_prompts(size_hw, request.masks, request.boxes_xyxy)
        segmenter = self._segmenter if request.segmenter is None else request.segmenter
        if segmenter is not None:
            least = request.min_score or 0.0
            found = keep(as_instances(segmenter(photo), size_hw), least, request.min_height_px)
            return [
                Prompt(one.mask, one.score, least_score=least)
                for one in merge_duplicates(found, self._settings.deduplication)
            ]
        if self._detect is None:
            raise UsageError(f"model {self.model} cannot find people: pass masks, boxes_xyxy or a segmenter")
        least = self._detect.min_score if request.min_score is None else request.min_score
        detections = self._detect(photo, min_score=least, min_height_px=request.min_height_px)
        return [Prompt(one.box_xyxy, one.score, doubtful=True, least_score=least) for one in detections]

    def _bodies(self, photo: ImageU8, prompts: Sequence[Prompt], request: Request) -> list[Body]:
        """Every prompt completed, and what overlaps resolved: one body a person, visible masks disjoint."""

        def complete(prompt: Prompt, crowded: bool) -> Body | None:
            return complete_prompt(
                self._complete, photo, prompt, self._settings, is_user_prompt=request.is_prompted, crowded=crowded
            )

        crowded = in_crowded_boxes(prompts, self._settings.deduplication.crowded_iou)
        completed = self._map(complete, prompts, crowded)
        found = [(prompt, body) for prompt, body in zip(prompts, completed, strict=True) if body is not None]
        return resolve(self._complete, photo, found, self._settings, are_user_prompts=request.is_prompted)

    def _scene(self, photo: ImageU8, bodies: Sequence[Body], request: Request) -> Scene:
        """The chosen bodies by their number, as far as they are to be completed, on the image or beyond its edges.

        People who are found keep their number from the left, whoever of them is chosen.
        """
        settings = self._settings.occlusion
        bodies = [with_hidden_probability(body, self._calibration, request.complete, settings) for body in bodies]
        chosen = bodies if request.is_prompted else request.choice.pick(bodies, photo.shape[:2])
        numbered = {i: body for i, body in enumerate(bodies, start=1) if any(body is one for one in chosen)}
        scene = Scene.of(photo, numbered)
        if request.uncrop and scene.is_truncated:
            return extend(scene, self._complete, self._calibration, settings)
        return scene

    def _people(self, scene: Scene) -> tuple[Person, ...]:
        """Every body of the scene with its hidden appearance recovered."""

        def recover(number: int, body: Body) -> Person:
            visible, invisible = body.visible, body.amodal & ~body.visible
            box, colours = recover_hidden(self._recover, scene.photo, body.region, visible, invisible, body.in_crop)
            return Person(
                id=number,
                score=body.score,
                hidden_probability=body.hidden_probability,
                photo=scene.photo,
                region=body.region,
                visible_part=body.visible,
                amodal_part=body.amodal,
                amodal_prob_part=body.amodal_prob,
                parsing_part=body.parsing,
                hidden_region=box,
                hidden_rgb=colours,
                cut_edges=scene.truncations[number].edges,
            )

        return tuple(self._map(recover, scene.bodies, scene.bodies.values()))

    def _map(self, work: Callable[..., T], *arguments: Iterable) -> list[T]:
        """The work on each person, in order, on as many threads as there are; numpy, Pillow and the networks release
        the interpreter's lock, and no person's result depends on another's."""
        everyone = list(zip(*arguments, strict=True))
        if self._workers == 1 or len(everyone) < 2:
            return [work(*one) for one in everyone]
        with ThreadPoolExecutor(min(self._workers, len(everyone))) as pool:
            return list(pool.map(lambda one: work(*one), everyone))


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
