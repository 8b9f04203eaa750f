//! Are data good enough to train on? A light a question, with the reason and the remedy.

use rayon::prelude::*;
use serde::Serialize;

use crate::data::anndata::MatrixKind;
use crate::dataset::samples::UNLABELLED;
use crate::dataset::{Cell, DataSet};
use crate::error::Result;
use crate::prepare::PromoterShare;
use crate::progress::Progress;
use crate::vocabulary::{REPLICATE_COLUMNS, Vocabulary};

/// How a question is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Light {
    /// Nothing to do.
    Good,
    /// It can go on, and some results will be worse or missing.
    Doubtful,
    /// To be mended first.
    Bad,
}

impl Light {
    /// In a word.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Light::Good => "good",
            Light::Doubtful => "doubtful",
            Light::Bad => "bad",
        }
    }
}

/// One question about the data.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Finding {
    /// What was looked at.
    pub what: &'static str,
    /// How it is.
    pub light: Light,
    /// What was found.
    pub value: String,
    /// Why that is no good; empty where it is.
    pub reason: String,
    /// What to do; empty where it is good.
    pub remedy: String,
}

/// Cells below which data are bad, and doubtful.
const CELLS: [usize; 2] = [100, 500];
/// Cells of a type, a replicate or a test part that are few.
const FEW: usize = 50;
/// Genes a cell (median) that are too few and few, and the same as a share of all genes where that is less.
const GENES: [(f64, f64); 2] = [(100.0, 0.02), (500.0, 0.05)];
/// The same of peaks.
const PEAKS: [(f64, f64); 2] = [(100.0, 0.001), (1000.0, 0.01)];
/// Largest share of cells that only one file has, and that are empty: bad above, doubtful above.
const LOST: [f64; 2] = [0.5, 0.2];
/// Least share of genes with a TSS and of peaks with a place: bad below, doubtful below.
const PLACED: [f64; 2] = [0.2, 0.8];

fn finding(what: &'static str, light: Light, value: String, [reason, remedy]: [&str; 2]) -> Finding {
    let said = |text: &str| if light == Light::Good { String::new() } else { text.to_string() };
    Finding { what, light, value, reason: said(reason), remedy: said(remedy) }
}

/// Bad below the first bound, doubtful below the second.
fn at_least(x: f64, bounds: [f64; 2]) -> Light {
    match () {
        () if x < bounds[0] => Light::Bad,
        () if x < bounds[1] => Light::Doubtful,
        () => Light::Good,
    }
}

fn at_most(x: f64, bounds: [f64; 2]) -> Light {
    at_least(-x, bounds.map(|b| -b))
}

fn percent(x: f64) -> String {
    format!("{:.1} %", 100.0 * x)
}

/// Looks at a data set: all questions, in an order that a reader can follow.
///
/// # Errors
/// A sample set that is damaged; [`crate::Error::Interrupted`].
pub(crate) fn health(data: &DataSet, progress: &dyn Progress) -> Result<Vec<Finding>> {
    let mut out = vec![cells(data), both(data), empty(data)];
    out.extend(entries(data, progress)?);
    let v = data.vocabulary();
    out.extend(values(data));
    out.extend(types(v));
    out.push(replicates(v));
    out.extend(places(v));
    out.push(promoters(data));
    out.push(split(data)?);
    out.push(doublets(v));
    Ok(out)
}

fn cells(data: &DataSet) -> Finding {
    let n = data.n_cells();
    let light = at_least(n as f64, CELLS.map(|c| c as f64));
    finding(
        "cells",
        light,
        n.to_string(),
        [
            "a model learns little from so few cells, and its test part says little",
            "add cells, or take the scores as a first hint",
        ],
    )
}

/// A count that `prepare` has told.
fn told(data: &DataSet, key: &str) -> usize {
    data.origin().get(key).and_then(serde_json::Value::as_u64).unwrap_or(0) as usize
}

fn both(data: &DataSet) -> Finding {
    let lacking = match data.kinds() {
        (None, _) => Some("only ATAC"),
        (_, None) => Some("only RNA"),
        _ => None,
    };
    if let Some(value) = lacking {
        let why = [
            "training needs both modalities of the same cells",
            "prepare with --rna and --atac; a trained model can predict for these cells",
        ];
        return finding("cells with both", Light::Bad, value.into(), why);
    }
    let (n, rna, atac) =
        (data.n_cells() + told(data, "dropped_empty"), told(data, "only_rna"), told(data, "only_atac"));
    let all = n + rna + atac;
    let lost = (rna + atac) as f64 / all.max(1) as f64;
    finding(
        "cells with both",
        at_most(lost, LOST),
        format!("{n} of {all} ({rna} only RNA, {atac} only ATAC)"),
        [
            "many cells are in one file only: the files may be of other samples, or their barcodes written otherwise",
            "compare the barcodes (`sccrossrec inspect`); --barcodes strip drops what stands before and behind them",
        ],
    )
}

fn empty(data: &DataSet) -> Finding {
    let (n, lost) = (data.n_cells(), told(data, "dropped_empty"));
    let share = lost as f64 / (n + lost).max(1) as f64;
    finding(
        "cells dropped",
        at_most(share, LOST),
        format!("{lost} without genes or peaks ({})", percent(share)),
        [
            "many cells have nothing in one modality",
            "filter cells by quality before, or give the right layer (--rna-layer, --atac-layer)",
        ],
    )
}

/// Genes and peaks a cell: medians.
fn entries(data: &DataSet, progress: &dyn Progress) -> Result<[Finding; 2]> {
    progress.at("counting", 0, 0);
    progress.check("nothing was written")?;
    let sizes: Vec<[usize; 2]> = (0..data.n_cells())
        .into_par_iter()
        .map_init(Cell::default, |cell, i| {
            data.cell_into(i, cell);
            [cell.genes.len(), cell.peaks.len()]
        })
        .collect();
    let median = |k: usize| {
        let mut all: Vec<usize> = sizes.iter().map(|s| s[k]).collect();
        all.sort_unstable();
        all.get(all.len() / 2).copied().unwrap_or(0)
    };
    let v = data.vocabulary();
    let line = |what, k: usize, of: usize, bounds: [(f64, f64); 2]| {
        let m = median(k);
        finding(
            what,
            at_least(m as f64, bounds.map(|(number, share)| number.min(share * of as f64))),
            format!("{m} of {of} (median)"),
            [
                "cells are read so thinly that they look alike",
                "leave out cells of low quality, sequence deeper, or give counts that were not filtered to a few features",
            ],
        )
    };
    Ok([line("genes a cell", 0, v.genes.len(), GENES), line("peaks a cell", 1, v.peaks.len(), PEAKS)])
}

fn values(data: &DataSet) -> Vec<Finding> {
    let (rna, atac) = data.kinds();
    let mut out = Vec::new();
    if let Some(kind) = rna {
        let light = if kind == MatrixKind::Counts { Light::Good } else { Light::Doubtful };
        let why = [
            "the towers predict expression from counts; of other values depth cannot be told",
            "prepare with the layer that holds counts (--rna-layer NAME, or raw); `sccrossrec inspect` lists the layers",
        ];
        out.push(finding("RNA values", light, kind.to_string(), why));
    }
    if let Some(kind) = atac {
        let light = if kind == MatrixKind::Normalised { Light::Doubtful } else { Light::Good };
        let why = [
            "accessibility is read as open or not, and as counts; these were transformed",
            "prepare with the layer that holds counts or 0 and 1 (--atac-layer NAME, or raw)",
        ];
        out.push(finding("ATAC values", light, kind.to_string(), why));
    }
    out
}

fn types(v: &Vocabulary) -> Vec<Finding> {
    let mut sizes: Vec<(&str, usize)> = v.cell_types.iter().map(|t| (t.as_str(), 0)).collect();
    v.cell_type.iter().for_each(|&t| sizes[t as usize].1 += 1);
    sizes.retain(|t| t.0 != UNLABELLED);
    let (light, value) = match sizes.len() {
        0 => (Light::Doubtful, "none".to_string()),
        1 => (Light::Doubtful, format!("1 ({})", sizes[0].0)),
        n => (Light::Good, n.to_string()),
    };
    let why = [
        "without types there are no easy negatives, no links of a type, and no word on how types are told apart",
        "prepare with --cell-type-column COLUMN, or with a table of cells: --obs cells.csv",
    ];
    let mut out = vec![finding("cell types", light, value, why)];
    let small: Vec<&str> = sizes.iter().filter(|t| t.1 < FEW).map(|t| t.0).collect();
    if !sizes.is_empty() {
        let light = if small.is_empty() { Light::Good } else { Light::Doubtful };
        let value = match small.len() {
            0 => "none".to_string(),
            n => format!("{n} ({}{})", small[..n.min(4)].join(", "), if n > 4 { ", …" } else { "" }),
        };
        let why = [
            "`discover` writes no links of a type with fewer than 50 cells",
            "join them with types alike, or leave them out",
        ];
        out.push(finding("types of < 50 cells", light, value, why));
    }
    out
}

fn replicates(v: &Vocabulary) -> Finding {
    let named = |name: &&str| v.obs.iter().find(|c| c.name.eq_ignore_ascii_case(name) && c.categories.len() > 1);
    let found = REPLICATE_COLUMNS.iter().find_map(named);
    let light = if found.is_some() { Light::Good } else { Light::Doubtful };
    let value = found.map_or("none".into(), |c| format!("{} ({})", c.name, c.categories.len()));
    let why = [
        "no column tells donors or batches: nothing can be said of other donors, and links are not tested across them",
        "add a column such as donor or batch with --obs cells.csv, and hold whole ones out with --split batch:donor",
    ];
    finding("donors or batches", light, value, why)
}

fn places(v: &Vocabulary) -> [Finding; 3] {
    let share = |n: usize, of: usize| n as f64 / of.max(1) as f64;
    let genes = v.genes.iter().filter(|g| g.tss.is_some() && Some(g.chrom) != v.unknown).count();
    let peaks = v.peaks.iter().filter(|p| p.start >= 0 && Some(p.chrom) != v.unknown).count();
    let value = |n: usize, of: usize| format!("{n} of {of} ({})", percent(share(n, of)));
    let gtf = "prepare with the annotation of the genome that was used (--gtf)";
    let on = |chroms: Vec<u32>| {
        chroms.into_iter().filter(|&c| Some(c) != v.unknown).collect::<std::collections::BTreeSet<u32>>()
    };
    let (of_genes, of_peaks) =
        (on(v.genes.iter().map(|g| g.chrom).collect()), on(v.peaks.iter().map(|p| p.chrom).collect()));
    let shared = of_genes.intersection(&of_peaks).count();
    [
        finding(
            "genes with a TSS",
            at_least(share(genes, v.genes.len()), PLACED),
            value(genes, v.genes.len()),
            ["a gene without a place has no links and no peaks near it", gtf],
        ),
        finding(
            "peaks with a place",
            at_least(share(peaks, v.peaks.len()), PLACED),
            value(peaks, v.peaks.len()),
            [
                "a peak without a place has no links",
                "name peaks as chr1:100-200, or give their columns chrom, start and end",
            ],
        ),
        finding(
            "chromosomes",
            if shared == 0 { Light::Bad } else { at_least(share(shared, of_peaks.len()), [0.0, 0.5]) },
            format!("{shared} with genes and peaks"),
            ["genes and peaks name their chromosomes otherwise, or lack them", gtf],
        ),
    ]
}

fn promoters(data: &DataSet) -> Finding {
    let kept = PromoterShare::kept(data.origin());
    let Some(share) = kept.or_else(|| PromoterShare::of(data.vocabulary())) else {
        let why = [
            "no gene and peak have places to compare",
            "prepare with the annotation of the genome that was used (--gtf)",
        ];
        return finding("peaks at TSSs", Light::Bad, "not told".into(), why);
    };
    let value = format!(
        "{} of TSSs have a peak within 1 kb, {} of places beside them",
        percent(share.near),
        percent(share.shifted)
    );
    let why = [
        "peaks are near transcription starts hardly more often than elsewhere: peaks and annotation are of two genome builds, or \
         peaks avoid promoters",
        "give the GTF of the build that the peaks were called on (hg38 or hg19, mm10 or mm39)",
    ];
    finding("peaks at TSSs", if share.is_odd() { Light::Bad } else { Light::Good }, value, why)
}

fn split(data: &DataSet) -> Result<Finding> {
    const REMEDY: &str = "draw pairs with `sccrossrec pairs`, or take more cells";
    if !data.sample_sets()?.iter().any(|n| n == "default") {
        let why = ["there are no pairs to train on", REMEDY];
        return Ok(finding("split", Light::Bad, "no pairs".into(), why));
    }
    let set = data.samples("default")?;
    let parts = set.part_of_cells(data.n_cells());
    let count = |name: &str| parts.iter().filter(|p| **p == name).count();
    let by = set.recipe.get("split").and_then(|s| s.as_str()).unwrap_or("?").to_string();
    let [train, val, test] = ["train", "val", "test"].map(count);
    let light = match () {
        () if test == 0 || val == 0 => Light::Bad,
        () if test < FEW || val < FEW || by == "sample" => Light::Doubtful,
        () => Light::Good,
    };
    let by = if by == "sample" { "pair".into() } else { by };
    let why = match by.as_str() {
        "pair" => [
            "split by pair: cells of the test part are seen in training",
            "draw pairs split by cell: `sccrossrec pairs --split cell`",
        ],
        _ => ["scores of so few validation or test cells are guesses", REMEDY],
    };
    Ok(finding("split", light, format!("by {by}: {train} cells train, {val} validate, {test} test"), why))
}

fn doublets(v: &Vocabulary) -> Finding {
    let found = v.obs.iter().find(|c| c.name.to_lowercase().contains("doublet"));
    let light = if found.is_some() { Light::Good } else { Light::Doubtful };
    let why = [
        "nothing says that doublets were taken out; two cells in one look like links between their types",
        "take them out before (Scrublet, scDblFinder), or look after training with `sccrossrec match --doubts`",
    ];
    finding("doublets", light, found.map_or("not looked at".into(), |c| format!("column {}", c.name)), why)
}
