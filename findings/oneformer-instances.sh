#!/bin/sh
# transformers 5.24.0: OneFormer's instance post-processing spreads instances over the whole photo.
#
# Seen: `OneFormerImageProcessorPil.post_process_instance_segmentation` gives every pixel to the query whose score times mask
#   probability is highest, however low that is. One person whose mask covers 14 % of the photo gets 100 % of it.
#   `Mask2FormerImageProcessorPil`, called with the same logits, keeps the mask.
# One would have guessed: both threshold a query's mask at probability 0.5, as OneFormer's authors do
#   (github.com/SHI-Labs/OneFormer, `instance_inference`), and pixels of no instance stay -1.
# Source: transformers/models/oneformer/image_processing_pil_oneformer.py, `compute_segments`: an argmax over queries.
# For deocclude: `--segmenter hf:` takes OneFormer's masks from its logits.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet transformers==5.24.0 torch==2.13.0 pillow numpy scipy
cat > "$folder/check.py" <<'PYTHON'
import sys
from types import SimpleNamespace

import torch
from transformers import Mask2FormerImageProcessorPil, OneFormerImageProcessorPil

mask_logits = torch.full((1, 3, 40, 100), -6.0)
mask_logits[0, 1, 6:34, 20:40] = 6.0  # 14 % of the photo
class_logits = torch.tensor([[[0.0, 0.0, 9.0], [9.0, 0.0, 0.0], [0.0, 0.0, 9.0]]])  # person, dog, no object
outputs = SimpleNamespace(class_queries_logits=class_logits, masks_queries_logits=mask_logits)
shares = {}
for name, processor in (
    ("OneFormer", OneFormerImageProcessorPil(num_text=1, class_info_file="")),
    ("Mask2Former", Mask2FormerImageProcessorPil()),
):
    (result,) = processor.post_process_instance_segmentation(outputs, threshold=0.5)
    (person,) = result["segments_info"]
    shares[name] = round(float((result["segmentation"] == person["id"]).float().mean()), 3)
    print(f"{name}: one person of 14 % becomes {shares[name]:.1%} of the photo")
if shares["OneFormer"] != 1.0 or not 0.13 < shares["Mask2Former"] < 0.15:
    sys.exit("this has changed")
PYTHON
"$folder/venv/bin/python" "$folder/check.py"
