//! Inputs and outputs: paired data of every form ([`source`]), AnnData files, gene annotation, peak sequences.

pub mod anndata;
#[forbid(unsafe_code)]
pub(crate) mod barcodes;
#[forbid(unsafe_code)]
pub mod cells;
#[forbid(unsafe_code)]
pub mod chromosomes;
#[forbid(unsafe_code)]
pub(crate) mod coordinates;
#[forbid(unsafe_code)]
pub mod exons;
#[forbid(unsafe_code)]
pub mod fasta;
#[forbid(unsafe_code)]
pub mod fragments;
#[forbid(unsafe_code)]
pub mod genome;
#[forbid(unsafe_code)]
pub mod gtf;
#[forbid(unsafe_code)]
pub mod region;
#[forbid(unsafe_code)]
pub(crate) mod sniff;
#[forbid(unsafe_code)]
pub mod source;
#[forbid(unsafe_code)]
pub(crate) mod species;
#[forbid(unsafe_code)]
pub(crate) mod table;
