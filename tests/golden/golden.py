"""Golden hashes: what the pipeline, evaluation, training data and export give, bit for bit.

`make golden` compares with golden.json and fails when anything differs; `make golden-record` writes the file anew.
Floating-point results depend on the processor: on another machine record on the commit before a change, then compare.
With a data folder (`--data DIR`, docs/data.md) the training samples of the real sources are compared too.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import io
import json
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "helpers"))
RECORD = HERE / "golden.json"
SAMPLES = 500
REAL_SOURCES = ("ccp", "cutouts", "full", "upper", "voc", "coco", "pelota", "teachers", "small")


class Digest:
    """SHA-256 over arrays, texts and bytes; shape and type count."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, *values: Any) -> Digest:
        for value in values:
            if isinstance(value, np.ndarray):
                self._hash.update(f"{value.dtype}{value.shape}".encode())
                self._hash.update(np.ascontiguousarray(value).tobytes())
            elif isinstance(value, bytes):
                self._hash.update(value)
            else:
                self._hash.update(json.dumps(value, sort_keys=True, default=str).encode())
        return self

    def __str__(self) -> str:
        return self._hash.hexdigest()[:16]


def of_runs() -> Iterator[tuple[str, str]]:
    """The bundled photos by mask, by box, alone, and beyond the photo's edge: content, rgba, JSON and layers."""
    import deocclude
    from deocclude.evaluation.demo_scene import make_crossing, make_scene

    pipe = deocclude.load(device="cpu")
    portrait, (crossing, scenes) = make_scene(), make_crossing()
    x0, y0, x1, y1 = (int(v) for v in _box(portrait.visible))
    runs = {
        "portrait-mask": (portrait.photo, {"masks": [portrait.visible]}),
        "portrait-box": (portrait.photo, {"boxes_xyxy": [(x0, y0, x1, y1)]}),
        "portrait-alone": (portrait.photo, {}),
        "portrait-uncrop": (portrait.photo, {"masks": [portrait.visible], "uncrop": True}),
        "portrait-never": (portrait.photo, {"complete": "never"}),
        "crossing-masks": (crossing, {"masks": [scene.visible for scene in scenes]}),
        "crossing-alone": (crossing, {}),
        "crossing-largest": (crossing, {"person": "largest", "complete": "always"}),
    }
    for name, (photo, request) in runs.items():
        result = pipe(photo, **request)
        digest = Digest().add(result.content, result.overlay(), len(result.people), [list(o) for o in _order(result)])
        for person in result.people:
            digest.add(person.rgba, person.amodal_mask, person.visible_mask, person.amodal_prob, person.parsing)
            digest.add(person.id, person.score, person.hidden_probability, person.hidden_fraction)
        digest.add(result.to_coco("photo.jpg"))
        with tempfile.TemporaryDirectory() as folder:
            (path,) = result.save(folder, what=["layers"])
            with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as layers:
                digest.add(*(part for member in layers.namelist() for part in (member, layers.read(member))))
        yield f"run:{name}", str(digest)
    recovered = pipe.recover(portrait.photo, portrait.visible, portrait.whole)
    yield "recover:portrait", str(Digest().add(recovered))


def _order(result: Any) -> Iterator[tuple[Any, ...]]:
    return (tuple(vars(one).values()) if hasattr(one, "__dict__") else tuple(one) for one in result.order)


def _box(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


def of_evaluation(root: Path) -> Iterator[tuple[str, str]]:
    """A set drawn by code and what `eval` says of it, without times, versions and paths."""
    from typer.testing import CliRunner

    from deocclude.cli.app import app

    with tempfile.TemporaryDirectory() as folder:
        frozen, out = Path(folder) / "val", Path(folder) / "out"
        for words in (
            ("data", "build", "--data", str(root), "-o", str(frozen), "--seed", "5", "-q"),
            ("eval", str(frozen), "-o", str(out), "--device", "cpu", "-q"),
        ):
            done = CliRunner().invoke(app, list(words))
            if done.exit_code:
                raise RuntimeError(f"{' '.join(words)}: {done.output}")
        pictures = sorted(path for path in frozen.rglob("*.png"))
        yield "evalset:pictures", str(Digest().add(*(_pixels(path) for path in pictures)))
        yield "eval", str(Digest().add(_measured(json.loads((out / "eval.json").read_text()))))


def _pixels(path: Path) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(path))


def _measured(content: Any) -> list[float]:
    """Every number of a report in the order of the file, whatever its keys are called; no times."""
    if isinstance(content, dict):
        return [n for key, value in content.items() if not _changes(key) for n in _measured(value)]
    if isinstance(content, list):
        return [n for value in content for n in _measured(value)]
    return [content] if isinstance(content, (int, float)) and not isinstance(content, bool) else []


def _changes(key: str) -> bool:
    return any(word in key for word in ("second", "time", "version", "date", "speed"))


def of_samples(root: Path, sources: tuple[str, ...], label: str, size_px: int, count: int) -> Iterator[tuple[str, str]]:
    """Training samples of each source alone."""
    from deocclude.data.samples.person_samples import CropConfig, SampleStream
    from deocclude.data.sources.library import SourceWeights, load_library
    from deocclude.data.synthesis.config import SynthesisConfig

    none = dict.fromkeys(("ccp", "cutouts", "full", "upper"), 0.0)
    for source in sources:
        library = load_library(root, "train", SourceWeights(**none | {source: 1.0}))
        stream = SampleStream(library, SynthesisConfig(), CropConfig(p_subtract_neighbor=0.1), seed=7)
        digest = Digest()
        for number in range(count // 10):
            batch = stream.batch(number, 10, size_px)
            digest.add(*(batch[key].numpy() for key in sorted(batch)))
        yield f"samples:{label}{source}", str(digest)


def of_detector_samples(root: Path, label: str, size_px: int, count: int) -> Iterator[tuple[str, str]]:
    """Training samples of the people detector and of real people."""
    from deocclude.data.samples.detector_stream import PeopleStream
    from deocclude.data.samples.person_samples import CropConfig
    from deocclude.data.samples.real_people import RealPeople
    from deocclude.data.sources.library import SourceWeights, load_library
    from deocclude.data.sources.real_photos import read_wild
    from deocclude.data.synthesis.multi_person import AssetPool, CrowdConfig

    library, wild = load_library(root, "train", SourceWeights()), list(read_wild(root / "wild", "train"))
    stream = PeopleStream(AssetPool.of(library), wild, CrowdConfig(), 0.4, seed=7)
    digest = Digest()
    for number in range(count // 10):
        batch = stream.batch(number, 10, size_px)
        digest.add(*(batch[key].numpy() for key in sorted(batch) if hasattr(batch[key], "numpy")))
    yield f"samples:{label}detector", str(digest)
    real, rng, digest = RealPeople(wild), np.random.default_rng(7), Digest()
    for _ in range(count // 5):
        sample = real.draw(rng, CropConfig(), size_px)
        digest.add(*(sample[key] for key in sorted(sample)))
    yield f"samples:{label}real-people", str(digest)


def of_exports() -> Iterator[tuple[str, str]]:
    """Tiny networks of fixed weights, exported: operators, stored numbers and one answer."""
    import onnx
    import onnxruntime
    import torch
    from onnx import numpy_helper

    from deocclude.export.to_onnx import example_inputs, export_onnx
    from deocclude.models.box_segmenter import BoxSegmenter, BoxSegmenterConfig
    from deocclude.models.content_recovery import ContentRecoveryConfig, ContentRecoveryNet
    from deocclude.models.mask_completion import MaskCompletionConfig, MaskCompletionNet
    from deocclude.models.people_detector import PeopleDetector, PeopleDetectorConfig

    tiny: dict[str, Callable[[], torch.nn.Module]] = {
        "mask_completion": lambda: MaskCompletionNet(
            MaskCompletionConfig(stem_width=8, widths=(8, 8), head_width=8, templates=4, template_channels=8)
        ),
        "content_recovery": lambda: ContentRecoveryNet(
            ContentRecoveryConfig(widths=(8,) * 5, kernels=(3,) * 5, key_channels=4)
        ),
        "mask_box": lambda: BoxSegmenter(BoxSegmenterConfig()),
        "people_detector": lambda: PeopleDetector(PeopleDetectorConfig.base()),
    }
    for name, make in tiny.items():
        torch.manual_seed(0)
        network = make().eval()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "network.onnx"
            export_onnx(network, path)
            graph = onnx.load(path).graph
            digest = Digest().add([node.op_type for node in graph.node])
            digest.add(*sorted(numpy_helper.to_array(stored).tobytes() for stored in graph.initializer))
            inputs = {key: value.numpy() for key, value in example_inputs(network, 1, (256, 256)).items()}
            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            digest.add(*session.run(None, inputs))
        yield f"export:{name}", str(digest)


def of_help() -> Iterator[tuple[str, str]]:
    """The options of every verb, without their prose."""
    from deocclude.cli.app import VERBS, _as_command

    def options(command: Any) -> list[Any]:
        own = sorted(opt for param in command.params for opt in (*param.opts, *param.secondary_opts))
        return [own, {name: options(one) for name, one in sorted(getattr(command, "commands", {}).items())}]

    for verb in VERBS:
        module = importlib.import_module(f"deocclude.cli.{verb}")
        yield f"options:{verb}", str(Digest().add(options(_as_command(module.app, verb))))


def measure(data: Path | None, only: str) -> dict[str, str]:
    """Every hash by its name."""
    from datafolder import draw_data_folder

    hashes: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        root = draw_data_folder(Path(folder) / "data")
        parts: dict[str, Callable[[], Iterator[tuple[str, str]]]] = {
            "options": of_help,
            "run": of_runs,
            "eval": lambda: of_evaluation(root),
            "samples": lambda: of_samples(root, ("ccp", "cutouts", "full", "upper"), "", 64, SAMPLES),
            "detector": lambda: of_detector_samples(root, "", 128, SAMPLES),
            "export": of_exports,
        }
        if data is not None:
            parts["real"] = lambda: of_samples(data, REAL_SOURCES, "real-", 64, SAMPLES)
            parts["real-detector"] = lambda: of_detector_samples(data, "real-", 128, SAMPLES)
        for part, of in parts.items():
            if not only or part in only.split(","):
                hashes |= dict(of())
    return hashes


def main() -> int:
    """Record, or compare and say what differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true", help="write golden.json anew")
    parser.add_argument("--data", type=Path, help="a data folder whose sources are compared too")
    parser.add_argument("--only", default="", help="some parts alone, by commas: options,run,eval,samples,...")
    arguments = parser.parse_args()
    hashes = measure(arguments.data, arguments.only)
    known = json.loads(RECORD.read_text()) if RECORD.is_file() else {}
    if arguments.record:
        RECORD.write_text(json.dumps(known | hashes, indent=1, sort_keys=True) + "\n")
        print(f"{RECORD}: {len(hashes)} hashes recorded")
        return 0
    wrong = [name for name, value in hashes.items() if known.get(name) != value]
    for name in wrong:
        print(f"differs: {name} ({known.get(name, 'not recorded')} -> {hashes[name]})")
    print(f"{len(hashes) - len(wrong)} of {len(hashes)} golden hashes hold, {len(known)} are recorded")
    return bool(wrong)


if __name__ == "__main__":
    raise SystemExit(main())
