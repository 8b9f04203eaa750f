//! `recipes`: the named ways to train.

use super::context::Context;
use crate::dataset::split_word;
use crate::error::Result;
use crate::train;

/// Flags of `recipes`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Prints each recipe with its settings.
pub fn run(_: &Args, ctx: &Context) -> Result<()> {
    let mut table = format!(
        "{:<11} {:>6} {:>6} {:>8} {:>9} {:>8} {:>6} {:>5} {:>8} {:>5} {:>7}  {}\n",
        "recipe", "batch", "epochs", "lr", "schedule", "L2", "alpha", "cis", "contrast", "drop", "split", "what"
    );
    let mut json = Vec::new();
    for (name, what) in train::RECIPES {
        let c = train::recipe(name)?;
        table += &format!(
            "{name:<11} {:>6} {:>6} {:>8} {:>9} {:>8} {:>6} {:>5} {:>8} {:>5} {:>7}  {what}\n",
            if c.batch_size == train::AUTO_BATCH { "auto".into() } else { c.batch_size.to_string() },
            c.epochs,
            c.adam.lr,
            c.schedule.words(),
            c.adam.weight_decay,
            c.model.alpha,
            c.model.cis.as_ref().map_or(0.0, |c| c.weight),
            c.model.contrast,
            c.model.dropout,
            c.split.as_deref().map_or("any", split_word),
        );
        json.push(serde_json::json!({ "name": name, "about": what, "config": c }));
    }
    ctx.result(&table, &serde_json::Value::Array(json));
    ctx.next("", "sccrossrec train --data data --out run --recipe NAME");
    Ok(())
}
