//! Matrix Market files of coordinates, read as a stream.

use std::fs::File;
use std::io::BufRead;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::files::text::{open_text, text_error};

/// A Matrix Market file of coordinates, features × cells.
#[derive(Debug, Clone)]
pub(crate) struct Coordinates {
    pub path: PathBuf,
    pub features: usize,
    pub cells: usize,
    pub entries: usize,
    /// Entries carry no value: each is 1.
    pattern: bool,
    /// The file is cells × features.
    transposed: bool,
}

/// Kinds of numbers in the header.
const NUMBERS: [&str; 4] = ["integer", "unsigned-integer", "real", "double"];

const GIVE: &str = "give a Matrix Market file of coordinates (matrix.mtx), plain or gzip, as 10x makes it";

impl Coordinates {
    /// Opens a file and reads its header.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let (c, _, _) = Self::start(path)?;
        Ok(c)
    }

    /// The same file, read as cells × features.
    pub(crate) fn transpose(self) -> Self {
        Coordinates { features: self.cells, cells: self.features, transposed: !self.transposed, ..self }
    }

    /// Reads the header; what is left of the file are its entries, the first on the line after the number.
    fn start(path: &Path) -> Result<(Self, Box<dyn BufRead>, usize)> {
        let file = File::open(path).map_err(|e| Error::io(path, "read", e))?;
        let mut reader = open_text(path, file)?;
        let mut line = String::new();
        let mut number = 0;
        let mut next = |line: &mut String, number: &mut usize| -> Result<bool> {
            line.clear();
            *number += 1;
            // A line of a header has tens of characters; more is something else.
            let n =
                std::io::Read::take(&mut reader, 1 << 16).read_line(line).map_err(|e| text_error(path, *number, e))?;
            Ok(n > 0)
        };
        next(&mut line, &mut number)?;
        let words: Vec<String> = line.split_whitespace().map(str::to_ascii_lowercase).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let pattern = match words.as_slice() {
            ["%%matrixmarket", "matrix", "coordinate", field, "general"] if NUMBERS.contains(field) => false,
            ["%%matrixmarket", "matrix", "coordinate", "pattern", "general"] => true,
            ["%%matrixmarket", "matrix", "array", ..] => {
                return Err(Error::input(
                    path,
                    "is a dense Matrix Market file (array)",
                    "write it as coordinates: scipy.io.mmwrite of a sparse matrix, or Matrix::writeMM of one in R",
                ));
            }
            ["%%matrixmarket", ..] => {
                return Err(Error::input(path, format!("is of the kind {:?}", line.trim()), GIVE));
            }
            _ => return Err(Error::input(path, "its first line is not %%MatrixMarket …", GIVE)),
        };
        loop {
            if !next(&mut line, &mut number)? {
                return Err(Error::input(path, "ends before its sizes", GIVE));
            }
            if !line.starts_with('%') && !line.trim().is_empty() {
                break;
            }
        }
        let sizes: Option<Vec<usize>> = line.split_whitespace().map(|w| w.parse().ok()).collect();
        let Some(&[features, cells, entries]) = sizes.as_deref() else {
            return Err(Error::input(path, format!("line {number} is not three sizes: {:?}", line.trim()), GIVE));
        };
        if u32::try_from(features).is_err() || u32::try_from(cells).is_err() {
            return Err(Error::input(
                path,
                format!("is {features} × {cells}"),
                "at most 2^32 - 1 features and cells can be used",
            ));
        }
        Ok((Coordinates { path: path.into(), features, cells, entries, pattern, transposed: false }, reader, number))
    }

    /// Hands every entry on: cell, feature, value.
    pub(crate) fn for_each(&self, mut take: impl FnMut(u32, u32, f32) -> Result<()>) -> Result<()> {
        let path = &self.path;
        let (now, mut reader, mut number) = Self::start(path)?;
        let now = if self.transposed { now.transpose() } else { now };
        if (now.features, now.cells, now.entries) != (self.features, self.cells, self.entries) {
            return Err(Error::input(path, "changed while it was read", "run it again"));
        }
        let mut line: Vec<u8> = Vec::new();
        let mut seen = 0usize;
        loop {
            line.clear();
            number += 1;
            let read = std::io::Read::take(&mut reader, 1 << 16).read_until(b'\n', &mut line);
            if read.map_err(|e| text_error(path, number, e))? == 0 {
                break;
            }
            let text = line.trim_ascii();
            if text.is_empty() {
                continue;
            }
            let wrong = |found: String| Error::input(path, format!("line {number}: {found}"), GIVE);
            let shown = || String::from_utf8_lossy(&text[..text.len().min(60)]).into_owned();
            let mut words = text.split(|b| b.is_ascii_whitespace()).filter(|w| !w.is_empty());
            let mut index = |below: usize, what: &str| -> Result<u32> {
                let word = words.next().and_then(|w| std::str::from_utf8(w).ok()).and_then(|w| w.parse::<usize>().ok());
                match word {
                    Some(i) if i >= 1 && i <= below => Ok((i - 1) as u32),
                    Some(i) => Err(wrong(format!("names {what} {i} of {below}"))),
                    None => Err(wrong(format!("is not an entry: {:?}", shown()))),
                }
            };
            let (rows, columns) =
                if self.transposed { (self.cells, self.features) } else { (self.features, self.cells) };
            let (row, column) = (index(rows, "row")?, index(columns, "column")?);
            let (feature, cell) = if self.transposed { (column, row) } else { (row, column) };
            let value = if self.pattern {
                1.0
            } else {
                let word = words.next().and_then(|w| std::str::from_utf8(w).ok()).and_then(|w| w.parse::<f32>().ok());
                word.ok_or_else(|| wrong(format!("is not an entry: {:?}", shown())))?
            };
            if words.next().is_some() {
                return Err(wrong(format!("is not an entry: {:?}", shown())));
            }
            seen += 1;
            if seen > self.entries {
                return Err(wrong(format!("is one entry more than the {} of the header", self.entries)));
            }
            take(cell, feature, value)?;
        }
        if seen < self.entries {
            return Err(Error::input(
                path,
                format!("ends after {seen} of {} entries", self.entries),
                "the file is truncated; make or fetch it again",
            ));
        }
        Ok(())
    }
}
