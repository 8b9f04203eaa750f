//! Read-only memory maps: the one place of the data path with `unsafe` code.
#![allow(unsafe_code)]

use std::fs::File;
use std::path::Path;

use memmap2::Mmap;

use crate::error::{Error, Result};

/// A whole file, mapped read-only.
#[derive(Debug)]
pub(crate) struct Map(Mmap);

impl Map {
    /// Maps a file. Contract: nobody shortens or rewrites the file while the map lives. The program writes shards
    /// under a temporary name and renames them, so that a finished shard never changes.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::io(path, "read", e))?;
        // SAFETY: the map is read-only, and files of a data set are immutable once renamed into place (see above).
        let map = unsafe { Mmap::map(&file) }.map_err(|e| Error::io(path, "map", e))?;
        Ok(Map(map))
    }

    /// The bytes of the file; the first is aligned to a page.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}
