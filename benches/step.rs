//! One training step (forward, backward, Adam) at NeurIPS-2021 shape, and its share of the machine's own f32 matrix
//! product: `cargo bench --bench step`; with `-- rows`, Adam by rows beside dense Adam. Flops are
//! those of docs/model.md, section 7.7, counted by `Model::flops`.

mod common;

use std::time::{Duration, Instant};

use criterion::Criterion;
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, Par};
use sccrossrec::engine::PassOptions;
use sccrossrec::model::{Batch, Dropout, Model, sample_genes};
use sccrossrec::ops::adam;
use sccrossrec::ops::adam::{AdamConfig, Others, RowAdam, Stepped};

struct Trainer {
    model: Model<f32>,
    grads: Vec<f32>,
    m: Vec<f32>,
    v: Vec<f32>,
    step: u64,
    rows: Option<RowAdam<f32>>,
}

impl Trainer {
    fn new() -> Self {
        let model = common::model(&common::NEURIPS);
        let n = model.params.layout().len();
        Trainer { model, grads: vec![0.0; n], m: vec![0.0; n], v: vec![0.0; n], step: 0, rows: None }
    }

    /// One whose optimiser goes by rows.
    fn by_rows(others: Others) -> Self {
        let mut t = Trainer::new();
        let c = &t.model.config();
        t.rows = Some(RowAdam::new(c.genes + c.peaks, c.embedding_dim, others));
        t
    }

    fn step(&mut self, batch: &Batch<f32>) -> f32 {
        self.step_of(batch, None)
    }

    /// A step whose translation is of some genes.
    fn step_of(&mut self, batch: &Batch<f32>, genes: Option<&[u32]>) -> f32 {
        self.step += 1;
        let dropout = Some(Dropout { seed: 906, step: self.step });
        let Trainer { model, grads, m, v, step, rows } = self;
        let named = rows.as_mut().map(|rows| {
            let named = model.table_rows(batch, genes);
            rows.catch_up(model.params.as_mut_slice(), m, v, &named);
            named
        });
        let run = PassOptions { dropout, grads: Some(&mut grads[..]), genes, ..PassOptions::default() };
        let out = model.run(batch, run).unwrap();
        let (p, c) = (model.params.as_mut_slice(), AdamConfig::default());
        match (rows, named) {
            (Some(rows), Some(named)) => rows.step(Stepped { p, g: grads, m, v }, &c, *step, &named),
            _ => adam::step(p, grads, m, v, &c, *step),
        }
        out.loss
    }
}

/// GFLOP/s of the library's f32 product at 4096 × 4096 × 512 with all threads: the machine's own rate.
fn machine(a: &Mat<f32>, b: &Mat<f32>, c: &mut Mat<f32>) -> f64 {
    let start = Instant::now();
    matmul(&mut *c, Accum::Replace, a, b, 1.0, Par::rayon(0));
    2.0 * (a.nrows() * a.ncols() * b.ncols()) as f64 / start.elapsed().as_secs_f64() / 1e9
}

fn median(mut x: Vec<f64>) -> f64 {
    x.sort_by(f64::total_cmp);
    x[x.len() / 2]
}

/// Interleaved: product, step, product, step, …
fn share(name: &str, trainer: &mut Trainer, batch: &Batch<f32>, rounds: usize) {
    let (a, b) = (
        Mat::from_fn(4096, 512, |i, j| (i * 7 + j) as f32 % 13.0),
        Mat::from_fn(512, 4096, |i, j| (i + j) as f32 % 7.0),
    );
    let mut c = Mat::zeros(4096, 4096);
    machine(&a, &b, &mut c);
    let (mut product, mut step, mut seconds) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        product.push(median((0..5).map(|_| machine(&a, &b, &mut c)).collect()));
        let flops = trainer.model.flops(batch).unwrap().total();
        let start = Instant::now();
        trainer.step(batch);
        let t = start.elapsed().as_secs_f64();
        seconds.push(t);
        step.push(flops / t / 1e9);
    }
    let (p, s) = (median(product), median(step));
    println!(
        "{name}: step {:.3} s, {s:.1} GFLOP/s; machine's f32 product {p:.1} GFLOP/s; share {:.0} % ({} rounds)",
        median(seconds),
        100.0 * s / p,
        rounds
    );
}

/// Batches of one cell, another one each step, interleaved over the ways to go by rows: mean seconds a step, as rows that
/// are behind make up in bursts.
fn rows(cells: &common::Cells) {
    let mut ways = [
        ("dense", Trainer::new()),
        ("rows later", Trainer::by_rows(Others::Later)),
        ("lazy", Trainer::by_rows(Others::Left)),
    ];
    let genes = common::NEURIPS.genes;
    for (name, label, share, steps) in
        [("negative", 0, 1.0, 192), ("positive, a tenth of the genes", 1, 0.1, 128), ("positive", 1, 1.0, 64)]
    {
        let batches: Vec<_> = (0..32)
            .map(|i| {
                let (genes, peaks) = cells.cell(&ways[0].1.model, i);
                let mut batch = Batch::new();
                batch.push(label, i, genes, peaks);
                batch
            })
            .collect();
        let mut seconds = [(); 3].map(|()| Vec::new());
        for i in 0..steps {
            let some = (share < 1.0).then(|| sample_genes(genes, (share * genes as f64) as usize, 906, i as u64));
            for ((_, trainer), seconds) in ways.iter_mut().zip(&mut seconds) {
                let start = Instant::now();
                trainer.step_of(&batches[i % batches.len()], some.as_deref());
                seconds.push(start.elapsed().as_secs_f64());
            }
        }
        for ((way, _), seconds) in ways.iter().zip(seconds) {
            let mean = seconds.iter().sum::<f64>() / steps as f64;
            println!("batch 1, {name}, {way}: mean {mean:.4} s, median {:.4} s ({steps} steps)", median(seconds));
        }
    }
}

fn main() {
    let cells = common::Cells::new(&common::NEURIPS);
    if std::env::args().nth(1).is_some_and(|a| a == "rows") {
        return rows(&cells);
    }
    let mut trainer = Trainer::new();
    let one = cells.batch(&trainer.model, 1, |_| 1);
    let negative = cells.batch(&trainer.model, 1, |_| 0);
    let large = cells.batch(&trainer.model, 256, |i| (i % 2 == 0).into());
    // `share [NAME]`: only the shares, or one of them.
    let words: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let only = words.get(1).cloned().unwrap_or_default();
    if words.first().is_none_or(|w| w != "share") {
        let mut c = Criterion::default().configure_from_args();
        let mut group = c.benchmark_group("step");
        group.sample_size(10).measurement_time(Duration::from_secs(5));
        group.bench_function("batch 1, positive", |b| b.iter(|| trainer.step(&one)));
        group.bench_function("batch 1, negative", |b| b.iter(|| trainer.step(&negative)));
        group.bench_function("batch 256", |b| b.iter(|| trainer.step(&large)));
        group.finish();
    }
    if !std::env::args().any(|a| a == "--test") {
        let shares = [("batch 1, positive", &one, 7), ("batch 1, negative", &negative, 7), ("batch 256", &large, 3)];
        for (name, batch, rounds) in shares.into_iter().filter(|s| s.0.contains(&only)) {
            share(name, &mut trainer, batch, rounds);
        }
    }
}
