//! What an op says of itself: its kernels, its regions, its turns in a step, what it writes, how it is checked and how much
//! work it is. Everything that works on all ops reads a list of these; nothing here knows one of them.

use super::frame::Frame;
use super::program::{Pass, Program, Recorder};
use super::region::{Region, Writes};
use super::sink::Sink;
use super::slot::BatchSizes;
use super::view::View;
use crate::error::Result;
use crate::model::{Batch, Model, ModelConfig};

/// An op on a device.
#[derive(Debug)]
pub(crate) struct Op {
    /// Its name, in messages and on the command line.
    pub name: &'static str,
    pub sources: &'static [KernelFile],
    pub regions: &'static [Region],
    pub turns: &'static [Turn],
    pub bench: Bench,
}

/// A source file of the folder `kernels`, and the entry points in it.
#[derive(Debug)]
pub(crate) struct KernelFile {
    /// Without `.cu`.
    pub file: &'static str,
    /// Stems of entry points that come as `_f32` and `_bf16`.
    pub precise: &'static [&'static str],
    /// Entry points that are the same in both precisions.
    pub plain: &'static [&'static str],
}

/// An entry point that the engine launches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The source file it is built in from, without `.cu`.
    pub file: &'static str,
    /// Its name without the precision.
    pub stem: &'static str,
    /// Does it come as `_f32` and `_bf16`? Else its name is the stem.
    pub precise: bool,
}

impl Entry {
    /// The names of its symbols.
    pub fn names(&self) -> Vec<String> {
        match self.precise {
            true => ["_f32", "_bf16"].iter().map(|p| format!("{}{p}", self.stem)).collect(),
            false => vec![self.stem.to_string()],
        }
    }
}

impl Op {
    /// Its entry points, file by file.
    pub fn entries(&self) -> impl Iterator<Item = Entry> {
        self.sources.iter().flat_map(|s| {
            let of = |precise| move |&stem: &&'static str| Entry { file: s.file, stem, precise };
            s.precise.iter().map(of(true)).chain(s.plain.iter().map(of(false)))
        })
    }

    /// Its turn at a place.
    pub fn turn(&self, place: u32) -> Option<&Turn> {
        self.turns.iter().find(|t| t.place == place)
    }
}

/// One turn of an op in a step.
#[derive(Debug)]
pub(crate) struct Turn {
    /// Forward passes run by rising place, backward passes by falling place. No two turns have the same.
    pub place: u32,
    /// The last pass it has a part in: gradients, or the parameters.
    pub last: Pass,
    /// Ops of which the backward pass launches a kernel that sums partial gradients (`d_u…`): where those ops are checked,
    /// these sums are looked at as well.
    pub sums_by: &'static [&'static str],
    /// Records the launches; none where there is nothing to do.
    pub record: fn(&mut Recorder, &Frame<'_>) -> Result<()>,
    /// What a pass may write. A check fails where anything else changes.
    pub writes: fn(&mut Writes<'_>, Pass),
    /// Compares what a pass has written with the op on the CPU.
    pub check: fn(&View<'_>, Pass, &mut Sink<'_>),
}

/// How an op is measured.
#[derive(Debug)]
pub(crate) struct Bench {
    /// Does it run only in a model with the cis and the contrastive term?
    pub with_terms: bool,
    /// Are its products work for tensor cores?
    pub tensor_cores: bool,
    /// What a pass has to do at least.
    pub cost: fn(&Work<'_>, Pass) -> Cost,
}

/// Counted work: every product and sum, every number read or written once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Cost {
    pub flops: f64,
    pub bytes: f64,
}

/// What work is counted from.
pub(crate) struct Work<'a> {
    pub model: &'a Model<f32>,
    pub batch: &'a Batch<f32>,
    pub sizes: &'a BatchSizes,
    /// Genes with a gradient of the translation, over all heads.
    pub active: u64,
}

impl Work<'_> {
    pub fn config(&self) -> &ModelConfig {
        &self.model.config
    }

    pub fn hidden(&self) -> f64 {
        self.config().hidden as f64
    }

    pub fn dim(&self) -> f64 {
        self.config().embedding_dim as f64
    }

    pub fn heads(&self) -> f64 {
        self.config().heads as f64
    }

    /// Distinct genes and peaks.
    pub fn rows(&self) -> (f64, f64) {
        (f64::from(self.sizes.gene_rows), f64::from(self.sizes.peak_rows))
    }

    /// Gene and peak nodes.
    pub fn entries(&self) -> (f64, f64) {
        (f64::from(self.sizes.gene_entries), f64::from(self.sizes.peak_entries))
    }

    /// Further features of a gene and of a peak.
    pub fn extra(&self) -> (f64, f64) {
        (self.config().gene_extra as f64, self.config().dna_length as f64)
    }

    /// Inputs of a gene and of a peak.
    pub fn widths(&self) -> (f64, f64) {
        let c = self.config();
        (self.dim() + 1.0 + c.gene_features() as f64, self.dim() + 1.0 + c.peak_features() as f64)
    }

    /// Bytes of the tables of queries and keys.
    pub fn tables(&self) -> f64 {
        let (genes, peaks) = self.rows();
        4.0 * self.hidden() * (genes + peaks)
    }

    /// Bytes of embedding rows and features, each once.
    pub fn features(&self) -> f64 {
        let ((genes, peaks), (xg, xp), d) = (self.rows(), self.extra(), self.dim());
        genes * 4.0 * (d + xg) + peaks * (4.0 * d + xp)
    }

    /// Bytes of the weights of one map of each side.
    pub fn weights(&self) -> f64 {
        let (genes, peaks) = self.widths();
        4.0 * self.hidden() * (genes + peaks)
    }

    /// Places of the attention.
    pub fn members(&self) -> f64 {
        self.entries().0 * self.heads() * self.config().top_k as f64
    }
}

/// Records all turns of these ops, by place: the program up to and including `last`.
pub(crate) fn program(ops: &[&'static Op], frame: &Frame<'_>, last: Pass) -> Result<Program> {
    let mut turns: Vec<_> = ops.iter().flat_map(|op| op.turns.iter().map(|t| (op.name, t))).collect();
    turns.sort_by_key(|t| t.1.place);
    let mut recorder = Recorder::default();
    for (op, turn) in turns {
        recorder.begin(op, turn.place);
        (turn.record)(&mut recorder, frame)?;
    }
    Ok(recorder.program(last))
}
