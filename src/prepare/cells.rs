//! Cells: matched by barcode, labelled by type.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::config::{Pairing, PrepareConfig};
use super::input::{Input, Inputs};
use crate::data::anndata::{Column, list};
use crate::data::barcodes::agreement;
use crate::data::cells::Strip;
use crate::data::source::Modality;
use crate::data::source::columns::of_modality;
use crate::dataset::samples::UNLABELLED;
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::vocabulary::{ObsColumn, Vocabulary};

/// Barcodes are there and distinct.
fn check_barcodes(path: &Path, names: &[String]) -> Result<()> {
    if names.is_empty() {
        return Err(Error::input(path, "`obs` is empty: no cell in it", "give a file with cells"));
    }
    let mut seen = HashSet::with_capacity(names.len());
    let twice: Vec<&String> = names.iter().filter(|n| !seen.insert(n.as_str())).collect();
    match twice.first() {
        None => Ok(()),
        Some(first) => Err(Error::input(
            path,
            format!("{} barcodes in `obs` occur more than once (the first is {first})", twice.len()),
            "make them unique, e.g. by a batch suffix",
        )),
    }
}

/// Cells brought together.
pub(crate) struct Pairs {
    /// Row of RNA and row of ATAC of each, in the order of the RNA file; the same twice where there is one file.
    pub rows: Vec<(u32, u32)>,
    /// Cells only in the RNA file, and only in the ATAC file.
    pub unmatched: (usize, usize),
}

/// Brings the cells of the files together, and tells how many are in one of them only.
pub(crate) fn pair_cells(config: &PrepareConfig, inputs: &Inputs, progress: &dyn Progress) -> Result<Pairs> {
    let (rows, unmatched) = match (&inputs.rna, &inputs.atac) {
        (Some(rna), Some(atac)) => {
            let rows = in_both(config, rna, atac, progress)?;
            let unmatched = (rna.cells.len() - rows.len(), atac.cells.len() - rows.len());
            (rows, unmatched)
        }
        (Some(one), None) | (None, Some(one)) => {
            check_barcodes(one.source.path(), &one.cells)?;
            ((0..one.cells.len() as u32).map(|i| (i, i)).collect(), (0, 0))
        }
        (None, None) => return Err(Error::usage("give --rna, --atac or both")),
    };
    if unmatched != (0, 0) {
        progress.note(&format!(
            "cells in both files: {}; only in the RNA file: {}; only in the ATAC file: {} (dropped)",
            rows.len(),
            unmatched.0,
            unmatched.1
        ));
    }
    Ok(Pairs { rows, unmatched })
}

/// Cells in both files, as (row of RNA, row of ATAC), in the order of the RNA file.
fn in_both(config: &PrepareConfig, rna: &Input, atac: &Input, progress: &dyn Progress) -> Result<Vec<(u32, u32)>> {
    let (rna_path, atac_path) = (rna.source.path(), atac.source.path());
    let (rna, atac) = (rna.cells.as_slice(), atac.cells.as_slice());
    check_barcodes(rna_path, rna)?;
    check_barcodes(atac_path, atac)?;
    if config.pairing == Pairing::ByPosition {
        if rna.len() != atac.len() {
            return Err(Error::input(
                atac_path,
                format!("{} cells, but the RNA file has {}", atac.len(), rna.len()),
                "--pair by-position needs the same number; match by barcode, or cut the files to the same cells",
            ));
        }
        let elsewhere: HashSet<&str> = atac.iter().map(String::as_str).collect();
        let moved = rna.iter().zip(atac).filter(|(r, a)| r != a && elsewhere.contains(r.as_str())).count();
        if moved > 0 {
            return Err(Error::input(
                atac_path,
                format!(
                    "{moved} cells of {} are in it at another place (the first cells are {} there, {} here)",
                    rna_path.display(),
                    rna[0],
                    atac[0]
                ),
                "leave out --pair by-position: the barcodes tell which cells are the same",
            ));
        }
        return Ok((0..rna.len() as u32).map(|i| (i, i)).collect());
    }
    let place: HashMap<&str, u32> = atac.iter().enumerate().map(|(i, n)| (n.as_str(), i as u32)).collect();
    let pairs: Vec<(u32, u32)> =
        rna.iter().enumerate().filter_map(|(i, n)| place.get(n.as_str()).map(|&a| (i as u32, a))).collect();
    let smaller = rna.len().min(atac.len());
    let share = pairs.len() as f64 / smaller as f64;
    let few = pairs.is_empty() || share < config.min_common;
    if !few && config.barcodes != Strip::Yes {
        return Ok(pairs);
    }
    let near = agreement(rna, atac).filter(|n| n.agree > pairs.len());
    let taken = match config.barcodes {
        Strip::No => false,
        Strip::Auto => near.as_ref().is_some_and(|n| n.agree == smaller),
        Strip::Yes => near.as_ref().is_some_and(|n| n.agree as f64 / smaller as f64 >= config.min_common),
    };
    match near {
        Some(near) if taken => {
            progress.note(&format!(
                "barcodes: {} of {smaller} agree once {}; taken so (--barcodes exact refuses that)",
                near.agree, near.once
            ));
            Ok((0..).zip(&near.place).filter_map(|(i, p)| p.map(|p| (i, p))).collect())
        }
        _ if !few => Ok(pairs),
        near => {
            let found = format!(
                "only {} of {smaller} barcodes are also in {} (e.g. {} here, {} there)",
                pairs.len(),
                rna_path.display(),
                atac[0],
                rna[0]
            );
            Err(match near {
                Some(near) if config.barcodes != Strip::Yes => Error::input(
                    atac_path,
                    format!("{found}; {} of {smaller} would agree once {}", near.agree, near.once),
                    "take them so with --barcodes strip",
                ),
                _ => Error::input(
                    atac_path,
                    found,
                    "give the two files of one experiment (or lower --min-common; where both hold the same cells in the \
                     same order: --pair by-position)",
                ),
            })
        }
    }
}

/// What the files tell of the cells.
pub(crate) struct CellData {
    /// Cell types, where they are told.
    labels: Option<Labels>,
    columns: Vec<CellColumn>,
}

impl CellData {
    /// Reads cell types and columns, and tells where they are missing or contradict each other.
    pub(crate) fn read(config: &PrepareConfig, inputs: &Inputs, progress: &dyn Progress) -> Result<Self> {
        let all: Vec<&Input> = inputs.all().collect();
        Ok(CellData { labels: cell_types(config, &all, progress)?, columns: cell_columns(config, &all)? })
    }

    /// Cell types and columns of the cells that are kept, and nothing else.
    pub(crate) fn draft(&self, kept: &[(u32, u32)]) -> Vocabulary {
        let mut v = Vocabulary { cells: vec![String::new(); kept.len()], ..Vocabulary::default() };
        label_cells(&mut v, &self.labels, kept, &());
        v.obs = coded(&self.columns, self.labels.as_ref(), kept);
        v
    }

    /// Gives `v` the cells that are kept: names, types, columns.
    pub(crate) fn describe(&self, v: &mut Vocabulary, inputs: &Inputs, kept: &[(u32, u32)], progress: &dyn Progress) {
        if let Some(first) = inputs.all().next() {
            v.cells = kept.iter().map(|k| first.cells[of_modality(k, first.modality) as usize].clone()).collect();
        }
        label_cells(v, &self.labels, kept, progress);
        v.obs = coded(&self.columns, self.labels.as_ref(), kept);
    }
}

/// Labels of the rows of the file they are from.
struct Labels {
    from: Modality,
    labels: Vec<Option<String>>,
}

impl Labels {
    fn of(&self, cell: &(u32, u32)) -> Option<&str> {
        self.labels[of_modality(cell, self.from) as usize].as_deref()
    }
}

/// Column of the cell types.
const CELL_TYPE: &str = "cell_type";

/// The labels of the first file that has them; told where the files differ, or none has any.
fn cell_types(config: &PrepareConfig, inputs: &[&Input], progress: &dyn Progress) -> Result<Option<Labels>> {
    let name = config.cell_type_column.as_deref().unwrap_or(CELL_TYPE);
    for (i, input) in inputs.iter().enumerate() {
        let Some(labels) = input.cell_column(name)?.map(Column::into_text) else { continue };
        for other in &inputs[i + 1..] {
            let Some(theirs) = other.cell_column(name)?.map(Column::into_text) else { continue };
            let named: HashMap<&str, &Option<String>> = other.cells.iter().map(String::as_str).zip(&theirs).collect();
            let differ =
                |(cell, label): &(&String, &Option<String>)| named.get(cell.as_str()).is_some_and(|t| t != label);
            let n = input.cells.iter().zip(&labels).filter(differ).count();
            if n > 0 {
                progress.note(&format!(
                    "warning: `{name}` of {n} cells differs between the two files; that of the {} file is taken",
                    input.modality.name()
                ));
            }
        }
        return Ok(Some(Labels { from: input.modality, labels }));
    }
    let mut columns: Vec<String> = Vec::new();
    for input in inputs {
        columns.extend(input.cell_columns()?);
    }
    columns.sort();
    columns.dedup();
    let columns = list(&columns);
    if config.cell_type_column.is_some() {
        return Err(Error::input(
            inputs[0].source.path(),
            format!("`obs` has no column `{name}` (nor has that of the other file); the columns are {columns}"),
            "name one of these with --cell-type-column, or give a table of cells with --obs",
        ));
    }
    if inputs.len() == 2 {
        progress.note(&format!(
            "warning: no column `cell_type` in obs (the columns are {columns}): without labels the sample set holds positives \
             only, and matching cannot be trained; name the column with --cell-type-column, or give a table with --obs"
        ));
    }
    Ok(None)
}

/// Most values a column of cells may have to be kept: as text, and as numbers, which are then codes of something.
const FEW_TEXTS: usize = 1000;
const FEW_NUMBERS: usize = 100;

/// A column of cells that may be kept.
struct CellColumn {
    from: Modality,
    name: String,
    column: Column,
    /// Most values it may have.
    few: usize,
}

/// Columns that may tell batches, donors or sites: texts and whole numbers, those of the RNA file first.
fn cell_columns(config: &PrepareConfig, inputs: &[&Input]) -> Result<Vec<CellColumn>> {
    let labels = config.cell_type_column.as_deref().unwrap_or(CELL_TYPE);
    let mut out = Vec::new();
    for input in inputs {
        for name in input.cell_columns()?.into_iter().filter(|n| n != labels) {
            let (column, few) = match input.cell_column(&name) {
                // Whole numbers with gaps are stored so.
                Ok(Some(Column::Floats(v))) if v.iter().all(|x| x.is_nan() || x.fract() == 0.0) => {
                    (Column::Floats(v), FEW_NUMBERS)
                }
                Ok(Some(Column::Floats(_)) | None) => continue,
                Ok(Some(column @ Column::Ints(_))) => (column, FEW_NUMBERS),
                Ok(Some(column)) => (column, FEW_TEXTS),
                // A column of a kind that cannot be read is none to go by, and no reason to stop.
                Err(_) => continue,
            };
            out.push(CellColumn { from: input.modality, name, column, few });
        }
    }
    Ok(out)
}

/// Those with few distinct values among the cells that are kept; of two of one name the first.
fn coded(columns: &[CellColumn], labels: Option<&Labels>, kept: &[(u32, u32)]) -> Vec<ObsColumn> {
    let rows = |from: Modality| kept.iter().map(move |k| of_modality(k, from)).collect::<Vec<u32>>();
    let (rna, atac) = (rows(Modality::Rna), rows(Modality::Atac));
    let mut out: Vec<ObsColumn> = Vec::new();
    for c in columns {
        if out.iter().any(|o| o.name == c.name) {
            continue;
        }
        let values = c.column.select(if c.from == Modality::Rna { &rna } else { &atac }).into_text();
        let distinct: HashSet<&str> = values.iter().flatten().map(String::as_str).collect();
        // One value a cell is a name, and no batch; nor is what the cell types tell already.
        let is_name = kept.len() > 1 && distinct.len() == kept.len();
        let is_type = labels.is_some_and(|l| kept.iter().zip(&values).all(|(k, v)| l.of(k) == v.as_deref()));
        if distinct.len() > c.few || distinct.is_empty() || is_name || is_type {
            continue;
        }
        let mut categories: Vec<String> = distinct.into_iter().map(String::from).collect();
        categories.sort_unstable();
        let code: HashMap<&str, u32> = (0..).zip(&categories).map(|(i, c)| (c.as_str(), i)).collect();
        let codes = values.iter().map(|v| v.as_deref().map_or(ObsColumn::MISSING, |v| code[v])).collect();
        out.push(ObsColumn { name: c.name.clone(), categories, codes });
    }
    out
}

/// Gives the cells that are kept their types; those without a label are told and called [`UNLABELLED`].
fn label_cells(v: &mut Vocabulary, labels: &Option<Labels>, kept: &[(u32, u32)], progress: &dyn Progress) {
    let Some(labels) = labels else { return };
    let label = |cell: &(u32, u32)| labels.of(cell).unwrap_or(UNLABELLED);
    let mut types: Vec<&str> = kept.iter().map(label).collect::<HashSet<_>>().into_iter().collect();
    types.sort_unstable();
    let number: HashMap<&str, u32> = types.iter().enumerate().map(|(i, t)| (*t, i as u32)).collect();
    v.cell_type = kept.iter().map(|k| number[label(k)]).collect();
    v.cell_types = types.iter().map(|t| t.to_string()).collect();
    let missing = kept.iter().filter(|k| label(k) == UNLABELLED).count();
    if missing > 0 {
        progress.note(&format!(
            "warning: {missing} cells have no cell type; they are called `{UNLABELLED}` and make no negatives"
        ));
    }
}
