//! One-dimensional data sets that grow chunk by chunk; chunks are compressed on all cores and stored as they are, past
//! HDF5's own filters, which run on one.
#![allow(unsafe_code)]

use std::io::Write;

use bytemuck::NoUninit;
use flate2::Compression;
use flate2::write::ZlibEncoder;
use hdf5::{Dataset, H5Type};
use hdf5_sys::h5d::H5Dwrite_chunk;
use hdf5_sys::h5p::H5P_DEFAULT;
use rayon::prelude::*;

/// Elements of a chunk.
pub(super) const CHUNK: usize = 1 << 16;
/// Chunks that are gathered before they are compressed.
const TOGETHER: usize = 8;

/// A data set being written, and what of it waits.
#[derive(Debug)]
pub(super) struct Growing<T> {
    set: Dataset,
    gzip: Option<u8>,
    waiting: Vec<T>,
    stored: usize,
}

impl<T: H5Type + NoUninit + Default + Sync> Growing<T> {
    /// Of an empty, extendable data set of `T` in chunks of [`CHUNK`], with the filter `gzip` at that level and no other.
    pub(super) fn new(set: Dataset, gzip: Option<u8>) -> Self {
        Growing { set, gzip, waiting: Vec::new(), stored: 0 }
    }

    /// Elements so far.
    pub(super) fn len(&self) -> usize {
        self.stored + self.waiting.len()
    }

    /// Appends.
    pub(super) fn append(&mut self, values: impl IntoIterator<Item = T>) -> hdf5::Result<()> {
        self.waiting.extend(values);
        if self.waiting.len() >= TOGETHER * CHUNK {
            let whole = self.waiting.len() / CHUNK * CHUNK;
            self.store(whole)?;
        }
        Ok(())
    }

    /// Writes what waits.
    pub(super) fn finish(mut self) -> hdf5::Result<()> {
        self.store(self.waiting.len())
    }

    /// Stores the first `n` that wait; all but the last chunk of the data set must be whole.
    fn store(&mut self, n: usize) -> hdf5::Result<()> {
        let level = self.gzip.map(|level| Compression::new(u32::from(level)));
        let pack = |values: &[T]| -> std::io::Result<Vec<u8>> {
            let mut whole = values.to_vec();
            whole.resize(CHUNK, T::default());
            let bytes = bytemuck::cast_slice(&whole);
            let Some(level) = level else { return Ok(bytes.to_vec()) };
            let mut encoder = ZlibEncoder::new(Vec::new(), level);
            encoder.write_all(bytes)?;
            encoder.finish()
        };
        let chunks: Vec<Vec<u8>> = self.waiting[..n]
            .par_chunks(CHUNK)
            .map(pack)
            .collect::<std::io::Result<_>>()
            .map_err(|e| hdf5::Error::Internal(format!("compression: {e}")))?;
        self.set.resize(self.stored + n)?;
        for (i, chunk) in chunks.iter().enumerate() {
            let (id, at) = (self.set.id(), (self.stored + i * CHUNK) as u64);
            hdf5::sync::sync(|| {
                // SAFETY: the data set has one dimension, so one offset; it is the first element of a chunk within its
                // size. HDF5 reads `chunk.len()` bytes, which are what its filters would have made of a whole chunk.
                let written = unsafe { H5Dwrite_chunk(id, H5P_DEFAULT, 0, &at, chunk.len(), chunk.as_ptr().cast()) };
                if written < 0 { Err(hdf5::Error::query().unwrap_or_else(|e| e)) } else { Ok(()) }
            })?;
        }
        self.waiting.drain(..n);
        self.stored += n;
        Ok(())
    }
}
