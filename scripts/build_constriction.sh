#!/usr/bin/env bash
# Builds the range coder's wheel where its authors publish none, which is Linux on ARM:
#
#     scripts/build_constriction.sh DIR     # then: pip install --find-links DIR ...
#
# From the sources on crates.io, as its own releases are built (maturin, feature `pybindings`), in the version of
# constraints.txt. Needs curl, tar, pip and Rust. PYTHON names the interpreter (python3).
set -euo pipefail

[ $# = 1 ] || { echo "usage: $0 DIR" >&2; exit 2; }
for tool in curl tar cargo; do
  command -v "$tool" > /dev/null 2>&1 || { echo "$0: $tool is missing; install it first" >&2; exit 1; }
done
mkdir -p "$1"
target=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
version=$(sed -n 's/^constriction==\([0-9.]*\).*/\1/p' constraints.txt)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
curl --fail --silent --show-error --location --retry 3 \
  "https://static.crates.io/crates/constriction/constriction-$version.crate" | tar -xz -C "$work"
MATURIN_PEP517_ARGS="--features pybindings" \
  "${PYTHON:-python3}" -m pip wheel --no-deps --wheel-dir "$target" "$work/constriction-$version"
