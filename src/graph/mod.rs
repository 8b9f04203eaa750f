//! Interaction graphs on disk: sample sets, memory-mapped shards, the preprocessor that makes them, the batch loader.
//!
//! ```
//! use sccrossrec::data::anndata::{AnnDataWriter, Column, Frame};
//! use sccrossrec::graph::{DataSet, Hooks, PrepareConfig, prepare};
//! use sccrossrec::model::Csr;
//!
//! # let dir = std::env::temp_dir().join(format!("sccrossrec-doc-prepare-{}", std::process::id()));
//! # std::fs::create_dir_all(&dir)?;
//! # let dir = dir.as_path();
//! // Two small files: 40 cells of two types, two genes and two peaks.
//! let names = |what: &[&str]| what.iter().map(|s| s.to_string()).collect::<Vec<String>>();
//! let types = (0..40).map(|i| ["T", "B"][i % 2].to_string()).collect();
//! let obs = Frame {
//!     index: (0..40).map(|i| format!("CELL{i}-1")).collect(),
//!     columns: vec![("cell_type".into(), Column::Strings(types))],
//! };
//! let genes = Frame {
//!     index: names(&["Gad1", "Snap25"]),
//!     columns: vec![("chrom".into(), Column::Strings(names(&["chr2", "chr1"])))],
//! };
//! let peaks = Frame { index: names(&["chr1-100-200", "chr2-50-90"]), columns: vec![] };
//! for (file, var) in [("rna.h5ad", &genes), ("atac.h5ad", &peaks)] {
//!     let mut writer = AnnDataWriter::create(&dir.join(file), &obs, var)?;
//!     let mut block = Csr::new();
//!     (0..40).for_each(|i| block.push_row([(i % 2, 3.0)]));
//!     let mut x = writer.csr("X", 2)?;
//!     x.append(&block)?;
//!     x.finish()?;
//!     writer.finish()?;
//! }
//!
//! let config = PrepareConfig::new(dir.join("rna.h5ad"), dir.join("atac.h5ad"));
//! let report = prepare(&config, &dir.join("data"), Hooks::default())?;
//! assert_eq!((report.cells, report.chromosomes), (40, 2));
//!
//! let data = DataSet::open(&dir.join("data"))?;
//! assert_eq!(data.cell(0).genes, [0]);
//! assert_eq!(data.cell(0).expr.get(0), 3.0);
//! let set = data.samples("default")?;
//! let batch = data.batch(&set, &set.train);
//! assert_eq!(batch.len(), 64); // 32 cells, a negative each
//! # std::fs::remove_dir_all(dir)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[forbid(unsafe_code)]
pub mod cis;
#[forbid(unsafe_code)]
mod codec;
#[forbid(unsafe_code)]
mod dataset;
#[forbid(unsafe_code)]
pub(crate) mod files;
pub(crate) mod mmap;
#[forbid(unsafe_code)]
pub(crate) mod prepare;
#[forbid(unsafe_code)]
mod rows;
#[forbid(unsafe_code)]
pub mod samples;
#[forbid(unsafe_code)]
pub mod shard;

pub use cis::{BINS, CisGraph};
pub use dataset::{Cell, DataSet, Gene, ObsColumn, Peak, Sample, SampleSet, Split, Values, Vocabulary};
pub use mmap::Io;
pub use prepare::{GeneFeatures, Hooks, Met, Pairing, PrepareConfig, PrepareReport, prepare};
pub use samples::{Negatives, SampleConfig, SplitBy, draw_samples};

/// A row of a shard: the indices and, where they are `stored`, the values of its `n` entries out of a vocabulary of
/// `size`; or what is wrong with it. For tests that throw any bytes at it; no part of the interface.
#[doc(hidden)]
pub fn decode_row(
    bytes: &[u8],
    n: usize,
    size: usize,
    stored: bool,
) -> std::result::Result<(Vec<u32>, Vec<f32>), &'static str> {
    let order: Vec<u32> = (0..size as u32).collect();
    let (mut index, mut values) = (Vec::new(), Vec::new());
    codec::decode(bytes, n, &order, stored, &mut index, &mut values)?;
    Ok((index, values))
}
