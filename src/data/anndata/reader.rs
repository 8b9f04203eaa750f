//! The AnnData reader: names, columns and matrices of every layout from anndata 0.7 to today.
//!
//! Files are opened read-only and without HDF5's file locks. Nothing a file says about sizes is believed before it
//! is compared with the length of the file.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use hdf5::types::{FixedAscii, FixedUnicode, TypeDescriptor, VarLenAscii, VarLenUnicode};
use hdf5::{Container, Dataset, File, Group, Location, LocationType};

use super::matrix::Matrix;
use super::{Column, H5Context};
use crate::error::{Error, Result};

/// An `.h5ad` file, opened read-only.
#[derive(Debug)]
pub struct AnnData {
    path: PathBuf,
    file: File,
    bytes: u64,
}

/// The two frames of an AnnData file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Axis {
    /// Cells.
    Obs,
    /// Genes or peaks.
    Var,
}

impl Axis {
    /// Name of the frame in the file.
    pub fn name(self) -> &'static str {
        match self {
            Axis::Obs => "obs",
            Axis::Var => "var",
        }
    }
}

impl AnnData {
    /// Opens a file. Fails on anything that is not HDF5, or is cut short, or has no `obs` and `var`.
    pub fn open(path: &Path) -> Result<Self> {
        let io = std::fs::File::open(path).map_err(|e| Error::io(path, "read", e))?;
        let meta = io.metadata().map_err(|e| Error::io(path, "read", e))?;
        if meta.is_dir() {
            return Err(Error::input(path, "is a folder", "give an .h5ad file"));
        }
        drop(io);
        let file = File::with_options()
            .with_fapl(|p| p.file_locking(false))
            .open_as(path, hdf5::OpenMode::Read)
            .map_err(|e| {
                Error::input(
                    path,
                    format!("not a whole HDF5 file (HDF5: {})", e.to_string().replace('\n', " ")),
                    "give an .h5ad file; if it is one, it is truncated or damaged: make or fetch it again",
                )
            })?;
        let data = AnnData { path: path.to_path_buf(), file, bytes: meta.len() };
        for axis in [Axis::Obs, Axis::Var] {
            if !data.file.link_exists(axis.name()) {
                return Err(Error::input(
                    path,
                    format!("no `{}`; the file holds {}", axis.name(), list(&data.members(&data.root()?))),
                    "give an AnnData file (.h5ad)",
                ));
            }
        }
        Ok(data)
    }

    /// The path it was opened with.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Length of the file.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Names of the rows of `obs` or `var`.
    pub fn names(&self, axis: Axis) -> Result<Vec<String>> {
        let at = axis.name();
        let group = match self.frame(axis)? {
            Some(group) => group,
            None => return Err(self.legacy(at)),
        };
        let column = self.index_name(&group, at)?;
        match self.column_in(&group, at, &column)? {
            Some(Column::Strings(v)) => Ok(v),
            Some(Column::Categorical { codes, categories }) => codes
                .iter()
                .map(|&c| usize::try_from(c).ok().and_then(|c| categories.get(c)).cloned())
                .collect::<Option<Vec<_>>>()
                .ok_or_else(|| Error::input(&self.path, format!("names in `{at}` are missing"), "fill them in")),
            Some(Column::Ints(v)) => Ok(v.iter().map(i64::to_string).collect()),
            Some(_) => Err(Error::input(
                &self.path,
                format!("the names in `{at}/{column}` are not text"),
                "write the file again with names as text",
            )),
            None => Err(self.no_index(at, &column)),
        }
    }

    /// Name of the column that holds the names of the rows.
    fn index_name(&self, group: &Group, at: &str) -> Result<String> {
        if let Some(name) = self.attr_text(group, "_index")? {
            return Ok(name);
        }
        let found = ["_index", "index"].into_iter().find(|n| group.link_exists(n));
        found.map(String::from).ok_or_else(|| {
            Error::input(
                &self.path,
                format!("`{at}` has no attribute `_index` and no column `_index`"),
                "write the file again with a current anndata",
            )
        })
    }

    fn no_index(&self, at: &str, column: &str) -> Error {
        Error::input(
            &self.path,
            format!("`{at}` names its index `{column}`, which is not there"),
            "write the file again with a current anndata",
        )
    }

    /// Rows of a frame: the length of its index, which is not read for it.
    fn rows_of(&self, group: &Group, at: &str) -> Result<usize> {
        let name = self.index_name(group, at)?;
        let open = || format!("open `{at}/{name}`");
        if name.contains('/') || !group.link_exists(&name) {
            return Err(self.no_index(at, &name));
        }
        let set = match group.loc_type_by_name(&name).at(&self.path, open)? {
            LocationType::Dataset => group.dataset(&name),
            _ => group.group(&name).and_then(|g| g.dataset(if g.link_exists("codes") { "codes" } else { "values" })),
        };
        Ok(set.at(&self.path, open)?.size())
    }

    /// Names of the columns of `obs` or `var` (without the index), sorted.
    pub fn columns(&self, axis: Axis) -> Result<Vec<String>> {
        let Some(group) = self.frame(axis)? else { return Ok(Vec::new()) };
        let index = self.attr_text(&group, "_index")?.unwrap_or_else(|| "_index".into());
        let names: BTreeSet<String> = self.members(&group).into_iter().collect();
        Ok(names.into_iter().filter(|n| *n != index && n != "__categories").collect())
    }

    /// A column of `obs` or `var`, one value a row of the frame; `None` where there is no such column.
    ///
    /// # Errors
    /// A column that cannot be read, or is shorter or longer than the index of its frame.
    pub fn column(&self, axis: Axis, name: &str) -> Result<Option<Column>> {
        let at = axis.name();
        let Some(group) = self.frame(axis)? else { return Err(self.legacy(at)) };
        let Some(column) = self.column_in(&group, at, name)? else { return Ok(None) };
        let rows = self.rows_of(&group, at)?;
        if column.len() != rows {
            return Err(Error::input(
                &self.path,
                format!("`{at}/{name}` has {} values where `{at}` has {rows} rows", column.len()),
                "the file is damaged; make or fetch it again",
            ));
        }
        Ok(Some(column))
    }

    /// Names of the layers.
    pub fn layers(&self) -> Vec<String> {
        match self.file.group("layers") {
            Ok(group) => self.members(&group),
            Err(_) => Vec::new(),
        }
    }

    /// The matrix at `X`, or at `layers/NAME`. `hint` tells the flag that chooses another one.
    pub fn matrix(&self, layer: Option<&str>, hint: &str) -> Result<Matrix> {
        let at = match layer {
            None | Some("X") => "X".to_string(),
            Some(name) => format!("layers/{}", name.strip_prefix("layers/").unwrap_or(name)),
        };
        let missing = || {
            let layers = self.layers();
            Error::input(
                &self.path,
                format!("no matrix at `{at}`; layers there are: {}", list(&layers)),
                match layers.is_empty() {
                    true => {
                        format!("give an AnnData file (.h5ad) with its matrix in X, or in a layer named with {hint}")
                    }
                    false => format!("choose one with {hint}"),
                },
            )
        };
        let (parent, name) = match at.split_once('/') {
            None => (self.root()?, at.as_str()),
            Some((group, name)) => (self.file.group(group).map_err(|_| missing())?, name),
        };
        if name.is_empty() || name.contains('/') || !parent.link_exists(name) {
            return Err(missing());
        }
        let kind = parent.loc_type_by_name(name).at(&self.path, || format!("read `{at}`"))?;
        match kind {
            LocationType::Dataset => {
                let set = parent.dataset(name).at(&self.path, || format!("open `{at}`"))?;
                match self.attr_text(&set, "encoding-type")?.as_deref() {
                    Some("null") => Err(missing()),
                    _ => Matrix::dense(&self.path, &at, set, self.bytes),
                }
            }
            LocationType::Group => {
                let group = parent.group(name).at(&self.path, || format!("open `{at}`"))?;
                let format = match self.attr_text(&group, "encoding-type")? {
                    Some(kind) => kind,
                    None => self.attr_text(&group, "h5sparse_format")?.unwrap_or_default(),
                };
                let shape = match self.attr_ints(&group, "shape")? {
                    Some(shape) => Some(shape),
                    None => self.attr_ints(&group, "h5sparse_shape")?,
                };
                let shape = match shape.as_deref() {
                    Some([rows, cols]) => usize::try_from(*rows).ok().zip(usize::try_from(*cols).ok()),
                    _ => None,
                };
                let csr = match format.as_str() {
                    "csr" | "csr_matrix" => true,
                    "csc" | "csc_matrix" => false,
                    other => {
                        return Err(Error::input(
                            &self.path,
                            format!("`{at}` is encoded as {other:?}"),
                            "write it as a csr_matrix, csc_matrix or array",
                        ));
                    }
                };
                let Some((rows, cols)) = shape else {
                    return Err(Error::input(
                        &self.path,
                        format!("`{at}` has no attribute `shape` with two sizes"),
                        "write the file again with a current anndata",
                    ));
                };
                Matrix::sparse(&self.path, &at, &group, csr, rows, cols, self.bytes)
            }
            _ => Err(missing()),
        }
    }

    fn root(&self) -> Result<Group> {
        self.file.group("/").at(&self.path, || "open the root group".into())
    }

    fn members(&self, group: &Group) -> Vec<String> {
        group.member_names().unwrap_or_default()
    }

    /// The frame as a group; `None` where it is a compound data set (anndata before 0.7).
    fn frame(&self, axis: Axis) -> Result<Option<Group>> {
        let at = axis.name();
        match self.file.loc_type_by_name(at).at(&self.path, || format!("read `{at}`"))? {
            LocationType::Group => Ok(Some(self.file.group(at).at(&self.path, || format!("open `{at}`"))?)),
            _ => Ok(None),
        }
    }

    fn legacy(&self, at: &str) -> Error {
        Error::input(
            &self.path,
            format!("`{at}` is a compound data set, as anndata before 0.7 wrote it"),
            "open the file with Python's anndata and write it again",
        )
    }

    fn column_in(&self, group: &Group, at: &str, name: &str) -> Result<Option<Column>> {
        self.plain_column(group, at, name, true)
    }

    fn plain_column(&self, group: &Group, at: &str, name: &str, may_be_categorical: bool) -> Result<Option<Column>> {
        if name.is_empty() || name.contains('/') || !group.link_exists(name) {
            return Ok(None);
        }
        let field = format!("{at}/{name}");
        if group.loc_type_by_name(name).at(&self.path, || format!("read `{field}`"))? == LocationType::Dataset {
            let set = group.dataset(name).at(&self.path, || format!("open `{field}`"))?;
            let column = self.array(&set, &field)?;
            // Layout 0.7: numbers here, categories beside the columns.
            if let (Column::Ints(codes), Ok(all)) = (&column, group.group("__categories"))
                && set.attr("categories").is_ok()
                && all.link_exists(name)
            {
                let set = all.dataset(name).at(&self.path, || format!("open `{at}/__categories/{name}`"))?;
                let categories = self.array(&set, &format!("{at}/__categories/{name}"))?;
                return self.categorical(&field, codes, labels(categories)).map(Some);
            }
            return Ok(Some(column));
        }
        let inner = group.group(name).at(&self.path, || format!("open `{field}`"))?;
        let part = |part: &str| -> Result<Column> {
            let set = inner.dataset(part).at(&self.path, || format!("open `{field}/{part}`"))?;
            self.array(&set, &format!("{field}/{part}"))
        };
        let kind = self.attr_text(&inner, "encoding-type")?.unwrap_or_default();
        match kind.as_str() {
            "categorical" if may_be_categorical => {
                let Column::Ints(codes) = part("codes")? else {
                    return Err(Error::input(
                        &self.path,
                        format!("`{field}/codes` does not hold whole numbers"),
                        "write the file again",
                    ));
                };
                // Categories may be nullable text (pandas 3); categories of categories are refused, as links could
                // make such a chain endless.
                let Some(categories) = self.plain_column(&inner, &field, "categories", false)? else {
                    return Err(Error::input(&self.path, format!("no `{field}/categories`"), "write the file again"));
                };
                self.categorical(&field, &codes, labels(categories)).map(Some)
            }
            "nullable-integer" | "nullable-boolean" | "nullable-string-array" => {
                let values = part("values")?;
                let mask = match part("mask")? {
                    Column::Bools(mask) if mask.len() == values.len() => mask,
                    _ => {
                        return Err(Error::input(
                            &self.path,
                            format!("`{field}/mask` is not one boolean a value"),
                            "write the file again",
                        ));
                    }
                };
                Ok(Some(masked(values, &mask)))
            }
            other => Err(Error::input(
                &self.path,
                format!("`{field}` is encoded as {other:?}, which is no column"),
                "write the file again with a current anndata",
            )),
        }
    }

    fn categorical(&self, field: &str, codes: &[i64], categories: Vec<String>) -> Result<Column> {
        let n = categories.len() as i64;
        if let Some(bad) = codes.iter().find(|&&c| c < -1 || c >= n) {
            return Err(Error::input(
                &self.path,
                format!("`{field}` has the code {bad} but {n} categories"),
                "the file is damaged; make or fetch it again",
            ));
        }
        let codes = codes.iter().map(|&c| c as i32).collect(); // in -1..n, and n categories fit memory
        Ok(Column::Categorical { codes, categories })
    }

    /// A one-dimensional data set as a column.
    fn array(&self, set: &Dataset, field: &str) -> Result<Column> {
        let shape = set.get_shape().at(&self.path, || format!("read the shape of `{field}`"))?;
        if shape.len() != 1 {
            return Err(Error::input(
                &self.path,
                format!("`{field}` has {} dimensions", shape.len()),
                "one is needed; write the file again",
            ));
        }
        self.check_size(set, field, &shape)?;
        let kind = descriptor(set).at(&self.path, || format!("read the type of `{field}`"))?;
        let read = || format!("read `{field}`");
        Ok(match kind {
            TypeDescriptor::Integer(_) | TypeDescriptor::Unsigned(_) => {
                Column::Ints(set.read_raw::<i64>().at(&self.path, read)?)
            }
            TypeDescriptor::Float(_) => Column::Floats(set.read_raw::<f64>().at(&self.path, read)?),
            TypeDescriptor::Boolean => Column::Bools(super::matrix::read_bools(set).at(&self.path, read)?),
            ref text if is_text(text) => Column::Strings(self.strings(set, text, field)?),
            other => {
                return Err(Error::input(
                    &self.path,
                    format!("`{field}` has the type {other}"),
                    "text, numbers or booleans are needed",
                ));
            }
        })
    }

    fn strings(&self, set: &Container, kind: &TypeDescriptor, field: &str) -> Result<Vec<String>> {
        let bytes = read_text(set, kind).at(&self.path, || format!("read `{field}`"))?;
        bytes
            .into_iter()
            .enumerate()
            .map(|(i, b)| {
                String::from_utf8(b).map_err(|_| {
                    Error::input(&self.path, format!("text {i} of `{field}` is not UTF-8"), "write the file again")
                })
            })
            .collect()
    }

    /// An attribute as text; `None` where it is missing or no text.
    fn attr_text(&self, at: &Location, name: &str) -> Result<Option<String>> {
        let Ok(attr) = at.attr(name) else { return Ok(None) };
        let kind = descriptor(&attr).at(&self.path, || format!("read attribute `{name}`"))?;
        if !is_text(&kind) || attr.size() != 1 {
            return Ok(None);
        }
        Ok(self.strings(&attr, &kind, name)?.pop())
    }

    /// An attribute as whole numbers; `None` where it is missing.
    fn attr_ints(&self, at: &Location, name: &str) -> Result<Option<Vec<i64>>> {
        let Ok(attr) = at.attr(name) else { return Ok(None) };
        if attr.size() > 16 {
            return Ok(None);
        }
        Ok(Some(attr.read_raw::<i64>().at(&self.path, || format!("read attribute `{name}`"))?))
    }

    fn check_size(&self, set: &Dataset, field: &str, shape: &[usize]) -> Result<()> {
        plausible(&self.path, self.bytes, field, shape, set.dtype().map(|t| t.size()).unwrap_or(8)).map(|_| ())
    }
}

/// Number of elements of a data set whose size the file can bear: gzip shrinks at most by 1,032.
pub(super) fn plausible(path: &Path, bytes: u64, field: &str, shape: &[usize], element: usize) -> Result<usize> {
    let n = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    let limit = bytes.saturating_mul(1_100).saturating_add(1 << 20);
    match n.and_then(|n| n.checked_mul(element).map(|b| (n, b))) {
        Some((n, total)) if total as u64 <= limit => Ok(n),
        _ => Err(Error::input(
            path,
            format!("`{field}` says it has {shape:?} elements, more than a file of {bytes} bytes can hold"),
            "the file is damaged; make or fetch it again",
        )),
    }
}

pub(super) fn descriptor(at: &Container) -> hdf5::Result<TypeDescriptor> {
    at.dtype()?.to_descriptor()
}

fn is_text(kind: &TypeDescriptor) -> bool {
    matches!(
        kind,
        TypeDescriptor::VarLenAscii
            | TypeDescriptor::VarLenUnicode
            | TypeDescriptor::FixedAscii(_)
            | TypeDescriptor::FixedUnicode(_)
    )
}

fn read_text(set: &Container, kind: &TypeDescriptor) -> hdf5::Result<Vec<Vec<u8>>> {
    fn fixed<const N: usize>(set: &Container, ascii: bool) -> hdf5::Result<Vec<Vec<u8>>> {
        Ok(if ascii {
            set.read_raw::<FixedAscii<N>>()?.iter().map(|s| s.as_bytes().to_vec()).collect()
        } else {
            set.read_raw::<FixedUnicode<N>>()?.iter().map(|s| s.as_bytes().to_vec()).collect()
        })
    }
    let (n, ascii) = match kind {
        TypeDescriptor::VarLenAscii => {
            return Ok(set.read_raw::<VarLenAscii>()?.iter().map(|s| s.as_bytes().to_vec()).collect());
        }
        TypeDescriptor::VarLenUnicode => {
            return Ok(set.read_raw::<VarLenUnicode>()?.iter().map(|s| s.as_bytes().to_vec()).collect());
        }
        TypeDescriptor::FixedAscii(n) => (*n, true),
        TypeDescriptor::FixedUnicode(n) => (*n, false),
        _ => return Err(hdf5::Error::Internal("no text".into())),
    };
    match n {
        0..=32 => fixed::<32>(set, ascii),
        33..=128 => fixed::<128>(set, ascii),
        129..=1024 => fixed::<1024>(set, ascii),
        _ => Err(hdf5::Error::Internal(format!("text of fixed length {n}; at most 1024 is read"))),
    }
}

/// Categories as text.
fn labels(categories: Column) -> Vec<String> {
    match categories {
        Column::Strings(v) => v,
        Column::Ints(v) => v.iter().map(i64::to_string).collect(),
        Column::Floats(v) => v.iter().map(f64::to_string).collect(),
        Column::Bools(v) => v.iter().map(|b| if *b { "True" } else { "False" }.to_string()).collect(),
        Column::Categorical { .. } => Vec::new(),
    }
}

fn masked(values: Column, mask: &[bool]) -> Column {
    if !mask.iter().any(|m| *m) {
        return values;
    }
    let blank = |v: Vec<f64>| v.into_iter().zip(mask).map(|(x, m)| if *m { f64::NAN } else { x }).collect();
    match values {
        Column::Ints(v) => Column::Floats(blank(v.into_iter().map(|x| x as f64).collect())),
        Column::Floats(v) => Column::Floats(blank(v)),
        Column::Bools(v) => Column::Floats(blank(v.into_iter().map(|x| f64::from(u8::from(x))).collect())),
        Column::Strings(v) => {
            Column::Strings(v.into_iter().zip(mask).map(|(x, m)| if *m { String::new() } else { x }).collect())
        }
        Column::Categorical { .. } => values,
    }
}

/// Names for a message: all of them, or the first few.
pub(crate) fn list(names: &[String]) -> String {
    match names {
        [] => "none".into(),
        _ if names.len() <= 12 => names.join(", "),
        _ => format!("{}, … ({} in all)", names[..12].join(", "), names.len()),
    }
}
