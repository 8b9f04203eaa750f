//! What a pass of an op found on the device and what it left there, for the op's check to compare with the CPU in f64.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::abi::StepRecord;
use super::program::{Pass, Step};
use super::region::{Extent, Kind, Much, Writes};
use super::sink::{Sink, error_of, wide, widen};
use crate::model::nodes::NodeSet;
use crate::model::output::Want;
use crate::model::terms::Terms;
use crate::model::{Batch, Dropout, Features, Model, ModelConfig, PREFIX, Precision};

/// Allowed error of a tensor where all is f32.
pub(crate) const F32: f64 = 1e-4;
/// Rounding to bf16: at most this share of a number.
pub(crate) const BF16: f64 = 1.0 / 256.0;

/// Where a step that is run op by op is: turns of one op that follow each other count as one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment<'a> {
    pub op: &'static str,
    pub turn: u32,
    pub pass: Pass,
    /// Behind the pass, or before it?
    pub after: bool,
    pub steps: &'a [Step],
}

/// Bytes that can be looked at by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Area {
    pub name: &'static str,
    /// Of the workspace, or of what outlives a step (parameters `p`, gradients `g`, moments `m` and `v`, `norm_part`,
    /// `control` and `record`)?
    pub in_work: bool,
    pub offset: usize,
    pub bytes: usize,
}

/// All that lies on the device at one time.
#[derive(Debug)]
pub(crate) struct Image {
    pub work: Vec<u8>,
    pub state: Vec<u8>,
}

impl Image {
    /// The bytes of a region.
    pub fn bytes(&self, r: &Area) -> &[u8] {
        let all = if r.in_work { &self.work } else { &self.state };
        &all[r.offset..r.offset + r.bytes]
    }
}

/// One model and one batch that kernels are checked with.
pub(crate) struct Case {
    pub name: &'static str,
    pub model: Model<f32>,
    pub batch: Batch<f32>,
    pub dropout: Option<Dropout>,
    /// Grids and regions for a larger batch than this?
    pub roomy: bool,
}

/// What was found of a pass: memory before and behind it, and where things lie in it.
#[derive(Clone, Copy)]
pub(crate) struct Found<'a> {
    pub areas: &'a [Area],
    /// Arena numbers where each tensor of the model's layout starts.
    pub starts: &'a [usize],
    /// The sizes of the batch, and the numbers of every region that they ask for.
    pub extent: &'a Extent<'a>,
    pub lengths: &'a [(&'static str, Kind, usize)],
    pub positives: &'a [usize],
    pub before: &'a Image,
    pub after: &'a Image,
    pub precision: Precision,
}

/// The device's memory before and behind a pass, and the batch in f64.
pub(crate) struct View<'a> {
    pub case: &'a Case,
    pub config: &'a ModelConfig,
    pub precision: Precision,
    pub regions: HashMap<&'static str, Area>,
    starts: &'a [usize],
    pub before: &'a Image,
    pub after: &'a Image,
    extent: &'a Extent<'a>,
    lengths: &'a [(&'static str, Kind, usize)],
    pub positives: &'a [usize],
    /// What a training step on the batch computes.
    pub terms: Terms,
    pub features: Features<f64>,
    pub batch: Batch<f64>,
    pub genes: Arc<NodeSet<f64>>,
    pub peaks: Arc<NodeSet<f64>>,
}

impl<'a> View<'a> {
    pub fn new(case: &'a Case, found: Found<'a>) -> Self {
        let f = &case.model.features;
        let features = Features {
            gene_chrom: f.gene_chrom.clone(),
            peak_chrom: f.peak_chrom.clone(),
            chromosomes: f.chromosomes,
            unknown: f.unknown,
            gene_extra: widen(&f.gene_extra),
            peak_dna: f.peak_dna.clone(),
        };
        let b = &case.batch;
        let batch = Batch { label: b.label.clone(), sample: b.sample.clone(), rna: wide(&b.rna), atac: wide(&b.atac) };
        let Found { areas, starts, extent, lengths, positives, before, after, precision } = found;
        let terms = Terms::of(&case.model.config, Want::default(), true).of_positives(positives.len());
        View {
            case,
            config: &case.model.config,
            precision,
            regions: areas.iter().map(|r| (r.name, *r)).collect(),
            starts,
            before,
            after,
            extent,
            lengths,
            positives,
            genes: Arc::new(NodeSet::new(&batch.rna, &features.gene_chrom, terms.by_column())),
            peaks: Arc::new(NodeSet::new(&batch.atac, &features.peak_chrom, false)),
            terms,
            features,
            batch,
        }
    }

    /// The first `n` words of a region.
    pub(crate) fn words(&self, image: &Image, name: &str, n: usize) -> Vec<u32> {
        let Some(r) = self.regions.get(name) else { return Vec::new() };
        let word = |b: &[u8]| u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        image.bytes(r).chunks_exact(4).take(n).map(word).collect()
    }

    pub(crate) fn numbers(&self, image: &Image, name: &str, n: usize) -> Vec<f64> {
        self.words(image, name, n).into_iter().map(|w| f64::from(f32::from_bits(w))).collect()
    }

    /// The first `n` numbers of a region behind the pass.
    pub(crate) fn get(&self, name: &str, n: usize) -> Vec<f64> {
        self.numbers(self.after, name, n)
    }

    pub(crate) fn plain<T: bytemuck::AnyBitPattern>(&self, image: &Image, name: &str) -> Option<T> {
        let r = self.regions.get(name)?;
        Some(bytemuck::pod_read_unaligned(&image.bytes(r)[..size_of::<T>()]))
    }

    /// Where a tensor of the model lies in `p` and `g`, in numbers.
    fn place(&self, name: &str) -> Range<usize> {
        let entries = self.case.model.params.layout().entries();
        match entries.iter().position(|e| e.name == name) {
            Some(i) => self.starts[i]..self.starts[i] + entries[i].range.len(),
            None => 0..0,
        }
    }

    /// A tensor of an arena (`p` or `g`).
    fn tensor(&self, image: &Image, arena: &str, name: &str) -> Vec<f64> {
        let (Some(r), at) = (self.regions.get(arena), self.place(name)) else { return Vec::new() };
        let bytes = &image.bytes(r)[at.start * 4..at.end * 4];
        bytes.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]]))).collect()
    }

    pub(crate) fn param(&self, name: &str) -> Vec<f64> {
        self.tensor(self.before, "p", name)
    }

    /// Compares what was added to the gradient of a parameter.
    pub(crate) fn gradient(&self, out: &mut Sink<'_>, name: &str, more: &[f64], tolerance: f64) {
        let (before, after) = (self.tensor(self.before, "g", name), self.tensor(self.after, "g", name));
        out.added(&format!("d {}", name.trim_start_matches(PREFIX)), &before, &after, more, tolerance);
    }

    /// Allowed error of products: where operands are rounded to bf16, `times` what that does to `exact`.
    pub(crate) fn allow(&self, times: f64, exact: &[f64], rounded: impl FnOnce() -> Vec<f64>) -> f64 {
        match self.precision {
            Precision::F32 => F32,
            Precision::Bf16 => times * error_of(&rounded(), exact, |_| 0.0).0.max(0.5 * BF16),
        }
    }

    /// How near to each other logits must be for a choice between them to be free: this times |q| |k|.
    pub(crate) fn free(&self) -> f64 {
        match self.precision {
            Precision::F32 => 1e-5,
            Precision::Bf16 => BF16,
        }
    }

    /// What this pass may write is to be filled in.
    pub(crate) fn writes(&self) -> Writes<'a> {
        Writes::new(self.extent)
    }

    /// Bytes of a region that a pass may write; none where nobody declares it.
    fn bytes(&self, name: &str, much: Much, area: &Area) -> Option<usize> {
        let of_batch = || Some(4 * self.lengths.iter().find(|l| l.0 == name)?.2);
        let bytes = match (much, self.precision) {
            (Much::Whole, _) => area.bytes,
            (Much::OfBatchPrecise, Precision::Bf16) => of_batch()? / 2,
            (Much::OfBatch | Much::OfBatchPrecise, _) => of_batch()?,
        };
        Some(bytes.min(area.bytes))
    }

    /// A term's loss in the record, and `added`, what comes to the loss of the step.
    pub(crate) fn loss(&self, out: &mut Sink<'_>, name: &str, loss: f64, added: f64, of: fn(&StepRecord) -> f32) {
        let records = (self.plain::<StepRecord>(self.before, "record"), self.plain::<StepRecord>(self.after, "record"));
        let (Some(before), Some(after)) = records else { return };
        let want = [loss, f64::from(before.loss) + added];
        out.tensor(name, &widen(&[of(&after), after.loss]), &want, F32);
    }

    /// Has anything changed that must not? The region and the place.
    pub(crate) fn outside(&self, writes: &Writes<'_>) -> Option<String> {
        let mut may: Vec<(bool, usize, usize)> = Vec::new();
        for &(name, much) in &writes.regions {
            let found = self.regions.get(name).and_then(|r| Some((r, self.bytes(name, much, r)?)));
            let Some((r, bytes)) = found else { return Some(format!("may write `{name}`, which no op declares")) };
            may.push((r.in_work, r.offset, r.offset + bytes));
        }
        if let Some(g) = self.regions.get("g") {
            for name in &writes.gradients {
                let at = self.place(name);
                may.push((false, g.offset + 4 * at.start, g.offset + 4 * at.end));
            }
        }
        may.sort_unstable();
        for (in_work, before, after) in
            [(true, &self.before.work, &self.after.work), (false, &self.before.state, &self.after.state)]
        {
            let mut from = 0;
            let ends = [(in_work, before.len(), before.len())];
            for &(_, start, end) in may.iter().filter(|r| r.0 == in_work).chain(&ends) {
                if start > from && before[from..start] != after[from..start] {
                    let at = from + before[from..start].iter().zip(&after[from..start]).position(|(a, b)| a != b)?;
                    return Some(format!("was written at {}", self.describe(in_work, at)));
                }
                from = from.max(end);
            }
        }
        None
    }

    /// A place in words.
    fn describe(&self, in_work: bool, at: usize) -> String {
        let before = self.regions.values().filter(|r| r.in_work == in_work && r.offset <= at);
        match before.max_by_key(|r| r.offset) {
            Some(r) if at < r.offset + r.bytes => format!("byte {} of `{}`", at - r.offset, r.name),
            Some(r) => format!("{} bytes behind `{}`", at - r.offset - r.bytes, r.name),
            None => format!("byte {at} of the batch"),
        }
    }

    /// `[G]` of a sample.
    pub(crate) fn expression(&self, sample: usize) -> Vec<f64> {
        let mut of_genes = vec![0.0; self.config.genes];
        let (index, value) = self.batch.rna.row(sample);
        index.iter().zip(value).for_each(|(&g, &v)| of_genes[g as usize] = v);
        of_genes
    }
}
