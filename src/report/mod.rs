//! Reports: a run and a discovery as one page that needs nothing else, and what the pictures are made from.

pub(crate) mod cells;
pub(crate) mod page;
pub(crate) mod pca;

pub use page::{Extent, Page, Shown, page};
pub use pca::{Pca, pca};
