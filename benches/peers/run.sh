#!/bin/bash
# What a user would otherwise fit, beside what the program gives: same cells, same metrics. Not part of CI.
#
#   benches/peers/run.sh DATA_FOLDER OUT [PROGRAM]
#
# DATA_FOLDER holds snare_cortex/{rna,atac}.h5ad, neurips2021_starter/{rna,atac}.h5ad, gtf/gencode.vM23.genes.gtf.gz and
# gtf/gencode.v43.genes.gtf.gz. OUT/tables is what is kept: rows, tables, the picture. Everything on one thread, one process at a
# time. What has rows already is not run again.
#
# PROGRAM=sccrossrec. SEEDS="1 2 3 4 5": one split each. STAGES="peers ours tables"; slow: MultiVI and GLUE on the first seed
# (EPOCHS=500, GLUE_EPOCHS=200, RATE=1e-4). PYTHON: an environment that is there; else OUT/venv is made from requirements.txt
# (and requirements-slow.txt for slow).
set -euo pipefail
[ $# -ge 2 ] || { sed -n '2,/^set/{/^#/p}' "$0"; exit 2; }
data=$(realpath "$1") program=${3:-sccrossrec}
mkdir -p "$2/tables"
out=$(realpath "$2") here=$(dirname "$(realpath "$0")")
seeds=${SEEDS:-1 2 3 4 5} stages=${STAGES:-peers ours tables}
tables=$out/tables rows=$out/tables/rows.jsonl
export OMP_NUM_THREADS=1
has() { [[ " $stages " == *" $1 "* ]]; }

python=${PYTHON:-$out/venv/bin/python}
if [ -z "${PYTHON:-}" ]; then
  [ -x "$python" ] || python3 -m venv "$out/venv"
  wanted=(-r "$here/requirements.txt")
  if has slow; then wanted+=(-r "$here/requirements-slow.txt"); fi
  "$python" -m pip install --quiet "${wanted[@]}"
fi

# prepared NAME GTF SEED [FLAGS OF prepare]: OUT/NAME.SEED, the data set whose parts are used
prepared() {
  local name=$1 gtf=$2 seed=$3; shift 3
  [ -s "$out/$name.$seed/dataset.json" ] || "$program" --quiet --threads 1 prepare --rna "$data/$name/rna.h5ad" \
    --atac "$data/$name/atac.h5ad" --gtf "$data/gtf/$gtf" --out "$out/$name.$seed" --seed "$seed" --force "$@" > /dev/null
}
# on SCRIPT NAME SEED [FLAGS]
on() {
  local script=$1 name=$2 seed=$3; shift 3
  "$python" "$here/$script" --rna "$data/$name/rna.h5ad" --atac "$data/$name/atac.h5ad" --name "$name" --seed "$seed" \
    --out "$rows" "$@"
}

for seed in $seeds; do
  prepared snare_cortex gencode.vM23.genes.gtf.gz "$seed"
  prepared neurips2021_starter gencode.v43.genes.gtf.gz "$seed" --rna-layer counts
  for name in snare_cortex neurips2021_starter; do
    if has peers; then on peers.py $name "$seed" --prepared "$out/$name.$seed"; fi
    if has ours; then
      on ours.py $name "$seed" --prepared "$out/$name.$seed" --program "$program" --work "$out/ours.$name.$seed"
    fi
  done
  # `prepare --split batch:batch` wants three batches, and there are two: peers alone
  if has peers; then on peers.py neurips2021_starter "$seed" --test-batch batch=s1d2; fi
done
if has slow; then
  first=${seeds%% *}
  on multivi.py snare_cortex "$first" --prepared "$out/snare_cortex.$first" --epochs "${EPOCHS:-500}" --rate "${RATE:-1e-4}"
  on glue.py snare_cortex "$first" --prepared "$out/snare_cortex.$first" --epochs "${GLUE_EPOCHS:-200}"
fi
if has tables; then
  "$python" "$here/table.py" "$rows" > "$tables/tables.md"
  "$python" "$here/picture.py" "$rows" --data snare_cortex --out "$tables/snare_cortex.svg"
fi
