#!/usr/bin/env bash
# Builds what is shipped for Python into python/dist: the sdist, and of that the wheel (manylinux_2_28, abi3 from Python 3.10), with
# the CUDA kernels where nvcc is there. About ten minutes of one core. NVCC= builds without kernels.
#
#   python/build.sh [sdist]     sdist: no wheel
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
out=$root/python/dist
work=${CARGO_TARGET_DIR:-$root/target}/python

if [ -e .ci/setup ]; then
    . .ci/setup
    tools=$_scx_tools/wheel
else
    tools=$work/tools # an unpacked sdist
fi
[ -x "$tools/bin/pip" ] || python3 -m venv "$tools"
"$tools/bin/pip" install -q --disable-pip-version-check maturin==1.16.0 ziglang==0.17.1

began=$SECONDS
mkdir -p "$out" "$work"
manifest=python/Cargo.toml
rm -f "$out"/sccrossrec-*.tar.gz "$out"/sccrossrec-*.whl
"$tools/bin/maturin" sdist -m "$manifest" -o "$out"
[ "${1:-}" != sdist ] || { ls -l "$out"; exit 0; }

# The wheel is made of the sdist, so that what is shipped builds.
rm -rf "$work/sdist"
mkdir -p "$work/sdist"
# With the time of now: cargo tells what has changed by times.
tar -xzmf "$out"/sccrossrec-*.tar.gz -C "$work/sdist" --strip-components 1
export CARGO_TARGET_DIR=$work/build
PATH="$tools/bin:$PATH"
(cd "$work/sdist" && maturin build --zig --compatibility manylinux_2_28 --locked -o "$out")

wheel=$(ls "$out"/*.whl)
bytes=$(stat -c %s "$wheel")
echo "$wheel: $(awk "BEGIN {printf \"%.1f\", $bytes / 1e6}") MB, $((SECONDS - began)) s"
[ "$bytes" -le 15000000 ] || { echo "the wheel is larger than 15 MB" >&2; exit 1; }
