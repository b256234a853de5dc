"""Stage 1's prompted head: the amodal mask again, from stage 1's features and a user's marks.

    features of stage 1 + its masks + completion prompts + hypothesis -> hourglass -> amodal mask, amodal parsing

Stage 1 stays as it is and runs once a crop. Only this head runs again for each new prompt, so that an answer comes at
once. Clicks are drawn as discs (Sofiiuk et al. 2021, arXiv 2102.06583). A hypothesis is one of several possible amodal
masks of a person; training updates only the best one of each sample (Guzman-Rivera et al. 2012, "Multiple choice
learning").
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deocclude.checkpoints.hub import Pretrained
from deocclude.inference.prompt_maps import PROMPT_MAPS
from deocclude.models.blocks import Hourglass, conv_bn
from deocclude.models.mask_completion import GuidedHead, MaskCompletionConfig, MaskFeatures, MaskOutput


@dataclass(frozen=True)
class PromptedHeadConfig:
    """Sizes of PromptedHead.

    Attributes:
        stem_width: channels of stage 1's stem.
        feature_width: channels of stage 1's features at a quarter of the resolution.
        pose_channels: channels of stage 1's guidance by typical poses.
        widths: channels of the hourglass at 1/4, 1/8, 1/16 and 1/32 of the input.
        head_width: channels of the mask's last layers.
        parsing_classes: classes of the amodal parsing.
        parsing_channels: channels of the parsing feature.
        hypotheses: how many different masks the head can predict besides its single answer.
    """

    stem_width: int = 24
    feature_width: int = 40
    pose_channels: int = 32
    widths: tuple[int, ...] = (40, 64, 96, 128)
    head_width: int = 16
    parsing_classes: int = 12
    parsing_channels: int = 32
    hypotheses: int = 4

    @classmethod
    def small(cls) -> PromptedHeadConfig:
        """Sizes that fit a stage 1 of preset small."""
        return cls(stem_width=16, feature_width=24, pose_channels=16, widths=(24, 32, 48, 56), head_width=12,
                   parsing_channels=16)  # fmt: skip

    @classmethod
    def base(cls) -> PromptedHeadConfig:
        """The shipped sizes: about 1 M parameters."""
        return cls()

    def to_dict(self) -> dict:
        """Plain values, for JSON."""
        return asdict(self)


class PromptedHead(Pretrained, nn.Module):
    """`head(*features, visible, unprompted, prompts, hypothesis) -> MaskOutput, likelihood`."""

    network_name, config_type = "mask_prompted", PromptedHeadConfig

    def __init__(self, config: PromptedHeadConfig | None = None):
        super().__init__()
        self.config = config = config or PromptedHeadConfig.base()
        width = config.widths[0]
        self.prompts = nn.Sequential(conv_bn(PROMPT_MAPS, 16, 3, 2), conv_bn(16, width, 3, 2))
        self.enter = conv_bn(config.feature_width + config.pose_channels + 2 + width, width)
        self.hypothesis = nn.Linear(config.hypotheses, width, bias=False)
        self.hourglass = Hourglass(config.widths, 1)
        self.likelihood = nn.Linear(2 * width, config.hypotheses)
        head = MaskCompletionConfig(
            stem_width=config.stem_width, widths=(config.feature_width,), head_width=config.head_width,
            parsing_classes=config.parsing_classes, parsing_channels=config.parsing_channels,
        )  # fmt: skip
        self.join = nn.Conv2d(width, config.feature_width, 1)
        self.amodal_head = GuidedHead(head, config.pose_channels)
        # a new head changes nothing in stage 1's features
        nn.init.zeros_(self.join.weight)
        nn.init.zeros_(self.join.bias)
        nn.init.normal_(self.hypothesis.weight, std=0.5)  # different from the start: equal hypotheses would stay equal

    def forward(
        self, stem: Tensor, whole: Tensor, poses: Tensor, visible: Tensor, unprompted: Tensor, prompts: Tensor,
        hypothesis: Tensor,
    ) -> tuple[MaskOutput, Tensor]:  # fmt: skip
        """Predict the amodal mask and its parsing.

        Args:
            stem: (B, s, S/2, S/2), of stage 1's MaskFeatures.
            whole: (B, w, S/4, S/4), likewise.
            poses: (B, t, S/4, S/4), likewise.
            visible: (B, 1, S, S) probability in [0, 1] of stage 1.
            unprompted: (B, 1, S, S) amodal probability in [0, 1] of stage 1.
            prompts: (B, PROMPT_MAPS, S, S) in [-1, 1], from `inference.prompt_maps`.
            hypothesis: (B, hypotheses), one-hot: the hypothesis to predict; all 0: the single answer.

        Returns:
            Logits; those of the visible mask are stage 1's. And (B, hypotheses) logits of which hypothesis is the best;
            they are trained, and valid, for the single answer only.
        """
        masks = F.avg_pool2d(torch.cat([visible, unprompted], 1), 4)
        marked = self.prompts(prompts) + self.hypothesis(hypothesis)[..., None, None]
        feature = self.hourglass(self.enter(torch.cat([whole, poses, masks.to(whole.dtype), marked], 1)))
        guidance = (poses,) if self.config.pose_channels else ()
        mask, parsing = self.amodal_head(whole + self.join(feature), stem, guidance)
        pooled = torch.cat([feature.mean((2, 3)), feature.amax((2, 3))], 1)
        return MaskOutput(torch.logit(visible, eps=1e-6), mask, None, parsing), self.likelihood(pooled)

    def start_from_stage1(self, head: GuidedHead) -> None:
        """Copy the weights of stage 1's amodal head, so that training starts from its predictions."""
        self.amodal_head.load_state_dict(head.state_dict())


def run_prompted(
    head: PromptedHead, output: MaskOutput, features: MaskFeatures, prompts: Tensor, hypothesis: Tensor | None = None
) -> tuple[MaskOutput, Tensor]:
    """Run the prompted head on stage 1's outputs.

    Args:
        head: the head.
        output: stage 1's logits.
        features: stage 1's features.
        prompts: (B, PROMPT_MAPS, S, S) in [-1, 1].
        hypothesis: (B, hypotheses), one-hot; None: the single answer.

    Returns:
        As `PromptedHead.forward`.
    """
    masks = torch.sigmoid(torch.stack([output.visible, output.amodal]).float())
    if hypothesis is None:
        hypothesis = prompts.new_zeros(len(prompts), head.config.hypotheses)
    return head(*features, masks[0], masks[1], prompts, hypothesis)
