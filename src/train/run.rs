//! A RUN on disk: what was resolved, names of genes and peaks, checkpoints, logs.
//!
//! ```text
//! RUN/run.json                        resolved settings, model sizes, data path and hash, chromosomes, program version
//! RUN/genes.txt, RUN/peaks.txt        name <TAB> chromosome, a row of the id table each, in its order
//! RUN/cells.tsv                       barcode <TAB> part (train, val, test, none), a line a cell of the data set
//! RUN/towers.jsonl                    one record an epoch of the towers
//! RUN/log.jsonl, RUN/log.csv          one record an epoch
//! RUN/checkpoints/towers.safetensors  the towers of the epoch with the best validation score
//! RUN/checkpoints/best.safetensors    parameters of the epoch with the best validation score
//! RUN/checkpoints/last.safetensors    parameters of the last checkpoint
//! RUN/checkpoints/state.safetensors   all that `--resume` needs: parameters, moments, place in the epoch
//! RUN/checkpoints/before.safetensors  the one before it, which `--resume` takes where the last is damaged
//! ```
//!
//! See docs/model.md, section 9.2.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::config::TrainConfig;
use super::tensors::TensorFile;
use crate::dataset::{Access, DataSet, SampleSet};
use crate::error::{Error, Result};
use crate::files::atomic::{read_text, write_text};
use crate::model::{Model, ModelConfig, ParamLayout, Params};
use crate::vocabulary::Vocabulary;

/// `format` of `run.json`.
const FORMAT: &str = "sccrossrec-run";
/// Version history: 1, the first.
const VERSION: u32 = 1;

/// Which parameters of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Checkpoint {
    /// Of the epoch with the best validation score.
    #[default]
    Best,
    /// Of the last checkpoint.
    Last,
}

impl Checkpoint {
    /// The file's name in `RUN/checkpoints`.
    pub fn file_name(self) -> &'static str {
        match self {
            Checkpoint::Best => "best.safetensors",
            Checkpoint::Last => "last.safetensors",
        }
    }
}

/// `run.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunFile {
    pub format: String,
    pub version: u32,
    pub program: String,
    pub data: DataRef,
    pub config: TrainConfig,
    pub model: ModelConfig,
    /// Rows of the id tables in the checkpoints: as many as the data set has genes and peaks, or, in imported weights,
    /// more; the rows past the names stay unused.
    pub gene_rows: usize,
    pub peak_rows: usize,
    pub parameters: usize,
    /// Columns of the one-hot, in order, and of the gene features after it.
    pub chromosomes: Vec<String>,
    pub gene_features: Vec<String>,
    /// `trained` or `imported`.
    pub origin: String,
    /// Samples in train, val and test; 0 for imported weights.
    pub sample_counts: [usize; 3],
    /// A hash of the sample set trained on; empty for imported weights.
    pub samples_hash: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DataRef {
    pub path: PathBuf,
    pub hash: String,
}

/// A run, opened.
///
/// ```no_run
/// use sccrossrec::{Checkpoint, DataSet, Run};
///
/// let run = Run::open("runs/first".as_ref())?;
/// let data = DataSet::open(run.data_dir())?;
/// let model = run.model(&data, Checkpoint::Best)?;
/// # Ok::<(), sccrossrec::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Run {
    /// The settings it was trained with.
    pub config: TrainConfig,
    /// Sizes and constants of its model; genes and peaks are those of its names.
    pub sizes: ModelConfig,
    /// Meet data whose gene or peak names differ: what the data lack is not used, what the run lacks gets an id
    /// embedding of zeros. Off at first: such data are refused, with the counts.
    pub allow_missing: bool,
    pub(crate) dir: PathBuf,
    pub(crate) file: RunFile,
    pub(crate) genes: Vec<String>,
    pub(crate) peaks: Vec<String>,
}

impl Run {
    /// Opens `RUN` and checks its names against its sizes. Checkpoints are read by [`Run::model`].
    pub fn open(dir: &Path) -> Result<Self> {
        let path = dir.join("run.json");
        let text = std::fs::read_to_string(&path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => {
                let found =
                    if dir.exists() { "is not a run: there is no run.json in it" } else { "there is no such folder" };
                Error::input(dir, found, "give the --out folder of `train`")
            }
            _ => Error::io(&path, "read", e),
        })?;
        let file: RunFile = serde_json::from_str(&text).map_err(|e| {
            Error::input(&path, format!("is not a run description ({e})"), "restore the file or train again")
        })?;
        let bad = |found: String| Err(Error::input(&path, found, "use the version of the program that wrote it"));
        if file.format != FORMAT {
            return bad(format!("`format` is {:?}, not {FORMAT:?}", file.format));
        }
        if file.version != VERSION {
            return bad(format!("`version` is {}; this program reads {VERSION}", file.version));
        }
        file.model.validate().map_err(|e| Error::input(&path, e.to_string(), "restore the file or train again"))?;
        let m = &file.model;
        let sizes =
            [file.gene_rows, file.peak_rows, m.chromosomes, m.gene_extra, m.dna_length, m.embedding_dim, m.hidden];
        if sizes.iter().any(|&n| n > i32::MAX as usize) || m.embedding_dim.max(m.hidden) > 1 << 20 {
            return Err(Error::input(&path, "a size in it is out of range", "restore the file or train again"));
        }
        let genes = read_names(&dir.join("genes.txt"), m.genes)?;
        let peaks = read_names(&dir.join("peaks.txt"), m.peaks)?;
        if file.gene_rows < genes.len()
            || file.peak_rows < peaks.len()
            || file.chromosomes.len() != m.chromosomes
            || file.gene_features.len() != m.gene_extra
        {
            return Err(Error::input(
                &path,
                "its sizes contradict each other",
                "restore the file or train (or import) again",
            ));
        }
        let mut config = file.config.clone();
        // What no flag sets.
        (config.model.top_k, config.model.tau, config.model.min_peaks) = (m.top_k, m.tau, m.min_peaks);
        Ok(Run { config, sizes: file.model.clone(), allow_missing: false, dir: dir.to_path_buf(), file, genes, peaks })
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The data set it was trained on, as an absolute path.
    pub fn data_dir(&self) -> &Path {
        &self.file.data.path
    }

    /// [`DataSet::hash`] of that data set when it was trained.
    pub fn data_hash(&self) -> &str {
        &self.file.data.hash
    }

    /// Is `set` of `data` the sample set that the run was trained on? If not, cells of its test part may have been seen
    /// in training. `None` for imported weights, of which that is not known.
    pub fn trained_on(&self, data: &DataSet, set: &SampleSet) -> Option<bool> {
        let known = &self.file.samples_hash;
        (!known.is_empty()).then(|| self.data_hash() == data.hash() && *known == crate::dataset::samples::set_hash(set))
    }

    /// Is it known which samples it was trained on? Not of imported weights.
    pub fn knows_its_samples(&self) -> bool {
        !self.file.samples_hash.is_empty()
    }

    /// Version of the program that made the run.
    pub fn program(&self) -> &str {
        &self.file.program
    }

    /// Gene names, a row of the id table each.
    pub fn genes(&self) -> &[String] {
        &self.genes
    }

    /// Peak names, a row of the id table each.
    pub fn peaks(&self) -> &[String] {
        &self.peaks
    }

    /// Where a checkpoint lies, whether it is there or not.
    pub fn checkpoint_path(&self, which: Checkpoint) -> PathBuf {
        self.dir.join("checkpoints").join(which.file_name())
    }

    /// Numbers in its parameters, unused rows of imported id tables included.
    pub fn parameters(&self) -> usize {
        self.file.parameters
    }

    /// Opens `dir`, or the data set it was trained on, read as `access` says.
    ///
    /// # Errors
    /// As [`DataSet::open`]; the data set of the run is not there any more.
    pub fn open_data(&self, dir: Option<&Path>, access: Access) -> Result<DataSet> {
        match dir {
            Some(dir) => DataSet::open_with(dir, access),
            None if !self.data_dir().exists() => Err(Error::input(
                self.data_dir(),
                "the data set of the run is not there any more",
                "give its place, or another data set, with --data",
            )),
            None => DataSet::open_with(self.data_dir(), access),
        }
    }

    /// The model with the parameters of `which`, for the genes and peaks of `data`, which are met by name: reordered
    /// is fine, missing or unknown names are counted and refused unless `allow_missing`.
    ///
    /// # Errors
    /// No such checkpoint; tensors of other shapes than `run.json` says; names or features of `data` that do not fit.
    pub fn model(&self, data: &DataSet, which: Checkpoint) -> Result<Model<f32>> {
        self.fit(data, self.stored(which)?)
    }

    /// The parameters of `which` as they are stored (id tables with all rows), checked against `run.json`.
    pub(crate) fn stored(&self, which: Checkpoint) -> Result<Params<f32>> {
        let path = self.checkpoint_path(which);
        if !path.exists() {
            let fix = match which {
                Checkpoint::Best if self.checkpoint_path(Checkpoint::Last).exists() => {
                    "no epoch was finished yet: use --checkpoint last or go on with `train --resume`"
                }
                _ => "train the run first",
            };
            return Err(Error::input(&path, "there is no such checkpoint", fix));
        }
        TensorFile::read(&path)?.params(&path, &self.stored_sizes())
    }

    /// Sizes of the stored tensors.
    pub(crate) fn stored_sizes(&self) -> ModelConfig {
        ModelConfig { genes: self.file.gene_rows, peaks: self.file.peak_rows, ..self.sizes.clone() }
    }
}

fn read_names(path: &Path, expected: usize) -> Result<Vec<String>> {
    let text = read_text(path)?;
    let names: Vec<_> =
        text.lines().map(|line| line.rsplit_once('\t').map_or(line, |(name, _)| name).to_string()).collect();
    if names.len() != expected {
        return Err(Error::input(
            path,
            format!("has {} names where run.json says {expected}", names.len()),
            "restore the file or train again",
        ));
    }
    Ok(names)
}

/// Writes what is known before the first step: names, then `run.json`. The folder exists.
pub(crate) fn write_run(dir: &Path, file: &RunFile, vocabulary: &Vocabulary) -> Result<()> {
    let chromosome = |c: u32| vocabulary.chromosomes.get(c as usize).map_or("", String::as_str);
    let genes = vocabulary.genes.iter().map(|g| (g.name.as_str(), chromosome(g.chrom)));
    let peaks = vocabulary.peaks.iter().map(|p| (p.name.as_str(), chromosome(p.chrom)));
    write_text(&dir.join("genes.txt"), &name_table("gene", genes)?)?;
    write_text(&dir.join("peaks.txt"), &name_table("peak", peaks)?)?;
    write_run_file(dir, file)
}

/// The list of cells and their parts.
pub(crate) const CELLS: &str = "cells.tsv";

/// Writes which cells the run is trained on, and which are kept from it.
pub(crate) fn write_cells(dir: &Path, cells: &[String], set: &SampleSet) -> Result<()> {
    let rows = cells.iter().map(String::as_str).zip(set.part_of_cells(cells.len()));
    write_text(&dir.join(CELLS), &("cell\tpart\n".to_string() + &name_table("cell", rows)?))
}

pub(crate) fn write_run_file(dir: &Path, file: &RunFile) -> Result<()> {
    let text = serde_json::to_string_pretty(file).map_err(|e| Error::Internal(format!("run.json: {e}")))?;
    write_text(&dir.join("run.json"), &(text + "\n"))
}

fn name_table<'a>(what: &str, rows: impl Iterator<Item = (&'a str, &'a str)>) -> Result<String> {
    let mut text = String::new();
    for (name, chromosome) in rows {
        if name.contains(['\n', '\r']) || chromosome.contains(['\n', '\r', '\t']) {
            return Err(Error::usage(format!("{what} name {name:?} holds a line break; rename it and prepare again")));
        }
        text += &format!("{name}\t{chromosome}\n");
    }
    Ok(text)
}

/// What `run.json` says of a data set.
pub(crate) fn data_ref(data: &DataSet) -> Result<DataRef> {
    let path = std::fs::canonicalize(data.dir()).map_err(|e| Error::io(data.dir(), "read", e))?;
    Ok(DataRef { path, hash: data.hash().to_string() })
}

pub(crate) fn new_run_file(data: &DataSet, config: &TrainConfig, model: &ModelConfig) -> Result<RunFile> {
    Ok(RunFile {
        format: FORMAT.into(),
        version: VERSION,
        program: env!("CARGO_PKG_VERSION").into(),
        data: data_ref(data)?,
        config: config.clone(),
        model: model.clone(),
        gene_rows: model.genes,
        peak_rows: model.peaks,
        parameters: ParamLayout::new(model).len(),
        chromosomes: data.vocabulary().chromosomes.clone(),
        gene_features: data.gene_features().to_vec(),
        origin: "trained".into(),
        sample_counts: [0; 3],
        samples_hash: String::new(),
    })
}
