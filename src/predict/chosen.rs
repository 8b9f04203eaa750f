//! The cells that a prediction is of, and what its file says of them and of itself.

use std::borrow::Cow;

use crate::data::anndata::{AnnDataWriter, Column, Frame};
use crate::dataset::DataSet;
use crate::error::{Error, Result};
use crate::evaluate::{Part, PartCells};
use crate::train::Run;

/// What an interruption leaves of a prediction.
pub(super) const NOTHING: &str = "nothing was written";

/// Cells to be written: all of the data, or a part of the run's sample set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// Numbers of the cells, ascending.
    pub cells: Vec<u32>,
    /// The part of each, in a word.
    pub part: Vec<&'static str>,
}

impl Chosen {
    /// The cells of `part`. What part a cell is of is known of the data that the run was trained on alone.
    ///
    /// # Errors
    /// A part of data that the run was not trained on; one without cells; a sample set that is not there.
    pub fn new(run: &Run, data: &DataSet, part: Part) -> Result<Self> {
        let all = all_cells(data)?;
        if run.data_hash() != data.hash() || !run.knows_its_samples() {
            if part != Part::All {
                return Err(Error::usage(format!(
                    "--part {}: the run was not trained on {}, so no cell of it is in a part; leave --part out",
                    part.name(),
                    data.dir().display()
                )));
            }
            let part = vec!["none"; all.len()];
            return Ok(Chosen { cells: all, part });
        }
        let parts = PartCells::new(data, &data.samples(&run.config.samples)?);
        let cells = parts.of(part);
        if cells.is_empty() {
            return Err(Error::usage(format!("--part {}: no cell is in it; choose another part", part.name())));
        }
        let part = cells.iter().map(|&c| parts.name(c)).collect();
        Ok(Chosen { cells, part })
    }

    /// Those that were chosen, or all of the data.
    pub(super) fn or_all<'a>(chosen: Option<&'a Chosen>, run: &Run, data: &DataSet) -> Result<Cow<'a, Chosen>> {
        chosen.map_or_else(|| Chosen::new(run, data, Part::All).map(Cow::Owned), |c| Ok(Cow::Borrowed(c)))
    }

    /// `obs` of these cells: barcodes, types, the other columns of the data, the part.
    pub(super) fn obs(&self, data: &DataSet) -> Frame {
        let mut frame = obs_of(data, &self.cells);
        let words = ["train", "val", "test", "none"];
        let code = |p: &&str| words.iter().position(|w| w == p).map_or(-1, |i| i as i32);
        let codes = self.part.iter().map(code).collect();
        frame.columns.retain(|c| c.0 != "part");
        frame
            .columns
            .push(("part".into(), Column::Categorical { codes, categories: words.map(String::from).to_vec() }));
        frame
    }
}

/// `obs` of some cells: barcodes, types, and the other columns that the data keep.
fn obs_of(data: &DataSet, cells: &[u32]) -> Frame {
    let v = data.vocabulary();
    let mut columns = Vec::new();
    let of = |all: &[u32]| cells.iter().map(|&c| i32::try_from(all[c as usize]).unwrap_or(-1)).collect::<Vec<i32>>();
    if !v.cell_types.is_empty() {
        let codes = of(&v.cell_type);
        columns.push(("cell_type".to_string(), Column::Categorical { codes, categories: v.cell_types.clone() }));
    }
    for column in v.obs.iter().filter(|o| o.name != "cell_type") {
        let codes = of(&column.codes);
        // A column named with a slash is a group of groups in AnnData files, and soon not allowed there.
        let mut name = column.name.replace('/', "_");
        while name != column.name && v.obs.iter().any(|o| o.name == name) {
            name.push('_');
        }
        columns.push((name, Column::Categorical { codes, categories: column.categories.clone() }));
    }
    Frame { index: cells.iter().map(|&c| v.cells[c as usize].clone()).collect(), columns }
}

/// What made a file, into its `uns`.
pub(super) fn origin(writer: &mut AnnDataWriter, run: &Run, data: &DataSet) -> Result<()> {
    let json = |e: serde_json::Error| Error::Internal(e.to_string());
    writer.uns_string("sccrossrec/version", env!("CARGO_PKG_VERSION"))?;
    writer.uns_string("sccrossrec/config", &serde_json::to_string(&run.config).map_err(json)?)?;
    writer.uns_string("sccrossrec/model", &serde_json::to_string(&run.sizes).map_err(json)?)?;
    writer.uns_string("sccrossrec/data_hash", data.hash())?;
    writer.uns_string("sccrossrec/training_data_hash", run.data_hash())
}

/// Every cell.
pub(super) fn all_cells(data: &DataSet) -> Result<Vec<u32>> {
    let n = u32::try_from(data.n_cells())
        .map_err(|_| Error::input(data.dir(), format!("has {} cells", data.n_cells()), "split it"))?;
    Ok((0..n).collect())
}
