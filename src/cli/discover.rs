//! `discover`: regulation read back from the attention of a run.

use std::path::PathBuf;

use super::evaluate::open_data;
use super::table::{aligned, number};
use super::{Context, Device, output_dir};
use crate::device::Runner;
use crate::discover::{DiscoverOptions, Discovery, LinkScore, Recovery, discover};
use crate::error::{Error, Result};
use crate::train::files::write_text;
use crate::train::{Checkpoint, Run};

/// Flags of `discover`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The run: the --out folder of `train`
    #[arg(long, value_name = "RUN")]
    run: PathBuf,
    /// Other data than the run was trained on: the --out folder of `prepare`
    #[arg(long, value_name = "DATA")]
    data: Option<PathBuf>,
    /// Only cells of these types
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    cell_types: Option<Vec<String>>,
    /// How attention counts towards a link
    #[arg(long, value_enum, default_value_t)]
    score: LinkScore,
    /// Known links to compare with: a tab-separated table with the columns gene and peak
    #[arg(long, value_name = "F.tsv")]
    truth: Option<PathBuf>,
    /// The parameters to use
    #[arg(long, value_enum, default_value_t = Checkpoint::Best)]
    checkpoint: Checkpoint,
    /// Accept data whose gene or peak names differ from the run's
    #[arg(long)]
    allow_missing: bool,
    /// Cells a forward pass
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    batch_size: u32,
    /// Folder for attention.h5, links.tsv, links/TYPE.tsv and discover.json
    #[arg(long, value_name = "OUT")]
    out: PathBuf,
    /// Replace files of the same name
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    device: Device,
}

/// Discovers, writes and prints.
pub fn run(args: &Args, ctx: &Context) -> Result<()> {
    let device = args.device.choose()?;
    let mut run = Run::open(&args.run)?;
    run.allow_missing = args.allow_missing;
    let data = open_data(&run, args.data.as_ref(), ctx)?;
    let model = run.model(&data, args.checkpoint)?;
    let options = DiscoverOptions {
        cell_types: args.cell_types.clone(),
        score: args.score,
        batch_size: args.batch_size as usize,
        truth: args.truth.clone(),
        seed: ctx.seed,
    };
    options.check(&data)?;
    let _made = output_dir(&args.out, args.force)?;
    let bar = ctx.progress(options.cells(&data)?, "discover");
    let made = discover(Runner::new(&model, &device)?, &data, &options, &args.out, &mut |n| bar.set_position(n));
    bar.finish_and_clear();
    let made = made?;
    let mut json = serde_json::to_value(&made).map_err(|e| Error::Internal(format!("discovery: {e}")))?;
    json["run"] = args.run.display().to_string().into();
    json["data"] = data.dir().display().to_string().into();
    json["checkpoint"] = args.checkpoint.file_name().into();
    write_text(&args.out.join("discover.json"), &format!("{json:#}\n"))?;
    ctx.result(&table(&made), &json);
    Ok(())
}

fn table(d: &Discovery) -> String {
    let row = |c: [String; 4]| c.to_vec();
    let mut rows = vec![row(["cell type", "cells", "links", "table"].map(String::from))];
    for f in d.cell_types.iter().chain([&d.all]) {
        let file = f.file.display().to_string();
        rows.push(row([f.cell_type.clone(), f.cells.to_string(), f.links.to_string(), file]));
    }
    let mut out = format!(
        "{}\n{} cell–gene–peak weights of {} cells in {}\n",
        aligned(&rows),
        d.pairs,
        d.cells,
        d.attention.display()
    );
    if let Some(r) = &d.recovery {
        out += &format!("\n{}", recovery_table(r));
    }
    out
}

/// The table of link recovery.
pub(super) fn recovery_table(r: &Recovery) -> String {
    let mut rows = vec![["links found by", "AUROC", "AUPRC", "AUPRC / chance"].map(String::from).to_vec()];
    for s in &r.scores {
        let lift = s.auprc_over_chance.map_or("NaN".into(), |x| format!("{x:.2}"));
        rows.push(vec![s.score.clone(), number(s.auroc), number(s.auprc), lift]);
    }
    let mut out = aligned(&rows);
    out += &format!(
        "{} known links among {} gene–peak pairs of equal chromosome (chance AUPRC {})\n",
        r.links,
        r.pairs,
        r.chance.map_or("NaN".into(), |c| format!("{c:.5}"))
    );
    if r.links_missing + r.links_off_chromosome > 0 {
        out += &format!(
            "left out: {} links whose gene or peak the data lack, {} between chromosomes\n",
            r.links_missing, r.links_off_chromosome
        );
    }
    out
}
