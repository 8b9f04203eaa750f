//! `translate`: RNA predicted from the ATAC of every cell.

use super::context::Context;
use super::embed;
use super::embed::Args;
use crate::engine::Runner;
use crate::error::Result;
use crate::predict;
use crate::predict::PredictOptions;

/// Writes the predicted RNA.
pub fn run(args: &Args, ctx: &Context) -> Result<()> {
    let embed::Opened { run, data, model, nodes, device } = embed::open(args, ctx)?;
    let runner = Runner::new(&model, &device)?;
    let options = PredictOptions { batch_size: args.batch_size as usize, nodes: &nodes };
    predict::translate(&run, runner, &data, &args.out, &options, &ctx.follow())?;
    let (n, genes) = (data.n_cells(), model.config.genes);
    ctx.result(
        &format!("{n} cells × {genes} genes in {}", args.out.display()),
        &serde_json::json!({ "out": args.out, "cells": n, "genes": genes, "node_cells": nodes.len() }),
    );
    Ok(())
}
