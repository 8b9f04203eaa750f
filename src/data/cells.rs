//! A table of cells beside the matrices: barcodes and what is known of each, for forms that hold no such columns.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};

use super::anndata::Column;
use crate::error::{Error, Result};
use crate::files::text::{open_text, text_error};

/// Columns of cells from a text file.
#[derive(Debug, Clone)]
pub struct CellTable {
    path: PathBuf,
    columns: Vec<String>,
    rows: HashMap<String, Vec<String>>,
    first: Vec<String>,
}

impl CellTable {
    /// Reads a table with a header, plain or gzip, parted by tabs or (where the header holds no tab) commas; fields may be
    /// quoted. The first column holds the barcodes, each once.
    ///
    /// # Errors
    /// [`Error::Input`] where there is no second column, a line is longer or shorter than the header, or a barcode is
    /// there twice.
    pub fn read(path: &Path) -> Result<CellTable> {
        const FIX: &str =
            "give a table with a header: barcodes first, then columns such as cell_type, parted by tabs or commas";
        let file = File::open(path).map_err(|e| Error::io(path, "read", e))?;
        let mut reader = open_text(path, file)?;
        let mut header = String::new();
        reader.by_ref().take(1 << 20).read_line(&mut header).map_err(|e| text_error(path, 1, e))?;
        let header = header.strip_prefix('\u{feff}').unwrap_or(&header).to_string();
        let delimiter = if header.contains('\t') { b'\t' } else { b',' };
        let mut text = csv::ReaderBuilder::new()
            .delimiter(delimiter)
            .has_headers(true)
            .from_reader(header.as_bytes().chain(reader));
        let wrong = |e: csv::Error| match e.kind() {
            csv::ErrorKind::UnequalLengths { expected_len, len, pos } => {
                let line = pos.as_ref().map_or(0, csv::Position::line);
                Error::input(path, format!("line {line} has {len} fields where the header has {expected_len}"), FIX)
            }
            _ => Error::input(path, format!("cannot be read ({e})"), FIX),
        };
        let columns: Vec<String> =
            text.headers().map_err(wrong)?.iter().skip(1).map(|c| c.trim().to_string()).collect();
        if columns.is_empty() {
            return Err(Error::input(path, "has no second column", FIX));
        }
        let mut table = CellTable { path: path.into(), columns, rows: HashMap::new(), first: Vec::new() };
        for record in text.records() {
            let record = record.map_err(wrong)?;
            let mut fields = record.iter().map(|f| f.trim().to_string());
            let Some(barcode) = fields.next() else { continue };
            if table.first.len() < 3 {
                table.first.push(barcode.clone());
            }
            if table.rows.contains_key(&barcode) {
                return Err(Error::input(
                    path,
                    format!("the barcode {barcode} is there twice"),
                    "keep one line a cell",
                ));
            }
            table.rows.insert(barcode, fields.collect());
        }
        Ok(table)
    }

    /// Names of the columns.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// A column for these cells; cells that the table lacks get an empty text. `None` where there is no such column.
    pub fn column(&self, name: &str, cells: &[String]) -> Option<Column> {
        let at = self.columns.iter().position(|c| c == name)?;
        let value = |cell: &String| self.rows.get(cell).and_then(|r| r.get(at)).cloned().unwrap_or_default();
        Some(Column::Strings(cells.iter().map(value).collect()))
    }

    /// How many of these cells it knows.
    ///
    /// # Errors
    /// None at all; the message shows names of each side.
    pub fn known(&self, cells: &[String]) -> Result<usize> {
        let n = cells.iter().filter(|c| self.rows.contains_key(*c)).count();
        if n == 0 && !cells.is_empty() {
            let ours: Vec<&str> = cells.iter().take(3).map(String::as_str).collect();
            return Err(Error::input(
                &self.path,
                format!(
                    "knows none of the cells; it names them {}, the data {}",
                    self.first.join(", "),
                    ours.join(", ")
                ),
                "give the barcodes as the data write them",
            ));
        }
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Result<CellTable> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cells.csv");
        std::fs::write(&path, text).unwrap();
        CellTable::read(&path)
    }

    #[test]
    fn tabs_commas_and_quotes() {
        let cells = ["b", "x", "a"].map(String::from).to_vec();
        for text in [
            "\u{feff},cell_type,donor\na,\"T, naive\",d1\nb,B,d2\n",
            "barcode\tcell_type\tdonor\na\tT, naive\td1\r\nb\tB\td2\r\n",
        ] {
            let t = table(text).unwrap();
            assert_eq!(t.columns(), ["cell_type", "donor"]);
            let want = ["B", "", "T, naive"].map(String::from).to_vec();
            assert_eq!(t.column("cell_type", &cells), Some(Column::Strings(want)));
            assert_eq!((t.known(&cells).unwrap(), t.column("age", &cells)), (2, None));
            let e = t.known(&["q-1".to_string()]).unwrap_err().to_string();
            assert!(e.contains("a, b") && e.contains("q-1"), "{e}");
        }
    }

    #[test]
    fn what_is_no_table_is_refused() {
        for (text, part) in [
            ("", "no second column"),
            ("barcode\na\n", "no second column"),
            ("b,c\na,1\na,2\n", "twice"),
            ("b,c\na,1,2\n", "line 2 has 3 fields"),
        ] {
            let e = table(text).unwrap_err().to_string();
            assert!(e.contains(part) && e.contains("cells.csv"), "{part}: {e}");
        }
    }
}
