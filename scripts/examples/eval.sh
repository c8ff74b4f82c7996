#!/usr/bin/env bash
# Measures a model on a directory of images beside JPEG, and keeps all figures as JSON:
#
#     scripts/examples/eval.sh [IMAGES] [JSON]
#
# QUALITIES lists the qualities to measure at, MODEL names another model.
set -euo pipefail

images=${1:-images} figures=${2:-figures.json}

"${CODEC:-codec}" eval "$images" --model "${MODEL:-photo}" --qualities "${QUALITIES:-20,40,60,80}" \
    --against jpeg --json "$figures" --force
