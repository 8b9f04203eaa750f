//! 10x HDF5: feature–barcode matrices of Cell Ranger, the present layout and the one before version 3.
//!
//! The matrix is compressed by barcode: cells × features in CSR. Columns that describe features carry the names that
//! scanpy gives them: `gene_ids`, `feature_types`, and the file's own for the rest (`genome`, `interval`, …).

use std::path::{Path, PathBuf};

use hdf5::{File, Group};

use super::form::{Form, Source, no_layer};
use crate::data::anndata::Column;
use crate::data::anndata::matrix::Matrix;
use crate::data::anndata::reader::{Axis, list, text_of};
use crate::error::{Error, Result};

/// A feature–barcode matrix.
#[derive(Debug)]
pub(super) struct TenXSource {
    path: PathBuf,
    form: Form,
    group: Group,
    at: String,
    bytes: u64,
    /// Columns of features: name here, place in the file.
    columns: Vec<(String, String)>,
    /// Place of the names of features.
    names: &'static str,
}

const DAMAGED: &str = "the file is damaged; make or fetch it again";

pub(super) fn open(path: &Path, file: &File, bytes: u64) -> Result<TenXSource> {
    let missing = |what: &str| {
        Error::input(path, format!("no `{what}` in it"), "give a filtered_feature_bc_matrix.h5 as 10x makes it")
    };
    let group = file.group("matrix").map_err(|_| missing("matrix"))?;
    let features = group.group("features").map_err(|_| missing("matrix/features"))?;
    let mut columns = Vec::new();
    for name in features.member_names().unwrap_or_default() {
        let shown = match name.as_str() {
            "_all_tag_keys" | "name" => continue,
            "id" => "gene_ids",
            "feature_type" => "feature_types",
            other => other,
        };
        // What is not one value a feature (such as the target sets of later versions) describes no feature.
        if features.dataset(&name).is_ok_and(|d| d.ndim() == 1) {
            columns.push((shown.to_string(), format!("features/{name}")));
        }
    }
    columns.sort();
    let source = TenXSource {
        path: path.into(),
        form: Form::TenX,
        group,
        at: "matrix".into(),
        bytes,
        columns,
        names: "features/name",
    };
    source.check()?;
    Ok(source)
}

pub(super) fn open_legacy(
    path: &Path,
    file: &File,
    bytes: u64,
    genomes: &[String],
    wanted: Option<&String>,
) -> Result<TenXSource> {
    let genome = match (wanted, genomes) {
        (Some(wanted), _) => genomes.iter().find(|g| *g == wanted).ok_or_else(|| {
            Error::input(
                path,
                format!("has no genome {wanted:?}; there are {}", list(genomes)),
                "name one of these with --tenx-genome",
            )
        })?,
        (None, [one]) => one,
        (None, _) => {
            return Err(Error::input(
                path,
                format!("holds a matrix of each of {} genomes: {}", genomes.len(), list(genomes)),
                "name one of them with --tenx-genome",
            ));
        }
    };
    let group = file.group(genome).map_err(|e| Error::input(path, format!("`{genome}`: {e}"), DAMAGED))?;
    let source = TenXSource {
        path: path.into(),
        form: Form::TenXLegacy,
        group,
        at: genome.clone(),
        bytes,
        columns: vec![("gene_ids".into(), "genes".into())],
        names: "gene_names",
    };
    source.check()?;
    Ok(source)
}

impl TenXSource {
    fn check(&self) -> Result<()> {
        for name in ["barcodes", "data", "indices", "indptr", "shape", self.names] {
            let (group, last) = match name.split_once('/') {
                Some((group, last)) => (self.group.group(group), last),
                None => (Ok(self.group.clone()), name),
            };
            if !group.is_ok_and(|g| g.link_exists(last)) {
                return Err(Error::input(&self.path, format!("no `{}/{name}`", self.at), DAMAGED));
            }
        }
        Ok(())
    }

    /// A one-dimensional data set of the group.
    fn read(&self, name: &str) -> Result<Column> {
        let at = format!("{}/{name}", self.at);
        let set = self
            .group
            .dataset(name)
            .map_err(|e| Error::input(&self.path, format!("cannot open `{at}` (HDF5: {e})"), DAMAGED))?;
        text_of(&self.path, self.bytes, &set, &at)
    }

    fn read_names(&self, name: &str) -> Result<Vec<String>> {
        match self.read(name)? {
            Column::Strings(v) => Ok(v),
            _ => Err(Error::input(&self.path, format!("`{}/{name}` is not text", self.at), DAMAGED)),
        }
    }
}

impl Source for TenXSource {
    fn path(&self) -> &Path {
        &self.path
    }

    fn form(&self) -> Form {
        self.form
    }

    fn names(&self, axis: Axis) -> Result<Vec<String>> {
        match axis {
            Axis::Obs => self.read_names("barcodes"),
            Axis::Var => self.read_names(self.names),
        }
    }

    fn columns(&self, axis: Axis) -> Result<Vec<String>> {
        Ok(match axis {
            Axis::Obs => Vec::new(),
            Axis::Var => self.columns.iter().map(|c| c.0.clone()).collect(),
        })
    }

    fn column(&self, axis: Axis, name: &str) -> Result<Option<Column>> {
        let place = self.columns.iter().find(|c| c.0 == name);
        let (Axis::Var, Some((_, place))) = (axis, place) else { return Ok(None) };
        let column = self.read(place)?;
        let features = self.names(Axis::Var)?.len();
        if column.len() != features {
            return Err(Error::input(
                &self.path,
                format!("`{}/{place}` has {} values for {features} features", self.at, column.len()),
                DAMAGED,
            ));
        }
        Ok(Some(column))
    }

    fn layers(&self) -> Vec<String> {
        Vec::new()
    }

    fn matrix(&self, layer: Option<&str>, hint: &str) -> Result<Matrix> {
        no_layer(&self.path, layer, hint)?;
        let at = format!("{}/shape", self.at);
        let shape = match self.read("shape")? {
            Column::Ints(v) => v,
            _ => Vec::new(),
        };
        let sizes = match shape.as_slice() {
            [features, cells] => usize::try_from(*features).ok().zip(usize::try_from(*cells).ok()),
            _ => None,
        };
        let Some((features, cells)) = sizes else {
            return Err(Error::input(&self.path, format!("`{at}` does not hold two sizes"), DAMAGED));
        };
        Matrix::sparse(&self.path, &self.at, &self.group, true, cells, features, self.bytes)
    }
}
