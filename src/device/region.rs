//! Regions of the workspace: an op declares each by name, with a kind of number and a length that follows from the sizes.
//! The plan gives every region a place; records and checks find it by its name.

use std::cell::RefCell;

use super::arena::{ArenaPlan, Span};
use super::gpu::Kernels;
use super::slot::BatchSizes;
use crate::error::{Error, Result};
use crate::model::{CisGraph, ModelConfig};

/// What a region holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    F32,
    U32,
}

/// A type that regions hold.
pub(crate) trait Number: bytemuck::Pod {
    const KIND: Kind;
}

impl Number for f32 {
    const KIND: Kind = Kind::F32;
}

impl Number for u32 {
    const KIND: Kind = Kind::U32;
}

/// A region as an op declares it. Ops that share one declare it each: it gets the largest of their lengths.
#[derive(Debug)]
pub(crate) struct Region {
    pub name: &'static str,
    pub kind: Kind,
    /// Numbers in it.
    pub len: fn(&Extent<'_>) -> usize,
}

impl Region {
    pub const fn f32(name: &'static str, len: fn(&Extent<'_>) -> usize) -> Self {
        Region { name, kind: Kind::F32, len }
    }

    pub const fn u32(name: &'static str, len: fn(&Extent<'_>) -> usize) -> Self {
        Region { name, kind: Kind::U32, len }
    }
}

/// What lengths are made of: the model, and the sizes of a batch, or of the room for batches.
#[derive(Debug)]
pub(crate) struct Extent<'a> {
    pub config: &'a ModelConfig,
    /// The graph of the cis term, where the model has one.
    pub graph: Option<&'a CisGraph>,
    pub sizes: BatchSizes,
    pub samples: usize,
    pub positives: usize,
    pub gene_entries: usize,
    pub peak_entries: usize,
    pub gene_rows: usize,
    pub peak_rows: usize,
    pub columns: usize,
    pub genes: usize,
    pub hidden: usize,
    pub heads: usize,
    pub top_k: usize,
    /// Embedding, value and features of a gene, and one more for the sum of weights.
    pub gene_bag: usize,
    /// The same of a peak.
    pub peak_bag: usize,
    kernels: &'a Kernels,
    /// The first kernel that was asked for and is not there.
    missing: RefCell<Option<String>>,
}

impl<'a> Extent<'a> {
    pub fn new(config: &'a ModelConfig, graph: Option<&'a CisGraph>, kernels: &'a Kernels, sizes: BatchSizes) -> Self {
        let n = |x: u32| x as usize;
        Extent {
            config,
            graph,
            sizes,
            samples: n(sizes.samples),
            positives: n(sizes.positives),
            gene_entries: n(sizes.gene_entries),
            peak_entries: n(sizes.peak_entries),
            gene_rows: n(sizes.gene_rows),
            peak_rows: n(sizes.peak_rows),
            columns: n(sizes.columns),
            genes: config.genes,
            hidden: config.hidden,
            heads: config.heads,
            top_k: config.top_k,
            gene_bag: config.embedding_dim + 2 + config.gene_features(),
            peak_bag: config.embedding_dim + 2 + config.peak_features(),
            kernels,
            missing: RefCell::new(None),
        }
    }

    /// Blocks of a kernel over `items`. A kernel that is not there ends the planning with an error.
    pub fn blocks(&self, kernel: &str, items: usize) -> usize {
        match self.kernels.get(kernel) {
            Ok(k) => items.div_ceil(k.shape().tile_x as usize),
            Err(_) => {
                self.missing.borrow_mut().get_or_insert_with(|| kernel.to_string());
                0
            }
        }
    }

    /// Every region of these lists, in order, once each: name, kind and numbers.
    ///
    /// # Errors
    /// Two kinds of one name; a length that asks for a kernel that was not loaded.
    pub fn lengths(&self, lists: &[&'static [Region]]) -> Result<Vec<(&'static str, Kind, usize)>> {
        let mut all: Vec<(&'static str, Kind, usize)> = Vec::new();
        for r in lists.iter().copied().flatten() {
            let len = (r.len)(self);
            match all.iter_mut().find(|a| a.0 == r.name) {
                Some(a) if a.1 != r.kind => {
                    return Err(Error::Internal(format!("region `{}` is declared with two kinds of numbers", r.name)));
                }
                Some(a) => a.2 = a.2.max(len),
                None => all.push((r.name, r.kind, len)),
            }
        }
        match self.missing.take() {
            Some(kernel) => {
                Err(Error::Internal(format!("a region is sized by kernel `{kernel}`, which was not loaded")))
            }
            None => Ok(all),
        }
    }
}

/// Where a region lies in its arena.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RegionPlace {
    pub name: &'static str,
    pub kind: Kind,
    /// In bytes.
    pub offset: usize,
    /// In numbers; both kinds take four bytes.
    pub len: usize,
}

/// Where all regions lie.
#[derive(Debug, Clone, Default)]
pub(crate) struct RegionPlaces(Vec<RegionPlace>);

impl RegionPlaces {
    /// Adds regions to a plan.
    pub fn plan(plan: &mut ArenaPlan, lengths: &[(&'static str, Kind, usize)]) -> Self {
        let place = |&(name, kind, len): &(&'static str, Kind, usize)| {
            let offset = match kind {
                Kind::F32 => plan.add::<f32>(name, len).offset,
                Kind::U32 => plan.add::<u32>(name, len).offset,
            };
            RegionPlace { name, kind, offset, len }
        };
        RegionPlaces(lengths.iter().map(place).collect())
    }

    /// The region of that name and kind.
    ///
    /// # Errors
    /// There is none.
    pub fn span<T: Number>(&self, name: &str) -> Result<Span<T>> {
        match self.0.iter().find(|p| p.name == name) {
            Some(p) if p.kind == T::KIND => Ok(Span::new(p.offset, p.len)),
            Some(p) => Err(Error::Internal(format!("region `{name}` holds {:?}, not {:?}", p.kind, T::KIND))),
            None => Err(Error::Internal(format!("no op declares a region `{name}`"))),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &RegionPlace> {
        self.0.iter()
    }
}

/// How much of a region a pass may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Much {
    /// As much as the region would be long for this very batch.
    OfBatch,
    /// The same, of numbers that take half the bytes in `bf16`.
    OfBatchPrecise,
    /// All of it.
    Whole,
}

/// What a pass may write: regions, and gradients of parameters.
#[derive(Debug)]
pub(crate) struct Writes<'a> {
    pub n: &'a Extent<'a>,
    pub regions: Vec<(&'static str, Much)>,
    pub gradients: Vec<&'static str>,
}

impl<'a> Writes<'a> {
    pub fn new(n: &'a Extent<'a>) -> Self {
        Writes { n, regions: Vec::new(), gradients: Vec::new() }
    }

    fn add(&mut self, names: &[&'static str], much: Much) {
        self.regions.extend(names.iter().map(|&n| (n, much)));
    }

    /// Regions, as far as this batch fills them.
    pub fn rows(&mut self, names: &[&'static str]) {
        self.add(names, Much::OfBatch);
    }

    /// Regions of numbers in the precision of the run, as far as this batch fills them.
    pub fn precise(&mut self, names: &[&'static str]) {
        self.add(names, Much::OfBatchPrecise);
    }

    /// Regions that may be written anywhere.
    pub fn whole(&mut self, names: &[&'static str]) {
        self.add(names, Much::Whole);
    }

    /// Gradients of parameters. Those that the model does not have are left out.
    pub fn gradients(&mut self, names: &[&'static str]) {
        self.gradients.extend(names);
    }
}
