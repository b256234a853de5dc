"""Many photos in, many files out: which photo goes where, what is already done, and files that are whole or not there.

Planning touches no pixels: `plan_jobs` fails before any work when two photos would land on one file. `run_jobs` then
works through the plan; a photo that fails does not stop the others.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from deocclude.errors import DeoccludeError, InputError, UsageError
from deocclude.imaging.depth_order import Occlusion
from deocclude.imaging.masks import BoxXyxy
from deocclude.imaging.truncation import check_uncrop
from deocclude.inference.occlusion_probability import check_complete
from deocclude.io.images import load_mask, load_photo, to_image
from deocclude.io.request_stamp import file_digest, folder_state, make_stamp, read_ids, read_stamp
from deocclude.people.coco_file import CocoFile
from deocclude.people.instances import Choice, Segmenter
from deocclude.types import KIND_ALIASES, PERSON_KINDS, SAVE_KINDS, Person, Result, output_name, read_kinds, suffix_of

if TYPE_CHECKING:
    from deocclude.pipeline import Deoccluder

PHOTO_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
"""What a folder is searched for; a file named on the command line may have any suffix."""
OUTPUT_SUFFIXES = frozenset({".jpeg", ".jpg", ".json", ".ora", ".png", ".tif", ".tiff", ".webp"})
"""What makes -o the name of a file; with any other ending, or none, it is a folder."""

STREAM = "-"
"""Stands for standard input as a photo, and for standard output as a target."""

_OUR_OUTPUT = re.compile(r"\.(deoccluded|overlay|person\d+\.(rgba|amodal|visible|invisible|parsing))\.png$")

# What goes down a pipe is seldom kept as it is: fast rather than small.
_STREAM_PNG_LEVEL = 1


@dataclass(frozen=True)
class Finding:
    """Who is meant where no mask or box says so: people found, as `Deoccluder.__call__` picks them."""

    # a file that lists photos by name, or whoever looks at their pixels; None for the model's own detector
    finder: CocoFile | Segmenter | None = None
    person: str = "all"
    min_score: float | None = None
    min_height_px: float = 0.0

    @property
    def at_most_one(self) -> bool:
        """Whether a single person is asked for."""
        return Choice.parse(self.person).how != "all"

    @property
    def first_id(self) -> int:
        """The lowest id that a person of the result can have: its number from the left, where that is asked for."""
        return Choice.parse(self.person).number or 1

    @property
    def request(self) -> list[Any]:
        """What of it changes who is found, as plain values. Of a segmenter of one's own that is its name alone."""
        finder: Any = None
        if isinstance(self.finder, CocoFile):
            finder = file_digest(self.finder.path)
        elif self.finder is not None:
            model = getattr(self.finder, "model", None)
            name = model or getattr(self.finder, "__qualname__", type(self.finder).__name__)
            finder = (folder_state(Path(model)) if isinstance(model, str) else None) or str(name)
        return [finder, self.person, self.min_score, self.min_height_px]

    def segmenter_for(self, source: str, relative: Path) -> Segmenter | None:
        """Who finds people in a photo, at this place in the folder that was given; None for the model's detector."""
        finder = self.finder
        if isinstance(finder, CocoFile):
            whole = None if source == STREAM else source
            return lambda image: finder.prompts_for(relative, image.shape[:2], whole)
        return finder


@dataclass(frozen=True)
class Output:
    """Files of one kind: `path` is the photo's; of kinds with a file a person, each has its own name beside it."""

    kind: str
    path: Path
    stem: str | None = None  # of a person's files; None where `path` is the name of the only one

    def paths(self, ids: Sequence[int]) -> list[tuple[int, Path]]:
        """(person's id, or 0 for the photo, and file) for the people of a result."""
        if self.kind not in PERSON_KINDS:
            return [(0, self.path)]
        if self.stem is None:
            return [(number, self.path) for number in ids[:1]]
        return [(number, self.path.with_name(output_name(self.stem, self.kind, number))) for number in ids]

    def written(self) -> list[tuple[int, Path]]:
        """(person's id, or 0 where the name does not say, and file): the files that are there, whoever wrote them."""
        if self.kind not in PERSON_KINDS or self.stem is None:
            return [(0, self.path)] if self.path.is_file() else []
        name = re.compile(re.escape(self.stem) + rf"\.person(\d+)\.{self.kind}\.png")
        found = ((name.fullmatch(path.name), path) for path in self.path.parent.glob("*"))
        return sorted((int(match[1]), path) for match, path in found if match)


@dataclass(frozen=True)
class Job:
    """One photo and what becomes of it, known before any work but for how many people are found in it."""

    source: str
    relative: Path  # its place in the folder that was given
    mask_paths: tuple[Path, ...]
    boxes_xyxy: tuple[BoxXyxy, ...]
    outputs: tuple[Output, ...]
    finding: Finding | None = None
    complete: str = "auto"
    uncrop: bool = False
    to_stdout: bool = False
    problem: str | None = None

    def paths(self, ids: Sequence[int]) -> list[Path]:
        """Every file that is written for people of these ids."""
        return [path for output in self.outputs for _, path in output.paths(ids)]

    @property
    def expected_paths(self) -> list[Path]:
        """Every file that this job would write.

        Where people are to be found, those of one person stand for all: how many there are is not known yet.
        """
        if self.finding:
            return self.paths([self.finding.first_id])
        return self.paths(range(1, len(self.mask_paths) + len(self.boxes_xyxy) + 1))

    @property
    def done_paths(self) -> list[Path]:
        """What an earlier run wrote for this job, all of it; empty where it is not all there.

        Of people who are found a file says which of them there were. What comes down a pipe may be another photo each
        time: that is never done.
        """
        if self.to_stdout or self.problem or self.source == STREAM:
            return []
        given = (Path(self.source), *self.mask_paths)
        if not all(path.is_file() for path in given):
            return []
        paths = self.expected_paths
        if self.finding:
            said = (read_ids(path) for output in self.outputs for _, path in output.written())
            ids = next((ids for ids in said if ids is not None), None)
            paths = paths if ids is None else self.paths(ids)
        return paths if all(map(_holds_something, paths)) else []

    @property
    def is_done(self) -> bool:
        """Whether an earlier run wrote all of it."""
        return bool(self.done_paths)

    def stamp(self, seed: int, model: str) -> str:
        """Of all that the outputs are made from: the photo and prompts by their contents, options, seed and model."""
        return make_stamp(
            {
                "photo": None if self.source == STREAM else file_digest(Path(self.source)),
                "masks": [file_digest(path) for path in self.mask_paths],
                "boxes": self.boxes_xyxy,
                "finding": self.finding.request if self.finding else None,
                "complete": self.complete,
                "uncrop": self.uncrop,
                "seed": seed,
                "model": model,
            }
        )


@dataclass(frozen=True)
class PersonReport:
    """One person of a photo, in numbers. hidden_by: ids of the people in front; cut_by: edges of the picture."""

    id: int
    hidden_fraction: float
    hidden_probability: float
    score: float
    box_xyxy: tuple[float, ...]
    hidden_by: tuple[int, ...] = ()
    cut_by: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """What happened to one photo. `seconds` counts reading, recovering and writing.

    size_wh: of the picture, in pixels; photo_bbox: the photo's place in an extended one (x, y, width, height).
    """

    source: str
    status: Literal["done", "skipped", "failed"]
    people: tuple[PersonReport, ...] = ()
    outputs: tuple[str, ...] = ()
    size_wh: tuple[int, int] | None = None
    photo_bbox: tuple[int, int, int, int] | None = None
    seconds: float = 0.0
    device: str = ""
    model: str = ""
    timings: dict[str, float] = field(default_factory=dict)
    error: str = ""
    exit_code: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


# --- planning --------------------------------------------------------------------------------------------------------


def plan_jobs(
    inputs: Sequence[str],
    *,
    output: str | None = None,
    masks: Sequence[str] = (),
    boxes_xyxy: Sequence[BoxXyxy] = (),
    finding: Finding | None = None,
    complete: str = "auto",
    uncrop: bool = False,
    kinds: Sequence[str] = ("content",),
    recursive: bool = False,
) -> list[Job]:
    """Decide what is read and written, before anything is.

    Names: `photo.deoccluded.png` for content, `photo.overlay.png`, `photo.deoccluded.json`, and one file a person for
    the rest, `photo.person1.rgba.png`; beside the photo, or under the folder `output` with the inputs' folders
    mirrored. An `output` with a picture's suffix names the first kind's file when there is a single photo; "-" is
    standard output.

    Without masks, boxes and `finding` the model's own detector finds everyone.

    Masks: files belong to the one photo given. A folder of masks is matched by name, the photo's folders mirrored:
    `sub/photo.jpg` takes `MASKS/sub/photo.png` and `MASKS/sub/photo_1.png`, `photo_2.png`, ... (one person each).
    Where that folder is the photos' own, such a PNG beside a photo of another kind is a mask and no photo.

    Raises:
        UsageError: nothing to do, prompts that do not fit the photos, or two photos with one output.
    """
    kinds = read_kinds(kinds)
    if not kinds:
        raise UsageError(f"--save takes some of {','.join((*SAVE_KINDS, *KIND_ALIASES))}, got nothing")
    check_uncrop(uncrop, check_complete(complete))
    if masks or boxes_xyxy:
        if finding:
            raise UsageError("people are found where no --mask and no --box points at them: give one or the other")
    else:
        finding = finding or Finding()
    for option, names in (("--mask", masks), ("-o", [output] if output is not None else [])):
        if "" in names:
            raise UsageError(f"{option}: the name is empty: expected a file or a folder")
    target = _Target.parse(output)
    if (
        uncrop
        and target.file
        and target.file.suffix.lower() in (".jpg", ".jpeg")
        and kinds[0] in ("content", "overlay")
    ):
        raise UsageError(
            f"-o {target.file}: --uncrop leaves transparent surroundings, which JPEG cannot hold: use .png"
        )
    not_photos = [Path(name) for name in masks if Path(name).is_dir()] + ([target.folder] if target.folder else [])
    photos = _without_masks(list(_find_photos(inputs, recursive, not_photos)), masks)
    single = len(photos) == 1
    if boxes_xyxy and not single:
        raise UsageError(f"--box belongs to one photo, but {len(photos)} photos were given")
    if not single and (target.file or output == STREAM):
        raise UsageError(f"-o {output} is one file, but {len(photos)} photos were given: name a folder")
    beside: dict[Path, set[str]] = {}
    for _, relative in photos:
        beside.setdefault(relative.parent, set()).add(relative.stem.lower())
    jobs = [
        _plan_job(source, relative, single, target, masks, boxes_xyxy, finding, kinds, beside[relative.parent])
        for source, relative in photos
    ]
    _refuse_collisions(jobs)
    return [replace(job, complete=complete, uncrop=uncrop) for job in jobs]


@dataclass(frozen=True)
class _Target:
    """Where -o points: nowhere (beside the photo), a folder, one file, or standard output."""

    folder: Path | None = None
    file: Path | None = None
    stdout: bool = False

    @classmethod
    def parse(cls, output: str | None) -> _Target:
        if output is None:
            return cls()
        if output == STREAM:
            return cls(stdout=True)
        path = Path(output)
        suffix = path.suffix.lower()
        if output.endswith(("/", os.sep)) or path.is_dir() or suffix not in PHOTO_SUFFIXES | OUTPUT_SUFFIXES:
            return cls(folder=path)
        if suffix not in OUTPUT_SUFFIXES:
            raise UsageError(f"-o {output}: expected a name in {', '.join(sorted(OUTPUT_SUFFIXES))}, got {suffix}")
        return cls(file=path)


def _find_photos(inputs: Sequence[str], recursive: bool, not_photos: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    """Each photo with its place under the output folder.

    Left out of a folder: hidden files, our own earlier outputs, and `not_photos`, the folders of masks and of outputs.
    """
    for name in inputs:
        if not name:
            raise UsageError("a photo's name is empty: expected a file, a folder, or - for standard input")
        root = Path(name)
        if name == STREAM or not root.is_dir():
            # A file that is missing is reported as that photo's failure, not as the batch's.
            yield name, Path("stdin" if name == STREAM else root.name)
            continue
        skipped = [folder.resolve() for folder in not_photos if folder.resolve() != root.resolve()]
        found = False
        for path in sorted(root.rglob("*") if recursive else root.iterdir()):
            relative = path.relative_to(root)
            hidden = any(part.startswith(".") for part in relative.parts)
            if path.suffix.lower() not in PHOTO_SUFFIXES or hidden or _OUR_OUTPUT.search(path.name):
                continue
            if not path.is_file() or any(folder in path.resolve().parents for folder in skipped):
                continue
            found = True
            yield str(path), relative
        if not found:
            hint = "" if recursive else " (its folders are searched with --recursive)"
            raise UsageError(f"no photos in {root}: looked for {', '.join(sorted(PHOTO_SUFFIXES))}{hint}")


def _without_masks(photos: list[tuple[str, Path]], masks: Sequence[str]) -> list[tuple[str, Path]]:
    """The photos without the PNG masks that lie among them, where a folder of photos is one of masks too."""
    both = {Path(name).resolve() for name in masks if Path(name).is_dir()}

    def place(source: str) -> tuple[Path, str]:
        # upper and lower case are one in the names of masks
        path = Path(source).resolve()
        return path.parent, path.stem.lower()

    others = {place(source) for source, _ in photos if not source.lower().endswith(".png")}

    def is_mask(source: str, relative: Path) -> bool:
        if not source.lower().endswith(".png") or Path(source).resolve().parents[len(relative.parts) - 1] not in both:
            return False
        folder, stem = place(source)
        return not others.isdisjoint({(folder, stem), (folder, re.sub(r"_\d+$", "", stem))})

    return [photo for photo in photos if not is_mask(*photo)]


def _plan_job(
    source: str,
    relative: Path,
    single: bool,
    target: _Target,
    masks: Sequence[str],
    boxes_xyxy: Sequence[BoxXyxy],
    finding: Finding | None,
    kinds: Sequence[str],
    siblings: set[str],
) -> Job:
    mask_paths, problem = _masks_of(source, relative, single, masks, siblings)
    several = not finding.at_most_one if finding else len(mask_paths) + len(boxes_xyxy) > 1
    to_stdout = target.stdout or (source == STREAM and target == _Target())
    if to_stdout:
        if len(kinds) > 1 or (kinds[0] in PERSON_KINDS and several):
            raise UsageError("standard output takes one file: save one kind for one person, or name a folder with -o")
        if kinds[0] == "layers":
            raise UsageError("layers are written to a file: name it with -o")
        outputs = [Output(kinds[0], Path(STREAM))]
    else:
        if target.file is not None:
            base = target.file.with_suffix("")
        else:
            base = (target.folder / relative if target.folder else Path(source)).with_suffix("")
        outputs = [Output(kind, base.with_name(output_name(base.name, kind)), base.name) for kind in kinds]
    if target.file is not None:
        kind = kinds[0]
        if kind in PERSON_KINDS and several:
            people = "several" if finding else len(mask_paths) + len(boxes_xyxy)
            raise UsageError(f"-o {target.file} is one file, but {people} people are saved: name a folder")
        suffix = target.file.suffix.lower()
        # content is written as any kind of picture
        if suffix in (".json", ".ora") if kind == "content" else suffix != suffix_of(kind):
            raise UsageError(f"-o {target.file}: {kind} is written as {suffix_of(kind)}")
        outputs[0] = Output(kind, target.file)
    return Job(
        source, relative, mask_paths, tuple(boxes_xyxy), tuple(outputs), finding, to_stdout=to_stdout, problem=problem
    )


def _masks_of(
    source: str, relative: Path, single: bool, masks: Sequence[str], siblings: set[str]
) -> tuple[tuple[Path, ...], str | None]:
    """A photo's masks, and why it cannot be done where a folder of masks holds none for it.

    siblings: stems, in small letters, of the photos in its folder. Where there is a photo_1.jpg, photo_1.png is its
    mask, not a second of photo.jpg.
    """
    found: list[Path] = []
    for name in masks:
        path = Path(name)
        if not path.is_dir():
            if not single:
                raise UsageError(f"--mask {name} is one file, but several photos were given: name a folder of masks")
            found.append(path)
            continue
        stem = relative.stem
        numbered = re.compile(re.escape(stem) + r"(_\d+)?", re.IGNORECASE)
        folder = path / relative.parent
        matching = [
            p
            for p in (folder.iterdir() if folder.is_dir() else ())
            if numbered.fullmatch(p.stem)
            and p.suffix.lower() in PHOTO_SUFFIXES
            and os.path.realpath(p) != os.path.realpath(source)  # a photo is not its own mask
            and (p.stem.lower() == stem.lower() or p.stem.lower() not in siblings)
        ]
        if not matching:
            return (), f"no mask for {source}: looked for {folder / stem}.png and {folder / stem}_1.png, _2.png, ..."
        found += sorted(matching, key=lambda p: (len(p.stem), p.stem))
    return tuple(found), None


def _refuse_collisions(jobs: Sequence[Job]) -> None:
    written: dict[str, str] = {}
    inputs = {os.path.realpath(job.source): job.source for job in jobs if job.source != STREAM}
    inputs |= {os.path.realpath(path): str(path) for job in jobs for path in job.mask_paths}
    for job in jobs:
        for path in job.expected_paths if not job.to_stdout else ():
            real = os.path.realpath(path)
            if real in inputs:
                raise UsageError(f"{path} is an input ({inputs[real]}): name another output with -o")
            if real in written:
                raise UsageError(f"{written[real]} and {job.source} would both become {path}: rename one of them")
            written[real] = job.source


# --- running ---------------------------------------------------------------------------------------------------------


def run_jobs(
    jobs: Sequence[Job],
    load: Callable[[], Deoccluder],
    *,
    seed: int = 0,
    workers: int = 1,
    overwrite: bool = False,
    fail_fast: bool = False,
    model: str = "",
) -> Iterator[Report]:
    """Do the jobs and yield their reports in order; `load` is called once, and only when there is work left.

    A job is done when its outputs are there and none says that it was made from another photo, prompt, option or model.
    `workers`: photos at a time. `fail_fast`: stop after the first failure. `model`: what `load` loads, told from others
    by any text that differs (`runtime.ModelInfo.digest`). Errors of `load` are raised.
    """
    opened: list[Deoccluder] = []
    opening = threading.Lock()

    def pipe() -> Deoccluder:
        with opening:
            if not opened:
                opened.append(load())
        return opened[0]

    def work(job: Job) -> Report:
        stamp = job.stamp(seed, model)  # reads the photo, so each has its turn
        done = [] if overwrite else job.done_paths
        if done and all(read_stamp(path) in (None, stamp) for path in done):
            return Report(job.source, "skipped", outputs=_names(done))
        return do_job(job, pipe(), seed=seed, stamp=stamp)

    with contextlib.ExitStack() as stack:
        reports: Iterable[Report] = map(work, jobs)
        if workers > 1 and len(jobs) > 1:
            pool = ThreadPoolExecutor(workers)
            # Leaving early, by a failure or by Ctrl-C, drops what has not begun and waits for what has.
            stack.callback(pool.shutdown, wait=True, cancel_futures=True)
            reports = pool.map(work, jobs)
        for report in reports:
            yield report
            if fail_fast and report.status == "failed":
                return


def do_job(job: Job, pipe: Deoccluder, *, seed: int = 0, stamp: str | None = None) -> Report:
    """Recover one photo and write its files; a photo or a disk that does not play along becomes a failed report."""
    started = time.perf_counter()
    try:
        if job.problem:
            raise InputError(job.problem)
        result = _recover(job, pipe, seed)
        _write(job, result, stamp)
    except DeoccludeError as error:
        name = "standard input" if job.source == STREAM else job.source
        message = str(error) if name in str(error) else f"{name}: {error}"
        return Report(job.source, "failed", error=message, exit_code=error.exit_code)
    except MemoryError:
        return Report(job.source, "failed", error=f"{job.source}: not enough memory for this photo", exit_code=1)
    return Report(
        job.source,
        "done",
        tuple(_report_person(person, result.order) for person in result.people),
        _names(job.paths([person.id for person in result.people])),
        (result.image.shape[1], result.image.shape[0]),
        result.photo_bbox,
        time.perf_counter() - started,
        result.device,
        result.model,
        dict(result.timings),
    )


def _report_person(person: Person, order: Sequence[Occlusion]) -> PersonReport:
    return PersonReport(
        person.id,
        float(person.hidden_fraction),
        float(person.hidden_probability),
        float(person.score),
        tuple(float(v) for v in person.box_xyxy),
        tuple(sorted(pair.front for pair in order if pair.behind == person.id)),
        person.cut_by,
    )


def exit_code(reports: Sequence[Report], photos: int) -> int:
    """0 when all went well; one photo's own code when there was one; 5 when some of several failed."""
    failed = [report for report in reports if report.status == "failed"]
    if not failed:
        return 0
    return failed[0].exit_code if photos == 1 else 5


def _names(paths: Sequence[Path]) -> tuple[str, ...]:
    return tuple(str(path) for path in paths)


# --- pixels ----------------------------------------------------------------------------------------------------------


def _recover(job: Job, pipe: Deoccluder, seed: int) -> Result:
    if job.source == STREAM and sys.stdin is None:
        raise InputError("standard input is closed: expected a picture")
    started = time.perf_counter()
    photo, icc_profile = load_photo(sys.stdin.buffer.read() if job.source == STREAM else job.source)
    masks = []
    for path in job.mask_paths:
        mask = load_mask(path)
        # The pipeline checks this too, but it does not know the file's name.
        if mask.shape != photo.shape[:2]:
            (height, width), (mask_height, mask_width) = photo.shape[:2], mask.shape
            raise InputError(
                f"{path}: mask must have the upright photo's size {width}x{height}, got {mask_width}x{mask_height}"
            )
        if not mask.any():
            raise InputError(f"{path}: mask is empty, expected at least one pixel of the person to be white")
        masks.append(mask)
    reading = time.perf_counter() - started
    if job.finding:
        find = job.finding
        result = pipe(
            photo,
            segmenter=find.segmenter_for(job.source, job.relative),
            person=find.person,
            min_score=find.min_score,
            min_height_px=find.min_height_px,
            complete=job.complete,
            uncrop=job.uncrop,
            seed=seed,
        )
    else:
        boxes = list(job.boxes_xyxy)
        result = pipe(
            photo,
            masks=masks or None,
            boxes_xyxy=boxes or None,
            complete=job.complete,
            uncrop=job.uncrop,
            seed=seed,
        )
    timings = {name: s + (reading if name in ("load", "total") else 0.0) for name, s in result.timings.items()}
    return replace(result, icc_profile=icc_profile, timings=timings)


def _write(job: Job, result: Result, stamp: str | None) -> None:
    by_id = {person.id: person for person in result.people}
    files = [(output.kind, *place) for output in job.outputs for place in output.paths(list(by_id))]
    # a file that stands for all comes last: an interruption before it leaves the job undone
    files.sort(key=lambda file: file[2] in job.expected_paths)
    for kind, number, path in files:
        person = by_id.get(number)
        if not job.to_stdout:
            result.write(kind, path, person, file_name=job.relative.name, stamp=stamp)
        elif kind == "json":
            sys.stdout.write(json.dumps(result.to_coco(file_name=job.relative.name), indent=1) + "\n")
        else:
            picture = result.picture(kind, person)
            with io.BytesIO() as png:
                image = to_image(picture.pixels, picture.palette)
                image.save(png, "PNG", compress_level=_STREAM_PNG_LEVEL, icc_profile=picture.icc_profile)
                sys.stdout.buffer.write(png.getvalue())
                sys.stdout.buffer.flush()
    if not job.to_stdout:
        _remove_former(job, set(by_id))


def _remove_former(job: Job, ids: set[int]) -> None:
    """Remove what an earlier request wrote for people who are none of this result: they would be taken for its own."""
    for output in job.outputs:
        if output.kind not in PERSON_KINDS or (output.stem is None and ids):
            continue
        for number, path in output.written():
            if number not in ids and read_stamp(path) is not None:
                path.unlink()


def _holds_something(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0
