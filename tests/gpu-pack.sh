#!/bin/bash
# Builds the program, the GPU test and the benches, and packs them with the golden files and scripts for a machine that has
# a GPU but no Rust: `tests/gpu-pack.sh [FILE.tar.gz]`. The programs need glibc 2.34 or newer and nothing else.
# Kernels are compiled in where this machine has nvcc; else the other one needs it.
set -eu
cd "$(dirname "$0")/.."
FILE=${1:-gpu.tar.gz}
LIMIT=$((60 << 20))
FOLDER=$(mktemp -d)
trap 'rm -rf "$FOLDER"' EXIT
PACK=$FOLDER/sccrossrec-gpu
mkdir -p "$PACK/golden"

messages() { cargo "$@" --message-format json-render-diagnostics; }
executable() { # kind, name: the path in the build's messages
    grep "\"kind\":\\[\"$1\"\\]" "$FOLDER/messages" | grep "\"name\":\"$2\"" | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1
}
{
    messages build --release --bin sccrossrec
    messages test --release --no-run --test gpu
    messages bench --no-run --bench kernels --bench epoch
} >"$FOLDER/messages"
for part in bin:sccrossrec test:gpu bench:kernels bench:epoch; do
    path=$(executable "${part%:*}" "${part#*:}")
    [ -n "$path" ] || { echo "gpu-pack: the build names no ${part#*:}" >&2; exit 1; }
    strip -o "$PACK/${part#*:}" "$path"
done
cp tests/golden/*.safetensors "$PACK/golden/"
cp tests/gpu.sh benches/baseline/opponent.py "$PACK/"
chmod +x "$PACK/gpu.sh"
{
    echo "sccrossrec $(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1), commit $(git rev-parse HEAD 2>/dev/null || echo unknown)$(git diff --quiet HEAD 2>/dev/null || echo ' with changes')"
    (cd "$PACK" && find . -type f ! -name MANIFEST | sort | while read -r f; do
        echo "$(sha256sum "$f" | cut -d ' ' -f 1) $(stat -c %s "$f") ${f#./}"
    done)
} >"$PACK/MANIFEST"
tar -C "$FOLDER" -cf - sccrossrec-gpu | gzip -9 >"$FILE"
size=$(stat -c %s "$FILE")
echo "$FILE: $((size >> 20)) MiB ($(du -sm "$PACK" | cut -f 1) MiB unpacked)"
[ "$size" -le "$LIMIT" ] || { echo "gpu-pack: more than $((LIMIT >> 20)) MiB" >&2; exit 1; }
