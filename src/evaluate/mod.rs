//! Metrics, one file a task, each beside its trivial baselines; and [`evaluate`], which applies them to a model.

mod matching;
mod ranking;
mod translation;

pub use matching::{Matching, MatchingMetrics, majority_baseline};
pub use ranking::{Ranking, RankingMetrics, ranking};
pub use translation::{BitRows, Translation, TranslationMetrics, foscttm, pearson_of};
