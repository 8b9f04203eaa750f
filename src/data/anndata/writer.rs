//! The AnnData writer: encoding of anndata ≥ 0.8, matrices streamed by row block, file renamed into place at the end.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hdf5::types::VarLenUnicode;
use hdf5::{Dataset, File, Group, H5Type, Location};

use super::chunks::{CHUNK, Growing};
use super::{Column, Frame, H5Context};
use crate::csr::Csr;
use crate::error::{Error, Result};
use crate::files::atomic::Temporary;

/// Writes one `.h5ad`. Nothing is at the target path before [`AnnDataWriter::finish`]; a writer that is dropped
/// unfinished removes its temporary file.
///
/// ```
/// use sccrossrec::data::anndata::{AnnDataWriter, Column, Frame};
/// use sccrossrec::csr::Csr;
///
/// # let dir = std::env::temp_dir().join(format!("sccrossrec-doc-{}", std::process::id()));
/// # std::fs::create_dir_all(&dir)?;
/// # let path = dir.join("rna.h5ad");
/// let obs = Frame { index: vec!["AAAC-1".into(), "AAAG-1".into()], columns: vec![] };
/// let var = Frame {
///     index: vec!["Gad1".into(), "Snap25".into(), "Mbp".into()],
///     columns: vec![("length".into(), Column::Ints(vec![100, 200, 300]))],
/// };
/// let mut writer = AnnDataWriter::create(&path, &obs, &var)?;
/// let mut block = Csr::<f32>::new();
/// block.push_row([(0, 3.0), (2, 1.0)]);
/// block.push_row([(1, 2.0)]);
/// let mut x = writer.csr("X", 3)?;
/// x.append(&block)?;
/// x.finish()?;
/// writer.dense_f32("obsm/X_sccrossrec", 2, 2, &[0.0, 0.5, 1.0, 1.5])?;
/// writer.uns_string("sccrossrec/version", "0.1.0")?;
/// writer.finish()?;
/// assert!(path.exists());
/// # std::fs::remove_dir_all(&dir)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct AnnDataWriter {
    target: PathBuf,
    /// After the file, which is closed first.
    file: Option<File>,
    temporary: Temporary,
    rows: usize,
    cols: usize,
    gzip: Option<u8>,
    open_sinks: Arc<AtomicUsize>,
}

impl AnnDataWriter {
    /// Starts a file with these frames; data are compressed with gzip level 1. The target must not exist yet (the
    /// caller decides about `--force`), or is replaced at the end.
    ///
    /// # Errors
    /// [`Error::Io`] where the system refuses to write the file.
    pub fn create(path: &Path, obs: &Frame, var: &Frame) -> Result<Self> {
        Self::create_with(path, obs, var, Some(1))
    }

    /// As [`AnnDataWriter::create`], with gzip at this level (1 to 9), or without compression.
    ///
    /// # Errors
    /// As [`AnnDataWriter::create`].
    pub fn create_with(path: &Path, obs: &Frame, var: &Frame, gzip: Option<u8>) -> Result<Self> {
        if path.file_name().is_none() {
            return Err(Error::input(path, "is not the name of a file", "give a name that ends in .h5ad"));
        }
        if path.is_dir() {
            return Err(Error::input(path, "is a folder", "give the name of a file that ends in .h5ad"));
        }
        // The system's own word on a folder that is missing or closed is clearer than HDF5's.
        let temporary = Temporary::new(path)?;
        let file = File::with_options()
            .with_fapl(|p| p.file_locking(false))
            .with_fcpl(|p| p.obj_track_times(false))
            .create(temporary.path())
            .at(path, || "create the file".into())?;
        let writer = AnnDataWriter {
            target: path.to_path_buf(),
            file: Some(file),
            temporary,
            rows: obs.index.len(),
            cols: var.index.len(),
            gzip,
            open_sinks: Arc::new(AtomicUsize::new(0)),
        };
        let root = writer.root()?;
        writer.encoding(&root, "anndata", "0.1.0")?;
        for name in ["layers", "obsm", "obsp", "uns", "varm", "varp"] {
            writer.dict(&root, name)?;
        }
        writer.frame(&root, "obs", obs)?;
        writer.frame(&root, "var", var)?;
        Ok(writer)
    }

    /// Starts a sparse matrix of `cols` columns at `X`, `layers/NAME`, `obsm/NAME` or `varm/NAME`; its rows follow
    /// through [`CsrSink::append`].
    ///
    /// # Errors
    /// [`Error::Io`] where the system refuses to write.
    pub fn csr(&mut self, at: &str, cols: usize) -> Result<CsrSink> {
        let rows = self.rows_at(at, Some(cols))?;
        let (parent, name) = self.place(at)?;
        let group = new_group(&parent, name).at(&self.target, || format!("create `{at}`"))?;
        self.encoding(&group, "csr_matrix", "0.1.0")?;
        let shape = [rows as i64, cols as i64];
        group
            .new_attr::<i64>()
            .shape(2)
            .create("shape")
            .and_then(|a| a.write_raw(&shape))
            .at(&self.target, || format!("write the shape of `{at}`"))?;
        let data = Growing::new(self.growing::<f32>(&group, "data", at)?, self.gzip);
        let indices = Growing::new(self.growing::<i32>(&group, "indices", at)?, self.gzip);
        if i32::try_from(cols).is_err() {
            return Err(Error::usage(format!(
                "{}: `{at}` has {cols} columns; at most 2^31 - 1",
                self.target.display()
            )));
        }
        self.open_sinks.fetch_add(1, Ordering::SeqCst);
        Ok(CsrSink {
            target: self.target.clone(),
            at: at.to_string(),
            group,
            data,
            indices,
            indptr: vec![0],
            rows,
            cols,
            gzip: self.gzip,
            open: OpenSink(self.open_sinks.clone()),
        })
    }

    /// Writes a dense row-major `[rows, cols]` matrix at `X`, `layers/NAME`, `obsm/NAME` or `varm/NAME`.
    ///
    /// # Errors
    /// [`Error::Io`] where the system refuses to write; [`Error::Usage`] for an `at` that is no place of a matrix, or a
    /// shape that does not fit it.
    pub fn dense_f32(&mut self, at: &str, rows: usize, cols: usize, values: &[f32]) -> Result<()> {
        let want = self.rows_at(at, Some(cols))?;
        if rows != want || rows.checked_mul(cols) != Some(values.len()) {
            return Err(Error::usage(format!(
                "{}: `{at}` must have {want} rows; given {rows} × {cols} with {} numbers",
                self.target.display(),
                values.len()
            )));
        }
        let (parent, name) = self.place(at)?;
        let mut builder = parent.new_dataset::<f32>();
        if let (Some(level), false) = (self.gzip, values.is_empty()) {
            let block = (CHUNK / cols.max(1)).clamp(1, rows);
            builder = builder.chunk((block, cols)).deflate(level);
        }
        let set = builder.shape((rows, cols)).create(name).at(&self.target, || format!("create `{at}`"))?;
        set.write_raw(values).at(&self.target, || format!("write `{at}`"))?;
        self.encoding(&set, "array", "0.2.0")
    }

    /// Writes text at `uns/PATH`; groups on the way are made as needed.
    ///
    /// # Errors
    /// [`Error::Io`] where the system refuses to write.
    pub fn uns_string(&mut self, path: &str, value: &str) -> Result<()> {
        let (group, name) = self.uns_place(path)?;
        let set =
            group.new_dataset::<VarLenUnicode>().create(name).at(&self.target, || format!("create `uns/{path}`"))?;
        set.write_scalar(&text(&self.target, value)?).at(&self.target, || format!("write `uns/{path}`"))?;
        self.encoding(&set, "string", "0.2.0")
    }

    /// Writes an array at `uns/PATH`.
    ///
    /// # Errors
    /// [`Error::Io`] where the system refuses to write.
    pub fn uns_array(&mut self, path: &str, values: &UnsArray<'_>) -> Result<()> {
        let (group, name) = self.uns_place(path)?;
        match values {
            UnsArray::Ints(v) => self.array(&group, name, v, "array"),
            UnsArray::Strings(v) => self.strings(&group, name, v),
        }
    }

    /// Starts a dense row-major matrix of `cols` columns at `uns/PATH`; its rows follow through [`DenseSink::append`].
    ///
    /// # Errors
    /// [`Error::Io`] where the system refuses to write.
    pub fn uns_matrix(&mut self, path: &str, cols: usize) -> Result<DenseSink> {
        let (group, name) = self.uns_place(path)?;
        let mut builder = group.new_dataset::<f32>().chunk(((CHUNK / cols.max(1)).max(1), cols.max(1)));
        if let Some(level) = self.gzip {
            builder = builder.deflate(level);
        }
        let set = builder.shape((0.., cols)).create(name).at(&self.target, || format!("create `uns/{path}`"))?;
        self.encoding(&set, "array", "0.2.0")?;
        Ok(DenseSink { target: self.target.clone(), at: format!("uns/{path}"), set, rows: 0, cols })
    }

    /// The group of `uns/PATH`, made as needed, and the last part of its name.
    fn uns_place<'n>(&self, path: &'n str) -> Result<(Group, &'n str)> {
        let mut group = self.root()?.group("uns").at(&self.target, || "open `uns`".into())?;
        let mut rest = path;
        while let Some((part, tail)) = rest.split_once('/') {
            check_name(&self.target, part)?;
            group = if group.link_exists(part) {
                group.group(part).at(&self.target, || format!("open `uns/{path}`"))?
            } else {
                self.dict(&group, part)?
            };
            rest = tail;
        }
        check_name(&self.target, rest)?;
        Ok((group, rest))
    }

    /// Completes the file: flushes it to the disk and renames it to the target. Every sink must be finished.
    ///
    /// # Errors
    /// [`Error::Internal`] where one is not; [`Error::Io`] where the system refuses to write.
    pub fn finish(mut self) -> Result<()> {
        let open = self.open_sinks.load(Ordering::SeqCst);
        if open > 0 {
            return Err(Error::Internal(format!("{}: {open} matrices were not finished", self.target.display())));
        }
        if let Some(file) = self.file.take() {
            file.close().at(&self.target, || "close the file".into())?;
        }
        self.temporary.keep()
    }

    fn root(&self) -> Result<Group> {
        match &self.file {
            Some(file) => file.group("/").at(&self.target, || "open the root".into()),
            None => Err(Error::Internal("AnnData writer used after it was finished".into())),
        }
    }

    /// Rows that belong at this place; checks the name and the number of columns.
    fn rows_at(&self, at: &str, cols: Option<usize>) -> Result<usize> {
        let (rows, width) = match at.split_once('/') {
            None if at == "X" => (self.rows, Some(self.cols)),
            Some(("layers", _)) => (self.rows, Some(self.cols)),
            Some(("obsm", _)) => (self.rows, None),
            Some(("varm", _)) => (self.cols, None),
            _ => {
                return Err(Error::usage(format!(
                    "`{at}` is no place of a matrix; use X, layers/NAME, obsm/NAME or varm/NAME"
                )));
            }
        };
        match (width, cols) {
            (Some(w), Some(c)) if w != c => Err(Error::usage(format!(
                "{}: `{at}` must have {w} columns, one a row of `var`; given {c}",
                self.target.display()
            ))),
            _ => Ok(rows),
        }
    }

    fn place<'n>(&self, at: &'n str) -> Result<(Group, &'n str)> {
        let root = self.root()?;
        match at.split_once('/') {
            None => Ok((root, at)),
            Some((parent, name)) => {
                check_name(&self.target, name)?;
                Ok((root.group(parent).at(&self.target, || format!("open `{parent}`"))?, name))
            }
        }
    }

    fn encoding(&self, at: &Location, kind: &str, version: &str) -> Result<()> {
        encoding(&self.target, at, kind, version)
    }

    fn dict(&self, parent: &Group, name: &str) -> Result<Group> {
        let group = new_group(parent, name).at(&self.target, || format!("create `{name}`"))?;
        self.encoding(&group, "dict", "0.1.0")?;
        Ok(group)
    }

    fn growing<T: H5Type>(&self, group: &Group, name: &str, at: &str) -> Result<Dataset> {
        let mut builder = group.new_dataset::<T>().chunk(CHUNK);
        if let Some(level) = self.gzip {
            builder = builder.deflate(level);
        }
        let set = builder.shape(0..).create(name).at(&self.target, || format!("create `{at}/{name}`"))?;
        self.encoding(&set, "array", "0.2.0")?;
        Ok(set)
    }

    fn array<T: H5Type>(&self, group: &Group, name: &str, values: &[T], kind: &str) -> Result<()> {
        array(&self.target, group, name, values, kind, self.gzip)
    }

    fn strings(&self, group: &Group, name: &str, values: &[String]) -> Result<()> {
        strings(&self.target, group, name, values, self.gzip)
    }

    fn frame(&self, root: &Group, at: &str, frame: &Frame) -> Result<()> {
        let group = new_group(root, at).at(&self.target, || format!("create `{at}`"))?;
        self.encoding(&group, "dataframe", "0.2.0")?;
        let index = text(&self.target, "_index")?;
        group
            .new_attr::<VarLenUnicode>()
            .create("_index")
            .and_then(|a| a.write_scalar(&index))
            .at(&self.target, || format!("write `{at}`"))?;
        let names: Vec<String> = frame.columns.iter().map(|(n, _)| n.clone()).collect();
        column_order(&self.target, &group, &names)?;
        self.strings(&group, "_index", &frame.index)?;
        for (name, column) in &frame.columns {
            check_name(&self.target, name)?;
            if column.len() != frame.index.len() || name == "_index" {
                return Err(Error::usage(format!(
                    "{}: column `{at}/{name}` cannot be written: it has {} rows of {}, or is named as the index",
                    self.target.display(),
                    column.len(),
                    frame.index.len()
                )));
            }
            write_column(&self.target, &group, name, column, self.gzip)?;
        }
        Ok(())
    }
}

/// Makes a group that does not say when: what is written is a function of its content.
fn new_group(parent: &Group, name: &str) -> hdf5::Result<Group> {
    let mut builder = parent.create_group_builder();
    builder.gcpl().obj_track_times(false);
    builder.create(name)
}

/// Writes a column of a frame, named by `check_name`, into the group of the frame. `target` is the file for messages.
pub(super) fn write_column(target: &Path, group: &Group, name: &str, column: &Column, gzip: Option<u8>) -> Result<()> {
    match column {
        Column::Strings(v) => strings(target, group, name, v, gzip),
        Column::Ints(v) => array(target, group, name, v, "array", gzip),
        Column::Floats(v) => array(target, group, name, v, "array", gzip),
        Column::Bools(v) => array(target, group, name, v, "array", gzip),
        Column::Categorical { codes, categories } => {
            let inner = new_group(group, name).at(target, || format!("create `{name}`"))?;
            encoding(target, &inner, "categorical", "0.2.0")?;
            inner
                .new_attr::<bool>()
                .create("ordered")
                .and_then(|a| a.write_scalar(&false))
                .at(target, || format!("write `{name}`"))?;
            if codes.iter().any(|&c| c < -1 || c >= categories.len() as i32) {
                return Err(Error::usage(format!(
                    "{}: column `{name}` has a code outside its {} categories",
                    target.display(),
                    categories.len()
                )));
            }
            strings(target, &inner, "categories", categories, gzip)?;
            array(target, &inner, "codes", codes, "array", gzip)
        }
    }
}

/// Writes the attribute that tells the order of the columns of a frame.
pub(super) fn column_order(target: &Path, group: &Group, names: &[String]) -> Result<()> {
    let names = names.iter().map(|n| text(target, n)).collect::<Result<Vec<_>>>()?;
    group
        .new_attr::<VarLenUnicode>()
        .shape(names.len())
        .create("column-order")
        .and_then(|a| if names.is_empty() { Ok(()) } else { a.write_raw(&names) })
        .at(target, || "write the order of the columns".into())
}

fn encoding(target: &Path, at: &Location, kind: &str, version: &str) -> Result<()> {
    for (name, value) in [("encoding-type", kind), ("encoding-version", version)] {
        let value = text(target, value)?;
        at.new_attr::<VarLenUnicode>()
            .create(name)
            .and_then(|a| a.write_scalar(&value))
            .at(target, || format!("write attribute `{name}`"))?;
    }
    Ok(())
}

fn array<T: H5Type>(
    target: &Path,
    group: &Group,
    name: &str,
    values: &[T],
    kind: &str,
    gzip: Option<u8>,
) -> Result<()> {
    let set = write_array(group, name, values, gzip).at(target, || format!("write `{name}`"))?;
    encoding(target, &set, kind, "0.2.0")
}

fn strings(target: &Path, group: &Group, name: &str, values: &[String], gzip: Option<u8>) -> Result<()> {
    let values = values.iter().map(|s| text(target, s)).collect::<Result<Vec<_>>>()?;
    array(target, group, name, &values, "string-array", gzip)
}

/// Counts one open sink for as long as it lives.
#[derive(Debug)]
struct OpenSink(Arc<AtomicUsize>);

/// An array for `uns`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum UnsArray<'a> {
    /// Whole numbers.
    Ints(&'a [i64]),
    /// Text.
    Strings(&'a [String]),
}

/// A dense matrix in `uns` being written, rows by rows. It is complete after every [`DenseSink::append`].
#[derive(Debug)]
pub struct DenseSink {
    target: PathBuf,
    at: String,
    set: Dataset,
    rows: usize,
    cols: usize,
}

impl DenseSink {
    /// Appends rows: `[rows, cols]`, row-major.
    ///
    /// # Errors
    /// [`Error::Internal`] where the numbers do not make whole rows; [`Error::Io`] where the system refuses to write.
    pub fn append(&mut self, values: &[f32]) -> Result<()> {
        if self.cols == 0 || !values.len().is_multiple_of(self.cols) {
            return Err(Error::Internal(format!("`{}`: {} numbers in rows of {}", self.at, values.len(), self.cols)));
        }
        let n = values.len() / self.cols;
        if n == 0 {
            return Ok(());
        }
        let (from, to) = (self.rows, self.rows + n);
        let block = ndarray::ArrayView2::from_shape((n, self.cols), values)
            .map_err(|e| Error::Internal(format!("`{}`: {e}", self.at)))?;
        self.set
            .resize((to, self.cols))
            .and_then(|()| self.set.write_slice(block, (from..to, 0..self.cols)))
            .at(&self.target, || format!("write `{}`", self.at))?;
        self.rows = to;
        Ok(())
    }
}

/// A sparse matrix being written, block of rows by block of rows.
#[derive(Debug)]
pub struct CsrSink {
    target: PathBuf,
    at: String,
    group: Group,
    data: Growing<f32>,
    indices: Growing<i32>,
    indptr: Vec<i64>,
    rows: usize,
    cols: usize,
    gzip: Option<u8>,
    open: OpenSink,
}

impl CsrSink {
    /// Appends these rows. Columns must be below the `cols` given, in any order, without duplicates.
    ///
    /// # Errors
    /// [`Error::Io`] where the system refuses to write; [`Error::Usage`] for rows or columns that are beyond the matrix.
    pub fn append(&mut self, block: &Csr<f32>) -> Result<()> {
        let done = self.indptr.len() - 1;
        if done + block.rows() > self.rows || block.indices.iter().any(|&c| c as usize >= self.cols) {
            return Err(Error::usage(format!(
                "{}: `{}` is {} × {}; rows {done}..{} do not fit",
                self.target.display(),
                self.at,
                self.rows,
                self.cols,
                done + block.rows()
            )));
        }
        let from = self.data.len();
        // The number of columns fits i32, and so does each of these.
        self.data
            .append(block.values.iter().copied())
            .and_then(|()| self.indices.append(block.indices.iter().map(|&c| c as i32)))
            .at(&self.target, || format!("write `{}`", self.at))?;
        self.indptr.extend(block.indptr.iter().skip(1).map(|&p| (from + p) as i64));
        Ok(())
    }

    /// Writes the row pointers. Every row of the matrix must have been appended.
    ///
    /// # Errors
    /// [`Error::Internal`] where rows are missing; [`Error::Io`] where the system refuses to write.
    pub fn finish(self) -> Result<()> {
        if self.indptr.len() != self.rows + 1 {
            return Err(Error::Internal(format!(
                "{}: `{}` got {} rows of {}",
                self.target.display(),
                self.at,
                self.indptr.len() - 1,
                self.rows
            )));
        }
        self.data.finish().and_then(|()| self.indices.finish()).at(&self.target, || format!("write `{}`", self.at))?;
        // Of the type of the indices where that is enough: scipy slices no matrix that has two.
        let narrow: Option<Vec<i32>> = self.indptr.iter().map(|&p| i32::try_from(p).ok()).collect();
        let written = match &narrow {
            Some(narrow) => write_array(&self.group, "indptr", narrow, self.gzip),
            None => write_array(&self.group, "indptr", &self.indptr, self.gzip),
        };
        let set = written.at(&self.target, || format!("write `{}/indptr`", self.at))?;
        encoding(&self.target, &set, "array", "0.2.0")?;
        self.open.0.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    }
}

fn write_array<T: H5Type>(group: &Group, name: &str, values: &[T], gzip: Option<u8>) -> hdf5::Result<Dataset> {
    let mut builder = group.new_dataset::<T>();
    if let (Some(level), false) = (gzip, values.is_empty()) {
        builder = builder.chunk(values.len().min(CHUNK)).deflate(level);
    }
    let set = builder.shape(values.len()).create(name)?;
    if !values.is_empty() {
        set.write_raw(values)?;
    }
    Ok(set)
}

fn text(path: &Path, s: &str) -> Result<VarLenUnicode> {
    VarLenUnicode::from_str(s).map_err(|_| {
        Error::input(path, format!("the text {s:?} holds a NUL character, which HDF5 cannot store"), "rename it")
    })
}

/// Refuses what cannot be the name of a field.
pub(super) fn check_name(path: &Path, name: &str) -> Result<()> {
    if name.is_empty() || name == "." || name.contains('/') {
        return Err(Error::input(path, format!("{name:?} cannot be the name of an HDF5 field"), "rename it"));
    }
    Ok(())
}
