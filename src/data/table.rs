//! Tables as text: what parts the columns is told by the content, quotes are taken off, rows may be ragged.
//!
//! | what | how it is read |
//! | --- | --- |
//! | separator | tab, comma, semicolon or bar, where the first lines have it the same number of times; else blanks |
//! | quotes | double ones around a field; a doubled one inside stands for one; a field may go on over lines |
//! | header one field short | the rows begin with their names, as R writes them |
//! | trailing separators | left out of header and rows |
//! | blank lines, lines that begin with `#` | skipped |

use std::borrow::Cow;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::files::text::TextLines;

/// What parts the columns of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Separator {
    /// One character.
    Char(char),
    /// One blank or more.
    Blanks,
}

/// Lines that are looked at to tell the separator.
const LOOKED_AT: usize = 20;
/// Lines over which a quoted field may go on.
const LONGEST_FIELD: usize = 20;

impl Separator {
    /// What parts these lines, the first of which may be a header: the character that does so most alike.
    pub(crate) fn of<S: AsRef<str>>(lines: &[S]) -> Separator {
        let width = |by: Separator, line: &S| by.split(line.as_ref()).len();
        // Fields of lines that blanks part alike may hold the other characters.
        let by_blanks: Vec<usize> = lines.iter().map(|l| width(Separator::Blanks, l)).collect();
        let blanks = by_blanks.first().copied().filter(|n| by_blanks.iter().all(|w| w == n)).unwrap_or(0);
        for by in ['\t', ';', ',', '|'].map(Separator::Char) {
            let widths: Vec<usize> = lines.iter().map(|l| width(by, l)).collect();
            let Some((&first, rest)) = widths.split_first() else { break };
            if by != Separator::Char('\t') && blanks > first.max(2) {
                continue;
            }
            // A header may lack the name of the row names; of a table without header only the commonest width counts.
            let alike = |w: usize| rest.iter().filter(|&&r| r == w).count() * 4 >= rest.len() * 3;
            let parted = first > 1 && (alike(first) || alike(first + 1)) || first == 1 && rest.len() > 1 && alike(2);
            if parted || by == Separator::Char('\t') && widths.iter().filter(|&&w| w > 1).count() * 2 > widths.len() {
                return by;
            }
        }
        let parted = |by: Separator| lines.iter().any(|l| width(by, l) > 1);
        // Ragged ones: whatever is there.
        let any = ['\t', ';', ',', '|'].map(Separator::Char).into_iter().find(|by| lines.len() > 1 && parted(*by));
        let any = any.filter(|by| *by == Separator::Char('\t') || blanks <= 2);
        match any {
            Some(by) if lines.first().is_some_and(|l| width(by, l) > 1) => by,
            _ if parted(Separator::Blanks) => Separator::Blanks,
            _ => Separator::Char('\t'),
        }
    }

    /// The fields of a line, without blanks and quotes around them.
    pub(crate) fn split(self, line: &str) -> Vec<Cow<'_, str>> {
        let mut out = Vec::new();
        let mut rest = line;
        loop {
            rest = match self {
                Separator::Blanks => rest.trim_start_matches([' ', '\t']),
                Separator::Char(by) => rest.trim_start_matches(|c: char| c != by && (c == ' ' || c == '\t')),
            };
            if self == Separator::Blanks && rest.is_empty() {
                return out;
            }
            let is_end = |c: char| match self {
                Separator::Blanks => c == ' ' || c == '\t',
                Separator::Char(by) => c == by,
            };
            let (field, after) = match quoted(rest, is_end) {
                Some(found) => found,
                None => {
                    let end = rest.find(is_end).unwrap_or(rest.len());
                    (Cow::Borrowed(rest[..end].trim()), &rest[end..])
                }
            };
            out.push(field);
            match after.chars().next() {
                Some(c) => rest = &after[c.len_utf8()..],
                None => return out,
            }
        }
    }

    /// In words.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Separator::Char('\t') => "tabs",
            Separator::Char(',') => "commas",
            Separator::Char(';') => "semicolons",
            Separator::Char(_) => "bars",
            Separator::Blanks => "blanks",
        }
    }
}

/// A field in quotes at the front of `text`, and what comes behind it; `None` where there is none that ends with the field.
fn quoted(text: &str, is_end: impl Fn(char) -> bool) -> Option<(Cow<'_, str>, &str)> {
    let inner = text.strip_prefix('"')?;
    let mut from = 0;
    loop {
        let at = from + inner[from..].find('"')?;
        let after = &inner[at + 1..];
        if after.starts_with('"') {
            from = at + 2;
            continue;
        }
        let field = inner[..at].trim();
        let behind = after.trim_start_matches(|c: char| (c == ' ' || c == '\t') && !is_end(c));
        let ends = behind.chars().next().is_none_or(&is_end);
        let field = if field.contains("\"\"") { Cow::Owned(field.replace("\"\"", "\"")) } else { Cow::Borrowed(field) };
        return ends.then_some((field, behind));
    }
}

/// Does a quoted field of the line go on in the next one?
fn is_open(line: &str) -> bool {
    line.bytes().filter(|&b| b == b'"').count() % 2 == 1
}

/// A row of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    /// Number of its (first) line, from 1.
    pub line: usize,
    /// Its fields, without empty ones at the end.
    pub fields: Vec<String>,
}

impl Row {
    /// A field; an empty text where the row is too short.
    pub(crate) fn field(&self, at: usize) -> &str {
        self.fields.get(at).map_or("", String::as_str)
    }
}

/// The rows of a text file.
pub(crate) struct Rows {
    lines: TextLines,
    waiting: VecDeque<(usize, String)>,
    separator: Separator,
    /// Lines that begin with `#` are comments.
    comments: bool,
    first: bool,
}

impl Rows {
    /// Opens a file and looks how it is parted. With `comments`, lines that begin with `#` are skipped, but for a first one
    /// that is a header (`#chrom`).
    ///
    /// # Errors
    /// As those of reading text.
    pub(crate) fn open(path: &Path, comments: bool) -> Result<Rows> {
        let mut rows = Rows {
            lines: TextLines::open(path)?,
            waiting: VecDeque::new(),
            separator: Separator::Blanks,
            comments,
            first: true,
        };
        let mut seen: Vec<String> = Vec::new();
        while seen.len() < LOOKED_AT {
            let Some((number, line)) = rows.lines.next()? else { break };
            let line = line.into_owned();
            let skipped = line.trim().is_empty() || comments && line.starts_with('#');
            if !skipped {
                seen.push(line.clone());
            }
            rows.waiting.push_back((number, line));
        }
        rows.separator = Separator::of(&seen);
        Ok(rows)
    }

    /// What parts its columns.
    pub(crate) fn separator(&self) -> Separator {
        self.separator
    }

    fn line(&mut self) -> Result<Option<(usize, String)>> {
        match self.waiting.pop_front() {
            Some(line) => Ok(Some(line)),
            None => Ok(self.lines.next()?.map(|(number, line)| (number, line.into_owned()))),
        }
    }

    /// The next row.
    ///
    /// # Errors
    /// As those of reading text.
    pub(crate) fn next(&mut self) -> Result<Option<Row>> {
        loop {
            let Some((number, mut line)) = self.line()? else { return Ok(None) };
            if line.trim().is_empty() {
                continue;
            }
            if self.comments && line.starts_with('#') {
                let header = std::mem::take(&mut self.first) && self.is_header(&line);
                if !header {
                    continue;
                }
                line.remove(0);
            }
            self.first = false;
            if is_open(&line) && self.separator.split(&line).iter().any(|f| f.starts_with('"')) {
                self.join(&mut line)?;
            }
            let mut fields: Vec<String> = self.separator.split(&line).into_iter().map(Cow::into_owned).collect();
            while fields.len() > 1 && fields.last().is_some_and(String::is_empty) {
                fields.pop();
            }
            return Ok(Some(Row { line: number, fields }));
        }
    }

    /// Is a comment at the head of the file a header, which begins with a name and is parted as the rows are?
    fn is_header(&self, line: &str) -> bool {
        let next = self.waiting.iter().map(|w| &w.1).find(|l| !l.trim().is_empty() && !l.starts_with('#'));
        let width = |l: &str| self.separator.split(l).len();
        let named = line[1..].starts_with(|c: char| c.is_alphanumeric() || c == '"');
        named && next.is_some_and(|next| width(next) > 1 && width(next) == width(line))
    }

    /// Joins the lines over which a quoted field goes on; where it has no end, the line stays as it is.
    fn join(&mut self, line: &mut String) -> Result<()> {
        let mut taken: Vec<(usize, String)> = Vec::new();
        let mut whole = line.clone();
        while is_open(&whole) && taken.len() < LONGEST_FIELD {
            let Some(next) = self.line()? else { break };
            whole.push('\n');
            whole += &next.1;
            taken.push(next);
        }
        if is_open(&whole) {
            taken.into_iter().rev().for_each(|l| self.waiting.push_front(l));
        } else {
            *line = whole;
        }
        Ok(())
    }
}

/// A table with a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    pub path: PathBuf,
    /// Names of all columns; that of row names may be empty.
    pub header: Vec<String>,
    /// Its rows, padded to the length of the header; those that are longer are as they are.
    pub rows: Vec<Row>,
    pub separator: Separator,
}

impl Table {
    /// Reads a whole table.
    ///
    /// # Errors
    /// As those of reading text; a file without a line gives no columns.
    pub(crate) fn read(path: &Path) -> Result<Table> {
        let mut rows = Rows::open(path, true)?;
        let separator = rows.separator();
        let mut header = rows.next()?.map_or(Vec::new(), |r| r.fields);
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            all.push(row);
        }
        // R leaves out the name of the row names.
        let longer = all.iter().filter(|r| r.fields.len() == header.len() + 1).count();
        let same = all.iter().filter(|r| r.fields.len() == header.len()).count();
        if longer > same {
            header.insert(0, String::new());
        }
        for row in &mut all {
            if row.fields.len() < header.len() {
                row.fields.resize(header.len(), String::new());
            }
        }
        Ok(Table { path: path.into(), header, rows: all, separator })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(by: char, line: &str) -> Vec<String> {
        Separator::Char(by).split(line).into_iter().map(Cow::into_owned).collect()
    }

    #[test]
    fn fields() {
        assert_eq!(split(',', r#"a,"b, ""c""", d ,"#), ["a", "b, \"c\"", "d", ""]);
        assert_eq!(split('\t', "a b\t\"c\td\"\t5\"x\t"), ["a b", "c\td", "5\"x", ""]);
        assert_eq!(split('\t', "\"a\"b\tc"), ["\"a\"b", "c"], "quotes that do not end with the field are letters");
        assert_eq!(split('\t', "\"open\tc"), ["\"open", "c"]);
        assert_eq!(split(';', ""), [""]);
        let blanks: Vec<_> = Separator::Blanks.split("  \"a b\"  c \td ").into_iter().collect();
        assert_eq!(blanks, ["a b", "c", "d"]);
    }

    #[test]
    fn what_parts_the_columns_shows_in_the_lines() {
        for (lines, want) in [
            (&["barcode,cell_type", "A-1,B", "C-1,\"T, naive\""][..], Separator::Char(',')),
            (&["cell_type\tdonor", "A-1\tT cell, naive\td1"], Separator::Char('\t')),
            (&["b;x", "A-1;1,5", "C-1;2,5"], Separator::Char(';')),
            (&["b|x", "A-1|1", "C-1|2"], Separator::Char('|')),
            (&["\"cell_type\" \"donor\"", "\"A-1\" \"T cell\" \"d1\""], Separator::Blanks),
            (&["cell_type", "A-1,B", "C-1,T"], Separator::Char(',')),
            (&["chr1 100 200", "chr1 300 400"], Separator::Blanks),
            (&["chr1 100 200 a 0 + 0,0,0", "chr1 300 400 b 0 - 0,0,0"], Separator::Blanks),
            (&["A-1", "C-1"], Separator::Char('\t')),
            (&[], Separator::Char('\t')),
        ] {
            assert_eq!(Separator::of(lines), want, "{lines:?}");
        }
    }

    fn table(text: &str) -> Table {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.csv");
        std::fs::write(&path, text).unwrap();
        Table::read(&path).unwrap()
    }

    #[test]
    fn headers_rows_and_what_is_between() {
        let t = table("# a comment, of two\nx,y,,\n\nr1,1,2,,\nr2,\"a\nb\",4\n# more\nr3\n");
        assert_eq!(t.header, ["", "x", "y"], "one short: row names");
        let rows: Vec<Vec<&str>> = t.rows.iter().map(|r| r.fields.iter().map(String::as_str).collect()).collect();
        assert_eq!(rows, [vec!["r1", "1", "2"], vec!["r2", "a\nb", "4"], vec!["r3", "", ""]]);
        assert_eq!(t.rows.iter().map(|r| r.line).collect::<Vec<_>>(), [4, 5, 8]);
        let t = table("#x\ty\nr1\t1\n");
        assert_eq!((t.header, t.rows.len()), (vec!["x".to_string(), "y".into()], 1), "a header may be a comment");
        let t = table("x,y\nr1,\"open\nr2,2\n");
        assert_eq!(t.rows.len(), 2, "a quote without end does not take the rest of the file along");
    }
}
