//! `train`: a run from a data set.

use std::path::PathBuf;

use super::console::{Console, scores};
use super::context::{Context, Device, check_output_dir};
use crate::dataset::{DataSet, SampleConfig, SampleSet, draw_samples};
use crate::error::{Error, Result};
use crate::files::atomic;
use crate::model::{CisTarget, Precision};
use crate::ops::adam::{AdamConfig, Decay};
use crate::ops::registry::Replacement;
use crate::parity::trust;
use crate::train::{AUTO_BATCH, CisOptions, OnNan, Run, Scaling, Schedule, TrainConfig};
use crate::{profile, train};

/// Flags of `train`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The data set that `prepare` made [with --resume: the run's own]
    #[arg(long, value_name = "DATA", required_unless_present = "resume")]
    pub data: Option<PathBuf>,
    /// Folder of the run
    #[arg(long, value_name = "RUN")]
    pub out: PathBuf,
    /// Go on with the run in --out from its last checkpoint
    #[arg(long, conflicts_with = "force")]
    pub resume: bool,
    /// Replace what is in --out
    #[arg(long)]
    pub force: bool,
    /// Settings to start from; see `recipes`
    #[arg(long, value_name = "NAME")]
    pub recipe: Option<String>,
    /// Sample set of the data
    #[arg(long, value_name = "NAME")]
    pub samples: Option<String>,
    /// Passes over the training samples, at most
    #[arg(long, value_name = "N")]
    pub epochs: Option<u32>,
    /// Early stopping does not stop before this epoch
    #[arg(long, value_name = "N")]
    pub min_epochs: Option<u32>,
    /// Stop when the validation score has not risen for this many epochs [default: never]
    #[arg(long, value_name = "N")]
    pub patience: Option<u32>,
    /// Samples a step, positives and negatives; auto: 32 to 1024, as many as leave an epoch 200 steps
    #[arg(long, value_name = "N|auto", value_parser = batch_size)]
    pub batch_size: Option<usize>,
    /// Samples a forward pass in validation
    #[arg(long, value_name = "N")]
    pub eval_batch_size: Option<usize>,
    /// Learning rate
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub lr: Option<f64>,
    /// How the learning rate follows the batch size
    #[arg(long, value_name = "none|sqrt|linear")]
    pub lr_scaling: Option<Scaling>,
    /// The batch size at which --lr holds as it is [default: 64, published: 1]
    #[arg(long, value_name = "N")]
    pub lr_base_batch: Option<usize>,
    /// Steps over which the learning rate rises from 0
    #[arg(long, value_name = "N")]
    pub warmup_steps: Option<u64>,
    /// The same in epochs; the longer of the two counts
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub warmup_epochs: Option<f64>,
    /// How the learning rate falls from then to the last step of --epochs
    #[arg(long, value_name = "none|cosine|linear")]
    pub lr_decay: Option<Decay>,
    /// The share of the learning rate that the last step has [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub lr_final_fraction: Option<f64>,
    /// Adam's decay of the first moment
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub beta1: Option<f64>,
    /// Adam's decay of the second moment
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub beta2: Option<f64>,
    /// Adam's epsilon
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub eps: Option<f64>,
    /// L2, added to the gradient
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub weight_decay: Option<f64>,
    /// Weight of the translation loss
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub alpha: Option<f64>,
    /// Weight of the matching loss [default: 1]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub match_weight: Option<f64>,
    /// Weight of the contrastive loss: RNA and ATAC of each pair against all others of the batch [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub contrast: Option<f64>,
    /// Weight of the cis loss: each gene predicted from the open peaks near it, beside depth and the cell as a whole
    /// [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub cis_weight: Option<f64>,
    /// Bases on either side of a TSS within which a peak is near [default: 500000]
    #[arg(long, value_name = "BASES")]
    pub cis_window: Option<u32>,
    /// Numbers that stand for the cell as a whole in the cis term [default: 16]
    #[arg(long, value_name = "N")]
    pub cis_components: Option<usize>,
    /// What the cis term predicts: whether a gene is detected, or its expression [default: detection]
    #[arg(long, value_name = "detection|level")]
    pub cis_target: Option<CisTarget>,
    /// Weight of the mean absolute weight of a peak on a gene [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub cis_sparsity: Option<f64>,
    /// Train each step's translation on so many genes (or this share of them, below 1), drawn at random: an estimate, for
    /// the CPU [default: all]
    #[arg(long, value_name = "N|FRACTION", allow_negative_numbers = true)]
    pub translate_genes: Option<f64>,
    /// Adam that leaves alone the id embeddings that a step does not read: another optimiser, for the CPU
    #[arg(long)]
    pub lazy_adam: bool,
    /// Dropout of the matching head
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub dropout: Option<f64>,
    /// Attention heads
    #[arg(long, value_name = "N")]
    pub heads: Option<usize>,
    /// Hidden size
    #[arg(long, value_name = "N")]
    pub hidden: Option<usize>,
    /// Size of the id embeddings
    #[arg(long, value_name = "N")]
    pub embedding_dim: Option<usize>,
    /// Standard deviation of the id embeddings at the start
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub embedding_std: Option<f64>,
    /// Checkpoint every N steps, besides the one after each epoch
    #[arg(long, value_name = "N")]
    pub checkpoint_steps: Option<u64>,
    /// Checkpoint when this many minutes have passed since the last one
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub checkpoint_minutes: Option<f64>,
    /// At a step that is not finite: stop, leave it out, or leave it out and go back to the parameters of the last checkpoint
    /// (three times at most before the next one)
    #[arg(long, value_name = "stop|skip|rollback")]
    pub on_nan: Option<OnNan>,
    /// How matrices are multiplied; bf16 only on a GPU
    #[arg(long, value_name = "f32|bf16")]
    pub precision: Option<Precision>,
    /// Replace the kernels of an op on the GPU (repeatable); one that has not passed `kernels check` is checked first
    #[arg(long, value_name = "OP=FILE")]
    pub kernel: Vec<Replacement>,
    /// Say where the time of the steps went, by op (time, flops, bytes, share of what this machine can do), and write the
    /// spans to RUN/trace.json, which Perfetto and chrome://tracing open; of the CPU engine
    #[arg(long)]
    pub profile: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub device: Device,
}

impl Args {
    /// The device, with the kernels that were asked for, all of them checked.
    fn open_device(&self, config: &TrainConfig, ctx: &Context) -> Result<crate::engine::Device> {
        let device = match (self.device.device.as_str(), config.check_for_cuda()) {
            // What only the CPU does needs no GPU to be looked for.
            ("auto", Err(_)) => "cpu",
            (asked, Err(e)) if asked.starts_with("cuda") => return Err(e),
            (asked, _) => asked,
        };
        let device = crate::engine::Device::choose(device, config.precision, &self.kernel)?;
        if let Some(d) = device.cuda() {
            if self.profile {
                let fix = "take --device cpu; `kernels bench` times each kernel on the device";
                return Err(Error::usage(format!("--profile: is of the CPU engine; {fix}")));
            }
            trust::ensure(&d.gpu, &d.kernels, &self.kernel, d.precision, &ctx.follow())?;
        }
        Ok(device)
    }

    /// These flags over `base`.
    fn over(&self, base: TrainConfig, ctx: &Context) -> TrainConfig {
        let adam = AdamConfig {
            lr: self.lr.unwrap_or(base.adam.lr),
            beta1: self.beta1.unwrap_or(base.adam.beta1),
            beta2: self.beta2.unwrap_or(base.adam.beta2),
            eps: self.eps.unwrap_or(base.adam.eps),
            weight_decay: self.weight_decay.unwrap_or(base.adam.weight_decay),
        };
        let schedule = Schedule {
            scaling: self.lr_scaling.unwrap_or(base.schedule.scaling),
            base_batch: self.lr_base_batch.unwrap_or(base.schedule.base_batch),
            warmup_steps: self.warmup_steps.unwrap_or(base.schedule.warmup_steps),
            warmup_epochs: self.warmup_epochs.unwrap_or(base.schedule.warmup_epochs),
            decay: self.lr_decay.unwrap_or(base.schedule.decay),
            final_fraction: self.lr_final_fraction.unwrap_or(base.schedule.final_fraction),
        };
        TrainConfig {
            recipe: base.recipe,
            samples: self.samples.clone().unwrap_or(base.samples),
            split: base.split,
            epochs: self.epochs.unwrap_or(base.epochs),
            min_epochs: self.min_epochs.unwrap_or(base.min_epochs),
            patience: self.patience.or(base.patience),
            batch_size: self.batch_size.unwrap_or(base.batch_size),
            eval_batch_size: self.eval_batch_size.unwrap_or(base.eval_batch_size),
            adam,
            schedule,
            alpha: self.alpha.unwrap_or(base.alpha),
            dropout: self.dropout.unwrap_or(base.dropout),
            heads: self.heads.unwrap_or(base.heads),
            hidden: self.hidden.unwrap_or(base.hidden),
            embedding_dim: self.embedding_dim.unwrap_or(base.embedding_dim),
            embedding_std: self.embedding_std.unwrap_or(base.embedding_std),
            seed: if ctx.seed_given { ctx.seed } else { base.seed },
            checkpoint_steps: self.checkpoint_steps.or(base.checkpoint_steps),
            checkpoint_minutes: self.checkpoint_minutes.or(base.checkpoint_minutes),
            on_nan: self.on_nan.unwrap_or(base.on_nan),
            translate_genes: self.translate_genes.or(base.translate_genes),
            lazy_adam: self.lazy_adam || base.lazy_adam,
            precision: self.precision.unwrap_or(base.precision),
            match_weight: self.match_weight.unwrap_or(base.match_weight),
            contrast: self.contrast.unwrap_or(base.contrast),
            cis: CisOptions {
                weight: self.cis_weight.unwrap_or(base.cis.weight),
                window: self.cis_window.unwrap_or(base.cis.window),
                components: self.cis_components.unwrap_or(base.cis.components),
                target: self.cis_target.unwrap_or(base.cis.target),
                sparsity: self.cis_sparsity.unwrap_or(base.cis.sparsity),
            },
        }
    }
}

/// A batch size as typed.
fn batch_size(text: &str) -> std::result::Result<usize, String> {
    match text.parse() {
        _ if text == "auto" => Ok(AUTO_BATCH),
        Ok(0) => Err("it must be at least 1".into()),
        Ok(n) => Ok(n),
        Err(_) => Err("it must be `auto` or a whole number".into()),
    }
}

/// Trains, or goes on training.
pub fn run(args: &Args, ctx: &Context) -> Result<()> {
    let mut console = Console::new(ctx);
    let recording = args.profile.then(profile::start);
    let outcome = if args.resume {
        let run = Run::open(&args.out)?;
        if args.recipe.as_ref().is_some_and(|r| *r != run.config.recipe) {
            return Err(Error::usage(format!(
                "--recipe cannot change on --resume: {} was trained with recipe {}",
                args.out.display(),
                run.config.recipe
            )));
        }
        let config = args.over(run.config.clone(), ctx);
        config.validate()?;
        let data = run.open_data(args.data.as_deref(), ctx.access)?;
        let set = data.samples(&config.samples)?;
        let device = args.open_device(&config, ctx)?;
        train::resume_on(&device, &data, &set, &config, &args.out, &mut console)
    } else {
        let config = args.over(train::recipe(args.recipe.as_deref().unwrap_or("default"))?, ctx);
        config.validate()?;
        let device = args.open_device(&config, ctx)?;
        let Some(dir) = &args.data else { return Err(Error::usage("--data is needed")) };
        let data = ctx.open_data(dir)?;
        check_output_dir(&args.out, args.force)?;
        check_memory(&config, &data)?;
        let (config, set) = samples(&data, config, args.samples.is_some(), ctx)?;
        train::train_on(&device, &data, &set, &config, &args.out, &mut console)
    };
    console.close();
    let profile = recording.map(profile::Recording::finish).filter(|p| p.steps() > 0);
    if let Some(p) = &profile {
        let text = serde_json::to_string(&p.trace()).map_err(|e| Error::Internal(format!("trace: {e}")))?;
        let path = args.out.join(profile::TRACE);
        atomic::write_text(&path, &text)?;
        ctx.say(&format!("{}\ntrace: {}", p.table(), path.display()));
    }
    let outcome = outcome.map_err(|e| with_kernels(e, &args.kernel))?;
    let best = outcome.best.as_ref();
    let mut table = format!("{} epochs, {} steps", outcome.epochs, outcome.steps);
    if outcome.early {
        table += " (stopped early)";
    }
    if let Some(b) = best {
        table += &format!("; best epoch {}: {}", b.epoch, scores(b));
    }
    table += &format!("\nrun: {}", args.out.display());
    let json = serde_json::json!({
        "run": args.out, "epochs": outcome.epochs, "steps": outcome.steps, "early": outcome.early,
        "best": outcome.best, "last": outcome.last, "profile": profile,
    });
    ctx.result(&table, &json);
    Ok(())
}

/// What to go on with names the kernels that were replaced, too, which the run does not remember.
fn with_kernels(e: Error, kernels: &[Replacement]) -> Error {
    let flags: String = kernels.iter().map(|k| format!(" --kernel {}={}", k.op, k.source.display())).collect();
    match e {
        Error::Interrupted { code, saved } => Error::Interrupted { code, saved: saved + &flags },
        Error::Device { doing, code, name, text, saved } if saved.contains("--resume") => {
            Error::Device { doing, code, name, text, saved: saved + &flags }
        }
        e => e,
    }
}

/// The name of the set that is drawn for a recipe that asks for a split that the default set does not have; with a seed
/// other than the usual one, the seed follows.
const DRAWN: &str = "published";

/// The sample set of `config`; one of the split that the recipe asks for is drawn where there is none.
pub(crate) fn samples(
    data: &DataSet,
    config: TrainConfig,
    named: bool,
    ctx: &Context,
) -> Result<(TrainConfig, SampleSet)> {
    let split_of = |set: &SampleSet| set.recipe.get("split").and_then(|s| s.as_str()).unwrap_or("unknown").to_string();
    let set = data.samples(&config.samples)?;
    let wanted = match &config.split {
        Some(wanted) if split_of(&set) != *wanted => wanted.clone(),
        _ => return Ok((config, set)),
    };
    if named {
        return Err(Error::usage(format!(
            "--samples {}: is split by {} where recipe {} needs a split by {wanted}; leave --samples out, and one is drawn",
            config.samples,
            split_of(&set),
            config.recipe
        )));
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
                "{}: the sample set `{name}` was not drawn as recipe {} needs it (split by {wanted}, seed {}, else like \
                 `{}`); use it nevertheless with --samples {name}, or draw it again with `sccrossrec samples --force`",
                data.dir().display(),
                config.recipe,
                config.seed,
                config.samples
            )));
        }
        drawn
    } else {
        let drawn = draw_samples(data.vocabulary(), &how)?;
        data.save_samples(&name, &drawn, false)?;
        ctx.say(&format!("sample set `{name}`, split by {wanted}, drawn for recipe {}", config.recipe));
        drawn
    };
    Ok((TrainConfig { samples: name, ..config }, drawn))
}

/// Refuses a model that no way of training fits into memory, before it is made.
fn check_memory(config: &TrainConfig, data: &DataSet) -> Result<()> {
    let arena = 4 * crate::model::ParamLayout::new(&config.model(data)).len() as u64;
    let parts = [("parameters", arena), ("gradients", arena), ("moments", 2 * arena)];
    crate::memory::check("training", &parts, data.access().memory_limit, |_| {
        "a smaller --embedding-dim and --hidden take less".into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The command that goes on with a run is whole: replaced kernels are not in run.json.
    #[test]
    fn what_to_go_on_with_names_the_kernels() {
        let kernels = ["attend=a.cu", "adam=cust:b.ptx"].map(|k| k.parse::<Replacement>().unwrap());
        let stopped =
            Error::Interrupted { code: 130, saved: "saved; go on with: sccrossrec train --resume --out R".into() };
        let text = with_kernels(stopped, &kernels).to_string();
        assert!(text.ends_with("train --resume --out R --kernel attend=a.cu --kernel adam=cust:b.ptx"), "{text}");
        assert_eq!(with_kernels(Error::usage("x"), &kernels).to_string(), "x");
    }
}
