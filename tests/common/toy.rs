//! A small pair of AnnData files whose every number is known.

use std::path::{Path, PathBuf};

use hdf5::types::VarLenUnicode;
use sccrossrec::csr::Csr;
use sccrossrec::data::anndata::{AnnDataWriter, Column, Frame};
use sccrossrec::rng::Rng;

/// How a matrix is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    Csr,
    Csc,
    Dense,
    /// Attributes of anndata before 0.7, 64-bit indices.
    OldCsr,
    /// Columns out of order, explicit zeros, values split into duplicates.
    UntidyCsr,
}

/// The pair, dense.
#[derive(Debug, Clone)]
pub struct Toy {
    pub barcodes: Vec<String>,
    pub types: Vec<String>,
    pub genes: Vec<String>,
    pub gene_chrom: Vec<String>,
    pub peaks: Vec<String>,
    /// `[cells][genes]`.
    pub rna: Vec<Vec<f32>>,
    /// `[cells][peaks]`.
    pub atac: Vec<Vec<f32>>,
    /// More columns of the RNA `var`.
    pub gene_columns: Vec<(String, Column)>,
}

impl Toy {
    /// 60 cells of three types, 25 genes and 40 peaks on three chromosomes in mixed order; counts.
    pub fn new() -> Self {
        let mut rng = Rng::new(7, 1);
        let (n, g, p) = (60, 25, 40);
        let mut matrix =
            |cols: usize, largest: usize| -> Vec<Vec<f32>> {
                (0..n)
                    .map(|c| {
                        (0..cols)
                            .map(|k| {
                                if k == c % cols || rng.uniform() < 0.3 { 1.0 + rng.below(largest) as f32 } else { 0.0 }
                            })
                            .collect()
                    })
                    .collect()
            };
        let (rna, atac) = (matrix(g, 5), matrix(p, 2));
        Toy {
            barcodes: (0..n).map(|i| format!("CELL{i:03}-1")).collect(),
            types: (0..n).map(|i| ["T", "B", "NK"][i % 3].to_string()).collect(),
            genes: (0..g).map(|i| format!("gene{i}")).collect(),
            gene_chrom: (0..g).map(|i| ["chr2", "chr1", "chrX"][i % 3].to_string()).collect(),
            peaks: (0..p)
                .map(|i| format!("{}-{}-{}", ["chr1", "chr2", "chr9"][i % 3], 100 * i, 100 * i + 50))
                .collect(),
            rna,
            atac,
            gene_columns: Vec::new(),
        }
    }

    /// Writes `rna.h5ad` and `atac.h5ad`.
    pub fn write(&self, dir: &Path) -> (PathBuf, PathBuf) {
        self.write_as(dir, Store::Csr)
    }

    pub fn write_as(&self, dir: &Path, store: Store) -> (PathBuf, PathBuf) {
        let (rna, atac) = (dir.join("rna.h5ad"), dir.join("atac.h5ad"));
        let obs = Frame {
            index: self.barcodes.clone(),
            columns: vec![("cell_type".into(), Column::Strings(self.types.clone()))],
        };
        let mut columns = vec![("chrom".to_string(), Column::Strings(self.gene_chrom.clone()))];
        columns.extend(self.gene_columns.clone());
        write(&rna, &obs, &Frame { index: self.genes.clone(), columns }, &self.rna, store);
        let obs = Frame { index: self.barcodes.clone(), columns: vec![] };
        write(&atac, &obs, &Frame { index: self.peaks.clone(), columns: vec![] }, &self.atac, store);
        (rna, atac)
    }
}

pub fn csr(dense: &[Vec<f32>]) -> Csr<f32> {
    let mut out = Csr::new();
    for row in dense {
        out.push_row(row.iter().enumerate().filter(|(_, v)| **v != 0.0).map(|(i, v)| (i as u32, *v)));
    }
    out
}

/// One file.
pub fn write(path: &Path, obs: &Frame, var: &Frame, dense: &[Vec<f32>], store: Store) {
    let cols = var.index.len();
    let mut w = AnnDataWriter::create(path, obs, var).unwrap();
    if store == Store::Csr {
        let mut x = w.csr("X", cols).unwrap();
        for half in dense.chunks(dense.len().div_ceil(2).max(1)) {
            x.append(&csr(half)).unwrap();
        }
        x.finish().unwrap();
    }
    if store == Store::Dense {
        w.dense_f32("X", dense.len(), cols, &dense.concat()).unwrap();
    }
    w.finish().unwrap();
    if matches!(store, Store::Csr | Store::Dense) {
        return;
    }
    let file = append(path);
    let x = file.create_group("X").unwrap();
    let shape = [dense.len() as i64, cols as i64];
    let by_column: Vec<Vec<f32>> = (0..cols).map(|c| dense.iter().map(|r| r[c]).collect()).collect();
    let major = csr(if store == Store::Csc { &by_column } else { dense });
    let indptr: Vec<i64> = major.indptr.iter().map(|&p| p as i64).collect();
    let text = |s: &str| s.parse::<VarLenUnicode>().unwrap();
    match store {
        Store::Csc => {
            x.new_attr::<VarLenUnicode>().create("encoding-type").unwrap().write_scalar(&text("csc_matrix")).unwrap();
            x.new_attr::<i64>().shape(2).create("shape").unwrap().write_raw(&shape).unwrap();
            let indices: Vec<i32> = major.indices.iter().map(|&i| i as i32).collect();
            let data: Vec<f64> = major.values.iter().map(|&v| f64::from(v)).collect();
            let n = data.len();
            let set = x.new_dataset::<f64>().chunk(n.min(64)).lzf().shape(n).create("data").unwrap();
            set.write_raw(&data).unwrap();
            x.new_dataset::<i32>().shape(n).create("indices").unwrap().write_raw(&indices).unwrap();
        }
        Store::OldCsr => {
            x.new_attr::<VarLenUnicode>().create("h5sparse_format").unwrap().write_scalar(&text("csr")).unwrap();
            x.new_attr::<i64>().shape(2).create("h5sparse_shape").unwrap().write_raw(&shape).unwrap();
            let indices: Vec<i64> = major.indices.iter().map(|&i| i64::from(i)).collect();
            let data: Vec<u16> = major.values.iter().map(|&v| v as u16).collect();
            x.new_dataset::<u16>().shape(data.len()).create("data").unwrap().write_raw(&data).unwrap();
            x.new_dataset::<i64>().shape(data.len()).create("indices").unwrap().write_raw(&indices).unwrap();
        }
        _ => {
            x.new_attr::<VarLenUnicode>().create("encoding-type").unwrap().write_scalar(&text("csr_matrix")).unwrap();
            x.new_attr::<i64>().shape(2).create("shape").unwrap().write_raw(&shape).unwrap();
            let (mut indices, mut data, mut pointers) = (Vec::new(), Vec::new(), vec![0i64]);
            for row in dense {
                for (c, &v) in row.iter().enumerate().rev() {
                    indices.push(c as i32);
                    data.push(if v > 1.0 { v - 1.0 } else { v });
                }
                for (c, &v) in row.iter().enumerate().filter(|(_, v)| **v > 1.0) {
                    indices.push(c as i32);
                    data.push(v - (v - 1.0));
                }
                pointers.push(data.len() as i64);
            }
            x.new_dataset::<f32>().shape(data.len()).create("data").unwrap().write_raw(&data).unwrap();
            x.new_dataset::<i32>().shape(data.len()).create("indices").unwrap().write_raw(&indices).unwrap();
            x.new_dataset::<i64>().shape(pointers.len()).create("indptr").unwrap().write_raw(&pointers).unwrap();
            return;
        }
    }
    x.new_dataset::<i64>().shape(indptr.len()).create("indptr").unwrap().write_raw(&indptr).unwrap();
}

/// Replaces the data set at `X` by one of another type, dense.
pub fn replace_dense<T: hdf5::H5Type>(path: &Path, rows: usize, cols: usize, values: &[T]) {
    let file = append(path);
    file.unlink("X").unwrap();
    file.new_dataset::<T>().shape((rows, cols)).create("X").unwrap().write_raw(values).unwrap();
}

/// Opens a file to write, without a lock: a child process that another thread starts meanwhile would keep it.
pub fn append(path: &Path) -> hdf5::File {
    hdf5::File::with_options().with_fapl(|p| p.file_locking(false)).open_as(path, hdf5::OpenMode::Append).unwrap()
}
