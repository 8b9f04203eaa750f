//! `match`: partners of cells, ranked.

use std::io::Write;
use std::path::PathBuf;

use serde_json::json;

use super::context::{Context, DeviceArg, Which, output_file};
use crate::discover::maps::field;
use crate::engine::Runner;
use crate::error::Result;
use crate::files::atomic::write_atomic;
use crate::predict::partners::{MatchOptions, PartnerMetrics, Query, rank};
use crate::table::{aligned, number};

/// Flags of `match`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The run: the --out folder of `train`
    #[arg(long, value_name = "RUN")]
    run: PathBuf,
    /// Data with the RNA: the --out folder of `prepare`
    #[arg(long, value_name = "DATA")]
    rna: PathBuf,
    /// Data with the ATAC, of the same genes and peaks (prepare --like); may be the same folder
    #[arg(long, value_name = "DATA")]
    atac: PathBuf,
    /// For whom partners are ranked: each RNA profile, or each ATAC profile
    #[arg(long, value_enum, default_value_t)]
    query: Query,
    /// Partners listed of each
    #[arg(long, value_name = "K", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    top: u32,
    /// Cells of each side that every cell of the other is scored against, to find candidates
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=512))]
    anchors: u32,
    /// Candidates of each that go through the model
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    candidates: u32,
    /// Pass every pair through the model
    #[arg(long, conflicts_with_all = ["candidates", "anchors"])]
    exact: bool,
    #[command(flatten)]
    which: Which,
    /// Pairs a forward pass
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    batch_size: u32,
    /// Table to write: query, rank, partner, probability, logit
    #[arg(long, value_name = "F.tsv")]
    out: PathBuf,
    /// Replace --out
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    device: DeviceArg,
}

/// Ranks, writes and prints.
pub fn run(args: &Args, ctx: &Context) -> Result<()> {
    let device = args.device.choose()?;
    let run = args.which.open(&args.run)?;
    output_file(&args.out, args.force)?;
    let (rna, atac) = (ctx.open_data(&args.rna)?, ctx.open_data(&args.atac)?);
    let model = run.model(&rna, args.which.checkpoint)?;
    let options = MatchOptions {
        query: args.query,
        top: args.top as usize,
        candidates: args.candidates.max(args.top) as usize,
        anchors: args.anchors as usize,
        exact: args.exact,
        batch_size: args.batch_size as usize,
        seed: ctx.seed,
    };
    let found = rank(Runner::new(&model, &device)?, &rna, &atac, &options, &ctx.follow())?;
    let (queries, targets) = match args.query {
        Query::Rna => (rna.vocabulary(), atac.vocabulary()),
        Query::Atac => (atac.vocabulary(), rna.vocabulary()),
    };
    write_atomic(&args.out, |out| {
        let [q, t] = if args.query == Query::Rna { ["rna", "atac"] } else { ["atac", "rna"] };
        writeln!(out, "{q}_cell\trank\t{t}_cell\tprobability\tlogit")?;
        for (name, partners) in queries.cells.iter().zip(&found.partners) {
            for (k, p) in partners.iter().enumerate() {
                let partner = field(&targets.cells[p.cell as usize]);
                writeln!(out, "{}\t{}\t{partner}\t{:e}\t{:e}", field(name), k + 1, p.probability, p.logit)?;
            }
        }
        Ok(())
    })?;
    let stages = match found.exact {
        true => "every pair went through the model: exact",
        false => "candidates by scores completed from those of anchors (an approximation), ranked by the model (exact)",
    };
    let mut text = format!(
        "{} queries × {} targets; {} pairs went through the model\n{stages}\n",
        queries.cells.len(),
        targets.cells.len(),
        found.scored
    );
    text += &match &found.metrics {
        Some(m) => metrics_table(m, options.top),
        None => "no cell of one name is on both sides, so nothing can be said of how well partners are found\n".into(),
    };
    text += &format!("partners in {}\n", args.out.display());
    let json = json!({
        "out": args.out.display().to_string(), "queries": queries.cells.len(), "targets": targets.cells.len(),
        "scored": found.scored, "exact": found.exact, "anchors": options.anchors, "top": options.top,
        "candidates": options.candidates, "metrics": found.metrics,
    });
    ctx.result(&text, &json);
    Ok(())
}

fn metrics_table(m: &PartnerMetrics, top: usize) -> String {
    let row = |name: &str, [x, chance]: [f64; 2]| vec![name.to_string(), number(Some(x)), number(Some(chance))];
    let mut rows = vec![["true partner", "found", "chance"].map(String::from).to_vec()];
    rows.push(row("first", m.top1));
    rows.push(row(&format!("among the first {}", top.min(5)), m.top5));
    rows.push(row(&format!("among the first {top}"), m.listed));
    rows.push(row("match score", m.match_score));
    rows.push(vec!["FOSCTTM by score".into(), number(m.foscttm), "0.5000".into()]);
    rows.push(vec!["FOSCTTM by distance".into(), number(m.foscttm_distance), "0.5000".into()]);
    format!(
        "{}{} cells are on both sides; {:.1} % of their partners were among the candidates\n",
        aligned(&rows),
        m.known,
        100.0 * m.candidates
    )
}
