"""Deoccluder: an image and its prompts in, a Result out.

`Deoccluder._results` is the order of the steps: load, find, complete, choose, decide, obey completion prompts, extend,
recover. Most are methods at the end of the class. Stage 1 completes masks, stage 2 recovers appearance
(`people/stages.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, overload

from deocclude.errors import DeoccludeError, UsageError
from deocclude.imaging.arrays import ImageU8, size_hw
from deocclude.imaging.boxes import BoxXyxy
from deocclude.imaging.depth_order import Occlusion, find_occlusions
from deocclude.inference.body import Body
from deocclude.inference.content_recovery import recover_known
from deocclude.inference.memory import give_back_freed
from deocclude.inference.occlusion_probability import decide_completion
from deocclude.inference.scene import Scene, extend
from deocclude.inference.scheduling import StageClock, map_people
from deocclude.io.images import ImageSource, MaskSource, Photo, load_image, load_photo
from deocclude.io.photo_series import process_series
from deocclude.people.assembly import recover_person
from deocclude.people.choice import number_chosen
from deocclude.people.completion_prompts import check_prompts_of_people, prompted_bodies
from deocclude.people.editing import Editing, EditingState, EditingSteps
from deocclude.people.finding import detected_prompts, segmented_prompts
from deocclude.people.hypotheses import sampled_bodies
from deocclude.people.instances import Segmenter
from deocclude.people.prompts import Prompt, check_prompt, checked_prompts
from deocclude.people.request import Request, Told, check_segmenter
from deocclude.people.resolve import complete_prompts
from deocclude.people.stages import Stages
from deocclude.types import Person, Result

_log = logging.getLogger(__name__)


def load(
    model: str = "base",
    *,
    device: str = "auto",
    weights_dir: str | Path | None = None,
    average: bool = False,
    threads: int | None = None,
    segmenter: Segmenter | None = None,
) -> Deoccluder:
    """Open a model once, for any number of images and threads. Nothing is downloaded.

    Args:
        model: a name of the weights' manifest.
        device: "auto" (CUDA where ONNX Runtime offers it, else the CPU), "cpu" or "cuda".
        weights_dir: a folder with a manifest.json and its files; None for the package's own weights.
        average: test-time augmentation for everyone: average the predictions of two crops for a mask, of two networks
            and two crops for a box, each with its mirror image. Half as fast. False: only for people of whom it is
            doubtful whether anything is hidden (the model's settings, `doubt`).
        threads: CPU threads of a network, and the most of numpy's BLAS in the whole process; 1 also processes one
            person at a time. None: one for each core that the process may use, by affinity, a container's quota and
            OMP_NUM_THREADS.
        segmenter: finds people in images without prompts, in place of the model's own detector: any callable from (H,
            W, 3) uint8 RGB to a list of masks, (mask, score) pairs or `people.Instance`. A Deoccluder can be pickled
            where it can.

    Raises:
        UsageError: an unknown model or device, or an argument of the wrong kind.
        DeviceError: the device is not available.
        WeightsError: weights are missing or damaged.
    """
    check_segmenter(segmenter)
    opened = Deoccluder(Stages.open(model, device, weights_dir, average=average, threads=threads), segmenter)
    opened.reopen = partial(
        load, model, device=device, weights_dir=weights_dir, average=average, threads=threads, segmenter=segmenter
    )
    return opened


def run(
    image: ImageSource,
    masks: Sequence[MaskSource] | None = None,
    boxes_xyxy: Sequence[BoxXyxy] | None = None,
    *,
    model: str = "base",
    device: str = "auto",
    seed: int = 0,
    **options: Any,
) -> Result:
    """Process one image: `load(model)` and one call. For several images, load once and call the Deoccluder.

    options: options of the Deoccluder's call: segmenter, person, min_score, min_height_px, complete,
        min_hidden_probability, uncrop, completion_prompts.
    """
    return load(model, device=device)(image, masks=masks, boxes_xyxy=boxes_xyxy, seed=seed, **options)


class Deoccluder:
    """The pipeline. Holds its stages and no image: threads may share it.

    A pickled copy, in another process, opens its networks anew by the same call of `load`.
    """

    reopen: Callable[[], Deoccluder] | None = None
    """The call of `load` that made this pipeline; None for one built from stages, not by `load`."""

    def __init__(self, stages: Stages, segmenter: Segmenter | None = None) -> None:
        """The pipeline of opened stages; `load` opens those of a model.

        Args:
            stages: the stages.
            segmenter: finds people, in place of the stages' detector.
        """
        self.device = stages.device
        self.model = stages.model
        self._stages = stages
        self._segmenter = segmenter

    def __reduce__(self) -> tuple[Callable[[], Deoccluder], tuple[()]]:
        """Pickle the call of `load`. Raises UsageError for a pipeline that `load` did not make."""
        if self.reopen is None:
            raise UsageError("a Deoccluder built from stages cannot be pickled: only one that `load` opened can")
        return self.reopen, ()

    def __repr__(self) -> str:
        return f"Deoccluder(model={self.model!r}, device={self.device!r}, finds_people={self.finds_people})"

    @property
    def finds_people(self) -> bool:
        """Whether images may come without masks and boxes."""
        return self._segmenter is not None or self._stages.finder is not None

    def __call__(
        self,
        image: ImageSource | Photo,
        masks: Sequence[MaskSource] | None = None,
        boxes_xyxy: Sequence[BoxXyxy] | None = None,
        seed: int = 0,
        *,
        segmenter: Segmenter | None = None,
        person: str = "all",
        min_score: float | None = None,
        min_height_px: float | None = None,
        complete: str = "auto",
        min_hidden_probability: float | None = None,
        uncrop: bool = False,
        completion_prompts: Told | None = None,
    ) -> Result:
        """Complete the people of an image. People are numbered from 1: masks first, then boxes.

        Without prompts, people are detected and numbered from left to right; an image without people gives an empty
        result. An empty list of masks or boxes counts as prompts, for nobody.

        Args:
            image: path, bytes, open file, Pillow image, (H, W, 3) uint8 RGB array or loaded Photo.
            masks: rough visible masks of the upright image's size, one a person: (H, W) bool or 0/255 uint8; soft
                masks, uint8 or float from 0 to 1, are True from half of their highest value on. Or paths, bytes or
                Pillow images, read as by `load_mask`.
            boxes_xyxy: (x0, y0, x1, y1) in pixels around the visible part of a person, end excluded.
            seed: has no effect at present: no stage draws random numbers, and the same image and prompts give the same
                output.
            segmenter: finds people in this image, in place of the one given to `load` or the model's own detector.
            person: which detected people: "all", "largest", "N" (the N-th from the left) or "x,y" (the person at that
                pixel).
            min_score: least score of detected people, 0 to 1 (`Person.score`, the detector's or segmenter's times that
                of stage 1); None: the detector's default, 0 for a segmenter. A score above that only leaves people
                out: the numbers and masks of those who remain stay.
            min_height_px: least height of the box of a detected person's visible part; numbers stay the same. None:
                everyone, but "auto" does not complete detected people lower than 48 pixels (the model's settings).
            complete: whose hidden parts are recovered. "auto": hidden regions that are probably body, of people with a
                high enough probability that more than 5 % of the body is hidden (the model's settings). "always":
                every hidden part. "never": none; only visible masks are refined.
            min_hidden_probability: least probability of a hidden region with "auto", 0 to 1; None: the model's own.
            uncrop: complete truncated people beyond the image border too. `Result.image` is then the photo on a canvas
                with room for every body, `Result.photo_region` its place there, `Result.alpha` the filled part. Not
                with complete="never".
            completion_prompts: what is known of whole bodies, by the number of the person, or of the only person; such
                people are completed as told, whatever `complete` says; with `keep` and `background` alone, what
                `complete` decided is restricted. Not with complete="never" or uncrop.

        Raises:
            UsageError: no prompt, no segmenter and a model without a detector; prompts together with detection options;
                an invalid option; completion prompts and a model without their head.
            InputError: an image, mask, box or completion prompt that cannot be used; nobody has the number or pixel of
                `person`.
            NoPersonError: nobody is in a mask or box, or nothing visible is left with the completion prompts.
        """
        request = Request.of(
            masks, boxes_xyxy, segmenter=segmenter, person=person, min_score=min_score, min_height_px=min_height_px,
            complete=complete, min_hidden_probability=min_hidden_probability, uncrop=uncrop,
            completion_prompts=completion_prompts,
        )  # fmt: skip
        (result,) = self._results(image, request)
        return result

    def samples(
        self, image: ImageSource | Photo, count: int = 4, masks: Sequence[MaskSource] | None = None,
        boxes_xyxy: Sequence[BoxXyxy] | None = None, seed: int = 0, **options: Any,
    ) -> tuple[Result, ...]:  # fmt: skip
        """Complete the people of an image in several plausible ways, which differ in pose or extent.

        Args:
            image: as in a call.
            count: number of results; the model's number of hypotheses at most.
            masks: as in a call.
            boxes_xyxy: as in a call.
            seed: as in a call: without effect.
            options: the call's other options; not with complete="never" or uncrop.

        Returns:
            In the first result each completed person has its most probable hypothesis, in the second the next, and so
            on, with its probability in `Person.sample_probability`. People without a completed part and without
            completion prompts are the same in all. `timings` run on from result to result.

        Raises:
            UsageError: as in a call; the model has no prompted head, or not so many hypotheses.
            InputError: as in a call.
            NoPersonError: as in a call.
        """
        return tuple(self._results(image, Request.of(masks, boxes_xyxy, samples=count, **options)))

    def _results(self, image: ImageSource | Photo, request: Request) -> Iterator[Result]:
        """The steps of a call: one result, or one for each sample."""
        clock = StageClock()
        with clock.stage("load"):
            source = load_photo(image)
            photo = source.pixels
            if source.metadata.problem:
                _log.warning("%s: %s", source.name or "the photo", source.metadata.problem)
        with clock.stage("find"):
            prompts = self._people_prompts(photo, request)
        with clock.stage("complete"):
            bodies = self._bodies(photo, prompts, request)
            # before people are chosen and hidden parts dropped: occlusions name people who stay incomplete too
            occlusions = find_occlusions(bodies, range(1, len(bodies) + 1))
            chosen = self._chosen(photo, bodies, request)
            decided = self._decided(photo, chosen, bodies, request)
            versions = self._versions(photo, bodies, decided, request)
        for version in versions:
            with clock.stage("complete"):  # with `uncrop`, stage 1 runs again, on the extended image
                scene = self._scene(photo, version, request)
                give_back_freed()  # the next stage takes most memory
            with clock.stage("recover"):
                people = self._people(scene)
            yield self._result(source, scene, people, clock, occlusions)

    @overload
    def batch(
        self, photos: Iterable[ImageSource], *, on_error: Literal["raise"] = ..., **options: Any
    ) -> Iterator[Result]: ...
    @overload
    def batch(
        self, photos: Iterable[ImageSource], *, on_error: Literal["yield"], **options: Any
    ) -> Iterator[Result | DeoccludeError]: ...
    def batch(
        self,
        photos: Iterable[ImageSource],
        *,
        masks: Iterable[Sequence[MaskSource] | None] | None = None,
        boxes_xyxy: Iterable[Sequence[BoxXyxy] | None] | None = None,
        on_error: str = "raise",
        progress: bool = False,
        **options: Any,
    ) -> Iterator[Result | DeoccludeError]:
        """Process photos one after another, and yield one Result a photo, in order.

        Nothing is read before the first result is requested; then another thread reads the next photo while one is
        processed. `Result.id` is the photo's place, from 1; `Result.stem` differs between photos of one name, and a
        photo without a name is called photo2 at place 2: `save` in a loop replaces nothing, and `merge_coco` joins the
        documents of `to_coco`.

        Args:
            photos: paths, bytes, open files, Pillow images or arrays, as in a call; any iterable, which is advanced by
                the reading thread.
            masks: for each photo its list of masks, or None.
            boxes_xyxy: for each photo its list of boxes, or None.
            on_error: "raise": a photo, mask or box that cannot be used ends the batch with the error, which names the
                photo. "yield": the error is yielded in the result's place, and the batch goes on. Every other error
                ends the batch.
            progress: draw a progress bar on stderr, where that is a terminal or a notebook.
            options: the call's other options, such as `complete`, for every photo.

        Raises:
            UsageError: a single photo, an invalid option, or other numbers of masks or boxes than of photos.
            InputError: with "raise", a photo, mask or box that cannot be used; MissingExtraError: HEIC without [heif].
        """
        prompts = {"masks": masks, "boxes_xyxy": boxes_xyxy}
        return process_series(self, photos, prompts, on_error=on_error, progress=progress, options=options)

    def edit(
        self, image: ImageSource | Photo, masks: Sequence[MaskSource] | None = None,
        boxes_xyxy: Sequence[BoxXyxy] | None = None, *, segmenter: Segmenter | None = None,
        min_score: float | None = None,
    ) -> Editing:  # fmt: skip
        """Open a photo for editing: its people, completed as with "auto", can be completed again one by one as told.

        Args:
            image: as in a call.
            masks: as in a call.
            boxes_xyxy: as in a call.
            segmenter: as in a call.
            min_score: least score of detected people, as in a call; those who remain are numbered from 1.

        Raises:
            UsageError: as in a call.
            InputError: an image, mask or box that cannot be used.
            NoPersonError: nobody is in a mask or box.
        """
        request = Request.of(masks, boxes_xyxy, segmenter=segmenter, min_score=min_score)
        source = load_photo(image)
        photo = source.pixels
        bodies = self._bodies(photo, self._people_prompts(photo, request), request)
        return Editing(photo, request.pick(bodies, size_hw(photo)), self._editing_steps(source, request))

    def edit_again(self, state: EditingState) -> Editing:
        """Open a photo in a state of `edit(...).state`. Nothing is computed again.

        state: made by this model, which is not checked.
        """
        # of this request `people_given` is read, and options by default; an empty list counts as given people
        request = Request.of([] if state.people_given else None, None)
        return Editing.reopened(state, self._editing_steps(state.source, request))

    def _editing_steps(self, source: Photo, request: Request) -> EditingSteps:
        """The steps of this pipeline for an open photo."""
        return EditingSteps(
            complete=partial(self._stages.completion, source.pixels),
            decide=partial(self._decided, source.pixels, request=request),
            recover=self._person,
            result=partial(self._result, source),
            prompted=self._stages.prompted,
            model=self.model,
            people_given=request.people_given,
        )

    def recover(self, image: ImageSource, visible_mask: MaskSource, amodal_mask: MaskSource) -> ImageU8:
        """Recover appearance alone, for a person whose masks are known.

        Args:
            image: as in a call.
            visible_mask: as in a call; pixels outside the amodal mask are ignored.
            amodal_mask: as in a call.

        Returns:
            (H, W, 3) uint8: the image with the hidden part recovered; every other pixel is unchanged.

        Raises:
            InputError: an image or mask that cannot be used.
        """
        photo = load_image(image)
        amodal = check_prompt(amodal_mask, size_hw(photo), "the amodal mask")
        visible = check_prompt(visible_mask, size_hw(photo), "the visible mask") & amodal
        return recover_known(self._stages.recovery, self._stages.completion.parse, photo, visible, amodal)

    def _people_prompts(self, photo: ImageU8, request: Request) -> list[Prompt]:
        """The user's prompts, or those of detected people: a segmenter's masks, else the detector's boxes."""
        if request.people_given:
            return checked_prompts(size_hw(photo), request.masks, request.boxes_xyxy)
        segmenter = self._segmenter if request.segmenter is None else request.segmenter
        if segmenter is not None:
            return segmented_prompts(segmenter, photo, self._stages.settings.deduplication)
        if self._stages.finder is None:
            raise UsageError(f"model {self.model} cannot find people: pass masks, boxes_xyxy or a segmenter")
        return detected_prompts(self._stages.finder, photo, request)

    def _bodies(self, photo: ImageU8, prompts: Sequence[Prompt], request: Request) -> list[Body]:
        """The completed prompts with overlaps resolved: one `Body` for each detected person or user prompt.

        A Body (`inference/body.py`) has a visible and an amodal mask and body parts.
        """
        return complete_prompts(self._stages, photo, prompts, are_user_prompts=request.people_given)

    def _chosen(self, photo: ImageU8, bodies: Sequence[Body], request: Request) -> dict[int, Body]:
        """The requested bodies by the number of the person."""
        return number_chosen(bodies, request.pick(bodies, size_hw(photo)))

    def _decided(
        self, photo: ImageU8, chosen: dict[int, Body], everyone: Sequence[Body], request: Request
    ) -> dict[int, Body]:
        """The chosen bodies without the hidden parts that `request.complete` excludes.

        everyone: all bodies, whose visible masks tell what stands beside a hidden region.
        """
        settings = self._stages.settings.occlusion
        decided = decide_completion(
            list(chosen.values()), everyone, self._stages.calibration, request.complete, settings,
            feature_map=lambda body: self._stages.completion.feature_map(photo, body),
            min_probability=request.min_hidden_probability,
            min_height_px=settings.min_height_px if request.skips_low_people else 0.0, workers=self._stages.workers,
        )  # fmt: skip
        return dict(zip(chosen, decided, strict=True))

    def _versions(
        self, photo: ImageU8, everyone: Sequence[Body], decided: dict[int, Body], request: Request
    ) -> list[dict[int, Body]]:
        """The bodies of each result: one version, or one for each sample. Completion prompts are obeyed in all.

        everyone: all bodies with everything that may be hidden, from which prompted people start, not from `decided`.
        """
        told = check_prompts_of_people(request.told(decided), size_hw(photo))
        prompted, numbered = self._stages.prompted, dict(enumerate(everyone, start=1))
        if request.samples is None:
            return [prompted_bodies(prompted, photo, numbered, decided, told, self.model)]
        return sampled_bodies(prompted, photo, numbered, decided, told, request.samples, self.model)

    def _scene(self, photo: ImageU8, bodies: dict[int, Body], request: Request) -> Scene:
        """The bodies on the image, or with `uncrop` beyond its borders."""
        scene = Scene.of(photo, bodies)
        if request.uncrop and scene.is_truncated:
            return extend(scene, self._stages.completion, self._stages.calibration)
        return scene

    def _people(self, scene: Scene) -> tuple[Person, ...]:
        """Every body of the scene with its hidden part recovered."""
        return tuple(map_people(partial(self._person, scene), scene.bodies, workers=self._stages.workers))

    def _person(self, scene: Scene, number: int) -> Person:
        """A body of the scene with its hidden part recovered."""
        return recover_person(self._stages.recovery, scene, number, scene.bodies[number])

    def _result(
        self, source: Photo, scene: Scene, people: Sequence[Person], clock: StageClock, occlusions: Sequence[Occlusion]
    ) -> Result:
        """Everything recovered from an image, with what its file says of it."""
        return Result(
            scene.photo, tuple(people), clock.timings(), self.device, self.model, source.icc_profile,
            photo_region=scene.photo_region, occlusions=tuple(occlusions), name=source.name, metadata=source.metadata,
        )  # fmt: skip
