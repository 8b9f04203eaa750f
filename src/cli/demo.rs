//! `demo`: everything on simulated data: simulate → prepare → train → evaluate → discover → report, and a
//! closing table.

use std::path::PathBuf;
use std::time::Instant;

use serde_json::{Map, Value, json};

use super::console::Console;
use super::context::{Context, DeviceArg, output_dir};
use super::discover::recovery_table;
use super::evaluate::of_towers;
use crate::dataset::{DataSet, SampleSet, SplitBy};
use crate::discover::record::Discovery;
use crate::discover::{DiscoverOptions, DiscoveryFolder, discover};
use crate::engine;
use crate::engine::Runner;
use crate::error::{Error, Result};
use crate::evaluate::{Evaluation, Part, Points, UmapOptions, evaluate, umap};
use crate::files::atomic::write_text;
use crate::model::Model;
use crate::predict::joint_embedding;
use crate::prepare::{PrepareConfig, PrepareReport, prepare};
use crate::report::{Page, page};
use crate::simulate::{SimulateConfig, Simulated, Simulation};
use crate::table::aligned;
use crate::train::{Checkpoint, Outcome, Run, TrainConfig, log, recipe, train_on};

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
    /// Passes over the training pairs
    #[arg(long, value_name = "N", default_value_t = EPOCHS)]
    epochs: u32,
    /// How to train; see `recipes`
    #[arg(long, value_name = "NAME", default_value = "default")]
    recipe: String,
    /// Replace what an earlier demo left in --out
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    device: DeviceArg,
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

/// What the stages made.
struct Made {
    simulation: Simulation,
    files: Simulated,
    report: PrepareReport,
    set: SampleSet,
    config: TrainConfig,
    outcome: Outcome,
    evaluation: Evaluation,
    discovery: Discovery,
    /// Stages in their order, and the seconds each took.
    seconds: Vec<(&'static str, f64)>,
}

/// Where each stage writes.
struct DemoPlaces {
    simulated: PathBuf,
    data: PathBuf,
    run: PathBuf,
    found: PathBuf,
    page: PathBuf,
    json: PathBuf,
}

impl DemoPlaces {
    fn of(args: &Args) -> Self {
        let place = |name: &str| args.out.join(name);
        DemoPlaces {
            simulated: place("simulated"),
            data: place("data"),
            run: place("run"),
            found: place("discover"),
            page: place("report.html"),
            json: place("demo.json"),
        }
    }
}

fn stages(args: &Args, ctx: &Context) -> Result<()> {
    let device = args.device.choose()?;
    let mut config = recipe(&args.recipe)?;
    config.epochs = args.epochs;
    config.seed = ctx.seed;
    config.validate()?;
    let simulation = simulation(args, ctx)?;
    let _made = output_dir(&args.out, args.force)?;
    let places = DemoPlaces::of(args);
    let _stages = [&places.simulated, &places.run, &places.found]
        .map(|dir| output_dir(dir, args.force))
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    let mut seconds = Vec::new();
    let mut clock = Instant::now();
    let mut lap = |name: &'static str| {
        seconds.push((name, clock.elapsed().as_secs_f64()));
        clock = Instant::now();
    };

    ctx.say(&format!("simulate: {} cells, {} genes, {} peaks", args.cells, args.genes, args.peaks));
    let files = simulated(&simulation, &places, ctx)?;
    lap("simulate");

    ctx.say("prepare: interaction graphs, positives and easy negatives");
    let report = prepared(args, &config, &files, &places, ctx)?;
    lap("prepare");

    ctx.say(&format!("train: recipe {}, {} epochs", config.recipe, config.epochs));
    let data = ctx.open_data(&places.data)?;
    let set = data.samples(&config.samples)?;
    let mut console = Console::new(ctx);
    let outcome = train_on(&device, &data, &set, &config, &places.run, &mut console);
    console.close();
    let outcome = outcome?;
    lap("train");

    ctx.say("evaluate: test pairs, best epoch by validation");
    let model = Run::open(&places.run)?.model(&data, Checkpoint::Best)?;
    let runner = Runner::new(&model, &device)?;
    let mut evaluation = evaluate(runner, &data, &set, Part::Test, config.eval_batch_size, &ctx.follow())?;
    evaluation.towers = of_towers(&Run::open(&places.run)?, &data, &set, Part::Test, true, ctx)?;
    lap("evaluate");

    ctx.say("discover: attention of every cell, links, and how many planted ones are found");
    let options = DiscoverOptions { truth: Some(files.truth.clone()), seed: ctx.seed, ..DiscoverOptions::default() };
    let discovery = discover(Runner::new(&model, &device)?, &data, &options, &places.found, &ctx.follow())?;
    lap("discover");

    ctx.say("report: one page of it all");
    report_page(&places, (&model, &device), (&data, &set), &evaluation, ctx)?;
    lap("report");

    let made = Made { simulation, files, report, set, config, outcome, evaluation, discovery, seconds };
    let json = made.json(args, &places);
    write_text(&places.json, &format!("{json:#}\n"))?;
    ctx.result(&made.text(&places), &json);
    Ok(())
}

fn simulation(args: &Args, ctx: &Context) -> Result<Simulation> {
    Simulation::new(SimulateConfig {
        cells: args.cells,
        genes: args.genes,
        peaks: args.peaks,
        chromosomes: args.chromosomes,
        cell_types: args.cell_types,
        seed: ctx.seed,
        ..SimulateConfig::default()
    })
}

fn simulated(simulation: &Simulation, places: &DemoPlaces, ctx: &Context) -> Result<Simulated> {
    simulation.write(&places.simulated, &ctx.follow())
}

fn prepared(
    args: &Args,
    config: &TrainConfig,
    files: &Simulated,
    places: &DemoPlaces,
    ctx: &Context,
) -> Result<PrepareReport> {
    let mut prepared = PrepareConfig::new(&files.rna, &files.atac);
    prepared.force = args.force;
    prepared.samples.seed = ctx.seed;
    if config.split.as_deref() == Some("sample") {
        prepared.samples.split = SplitBy::Sample;
    }
    prepare(&prepared, &places.data, &ctx.follow())
}

/// Writes the page of the report.
fn report_page(
    places: &DemoPlaces,
    (model, device): (&Model<f32>, &engine::Device),
    (data, set): (&DataSet, &SampleSet),
    evaluation: &Evaluation,
    ctx: &Context,
) -> Result<()> {
    let run = Run::open(&places.run)?;
    let follow = ctx.follow();
    let (z, width) = joint_embedding(&run, Runner::new(model, device)?, data, &follow)?;
    let shown = Page {
        title: "Demo".into(),
        run: Ok((&run, log::log(&run)?)),
        data: Ok((data, Some(set.clone()))),
        evaluation: Ok(evaluation.clone()),
        embedding: Ok(umap(
            Points { rows: &z, width },
            &UmapOptions { seed: ctx.seed, ..UmapOptions::default() },
            &follow,
        )?),
        told: super::report::of_genes(&run, data, set, ctx)?,
        genome: None,
        found: Ok(&DiscoveryFolder::open(&places.found)?),
        links: 1000,
    };
    let (html, _) = page(&shown, &follow)?;
    write_text(&places.page, &html)
}

impl Made {
    fn total(&self) -> f64 {
        self.seconds.iter().map(|s| s.1).sum()
    }

    /// What `demo.json` holds.
    fn json(&self, args: &Args, places: &DemoPlaces) -> Value {
        let Made { report, set, outcome, .. } = self;
        json!({
            "out": args.out,
            "simulated": self.files,
            "simulation": self.simulation.config(),
            "data": {
                "path": places.data, "cells": report.cells, "genes": report.genes, "peaks": report.peaks,
                "chromosomes": report.chromosomes, "rna_entries": report.rna_entries,
                "atac_entries": report.atac_entries, "parts": [set.train.len(), set.val.len(), set.test.len()],
            },
            "training": {
                "path": places.run, "config": self.config, "epochs": outcome.epochs, "steps": outcome.steps,
                "best": outcome.best, "last": outcome.last,
            },
            "evaluation": self.evaluation,
            "discovery": self.discovery,
            "report": places.page,
            "seconds": self.seconds.iter().map(|&(n, s)| (n.to_string(), json!(s))).collect::<Map<_, _>>(),
            "seconds_total": self.total(),
        })
    }

    /// The closing tables, and where to look.
    fn text(&self, places: &DemoPlaces) -> String {
        let (report, discovery) = (&self.report, &self.discovery);
        let per_cell = |n: u64| n as f64 / report.cells.max(1) as f64;
        let mut out = format!(
            "\ndata: {} cells, {} genes ({:.0} a cell), {} peaks ({:.0} a cell), {} planted links\n\n{}",
            report.cells,
            report.genes,
            per_cell(report.rna_entries),
            report.peaks,
            per_cell(report.atac_entries),
            self.files.links,
            self.evaluation.table(),
        );
        if let Some(r) = &discovery.recovery {
            out += &format!("\n{}", recovery_table(r));
        }
        let mut rows = vec![["stage", "seconds"].map(String::from).to_vec()];
        rows.extend(self.seconds.iter().map(|(n, s)| vec![n.to_string(), format!("{s:.1}")]));
        rows.push(vec!["all".into(), format!("{:.1}", self.total())]);
        out += &format!("\n{}\nlook at\n", aligned(&rows));
        let mut rows: Vec<(PathBuf, &str)> = vec![
            (places.found.join(&discovery.links.file), "pairs of a gene and a peak, by the probability of a link"),
            (places.found.join("links"), "in which cell types a link is active"),
            (places.found.join("attention.h5"), "attention of every cell"),
            (self.files.truth.clone(), "the planted links"),
            (places.run.join("log.csv"), "training, epoch by epoch"),
            (places.json.clone(), "all of these figures"),
        ];
        rows.insert(0, (places.page.clone(), "all of it on one page, for a browser"));
        rows.retain(|r| r.0.exists());
        let width = rows.iter().map(|r| r.0.display().to_string().chars().count()).max().unwrap_or(0);
        for (path, what) in rows {
            out += &format!("  {:<width$}  {what}\n", path.display().to_string());
        }
        out += &format!(
            "and go on with\n  sccrossrec evaluate --run {run} --part val\n  sccrossrec discover --run {run} --cell-types \
             type1 --out OUT\n",
            run = crate::error::quoted(&places.run)
        );
        out
    }
}
