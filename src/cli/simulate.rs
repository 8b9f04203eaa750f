//! `simulate`: a multiome data set with planted regulation.

use std::path::PathBuf;

use super::context::{Context, output_dir};
use crate::error::{Error, Result, quoted};
use crate::prepare::presets::Preset;
use crate::simulate::{Difficulty, Names, SimulateConfig, Simulation};

/// Flags of `simulate`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder for rna.h5ad, atac.h5ad, peaks.fa, genes.gtf, truth.tsv, motifs.tsv and motifs.bed
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The shape, sparsity and file names of a published data set: neurips2021
    #[arg(long, value_name = "NAME", conflicts_with_all = ["genes", "peaks", "chromosomes", "cell_types"])]
    dataset: Option<String>,
    /// Cells [default: 4000; of a data set, its own number]
    #[arg(long, value_name = "N")]
    cells: Option<usize>,
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
    /// Where links lie and what else peaks and genes have in common; tissue: near a real one [default: links near the TSS, cell types only]
    #[arg(long, value_name = "NAME")]
    difficulty: Option<Difficulty>,
    /// Replace files of the same name
    #[arg(long)]
    force: bool,
}

/// Simulates and says what was made.
pub fn run(args: &Args, ctx: &Context) -> Result<()> {
    let (shape, names) = match &args.dataset {
        Some(name) => {
            let preset = Preset::named(name)?;
            let shape = SimulateConfig::of_dataset(preset).ok_or_else(|| {
                Error::usage(format!(
                    "--dataset: {name} cannot be simulated; neurips2021 can (or give --genes, --peaks)"
                ))
            })?;
            (shape, Names::from(preset))
        }
        None => {
            let shape = SimulateConfig {
                genes: args.genes,
                peaks: args.peaks,
                chromosomes: args.chromosomes,
                cell_types: args.cell_types,
                ..SimulateConfig::default()
            };
            (shape, Names::default())
        }
    };
    let shape = match args.difficulty {
        Some(difficulty) => difficulty.apply(shape),
        None => shape,
    };
    let config = SimulateConfig { cells: args.cells.unwrap_or(shape.cells), seed: ctx.seed, ..shape };
    let (cells, genes, peaks) = (config.cells, config.genes, config.peaks);
    let simulation = Simulation::new(config)?;
    let _made = output_dir(&args.out, args.force)?;
    let made = simulation.write_as(&args.out, names, &ctx.follow())?;
    let per_cell = |entries: u64| entries as f64 / cells as f64;
    let mut table = format!(
        "{cells} cells × {genes} genes, {peaks} peaks; {:.0} genes and {:.0} peaks a cell\n{} links and {} motifs planted",
        per_cell(made.rna_entries),
        per_cell(made.atac_entries),
        made.links,
        made.planted_motifs
    );
    for file in [&made.rna, &made.atac, &made.fasta, &made.gtf, &made.truth, &made.motifs, &made.sites] {
        table.push_str(&format!("\n  {}", file.display()));
    }
    let json = serde_json::to_value(&made)
        .map(|mut j| {
            j["config"] = serde_json::json!(simulation.config());
            j
        })
        .map_err(|e| Error::Internal(format!("simulation: {e}")))?;
    ctx.result(&table, &json);
    let [rna, atac, gtf] = [&made.rna, &made.atac, &made.gtf].map(|p| quoted(p));
    ctx.next("", &format!("sccrossrec prepare --rna {rna} --atac {atac} --gtf {gtf} --out data"));
    Ok(())
}
