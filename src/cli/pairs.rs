//! `pairs`: other pairs of RNA and ATAC of DATA, to train and to test on.

use std::path::PathBuf;

use serde_json::json;

use super::context::Context;
use super::prepare::Draw;
use crate::dataset::draw_samples;
use crate::error::{Result, quoted};

/// Flags of `pairs`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Data set that `prepare` made
    #[arg(long, value_name = "DATA")]
    pub data: PathBuf,
    /// Name of these pairs, for `train --pairs NAME`
    #[arg(long, value_name = "NAME")]
    pub name: String,
    /// How it is drawn
    #[command(flatten)]
    pub draw: Draw,
    /// Replace pairs of that name
    #[arg(long)]
    pub force: bool,
}

/// Draws, stores and describes them.
pub fn run(args: &Args, ctx: &Context) -> Result<()> {
    let data = ctx.open_data(&args.data)?;
    let set = draw_samples(data.vocabulary(), &args.draw.config(ctx.seed))?;
    data.save_samples(&args.name, &set, args.force)?;
    let positives = |part: &[u32]| part.iter().filter(|&&k| set.samples[k as usize].label == 1).count();
    let mut table = format!("{:<12} {:>10} {:>10} {:>10}\n", "part", "pairs", "positives", "negatives");
    let mut parts = serde_json::Map::new();
    for (name, part) in [("train", &set.train), ("val", &set.val), ("test", &set.test)] {
        let p = positives(part);
        table += &format!("{name:<12} {:>10} {p:>10} {:>10}\n", part.len(), part.len() - p);
        parts.insert(name.into(), json!({ "samples": part.len(), "positives": p, "negatives": part.len() - p }));
    }
    if let Some(n) = set.recipe["without_batch"].as_u64().filter(|&n| n > 0) {
        table += &format!("{n} cells are of no batch: they are in the training part\n");
    }
    table += &format!("stored as {}", args.data.join("samples").join(&args.name).display());
    ctx.result(&table, &json!({ "name": args.name, "parts": parts, "recipe": set.recipe }));
    let [data, name] = [&args.data, &PathBuf::from(&args.name)].map(|p| quoted(p));
    ctx.next("", &format!("sccrossrec train --data {data} --pairs {name} --out run-{}", args.name));
    Ok(())
}
