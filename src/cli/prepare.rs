//! `prepare`: paired data of any form → DATA.

use std::path::PathBuf;
use std::time::Instant;

use clap::ValueEnum;
use serde_json::json;

use super::context::Context;
use crate::data::anndata::MatrixKind;
use crate::data::cells::Strip;
use crate::data::source;
use crate::data::source::{Form, Select};
use crate::dataset::{Negatives, SampleConfig, SplitBy};
use crate::error::{Error, Result, quoted};
use crate::prepare::presets::Preset;
use crate::prepare::{GeneFeatures, Met, Pairing, PrepareConfig, prepare};

/// Flags of `prepare`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// RNA, cells × genes: .h5ad, .h5mu, 10x .h5, or a folder with matrix.mtx.gz
    #[arg(long, value_name = "FILE", conflicts_with_all = ["h5mu", "tenx", "dataset"])]
    pub rna: Option<PathBuf>,
    /// ATAC, the same cells × peaks, in any of these forms; may be the same file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["h5mu", "tenx", "dataset"])]
    pub atac: Option<PathBuf>,
    /// Both modalities from one MuData file (.h5mu)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["tenx", "dataset"])]
    pub h5mu: Option<PathBuf>,
    /// Both modalities from one 10x file (filtered_feature_bc_matrix.h5) or Matrix Market folder
    #[arg(long, value_name = "FILE", conflicts_with = "dataset")]
    pub tenx: Option<PathBuf>,
    /// One of the published data sets: its files, columns and features (`sccrossrec datasets` lists them)
    #[arg(long, value_name = "NAME", requires = "from")]
    pub dataset: Option<String>,
    /// Folder of the published data set
    #[arg(long, value_name = "DIR", requires = "dataset")]
    pub from: Option<PathBuf>,
    /// Take genes, peaks and features from this data set, so that a model trained on it meets these cells; --rna or
    /// --atac may then be given alone, for prediction
    #[arg(long, value_name = "DATA")]
    pub like: Option<PathBuf>,
    /// Folder to make
    #[arg(long, value_name = "DATA")]
    pub out: PathBuf,
    /// Gene annotation (GTF or GFF3, plain or gzip): chromosome, strand and start of genes that lack them
    #[arg(long, value_name = "FILE")]
    pub gtf: Option<PathBuf>,
    /// Take an annotation in which fewer than a fifth of the genes are found
    #[arg(long)]
    pub force_annotation: bool,
    /// Further names of chromosomes: a table such as UCSC's chromAlias.txt
    #[arg(long, value_name = "FILE")]
    pub aliases: Option<PathBuf>,
    /// Sequences of the peaks (FASTA, plain or gzip), by header chrom:start-end or in the order of the peaks
    #[arg(long, value_name = "FILE")]
    pub fasta: Option<PathBuf>,
    /// Layer of the RNA file to take instead of X; raw takes .raw
    #[arg(long, value_name = "NAME")]
    pub rna_layer: Option<String>,
    /// Layer of the ATAC file to take instead of X; raw takes .raw
    #[arg(long, value_name = "NAME")]
    pub atac_layer: Option<String>,
    /// Modality of a MuData file that is the RNA [default: rna, gex, …]
    #[arg(long, value_name = "NAME")]
    pub rna_modality: Option<String>,
    /// Modality of a MuData file that is the ATAC [default: atac, peaks, …]
    #[arg(long, value_name = "NAME")]
    pub atac_modality: Option<String>,
    /// Genome of a 10x file with several
    #[arg(long, value_name = "NAME")]
    pub tenx_genome: Option<String>,
    /// Refuse RNA values of another kind
    #[arg(long, value_enum, default_value = "any")]
    pub rna_values: Values,
    /// Refuse ATAC values of another kind
    #[arg(long, value_enum, default_value = "any")]
    pub atac_values: Values,
    /// Table of cells with a header (barcodes first, then columns such as cell_type)
    #[arg(long, value_name = "FILE")]
    pub obs: Option<PathBuf>,
    /// Column of obs with the cell types [default: cell_type where it is there]
    #[arg(long, value_name = "COLUMN")]
    pub cell_type_column: Option<String>,
    /// Gene features beside the chromosome: none, present (those the file has), or some of
    /// means,variances_norm,strand,highly_variable [default: none; with --dataset as published]
    #[arg(long, value_name = "LIST")]
    pub gene_features: Option<GeneFeatures>,
    /// How cells of the two files are brought together
    #[arg(long, value_enum, default_value = "by-barcode")]
    pub pair: Pair,
    /// Barcodes that differ by what stands before and behind them (-1, sample#): taken as equal where all then agree (auto),
    /// where more agree (strip), never (exact)
    #[arg(long, value_enum, default_value = "auto")]
    pub barcodes: Barcodes,
    /// Smallest acceptable share of the cells of the smaller file that are in both
    #[arg(long, value_name = "FRACTION", default_value_t = 0.5, allow_negative_numbers = true)]
    pub min_common: f64,
    /// How pairs are drawn, to train and to test on
    #[command(flatten)]
    pub draw: Draw,
    /// Replace an existing DATA
    #[arg(long)]
    pub force: bool,
}

/// Flags that say how pairs are drawn.
#[derive(Debug, Clone, clap::Args)]
pub struct Draw {
    /// How hard negatives are: two cells of different types (easy), of one type (hard), half and half (mixed)
    #[arg(long, value_enum, default_value = "easy")]
    pub negatives: NegativesArg,
    /// Negatives a positive
    #[arg(long, value_name = "R", default_value_t = 1.0, allow_negative_numbers = true)]
    pub negative_ratio: f64,
    /// What is dealt out 80/10/10: cells (no test cell is in training), pairs (pair, as published: their cells may be), or whole
    /// batches (donors, sites) told by a column of obs: batch:COLUMN. Of two batches validation takes cells of the training one; cells of
    /// none are for training
    #[arg(long, value_name = "cell|pair|batch:COLUMN", default_value = "cell")]
    pub split: SplitBy,
    /// With --split batch:COLUMN: the batches of the validation part [default: chosen by the seed]
    #[arg(long, value_name = "A,B")]
    pub val_batches: Vec<String>,
    /// With --split batch:COLUMN: the batches of the test part [default: chosen by the seed]
    #[arg(long, value_name = "A,B")]
    pub test_batches: Vec<String>,
    /// Only cells of these types
    #[arg(long, value_name = "A,B")]
    pub cell_types: Vec<String>,
    /// Positives only
    #[arg(long)]
    pub discovery: bool,
}

impl Draw {
    /// As the library wants it.
    pub fn config(&self, seed: u64) -> SampleConfig {
        SampleConfig {
            negatives: match self.negatives {
                NegativesArg::Easy => Negatives::Easy,
                NegativesArg::Hard => Negatives::Hard,
                NegativesArg::Mixed => Negatives::Mixed,
            },
            negative_ratio: self.negative_ratio,
            split: self.split.clone(),
            val_batches: self.val_batches.clone(),
            test_batches: self.test_batches.clone(),
            cell_types: self.cell_types.clone(),
            discovery: self.discovery,
            seed,
        }
    }
}

/// Kinds of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Values {
    /// Anything that is not negative
    Any,
    /// Whole numbers
    Counts,
    /// Fractions, as after log-normalisation
    Normalised,
    /// 0 and 1
    Binary,
}

impl Values {
    fn kind(self) -> Option<MatrixKind> {
        match self {
            Values::Any => None,
            Values::Counts => Some(MatrixKind::Counts),
            Values::Normalised => Some(MatrixKind::Normalised),
            Values::Binary => Some(MatrixKind::Binary),
        }
    }
}

/// See [`Pairing`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Pair {
    /// Cells of one name
    ByBarcode,
    /// Cells at one place; both files hold the same cells in the same order
    ByPosition,
}

/// See [`Strip`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Barcodes {
    /// As they are; without what stands before and behind them where all then agree
    Auto,
    /// As they are
    Exact,
    /// Without what stands before and behind them where more then agree
    Strip,
}

/// See [`Negatives`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum NegativesArg {
    /// Two cells of different types
    Easy,
    /// Two different cells of one type
    Hard,
    /// Half easy, half hard
    Mixed,
}

/// The files, and what a published data set says of them.
fn files(args: &Args, ctx: &Context) -> Result<PrepareConfig> {
    if let (Some(name), Some(from)) = (&args.dataset, &args.from) {
        return Preset::named(name)?.config(from);
    }
    let form = |path: &PathBuf, fits: fn(Form) -> bool, flag: &str| -> Result<()> {
        let found = source::form_of(path, &ctx.follow())?;
        if fits(found) {
            return Ok(());
        }
        Err(Error::input(
            path,
            format!("is {found}, not what {flag} takes"),
            "give it to --rna and --atac, or as it is",
        ))
    };
    if let Some(path) = &args.h5mu {
        form(path, |f| f == Form::MuData, "--h5mu")?;
        return Ok(PrepareConfig::new(path, path));
    }
    if let Some(path) = &args.tenx {
        form(path, |f| matches!(f, Form::TenX | Form::TenXLegacy | Form::MatrixMarket), "--tenx")?;
        return Ok(PrepareConfig::new(path, path));
    }
    let both = args.rna.is_some() && args.atac.is_some();
    if !both && (args.like.is_none() || (args.rna.is_none() && args.atac.is_none())) {
        return Err(Error::usage(
            "prepare needs its input: --rna FILE --atac FILE, --h5mu FILE, --tenx FILE, or --dataset NAME --from DIR \
             (one of --rna and --atac alone only with --like DATA, for prediction)",
        ));
    }
    Ok(PrepareConfig { rna: args.rna.clone(), atac: args.atac.clone(), ..PrepareConfig::new("", "") })
}

/// Runs `prepare` and prints what was made.
pub fn run(args: &Args, ctx: &Context) -> Result<()> {
    let start = Instant::now();
    let base = files(args, ctx)?;
    let select = |layer: &Option<String>, modality: &Option<String>| Select {
        layer: layer.clone(),
        modality: modality.clone(),
        genome: args.tenx_genome.clone(),
    };
    let config = PrepareConfig {
        like: args.like.clone(),
        access: ctx.access,
        held: ctx.held.clone(),
        obs: args.obs.clone(),
        gtf: args.gtf.clone(),
        force_annotation: args.force_annotation,
        aliases: args.aliases.clone(),
        barcodes: match args.barcodes {
            Barcodes::Auto => Strip::Auto,
            Barcodes::Exact => Strip::No,
            Barcodes::Strip => Strip::Yes,
        },
        fasta: args.fasta.clone().or(base.fasta.clone()),
        rna_select: select(&args.rna_layer, &args.rna_modality),
        atac_select: select(&args.atac_layer, &args.atac_modality),
        rna_kind: args.rna_values.kind(),
        atac_kind: args.atac_values.kind(),
        cell_type_column: args.cell_type_column.clone().or(base.cell_type_column.clone()),
        gene_features: args.gene_features.clone().unwrap_or(base.gene_features.clone()),
        min_common: args.min_common,
        pairing: match args.pair {
            Pair::ByBarcode => Pairing::ByBarcode,
            Pair::ByPosition => Pairing::ByPosition,
        },
        force: args.force,
        samples: args.draw.config(ctx.seed),
        ..base
    };
    let r = prepare(&config, &args.out, &ctx.follow())?;
    let seconds = start.elapsed().as_secs_f64();
    let row = |name: &str, value: String| format!("{name:<22} {value}\n");
    let mut table = row("data set", args.out.display().to_string());
    table += &row("cells", format!("{} ({} types)", r.cells, r.cell_types));
    table += &row("genes", format!("{} ({} without a chromosome)", r.genes, r.genes_unknown));
    if let Some(n) = r.genes_in_gtf {
        table += &row("genes in the GTF", format!("{n} of {}", r.genes));
    }
    if let Some(p) = r.promoters {
        table += &row("TSS near a peak", p.to_string());
    }
    table += &row("peaks", format!("{} ({} without a chromosome)", r.peaks, r.peaks_unknown));
    table += &row("chromosomes", r.chromosomes.to_string());
    let features = if r.gene_features.is_empty() { "none".into() } else { r.gene_features.join(", ") };
    table += &row("gene features", features);
    for (name, met) in [("genes of --like", r.like_genes), ("peaks of --like", r.like_peaks)] {
        if let Some(m) = met {
            let all = m.both + m.absent;
            table += &row(name, format!("{} of {all}; {} of these data are not in it (dropped)", m.both, m.dropped));
        }
    }
    let widths = (r.chromosomes + r.gene_features.len(), r.chromosomes + r.dna_length);
    table += &row("features", format!("{} a gene, {} a peak (one more with the value)", widths.0, widths.1));
    table += &row("bases of DNA a peak", r.dna_length.to_string());
    let mean = |n: u64| n as f64 / r.cells as f64;
    let entries = |n: u64, kind: Option<MatrixKind>| match kind {
        Some(kind) => format!("{n} ({:.0} a cell), {kind}", mean(n)),
        None => "none: this modality was not given".to_string(),
    };
    table += &row("RNA entries", entries(r.rna_entries, r.rna_kind));
    table += &row("ATAC entries", entries(r.atac_entries, r.atac_kind));
    table += &row(
        "cells dropped",
        format!("{} only RNA, {} only ATAC, {} without genes or peaks", r.unmatched.0, r.unmatched.1, r.empty),
    );
    table += &row("pairs", format!("{} positives, {} negatives", r.samples.0, r.samples.1));
    table += &row("train / val / test", format!("{} / {} / {}", r.parts.0, r.parts.1, r.parts.2));
    table += &row("bytes on disk", r.bytes.to_string());
    table += &row("seconds", format!("{seconds:.1}"));
    let json = json!({
        "out": args.out.display().to_string(), "hash": r.hash,
        "cells": r.cells, "cell_types": r.cell_types, "genes": r.genes, "peaks": r.peaks,
        "chromosomes": r.chromosomes, "genes_in_gtf": r.genes_in_gtf,
        "promoters": r.promoters, "genes_without_chromosome": r.genes_unknown, "peaks_without_chromosome": r.peaks_unknown,
        "gene_features": r.gene_features, "dna_length": r.dna_length,
        "gene_width": widths.0, "peak_width": widths.1,
        "like_genes": r.like_genes.map(met_json), "like_peaks": r.like_peaks.map(met_json),
        "rna_entries": r.rna_entries, "rna_values": r.rna_kind,
        "atac_entries": r.atac_entries, "atac_values": r.atac_kind,
        "only_rna": r.unmatched.0, "only_atac": r.unmatched.1, "dropped_empty": r.empty,
        "positives": r.samples.0, "negatives": r.samples.1,
        "train": r.parts.0, "val": r.parts.1, "test": r.parts.2,
        "bytes": r.bytes, "seconds": seconds,
    });
    ctx.result(&table, &json);
    let data = quoted(&args.out);
    let found = format!("{} cells of {} types, {} genes, {} peaks", r.cells, r.cell_types, r.genes, r.peaks);
    match r.rna_kind.and(r.atac_kind) {
        Some(_) if args.like.is_none() => {
            ctx.next(&found, &format!("sccrossrec check {data}, then sccrossrec train --data {data} --out run"))
        }
        _ => ctx.next(&found, &format!("sccrossrec translate --run RUN --data {data} --out expected.h5ad")),
    }
    Ok(())
}

fn met_json(m: Met) -> serde_json::Value {
    json!({ "both": m.both, "absent": m.absent, "dropped": m.dropped })
}
