//! A small data set with structure, for tests of training: three cell types, each with genes and peaks of its own.

use std::path::{Path, PathBuf};

use sccrossrec::csr::Csr;
use sccrossrec::data::anndata::{AnnDataWriter, Column, Frame};
use sccrossrec::dataset::DataSet;
use sccrossrec::prepare::{PrepareConfig, prepare};
use sccrossrec::rng::Rng;

pub const CELLS: usize = 60;
pub const GENES: usize = 30;
pub const PEAKS: usize = 80;

/// In what order genes, peaks and chromosomes come.
#[derive(Clone, Copy, PartialEq)]
pub enum Order {
    Plain,
    Reversed,
}

/// Writes a matrix of `n` genes or peaks.
pub fn matrix(path: &Path, what: &str, n: usize, stream: u64, order: Order) {
    matrix_with(path, what, n, stream, order, |_, _, x| x);
}

/// The same, each entry what `value` makes of cell, gene or peak, and the usual value.
pub fn matrix_with(
    path: &Path,
    what: &str,
    n: usize,
    stream: u64,
    order: Order,
    value: impl Fn(usize, usize, f32) -> f32,
) {
    let names: Vec<String> = (0..n)
        .map(|i| {
            if what == "gene" { format!("G{i}") } else { format!("chr{}-{}-{}", i % 3 + 1, 100 * i + 1, 100 * i + 60) }
        })
        .collect();
    let place = |i: usize| if order == Order::Plain { i } else { n - 1 - i };
    let mut index = vec![String::new(); n];
    let mut chrom = vec![String::new(); n];
    for i in 0..n {
        index[place(i)] = names[i].clone();
        chrom[place(i)] = format!("chr{}", i % 3 + 1);
    }
    let codes = (0..CELLS).map(|c| (c % 3) as i32).collect();
    let types = Column::Categorical { codes, categories: vec!["A".into(), "B".into(), "C".into()] };
    let obs =
        Frame { index: (0..CELLS).map(|c| format!("cell{c}")).collect(), columns: vec![("cell_type".into(), types)] };
    let var = Frame { index, columns: vec![("chrom".into(), Column::Strings(chrom))] };
    let mut writer = AnnDataWriter::create(path, &obs, &var).unwrap();
    let mut sink = writer.csr("X", n).unwrap();
    let mut rows = Csr::<f32>::new();
    for c in 0..CELLS {
        let mut rng = Rng::new(17, stream + c as u64);
        let mut row: Vec<(u32, f32)> = Vec::new();
        for i in 0..n {
            let p = if (i / 3) % 3 == c % 3 { 0.8 } else { 0.15 };
            if rng.uniform() < p || i == c % n {
                let usual = if what == "gene" { 1.0 + rng.below(4) as f32 } else { 1.0 };
                row.push((place(i) as u32, value(c, i, usual)));
            }
        }
        row.sort_by_key(|e| e.0);
        rows.push_row(row);
    }
    sink.append(&rows).unwrap();
    sink.finish().unwrap();
    writer.finish().unwrap();
}

/// Prepares the data set in `dir/NAME`.
pub fn prepared(dir: &Path, name: &str, order: Order) -> PathBuf {
    let (rna, atac) = (dir.join(format!("{name}-rna.h5ad")), dir.join(format!("{name}-atac.h5ad")));
    matrix(&rna, "gene", GENES, 1000, order);
    matrix(&atac, "peak", PEAKS, 2000, order);
    let out = dir.join(name);
    prepare(&PrepareConfig::new(rna, atac), &out, &()).unwrap();
    out
}

/// The same, opened.
pub fn data(dir: &Path) -> DataSet {
    DataSet::open(&prepared(dir, "data", Order::Plain)).unwrap()
}
