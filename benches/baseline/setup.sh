#!/bin/bash
# Makes the Python environment of the baseline, .tools/baseline (another folder: SCCROSSREC_BASELINE=DIR), with the
# versions of requirements.txt. Run again it does nothing. Packages come from wherever pip is set up to look.
#
#   benches/baseline/setup.sh            # prints the path of its python
#
# torch is the CPU build where pip finds one (2.5.1+cpu, as on PyTorch's own index). Where pip finds only the CUDA build,
# that is installed without the 2.5 GB of CUDA libraries it names: those it is linked with are stood in for by empty
# ones, which tell that there is no GPU. What runs on the CPU is the same code in both.
#   SCCROSSREC_BASELINE_CUDA=1           the CUDA build with all its libraries, for a machine with a GPU
set -eu
HERE=$(cd "$(dirname "$0")" && pwd)
DIR=${SCCROSSREC_BASELINE:-$HERE/../../.tools/baseline}
mkdir -p "$DIR" && DIR=$(cd "$DIR" && pwd)
PYTHON=$DIR/bin/python
WANTED=$(cat "$HERE/requirements.txt"; sha256sum <"$0"; echo "cuda=${SCCROSSREC_BASELINE_CUDA:-}")
if [ "$(cat "$DIR/made" 2>/dev/null)" = "$WANTED" ]; then echo "$PYTHON"; exit 0; fi

python3 -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' ||
    { echo "setup: python3 must be 3.10, 3.11 or 3.12 (those that torch 2.5.1 is built for)" >&2; exit 1; }
rm -rf "$DIR"
python3 -m venv "$DIR" || { echo "setup: no python3 -m venv (Debian: install python3-venv)" >&2; exit 1; }
get() { "$PYTHON" -m pip install -q --disable-pip-version-check "$@" >&2; }
TORCH=$(grep '^torch==' "$HERE/requirements.txt")
REST=$DIR/rest.txt
grep -v '^torch==' "$HERE/requirements.txt" >"$REST"

# Symbols that the libraries of folder $1 want of library $2.
wanted_of() {
    readelf -W --dyn-syms "$1"/libtorch_cuda.so "$1"/libtorch_python.so | awk -v lib="$2" '
        BEGIN { family = lib; sub(/^lib/, "", family); sub(/\.so.*/, "", family) }
        $7 == "UND" { n = split($8, part, "@")
            if (n > 1 ? part[n] == lib : index(part[1], family) == 1) print part[1] }' | sort -u
}
stand_in() { # folder, library: every function fails
    wanted_of "$1" "$2" | awk '{ print "int " $1 "(void) { return 1; }" }' >"$DIR/stand_in.c"
    echo "$2 { *; };" >"$DIR/stand_in.map"
    cc -shared -fPIC -w -Wl,-soname,"$2" -Wl,--version-script="$DIR/stand_in.map" -o "$1/$2" "$DIR/stand_in.c"
}

if [ "${SCCROSSREC_BASELINE_CUDA:-}" = 1 ]; then
    get "$TORCH"
elif get --no-deps "$TORCH+cpu" 2>/dev/null; then
    :
else
    echo "setup: pip knows no CPU build of torch: taking the CUDA build (0.9 GB) without its libraries" >&2
    command -v cc >/dev/null && command -v readelf >/dev/null || { echo "setup: that needs cc and readelf" >&2; exit 1; }
    get --no-deps "$TORCH"
    LIB=$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')/torch/lib
    if [ -e "$LIB/libtorch_cuda.so" ]; then
        get --no-deps nvidia-cuda-runtime-cu12==12.4.127 nvidia-cuda-cupti-cu12==12.4.127
        for lib in libcusparse.so.12 libcufft.so.11 libcurand.so.10 libcublas.so.12 libcublasLt.so.12 libcudnn.so.9 libnccl.so.2; do
            stand_in "$LIB" $lib
        done
    fi
fi
get --no-deps -r "$REST"
"$PYTHON" - >&2 <<'CHECK'
import h5py, numpy, safetensors.torch, torch
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader
x = torch.randn(64, 64, requires_grad=True)
torch.optim.Adam([x])
(x @ x).sigmoid().topk(10).values.sum().backward()
assert x.grad.isfinite().all()
print("torch", torch.__version__, "on", "a GPU" if torch.cuda.is_available() else "the CPU")
CHECK
echo "$WANTED" >"$DIR/made"
echo "$PYTHON"
