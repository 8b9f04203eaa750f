//! `demo`: everything on simulated data: simulate → prepare → train → evaluate → discover → report, and a
//! closing table.

use std::path::PathBuf;
use std::time::Instant;

use serde_json::json;

use super::console::Console;
use super::context::{Context, Device, output_dir};
use super::discover::recovery_table;
use crate::dataset::SplitBy;
use crate::discover::{DiscoverOptions, Found, discover};
use crate::engine::Runner;
use crate::error::{Error, Result};
use crate::evaluate::{Part, evaluate};
use crate::files::atomic::write_text;
use crate::predict::{Options, embeddings};
use crate::prepare::{PrepareConfig, prepare};
use crate::report::{Page, page, pca};
use crate::simulate::{SimulateConfig, Simulation};
use crate::table::aligned;
use crate::train::{Checkpoint, Run, log, recipe, train_on};

/// Flags of `demo`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder for everything that is made
    #[arg(long, value_name = "DIR", default_value = "sccrossrec-demo")]
    out: PathBuf,
    /// Cells
    #[arg(long, value_name = "N", default_value_t = SimulateConfig::default().cells)]
    cells: usize,
    /// Genes
    #[arg(long, value_name = "N", default_value_t = SimulateConfig::default().genes)]
    genes: usize,
    /// Peaks
    #[arg(long, value_name = "N", default_value_t = SimulateConfig::default().peaks)]
    peaks: usize,
    /// Chromosomes
    #[arg(long, value_name = "N", default_value_t = SimulateConfig::default().chromosomes)]
    chromosomes: usize,
    /// Cell types
    #[arg(long, value_name = "N", default_value_t = SimulateConfig::default().cell_types)]
    cell_types: usize,
    /// Passes over the training samples
    #[arg(long, value_name = "N", default_value_t = EPOCHS)]
    epochs: u32,
    /// How to train; see `recipes`
    #[arg(long, value_name = "NAME", default_value = "default")]
    recipe: String,
    /// Replace what an earlier demo left in --out
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    device: Device,
}

/// Training of the demo: what fits two minutes on two cores.
const EPOCHS: u32 = 16;

/// Runs the stages and prints the closing table.
pub fn run(args: &Args, ctx: &Context) -> Result<()> {
    stages(args, ctx).map_err(|e| match e {
        Error::Interrupted { code, saved } if args.out.exists() => {
            let again = format!("{} holds the finished stages; run the demo again with --force", args.out.display());
            let saved = if saved.starts_with("saved") { format!("{saved}; {again}") } else { again };
            Error::Interrupted { code, saved }
        }
        e => e,
    })
}

fn stages(args: &Args, ctx: &Context) -> Result<()> {
    let device = args.device.choose()?;
    let mut config = recipe(&args.recipe)?;
    config.epochs = args.epochs;
    config.seed = ctx.seed;
    config.validate()?;
    let simulation = Simulation::new(SimulateConfig {
        cells: args.cells,
        genes: args.genes,
        peaks: args.peaks,
        chromosomes: args.chromosomes,
        cell_types: args.cell_types,
        seed: ctx.seed,
        ..SimulateConfig::default()
    })?;
    let _made = output_dir(&args.out, args.force)?;
    let place = |name: &str| args.out.join(name);
    let (simulated, data_dir, run_dir, found_dir) =
        (place("simulated"), place("data"), place("run"), place("discover"));
    let _stages = [&simulated, &run_dir, &found_dir]
        .map(|dir| output_dir(dir, args.force))
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    let mut seconds: Vec<(&str, f64)> = Vec::new();
    let mut clock = Instant::now();
    let mut lap = |name| {
        seconds.push((name, clock.elapsed().as_secs_f64()));
        clock = Instant::now();
    };

    ctx.say(&format!("simulate: {} cells, {} genes, {} peaks", args.cells, args.genes, args.peaks));
    let made = simulation.write(&simulated, &ctx.follow())?;
    lap("simulate");

    ctx.say("prepare: interaction graphs, positives and easy negatives");
    let mut prepared = PrepareConfig::new(&made.rna, &made.atac);
    prepared.force = args.force;
    prepared.samples.seed = ctx.seed;
    if config.split.as_deref() == Some("sample") {
        prepared.samples.split = SplitBy::Sample;
    }
    let report = prepare(&prepared, &data_dir, &ctx.follow())?;
    lap("prepare");

    ctx.say(&format!("train: recipe {}, {} epochs", config.recipe, config.epochs));
    let data = ctx.open_data(&data_dir)?;
    let set = data.samples(&config.samples)?;
    let mut console = Console::new(ctx);
    let outcome = train_on(&device, &data, &set, &config, &run_dir, &mut console);
    console.close();
    let outcome = outcome?;
    lap("train");

    ctx.say("evaluate: test samples, best epoch by validation");
    let model = Run::open(&run_dir)?.model(&data, Checkpoint::Best)?;
    let bar = ctx.progress(Part::Test.numbers(&set).len() as u64, "evaluate");
    let evaluation =
        evaluate(Runner::new(&model, &device)?, &data, &set, Part::Test, config.eval_batch_size, &mut |n| {
            bar.set_position(n)
        });
    bar.finish_and_clear();
    let evaluation = evaluation?;
    lap("evaluate");

    ctx.say("discover: attention of every cell, links, and how many planted ones are found");
    let options = DiscoverOptions { truth: Some(made.truth.clone()), seed: ctx.seed, ..DiscoverOptions::default() };
    let bar = ctx.progress(options.cells(&data)?, "discover");
    let discovery = discover(Runner::new(&model, &device)?, &data, &options, &found_dir, &mut |n| bar.set_position(n));
    bar.finish_and_clear();
    let discovery = discovery?;
    lap("discover");

    ctx.say("report: one page of it all");
    let run = Run::open(&run_dir)?;
    let z = embeddings(Runner::new(&model, &device)?, &data, &Options::default())?;
    let (html, _) = page(&Page {
        title: "Demo".into(),
        run: Ok((&run, log::log(&run)?)),
        data: Ok((&data, Some(set.clone()))),
        evaluation: Ok(evaluation.clone()),
        embedding: Ok(pca(&z, 2 * model.config.hidden)),
        found: Ok(&Found::open(&found_dir)?),
        links: 1000,
    })?;
    let report_file = place("report.html");
    write_text(&report_file, &html)?;
    lap("report");

    let total: f64 = seconds.iter().map(|s| s.1).sum();
    let json = json!({
        "out": args.out,
        "simulated": made,
        "simulation": simulation.config(),
        "data": {
            "path": data_dir, "cells": report.cells, "genes": report.genes, "peaks": report.peaks,
            "chromosomes": report.chromosomes, "rna_entries": report.rna_entries,
            "atac_entries": report.atac_entries, "parts": [set.train.len(), set.val.len(), set.test.len()],
        },
        "training": {
            "path": run_dir, "config": config, "epochs": outcome.epochs, "steps": outcome.steps,
            "best": outcome.best, "last": outcome.last,
        },
        "evaluation": evaluation,
        "discovery": discovery,
        "report": report_file,
        "seconds": seconds.iter().map(|&(n, s)| (n.to_string(), json!(s))).collect::<serde_json::Map<_, _>>(),
        "seconds_total": total,
    });
    write_text(&place("demo.json"), &format!("{json:#}\n"))?;

    let per_cell = |n: u64| n as f64 / report.cells.max(1) as f64;
    let mut out = format!(
        "\ndata: {} cells, {} genes ({:.0} a cell), {} peaks ({:.0} a cell), {} planted links\n\n{}",
        report.cells,
        report.genes,
        per_cell(report.rna_entries),
        report.peaks,
        per_cell(report.atac_entries),
        made.links,
        evaluation.table(),
    );
    if let Some(r) = &discovery.recovery {
        out += &format!("\n{}", recovery_table(r));
    }
    let mut rows = vec![["stage", "seconds"].map(String::from).to_vec()];
    rows.extend(seconds.iter().map(|(n, s)| vec![n.to_string(), format!("{s:.1}")]));
    rows.push(vec!["all".into(), format!("{total:.1}")]);
    out += &format!("\n{}\nlook at\n", aligned(&rows));
    let mut rows: Vec<(PathBuf, &str)> = vec![
        (found_dir.join(&discovery.all.file), "gene–peak links, by summed attention"),
        (found_dir.join("links"), "the same for each cell type"),
        (found_dir.join(&discovery.attention), "attention of every cell"),
        (made.truth.clone(), "the planted links"),
        (run_dir.join("log.csv"), "training, epoch by epoch"),
        (place("demo.json"), "all of these figures"),
    ];
    if let Some(e) = &discovery.evidence {
        rows.insert(0, (found_dir.join(&e.file), "pairs near a gene, by the probability of a link"));
    }
    rows.insert(0, (report_file, "all of it on one page, for a browser"));
    rows.retain(|r| r.0.exists());
    let width = rows.iter().map(|r| r.0.display().to_string().chars().count()).max().unwrap_or(0);
    for (path, what) in rows {
        out += &format!("  {:<width$}  {what}\n", path.display().to_string());
    }
    out += &format!(
        "and go on with\n  sccrossrec evaluate --run {run} --part val\n  sccrossrec discover --run {run} --cell-types \
         type1 --out OUT\n",
        run = run_dir.display()
    );
    ctx.result(&out, &json);
    Ok(())
}
