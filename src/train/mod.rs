//! Training: settings and recipes, the loop, checkpoints, and runs on disk.

pub(crate) mod config;
pub(crate) mod cuda;
pub(crate) mod fit;
pub mod log;
pub(crate) mod meet;
pub(crate) mod memory;
pub(crate) mod observe;
pub(crate) mod run;
pub(crate) mod samples;
pub(crate) mod schedule;
pub(crate) mod setting;
pub(crate) mod start;
pub(crate) mod state;
pub(crate) mod steps;
pub mod tensors;
pub(crate) mod tower_settings;
pub(crate) mod towers;
pub(crate) mod validate;
pub mod weights;

pub(crate) use config::settings;
pub use config::{AUTO_BATCH, AUTO_STEPS, OnNan, RECIPES, TrainConfig, auto_batch, recipe};
pub use fit::{Outcome, resume, resume_on, train, train_on};
pub use log::EpochRecord;
pub use observe::{Observer, TrainingPlan, TrainingStep};
pub use run::{Checkpoint, Run};
pub use samples::samples_for;
pub use schedule::{Scaling, Schedule};
pub use tower_settings::TowerSettings;
pub use towers::TowerRecord;
