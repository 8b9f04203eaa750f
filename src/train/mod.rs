//! Training: settings and recipes, the loop, checkpoints, and runs on disk.

pub mod config;
pub mod cuda;
pub mod fit;
pub mod log;
pub mod meet;
pub(crate) mod memory;
pub mod observe;
pub mod run;
pub mod samples;
pub mod schedule;
pub(crate) mod setting;
pub mod start;
pub mod state;
pub mod steps;
pub mod tensors;
pub mod validate;
pub mod weights;

pub(crate) use config::settings;
pub use config::{AUTO_BATCH, AUTO_STEPS, OnNan, RECIPES, TrainConfig, auto_batch, recipe};
pub use fit::{Outcome, resume, resume_on, train, train_on};
pub use log::EpochRecord;
pub use observe::{Observer, TrainingPlan, TrainingStep};
pub use run::{Checkpoint, Run};
pub use samples::samples_for;
pub use schedule::{Scaling, Schedule};
