#!/usr/bin/env bash
# Installs the wheel of python/dist (or the one named) into clean environments, with the oldest and the newest anndata that are
# promised, and runs python/tests there.
#
#   python/test.sh [WHEEL]
#
#   SCCROSSREC_BINARY=F        the native program whose checkpoints must have the same bytes [default: target/release/sccrossrec,
#                              else the program of the wheel]
#   SCCROSSREC_TEST_DATA=DIR   real data, for the notebooks; without it they skip
#   SCCROSSREC_ANNDATA=0.12.19 only this anndata
set -euo pipefail
cd "$(dirname "$0")/.."
wheel=${1:-$(ls python/dist/*.whl)}
if [ -z "${SCCROSSREC_BINARY:-}" ] && [ -x target/release/sccrossrec ]; then
    export SCCROSSREC_BINARY=$PWD/target/release/sccrossrec
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
for anndata in ${SCCROSSREC_ANNDATA:-0.11.4 0.12.19}; do
    echo "+ anndata $anndata"
    python3 -m venv "$work/$anndata"
    pip=$work/$anndata/bin/pip
    "$pip" install -q --disable-pip-version-check "$wheel" "anndata==$anndata" 'mudata>=0.3' \
        pytest==8.4.2 mypy==1.18.2 pandas-stubs nbclient==0.10.2 ipykernel==6.30.1
    # Snakemake for the newest alone.
    [ "$anndata" != 0.12.19 ] || "$pip" install -q --disable-pip-version-check snakemake==9.11.2
    # Away from the checkout, so that the installed package is what is tested.
    tests=$PWD/python/tests
    (cd "$work" && "$work/$anndata/bin/python" -m pytest -q -p no:cacheprovider --rootdir "$tests" "$tests") || failed=1
    # A tutorial as it is printed, with nothing but the wheel.
    "$work/$anndata/bin/python" docs/make.py docs/tutorial-10x.md --program "$work/$anndata/bin/sccrossrec" --check || failed=1
done
exit $failed
