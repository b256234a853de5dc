"""Networks in folders and on the Hugging Face hub: `Net.from_pretrained(where)`, `net.save_pretrained(folder)`.

A mixin beside the networks, so that a definition holds nothing but its computation.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from huggingface_hub import ModelHubMixin, hf_hub_download
from huggingface_hub.errors import HFValidationError

from deocclude.checkpoints.files import WEIGHTS_NAME, rebuild, save_weights
from deocclude.errors import WeightsError

if TYPE_CHECKING:
    from typing_extensions import Self

_CARD = """---
{{ card_data }}
---

A network of [deocclude](https://arxiv.org/abs/2103.11597), human de-occlusion after Zhou et al., CVPR 2021.
`model.safetensors` holds the weights and, in its metadata, the network's name, its config and how it was trained;
`config.json` repeats the config. `from_pretrained` of the class with that name reads both, `deocclude export` makes
of the folder what `deocclude run` loads.
"""


class Pretrained(ModelHubMixin, library_name="deocclude", tags=["human-de-occlusion"], model_card_template=_CARD):
    """Adds `from_pretrained`, `save_pretrained` and `push_to_hub` to a network.

    A subclass sets `network_name`, its name in weights files, and `config_type`, the class of its config.
    metadata: the other entries of the weights file (step, seed, validation, ...); empty for a new network.
    """

    network_name: ClassVar[str]
    config_type: ClassVar[type]
    metadata: Mapping[str, Any] = MappingProxyType({})

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
    ) -> Self:
        """The network with its sizes and weights, in evaluation mode.

        source: a folder of `save_pretrained`, a .safetensors file of this project, or the id of a model on the hub, of
        which only `model.safetensors` is downloaded; the other arguments are huggingface_hub's. Raises WeightsError
        when nothing is there, when the hub cannot be reached, or when it is another network.
        """
        path = Path(source)
        if not path.exists():
            try:
                path = Path(
                    hf_hub_download(
                        str(source), WEIGHTS_NAME, revision=revision, cache_dir=cache_dir,
                        force_download=force_download, local_files_only=local_files_only, token=token,
                    )
                )  # fmt: skip
            except (OSError, HFValidationError) as error:  # all that an unreachable hub or a wrong id raises
                reason = " ".join(str(error).split()) or type(error).__name__
                raise WeightsError(f"{source}: no such file or folder, and not had from the hub: {reason}") from error
        network, metadata = rebuild(path, {cls.network_name: (cls, cls.config_type)})
        network.metadata = {k: v for k, v in metadata.items() if k not in ("network", "config")}
        return network.eval()

    def _save_pretrained(self, save_directory: Path) -> None:
        """Called by `save_pretrained`, which makes the folder and writes config.json and a README.md beside."""
        metadata = dict(self.metadata) | {"network": self.network_name, "config": self.config.to_dict()}
        save_weights(save_directory / WEIGHTS_NAME, self.state_dict(), metadata)
