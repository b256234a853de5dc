#!/bin/sh
# pycocotools 2.0.11 encodes a mask of touching labels 1 and 2 as other pixels, without an error.
#
# Seen: `encode` of a uint8 mask with a trunk of 1 above legs of 2 gives run lengths that decode to columns of trunk, columns of
#   legs and columns of background in turn: IoU 0.33 with the person. The area equals the person's, so that a check of areas
#   finds nothing. Masks of 0 and 1, or 0 and 255, are right. `merge` of two sizes gives an empty mask of size [0, 0].
# One would have guessed: every value but 0 is mask, as in NumPy's truth values, or an error; and an error for two sizes.
# Source: common/maskApi.c. rleEncode starts a new run wherever the value changes, and runs alternate between background and
#   mask; rleMerge returns an empty mask where sizes differ.
# For deocclude: masks are 0 or 1 before they are encoded (imaging/rle.py, own code), and a mask of another size than its photo is refused.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pycocotools==2.0.11 numpy
cat > "$folder/check.py" <<'PYTHON'
import numpy as np
from pycocotools import mask as coco_mask


def through(mask):
    return coco_mask.decode(coco_mask.encode(np.asfortranarray(mask))) > 0


labels = np.zeros((40, 30), np.uint8)
labels[5:15, 8:20] = 1  # trunk
labels[15:25, 8:20] = 2  # legs
person = labels > 0
for name, mask in (("0 and 1", person.astype(np.uint8)), ("0 and 255", person * np.uint8(255)), ("labels 1 and 2", labels)):
    found = through(mask)
    iou = (found & person).sum() / (found | person).sum()
    print(f"{name}: {found.sum()} pixels of {person.sum()}, IoU {iou:.2f}, legs kept: {found[labels == 2].mean():.0%}")
found = through(labels)
assert np.array_equal(through(person.astype(np.uint8)), person) and np.array_equal(through(person * np.uint8(255)), person)
assert found[labels == 1].mean() == found[labels == 2].mean() == 0.5
assert found.sum() == person.sum() and found[~person].any()

small, large = (coco_mask.encode(np.ones((height, 30), np.uint8, order="F")) for height in (40, 41))
merged = coco_mask.merge([small, large])
print(f"merge of 40x30 and 41x30: size {merged['size']}, {coco_mask.area(merged)} pixels")
assert merged["size"] == [0, 0] and coco_mask.area(merged) == 0
PYTHON
"$folder/venv/bin/python" "$folder/check.py"
