//! Masked sparse gene–peak attention for paired single-cell RNA + ATAC data.
#![warn(missing_docs)]

pub mod cli;
pub mod data;
pub mod discover;
pub mod error;
pub mod evaluate;
pub mod graph;
pub mod interrupt;
pub mod model;
pub mod ops;
pub mod predict;
pub mod real;
pub mod rng;
pub mod simd;
pub mod tape;
pub mod train;

pub use error::{Error, Result};
