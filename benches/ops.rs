//! Every op at NeurIPS-2021 shape (13,431 genes, 116,490 peaks, 1,000 and 4,000 a cell, binary ATAC), forward alone and
//! forward with backward, at batch 1 and 32: `cargo bench --bench ops`. The whole step is `--bench step`.

mod common;

use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use sccrossrec::model::{Batch, Model};
use sccrossrec::ops::adam::{self, AdamConfig};
use sccrossrec::ops::attend::{AttendSpec, attend};
use sccrossrec::ops::linear::{cross_entropy, linear, relu};
use sccrossrec::ops::nodes::NodeSet;
use sccrossrec::ops::pool::{Weights, pool};
use sccrossrec::ops::project::{Extra, Side, project};
use sccrossrec::ops::translate::{Columns, TranslateSpec, translate};
use sccrossrec::tape::{Grads, Tape, Var};

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

fn main() {
    let mut c = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    let cells = common::Cells::new();
    let model: Model<f32> = common::model();
    let f = model.features.clone();
    let (d, h) = (model.config.embedding_dim, model.config.hidden);
    let peak_side = Side {
        chrom: &f.peak_chrom,
        chromosomes: f.chromosomes,
        extra: Extra::Dna(&f.peak_dna),
        extra_width: 256,
        dim: d,
    };
    let emb = model.params.get("atac_idembedding.weight").expect("a published name");
    let w = normal(h * peak_side.width(), 0.05);
    let b = normal(h, 0.05);
    for n in [1, 32] {
        let batch: Batch<f32> = cells.batch(&model, n, |_| 1);
        let genes = Arc::new(NodeSet::new(&batch.rna, &f.gene_chrom, true));
        let peaks = Arc::new(NodeSet::new(&batch.atac, &f.peak_chrom, false));
        let rows = Arc::new(peaks.rows.clone());
        let (q, k) = (normal(common::GENES * h, 0.35), normal(rows.len() * h, 0.35));
        let u = normal(h, 0.05);
        let cols = Arc::new(Columns::new(&peaks, &(0..n).collect::<Vec<_>>()));
        for back in [false, true] {
            let id = BenchmarkId::new(if back { "forward+backward" } else { "forward" }, n);
            let times = if back { 3 } else { 1 };
            let mut group = |op: &str, flops: u64, f: &dyn Fn() -> f32| {
                let mut g = c.benchmark_group(op);
                g.throughput(Throughput::Elements(flops * times));
                g.bench_function(id.clone(), |b| b.iter(f));
                g.finish();
            };
            let shape = [common::PEAKS, d];
            let params = [(emb, shape), (&w[..], [h, peak_side.width()]), (&b[..], [1, h])];
            group("project", 2 * (rows.len() * h * (d + 256)) as u64, &|| {
                run(&params, back, |t, v| project(t, peak_side, rows.clone(), v[0], v[1], v[2]).0)
            });
            let params = [(&q[..], [common::GENES, h]), (&u[..], [1, h]), (&k[..], [rows.len(), h]), (&u[..], [1, h])];
            let spec = AttendSpec { heads: 1, top_k: 10, tau: 0.8, unknown: None };
            group("attend", (genes.nnz() * 4000 / common::CHROMOSOMES * 2 * h) as u64, &|| {
                run(&params, back, |t, v| {
                    attend(t, spec, genes.clone(), peaks.clone(), (v[0], v[1]), (v[2], v[3]), None).row_sums
                })
            });
            let spec = TranslateSpec { heads: 1, tau: 0.8, min_peaks: 9 };
            group("translate", (2 * common::GENES * cols.len() * h) as u64, &|| {
                run(&params, back, |t, v| translate(t, spec, cols.clone(), (v[0], v[1]), (v[2], v[3]), None))
            });
            let params = [(emb, shape)];
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
    let n = model.params.layout().len();
    let mut arenas = [vec![0.1f32; n], vec![1e-3; n], vec![0.0; n], vec![0.0; n]];
    let mut group = c.benchmark_group("adam");
    group.throughput(Throughput::Bytes(32 * n as u64));
    group.bench_function("step", |bench| {
        bench.iter(|| {
            let [p, g, m, v] = &mut arenas[..] else { return };
            adam::step(p, g, m, v, &AdamConfig::default(), 1);
        });
    });
    group.finish();
}
