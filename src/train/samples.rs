//! The sample set that a run is trained on.

use super::config::TrainConfig;
use super::memory::check_parameters;
use crate::dataset::{DataSet, SampleConfig, SampleSet, draw_samples, split_word};
use crate::error::{Error, Result};
use crate::progress::Progress;

/// The split by which a set was drawn.
fn split_of(set: &SampleSet) -> &str {
    set.recipe.get("split").and_then(|s| s.as_str()).unwrap_or("unknown")
}

/// Refuses a sample set that is not split as the recipe needs it.
pub(crate) fn check_split(set: &SampleSet, config: &TrainConfig) -> Result<()> {
    match &config.split {
        Some(wanted) if split_of(set) != wanted => Err(Error::usage(format!(
            "--pairs {}: are split by {} where recipe {} needs a split by {}; leave --pairs out, and others are drawn",
            config.samples,
            split_word(split_of(set)),
            config.recipe,
            split_word(wanted)
        ))),
        _ => Ok(()),
    }
}

/// The name of the set that is drawn for a recipe that asks for a split that the default set does not have; with a seed
/// other than the usual one, the seed follows.
const DRAWN: &str = "published";

/// The sample set of `config`, and the settings with its name. Where the recipe asks for another split than that of the
/// set, one of that split is drawn and kept with the data, unless the set was `named`: then it is refused.
///
/// # Errors
/// No such set; one that cannot be taken; a model that no way of training fits into memory, before anything is drawn.
pub fn samples_for(
    data: &DataSet,
    config: TrainConfig,
    named: bool,
    progress: &dyn Progress,
) -> Result<(TrainConfig, SampleSet)> {
    check_parameters(data, &config)?;
    let set = data.samples(&config.samples)?;
    let wanted = match &config.split {
        Some(wanted) if split_of(&set) != *wanted => wanted.clone(),
        _ => return Ok((config, set)),
    };
    if named {
        check_split(&set, &config)?;
    }
    let split = serde_json::from_value(serde_json::Value::from(wanted.as_str()))
        .map_err(|e| Error::Internal(format!("split {wanted}: {e}")))?;
    // As the set it replaces was drawn, but for the split.
    let like: SampleConfig = serde_json::from_value(set.recipe.clone()).unwrap_or_default();
    let how = SampleConfig { split, seed: config.seed, val_batches: Vec::new(), test_batches: Vec::new(), ..like };
    let name = if config.seed == crate::rng::DEFAULT_SEED { DRAWN.into() } else { format!("{DRAWN}-{}", config.seed) };
    let drawn = if data.sample_sets()?.contains(&name) {
        let drawn = data.samples(&name)?;
        if serde_json::from_value(drawn.recipe.clone()).ok().as_ref() != Some(&how) {
            return Err(Error::usage(format!(
                "{}: the pairs `{name}` were not drawn as recipe {} needs them (split by {}, seed {}, else like `{}`); use \
                 them nevertheless with --pairs {name}, or draw them again with `sccrossrec pairs --force`",
                data.dir().display(),
                config.recipe,
                split_word(&wanted),
                config.seed,
                config.samples
            )));
        }
        drawn
    } else {
        let drawn = draw_samples(data.vocabulary(), &how)?;
        data.save_samples(&name, &drawn, false)?;
        progress.note(&format!("pairs `{name}`, split by {}, drawn for recipe {}", split_word(&wanted), config.recipe));
        drawn
    };
    Ok((TrainConfig { samples: name, ..config }, drawn))
}
