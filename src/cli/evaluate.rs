//! `evaluate`: how well a run matches and translates, beside trivial baselines.

use std::path::PathBuf;

use super::context::{Context, DeviceArg, Which, output_file};
use crate::dataset::{DataSet, SampleSet};
use crate::engine::Runner;
use crate::error::{Error, Result, quoted};
use crate::evaluate::{Part, TowerEvaluation, TowerEvaluationOptions, evaluate, evaluate_towers};
use crate::files::atomic::write_text;
use crate::train::Run;

/// Flags of `evaluate`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The run: the --out folder of `train`
    #[arg(long, value_name = "RUN")]
    run: PathBuf,
    /// Other data than the run was trained on: the --out folder of `prepare`
    #[arg(long, value_name = "DATA")]
    data: Option<PathBuf>,
    /// The part of the cells and pairs to look at
    #[arg(long, value_enum, default_value_t = Part::Test)]
    part: Part,
    /// Which pairs of the data: the name given to `pairs` [default: those the run was trained on]
    #[arg(long = "pairs", alias = "samples", value_name = "NAME")]
    samples: Option<String>,
    #[command(flatten)]
    which: Which,
    /// Leave out what would be fitted in a minute: canonical correlation, ridge regression, components
    #[arg(long)]
    no_baselines: bool,
    /// Pairs a forward pass
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..))]
    batch_size: u32,
    /// Write the result here as JSON, too
    #[arg(long, value_name = "F.json")]
    out: Option<PathBuf>,
    /// Replace --out if it exists
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    device: DeviceArg,
}

/// Opens the data that a verb is to work on: those given, or those the run was trained on.
pub(super) fn open_data(run: &Run, data: Option<&PathBuf>, ctx: &Context) -> Result<DataSet> {
    let opened = run.open_data(data.map(PathBuf::as_path), ctx.access)?;
    if opened.hash() != run.data_hash() {
        ctx.say("note: these are not the data that the run was trained on; genes and peaks are met by name");
    }
    Ok(opened)
}

/// The towers of a run on the cells of a part; `None` where it has none.
pub(super) fn of_towers(
    run: &Run,
    data: &DataSet,
    set: &SampleSet,
    part: Part,
    baselines: bool,
    ctx: &Context,
) -> Result<Option<TowerEvaluation>> {
    let options = TowerEvaluationOptions { baselines, seed: ctx.seed };
    let measure = |towers| evaluate_towers(&towers, data, set, part, options, &ctx.follow());
    run.towers(data)?.map(measure).transpose()
}

/// Evaluates and prints.
pub fn run(args: &Args, ctx: &Context) -> Result<()> {
    let device = args.device.choose()?;
    if let Some(out) = &args.out {
        output_file(out, args.force)?;
    }
    let run = args.which.open(&args.run)?;
    let data = open_data(&run, args.data.as_ref(), ctx)?;
    data.need_both("evaluation")?;
    let name = args.samples.as_ref().unwrap_or(&run.config.samples);
    let set = data.samples(name)?;
    let trained_on = run.trained_on(&data, &set);
    if trained_on == Some(false) && data.hash() == run.data_hash() {
        ctx.say(&format!(
            "warning: the pairs `{name}` are not those that the run was trained on: training may have seen its cells"
        ));
    }
    let model = run.model(&data, args.which.checkpoint)?;
    let runner = Runner::new(&model, &device)?;
    let mut result = evaluate(runner, &data, &set, args.part, args.batch_size as usize, &ctx.follow())?;
    result.towers = of_towers(&run, &data, &set, args.part, !args.no_baselines, ctx)?;
    let mut json = serde_json::to_value(&result).map_err(|e| Error::Internal(format!("evaluation: {e}")))?;
    json["run"] = args.run.display().to_string().into();
    json["data"] = data.dir().display().to_string().into();
    json["samples"] = name.as_str().into();
    json["trained_on_samples"] = trained_on.into();
    json["checkpoint"] = args.which.checkpoint.file_name().into();
    if let Some(out) = &args.out {
        write_text(out, &format!("{json:#}\n"))?;
    }
    ctx.result(&result.table(), &json);
    ctx.next("", &format!("sccrossrec discover --run {} --out found", quoted(&args.run)));
    Ok(())
}
