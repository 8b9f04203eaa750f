//! `weights`: published checkpoints in and out.

use std::path::PathBuf;

use super::context::{Context, output_dir, output_file};
use crate::error::{Result, quoted};
use crate::model::ParamLayout;
use crate::train::weights::{Constants, Imported};
use crate::train::{Checkpoint, Run, weights};

/// Flags of `weights`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which way.
    #[command(subcommand)]
    pub way: Way,
}

/// Which way.
#[derive(Debug, clap::Subcommand)]
pub enum Way {
    /// Write a checkpoint as safetensors with the published names
    Export(Export),
    /// Make a run of a safetensors file with the published names
    Import(Import),
}

/// Flags of `weights export`.
#[derive(Debug, clap::Args)]
pub struct Export {
    /// The run
    #[arg(long, value_name = "RUN")]
    pub run: PathBuf,
    /// Which checkpoint
    #[arg(long, value_name = "best|last", default_value = "best")]
    pub checkpoint: Checkpoint,
    /// The file to write
    #[arg(long, value_name = "F.safetensors")]
    pub out: PathBuf,
    /// Replace --out
    #[arg(long)]
    pub force: bool,
}

/// Flags of `weights import`.
#[derive(Debug, clap::Args)]
pub struct Import {
    /// The weights: f32, f64, f16 or bf16
    #[arg(value_name = "F.safetensors")]
    pub file: PathBuf,
    /// The data set whose genes and peaks, in their order, the rows of the id tables are
    #[arg(long, value_name = "DATA")]
    pub data: PathBuf,
    /// Folder of the run to make
    #[arg(long, value_name = "RUN")]
    pub out: PathBuf,
    /// Attention heads, where the file does not say
    #[arg(long, value_name = "N")]
    pub heads: Option<usize>,
    /// Weight of the translation loss, where the file does not say [default: 1]
    #[arg(long, value_name = "X")]
    pub alpha: Option<f64>,
    /// Replace what is in --out
    #[arg(long)]
    pub force: bool,
}

/// Exports or imports.
pub fn run(args: &Args, ctx: &Context) -> Result<()> {
    match &args.way {
        Way::Export(a) => {
            let run = Run::open(&a.run)?;
            output_file(&a.out, a.force)?;
            weights::export(&run, a.checkpoint, &a.out)?;
            let table = format!("{} parameters written to {}", run.parameters(), a.out.display());
            ctx.result(&table, &serde_json::json!({ "out": a.out, "parameters": run.parameters() }));
        }
        Way::Import(a) => {
            let data = ctx.open_data(&a.data)?;
            let imported = Imported::read(&a.file, &data, &Constants { heads: a.heads, alpha: a.alpha })?;
            let _made = output_dir(&a.out, a.force)?;
            imported.write(&data, &a.out)?;
            let [genes, peaks] = imported.unused_rows();
            let n = ParamLayout::new(imported.config()).len();
            let mut table = format!("{n} parameters in use; run: {}", a.out.display());
            if genes + peaks > 0 {
                table +=
                    &format!("\nkept unused: {genes} rows of genes and {peaks} of peaks that the data do not have");
            }
            let json = serde_json::json!({
                "run": a.out, "parameters": n, "model": imported.config(),
                "unused_gene_rows": genes, "unused_peak_rows": peaks,
            });
            ctx.result(&table, &json);
            ctx.next("", &format!("sccrossrec evaluate --run {}", quoted(&a.out)));
        }
    }
    Ok(())
}
