//! All that `--resume` needs, in one file, so that no crash can leave parts of two checkpoints; and the one before it, should
//! the disk lose the last.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::tensors;
use super::tensors::{Out, TensorFile};
use crate::error::{Error, Result};
use crate::model::{ModelConfig, Params};

/// A number that survives the way through JSON bit for bit, NaN included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Bits(u64);

impl Bits {
    pub fn of(x: f64) -> Self {
        Bits(x.to_bits())
    }
    pub fn get(self) -> f64 {
        f64::from_bits(self.0)
    }
    pub fn add(&mut self, x: f64) {
        *self = Bits::of(self.get() + x);
    }
}

/// Where a run is: between two steps.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Position {
    /// Finished epochs.
    pub epoch: u32,
    /// Samples of the epoch under way that are done.
    pub position: usize,
    /// Batches done, skipped ones included: keys the dropout.
    pub step: u64,
    /// Optimiser steps done.
    pub updates: u64,
    /// Sums over the samples of the epoch under way.
    pub loss: Bits,
    pub match_loss: Bits,
    pub translation_loss: Bits,
    #[serde(default)]
    pub cis_loss: Bits,
    #[serde(default)]
    pub contrast_loss: Bits,
    pub counted: u64,
    pub skipped: u64,
    /// Best validation score so far and its epoch (from 1).
    pub best: Option<(Bits, u32)>,
    /// Records in the log.
    pub logged: usize,
}

/// Moments of the optimiser, each an arena of the parameters' layout.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Moments {
    pub m: Vec<f32>,
    pub v: Vec<f32>,
}

/// The state last saved, in the folder of the checkpoints.
pub(crate) const STATE: &str = "state.safetensors";
/// The one before it.
pub(crate) const BEFORE: &str = "before.safetensors";

/// Saves the state in the folder `dir`; what was there becomes the one before.
pub(crate) fn save(
    dir: &Path,
    config: &ModelConfig,
    params: &Params<f32>,
    moments: &Moments,
    place: &Position,
) -> Result<()> {
    let mut metadata = tensors::metadata(config)?;
    let text = serde_json::to_string(place).map_err(|e| Error::Internal(format!("training state: {e}")))?;
    metadata.insert("state", text);
    let arenas = [("params", params.as_slice()), ("adam.m", &moments.m), ("adam.v", &moments.v)];
    let tensors = arenas.map(|(name, values)| Out { name, shape: vec![values.len()], values });
    let (path, before) = (dir.join(STATE), dir.join(BEFORE));
    let next = tensors::prepared(&path, &tensors, metadata)?;
    if path.exists() {
        set_aside(&path, &before)?;
    }
    next.keep()
}

/// Makes `before` what `path` is, which stays where it is if that can be: there is a whole state at every moment.
fn set_aside(path: &Path, before: &Path) -> Result<()> {
    if before.exists() {
        std::fs::remove_file(before).map_err(|e| Error::io(before, "remove", e))?;
    }
    // Some file systems have no second names for a file.
    if std::fs::hard_link(path, before).is_ok() {
        return Ok(());
    }
    std::fs::rename(path, before).map_err(|e| Error::io(before, "rename to", e))
}

/// The place in a state file, if there is one that can be read.
pub(crate) fn place(path: &Path) -> Option<Position> {
    serde_json::from_str(TensorFile::read(path).ok()?.metadata.get("state")?).ok()
}

/// The newest state in `dir` that is whole; `skipped` is told of one that is not.
///
/// # Errors
/// There is none; it is not one of this model.
pub(crate) fn load(
    dir: &Path,
    config: &ModelConfig,
    params: &mut Params<f32>,
    skipped: &mut dyn FnMut(String),
) -> Result<(Moments, Position)> {
    let (last, before) = (dir.join(STATE), dir.join(BEFORE));
    let there = [&last, &before].map(|p| p.exists());
    if there == [false, false] {
        return Err(Error::input(
            last,
            "there is no training state to resume from",
            "train without --resume, to another --out",
        ));
    }
    let damaged = match TensorFile::read(&last) {
        Ok(file) => return take(&last, file, config, params),
        Err(e) => e,
    };
    // The first error is the one to tell where nothing else is whole.
    let Ok(file) = TensorFile::read(&before) else { return Err(damaged) };
    let found = take(&before, file, config, params)?;
    skipped(format!(
        "warning: {damaged}; skipped: going on from the one before, {}, of step {} (epoch {})",
        before.display(),
        found.1.step,
        found.1.epoch + 1
    ));
    Ok(found)
}

fn take(
    path: &Path,
    mut file: TensorFile,
    config: &ModelConfig,
    params: &mut Params<f32>,
) -> Result<(Moments, Position)> {
    let bad = |found: &str| Error::input(path, found, "train again, to another --out");
    if file.config().as_ref() != Some(config) {
        return Err(bad("its model configuration is not that of run.json"));
    }
    let place = file.metadata.get("state").ok_or_else(|| bad("the place in the training is missing"))?;
    let place = serde_json::from_str(place).map_err(|e| bad(&format!("the place in the training is damaged ({e})")))?;
    let n = [params.layout().len()];
    params.as_mut_slice().copy_from_slice(&file.take(path, "params", &n)?.values);
    let m = file.take(path, "adam.m", &n)?.values;
    let v = file.take(path, "adam.v", &n)?.values;
    Ok((Moments { m, v }, place))
}
