//! The AnnData reader: names, columns and matrices of every layout from anndata 0.5 to today.
//!
//! | what | to 0.6 | 0.7 | from 0.8 |
//! | --- | --- | --- | --- |
//! | `obs`, `var` | compound data set; the first field holds the names | group; attribute `_index` names the names | the same |
//! | categories | `uns/COLUMN_categories` | `obs/__categories/COLUMN` | group of codes and categories |
//! | sparse matrix | attributes `h5sparse_format`, `h5sparse_shape` | `encoding-type`, `shape` | the same |
//! | raw | `raw.X`, `raw.var` | `raw/X`, `raw/var` | the same |
//!
//! One modality of a MuData file is an AnnData file below `mod/NAME`.
//!
//! Files are opened read-only and without HDF5's file locks. Nothing a file says about sizes is believed before it
//! is compared with the length of the file.

use std::path::{Path, PathBuf};

use hdf5::types::{FixedAscii, FixedUnicode, TypeDescriptor, VarLenAscii, VarLenUnicode};
use hdf5::{Dataset, File, Group, Location, LocationType};

use super::fields::{Elements, descriptor, fields, plausible};
use super::matrix::Matrix;
use super::open::open_hdf5;
use super::{Column, H5Context};
use crate::error::{Error, Result};
use crate::progress::Progress;

/// An `.h5ad` file, or one modality of an `.h5mu` file, opened read-only.
#[derive(Debug, Clone)]
pub struct AnnData {
    path: PathBuf,
    root: Group,
    /// Where it lies in the file, for messages: nothing, or `mod/NAME/`.
    inside: String,
    bytes: u64,
    /// `raw` stands for `X` and `var`.
    raw: bool,
    /// Layer that stands for `X`.
    layer: Option<String>,
}

/// `obs` or `var`, as it is stored.
enum Stored {
    Group(Group),
    /// A compound data set (anndata before 0.7).
    Table(Dataset),
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
    /// Opens a file, which is read through once (see the module [`heaps`]).
    ///
    /// # Errors
    /// [`Error::Input`] for anything that is not HDF5, or is cut short, or has no `obs` and `var`.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_with(path, &())
    }

    /// As [`AnnData::open`]; `progress` is asked meanwhile whether to stop.
    ///
    /// # Errors
    /// As [`AnnData::open`]; [`Error::Interrupted`].
    pub fn open_with(path: &Path, progress: &dyn Progress) -> Result<Self> {
        let (file, bytes) = open_hdf5(path, "give an .h5ad file", progress)?;
        Self::inside(path, &file, "", bytes)
    }

    /// The AnnData below the group `inside` of an opened file (`""`: the root; else it ends in `/`).
    pub(crate) fn inside(path: &Path, file: &File, inside: &str, bytes: u64) -> Result<Self> {
        let at = if inside.is_empty() { "/" } else { inside };
        let root = file.group(at).at(path, || format!("open `{at}`"))?;
        let data = AnnData { path: path.to_path_buf(), root, inside: inside.into(), bytes, raw: false, layer: None };
        for axis in [Axis::Obs, Axis::Var] {
            if !data.root.link_exists(axis.name()) {
                return Err(Error::input(
                    path,
                    format!("no `{inside}{}`; there is {}", axis.name(), list(&data.members(&data.root))),
                    "give an AnnData file (.h5ad)",
                ));
            }
        }
        Ok(data)
    }

    /// The same file with `raw` in the place of `X` and `var`: often all genes, as counts, before filtering.
    ///
    /// # Errors
    /// [`Error::Input`] where the file has no `raw`.
    pub fn with_raw(&self) -> Result<Self> {
        let there = |name: &str| self.root.link_exists(name);
        let new = there("raw") && self.root.group("raw").is_ok_and(|g| g.link_exists("X") && g.link_exists("var"));
        if new || (there("raw.X") && there("raw.var")) {
            return Ok(AnnData { raw: true, ..self.clone() });
        }
        Err(Error::input(
            &self.path,
            format!("no `{}raw` with a matrix and names; layers there are: {}", self.inside, list(&self.layers())),
            "choose X or a layer",
        ))
    }

    /// The same file with this layer in the place of `X`; it must be there. `hint` is the flag that chose it.
    pub(crate) fn with_layer(self, layer: Option<&str>, hint: &str) -> Result<Self> {
        self.matrix(layer, hint)?;
        Ok(AnnData { layer: layer.map(String::from), ..self })
    }

    /// Does `raw` stand for `X` and `var`?
    pub(crate) fn is_raw(&self) -> bool {
        self.raw
    }

    /// Has it a `raw`?
    pub fn has_raw(&self) -> bool {
        self.with_raw().is_ok()
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
    ///
    /// # Errors
    /// [`Error::Input`] that names the field which is missing or is no list of names.
    pub fn names(&self, axis: Axis) -> Result<Vec<String>> {
        let (stored, at) = self.frame(axis)?;
        let (name, column) = match &stored {
            Stored::Group(group) => {
                let name = self.index_name(group, &at)?;
                let column = self.column_in(group, &at, &name)?.ok_or_else(|| self.no_index(&at, &name))?;
                (name, column)
            }
            Stored::Table(set) => {
                let name = self.table_fields(set, &at)?.remove(0);
                let column = self.array(Elements::Field(set, &name), &format!("{at}/{name}"))?;
                (name, column)
            }
        };
        match column {
            Column::Strings(v) => Ok(v),
            Column::Categorical { codes, categories } => codes
                .iter()
                .map(|&c| usize::try_from(c).ok().and_then(|c| categories.get(c)).cloned())
                .collect::<Option<Vec<_>>>()
                .ok_or_else(|| Error::input(&self.path, format!("names in `{at}` are missing"), "fill them in")),
            Column::Ints(v) => Ok(v.iter().map(i64::to_string).collect()),
            Column::Floats(_) | Column::Bools(_) => Err(Error::input(
                &self.path,
                format!("the names in `{at}/{name}` are not text"),
                "write the file again with names as text",
            )),
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

    /// Name of the column of `obs` or `var` that holds the names of the rows.
    pub(super) fn index_of(&self, axis: Axis) -> Result<String> {
        match self.frame(axis)? {
            (Stored::Group(group), at) => self.index_name(&group, &at),
            (Stored::Table(set), at) => Ok(self.table_fields(&set, &at)?.remove(0)),
        }
    }

    fn no_index(&self, at: &str, column: &str) -> Error {
        Error::input(
            &self.path,
            format!("`{at}` names its index `{column}`, which is not there"),
            "write the file again with a current anndata",
        )
    }

    /// Names of the fields of a compound frame, at least one.
    fn table_fields(&self, set: &Dataset, at: &str) -> Result<Vec<String>> {
        let all = fields(set).at(&self.path, || format!("read the type of `{at}`"))?;
        if all.is_empty() {
            return Err(Error::input(
                &self.path,
                format!("`{at}` is neither a group nor a table of columns"),
                "give an AnnData file (.h5ad)",
            ));
        }
        Ok(all.into_iter().map(|f| f.name).collect())
    }

    /// Rows of `obs` or `var`: the length of its index, which is not read for it.
    ///
    /// # Errors
    /// [`Error::Input`] where the index is missing.
    pub fn rows(&self, axis: Axis) -> Result<usize> {
        let (stored, at) = self.frame(axis)?;
        self.rows_of(&stored, &at)
    }

    fn rows_of(&self, stored: &Stored, at: &str) -> Result<usize> {
        let group = match stored {
            Stored::Group(group) => group,
            Stored::Table(set) => return Ok(set.size()),
        };
        let name = self.index_name(group, at)?;
        let open = || format!("open `{at}/{name}`");
        if !is_there(group, &name) {
            return Err(self.no_index(at, &name));
        }
        let set = match group.loc_type_by_name(&name).at(&self.path, open)? {
            LocationType::Dataset => group.dataset(&name),
            _ => group.group(&name).and_then(|g| g.dataset(if g.link_exists("codes") { "codes" } else { "values" })),
        };
        Ok(set.at(&self.path, open)?.size())
    }

    /// Names of the columns of `obs` or `var` (without the index), sorted.
    ///
    /// # Errors
    /// [`Error::Input`] where the frame cannot be read.
    pub fn columns(&self, axis: Axis) -> Result<Vec<String>> {
        let (stored, at) = self.frame(axis)?;
        let (mut names, index) = match &stored {
            Stored::Group(group) => {
                let mut names = Vec::new();
                self.column_names(group, "", 0, &mut names);
                (names, self.attr_text(group, "_index")?.unwrap_or_else(|| "_index".into()))
            }
            Stored::Table(set) => {
                let names = self.table_fields(set, &at)?;
                let index = names[0].clone();
                (names, index)
            }
        };
        names.retain(|n| *n != index && n != "__categories");
        names.sort();
        Ok(names)
    }

    /// A column of `obs` or `var`, one value a row of the frame; `None` where there is no such column.
    ///
    /// # Errors
    /// A column that cannot be read, or is shorter or longer than the index of its frame.
    pub fn column(&self, axis: Axis, name: &str) -> Result<Option<Column>> {
        let (stored, at) = self.frame(axis)?;
        let column = match &stored {
            Stored::Group(group) => self.column_in(group, &at, name)?,
            Stored::Table(set) => self.table_column(set, &at, name)?,
        };
        let Some(column) = column else { return Ok(None) };
        let rows = self.rows_of(&stored, &at)?;
        if column.len() != rows {
            return Err(Error::input(
                &self.path,
                format!("`{at}/{name}` has {} values where `{at}` has {rows} rows", column.len()),
                "the file is damaged; make or fetch it again",
            ));
        }
        Ok(Some(column))
    }

    /// A column of a compound frame; its categories, if it has any, are `uns/COLUMN_categories`.
    fn table_column(&self, set: &Dataset, at: &str, name: &str) -> Result<Option<Column>> {
        if !self.table_fields(set, at)?.iter().skip(1).any(|f| f == name) {
            return Ok(None);
        }
        let field = format!("{at}/{name}");
        let column = self.array(Elements::Field(set, name), &field)?;
        let (Column::Ints(codes), Ok(uns)) = (&column, self.root.group("uns")) else { return Ok(Some(column)) };
        let key = format!("{name}_categories");
        if !uns.link_exists(&key) {
            return Ok(Some(column));
        }
        let set = uns.dataset(&key).at(&self.path, || format!("open `uns/{key}`"))?;
        // One category may be a scalar.
        let categories = if set.ndim() == 0 {
            let kind = descriptor(&set).at(&self.path, || format!("read the type of `uns/{key}`"))?;
            if !is_text(&kind) {
                return Ok(Some(column));
            }
            self.strings(Elements::Whole(&set), &kind, &key)?
        } else {
            labels(self.array(Elements::Whole(&set), &format!("uns/{key}"))?)
        };
        self.categorical(&field, codes, categories).map(Some)
    }

    /// Names of the layers.
    pub fn layers(&self) -> Vec<String> {
        if self.raw {
            return Vec::new();
        }
        match self.root.group("layers") {
            Ok(group) => self.members(&group),
            Err(_) => Vec::new(),
        }
    }

    /// The matrix at `X` (of `raw`, after [`AnnData::with_raw`]), or at `layers/NAME`. `hint` tells the flag that
    /// chooses another one.
    ///
    /// # Errors
    /// [`Error::Input`] where there is no such matrix, or its sizes contradict the file.
    pub fn matrix(&self, layer: Option<&str>, hint: &str) -> Result<Matrix> {
        let at = match layer.or(self.layer.as_deref()) {
            None | Some("X") if self.raw && self.root.link_exists("raw.X") => "raw.X".to_string(),
            None | Some("X") if self.raw => "raw/X".to_string(),
            None | Some("X") => "X".to_string(),
            Some(name) => format!("layers/{}", name.strip_prefix("layers/").unwrap_or(name)),
        };
        let missing = || {
            let layers = self.layers();
            Error::input(
                &self.path,
                format!("no matrix at `{}{at}`; layers there are: {}", self.inside, list(&layers)),
                match layers.is_empty() {
                    true => {
                        format!("give an AnnData file (.h5ad) with its matrix in X, or in a layer named with {hint}")
                    }
                    false => format!("choose one with {hint}"),
                },
            )
        };
        let (parent, name) = match at.split_once('/') {
            None => (self.root.clone(), at.as_str()),
            Some((group, name)) => (self.root.group(group).map_err(|_| missing())?, name),
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

    fn members(&self, group: &Group) -> Vec<String> {
        group.member_names().unwrap_or_default()
    }

    /// The frame and its name in the file.
    fn frame(&self, axis: Axis) -> Result<(Stored, String)> {
        let name = match axis {
            Axis::Var if self.raw && self.root.link_exists("raw.var") => "raw.var",
            Axis::Var if self.raw => "raw/var",
            _ => axis.name(),
        };
        let (parent, last) = match name.split_once('/') {
            None => (self.root.clone(), name),
            Some((group, last)) => (self.root.group(group).at(&self.path, || format!("open `{group}`"))?, last),
        };
        let at = format!("{}{name}", self.inside);
        let stored = match parent.loc_type_by_name(last).at(&self.path, || format!("read `{at}`"))? {
            LocationType::Group => Stored::Group(parent.group(last).at(&self.path, || format!("open `{at}`"))?),
            _ => Stored::Table(parent.dataset(last).at(&self.path, || format!("open `{at}`"))?),
        };
        Ok((stored, at))
    }

    /// Is the frame a compound data set (anndata before 0.7)?
    ///
    /// # Errors
    /// [`Error::Input`] where the frame is missing.
    pub fn is_table(&self, axis: Axis) -> Result<bool> {
        Ok(matches!(self.frame(axis)?.0, Stored::Table(_)))
    }

    /// Names of the columns below a group of a frame. anndata before 0.11 wrote a column `a/b` as `b` in a group `a`, which
    /// no encoding tells to be a column.
    fn column_names(&self, group: &Group, before: &str, depth: usize, names: &mut Vec<String>) {
        const DEEPEST: usize = 4; // links may run in circles
        for name in self.members(group) {
            let inner = match group.loc_type_by_name(&name) {
                Ok(LocationType::Group) if name != "__categories" => group.group(&name).ok(),
                _ => None,
            };
            let bare = |g: &Group| g.attr("encoding-type").is_err() && !g.link_exists("codes");
            match inner.filter(bare) {
                Some(inner) if depth < DEEPEST => {
                    self.column_names(&inner, &format!("{before}{name}/"), depth + 1, names);
                }
                _ => names.push(format!("{before}{name}")),
            }
        }
    }

    fn column_in(&self, group: &Group, at: &str, name: &str) -> Result<Option<Column>> {
        self.plain_column(group, at, name, true)
    }

    fn plain_column(&self, group: &Group, at: &str, name: &str, may_be_categorical: bool) -> Result<Option<Column>> {
        if !is_there(group, name) {
            return Ok(None);
        }
        let field = format!("{at}/{name}");
        if group.loc_type_by_name(name).at(&self.path, || format!("read `{field}`"))? == LocationType::Dataset {
            let set = group.dataset(name).at(&self.path, || format!("open `{field}`"))?;
            let column = self.array(Elements::Whole(&set), &field)?;
            // Layout 0.7: numbers here, categories beside the columns.
            if let (Column::Ints(codes), Ok(all)) = (&column, group.group("__categories"))
                && set.attr("categories").is_ok()
                && all.link_exists(name)
            {
                let set = all.dataset(name).at(&self.path, || format!("open `{at}/__categories/{name}`"))?;
                let categories = self.array(Elements::Whole(&set), &format!("{at}/__categories/{name}"))?;
                return self.categorical(&field, codes, labels(categories)).map(Some);
            }
            return Ok(Some(column));
        }
        let inner = group.group(name).at(&self.path, || format!("open `{field}`"))?;
        let part = |part: &str| -> Result<Column> {
            let set = inner.dataset(part).at(&self.path, || format!("open `{field}/{part}`"))?;
            self.array(Elements::Whole(&set), &format!("{field}/{part}"))
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
        // R's missing value, as written by way of its factors.
        let code = |c: i64| if c == i64::from(i32::MIN) { -1 } else { c };
        let codes: Vec<i64> = codes.iter().map(|&c| code(c)).collect();
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

    fn array(&self, from: Elements<'_>, field: &str) -> Result<Column> {
        array(&self.path, self.bytes, from, field)
    }

    fn strings(&self, from: Elements<'_>, kind: &TypeDescriptor, field: &str) -> Result<Vec<String>> {
        strings(&self.path, from, kind, field)
    }

    /// An attribute as text; `None` where it is missing or no text.
    fn attr_text(&self, at: &Location, name: &str) -> Result<Option<String>> {
        let Ok(attr) = at.attr(name) else { return Ok(None) };
        let kind = descriptor(&attr).at(&self.path, || format!("read attribute `{name}`"))?;
        if !is_text(&kind) || attr.size() != 1 {
            return Ok(None);
        }
        Ok(self.strings(Elements::Whole(&attr), &kind, name)?.pop())
    }

    /// An attribute as whole numbers; `None` where it is missing.
    fn attr_ints(&self, at: &Location, name: &str) -> Result<Option<Vec<i64>>> {
        let Ok(attr) = at.attr(name) else { return Ok(None) };
        if attr.size() > 16 {
            return Ok(None);
        }
        Ok(Some(attr.read_raw::<i64>().at(&self.path, || format!("read attribute `{name}`"))?))
    }
}

/// Is there something of this name, which may be that of a group and of what is in it?
fn is_there(group: &Group, name: &str) -> bool {
    let parts: Vec<&str> = name.split('/').collect();
    let up_to = |n: usize| parts[..n].join("/");
    !parts.iter().any(|p| p.is_empty() || *p == "." || *p == "..")
        && (1..=parts.len()).all(|n| group.link_exists(&up_to(n)))
}

/// One-dimensional elements as a column.
fn array(path: &Path, bytes: u64, from: Elements<'_>, field: &str) -> Result<Column> {
    let shape = from.shape().at(path, || format!("read the shape of `{field}`"))?;
    if shape.len() != 1 {
        return Err(Error::input(
            path,
            format!("`{field}` has {} dimensions", shape.len()),
            "one is needed; write the file again",
        ));
    }
    plausible(path, bytes, field, &shape, from.size())?;
    from.check_filters(path, field)?;
    let kind = from.descriptor().at(path, || format!("read the type of `{field}`"))?;
    let read = || format!("read `{field}`");
    Ok(match kind {
        TypeDescriptor::Integer(_) | TypeDescriptor::Unsigned(_) => Column::Ints(from.read::<i64>().at(path, read)?),
        TypeDescriptor::Float(_) => Column::Floats(from.read::<f64>().at(path, read)?),
        // As bytes: whatever the file holds, no `bool` is made of anything but 0 and 1.
        TypeDescriptor::Boolean => {
            let bytes = from.read::<u8>().at(path, read)?;
            Column::Bools(bytes.into_iter().map(|b| b != 0).collect())
        }
        ref text if is_text(text) => Column::Strings(strings(path, from, text, field)?),
        other => {
            return Err(Error::input(
                path,
                format!("`{field}` has the type {other}"),
                "text, numbers or booleans are needed",
            ));
        }
    })
}

/// A data set of one dimension as a column; `field` is its name in messages.
pub(crate) fn text_of(path: &Path, bytes: u64, set: &Dataset, field: &str) -> Result<Column> {
    array(path, bytes, Elements::Whole(set), field)
}

/// Text as UTF-8.
pub(super) fn strings(path: &Path, from: Elements<'_>, kind: &TypeDescriptor, field: &str) -> Result<Vec<String>> {
    let bytes = read_text(from, kind).at(path, || format!("read `{field}`"))?;
    bytes
        .into_iter()
        .enumerate()
        .map(|(i, b)| {
            String::from_utf8(b)
                .map_err(|_| Error::input(path, format!("text {i} of `{field}` is not UTF-8"), "write the file again"))
        })
        .collect()
}

pub(super) fn is_text(kind: &TypeDescriptor) -> bool {
    matches!(
        kind,
        TypeDescriptor::VarLenAscii
            | TypeDescriptor::VarLenUnicode
            | TypeDescriptor::FixedAscii(_)
            | TypeDescriptor::FixedUnicode(_)
    )
}

fn read_text(from: Elements<'_>, kind: &TypeDescriptor) -> hdf5::Result<Vec<Vec<u8>>> {
    fn fixed<const N: usize>(from: Elements<'_>, ascii: bool) -> hdf5::Result<Vec<Vec<u8>>> {
        Ok(if ascii {
            from.read::<FixedAscii<N>>()?.iter().map(|s| s.as_bytes().to_vec()).collect()
        } else {
            from.read::<FixedUnicode<N>>()?.iter().map(|s| s.as_bytes().to_vec()).collect()
        })
    }
    let (n, ascii) = match kind {
        TypeDescriptor::VarLenAscii => {
            return Ok(from.read::<VarLenAscii>()?.iter().map(|s| s.as_bytes().to_vec()).collect());
        }
        TypeDescriptor::VarLenUnicode => {
            return Ok(from.read::<VarLenUnicode>()?.iter().map(|s| s.as_bytes().to_vec()).collect());
        }
        TypeDescriptor::FixedAscii(n) => (*n, true),
        TypeDescriptor::FixedUnicode(n) => (*n, false),
        _ => return Err(hdf5::Error::Internal("no text".into())),
    };
    match n {
        0..=32 => fixed::<32>(from, ascii),
        33..=128 => fixed::<128>(from, ascii),
        129..=1024 => fixed::<1024>(from, ascii),
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
