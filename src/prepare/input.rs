//! The files that `prepare` is given, opened.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::config::PrepareConfig;
use crate::data::anndata::{Axis, Column, Matrix};
use crate::data::cells::{CellRows, CellTable};
use crate::data::source;
use crate::data::source::columns::refuse_swapped;
use crate::data::source::{Held, Modality, Select};
use crate::error::{Error, Result};
use crate::progress::Progress;

/// One modality, opened.
pub(crate) struct Input {
    pub modality: Modality,
    pub source: Box<dyn source::Source>,
    pub matrix: Matrix,
    pub cells: Vec<String>,
    /// Names of the features in the file: annotation goes by them, as what makes a name distinct would lead it astray.
    pub named: Vec<String>,
    /// The same, made distinct.
    pub names: Vec<String>,
    /// More columns of the cells, and their rows in it.
    pub table: Option<(Arc<CellTable>, CellRows)>,
}

impl Input {
    pub(crate) fn open(
        path: &Path,
        held: &[Held],
        modality: Modality,
        select: &Select,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let source = match held.iter().find(|h| h.name() == path) {
            Some(held) => source::open_held(held, modality, select)?,
            None => source::open(path, modality, select, progress)?,
        };
        let matrix = source.matrix(None, modality.layer_flag())?;
        let (cells, named) = (source.names(Axis::Obs)?, source.names(Axis::Var)?);
        if modality == Modality::Rna {
            refuse_swapped(path, &named)?;
        }
        let what = if modality == Modality::Rna { "gene" } else { "peak" };
        let names = unique_names(named.clone(), path, what, progress)?;
        Ok(Input { modality, source, matrix, cells, named, names, table: None })
    }

    /// A column of the cells: of the table given, else of the file.
    pub(crate) fn cell_column(&self, name: &str) -> Result<Option<Column>> {
        match self.table.as_ref().and_then(|(table, rows)| table.column(name, rows)) {
            None => self.source.column(Axis::Obs, name),
            column => Ok(column),
        }
    }

    /// Names of the columns of the cells.
    pub(crate) fn cell_columns(&self) -> Result<Vec<String>> {
        let mut names = self.source.columns(Axis::Obs)?;
        names.extend(self.table.iter().flat_map(|t| t.0.columns().iter().cloned()));
        names.sort();
        names.dedup();
        Ok(names)
    }
}

/// Both files; at least one is there.
pub(crate) struct Inputs {
    pub rna: Option<Input>,
    pub atac: Option<Input>,
}

impl Inputs {
    /// Opens what the configuration names, and gives each the table of cells where there is one.
    pub(crate) fn open(config: &PrepareConfig, progress: &dyn Progress) -> Result<Self> {
        let open = |path: &Option<PathBuf>, modality, select| {
            path.as_deref().map(|path| Input::open(path, &config.held, modality, select, progress)).transpose()
        };
        let mut rna = open(&config.rna, Modality::Rna, &config.rna_select)?;
        let mut atac = open(&config.atac, Modality::Atac, &config.atac_select)?;
        if let Some(path) = &config.obs {
            let all: Vec<String> = rna.iter().chain(&atac).flat_map(|i| i.cells.iter().cloned()).collect();
            let table = Arc::new(CellTable::read(path)?.keyed_for(&all).with_header(&all)?);
            for input in rna.iter_mut().chain(atac.iter_mut()) {
                let rows = table.rows(&input.cells, config.barcodes)?;
                let n = rows.known;
                if let Some(once) = &rows.once {
                    progress.note(&format!(
                        "{}: {n} of {} {} cells agree once {once}; taken so (--barcodes exact refuses that)",
                        path.display(),
                        input.cells.len(),
                        input.modality.name()
                    ));
                }
                if n < input.cells.len() {
                    progress.note(&format!(
                        "{} cells that {} does not tell of: {} of {}",
                        input.modality.name(),
                        path.display(),
                        input.cells.len() - n,
                        input.cells.len()
                    ));
                }
                input.table = Some((table.clone(), rows));
            }
            let used: Vec<&CellRows> = rna.iter().chain(&atac).filter_map(|i| Some(&i.table.as_ref()?.1)).collect();
            let others = table.not_asked_for(&used);
            if others > 0 {
                progress.note(&format!("{}: {others} lines name no cell of the data; left out", path.display()));
            }
        }
        Ok(Inputs { rna, atac })
    }

    /// Those that are there, the RNA first.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Input> {
        self.rna.iter().chain(&self.atac)
    }

    /// Are both there?
    pub(crate) fn paired(&self) -> bool {
        self.rna.is_some() && self.atac.is_some()
    }

    /// Refuses one file given twice.
    pub(crate) fn refuse_same_features(&self) -> Result<()> {
        match (&self.rna, &self.atac) {
            (Some(rna), Some(atac)) if rna.named == atac.named => Err(Error::input(
                atac.source.path(),
                format!("--atac: its {} features are those of --rna", atac.named.len()),
                "give the RNA file to --rna and the ATAC file to --atac",
            )),
            _ => Ok(()),
        }
    }
}

/// Names made distinct by `-1`, `-2`, …; an empty list is an error.
fn unique_names(names: Vec<String>, path: &Path, what: &str, progress: &dyn Progress) -> Result<Vec<String>> {
    if names.is_empty() {
        return Err(Error::input(path, format!("`var` is empty: no {what} in it"), "give a file with features"));
    }
    let all: HashSet<String> = names.iter().cloned().collect();
    if all.len() == names.len() {
        return Ok(names);
    }
    let mut taken = all;
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut renamed = 0;
    let names = names
        .into_iter()
        .map(|name| match seen.get_mut(&name) {
            None => {
                seen.insert(name.clone(), 0);
                name
            }
            Some(count) => {
                renamed += 1;
                loop {
                    *count += 1;
                    let new = format!("{name}-{count}");
                    if taken.insert(new.clone()) {
                        return new;
                    }
                }
            }
        })
        .collect();
    progress.note(&format!("warning: {renamed} {what} names occur more than once; they got -1, -2, … at their end"));
    Ok(names)
}
