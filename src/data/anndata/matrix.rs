//! Matrices, streamed by block of rows: CSR and dense directly, CSC and coordinates through buckets on disk.
//!
//! Memory is bounded by the size of a block (and 8 bytes a row), whatever the number of rows.

use std::fmt::Debug;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hdf5::types::TypeDescriptor;
use hdf5::{Dataset, Group, H5Type};
use rayon::prelude::*;

use super::H5Context;
use super::fields::{descriptor, plausible};
use super::filters::check;
use crate::csr::Csr;
use crate::data::coordinates::Coordinates;
use crate::error::{Error, Result};

/// Numbers that somebody else holds in memory, such as an array of another language.
pub trait HeldNumbers: Debug + Send + Sync {
    /// How many there are.
    fn len(&self) -> usize;

    /// Are there none?
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Some of them as values.
    fn values(&self, range: Range<usize>) -> Vec<f32>;

    /// Some of them as indices.
    fn indices(&self, range: Range<usize>) -> Vec<i64>;
}

/// A matrix that somebody else holds in memory; its rows are cells.
#[derive(Debug, Clone)]
pub enum HeldMatrix {
    /// By rows: where each begins and ends `[rows + 1]`, columns `[entries]`, values `[entries]`.
    Csr(Arc<dyn HeldNumbers>, Arc<dyn HeldNumbers>, Arc<dyn HeldNumbers>),
    /// By columns: where each begins and ends `[columns + 1]`, rows `[entries]`, values `[entries]`.
    Csc(Arc<dyn HeldNumbers>, Arc<dyn HeldNumbers>, Arc<dyn HeldNumbers>),
    /// All values, row after row.
    Dense(Arc<dyn HeldNumbers>),
}

/// A field of numbers: of a file, or in memory.
#[derive(Debug, Clone)]
enum Field {
    File(Dataset),
    Held(Arc<dyn HeldNumbers>),
}

/// How a matrix is laid out.
#[derive(Debug)]
enum MatrixLayout {
    Csr { indptr: Vec<u64>, indices: Field, data: Field },
    Csc { indptr: Vec<u64>, indices: Field, data: Field },
    Dense(Field),
    Coordinates(Coordinates),
}

/// A matrix of a file; its rows are cells.
#[derive(Debug)]
pub struct Matrix {
    path: PathBuf,
    at: String,
    rows: usize,
    /// Columns in the file.
    width: usize,
    /// Columns, after the choice of some.
    cols: usize,
    /// Of each column in the file its number here, or [`DROPPED`].
    keep: Option<Vec<u32>>,
    /// Let NaN, infinite and negative values pass.
    any: bool,
    layout: MatrixLayout,
}

const DROPPED: u32 = u32::MAX;

/// What the values of a matrix look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MatrixKind {
    /// Every stored value is 1.
    Binary,
    /// Whole numbers.
    Counts,
    /// Fractions: log-normalised or otherwise transformed.
    Normalised,
}

impl std::fmt::Display for MatrixKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            MatrixKind::Binary => "binary",
            MatrixKind::Counts => "raw counts",
            MatrixKind::Normalised => "normalised (fractions)",
        })
    }
}

/// How a matrix is read.
#[derive(Debug, Clone, Copy)]
pub struct Streaming {
    /// Entries (or, of a dense matrix, elements) held at a time.
    pub block: usize,
    /// Entries a bucket of the pass over CSC.
    pub bucket: usize,
}

impl Default for Streaming {
    fn default() -> Self {
        Streaming { block: 4 << 20, bucket: 4 << 20 }
    }
}

impl Matrix {
    pub(super) fn dense(path: &Path, at: &str, set: Dataset, bytes: u64) -> Result<Self> {
        let shape = set.get_shape().at(path, || format!("read the shape of `{at}`"))?;
        let [rows, cols] = shape[..] else {
            return Err(Error::input(path, format!("`{at}` has {} dimensions", shape.len()), "two are needed"));
        };
        plausible(path, bytes, at, &shape, 1)?;
        check(path, &set, at)?;
        let layout = MatrixLayout::Dense(Field::File(set.clone()));
        let m = Matrix { path: path.into(), at: at.into(), rows, width: cols, cols, keep: None, any: false, layout };
        m.check_number(&set, at)?;
        m.check_cols()?;
        Ok(m)
    }

    pub(crate) fn coordinates(entries: Coordinates) -> Result<Self> {
        let m = Matrix {
            path: entries.path.clone(),
            at: "matrix".into(),
            rows: entries.cells,
            width: entries.features,
            cols: entries.features,
            keep: None,
            any: false,
            layout: MatrixLayout::Coordinates(entries),
        };
        m.check_cols()?;
        Ok(m)
    }

    /// Some of the columns: `columns` are their numbers, rising.
    ///
    /// # Errors
    /// [`Error::Internal`] where they do not rise, or one is beyond the matrix.
    pub fn select_columns(mut self, columns: &[u32]) -> Result<Self> {
        let rising = columns.is_sorted_by(|a, b| a < b) && columns.last().is_none_or(|&c| (c as usize) < self.cols);
        if !rising {
            return Err(Error::Internal("columns of a matrix must be chosen in rising order".into()));
        }
        let mut here = vec![DROPPED; self.cols];
        for (new, &old) in columns.iter().enumerate() {
            here[old as usize] = new as u32;
        }
        self.keep = Some(match self.keep.take() {
            None => here,
            Some(before) => before.into_iter().map(|c| if c == DROPPED { DROPPED } else { here[c as usize] }).collect(),
        });
        self.cols = columns.len();
        Ok(self)
    }

    /// The same, letting NaN, infinite and negative values pass: to be written elsewhere, not to be used.
    pub(crate) fn of_any_values(mut self) -> Self {
        self.any = true;
        self
    }

    pub(crate) fn sparse(
        path: &Path,
        at: &str,
        group: &Group,
        csr: bool,
        rows: usize,
        cols: usize,
        bytes: u64,
    ) -> Result<Self> {
        let open = |name: &str| -> Result<(Dataset, usize)> {
            let field = format!("{at}/{name}");
            if !group.link_exists(name) {
                return Err(Error::input(path, format!("no `{field}`"), "write the file again with a current anndata"));
            }
            let set = group.dataset(name).at(path, || format!("open `{field}`"))?;
            let shape = set.get_shape().at(path, || format!("read the shape of `{field}`"))?;
            let size = set.dtype().at(path, || format!("read the type of `{field}`"))?.size();
            if shape.len() != 1 {
                return Err(Error::input(path, format!("`{field}` has {} dimensions", shape.len()), "one is needed"));
            }
            check(path, &set, &field)?;
            Ok((set, plausible(path, bytes, &field, &shape, size)?))
        };
        let (data, nnz) = open("data")?;
        let (indices, n_indices) = open("indices")?;
        let (pointers, n_pointers) = open("indptr")?;
        let damaged = |found: String| Error::input(path, found, "the file is damaged; make or fetch it again");
        let (major, what) = if csr { (rows, "rows") } else { (cols, "columns") };
        if Some(n_pointers) != major.checked_add(1) {
            return Err(damaged(format!("`{at}/indptr` has {n_pointers} numbers for {major} {what}, not one more")));
        }
        if n_indices != nnz {
            return Err(damaged(format!("`{at}` has {nnz} values but {n_indices} indices")));
        }
        let indptr = pointers.read_raw::<i64>().at(path, || format!("read `{at}/indptr`"))?;
        let indptr = rising(indptr, nnz)
            .ok_or_else(|| damaged(format!("`{at}/indptr` does not rise from 0 to the {nnz} values there are")))?;
        for (set, name) in [(&indices, "indices"), (&pointers, "indptr")] {
            let kind = descriptor(set).at(path, || format!("read the type of `{at}/{name}`"))?;
            if !matches!(kind, TypeDescriptor::Integer(_) | TypeDescriptor::Unsigned(_)) {
                return Err(damaged(format!("`{at}/{name}` has the type {kind}, not whole numbers")));
            }
        }
        let m = Matrix {
            path: path.into(),
            at: at.into(),
            rows,
            width: cols,
            cols,
            keep: None,
            any: false,
            layout: if csr {
                MatrixLayout::Csr { indptr, indices: Field::File(indices), data: Field::File(data.clone()) }
            } else {
                MatrixLayout::Csc { indptr, indices: Field::File(indices), data: Field::File(data.clone()) }
            },
        };
        m.check_number(&data, &format!("{at}/data"))?;
        m.check_cols()?;
        Ok(m)
    }

    /// One that is held in memory, of `rows` cells and `cols` features; `path` and `at` are its names in messages.
    pub(crate) fn held(path: &Path, at: &str, held: HeldMatrix, rows: usize, cols: usize) -> Result<Self> {
        let wrong = |found: String| Error::input(path, format!("`{at}` {found}"), "give a sound matrix");
        let sparse =
            |ptr: &Arc<dyn HeldNumbers>, indices: &Arc<dyn HeldNumbers>, data: &Arc<dyn HeldNumbers>, major| {
                if ptr.len() != major + 1 || indices.len() != data.len() {
                    let found = format!(
                        "has {} starts, {} indices and {} values for {rows} × {cols}",
                        ptr.len(),
                        indices.len(),
                        data.len()
                    );
                    return Err(wrong(found));
                }
                rising(ptr.indices(0..ptr.len()), data.len()).ok_or_else(|| {
                    wrong(format!("has starts that do not rise from 0 to the {} values there are", data.len()))
                })
            };
        let field = |f: &Arc<dyn HeldNumbers>| Field::Held(f.clone());
        let layout = match &held {
            HeldMatrix::Csr(ptr, indices, data) => MatrixLayout::Csr {
                indptr: sparse(ptr, indices, data, rows)?,
                indices: field(indices),
                data: field(data),
            },
            HeldMatrix::Csc(ptr, indices, data) => MatrixLayout::Csc {
                indptr: sparse(ptr, indices, data, cols)?,
                indices: field(indices),
                data: field(data),
            },
            HeldMatrix::Dense(data) => {
                if Some(data.len()) != rows.checked_mul(cols) {
                    return Err(wrong(format!("has {} values for {rows} × {cols}", data.len())));
                }
                MatrixLayout::Dense(field(data))
            }
        };
        let m = Matrix { path: path.into(), at: at.into(), rows, width: cols, cols, keep: None, any: false, layout };
        m.check_cols()?;
        Ok(m)
    }

    /// Rows (cells).
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns (genes or peaks).
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Entries that are stored, explicit zeros among them; `None` where all are.
    pub(crate) fn entries(&self) -> Option<u64> {
        match &self.layout {
            MatrixLayout::Csr { indptr, .. } | MatrixLayout::Csc { indptr, .. } => indptr.last().copied(),
            MatrixLayout::Dense(_) => None,
            MatrixLayout::Coordinates(entries) => Some(entries.entries as u64),
        }
    }

    /// Does it come cell by cell, so that nothing has to wait?
    pub(crate) fn by_rows(&self) -> bool {
        matches!(self.layout, MatrixLayout::Csr { .. } | MatrixLayout::Dense(_))
    }

    /// Where it is in the file: `X` or `layers/NAME`.
    pub fn at(&self) -> &str {
        &self.at
    }

    /// How it is laid out, in words.
    pub fn layout(&self) -> &'static str {
        match self.layout {
            MatrixLayout::Csr { .. } => "CSR",
            MatrixLayout::Csc { .. } => "CSC",
            MatrixLayout::Dense(_) => "dense",
            MatrixLayout::Coordinates(_) => "coordinates",
        }
    }

    /// Hands every row to `sink`, in order, as blocks of whole rows: columns ascending, duplicates summed, explicit
    /// zeros dropped. NaN, infinite and negative values are refused, naming cell and feature by `obs` and `var`.
    /// The pass over CSC keeps its buckets in `scratch`.
    ///
    /// # Errors
    /// [`Error::Input`] for such values and for what contradicts the sizes; [`Error::Io`]; whatever `sink` returns.
    pub fn for_each_block(
        &self,
        how: Streaming,
        scratch: &Path,
        obs: &[String],
        var: &[String],
        mut sink: impl FnMut(Csr<f32>) -> Result<()>,
    ) -> Result<()> {
        if obs.len() != self.rows || var.len() != self.cols {
            return Err(Error::input(
                &self.path,
                format!(
                    "`{}` is {} × {}, but `obs` has {} and `var` {} rows",
                    self.at,
                    self.rows,
                    self.cols,
                    obs.len(),
                    var.len()
                ),
                "the file is damaged; make or fetch it again",
            ));
        }
        let block = how.block.max(1);
        match &self.layout {
            MatrixLayout::Dense(set) => {
                let mut step = (block / self.width.max(1)).max(1);
                // Whole chunks, so that none is unpacked more than once, unless that takes much more memory.
                if let Field::File(set) = set
                    && let Some(&high) = set.chunk().as_deref().and_then(<[_]>::first)
                    && let Some(whole) = step.checked_next_multiple_of(high.max(1))
                    && whole.saturating_mul(self.width) <= block.saturating_mul(8)
                {
                    step = whole;
                }
                let mut from = 0;
                while from < self.rows {
                    let to = (from + step).min(self.rows);
                    let rows: Vec<(Vec<u32>, Vec<f32>)> = if self.width == 0 {
                        vec![Default::default(); to - from]
                    } else {
                        let values = self.numbers_2d(set, from..to)?;
                        let rows = values.par_chunks(self.width).enumerate();
                        rows.map(|(i, row)| {
                            let entries = row.iter().enumerate().map(|(c, &v)| (c as u32, v)).collect();
                            self.clean(from + i, entries, obs, var)
                        })
                        .collect::<Result<_>>()?
                    };
                    sink(gather(rows))?;
                    from = to;
                }
            }
            MatrixLayout::Csr { indptr, indices, data } => {
                let mut from = 0;
                while from < self.rows {
                    let start = indptr[from];
                    // At least one row, then as many as fit.
                    let fits = indptr[from + 1..].partition_point(|&p| p - start <= block as u64);
                    let to = (from + fits.max(1)).min(self.rows);
                    let range = start as usize..indptr[to] as usize;
                    let values = self.numbers(data, range.clone())?;
                    let columns = self.indices(indices, range, self.width, "column")?;
                    let rows = (from..to)
                        .into_par_iter()
                        .map(|r| {
                            let span = (indptr[r] - start) as usize..(indptr[r + 1] - start) as usize;
                            let entries =
                                columns[span.clone()].iter().copied().zip(values[span].iter().copied()).collect();
                            self.clean(r, entries, obs, var)
                        })
                        .collect::<Result<Vec<_>>>()?;
                    sink(gather(rows))?;
                    from = to;
                }
            }
            MatrixLayout::Csc { indptr, indices, data } => {
                let nnz = indptr.last().copied().unwrap_or(0) as usize;
                let mut store = self.buckets(nnz, how, scratch)?;
                let (mut from, mut col) = (0, 0);
                while from < nnz {
                    let to = (from + block).min(nnz);
                    let values = self.numbers(data, from..to)?;
                    let rows = self.indices(indices, from..to, self.rows, "row")?;
                    for (i, (&r, &v)) in rows.iter().zip(&values).enumerate() {
                        while indptr[col + 1] as usize <= from + i {
                            col += 1;
                        }
                        store.push([r, col as u32, v.to_bits()])?;
                    }
                    from = to;
                }
                self.empty(store, obs, var, &mut sink)?;
            }
            MatrixLayout::Coordinates(entries) => {
                let mut store = self.buckets(entries.entries, how, scratch)?;
                entries.for_each(|r, c, v| store.push([r, c, v.to_bits()]))?;
                self.empty(store, obs, var, &mut sink)?;
            }
        }
        Ok(())
    }

    /// Buckets for `nnz` entries, each for an equal share of the rows.
    fn buckets(&self, nnz: usize, how: Streaming, scratch: &Path) -> Result<Buckets> {
        let n = nnz.div_ceil(how.bucket.max(1)).clamp(1, 512).min(self.rows.max(1));
        let width = self.rows.div_ceil(n).max(1);
        Buckets::new(scratch, self.rows.div_ceil(width), width, (64 << 20) / n.max(1))
    }

    /// Hands on the rows of the buckets.
    fn empty(
        &self,
        mut store: Buckets,
        obs: &[String],
        var: &[String],
        sink: &mut impl FnMut(Csr<f32>) -> Result<()>,
    ) -> Result<()> {
        for b in 0..store.len() {
            let (low, high) = (b * store.width, ((b + 1) * store.width).min(self.rows));
            let mut rows: Vec<Vec<(u32, f32)>> = vec![Vec::new(); high - low];
            for [r, c, v] in store.take(b)? {
                let at = (r as usize).checked_sub(low).and_then(|r| rows.get_mut(r));
                let row = at.ok_or_else(|| Error::Internal("a bucket holds a row of another".into()))?;
                row.push((c, f32::from_bits(v)));
            }
            let rows = rows
                .into_par_iter()
                .enumerate()
                .map(|(i, entries)| self.clean(low + i, entries, obs, var))
                .collect::<Result<Vec<_>>>()?;
            sink(gather(rows))?;
        }
        Ok(())
    }

    /// Checks, sorts and thins out the entries of a row.
    fn clean(
        &self,
        row: usize,
        mut entries: Vec<(u32, f32)>,
        obs: &[String],
        var: &[String],
    ) -> Result<(Vec<u32>, Vec<f32>)> {
        if let Some(keep) = &self.keep {
            entries.retain_mut(|e| {
                e.0 = keep[e.0 as usize]; // below `width`, or it was refused
                e.0 != DROPPED
            });
        }
        let wrong = |v: f32| !(self.any || v.is_finite() && v >= 0.0);
        if let Some(&(c, v)) = entries.iter().find(|e| wrong(e.1)) {
            let why = if v.is_nan() {
                "is NaN; missing values cannot be used, fill them in or choose another layer"
            } else if v.is_infinite() {
                "is infinite (or too large for 32 bits); mend it or choose another layer"
            } else {
                "is negative, as in scaled data; choose a layer with counts or log-normalised values"
            };
            let name = |names: &[String], i: usize| names.get(i).cloned().unwrap_or_default();
            let (found, fix) = why.split_once("; ").unwrap_or((why, "mend it"));
            return Err(Error::input(
                &self.path,
                format!(
                    "`{}` at cell {}, feature {} is {v}: it {found}",
                    self.at,
                    name(obs, row),
                    name(var, c as usize)
                ),
                fix,
            ));
        }
        if !entries.is_sorted_by(|a, b| a.0 < b.0) {
            entries.sort_by_key(|e| e.0); // stable, so that duplicates are summed in the order of the file
            entries.dedup_by(|b, a| {
                let same = a.0 == b.0;
                if same {
                    a.1 += b.1;
                }
                same
            });
            if let Some(&(c, _)) = entries.iter().find(|e| wrong(e.1)) {
                let name = |names: &[String], i: usize| names.get(i).cloned().unwrap_or_default();
                return Err(Error::input(
                    &self.path,
                    format!(
                        "`{}` holds duplicates at cell {}, feature {} whose sum is infinite",
                        self.at,
                        name(obs, row),
                        name(var, c as usize)
                    ),
                    "mend it or choose another layer",
                ));
            }
        }
        entries.retain(|e| e.1 != 0.0);
        Ok(entries.into_iter().unzip())
    }

    fn check_number(&self, set: &Dataset, field: &str) -> Result<()> {
        let kind = descriptor(set).at(&self.path, || format!("read the type of `{field}`"))?;
        match kind {
            TypeDescriptor::Integer(_)
            | TypeDescriptor::Unsigned(_)
            | TypeDescriptor::Float(_)
            | TypeDescriptor::Boolean => Ok(()),
            other => Err(Error::input(
                &self.path,
                format!("`{field}` has the type {other}"),
                "a matrix of numbers or booleans is needed",
            )),
        }
    }

    fn check_cols(&self) -> Result<()> {
        if u32::try_from(self.cols).is_err() || u32::try_from(self.rows).is_err() {
            return Err(Error::input(
                &self.path,
                format!("`{}` is {} × {}", self.at, self.rows, self.cols),
                "at most 2^32 - 1 rows and columns can be used",
            ));
        }
        Ok(())
    }

    fn numbers(&self, field: &Field, range: Range<usize>) -> Result<Vec<f32>> {
        let read = || format!("read `{}/data`", self.at);
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let set = match field {
            Field::Held(held) => return Ok(held.values(range)),
            Field::File(set) => set,
        };
        if is_bool(set) {
            let v = read_slice::<u8>(set, range).at(&self.path, read)?;
            return Ok(v.into_iter().map(|b| f32::from(u8::from(b != 0))).collect());
        }
        read_slice::<f32>(set, range).at(&self.path, read)
    }

    fn numbers_2d(&self, field: &Field, rows: Range<usize>) -> Result<Vec<f32>> {
        let read = || format!("read `{}`", self.at);
        let set = match field {
            Field::Held(held) => return Ok(held.values(rows.start * self.width..rows.end * self.width)),
            Field::File(set) => set,
        };
        if is_bool(set) {
            let v = set.read_slice_2d::<u8, _>((rows, 0..self.width)).at(&self.path, read)?;
            return Ok(v.iter().map(|b| f32::from(u8::from(*b != 0))).collect());
        }
        let v = set.read_slice_2d::<f32, _>((rows, 0..self.width)).at(&self.path, read)?;
        Ok(v.iter().copied().collect())
    }

    fn indices(&self, field: &Field, range: Range<usize>, below: usize, what: &str) -> Result<Vec<u32>> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let v = match field {
            Field::Held(held) => held.indices(range),
            Field::File(set) => {
                read_slice::<i64>(set, range).at(&self.path, || format!("read `{}/indices`", self.at))?
            }
        };
        v.into_par_iter()
            .map(|i| match usize::try_from(i) {
                Ok(i) if i < below => Ok(i as u32),
                _ => Err(Error::input(
                    &self.path,
                    format!("`{}/indices` names {what} {i} of {below}", self.at),
                    "the file is damaged; make or fetch it again",
                )),
            })
            .collect()
    }
}

/// Starts that rise from 0 to the number of entries.
fn rising(indptr: Vec<i64>, entries: usize) -> Option<Vec<u64>> {
    let sound =
        indptr.first() == Some(&0) && indptr.last() == i64::try_from(entries).ok().as_ref() && indptr.is_sorted();
    sound.then(|| indptr.into_iter().map(|p| p as u64).collect()) // sorted from 0, so none is negative
}

fn read_slice<T: H5Type>(set: &Dataset, range: Range<usize>) -> hdf5::Result<Vec<T>> {
    let (v, _) = set.read_slice_1d::<T, _>(range)?.into_raw_vec_and_offset();
    Ok(v)
}

fn is_bool(set: &Dataset) -> bool {
    matches!(descriptor(set), Ok(TypeDescriptor::Boolean))
}

fn gather(rows: Vec<(Vec<u32>, Vec<f32>)>) -> Csr<f32> {
    let mut block = Csr::new();
    for (indices, values) in rows {
        block.indices.extend(indices);
        block.values.extend(values);
        block.indptr.push(block.indices.len());
    }
    block
}

/// Entries sorted into buckets by row; what does not fit the buffers goes to one file a bucket. Files live in a
/// folder of their own, which goes when this goes.
struct Buckets {
    /// Rows of a bucket.
    width: usize,
    dir: PathBuf,
    buffer: Vec<Vec<u8>>,
    file: Vec<Option<File>>,
    room: usize,
}

const ENTRY: usize = 12;

impl Buckets {
    fn new(scratch: &Path, n: usize, width: usize, room: usize) -> Result<Self> {
        let dir = scratch.join("buckets");
        std::fs::create_dir_all(&dir).map_err(|e| Error::io(&dir, "create", e))?;
        let file = (0..n).map(|_| None).collect();
        Ok(Buckets { width, dir, buffer: vec![Vec::new(); n], file, room: room.max(ENTRY) })
    }

    fn len(&self) -> usize {
        self.buffer.len()
    }

    fn path(&self, b: usize) -> PathBuf {
        self.dir.join(format!("{b}.bin"))
    }

    /// Adds an entry: row, column, bits of the value.
    fn push(&mut self, entry: [u32; 3]) -> Result<()> {
        let b = entry[0] as usize / self.width;
        for word in entry {
            self.buffer[b].extend(word.to_le_bytes());
        }
        if self.buffer[b].len() >= self.room {
            let path = self.path(b);
            let file = match &mut self.file[b] {
                Some(file) => file,
                none => none.insert(
                    File::options()
                        .create(true)
                        .truncate(true)
                        .read(true)
                        .write(true)
                        .open(&path)
                        .map_err(|e| Error::io(&path, "create", e))?,
                ),
            };
            file.write_all(&self.buffer[b]).map_err(|e| Error::io(&path, "write", e))?;
            self.buffer[b].clear();
        }
        Ok(())
    }

    /// The entries of a bucket, in the order they came; the bucket is empty afterwards.
    fn take(&mut self, b: usize) -> Result<Vec<[u32; 3]>> {
        let mut bytes = Vec::new();
        if let Some(mut file) = self.file[b].take() {
            let path = self.path(b);
            file.seek(SeekFrom::Start(0))
                .and_then(|_| file.read_to_end(&mut bytes))
                .map_err(|e| Error::io(&path, "read", e))?;
            std::fs::remove_file(&path).map_err(|e| Error::io(&path, "remove", e))?;
        }
        bytes.append(&mut self.buffer[b]);
        let word = |c: &[u8], i: usize| u32::from_le_bytes([c[i], c[i + 1], c[i + 2], c[i + 3]]);
        Ok(bytes.chunks_exact(ENTRY).map(|c| [word(c, 0), word(c, 4), word(c, 8)]).collect())
    }
}

impl Drop for Buckets {
    fn drop(&mut self) {
        // The folder above is removed as a whole where this fails.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
