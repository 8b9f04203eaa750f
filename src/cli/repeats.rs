//! `train --repeats N`: runs that differ by their seed alone, and how far their scores lie apart.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::context::{Context, DeviceArg, check_output_dir};
use super::evaluate::of_towers;
use crate::engine::Runner;
use crate::error::{Error, Result, quoted};
use crate::evaluate::{Evaluation, Part, evaluate};
use crate::files::atomic::write_text;
use crate::table::{aligned, number};
use crate::train::{Checkpoint, Outcome, Run};

/// Where the scores of all repeats are, beside their runs.
const SCORES: &str = "repeats.json";

type Of = fn(&Evaluation) -> Option<f64>;

/// What is told of each run, on test cells.
const TOLD: [(&str, Of); 8] = [
    ("FOSCTTM", |e| e.towers.as_ref()?.partners.foscttm),
    ("true partner first", |e| e.towers.as_ref()?.partners.first),
    ("match score", |e| e.towers.as_ref()?.partners.match_score),
    ("Pearson by gene", |e| e.towers.as_ref()?.expression.as_ref()?.pearson_gene),
    ("Pearson by cell", |e| e.towers.as_ref()?.expression.as_ref()?.pearson_cell),
    ("types told, ATAC by RNA", |e| e.towers.as_ref()?.labels_across?.accuracy),
    ("attention: accuracy", |e| e.matching.model.accuracy),
    ("attention: AUROC", |e| e.matching.model.auroc),
];

/// Mean and standard deviation (of n - 1); `None` where a run has no such number.
fn spread(all: &[Option<f64>]) -> Option<(f64, f64)> {
    let x: Vec<f64> = all.iter().copied().collect::<Option<_>>()?;
    let n = x.len() as f64;
    let mean = x.iter().sum::<f64>() / n;
    let squares: f64 = x.iter().map(|x| (x - mean).powi(2)).sum();
    Some((mean, (squares / (n - 1.0).max(1.0)).sqrt()))
}

/// Where repeats are, of what data, and on what they are measured.
pub(super) struct Repeats<'a> {
    pub out: &'a Path,
    pub force: bool,
    pub data: Option<&'a PathBuf>,
    pub device: &'a DeviceArg,
}

/// Trains `n` runs, each with its seed into its folder, and measures each.
pub(super) fn run(
    args: &Repeats<'_>,
    n: u32,
    ctx: &Context,
    train: impl Fn(&Path, u64) -> Result<Outcome>,
) -> Result<()> {
    check_output_dir(args.out, args.force)?;
    let seeds: Vec<u64> = (0..u64::from(n)).map(|k| ctx.seed.wrapping_add(k)).collect();
    let mut found = Vec::new();
    for (k, seed) in seeds.iter().enumerate() {
        ctx.say(&format!("repeat {} of {n}: seed {seed}", k + 1));
        let out = args.out.join(format!("seed-{seed}"));
        train(&out, *seed).map_err(|e| match e {
            Error::Interrupted { code, saved } => {
                let again = "the repeats begun before are kept; --repeats begins again with --force";
                Error::Interrupted { code, saved: format!("{saved}; {again}") }
            }
            e => e,
        })?;
        let run = Run::open(&out)?;
        let data = run.open_data(args.data.map(PathBuf::as_path), ctx.access)?;
        let set = data.samples(&run.config.samples)?;
        let (model, device) = (run.model(&data, Checkpoint::Best)?, args.device.choose()?);
        let size = run.config.eval_batch_size;
        let mut told = evaluate(Runner::new(&model, &device)?, &data, &set, Part::Test, size, &ctx.follow())?;
        told.towers = of_towers(&run, &data, &set, Part::Test, false, ctx)?;
        found.push(told);
    }
    let mut rows = vec![["on test cells", "mean", "sd", "least", "most"].map(String::from).to_vec()];
    let mut scores = serde_json::Map::new();
    for (name, of) in TOLD {
        let all: Vec<Option<f64>> = found.iter().map(of).collect();
        let Some((mean, sd)) = spread(&all) else { continue };
        let ends = all.iter().flatten().fold((f64::INFINITY, f64::NEG_INFINITY), |e, &x| (e.0.min(x), e.1.max(x)));
        let numbers = [mean, sd, ends.0, ends.1].map(|x| number(Some(x)));
        rows.push(std::iter::once(name.to_string()).chain(numbers).collect());
        scores.insert(name.into(), json!({ "mean": mean, "sd": sd, "all": all }));
    }
    let json: Value = json!({ "out": args.out, "seeds": seeds, "scores": scores });
    write_text(&args.out.join(SCORES), &format!("{json:#}\n"))?;
    ctx.result(&format!("{}{n} runs in {}", aligned(&rows), args.out.display()), &json);
    ctx.next("", &format!("sccrossrec evaluate --run {}", quoted(&args.out.join(format!("seed-{}", seeds[0])))));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_is_mean_and_deviation() {
        assert_eq!(spread(&[Some(1.0), Some(3.0)]), Some((2.0, 2f64.sqrt())));
        assert_eq!(spread(&[Some(1.0), None]), None);
    }
}
