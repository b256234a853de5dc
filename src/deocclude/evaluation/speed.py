"""Speed budgets: networks timed alternately, and `run` in a separate process.

Seconds depend on the machine. The shipped pair of networks is therefore timed against the paper-size pair on the same
runtime, alternating in every round. Results are medians, because other load only adds time.
"""

from __future__ import annotations

import hashlib
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image, ImageDraw

from deocclude.inference.runtime import NETWORKS, ModelInfo, NetworkFiles, open_networks
from deocclude.types import PARSING_NAMES

K = TypeVar("K", bound=Hashable)

CROP_PX = 256
PARSING_STRIDE = 4  # crop pixels per cell of a parsing
SPEED_UP_BUDGET = 20.0  # at least: ratio to networks of the paper's sizes
WARM_SECONDS_BUDGET = 0.5  # at most: one person, networks open
PEAK_MB_BUDGET = 600.0  # at most: memory of the process
PROCESS_SECONDS_BUDGET = 1.5  # at most: one photo as a whole process
FIND_MS_BUDGET = 60.0  # at most: detection
TEN_PEOPLE_SECONDS_BUDGET = 3.0  # at most: a photo of ten people


@dataclass(frozen=True)
class PairTimes:
    """Median seconds of stage 1 and stage 2 of two models, on one 256 x 256 crop, batch 1.

    Attributes:
        base_s: seconds by network, of the shipped pair.
        paper_s: seconds by network, of the paper-size pair.
        rounds: timings of each network.
        threads: of the CPU.
    """

    base_s: Mapping[str, float]
    paper_s: Mapping[str, float]
    rounds: int
    threads: int

    @property
    def speed_up(self) -> float:
        """Seconds of the paper-size pair divided by seconds of the base pair."""
        return sum(self.paper_s.values()) / sum(self.base_s.values())


@dataclass(frozen=True)
class RunCost:
    """Cost of one photo with one mask.

    Attributes:
        megapixels: size of the photo.
        load_s: seconds of opening the pipeline, with the package imported.
        first_s: seconds of the first call, with the photo in memory.
        warm_s: seconds of the second call.
        peak_mb: peak memory of the process, in units of 2**20 bytes.
    """

    megapixels: float
    load_s: float
    first_s: float
    warm_s: float
    peak_mb: float


@dataclass(frozen=True)
class CrowdCost:
    """Warm seconds of detection in a 1-megapixel photo (None without a detector), and of completing ten people."""

    find_s: float | None
    ten_people_s: float


@dataclass(frozen=True)
class BenchReport:
    """Results of `deocclude bench`; `pairs` is None without the paper-size pair."""

    pairs: PairTimes | None
    big_photo: RunCost
    process_s: float
    crowd: CrowdCost

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = asdict(self)
        if self.pairs is not None:
            values["pairs"]["speed_up"] = self.pairs.speed_up
        return values

    def as_markdown(self) -> str:
        """A Markdown table of measurements, budgets, and whether each is within budget."""
        rows: list[tuple[str, str, str, bool | None]] = []
        if self.pairs is not None:
            for name in NETWORKS:
                base, paper = self.pairs.base_s[name], self.pairs.paper_s[name]
                measured = f"{base * 1000:.1f} ms against {paper * 1000:.1f} ms: {paper / base:.1f}x"
                rows.append((f"{name}, base against paper size", measured, "", None))
            speed_up = self.pairs.speed_up
            rows.append(
                (
                    "both networks, one person",
                    f"{speed_up:.1f}x",
                    f"at least {SPEED_UP_BUDGET:.0f}x",
                    speed_up >= SPEED_UP_BUDGET,
                )
            )
        big = self.big_photo
        photo = f"{big.megapixels:.0f}-megapixel photo, one mask"
        rows += [
            (
                f"{photo}, warm",
                f"{big.warm_s:.2f} s",
                f"under {WARM_SECONDS_BUDGET} s",
                big.warm_s < WARM_SECONDS_BUDGET,
            ),
            (f"{photo}, first call", f"{big.first_s:.2f} s", "", None),
            (
                f"{photo}, peak memory",
                f"{big.peak_mb:.0f} MB",
                f"under {PEAK_MB_BUDGET:.0f} MB",
                big.peak_mb < PEAK_MB_BUDGET,
            ),
            (
                "`deocclude run`, whole process, 1 megapixel",
                f"{self.process_s:.2f} s",
                f"under {PROCESS_SECONDS_BUDGET} s",
                self.process_s < PROCESS_SECONDS_BUDGET,
            ),
        ]
        if self.crowd.find_s is not None:
            found = self.crowd.find_s * 1000
            budget = f"under {FIND_MS_BUDGET:.0f} ms"
            rows.append(("detection, 1 megapixel, warm", f"{found:.0f} ms", budget, found < FIND_MS_BUDGET))
        ten, budget = self.crowd.ten_people_s, f"under {TEN_PEOPLE_SECONDS_BUDGET:.0f} s"
        rows.append(("ten people, 1 megapixel, warm", f"{ten:.2f} s", budget, ten < TEN_PEOPLE_SECONDS_BUDGET))
        marks = {True: "yes", False: "no", None: ""}
        lines = ["| what | measured | budget | within budget |", "|---|---|---|---|"]
        lines += [f"| {what} | {measured} | {budget} | {marks[within]} |" for what, measured, budget, within in rows]
        return "\n".join(lines)


# --- base networks against paper-size networks -----------------------------------------------------------------------


_PAUSE_S = 0.2  # before each timing


def time_in_turn(tasks: Mapping[K, Callable[[], object]], rounds: int) -> dict[K, float]:
    """Median seconds of each task, timed once per round, so that all tasks run under the same load.

    A pause and an untimed call precede each timing: threads of the previous task spin for a while after its end and
    would slow down a short task.

    Args:
        tasks: functions by name.
        rounds: timings of each.
    """
    seconds: dict[K, list[float]] = {name: [] for name in tasks}
    for _ in range(rounds):
        for name, task in tasks.items():
            time.sleep(_PAUSE_S)
            task()
            started = time.perf_counter()
            task()
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def export_paper_pair(folder: Path) -> ModelInfo:
    """Write the randomly initialised paper-size networks as ONNX files to `folder`. Needs the extra [train]."""
    from deocclude.export.to_onnx import export_onnx
    from deocclude.models.content_recovery import ContentRecoveryConfig, ContentRecoveryNet
    from deocclude.models.mask_completion import MaskCompletionConfig, MaskCompletionNet

    nets = {
        "mask_completion": MaskCompletionNet(MaskCompletionConfig.paper()),
        "content_recovery": ContentRecoveryNet(ContentRecoveryConfig.paper()),
    }
    files = {}
    for name, net in nets.items():
        path = folder / f"{name}_paper.onnx"
        export_onnx(net.eval(), path, sizes="fixed")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        files[name] = NetworkFiles(name, path, digest, {"parameters": sum(p.numel() for p in net.parameters())})
    return ModelInfo("paper", CROP_PX, "", "randomly initialised, for timing only", files)


def time_pairs(base: ModelInfo, paper: ModelInfo, *, rounds: int, threads: int) -> PairTimes:
    """Time the networks of two models alternately on the CPU, opened as in `run`."""
    tasks = {}
    for pair, model in (("base", base), ("paper", paper)):
        networks, _ = open_networks(model, "cpu", threads)
        for name in NETWORKS:
            tasks[pair, name] = partial(networks[name], **make_feeds(name, model.input_size))
    medians = time_in_turn(tasks, rounds)
    base_s, paper_s = ({name: medians[pair, name] for name in NETWORKS} for pair in ("base", "paper"))
    return PairTimes(base_s, paper_s, rounds, threads)


def make_feeds(network: str, size_px: int = CROP_PX) -> dict[str, np.ndarray]:
    """Inputs of one person's crop for a network: noise as photo, a box as body, its lower half occluded."""
    rng = np.random.default_rng(0)
    image = rng.random((1, 3, size_px, size_px), dtype=np.float32)
    amodal = np.zeros((1, 1, size_px, size_px), np.float32)
    amodal[..., size_px // 8 : -size_px // 8, size_px // 3 : -size_px // 3] = 1
    visible = amodal.copy()
    visible[..., size_px // 2 :, :] = 0
    if network == "mask_completion":
        return {"image": image, "initial": visible}
    small = size_px // PARSING_STRIDE
    parsing = rng.random((1, len(PARSING_NAMES), small, small), dtype=np.float32)
    parsing /= parsing.sum(axis=1, keepdims=True)
    return {
        "image": image,
        "visible": visible,
        "amodal": amodal,
        "visible_parsing": parsing,
        "amodal_parsing": parsing,
    }


# --- whole runs of the pipeline --------------------------------------------------------------------------------------


def write_synthetic_photo(folder: Path, width: int, height: int) -> tuple[Path, Path]:
    """Write a synthetic photo of a figure behind a board, and the figure's visible mask. Returns both paths."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(60, 200, (24, 32, 3), dtype=np.uint8))
    photo = coarse.resize((width, height), Image.Resampling.BICUBIC)
    mask = Image.new("L", (width, height))
    for picture, skin, cloth in ((photo, (205, 160, 130), (60, 80, 150)), (mask, 255, 255)):
        draw = ImageDraw.Draw(picture)
        draw.ellipse([width * 0.45, height * 0.1, width * 0.55, height * 0.25], fill=skin)
        draw.rectangle([width * 0.4, height * 0.25, width * 0.6, height * 0.9], fill=cloth)
    board = [width * 0.3, height * 0.55, width * 0.55, height]
    ImageDraw.Draw(photo).rectangle(board, fill=(150, 110, 60))
    ImageDraw.Draw(mask).rectangle(board, fill=0)
    paths = folder / f"photo_{width}x{height}.jpg", folder / f"mask_{width}x{height}.png"
    photo.save(paths[0], quality=90)
    mask.save(paths[1])
    return paths


def measure_big_photo(folder: Path, weights_dir: Path | None, model: str) -> RunCost:
    """Recover a 12-megapixel photo twice in a separate process, and read the peak memory of that process."""
    photo, mask = write_synthetic_photo(folder, 4000, 3000)
    # a separate process, so that the memory of this one does not count
    command = [sys.executable, "-m", "deocclude.evaluation.speed", str(photo), str(mask), str(weights_dir or ""), model]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return RunCost(megapixels=12.0, **json.loads(done.stdout))


def measure_process(folder: Path, weights_dir: Path | None, model: str, rounds: int = 5) -> float:
    """Median seconds of `deocclude run photo.jpg --mask m.png` as a whole process, on a 1-megapixel photo."""
    photo, mask = write_synthetic_photo(folder, 1152, 864)
    command = [sys.executable, "-m", "deocclude", "run", str(photo), "--mask", str(mask), "-m", model, "--overwrite"]
    if weights_dir is not None:
        command += ["--weights", str(weights_dir)]

    def run_command() -> None:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    return time_in_turn({"run": run_command}, rounds)["run"]


def measure_crowd(folder: Path, weights_dir: Path | None, model: str, rounds: int = 5) -> CrowdCost:
    """Median seconds of detection, and of recovering ten people from their boxes."""
    from deocclude.inference.runtime import find_model
    from deocclude.io.images import load_image
    from deocclude.people.detector import PeopleFinder
    from deocclude.pipeline import load

    pixels = load_image(write_synthetic_photo(folder, 1152, 864)[0])
    boxes = [(20 + 110 * i, 100, 120 + 110 * i, 760) for i in range(10)]
    pipe = load(model, device="cpu", weights_dir=weights_dir)
    tasks: dict[str, Callable[[], object]] = {"ten": lambda: pipe(pixels, boxes_xyxy=boxes, complete="always")}
    info = find_model(model, weights_dir)
    if "people_detector" in info.networks:
        networks, _ = open_networks(info, "cpu")
        find = PeopleFinder(networks["people_detector"], info.settings.detector)
        tasks["find"] = lambda: find(pixels)
    seconds = time_in_turn(tasks, rounds)
    return CrowdCost(seconds.get("find"), seconds["ten"])


def _peak_mb() -> float:
    """Peak resident memory of this process, in units of 2**20 bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        # on Linux ru_maxrss includes the parent's peak across exec; VmHWM does not
        lines = (line.split() for line in status.read_text().splitlines())
        return next(int(words[1]) for words in lines if words[0] == "VmHWM:") / 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def _cost_in_this_process(photo: str, mask: str, weights_dir: str, model: str) -> dict[str, float]:
    """The values of `RunCost` but `megapixels`. An empty `weights_dir` is the bundled one."""
    import deocclude
    from deocclude.io.images import load_image, load_mask

    started = time.perf_counter()
    pipe = deocclude.load(model, weights_dir=weights_dir or None)
    loaded = time.perf_counter()
    pixels, person = load_image(photo), load_mask(mask)
    seconds = []
    for _ in range(2):
        begun = time.perf_counter()
        result = pipe(pixels, masks=[person])
        if result.content.shape != pixels.shape:
            raise RuntimeError(f"expected a result of the photo's size {pixels.shape}, got {result.content.shape}")
        seconds.append(time.perf_counter() - begun)
    return {"load_s": loaded - started, "first_s": seconds[0], "warm_s": seconds[1], "peak_mb": _peak_mb()}


if __name__ == "__main__":
    print(json.dumps(_cost_in_this_process(*sys.argv[1:5])))
