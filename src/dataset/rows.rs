//! Rows of a matrix on disk, in order, to be fetched by number: between reading a matrix and writing shards.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::csr::Csr;
use crate::data::anndata::MatrixKind;
use crate::error::{Error, Result};

/// Being written.
pub(crate) struct RowWriter {
    path: PathBuf,
    out: BufWriter<File>,
    starts: Vec<u64>,
    largest: f32,
    ones: bool,
    whole: bool,
}

/// Written; rows can be fetched from any thread.
pub(crate) struct Rows {
    path: PathBuf,
    file: File,
    /// Entries before each row, and all of them at the end.
    starts: Vec<u64>,
    largest: f32,
    kind: MatrixKind,
}

impl RowWriter {
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let file = File::options().create_new(true).read(true).write(true).open(path);
        let file = file.map_err(|e| Error::io(path, "create", e))?;
        Ok(RowWriter {
            path: path.to_path_buf(),
            out: BufWriter::with_capacity(1 << 20, file),
            starts: vec![0],
            largest: 0.0,
            ones: true,
            whole: true,
        })
    }

    /// Appends rows whose entries are clean: finite, above 0, columns ascending.
    pub(crate) fn append(&mut self, block: &Csr<f32>) -> Result<()> {
        let before = self.starts.last().copied().unwrap_or(0);
        for i in 0..block.rows() {
            let (index, values) = block.row(i);
            self.out
                .write_all(bytemuck::cast_slice(index))
                .and_then(|()| self.out.write_all(bytemuck::cast_slice(values)))
                .map_err(|e| Error::io(&self.path, "write", e))?;
        }
        self.starts.extend(block.indptr.iter().skip(1).map(|&p| before + p as u64));
        for &v in &block.values {
            self.largest = self.largest.max(v);
            self.ones &= v == 1.0;
            self.whole &= v.fract() == 0.0;
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> Result<Rows> {
        let file = self.out.into_inner().map_err(|e| Error::io(&self.path, "write", e.into_error()))?;
        let kind = match (self.ones, self.whole) {
            (true, _) => MatrixKind::Binary,
            (false, true) => MatrixKind::Counts,
            (false, false) => MatrixKind::Normalised,
        };
        Ok(Rows { path: self.path, file, starts: self.starts, largest: self.largest, kind })
    }
}

impl Rows {
    /// Entries of all rows.
    pub(crate) fn entries(&self) -> u64 {
        self.starts.last().copied().unwrap_or(0)
    }

    /// Entries of row `i`.
    pub(crate) fn len(&self, i: usize) -> usize {
        (self.starts[i + 1] - self.starts[i]) as usize
    }

    pub(crate) fn largest(&self) -> f32 {
        self.largest
    }

    pub(crate) fn kind(&self) -> MatrixKind {
        self.kind
    }

    /// Row `i`: columns ascending, and their values.
    pub(crate) fn row(&self, i: usize) -> Result<(Vec<u32>, Vec<f32>)> {
        let n = self.len(i);
        let (mut index, mut values) = (vec![0u32; n], vec![0f32; n]);
        let at = self.starts[i] * 8;
        self.file
            .read_exact_at(bytemuck::cast_slice_mut(&mut index), at)
            .and_then(|()| self.file.read_exact_at(bytemuck::cast_slice_mut(&mut values), at + n as u64 * 4))
            .map_err(|e| Error::io(&self.path, "read", e))?;
        Ok((index, values))
    }
}
