//! `embed`: the joint embedding of every cell.

use std::path::{Path, PathBuf};

use super::context::{Context, output_file};
use crate::dataset::DataSet;
use crate::engine::{Device, Runner};
use crate::error::{Error, Result, quoted};
use crate::evaluate::{Part, UmapOptions};
use crate::model::Model;
use crate::predict;
use crate::predict::{Chosen, PredictOptions};
use crate::train::Run;

/// Flags of `embed` and `translate`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The run
    #[arg(long, value_name = "RUN")]
    pub run: PathBuf,
    /// The data set [default: the run's]
    #[arg(long, value_name = "DATA")]
    pub data: Option<PathBuf>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub which: super::context::Which,
    /// The cells to write: those of a part of the run's cells, or all
    #[arg(long, value_enum, default_value_t = Part::All)]
    pub part: Part,
    /// Add node-level outputs r_i and p_j of the attention model, in uns/sccrossrec/nodes
    #[arg(long)]
    pub nodes: bool,
    /// Barcodes that --nodes is for [default: all that are written]
    #[arg(long, value_name = "A,B,…", value_delimiter = ',', requires = "nodes")]
    pub cells: Vec<String>,
    /// Cells a forward pass
    #[arg(long, value_name = "N", default_value = "64", value_parser = clap::value_parser!(u32).range(1..))]
    pub batch_size: u32,
    /// The file to write
    #[arg(long, value_name = "F.h5ad")]
    pub out: PathBuf,
    /// Replace --out
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub device: super::context::DeviceArg,
}

/// What both verbs need.
pub(super) struct Opened {
    pub run: Run,
    pub data: DataSet,
    pub model: Model<f32>,
    /// The cells of `--nodes`.
    pub nodes: Vec<u32>,
    /// The cells of `--part`.
    pub chosen: Chosen,
    pub device: Device,
}

pub(super) fn open(args: &Args, ctx: &Context) -> Result<Opened> {
    let device = args.device.choose()?;
    let run = args.which.open(&args.run)?;
    output_file(&args.out, args.force)?;
    anndata_name(&args.out)?;
    let data = run.open_data(args.data.as_deref(), ctx.access)?;
    if data.hash() != run.data_hash() {
        ctx.say("note: these are not the data that the run was trained on; genes and peaks are met by name");
    }
    let model = run.model(&data, args.which.checkpoint)?;
    let chosen = Chosen::new(&run, &data, args.part)?;
    let nodes = match (args.nodes, args.cells.is_empty()) {
        (false, _) => Vec::new(),
        (true, true) => chosen.cells.clone(),
        (true, false) => predict::cells_by_name(&data, &args.cells)?,
    };
    Ok(Opened { run, data, model, nodes, chosen, device })
}

/// Refuses a name that says another form than what is written.
fn anndata_name(out: &Path) -> Result<()> {
    let name = out.file_name().map_or(String::new(), |n| n.to_string_lossy().to_ascii_lowercase());
    let other = [
        ".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz", ".xlsx", ".parquet", ".mtx", ".h5mu", ".rds", ".loom",
        ".npz", ".npy", ".zarr",
    ];
    match other.iter().find(|e| name.ends_with(*e)) {
        None => Ok(()),
        Some(ending) => Err(Error::input(
            out,
            format!("--out: AnnData is written, which is no {ending}"),
            "end the name in .h5ad; in Python anndata.read_h5ad(FILE).obsm.to_df() and .to_df() make tables of it",
        )),
    }
}

/// Flags of `embed`.
#[derive(Debug, clap::Args)]
pub struct EmbedArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub shared: Args,
    /// Add what the attention model says of a cell, as X_sccrossrec_attention
    #[arg(long)]
    pub attention: bool,
    /// Leave X_umap out: the joint embedding in two dimensions
    #[arg(long)]
    pub no_umap: bool,
}

/// Writes the embeddings.
pub fn run(args: &EmbedArgs, ctx: &Context) -> Result<()> {
    let (args, attention, flat) = (&args.shared, args.attention, !args.no_umap);
    let Opened { run, data, model, nodes, chosen, device } = open(args, ctx)?;
    let runner = Runner::new(&model, &device)?;
    let options =
        PredictOptions { batch_size: args.batch_size as usize, nodes: &nodes, chosen: Some(&chosen), attention };
    let plane = UmapOptions { seed: ctx.seed, ..UmapOptions::default() };
    let options = (&options, flat.then_some(&plane));
    let width = predict::embed(&run, runner, &data, &args.out, options, &ctx.follow())?;
    let n = chosen.cells.len();
    ctx.result(
        &format!("{n} cells, {width} numbers each, in obsm of {}", args.out.display()),
        &serde_json::json!({ "out": args.out, "cells": n, "dimensions": width, "node_cells": nodes.len() }),
    );
    ctx.next("", &format!("sccrossrec plot umap --run {} --out umap.png", quoted(&args.run)));
    Ok(())
}
