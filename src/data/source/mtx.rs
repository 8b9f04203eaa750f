//! 10x Matrix Market folders: `matrix.mtx`, `features.tsv` (before Cell Ranger 3 `genes.tsv`) and `barcodes.tsv`,
//! plain or gzip. The matrix is features × barcodes, as 10x writes it.

use std::fs::File;
use std::io::BufRead;
use std::path::{Path, PathBuf};

use super::form::{Form, Source, no_layer};
use crate::data::anndata::Column;
use crate::data::anndata::matrix::Matrix;
use crate::data::anndata::reader::Axis;
use crate::data::coordinates::Coordinates;
use crate::error::{Error, Result};
use crate::files::text::{open_text, text_error};

/// A folder with a matrix and its names.
#[derive(Debug)]
pub(super) struct MtxSource {
    dir: PathBuf,
    barcodes: Vec<String>,
    names: Vec<String>,
    columns: Vec<(String, Vec<String>)>,
    entries: Coordinates,
}

fn find(dir: &Path, names: &[&str]) -> Option<PathBuf> {
    let all = names.iter().flat_map(|n| [dir.join(format!("{n}.gz")), dir.join(n)]);
    all.into_iter().find(|p| p.is_file())
}

pub(super) fn is_one(dir: &Path) -> bool {
    find(dir, &["matrix.mtx"]).is_some()
}

pub(super) fn open(dir: &Path) -> Result<MtxSource> {
    let file = |names: &[&str]| {
        find(dir, names).ok_or_else(|| {
            Error::input(
                dir,
                format!("has no {}.gz (nor without .gz)", names[0]),
                "give a folder with matrix.mtx.gz, features.tsv.gz and barcodes.tsv.gz, as 10x makes it",
            )
        })
    };
    let entries = Coordinates::open(&file(&["matrix.mtx"])?)?;
    let features_at = file(&["features.tsv", "genes.tsv"])?;
    let barcodes_at = file(&["barcodes.tsv"])?;
    let barcodes = table(&barcodes_at, entries.cells)?.into_iter().map(|mut r| r.swap_remove(0)).collect::<Vec<_>>();
    let features = table(&features_at, entries.features)?;
    for (path, n, expected, what) in [
        (&features_at, features.len(), entries.features, "rows"),
        (&barcodes_at, barcodes.len(), entries.cells, "columns"),
    ] {
        if n != expected {
            return Err(Error::input(
                path,
                format!(
                    "{} lines, but the matrix has {expected} {what}",
                    if n > expected { format!("more than {expected}") } else { n.to_string() }
                ),
                "give the three files of one matrix",
            ));
        }
    }
    let width = features.iter().map(Vec::len).min().unwrap_or(0);
    let column = |i: usize| features.iter().map(|r| r[i].clone()).collect::<Vec<_>>();
    // Names are the second column; a list of ids alone names the features by them.
    let names = if width > 1 { column(1) } else { features.iter().map(|r| r[0].clone()).collect() };
    let mut columns = Vec::new();
    if width > 1 {
        columns.push(("gene_ids".to_string(), column(0)));
    }
    if width > 2 {
        columns.push(("feature_types".to_string(), column(2)));
    }
    if width > 5 {
        let place = |r: &Vec<String>| match (r[3].as_str(), r[4].as_str(), r[5].as_str()) {
            ("", ..) => String::new(),
            (chrom, start, end) => format!("{chrom}:{start}-{end}"),
        };
        columns.push(("interval".to_string(), features.iter().map(place).collect()));
    }
    columns.sort();
    Ok(MtxSource { dir: dir.into(), barcodes, names, columns, entries })
}

/// Fields that are used of a line.
const FIELDS: usize = 6;

/// Lines of fields parted by tabs, the first few of each. Of more than `most` lines one more is kept, to tell by.
fn table(path: &Path, most: usize) -> Result<Vec<Vec<String>>> {
    let file = File::open(path).map_err(|e| Error::io(path, "read", e))?;
    let mut rows = Vec::new();
    for line in open_text(path, file)?.lines().take(most.saturating_add(1)) {
        let line = line.map_err(|e| text_error(path, rows.len() + 1, e))?;
        let line = line.strip_prefix('\u{feff}').filter(|_| rows.is_empty()).unwrap_or(&line);
        if line.split('\t').next().is_none_or(|name| name.trim().is_empty()) {
            return Err(Error::input(
                path,
                format!("line {} does not begin with a name", rows.len() + 1),
                "give a name a line, as 10x writes them",
            ));
        }
        rows.push(line.trim_end_matches('\r').split('\t').take(FIELDS).map(String::from).collect());
    }
    Ok(rows)
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
