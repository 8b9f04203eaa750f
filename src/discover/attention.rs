//! `attention.h5`: the sparse attention of every cell in one file, written as a stream. See docs/model.md, section 8.4.
//!
//! HDF5, all datasets one-dimensional and chunked; `N` rows (cells, in the order of the data set), `nnz` pairs:
//!
//! | name | type | length | meaning |
//! | --- | --- | --- | --- |
//! | `indptr` | u64 | N + 1 | the pairs of row i are `indptr[i]..indptr[i + 1]` |
//! | `gene`, `peak` | u32 | nnz | index into `genes`, `peaks`; sorted by (gene, peak) within a row |
//! | `weight` | f32 | nnz | A_ij, averaged over heads (0 in a head where the pair does not pass) |
//! | `score` | f32 | nnz | s_ij, averaged over the heads where the pair passes |
//! | `cell` | u32 | N | number of the cell in the data set |
//! | `cells` | string | N | barcodes |
//! | `cell_type` | i32 | N | index into `cell_types`, or -1 |
//! | `cell_types`, `genes`, `peaks` | string | | names, in the order of the data set |
//!
//! Attributes of the root: `format` = "sccrossrec-attention", `version`. In Python:
//!
//! ```python
//! import h5py, scipy.sparse as sp
//! f = h5py.File("attention.h5")
//! a, b = f["indptr"][7:9]                      # row 7
//! shape = len(f["genes"]), len(f["peaks"])
//! m = sp.coo_matrix((f["weight"][a:b], (f["gene"][a:b], f["peak"][a:b])), shape)
//! ```
//!
//! Version history: 1, the first.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use hdf5::types::VarLenUnicode;
use hdf5::{Dataset, File, H5Type};

use crate::data::anndata::H5Context;
use crate::error::{Error, Result};
use crate::files::atomic::Temporary;
use crate::vocabulary::Vocabulary;

/// The version written.
pub const VERSION: u32 = 1;
/// Elements of a chunk.
const CHUNK: usize = 1 << 16;

/// A pair of one cell: what the file stores of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair {
    /// Data set index of the gene.
    pub gene: u32,
    /// Data set index of the peak.
    pub peak: u32,
    /// A_ij, averaged over heads.
    pub weight: f32,
    /// s_ij, averaged over the heads where the pair passes.
    pub score: f32,
}

/// Writes `attention.h5`, row by row. Nothing is at the target path before [`AttentionWriter::finish`]; a writer that
/// is dropped unfinished removes its temporary file.
#[derive(Debug)]
pub struct AttentionWriter {
    target: PathBuf,
    /// Before the temporary file: what is open is closed first.
    sets: [Dataset; 4],
    file: Option<File>,
    temporary: Temporary,
    gene: Vec<u32>,
    peak: Vec<u32>,
    weight: Vec<f32>,
    score: Vec<f32>,
    written: usize,
    indptr: Vec<u64>,
    cell: Vec<u32>,
}

fn text(path: &Path, s: &str) -> Result<VarLenUnicode> {
    VarLenUnicode::from_str(s)
        .map_err(|e| Error::input(path, format!("the name {s:?} cannot be stored ({e})"), "rename it in the input"))
}

impl AttentionWriter {
    /// Starts the file; it replaces what is at `path` when finished.
    ///
    /// # Errors
    /// A path that names no file; a file that cannot be made.
    pub fn create(path: &Path) -> Result<Self> {
        if path.file_name().is_none() {
            return Err(Error::input(path, "is not the name of a file", "give one"));
        }
        let temporary = Temporary::new(path)?;
        let made: hdf5::Result<_> = (|| {
            let file = File::with_options()
                .with_fapl(|p| p.file_locking(false))
                .with_fcpl(|p| p.obj_track_times(false)) // the same bytes whenever it is written
                .create(temporary.path())?;
            fn growing<T: H5Type>(file: &File, name: &str) -> hdf5::Result<Dataset> {
                file.new_dataset::<T>().chunk(CHUNK).shuffle().deflate(1).shape(0..).create(name)
            }
            let sets = [
                growing::<u32>(&file, "gene")?,
                growing::<u32>(&file, "peak")?,
                growing::<f32>(&file, "weight")?,
                growing::<f32>(&file, "score")?,
            ];
            file.new_attr::<u32>().create("version")?.write_scalar(&VERSION)?;
            Ok((file, sets))
        })();
        let (file, sets) = made.at(path, || "create the file".into())?;
        let writer = AttentionWriter {
            target: path.to_path_buf(),
            sets,
            file: Some(file),
            temporary,
            gene: Vec::new(),
            peak: Vec::new(),
            weight: Vec::new(),
            score: Vec::new(),
            written: 0,
            indptr: vec![0],
            cell: Vec::new(),
        };
        let format = text(path, "sccrossrec-attention")?;
        let attr = writer.file()?.new_attr::<VarLenUnicode>().create("format");
        attr.and_then(|a| a.write_scalar(&format)).at(path, || "write attribute `format`".into())?;
        Ok(writer)
    }

    fn file(&self) -> Result<&File> {
        self.file.as_ref().ok_or_else(|| Error::Internal("attention writer used after it was finished".into()))
    }

    /// Appends the pairs of one cell, sorted by (gene, peak); `cell` is its number in the data set.
    ///
    /// # Errors
    /// Pairs that cannot be written.
    pub fn push(&mut self, cell: u32, pairs: &[Pair]) -> Result<()> {
        self.gene.extend(pairs.iter().map(|p| p.gene));
        self.peak.extend(pairs.iter().map(|p| p.peak));
        self.weight.extend(pairs.iter().map(|p| p.weight));
        self.score.extend(pairs.iter().map(|p| p.score));
        self.cell.push(cell);
        self.indptr.push((self.written + self.gene.len()) as u64);
        if self.gene.len() >= CHUNK {
            self.flush()?;
        }
        Ok(())
    }

    /// Pairs so far.
    pub fn pairs(&self) -> u64 {
        (self.written + self.gene.len()) as u64
    }

    fn flush(&mut self) -> Result<()> {
        let (from, n) = (self.written, self.gene.len());
        if n > 0 {
            let [gene, peak, weight, score] = &self.sets;
            (|| {
                for set in &self.sets {
                    set.resize(from + n)?;
                }
                gene.write_slice(self.gene.as_slice(), from..from + n)?;
                peak.write_slice(self.peak.as_slice(), from..from + n)?;
                weight.write_slice(self.weight.as_slice(), from..from + n)?;
                score.write_slice(self.score.as_slice(), from..from + n)
            })()
            .at(&self.target, || "write the pairs".into())?;
        }
        self.written += n;
        self.gene.clear();
        self.peak.clear();
        self.weight.clear();
        self.score.clear();
        Ok(())
    }

    /// Writes the rest and the names, and renames the file to its target.
    ///
    /// # Errors
    /// A name that HDF5 cannot store; a file that cannot be written or renamed. Nothing is then at the target.
    pub fn finish(mut self, v: &Vocabulary) -> Result<()> {
        self.flush()?;
        self.array("indptr", &self.indptr)?;
        self.array("cell", &self.cell)?;
        let type_of = |&c: &u32| v.cell_type.get(c as usize).map_or(-1, |&t| t as i32);
        self.array("cell_type", &self.cell.iter().map(type_of).collect::<Vec<i32>>())?;
        self.names("cells", self.cell.iter().filter_map(|&c| v.cells.get(c as usize).map(String::as_str)))?;
        self.names("cell_types", v.cell_types.iter().map(String::as_str))?;
        self.names("genes", v.genes.iter().map(|g| g.name.as_str()))?;
        self.names("peaks", v.peaks.iter().map(|p| p.name.as_str()))?;
        if let Some(file) = self.file.take() {
            file.close().at(&self.target, || "close the file".into())?;
        }
        self.temporary.keep()
    }

    fn array<T: H5Type>(&self, name: &str, values: &[T]) -> Result<()> {
        let mut builder = self.file()?.new_dataset::<T>();
        if !values.is_empty() {
            builder = builder.chunk(values.len().min(CHUNK)).deflate(1);
        }
        let set = builder.shape(values.len()).create(name).at(&self.target, || format!("create `{name}`"))?;
        set.write_raw(values).at(&self.target, || format!("write `{name}`"))
    }

    fn names<'n>(&self, name: &str, names: impl Iterator<Item = &'n str>) -> Result<()> {
        let names = names.map(|s| text(&self.target, s)).collect::<Result<Vec<_>>>()?;
        self.array(name, &names)
    }
}
