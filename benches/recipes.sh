#!/bin/bash
# Evidence for scores of links and recipes of training, over seeds: builds the program and runs benches/recipes.py, which says
# what is measured. Options are passed on.
set -eu
ROOT=$(cd "$(dirname "$0")/.." && pwd)
cargo build --release --manifest-path "$ROOT/Cargo.toml" --bin sccrossrec
exec python3 "$ROOT/benches/recipes.py" --program "${CARGO_TARGET_DIR:-$ROOT/target}/release/sccrossrec" "$@"
