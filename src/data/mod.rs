//! Inputs and outputs: paired data of every form ([`source`]), AnnData files, gene annotation, peak sequences.

pub mod anndata;
pub mod annotate;
pub mod cells;
pub mod chromosomes;
pub mod fasta;
pub mod genome;
pub mod gtf;
pub mod loess;
pub mod presets;
pub mod region;
pub mod simulate;
pub mod source;
pub mod variable_genes;
