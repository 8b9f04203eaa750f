//! How to train: every setting of a run, and the named recipes that fill them in.
//!
//! See docs/model.md, section 5.5.

use serde::{Deserialize, Serialize};

use super::schedule::{Scaling, Schedule};
use crate::error::{Error, Result};
use crate::model::{CisTarget, Init, Precision, sample_genes};
use crate::ops::adam::{AdamConfig, Rates};

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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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
    #[serde(with = "batch")]
    pub batch_size: usize,
    /// Samples a forward pass in validation.
    pub eval_batch_size: usize,
    /// The optimiser's constants.
    pub adam: AdamConfig,
    /// What makes the rate of a step of the optimiser's.
    #[serde(default)]
    pub schedule: Schedule,
    /// Weight of the translation loss.
    pub alpha: f64,
    /// Dropout of the matching head.
    pub dropout: f64,
    /// Attention heads.
    pub heads: usize,
    /// H, hidden size.
    pub hidden: usize,
    /// d, size of the id embeddings.
    pub embedding_dim: usize,
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
    #[serde(default)]
    pub translate_genes: Option<f64>,
    /// Leave rows of the id tables that a step does not read as they are, moments and weight decay included: another
    /// optimiser than the published one. On the CPU only.
    #[serde(default)]
    pub lazy_adam: bool,
    /// How matrices are multiplied; bf16 only on a GPU.
    #[serde(default)]
    pub precision: Precision,
    /// Weight of the matching loss.
    #[serde(default = "one")]
    pub match_weight: f64,
    /// Weight of the contrastive loss; 0: none.
    #[serde(default)]
    pub contrast: f64,
    /// The cis term.
    #[serde(default)]
    pub cis: CisOptions,
}

fn one() -> f64 {
    1.0
}

/// The cis term of a run ([`CisConfig`]); without effect, and without parameters, while its weight is 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CisOptions {
    /// Weight of its loss; 0: none.
    pub weight: f64,
    /// Bases on either side of a TSS within which a peak is near.
    pub window: u32,
    /// Numbers that stand for a cell as a whole.
    pub components: usize,
    /// What is predicted of a gene.
    pub target: CisTarget,
    /// Weight of the mean absolute weight of a peak on a gene.
    pub sparsity: f64,
}

impl Default for CisOptions {
    fn default() -> Self {
        CisOptions { weight: 0.0, window: 500_000, components: 16, target: CisTarget::Detection, sparsity: 0.0 }
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

/// `auto` or a number in files.
mod batch {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    pub fn serialize<S: Serializer>(n: &usize, s: S) -> Result<S::Ok, S::Error> {
        if *n == super::AUTO_BATCH { s.serialize_str("auto") } else { n.serialize(s) }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<usize, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Size {
            Number(usize),
            Word(String),
        }
        match Size::deserialize(d)? {
            Size::Number(n) if n > 0 => Ok(n),
            Size::Word(w) if w == "auto" => Ok(super::AUTO_BATCH),
            _ => Err(de::Error::custom("batch_size is neither `auto` nor a number from 1 on")),
        }
    }
}

/// Names of all recipes, and what each is for.
pub const RECIPES: [(&str, &str); 3] = [
    ("default", "links, matching and detection by terms that ask for them, large batches"),
    ("large-batch", "the published losses at large batches"),
    ("published", "the published protocol: one sample a step, 99 epochs"),
];

/// The settings of a named recipe.
pub fn recipe(name: &str) -> Result<TrainConfig> {
    let published = TrainConfig {
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
        alpha: 1.0,
        dropout: 0.1,
        heads: 1,
        hidden: 128,
        embedding_dim: 256,
        embedding_std: 1.0,
        seed: crate::rng::DEFAULT_SEED,
        checkpoint_steps: None,
        checkpoint_minutes: Some(15.0),
        on_nan: OnNan::Stop,
        translate_genes: None,
        lazy_adam: false,
        precision: Precision::F32,
        match_weight: 1.0,
        contrast: 0.0,
        cis: CisOptions::default(),
    };
    match name {
        "published" => Ok(published),
        // As measured by benches/quality.py (README, "Quality at large batch"): best scores at 32 to 64 samples a step for
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
        // As measured by benches/recipes.sh (README, "Which training"): the cis term finds links and detection, the contrastive
        // one matching; the published translation adds nothing to either and takes most of a step.
        "default" => Ok(TrainConfig {
            recipe: "default".into(),
            alpha: 0.0,
            contrast: 1.0,
            cis: CisOptions { weight: 0.1, ..CisOptions::default() },
            ..recipe("large-batch")?
        }),
        other => {
            let names: Vec<_> = RECIPES.iter().map(|(n, _)| *n).collect();
            Err(Error::usage(format!("--recipe {other}: no such recipe; there are {}", names.join(", "))))
        }
    }
}

/// Largest hidden size and size of the id embeddings.
const MAX_SIZE: usize = 1 << 20;

impl TrainConfig {
    /// Checks ranges. The message names the flag.
    pub fn validate(&self) -> Result<()> {
        let bad = |flag: &str, found: String, fix: &str| Err(Error::usage(format!("--{flag} {found}: {fix}")));
        for (flag, n) in [
            ("epochs", self.epochs as usize),
            ("eval-batch-size", self.eval_batch_size),
            ("heads", self.heads),
            ("hidden", self.hidden),
            ("embedding-dim", self.embedding_dim),
        ] {
            if n == 0 {
                return bad(flag, "0".into(), "it must be at least 1");
            }
        }
        for (flag, n, most) in [
            ("heads", self.heads, 256),
            ("hidden", self.hidden, MAX_SIZE),
            ("embedding-dim", self.embedding_dim, MAX_SIZE),
        ] {
            if n > most {
                return bad(flag, n.to_string(), &format!("it must be at most {most}"));
            }
        }
        if self.patience == Some(0) {
            return bad("patience", "0".into(), "it must be at least 1 epoch; leave it out for no early stopping");
        }
        if self.checkpoint_steps == Some(0) {
            return bad("checkpoint-steps", "0".into(), "it must be at least 1 step");
        }
        if let Some(m) = self.checkpoint_minutes
            && !(m > 0.0 && m < 1e6)
        {
            return bad("checkpoint-minutes", m.to_string(), "it must be above 0");
        }
        let a = &self.adam;
        if !(a.lr.is_finite() && a.lr > 0.0) {
            return bad("lr", a.lr.to_string(), "it must be above 0");
        }
        if !(a.weight_decay.is_finite() && a.weight_decay >= 0.0) {
            return bad("weight-decay", a.weight_decay.to_string(), "it must be 0 or more");
        }
        for (flag, b) in [("beta1", a.beta1), ("beta2", a.beta2), ("dropout", self.dropout)] {
            if !(0.0..1.0).contains(&b) {
                return bad(flag, b.to_string(), "it must lie in [0, 1)");
            }
        }
        if !(a.eps.is_finite() && a.eps > 0.0) {
            return bad("eps", a.eps.to_string(), "it must be above 0");
        }
        if !(self.alpha.is_finite() && self.alpha >= 0.0) {
            return bad("alpha", self.alpha.to_string(), "it must be 0 or more");
        }
        if !(self.embedding_std.is_finite() && self.embedding_std >= 0.0) {
            return bad("embedding-std", self.embedding_std.to_string(), "it must be 0 or more");
        }
        for (flag, x) in [
            ("match-weight", self.match_weight),
            ("contrast", self.contrast),
            ("cis-weight", self.cis.weight),
            ("cis-sparsity", self.cis.sparsity),
        ] {
            if !(x.is_finite() && x >= 0.0) {
                return bad(flag, x.to_string(), "it must be 0 or more");
            }
        }
        if self.cis.components > 4096 {
            return bad("cis-components", self.cis.components.to_string(), "it must be at most 4096");
        }
        if let Some(n) = self.translate_genes
            && !(n > 0.0 && n < 1e9 && (n < 1.0 || n.fract() == 0.0))
        {
            let fix = "it must be a number of genes, or a share of them below 1";
            return bad("translate-genes", n.to_string(), fix);
        }
        self.schedule.validate()?;
        if !self.hidden.is_multiple_of(2) || !self.hidden.is_multiple_of(self.heads) {
            let fix = format!("it must be even and divisible by --heads {}", self.heads);
            return bad("hidden", self.hidden.to_string(), &fix);
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
        let asked = [("translate-genes", self.translate_genes.is_some()), ("lazy-adam", self.lazy_adam)];
        match asked.iter().find(|a| a.1) {
            Some((flag, _)) => {
                Err(Error::usage(format!("--{flag}: is for the CPU; leave it out, or take --device cpu")))
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
        for (flag, config) in [
            ("--heads", TrainConfig { heads: 512, hidden: 512, ..good.clone() }),
            ("--hidden", TrainConfig { hidden: usize::MAX - 1, ..good.clone() }),
            ("--embedding-dim", TrainConfig { embedding_dim: usize::MAX, ..good.clone() }),
        ] {
            let e = config.validate().unwrap_err().to_string();
            assert!(e.starts_with(flag) && e.contains("at most"), "{e}");
        }
    }
}
