//! Reports: a run and a discovery as one page that needs nothing else, and what the pictures are made from.

pub(crate) mod cells;
pub(crate) mod genome;
pub(crate) mod html;
pub(crate) mod known;
pub(crate) mod links;
pub(crate) mod measures;
pub(crate) mod methods;
pub(crate) mod page;
pub(crate) mod pca;
pub(crate) mod places;
pub(crate) mod settings;
pub(crate) mod summary;
pub(crate) mod tracks;
mod types;

pub use page::{Extent, Page, Shown, page};
pub use pca::{Pca, pca};
