//! One training step (forward, backward, Adam) at NeurIPS-2021 shape, and its share of the machine's own f32 matrix
//! product: `cargo bench --bench step`. Flops are those of SPEC section 4, counted by `Model::flops`.

mod common;

use std::time::{Duration, Instant};

use criterion::Criterion;
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, Par};
use sccrossrec::model::{Batch, Dropout, Model};
use sccrossrec::ops::adam::{self, AdamConfig};

struct Trainer {
    model: Model<f32>,
    grads: Vec<f32>,
    m: Vec<f32>,
    v: Vec<f32>,
    step: u64,
}

impl Trainer {
    fn new() -> Self {
        let model = common::model(&common::NEURIPS);
        let n = model.params.layout().len();
        Trainer { model, grads: vec![0.0; n], m: vec![0.0; n], v: vec![0.0; n], step: 0 }
    }

    fn step(&mut self, batch: &Batch<f32>) -> f32 {
        self.step += 1;
        let d = Dropout { seed: 906, step: self.step };
        let out = self.model.train_step(batch, Some(d), &mut self.grads).unwrap();
        let p = self.model.params.as_mut_slice();
        adam::step(p, &mut self.grads, &mut self.m, &mut self.v, &AdamConfig::default(), self.step);
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

fn main() {
    let cells = common::Cells::new(&common::NEURIPS);
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
