//! AnnData (`.h5ad`): a streaming reader of every on-disk layout, and a writer that Python's `anndata` opens.

pub(crate) mod chunks;
#[forbid(unsafe_code)]
pub(crate) mod edit;
pub(crate) mod fields;
pub(crate) mod filters;
#[forbid(unsafe_code)]
pub(crate) mod heaps;
#[forbid(unsafe_code)]
pub(crate) mod matrix;
#[forbid(unsafe_code)]
pub(crate) mod open;
#[forbid(unsafe_code)]
pub(crate) mod reader;
#[forbid(unsafe_code)]
pub(crate) mod writer;

use std::path::Path;

use crate::error::{Error, Result};

pub(crate) use edit::edit_var;
pub(crate) use fields::plausible;
pub use matrix::{HeldMatrix, HeldNumbers, Matrix, MatrixKind, Streaming};
pub(crate) use open::open_hdf5;
pub use reader::{AnnData, Axis};
pub(crate) use reader::{list, text_of};
pub use writer::{AnnDataWriter, CsrSink, DenseSink, UnsArray};

/// A column of a data frame; all columns of a frame have the length of its index.
#[derive(Debug, Clone, PartialEq)]
pub enum Column {
    /// Text.
    Strings(Vec<String>),
    /// Categories by number; -1 is missing.
    Categorical {
        /// Number of the category of each row, or -1.
        codes: Vec<i32>,
        /// Names of the categories, distinct.
        categories: Vec<String>,
    },
    /// Whole numbers.
    Ints(Vec<i64>),
    /// Numbers; NaN is missing.
    Floats(Vec<f64>),
    /// Yes or no.
    Bools(Vec<bool>),
}

impl Column {
    /// Rows.
    pub fn len(&self) -> usize {
        match self {
            Column::Strings(v) => v.len(),
            Column::Categorical { codes, .. } => codes.len(),
            Column::Ints(v) => v.len(),
            Column::Floats(v) => v.len(),
            Column::Bools(v) => v.len(),
        }
    }

    /// No rows?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The values of these rows, in this order. Every row must be there.
    ///
    /// ```
    /// use sccrossrec::data::anndata::Column;
    /// assert_eq!(Column::Ints(vec![5, 6, 7]).select(&[2, 0]), Column::Ints(vec![7, 5]));
    /// ```
    pub fn select(&self, rows: &[u32]) -> Column {
        fn of<T: Clone>(values: &[T], rows: &[u32]) -> Vec<T> {
            rows.iter().map(|&i| values[i as usize].clone()).collect()
        }
        match self {
            Column::Strings(v) => Column::Strings(of(v, rows)),
            Column::Categorical { codes, categories } => {
                Column::Categorical { codes: of(codes, rows), categories: categories.clone() }
            }
            Column::Ints(v) => Column::Ints(of(v, rows)),
            Column::Floats(v) => Column::Floats(of(v, rows)),
            Column::Bools(v) => Column::Bools(of(v, rows)),
        }
    }

    /// The values as text; `None` where one is missing (an empty text, `nan`, `NA`, … count as missing).
    pub fn into_text(self) -> Vec<Option<String>> {
        let clean = |s: String| match s.as_str() {
            "" | "nan" | "NaN" | "NA" | "None" | "<NA>" => None,
            _ => Some(s),
        };
        match self {
            Column::Strings(v) => v.into_iter().map(clean).collect(),
            Column::Categorical { codes, categories } => codes
                .iter()
                .map(|&c| usize::try_from(c).ok().and_then(|c| categories.get(c)).cloned().and_then(clean))
                .collect(),
            Column::Ints(v) => v.iter().map(|x| Some(x.to_string())).collect(),
            Column::Floats(v) => v.iter().map(|x| if x.is_nan() { None } else { Some(x.to_string()) }).collect(),
            Column::Bools(v) => v.iter().map(|x| Some(if *x { "True" } else { "False" }.to_string())).collect(),
        }
    }
}

/// A data frame: `obs` or `var`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Frame {
    /// Names of the rows (barcodes, genes, peaks).
    pub index: Vec<String>,
    /// Named columns, in order.
    pub columns: Vec<(String, Column)>,
}

impl Frame {
    /// The column of that name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|(n, _)| n == name).map(|(_, c)| c)
    }
}

/// The system's own word where HDF5 failed for that (a full disk), and whether it was at writing.
fn of_system(e: &hdf5::Error) -> Option<(std::io::Error, bool)> {
    let stack = e.stack()?;
    stack.iter().find_map(|frame| {
        let number = frame.desc().split_once("errno = ")?.1;
        let digits = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
        let errno = number[..digits].parse().ok().filter(|n| *n != 0)?;
        Some((std::io::Error::from_raw_os_error(errno), !frame.func().contains("read")))
    })
}

/// What HDF5 says, on one line and without the folders of the machine that it was built on.
pub(crate) fn plain_words(e: &hdf5::Error) -> String {
    let text = e.to_string().replace('\n', " ");
    let local = |word: &&str| word.contains('/') && word.len() > 1;
    text.split(' ').filter(|w| !local(w)).collect::<Vec<_>>().join(" ")
}

/// Says which field of which file HDF5 failed on.
pub(crate) fn h5_error(path: &Path, doing: &str, e: hdf5::Error) -> Error {
    if let Some((source, writing)) = of_system(&e) {
        return Error::io(path, if writing { "write" } else { "read" }, source);
    }
    let why = plain_words(&e);
    Error::input(
        path,
        format!("cannot {doing} (HDF5: {why})"),
        "the file may be truncated or damaged; make or fetch it again",
    )
}

/// [`h5_error`] as a method on HDF5's results.
pub(crate) trait H5Context<T> {
    /// Turns HDF5's error into ours: `path` is the file, `doing` a phrase that follows "cannot".
    fn at(self, path: &Path, doing: impl FnOnce() -> String) -> Result<T>;
}

impl<T> H5Context<T> for hdf5::Result<T> {
    fn at(self, path: &Path, doing: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|e| h5_error(path, &doing(), e))
    }
}
