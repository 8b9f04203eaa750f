//! `train`: a run from a data set.

use std::path::{Path, PathBuf};

use clap::{ArgMatches, Command, FromArgMatches};

use super::console::{Console, scores};
use super::context::{Context, DeviceArg, check_output_dir};
use super::repeats;
use super::repeats::Repeats;
use crate::error::{Error, Result, quoted};
use crate::files::atomic;
use crate::ops::registry::Replacement;
use crate::parity::trust;
use crate::train::setting::Setting;
use crate::train::{Outcome, Run, TrainConfig};
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
    /// Settings to start from; `sccrossrec recipes` lists them [default: default]
    #[arg(long, value_name = "NAME")]
    pub recipe: Option<String>,
    /// Train so many runs that differ by their seed alone, into RUN/seed-N, and tell mean and spread of their scores
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=100), conflicts_with_all = ["resume", "profile"])]
    pub repeats: Option<u32>,
    /// The flags of its settings
    #[command(flatten)]
    pub settings: Settings,
    /// Replace the kernels of an op on the GPU (repeatable); one that has not passed `kernels check` is checked first
    #[arg(long, value_name = "OP=FILE")]
    pub kernel: Vec<Replacement>,
    /// Say where the time of the steps went, by op (time, flops, bytes, share of what this machine can do), and write the
    /// spans to RUN/trace.json, which Perfetto and chrome://tracing open; of the CPU engine
    #[arg(long)]
    pub profile: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub device: DeviceArg,
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
        let mut config = base;
        train::settings().iter().for_each(|s| s.take(&self.settings.0, &mut config));
        if ctx.seed_given {
            config.seed = ctx.seed;
        }
        config
    }
}

/// What was typed of the settings of a training, each of which has a flag of its own: see the list in `train/config.rs`.
#[derive(Debug, Clone)]
pub struct Settings(ArgMatches);

impl clap::Args for Settings {
    fn augment_args(command: Command) -> Command {
        let recipes: Vec<_> = train::RECIPES.iter().filter_map(|r| Some((r.0, train::recipe(r.0).ok()?))).collect();
        command.args(train::settings().iter().filter_map(|s| {
            let arg = s.arg()?;
            let help = format!("{} {}", arg.get_help()?, defaults(s, &recipes));
            Some(arg.help(help.trim_end().to_string()))
        }))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// What a setting is where it is not given: the same in every recipe, or recipe by recipe.
fn defaults(setting: &Setting<TrainConfig>, recipes: &[(&str, TrainConfig)]) -> String {
    let words: Vec<(&str, String)> = recipes.iter().map(|(name, c)| (*name, setting.words(c))).collect();
    let Some((_, first)) = words.first() else { return String::new() };
    match words.iter().all(|(_, w)| w == first) {
        true if first == "off" => String::new(),
        true => format!("[default: {first}]"),
        false => {
            let mut by: Vec<(Vec<&str>, &str)> = Vec::new();
            for (name, word) in &words {
                match by.iter_mut().find(|b| b.1 == word) {
                    Some(b) => b.0.push(name),
                    None => by.push((vec![name], word)),
                }
            }
            let each: Vec<_> = by.iter().map(|(names, word)| format!("{} {word}", names.join("/"))).collect();
            format!("[default: by recipe: {}]", each.join(", "))
        }
    }
}

impl FromArgMatches for Settings {
    fn from_arg_matches(typed: &ArgMatches) -> std::result::Result<Self, clap::Error> {
        Ok(Settings(typed.clone()))
    }

    fn update_from_arg_matches(&mut self, typed: &ArgMatches) -> std::result::Result<(), clap::Error> {
        self.0 = typed.clone();
        Ok(())
    }
}

/// Trains anew into `out`; with `test`, pairs without a test part are refused.
fn anew(args: &Args, out: &Path, seed: Option<u64>, test: bool, ctx: &Context) -> Result<Outcome> {
    let mut console = Console::new(ctx);
    let mut config = args.over(train::recipe(args.recipe.as_deref().unwrap_or("default"))?, ctx);
    config.seed = seed.unwrap_or(config.seed);
    config.validate()?;
    let device = args.open_device(&config, ctx)?;
    let Some(dir) = &args.data else { return Err(Error::usage("--data is needed")) };
    let data = ctx.open_data(dir)?;
    check_output_dir(out, args.force)?;
    let named = args.settings.0.contains_id("pairs");
    let (config, set) = train::samples_for(&data, config, named, &ctx.follow())?;
    if test && set.test.is_empty() {
        let fix = "take more cells, or leave out --repeats";
        return Err(Error::input(dir, "has no test part that repeats could be measured on", fix));
    }
    let outcome = train::train_on(&device, &data, &set, &config, out, &mut console);
    console.close();
    outcome
}

fn go_on(args: &Args, ctx: &Context) -> Result<Outcome> {
    let mut console = Console::new(ctx);
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
    let outcome = train::resume_on(&device, &data, &set, &config, &args.out, &mut console);
    console.close();
    outcome
}

/// Trains, or goes on training.
pub fn run(args: &Args, ctx: &Context) -> Result<()> {
    if let Some(n) = args.repeats {
        let Args { out, force, data, device, .. } = args;
        let repeats = Repeats { out, force: *force, data: data.as_ref(), device };
        return repeats::run(&repeats, n, ctx, |out, seed| anew(args, out, Some(seed), true, ctx));
    }
    let recording = args.profile.then(profile::start);
    let outcome = if args.resume { go_on(args, ctx) } else { anew(args, &args.out, None, false, ctx) };
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
    ctx.next("", &format!("sccrossrec evaluate --run {}", quoted(&args.out)));
    Ok(())
}

/// What to go on with names the kernels that were replaced, too, which the run does not remember.
fn with_kernels(e: Error, kernels: &[Replacement]) -> Error {
    let flags: String = kernels.iter().map(|k| format!(" --kernel {}={}", k.op, quoted(&k.source))).collect();
    match e {
        Error::Interrupted { code, saved } => Error::Interrupted { code, saved: saved + &flags },
        Error::Device { doing, code, name, text, saved } if saved.contains("--resume") => {
            Error::Device { doing, code, name, text, saved: saved + &flags }
        }
        e => e,
    }
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
