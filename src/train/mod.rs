//! Training: settings and recipes, the loop, checkpoints, and runs on disk.

pub mod checkpoint;
mod config;
pub(crate) mod files;
mod fit;
mod observe;
mod run;
mod schedule;
mod state;
pub mod weights;

pub use config::{AUTO_BATCH, AUTO_STEPS, CisOptions, OnNan, RECIPES, TrainConfig, auto_batch, recipe};
pub use fit::{Outcome, resume, resume_on, train, train_on};
pub use observe::{EpochRecord, MemoryPlan, Observer, Plan, Step};
pub use run::{Checkpoint, Run};
pub use schedule::{Scaling, Schedule};
