//! Interaction graphs on disk: sample sets, memory-mapped shards, the preprocessor that makes them, the batch loader.

mod dataset;

pub use dataset::{CellView, DataSet, Gene, Peak, Sample, SampleSet, Split, Values, Vocabulary};
