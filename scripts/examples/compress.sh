#!/usr/bin/env bash
# Compresses an image, or a directory of them, and checks each file by decoding it:
#
#     scripts/examples/compress.sh [IMAGE] [FILE] [QUALITY]
#
# MODEL names another model.
set -euo pipefail

image=${1:-photo.png} file=${2:-photo.bin} quality=${3:-50}

"${CODEC:-codec}" compress "$image" "$file" --quality "$quality" --model "${MODEL:-photo}" --verify --force
