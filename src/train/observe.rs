//! What a training run tells while it runs.

use super::log::EpochRecord;
use crate::model::MemoryPlan;
use crate::progress::Progress;

/// What is known before the first step.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingPlan {
    /// Samples in train and val.
    pub samples: [usize; 2],
    /// Steps an epoch.
    pub steps: u64,
    /// Epochs in all, at most.
    pub epochs: u32,
    /// Epochs done already, in a resumed run.
    pub epochs_done: u32,
    /// Parameters.
    pub parameters: usize,
    /// Memory.
    pub memory: MemoryPlan,
}

/// One step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrainingStep {
    /// Its epoch, from 1.
    pub epoch: u32,
    /// Samples of the epoch done, this step's included.
    pub position: usize,
    /// Its number over the whole run, from 1.
    pub step: u64,
    /// Its loss.
    pub loss: f64,
    /// Mean loss of the epoch so far.
    pub mean_loss: f64,
    /// Its learning rate.
    pub lr: f64,
    /// Samples a second since this epoch (or the resumption in it) began.
    pub samples_per_second: f64,
}

/// Follows a run: what it tells beside the news of [`Progress`], which is asked after every step whether to stop (all is
/// saved then, and the error is [`crate::error::Error::Interrupted`]). All methods do nothing unless written.
pub trait Observer: Progress {
    /// Before the first step.
    fn start(&mut self, _plan: &TrainingPlan) {}
    /// After every step.
    fn step(&mut self, _step: &TrainingStep) {}
    /// After every epoch, validation included.
    fn epoch(&mut self, _record: &EpochRecord) {}
    /// Validation has done this many of these many samples.
    fn validation(&mut self, _done: usize, _of: usize) {}
}

/// Follows nothing.
impl Observer for () {}
