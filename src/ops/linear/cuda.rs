//! The matching head on the device: launches of `kernels/head.cu`.

use crate::device::abi::{
    CrossEntropyArgs, HeadGateArgs, LinearBackwardWArgs, LinearBackwardXArgs, LinearForwardArgs, LossTotalArgs, Ptr,
};
use crate::device::tape::Tape;
use crate::device::workspace::Frame;
use crate::error::Result;
use crate::model::PREFIX;

/// A matrix with `ld` numbers from row to row, and its gradient with the same or another.
#[derive(Clone, Copy)]
struct Matrix {
    data: Ptr<f32>,
    ld: u32,
    grad: Ptr<f32>,
    grad_ld: u32,
}

impl Matrix {
    fn new(data: Ptr<f32>, grad: Ptr<f32>, ld: u32) -> Self {
        Matrix { data, ld, grad, grad_ld: ld }
    }

    /// From column `n` on.
    fn from(self, n: u32) -> Self {
        Matrix { data: self.data.add(n as usize), grad: self.grad.add(n as usize), ..self }
    }
}

/// One linear map.
struct Map {
    name: String,
    x: Matrix,
    y: Matrix,
    inp: u32,
    out: u32,
    heads: u32,
    /// Is x a bag, whose last column is the sum of its weights?
    bag: bool,
    /// Divide by the nodes of each sample.
    indptr: Ptr<u32>,
    /// Relu, and the number of the dropout behind it.
    relu: Option<u32>,
}

/// Records everything behind the bags: value and self maps, reductions, the classifier and the losses.
pub(crate) fn record(tape: &mut Tape, f: &Frame<'_>) -> Result<()> {
    let (w, b, c) = (&f.w, &f.batch, f.config);
    let (h, heads) = (f.hidden(), f.heads());
    let gene_width = (c.embedding_dim + 1 + c.gene_features()) as u32;
    let peak_width = (c.embedding_dim + 1 + c.peak_features()) as u32;
    let x_r = Matrix::new(w.x_r, w.d_x_r, 2 * h);
    let x_a = Matrix::new(w.x_a, w.d_x_a, 2 * h);
    let (m_r, m_a) =
        if heads > 1 { (Matrix::new(w.m_r, w.d_m_r, h), Matrix::new(w.m_a, w.d_m_a, h)) } else { (x_r, x_a) };
    let z = Matrix::new(w.z, w.d_z, 2 * h);
    let (a1, a2) = (Matrix::new(w.a1, w.d_a1, h), Matrix::new(w.a2, w.d_a2, h / 2));
    let logits = Matrix::new(w.logits, w.d_logits, 2);
    let bag = |name: &str, data, grad, width: u32, y, heads, indptr| Map {
        name: format!("{PREFIX}{name}"),
        x: Matrix::new(data, grad, width + 1),
        y,
        inp: width,
        out: h,
        heads,
        bag: true,
        indptr,
        relu: None,
    };
    let plain = |name: &str, x: Matrix, y: Matrix, inp: u32, out: u32, relu| Map {
        name: name.to_string(),
        x,
        y,
        inp,
        out,
        heads: 1,
        bag: false,
        indptr: Ptr::NULL,
        relu,
    };
    let inner = |name: &str, x, y, inp| plain(&format!("{PREFIX}{name}"), x, y, inp, h, None);
    let mut maps = vec![
        bag("atac_value", w.bag_a, w.d_bag_a, peak_width, m_r, heads, b.genes.indptr),
        bag("rna_value", w.bag_r, w.d_bag_r, gene_width, m_a, heads, b.peaks.indptr),
    ];
    if heads > 1 {
        maps.push(inner("rna_out_proj", m_r, x_r, h));
        maps.push(inner("atac_out_proj", m_a, x_a, h));
    }
    maps.push(bag("rna_self_attention", w.mean_r, w.d_mean_r, gene_width, x_r.from(h), 1, Ptr::NULL));
    maps.push(bag("atac_self_attention", w.mean_a, w.d_mean_a, peak_width, x_a.from(h), 1, Ptr::NULL));
    maps.push(inner("dim_reduction_rna", x_r, z, 2 * h));
    maps.push(inner("dim_reduction_atac", x_a, z.from(h), 2 * h));
    maps.push(plain("fc1", z, a1, 2 * h, h, Some(0)));
    maps.push(plain("fc2", a1, a2, h, h / 2, Some(1)));
    maps.push(plain("fc3", a2, logits, h / 2, 2, None));
    for m in maps {
        record_map(tape, f, &m)?;
    }
    let entropy = CrossEntropyArgs {
        n_samples: b.n_samples,
        logits: w.logits,
        label: b.label,
        d_logits: w.d_logits,
        record: f.record,
    };
    let total = LossTotalArgs {
        n_parts: b.columns.n_positives,
        part: w.loss_part,
        record: f.record,
        heads,
        alpha: c.alpha as f32,
    };
    tape.op(
        "head",
        vec![f.launch("cross_entropy", |_| [1, 1, 1], &entropy)?, f.launch("loss_total", |_| [1, 1, 1], &total)?],
        Vec::new(),
    );
    Ok(())
}

fn record_map(tape: &mut Tape, f: &Frame<'_>, m: &Map) -> Result<()> {
    let (weight, bias) = (format!("{}.weight", m.name), format!("{}.bias", m.name));
    let (n_samples, samples) = (f.batch.n_samples, f.sizes.samples);
    let (wv, bv) = ((f.param)(&weight)?, (f.param)(&bias)?);
    let bias_column = u32::from(m.bag);
    let dropout = m.relu.and_then(|layer| Some((layer, f.dropout?))).filter(|_| f.config.dropout > 0.0);
    let keep = if dropout.is_some() { (1.0 / (1.0 - f.config.dropout)) as f32 } else { 1.0 };
    let forward = LinearForwardArgs {
        n_samples,
        x: m.x.data,
        w: wv,
        b: bv,
        indptr: m.indptr,
        y: m.y.data,
        sample_key: f.batch.sample_key,
        step_key: f.batch.step_key,
        ldx: m.x.ld,
        ldy: m.y.ld,
        inp: m.inp,
        out: m.out,
        heads: m.heads,
        bias_column,
        relu: u32::from(m.relu.is_some()),
        layer: dropout.map_or(0, |d| d.0),
        seed_low: dropout.map_or(0, |d| d.1 as u32),
        seed_high: dropout.map_or(0, |d| (d.1 >> 32) as u32),
        drop_below: if dropout.is_some() { (f.config.dropout * 4_294_967_296.0) as u32 } else { 0 },
        pad: 0,
        keep,
        pad2: 0,
    };
    let dx = LinearBackwardXArgs {
        n_samples,
        dy: m.y.grad,
        w: wv,
        b: bv,
        indptr: m.indptr,
        dx: m.x.grad,
        ldy: m.y.grad_ld,
        ldx: m.x.grad_ld,
        inp: m.inp,
        out: m.out,
        heads: m.heads,
        bias_column,
    };
    let dw = LinearBackwardWArgs {
        n_samples,
        dy: m.y.grad,
        x: m.x.data,
        indptr: m.indptr,
        dw: (f.grad)(&weight)?,
        db: (f.grad)(&bias)?,
        ldy: m.y.grad_ld,
        ldx: m.x.ld,
        inp: m.inp,
        out: m.out,
        heads: m.heads,
        bias_column,
    };
    let slice = m.out / m.heads;
    let mut backward = Vec::new();
    if m.relu.is_some() {
        let gate = HeadGateArgs { n_samples, y: m.y.data, dy: m.y.grad, width: m.out, keep };
        backward.push(f.launch("head_gate", |s| [(samples * m.out).div_ceil(s.tile_x), 1, 1], &gate)?);
    }
    let columns = m.inp + bias_column;
    backward.push(f.launch(
        "linear_backward_x",
        |s| [samples.div_ceil(s.tile_x), columns.div_ceil(s.tile_y), m.heads],
        &dx,
    )?);
    backward.push(f.launch(
        "linear_backward_w",
        |s| [slice.div_ceil(s.tile_x), m.inp.div_ceil(s.tile_y), m.heads],
        &dw,
    )?);
    tape.op(
        "head",
        vec![f.launch(
            "linear_forward",
            |s| [samples.div_ceil(s.tile_x), slice.div_ceil(s.tile_y), m.heads],
            &forward,
        )?],
        backward,
    );
    Ok(())
}
