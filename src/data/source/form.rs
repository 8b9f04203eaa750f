//! What a source of data is: its form, its modality, what is wanted of it, and what it tells.

use std::fmt::Debug;
use std::path::Path;

use crate::data::anndata::Column;
use crate::data::anndata::matrix::Matrix;
use crate::data::anndata::reader::{AnnData, Axis};
use crate::error::{Error, Result};

/// One modality of some data, opened read-only: names, columns and matrices, the rows of which are cells.
pub trait Source: Debug {
    /// The file or folder.
    fn path(&self) -> &Path;

    /// What it is.
    fn form(&self) -> Form;

    /// Names of the cells or of the features.
    ///
    /// # Errors
    /// As all methods here: [`Error::Input`] that names the field and what is wrong with it.
    fn names(&self, axis: Axis) -> Result<Vec<String>>;

    /// Names of the columns that describe cells or features, sorted.
    fn columns(&self, axis: Axis) -> Result<Vec<String>>;

    /// A column, one value a cell or feature; `None` where there is none of that name.
    fn column(&self, axis: Axis, name: &str) -> Result<Option<Column>>;

    /// Names of matrices besides the first one.
    fn layers(&self) -> Vec<String>;

    /// The matrix (`None`: the one chosen when the file was opened), cells × features. `hint` is the flag that
    /// chooses another.
    fn matrix(&self, layer: Option<&str>, hint: &str) -> Result<Matrix>;

    /// The AnnData file behind it, where that is all there is to it (so that a copy of the file can be edited).
    fn whole_anndata(&self) -> Option<&AnnData> {
        None
    }
}

/// The forms of data that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `.h5ad`.
    AnnData,
    /// `.h5mu`.
    MuData,
    /// 10x HDF5 of Cell Ranger 3 and later.
    TenX,
    /// 10x HDF5 before that, one group a genome.
    TenXLegacy,
    /// Folder with `matrix.mtx`, `features.tsv` (or `genes.tsv`), `barcodes.tsv`, each also as `.gz`.
    MatrixMarket,
    /// An object in memory.
    Held,
}

impl std::fmt::Display for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Form::AnnData => "AnnData",
            Form::MuData => "MuData",
            Form::TenX => "10x HDF5",
            Form::TenXLegacy => "10x HDF5 (legacy)",
            Form::MatrixMarket => "10x Matrix Market",
            Form::Held => "in memory",
        })
    }
}

/// The two modalities of paired data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Modality {
    /// Gene expression.
    Rna,
    /// Chromatin accessibility.
    Atac,
}

impl Modality {
    /// Its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Modality::Rna => "RNA",
            Modality::Atac => "ATAC",
        }
    }

    /// Flag that chooses the layer.
    pub fn layer_flag(self) -> &'static str {
        match self {
            Modality::Rna => "--rna-layer",
            Modality::Atac => "--atac-layer",
        }
    }

    /// Flag that names the modality of a MuData file.
    pub(crate) fn modality_flag(self) -> &'static str {
        match self {
            Modality::Rna => "--rna-modality",
            Modality::Atac => "--atac-modality",
        }
    }

    /// Is this what the type of a feature, or a modality of a MuData file, is called?
    pub(crate) fn is(self, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        let all: &[&str] = match self {
            Modality::Rna => &["rna", "gex", "gene expression", "gene_expression", "genes", "scrna", "expression"],
            Modality::Atac => {
                &["atac", "peaks", "peak", "scatac", "chromatin accessibility", "chromatin_accessibility"]
            }
        };
        all.contains(&name.as_str())
    }
}

/// What is wanted of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Select {
    /// Layer instead of `X`; `raw` takes `raw` (its matrix and its features).
    pub layer: Option<String>,
    /// Modality of a MuData file; by its usual names where `None`.
    pub modality: Option<String>,
    /// Genome of a 10x file with several; all (before Cell Ranger 3: the only one) where `None`.
    pub genome: Option<String>,
}

impl Source for AnnData {
    fn path(&self) -> &Path {
        AnnData::path(self)
    }

    fn form(&self) -> Form {
        Form::AnnData
    }

    fn names(&self, axis: Axis) -> Result<Vec<String>> {
        AnnData::names(self, axis)
    }

    fn columns(&self, axis: Axis) -> Result<Vec<String>> {
        AnnData::columns(self, axis)
    }

    fn column(&self, axis: Axis, name: &str) -> Result<Option<Column>> {
        AnnData::column(self, axis, name)
    }

    fn layers(&self) -> Vec<String> {
        AnnData::layers(self)
    }

    fn matrix(&self, layer: Option<&str>, hint: &str) -> Result<Matrix> {
        AnnData::matrix(self, layer, hint)
    }

    fn whole_anndata(&self) -> Option<&AnnData> {
        // One that was unpacked is not the file that could be copied.
        let as_it_is = std::fs::metadata(AnnData::path(self)).is_ok_and(|m| m.len() == self.bytes());
        (!self.is_raw() && as_it_is).then_some(self)
    }
}

/// AnnData with the layer that is wanted in the place of `X`.
pub(crate) fn chosen(data: AnnData, select: &Select, modality: Modality) -> Result<AnnData> {
    match select.layer.as_deref() {
        // A layer may be called `raw`, too; it comes first.
        Some("raw") if !data.layers().iter().any(|l| l == "raw") => data.with_raw(),
        layer => data.with_layer(layer, modality.layer_flag()),
    }
}

/// These forms have one matrix.
pub(crate) fn no_layer(path: &Path, layer: Option<&str>, hint: &str) -> Result<()> {
    match layer {
        None | Some("X") => Ok(()),
        Some(name) => {
            Err(Error::input(path, format!("has one matrix and no layer {name:?}"), format!("leave out {hint}")))
        }
    }
}
