//! Reports: a run and a discovery as one page that needs nothing else, and what the pictures are made from.

mod found;
mod near;
mod page;
mod pca;

pub use found::Found;
pub use near::{hint, near};
pub use page::{Extent, Page, Shown, page};
pub use pca::{Pca, pca};

use std::path::Path;

use crate::error::{Error, Result};
use crate::train::files::read_text;
use crate::train::{EpochRecord, Run};

/// The epochs of a run, from its `log.jsonl`; none where it has no log (imported weights) or no epoch is finished.
///
/// # Errors
/// A line that is no record.
pub fn log(run: &Run) -> Result<Vec<EpochRecord>> {
    let path = run.dir().join("log.jsonl");
    if !path.exists() {
        return Ok(Vec::new());
    }
    read_log(&path)
}

fn read_log(path: &Path) -> Result<Vec<EpochRecord>> {
    let text = read_text(path)?;
    let lines = text.lines().enumerate().filter(|l| !l.1.trim().is_empty());
    lines
        .map(|(i, line)| {
            serde_json::from_str(line).map_err(|e| {
                Error::input(path, format!("line {} is no epoch of a run ({e})", i + 1), "restore the file")
            })
        })
        .collect()
}
