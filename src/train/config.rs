//! How to train: every setting of a run, and the named recipes that fill them in.
//!
//! See docs/model.md, section 5.5.

use std::path::Path;
use std::sync::LazyLock;

use clap::builder::ValueParser;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::schedule::{MOST_STEPS, Scaling, Schedule};
use super::setting;
use super::setting::{Auto, Kind, Rule, Setting, SettingPlace, choices, flag, kept};
use super::tower_settings::TowerSettings;
use crate::error::{Error, Result};
use crate::model::{CisConfig, CisTarget, Init, ModelConfig, Precision, sample_genes};
use crate::ops::adam::{AdamConfig, Decay, Rates};

/// What to do at a step whose loss or gradient is not finite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum OnNan {
    /// Stop; the message names the step, the op and the sample.
    #[default]
    Stop,
    /// Leave the step out and say so.
    Skip,
    /// Leave the step out, go back to the parameters and moments of the last checkpoint, and say so; stop where that has
    /// been done three times since that checkpoint.
    Rollback,
}

/// Every setting of a training run. Written, resolved, into `run.json`.
///
/// Flag, help, range and place in files of each are in one row of the list `settings` below.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainConfig {
    /// Recipe the settings started from.
    pub recipe: String,
    /// Name of the sample set.
    pub samples: String,
    /// The split that the recipe asks of the sample set ("sample" | "cell"); `None`: any.
    pub split: Option<String>,
    /// Passes over the training samples, at most.
    pub epochs: u32,
    /// Early stopping does not stop before this many.
    pub min_epochs: u32,
    /// Stop when the validation score has not risen for this many epochs; `None`: never.
    pub patience: Option<u32>,
    /// Samples a step, positives and negatives; [`AUTO_BATCH`]: as many as [`auto_batch`] says.
    pub batch_size: usize,
    /// Samples a forward pass in validation.
    pub eval_batch_size: usize,
    /// The optimiser's constants.
    pub adam: AdamConfig,
    /// What makes the rate of a step of the optimiser's.
    pub schedule: Schedule,
    /// The model. Its sizes of the data are filled in by [`TrainConfig::model_for`]; a cis term of weight 0 is none.
    pub model: ModelConfig,
    /// Standard deviation of the id embeddings at the start.
    pub embedding_std: f64,
    /// Seed of initialisation, shuffling and dropout.
    pub seed: u64,
    /// Checkpoint every this many steps, besides the one after each epoch; `None`: only that.
    pub checkpoint_steps: Option<u64>,
    /// Checkpoint when this many minutes have passed since the last one; `None`: never for that reason.
    pub checkpoint_minutes: Option<f64>,
    /// What to do at a step that is not finite.
    pub on_nan: OnNan,
    /// Genes that the translation loss of a step is the mean of, drawn anew for each: a number from 1 on, or below 1 the
    /// share of all; `None`: all genes. Validation takes all. On the CPU only.
    pub translate_genes: Option<f64>,
    /// Leave rows of the id tables that a step does not read as they are, moments and weight decay included: another
    /// optimiser than the published one. On the CPU only.
    pub lazy_adam: bool,
    /// How matrices are multiplied; bf16 only on a GPU.
    pub precision: Precision,
    /// The towers: partners, prediction and embedding.
    pub towers: TowerSettings,
}

/// What numbers must be.
const ONE_OR_MORE: Rule = Rule { words: "be at least 1", holds: |x| x >= 1.0 };
const TWO_OR_MORE: Rule = Rule { words: "be at least 2", holds: |x| x >= 2.0 };
/// Largest width of a tower.
const TOWER: Rule = Rule { words: "be at most 65536", holds: |x| x <= 65_536.0 };
const ONE_EPOCH: Rule = Rule { words: "be at least 1 epoch; leave it out for no early stopping", holds: |x| x >= 1.0 };
const ONE_STEP: Rule = Rule { words: "be at least 1 step", holds: |x| x >= 1.0 };
const ABOVE_0: Rule = Rule { words: "be above 0", holds: |x| x > 0.0 && x.is_finite() };
const MINUTES: Rule = Rule { words: "be above 0", holds: |x| x > 0.0 && x < 1e6 };
const NOT_BELOW_0: Rule = Rule { words: "be 0 or more", holds: |x| x >= 0.0 && x.is_finite() };
const BELOW_1: Rule = Rule { words: "lie in [0, 1)", holds: |x| (0.0..1.0).contains(&x) };
const SHARE: Rule = Rule { words: "lie in 0 to 1", holds: |x| (0.0..=1.0).contains(&x) };
const EPOCHS: Rule = Rule { words: "lie in 0 to 1000000", holds: |x| (0.0..=1e6).contains(&x) };
const STEPS: Rule = Rule { words: "be at most 9e15", holds: |x| x <= MOST_STEPS };
const HEADS: Rule = Rule { words: "be at most 256", holds: |x| x <= 256.0 };
const COMPONENTS: Rule = Rule { words: "be at most 4096", holds: |x| x <= 4096.0 };
/// Largest hidden size and size of the id embeddings.
const SIZE: Rule = Rule { words: "be at most 1048576", holds: |x| x <= 1_048_576.0 };
const GENES: Rule = Rule {
    words: "be a number of genes, or a share of them below 1",
    holds: |x| x > 0.0 && x < 1e9 && (x < 1.0 || x.fract() == 0.0),
};

choices!(Scaling, Decay, CisTarget, OnNan, Precision);

/// The place of a field: `at!(adam.lr)`.
macro_rules! at {
    ($($field:ident).+) => {
        SettingPlace {
            path: concat!($(".", stringify!($field)),+),
            get: |c: &TrainConfig| Clone::clone(&c.$($field).+),
            set: |c, value| c.$($field).+ = value,
        }
    };
}
/// The place of a setting of the cis term; without the term it is that of [`CisConfig::default`].
macro_rules! of_cis {
    ($field:ident) => {
        SettingPlace {
            path: concat!(".cis.", stringify!($field)),
            get: |c: &TrainConfig| c.model.cis.as_ref().unwrap_or(&CisConfig::default()).$field,
            set: |c, value| change_cis(c, |cis| cis.$field = value),
        }
    };
}

fn change_cis(config: &mut TrainConfig, change: impl FnOnce(&mut CisConfig)) {
    let mut cis = config.model.cis.take().unwrap_or_default();
    change(&mut cis);
    // One that is as if it were not there is not there, so that equal settings are equal.
    config.model.cis = Some(cis).filter(|c| *c != CisConfig::default());
}

/// All settings, in the order of the help.
pub(crate) fn settings() -> &'static [Setting<TrainConfig>] {
    static SETTINGS: LazyLock<Vec<Setting<TrainConfig>>> = LazyLock::new(|| {
        let lists = [
            ("Training", course()),
            ("Towers", towers()),
            ("Optimiser", optimiser()),
            ("Losses", losses()),
            ("Model", model()),
            ("Machine", machine()),
        ];
        lists.into_iter().flat_map(|(heading, rows)| rows.into_iter().map(move |row| row.under(heading))).collect()
    });
    &SETTINGS
}

/// What is trained on, how long.
fn course() -> Vec<Setting<TrainConfig>> {
    vec![
        kept(at!(recipe)),
        kept(at!(split)),
        kept(at!(seed)),
        flag("pairs", "NAME", at!(samples), "Which pairs of the data: the name given to `pairs`").alias("samples"),
        flag("epochs", "N", at!(epochs), "Passes over the training pairs, at most").rules(&[ONE_OR_MORE]).may_change(),
        flag("min-epochs", "N", at!(min_epochs), "Early stopping does not stop before this epoch").may_change(),
        flag("patience", "N", at!(patience), "Stop when the validation score has not risen for this many epochs")
            .rules(&[ONE_EPOCH])
            .may_change(),
        flag(
            "batch-size",
            "N|auto",
            batch_size(),
            "Pairs a step, positives and negatives; auto: 32 to 1024, as many as leave an epoch 200 steps",
        ),
        flag("eval-batch-size", "N", at!(eval_batch_size), "Pairs a forward pass in validation").rules(&[ONE_OR_MORE]),
    ]
}

/// The place of a number of the towers that may be chosen.
macro_rules! chosen {
    ($field:ident) => {
        SettingPlace {
            path: concat!(".towers.", stringify!($field)),
            get: |c: &TrainConfig| Auto(c.towers.$field.map(|n| n as u32)),
            set: |c, n: Auto| c.towers.$field = n.0.map(|n| n as _),
        }
    };
}

/// The towers, which come first.
fn towers() -> Vec<Setting<TrainConfig>> {
    vec![
        flag(
            "tower-epochs",
            "N|auto",
            chosen!(epochs),
            "Passes of the towers over the training cells: partners, prediction, embedding; 0: none; auto: 15 to 100, as \
             many as make 800 steps",
        )
        .later(),
        flag(
            "tower-batch-size",
            "N|auto",
            chosen!(batch_size),
            "Cells a step of the towers; auto: 32 to 1024, as many as leave an epoch 32 steps",
        )
        .rules(&[TWO_OR_MORE])
        .later(),
        flag("tower-lr", "X", at!(towers.lr), "Learning rate of the towers").rules(&[ABOVE_0]).later(),
        flag("tower-width", "N", at!(towers.width), "Width of a tower").rules(&[ONE_OR_MORE, TOWER]).later(),
        flag("tower-size", "N", at!(towers.size), "Numbers of a cell in the space of both modalities")
            .rules(&[ONE_OR_MORE, TOWER])
            .later(),
        flag("drop-genes", "P", at!(towers.drop_genes), "Share of a cell's genes that a step of the towers leaves out")
            .rules(&[BELOW_1])
            .later(),
        flag("drop-peaks", "P", at!(towers.drop_peaks), "Share of its peaks").rules(&[BELOW_1]).later(),
        flag("tower-dropout", "P", at!(towers.dropout), "Dropout in the towers").rules(&[BELOW_1]).later(),
        flag("predict-weight", "X", at!(towers.predict), "Weight of the prediction of expression; 0: none")
            .rules(&[NOT_BELOW_0])
            .later(),
        flag(
            "batch",
            "COLUMN",
            at!(towers.batch),
            "A column of obs (batch, donor, site) that all cells of a step of the towers share, so that what differs \
             between batches is no help",
        )
        .later(),
        flag(
            "hard-negatives",
            "SHARE",
            at!(towers.hard_negatives),
            "Share of the cells whose steps hold cells of one type only",
        )
        .rules(&[SHARE])
        .later(),
    ]
}

/// The steps of the optimiser.
fn optimiser() -> Vec<Setting<TrainConfig>> {
    vec![
        flag("lr", "X", at!(adam.lr), "Learning rate").rules(&[ABOVE_0]),
        flag("lr-scaling", "none|sqrt|linear", at!(schedule.scaling), "How the learning rate follows the batch size")
            .later(),
        flag("lr-base-batch", "N", at!(schedule.base_batch), "The batch size at which --lr holds as it is")
            .rules(&[ONE_OR_MORE])
            .later(),
        flag("warmup-steps", "N", at!(schedule.warmup_steps), "Steps over which the learning rate rises from 0")
            .rules(&[STEPS])
            .later(),
        flag("warmup-epochs", "X", at!(schedule.warmup_epochs), "The same in epochs; the longer of the two counts")
            .rules(&[EPOCHS])
            .later(),
        flag(
            "lr-decay",
            "none|cosine|linear",
            at!(schedule.decay),
            "How the learning rate falls from then to the last step of --epochs",
        )
        .later(),
        flag(
            "lr-final-fraction",
            "X",
            at!(schedule.final_fraction),
            "The share of the learning rate that the last step has",
        )
        .rules(&[SHARE])
        .later(),
        flag("beta1", "X", at!(adam.beta1), "Adam's decay of the first moment").rules(&[BELOW_1]),
        flag("beta2", "X", at!(adam.beta2), "Adam's decay of the second moment").rules(&[BELOW_1]),
        flag("eps", "X", at!(adam.eps), "Adam's epsilon").rules(&[ABOVE_0]),
        flag("weight-decay", "X", at!(adam.weight_decay), "L2, added to the gradient").rules(&[NOT_BELOW_0]),
    ]
}

/// The parts of the loss.
fn losses() -> Vec<Setting<TrainConfig>> {
    vec![
        flag("alpha", "X", at!(model.alpha), "Weight of the translation loss").rules(&[NOT_BELOW_0]),
        flag("match-weight", "X", at!(model.match_weight), "Weight of the matching loss").rules(&[NOT_BELOW_0]).later(),
        flag(
            "contrast",
            "X",
            at!(model.contrast),
            "Weight of the contrastive loss: RNA and ATAC of each pair against all others of the batch",
        )
        .rules(&[NOT_BELOW_0])
        .later(),
        flag(
            "cis-weight",
            "X",
            of_cis!(weight),
            "Weight of the cis loss: each gene predicted from the open peaks near it, beside depth and the \
             cell as a whole",
        )
        .rules(&[NOT_BELOW_0])
        .later(),
        flag("cis-window", "BASES", cis_window(), "Bases on either side of a TSS within which a peak is near").later(),
        flag("cis-components", "N", of_cis!(components), "Numbers that stand for the cell as a whole in the cis term")
            .rules(&[COMPONENTS])
            .later(),
        flag(
            "cis-target",
            "detection|level",
            of_cis!(target),
            "What the cis term predicts: whether a gene is detected, or its expression",
        )
        .later(),
        flag("cis-sparsity", "X", of_cis!(sparsity), "Weight of the mean absolute weight of a peak on a gene")
            .rules(&[NOT_BELOW_0])
            .later(),
    ]
}

/// The rest of the model.
fn model() -> Vec<Setting<TrainConfig>> {
    vec![
        flag(
            "translate-genes",
            "N|FRACTION",
            at!(translate_genes),
            "Train each step's translation on so many genes (or this share of them, below 1), drawn at \
             random: an estimate, for the CPU",
        )
        .rules(&[GENES])
        .later()
        .cpu_only(),
        flag(
            "lazy-adam",
            "",
            at!(lazy_adam),
            "Adam that leaves alone the id embeddings that a step does not read: another optimiser, for the \
             CPU",
        )
        .later()
        .cpu_only(),
        flag("dropout", "P", at!(model.dropout), "Dropout of the matching head").rules(&[BELOW_1]),
        flag("heads", "N", at!(model.heads), "Attention heads").rules(&[ONE_OR_MORE, HEADS]),
        flag("hidden", "N", at!(model.hidden), "Hidden size").rules(&[ONE_OR_MORE, SIZE]),
        flag("embedding-dim", "N", at!(model.embedding_dim), "Size of the id embeddings").rules(&[ONE_OR_MORE, SIZE]),
        flag("embedding-std", "X", at!(embedding_std), "Standard deviation of the id embeddings at the start")
            .rules(&[NOT_BELOW_0]),
    ]
}

/// What is kept, and how it is computed.
fn machine() -> Vec<Setting<TrainConfig>> {
    vec![
        flag(
            "checkpoint-steps",
            "N",
            at!(checkpoint_steps),
            "Checkpoint every N steps, besides the one after each epoch",
        )
        .rules(&[ONE_STEP])
        .may_change(),
        flag(
            "checkpoint-minutes",
            "X",
            at!(checkpoint_minutes),
            "Checkpoint when this many minutes have passed since the last one",
        )
        .rules(&[MINUTES])
        .may_change(),
        flag(
            "on-nan",
            "stop|skip|rollback",
            at!(on_nan),
            "At a step that is not finite: stop, leave it out, or leave it out and go back to the parameters \
             of the last checkpoint (three times at most before the next one)",
        )
        .may_change(),
        flag("precision", "f32|bf16", at!(precision), "How matrices are multiplied; bf16 only on a GPU").later(),
    ]
}

/// The order of `run.json`; what is not named here comes after, in the order of the help.
const ORDER: &str = "recipe samples split epochs min_epochs patience batch_size eval_batch_size adam schedule alpha dropout \
                     heads hidden embedding_dim embedding_std seed checkpoint_steps checkpoint_minutes on_nan \
                     translate_genes lazy_adam precision match_weight contrast cis towers";

impl Serialize for TrainConfig {
    fn serialize<S: Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        setting::write(settings(), ORDER, self, s)
    }
}

impl<'de> Deserialize<'de> for TrainConfig {
    fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        // What older files lack is as published.
        let mut config = published();
        setting::read(settings(), Deserialize::deserialize(d)?, &mut config).map_err(D::Error::custom)?;
        Ok(config)
    }
}

/// The batch size that is chosen by the number of training samples. Runs record what was chosen.
pub const AUTO_BATCH: usize = 0;

/// Steps an epoch has at least where the batch size is chosen, unless even the smallest one gives fewer: with fewer, what
/// a run of few epochs reaches is bounded by its number of updates.
pub const AUTO_STEPS: usize = 200;

/// Batch sizes among which is chosen: powers of two.
const AUTO_RANGE: [usize; 2] = [32, 1024];

/// The largest power of two, of 32 to 1,024, for which an epoch of so many training samples has at least [`AUTO_STEPS`]
/// steps; 32 where none has.
pub fn auto_batch(training_samples: usize) -> usize {
    let [least, most] = AUTO_RANGE;
    let sizes = std::iter::successors(Some(most), |n| Some(n / 2)).take_while(|n| *n > least);
    sizes.into_iter().find(|n| training_samples.div_ceil(*n) >= AUTO_STEPS).unwrap_or(least)
}

/// A batch size as it is typed and in files: `auto` or a number.
#[derive(Clone, Copy, PartialEq)]
struct BatchSize(usize);

fn batch_size() -> SettingPlace<TrainConfig, BatchSize> {
    SettingPlace { path: ".batch_size", get: |c| BatchSize(c.batch_size), set: |c, n| c.batch_size = n.0 }
}

impl Kind for BatchSize {
    type Typed = BatchSize;
    fn parser() -> Option<ValueParser> {
        Some(ValueParser::new(|text: &str| match text.parse() {
            _ if text == "auto" => Ok(BatchSize(AUTO_BATCH)),
            Ok(0) => Err("it must be at least 1"),
            Ok(n) => Ok(BatchSize(n)),
            Err(_) => Err("it must be `auto` or a whole number"),
        }))
    }
    fn of(typed: &BatchSize) -> Self {
        *typed
    }
    fn words(&self) -> String {
        if self.0 == AUTO_BATCH { "auto".into() } else { self.0.to_string() }
    }
}

impl Serialize for BatchSize {
    fn serialize<S: Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        if self.0 == AUTO_BATCH { s.serialize_str("auto") } else { self.0.serialize(s) }
    }
}

impl<'de> Deserialize<'de> for BatchSize {
    fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Size {
            Number(usize),
            Word(String),
        }
        match Size::deserialize(d)? {
            Size::Number(n) if n > 0 => Ok(BatchSize(n)),
            Size::Word(w) if w == "auto" => Ok(BatchSize(AUTO_BATCH)),
            _ => Err(D::Error::custom("batch_size is neither `auto` nor a number from 1 on")),
        }
    }
}

/// A window is no more than this in files and flags.
fn cis_window() -> SettingPlace<TrainConfig, u32> {
    SettingPlace {
        path: ".cis.window",
        get: |c| u32::try_from(c.model.cis.as_ref().unwrap_or(&CisConfig::default()).window).unwrap_or(u32::MAX),
        set: |c, bases| change_cis(c, |cis| cis.window = bases.into()),
    }
}

/// Names of all recipes, and what each is for.
pub const RECIPES: [(&str, &str); 4] = [
    ("default", "towers for partners, prediction and embedding, then attention with cis and contrastive terms"),
    ("fast", "the same towers, and two epochs of attention"),
    ("large-batch", "the published losses at large batches"),
    ("published", "the published protocol: one pair a step, 99 epochs"),
];

/// The published protocol, which all others start from.
fn published() -> TrainConfig {
    TrainConfig {
        recipe: "published".into(),
        samples: "default".into(),
        split: Some("sample".into()),
        epochs: 99,
        min_epochs: 0,
        patience: None,
        batch_size: 1,
        eval_batch_size: 64,
        adam: AdamConfig::default(),
        schedule: Schedule::default(),
        model: ModelConfig::default(),
        embedding_std: 1.0,
        seed: crate::rng::DEFAULT_SEED,
        checkpoint_steps: None,
        checkpoint_minutes: Some(15.0),
        on_nan: OnNan::Stop,
        translate_genes: None,
        lazy_adam: false,
        precision: Precision::F32,
        towers: TowerSettings { epochs: Some(0), ..TowerSettings::default() },
    }
}

/// The settings of a named recipe.
pub fn recipe(name: &str) -> Result<TrainConfig> {
    let published = published();
    match name {
        "published" => Ok(published),
        // As measured by benches/quality.py (docs/results.md, "Quality at large batch"): best scores at 32 to 64 samples a step for
        // thousands of cells, where 256 is better with the root of the batch size than without, and worse with warm-up.
        "large-batch" => Ok(TrainConfig {
            recipe: "large-batch".into(),
            split: None,
            epochs: 20,
            batch_size: AUTO_BATCH,
            eval_batch_size: 256,
            adam: AdamConfig { lr: 1e-3, ..published.adam },
            schedule: Schedule { scaling: Scaling::Sqrt, base_batch: 64, ..Schedule::default() },
            ..published
        }),
        // As measured by benches/recipes.sh (docs/results.md, "Which training"): the cis term finds links and detection, the contrastive
        // one matching; the published translation adds nothing to either and takes most of a step.
        "default" => Ok(TrainConfig {
            recipe: "default".into(),
            epochs: 8,
            towers: TowerSettings::default(),
            model: ModelConfig {
                alpha: 0.0,
                contrast: 1.0,
                cis: Some(CisConfig { weight: 0.1, ..CisConfig::default() }),
                ..published.model
            },
            ..recipe("large-batch")?
        }),
        "fast" => Ok(TrainConfig { recipe: "fast".into(), epochs: 2, ..recipe("default")? }),
        other => {
            let names: Vec<_> = RECIPES.iter().map(|(n, _)| *n).collect();
            Err(Error::usage(format!("--recipe {other}: no such recipe; there are {}", names.join(", "))))
        }
    }
}

impl TrainConfig {
    /// Checks ranges. The message names the flag.
    pub fn validate(&self) -> Result<()> {
        settings().iter().try_for_each(|s| s.check(self))?;
        let (hidden, heads) = (self.model.hidden, self.model.heads);
        if !hidden.is_multiple_of(2) || !hidden.is_multiple_of(heads) {
            return Err(Error::usage(format!("--hidden {hidden}: it must be even and divisible by --heads {heads}")));
        }
        Ok(())
    }

    /// Are these settings those of `before`, but for what may change when a run is taken up again? Else an error that `out`
    /// holds a run of other settings.
    pub(crate) fn check_resumes(&self, before: &TrainConfig, out: &Path) -> Result<()> {
        let (free, fixed): (Vec<_>, Vec<_>) = settings().iter().partition(|s| s.may_change);
        // What no flag sets, and run.json has among the sizes of the model.
        let constants = |c: &TrainConfig| (c.model.top_k, c.model.tau, c.model.min_peaks);
        if fixed.iter().any(|s| !s.same(self, before)) || constants(self) != constants(before) {
            let free: Vec<_> = free.iter().filter_map(|s| s.flag).map(|f| format!("--{}", f.name)).collect();
            let (last, others) = free.split_last().map_or(("", String::new()), |(l, o)| (l.as_str(), o.join(", ")));
            let fix = format!("resume with the settings of its run.json; only {others} and {last} may change");
            return Err(Error::input(out, "was trained with other settings than these", fix));
        }
        if self.epochs != before.epochs && self.schedule.decay != Decay::None {
            return Err(Error::usage(format!(
                "--epochs {}: the learning rate falls over the {} epochs that the run was begun with, so their number \
                 cannot change; resume without --epochs, or train a new run",
                self.epochs, before.epochs
            )));
        }
        Ok(())
    }

    /// These settings for so many training samples: with the batch size that they get where it is to be chosen.
    pub fn resolved(&self, training_samples: usize) -> TrainConfig {
        let batch_size = if self.batch_size == AUTO_BATCH { auto_batch(training_samples) } else { self.batch_size };
        TrainConfig { batch_size, ..self.clone() }
    }

    /// Refuses options that only the CPU has. The message names the flag.
    pub fn check_for_cuda(&self) -> Result<()> {
        // As published is what every device does.
        let published = published();
        let asked = settings().iter().filter(|s| s.cpu_only && !s.same(self, &published)).find_map(|s| s.flag);
        match asked {
            Some(flag) => {
                Err(Error::usage(format!("--{}: is for the CPU; leave it out, or take --device cpu", flag.name)))
            }
            None => Ok(()),
        }
    }

    /// Of so many genes, those whose translation step `step` is trained on (steps done before it); `None`: all.
    pub fn genes_of_step(&self, genes: usize, step: u64) -> Option<Vec<u32>> {
        let n = match self.translate_genes? {
            share if share < 1.0 => (share * genes as f64).ceil() as usize,
            n => n as usize,
        };
        (n < genes).then(|| sample_genes(genes, n, self.seed, step))
    }

    /// The learning rate of every step of a training on so many samples.
    pub fn rates(&self, training_samples: usize) -> Rates {
        let c = self.resolved(training_samples);
        let steps = training_samples.div_ceil(c.batch_size) as u64;
        c.schedule.rates(c.adam.lr, c.batch_size, steps, c.epochs)
    }

    /// How the parameters start.
    pub fn init(&self) -> Init {
        Init::PyTorch { embedding_std: self.embedding_std }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_without_end_are_refused() {
        let good = recipe("default").unwrap();
        good.validate().unwrap();
        for (flag, model) in [
            ("--heads", ModelConfig { heads: 512, hidden: 512, ..good.model.clone() }),
            ("--hidden", ModelConfig { hidden: usize::MAX - 1, ..good.model.clone() }),
            ("--embedding-dim", ModelConfig { embedding_dim: usize::MAX, ..good.model.clone() }),
        ] {
            let e = TrainConfig { model, ..good.clone() }.validate().unwrap_err().to_string();
            assert!(e.starts_with(flag) && e.contains("at most"), "{e}");
        }
    }

    /// As files have had it since before the settings were a list; what older ones lack is as published.
    #[test]
    fn files_keep_their_form() {
        let text = serde_json::to_string(&recipe("published").unwrap()).unwrap();
        let first =
            r#"{"recipe":"published","samples":"default","split":"sample","epochs":99,"min_epochs":0,"patience":null,"#;
        let last = r#""precision":"f32","match_weight":1.0,"contrast":0.0,"cis":{"weight":0.0,"window":500000,"components":16,"target":"detection","sparsity":0.0},"towers":{"epochs":0,"#;
        assert!(text.starts_with(first) && text.contains(last), "{text}");
        for (name, _) in RECIPES {
            let config = recipe(name).unwrap();
            let text = serde_json::to_string(&config).unwrap();
            assert_eq!(serde_json::from_str::<TrainConfig>(&text).unwrap(), config);
        }
        let with = |key: &str, value: Option<serde_json::Value>| {
            let mut file: serde_json::Map<_, _> = serde_json::from_str(&text).unwrap();
            match value {
                Some(value) => drop(file.insert(key.into(), value)),
                None => assert!(file.remove(key).is_some()),
            }
            serde_json::from_value::<TrainConfig>(file.into())
        };
        for older in ["schedule", "cis", "match_weight", "patience", "towers"] {
            assert_eq!(with(older, None).unwrap(), recipe("published").unwrap(), "{older}");
        }
        for (key, value, part) in [
            ("epochs", None, "missing field `epochs`"),
            ("adam", None, "missing field `adam.lr`"),
            ("epochs", Some("x".into()), "`epochs`: invalid type"),
            ("epoch", Some(1.into()), "unknown field `epoch`"),
            ("cis", Some(serde_json::json!({ "weigth": 1 })), "unknown field `cis.weigth`"),
            ("cis", Some(1.into()), "`cis` is no group"),
        ] {
            let e = with(key, value).unwrap_err().to_string();
            assert!(e.contains(part), "{e}");
        }
    }

    #[test]
    fn a_cis_term_of_no_weight_is_kept_as_typed() {
        let mut config = recipe("published").unwrap();
        change_cis(&mut config, |c| c.window = 3000);
        let text = serde_json::to_string(&config).unwrap();
        assert!(text.contains(r#""cis":{"weight":0.0,"window":3000"#), "{text}");
        assert_eq!(serde_json::from_str::<TrainConfig>(&text).unwrap(), config);
        change_cis(&mut config, |c| c.window = 500_000);
        assert_eq!(config, recipe("published").unwrap());
    }
}
