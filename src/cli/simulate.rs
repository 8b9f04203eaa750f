//! `simulate`: a small multiome data set with planted regulation.

use std::path::PathBuf;

use super::{Context, output_dir};
use crate::data::simulate::{SimulateConfig, Simulation};
use crate::error::{Error, Result};

/// Flags of `simulate`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder for rna.h5ad, atac.h5ad and truth.tsv
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Cells
    #[arg(long, value_name = "N", default_value_t = SimulateConfig::default().cells)]
    cells: usize,
    /// Genes
    #[arg(long, value_name = "N", default_value_t = SimulateConfig::default().genes)]
    genes: usize,
    /// Peaks
    #[arg(long, value_name = "N", default_value_t = SimulateConfig::default().peaks)]
    peaks: usize,
    /// Chromosomes
    #[arg(long, value_name = "N", default_value_t = SimulateConfig::default().chromosomes)]
    chromosomes: usize,
    /// Cell types
    #[arg(long, value_name = "N", default_value_t = SimulateConfig::default().cell_types)]
    cell_types: usize,
    /// Replace files of the same name
    #[arg(long)]
    force: bool,
}

/// Simulates and says what was made.
pub fn run(args: &Args, ctx: &Context) -> Result<()> {
    let simulation = Simulation::new(SimulateConfig {
        cells: args.cells,
        genes: args.genes,
        peaks: args.peaks,
        chromosomes: args.chromosomes,
        cell_types: args.cell_types,
        seed: ctx.seed,
        ..SimulateConfig::default()
    })?;
    let _made = output_dir(&args.out, args.force)?;
    let bar = ctx.progress(args.cells as u64, "simulate");
    let made = simulation.write(&args.out, &|n| bar.set_position(n));
    bar.finish_and_clear();
    let made = made?;
    let table = format!(
        "{} cells × {} genes, {} peaks; {} links planted\n  {}\n  {}\n  {}",
        args.cells,
        args.genes,
        args.peaks,
        made.links,
        made.rna.display(),
        made.atac.display(),
        made.truth.display()
    );
    let json = serde_json::to_value(&made)
        .map(|mut j| {
            j["config"] = serde_json::json!(simulation.config());
            j
        })
        .map_err(|e| Error::Internal(format!("simulation: {e}")))?;
    ctx.result(&table, &json);
    Ok(())
}
