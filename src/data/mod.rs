//! Inputs and outputs: paired data of every form ([`source`]), AnnData files, gene annotation, peak sequences.

pub mod anndata;
#[forbid(unsafe_code)]
pub mod annotate;
#[forbid(unsafe_code)]
pub mod cells;
#[forbid(unsafe_code)]
pub mod chromosomes;
#[forbid(unsafe_code)]
pub mod fasta;
#[forbid(unsafe_code)]
pub mod genome;
#[forbid(unsafe_code)]
pub mod gtf;
#[forbid(unsafe_code)]
pub mod loess;
#[forbid(unsafe_code)]
pub mod presets;
#[forbid(unsafe_code)]
pub mod region;
#[forbid(unsafe_code)]
pub mod simulate;
#[forbid(unsafe_code)]
pub mod source;
#[forbid(unsafe_code)]
pub mod variable_genes;
