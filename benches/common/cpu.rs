//! The CPU's variant of every op, forward alone and forward with backward.

use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput};
use sccrossrec::model::nodes::NodeSet;
use sccrossrec::model::{Batch, Model};
use sccrossrec::ops::adam;
use sccrossrec::ops::adam::AdamConfig;
use sccrossrec::ops::attend::{AttendSpec, attend};
use sccrossrec::ops::head::{linear, relu};
use sccrossrec::ops::losses::cross_entropy;
use sccrossrec::ops::pool::{Weights, pool};
use sccrossrec::ops::project::{Extra, Side, project};
use sccrossrec::ops::translate::{PeakColumns, TranslateSpec, translate};
use sccrossrec::tape::{Grads, Tape, Var};

use super::common::{Cells, Shape};

/// Runs an op forward, and backward with a gradient of ones where `back`.
fn run<'p>(
    params: &'p [(&'p [f32], [usize; 2])],
    back: bool,
    build: impl Fn(&mut Tape<'p, f32>, &[Var]) -> Var,
) -> f32 {
    let mut tape = if back { Tape::recording() } else { Tape::inference() };
    let vars: Vec<Var> = params.iter().enumerate().map(|(i, (d, s))| tape.param(i, d, *s)).collect();
    let out = build(&mut tape, &vars);
    let first = tape.get(out)[0];
    if back {
        let seed = vec![1e-3; tape.get(out).len()];
        let mut grads: Vec<Vec<f32>> = params.iter().map(|p| vec![0.0; p.0.len()]).collect();
        let slices = grads.iter_mut().map(|g| &mut g[..]).collect();
        tape.backward(out, &seed, Grads::new(slices)).expect("a recording tape");
    }
    first
}

fn normal(n: usize, scale: f64) -> Vec<f32> {
    let mut r = sccrossrec::rng::Rng::new(3, n as u64);
    (0..n).map(|_| (scale * r.normal()) as f32).collect()
}

/// The ops over batches of `n` positives; `prefix` goes before their names.
pub fn ops(c: &mut Criterion, shape: &Shape, cells: &Cells, model: &Model<f32>, n: usize, prefix: &str) {
    let f = model.features().clone();
    let (d, h) = (model.config().embedding_dim, model.config().hidden);
    let peak_side = Side {
        chrom: &f.peak_chrom,
        chromosomes: f.chromosomes,
        extra: Extra::Dna(&f.peak_dna),
        extra_width: shape.bases,
        dim: d,
    };
    let emb = model.params.get("atac_idembedding.weight").expect("a published name");
    let w = normal(h * peak_side.width(), 0.05);
    let b = normal(h, 0.05);
    let batch: Batch<f32> = cells.batch(model, n, |_| 1);
    let genes = Arc::new(NodeSet::new(&batch.rna, &f.gene_chrom, true));
    let peaks = Arc::new(NodeSet::new(&batch.atac, &f.peak_chrom, false));
    let rows = Arc::new(peaks.rows.clone());
    let (q, k) = (normal(shape.genes * h, 0.35), normal(rows.len() * h, 0.35));
    let u = normal(h, 0.05);
    let cols = Arc::new(PeakColumns::new(&peaks, &(0..n).collect::<Vec<_>>()));
    for back in [false, true] {
        let id = BenchmarkId::new(format!("{prefix}{}", if back { "forward+backward" } else { "forward" }), n);
        let times = if back { 3 } else { 1 };
        let mut group = |op: &str, flops: u64, f: &dyn Fn() -> f32| {
            let mut g = c.benchmark_group(op);
            g.throughput(Throughput::Elements(flops * times));
            g.bench_function(id.clone(), |b| b.iter(f));
            g.finish();
        };
        let table = [shape.peaks, d];
        let params = [(emb, table), (&w[..], [h, peak_side.width()]), (&b[..], [1, h])];
        group("project", 2 * (rows.len() * h * (d + shape.bases)) as u64, &|| {
            run(&params, back, |t, v| project(t, peak_side, rows.clone(), v[0], v[1], v[2]).0)
        });
        let params = [(&q[..], [shape.genes, h]), (&u[..], [1, h]), (&k[..], [rows.len(), h]), (&u[..], [1, h])];
        let spec = AttendSpec { heads: 1, top_k: 10, tau: 0.8, unknown: None };
        group("attend", (genes.nnz() * shape.cell[1] / shape.chromosomes * 2 * h) as u64, &|| {
            run(&params, back, |t, v| {
                attend(t, spec, genes.clone(), peaks.clone(), (v[0], v[1]), (v[2], v[3]), None).row_sums
            })
        });
        let spec = TranslateSpec { heads: 1, tau: 0.8, min_peaks: 9 };
        group("translate", (2 * shape.genes * cols.len() * h) as u64, &|| {
            run(&params, back, |t, v| translate(t, spec, cols.clone(), (v[0], v[1]), (v[2], v[3]), None))
        });
        let params = [(emb, table)];
        group("pool", (2 * peaks.nnz() * d) as u64, &|| {
            run(&params, back, |t, v| pool(t, peak_side, peaks.clone(), v[0], Weights::Mean))
        });
        let x = normal(n * 2 * h, 1.0);
        let w = normal(h * 2 * h, 0.05);
        let params = [(&x[..], [n, 2 * h]), (&w[..], [h, 2 * h]), (&b[..], [1, h])];
        let label = vec![1u8; n];
        group("linear, relu, cross_entropy", (4 * n * h * h) as u64, &|| {
            run(&params, back, |t, v| {
                let y = linear(t, v[0], v[1], v[2]);
                let y = relu(t, y);
                cross_entropy(t, y, &label)
            })
        });
    }
}

/// Adam over all parameters of a model.
pub fn adam(c: &mut Criterion, model: &Model<f32>, name: &str) {
    let n = model.params.layout().len();
    let mut arenas = [vec![0.1f32; n], vec![1e-3; n], vec![0.0; n], vec![0.0; n]];
    let mut group = c.benchmark_group("adam");
    group.throughput(Throughput::Bytes(32 * n as u64));
    group.bench_function(name, |bench| {
        bench.iter(|| {
            let [p, g, m, v] = &mut arenas[..] else { return };
            adam::step(p, g, m, v, &AdamConfig::default(), 1);
        });
    });
    group.finish();
}
