//! Inputs and outputs: paired data of every form ([`source`]), AnnData files, gene annotation, peak sequences.

pub mod anndata;
pub mod fasta;
pub mod gtf;
pub mod presets;
pub mod region;
pub mod simulate;
pub mod source;
