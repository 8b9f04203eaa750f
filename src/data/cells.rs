//! A table of cells beside the matrices: barcodes and what is known of each, for forms that hold no such columns.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::anndata::Column;
use super::barcodes::agreement;
use super::table::{Row, Table};
use crate::error::{Error, Result};

/// Columns of cells from a text file.
#[derive(Debug, Clone)]
pub struct CellTable {
    path: PathBuf,
    /// Column of the barcodes.
    key: usize,
    /// Names of all columns, that of the barcodes among them.
    header: Vec<String>,
    /// Names of the others.
    columns: Vec<String>,
    rows: Vec<Row>,
    /// Row of each barcode; none where it is there more than once, with different values.
    place: HashMap<String, Option<usize>>,
}

/// Rows of a table for some cells.
#[derive(Debug, Clone)]
pub struct CellRows {
    /// Of each cell its row; `None` where the table lacks it.
    rows: Vec<Option<usize>>,
    /// Cells that have one.
    pub known: usize,
    /// What had to be taken off of the names for it, in words; `None` where they agree as they are.
    pub once: Option<String>,
}

const FIX: &str = "give a table with a header: barcodes first, then columns such as cell_type";

impl CellTable {
    /// Reads a table with a header, as R, Python and spreadsheets write them: parted by tabs, commas, semicolons or blanks,
    /// plain or gzip, with quotes or without, in UTF-8, UTF-16 or Latin-1. A header that is one field short is R's, with row
    /// names below. The first column holds the barcodes; another one where that knows none of the cells that are asked for.
    ///
    /// # Errors
    /// [`Error::Input`] where there is no second column.
    pub fn read(path: &Path) -> Result<CellTable> {
        let table = Table::read(path)?;
        if table.header.len() < 2 {
            let by = format!("has no second column (parted by {})", table.separator.name());
            return Err(Error::input(path, by, FIX));
        }
        let mut cells = CellTable {
            path: path.into(),
            key: 0,
            header: table.header.iter().map(|c| c.trim().to_string()).collect(),
            columns: Vec::new(),
            rows: table.rows,
            place: HashMap::new(),
        };
        cells.key_by(0);
        Ok(cells)
    }

    /// Takes the barcodes from another column.
    fn key_by(&mut self, key: usize) {
        self.key = key;
        self.columns = self.header.iter().enumerate().filter(|c| c.0 != key).map(|c| c.1.clone()).collect();
        self.place.clear();
        for (i, row) in self.rows.iter().enumerate() {
            let barcode = row.field(key).trim();
            if barcode.is_empty() {
                continue;
            }
            let same = |p: &Option<usize>| p.is_some_and(|p| self.rows[p].fields == row.fields);
            self.place.entry(barcode.to_string()).and_modify(|p| *p = p.filter(|_| same(p))).or_insert(Some(i));
        }
    }

    /// Takes the barcodes from the column that knows most of these cells, the first where none knows more.
    #[must_use]
    pub fn keyed_for(mut self, cells: &[String]) -> CellTable {
        let wanted: std::collections::HashSet<&str> = cells.iter().map(String::as_str).collect();
        let count = |c: usize| self.rows.iter().filter(|r| wanted.contains(r.field(c).trim())).count();
        if count(0) == 0
            && let Some((n, std::cmp::Reverse(best))) =
                (1..self.header.len()).map(|c| (count(c), std::cmp::Reverse(c))).max()
            && n > 0
        {
            self.key_by(best);
        }
        self
    }

    /// Refuses a table whose first line, taken for its header, is the line of one of these cells.
    ///
    /// # Errors
    /// [`Error::Input`].
    pub fn with_header(self, cells: &[String]) -> Result<CellTable> {
        let wanted: std::collections::HashSet<&str> = cells.iter().map(String::as_str).collect();
        match self.header.iter().find(|h| wanted.contains(h.as_str())) {
            None => Ok(self),
            Some(cell) => {
                let found = format!("has no header: its first line is that of the cell {cell}");
                let names: Vec<&str> = ["cell_type", "donor"].into_iter().take(self.columns.len()).collect();
                Err(Error::input(
                    &self.path,
                    found,
                    format!("put a line before it, such as barcode,{}", names.join(",")),
                ))
            }
        }
    }

    /// Lines whose barcode is none of these cells.
    pub fn not_asked_for(&self, used: &[&CellRows]) -> usize {
        let used: std::collections::HashSet<usize> =
            used.iter().flat_map(|u| u.rows.iter().flatten().copied()).collect();
        let same = |row: usize| self.place.get(self.rows[row].field(self.key).trim()).copied().flatten();
        (0..self.rows.len())
            .filter(|&row| !used.contains(&row) && !same(row).is_some_and(|r| used.contains(&r)))
            .count()
    }

    /// Where it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names of the columns.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// A column for these cells; cells that the table lacks get an empty text. `None` where there is no such column.
    pub fn column(&self, name: &str, cells: &CellRows) -> Option<Column> {
        let at = self.header.iter().enumerate().position(|(i, c)| i != self.key && c == name)?;
        let value = |row: &Option<usize>| row.map_or(String::new(), |r| self.rows[r].field(at).trim().to_string());
        Some(Column::Strings(cells.rows.iter().map(value).collect()))
    }

    /// The rows of these cells: by their names, and where `strip` is told and none is there so, by what is left of the names
    /// once what stands before and behind the barcode is taken off.
    ///
    /// # Errors
    /// None at all is known (the message shows names of each side, and how many would agree); the row of a cell is there
    /// twice, with different values, or longer than the header.
    pub fn rows(&self, cells: &[String], strip: Strip) -> Result<CellRows> {
        let mut found = Vec::with_capacity(cells.len());
        for cell in cells {
            match self.place.get(cell) {
                Some(None) => {
                    let found = format!("the barcode {cell} is there twice, with different values");
                    return Err(Error::input(&self.path, found, "keep one line a cell"));
                }
                Some(row) => found.push(*row),
                None => found.push(None),
            }
        }
        let mut once = None;
        if found.iter().all(Option::is_none) && !cells.is_empty() {
            let rows: Vec<(&String, usize)> = self.place.iter().filter_map(|(n, r)| Some((n, (*r)?))).collect();
            let names: Vec<String> = rows.iter().map(|r| r.0.clone()).collect();
            let met = agreement(cells, &names);
            let all = |agree: usize| agree == cells.len().min(names.len());
            match met {
                Some(met) if strip == Strip::Yes || strip == Strip::Auto && all(met.agree) => {
                    found = met.place.iter().map(|p| p.map(|p| rows[p as usize].1)).collect();
                    once = Some(met.once);
                }
                met => return Err(self.knows_none(cells, met.map(|m| (m.agree, m.once)))),
            }
        }
        let width = self.header.len();
        if let Some(row) = found.iter().flatten().map(|&r| &self.rows[r]).find(|r| r.fields.len() > width) {
            let found = format!("line {} has {} fields where the header has {width}", row.line, row.fields.len());
            return Err(Error::input(&self.path, found, FIX));
        }
        Ok(CellRows { known: found.iter().flatten().count(), rows: found, once })
    }

    fn knows_none(&self, cells: &[String], near: Option<(usize, String)>) -> Error {
        let ours: Vec<&str> = cells.iter().take(3).map(String::as_str).collect();
        let first: Vec<&str> = self.rows.iter().take(3).map(|r| r.field(self.key)).collect();
        let found =
            format!("knows none of the cells; it names them {}, the data {}", first.join(", "), ours.join(", "));
        match near {
            Some((n, once)) => Error::input(
                &self.path,
                format!("{found}; {n} of {} would agree once {once}", cells.len()),
                "take them so with --barcodes strip",
            ),
            None => Error::input(&self.path, found, "give the barcodes as the data write them"),
        }
    }
}

/// Whether names of cells are compared without what stands before and behind the barcode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strip {
    /// Where all names then agree.
    #[default]
    Auto,
    /// Where more names then agree.
    Yes,
    /// Never.
    No,
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
            "cell_type\tdonor\na\tT, naive\td1\nb\tB\td2\n",
            "\"cell_type\" \"donor\"\n\"a\" \"T, naive\" \"d1\"\n\"b\" \"B\" \"d2\"\n",
            "barcode;cell_type;donor;;\na;T, naive;d1\n\nb;B;d2;;\n",
        ] {
            let t = table(text).unwrap();
            assert_eq!(t.columns(), ["cell_type", "donor"]);
            let rows = t.rows(&cells, Strip::No).unwrap();
            let want = ["B", "", "T, naive"].map(String::from).to_vec();
            assert_eq!(t.column("cell_type", &rows), Some(Column::Strings(want)), "{text}");
            assert_eq!((rows.known, t.column("age", &rows)), (2, None));
            let e = t.rows(&["q-1".to_string()], Strip::Auto).unwrap_err().to_string();
            assert!(e.contains("a, b") && e.contains("q-1"), "{e}");
        }
    }

    #[test]
    fn lines_that_nobody_asked_for_do_no_harm() {
        let t = table("b,c\na,1\na,2\nx,1,2,3\nb,4\n\nb,4\nshort\n").unwrap();
        let known = |cell: &str| t.rows(&[cell.to_string()], Strip::No).map(|r| r.known);
        assert_eq!(known("b").unwrap(), 1, "twice the same is once");
        assert!(known("a").unwrap_err().to_string().contains("twice"));
        assert!(known("x").unwrap_err().to_string().contains("line 4 has 4 fields"));
        assert_eq!(known("short").unwrap(), 1);
    }

    #[test]
    fn barcodes_of_another_column_and_with_other_endings() {
        let cells = ["ACGTACGT-1", "CCGTACGT-1"].map(String::from).to_vec();
        let t = table(",barcode,cell_type\n0,ACGTACGT-1,B\n1,CCGTACGT-1,T\n").unwrap().keyed_for(&cells);
        let rows = t.rows(&cells, Strip::No).unwrap();
        let of = |t: &CellTable, r: &CellRows| t.column("cell_type", r).unwrap().into_text();
        assert_eq!(of(&t, &rows), [Some("B".to_string()), Some("T".into())]);
        let t = table("barcode,cell_type\nCCGTACGT,T\nACGTACGT,B\n").unwrap().keyed_for(&cells);
        let e = t.rows(&cells, Strip::No).unwrap_err().to_string();
        assert!(e.contains("2 of 2 would agree once the ending -1 is taken off"), "{e}");
        let rows = t.rows(&cells, Strip::Auto).unwrap();
        assert_eq!(of(&t, &rows), [Some("B".to_string()), Some("T".into())]);
        assert_eq!(t.not_asked_for(&[&rows]), 0);
        let one = t.rows(&cells[..1], Strip::Auto).unwrap();
        assert_eq!(t.not_asked_for(&[&one]), 1);
        let bare = table("ACGTACGT-1,B\nCCGTACGT-1,T\n").unwrap().with_header(&cells).unwrap_err().to_string();
        assert!(
            bare.contains("no header") && bare.contains("ACGTACGT-1") && bare.contains("barcode,cell_type"),
            "{bare}"
        );
        let half = table("barcode,cell_type\nCCGTACGT,T\nAAAAACGT,B\n").unwrap();
        assert!(half.rows(&cells, Strip::Auto).is_err());
        assert_eq!(half.rows(&cells, Strip::Yes).unwrap().known, 1);
    }

    #[test]
    fn what_is_no_table_is_refused() {
        for text in ["", "barcode\na\n"] {
            let e = table(text).unwrap_err().to_string();
            assert!(e.contains("no second column") && e.contains("cells.csv"), "{e}");
        }
    }
}
