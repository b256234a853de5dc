"""Convert a state dict with the layout of the published reference definitions, as far as shapes agree.

The reference's stage 1 is a pair of U-Nets at full resolution, its stage 2 a partial-convolution U-Net with parsing
guided attention. The networks here differ in strides, decoders, heads and attention, so that the result is an
initialisation for training and not a working model. `MASK` and `CONTENT` map the layers, and the report lists the
converted ones. No weights of the reference are known to be published.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from deocclude.errors import UsageError, WeightsError
from deocclude.models.blocks import count_parameters
from deocclude.models.content_recovery import ContentRecoveryConfig, ContentRecoveryNet
from deocclude.models.mask_completion import MaskCompletionConfig, MaskCompletionNet

Make = Callable[..., Tensor]
"""Makes a tensor of this project's network from reference tensors."""


@dataclass(frozen=True)
class Layer:
    """One layer: name of each own tensor -> conversion function and names of its reference tensors.

    A layer is converted as a whole or not at all: statistics of a batch norm are meaningless after another convolution.
    """

    tensors: Mapping[str, tuple[Make, tuple[str, ...]]]


def _unchanged(tensor: Tensor) -> Tensor:
    return tensor


def _per_window(weight: Tensor) -> Tensor:
    """Rescale: the reference divides by the number of valid inputs in the window, PartialConv by their fraction."""
    return weight / weight[0].numel()


def _pointwise(weight: Tensor) -> Tensor:
    """The weight of a linear layer as that of a 1x1 convolution."""
    return weight[:, :, None, None]


def _zero_bias(weight: Tensor) -> Tensor:
    """A bias for a layer of the reference that has none; weight: of that layer, (c_out, ...)."""
    return weight.new_zeros(weight.shape[0])


def _per_root(weight: Tensor) -> Tensor:
    """Rescale: TypicalPoses, unlike the reference, multiplies its K weighted masks by the root of K."""
    return weight / weight.shape[1] ** 0.5


def _conv_with_bias(own: str, reference: str, make: Make = _unchanged) -> Layer:
    """A convolution with a bias."""
    return Layer(
        {
            f"{own}.weight": (make, (f"{reference}.weight",)),
            f"{own}.bias": (_unchanged, (f"{reference}.bias",)),
        }
    )


def _conv_with_norm(
    conv: str, norm: str, ref_conv: str, ref_norm: str, *, biased: bool, make: Make = _unchanged
) -> Layer:
    """A convolution without bias and its batch norm; a reference bias is folded into the running mean."""
    tensors: dict[str, tuple[Make, tuple[str, ...]]] = {f"{conv}.weight": (make, (f"{ref_conv}.weight",))}
    for name in ("weight", "bias", "running_var", "num_batches_tracked"):
        tensors[f"{norm}.{name}"] = (_unchanged, (f"{ref_norm}.{name}",))
    mean = f"{ref_norm}.running_mean"
    tensors[f"{norm}.running_mean"] = (torch.sub, (mean, f"{ref_conv}.bias")) if biased else (_unchanged, (mean,))
    return Layer(tensors)


def _residual_body(own: str, reference: str) -> list[Layer]:
    """The body of a residual block: convolution, norm, ReLU, convolution, norm."""
    return [
        _conv_with_norm(f"{own}.body.0.0", f"{own}.body.0.1", f"{reference}.0", f"{reference}.1", biased=True),
        _conv_with_norm(f"{own}.body.1", f"{own}.body.2", f"{reference}.3", f"{reference}.4", biased=True),
    ]


def _squeeze_excitation(own: str, reference: str) -> list[Layer]:
    """Squeeze and excitation; the reference has no biases."""
    return [
        Layer(
            {
                f"{own}.gate.{i}.weight": (_pointwise, (f"{reference}.fc.{j}.weight",)),
                f"{own}.gate.{i}.bias": (_zero_bias, (f"{reference}.fc.{j}.weight",)),
            }
        )
        for i, j in ((1, 0), (3, 2))
    ]


def _hourglass(own: str, suffix: str, levels: int = 3) -> list[Layer]:
    """Encoder and decoder of one hourglass; the reference starts at full resolution, the own one at 1/4."""
    layers = []
    for level in range(levels):
        layers += _residual_body(f"{own}.down.{level}", f"down{level + 2}{suffix}.mpconv.1.conv")
        layers += _residual_body(f"{own}.up.{level}.0", f"up{levels - level}{suffix}.conv.conv")
    return layers


def _head(own: str, mask: str) -> list[Layer]:
    """Mask and parsing head of one hourglass; mask: "modal" or "amodal", the reference's names."""
    return [
        _conv_with_bias(f"{own}.parsing", f"parsing_{mask}_conv"),
        *_squeeze_excitation(f"{own}.excite", f"se_{mask}"),
        Layer({f"{own}.parsing_feature.0.weight": (_unchanged, (f"parsing_{mask}_conv_pre.0.conv1.weight",))}),
        Layer({f"{own}.mix.0.0.weight": (_unchanged, (f"{mask}_conv.0.weight",))}),
        _conv_with_bias(f"{own}.mask.2", f"{mask}_conv.2"),
    ]


def _partial_conv(own: str, reference: str) -> Layer:
    """A partial convolution and its batch norm; the weights are rescaled, see `_per_window`."""
    names = f"{reference}.conv.input_conv", f"{reference}.bn"
    return _conv_with_norm(f"{own}.conv", f"{own}.norm", *names, biased=False, make=_per_window)


def _attention(own: str, reference: str) -> list[Layer]:
    """Attention; q of the reference reads the visible body, k the whole body."""
    pairs = {
        "to_parts": "modal_parsing_conv", "attention.seen": "q_conv", "attention.whole": "k_conv", "value": "v_conv",
    }  # fmt: skip
    return [
        *(_conv_with_bias(f"{own}.{mine}", f"{reference}.{other}") for mine, other in pairs.items()),
        *_squeeze_excitation(f"{own}.which", f"{reference}.selayer"),
        Layer({f"{own}.fuse.0.weight": (_unchanged, (f"{reference}.out_conv.weight",))}),
    ]


MASK: tuple[Layer, ...] = (
    _conv_with_norm("stem.0", "stem.1", "inc.conv.conv.0", "inc.conv.conv.1", biased=True),
    *_residual_body("enter", "down1.mpconv.1.conv"),
    *_hourglass("visible_hourglass", ""),
    *_head("visible_head", "modal"),
    _conv_with_norm("join.0", "join.1", "inc_hg2.conv.conv.0", "inc_hg2.conv.conv.1", biased=True),
    *_hourglass("amodal_hourglass", "_hg2"),
    *_head("amodal_head", "amodal"),
    _conv_with_bias("typical_poses.mix", "reweight_gate.anchor_conv", _per_root),
    Layer({"typical_poses.centres": (_unchanged, ("anchors",))}),
)
"""Layers of stage 1. Typical poses never agree: reference `anchors` are masks over the crop, own centres are pairs."""

CONTENT: tuple[Layer, ...] = (
    Layer({"encoder.0.conv.weight": (_per_window, ("enc_1.conv.input_conv.weight",))}),
    *(_partial_conv(f"encoder.{n - 1}", f"enc_{n}") for n in range(2, 8)),
    *(_partial_conv(f"decoder.{n - 2}", f"dec_{n}") for n in range(2, 8)),
    *(
        layer
        for side, short in (("encoder", "enc"), ("decoder", "dec"))
        for n in (3, 5)
        for layer in _attention(f"{side}_attention.{n}", f"{short}_{n}_att")
    ),
)
"""Layers of stage 2. Reference decoder levels are numbered by their input level, own ones by their output level."""

WIDTHS = ("file", "paper")  # where channel counts come from: the authors' file, or the paper's text
UNNEEDED = ".mask_conv.weight"  # frozen convolutions with ones, to count valid inputs
_STAGE1_KEY, _STAGE2_KEY = "inc.conv.conv.0.weight", "enc_1.conv.input_conv.weight"


@dataclass(frozen=True)
class ConversionReport:
    """Result of a conversion, for every tensor of the network and of the reference."""

    network: str
    taken: dict[str, tuple[str, ...]] = field(default_factory=dict)  # own tensor -> reference tensors
    # own tensor -> {"ours": shape, reference tensor: shape}
    differs: dict[str, dict[str, list[int]]] = field(default_factory=dict)
    missing_in_theirs: tuple[str, ...] = ()  # own tensors without a counterpart; randomly initialised
    missing_in_ours: tuple[str, ...] = ()  # reference tensors without a counterpart
    unneeded: tuple[str, ...] = ()  # constant reference tensors
    parameters_taken: int = 0
    parameters: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def summary(self) -> str:
        """One line."""
        return (
            f"{self.network}: {len(self.taken)} tensors converted, {self.parameters_taken / 1e6:.1f} M of "
            f"{self.parameters / 1e6:.1f} M parameters; {len(self.differs)} differ in shape, "
            f"{len(self.missing_in_theirs)} lack a counterpart; {len(self.missing_in_ours)} of the reference unused"
        )


def convert(
    state: Mapping[str, Tensor], widths: str = "file"
) -> tuple[MaskCompletionNet | ContentRecoveryNet, ConversionReport]:
    """Initialise a network from a state dict in the reference's layout.

    Args:
        state: tensors by name; the prefixes `module.` and `model.` of wrappers are removed.
        widths: "file", the `paper` network with the widths of the state dict, or "paper", the `paper` network.

    Returns:
        The network, and a report of the converted tensors.

    Raises:
        WeightsError: another layout.
        UsageError: other `widths`.
    """
    if widths not in WIDTHS:
        raise UsageError(f"widths must be {' or '.join(WIDTHS)}, got {widths!r}")
    state = {_without_prefixes(name): tensor for name, tensor in state.items()}
    if _STAGE1_KEY in state:
        network, layers = MaskCompletionNet(_mask_config(state, widths)), MASK
    elif _STAGE2_KEY in state:
        network, layers = ContentRecoveryNet(_content_config(state, widths)), CONTENT
    else:
        raise WeightsError(
            f"not the layout of the reference definitions: looked for {_STAGE1_KEY} (stage 1) and {_STAGE2_KEY} "
            f"(stage 2) among {len(state)} tensors, the first of which is {next(iter(state), 'none')}"
        )
    own = network.state_dict()
    taken: dict[str, tuple[str, ...]] = {}
    differs: dict[str, dict[str, list[int]]] = {}
    used: set[str] = set()
    for layer in layers:
        if not all(name in state for _, sources in layer.tensors.values() for name in sources):
            continue
        used |= {name for _, sources in layer.tensors.values() for name in sources}
        try:
            converted = {name: make(*(state[s] for s in sources)) for name, (make, sources) in layer.tensors.items()}
        except (RuntimeError, IndexError) as error:
            raise WeightsError(f"{next(iter(layer.tensors.values()))[1][0]}: unexpected shape of the layer") from error
        if any(own[name].shape != tensor.shape for name, tensor in converted.items()):
            differs |= {
                name: {"ours": list(own[name].shape)} | {s: list(state[s].shape) for s in layer.tensors[name][1]}
                for name in converted
            }
            continue
        own |= {name: tensor.to(own[name].dtype) for name, tensor in converted.items()}
        taken |= {name: sources for name, (_, sources) in layer.tensors.items()}
    network.load_state_dict(own)
    rest = [name for name in state if name not in used]
    return network, ConversionReport(
        network=network.network_name,
        taken=taken,
        differs=differs,
        missing_in_theirs=tuple(name for name in own if name not in taken and name not in differs),
        missing_in_ours=tuple(name for name in rest if not name.endswith(UNNEEDED)),
        unneeded=tuple(name for name in rest if name.endswith(UNNEEDED)),
        parameters_taken=sum(p.numel() for name, p in network.named_parameters() if name in taken),
        parameters=count_parameters(network),
    )


def _without_prefixes(name: str) -> str:
    """A tensor's name without the prefixes of a stage object and of a data parallel wrapper, in any order."""
    while name.startswith(("model.", "module.")):
        name = name.partition(".")[2]
    return name


def _mask_config(state: Mapping[str, Tensor], widths: str) -> MaskCompletionConfig:
    """Sizes of the converted stage 1, by `widths` as of `convert`."""
    paper = MaskCompletionConfig.paper()
    if widths == "paper":
        return paper
    own = tuple(_conv_shape(state, f"down{n}.mpconv.1.conv.0.weight")[0] for n in range(1, 5))
    # the reference has one pair of convolutions per scale, as one block
    return replace(paper, stem_width=_conv_shape(state, _STAGE1_KEY)[0], widths=own, blocks=1)


def _content_config(state: Mapping[str, Tensor], widths: str) -> ContentRecoveryConfig:
    """Sizes of the converted stage 2, by `widths` as of `convert`."""
    paper = ContentRecoveryConfig.paper()
    if widths == "paper":
        return paper
    shapes = [_conv_shape(state, f"enc_{n}.conv.input_conv.weight") for n in range(1, 8)]
    return replace(paper, widths=tuple(s[0] for s in shapes), kernels=tuple(s[-1] for s in shapes))


def _conv_shape(state: Mapping[str, Tensor], name: str) -> torch.Size:
    """Shape of a convolution's weight. Raises WeightsError if there is none of that name."""
    if name not in state or state[name].ndim != 4:
        raise WeightsError(f"{name}: no convolution of that name, so that the sizes are unknown")
    return state[name].shape
