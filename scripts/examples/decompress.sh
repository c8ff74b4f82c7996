#!/usr/bin/env bash
# Decompresses a file, or a directory of them; the suffix of IMAGE says which format it becomes:
#
#     scripts/examples/decompress.sh [FILE] [IMAGE]
set -euo pipefail

file=${1:-photo.bin} image=${2:-photo-decoded.png}

"${CODEC:-codec}" decompress "$file" "$image" --force
