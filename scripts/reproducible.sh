#!/usr/bin/env bash
# Builds sdist and wheel of the last commit twice, and fails unless both give the same bytes:
#
#     scripts/reproducible.sh PYTHON DIR
#
# PYTHON has `build` and `hatchling` (without isolation: constraints.txt fixes their versions); the files go to DIR.
# The second time everything is different that a build could notice: folder, times of files, umask, time zone, hash
# seed; and its wheel comes from its sdist, so that the sdist is known to be complete.
set -euo pipefail

[ $# = 2 ] || { echo "usage: $0 PYTHON DIR" >&2; exit 2; }
python=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
mkdir -p "$2"
target=$(cd "$2" && pwd)
cd "$(dirname "$0")/.."

SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
[ -z "$(git status --porcelain)" ] || echo "note: what is not committed is not in these builds"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
second="$work/another folder/with a longer name"
mkdir -p "$work/first" "$second"
git archive HEAD | tar -x -C "$work/first"
(umask 077; git archive HEAD | tar -x --touch -C "$second")

"$python" -m build --no-isolation --sdist --wheel --outdir "$work/one" "$work/first" > "$work/log" 2>&1 \
  || { cat "$work/log" >&2; exit 1; }
(umask 077; TZ=Pacific/Auckland PYTHONHASHSEED=7 \
  "$python" -m build --no-isolation --outdir "$work/two" "$second" > "$work/log" 2>&1) \
  || { cat "$work/log" >&2; exit 1; }

for file in "$work/one"/*; do
  cmp "$file" "$work/two/$(basename "$file")" \
    || { echo "$(basename "$file"): two builds differ; diffoscope shows where" >&2; exit 1; }
done
cp "$work/one"/* "$target"
(cd "$work/one" && sha256sum -- *)
