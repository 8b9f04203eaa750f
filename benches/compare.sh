#!/bin/bash
# The engine beside the published training in PyTorch Geometric and the same in PyTorch with the engine's algebra: same
# machine, same data, in turn. Needs Rust and python3; benches/baseline/setup.sh makes the Python environment.
#
#   benches/compare.sh [--data DIR]… [--quick] [--epoch] [--opponent-seconds S] [--out DIR] [--keep DIR]
#
# DIR holds rna.h5ad and atac.h5ad (and peaks.fa), or the files of neurips2021, as `sccrossrec simulate` writes both; given
# several times, the first is measured whole and the others where it depends on the number of cells, which a picture shows.
# Without it 2,000 cells of NeurIPS-2021 shape are simulated. Before anything is timed all three must compute the same losses
# and gradients (benches/baseline/agree.py).
#
#   --quick               a few steps of everything, minutes: to see that it runs
#   --epoch               the engine's epoch over the last DIR is run, not extrapolated
#   --opponent-seconds S  training time of the published model for the score to be reached (600; 0: leave that out)
#   --out DIR             benches/runs/DATE-MACHINE: compare.csv, compare.md, pictures, logs
#   --keep DIR            where prepared data and samples go, and stay; else a temporary folder (disk: 8 GB)
# SCCROSSREC_BASELINE_PYTHON names a python with torch and torch_geometric to use instead.
set -eu
ROOT=$(cd "$(dirname "$0")/.." && pwd)
say() { echo "compare: $*" >&2; }
DATA=() MORE=() OUT="" KEEP="" QUICK="" EPOCH=""
while [ $# -gt 0 ]; do
    case $1 in
    --data) DATA+=("$(cd "$2" && pwd)"); shift ;;
    --out) OUT=$2; shift ;;
    --keep) KEEP=$2; shift ;;
    --opponent-seconds) MORE+=("$1" "$2"); shift ;;
    --quick) QUICK=1; MORE+=("$1") ;;
    --epoch) EPOCH=$1 ;;
    *) sed -n '2,/^set/p' "$0" | grep '^#' | cut -c 3-; exit 2 ;;
    esac
    shift
done
model=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo 2>/dev/null | head -n 1)
machine=$(echo "${model:-unknown}" | tr -cs 'A-Za-z0-9\n' '-' | sed 's/-*$//')-$(nproc)-cores
OUT=${OUT:-$ROOT/benches/runs/$(date -u +%Y-%m-%d)-$machine}
mkdir -p "$OUT" && OUT=$(cd "$OUT" && pwd)
WORK=${KEEP:-$(mktemp -d)}
mkdir -p "$WORK" && WORK=$(cd "$WORK" && pwd)
[ -n "$KEEP" ] || trap 'rm -rf "$WORK"' EXIT

# PyTorch's threads wait for each other by spinning: whatever else runs slows it far more than the engine.
if [ "$(awk '{ print ($1 > 0.5) }' /proc/loadavg 2>/dev/null)" = 1 ]; then
    say "this machine is busy (load $(cut -d ' ' -f 1 /proc/loadavg)): figures will be unfair to PyTorch; wait until it is idle"
fi
PYTHON=${SCCROSSREC_BASELINE_PYTHON:-$("$ROOT/benches/baseline/setup.sh")}
cd "$ROOT"
say "building"
cargo build --release --bin sccrossrec --bench against --message-format json-render-diagnostics >"$WORK/messages"
built() { # kind, name; a copy, so that no other build changes it meanwhile
    local path
    path=$(grep "\"kind\":\\[\"$1\"\\]" "$WORK/messages" | grep "\"name\":\"$2\"" | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)
    [ -n "$path" ] || { say "the build names no $2"; exit 1; }
    cp "$path" "$WORK/$2.program"
}
built bin sccrossrec
built bench against
ENGINE=$WORK/sccrossrec.program AGAINST=$WORK/against.program

if [ ${#DATA[@]} = 0 ]; then
    cells=$([ -n "$QUICK" ] && echo 400 || echo 2000)
    say "simulating $cells cells of NeurIPS-2021 shape"
    "$ENGINE" simulate --dataset neurips2021 --cells "$cells" --out "$WORK/simulated" --force --quiet
    DATA=("$WORK/simulated")
fi
rm -f "$OUT/compare.csv"
{
    echo "# The engine beside PyTorch"
    echo
    echo "$(date -u +%Y-%m-%d), ${model:-unknown processor}, $(nproc) cores, $(awk '/MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo)," \
        "commit $(git rev-parse HEAD 2>/dev/null || echo unknown)$(git diff --quiet HEAD 2>/dev/null || echo ' with changes');" \
        "$("$PYTHON" -c 'import torch, torch_geometric as g; print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, torch_geometric {g.__version__}")')."
    [ -z "$QUICK" ] || { echo; echo "**A quick run**: few steps, short trainings; to see that it runs, not to be quoted."; }
} >"$OUT/machine.md"
for i in "${!DATA[@]}"; do
    folder=${DATA[i]} THIS=("${MORE[@]}")
    [ "$i" = 0 ] || THIS+=(--cost)
    [ -z "$EPOCH" ] || [ "$i" -lt $((${#DATA[@]} - 1)) ] || THIS+=("$EPOCH")
    say "$folder"
    rm -rf "$WORK/measured"
    mkdir "$WORK/measured"
    "$PYTHON" benches/baseline/compare.py --engine "$ENGINE" --against "$AGAINST" --raw "$folder" --work "$WORK/measured" --out "$OUT" "${THIS[@]}"
done
"$PYTHON" benches/baseline/compare.py --report --out "$OUT"
"$AGAINST" plot --out "$OUT" "$OUT/compare.csv"
rm "$OUT/machine.md"
say "$OUT/compare.md"
