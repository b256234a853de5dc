"""Mutated photos, masks and COCO files through `deocclude run`: what becomes of each, as a Markdown table.

    python benchmarks/mutated_inputs.py --seed 1 --count 5000 [--processes 2] [--keep DIR]

An eighth of the inputs is of each kind: PNG, JPEG, WebP, TIFF, GIF, AVIF, masks, COCO files. `mutations.py` makes
them. Photos go through `deocclude run FOLDER -j N`. 25 of each kind are run without other options. The others are in
folders of 120, where people must have a score of 0.95: nobody has, and most of the time is reading, detection and
writing. A mask or a COCO file is one command each, with --complete never. These commands share a process with open
networks, watched from outside.

A hang is more than 10 s of processor time, or 60 s of any time. A photo that takes 10 s of any time in its folder is
tried once more, alone: the machine may have been busy with others.
Every input must end in one of two ways: its outputs are whole and nothing else is written, or one line says why there
is none. The exit code must agree. An input that ends otherwise is printed and written to --keep; this script then exits
with 1.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from random import Random

from mutations import PHOTO_KINDS, coco_document, masks, mutated_coco, mutated_mask, mutated_photo, photos, picture
from PIL import Image
from watched_command import WatchedCommand

KINDS = (*PHOTO_KINDS, "mask", "coco")
FIRST_FOLDER, FOLDER = 25, 120
HANG_S, BUSY_HANG_S = 10.0, 60.0  # of processor time, and of any time
FAULTS = ("crash", "traceback", "hang", "partial or stray files", "wrong exit code", "not one line")
FAST = ("--min-score", "0.95")


@dataclass
class Tally:
    """What became of the inputs of one kind."""

    inputs: int = 0
    results: int = 0
    refused: int = 0
    faults: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Input:
    """One mutated file: its name, and its content."""

    name: str
    content: bytes


class Session:
    """The tallies of a run, and where inputs that end badly are kept."""

    def __init__(self, keep: Path | None) -> None:
        self.tallies = {kind: Tally() for kind in KINDS}
        self._keep = keep

    def add(self, kind: str, one: Input, result: bool, faults: Sequence[str], detail: str) -> None:
        """Count an input. result: its outputs were written."""
        tally = self.tallies[kind]
        tally.inputs += 1
        tally.results += result
        tally.refused += not result and not {"crash", "hang", "traceback"} & set(faults)
        tally.faults.update(faults)
        if faults:
            print(f"{one.name}: {', '.join(faults)}: {detail[-500:]}", file=sys.stderr, flush=True)
            if self._keep:
                self._keep.mkdir(parents=True, exist_ok=True)
                (self._keep / one.name).write_bytes(one.content)

    def table(self) -> str:
        """The Markdown table."""
        lines = [f"| kind | inputs | result | refused | {' | '.join(FAULTS)} |", "|---" * (4 + len(FAULTS)) + "|"]
        total = Tally()
        for kind, tally in [*((kind, one) for kind, one in self.tallies.items() if one.inputs), ("all", total)]:
            numbers = (tally.inputs, tally.results, tally.refused, *(tally.faults[fault] for fault in FAULTS))
            lines.append(f"| {kind} | {' | '.join(map(str, numbers))} |")
            total.inputs, total.results = total.inputs + tally.inputs, total.results + tally.results
            total.refused += tally.refused
            total.faults.update(tally.faults)
        return "\n".join(lines)


def run_folders(session: Session, kind: str, inputs: Iterator[Input], processes: int) -> None:
    """Photos, a folder of them at once, each folder in a command of its own."""
    size, options = FIRST_FOLDER, ()
    while batch := list(islice(inputs, size)):
        with tempfile.TemporaryDirectory() as temporary:
            late = run_folder(session, kind, batch, Path(temporary) / "all", processes, options)
            for again in late:  # the machine may have been busy with others: alone it may be late no more
                run_folder(session, kind, [again], Path(temporary) / again.name, 1, options, is_last_try=True)
        size, options = FOLDER, FAST


def run_folder(
    session: Session, kind: str, batch: Sequence[Input], place: Path, processes: int, options: Sequence[str],
    is_last_try: bool = False,
) -> list[Input]:  # fmt: skip
    """One folder of photos.

    Returns:
        Photos that took longer than the limit, which are to be tried again; in the last try they are hangs.
    """
    late: list[Input] = []
    source, target = place / "in", place / "out"
    source.mkdir(parents=True)
    for one in batch:
        (source / one.name).write_bytes(one.content)
    command = [sys.executable, "-m", "deocclude", "run", str(source), "-o", str(target), "-j", str(processes), "--json"]
    command += ["--time-limit", f"{BUSY_HANG_S if is_last_try else HANG_S:g}", *options]
    before_s = _processor_s()
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=60 + BUSY_HANG_S * len(batch)
        )
        output, said, code = done.stdout, done.stderr, done.returncode
    except subprocess.TimeoutExpired as ended:
        output, said = ((written or b"").decode(errors="replace") for written in (ended.stdout, ended.stderr))
        code = -1
    reports = {Path(row["source"]).name: row for row in map(json.loads, output.splitlines())}
    statuses = {row["status"] for row in reports.values()}
    common = ["traceback"] if "Traceback (most recent call last)" in said else []
    if code not in ((1, 5) if "failed" in statuses else (0, 5)):
        common.append("wrong exit code")
    if _stray(target, reports.values()) or {path.name for path in source.iterdir()} != {one.name for one in batch}:
        common.append("partial or stray files")
    for one in batch:
        row = reports.get(one.name)
        lines = [line for line in said.splitlines() if line.startswith("error: ") and f"/{one.name}" in line]
        faults: list[str] = []
        if row is None:
            faults.append("hang" if code == -1 else "crash")
        elif "ended its process" in row["error"]:
            faults.append("crash")
        elif "took longer" in row["error"] or (is_last_try and _processor_s() - before_s > HANG_S):
            if not is_last_try:
                late.append(one)
                continue
            faults.append("hang")
        elif len(lines) != (row["status"] == "failed"):
            faults.append("not one line")
        if row and row["status"] == "done" and not _is_whole(row["outputs"], row["size_wh"]):
            faults.append("partial or stray files")
        is_done = bool(row) and row["status"] == "done"
        session.add(kind, one, is_done, [*common, *faults], (row or {}).get("error") or said)
        common = []  # faults of the folder are counted once
    return late


def _processor_s() -> float:
    """Processor time of all processes that have ended and been waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _stray(target: Path, reports: Sequence[dict] | Iterator[dict]) -> set[str]:
    """Files of the output folder that no report names, and files that one names and that are not there."""
    found = {str(path) for path in target.rglob("*") if path.is_file()} if target.exists() else set()
    return found ^ {name for row in reports for name in row.get("outputs", ())}


def _is_whole(outputs: Sequence[str], size_wh: Sequence[int]) -> bool:
    """Whether each output can be decoded and has the photo's size."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        for path in outputs:
            with Image.open(path) as image:
                image.load()
                if list(image.size) != list(size_wh):
                    return False
    except (OSError, SyntaxError, ValueError):  # what Pillow raises
        return False
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    return True


def run_singly(session: Session, kind: str, inputs: Iterator[Input]) -> None:
    """Masks or COCO files, a command each."""
    with tempfile.TemporaryDirectory() as temporary, WatchedCommand(Path(temporary)) as command:
        photo = Path(temporary) / "photo.png"
        picture().save(photo)
        for one in inputs:
            place, target = Path(temporary) / "in", Path(temporary) / "out"
            for folder in (place, target):
                folder.mkdir()
            given = place / one.name
            given.write_bytes(one.content)
            prompt = ("--mask", str(given)) if kind == "mask" else ("--segmenter", f"coco:{given}")
            words = ["run", str(photo), *prompt, "-o", str(target), "--complete", "never", "--json"]
            ended = command.run(words, BUSY_HANG_S)
            reports = [json.loads(line) for line in ended.output.splitlines() if line.startswith("{")]
            done = bool(reports) and reports[-1]["status"] == "done"
            errors = [line for line in ended.said.splitlines() if line.startswith("error: ")]
            checks = {
                "hang": ended.is_late or ended.processor_s > HANG_S,
                "crash": ended.code is None and not ended.is_late,
                "traceback": "Traceback (most recent call last)" in ended.said,
                "wrong exit code": ended.code is not None and (ended.code == 0) != done,
                "not one line": ended.code is not None and len(errors) != (not done),
                "partial or stray files": bool(_stray(target, reports)) or [given] != list(place.iterdir()),
            }
            if done and not _is_whole(reports[-1]["outputs"], reports[-1]["size_wh"]):
                checks["partial or stray files"] = True
            session.add(kind, one, done, [fault for fault, seen in checks.items() if seen], ended.said)
            for folder in (place, target):
                for path in folder.iterdir():
                    path.unlink()
                folder.rmdir()


def inputs_of(kind: str, count: int, seed: int) -> Iterator[Input]:
    """The inputs of a kind. Each depends on the seed, the kind and its number alone."""
    whole, whole_masks, document = photos(), masks(), coco_document("photo.png")
    for number in range(count):
        rng = Random(f"{seed} {kind} {number}")
        if kind == "coco":
            suffix, content = ".json", mutated_coco(document, rng)
        elif kind == "mask":
            suffix, content = mutated_mask(whole_masks, rng)
        else:
            suffix, content = mutated_photo(kind, whole, rng)
        yield Input(f"{kind}{number:05}{suffix}", content)


def main() -> int:
    """Run all inputs and print the table.

    Returns:
        The exit code: 1 where an input ended badly.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=5000, help="inputs of all kinds together")
    parser.add_argument("--processes", type=int, default=2, help="of a folder of photos")
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=KINDS)
    parser.add_argument("--keep", type=Path, help="a folder for inputs that end badly; by default none is kept")
    arguments = parser.parse_args()
    session = Session(arguments.keep)
    begun = time.monotonic()
    for kind in arguments.kinds:
        inputs = inputs_of(kind, arguments.count // len(KINDS), arguments.seed)
        if kind in PHOTO_KINDS:
            run_folders(session, kind, inputs, arguments.processes)
        else:
            run_singly(session, kind, inputs)
        print(f"{kind}: {time.monotonic() - begun:.0f} s, {session.tallies[kind]}", file=sys.stderr, flush=True)
    print(session.table())
    return int(any(tally.faults for tally in session.tallies.values()))


if __name__ == "__main__":
    sys.exit(main())
