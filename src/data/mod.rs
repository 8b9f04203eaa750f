//! Inputs and outputs: AnnData files, gene annotation, peak sequences.

pub mod anndata;
pub mod simulate;
