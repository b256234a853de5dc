"""Faults around `deocclude run`: kills, full disks, damaged weights, and the like; what holds, as a Markdown table.

    python benchmarks/faults.py [--seed 1] [--kills 50] [--only ROW ...]

Six small photos with masks are made by code and recovered with `-j 2` once without any fault. Every row disturbs such a
run and compares what it leaves with the undisturbed one. A row that does not hold is marked FAILS, and the exit code is
then 1. A row that this machine cannot do, such as mounting a small disk without root, says so. A killed worker of Ray
is tested in tests/scale.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from deocclude.evaluation.demo_scene import make_scene
from deocclude.inference.runtime import BUNDLED_WEIGHTS

PHOTOS, SIDE_PX = 6, 160
KILLS_A_FOLDER = 4
KINDS = "content,rgba,layers"
_TRACEBACK = "Traceback (most recent call last)"
_BOMB_SIDE_PX, _BEYOND_SIDE_PX = 10_000, 20_000
_BOMB_LIMIT_MB, _REFUSAL_LIMIT_MB = 2000, 500


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        must: what must hold.
        seen: what was seen, in figures.
        holds: whether it held; None: it could not be tried.
    """

    must: str
    seen: str
    holds: bool | None


class Ground:
    """Photos and masks in a temporary folder, and what an undisturbed run makes of them."""

    def __init__(self, folder: Path, rng: Random) -> None:
        """Make the photos and run undisturbed."""
        self.folder, self.rng = folder, rng
        self._outs = 0
        self.photos, self.masks = folder / "photos", folder / "masks"
        for place in (self.photos, self.masks):
            place.mkdir()
        scene = make_scene()  # a portrait behind a plant
        size_wh = (SIDE_PX, SIDE_PX)
        mask = Image.fromarray(scene.visible).resize(size_wh, Image.Resampling.NEAREST)
        pixels = np.asarray(Image.fromarray(scene.photo).resize(size_wh, Image.Resampling.LANCZOS))
        for number in range(PHOTOS):
            tinted = (pixels * (0.6 + number / 15)).astype(np.uint8)
            Image.fromarray(tinted).save(self.photos / f"photo{number}.png")
            mask.save(self.masks / f"photo{number}.png")
        begun = time.monotonic()
        out = self.new_folder()
        done = self.run(out)
        self.seconds = time.monotonic() - begun
        self.whole = contents(out)
        if done.returncode or len(self.whole) < 3 * PHOTOS:
            raise RuntimeError(f"the undisturbed run failed: {done.stderr}")

    def new_folder(self) -> Path:
        """A folder for outputs, which is not made yet."""
        self._outs += 1
        return self.folder / f"out{self._outs}"

    def command(self, out: Path, *more: str, photos: Path | None = None) -> list[str]:
        """The command of the folder run."""
        words = ["run", str(photos or self.photos), "-o", str(out), "--mask", str(self.masks), "--save", KINDS]
        return [sys.executable, "-m", "deocclude", *words, "-j", "2", *more]

    def run(
        self, out: Path, *more: str, photos: Path | None = None, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """The folder run, to its end. environment: variables beside this process's."""
        command, variables = self.command(out, *more, photos=photos), {**os.environ, **(environment or {})}
        return subprocess.run(command, capture_output=True, text=True, check=False, env=variables)

    def start(self, out: Path, *more: str) -> subprocess.Popen[bytes]:
        """The folder run, begun in a process group of its own."""
        quiet = subprocess.DEVNULL
        return subprocess.Popen(self.command(out, *more), stdout=quiet, stderr=quiet, start_new_session=True)

    def faults_of(self, out: Path) -> list[str]:
        """How a folder of outputs differs from the undisturbed one's, hidden files counted."""
        found = contents(out)
        faults = [f"{name} is missing" for name in self.whole.keys() - found.keys()]
        faults += [f"{name} is too many" for name in found.keys() - self.whole.keys()]
        return faults + [
            f"{name} differs" for name in found.keys() & self.whole.keys() if found[name] != self.whole[name]
        ]

    def partial(self, out: Path) -> list[str]:
        """Files of a folder that are none of the undisturbed run's, in name and content."""
        return [name for name, content in contents(out).items() if self.whole.get(name) != content]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder by its relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def one_line(done: subprocess.CompletedProcess[str], words: str) -> bool:
    """Whether a command said what is wrong in one line of stderr."""
    lines = done.stderr.strip().splitlines()
    return len(lines) == 1 and lines[0].startswith("error: ") and words in lines[0]


def kills(ground: Ground, number: int) -> Row:
    """Kill a run with SIGKILL, begin it again, kill it again, up to four times; then let it end, and compare."""
    faults: list[str] = []
    killed = folders = ended = 0
    while killed < number:
        out = ground.new_folder()
        manifest = out.with_suffix(".jsonl")
        folders += 1
        for turn in range(min(KILLS_A_FOLDER, number - killed)):
            process = ground.start(out, "--manifest", str(manifest))
            _wait_at_random(ground, process, out, among_files=turn % 2 == 1)
            with contextlib.suppress(ProcessLookupError):  # it may have ended
                if folders % 2:
                    os.kill(process.pid, signal.SIGKILL)
                else:
                    os.killpg(process.pid, signal.SIGKILL)  # its workers too
            if process.wait() != -signal.SIGKILL:
                break
            killed += 1
        ended += ground.run(out, "--manifest", str(manifest)).returncode == 0
        faults += [f"{out.name}: {fault}" for fault in ground.faults_of(out)]
        rows = manifest.read_text().splitlines() if manifest.exists() else []
        if len(rows) != PHOTOS or manifest.with_name(f"{manifest.name}.part").exists():
            faults.append(f"{out.name}: a manifest of {len(rows)} rows")
    return Row(
        "after a last run every output equals the undisturbed run's, no other file is there, the manifest is whole",
        f"{killed} kills; {ended} of {folders} last runs ended with 0; {_told(faults)}",
        ended == folders and not faults,
    )


def _wait_at_random(ground: Ground, process: subprocess.Popen[bytes], out: Path, *, among_files: bool) -> None:
    """Wait for a random moment of a run: of its whole time, or just after a file of its outputs has appeared."""
    if not among_files:
        time.sleep(ground.rng.uniform(0, ground.seconds))
        return
    present = _files(out)
    wanted = present + ground.rng.randint(1, 4)
    while process.poll() is None and _files(out) < wanted:
        time.sleep(0.001)
    time.sleep(ground.rng.uniform(0, 0.03))


def full_disk(ground: Ground) -> Row:
    """Write to a disk that has room for some of the outputs, then make room."""
    must = "finished photos are whole, the others fail in a line each (code 5), no other file; with room all are done"
    out = ground.new_folder()
    size = sum(map(len, ground.whole.values()))
    with small_disk(out, size // 2) as is_mounted:
        if not is_mounted:
            return Row(must, "mounting a small disk needs root", None)
        done = ground.run(out)
        errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        plain = all("No space left on device" in line for line in errors)
        partial, finished = ground.partial(out), len(contents(out))
        subprocess.run(["mount", "-o", f"remount,size={2 * size}", out], check=True)
        again = ground.run(out)
        faults = ground.faults_of(out)
    return Row(
        must,
        f"{finished} of {len(ground.whole)} files whole, {len(partial)} others, {len(errors)} lines, code "
        f"{done.returncode}; with room code {again.returncode}; {_told(faults)}",
        (done.returncode, again.returncode) == (5, 0) and bool(errors) and plain and finished > 0
        and not partial and not faults and _TRACEBACK not in done.stderr,
    )  # fmt: skip


def read_only(ground: Ground) -> Row:
    """Write to a folder that cannot be written to."""
    must = "one line before any work, code 1, nothing written"
    out = ground.new_folder()
    with small_disk(out, 1 << 20) as is_mounted:
        if is_mounted:
            subprocess.run(["mount", "-o", "remount,ro", out], check=True)
        elif os.geteuid() != 0:
            out.chmod(0o555)
        else:
            return Row(must, "root may write everywhere, and nothing can be mounted", None)
        done = ground.run(out)
        found = len(contents(out))
        if not is_mounted:
            out.chmod(0o755)
    said = done.stderr.strip().replace(str(ground.folder), "FOLDER")
    return Row(
        must, f"{said}; code {done.returncode}, {found} files",
        one_line(done, "cannot write") and done.returncode == 1 and not found,
    )  # fmt: skip


def damaged_weights(ground: Ground) -> Row:
    """Flip one bit of each network, cut each off, and cut off the manifest."""
    weights = ground.folder / "weights"
    shutil.copytree(BUNDLED_WEIGHTS, weights, ignore=shutil.ignore_patterns("*.safetensors"))
    good = tried = 0
    for path in [*sorted(weights.glob("*.onnx")), weights / "manifest.json"]:
        content = path.read_bytes()
        flipped = bytearray(content)
        flipped[ground.rng.randrange(len(content))] ^= 1 << ground.rng.randrange(8)
        cut = content[: ground.rng.randrange(len(content))]
        for damaged in (bytes(flipped), cut) if path.suffix == ".onnx" else (cut,):
            path.write_bytes(damaged)
            out = ground.new_folder()
            done = ground.run(out, "--weights", str(weights))
            tried += 1
            good += one_line(done, str(path)) and done.returncode == 3 and not out.exists()
        path.write_bytes(content)
    return Row(
        "one line that names the file, code 3, nothing written",
        f"{good} of {tried} damaged files, a bit flipped or cut off at a random place",
        good == tried,
    )


def bombs(ground: Ground) -> Row:
    """Recover a PNG of 100 megapixels of one colour, and one of 400."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    outcomes = []
    for side_px, mode in ((_BOMB_SIDE_PX, "RGB"), (_BEYOND_SIDE_PX, "L")):
        path = ground.folder / f"{side_px}.png"
        Image.new(mode, (side_px, side_px), 99 if mode == "L" else (90, 100, 110)).save(path)
        command = [sys.executable, "-m", "deocclude", "run", str(path), "-o", str(ground.new_folder())]
        with tempfile.TemporaryFile() as said:
            process = subprocess.Popen(command, stdout=said, stderr=said)
            _, status, usage = os.wait4(process.pid, 0)
            said.seek(0)
            lines = said.read().decode().strip().splitlines()
        outcomes.append(
            (os.waitstatus_to_exitcode(status), usage.ru_maxrss // 1024, path.stat().st_size // 1024, lines)
        )
        path.unlink()
    Image.MAX_IMAGE_PIXELS = limit
    (code, peak_mb, kb, lines), (code_beyond, peak_beyond_mb, kb_beyond, beyond) = outcomes
    return Row(
        f"100 megapixels: done, at most {_BOMB_LIMIT_MB} MB; 400: one line, code 1, at most {_REFUSAL_LIMIT_MB} MB",
        f"100 ({kb} kB on disk): code {code}, peak {peak_mb} MB; 400 ({kb_beyond} kB): code {code_beyond}, peak "
        f"{peak_beyond_mb} MB, {len(beyond)} line",
        code == 0 and len(lines) == 1 and peak_mb <= _BOMB_LIMIT_MB and code_beyond == 1 and len(beyond) == 1
        and "megapixels" in beyond[0] and peak_beyond_mb <= _REFUSAL_LIMIT_MB,
    )  # fmt: skip


def clock_jump(ground: Ground) -> Row:
    """Run with files of 1970 and of 2100, and with the clock itself set back and forth where libfaketime is there."""
    photos = ground.folder / "times"
    shutil.copytree(ground.photos, photos)
    for number, path in enumerate(sorted(photos.iterdir())):
        stamp = 0 if number % 2 else 4_102_444_800
        os.utime(path, (stamp, stamp))
    out = ground.new_folder()
    first = ground.run(out, photos=photos)
    for path in out.iterdir():
        os.utime(path, (4_102_444_800, 4_102_444_800))
    second = ground.run(out, photos=photos)
    faults = ground.faults_of(out)
    skipped = second.stderr.count("already done")
    holds, seen = first.returncode == second.returncode == 0 and skipped == PHOTOS and not faults, "files alone"
    if library := next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None):
        out = ground.new_folder()
        codes = []
        for year in ("1970", "2100", "1999"):
            clock = {
                "LD_PRELOAD": str(library),
                "FAKETIME": f"@{year}-06-30 23:59:58",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            }
            if subprocess.check_output(["date", "+%Y"], env=clock, text=True).strip() != year:
                raise RuntimeError("libfaketime does not set the clock")
            done = ground.run(out, environment=clock)
            codes.append(done.returncode)
        skipped += done.stderr.count("already done")
        faults += ground.faults_of(out)
        holds = holds and codes == [0, 0, 0] and skipped == 2 * PHOTOS and not faults
        seen = "files, and the clock in 1970, 2100 and 1999 by libfaketime"
    return Row(
        "every output equals the undisturbed run's, a second run finds all of them done",
        f"{seen}; {skipped} skipped; {_told(faults)}",
        holds,
    )


def two_runs(ground: Ground, rounds: int = 5) -> Row:
    """Begin two runs into one folder at the same moment."""
    faults: list[str] = []
    codes: list[int] = []
    for turn in range(rounds):
        out = ground.new_folder()
        processes = [ground.start(out) for _ in range(2)]
        codes += [process.wait() for process in processes]
        faults += [f"round {turn}: {fault}" for fault in ground.faults_of(out)]
    return Row(
        "both end with 0, every output equals the undisturbed run's, no other file is there",
        f"{rounds} rounds, {codes.count(0)} of {len(codes)} runs ended with 0; {_told(faults)}",
        not any(codes) and not faults,
    )


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[bool]:
    """A folder that is a disk of so many bytes in memory; False where nothing can be mounted, and it is a folder."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder]
    is_mounted = (
        shutil.which("mount") is not None and subprocess.run(command, capture_output=True, check=False).returncode == 0
    )
    try:
        yield is_mounted
    finally:
        if is_mounted:
            subprocess.run(["umount", folder], check=True)


def _files(folder: Path) -> int:
    """Number of files of a folder, temporary ones too."""
    try:
        return len(os.listdir(folder))
    except FileNotFoundError:
        return 0


def _told(faults: Sequence[str]) -> str:
    return f"{len(faults)} files differ" + (f" ({faults[0]})" if faults else "")


def main() -> int:
    """Print the table.

    Returns:
        The exit code: 1 where a row does not hold.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=50)
    rows: dict[str, Callable[[Ground], Row]] = {
        "kill -9": lambda ground: kills(ground, arguments.kills), "full disk": full_disk, "read-only folder": read_only,
        "damaged weights": damaged_weights, "bombs": bombs, "clock jump": clock_jump, "two runs at once": two_runs,
    }  # fmt: skip
    parser.add_argument("--only", nargs="*", choices=rows, default=rows)
    arguments = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory() as temporary:
        ground = Ground(Path(temporary), Random(arguments.seed))
        print("| fault | must hold | seen | holds |\n|---|---|---|---|")
        for name in arguments.only:
            row = rows[name](ground)
            verdict = {True: "yes", False: "FAILS", None: "not tried"}[row.holds]
            print(f"| {name} | {row.must} | {row.seen} | {verdict} |", flush=True)
            failed |= row.holds is False
    print("| killed Ray worker | | tested in tests/scale | |")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
