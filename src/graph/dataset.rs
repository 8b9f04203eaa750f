//! A prepared data set, opened: vocabularies, memory-mapped cells, sample sets.

use std::path::Path;
use std::sync::Arc;

use crate::error::Result;
use crate::model::{Batch, Features};

/// A gene of the vocabulary.
#[derive(Debug, Clone, PartialEq)]
pub struct Gene {
    /// Name, as in `var_names` of the RNA file.
    pub name: String,
    /// Index into [`Vocabulary::chromosomes`].
    pub chrom: u32,
    /// Transcription start, 0-based, where known.
    pub tss: Option<i64>,
}

/// A peak of the vocabulary.
#[derive(Debug, Clone, PartialEq)]
pub struct Peak {
    /// Name, as in `var_names` of the ATAC file.
    pub name: String,
    /// Index into [`Vocabulary::chromosomes`].
    pub chrom: u32,
    /// Start, 0-based; -1 where unknown.
    pub start: i64,
    /// End, exclusive; -1 where unknown.
    pub end: i64,
}

/// Names of everything, in the order of the data set (which is the order of the id tables).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Vocabulary {
    /// Chromosomes, in order of first appearance over genes, then peaks.
    pub chromosomes: Vec<String>,
    /// Which of them is `chrUnknown`, if it occurs.
    pub unknown: Option<u32>,
    /// Genes, G of them.
    pub genes: Vec<Gene>,
    /// Peaks, P of them.
    pub peaks: Vec<Peak>,
    /// Barcodes, N of them.
    pub cells: Vec<String>,
    /// Names of cell types; empty where the data have none.
    pub cell_types: Vec<String>,
    /// `[N]` index into `cell_types`; empty where the data have none.
    pub cell_type: Vec<u32>,
}

/// Values of a cell's entries: all 1 (binary data store none), or one f32 each.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Values<'a> {
    /// This many entries, each 1.
    Ones(usize),
    /// One value each.
    F32(&'a [f32]),
}

impl Values<'_> {
    /// Value of entry `i`.
    pub fn get(&self, i: usize) -> f32 {
        match self {
            Values::Ones(_) => 1.0,
            Values::F32(v) => v[i],
        }
    }
}

/// One cell, borrowed from the shards. Genes and peaks are sorted by (chromosome, index).
#[derive(Debug, Clone, Copy)]
pub struct CellView<'a> {
    /// Data set index of each gene node.
    pub genes: &'a [u32],
    /// e, expression of each gene node.
    pub expr: Values<'a>,
    /// Data set index of each peak node.
    pub peaks: &'a [u32],
    /// a, accessibility of each peak node.
    pub acc: Values<'a>,
}

/// One sample: RNA of one cell, ATAC of another or the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Cell that gives the RNA.
    pub rna: u32,
    /// Cell that gives the ATAC.
    pub atac: u32,
    /// 1 where both are one cell, else 0.
    pub label: u8,
}

/// Parts of a sample set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// 80 %.
    Train,
    /// 10 %.
    Val,
    /// 10 %.
    Test,
}

/// Samples and the part each belongs to. Sample numbers index `samples` and key the dropout.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SampleSet {
    /// All samples.
    pub samples: Vec<Sample>,
    /// Numbers of the training samples.
    pub train: Vec<u32>,
    /// Numbers of the validation samples.
    pub val: Vec<u32>,
    /// Numbers of the test samples.
    pub test: Vec<u32>,
    /// How it was drawn: `split` ("cell" | "sample"), negatives, ratio, seed … as JSON.
    pub recipe: serde_json::Value,
}

/// A prepared data set (the folder that `prepare` makes), opened read-only.
#[derive(Debug)]
pub struct DataSet;

impl DataSet {
    /// Opens and checks a folder: versions, lengths and header checksums (not the payload: see `verify`).
    pub fn open(_dir: &Path) -> Result<Self> {
        todo!()
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        todo!()
    }

    /// Names of everything.
    pub fn vocabulary(&self) -> &Vocabulary {
        todo!()
    }

    /// N.
    pub fn n_cells(&self) -> usize {
        todo!()
    }

    /// A hash of what was prepared (hex): a RUN remembers it.
    pub fn hash(&self) -> &str {
        todo!()
    }

    /// Constant features for the model.
    pub fn features(&self) -> Arc<Features<f32>> {
        todo!()
    }

    /// One cell, without copying.
    pub fn cell(&self, _i: usize) -> CellView<'_> {
        todo!()
    }

    /// Reads a sample set (`samples/NAME`).
    pub fn samples(&self, _name: &str) -> Result<SampleSet> {
        todo!()
    }

    /// Assembles samples `numbers` of `set` into a batch.
    pub fn batch(&self, _set: &SampleSet, _numbers: &[u32]) -> Batch<f32> {
        todo!()
    }

    /// A batch of positives: each of `cells` with itself (for embedding, translation, discovery).
    pub fn batch_of_cells(&self, _cells: &[u32]) -> Batch<f32> {
        todo!()
    }
}
