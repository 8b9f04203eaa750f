//! Matrix Market folders: a matrix, names of features (or a BED file of peaks) and barcodes, plain or gzip. The matrix is
//! features × barcodes, as 10x writes it, or the other way round where the lengths of the names say so.
//!
//! 10x calls the files `matrix.mtx`, `features.tsv` (before Cell Ranger 3 `genes.tsv`) and `barcodes.tsv`; others put the name
//! of a sample before them, or call them `peaks.bed`, `cells_x_genes.genes.txt` and the like: see [`Parts`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::form::{Form, Source, no_layer};
use crate::data::anndata::Column;
use crate::data::anndata::matrix::Matrix;
use crate::data::anndata::reader::{Axis, list};
use crate::data::coordinates::Coordinates;
use crate::data::table::{Row, Rows};
use crate::error::{Error, Result};
use crate::progress::Progress;

/// A folder with a matrix and its names.
#[derive(Debug)]
pub(super) struct MtxSource {
    dir: PathBuf,
    barcodes: Vec<String>,
    names: Vec<String>,
    columns: Vec<(String, Vec<String>)>,
    entries: Coordinates,
}

/// The files of one matrix.
struct Parts {
    matrix: PathBuf,
    features: PathBuf,
    barcodes: PathBuf,
}

/// A name without `.gz`.
fn bare(name: &str) -> &str {
    name.strip_suffix(".gz").unwrap_or(name)
}

fn name_of(path: &Path) -> String {
    path.file_name().map_or(String::new(), |n| n.to_string_lossy().into_owned())
}

/// Files of a folder, by name.
fn files(dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|e| e.path().is_file())
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .filter(|n| !n.starts_with('.'))
        .collect();
    names.sort();
    names
}

/// Is this the name of a Matrix Market file?
pub(super) fn is_matrix(path: &Path) -> bool {
    bare(&name_of(path)).ends_with(".mtx")
}

/// Matrices of a folder: what comes before `matrix.mtx` or `.mtx`, and the file. Of one that is there plain and compressed
/// the latter.
fn matrices(dir: &Path) -> BTreeMap<String, PathBuf> {
    let stem = |name: &str| {
        let stem = bare(name).strip_suffix(".mtx")?;
        Some(stem.strip_suffix("matrix").unwrap_or(stem).to_string())
    };
    files(dir).into_iter().filter_map(|name| Some((stem(&name)?, dir.join(name)))).collect()
}

/// Has the folder a matrix?
pub(super) fn is_one(dir: &Path) -> bool {
    !matrices(dir).is_empty()
}

/// Words that tell the names of features and of cells, and endings of such files.
const FEATURES: [&str; 5] = ["features", "genes", "peaks", "rows", "regions"];
const BARCODES: [&str; 4] = ["barcodes", "cells", "cols", "columns"];
const ENDINGS: [&str; 5] = [".tsv", ".txt", ".csv", ".bed", ".names"];

/// The file of names that belongs to the matrix with this `prefix`: one that begins with it, else the only one there is.
fn names_for(all: &[String], prefix: &str, words: &[&str]) -> Option<String> {
    let fits = |name: &String, rest: &str| {
        let rest = bare(rest).to_ascii_lowercase();
        let at = words.iter().position(|w| rest.contains(w))?;
        let ending = ENDINGS.iter().any(|e| rest.ends_with(e));
        // Of a file that is there plain and compressed the latter, as of the matrix.
        ending.then(|| (at, rest.len(), !name.ends_with(".gz"), name.clone()))
    };
    let own = all.iter().filter_map(|n| fits(n, n.strip_prefix(prefix)?)).min();
    own.or_else(|| {
        let mut any: Vec<_> = all.iter().filter_map(|n| fits(n, n)).collect();
        any.sort();
        any.dedup_by(|a, b| bare(&a.3) == bare(&b.3));
        if any.len() == 1 { any.pop() } else { None }
    })
    .map(|f| f.3)
}

impl Parts {
    /// Of a folder, or of a matrix in it.
    fn of(path: &Path) -> Result<Parts> {
        let (dir, given) = match path.is_dir() {
            true => (path.to_path_buf(), None),
            false => (path.parent().map_or(PathBuf::new(), Path::to_path_buf), Some(path.to_path_buf())),
        };
        let dir = if dir.as_os_str().is_empty() { PathBuf::from(".") } else { dir };
        let all = files(&dir);
        let matrices = matrices(&dir);
        let (prefix, matrix) = match &given {
            Some(matrix) => {
                let found = matrices.iter().find(|m| bare(&name_of(m.1)) == bare(&name_of(matrix)));
                (found.map_or("", |m| m.0.as_str()), matrix.clone())
            }
            None => match matrices.iter().collect::<Vec<_>>().as_slice() {
                [(prefix, matrix)] => (prefix.as_str(), matrix.to_path_buf()),
                _ if matrices.contains_key("") => ("", matrices[""].clone()),
                several => {
                    let names: Vec<String> = several.iter().map(|m| name_of(m.1)).collect();
                    let first = several.first().map_or(PathBuf::new(), |m| m.1.to_path_buf());
                    return Err(Error::input(
                        path,
                        format!("holds {} matrices: {}", names.len(), list(&names)),
                        format!("give one of them, such as {}", first.display()),
                    ));
                }
            },
        };
        let missing = |what: &str, words: &str| {
            let shown: Vec<String> = all.iter().filter(|n| **n != name_of(&matrix)).cloned().collect();
            let before = match prefix {
                "" => String::new(),
                prefix => format!(" for the prefix {prefix}"),
            };
            Error::input(
                path,
                format!("has {} but no {what}{before} beside it; there is {}", name_of(&matrix), list(&shown)),
                format!("put them there as {words}, plain or gzip, a name a line"),
            )
        };
        let features = names_for(&all, prefix, &FEATURES)
            .ok_or_else(|| missing("names of features", "features.tsv or peaks.bed"))?;
        let barcodes = names_for(&all, prefix, &BARCODES).ok_or_else(|| missing("barcodes", "barcodes.tsv"))?;
        Ok(Parts { features: dir.join(features), barcodes: dir.join(barcodes), matrix })
    }
}

pub(super) fn open(path: &Path, progress: &dyn Progress) -> Result<MtxSource> {
    let parts = Parts::of(path)?;
    let mut entries = Coordinates::open(&parts.matrix)?;
    let most = entries.features.max(entries.cells).saturating_add(2);
    let barcodes = Names::read(&parts.barcodes, most)?;
    let features = Names::read(&parts.features, most)?;
    let fit = |e: &Coordinates| features.fit(e.features) && barcodes.fit(e.cells);
    if !fit(&entries) {
        let turned = entries.clone().transpose();
        if fit(&turned) {
            progress.note(&format!("{}: is cells × features; read so", parts.matrix.display()));
            entries = turned;
        }
    } else if entries.features == entries.cells && entries.features > 1 {
        progress.note(&format!(
            "{}: is square, so that its sides cannot be told apart; read as features × cells",
            parts.matrix.display()
        ));
    }
    let features = features.of(entries.features, "rows")?;
    let barcodes = barcodes.of(entries.cells, "columns")?;
    let (names, columns) = describe(&features);
    let barcodes = barcodes.into_iter().map(|mut r| r.fields.swap_remove(0)).collect();
    Ok(MtxSource { dir: path.into(), barcodes, names, columns, entries })
}

/// Names of features and the columns that describe them.
fn describe(features: &[Row]) -> (Vec<String>, Vec<(String, Vec<String>)>) {
    let number = |r: &Row, at: usize| r.field(at).parse::<u64>().ok();
    // BED: chromosome, start, end.
    let is_place = |r: &Row| number(r, 1).zip(number(r, 2)).is_some_and(|(start, end)| start < end);
    if !features.is_empty() && features.iter().all(is_place) {
        let place = |r: &Row| format!("{}:{}-{}", r.field(0), r.field(1), r.field(2));
        return (features.iter().map(place).collect(), Vec::new());
    }
    let width = features.iter().map(|r| r.fields.len()).max().unwrap_or(0);
    let column = |i: usize| features.iter().map(|r| r.field(i).to_string()).collect::<Vec<_>>();
    // Names are the second column; a list of ids alone, or a line that is one, is named by them.
    let name = |r: &Row| match r.field(1) {
        "" => r.field(0).to_string(),
        name => name.to_string(),
    };
    let mut columns = Vec::new();
    if width > 1 {
        columns.push(("gene_ids".to_string(), column(0)));
    }
    if width > 2 {
        columns.push(("feature_types".to_string(), column(2)));
    }
    if width > 5 {
        let place = |r: &Row| match (r.field(3), r.field(4), r.field(5)) {
            ("", ..) | (_, "", _) | (_, _, "") => String::new(),
            (chrom, start, end) => format!("{chrom}:{start}-{end}"),
        };
        columns.push(("interval".to_string(), features.iter().map(place).collect()));
    }
    columns.sort();
    (features.iter().map(name).collect(), columns)
}

/// Does a header begin so? A name that is none must not be taken for one.
fn is_header(field: &str) -> bool {
    const WORDS: [&str; 22] = [
        "", "x", "v1", "id", "ids", "name", "names", "index", "barcode", "barcodes", "cell", "cells", "gene", "genes",
        "geneid", "geneids", "feature", "features", "peak", "peaks", "chrom", "seqnames",
    ];
    let plain: String = field.chars().filter(char::is_ascii_alphanumeric).collect();
    WORDS.contains(&plain.to_ascii_lowercase().as_str())
}

/// Lines of names, the first of which may be a header.
struct Names {
    path: PathBuf,
    rows: Vec<Row>,
    /// Are there more than were read?
    more: bool,
}

impl Names {
    /// Of more than `most` lines the rest is left.
    fn read(path: &Path, most: usize) -> Result<Names> {
        // Names may begin with `#`; BED files have comments.
        let bed = bare(&name_of(path)).ends_with(".bed");
        let mut lines = Rows::open(path, bed)?;
        let (mut rows, mut more): (Vec<Row>, bool) = (Vec::new(), false);
        while let Some(row) = lines.next()? {
            if bed && ["track", "browser"].iter().any(|w| row.field(0).split(' ').next() == Some(w)) {
                continue;
            }
            if rows.len() == most {
                more = true;
                break;
            }
            if row.field(0).is_empty() && row.fields.iter().skip(1).all(String::is_empty) {
                return Err(Error::input(
                    path,
                    format!("line {} does not begin with a name", row.line),
                    "give a name a line, as 10x writes them",
                ));
            }
            rows.push(row);
        }
        Ok(Names { path: path.into(), rows, more })
    }

    /// Are they those of `n` features or cells, with a header or without?
    fn fit(&self, n: usize) -> bool {
        let header = || self.rows.first().is_some_and(|r| is_header(r.field(0)));
        !self.more && (self.rows.len() == n || self.rows.len() == n + 1 && header())
    }

    /// Those of `n`, without header and row names.
    fn of(self, n: usize, what: &str) -> Result<Vec<Row>> {
        if !self.fit(n) {
            let there = if self.rows.len() > n { format!("more than {n}") } else { self.rows.len().to_string() };
            return Err(Error::input(
                &self.path,
                format!("{there} lines, but the matrix has {n} {what}"),
                "give the three files of one matrix",
            ));
        }
        let mut rows = self.rows;
        let header = if rows.len() == n + 1 { Some(rows.remove(0)) } else { None };
        // R numbers the rows it writes.
        let numbered = rows.iter().zip(1usize..).all(|(r, i)| r.fields.len() > 1 && r.field(0).parse() == Ok(i));
        let short = header.is_some_and(|h| rows.iter().all(|r| r.fields.len() == h.fields.len() + 1));
        if !rows.is_empty() && (numbered || short && rows.iter().all(|r| r.fields.len() == 2)) {
            rows.iter_mut().for_each(|r| drop(r.fields.remove(0)));
        }
        match rows.iter().find(|r| r.field(0).is_empty()) {
            Some(row) => Err(Error::input(
                &self.path,
                format!("line {} does not begin with a name", row.line),
                "give a name a line, as 10x writes them",
            )),
            None => Ok(rows),
        }
    }
}

impl Source for MtxSource {
    fn path(&self) -> &Path {
        &self.dir
    }

    fn form(&self) -> Form {
        Form::MatrixMarket
    }

    fn names(&self, axis: Axis) -> Result<Vec<String>> {
        Ok(match axis {
            Axis::Obs => self.barcodes.clone(),
            Axis::Var => self.names.clone(),
        })
    }

    fn columns(&self, axis: Axis) -> Result<Vec<String>> {
        Ok(match axis {
            Axis::Obs => Vec::new(),
            Axis::Var => self.columns.iter().map(|c| c.0.clone()).collect(),
        })
    }

    fn column(&self, axis: Axis, name: &str) -> Result<Option<Column>> {
        let found = self.columns.iter().find(|c| axis == Axis::Var && c.0 == name);
        Ok(found.map(|c| Column::Strings(c.1.clone())))
    }

    fn layers(&self) -> Vec<String> {
        Vec::new()
    }

    fn matrix(&self, layer: Option<&str>, hint: &str) -> Result<Matrix> {
        no_layer(&self.dir, layer, hint)?;
        Matrix::coordinates(self.entries.clone())
    }
}
