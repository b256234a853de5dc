"""Batches: jobs of a plan are run, and each photo gives a report.

A photo that fails does not stop the others. Files are complete or absent.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from deocclude.batch.folder import STREAM, LeftOut
from deocclude.batch.plan import Finding, Job, Output, is_others_file, names_of
from deocclude.batch.workers import Loading, Lost, process_items
from deocclude.errors import DeoccludeError, InputError, UsageError
from deocclude.imaging.arrays import Mask
from deocclude.imaging.depth_order import Occlusion
from deocclude.inference.completion_prompts import THE_ONLY_PERSON
from deocclude.inference.cores import MAX_AT_ONCE
from deocclude.inference.memory import give_back_freed
from deocclude.io.decoder import quiet_pillow
from deocclude.io.files import all_or_none, sweep
from deocclude.io.images import Photo, load_masks, load_photo, save_options, to_image
from deocclude.io.picture_format import FORMAT_KINDS
from deocclude.io.request_stamp import read_ids, read_stamp
from deocclude.io.results import PERSON_KINDS, picture_of, write
from deocclude.types import Person, Result

if TYPE_CHECKING:
    from deocclude.pipeline import Deoccluder

_log = logging.getLogger(__name__)
_READ_AHEAD_BYTES = 1 << 20  # a file is read ahead in pieces of this size, which are dropped


@dataclass(frozen=True)
class PersonReport:
    """One person of a photo in numbers.

    Attributes:
        id: from 1.
        hidden_fraction: hidden pixels over amodal pixels, 0 to 1.
        hidden_probability: probability that more than 5 % of the body is hidden, 0 to 1.
        score: confidence, 0 to 1.
        box_xyxy: the box around the whole person, in pixels.
        hidden_by: ids of the people in front.
        cut_by: image borders that truncate the body (`Person.truncated_by`).
        left_alone: why a hidden part was not completed (`Person.left_alone`).
        sample_probabilities: of each sample (`Person.sample_probability`); empty without samples.
    """

    id: int
    hidden_fraction: float
    hidden_probability: float
    score: float
    box_xyxy: tuple[float, ...]
    hidden_by: tuple[int, ...] = ()
    cut_by: tuple[str, ...] = ()
    left_alone: str | None = None
    sample_probabilities: tuple[float, ...] = ()


@dataclass(frozen=True)
class Report:
    """The outcome of one photo.

    Attributes:
        source: the photo's path, or - for standard input.
        status: done, skipped or failed.
        people: the people of the result.
        outputs: the files of the result.
        content: the file of the recovered photo, one of `outputs`; empty where it is not written.
        size_wh: the result's size in pixels; None without a result.
        photo_bbox: the photo's place in an extended image: x, y, width, height in pixels; None in any other.
        seconds: reading, processing and writing.
        device: where the networks ran.
        model: the model's name.
        timings: seconds by stage.
        error: the message of a failure; empty for other outcomes.
        exit_code: the exit code of a failure; 0 for other outcomes.
        stamp: digest of the request, in the outputs too; empty where it is not known.
        people_count: number of people of the result, of a skipped photo too; None where it is not known.
    """

    source: str
    status: Literal["done", "skipped", "failed"]
    people: tuple[PersonReport, ...] = ()
    outputs: tuple[str, ...] = ()
    content: str = ""
    size_wh: tuple[int, int] | None = None
    photo_bbox: tuple[int, int, int, int] | None = None
    seconds: float = 0.0
    device: str = ""
    model: str = ""
    timings: dict[str, float] = field(default_factory=dict)
    error: str = ""
    exit_code: int = 0
    stamp: str = ""
    people_count: int | None = None

    @property
    def is_unchanged(self) -> bool:
        """Whether the photo was done and no pixel of it was recovered, nor anything beyond its border."""
        is_same = self.photo_bbox is None and all(person.hidden_fraction == 0 for person in self.people)
        return self.status == "done" and is_same

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self) | {"is_unchanged": self.is_unchanged}


def run_jobs(
    jobs: Sequence[Job],
    load: Callable[[], Deoccluder],
    *,
    seed: int = 0,
    workers: int = 0,
    overwrite: bool = False,
    fail_fast: bool = False,
    model: str = "",
    time_limit_s: float | None = None,
    on_report: Callable[[Report], object] = lambda _: None,
) -> Generator[Report, None, None]:
    """Run jobs and yield their reports in order.

    A job is skipped where its outputs exist, are whole, and were made from the same photo, prompts, options and model.
    A file in their place that no run has written is not replaced unasked: the job fails. Temporary files of killed
    runs are removed from the folders of outputs.

    In worker processes, a photo whose process dies is tried once more and then fails, and so does a photo that exceeds
    the time limit, without another try. Standard input is processed in this process, before the others. Closing the
    iterator ends the processes.

    Args:
        jobs: the plan.
        load: opens the pipeline; called once in each process, and only where a job is not skipped. With workers it must
            be a function that can be pickled.
        seed: passed to the pipeline.
        workers: processes with one photo each at a time; 0 works in this process.
        overwrite: never skip, and replace any file.
        fail_fast: begin no photo after the first failure; those in work are finished.
        model: identifies the model (`runtime.ModelInfo.digest`).
        time_limit_s: longest time of a photo from its reading to its last file, without loading the model; needs
            workers.
        on_report: called with each report as soon as its photo is finished, in any order.

    Raises:
        UsageError: a time limit for standard input or output, or without workers; too many workers.
        DeoccludeError: raised by `load`, or two worker processes in a row died while they started. Errors of single
            photos become reports.
    """
    streams = any(job.source == STREAM or job.to_stdout for job in jobs)
    if time_limit_s is not None and (streams or not workers):
        raise UsageError("a time limit needs files and worker processes: standard input and output have none")
    if workers > MAX_AT_ONCE:
        raise UsageError(f"photos at a time: at most {MAX_AT_ONCE}, got {workers}")
    for folder in {folder for job in jobs for folder in output_folders(job)}:
        sweep(folder)
    work = Work(load, seed, model, overwrite)
    if workers:
        yield from _run_in_processes(jobs, work, workers, fail_fast, time_limit_s, on_report)
        return
    for job in jobs:
        report = work(job)
        on_report(report)
        yield report
        if fail_fast and report.status == "failed":
            return


class Work:
    """The work on jobs: a finished one is skipped. The pipeline is opened for the first job that is not finished.

    Args:
        load: opens the pipeline.
        seed: passed to the pipeline.
        model: identifies the model (`runtime.ModelInfo.digest`).
        overwrite: never skip, and replace any file.
        loading: a context around `load`, see `workers.Loading`.
    """

    def __init__(
        self, load: Callable[[], Deoccluder], seed: int, model: str, overwrite: bool,
        loading: Loading = contextlib.nullcontext,
    ) -> None:  # fmt: skip
        self.load, self.seed, self.model, self.overwrite = load, seed, model, overwrite
        self._loading = loading
        self._pipe: Deoccluder | None = None

    def __call__(self, job: Job) -> Report:
        """The report of a job. Raises what `load` raises."""
        stamp = job.stamp(self.seed, self.model)  # here and not in the plan, because it reads the photo
        done = [] if self.overwrite else job.done_paths
        if done and all(read_stamp(path) == stamp for path in done):
            ids = read_ids(done[0])
            people = None if ids is None else len(ids)
            return Report(job.source, "skipped", outputs=names_of(done), stamp=stamp, people_count=people)
        if not self.overwrite and (others := job.others_files):
            error = _refusal(others[0])
            return Report(job.source, "failed", error=str(error), exit_code=error.exit_code, stamp=stamp)
        if self._pipe is None:
            with self._loading():
                self._pipe = self.load()
        return do_job(job, self._pipe, seed=self.seed, stamp=stamp, overwrite=self.overwrite)


@dataclass(frozen=True)
class _Item:
    """A job on its way to a worker.

    Attributes:
        job: without `finding`, which may hold the people of all photos.
        finding: number of the finding among those that each worker has.
        ahead: a photo whose file is read while this one is processed; empty for none.
    """

    job: Job
    finding: int | None
    ahead: str


def _run_in_processes(
    jobs: Sequence[Job],
    work: Work,
    workers: int,
    fail_fast: bool,
    time_limit_s: float | None,
    on_report: Callable[[Report], object],
) -> Iterator[Report]:
    """The reports of jobs in order. Those of standard input and output are done here, since workers have neither."""
    finished: dict[int, Report] = {}

    def finish(index: int, report: Report) -> None:
        """Keep a report until its turn comes, and pass it on at once."""
        finished[index] = report
        on_report(report)

    stream_jobs = [index for index, job in enumerate(jobs) if job.source == STREAM or job.to_stdout]
    file_jobs = [index for index, job in enumerate(jobs) if not (job.source == STREAM or job.to_stdout)]
    for index in stream_jobs:
        finish(index, work(jobs[index]))
    if fail_fast and any(report.status == "failed" for report in finished.values()):
        file_jobs = []
    findings = tuple({id(job.finding): job.finding for job in jobs if job.finding is not None}.values())
    numbers = {id(finding): number for number, finding in enumerate(findings)}
    sources_ahead = [jobs[index].source for index in file_jobs[workers:]] + [""] * workers
    items = [
        _Item(replace(jobs[index], finding=None), numbers.get(id(jobs[index].finding)), ahead)
        for index, ahead in zip(file_jobs, sources_ahead, strict=False)
    ]
    outcomes = process_items(
        items, partial(_start_work, work.load, work.seed, work.model, work.overwrite, findings), workers=workers,
        time_limit_s=time_limit_s,
        stops=lambda outcome: fail_fast and (isinstance(outcome, Lost) or outcome.status == "failed"),
        # a killed process leaves its temporary files behind
        on_killed=lambda number: [sweep(folder) for folder in output_folders(jobs[file_jobs[number]])],
    )  # fmt: skip
    next_index = 0
    with contextlib.closing(outcomes):
        for number, outcome in outcomes:
            source = items[number].job.source
            if isinstance(outcome, Lost):
                outcome = Report(source, "failed", error=f"{source}: {outcome.reason}", exit_code=1)
            finish(file_jobs[number], outcome)
            while next_index in finished:
                yield finished.pop(next_index)
                next_index += 1
    # those that wait for a photo that `fail_fast` left out
    yield from (finished[index] for index in sorted(finished))


def _start_work(
    load: Callable[[], Deoccluder],
    seed: int,
    model: str,
    overwrite: bool,
    findings: Sequence[Finding],
    loading: Loading,
) -> Callable[[_Item], Report]:
    """What a worker process calls once; returns its work on an item."""
    quiet_pillow()
    work = Work(load, seed, model, overwrite, loading)

    def work_on(item: _Item) -> Report:
        if item.ahead:
            with contextlib.suppress(RuntimeError):  # no room for a thread: that photo is read in its turn
                threading.Thread(target=read_ahead, args=(Path(item.ahead),), daemon=True).start()
        return work(item.job if item.finding is None else replace(item.job, finding=findings[item.finding]))

    return work_on


def read_ahead(path: Path) -> None:
    """Read a file once, so that the system has it in memory when its turn comes. Pipes can be read once only."""
    with contextlib.suppress(OSError):  # the error is reported when the turn of the photo comes
        if path.is_file():
            with open(path, "rb") as file:
                while file.read(_READ_AHEAD_BYTES):
                    pass


def output_folders(job: Job) -> set[Path]:
    """The folders that a job writes to."""
    return set() if job.to_stdout else {path.parent for path in job.expected_paths}


def do_job(
    job: Job, pipe: Deoccluder, *, seed: int = 0, stamp: str | None = None, overwrite: bool = True
) -> Report:  # fmt: skip
    """Process one photo and write its files, all of them or none. Errors become a failed report.

    Args:
        job: the photo and its outputs.
        pipe: the pipeline.
        seed: passed to the pipeline.
        stamp: digest of the request, stored in the outputs; None: outputs without a stamp.
        overwrite: replace files that no run has written.
    """
    started = time.perf_counter()
    try:
        if job.problem:
            raise InputError(job.problem)
        results = _recover(job, pipe, seed)
        result = results[0]
        give_back_freed()  # memory that the networks took
        _write(job, results, stamp, overwrite)
        give_back_freed()  # before the next photo
    except DeoccludeError as error:
        name = _name_of(job)
        message = str(error) if name in str(error) else f"{name}: {error}"
        return Report(job.source, "failed", error=message, exit_code=error.exit_code, stamp=stamp or "")
    except MemoryError:
        message = f"{job.source}: not enough memory for this photo"
        return Report(job.source, "failed", error=message, exit_code=1, stamp=stamp or "")
    return Report(
        job.source,
        "done",
        tuple(_report_person(versions, result.order) for versions in zip(*(r.people for r in results), strict=True)),
        names_of(job.paths([person.id for person in result.people])),
        next((str(output.path) for output in job.outputs if output.kind == "content"), ""),
        (result.image.shape[1], result.image.shape[0]),
        result.photo_bbox,
        time.perf_counter() - started,
        result.device,
        result.model,
        dict(result.timings),
        stamp=stamp or "",
        people_count=len(result.people),
    )


def _name_of(job: Job) -> str:
    """How messages call the photo of a job."""
    return "standard input" if job.source == STREAM else job.source


def _report_person(versions: Sequence[Person], order: Sequence[Occlusion]) -> PersonReport:
    """The report of one person.

    versions: the person in each sample, or in the single result; order: of the first result.
    """
    person = versions[0]
    return PersonReport(
        person.id,
        float(person.hidden_fraction),
        float(person.hidden_probability),
        float(person.score),
        tuple(float(v) for v in person.box_xyxy),
        tuple(sorted(pair.front for pair in order if pair.behind == person.id)),
        person.truncated_by,
        person.left_alone,
        tuple(version.sample_probability for version in versions if version.sample_probability is not None),
    )


def exit_code(reports: Sequence[Report], photos: int, left_out: Sequence[LeftOut] = ()) -> int:
    """0 without failures, the photo's own code for a single photo, 5 where some of several photos failed.

    A file that was left out and may be a photo counts as one that failed.
    """
    failed = [report for report in reports if report.status == "failed"]
    missed = any(file.is_photo for file in left_out)
    if not failed:
        return 5 if missed else 0
    return failed[0].exit_code if photos == 1 and not missed else 5


def _load_masks(job: Job, size_hw: tuple[int, int]) -> list[Mask]:
    """The masks of a job, of all its mask files in order.

    Raises:
        InputError: a file does not fit the photo or is empty; the message names it.
        UsageError: the files hold more people than the outputs have room for.
    """
    masks = []
    for path in job.mask_paths:
        people = load_masks(path, label=job.mask_label)
        # the pipeline checks masks too, but does not know the file's name
        if people[0].shape != tuple(size_hw):
            (height, width), (mask_height, mask_width) = size_hw, people[0].shape
            raise InputError(
                f"{path}: mask must have the upright photo's size {width}x{height}, got {mask_width}x{mask_height}"
            )
        if not people[0].any():
            raise InputError(f"{path}: mask is empty, expected at least one pixel of the person to be white")
        masks += people
    _check_outputs(job, len(masks) + len(job.boxes_xyxy))
    return masks


def _check_outputs(job: Job, people: int) -> None:
    """Raise UsageError where mask files hold more people than the outputs have files, or an output is a mask file.

    people: number of people in the mask files and boxes. The plan checked both, with one person a mask file.
    """
    for output in job.outputs if job.mask_paths else ():
        if people > 1 and output.kind in PERSON_KINDS and output.stem is None:
            name = "standard output" if job.to_stdout else f"-o {output.path}"
            raise UsageError(
                f"{name} is one file, but {people} people are saved: name a folder with -o, or one person with "
                "--mask-label"
            )
    masks = {os.path.realpath(path) for path in job.mask_paths}
    for path in job.paths(range(1, people + 1)) if masks else ():
        if os.path.realpath(path) in masks:
            raise UsageError(f"{path} is an input: name another output with -o")


def _recover(job: Job, pipe: Deoccluder, seed: int) -> list[Result]:
    """Load the photo and its masks and run the pipeline: one result, or one for each sample."""
    if job.source == STREAM and sys.stdin is None:
        raise InputError("standard input is closed: expected an image")
    started = time.perf_counter()
    photo = load_photo(sys.stdin.buffer.read() if job.source == STREAM else job.source)
    if photo.metadata.problem:
        _log.warning("%s: %s", _name_of(job), photo.metadata.problem)
    masks = _load_masks(job, photo.pixels.shape[:2])
    give_back_freed()  # memory that decoding took
    reading_s = time.perf_counter() - started
    request: dict[str, Any] = {
        "complete": job.complete, "uncrop": job.uncrop, "min_hidden_probability": job.min_hidden_probability,
        "seed": seed, "completion_prompts": job.completion_prompts.get(THE_ONLY_PERSON, job.completion_prompts),
    }  # fmt: skip
    if finding := job.finding:
        segmenter = finding.segmenter_for(job.source, job.relative)
        request |= {"segmenter": segmenter, "person": finding.person}
        request |= {"min_score": finding.min_score, "min_height_px": finding.min_height_px}
    else:
        request |= {"masks": masks or None, "boxes_xyxy": list(job.boxes_xyxy) or None}
    source = Photo(photo.pixels)
    results = [pipe(source, **request)] if job.samples is None else pipe.samples(source, job.samples, **request)

    def with_file_data(result: Result) -> Result:
        """The result with the file's profile, metadata and time of reading."""
        timings = {name: s + (reading_s if name in ("load", "total") else 0.0) for name, s in result.timings.items()}
        return replace(result, icc_profile=photo.icc_profile, metadata=photo.metadata, timings=timings)

    return [with_file_data(result) for result in results]


def _write(job: Job, results: Sequence[Result], stamp: str | None, overwrite: bool) -> None:
    """Write all outputs of a job, to files or to standard output. Raises UsageError for a file that no run wrote."""
    ids = [person.id for person in results[0].people]
    files = [(output, *place) for output in job.outputs for place in output.paths(ids)]
    # the expected files are written last: an interruption before them leaves the job undone
    files.sort(key=lambda file: file[2] in job.expected_paths)

    def content_of(output: Output, person_id: int) -> tuple[Result, Person | None]:
        """The result that an output shows, and the person; None for the whole photo."""
        result = results[max(0, output.sample - 1)]
        return result, next((person for person in result.people if person.id == person_id), None)

    if job.to_stdout:
        for output, person_id, _ in files:
            result, person = content_of(output, person_id)
            _write_to_stdout(job, result, output.kind, person)
        return
    # not only the expected files: more people may be detected
    others = [path for _, _, path in files if not overwrite and is_others_file(path)]
    if others:
        raise _refusal(others[0])
    with all_or_none():
        for output, person_id, path in files:
            result, person = content_of(output, person_id)
            write(
                result, output.kind, path, person, file_name=job.relative.name, stamp=stamp,
                layer_size=job.layer_size, quality=job.picture_format.quality,
            )  # fmt: skip
    _remove_former(job, set(ids))


def _refusal(path: Path) -> UsageError:
    """The error for a file in an output's place that no run has written."""
    return UsageError(
        f"{path} exists and is no output of a run: name another place with -o, or replace it with --overwrite"
    )


def _write_to_stdout(job: Job, result: Result, kind: str, person: Person | None) -> None:
    """Write one output to standard output. Raises DeoccludeError where its format cannot hold the image."""
    if kind == "json":
        sys.stdout.write(json.dumps(result.to_coco(file_name=job.relative.name), indent=1) + "\n")
        return
    picture = picture_of(result, kind, person)
    name = (job.picture_format.name or "png").upper() if kind in FORMAT_KINDS else "PNG"
    options = save_options(
        name, icc_profile=picture.icc_profile, exif=picture.exif(), dpi=picture.metadata.dpi,
        quality=job.picture_format.quality,
    )  # fmt: skip
    with io.BytesIO() as content:
        try:
            to_image(picture.pixels, picture.palette).save(content, name, **options)
        except (OSError, ValueError) as error:  # JPEG and WebP have a largest side
            raise DeoccludeError(f"cannot write a {name} to standard output: {error}") from error
        sys.stdout.buffer.write(content.getvalue())
        sys.stdout.buffer.flush()


def _remove_former(job: Job, ids: set[int]) -> None:
    """Remove outputs of an earlier request for people who are not in this result. ids: of its people."""
    for output in job.outputs:
        if output.kind not in PERSON_KINDS or (output.stem is None and ids):
            continue
        for number, path in output.written():
            if number not in ids and read_stamp(path) is not None:
                path.unlink(missing_ok=True)  # another run may have removed it
