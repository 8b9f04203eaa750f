#!/usr/bin/env bash
# Makes the pictures of the documentation, by the program, of real cells:
#   docs/img/make.sh RNA.h5ad ATAC.h5ad ANNOTATION.gtf.gz [PROGRAM]
# The files are those of docs/cortex.py, with an annotation of mm10 that has exons. The page is shown where there is a Chromium.
set -euo pipefail
[ $# -ge 3 ] || { sed -n '2,4s/^# //p' "$0"; exit 2; }
rna=$(realpath "$1") atac=$(realpath "$2") gtf=$(realpath "$3") program=$(realpath "$(command -v "${4:-sccrossrec}")")
img=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"$program" prepare --rna "$rna" --atac "$atac" --gtf "$gtf" --out data --quiet
"$program" train --data data --recipe fast --out run --quiet
"$program" discover --run run --out links --quiet
"$program" plot region Kcnj10 --data data --discovery links --scale 1 --out "$img/region.png" --force --quiet
"$program" plot umap --run run --scale 1 --out "$img/umap.png" --force --quiet
"$program" plot dotplot --data data --genes Gad1,Gad2,Slc17a7,Pvalb,Sst,Vip,Mbp,Cux2,Rorb,Slc1a3 --scale 1 --out "$img/dotplot.png" --force --quiet
"$program" report run --discovery links --out report.html --quiet
if browser=$(command -v chromium || command -v google-chrome); then
    "$browser" --headless --no-sandbox --disable-gpu --hide-scrollbars --window-size=1200,1400 --screenshot="$img/report.png" \
        "file://$work/report.html" 2>/dev/null
fi
ls -l "$img"/*.png
