//! Every form in which paired data come, behind one trait.
//!
//! | form | told by | names of features |
//! | --- | --- | --- |
//! | AnnData, `.h5ad` | HDF5 with `obs` and `var` | index of `var` |
//! | MuData, `.h5mu` | HDF5 with `mod` | index of `var` of the modality |
//! | 10x HDF5 | HDF5 with `matrix/features` | `name` |
//! | 10x HDF5, before Cell Ranger 3 | HDF5 with a group a genome | `gene_names` |
//! | Matrix Market | a file named `.mtx[.gz]`, or a folder with one | second column of `features.tsv` (or `genes.tsv`), or the places of `peaks.bed` |
//!
//! An AnnData, MuData or 10x file may be compressed with gzip as a whole. A folder of Cell Ranger stands for the filtered
//! matrix in it.
//!
//! What a file is shows in its content, never in its name. A file may hold both modalities: features are then taken
//! by their type (`feature_types` of `var`: `Gene Expression` or `GEX`, `Peaks` or `ATAC`), or by modality (MuData).

pub(crate) mod columns;
pub(crate) mod form;
pub(crate) mod held;
pub(crate) mod mtx;
pub(crate) mod mudata;
pub(crate) mod tenx;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use hdf5::File;

use super::anndata::Column;
use super::anndata::matrix::Matrix;
use super::anndata::open_hdf5;
use super::anndata::reader::{AnnData, Axis, list};
use super::sniff::of_members;
use crate::error::{Error, Result};
use crate::progress::Progress;
use form::chosen;

pub use form::{Form, Modality, Select, Source};
pub use held::Held;

/// Opens the `modality` of a file or folder of any form. An HDF5 file is read through once (see the module
/// `data::anndata::heaps`); `progress` is asked meanwhile whether to stop, here and in all functions of this
/// module.
///
/// ```
/// use sccrossrec::data::anndata::Axis;
/// use sccrossrec::data::source::{Form, Modality, Select, open};
/// # let dir = std::env::temp_dir().join(format!("sccrossrec-doc-source-{}", std::process::id()));
/// # std::fs::create_dir_all(&dir)?;
/// let small = sccrossrec::simulate::SimulateConfig { cells: 8, genes: 3, peaks: 6, chromosomes: 2, cell_types: 2,
///     ..Default::default() };
/// let files = sccrossrec::simulate::Simulation::new(small)?.write(&dir, &())?;
///
/// let rna = open(&files.rna, Modality::Rna, &Select::default(), &())?;
/// assert_eq!((rna.form(), rna.names(Axis::Var)?.len()), (Form::AnnData, 3));
/// assert_eq!(rna.matrix(None, "--rna-layer")?.rows(), 8);
/// # std::fs::remove_dir_all(&dir)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Error::Input`] where nothing known is there, or it does not hold that modality; [`Error::Interrupted`].
pub fn open(path: &Path, modality: Modality, select: &Select, progress: &dyn Progress) -> Result<Box<dyn Source>> {
    let path = &inside(path, progress);
    let source: Box<dyn Source> = match detect(path, progress)? {
        Detected::AnnData(data) => Box::new(chosen(data, select, modality)?),
        Detected::MuData(file, bytes) => Box::new(mudata::open(path, &file, bytes, modality, select)?),
        Detected::TenX(file, bytes) => Box::new(tenx::open(path, &file, bytes)?),
        Detected::TenXLegacy(file, bytes, genomes) => {
            Box::new(tenx::open_legacy(path, &file, bytes, &genomes, select.genome.as_ref())?)
        }
        Detected::MatrixMarket => Box::new(mtx::open(path, progress)?),
    };
    let source = match &select.genome {
        Some(genome) if source.form() != Form::TenXLegacy => of_genome(source, genome)?,
        _ => source,
    };
    of_type(source, modality)
}

/// The `modality` of data in memory, as [`open`] takes it of a file.
///
/// # Errors
/// As [`open`].
pub fn open_held(held: &Held, modality: Modality, select: &Select) -> Result<Box<dyn Source>> {
    let source: Box<dyn Source> = Box::new(held.clone().with_layer(select.layer.as_deref())?);
    let source = match &select.genome {
        Some(genome) => of_genome(source, genome)?,
        None => source,
    };
    of_type(source, modality)
}

/// The form of what is at a path.
///
/// # Errors
/// [`Error::Input`] where it is none of the known ones.
pub fn form_of(path: &Path, progress: &dyn Progress) -> Result<Form> {
    Ok(match detect(&inside(path, &()), progress)? {
        Detected::AnnData(_) => Form::AnnData,
        Detected::MuData(..) => Form::MuData,
        Detected::TenX(..) => Form::TenX,
        Detected::TenXLegacy(..) => Form::TenXLegacy,
        Detected::MatrixMarket => Form::MatrixMarket,
    })
}

/// All features of a file that holds one matrix.
///
/// # Errors
/// [`Error::Input`] where it is MuData, or a 10x file of several genomes.
pub fn everything(path: &Path, progress: &dyn Progress) -> Result<Box<dyn Source>> {
    let path = &inside(path, progress);
    Ok(match detect(path, progress)? {
        Detected::AnnData(data) => Box::new(data),
        Detected::TenX(file, bytes) => Box::new(tenx::open(path, &file, bytes)?),
        Detected::TenXLegacy(file, bytes, genomes) => Box::new(tenx::open_legacy(path, &file, bytes, &genomes, None)?),
        Detected::MatrixMarket => Box::new(mtx::open(path, progress)?),
        Detected::MuData(..) => {
            return Err(Error::input(path, "is MuData", "look at its modalities one by one"));
        }
    })
}

/// The modalities of a MuData file, by name.
///
/// # Errors
/// [`Error::Input`] where it is something else, or a modality is not AnnData.
pub fn modalities(path: &Path, progress: &dyn Progress) -> Result<Vec<(String, AnnData)>> {
    match detect(path, progress)? {
        Detected::MuData(file, bytes) => mudata::modalities(&file)
            .into_iter()
            .map(|name| Ok((name.clone(), AnnData::inside(path, &file, &format!("mod/{name}/"), bytes)?)))
            .collect(),
        _ => Err(Error::input(path, "is not MuData", "give an .h5mu file")),
    }
}

/// The matrices of a 10x file from before Cell Ranger 3, by genome.
///
/// # Errors
/// [`Error::Input`] where it is something else, or damaged.
pub fn genomes(path: &Path, progress: &dyn Progress) -> Result<Vec<(String, Box<dyn Source>)>> {
    match detect(path, progress)? {
        Detected::TenXLegacy(file, bytes, genomes) => genomes
            .iter()
            .map(|g| {
                let one: Box<dyn Source> = Box::new(tenx::open_legacy(path, &file, bytes, &genomes, Some(g))?);
                Ok((g.clone(), one))
            })
            .collect(),
        _ => Err(Error::input(path, "is no 10x file of that kind", "give an .h5 file of Cell Ranger before 3")),
    }
}

/// What a path was found to be.
pub(crate) enum Detected {
    AnnData(AnnData),
    MuData(File, u64),
    TenX(File, u64),
    /// And the names of its genomes.
    TenXLegacy(File, u64, Vec<String>),
    MatrixMarket,
}

/// What one can give, for messages.
const GIVE: &str = "give an .h5ad, .h5mu or 10x .h5 file, or a folder with matrix.mtx.gz, features.tsv.gz and \
     barcodes.tsv.gz";

/// Looks what a path is.
pub(crate) fn detect(path: &Path, progress: &dyn Progress) -> Result<Detected> {
    let meta = std::fs::metadata(path).map_err(|e| Error::io(path, "read", e))?;
    if meta.is_dir() {
        if mtx::is_one(path) {
            return Ok(Detected::MatrixMarket);
        }
        let has = |name: &str| path.join(name).exists();
        let (found, fix) = if has(".zgroup") || has(".zattrs") || has("zarr.json") {
            ("is a Zarr store", "write it as .h5ad (in Python: anndata.read_zarr(…).write_h5ad(…))".to_string())
        } else if has("dataset.json") {
            ("is a data set that is prepared already", format!("use it as --data; or {GIVE}"))
        } else {
            let names: Vec<String> = std::fs::read_dir(path)
                .map(|d| d.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect())
                .unwrap_or_default();
            let mut names: Vec<String> = names.into_iter().filter(|n| !n.starts_with('.')).collect();
            names.sort();
            let found = format!("is a folder without a matrix (.mtx or .mtx.gz); it holds {}", list(&names));
            return Err(Error::input(path, found, GIVE));
        };
        return Err(Error::input(path, found, fix));
    }
    if !meta.is_file() {
        return Err(Error::input(path, "is neither a file nor a folder", GIVE));
    }
    if mtx::is_matrix(path) {
        return Ok(Detected::MatrixMarket);
    }
    let (file, bytes) = open_hdf5(path, GIVE, progress)?;
    let has = |name: &str| file.link_exists(name);
    let members = file.member_names().unwrap_or_default();
    if let Some(found) = of_members(&members) {
        return Err(Error::input(path, found.what, found.fix));
    }
    if has("mod") {
        return Ok(Detected::MuData(file, bytes));
    }
    if has("obs") || has("var") {
        return Ok(Detected::AnnData(AnnData::inside(path, &file, "", bytes)?));
    }
    if has("matrix") {
        return Ok(Detected::TenX(file, bytes));
    }
    let genomes: Vec<String> = members
        .iter()
        .filter(|n| {
            let group = file.group(n);
            group.is_ok_and(|g| ["barcodes", "genes", "indptr"].iter().all(|part| g.link_exists(part)))
        })
        .cloned()
        .collect();
    if !genomes.is_empty() {
        return Ok(Detected::TenXLegacy(file, bytes, genomes));
    }
    Err(Error::input(path, format!("is an HDF5 file of no known form; it holds {}", list(&members)), GIVE))
}

/// The filtered matrix of a folder that Cell Ranger made, of its `outs` or of one above it, which is told; else the path
/// itself.
fn inside(path: &Path, progress: &dyn Progress) -> PathBuf {
    const PARTS: [&str; 4] = [
        "filtered_feature_bc_matrix.h5",
        "filtered_feature_bc_matrix",
        "filtered_peak_bc_matrix.h5",
        "filtered_peak_bc_matrix",
    ];
    if !path.is_dir() || mtx::is_one(path) {
        return path.to_path_buf();
    }
    let here = PARTS.iter().map(|p| path.join(p));
    let below = PARTS.iter().map(|p| path.join("outs").join(p));
    let found = here.chain(below).find(|p| p.is_file() || p.is_dir() && mtx::is_one(p));
    // A folder with nothing but one such folder in it, as an archive is unpacked.
    let found = found.or_else(|| {
        let shown = |p: &PathBuf| !p.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
        let all = std::fs::read_dir(path).ok()?.flatten().map(|e| e.path()).filter(shown);
        match all.collect::<Vec<_>>().as_slice() {
            [one] if one.is_dir() && mtx::is_one(one) => Some(one.clone()),
            _ => None,
        }
    });
    match found {
        Some(inner) => {
            progress.note(&format!("{}: taking {}", path.display(), inner.display()));
            inner
        }
        None => path.to_path_buf(),
    }
}

/// Some of the features of a source.
#[derive(Debug)]
struct Subset {
    inner: Box<dyn Source>,
    /// Numbers of the features, rising.
    keep: Vec<u32>,
}

impl Source for Subset {
    fn path(&self) -> &Path {
        self.inner.path()
    }

    fn form(&self) -> Form {
        self.inner.form()
    }

    fn names(&self, axis: Axis) -> Result<Vec<String>> {
        let names = self.inner.names(axis)?;
        match axis {
            Axis::Obs => Ok(names),
            Axis::Var => {
                let kept = self.keep.iter().map(|&i| names.get(i as usize).cloned()).collect::<Option<Vec<_>>>();
                kept.ok_or_else(|| Error::Internal("a feature that was kept has no name".into()))
            }
        }
    }

    fn columns(&self, axis: Axis) -> Result<Vec<String>> {
        self.inner.columns(axis)
    }

    fn column(&self, axis: Axis, name: &str) -> Result<Option<Column>> {
        let column = self.inner.column(axis, name)?;
        Ok(match axis {
            Axis::Obs => column,
            Axis::Var => column.map(|c| c.select(&self.keep)),
        })
    }

    fn layers(&self) -> Vec<String> {
        self.inner.layers()
    }

    fn matrix(&self, layer: Option<&str>, hint: &str) -> Result<Matrix> {
        self.inner.matrix(layer, hint)?.select_columns(&self.keep)
    }
}

/// A column as text, `None` where a value is missing.
fn text(column: Column) -> Vec<Option<String>> {
    column.into_text()
}

/// Features of this genome.
fn of_genome(source: Box<dyn Source>, genome: &str) -> Result<Box<dyn Source>> {
    let column = match source.column(Axis::Var, "genome")? {
        Some(column) => text(column),
        None => {
            return Err(Error::input(
                source.path(),
                "does not say of which genome its features are",
                "leave out --tenx-genome",
            ));
        }
    };
    let keep = places(&column, |g| g == genome);
    if keep.is_empty() {
        let mut there: Vec<String> = column.into_iter().flatten().collect::<HashSet<_>>().into_iter().collect();
        there.sort();
        return Err(Error::input(
            source.path(),
            format!("has no feature of the genome {genome:?}; there are {}", list(&there)),
            "name one of these with --tenx-genome",
        ));
    }
    Ok(Box::new(Subset { inner: source, keep }))
}

fn places(column: &[Option<String>], wanted: impl Fn(&str) -> bool) -> Vec<u32> {
    let all = column.iter().enumerate();
    all.filter(|(_, t)| t.as_deref().is_some_and(&wanted)).map(|(i, _)| i as u32).collect()
}

/// The features whose type is that of the modality, where the file tells types of both.
fn of_type(source: Box<dyn Source>, modality: Modality) -> Result<Box<dyn Source>> {
    let column = ["feature_types", "feature_type", "modality"]
        .into_iter()
        .find_map(|name| source.column(Axis::Var, name).transpose())
        .transpose()?;
    let Some(types) = column.map(text) else { return Ok(source) };
    let keep = places(&types, |t| modality.is(t));
    if keep.len() == types.len() {
        return Ok(source);
    }
    let other = match modality {
        Modality::Rna => Modality::Atac,
        Modality::Atac => Modality::Rna,
    };
    if !keep.is_empty() {
        return Ok(Box::new(Subset { inner: source, keep }));
    }
    if places(&types, |t| other.is(t)).is_empty() {
        return Ok(source); // types that say nothing of either
    }
    let mut there: Vec<String> = types.into_iter().flatten().collect::<HashSet<_>>().into_iter().collect();
    there.sort();
    Err(Error::input(
        source.path(),
        format!("has no {} feature: the types of its features are {}", modality.name(), list(&there)),
        format!("give the file with the {} data", modality.name()),
    ))
}
