#!/usr/bin/env bash
# Exports the networks of a run for other programs, or the run as a model of the codec:
#
#     scripts/examples/export.sh [RUN] [TARGET]
#
# FORMATS lists savedmodel, keras and tflite (all of them by default), PART is encoder, decoder or both. With
# FORMATS=model TARGET becomes a model folder, which compress.sh uses; a name ends with its number: models/mine-1.
set -euo pipefail

run=${1:-runs/digits} target=${2:-networks/digits} formats=${FORMATS:-savedmodel keras tflite}

arguments=()
if [[ $formats != model ]]; then
    arguments=(--part "${PART:-both}")
    for format in $formats; do
        arguments+=(--format "$format")
    done
fi
# So that an empty list is none to the Bash of macOS, too.
"${CODEC:-codec}" export "$run" "$target" ${arguments[@]+"${arguments[@]}"}
