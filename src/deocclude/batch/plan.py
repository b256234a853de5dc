"""Planning: which photo gives which files. Photos, masks and outputs are matched before any pixel is read.

A mask file belongs to the single photo. A folder of masks is matched by name with the photos' folders mirrored:
`sub/photo.jpg` takes `MASKS/sub/photo.png` and `MASKS/sub/photo_1.png`, `photo_2.png`, ... (for several people). Where
that folder is the photos' own, such a PNG beside a photo of another format is a mask and no photo.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from deocclude.batch.folder import STREAM, Found, LeftOut, Source, find_photos
from deocclude.errors import UsageError
from deocclude.imaging.boxes import BoxXyxy
from deocclude.inference.completion_prompts import CompletionPrompts
from deocclude.inference.occlusion_probability import check_complete, check_uncrop
from deocclude.io.images import photo_suffixes
from deocclude.io.picture_format import FORMAT_KINDS, PictureFormat
from deocclude.io.request_stamp import file_digest, folder_state, is_whole, make_stamp, read_ids, read_stamp
from deocclude.io.results import (
    ALL_KINDS,
    FILE_KINDS,
    FILE_SUFFIXES,
    KIND_ALIASES,
    PERSON_KINDS,
    SAVE_KINDS,
    LayerSize,
    check_layer_size,
    output_name,
    read_kinds,
    suffix_of,
)
from deocclude.people.choice import Choice
from deocclude.people.coco_file import CocoFile
from deocclude.people.instances import Segmenter
from deocclude.people.request import check_samples, check_told

OUTPUT_SUFFIXES = frozenset({".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp", *FILE_SUFFIXES.values()})
"""Suffixes that make -o a file; with any other suffix, or none, -o is a folder."""


@dataclass(frozen=True)
class Finding:
    """Which people are meant where no mask or box is given: detected people, selected as by `Deoccluder.__call__`.

    Attributes:
        finder: a COCO file that lists photos by name, or a segmenter; None: the model's own detector.
        person: all, largest, N from the left, or x,y.
        min_score: least score, 0 to 1; None: the detector's default.
        min_height_px: least height of a box; None: as in `Deoccluder.__call__`.
        known_request: the value of `request`, computed where the finder's files are; None: computed when it is needed.
    """

    finder: CocoFile | Segmenter | None = None
    person: str = "all"
    min_score: float | None = None
    min_height_px: float | None = None
    known_request: list[Any] | None = None

    @property
    def at_most_one(self) -> bool:
        """Whether a single person is requested."""
        return Choice.parse(self.person).how != "all"

    @property
    def first_id(self) -> int:
        """The lowest id that a person of the result can have: N of "N from the left", else 1."""
        return Choice.parse(self.person).number or 1

    @property
    def request(self) -> list[Any]:
        """Plain values that identify which people are found. A custom segmenter counts by its name alone."""
        if self.known_request is not None:
            return self.known_request
        finder: Any = None
        if isinstance(self.finder, CocoFile):
            finder = file_digest(self.finder.path)
        elif self.finder is not None:
            model = getattr(self.finder, "model", None)
            name = model or getattr(self.finder, "__qualname__", type(self.finder).__name__)
            finder = (folder_state(Path(model)) if isinstance(model, str) else None) or str(name)
        return [finder, self.person, self.min_score, self.min_height_px]

    def segmenter_for(self, source: str, relative: Path) -> Segmenter | None:
        """The segmenter of one photo.

        Args:
            source: the photo's path.
            relative: its path in the given folder.

        Returns:
            None for the model's own detector.
        """
        finder = self.finder
        if isinstance(finder, CocoFile):
            whole = None if source == STREAM else source
            return lambda image: finder.prompts_for(relative, image.shape[:2], whole)
        return finder


@dataclass(frozen=True)
class Output:
    """The files of one kind.

    Attributes:
        kind: a kind of SAVE_KINDS.
        path: the photo's file; files of single people have their own names beside it.
        stem: beginning of the names of people's files; None where `path` is the only file.
        sample: which sample it shows, from 1; 0: the single answer.
    """

    kind: str
    path: Path
    stem: str | None = None
    sample: int = 0

    def paths(self, ids: Sequence[int]) -> list[tuple[int, Path]]:
        """Pairs of a person's id, or 0 for the whole photo, and the file. ids: of the people of a result."""
        if self.kind not in PERSON_KINDS:
            return [(0, self.path)]
        if self.stem is None:
            return [(number, self.path) for number in ids[:1]]
        return [(number, self.path.with_name(output_name(self.stem, self.kind, number))) for number in ids]

    def written(self) -> list[tuple[int, Path]]:
        """Pairs of a person's id, or 0 where the name has none, and the file, for the existing files."""
        if self.kind not in PERSON_KINDS or self.stem is None:
            return [(0, self.path)] if self.path.is_file() else []
        name = re.compile(re.escape(self.stem) + rf"\.person(\d+)\.{self.kind}\.png")
        found = ((name.fullmatch(path.name), path) for path in self.path.parent.glob("*"))
        return sorted((int(match[1]), path) for match, path in found if match)


@dataclass(frozen=True)
class Job:
    """One photo and its outputs. All but the number of people is known before any work.

    The number is known for boxes alone: a mask file may hold several people, and detection may find any number.

    Attributes:
        source: the photo's path, or - for standard input.
        relative: its path in the given folder.
        mask_paths: mask files of the photo, each of one person or several.
        boxes_xyxy: box prompts of the photo, (x0, y0, x1, y1) in pixels, end excluded.
        outputs: kinds of files.
        finding: which people are detected; None with masks or boxes.
        complete: as in `Deoccluder.__call__`.
        uncrop: as in `Deoccluder.__call__`.
        min_hidden_probability: as in `Deoccluder.__call__`.
        completion_prompts: by the number of the person, or THE_ONLY_PERSON; masks are paths.
        to_stdout: the output goes to standard output.
        problem: why the job cannot be done; None: it can.
        mask_label: the one label of the mask files that is a person (`io.images.load_masks`).
        layer_size: as in `Result.save`.
        picture_format: of content and overlay.
        samples: number of samples (`Deoccluder.samples`), each with its own outputs; None: the single answer.
    """

    source: str
    relative: Path
    mask_paths: tuple[Path, ...]
    boxes_xyxy: tuple[BoxXyxy, ...]
    outputs: tuple[Output, ...]
    finding: Finding | None = None
    complete: str = "auto"
    uncrop: bool = False
    min_hidden_probability: float | None = None
    completion_prompts: Mapping[int, CompletionPrompts] = field(default_factory=dict)
    to_stdout: bool = False
    problem: str | None = None
    mask_label: int | None = None
    layer_size: LayerSize = "trimmed"
    picture_format: PictureFormat = field(default_factory=PictureFormat)
    samples: int | None = None

    def paths(self, ids: Sequence[int]) -> list[Path]:
        """All files for people with these ids."""
        return [path for output in self.outputs for _, path in output.paths(ids)]

    @property
    def expected_paths(self) -> list[Path]:
        """All files that this job would write, as far as the number of people is known.

        For detected people these are the files of the first possible person. A mask file counts as one person.
        """
        if self.finding:
            return self.paths([self.finding.first_id])
        return self.paths(range(1, len(self.mask_paths) + len(self.boxes_xyxy) + 1))

    @property
    def done_paths(self) -> list[Path]:
        """All files of this job, where each exists and is whole; else empty. Their stamps are not compared.

        The existing files hold the ids of the people. Standard input is never done: it may be another photo each time.
        """
        if self.to_stdout or self.problem or self.source == STREAM:
            return []
        given = (Path(self.source), *self.mask_paths)
        if not all(path.is_file() for path in given):
            return []
        paths = self.expected_paths
        if self.finding or self.mask_paths:
            written = (read_ids(path) for output in self.outputs for _, path in output.written())
            ids = next((ids for ids in written if ids is not None), None)
            paths = paths if ids is None else self.paths(ids)
        return paths if all(path.is_file() and is_whole(path) for path in paths) else []

    @property
    def others_files(self) -> list[Path]:
        """Expected files with content that no run has written; they are not replaced unasked."""
        return [path for path in self.expected_paths if is_others_file(path)] if not self.to_stdout else []

    def stamp(self, seed: int, model: str) -> str:
        """Digest of everything that the outputs depend on: contents of photo and prompts, options, seed, model."""
        return make_stamp(
            {
                "photo": None if self.source == STREAM else file_digest(Path(self.source)),
                "masks": [file_digest(path) for path in self.mask_paths],
                **({} if self.mask_label is None else {"mask_label": self.mask_label}),
                **({} if self.layer_size == "trimmed" else {"layer_size": self.layer_size}),
                # the format has no entry: it is part of the files' names
                **({} if (quality := self.picture_format.quality) is None else {"quality": quality}),
                "boxes": self.boxes_xyxy,
                "finding": self.finding.request if self.finding else None,
                "complete": self.complete,
                "uncrop": self.uncrop,
                "min_hidden_probability": self.min_hidden_probability,
                **({"told": self._prompt_values} if self.completion_prompts else {}),
                **({} if self.samples is None else {"samples": self.samples}),
                "seed": seed,
                "model": model,
            }
        )

    @property
    def _prompt_values(self) -> dict[int, list[Any]]:
        """The completion prompts by person as JSON-ready values, for the stamp; a mask file is its digest."""

        def plain(value: Any) -> Any:
            """A field's value as JSON can hold it."""
            if isinstance(value, Path):
                return file_digest(value)
            return dict(value) if isinstance(value, Mapping) else value

        return {
            number: [plain(value) for value in vars(prompts).values()]
            for number, prompts in sorted(self.completion_prompts.items())
        }


def plan_jobs(
    inputs: Sequence[str],
    *,
    output: str | None = None,
    masks: Sequence[str] = (),
    mask_label: int | None = None,
    boxes_xyxy: Sequence[BoxXyxy] = (),
    finding: Finding | None = None,
    complete: str = "auto",
    uncrop: bool = False,
    min_hidden_probability: float | None = None,
    completion_prompts: Mapping[int, CompletionPrompts] | None = None,
    samples: int | None = None,
    kinds: Sequence[str] = ("content",),
    layer_size: str = "trimmed",
    picture_format: PictureFormat = PictureFormat(),
    recursive: bool = False,
    follow_links: bool = False,
    on_left_out: Callable[[LeftOut], object] = lambda _: None,
    find: Callable[..., Found] = find_photos,
) -> list[Job]:
    """Plan which files are read and written, before any is.

    Names: `photo.deoccluded.png` for content, `photo.overlay.png`, `photo.deoccluded.json`, and for the other kinds one
    file for each person, `photo.person1.rgba.png`. They are beside the photo, or under the folder `output` with the
    input folders mirrored. Where several photos would have one name, a.jpg and a.png, each keeps its suffix,
    `a.jpg.deoccluded.png`; in several input folders each folder's name comes first, `FOLDER/a.deoccluded.png`. An
    `output` with an image suffix names the file of the first kind, for a single photo; "-" is standard output.

    Args:
        inputs: photos, folders, patterns, lists, or - for standard input (`find_photos`).
        output: a folder, a file or -; None: beside the photo.
        masks: mask files or folders.
        mask_label: the one label of the mask files that is a person; None: all of them.
        boxes_xyxy: boxes in pixels, for a single photo.
        finding: detection; None without masks and boxes: the model's own detector finds everyone.
        complete: as in `Deoccluder.__call__`.
        uncrop: as in `Deoccluder.__call__`.
        min_hidden_probability: as in `Deoccluder.__call__`.
        completion_prompts: as in `Job`, for a single photo.
        samples: as in `Job`; names are then `photo.sample1.deoccluded.png` and so on, in a folder.
        kinds: kinds of SAVE_KINDS.
        layer_size: as in `Result.save`, where layers are saved.
        picture_format: of content and overlay.
        recursive: search folders inside folders.
        follow_links: search linked folders too.
        on_left_out: called with every file of a folder that is no input.
        find: finds the photos among the inputs, with the arguments of `find_photos`.

    Raises:
        UsageError: no photo, prompts that do not fit the photos, or an output that is an input.
    """
    kinds = _checked_kinds(kinds)
    layer_size = _checked_layer_size(layer_size, kinds)
    check_uncrop(uncrop, check_complete(complete))
    prompts = check_told(completion_prompts or {}, uncrop=uncrop, complete=complete)
    check_samples(samples, uncrop=uncrop, complete=complete)
    finding = _checked_finding(finding, masks, boxes_xyxy, mask_label)
    target = _checked_target(output, masks, samples)
    picture_format.check(kinds, target.file.suffix.lower() if target.file else None, transparent=uncrop)
    found = find(inputs, recursive=recursive, follow_links=follow_links, not_photos=_folders_to_skip(masks, target))
    for left in found.left_out:
        on_left_out(left)
    photos = _without_masks(found.photos, masks)
    _check_single(output, boxes_xyxy, target, len(photos), has_prompts=bool(prompts))
    shared = masks, boxes_xyxy, finding, kinds, _stems_by_folder(photos), picture_format, samples
    jobs = [
        _plan_job(photo, base, len(photos) == 1, target, *shared)
        for photo, base in zip(photos, _output_bases(photos, target), strict=True)
    ]
    _refuse_collisions(jobs)
    return [
        replace(
            job, complete=complete, uncrop=uncrop, min_hidden_probability=min_hidden_probability,
            completion_prompts=prompts, mask_label=mask_label if job.mask_paths else None, layer_size=layer_size,
            picture_format=picture_format, samples=samples,
        )
        for job in jobs
    ]  # fmt: skip


def _checked_kinds(kinds: Sequence[str]) -> list[str]:
    """The kinds to save. Raises UsageError for none."""
    if not (known := read_kinds(kinds)):
        raise UsageError(f"--save takes some of {', '.join((*SAVE_KINDS, *KIND_ALIASES, ALL_KINDS))}, got nothing")
    return known


def _checked_layer_size(layer_size: str, kinds: Sequence[str]) -> LayerSize:
    """The layer size. Raises UsageError for an unknown one, and for one of layers that are not saved."""
    size = check_layer_size(layer_size)
    if size != "trimmed" and "layers" not in kinds:
        raise UsageError(f"--layer-size {size} is the size of --save layers: add layers to --save")
    return size


def _stems_by_folder(photos: Sequence[Source]) -> dict[Path, set[str]]:
    """The lower-case stems of the photos in each folder."""
    stems: dict[Path, set[str]] = {}
    for photo in photos:
        stems.setdefault(photo.relative.parent, set()).add(photo.relative.stem.lower())
    return stems


@dataclass(frozen=True)
class _Target:
    """The target of -o: none (beside the photo), a folder, one file, or standard output."""

    folder: Path | None = None
    file: Path | None = None
    stdout: bool = False

    @classmethod
    def parse(cls, output: str | None) -> _Target:
        """Read -o. Raises UsageError for a file suffix that cannot be written."""
        if output is None:
            return cls()
        if output == STREAM:
            return cls(stdout=True)
        path = Path(output)
        suffix = path.suffix.lower()
        if output.endswith(("/", os.sep)) or path.is_dir() or not suffix:
            return cls(folder=path)
        if suffix in OUTPUT_SUFFIXES:
            return cls(file=path)
        if suffix in photo_suffixes():  # asked last: it loads every image plugin
            raise UsageError(f"-o {output}: expected a name in {', '.join(sorted(OUTPUT_SUFFIXES))}, got {suffix}")
        return cls(folder=path)


def _folders_to_skip(masks: Sequence[str], target: _Target) -> list[Path]:
    """Folders whose files are no photos of the run: masks and outputs."""
    return [Path(name) for name in masks if Path(name).is_dir()] + ([target.folder] if target.folder else [])


def _check_single(
    output: str | None, boxes_xyxy: Sequence[BoxXyxy], target: _Target, photos: int, *, has_prompts: bool
) -> None:
    """Raise UsageError for boxes or completion prompts of several photos, and for one output file of several photos."""
    if photos == 1:
        return
    if boxes_xyxy:
        raise UsageError(f"--box belongs to one photo, but {photos} photos were given")
    if has_prompts:
        raise UsageError(f"completion prompts belong to one photo, but {photos} photos were given")
    if target.file or output == STREAM:
        raise UsageError(f"-o {output} is one file, but {photos} photos were given: name a folder")


def _checked_target(output: str | None, masks: Sequence[str], samples: int | None) -> _Target:
    """The target of -o. Raises UsageError for an empty name, and for a single file of samples."""
    for option, names in (("--mask", masks), ("-o", [output] if output is not None else [])):
        if "" in names:
            raise UsageError(f"{option}: the name is empty: expected a file or a folder")
    target = _Target.parse(output)
    if samples is not None and (target.file or target.stdout):
        raise UsageError(f"-o {output} is one file, but samples are several: name a folder")
    return target


def _checked_finding(
    finding: Finding | None, masks: Sequence[str], boxes_xyxy: Sequence[BoxXyxy], mask_label: int | None
) -> Finding | None:
    """Who is detected; None with masks or boxes. Raises UsageError for options that exclude each other."""
    if mask_label is not None and not masks:
        raise UsageError(f"--mask-label {mask_label} picks a label of --mask files: name one with --mask")
    if not masks and not boxes_xyxy:
        return finding or Finding()
    if finding:
        raise UsageError("detection options exclude --mask and --box: give one or the other")
    return None


def _without_masks(photos: list[Source], masks: Sequence[str]) -> list[Source]:
    """The photos without the PNG masks among them, where a folder holds both photos and masks."""
    mask_folders = {Path(name).resolve() for name in masks if Path(name).is_dir()}

    def folder_and_stem(source: str) -> tuple[Path, str]:
        """A photo's folder and lower-case stem: names of masks are compared without case."""
        path = Path(source).resolve()
        return path.parent, path.stem.lower()

    not_png = {folder_and_stem(photo.path) for photo in photos if not photo.path.lower().endswith(".png")}

    def is_mask(photo: Source) -> bool:
        if not photo.path.lower().endswith(".png"):
            return False
        # the folder where `relative` begins; links below it may lead anywhere, so that only this folder is resolved
        if Path(photo.path).absolute().parents[len(photo.relative.parts) - 1].resolve() not in mask_folders:
            return False
        folder, stem = folder_and_stem(photo.path)
        return not not_png.isdisjoint({(folder, stem), (folder, re.sub(r"_\d+$", "", stem))})

    return [photo for photo in photos if not is_mask(photo)]


def _output_bases(photos: Sequence[Source], target: _Target) -> list[Path]:
    """Each photo's path of outputs without a suffix. Equal names are made distinct as `plan_jobs` says."""
    if target.file is not None:
        return [target.file.with_suffix("")] * len(photos)
    folder = target.folder
    places = [folder / photo.relative if folder else Path(photo.path) for photo in photos]
    bases = [place.with_suffix("") for place in places]
    shared = _repeated(bases)
    bases = [place if base in shared else base for place, base in zip(places, bases, strict=True)]
    shared = _repeated(bases)
    if folder is None or not shared:
        return bases
    names = _distinct_names(dict.fromkeys(photo.root for photo in photos))
    return [
        (folder / names[photo.root] / photo.relative).with_suffix("") if base in shared else base
        for photo, base in zip(photos, bases, strict=True)
    ]


def _repeated(paths: Iterable[Path]) -> set[Path]:
    """The paths that occur more than once."""
    seen, repeated = set[Path](), set[Path]()
    for path in paths:
        (repeated if path in seen else seen).add(path)
    return repeated


def _distinct_names(folders: Iterable[Path]) -> dict[Path, str]:
    """A name for each folder: its own, with _2, _3, ... where an earlier folder has it."""
    names: dict[Path, str] = {}
    for folder in folders:
        own = folder.resolve().name or "root"
        name, number = own, 1
        while name in names.values():
            number += 1
            name = f"{own}_{number}"
        names[folder] = name
    return names


def _plan_job(
    photo: Source,
    base: Path,
    is_only_photo: bool,
    target: _Target,
    masks: Sequence[str],
    boxes_xyxy: Sequence[BoxXyxy],
    finding: Finding | None,
    kinds: Sequence[str],
    stems_by_folder: Mapping[Path, set[str]],
    picture_format: PictureFormat,
    samples: int | None,
) -> Job:
    """The job of one photo, whose outputs begin with `base`. Raises UsageError for outputs that do not fit."""
    source, relative = photo.path, photo.relative
    mask_paths, problem = _masks_of(source, relative, is_only_photo, masks, stems_by_folder[relative.parent])
    may_be_several = not finding.at_most_one if finding else len(mask_paths) + len(boxes_xyxy) > 1
    to_stdout = target.stdout or (source == STREAM and target == _Target())
    if to_stdout:
        if samples is not None:
            raise UsageError("samples are several files: name a folder with -o")
        if len(kinds) > 1 or (kinds[0] in PERSON_KINDS and may_be_several):
            raise UsageError("standard output takes one file: save one kind for one person, or name a folder with -o")
        if kinds[0] in FILE_KINDS and kinds[0] != "json":
            raise UsageError(f"{kinds[0]} are written to a file: name it with -o")
        outputs = [Output(kinds[0], Path(STREAM))]
    else:
        outputs = _outputs(base, kinds, picture_format, samples)
    if target.file is not None:
        kind = kinds[0]
        if kind in PERSON_KINDS and may_be_several:
            people = "several" if finding else len(mask_paths) + len(boxes_xyxy)
            raise UsageError(f"-o {target.file} is one file, but {people} people are saved: name a folder")
        suffix = target.file.suffix.lower()
        # content may have any image suffix; an overlay may where --format is given: a JPEG may be .jpeg
        any_image = kind == "content" or (kind in FORMAT_KINDS and picture_format.name is not None)
        if suffix in FILE_SUFFIXES.values() if any_image else suffix != suffix_of(kind):
            raise UsageError(f"-o {target.file}: {kind} is written as {suffix_of(kind, picture_format)}")
        outputs[0] = Output(kind, target.file)
    return Job(
        source, relative, mask_paths, tuple(boxes_xyxy), tuple(outputs), finding, to_stdout=to_stdout, problem=problem
    )


def _outputs(base: Path, kinds: Sequence[str], picture_format: PictureFormat, samples: int | None) -> list[Output]:
    """The outputs of each kind; with `samples`, of each kind for each sample."""
    stems = {0: base.name}
    if samples is not None:
        stems = {number: f"{base.name}.sample{number}" for number in range(1, samples + 1)}
    return [
        Output(kind, base.with_name(output_name(stem, kind, picture_format=picture_format)), stem, number)
        for number, stem in stems.items()
        for kind in kinds
    ]


def _masks_of(
    source: str, relative: Path, is_only_photo: bool, masks: Sequence[str], siblings: set[str]
) -> tuple[tuple[Path, ...], str | None]:
    """A photo's mask files, and a message where a folder of masks holds none for the photo, else None.

    siblings: lower-case stems of the photos in the same folder. Where photo_1.jpg exists, photo_1.png is its mask and
    not a second mask of photo.jpg. Raises UsageError for a mask file with several photos.
    """
    found: list[Path] = []
    for name in masks:
        path = Path(name)
        if not path.is_dir():
            if not is_only_photo:
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
            and p.suffix.lower() in photo_suffixes()
            and os.path.realpath(p) != os.path.realpath(source)  # a photo is not its own mask
            and (p.stem.lower() == stem.lower() or p.stem.lower() not in siblings)
        ]
        if not matching:
            return (), f"no mask for {source}: looked for {folder / stem}.png and {folder / stem}_1.png, _2.png, ..."
        found += sorted(matching, key=lambda p: (len(p.stem), p.stem))
    return tuple(found), None


def _refuse_collisions(jobs: Sequence[Job]) -> None:
    """Raise UsageError where two photos share an output, or an output is an input."""
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


def names_of(paths: Sequence[Path]) -> tuple[str, ...]:
    """Paths as text."""
    return tuple(str(path) for path in paths)


def is_others_file(path: Path) -> bool:
    """Whether a path is a file with content that no run has written."""
    return path.is_file() and path.stat().st_size > 0 and read_stamp(path) is None
