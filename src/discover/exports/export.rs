//! The formats of exports, and the checks before any is written.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::discover::maps::{LinkStat, TypeMap};
use crate::error::{Error, Result};
use crate::vocabulary::Vocabulary;

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Export {
    /// The file.
    pub file: PathBuf,
    /// Links (of a track: peaks, of the AnnData: cells) in it.
    pub written: u64,
    /// Left out, for want of a place or a number.
    pub left_out: u64,
}

/// Checks that a map is of this vocabulary.
pub(super) fn check(v: &Vocabulary, map: &TypeMap) -> Result<()> {
    let (genes, peaks) = (v.genes.len(), v.peaks.len());
    let inside = |l: &LinkStat| (l.gene as usize) < genes && (l.peak as usize) < peaks;
    match map.peaks.len() == peaks && map.genes.len() == genes && map.links.iter().all(inside) {
        true => Ok(()),
        false => Err(Error::Internal(format!("the map of {:?} is not of {genes} genes and {peaks} peaks", map.name))),
    }
}
