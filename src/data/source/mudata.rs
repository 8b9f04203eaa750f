//! MuData (`.h5mu`): an AnnData a modality below `mod`, and columns of all cells beside them.

use std::collections::HashMap;
use std::path::Path;

use hdf5::File;

use super::form::{Form, Modality, Select, Source, chosen};
use crate::data::anndata::Column;
use crate::data::anndata::matrix::Matrix;
use crate::data::anndata::reader::{AnnData, Axis, list};
use crate::data::barcodes::agreement;
use crate::error::{Error, Result};

/// One modality of an `.h5mu` file.
#[derive(Debug)]
pub(super) struct MuDataSource {
    name: String,
    own: AnnData,
    /// The columns of all cells; `None` where the file has none.
    all: Option<AnnData>,
}

/// Names of the modalities of a file, in the order of the file.
pub(crate) fn modalities(file: &File) -> Vec<String> {
    file.group("mod").and_then(|g| g.member_names()).unwrap_or_default()
}

pub(super) fn open(path: &Path, file: &File, bytes: u64, modality: Modality, select: &Select) -> Result<MuDataSource> {
    let names = modalities(file);
    let found = match &select.modality {
        Some(wanted) => names.iter().find(|n| *n == wanted),
        None => match names.iter().filter(|n| modality.is(n)).collect::<Vec<_>>().as_slice() {
            [one] => Some(*one),
            _ => None,
        },
    };
    let Some(name) = found else {
        return Err(Error::input(
            path,
            match &select.modality {
                Some(wanted) => format!("has no modality {wanted:?}; there are {}", list(&names)),
                None => format!("none of its modalities is plainly {}; there are {}", modality.name(), list(&names)),
            },
            format!("name one of these with {}", modality.modality_flag()),
        ));
    };
    let data = AnnData::inside(path, file, &format!("mod/{name}/"), bytes)?;
    let own = chosen(data, select, modality)?;
    let all = if file.link_exists("obs") && file.link_exists("var") {
        Some(AnnData::inside(path, file, "", bytes)?)
    } else {
        None
    };
    Ok(MuDataSource { name: name.clone(), own, all })
}

impl MuDataSource {
    /// A column of all cells, brought into the order of the modality's.
    fn of_all(&self, name: &str) -> Result<Option<Column>> {
        let Some(all) = &self.all else { return Ok(None) };
        let column = match all.column(Axis::Obs, name)? {
            Some(column) => column,
            // Columns pulled up from a modality carry its name.
            None => match all.column(Axis::Obs, &format!("{}:{name}", self.name))? {
                Some(column) => column,
                None => return Ok(None),
            },
        };
        let (names, all_names) = (self.own.names(Axis::Obs)?, all.names(Axis::Obs)?);
        let place: HashMap<&str, u32> = (0..).zip(&all_names).map(|(i, n)| (n.as_str(), i)).collect();
        let order = names.iter().map(|n| place.get(n.as_str()).copied()).collect::<Option<Vec<_>>>();
        // The cells of a modality may be named with an ending, or the modality before them.
        let order = order.or_else(|| agreement(&names, &all_names)?.place.into_iter().collect()).ok_or_else(|| {
            Error::input(
                self.path(),
                format!("`obs` lacks cells of `mod/{}/obs`", self.name),
                "write the file again with a current mudata",
            )
        })?;
        Ok(Some(column.select(&order)))
    }
}

impl Source for MuDataSource {
    fn path(&self) -> &Path {
        self.own.path()
    }

    fn form(&self) -> Form {
        Form::MuData
    }

    fn names(&self, axis: Axis) -> Result<Vec<String>> {
        self.own.names(axis)
    }

    fn columns(&self, axis: Axis) -> Result<Vec<String>> {
        let mut columns = self.own.columns(axis)?;
        if let (Axis::Obs, Some(all)) = (axis, &self.all) {
            columns.extend(all.columns(axis)?);
            columns.sort();
            columns.dedup();
        }
        Ok(columns)
    }

    fn column(&self, axis: Axis, name: &str) -> Result<Option<Column>> {
        match self.own.column(axis, name)? {
            None if axis == Axis::Obs => self.of_all(name),
            column => Ok(column),
        }
    }

    fn layers(&self) -> Vec<String> {
        self.own.layers()
    }

    fn matrix(&self, layer: Option<&str>, hint: &str) -> Result<Matrix> {
        self.own.matrix(layer, hint)
    }
}
