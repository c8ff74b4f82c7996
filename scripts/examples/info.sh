#!/usr/bin/env bash
# Says what a compressed file is, for people and then for programs:
#
#     scripts/examples/info.sh [FILE]
set -euo pipefail

file=${1:-photo.bin}

"${CODEC:-codec}" info "$file"
"${CODEC:-codec}" info --json "$file"
