//! What a training takes of memory, checked before anything is made or written.

use super::config::TrainConfig;
use super::tower_settings::tower_parameters;
use crate::dataset::{DataSet, SampleSet};
use crate::engine::Device;
use crate::error::Result;
use crate::memory;
use crate::model::{Batch, MemoryPlan, Model, ParamLayout};

fn check(data: &DataSet, parts: &[(&str, u64)], fix: impl FnOnce(u64) -> Option<String>) -> Result<()> {
    memory::check("training", parts, data.access().memory_limit, |limit| {
        fix(limit).unwrap_or_else(|| "a smaller --embedding-dim and --hidden take less".into())
    })
}

/// Refuses a model that no way of training fits into memory, before it is made.
pub(crate) fn check_parameters(data: &DataSet, config: &TrainConfig) -> Result<()> {
    let arena = 4 * ParamLayout::new(&config.model_for(data)).len() as u64;
    let model = [("parameters", arena), ("gradients", arena), ("moments", 2 * arena)];
    check(data, &model, |_| None)?;
    if config.towers.epochs == Some(0) {
        return Ok(());
    }
    // Parameters, gradients, moments and running mean; they come before the steps of the model, whose arenas are there.
    let v = data.vocabulary();
    let towers = 20 * tower_parameters(&config.towers, v.genes.len(), v.peaks.len());
    check(data, &[&model[..], &[("towers", towers)]].concat(), |_| Some("a smaller --tower-width takes less".into()))
}

/// What the run takes, by its first batch, which must be whole. Refuses one that does not fit into memory, before anything
/// is written. On a device gradients and passes are there.
pub(crate) fn plan(
    device: &Device,
    data: &DataSet,
    set: &SampleSet,
    config: &TrainConfig,
    model: &Model<f32>,
) -> Result<MemoryPlan> {
    let batch = |size: usize| data.batch(set, &set.train[..size.min(set.train.len())]);
    let plan = |batch: &Batch<f32>| {
        let mut plan = MemoryPlan::new(&model.config, model.params.layout().len(), batch);
        if device.cuda().is_some() {
            (plan.gradients, plan.passes) = (0, 0);
        }
        plan
    };
    let first = batch(config.batch_size);
    data.check()?;
    let whole = plan(&first);
    check(data, &whole.parts(), |limit| {
        let mut halves = std::iter::successors(Some(config.batch_size / 2), |n| Some(n / 2)).take_while(|n| *n > 0);
        halves.find(|&n| plan(&batch(n)).total() <= limit).map(|n| format!("--batch-size {n} takes less"))
    })?;
    first.validate(&model.features)?;
    Ok(whole)
}
