//! `inspect`: what a data folder, a run or a checkpoint holds.

use std::path::{Path, PathBuf};

use super::Context;
use crate::data::anndata::{AnnData, Axis};
use crate::error::{Error, Result};
use crate::graph::DataSet;
use crate::train::checkpoint::Checkpoint as File;
use crate::train::{Checkpoint, EpochRecord, Run};

/// Flags of `inspect`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A data folder, a run, a .safetensors or a .h5ad file
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// Compare every byte of a data folder with its checksums
    #[arg(long)]
    pub verify: bool,
}

/// Lines of `key  value` and the JSON of the same.
struct Report {
    table: String,
    json: serde_json::Map<String, serde_json::Value>,
}

impl Report {
    fn new(kind: &str) -> Self {
        let mut r = Report { table: String::new(), json: serde_json::Map::new() };
        r.add("kind", kind);
        r
    }

    fn add(&mut self, key: &str, value: impl Into<serde_json::Value>) {
        let value = value.into();
        let shown = value.as_str().map_or_else(|| value.to_string(), str::to_string);
        self.table += &format!("{key:<14} {shown}\n");
        self.json.insert(key.replace(' ', "_"), value);
    }
}

/// Prints what is at the path.
pub fn run(args: &Args, ctx: &Context) -> Result<()> {
    let path = &args.path;
    let meta = std::fs::metadata(path).map_err(|e| Error::io(path, "read", e))?;
    let report = if meta.is_dir() {
        if path.join("run.json").exists() { inspect_run(path)? } else { inspect_data(path, args.verify)? }
    } else {
        match path.extension().and_then(|e| e.to_str()) {
            Some("safetensors") => inspect_checkpoint(path)?,
            Some("h5ad") => inspect_anndata(path)?,
            _ => {
                return Err(Error::input(
                    path,
                    "is none of the things that can be inspected",
                    "give a data folder, a run, a .safetensors or a .h5ad file",
                ));
            }
        }
    };
    ctx.result(&report.table, &serde_json::Value::Object(report.json));
    Ok(())
}

fn inspect_run(path: &Path) -> Result<Report> {
    let run = Run::open(path)?;
    let mut r = Report::new("run");
    r.add("program", run.program());
    r.add("recipe", run.config.recipe.as_str());
    r.add("data", run.data_dir().display().to_string());
    r.add("data hash", run.data_hash());
    r.add("genes", run.sizes.genes);
    r.add("peaks", run.sizes.peaks);
    r.add("chromosomes", run.sizes.chromosomes);
    r.add("heads", run.sizes.heads);
    r.add("hidden", run.sizes.hidden);
    r.add("embedding", run.sizes.embedding_dim);
    r.add("parameters", run.parameters());
    for (key, which) in [("best", Checkpoint::Best), ("last", Checkpoint::Last)] {
        r.add(&format!("{key} file"), if run.checkpoint_path(which).exists() { "there" } else { "not there" });
    }
    let log = path.join("log.jsonl");
    if log.exists() {
        let text = std::fs::read_to_string(&log).map_err(|e| Error::io(&log, "read", e))?;
        let mut records: Vec<EpochRecord> = Vec::new();
        for line in text.lines() {
            records.push(serde_json::from_str(line).map_err(|e| {
                Error::input(&log, format!("line {} is not a record ({e})", records.len() + 1), "restore the file")
            })?);
        }
        r.add("epochs", format!("{} of {}", records.len(), run.config.epochs));
        if let Some(b) = records.iter().rev().find(|x| x.best) {
            r.add("best epoch", b.epoch);
            r.add("best accuracy", b.val_accuracy);
            r.add("best MAE", b.val_mae);
        }
    }
    Ok(r)
}

fn inspect_data(path: &Path, verify: bool) -> Result<Report> {
    let data = DataSet::open(path)?;
    let v = data.vocabulary();
    let f = data.features();
    let mut r = Report::new("data");
    r.add("hash", data.hash());
    r.add("cells", data.n_cells());
    r.add("genes", v.genes.len());
    r.add("peaks", v.peaks.len());
    r.add("chromosomes", v.chromosomes.len());
    r.add("cell types", v.cell_types.len());
    let features = data.gene_features();
    r.add("gene features", if features.is_empty() { "none".to_string() } else { features.join(", ") });
    r.add("DNA bases", f.dna_length());
    let (genes, peaks) = data.entries();
    let mean = |n: u64| (n as f64 / data.n_cells().max(1) as f64 * 10.0).round() / 10.0;
    r.add("genes a cell", mean(genes));
    r.add("peaks a cell", mean(peaks));
    if verify {
        data.verify()?;
        r.add("verified", "all checksums match");
    }
    for name in data.sample_sets()? {
        let s = data.samples(&name)?;
        let split = s.recipe.get("split").and_then(|x| x.as_str()).unwrap_or("?");
        r.add(
            &format!("samples {name}"),
            format!(
                "{} by {split}: {} train, {} val, {} test",
                s.samples.len(),
                s.train.len(),
                s.val.len(),
                s.test.len()
            ),
        );
    }
    Ok(r)
}

fn inspect_anndata(path: &Path) -> Result<Report> {
    let file = AnnData::open(path)?;
    let mut r = Report::new("anndata");
    r.add("obs", file.names(Axis::Obs)?.len());
    r.add("var", file.names(Axis::Var)?.len());
    r.add("obs columns", file.columns(Axis::Obs)?.join(", "));
    r.add("var columns", file.columns(Axis::Var)?.join(", "));
    r.add("layers", file.layers().join(", "));
    Ok(r)
}

fn inspect_checkpoint(path: &Path) -> Result<Report> {
    let file = File::read(path)?;
    let mut r = Report::new("checkpoint");
    for (k, v) in &file.metadata {
        r.add(k, v.as_str());
    }
    r.add("numbers", file.tensors.values().map(|t| t.values.len()).sum::<usize>());
    for (name, t) in &file.tensors {
        let wrong = t.values.iter().filter(|x| !x.is_finite()).count();
        let note = if wrong > 0 { format!(", {wrong} not finite") } else { String::new() };
        r.add(name, format!("{:?}{note}", t.shape));
    }
    Ok(r)
}
