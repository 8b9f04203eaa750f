//! Interaction graphs on disk: sample sets, memory-mapped shards, the preprocessor that makes them, the batch loader.

mod dataset;
mod files;
mod mmap;
mod prepare;
mod rows;
pub mod samples;
pub mod shard;

pub use dataset::{CellView, DataSet, Gene, Peak, Sample, SampleSet, Split, Values, Vocabulary};
pub use prepare::{GeneFeatures, Hooks, Pairing, PrepareConfig, PrepareReport, prepare};
pub use samples::{Negatives, SampleConfig, SplitBy, draw_samples};
