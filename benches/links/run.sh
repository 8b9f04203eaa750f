#!/bin/bash
# Our links beside other tools' scores, on the same pairs; and what is claimed where there is nothing. Not part of CI.
#
#   benches/links/run.sh DATA OUT [real] [halves] [planted] [permuted]
#
# DATA holds snare_cortex/{rna,atac}.h5ad, gtf/gencode.vM23.genes.gtf.gz and gold/e18_mouse_brain. Without stages, all of them.
# OUT/tables is what is kept; the rest of OUT can be thrown away. PROGRAM=sccrossrec, PYTHON=python3 (anndata, scipy, pandas),
# SEEDS="1 2 3 4 5", DIFFICULTIES="independent programs distance tissue". Everything on one thread. What is in OUT already is not
# made again. scmultimap, which would take most of the time, is left out of tissue (SLOW=1: not left out), and tissue is scored on
# the pairs of 300 random genes.
set -euo pipefail
data=$(realpath "$1") out=$2; shift 2
stages=${*:-real halves planted permuted}
here=$(dirname "$(realpath "$0")")
program=${PROGRAM:-sccrossrec} python=${PYTHON:-python3} seeds=${SEEDS:-1 2 3 4 5}
difficulties=${DIFFICULTIES:-independent programs distance tissue}
export OMP_NUM_THREADS=1
mkdir -p "$out/tables"
out=$(realpath "$out") tables=$(realpath "$out")/tables
snare=$data/snare_cortex gtf=$data/gtf/gencode.vM23.genes.gtf.gz

# links FOLDER RNA ATAC GTF [FLAGS OF DISCOVER]: FOLDER/links, its time and memory in FOLDER/cost.tsv
links() {
  local to=$1 rna=$2 atac=$3 annotation=$4; shift 4
  [ ! -s "$to/discover.log" ] || return 0
  mkdir -p "$to"; : > "$to/cost.tsv"
  /usr/bin/time -a -o "$to/cost.tsv" -f "prepare\t%U\t%S\t%e\t%M" \
    "$program" --quiet --threads 1 prepare --rna "$rna" --atac "$atac" --gtf "$annotation" --out "$to/data" --force > /dev/null
  /usr/bin/time -a -o "$to/cost.tsv" -f "discover\t%U\t%S\t%e\t%M" \
    "$program" --quiet --threads 1 discover --data "$to/data" --out "$to/links" --force "$@" > "$to/discover.log"
}
pairs() { "$python" "$here/pairs.py" --rna "$1" --atac "$2" --gtf "$3" --out "$4" "${@:5}"; }
peers() { "$python" "$here/peers.py" --cell-type cell_type "$@" 2>&1; }
score() { "$python" "$here/score.py" "$@"; }

has() { [[ " $stages " == *" $1 "* ]]; }

if has real || has halves; then
  pairs "$snare/rna.h5ad" "$snare/atac.h5ad" "$gtf" "$out/pairs.tsv"
fi

if has real; then
  "$python" "$here/subset.py" --rna "$snare/rna.h5ad" --atac "$snare/atac.h5ad" --without cell_type,ident --out "$out/untyped"
  links "$out/all" "$snare/rna.h5ad" "$snare/atac.h5ad" "$gtf"
  links "$out/bare" "$snare/rna.h5ad" "$snare/atac.h5ad" "$gtf" --replicates none --min-type-cells 1000000
  cmp <(cut -f 4-11,20-22 "$out/all/links/links.tsv") <(cut -f 4-11,20-22 "$out/bare/links/links.tsv")
  links "$out/untyped" "$out/untyped/rna.h5ad" "$out/untyped/atac.h5ad" "$gtf"
  peers --rna "$snare/rna.h5ad" --atac "$snare/atac.h5ad" --pairs "$out/pairs.tsv" --replicates batch \
    --ours "$out/all/links" "neighbourhoods=$out/untyped/links" --out "$out/scores.tsv" | tee "$tables/peers.log"
  for cells in 0 1; do
    score "$out/scores.tsv" --e18 "$data/gold/e18_mouse_brain" --against ours:log_odds --least-cells $cells \
      --table "$tables/e18-$cells.tsv" > "$tables/e18-$cells.md"
  done
  { printf 'method\tCPU s\twall s\tpeak MiB\n'
    for run in all bare untyped; do awk -F '\t' -v run=$run '{printf "%s, %s\t%.1f\t%.1f\t%.0f\n", $1, run, $2 + $3, $4, $5 / 1024}' "$out/$run/cost.tsv"; done
    tail -n +2 "$out/scores.cost.tsv" | cut -f 1,3-; } > "$tables/cost.tsv"
fi

if has halves; then
  for half in a:09A,09B,09C,09D,09E,09F b:09G,09H,09I,09J,09K,09L; do
    to=$out/half-${half%%:*}
    "$python" "$here/subset.py" --rna "$snare/rna.h5ad" --atac "$snare/atac.h5ad" --batches "${half#*:}" --out "$to"
    "$python" "$here/subset.py" --rna "$to/rna.h5ad" --atac "$to/atac.h5ad" --without cell_type,ident --out "$to/untyped"
    links "$to" "$to/rna.h5ad" "$to/atac.h5ad" "$gtf"
    links "$to/untyped" "$to/untyped/rna.h5ad" "$to/untyped/atac.h5ad" "$gtf"
    peers --rna "$to/rna.h5ad" --atac "$to/atac.h5ad" --pairs "$out/pairs.tsv" --replicates batch \
      --ours "$to/links" "neighbourhoods=$to/untyped/links" --out "$to/scores.tsv"
  done
  score --halves "$out/half-a/scores.tsv" "$out/half-b/scores.tsv" > "$tables/halves.md"
fi

if has planted; then
  for difficulty in $difficulties; do
    for seed in $seeds; do
      to=$out/$difficulty.$seed some=() only=()
      [ ! -e "$out/$difficulty.1.$seed.tsv" ] || continue
      shape=
      # the shape of snare_cortex, by which its defaults were chosen
      if [ $difficulty = tissue ]; then
        shape="--cells 10309 --genes 1677 --peaks 25734 --chromosomes 20 --cell-types 15" some=(--genes 300)
        [ -n "${SLOW:-}" ] || only=(--only distance plain spearman type_means pseudobulk signac scent scarlink sketch)
      fi
      "$program" --quiet simulate --difficulty $difficulty --seed "$seed" $shape --out "$to" --force > /dev/null
      pairs "$to/rna.h5ad" "$to/atac.h5ad" "$to/genes.gtf" "$to/pairs.tsv" "${some[@]}"
      links "$to" "$to/rna.h5ad" "$to/atac.h5ad" "$to/genes.gtf" --replicates none --min-type-cells 1000000
      # the bootstrap, which is slow: of the pairs we test, and no more than this
      peers --rna "$to/rna.h5ad" --atac "$to/atac.h5ad" --pairs "$to/pairs.tsv" --ours "$to/links" --bootstraps 2500 --tested scent \
        "${only[@]}" --out "$to/scores.tsv"
      for cells in 0 1; do
        score "$to/scores.tsv" --truth "$to/truth.tsv" --resamples 0 --least-cells $cells \
          --table "$out/$difficulty.$cells.$seed.tsv" > /dev/null
      done
      rm -r "$to/data" "$to"/*.h5ad
    done
  done
  for cells in 0 1; do
    files=()
    for difficulty in independent programs distance tissue; do
      for f in "$out/$difficulty.$cells".*.tsv; do [ ! -e "$f" ] || files+=("$f"); done
    done
    score --over "${files[@]}" > "$tables/planted-$cells.md"
    for f in "${files[@]}"; do awk -F '\t' -v name="$(basename "$f" .tsv)" 'NR > 1 {split(name, a, "."); print a[1] "\t" a[3] "\t" $0}' "$f"
    done | { printf 'difficulty\tseed\t'; head -1 "${files[0]}"; cat; } > "$tables/planted-$cells.tsv"
  done
fi

if has permuted; then
  "$python" "$here/permuted.py" --rna "$snare/rna.h5ad" --atac "$snare/atac.h5ad" --gtf "$gtf" --program "$program" \
    --seeds "$(wc -w <<< "$seeds")" --out "$tables/permuted.tsv"
fi
