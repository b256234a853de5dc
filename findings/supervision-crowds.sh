#!/bin/sh
# supervision 0.31.2 writes one person as a crowd of COCO if the mask has a hole or two pieces.
#
# Seen: `DetectionDataset.as_coco` gives such an annotation run lengths and `iscrowd: 1`; a mask in one piece gets a polygon
#   and `iscrowd: 0`. pycocotools 2.0.11 then leaves the first two out of the ground truth: of three people one counts.
# One would have guessed: `iscrowd` says whether an annotation is one object, whatever its shape. In COCO it marks a region of
#   several objects (https://cocodataset.org/#format-data), and COCOeval ignores what lies in it.
# Source: supervision/dataset/formats/coco.py, where `iscrowd` follows from holes and the number of pieces.
# For deocclude: `--segmenter coco:FILE` takes run lengths with `iscrowd: 1` for a person unless the file is COCO's own.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet supervision==0.31.2 pycocotools==2.0.11 pillow
cat > "$folder/check.py" <<'PYTHON'
import contextlib
import io
import json
import sys
import warnings
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

warnings.simplefilter("ignore")
import supervision as sv

folder = Path(sys.argv[1])
Image.new("RGB", (80, 60), "grey").save(folder / "photo.png")
names = ["one piece", "with a hole", "two pieces"]
masks = np.zeros((3, 60, 80), bool)
masks[0, 10:40, 5:20] = True
masks[1, 10:40, 30:50] = True
masks[1, 20:26, 36:42] = False  # between an arm and the body
masks[2, 10:20, 60:75] = True
masks[2, 30:40, 60:75] = True  # below what stands in front
people = sv.Detections(xyxy=sv.mask_to_xyxy(masks), mask=masks, class_id=np.zeros(3, int))
photo = str(folder / "photo.png")
dataset = sv.DetectionDataset(classes=["person"], images=[photo], annotations={photo: people})
dataset.as_coco(annotations_path=str(folder / "people.json"))

written = json.loads((folder / "people.json").read_text())["annotations"]
seen = [(name, type(one["segmentation"]).__name__, one["iscrowd"]) for name, one in zip(names, written)]
for name, kind, iscrowd in seen:
    print(f"{name}: segmentation {kind}, iscrowd {iscrowd}")
with contextlib.redirect_stdout(io.StringIO()):
    truth = COCO(str(folder / "people.json"))
    found = truth.loadRes([{**one, "score": 1.0} for one in json.loads((folder / "people.json").read_text())["annotations"]])
    run = COCOeval(truth, found, "bbox")
    run.evaluate()
counted = int(sum((~np.asarray(one["gtIgnore"], bool)).sum() for one in run.evalImgs[:1]))
print(f"people in COCOeval's ground truth: {counted} of 3")
expected = [("one piece", "list", 0), ("with a hole", "dict", 1), ("two pieces", "dict", 1)]
if seen != expected or counted != 1:
    sys.exit("this has changed")
PYTHON
"$folder/venv/bin/python" "$folder/check.py" "$folder"
