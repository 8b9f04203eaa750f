//! Reports: a run and a discovery as one page that needs nothing else, and what the pictures are made from.

pub mod cells;
pub mod page;
pub mod pca;

pub use page::{Extent, Page, Shown, page};
pub use pca::{Pca, pca};
