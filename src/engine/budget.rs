//! Memory that passes take, refused before they start where it is not there.

use crate::dataset::DataSet;
use crate::error::Result;
use crate::model::{MemoryPlan, Model};

/// Refuses passes over so many cells at a time, with `kept` bytes of results besides, that do not fit into memory.
///
/// # Errors
/// [`Error::Usage`]; see [`crate::memory`].
pub(crate) fn check_memory(what: &str, model: &Model<f32>, data: &DataSet, batch_size: usize, kept: u64) -> Result<()> {
    let cells: Vec<u32> = (0..data.n_cells().min(batch_size.max(1)) as u32).collect();
    let plan = MemoryPlan::new(&model.config, model.params.layout().len(), &data.batch_of_cells(&cells));
    data.check()?;
    // Nothing goes backward: one batch, half of what the passes keep.
    let parts = [("parameters", plan.parameters), ("a batch", plan.batches / 3 + plan.passes / 2), ("results", kept)];
    crate::memory::check(what, &parts, data.access().memory_limit, |_| "a smaller --batch-size takes less".into())
}
