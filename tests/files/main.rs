//! What comes in and what is made of it: every form of input, annotation, preparation, simulation, and Python's view of it.

#[path = "../common/mod.rs"]
mod common;

mod anndata_python;
mod annotate;
mod annotate_python;
mod options;
mod prepare;
mod presets;
mod simulate;
mod simulate_neurips;
mod simulate_tissue;
mod sources;
