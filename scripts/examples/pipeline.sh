#!/usr/bin/env bash
# From a JSON file to networks for other programs, in one command:
#
#     scripts/examples/pipeline.sh [DATA] [RUN] [TARGET] [CONFIG]
#
# It takes the variables of train.sh and of export.sh.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
data=${1:-tfds:mnist} run=${2:-runs/digits} target=${3:-networks/digits} config=${4:-digits-adversarial}

"$here/train.sh" "$data" "$run" "$config"
"$here/export.sh" "$run" "$target"
