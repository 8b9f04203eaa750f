//! Packed shards against raw arrays of u32 and f32: bytes a cell, decoding, a batch of 256, opening a data set:
//! `cargo bench --bench shards`. Cells are simulated at NeurIPS-2021 shape (13,431 genes and 116,490 peaks, about 1,000
//! and 3,500 a cell, binary ATAC, log-normalised RNA), `SCCROSSREC_BENCH_CELLS` of them [default: 4096]; with
//! `SCCROSSREC_TEST_DATA`, the SNARE-seq cells there as well.

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use rayon::prelude::*;
use sccrossrec::csr::Csr;
use sccrossrec::data::anndata::{AnnDataWriter, Column, Frame};
use sccrossrec::dataset::{Cell, DataSet, Sample, SampleSet, Values};
use sccrossrec::model::Batch;
use sccrossrec::prepare::{PrepareConfig, prepare};
use sccrossrec::rng::Rng;

const GENES: usize = 13_431;
const PEAKS: usize = 116_490;
const CHROMOSOMES: usize = 23;
const A_CELL: [f64; 2] = [1000.0, 3500.0];
const BATCH: usize = 256;

/// Mean counts of genes, or peaks, such that `wanted` of them are above 0 in a cell.
fn rates(r: &mut Rng, n: usize, wanted: f64) -> Vec<f64> {
    let frequency: Vec<f64> = (0..n).map(|_| (1.2 * r.normal()).exp()).collect();
    let (mut low, mut high) = (0.0, 100.0);
    for _ in 0..40 {
        let mid = 0.5 * (low + high);
        let present: f64 = frequency.iter().map(|f| 1.0 - (-mid * f).exp()).sum();
        if present < wanted { low = mid } else { high = mid }
    }
    frequency.iter().map(|f| low * f).collect()
}

fn poisson(r: &mut Rng, mean: f64) -> u32 {
    let (limit, mut product, mut n) = ((-mean.min(700.0)).exp(), r.uniform(), 0);
    while product > limit {
        product *= r.uniform();
        n += 1;
    }
    n
}

/// The two files, cells in blocks.
fn simulate(dir: &Path, cells: usize) {
    let mut r = Rng::new(906, 0);
    let rates = [rates(&mut r, GENES, A_CELL[0]), rates(&mut r, PEAKS, A_CELL[1])];
    let obs = Frame { index: (0..cells).map(|i| format!("CELL{i}-1")).collect(), columns: vec![] };
    let chrom = |c: usize| format!("chr{}", c + 1);
    let genes = Frame {
        index: (0..GENES).map(|i| format!("GENE{i}")).collect(),
        columns: vec![("chrom".into(), Column::Strings((0..GENES).map(|_| chrom(r.below(CHROMOSOMES))).collect()))],
    };
    let peak = |i: usize| format!("{}-{}-{}", chrom(i * CHROMOSOMES / PEAKS), 1000 * i, 1000 * i + 500);
    let peaks = Frame { index: (0..PEAKS).map(peak).collect(), columns: vec![] };
    for (half, (file, var)) in [("rna.h5ad", &genes), ("atac.h5ad", &peaks)].into_iter().enumerate() {
        let mut writer = AnnDataWriter::create_with(&dir.join(file), &obs, var, None).unwrap();
        let mut x = writer.csr("X", rates[half].len()).unwrap();
        for from in (0..cells).step_by(1024) {
            let row = |i: usize| -> Vec<(u32, f32)> {
                let mut r = Rng::new(17 + half as u64, i as u64);
                let depth = (0.4 * r.normal()).exp();
                let counts = (0u32..).zip(&rates[half]).map(|(k, m)| (k, poisson(&mut r, depth * m)));
                let counts: Vec<(u32, u32)> = counts.filter(|c| c.1 > 0).collect();
                let total: u32 = counts.iter().map(|c| c.1).sum();
                let value = |n: u32| if half == 0 { (n as f32 * (1e4 / total as f32)).ln_1p() } else { 1.0 };
                counts.into_iter().map(|(k, n)| (k, value(n))).collect()
            };
            let rows: Vec<_> = (from..(from + 1024).min(cells)).into_par_iter().map(row).collect();
            let mut block = Csr::new();
            rows.into_iter().for_each(|row| block.push_row(row));
            x.append(&block).unwrap();
        }
        x.finish().unwrap();
        writer.finish().unwrap();
    }
}

/// The cells as version 1 had them: raw, one after another; no values where all are 1.
#[derive(Default)]
struct Raw {
    index: Vec<u32>,
    values: Vec<f32>,
    starts: Vec<usize>,
}

impl Raw {
    fn push(&mut self, index: &[u32], values: &Values) {
        self.starts.push(self.index.len());
        self.index.extend(index);
        if let Values::F32(v) = values {
            self.values.extend(v);
        }
    }

    fn row(&self, i: usize) -> (&[u32], Option<&[f32]>) {
        let range = self.starts[i]..self.starts.get(i + 1).copied().unwrap_or(self.index.len());
        (&self.index[range.clone()], self.values.get(range))
    }

    fn entries(&self, i: usize) -> impl Iterator<Item = (u32, f32)> {
        let (index, values) = self.row(i);
        index.iter().enumerate().map(move |(k, &x)| (x, values.map_or(1.0, |v| v[k])))
    }
}

fn median(mut x: Vec<f64>) -> f64 {
    x.sort_by(f64::total_cmp);
    x[x.len() / 2]
}

fn measure(c: &mut Criterion, name: &str, dir: &Path) {
    let data = DataSet::open(dir).unwrap();
    let n = data.n_cells();
    let mut raw = [Raw::default(), Raw::default()];
    let mut cell = Cell::default();
    for i in 0..n {
        data.cell_into(i, &mut cell);
        raw[0].push(&cell.genes, &cell.expr);
        raw[1].push(&cell.peaks, &cell.acc);
    }
    let (genes, peaks) = data.entries();
    let bytes = |r: &Raw| (4 * (r.index.len() + r.values.len()) + 8 * n) as f64 / n as f64;
    let files = std::fs::read_dir(dir.join("shards")).unwrap();
    let packed: u64 = files.map(|f| f.unwrap().metadata().unwrap().len()).sum();
    let (old, new) = (bytes(&raw[0]) + bytes(&raw[1]), packed as f64 / n as f64);
    let open = median(
        (0..9)
            .map(|_| {
                let t = Instant::now();
                drop(DataSet::open(dir).unwrap());
                t.elapsed().as_secs_f64()
            })
            .collect(),
    );
    println!(
        "{name}: {n} cells of {:.0} genes and {:.0} peaks; bytes a cell: {old:.0} raw, {new:.0} packed ({:.2}), \
         {:.2} bits an entry; opened in {:.1} ms",
        genes as f64 / n as f64,
        peaks as f64 / n as f64,
        old / new,
        8.0 * new * n as f64 / (genes + peaks) as f64,
        open * 1e3,
    );

    // Cells in random order, as training takes them.
    let mut order: Vec<u32> = (0..n as u32).collect();
    Rng::new(3, 3).shuffle(&mut order);
    let mut group = c.benchmark_group(format!("{name}/decode"));
    let some = &order[..n.min(1024)];
    let entries: usize = some.iter().map(|&i| data.cell_sizes(i as usize)).map(|(g, p)| g + p).sum();
    let raw_bytes: usize = some
        .iter()
        .map(|&i| {
            raw.iter().map(|r| r.row(i as usize)).map(|(k, v)| 4 * (k.len() + v.map_or(0, <[f32]>::len))).sum::<usize>()
        })
        .sum();
    println!("{name}: {} cells decoded at a time, {entries} entries, {raw_bytes} bytes raw", some.len());
    group.throughput(Throughput::Elements(entries as u64));
    group.bench_function("packed", |b| {
        b.iter(|| {
            for &i in some {
                data.cell_into(i as usize, &mut cell);
                black_box(&cell);
            }
        })
    });
    let (mut index, mut values) = (Vec::new(), Vec::new());
    group.bench_function("raw", |b| {
        b.iter(|| {
            for &i in some {
                for r in &raw {
                    index.clear();
                    values.clear();
                    let (k, v) = r.row(i as usize);
                    index.extend_from_slice(k);
                    values.extend_from_slice(v.unwrap_or(&[]));
                    black_box((&index, &values));
                }
            }
        })
    });
    group.finish();

    let half = |i: usize| if i.is_multiple_of(2) { order[i] } else { order[(i + 1) % n] };
    let sample = |i: usize| Sample { rna: order[i], atac: half(i), label: u8::from(i.is_multiple_of(2)) };
    let set = SampleSet { samples: (0..n).map(sample).collect(), ..SampleSet::default() };
    let numbers: Vec<u32> = (0..n.min(BATCH) as u32).collect();
    let mut group = c.benchmark_group(format!("{name}/batch of {BATCH}"));
    group.bench_function("packed", |b| b.iter(|| black_box(data.batch(&set, &numbers))));
    group.bench_function("raw", |b| {
        b.iter(|| {
            let mut batch = Batch::new();
            for &k in &numbers {
                let s = set.samples[k as usize];
                batch.push(s.label, u64::from(k), raw[0].entries(s.rna as usize), raw[1].entries(s.atac as usize));
            }
            black_box(batch)
        })
    });
    group.finish();
}

fn main() {
    let mut c = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    let dir = tempfile::tempdir().unwrap();
    let cells = std::env::var("SCCROSSREC_BENCH_CELLS").ok().and_then(|n| n.parse().ok()).unwrap_or(4096);
    simulate(dir.path(), cells);
    let sets = [
        ("NeurIPS", Some(dir.path().to_path_buf())),
        (
            "SNARE",
            std::env::var_os("SCCROSSREC_TEST_DATA")
                .filter(|d| !d.is_empty())
                .map(|d| Path::new(&d).join("snare_cortex")),
        ),
    ];
    for (name, files) in sets {
        let Some(files) = files else { continue };
        let out = dir.path().join(name);
        let mut config = PrepareConfig::new(files.join("rna.h5ad"), files.join("atac.h5ad"));
        config.samples.negative_ratio = 0.0;
        if name == "SNARE" {
            config.gtf = files.parent().map(|d| d.join("gtf/gencode.vM23.genes.gtf.gz"));
        }
        let began = Instant::now();
        prepare(&config, &out, &()).unwrap();
        println!("{name}: prepared in {:.1} s", began.elapsed().as_secs_f64());
        measure(&mut c, name, &out);
    }
}
