//! A simulated multiome data set with planted gene–peak regulation, for the demo and for tests of link recovery.
//!
//! What is planted:
//! * *Cell types* of geometric sizes. Each raises its own marker genes, and each peak may have a programme of its own
//!   that opens it in some types.
//! * *Links.* A share of the genes have one to three linked peaks on their own chromosome: most within 100 kb of the
//!   TSS (log-uniform), a minority out to 500 kb. Whether a peak is open in a cell is drawn cell by cell (its chance
//!   depends on the cell type); an open linked peak multiplies the expression of its gene. Links are therefore visible
//!   between cells of one type, not only between types; unlinked peaks with programmes of their own are the confounders.
//! * *Depth.* Log-normal per cell and modality, correlated between the two as in real data. Expression counts are
//!   gamma–Poisson; peak openness is skewed between peaks, and few of the open peaks are caught, so that ATAC is sparse
//!   and near binary.
//!
//! Gene density (one in 150 kb) and peak density (one in 30 kb) are those of the human genome, so that distance is as
//! good a predictor here as the distances planted make it, no better.
//!
//! * *Sequences.* A motif for each cell type, planted into the first 256 bases of most peaks that the type opens, and into
//!   few of the others.
//! * *Batches*, where there are several: each has a depth of its own and shifts every gene a little.
//! * *Modules*, where there are any: states of a cell (cell cycle, stress, activation) that open half of the peaks and raise
//!   two fifths of the genes, each in one module. They go on within cell types, and correlate peaks and genes that have
//!   nothing to do with each other.
//!
//! * *Tissue* ([`Tissue`], where it is asked for) plans genes, peaks and links of its own kind. Types are of lineages.
//!   Regulators, of lineages, of types or going on within types, open peaks all over the genome and raise genes that no
//!   peak of theirs acts on: what they have in common is between types for the most part. Most genes have a peak at the
//!   TSS, open widely and coupled to the gene's level between types; it is not a link. Links get rarer with distance
//!   (log-normal, median 30 kb, up to 500 kb); most are at peaks that some types open, and raise their gene in those types
//!   only. Peaks near a gene follow its main regulator, linked or not, so that what is near a link looks like it.
//!
//! [`Difficulty`] names four settings of links and confounders. [`SimulateConfig::neurips2021`] has the shape, sparsity
//! and skew of NeurIPS-2021 Multiome, on chromosomes as long as those of the human genome.
//!
//! Everything is a function of the configuration: cells are drawn from random streams of their own, in parallel.

pub(crate) mod cells;
pub(crate) mod config;
pub(crate) mod files;
pub(crate) mod genome;
pub(crate) mod plan;
pub(crate) mod sequences;
pub(crate) mod settings;
pub(crate) mod simulation;
mod streams;
pub(crate) mod tissue;

pub use cells::SimulatedCell;
pub use config::{Difficulty, SimulateConfig};
pub use files::{Names, Simulated};
pub use genome::GenomeShape;
pub use plan::{PlantedLink, SimulatedGene, SimulatedPeak};
pub use sequences::MotifSite;
pub use settings::Tissue;
pub use simulation::Simulation;
