//! `translate`: RNA predicted from the ATAC of cells.

use super::context::Context;
use super::embed;
use super::embed::Args;
use crate::engine::Runner;
use crate::error::{Error, Result, quoted};
use crate::predict;
use crate::predict::PredictOptions;
use crate::predict::towers::write_expression;

/// What predicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum By {
    /// The towers: expected expression.
    Towers,
    /// The attention model, as published or by its cis term: whether a gene is on.
    Published,
}

/// Flags of `translate`.
#[derive(Debug, clap::Args)]
pub struct TranslateArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub shared: Args,
    /// What predicts: towers (expected expression), or published (the attention model: which genes are on) [default: towers,
    /// where the run has them]
    #[arg(long, value_enum, value_name = "towers|published")]
    pub translation: Option<By>,
}

/// Writes the predicted RNA.
pub fn run(args: &TranslateArgs, ctx: &Context) -> Result<()> {
    let (args, by) = (&args.shared, args.translation);
    let embed::Opened { run, data, model, nodes, chosen, device } = embed::open(args, ctx)?;
    let towers = if by == Some(By::Published) { None } else { run.towers(&data)? };
    // By default what there is: towers that predict, and no output of the other model's nodes.
    let towers = towers.filter(|t| by == Some(By::Towers) || (t.predicts() && nodes.is_empty()));
    let what = match towers {
        Some(_) if !nodes.is_empty() => {
            return Err(Error::usage("--nodes: is of the attention model; add --translation published"));
        }
        Some(towers) => {
            write_expression(&run, &towers, &data, &chosen, &args.out, &ctx.follow())?;
            "expected expression"
        }
        None if by == Some(By::Towers) => {
            return Err(Error::usage("--translation towers: the run was trained without towers; leave it out"));
        }
        None => {
            let runner = Runner::new(&model, &device)?;
            let batch_size = args.batch_size as usize;
            let options = PredictOptions { batch_size, nodes: &nodes, chosen: Some(&chosen), attention: false };
            predict::translate(&run, runner, &data, &args.out, &options, &ctx.follow())?;
            "genes that are on"
        }
    };
    let (n, genes) = (chosen.cells.len(), model.config.genes);
    ctx.result(
        &format!("{what} of {n} cells × {genes} genes in {}", args.out.display()),
        &serde_json::json!({ "out": args.out, "cells": n, "genes": genes, "node_cells": nodes.len(), "what": what }),
    );
    ctx.next("", &format!("sccrossrec inspect {}", quoted(&args.out)));
    Ok(())
}
