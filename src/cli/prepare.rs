//! `prepare`: two `.h5ad` files → DATA.

use std::path::PathBuf;
use std::time::Instant;

use clap::ValueEnum;
use serde_json::json;

use super::Context;
use crate::data::anndata::MatrixKind;
use crate::data::source::Select;
use crate::error::Result;
use crate::graph::{GeneFeatures, Hooks, Negatives, Pairing, PrepareConfig, SampleConfig, SplitBy, prepare};

/// Flags of `prepare`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// RNA: AnnData file (.h5ad), cells × genes
    #[arg(long, value_name = "FILE")]
    pub rna: PathBuf,
    /// ATAC: AnnData file (.h5ad), the same cells × peaks
    #[arg(long, value_name = "FILE")]
    pub atac: PathBuf,
    /// Folder to make
    #[arg(long, value_name = "DATA")]
    pub out: PathBuf,
    /// Gene annotation (GENCODE or Ensembl GTF, plain or gzip): chromosome, strand and start of genes that lack them
    #[arg(long, value_name = "FILE")]
    pub gtf: Option<PathBuf>,
    /// Sequences of the peaks (FASTA, plain or gzip), by header chrom:start-end or in the order of the peaks
    #[arg(long, value_name = "FILE")]
    pub fasta: Option<PathBuf>,
    /// Layer of the RNA file to take instead of X
    #[arg(long, value_name = "NAME")]
    pub rna_layer: Option<String>,
    /// Layer of the ATAC file to take instead of X
    #[arg(long, value_name = "NAME")]
    pub atac_layer: Option<String>,
    /// Refuse RNA values of another kind
    #[arg(long, value_enum, default_value = "any")]
    pub rna_values: Values,
    /// Refuse ATAC values of another kind
    #[arg(long, value_enum, default_value = "any")]
    pub atac_values: Values,
    /// Column of obs with the cell types [default: cell_type where it is there]
    #[arg(long, value_name = "COLUMN")]
    pub cell_type_column: Option<String>,
    /// Gene features beside the chromosome: none, present (those the file has), or some of
    /// means,variances_norm,strand,highly_variable
    #[arg(long, value_name = "LIST", default_value = "none")]
    pub gene_features: GeneFeatures,
    /// How cells of the two files are brought together
    #[arg(long, value_enum, default_value = "by-barcode")]
    pub pair: Pair,
    /// Smallest acceptable share of the cells of the smaller file that are in both
    #[arg(long, value_name = "FRACTION", default_value_t = 0.5, allow_negative_numbers = true)]
    pub min_common: f64,
    /// How the sample set `default` is drawn
    #[command(flatten)]
    pub draw: Draw,
    /// Replace an existing DATA
    #[arg(long)]
    pub force: bool,
}

/// Flags that say how samples are drawn.
#[derive(Debug, Clone, clap::Args)]
pub struct Draw {
    /// Negatives: two cells of different types (easy), of one type (hard), half and half (mixed)
    #[arg(long, value_enum, default_value = "easy")]
    pub negatives: NegativesArg,
    /// Negatives a positive
    #[arg(long, value_name = "R", default_value_t = 1.0, allow_negative_numbers = true)]
    pub negative_ratio: f64,
    /// What is dealt out 80/10/10: cells (no test cell is in training) or samples (as published)
    #[arg(long, value_enum, default_value = "cell")]
    pub split: SplitArg,
    /// Only cells of these types
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
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
            split: match self.split {
                SplitArg::Cell => SplitBy::Cell,
                SplitArg::Sample => SplitBy::Sample,
            },
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

/// See [`SplitBy`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SplitArg {
    /// Cells are dealt out; every part draws its own negatives
    Cell,
    /// Samples are dealt out
    Sample,
}

/// Runs `prepare` and prints what was made.
pub fn run(args: &Args, ctx: &Context) -> Result<()> {
    let start = Instant::now();
    let config = PrepareConfig {
        gtf: args.gtf.clone(),
        fasta: args.fasta.clone(),
        rna_select: Select { layer: args.rna_layer.clone(), ..Select::default() },
        atac_select: Select { layer: args.atac_layer.clone(), ..Select::default() },
        rna_kind: args.rna_values.kind(),
        atac_kind: args.atac_values.kind(),
        cell_type_column: args.cell_type_column.clone(),
        gene_features: args.gene_features.clone(),
        min_common: args.min_common,
        pairing: match args.pair {
            Pair::ByBarcode => Pairing::ByBarcode,
            Pair::ByPosition => Pairing::ByPosition,
        },
        force: args.force,
        samples: args.draw.config(ctx.seed),
        ..PrepareConfig::new(&args.rna, &args.atac)
    };
    let bar = std::sync::Mutex::new(None::<(&'static str, indicatif::ProgressBar)>);
    let step = |stage: &'static str, done: u64, total: u64| {
        let Ok(mut bar) = bar.lock() else { return };
        if bar.as_ref().is_none_or(|(s, _)| *s != stage) {
            if let Some((_, old)) = bar.take() {
                old.finish_and_clear();
            }
            *bar = Some((stage, ctx.progress(total, stage)));
        }
        if let Some((_, b)) = bar.as_ref() {
            b.set_position(done);
            if done == total {
                b.finish_and_clear();
            }
        }
    };
    let r = prepare(&config, &args.out, Hooks { say: &|line| ctx.say(line), step: &step })?;
    let seconds = start.elapsed().as_secs_f64();
    let row = |name: &str, value: String| format!("{name:<22} {value}\n");
    let mut table = row("data set", args.out.display().to_string());
    table += &row("cells", format!("{} ({} types)", r.cells, r.cell_types));
    table += &row("genes", format!("{} ({} without a chromosome)", r.genes, r.genes_unknown));
    if let Some(n) = r.genes_in_gtf {
        table += &row("genes in the GTF", format!("{n} of {}", r.genes));
    }
    table += &row("peaks", format!("{} ({} without a chromosome)", r.peaks, r.peaks_unknown));
    table += &row("chromosomes", r.chromosomes.to_string());
    let features = if r.gene_features.is_empty() { "none".into() } else { r.gene_features.join(", ") };
    table += &row("gene features", features);
    table += &row("bases of DNA a peak", r.dna_length.to_string());
    let mean = |n: u64| n as f64 / r.cells as f64;
    table += &row("RNA entries", format!("{} ({:.0} a cell), {}", r.rna_entries, mean(r.rna_entries), r.rna_kind));
    table += &row("ATAC entries", format!("{} ({:.0} a cell), {}", r.atac_entries, mean(r.atac_entries), r.atac_kind));
    table += &row(
        "cells dropped",
        format!("{} only RNA, {} only ATAC, {} without genes or peaks", r.unmatched.0, r.unmatched.1, r.empty),
    );
    table += &row("samples", format!("{} positives, {} negatives", r.samples.0, r.samples.1));
    table += &row("train / val / test", format!("{} / {} / {}", r.parts.0, r.parts.1, r.parts.2));
    table += &row("bytes on disk", r.bytes.to_string());
    table += &row("seconds", format!("{seconds:.1}"));
    let json = json!({
        "out": args.out.display().to_string(), "hash": r.hash,
        "cells": r.cells, "cell_types": r.cell_types, "genes": r.genes, "peaks": r.peaks,
        "chromosomes": r.chromosomes, "genes_in_gtf": r.genes_in_gtf,
        "genes_without_chromosome": r.genes_unknown, "peaks_without_chromosome": r.peaks_unknown,
        "gene_features": r.gene_features, "dna_length": r.dna_length,
        "rna_entries": r.rna_entries, "rna_values": r.rna_kind,
        "atac_entries": r.atac_entries, "atac_values": r.atac_kind,
        "only_rna": r.unmatched.0, "only_atac": r.unmatched.1, "dropped_empty": r.empty,
        "positives": r.samples.0, "negatives": r.samples.1,
        "train": r.parts.0, "val": r.parts.1, "test": r.parts.2,
        "bytes": r.bytes, "seconds": seconds,
    });
    ctx.result(&table, &json);
    Ok(())
}
