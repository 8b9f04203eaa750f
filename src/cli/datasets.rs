//! `datasets`: the published data sets that `prepare --dataset` knows.

use serde_json::json;

use super::context::Context;
use crate::error::Result;
use crate::prepare::presets::PRESETS;

/// Flags of `datasets`: none of its own.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Prints sizes, features and files of each.
pub fn run(_: &Args, ctx: &Context) -> Result<()> {
    let head = ["dataset", "cells", "genes", "peaks", "strand in", "recipe"].map(String::from).to_vec();
    let mut sizes = vec![head];
    let mut files = String::new();
    let mut json = Vec::new();
    for p in &PRESETS {
        let strand = p.strand.unwrap_or("-").to_string();
        let numbers = [p.cells, p.genes, p.peaks].map(|n| n.to_string());
        let [cells, genes, peaks] = numbers;
        sizes.push(vec![p.name.into(), cells, genes, peaks, strand, p.recipe.into()]);
        let features = if p.gene_features.is_empty() { "none".into() } else { p.gene_features.join(", ") };
        files += &format!("\n{}: {}\n", p.name, p.what);
        files += &format!("  gene features  {features}\n");
        if p.gene_rows > p.genes {
            files += &format!("  id table       {} rows as published, for {} genes\n", p.gene_rows, p.genes);
        }
        files += &format!("  files          {}\n                 {}\n                 {}\n", p.rna, p.atac, p.fasta);
        json.push(json!({
            "name": p.name, "what": p.what, "cells": p.cells, "genes": p.genes, "gene_rows": p.gene_rows,
            "peaks": p.peaks, "gene_features": p.gene_features, "strand_column": p.strand,
            "cell_type_column": p.cell_type, "rna": p.rna, "atac": p.atac, "fasta": p.fasta, "recipe": p.recipe,
        }));
    }
    let table = format!(
        "{}{files}\nsccrossrec prepare --dataset NAME --from FOLDER --out DATA\n",
        crate::table::aligned(&sizes)
    );
    ctx.result(&table, &serde_json::Value::Array(json));
    Ok(())
}
