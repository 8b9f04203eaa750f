//! Published weights in and out: safetensors under the published names.
//!
//! Imported id tables may have more rows than the data set has genes or peaks. All rows are kept in the run's
//! checkpoints, so that exporting gives back what came in; row i belongs to gene (peak) i of the data set, and the rows
//! past the last one stay unused.

use std::path::Path;

use super::config::{TrainConfig, recipe};
use super::run::{Checkpoint, Run, new_run_file, write_run};
use super::tensors;
use super::tensors::TensorFile;
use crate::dataset::DataSet;
use crate::error::{Error, Result};
use crate::model::{ModelConfig, PREFIX, ParamLayout};

/// Writes the parameters of a run's checkpoint to `out`, which is replaced. Needs no data set.
pub fn export(run: &Run, which: Checkpoint, out: &Path) -> Result<()> {
    tensors::save(out, &run.stored(which)?, &run.stored_sizes())
}

/// Heads and constants that shapes do not tell; `None`: as the file's metadata says, else as published.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Constants {
    /// Attention heads. Must be given for a file with out projections whose metadata do not say.
    pub heads: Option<usize>,
    /// Weight of the translation loss.
    pub alpha: Option<f64>,
}

/// Weights read from a file, and what they were found to be.
#[derive(Debug)]
pub struct Imported {
    config: ModelConfig,
    gene_rows: usize,
    peak_rows: usize,
    params: crate::model::Params<f32>,
}

impl Imported {
    /// Sizes and constants; genes and peaks are those of the data set.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Rows of the two id tables that the data set has no gene or peak for.
    pub fn unused_rows(&self) -> [usize; 2] {
        [self.gene_rows - self.config.genes, self.peak_rows - self.config.peaks]
    }

    /// Reads the weights in `path` (f32, f64, f16 or bf16, rounded to f32) for `data`. Sizes are inferred from shapes.
    pub fn read(path: &Path, data: &DataSet, constants: &Constants) -> Result<Self> {
        let file = TensorFile::read(path)?;
        let shape = |name: &str| match file.tensors.get(name) {
            Some(t) if t.shape.len() == 2 => Ok((t.shape[0], t.shape[1])),
            Some(t) => Err(Error::input(
                path,
                format!("tensor `{name}` has shape {:?}, not two dimensions", t.shape),
                "give a checkpoint with the published names and shapes",
            )),
            None => Err(Error::input(
                path,
                format!("tensor `{name}` is missing (there are {} tensors)", file.tensors.len()),
                "give a safetensors file with the published names",
            )),
        };
        let (gene_rows, embedding_dim) = shape("rna_idembedding.weight")?;
        let (peak_rows, _) = shape("atac_idembedding.weight")?;
        let (hidden, _) = shape("fc1.weight")?;
        let projected = file.tensors.contains_key(&format!("{PREFIX}rna_out_proj.weight"));
        let described: serde_json::Value =
            file.metadata.get("config").and_then(|c| serde_json::from_str(c).ok()).unwrap_or_default();
        let count =
            |key: &str| described.get(key).and_then(serde_json::Value::as_u64).and_then(|n| usize::try_from(n).ok());
        let real = |key: &str| described.get(key).and_then(serde_json::Value::as_f64);
        let heads = match (constants.heads.or(count("heads")), projected) {
            (Some(n), true) if n > 1 => n,
            (None | Some(1), false) => 1,
            (None, true) => {
                return Err(Error::usage(format!(
                    "{}: has out projections, so more than one head, and does not say how many: give --heads N",
                    path.display()
                )));
            }
            (Some(n), _) => {
                return Err(Error::usage(format!(
                    "{}: {n} heads contradict a file {} out projections: mend --heads",
                    path.display(),
                    if projected { "with" } else { "without" }
                )));
            }
        };
        let f = data.features();
        for (what, rows, needed) in [("rna", gene_rows, f.genes()), ("atac", peak_rows, f.peaks())] {
            if rows < needed {
                return Err(Error::input(
                    path,
                    format!("tensor `{what}_idembedding.weight` has {rows} rows; the data set needs {needed}"),
                    "import with the data set that the weights were trained on",
                ));
            }
        }
        let d = ModelConfig::default();
        if let Some(a) = constants.alpha.filter(|a| !(a.is_finite() && *a >= 0.0)) {
            return Err(Error::usage(format!("--alpha {a}: it must be 0 or more")));
        }
        let config = ModelConfig {
            genes: f.genes(),
            peaks: f.peaks(),
            chromosomes: f.chromosomes,
            gene_extra: f.extra(),
            dna_length: f.dna_length(),
            embedding_dim,
            hidden,
            heads,
            top_k: count("top_k").unwrap_or(d.top_k),
            tau: real("tau").unwrap_or(d.tau),
            min_peaks: count("min_peaks").unwrap_or(d.min_peaks),
            dropout: real("dropout").unwrap_or(d.dropout),
            alpha: constants.alpha.or(real("alpha")).unwrap_or(d.alpha),
            cis: file.config().and_then(|c| c.cis),
            ..d
        };
        config.validate().map_err(|e| Error::input(path, e.to_string(), "mend the file's metadata or the flags"))?;
        if embedding_dim.max(hidden) > 1 << 20 {
            return Err(Error::input(
                path,
                format!("sizes {embedding_dim}, {hidden} are out of range"),
                "mend the file",
            ));
        }
        let stored = ModelConfig { genes: gene_rows, peaks: peak_rows, ..config.clone() };
        let params = file.params(path, &stored)?;
        for e in params.layout().entries() {
            if let Some(i) = params.as_slice()[e.range.clone()].iter().position(|x| !x.is_finite()) {
                return Err(Error::input(
                    path,
                    format!("tensor `{}` holds a number that is not finite in f32 (number {i})", e.name),
                    "give weights that are finite",
                ));
            }
        }
        Ok(Imported { config, gene_rows, peak_rows, params })
    }

    /// Makes the run in `out`, which exists: its `best` and `last` are the imported weights.
    pub fn write(&self, data: &DataSet, out: &Path) -> Result<()> {
        let c = &self.config;
        let train = TrainConfig { model: c.clone(), ..recipe("published")? };
        let stored = ModelConfig { genes: self.gene_rows, peaks: self.peak_rows, ..c.clone() };
        let mut file = new_run_file(data, &train, c)?;
        file.gene_rows = self.gene_rows;
        file.peak_rows = self.peak_rows;
        file.parameters = ParamLayout::new(&stored).len();
        file.origin = "imported".into();
        let dir = out.join("checkpoints");
        std::fs::create_dir_all(&dir).map_err(|e| Error::io(&dir, "create", e))?;
        for which in [Checkpoint::Best, Checkpoint::Last] {
            tensors::save(&dir.join(which.file_name()), &self.params, &stored)?;
        }
        let state = dir.join("state.safetensors");
        if state.exists() {
            std::fs::remove_file(&state).map_err(|e| Error::io(&state, "remove", e))?;
        }
        write_run(out, &file, data.vocabulary())
    }
}
