#!/bin/bash
# All that is to be known from a machine with a GPU, in 25 minutes at most: parity, epochs, benches, sanitizers, and PyTorch
# beside it. Needs a driver; nvcc only where the programs were built without kernels; neither Rust nor a network.
#
#   tests/gpu-pack.sh gpu.tar.gz             # where Rust is
#   tar xzf gpu.tar.gz && sccrossrec-gpu/gpu.sh      # where the GPU is
#
# Results go to $OUT, or benches/runs/DATE-GPU below the current folder: summary.md, and a log of every stage. The most
# telling stages come first; one that fails or runs out of its time does not stop the others.
#   SCCROSSREC_GPU_SECONDS=1500       all of it; stages that no longer fit are left out, and the summary says so
#   SCCROSSREC_GPU_STAGES="parity …"  only these of: environment parity epoch benches sanitizers opponent
#   SCCROSSREC_GPU_REHEARSAL=1        without a GPU: everything on the driver that stands in for one, small
# Exit code: 0 where nothing failed; 1 otherwise. In the summary 124 is a timeout, 77 something that is not here.
set -u
HERE=$(cd "$(dirname "$0")" && pwd)
REHEARSAL=${SCCROSSREC_GPU_REHEARSAL:-}
STAGES=${SCCROSSREC_GPU_STAGES:-environment parity epoch benches sanitizers opponent}
TOTAL=${SCCROSSREC_GPU_SECONDS:-1500}
BEGAN=$SECONDS

gpu=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -n 1 | tr -cs 'A-Za-z0-9\n' '-' | sed 's/-*$//')
[ "$REHEARSAL" = 1 ] && gpu=rehearsal
OUT=${OUT:-benches/runs/$(date -u +%Y-%m-%d)-${gpu:-none}}
mkdir -p "$OUT" && OUT=$(cd "$OUT" && pwd) || exit 2
SUMMARY=$OUT/summary.md
export SCCROSSREC_GOLDEN=${SCCROSSREC_GOLDEN:-$HERE/golden}
export SCCROSSREC_CACHE=${SCCROSSREC_CACHE:-$OUT/cache}
export CRITERION_HOME=$OUT/criterion
FAILED=0

{
    echo "# ${gpu:-no GPU}, $(date -u '+%Y-%m-%d %H:%M UTC')"
    echo
    [ "$REHEARSAL" = 1 ] && echo "A rehearsal on the stand-in driver: no figure here is a measurement." && echo
    echo "| stage | exit code | seconds | what it says |"
    echo "| --- | --- | --- | --- |"
} >"$SUMMARY"

row() { # name, exit code, seconds, words
    echo "| $1 | $2 | $3 | $4 |" | tee -a "$SUMMARY"
}

wanted() { case " $STAGES " in *" $1 "*) return 0 ;; *) return 1 ;; esac; }

# stage NAME SECONDS SAYS COMMAND…: runs a command under its time, its output in NAME.log (standard output alone in
# NAME.json where NAME says so); SAYS is a function that reads the log and says in words what came out.
stage() {
    local name=$1 limit=$2 says=$3 code began left
    shift 3
    left=$((TOTAL - (SECONDS - BEGAN)))
    [ "$left" -lt "$limit" ] && limit=$left
    if [ "$limit" -le 5 ]; then
        row "$name" - 0 "left out: no time"
        FAILED=1
        return
    fi
    began=$SECONDS
    case $name in
    epoch* | opponent*) timeout -k 10 "$limit" "$@" >"$OUT/$name.json" 2>"$OUT/$name.log" ;;
    *) timeout -k 10 "$limit" "$@" >"$OUT/$name.log" 2>&1 ;;
    esac
    code=$?
    case $code in 0 | 77) ;; *) FAILED=1 ;; esac
    grep -q SKIPPED "$OUT/$name.log" && FAILED=1
    row "$name" "$code" $((SECONDS - began)) "$($says "$OUT/$name" $code)"
}

absent() { # name, what
    row "$1" 77 0 "not here: $2"
}

last_line() { tail -n 1 "$1.log" 2>/dev/null | cut -c 1-160 | tr '|' '/'; }

tests_say() {
    if grep -q SKIPPED "$1.log"; then echo "SKIPPED: $(grep -m 1 -o 'SKIPPED.*' "$1.log" | cut -c 10-120)"; return; fi
    local line
    line=$(grep -o '[0-9]* passed; [0-9]* failed' "$1.log" | head -n 1)
    line="${line:-$(last_line "$1")}$(grep -ohE '(ten steps.*|predicted genes [0-9.]+ %)' "$1.log" | awk '{printf "; %s", $0}')"
    echo "$line$(grep -oE '^test [a-z0-9_]+ \.\.\. FAILED' "$1.log" | awk '{printf "; %s FAILED", $2}')"
}

# A number of a JSON document by its (last) key, first occurrence.
number() { grep -m 1 -oE "\"$2\": *[-0-9.e+]+" "$1" 2>/dev/null | sed 's/.*: *//'; }

epoch_says() {
    [ "$2" = 0 ] || { last_line "$1"; return; }
    awk -v rate="$(number "$1.json" samples_per_second)" -v epoch="$(number "$1.json" seconds_an_epoch)" \
        -v median="$(number "$1.json" median)" -v p90="$(number "$1.json" p90)" -v planned="$(number "$1.json" planned_bytes)" \
        -v tflops="$(number "$1.json" step)" -v first="$(number "$1.json" mean_of_first)" \
        -v last="$(number "$1.json" mean_of_last)" 'BEGIN {
        printf "%.0f samples/s, epoch %.1f s, step %.2f ms (p90 %.2f), %.2f TFLOP/s, %.0f MiB, loss %.3f to %.3f",
            rate, epoch, 1e3 * median, 1e3 * p90, tflops, planned / 1048576, first, last }'
}

opponent_says() {
    [ "$2" = 0 ] || { last_line "$1"; return; }
    awk -v epoch="$(number "$1.json" seconds_an_epoch)" -v rate="$(number "$1.json" samples_per_second)" \
        'BEGIN { printf "PyTorch, batch 1, f32: %.1f samples/s, epoch %.0f s", rate, epoch }'
}

benches_say() { echo "$(grep -c 'time: ' "$1.log") measurements$(grep -q '^no GPU' "$1.log" && echo ', of the CPU alone')"; }

sanitizer_says() { grep -h -E 'ERROR SUMMARY|RACECHECK SUMMARY|passed; ' "$1.log" | tail -n 2 | tr '\n|' ' /' | cut -c 1-160; }

environment() {
    date -u
    uname -sr
    grep -m 1 'model name' /proc/cpuinfo
    nproc
    free -g | head -n 2
    nvidia-smi || echo "nvidia-smi: not here"
    nvidia-smi -q -d CLOCK,PERFORMANCE,POWER 2>/dev/null
    nvcc --version 2>/dev/null || echo "nvcc: not here"
    compute-sanitizer --version 2>/dev/null || echo "compute-sanitizer: not here"
    python3 -c 'import torch; print("torch", torch.__version__)' 2>/dev/null || echo "torch: not here"
    cat "$HERE/MANIFEST" 2>/dev/null
    "$HERE/sccrossrec" --version
    "$HERE/sccrossrec" doctor 2>&1 || true
}
environment_says() { grep -m 1 -E 'NVIDIA-SMI|model name' "$1.log" | tr -s ' |' ' ' ; }
export -f environment
export HERE

epoch() { # name, seconds, options…
    local name=$1 limit=$2
    shift 2
    stage "$name" "$limit" epoch_says "$HERE/epoch" --device cuda "$@"
}

batch=256 sizes="64 128 512 1024" part="--samples 32768 --seconds 20" one="--samples 4096 --seconds 20" quick="" tiny=""
if [ "$REHEARSAL" = 1 ]; then
    batch=16 sizes="4 8" part="--samples 48" one="--samples 12" quick=--quick tiny="--tiny --device cpu --rounds 5"
fi

wanted environment && stage environment 60 environment_says bash -c environment
if wanted parity; then
    stage parity 120 tests_say "$HERE/gpu" --nocapture --test-threads 1 --skip every_op
    stage ops-f32 100 tests_say "$HERE/gpu" --nocapture --exact every_op_f32
    stage ops-bf16 100 tests_say "$HERE/gpu" --nocapture --exact every_op_bf16
fi
if wanted epoch; then
    epoch epoch-f32 90 --batch $batch --precision f32 --seconds 65
    epoch epoch-bf16 90 --batch $batch --precision bf16 --seconds 65
fi
if wanted benches; then
    stage kernels 200 benches_say "$HERE/kernels" --bench $quick --noplot
    for size in $sizes; do
        epoch "epoch-bf16-$size" 40 --batch "$size" --precision bf16 $part
    done
    epoch epoch-f32-1 40 --batch 1 --precision f32 $one
    epoch epoch-bf16-no-graphs 40 --batch $batch --precision bf16 --no-graphs $part
fi
if wanted sanitizers; then
    if command -v compute-sanitizer >/dev/null; then
        for tool in memcheck racecheck initcheck synccheck; do
            stage "sanitizer-$tool" 90 sanitizer_says compute-sanitizer --tool $tool --error-exitcode 9 \
                "$HERE/gpu" --exact quick_parity --nocapture
        done
    else
        for tool in memcheck racecheck initcheck synccheck; do absent "sanitizer-$tool" compute-sanitizer; done
    fi
fi
if wanted opponent; then
    if python3 -c 'import torch' 2>/dev/null; then
        stage opponent 240 opponent_says python3 "$HERE/opponent.py" --seconds 180 $tiny
    else
        absent opponent torch
    fi
fi

rm -rf "$OUT/cache"
{
    echo
    echo "$((SECONDS - BEGAN)) seconds in all."
    if [ -s "$OUT/epoch-bf16.json" ] && [ -s "$OUT/opponent.json" ]; then
        awk -v ours="$(number "$OUT/epoch-bf16.json" samples_per_second)" -v f32="$(number "$OUT/epoch-f32.json" samples_per_second)" \
            -v theirs="$(number "$OUT/opponent.json" samples_per_second)" 'BEGIN { if (theirs > 0)
            printf "\nAgainst PyTorch at batch 1, f32: %.0f times (bf16), %.0f times (f32) the samples a second.\n", ours / theirs, f32 / theirs }'
    fi
    if [ -s "$OUT/kernels.log" ]; then
        echo
        echo "## Kernels and the CPU's ops"
        echo '```'
        # Criterion breaks the line after a long name.
        awk '/time: / { line = $0; if (line ~ /^ /) { sub(/^ +/, "", line); line = name "  " line } print line; next } NF { name = $0 }' "$OUT/kernels.log"
        echo '```'
    fi
} >>"$SUMMARY"
cat "$SUMMARY"
exit $FAILED
