//! `inspect`: what is in an input file of any form, a data folder, a run or a checkpoint.

use std::path::{Path, PathBuf};

use super::context::Context;
use super::findings::Findings;
use super::inspect_own::inspect_own;
use crate::data::anndata::{AnnData, Axis, Column, Matrix, MatrixKind, Streaming, list};
use crate::data::region::parse_region;
use crate::data::source;
use crate::data::source::{Form, Source};
use crate::data::species;
use crate::dataset::split_word;
use crate::discover::DiscoveryFolder;
use crate::error::{Error, Result, quoted};
use crate::prepare::PromoterShare;
use crate::progress::Progress;
use crate::train::tensors::TensorFile;
use crate::train::{Checkpoint, EpochRecord, Run};

/// Flags of `inspect`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A .h5ad, .h5mu or 10x .h5 file, a Matrix Market folder, a data folder, a run, a discovery, a .safetensors file, or a
    /// table
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// Compare every byte of a data folder with its checksums
    #[arg(long)]
    pub verify: bool,
}

/// Prints what is at the path.
pub fn run(args: &Args, ctx: &Context) -> Result<()> {
    let path = &args.path;
    let meta = std::fs::metadata(path).map_err(|e| Error::io(path, "read", e))?;
    let safetensors = path.extension().is_some_and(|e| e == "safetensors");
    let report = if meta.is_dir() && path.join("run.json").exists() {
        inspect_run(path)?
    } else if meta.is_dir() && path.join("dataset.json").exists() {
        inspect_data(path, args.verify, ctx)?
    } else if meta.is_dir() && path.join("discover.json").exists() {
        inspect_discovery(path)?
    } else if meta.is_file() && safetensors {
        inspect_checkpoint(path)?
    } else if let Some(found) = inspect_own(path)? {
        found
    } else {
        inspect_source(path, &ctx.follow())?
    };
    if args.verify && !path.join("dataset.json").exists() {
        ctx.say("--verify compares a data folder with its checksums; there are none to compare here");
    }
    let next = next(path, &report.json);
    ctx.result(&report.table, &serde_json::Value::Object(report.json));
    if let Some(command) = next {
        ctx.next("", &command);
    }
    Ok(())
}

/// What to do with what is at the path.
fn next(path: &Path, found: &serde_json::Map<String, serde_json::Value>) -> Option<String> {
    let kind = found.get("kind").and_then(|k| k.as_str()).unwrap_or_default();
    let at = quoted(path);
    let both = |flag: &str| Some(format!("sccrossrec prepare --{flag} {at} --gtf genes.gtf.gz --out data"));
    match kind {
        "data" => Some(format!("sccrossrec check {at}")),
        "run" => Some(format!("sccrossrec evaluate --run {at}")),
        "discovery" => Some(format!("sccrossrec report {at} --out report.html")),
        _ if path.join("matrix.mtx.gz").exists() || path.join("matrix.mtx").exists() => both("tenx"),
        // Genes are told from peaks by what they are called.
        k if k == Form::AnnData.to_string() && found.get("features").is_some_and(|n| *n != 0) => {
            Some(match found.contains_key("genes_look") {
                true => format!("sccrossrec prepare --rna {at} --atac atac.h5ad --gtf genes.gtf.gz --out data"),
                false => format!("sccrossrec prepare --rna rna.h5ad --atac {at} --gtf genes.gtf.gz --out data"),
            })
        }
        k if k == Form::MuData.to_string() => both("h5mu"),
        k if k == Form::TenX.to_string() => both("tenx"),
        _ => None,
    }
}

fn inspect_run(path: &Path) -> Result<Findings> {
    let run = Run::open(path)?;
    let mut r = Findings::new("run");
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

fn inspect_data(path: &Path, verify: bool, ctx: &Context) -> Result<Findings> {
    let data = ctx.open_data(path)?;
    let v = data.vocabulary();
    let f = data.features();
    let mut r = Findings::new("data");
    r.add("hash", data.hash());
    r.add("cells", data.n_cells());
    r.add("genes", v.genes.len());
    r.add("peaks", v.peaks.len());
    r.add("chromosomes", v.chromosomes.len());
    r.add("cell types", v.cell_types.len());
    r.add(
        "cells have",
        list(&v.obs.iter().map(|c| format!("{} ({})", c.name, c.categories.len())).collect::<Vec<_>>()),
    );
    let values = |kind: Option<MatrixKind>| kind.map_or("none".to_string(), |k| k.to_string());
    let (rna, atac) = data.kinds();
    r.add("RNA values", values(rna));
    r.add("ATAC values", values(atac));
    if let Some(p) = PromoterShare::kept(data.origin()) {
        r.add("TSS near a peak", p.to_string());
    }
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
            &format!("pairs {name}"),
            format!(
                "{} by {}: {} train, {} val, {} test",
                s.samples.len(),
                split_word(split),
                s.train.len(),
                s.val.len(),
                s.test.len()
            ),
        );
    }
    Ok(r)
}

fn inspect_discovery(path: &Path) -> Result<Findings> {
    let found = DiscoveryFolder::open(path)?;
    let mut r = Findings::new("discovery");
    let at = |p: &Option<PathBuf>| p.as_ref().map_or("none".to_string(), |p| p.display().to_string());
    r.add("run", at(&found.run));
    r.add("data", at(&found.data));
    r.add("data hash", found.data_hash.as_deref().unwrap_or("not told"));
    r.add("window", format!("{} bases", found.made.window));
    r.add("cells", found.made.cells);
    r.add("genes", found.vocabulary.genes.len());
    r.add("peaks", found.vocabulary.peaks.len());
    for map in found.maps() {
        r.add(&format!("links of {}", map.name), format!("{} in {}", map.links, map.file.display()));
    }
    r.add("attention", if found.made.attention.is_some() { "there" } else { "none: made without a model" });
    Ok(r)
}

/// An input file, of whatever form.
fn inspect_source(path: &Path, progress: &dyn Progress) -> Result<Findings> {
    let form = source::form_of(path, progress)?;
    let mut r = Findings::new(&form.to_string());
    match form {
        Form::AnnData => describe_anndata(&mut r, &AnnData::open_with(path, progress)?)?,
        Form::MuData => {
            let parts = source::modalities(path, progress)?;
            r.add("modalities", list(&parts.iter().map(|p| p.0.clone()).collect::<Vec<_>>()));
            for (name, part) in parts {
                let mut inner = Findings::new("modality");
                describe_anndata(&mut inner, &part)?;
                r.nest(&name, inner);
            }
        }
        Form::TenXLegacy => {
            for (name, part) in source::genomes(path, progress)? {
                let mut inner = Findings::new("genome");
                describe(&mut inner, part.as_ref())?;
                r.nest(&name, inner);
            }
        }
        Form::TenX | Form::MatrixMarket | Form::Held => describe(&mut r, source::everything(path, progress)?.as_ref())?,
    }
    Ok(r)
}

fn describe_anndata(r: &mut Findings, data: &AnnData) -> Result<()> {
    describe(r, data)?;
    if data.has_raw() {
        let raw = data.with_raw()?;
        let m = raw.matrix(None, "--rna-layer")?;
        r.add(".raw", format!("{} × {}, {} (as layer `raw`)", m.rows(), m.cols(), m.layout()));
    }
    Ok(())
}

/// Sizes, layout, density and, where rows can be looked at, the kind of the values of a matrix.
fn shown(m: &Matrix, data: &dyn Source) -> Result<String> {
    let mut text = format!("{} × {}, {}", m.rows(), m.cols(), m.layout());
    let all = m.rows() as f64 * m.cols() as f64;
    if let Some(entries) = m.entries().filter(|_| all > 0.0) {
        text += &format!(", {:.1} % stored", 100.0 * entries as f64 / all);
    }
    if !m.by_rows() {
        return Ok(text);
    }
    let (obs, var) = (data.names(Axis::Obs)?, data.names(Axis::Var)?);
    let (mut whole, mut one, mut largest, mut cells) = (true, true, 0f32, 0);
    // The first block is enough: an error ends the reading.
    let stop = || Error::Internal("enough".into());
    let ended = m.for_each_block(Streaming::default(), &std::env::temp_dir(), &obs, &var, |block| {
        cells = block.rows();
        for &x in &block.values {
            whole &= x.fract() == 0.0;
            one &= x == 1.0;
            largest = largest.max(x);
        }
        Err(stop())
    });
    match ended {
        Err(Error::Internal(_)) | Ok(()) if cells > 0 => {
            let kind = if one {
                MatrixKind::Binary
            } else if whole {
                MatrixKind::Counts
            } else {
                MatrixKind::Normalised
            };
            Ok(format!(
                "{text}, {kind}, largest {largest}{}",
                if cells < m.rows() { " (of the first cells)" } else { "" }
            ))
        }
        Err(Error::Input { found, .. }) => Ok(format!("{text}, {found}")),
        Err(e) => Err(e),
        Ok(()) => Ok(text),
    }
}

/// Names shown of an axis.
const EXAMPLES: usize = 3;

fn describe(r: &mut Findings, data: &dyn Source) -> Result<()> {
    let layers = data.layers();
    let key = |name: &str| if name == "X" { "X".to_string() } else { format!("layer {name}") };
    for name in std::iter::once("X").chain(layers.iter().map(String::as_str)) {
        match data.matrix(Some(name), "a layer") {
            Ok(m) => r.add(&key(name), shown(&m, data)?),
            Err(e) if name == "X" && e.to_string().contains("no matrix at") => r.add("X", "none"),
            Err(e) => r.add(&key(name), format!("cannot be used: {e}")),
        }
    }
    for (axis, what) in [(Axis::Obs, "cells"), (Axis::Var, "features")] {
        let names = data.names(axis)?;
        r.add(what, names.len());
        let some: Vec<&str> = names.iter().take(EXAMPLES).map(String::as_str).collect();
        r.add(
            &format!("{what} named"),
            format!("{}{}", some.join(", "), if names.len() > EXAMPLES { ", …" } else { "" }),
        );
        let mut columns = Vec::new();
        for name in data.columns(axis)? {
            columns.push(match data.column(axis, &name) {
                Ok(Some(column)) => format!("{name} ({})", kind_of(&column)),
                _ => format!("{name} (cannot be read)"),
            });
        }
        r.add(&format!("{what} have"), if columns.is_empty() { "no columns".into() } else { columns.join(", ") });
    }
    let names = data.names(Axis::Var)?;
    let ids = data.column(Axis::Var, "gene_ids")?.map(Column::into_text).unwrap_or_default();
    let genes = names.iter().filter(|n| parse_region(n).is_none());
    if let Some(species) = species::guess(ids.iter().flatten().chain(genes).map(String::as_str)) {
        r.add("genes look", species);
    }
    if let Some(types) = data.column(Axis::Var, "feature_types")? {
        let mut count = std::collections::BTreeMap::new();
        for t in types.into_text() {
            *count.entry(t.unwrap_or_else(|| "none".into())).or_insert(0usize) += 1;
        }
        let count: Vec<String> = count.into_iter().map(|(t, n)| format!("{t} ({n})")).collect();
        r.add("feature types", count.join(", "));
    }
    Ok(())
}

/// What a column holds, in a word or two.
fn kind_of(column: &Column) -> String {
    match column {
        Column::Strings(_) => "text".into(),
        Column::Categorical { categories, .. } => match categories.len() {
            1 => "1 category".into(),
            n => format!("{n} categories"),
        },
        Column::Ints(_) => "whole numbers".into(),
        Column::Floats(v) => match v.iter().filter(|x| x.is_nan()).count() {
            0 => "numbers".into(),
            n => format!("numbers, {n} missing"),
        },
        Column::Bools(_) => "yes/no".into(),
    }
}

fn inspect_checkpoint(path: &Path) -> Result<Findings> {
    let file = TensorFile::read(path)?;
    let mut r = Findings::new("checkpoint");
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
