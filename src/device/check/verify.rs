//! What each pass of each op must have written, computed by the CPU ops in f64.

mod terms;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::{Case, Row};
use crate::device::abi::{Control, NONE, StepRecord};
use crate::device::engine::{Image, Moment, Precision, Probe, Region};
use crate::device::pack::Sizes;
use crate::device::tape::Pass;
use crate::device::workspace::mask_words;
use crate::model::{Batch, Csr, Features, ModelConfig, PREFIX};
use crate::ops::adam;
use crate::ops::attend::{AttendSpec, Selection, attend, gradients};
use crate::ops::linear::{concat, cross_entropy, dropout, dropout_mask, linear, pooled};
use crate::ops::matmul::{View as Matrix, product_into};
use crate::ops::nodes::NodeSet;
use crate::ops::pool::{Weights, pool};
use crate::ops::project::{Extra, Side, project};
use crate::ops::translate::{Columns, TranslateSpec, logit_limit, translate};
use crate::tape::{Grads, Tape, Var};

/// Allowed error of a tensor where all is f32.
const F32: f64 = 1e-4;
/// Rounding to bf16: at most this share of a number.
const BF16: f64 = 1.0 / 256.0;

impl Image {
    /// The bytes of a region.
    pub fn bytes(&self, r: &Region) -> &[u8] {
        let all = if r.in_work { &self.work } else { &self.state };
        &all[r.offset..r.offset + r.bytes]
    }
}

/// Does a pass of another op launch an entry point of `head` (`reduce_parts`)?
pub(super) fn uses_head(m: &Moment<'_>) -> bool {
    m.pass == Pass::Backward && (matches!(m.op, "attend" | "translate") || m.op == "cis" && !is_first_of_cis(m))
}

/// Is it the backward pass of `cis` that ends before the scores? The other one follows behind `translate`.
pub(super) fn is_first_of_cis(m: &Moment<'_>) -> bool {
    let launches = m.steps.iter().flat_map(|s| &s.launches);
    m.op == "cis" && m.pass == Pass::Backward && !launches.into_iter().any(|l| l.name() == "cis_backward_genes")
}

/// Collects rows of one pass.
pub(super) struct Sink<'a> {
    case: &'a str,
    op: &'a str,
    /// Is the op itself asked for, or only what it launches of `head`?
    whole: bool,
    pub rows: Vec<Row>,
}

impl<'a> Sink<'a> {
    pub fn new(case: &'a str, ops: &[&str], m: &Moment<'a>) -> Self {
        Sink { case, op: m.op, whole: ops.contains(&m.op), rows: Vec::new() }
    }

    fn push(&mut self, output: &str, error: Option<f64>, tolerance: f64, differing: usize, wrong: Option<String>) {
        if !self.whole && !output.starts_with("d_u") {
            return;
        }
        let ok = wrong.is_none() && error.is_none_or(|e| e <= tolerance);
        self.rows.push(Row {
            case: self.case.into(),
            op: if self.whole { self.op.into() } else { "head".into() },
            output: output.into(),
            error,
            tolerance,
            differing,
            ok,
            note: wrong.unwrap_or_default(),
        });
    }

    /// What must be equal: `wrong` says what is not.
    fn exact(&mut self, output: &str, wrong: Option<String>) {
        self.push(output, None, 0.0, 0, wrong);
    }

    /// Choices: how many differ, and which one should not.
    fn choices(&mut self, output: &str, differing: usize, wrong: Option<String>) {
        self.push(output, None, 0.0, differing, wrong);
    }

    /// A tensor that was written.
    fn tensor(&mut self, output: &str, got: &[f64], want: &[f64], tolerance: f64) {
        let (error, note) = error_of(got, want, |_| 0.0);
        self.push(output, Some(error), tolerance, 0, note.filter(|_| error > tolerance));
    }

    /// A tensor that was added to: `got` and `before` hold it, `more` is what was to be added.
    fn added(&mut self, output: &str, before: &[f64], got: &[f64], more: &[f64], tolerance: f64) {
        let delta: Vec<f64> = got.iter().zip(before).map(|(g, b)| g - b).collect();
        let ulp = |i: usize| before[i].abs() * f64::from(f32::EPSILON) * 2.0;
        let (error, mut note) = error_of(&delta, more, ulp);
        let missed = (0..got.len()).find(|&i| got[i] == before[i] && more[i].abs() > 4.0 * ulp(i) + 1e-30);
        note = note.filter(|_| error > tolerance);
        if let (None, Some(i)) = (&note, missed) {
            note = Some(format!("nothing was added to number {i}, which gets {:.3e}", more[i]));
        }
        self.push(output, Some(error), tolerance, 0, note);
    }
}

/// Largest error relative to the largest magnitude, less a `slack` for each number; and what is wrong beyond numbers.
fn error_of(got: &[f64], want: &[f64], slack: impl Fn(usize) -> f64) -> (f64, Option<String>) {
    if got.len() != want.len() {
        return (f64::INFINITY, Some(format!("{} numbers instead of {}", got.len(), want.len())));
    }
    let scale = want.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    let scale = if scale > 0.0 { scale } else { 1.0 };
    let mut worst = 0.0f64;
    let mut at = 0;
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        if !g.is_finite() {
            let place = format!("number {i} of {} is {g}, should be {w:.6e}", got.len());
            return (f64::INFINITY, Some(format!("{place} (regions are NaN before they are written)")));
        }
        let e = ((g - w).abs() - slack(i)).max(0.0) / scale;
        if e > worst {
            (worst, at) = (e, i);
        }
    }
    let far = worst > 0.1;
    (worst, far.then(|| format!("number {at} of {} is {:.6e}, should be {:.6e}", got.len(), got[at], want[at])))
}

fn round(x: f64) -> f64 {
    half::bf16::from_f32(x as f32).to_f64()
}

fn rounded(x: &[f64]) -> Vec<f64> {
    x.iter().map(|&x| round(x)).collect()
}

fn widen(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

fn wide(csr: &Csr<f32>) -> Csr<f64> {
    Csr { indptr: csr.indptr.clone(), indices: csr.indices.clone(), values: widen(&csr.values) }
}

/// `[a, b, width]` as `[b, a, width]`.
fn swap(x: &[f64], a: usize, b: usize, width: usize) -> Vec<f64> {
    let mut out = Vec::with_capacity(x.len());
    for j in 0..b {
        for i in 0..a {
            out.extend_from_slice(&x[(i * b + j) * width..][..width]);
        }
    }
    out
}

/// A value whose gradient is `seeds`, for a backward pass from several values.
fn seed(tape: &mut Tape<'_, f64>, seeds: Vec<(Var, Vec<f64>)>) -> Var {
    let root = tape.value(vec![0.0], [1, 1]);
    tape.record("seed", &[root], move |s| {
        for (v, g) in &seeds {
            let mut d = s.take(*v);
            d.iter_mut().zip(g).for_each(|(d, g)| *d += g);
            s.put(*v, d);
        }
    });
    root
}

/// Runs backward from `root`; the gradients of parameters of these lengths.
fn backward(tape: Tape<'_, f64>, root: Var, lengths: &[usize]) -> Vec<Vec<f64>> {
    let mut out: Vec<Vec<f64>> = lengths.iter().map(|&n| vec![0.0; n]).collect();
    let ran = tape.backward(root, &[1.0], Grads::new(out.iter_mut().map(Vec::as_mut_slice).collect()));
    if ran.is_err() {
        out.iter_mut().for_each(|x| x.fill(f64::NAN));
    }
    out
}

/// The device's memory before and behind a pass, and the batch in f64.
pub(super) struct View<'a> {
    case: &'a Case,
    config: &'a ModelConfig,
    precision: Precision,
    regions: HashMap<&'static str, Region>,
    starts: &'a [usize],
    before: &'a Image,
    after: &'a Image,
    sizes: Sizes,
    positives: &'a [usize],
    features: Features<f64>,
    batch: Batch<f64>,
    genes: Arc<NodeSet<f64>>,
    peaks: Arc<NodeSet<f64>>,
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
            genes: Arc::new(NodeSet::new(
                &batch.rna,
                &features.gene_chrom,
                !positives.is_empty() && (case.model.config.alpha != 0.0 || case.model.config.cis.is_some()),
            )),
            peaks: Arc::new(NodeSet::new(&batch.atac, &features.peak_chrom, false)),
            features,
            batch,
        }
    }

    /// The first `n` words of a region.
    fn words(&self, image: &Image, name: &str, n: usize) -> Vec<u32> {
        let Some(r) = self.regions.get(name) else { return Vec::new() };
        let word = |b: &[u8]| u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        image.bytes(r).chunks_exact(4).take(n).map(word).collect()
    }

    fn numbers(&self, image: &Image, name: &str, n: usize) -> Vec<f64> {
        self.words(image, name, n).into_iter().map(|w| f64::from(f32::from_bits(w))).collect()
    }

    /// The first `n` numbers of a region behind the pass.
    fn get(&self, name: &str, n: usize) -> Vec<f64> {
        self.numbers(self.after, name, n)
    }

    fn plain<T: bytemuck::AnyBitPattern>(&self, image: &Image, name: &str) -> Option<T> {
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

    fn param(&self, name: &str) -> Vec<f64> {
        self.tensor(self.before, "p", name)
    }

    /// Compares what was added to the gradient of a parameter.
    fn gradient(&self, out: &mut Sink<'_>, name: &str, more: &[f64], tolerance: f64) {
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
    fn allow(&self, times: f64, exact: &[f64], rounded: impl FnOnce() -> Vec<f64>) -> f64 {
        match self.precision {
            Precision::F32 => F32,
            Precision::Bf16 => times * error_of(&rounded(), exact, |_| 0.0).0.max(0.5 * BF16),
        }
    }

    /// How near to each other logits must be for a choice between them to be free: this times |q| |k|.
    fn free(&self) -> f64 {
        match self.precision {
            Precision::F32 => 1e-5,
            Precision::Bf16 => BF16,
        }
    }

    /// Compares all that the pass has written.
    pub fn verify(&self, m: &Moment<'_>, out: &mut Sink<'_>) {
        if out.whole {
            let wrong = self.outside(m);
            out.exact(if m.pass == Pass::Forward { "all other memory" } else { "all other memory, backward" }, wrong);
        }
        match (m.op, m.pass) {
            ("project", Pass::Forward) => self.project_forward(out),
            ("project", _) => self.project_backward(out),
            ("translate", Pass::Forward) => self.translate_forward(out),
            ("translate", _) => self.translate_backward(out),
            ("attend", Pass::Forward) => self.attend_forward(out),
            ("attend", _) => self.attend_backward(out),
            ("pool", Pass::Forward) => self.pool_forward(out),
            ("pool", _) => self.pool_backward(out),
            ("head", Pass::Forward) => self.head_forward(out),
            ("head", _) => self.head_backward(out),
            ("contrast", Pass::Forward) => self.contrast_forward(out),
            ("contrast", _) => self.contrast_backward(out),
            ("cis", Pass::Forward) => self.cis_forward(out),
            ("cis", _) if is_first_of_cis(m) => self.cis_backward(out),
            ("cis", _) => self.cis_backward_tables(out),
            ("adam", _) => self.adam(out),
            _ => out.exact("op", Some("there is no check of this op".into())),
        }
    }

    // ------------------------------------------------------------------------------------------ who may write where

    /// Regions that a pass may write: name and how many bytes (all: `usize::MAX`), and tensors of the gradient.
    fn writes(&self, m: &Moment<'_>) -> (Vec<(&'static str, usize)>, Vec<String>) {
        let (c, z) = (self.config, &self.sizes);
        let n = |x: u32| x as usize;
        let (b, h, heads, k) = (n(z.samples), c.hidden, c.heads, c.top_k);
        let (ge, pe, gr, pr) = (n(z.gene_entries), n(z.peak_entries), n(z.gene_rows), n(z.peak_rows));
        let (pos, u, genes) = (n(z.positives), n(z.columns), c.genes);
        let gw = c.embedding_dim + 2 + c.gene_features();
        let pw = c.embedding_dim + 2 + c.peak_features();
        let all = usize::MAX;
        let element = if self.precision == Precision::F32 { 4 } else { 2 };
        let padded = heads * (h / heads).next_multiple_of(16) * element;
        let layer = |l: &str| [format!("{PREFIX}{l}.weight"), format!("{PREFIX}{l}.bias")];
        let fc = |l: &str| [format!("{l}.weight"), format!("{l}.bias")];
        let tables = ["rna_idembedding.weight".to_string(), "atac_idembedding.weight".to_string()];
        let (components, own_cell) = (c.cis.as_ref().map_or(0, |c| c.components), fc("cis.cell"));
        let d_tables = [("d_q", 4 * gr * h), ("d_k", 4 * pr * h), ("d_uq", 4 * h), ("d_uk", 4 * h), ("u_part", all)];
        match (m.op, m.pass) {
            ("project", Pass::Forward) => {
                (vec![("q", 4 * gr * h), ("k", 4 * pr * h), ("uq", 4 * h), ("uk", 4 * h)], Vec::new())
            }
            ("project", _) => (
                vec![("weight_part", all), ("chromosome_part", all)],
                [&tables[..], &layer("rna_query"), &layer("atac_key")].concat(),
            ),
            ("translate", Pass::Forward) => (
                vec![
                    ("genes_eff", genes * padded),
                    ("keys_eff", u * padded),
                    ("mask", 4 * heads * mask_words(genes) * u),
                    ("predicted", 4 * pos * heads * mask_words(genes)),
                    ("count", 4 * pos * heads * genes),
                    ("d_pred", 4 * pos * heads * genes),
                    ("loss_part", 4 * pos * heads),
                ],
                Vec::new(),
            ),
            ("translate", _) => (
                [
                    &d_tables[..],
                    &[
                        ("flag", all),
                        ("active", all),
                        ("n_active", all),
                        ("d_keys", 4 * u * h),
                        ("translate_part", all),
                    ],
                ]
                .concat(),
                Vec::new(),
            ),
            ("attend", Pass::Forward) => (
                vec![
                    ("row_sums", 4 * ge * heads),
                    ("member", 4 * ge * heads * k),
                    ("weight", 4 * ge * heads * k),
                    ("score", 4 * ge * heads * k),
                    ("col_sums", 4 * pe * heads),
                    ("pair_ptr", 8 * pe * heads),
                    ("pair", 4 * ge * heads * k),
                ],
                Vec::new(),
            ),
            ("attend", _) => ([&d_tables[..], &[("d_logit", 4 * ge * heads * k)]].concat(), Vec::new()),
            ("pool", Pass::Forward) => (
                vec![
                    ("pool_part", all),
                    ("bag_a", 4 * b * heads * pw),
                    ("bag_r", 4 * b * heads * gw),
                    ("mean_a", 4 * b * pw),
                    ("mean_r", 4 * b * gw),
                ],
                Vec::new(),
            ),
            ("pool", _) => (vec![("d_row_sums", 4 * ge * heads), ("d_col_sums", 4 * pe * heads)], tables.to_vec()),
            ("head", Pass::Forward) => (
                vec![
                    ("m_r", 4 * b * h),
                    ("m_a", 4 * b * h),
                    ("x_r", 8 * b * h),
                    ("x_a", 8 * b * h),
                    ("z", 8 * b * h),
                    ("a1", 4 * b * h),
                    ("a2", 2 * b * h),
                    ("logits", 8 * b),
                    ("d_logits", 8 * b),
                    ("record", all),
                ],
                Vec::new(),
            ),
            ("head", _) => {
                let mut names: Vec<String> = HEAD_LAYERS.iter().flat_map(|l| layer(l)).collect();
                names.extend(["fc1", "fc2", "fc3"].iter().flat_map(|l| fc(l)));
                (
                    vec![
                        ("d_m_r", 4 * b * h),
                        ("d_m_a", 4 * b * h),
                        ("d_x_r", 8 * b * h),
                        ("d_x_a", 8 * b * h),
                        ("d_z", 8 * b * h),
                        ("d_a1", 4 * b * h),
                        ("d_a2", 2 * b * h),
                        ("d_bag_a", 4 * b * heads * pw),
                        ("d_bag_r", 4 * b * heads * gw),
                        ("d_mean_a", 4 * b * pw),
                        ("d_mean_r", 4 * b * gw),
                    ],
                    names,
                )
            }
            ("contrast", Pass::Forward) => (
                vec![
                    ("contrast_logits", 4 * pos * pos),
                    ("contrast_lines", 16 * pos),
                    ("contrast_part", 4 * pos),
                    ("record", all),
                ],
                Vec::new(),
            ),
            ("contrast", _) => {
                (vec![("contrast_logits", 4 * pos * pos), ("d_x_r", 8 * b * h), ("d_x_a", 8 * b * h)], Vec::new())
            }
            ("cis", Pass::Forward) => (
                vec![
                    ("cis_place", 4 * c.peaks),
                    ("cis_open", 4 * u * pos.div_ceil(32)),
                    ("cis_value_score", 4 * genes),
                    ("cis_score", all),
                    ("cis_sums", 4 * pos * c.chromosomes * h),
                    ("cis_near", 4 * pos * genes),
                    ("cis_cell", 4 * b * components),
                    ("cis_x", 4 * pos * (components + 2)),
                    ("cis_y", 4 * pos * genes),
                    ("cis_d_y", 4 * pos * genes),
                    ("cis_loss_part", 4 * pos),
                    ("cis_size_part", all),
                    ("cis_edge_part", all),
                    ("cis_edges", all),
                    ("record", all),
                ],
                Vec::new(),
            ),
            ("cis", _) if is_first_of_cis(m) => {
                let names = [&fc("cis.gene")[..], if components > 0 { &own_cell } else { &[] }].concat();
                let mut regions = vec![("cis_d_x", 4 * pos * (components + 2))];
                if components > 0 {
                    regions.extend([("cis_d_cell", 4 * b * components), ("d_mean_a", 4 * b * pw)]);
                }
                (regions, names)
            }
            ("cis", _) => (
                [
                    &d_tables[..],
                    &[
                        ("cis_d_score", all),
                        ("cis_d_value", all),
                        ("cis_d_sums", 4 * pos * c.chromosomes * h),
                        ("cis_v_part", all),
                        ("cis_decay_part", all),
                    ],
                ]
                .concat(),
                vec!["cis.decay".into()],
            ),
            _ => {
                let arenas = ["p", "g", "m", "v", "norm_part", "control", "record"];
                (arenas.iter().map(|&a| (a, all)).collect(), Vec::new())
            }
        }
    }

    /// Has anything changed that must not? The region and the place.
    fn outside(&self, m: &Moment<'_>) -> Option<String> {
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

    // ------------------------------------------------------------------------------------------ project

    fn project_forward(&self, out: &mut Sink<'_>) {
        let h = self.config.hidden;
        for t in self.tables() {
            let run = |emb: &[f64], w: &[f64]| {
                let b = self.param(&format!("{PREFIX}{}.bias", t.layer));
                let mut tape = Tape::inference();
                let e = tape.param(0, emb, [emb.len() / t.side.dim, t.side.dim]);
                let w = tape.param(1, w, [h, w.len() / h]);
                let b = tape.param(2, &b, [1, h]);
                let (table, u) = project(&mut tape, t.side, Arc::new(t.nodes.rows.clone()), e, w, b);
                (tape.get(table).to_vec(), tape.get(u).to_vec())
            };
            let (emb, w) = (self.param(t.embedding), self.param(&format!("{PREFIX}{}.weight", t.layer)));
            let (table, u) = run(&emb, &w);
            let limit = self.allow(2.0, &table, || run(&rounded(&emb), &rounded(&w)).0);
            out.tensor(t.name, &self.get(t.name, table.len()), &table, limit);
            out.tensor(t.u_name, &self.get(t.u_name, u.len()), &u, F32);
        }
    }

    fn project_backward(&self, out: &mut Sink<'_>) {
        let h = self.config.hidden;
        let mut tables = Vec::new();
        for t in self.tables() {
            let d_table = self.numbers(self.before, &format!("d_{}", t.name), t.nodes.rows.len() * h);
            let d_u = self.numbers(self.before, &format!("d_{}", t.u_name), h);
            let b = self.param(&format!("{PREFIX}{}.bias", t.layer));
            let run = |emb: &[f64], w: &[f64], d_table: Vec<f64>| {
                let mut tape = Tape::recording();
                let lengths = [emb.len(), w.len(), b.len()];
                let e = tape.param(0, emb, [emb.len() / t.side.dim, t.side.dim]);
                let w = tape.param(1, w, [h, w.len() / h]);
                let b = tape.param(2, &b, [1, h]);
                let (table, u) = project(&mut tape, t.side, Arc::new(t.nodes.rows.clone()), e, w, b);
                let root = seed(&mut tape, vec![(table, d_table), (u, d_u.clone())]);
                backward(tape, root, &lengths)
            };
            let weight = format!("{PREFIX}{}.weight", t.layer);
            let (emb, w) = (self.param(t.embedding), self.param(&weight));
            let exact = run(&emb, &w, d_table.clone());
            let near =
                (self.precision == Precision::Bf16).then(|| run(&rounded(&emb), &rounded(&w), rounded(&d_table)));
            let limit = |i: usize| self.allow(3.0, &exact[i], || near.as_ref().map_or(Vec::new(), |n| n[i].clone()));
            self.gradient(out, t.embedding, &exact[0], limit(0));
            self.gradient(out, &weight, &exact[1], limit(1));
            self.gradient(out, &format!("{PREFIX}{}.bias", t.layer), &exact[2], F32);
            tables.push(t.name);
        }
    }

    fn tables(&self) -> [Table<'_>; 2] {
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
    fn tables_read(&self) -> [Vec<f64>; 4] {
        let h = self.config.hidden;
        let get = |name: &str, n: usize| self.numbers(self.before, name, n);
        [get("q", self.genes.rows.len() * h), get("uq", h), get("k", self.peaks.rows.len() * h), get("uk", h)]
    }

    // ------------------------------------------------------------------------------------------ translate

    fn columns(&self) -> Columns<f64> {
        Columns::new(&self.peaks, self.positives)
    }

    /// `[G]` of a sample.
    fn expression(&self, sample: usize) -> Vec<f64> {
        let mut of_genes = vec![0.0; self.config.genes];
        let (index, value) = self.batch.rna.row(sample);
        index.iter().zip(value).for_each(|(&g, &v)| of_genes[g as usize] = v);
        of_genes
    }

    /// Rows `table[row] + value u`.
    fn effective(table: &[f64], u: &[f64], rows: impl Iterator<Item = (usize, f64)>) -> Vec<f64> {
        let h = u.len();
        rows.flat_map(|(r, v)| table[r * h..(r + 1) * h].iter().zip(u).map(move |(x, u)| x + v * u)).collect()
    }

    fn translate_forward(&self, out: &mut Sink<'_>) {
        let c = self.config;
        let (h, heads, genes, n) = (c.hidden, c.heads, c.genes, self.positives.len());
        let (slice, cols) = (h / heads, self.columns());
        let padded = slice.next_multiple_of(16);
        let [q, uq, k, uk] = self.tables_read();
        let qe = Self::effective(&q, &uq, (0..genes).map(|g| (g, 1.0)));
        let ke = Self::effective(&k, &uk, (0..cols.len()).map(|i| (cols.row[i] as usize, cols.value[i])));
        let pad = |x: &[f64]| {
            let one = |s: &[f64]| s.iter().copied().chain(std::iter::repeat_n(0.0, padded - slice)).collect::<Vec<_>>();
            x.chunks_exact(slice).flat_map(one).collect::<Vec<f64>>()
        };
        let read = |name: &str, n: usize| match self.precision {
            Precision::F32 => self.get(name, n),
            Precision::Bf16 => {
                let words = self.words(self.after, name, n.div_ceil(2));
                let both = words.into_iter().flat_map(|w| [w as u16, (w >> 16) as u16]);
                both.take(n).map(|x| half::bf16::from_bits(x).to_f64()).collect()
            }
        };
        for (name, exact) in [("genes_eff", pad(&qe)), ("keys_eff", pad(&ke))] {
            let limit = if self.precision == Precision::F32 { F32 } else { BF16 };
            out.tensor(name, &read(name, exact.len()), &exact, limit);
        }
        // Scores above the threshold.
        let (blocks, u) = (mask_words(genes) / 8, cols.len());
        let mask = self.words(self.after, "mask", heads * blocks * 8 * u);
        let bit = |head: usize, g: usize, col: usize| {
            mask[((head * blocks + g / 256) * u + col) * 8 + g % 256 / 32] >> (g % 32) & 1 == 1
        };
        let limit: f64 = logit_limit(c.tau);
        let norm = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
        let (mut differing, mut wrong) = (0, None);
        const STEP: usize = 512;
        let mut tile = vec![0.0; STEP * genes];
        for head in 0..heads {
            let gene = |g: usize| &qe[g * h + head * slice..][..slice];
            let norms: Vec<f64> = (0..genes).map(|g| norm(gene(g))).collect();
            for first in (0..u).step_by(STEP) {
                let width = STEP.min(u - first);
                let ks = Matrix::strided(&ke[first * h + head * slice..], width, slice, h);
                let qs = Matrix::strided(&qe[head * slice..], genes, slice, h);
                product_into(&mut tile[..width * genes], genes, ks, qs.t(), false);
                for (i, row) in tile.chunks_exact(genes).take(width).enumerate() {
                    let size = norm(&ke[(first + i) * h + head * slice..][..slice]) * self.free();
                    for (g, &logit) in row.iter().enumerate() {
                        if bit(head, g, first + i) != (logit > limit) {
                            differing += 1;
                            if (logit - limit).abs() > size * norms[g] + 1e-6 && wrong.is_none() {
                                wrong = Some(format!(
                                    "gene {g}, column {} has logit {logit:.5} and is said to be {} {limit:.5}",
                                    first + i,
                                    if logit > limit { "below" } else { "above" }
                                ));
                            }
                        }
                    }
                }
            }
            for g in genes..blocks * 256 {
                if let Some(col) = (0..u).find(|&col| bit(head, g, col)) {
                    wrong = wrong.or(Some(format!("a bit past the last gene is set, in column {col}")));
                }
            }
        }
        out.choices("mask: scores above tau", differing, wrong);
        // Counts of those, and what follows.
        let words = mask_words(genes);
        let predicted = self.words(self.after, "predicted", n * heads * words);
        let count = self.words(self.after, "count", n * heads * genes);
        let on = |i: usize, head: usize, g: usize| predicted[(i * heads + head) * words + g / 32] >> (g % 32) & 1 == 1;
        let (mut bad_on, mut bad_count) = (None, None);
        let mut d_pred = Vec::with_capacity(n * heads * genes);
        let mut loss = Vec::with_capacity(n * heads);
        let per = (genes * heads * self.batch.len()) as f64;
        for (i, &sample) in self.positives.iter().enumerate() {
            let truth = self.expression(sample);
            for head in 0..heads {
                let mut counts = vec![0u32; genes];
                for &col in &cols.col[cols.indptr[i]..cols.indptr[i + 1]] {
                    for (g, n) in counts.iter_mut().enumerate() {
                        *n += u32::from(bit(head, g, col as usize));
                    }
                }
                let mut sum = 0.0;
                for (g, &n) in counts.iter().enumerate() {
                    let said = on(i, head, g);
                    if said != (n as usize > c.min_peaks) && bad_on.is_none() {
                        bad_on = Some(format!("positive {i}, gene {g}: {n} scores above tau, predicted {said}"));
                    }
                    let exact = count[(i * heads + head) * genes + g];
                    if exact != n && bad_count.is_none() {
                        bad_count = Some(format!("positive {i}, gene {g}: count {exact}, should be {n}"));
                    }
                    let d = f64::from(u8::from(said)) - truth[g];
                    d_pred.push(2.0 * c.alpha * d / per);
                    sum += d * d;
                }
                loss.push(sum / per);
            }
        }
        out.exact("predicted", bad_on);
        out.exact("count", bad_count);
        out.tensor("d_pred", &self.get("d_pred", d_pred.len()), &d_pred, F32);
        out.tensor("loss_part", &self.get("loss_part", loss.len()), &loss, F32);
    }

    fn translate_backward(&self, out: &mut Sink<'_>) {
        let c = self.config;
        let (h, heads, genes, n) = (c.hidden, c.heads, c.genes, self.positives.len());
        let spec = TranslateSpec { heads, tau: c.tau, min_peaks: c.min_peaks };
        let words = mask_words(genes);
        let predicted = self.words(self.before, "predicted", n * heads * words);
        let rows = predicted.chunks_exact(words);
        let given: Vec<u8> = rows.flat_map(|w| (0..genes).map(|g| (w[g / 32] >> (g % 32) & 1) as u8)).collect();
        let d_pred = self.numbers(self.before, "d_pred", n * heads * genes);
        let run = |cols: Arc<Columns<f64>>, [q, uq, k, uk]: [&[f64]; 4]| {
            let mut tape = Tape::recording();
            let shape = |x: &[f64]| [x.len() / h, h];
            let vq = (tape.param(0, q, shape(q)), tape.param(1, uq, [1, h]));
            let vk = (tape.param(2, k, shape(k)), tape.param(3, uk, [1, h]));
            let pred = translate(&mut tape, spec, cols, vq, vk, Some(&given));
            let root = seed(&mut tape, vec![(pred, d_pred.clone())]);
            backward(tape, root, &[q.len(), h, k.len(), h])
        };
        let [q, uq, k, uk] = self.tables_read();
        let cols = Arc::new(self.columns());
        let exact = run(cols.clone(), [&q, &uq, &k, &uk]);
        // The same with rounded rows: a table row a column, and no value.
        let near = (self.precision == Precision::Bf16).then(|| {
            let qe = rounded(&Self::effective(&q, &uq, (0..genes).map(|g| (g, 1.0))));
            let of = |i: usize| (cols.row[i] as usize, cols.value[i]);
            let ke = rounded(&Self::effective(&k, &uk, (0..cols.len()).map(of)));
            let synthetic = self.flat(cols.len(), cols.indptr.clone(), cols.col.clone());
            let all: Vec<usize> = (0..n).collect();
            let zero = vec![0.0; h];
            let d = run(Arc::new(Columns::new(&synthetic, &all)), [&qe, &zero, &ke, &zero]);
            let (mut dk, mut duk) = (vec![0.0; k.len()], vec![0.0; h]);
            for (i, row) in d[2].chunks_exact(h).enumerate() {
                let (r, v) = of(i);
                for (j, x) in row.iter().enumerate() {
                    dk[r * h + j] += x;
                    duk[j] += v * x;
                }
            }
            [d[0].clone(), d[1].clone(), dk, duk]
        });
        // The slope of the sigmoid is as wrong, relatively, as the logit is absolutely: large ones are rounded coarsely.
        let longest = |x: &[f64]| x.chunks(h).map(|r| r.iter().map(|x| x * x).sum::<f64>().sqrt()).fold(0.0, f64::max);
        let coarse = (longest(&q) + longest(&uq)) * (longest(&k) + longest(&uk)) * f64::from(f32::EPSILON);
        for (i, name) in ["d_q", "d_uq", "d_k", "d_uk"].into_iter().enumerate() {
            let limit = self.allow(3.0, &exact[i], || near.as_ref().map_or(Vec::new(), |n| n[i].clone())).max(coarse);
            let before = self.numbers(self.before, name, exact[i].len());
            out.added(name, &before, &self.get(name, exact[i].len()), &exact[i], limit);
        }
    }

    /// Node lists whose entries name rows of a table directly, without values.
    fn flat(&self, rows: usize, indptr: Vec<usize>, local: Vec<u32>) -> NodeSet<f64> {
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

    // ------------------------------------------------------------------------------------------ attend

    fn spec(&self) -> AttendSpec {
        let c = self.config;
        AttendSpec { heads: c.heads, top_k: c.top_k, tau: c.tau, unknown: self.features.unknown }
    }

    /// The members that the device chose, with its weights and scores, sample by sample.
    fn selections(&self, image: &Image) -> Vec<Selection<f64>> {
        let c = self.config;
        let len = self.genes.nnz() * c.heads * c.top_k;
        let (member, weight) = (self.words(image, "member", len), self.numbers(image, "weight", len));
        let score = self.numbers(image, "score", len);
        let tau = f64::from(c.tau as f32);
        let one = |b: usize| {
            let mut s = Selection { start: vec![0], ..Selection::default() };
            for e in self.genes.indptr[b]..self.genes.indptr[b + 1] {
                for head in 0..c.heads {
                    let at = (e * c.heads + head) * c.top_k;
                    for m in (at..at + c.top_k).take_while(|&m| member[m] != NONE) {
                        s.peak.push(member[m]);
                        s.weight.push(weight[m]);
                        s.score.push(score[m]);
                        s.kept.push(score[m] > tau);
                    }
                    if s.peak.len() as u32 > s.start[s.start.len() - 1] {
                        s.rows.push((head as u8, e as u32));
                        s.start.push(s.peak.len() as u32);
                    }
                }
            }
            s
        };
        (0..self.batch.len()).map(one).collect()
    }

    fn attend_forward(&self, out: &mut Sink<'_>) {
        let c = self.config;
        let (h, heads, k) = (c.hidden, c.heads, c.top_k);
        let len = self.genes.nnz() * heads * k;
        let (member, score) = (self.words(self.after, "member", len), self.get("score", len));
        let weight = self.get("weight", len);
        let empty = |m: usize| member[m] == NONE && weight[m] == 0.0 && score[m] == 0.0;
        let mut wrong = None;
        for (entry, slots) in member.chunks_exact(k.max(1)).enumerate() {
            let there = slots.iter().take_while(|&&m| m != NONE).count();
            if let Some(m) = (there..k).find(|&m| !empty(entry * k + m)) {
                let gene = entry / heads;
                wrong = Some(format!("gene entry {gene}: place {m} is behind the last member and not empty"));
                break;
            }
            if let Some(p) = slots[..there].iter().find(|&&p| p as usize >= self.peaks.nnz()) {
                wrong = Some(format!("gene entry {}: member {p} is no peak entry", entry / heads));
                break;
            }
        }
        let broken = wrong.is_some();
        out.exact("member: empty places", wrong);
        if broken {
            return;
        }
        let (differing, wrong) = self.places(&member, &score);
        out.choices("member: best places, in order", differing, wrong);
        // The numbers, with the device's choices.
        let [q, uq, kt, uk] = self.tables_read();
        let given = self.selections(self.after);
        if given.iter().any(|s| s.score.iter().chain(&s.weight).any(|x| !x.is_finite())) {
            out.exact("score", Some("holds what is no number".into()));
            return;
        }
        let run = |genes: Arc<NodeSet<f64>>, peaks: Arc<NodeSet<f64>>, [q, uq, k, uk]: [&[f64]; 4]| {
            let mut tape = Tape::inference();
            let q = (tape.param(0, q, [q.len() / h, h]), tape.param(1, uq, [1, h]));
            let k = (tape.param(2, k, [k.len() / h, h]), tape.param(3, uk, [1, h]));
            let a = attend(&mut tape, self.spec(), genes, peaks, q, k, Some(&given));
            let list = |f: fn(&Selection<f64>) -> &Vec<f64>| a.selections.iter().flat_map(|s| f(s).clone()).collect();
            let rows = swap(tape.get(a.row_sums), heads, self.genes.nnz(), 1);
            let cols = swap(tape.get(a.col_sums), heads, self.peaks.nnz(), 1);
            [list(|s| &s.score), list(|s| &s.weight), rows, cols]
        };
        let exact = run(self.genes.clone(), self.peaks.clone(), [&q, &uq, &kt, &uk]);
        let near = (self.precision == Precision::Bf16).then(|| {
            let rows = |table: &[f64], u: &[f64], nodes: &NodeSet<f64>| {
                let of = |e: usize| (nodes.local[e] as usize, nodes.values[e]);
                rounded(&Self::effective(table, u, (0..nodes.nnz()).map(of)))
            };
            let flat = |nodes: &NodeSet<f64>| {
                let own = (0..nodes.nnz() as u32).collect();
                Arc::new(self.flat(nodes.nnz(), nodes.indptr.clone(), own))
            };
            let zero = vec![0.0; h];
            let (qe, ke) = (rows(&q, &uq, &self.genes), rows(&kt, &uk, &self.peaks));
            run(flat(&self.genes), flat(&self.peaks), [&qe, &zero, &ke, &zero])
        });
        let list = |f: fn(&Selection<f64>) -> &Vec<f64>| given.iter().flat_map(|s| f(s).clone()).collect::<Vec<f64>>();
        let got = [
            list(|s| &s.score),
            list(|s| &s.weight),
            self.get("row_sums", self.genes.nnz() * heads),
            self.get("col_sums", self.peaks.nnz() * heads),
        ];
        for (i, name) in ["score", "weight", "row_sums", "col_sums"].into_iter().enumerate() {
            let limit = self.allow(2.0, &exact[i], || near.as_ref().map_or(Vec::new(), |n| n[i].clone()));
            out.tensor(name, &got[i], &exact[i], limit);
        }
        out.exact("pair", self.pairs(&member));
    }

    /// Are the chosen places the best, in order? How many lists differ from the exact ones, and a list that may not.
    fn places(&self, member: &[u32], score: &[f64]) -> (usize, Option<String>) {
        let c = self.config;
        let (h, heads, k) = (c.hidden, c.heads, c.top_k);
        let slice = h / heads;
        let [q, uq, kt, uk] = self.tables_read();
        let (limit, tau): (f64, f64) = (logit_limit(c.tau), f64::from(c.tau as f32));
        let norm = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
        let (mut differing, mut wrong) = (0, None);
        for b in 0..self.batch.len() {
            let (g0, p0) = (self.genes.indptr[b], self.peaks.indptr[b]);
            let (g1, p1) = (self.genes.indptr[b + 1], self.peaks.indptr[b + 1]);
            let of = |n: &NodeSet<f64>, e: usize| (n.local[e] as usize, n.values[e]);
            let qe = Self::effective(&q, &uq, (g0..g1).map(|e| of(&self.genes, e)));
            let ke = Self::effective(&kt, &uk, (p0..p1).map(|e| of(&self.peaks, e)));
            let index = |e: usize| self.peaks.rows[self.peaks.local[e] as usize];
            let mut lowest: Vec<(u32, u32)> = Vec::new();
            for &(chrom, from, to) in &self.peaks.segments[b] {
                lowest.extend((from..to).map(|e| (index(e), chrom)));
            }
            lowest.sort_unstable();
            let places = k.min(p1 - p0);
            for &(chrom, from, to) in &self.genes.segments[b] {
                let own = self.peaks.segments[b].iter().find(|s| s.0 == chrom && self.features.unknown != Some(chrom));
                let own = own.map_or(0..0, |s| s.1..s.2);
                let masked = lowest.iter().filter(|x| x.1 != chrom).take(places);
                let pads: Vec<Candidate> =
                    masked.map(|x| Candidate { logit: 0.0, free: 0.0, index: x.0, entry: NONE }).collect();
                for entry in from..to {
                    for head in 0..heads {
                        let at = (entry * heads + head) * k;
                        let there = member[at..at + k].iter().take_while(|&&m| m != NONE).count();
                        let range = head * slice..(head + 1) * slice;
                        let row = &qe[(entry - g0) * h..][range.clone()];
                        let size = norm(row) * self.free();
                        let candidate = |e: usize| {
                            let key = &ke[(e - p0) * h..][range.clone()];
                            let logit = row.iter().zip(key).map(|(a, b)| a * b).sum::<f64>();
                            Candidate { logit, free: size * norm(key), index: index(e), entry: e as u32 }
                        };
                        let all: Vec<Candidate> = own.clone().map(candidate).collect();
                        let one = Choice { all: &all, pads: &pads, places, limit };
                        let chosen = &member[at..at + there];
                        let kept: Vec<bool> = score[at..at + there].iter().map(|&s| s > tau).collect();
                        differing += usize::from(!one.is_best(chosen, &kept));
                        if let (None, Err(e)) = (&wrong, one.may_be(chosen, &kept)) {
                            wrong = Some(format!("sample {b}, gene entry {entry}, head {head}: {e}"));
                        }
                    }
                }
            }
        }
        (differing, wrong)
    }

    /// Is the list of pairs by peak what follows from the members?
    fn pairs(&self, member: &[u32]) -> Option<String> {
        let (heads, k) = (self.config.heads, self.config.top_k);
        let ptr = self.words(self.after, "pair_ptr", 2 * self.peaks.nnz() * heads);
        let pair = self.words(self.after, "pair", member.len());
        for b in 0..self.batch.len() {
            for &(chrom, p0, p1) in &self.peaks.segments[b] {
                let genes =
                    self.genes.segments[b].iter().find(|s| s.0 == chrom && self.features.unknown != Some(chrom));
                let (g0, g1) = genes.map_or((0, 0), |s| (s.1, s.2));
                for head in 0..heads {
                    let mut by_peak: Vec<Vec<u32>> = vec![Vec::new(); p1 - p0];
                    for gene in g0..g1 {
                        let slots = (gene * heads + head) * k..(gene * heads + head + 1) * k;
                        for m in slots.filter(|&m| member[m] != NONE) {
                            by_peak.get_mut((member[m] as usize).wrapping_sub(p0))?.push(m as u32);
                        }
                    }
                    let mut next = (g0 * heads + head * (g1 - g0)) * k;
                    for (p, want) in (p0..p1).zip(&by_peak) {
                        let at = 2 * (p * heads + head);
                        if ptr[at] as usize != next || ptr[at + 1] as usize != next + want.len() {
                            let (from, to) = (ptr[at], ptr[at + 1]);
                            return Some(format!(
                                "peak entry {p}, head {head}: pairs {from}..{to}, should be {next}..{}",
                                next + want.len()
                            ));
                        }
                        if pair[next..next + want.len()] != want[..] {
                            return Some(format!("peak entry {p}, head {head}: other pairs than its members"));
                        }
                        next += want.len();
                    }
                }
            }
        }
        None
    }

    fn attend_backward(&self, out: &mut Sink<'_>) {
        let (h, heads) = (self.config.hidden, self.config.heads);
        let given = self.selections(self.before);
        let [q, uq, k, uk] = self.tables_read();
        let (ng, np) = (self.genes.nnz(), self.peaks.nnz());
        let dr = swap(&self.numbers(self.before, "d_row_sums", ng * heads), ng, heads, 1);
        let dc = swap(&self.numbers(self.before, "d_col_sums", np * heads), np, heads, 1);
        let mut d = [vec![0.0; q.len()], vec![0.0; h], vec![0.0; k.len()], vec![0.0; h]];
        let [dq, duq, dk, duk] = &mut d;
        gradients(
            &given,
            (&dr, &dc),
            (&self.genes, &self.peaks),
            h / heads,
            (&q, &uq),
            (&k, &uk),
            (dq, duq),
            (dk, duk),
        );
        for (name, want) in ["d_q", "d_uq", "d_k", "d_uk"].into_iter().zip(&d) {
            out.tensor(name, &self.get(name, want.len()), want, F32);
        }
    }

    // ------------------------------------------------------------------------------------------ pool

    fn pools(&self) -> [Pool<'_>; 4] {
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

    fn pool_forward(&self, out: &mut Sink<'_>) {
        for p in self.pools() {
            let (emb, weights) = (self.param(p.embedding), self.pool_weights(&p));
            let mut tape = Tape::inference();
            let bag = p.record(&mut tape, &emb, weights.as_deref());
            let width = tape.shape(bag)[1];
            let want = swap(tape.get(bag), p.heads, self.batch.len(), width);
            out.tensor(p.bag, &self.get(p.bag, want.len()), &want, F32);
        }
    }

    /// `[heads, nnz]`.
    fn pool_weights(&self, p: &Pool<'_>) -> Option<Vec<f64>> {
        let n = p.nodes.nnz();
        p.weights.map(|name| swap(&self.numbers(self.before, name, n * p.heads), n, p.heads, 1))
    }

    fn pool_backward(&self, out: &mut Sink<'_>) {
        let mut d_emb: HashMap<&str, Vec<f64>> = HashMap::new();
        for p in self.pools() {
            let (emb, weights) = (self.param(p.embedding), self.pool_weights(&p));
            let mut tape = Tape::recording();
            let bag = p.record(&mut tape, &emb, weights.as_deref());
            let [rows, width] = tape.shape(bag);
            let d_bag = self.numbers(self.before, &format!("d_{}", p.bag), rows * width);
            let root = seed(&mut tape, vec![(bag, swap(&d_bag, self.batch.len(), p.heads, width))]);
            let d = backward(tape, root, &[emb.len(), weights.as_ref().map_or(0, Vec::len)]);
            match d_emb.get_mut(p.embedding) {
                Some(sum) => sum.iter_mut().zip(&d[0]).for_each(|(s, d)| *s += d),
                None => drop(d_emb.insert(p.embedding, d[0].clone())),
            }
            if let Some(name) = p.weights {
                let want = swap(&d[1], p.heads, p.nodes.nnz(), 1);
                let name = format!("d_{name}");
                out.tensor(&name, &self.get(&name, want.len()), &want, F32);
            }
        }
        for name in ["rna_idembedding.weight", "atac_idembedding.weight"] {
            self.gradient(out, name, &d_emb[name], F32);
        }
    }

    // ------------------------------------------------------------------------------------------ head

    /// Everything behind the bags on a tape, with `gates` (0 or the factor of the dropout) in place of relu and dropout
    /// where they are given. Parameters of the tape: tensors of `HEAD_LAYERS` and the classifier, then the bags.
    fn head<'p>(&self, tape: &mut Tape<'p, f64>, leaves: &'p Leaves, gates: Option<[Vec<f64>; 2]>) -> Head {
        let (h, heads, n) = (self.config.hidden, self.config.heads, self.batch.len());
        let vars: HashMap<&str, Var> = leaves
            .0
            .iter()
            .enumerate()
            .map(|(i, l)| (l.name.as_str(), tape.param(i, &l.data, [l.data.len() / l.width, l.width])))
            .collect();
        let layer = |name: &str| {
            let full = if name.starts_with("fc") { name.to_string() } else { format!("{PREFIX}{name}") };
            (vars[format!("{full}.weight").as_str()], vars[format!("{full}.bias").as_str()])
        };
        let inverse = |s: &NodeSet<f64>| (0..n).map(|i| 1.0 / s.count(i) as f64).collect::<Vec<f64>>();
        let bag = |tape: &mut Tape<'p, f64>, from: &str, name: &str, heads, scale| {
            let (w, b) = layer(name);
            pooled(tape, vars[from], w, b, heads, scale)
        };
        let map = |tape: &mut Tape<'p, f64>, x: Var, name: &str| {
            let (w, b) = layer(name);
            linear(tape, x, w, b)
        };
        let mut m_r = bag(tape, "bag_a", "atac_value", heads, inverse(&self.genes));
        let mut m_a = bag(tape, "bag_r", "rna_value", heads, inverse(&self.peaks));
        if heads > 1 {
            m_r = map(tape, m_r, "rna_out_proj");
            m_a = map(tape, m_a, "atac_out_proj");
        }
        let s_r = bag(tape, "mean_r", "rna_self_attention", 1, vec![1.0; n]);
        let s_a = bag(tape, "mean_a", "atac_self_attention", 1, vec![1.0; n]);
        let x = concat(tape, m_r, s_r);
        let r = map(tape, x, "dim_reduction_rna");
        let x = concat(tape, m_a, s_a);
        let a = map(tape, x, "dim_reduction_atac");
        let z = concat(tape, r, a);
        let alone = [s_r, s_a];
        let (mut x, mut linear, mut gated) = (z, Vec::new(), Vec::new());
        for (i, (name, width)) in [("fc1", h), ("fc2", h / 2)].into_iter().enumerate() {
            let y = map(tape, x, name);
            let gate = match &gates {
                Some(g) => g[i].clone(),
                None => {
                    let mask = self.mask(i, width);
                    tape.get(y).iter().zip(mask).map(|(&y, m)| if y > 0.0 { m } else { 0.0 }).collect()
                }
            };
            linear.push(tape.get(y).to_vec());
            x = dropout(tape, y, gate);
            gated.push(tape.get(x).to_vec());
        }
        let logits = map(tape, x, "fc3");
        Head { z, alone, logits, linear, gated }
    }

    /// Factors of the dropout of layer `i`.
    fn mask(&self, i: usize, width: usize) -> Vec<f64> {
        match self.case.dropout {
            Some(d) if self.config.dropout > 0.0 => {
                dropout_mask(self.config.dropout, d.seed, d.step, &self.batch.sample, i as u32, width)
            }
            _ => vec![1.0; self.batch.len() * width],
        }
    }

    fn leaves(&self) -> Leaves {
        let c = self.config;
        let mut out = Vec::new();
        let mut layer = |full: String| {
            for what in ["weight", "bias"] {
                let name = format!("{full}.{what}");
                let data = self.param(&name);
                let entry = self.case.model.params.layout().find(&name);
                let width = entry.and_then(|e| e.shape.last().copied()).unwrap_or(1);
                if !data.is_empty() {
                    out.push(Leaf { name, data, width });
                }
            }
        };
        HEAD_LAYERS.iter().for_each(|l| layer(format!("{PREFIX}{l}")));
        ["fc1", "fc2", "fc3"].iter().for_each(|l| layer(l.to_string()));
        let (gw, pw) = (c.embedding_dim + 2 + c.gene_features(), c.embedding_dim + 2 + c.peak_features());
        let n = self.batch.len();
        for (name, heads, width) in
            [("bag_a", c.heads, pw), ("bag_r", c.heads, gw), ("mean_a", 1, pw), ("mean_r", 1, gw)]
        {
            let data = swap(&self.numbers(self.before, name, n * heads * width), n, heads, width);
            out.push(Leaf { name: name.into(), data, width });
        }
        Leaves(out)
    }

    fn head_forward(&self, out: &mut Sink<'_>) {
        let (c, n) = (self.config, self.batch.len());
        let leaves = self.leaves();
        let mut tape = Tape::inference();
        let head = self.head(&mut tape, &leaves, None);
        out.tensor("z", &self.get("z", n * 2 * c.hidden), tape.get(head.z), F32);
        // Which numbers pass relu and dropout: only those near 0 may differ.
        let (mut differing, mut wrong) = (0, None);
        for (i, (name, width)) in [("a1", c.hidden), ("a2", c.hidden / 2)].into_iter().enumerate() {
            let (got, mask) = (self.get(name, n * width), self.mask(i, width));
            let top = head.linear[i].iter().fold(0.0f64, |m, x| m.max(x.abs()));
            for (j, (&g, &x)) in got.iter().zip(&head.linear[i]).enumerate() {
                let want = x > 0.0 && mask[j] != 0.0;
                if (g != 0.0) != want {
                    differing += 1;
                    if wrong.is_none() && (mask[j] == 0.0 || x.abs() > 1e-5 * top) {
                        let dropped = if mask[j] == 0.0 { "dropped" } else { "not dropped" };
                        wrong = Some(format!("{name}[{j}] is {g:.3e}; before relu it is {x:.3e}, and it is {dropped}"));
                    }
                }
            }
            out.tensor(name, &got, &head.gated[i], F32);
        }
        out.choices("relu and dropout", differing, wrong);
        out.tensor("logits", &self.get("logits", 2 * n), tape.get(head.logits), F32);
        // The losses, from the device's own logits and parts.
        let logits = self.get("logits", 2 * n);
        let mut tape = Tape::recording();
        let l = tape.param(0, &logits, [n, 2]);
        let loss = cross_entropy(&mut tape, l, &self.batch.label);
        let matching = tape.get(loss)[0];
        let d = backward(tape, loss, &[2 * n]);
        let d: Vec<f64> = d[0].iter().map(|d| c.match_weight * d).collect();
        out.tensor("d_logits", &self.get("d_logits", 2 * n), &d, F32);
        let translated = if c.alpha != 0.0 { self.positives.len() * c.heads } else { 0 };
        let translation: f64 = self.numbers(self.before, "loss_part", translated).iter().sum();
        let Some(r) = self.plain::<StepRecord>(self.after, "record") else { return };
        let got = widen(&[r.loss, r.match_loss, r.translation_loss, r.cis_loss, r.contrast_loss]);
        let loss = c.match_weight * matching + c.alpha * translation;
        out.tensor("losses", &got, &[loss, matching, translation, 0.0, 0.0], F32);
    }

    fn head_backward(&self, out: &mut Sink<'_>) {
        let (c, n) = (self.config, self.batch.len());
        let leaves = self.leaves();
        let gates = [("a1", c.hidden), ("a2", c.hidden / 2)];
        let keep = if self.case.dropout.is_some() { 1.0 / (1.0 - c.dropout) } else { 1.0 };
        let gates = gates.map(|(name, width)| {
            let a = self.numbers(self.before, name, n * width);
            a.iter().map(|&a| if a > 0.0 { keep } else { 0.0 }).collect()
        });
        let mut tape = Tape::recording();
        let head = self.head(&mut tape, &leaves, Some(gates));
        let d_logits = self.numbers(self.before, "d_logits", 2 * n);
        let mut seeds = vec![(head.logits, d_logits)];
        // What the contrastive term has written before.
        if c.contrast > 0.0 && !self.positives.is_empty() {
            for (var, name) in head.alone.into_iter().zip(["d_x_r", "d_x_a"]) {
                let rows = self.numbers(self.before, name, 2 * n * c.hidden);
                seeds.push((var, rows.chunks_exact(2 * c.hidden).flat_map(|r| r[c.hidden..].to_vec()).collect()));
            }
        }
        let root = seed(&mut tape, seeds);
        let by_cis = c.cis.as_ref().is_some_and(|c| c.components > 0) && !self.positives.is_empty();
        let lengths: Vec<usize> = leaves.0.iter().map(|l| l.data.len()).collect();
        for (leaf, d) in leaves.0.iter().zip(backward(tape, root, &lengths)) {
            if leaf.name.contains('.') {
                self.gradient(out, &leaf.name, &d, F32);
            } else {
                let heads = if leaf.name.starts_with("bag") { c.heads } else { 1 };
                let want = swap(&d, heads, n, leaf.width);
                let name = format!("d_{}", leaf.name);
                let got = self.get(&name, want.len());
                if by_cis && leaf.name == "mean_a" {
                    out.added(&name, &self.numbers(self.before, &name, want.len()), &got, &want, F32);
                } else {
                    out.tensor(&name, &got, &want, F32);
                }
            }
        }
    }

    // ------------------------------------------------------------------------------------------ adam

    fn adam(&self, out: &mut Sink<'_>) {
        let Some(g) = self.regions.get("g") else { return };
        let len = g.bytes / 4;
        let read = |name: &str| self.numbers(self.before, name, len);
        let (mut p, mut g, mut m, mut v) = (read("p"), read("g"), read("m"), read("v"));
        let states = (
            self.plain::<StepRecord>(self.before, "record"),
            self.plain::<StepRecord>(self.after, "record"),
            self.plain::<Control>(self.before, "control"),
            self.plain::<Control>(self.after, "control"),
        );
        let (Some(r0), Some(r1), Some(c0), Some(c1)) = states else { return };
        let norm = g.iter().map(|x| x * x).sum::<f64>().sqrt();
        let finite = norm.is_finite() && r0.loss.is_finite();
        let halted = c0.halted == 1 || (!finite && c0.stop_on_nan == 1);
        let apply = finite && !halted;
        let updates = c0.updates + u32::from(apply);
        let before = p.clone();
        if apply {
            let constants = adam::AdamConfig { lr: RATE, ..adam::AdamConfig::default() };
            adam::step(&mut p, &mut g, &mut m, &mut v, &constants, u64::from(updates));
        }
        let more: Vec<f64> = p.iter().zip(&before).map(|(a, b)| a - b).collect();
        out.added("p", &before, &self.get("p", len), &more, F32);
        if !apply {
            let bits = |name: &str| self.words(self.before, name, len) == self.words(self.after, name, len);
            let wrong = ["p", "m", "v"].into_iter().find(|name| !bits(name));
            out.exact("nothing applied", wrong.map(|name| format!("`{name}` was changed by a step that is not taken")));
        }
        out.tensor("m", &self.get("m", len), &m, F32);
        out.tensor("v", &self.get("v", len), &v, F32);
        let left = self.get("g", len).iter().position(|&g| g != 0.0);
        out.exact("g = 0", left.map(|i| format!("gradient {i} was not set to 0")));
        if finite {
            out.tensor("norm", &[f64::from(r1.norm)], &[norm], F32);
        }
        let said = [r1.finite, r1.applied, r1.updates, c1.updates, c1.halted, c1.stop_on_nan];
        let want = [u32::from(finite), u32::from(apply), updates, updates, u32::from(halted), c0.stop_on_nan];
        let names = "finite, applied, updates of the record; updates, halted, stop_on_nan of the control";
        out.exact("record and control", (said != want).then(|| format!("{names}: {said:?}, should be {want:?}")));
    }
}

/// The learning rate of the steps that are checked: not the usual one, which a kernel might have built in.
pub(super) const RATE: f64 = 7e-4;

/// Layers of `head` before the classifier.
const HEAD_LAYERS: [&str; 8] = [
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
struct Table<'a> {
    name: &'static str,
    u_name: &'static str,
    layer: &'static str,
    embedding: &'static str,
    side: Side<'a, f64>,
    nodes: &'a NodeSet<f64>,
}

/// One of the four poolings.
struct Pool<'a> {
    bag: &'static str,
    weights: Option<&'static str>,
    side: Side<'a, f64>,
    nodes: &'a Arc<NodeSet<f64>>,
    embedding: &'static str,
    heads: usize,
}

impl<'a> Pool<'a> {
    /// The pooling on a tape; parameters: the embedding, the weights.
    fn record<'p>(&self, tape: &mut Tape<'p, f64>, emb: &'p [f64], weights: Option<&'p [f64]>) -> Var
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

/// A tensor that `head` reads.
struct Leaf {
    name: String,
    data: Vec<f64>,
    width: usize,
}

struct Leaves(Vec<Leaf>);

/// What `head` computes.
struct Head {
    z: Var,
    /// What RNA and ATAC say alone, `[B, H]`.
    alone: [Var; 2],
    logits: Var,
    /// Before and behind relu and dropout, both layers.
    linear: Vec<Vec<f64>>,
    gated: Vec<Vec<f64>>,
}

/// A peak that may take a place; masked ones have entry `NONE` and logit 0.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    logit: f64,
    /// How wrong the device may be about the logit.
    free: f64,
    index: u32,
    entry: u32,
}

impl Candidate {
    /// Comes before in the exact order.
    fn ahead(&self, other: &Candidate) -> bool {
        self.logit > other.logit || (self.logit == other.logit && self.index < other.index)
    }

    /// May come before, for all that the device can know. Logits that are equal, of equal keys, are equal there too.
    fn may_precede(&self, other: &Candidate) -> bool {
        if self.logit == other.logit {
            return self.index < other.index;
        }
        self.logit > other.logit - self.free - other.free
    }
}

/// The places of one gene.
struct Choice<'a> {
    all: &'a [Candidate],
    pads: &'a [Candidate],
    places: usize,
    limit: f64,
}

impl Choice<'_> {
    /// Exactly the members, in the order and on the side of the threshold that f64 gives?
    fn is_best(&self, chosen: &[u32], kept: &[bool]) -> bool {
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
    fn may_be(&self, chosen: &[u32], kept: &[bool]) -> Result<(), String> {
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
