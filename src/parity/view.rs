//! What each pass of each op must have written, computed by the CPU ops in f64.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::attend::Candidate;
use super::cases::Case;
use super::sink::{Sink, error_of, wide, widen};
use crate::device::Sizes;
use crate::device::abi::NONE;
use crate::device::program::Pass;
use crate::engine::cuda::probe::{Image, Moment, Probe, Region};
use crate::model::nodes::NodeSet;
use crate::model::output::Want;
use crate::model::terms::Terms;
use crate::model::{Batch, Features, ModelConfig, PREFIX, Precision};
use crate::ops::pool::{Weights, pool};
use crate::ops::project::{Extra, Side};
use crate::ops::translate::PeakColumns;
use crate::tape::{Tape, Var};

/// Allowed error of a tensor where all is f32.
pub(crate) const F32: f64 = 1e-4;
/// Rounding to bf16: at most this share of a number.
pub(crate) const BF16: f64 = 1.0 / 256.0;

impl Image {
    /// The bytes of a region.
    pub fn bytes(&self, r: &Region) -> &[u8] {
        let all = if r.in_work { &self.work } else { &self.state };
        &all[r.offset..r.offset + r.bytes]
    }
}

/// Is it the backward pass of `cis` that ends before the scores? The other one follows behind `translate`.
pub(super) fn is_first_of_cis(m: &Moment<'_>) -> bool {
    let launches = m.steps.iter().flat_map(|s| &s.launches);
    m.op == "cis" && m.pass == Pass::Backward && !launches.into_iter().any(|l| l.name() == "cis_backward_genes")
}

/// The device's memory before and behind a pass, and the batch in f64.
pub(super) struct View<'a> {
    pub(crate) case: &'a Case,
    pub(crate) config: &'a ModelConfig,
    pub(crate) precision: Precision,
    pub(crate) regions: HashMap<&'static str, Region>,
    starts: &'a [usize],
    pub(crate) before: &'a Image,
    pub(crate) after: &'a Image,
    pub(crate) sizes: Sizes,
    pub(crate) positives: &'a [usize],
    pub(crate) features: Features<f64>,
    pub(crate) batch: Batch<f64>,
    pub(crate) genes: Arc<NodeSet<f64>>,
    pub(crate) peaks: Arc<NodeSet<f64>>,
}

impl<'a> View<'a> {
    pub fn new(
        case: &'a Case,
        probe: &'a Probe<'_>,
        regions: &[Region],
        before: &'a Image,
        after: &'a Image,
        precision: Precision,
    ) -> Self {
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
        let positives = probe.arranged.positives.as_slice();
        let terms = Terms::of(&case.model.config, Want::default(), true).of_positives(positives.len());
        View {
            case,
            config: &case.model.config,
            precision,
            regions: regions.iter().map(|r| (r.name, *r)).collect(),
            starts: probe.starts(),
            before,
            after,
            sizes: probe.arranged.sizes,
            positives,
            genes: Arc::new(NodeSet::new(&batch.rna, &features.gene_chrom, terms.by_column())),
            peaks: Arc::new(NodeSet::new(&batch.atac, &features.peak_chrom, false)),
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

    fn gene_side(&self) -> Side<'_, f64> {
        Side {
            chrom: &self.features.gene_chrom,
            chromosomes: self.config.chromosomes,
            extra: Extra::Dense(&self.features.gene_extra),
            extra_width: self.config.gene_extra,
            dim: self.config.embedding_dim,
        }
    }

    fn peak_side(&self) -> Side<'_, f64> {
        Side {
            chrom: &self.features.peak_chrom,
            chromosomes: self.config.chromosomes,
            extra: Extra::Dna(&self.features.peak_dna),
            extra_width: self.config.dna_length,
            dim: self.config.embedding_dim,
        }
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

    /// Has anything changed that must not? The region and the place.
    pub(crate) fn outside(&self, m: &Moment<'_>) -> Option<String> {
        let (regions, gradients) = self.writes(m);
        let mut may: Vec<(bool, usize, usize)> = Vec::new();
        for (name, bytes) in regions {
            if let Some(r) = self.regions.get(name) {
                may.push((r.in_work, r.offset, r.offset + bytes.min(r.bytes)));
            }
        }
        if let Some(g) = self.regions.get("g") {
            for name in gradients {
                let at = self.place(&name);
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

    pub(crate) fn tables(&self) -> [Table<'_>; 2] {
        [
            Table {
                name: "q",
                u_name: "uq",
                layer: "rna_query",
                embedding: "rna_idembedding.weight",
                side: self.gene_side(),
                nodes: &self.genes,
            },
            Table {
                name: "k",
                u_name: "uk",
                layer: "atac_key",
                embedding: "atac_idembedding.weight",
                side: self.peak_side(),
                nodes: &self.peaks,
            },
        ]
    }

    /// q, uq, k, uk as they were before the pass.
    pub(crate) fn tables_read(&self) -> [Vec<f64>; 4] {
        let h = self.config.hidden;
        let get = |name: &str, n: usize| self.numbers(self.before, name, n);
        [get("q", self.genes.rows.len() * h), get("uq", h), get("k", self.peaks.rows.len() * h), get("uk", h)]
    }

    // ------------------------------------------------------------------------------------------ translate

    pub(crate) fn columns(&self) -> PeakColumns<f64> {
        PeakColumns::new(&self.peaks, self.positives)
    }

    /// `[G]` of a sample.
    pub(crate) fn expression(&self, sample: usize) -> Vec<f64> {
        let mut of_genes = vec![0.0; self.config.genes];
        let (index, value) = self.batch.rna.row(sample);
        index.iter().zip(value).for_each(|(&g, &v)| of_genes[g as usize] = v);
        of_genes
    }

    /// Rows `table[row] + value u`.
    pub(crate) fn effective(table: &[f64], u: &[f64], rows: impl Iterator<Item = (usize, f64)>) -> Vec<f64> {
        let h = u.len();
        rows.flat_map(|(r, v)| table[r * h..(r + 1) * h].iter().zip(u).map(move |(x, u)| x + v * u)).collect()
    }

    /// Node lists whose entries name rows of a table directly, without values.
    pub(crate) fn flat(&self, rows: usize, indptr: Vec<usize>, local: Vec<u32>) -> NodeSet<f64> {
        let n = local.len();
        NodeSet {
            rows: (0..rows as u32).collect(),
            indptr,
            local,
            sample: vec![0; n],
            values: vec![0.0; n],
            row_ptr: Vec::new(),
            by_row: Vec::new(),
            segments: Vec::new(),
        }
    }

    // ------------------------------------------------------------------------------------------ pool

    pub(crate) fn pools(&self) -> [Pool<'_>; 4] {
        let heads = self.config.heads;
        let (genes, peaks) = (self.gene_side(), self.peak_side());
        let (gn, pn) = (&self.genes, &self.peaks);
        let (eg, ep) = ("rna_idembedding.weight", "atac_idembedding.weight");
        [
            Pool { bag: "bag_a", weights: Some("col_sums"), side: peaks, nodes: pn, embedding: ep, heads },
            Pool { bag: "bag_r", weights: Some("row_sums"), side: genes, nodes: gn, embedding: eg, heads },
            Pool { bag: "mean_a", weights: None, side: peaks, nodes: pn, embedding: ep, heads: 1 },
            Pool { bag: "mean_r", weights: None, side: genes, nodes: gn, embedding: eg, heads: 1 },
        ]
    }
}

/// The learning rate of the steps that are checked: not the usual one, which a kernel might have built in.
pub(super) const RATE: f64 = 7e-4;

/// Layers of `head` before the classifier.
pub(crate) const HEAD_LAYERS: [&str; 8] = [
    "atac_value",
    "rna_value",
    "rna_out_proj",
    "atac_out_proj",
    "rna_self_attention",
    "atac_self_attention",
    "dim_reduction_rna",
    "dim_reduction_atac",
];

/// One of the two projections.
pub(crate) struct Table<'a> {
    pub(crate) name: &'static str,
    pub(crate) u_name: &'static str,
    pub(crate) layer: &'static str,
    pub(crate) embedding: &'static str,
    pub(crate) side: Side<'a, f64>,
    pub(crate) nodes: &'a NodeSet<f64>,
}

/// One of the four poolings.
pub(crate) struct Pool<'a> {
    pub(crate) bag: &'static str,
    pub(crate) weights: Option<&'static str>,
    side: Side<'a, f64>,
    pub(crate) nodes: &'a Arc<NodeSet<f64>>,
    pub(crate) embedding: &'static str,
    pub(crate) heads: usize,
}

impl<'a> Pool<'a> {
    /// The pooling on a tape; parameters: the embedding, the weights.
    pub(crate) fn record<'p>(&self, tape: &mut Tape<'p, f64>, emb: &'p [f64], weights: Option<&'p [f64]>) -> Var
    where
        'a: 'p,
    {
        let emb = tape.param(0, emb, [emb.len() / self.side.dim, self.side.dim]);
        let weights = match weights {
            Some(w) => Weights::Var { var: tape.param(1, w, [self.heads, w.len() / self.heads]), heads: self.heads },
            None => Weights::Mean,
        };
        pool(tape, self.side, self.nodes.clone(), emb, weights)
    }
}

/// The places of one gene.
pub(crate) struct Choice<'a> {
    pub(crate) all: &'a [Candidate],
    pub(crate) pads: &'a [Candidate],
    pub(crate) places: usize,
    pub(crate) limit: f64,
}

impl Choice<'_> {
    /// Exactly the members, in the order and on the side of the threshold that f64 gives?
    pub(crate) fn is_best(&self, chosen: &[u32], kept: &[bool]) -> bool {
        let mut list: Vec<&Candidate> =
            self.all.iter().chain(if self.all.is_empty() { &[] } else { self.pads }).collect();
        list.sort_by(|a, b| b.ahead(a).cmp(&a.ahead(b)));
        list.truncate(self.places);
        list.retain(|c| c.entry != NONE);
        if !list.iter().any(|c| c.logit > self.limit) {
            return chosen.is_empty();
        }
        let same = |(c, (&m, &k)): (&&Candidate, (&u32, &bool))| c.entry == m && k == (c.logit > self.limit);
        list.len() == chosen.len() && list.iter().zip(chosen.iter().zip(kept)).all(same)
    }

    /// Is it a choice that rounding explains?
    pub(crate) fn may_be(&self, chosen: &[u32], kept: &[bool]) -> Result<(), String> {
        let near = |c: &Candidate| (c.logit - self.limit).abs() <= c.free + 1e-5;
        if chosen.is_empty() {
            let missed = self.all.iter().filter(|c| c.logit > self.limit && !near(c));
            return match missed.max_by(|a, b| a.logit.total_cmp(&b.logit)) {
                Some(c) => Err(format!("no member, but peak {} has logit {:.5}", c.index, c.logit)),
                None => Ok(()),
            };
        }
        let find = |m: u32| self.all.iter().find(|c| c.entry == m);
        let mut taken: Vec<&Candidate> = Vec::new();
        for &m in chosen {
            let Some(c) = find(m) else {
                return Err(format!("member {m} is no peak entry of its chromosome and sample"));
            };
            if taken.iter().any(|t| t.entry == m) {
                return Err(format!("peak {} is a member twice", c.index));
            }
            taken.push(c);
        }
        let pads = match self.places.checked_sub(taken.len()).and_then(|n| self.pads.get(..n)) {
            Some(pads) => pads,
            None => return Err(format!("{} members for {} places", taken.len(), self.places)),
        };
        let said = |c: &Candidate| format!("peak {} (logit {:.6})", c.index, c.logit);
        if let Some(w) = taken.windows(2).find(|w| !w[0].may_precede(w[1])) {
            return Err(format!("{} is listed before {}", said(w[0]), said(w[1])));
        }
        let excluded = self.all.iter().filter(|c| !chosen.contains(&c.entry)).chain(&self.pads[pads.len()..]);
        for x in excluded {
            if let Some(c) = taken.iter().copied().chain(pads).find(|c| !c.may_precede(x)) {
                return Err(format!("{} has a place that belongs to {}", said(c), said(x)));
            }
        }
        if !kept.contains(&true) {
            return Err("has members though no score is above tau".into());
        }
        match taken.iter().zip(kept).find(|(c, k)| **k != (c.logit > self.limit) && !near(c)) {
            Some((c, k)) => Err(format!("{} is said to be {} tau", said(c), if *k { "above" } else { "not above" })),
            None => Ok(()),
        }
    }
}
