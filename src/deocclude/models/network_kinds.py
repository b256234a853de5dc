"""Network and config class of every kind of stored weights: all that is needed to open a .safetensors file.

The kind is the metadata entry `network` of the file. Its first word names the stage: mask, content, single or people;
nanodet and movenet are detectors too. How each network is trained is in train/methods.py.
"""

from __future__ import annotations

from torch import nn

from deocclude.models.baselines.gated import GatedConfig, GatedNet
from deocclude.models.baselines.one_stage import OneStageNet
from deocclude.models.baselines.partial_unet import PartialUNet, PartialUNetConfig
from deocclude.models.baselines.pcnet import PCNetM, PCNetMConfig
from deocclude.models.baselines.pix2pix import Pix2PixConfig, Pix2PixContent, Pix2PixMask
from deocclude.models.baselines.segan import SeGan, SeGanConfig
from deocclude.models.baselines.unet import MaskUNet, UNetConfig
from deocclude.models.baselines.vae import ShapeVae, ShapeVaeConfig
from deocclude.models.box_segmenter import BoxSegmenter, BoxSegmenterConfig
from deocclude.models.content_recovery import ContentRecoveryConfig, ContentRecoveryNet
from deocclude.models.mask_completion import MaskCompletionConfig, MaskCompletionNet
from deocclude.models.movenet import MoveNet, MoveNetConfig
from deocclude.models.nanodet import NanoDet, NanoDetConfig
from deocclude.models.people_detector import PeopleDetector, PeopleDetectorConfig
from deocclude.models.prompted_head import PromptedHead, PromptedHeadConfig

NetworkKinds = dict[str, tuple[type[nn.Module], type]]

PERSON_NETWORK_KINDS: NetworkKinds = {
    "mask_completion": (MaskCompletionNet, MaskCompletionConfig),
    "mask_unet": (MaskUNet, UNetConfig),
    "mask_pcnet_m": (PCNetM, PCNetMConfig),
    "mask_pix2pix": (Pix2PixMask, Pix2PixConfig),
    "mask_vae": (ShapeVae, ShapeVaeConfig),
    "mask_box": (BoxSegmenter, BoxSegmenterConfig),
    "mask_prompted": (PromptedHead, PromptedHeadConfig),
    "content_recovery": (ContentRecoveryNet, ContentRecoveryConfig),
    "content_pconv_unet": (PartialUNet, PartialUNetConfig),
    "content_pcnet_c": (PartialUNet, PartialUNetConfig),
    "content_pix2pix": (Pix2PixContent, Pix2PixConfig),
    "content_gated": (GatedNet, GatedConfig),
    "single_one": (OneStageNet, UNetConfig),
    "single_segan": (SeGan, SeGanConfig),
}
"""Networks that work on the crop of one person, by kind; `checkpoints.files.rebuild` takes such a table."""

NETWORK_KINDS: NetworkKinds = PERSON_NETWORK_KINDS | {
    "people_detector": (PeopleDetector, PeopleDetectorConfig),
    "nanodet": (NanoDet, NanoDetConfig),
    "movenet": (MoveNet, MoveNetConfig),
}
"""Networks of every kind: those of one person's crop, and the detectors."""
