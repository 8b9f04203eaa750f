//! `head` on the device: launches of `kernels/head.cu`, for other ops as well.

use crate::device::abi::{
    CrossEntropyArgs, HeadGateArgs, LinearBackwardWArgs, LinearBackwardXArgs, LinearForwardArgs, LossTotalArgs, Ptr,
    ReducePartsArgs,
};
use crate::device::frame::Frame;
use crate::device::gpu::Launch;
use crate::device::op::{Bench, Cost, KernelFile, Op, Turn, Work};
use crate::device::program::{Pass, Recorder};
use crate::device::region::{Region, Writes};
use crate::error::Result;
use crate::model::PREFIX;

pub(crate) static OP: Op = Op {
    name: "head",
    sources: &[KernelFile {
        file: "head",
        precise: &[],
        plain: &[
            "linear_forward",
            "linear_backward_x",
            "linear_backward_w",
            "head_gate",
            "cross_entropy",
            "loss_total",
            "reduce_parts",
        ],
    }],
    regions: &[
        Region::f32("m_r", |n| n.samples * n.hidden),
        Region::f32("m_a", |n| n.samples * n.hidden),
        Region::f32("d_m_r", |n| n.samples * n.hidden),
        Region::f32("d_m_a", |n| n.samples * n.hidden),
        Region::f32("x_r", |n| n.samples * 2 * n.hidden),
        Region::f32("x_a", |n| n.samples * 2 * n.hidden),
        Region::f32("d_x_r", |n| n.samples * 2 * n.hidden),
        Region::f32("d_x_a", |n| n.samples * 2 * n.hidden),
        Region::f32("z", |n| n.samples * 2 * n.hidden),
        Region::f32("d_z", |n| n.samples * 2 * n.hidden),
        Region::f32("a1", |n| n.samples * n.hidden),
        Region::f32("d_a1", |n| n.samples * n.hidden),
        Region::f32("a2", |n| n.samples * (n.hidden / 2)),
        Region::f32("d_a2", |n| n.samples * (n.hidden / 2)),
        Region::f32("logits", |n| n.samples * 2),
        Region::f32("d_logits", |n| n.samples * 2),
    ],
    turns: &[Turn {
        place: 60,
        last: Pass::Backward,
        sums_by: &[],
        record,
        writes,
        check: |v, pass, out| match pass {
            Pass::Forward => v.head_forward(out),
            _ => v.head_backward(out),
        },
    }],
    bench: Bench { with_terms: false, tensor_cores: true, cost },
};

fn writes(w: &mut Writes<'_>, pass: Pass) {
    if pass == Pass::Forward {
        w.rows(&["m_r", "m_a", "x_r", "x_a", "z", "a1", "a2", "logits", "d_logits"]);
        w.whole(&["record"]);
        return;
    }
    w.rows(&["d_m_r", "d_m_a", "d_x_r", "d_x_a", "d_z", "d_a1", "d_a2"]);
    w.rows(&["d_bag_a", "d_bag_r", "d_mean_a", "d_mean_r"]);
    w.gradients(&[
        "cross_attention_layer.atac_value.weight",
        "cross_attention_layer.atac_value.bias",
        "cross_attention_layer.rna_value.weight",
        "cross_attention_layer.rna_value.bias",
        "cross_attention_layer.rna_out_proj.weight",
        "cross_attention_layer.rna_out_proj.bias",
        "cross_attention_layer.atac_out_proj.weight",
        "cross_attention_layer.atac_out_proj.bias",
        "cross_attention_layer.rna_self_attention.weight",
        "cross_attention_layer.rna_self_attention.bias",
        "cross_attention_layer.atac_self_attention.weight",
        "cross_attention_layer.atac_self_attention.bias",
        "cross_attention_layer.dim_reduction_rna.weight",
        "cross_attention_layer.dim_reduction_rna.bias",
        "cross_attention_layer.dim_reduction_atac.weight",
        "cross_attention_layer.dim_reduction_atac.bias",
        "fc1.weight",
        "fc1.bias",
        "fc2.weight",
        "fc2.bias",
        "fc3.weight",
        "fc3.bias",
    ]);
}

fn cost(w: &Work<'_>, pass: Pass) -> Cost {
    let ((gw, pw), h, samples) = (w.widths(), w.hidden(), f64::from(w.sizes.samples));
    let maps = 2.0 * h * (gw + pw)
        + 4.0 * h * h
        + 2.0 * h * h
        + h * h / 2.0
        + h
        + if w.config().heads > 1 { 2.0 * h * h } else { 0.0 };
    let bytes = 4.0 * maps + 4.0 * samples * (w.heads() + 1.0) * (gw + pw);
    if pass == Pass::Forward {
        return Cost { flops: 2.0 * samples * maps, bytes };
    }
    Cost { flops: 4.0 * samples * maps, bytes: 3.0 * bytes }
}

/// `out (+)= Σ parts` of `u_part`, where there is a part for each `per` items of `n`.
pub(crate) fn reduce(f: &Frame<'_>, n: Ptr<u32>, per: u32, out: Ptr<f32>, add: bool) -> Result<Launch> {
    reduce_from(f, (f.f32("u_part")?, f.hidden()), n, per, out, add)
}

/// As [`reduce`], of other parts, and how wide they are.
pub(crate) fn reduce_from(
    f: &Frame<'_>,
    (part, width): (Ptr<f32>, u32),
    n: Ptr<u32>,
    per: u32,
    out: Ptr<f32>,
    add: bool,
) -> Result<Launch> {
    let args = ReducePartsArgs { n, part, out, per, width, add: u32::from(add), pad: 0 };
    f.launch("reduce_parts", |s| [width.div_ceil(s.tile_x), 1, 1], &args)
}

/// A matrix with `ld` numbers from row to row, and its gradient with the same or another.
#[derive(Clone, Copy)]
pub(crate) struct Matrix {
    data: Ptr<f32>,
    ld: u32,
    grad: Ptr<f32>,
    grad_ld: u32,
}

impl Matrix {
    pub fn new(data: Ptr<f32>, grad: Ptr<f32>, ld: u32) -> Self {
        Matrix { data, ld, grad, grad_ld: ld }
    }

    /// From column `n` on.
    fn from(self, n: u32) -> Self {
        Matrix { data: self.data.add(n as usize), grad: self.grad.add(n as usize), ..self }
    }
}

/// One linear map.
pub(crate) struct Map {
    pub name: String,
    /// Rows there are, and at most.
    pub n_samples: Ptr<u32>,
    pub samples: u32,
    pub x: Matrix,
    pub y: Matrix,
    pub inp: u32,
    pub out: u32,
    pub heads: u32,
    /// Is x a bag, whose last column is the sum of its weights?
    pub bag: bool,
    /// Divide by the nodes of each sample.
    pub indptr: Ptr<u32>,
    /// Relu, and the number of the dropout behind it.
    pub relu: Option<u32>,
    /// Is the gradient of x added to what is there?
    pub add: bool,
}

/// Records everything behind the bags: value and self maps, reductions, the classifier and the losses.
pub(crate) fn record(recorder: &mut Recorder, f: &Frame<'_>) -> Result<()> {
    let (b, c) = (&f.batch, f.config);
    let (h, heads) = (f.hidden(), f.heads());
    let gene_width = (c.embedding_dim + 1 + c.gene_features()) as u32;
    let peak_width = (c.embedding_dim + 1 + c.peak_features()) as u32;
    let x_r = Matrix::new(f.f32("x_r")?, f.f32("d_x_r")?, 2 * h);
    let x_a = Matrix::new(f.f32("x_a")?, f.f32("d_x_a")?, 2 * h);
    let (m_r, m_a) = if heads > 1 {
        (Matrix::new(f.f32("m_r")?, f.f32("d_m_r")?, h), Matrix::new(f.f32("m_a")?, f.f32("d_m_a")?, h))
    } else {
        (x_r, x_a)
    };
    let z = Matrix::new(f.f32("z")?, f.f32("d_z")?, 2 * h);
    let (a1, a2) = (Matrix::new(f.f32("a1")?, f.f32("d_a1")?, h), Matrix::new(f.f32("a2")?, f.f32("d_a2")?, h / 2));
    let logits = Matrix::new(f.f32("logits")?, f.f32("d_logits")?, 2);
    let of = || Map::of(b.n_samples, f.sizes.samples);
    let bag = |name: &str, data, grad, width: u32, y, heads, indptr| Map {
        name: format!("{PREFIX}{name}"),
        x: Matrix::new(data, grad, width + 1),
        y,
        inp: width,
        out: h,
        heads,
        bag: true,
        indptr,
        ..of()
    };
    let plain = |name: &str, x: Matrix, y: Matrix, inp: u32, out: u32, relu| Map {
        name: name.to_string(),
        x,
        y,
        inp,
        out,
        relu,
        ..of()
    };
    // What other terms have written before, going backward.
    let by_cis = f.predicts().is_some() && c.cis.as_ref().is_some_and(|c| c.components > 0);
    let by_contrast = f.contrasts();
    let behind = |m: Map, add: bool| Map { add, ..m };
    let inner = |name: &str, x, y, inp| plain(&format!("{PREFIX}{name}"), x, y, inp, h, None);
    let mut maps = vec![
        bag("atac_value", f.f32("bag_a")?, f.f32("d_bag_a")?, peak_width, m_r, heads, b.genes.indptr),
        bag("rna_value", f.f32("bag_r")?, f.f32("d_bag_r")?, gene_width, m_a, heads, b.peaks.indptr),
    ];
    if heads > 1 {
        maps.push(inner("rna_out_proj", m_r, x_r, h));
        maps.push(inner("atac_out_proj", m_a, x_a, h));
    }
    maps.push(bag("rna_self_attention", f.f32("mean_r")?, f.f32("d_mean_r")?, gene_width, x_r.from(h), 1, Ptr::NULL));
    let own = bag("atac_self_attention", f.f32("mean_a")?, f.f32("d_mean_a")?, peak_width, x_a.from(h), 1, Ptr::NULL);
    maps.push(behind(own, by_cis));
    maps.push(behind(inner("dim_reduction_rna", x_r, z, 2 * h), by_contrast));
    maps.push(behind(inner("dim_reduction_atac", x_a, z.from(h), 2 * h), by_contrast));
    maps.push(plain("fc1", z, a1, 2 * h, h, Some(0)));
    maps.push(plain("fc2", a1, a2, h, h / 2, Some(1)));
    maps.push(plain("fc3", a2, logits, h / 2, 2, None));
    for m in maps {
        recorder.add(vec![m.forward(f)?], m.backward(f)?);
    }
    let entropy = CrossEntropyArgs {
        n_samples: b.n_samples,
        logits: f.f32("logits")?,
        label: b.label,
        d_logits: f.f32("d_logits")?,
        record: f.record,
        weight: c.match_weight as f32,
        pad: 0,
    };
    let total = LossTotalArgs {
        n_parts: b.columns.n_positives,
        part: if f.translates() { f.f32("loss_part")? } else { Ptr::NULL },
        record: f.record,
        heads,
        alpha: c.alpha as f32,
        match_weight: c.match_weight as f32,
        pad: 0,
    };
    recorder.add(
        vec![f.launch("cross_entropy", |_| [1, 1, 1], &entropy)?, f.launch("loss_total", |_| [1, 1, 1], &total)?],
        Vec::new(),
    );
    Ok(())
}

impl Map {
    /// A map of `samples` rows at most, `n_samples` of them there; the rest is to be filled in.
    pub fn of(n_samples: Ptr<u32>, samples: u32) -> Self {
        Map {
            name: String::new(),
            n_samples,
            samples,
            x: Matrix::new(Ptr::NULL, Ptr::NULL, 0),
            y: Matrix::new(Ptr::NULL, Ptr::NULL, 0),
            inp: 0,
            out: 0,
            heads: 1,
            bag: false,
            indptr: Ptr::NULL,
            relu: None,
            add: false,
        }
    }

    fn names(&self) -> (String, String) {
        (format!("{}.weight", self.name), format!("{}.bias", self.name))
    }

    /// The dropout behind the map and its seed.
    fn dropout(&self, f: &Frame<'_>) -> Option<(u32, u64)> {
        self.relu.and_then(|layer| Some((layer, f.dropout?))).filter(|_| f.config.dropout > 0.0)
    }

    fn keep(&self, f: &Frame<'_>) -> f32 {
        if self.dropout(f).is_some() { (1.0 / (1.0 - f.config.dropout)) as f32 } else { 1.0 }
    }

    /// Outputs of one head.
    fn slice(&self) -> u32 {
        self.out / self.heads
    }

    /// The launch of the forward pass.
    pub fn forward(&self, f: &Frame<'_>) -> Result<Launch> {
        let (weight, bias) = self.names();
        let dropout = self.dropout(f);
        let args = LinearForwardArgs {
            n_samples: self.n_samples,
            x: self.x.data,
            w: (f.param)(&weight)?,
            b: (f.param)(&bias)?,
            indptr: self.indptr,
            y: self.y.data,
            sample_key: f.batch.sample_key,
            step_key: f.batch.step_key,
            ldx: self.x.ld,
            ldy: self.y.ld,
            inp: self.inp,
            out: self.out,
            heads: self.heads,
            bias_column: u32::from(self.bag),
            relu: u32::from(self.relu.is_some()),
            layer: dropout.map_or(0, |d| d.0),
            seed_low: dropout.map_or(0, |d| d.1 as u32),
            seed_high: dropout.map_or(0, |d| (d.1 >> 32) as u32),
            drop_below: if dropout.is_some() { (f.config.dropout * 4_294_967_296.0) as u32 } else { 0 },
            pad: 0,
            keep: self.keep(f),
            pad2: 0,
        };
        let slice = self.slice();
        f.launch("linear_forward", |s| [self.samples.div_ceil(s.tile_x), slice.div_ceil(s.tile_y), self.heads], &args)
    }

    /// The launches of the backward pass.
    pub fn backward(&self, f: &Frame<'_>) -> Result<Vec<Launch>> {
        let (weight, bias) = self.names();
        let (n_samples, samples, bias_column) = (self.n_samples, self.samples, u32::from(self.bag));
        let dx = LinearBackwardXArgs {
            n_samples,
            dy: self.y.grad,
            w: (f.param)(&weight)?,
            b: (f.param)(&bias)?,
            indptr: self.indptr,
            dx: self.x.grad,
            ldy: self.y.grad_ld,
            ldx: self.x.grad_ld,
            inp: self.inp,
            out: self.out,
            heads: self.heads,
            bias_column,
            add: u32::from(self.add),
            pad: 0,
        };
        let dw = LinearBackwardWArgs {
            n_samples,
            dy: self.y.grad,
            x: self.x.data,
            indptr: self.indptr,
            dw: (f.grad)(&weight)?,
            db: (f.grad)(&bias)?,
            ldy: self.y.grad_ld,
            ldx: self.x.ld,
            inp: self.inp,
            out: self.out,
            heads: self.heads,
            bias_column,
        };
        let mut launches = Vec::new();
        if self.relu.is_some() {
            let keep = self.keep(f);
            let gate = HeadGateArgs { n_samples, y: self.y.data, dy: self.y.grad, width: self.out, keep };
            launches.push(f.launch("head_gate", |s| [(samples * self.out).div_ceil(s.tile_x), 1, 1], &gate)?);
        }
        let (slice, columns) = (self.slice(), self.inp + bias_column);
        launches.push(f.launch(
            "linear_backward_x",
            |s| [samples.div_ceil(s.tile_x), columns.div_ceil(s.tile_y), self.heads],
            &dx,
        )?);
        launches.push(f.launch(
            "linear_backward_w",
            |s| [slice.div_ceil(s.tile_x), self.inp.div_ceil(s.tile_y), self.heads],
            &dw,
        )?);
        Ok(launches)
    }
}
