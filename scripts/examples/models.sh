#!/usr/bin/env bash
# Lists the installed models and checks that they are intact:
#
#     scripts/examples/models.sh
set -euo pipefail

"${CODEC:-codec}" models
"${CODEC:-codec}" models verify
