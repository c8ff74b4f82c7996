#!/usr/bin/env bash
# Trains the model that a JSON file describes:
#
#     scripts/examples/train.sh [DATA] [RUN] [CONFIG]
#
# DATA is tfds:NAME, a directory of images or of MNIST's idx files, or an npz file; CONFIG a name that comes with
# the tool, or a JSON file. RUN then also holds curves.png, architecture.png and metrics.json.
# A tiny run: STEPS=20 SETTINGS='data.batch=8 data.cache_patches=16'. CODEC names another `codec`.
set -euo pipefail

data=${1:-tfds:mnist} run=${2:-runs/digits} config=${3:-digits-adversarial}

arguments=(--config "$config")
case $data in
    tfds:*) arguments+=(--dataset "$data") ;;
    *) arguments+=(--data "$data") ;;
esac
[[ -z ${STEPS:-} ]] || arguments+=(--steps "$STEPS")
for setting in ${SETTINGS:-}; do
    arguments+=(--set "$setting")
done
"${CODEC:-codec}" train "$run" "${arguments[@]}"
