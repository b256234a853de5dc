#!/bin/sh
# int8 networks and occlusion probabilities of `base`: whether a hidden region is body, whether a person is occluded at all.
#
#   sh configs/occlusion_calibration.sh /my/data my-weights      # half an hour of two CPU cores; my-weights freshly exported
#
# The ranges of int8 activations are those of the same people. Logistic regressions on completions of training people: synthetically occluded and whole ones of six sources, and people
# of COCO photos whose covered joints are annotated. The sets are written to a temporary folder.
set -eu
data=$1
weights=$2
deocclude=${DEOCCLUDE:-deocclude}
sets=$(mktemp -d)
trap 'rm -rf "$sets"' EXIT
for source in voc:100 coco:100 pelota:30 teachers:30 small:30 ccp:20; do
    "$deocclude" data build-evalset --people "${source%:*}" --limit "${source#*:}" --split train --seed 901 \
        --data "$data" -o "$sets/${source%:*}-train"
done
"$deocclude" quantize "$sets"/*-train --weights "$weights"
"$deocclude" calibrate "$sets"/voc-train "$sets"/coco-train "$sets"/pelota-train "$sets"/teachers-train \
    "$sets"/small-train "$sets"/ccp-train --joints "$data" --weights "$weights"
