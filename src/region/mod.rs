//! A region of the genome as a picture shows it: coverage by cell type, peaks, genes, links, expression. Small and
//! serialisable, so that a page can hold one for each gene.

pub(crate) mod cut;
pub(crate) mod dots;
pub(crate) mod fragments;
pub(crate) mod parts;
pub(crate) mod place;
pub(crate) mod profiles;

pub use cut::Regions;
pub use dots::{Dots, dots};
pub use parts::{Focus, Known, Links, Region, RegionLink, RegionOptions, Row};
pub use profiles::{Detection, OfCells, Profiles};
