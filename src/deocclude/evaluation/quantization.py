"""Make networks of a weights folder int8, with ranges of activations measured on people of evaluation sets."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from deocclude.data.evalsets.persons import EvalRecord, EvalSet
from deocclude.errors import UsageError
from deocclude.evaluation.prompts import InitialPrompt
from deocclude.export.int8 import quantize_convolutions
from deocclude.imaging.arrays import Array, Float32
from deocclude.inference.mask_completion import MaskCompletion
from deocclude.inference.runtime import BUNDLED_WEIGHTS, MANIFEST_NAME, Network, find_model, open_networks
from deocclude.io.files import save_text
from deocclude.io.request_stamp import file_digest

QUANTISED = ("mask_completion", "mask_box")  # not stage 2: 8 bits would show as bands in its colours
_KINDS = ("exact", "degraded", "box")  # of initial masks
_PICTURES = 60  # on which ranges are measured
_EXAMPLES = 150  # a network is quantised with 150 to 299 of the inputs that it got, or with all if they are fewer


class _Recorder(Network):
    """A network that keeps its inputs, as examples for the quantisation."""

    def __init__(self, network: Network) -> None:
        super().__init__(lambda: network._session, network.input_size, network.fine_size)
        self.inputs: list[dict[str, Float32]] = []

    def select(self, names: Sequence[str], **inputs: Array) -> dict[str, Float32]:
        """Keep the inputs and run the network, see `Network.select`."""
        self.inputs.append({name: np.asarray(value, np.float32) for name, value in inputs.items()})
        return super().select(names, **inputs)


def quantize(
    sets: Sequence[EvalSet], *, model: str = "base", weights_dir: Path | None = None,
    on_person: Callable[[int, int], None] | None = None,
) -> dict[str, int]:  # fmt: skip
    """Make the networks of QUANTISED int8, in place; the manifest's rows then say so.

    Ranges of activations are measured on up to 60 pictures of the sets, completed from exact masks, degraded masks and
    boxes. Calibrate the occlusion probability afterwards.

    Args:
        sets: other sets than those of reported figures.
        model: name in the manifest.
        weights_dir: folder of the manifest; None for the bundled one.
        on_person: called with (done, all) after each person.

    Returns:
        How many convolutions of each network are int8.

    Raises:
        UsageError: an unknown model, no people, or a network that is int8 already or has no convolution large enough.
        WeightsError: the weights cannot be read, or the model lacks a network.
        InputError: data that cannot be read.
    """
    info = find_model(model, weights_dir)
    names = [name for name in QUANTISED if name in info.networks]
    for name in names:
        if "int8" in info.networks[name].info:
            raise UsageError(f"{name} of model {model} is int8 already: export the network anew first")
    samples = _evenly_chosen(sets)
    if not samples:
        raise UsageError("the sets hold no people: ranges of activations cannot be measured")
    networks, _ = open_networks(info, "cpu")
    recorders = {name: _Recorder(networks[name]) for name in names}
    complete = MaskCompletion.of({**networks, **recorders}, info)
    for done, (eval_set, record) in enumerate(samples, start=1):
        sample = eval_set.load(record)
        for kind in _KINDS:
            if (mask := InitialPrompt.of(sample, kind, eval_set.seed).mask).any():
                complete(sample.photo, mask)
        if on_person is not None:
            on_person(done, len(samples))
    path = (weights_dir or BUNDLED_WEIGHTS) / MANIFEST_NAME
    manifest = json.loads(path.read_text(encoding="utf-8"))
    rows, converted = manifest["models"][model]["networks"], {}
    for name, recorder in recorders.items():
        onnx_path, step = info.networks[name].onnx_path, max(1, len(recorder.inputs) // _EXAMPLES)
        converted[name] = quantize_convolutions(onnx_path, onnx_path, recorder.inputs[::step])
        rows[name]["sha256"]["onnx"] = file_digest(onnx_path)
        rows[name]["int8"] = {"convolutions": converted[name], "ranges_of": [eval_set.name for eval_set in sets]}
        # after each network: if the next one fails, the manifest still has the digest of this one's new file
        save_text(json.dumps(manifest, indent=2) + "\n", path)
    return converted


def _evenly_chosen(sets: Sequence[EvalSet]) -> list[tuple[EvalSet, EvalRecord]]:
    """About _PICTURES pictures at most, as many of each set: every n-th of its records from the first on."""
    each = max(1, _PICTURES // max(1, len(sets)))
    return [
        (eval_set, record) for eval_set in sets for record in eval_set.records[:: max(1, len(eval_set) // each)][:each]
    ]
