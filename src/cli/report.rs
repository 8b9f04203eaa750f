//! `report`: a run and a discovery as one page that works without network.

use std::path::{Path, PathBuf};

use super::context::{Context, DeviceArg, Which, output_file};
use crate::dataset::{DataSet, SampleSet};
use crate::discover::DiscoveryFolder;
use crate::engine::Runner;
use crate::error::{Error, Result, quoted};
use crate::evaluate::{Evaluation, GeneTold, Part, Points, UmapOptions, evaluate, genes_told, umap};
use crate::files::atomic::write_text;
use crate::model::Model;
use crate::predict::joint_embedding;
use crate::progress::Progress;
use crate::report::{Page, Shown, page};
use crate::train::Run;
use crate::train::log::log;

/// Flags of `report`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The --out folder of `train` or of `discover`
    #[arg(value_name = "RUN|OUT")]
    of: PathBuf,
    /// A discovery of the run: the --out folder of `discover`
    #[arg(long, value_name = "OUT")]
    discovery: Option<PathBuf>,
    /// The run of the discovery, where it is not where it was
    #[arg(long, value_name = "RUN")]
    run: Option<PathBuf>,
    /// The data set, where it is not where it was, or another one
    #[arg(long, value_name = "DATA")]
    data: Option<PathBuf>,
    #[command(flatten)]
    which: Which,
    /// Compute no metrics
    #[arg(long)]
    no_evaluate: bool,
    /// Compute no embedding
    #[arg(long)]
    no_embedding: bool,
    /// The assembly of the places, as UCSC names it, for links to its browser [default: by file and gene names]
    #[arg(long, value_name = "hg38|mm10|…", value_parser = assembly)]
    genome: Option<String>,
    /// Links of each cell type on the page, the best first
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=200_000))]
    links: u32,
    /// The page
    #[arg(long, value_name = "F.html")]
    out: PathBuf,
    /// Replace --out if it exists
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    device: DeviceArg,
}

/// A name that can be part of an address.
fn assembly(name: &str) -> std::result::Result<String, String> {
    let plain =
        !name.is_empty() && name.len() <= 40 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    if plain { Ok(name.into()) } else { Err("give an assembly as UCSC names it, such as hg38 or mm10".into()) }
}

/// The run and the discovery that were named; the run may be missing, and why.
fn sources(args: &Args) -> Result<(Shown<Run>, Option<DiscoveryFolder>)> {
    let is_run = args.of.join("run.json").exists();
    let is_found = args.of.join("discover.json").exists();
    match (is_run, is_found) {
        (true, _) => {
            if args.run.is_some() {
                return Err(Error::usage(format!(
                    "--run: {} is a run itself; leave it out, or give the discovery first",
                    args.of.display()
                )));
            }
            Ok((Ok(Run::open(&args.of)?), args.discovery.as_deref().map(DiscoveryFolder::open).transpose()?))
        }
        (false, true) => {
            if args.discovery.is_some() {
                return Err(Error::usage(format!(
                    "--discovery: {} is a discovery itself; leave it out",
                    args.of.display()
                )));
            }
            let found = DiscoveryFolder::open(&args.of)?;
            let run = match (&args.run, &found.run) {
                (Some(run), _) => Ok(Run::open(run)?),
                (None, Some(run)) if run.join("run.json").exists() => Run::open(run).map_err(|e| e.to_string()),
                (None, Some(run)) => Err(format!("The run {} is not there; --run gives its place.", run.display())),
                (None, None) => Err("The discovery does not say of which run it is; --run gives it.".into()),
            };
            Ok((run, Some(found)))
        }
        (false, false) => Err(Error::input(
            &args.of,
            "is neither a run nor a discovery: there is no run.json and no discover.json in it",
            "give the --out folder of `train` or of `discover`",
        )),
    }
}

/// The run's data set; a place that was given must hold one.
fn data_of(args: &Args, run: &Shown<Run>, found: Option<&DiscoveryFolder>, ctx: &Context) -> Result<Shown<DataSet>> {
    // Of links alone the data that they are of, where these are still there.
    let links_of = found.and_then(|f| f.data.as_ref()).filter(|_| run.is_err() && args.data.is_none());
    if let Some(data) = links_of.and_then(|dir| ctx.open_data(dir).ok())
        && found.is_some_and(|f| f.data_hash.as_deref() == Some(data.hash()))
    {
        return Ok(Ok(data));
    }
    match (run, &args.data) {
        (Ok(run), Some(dir)) => Ok(Ok(super::evaluate::open_data(run, Some(dir), ctx)?)),
        (Ok(run), None) => Ok(run.open_data(None, ctx.access).map_err(|e| format!("Without the data set: {e}."))),
        (Err(_), Some(dir)) => Ok(Ok(ctx.open_data(dir)?)),
        (Err(why), None) => Ok(Err(why.clone())),
    }
}

/// Refuses a discovery that was made from another run, or from other data.
fn check_discovery(found: &DiscoveryFolder, run: &Shown<Run>, data: &Shown<DataSet>) -> Result<()> {
    if let (Ok(run), Some(own)) = (run, &found.run) {
        // A run that was moved is the same run: its record is.
        let record = |dir: &Path| std::fs::read(dir.join("run.json")).ok();
        let (theirs, ours) = (record(own), record(run.dir()));
        if theirs.is_some() && theirs != ours {
            return Err(Error::input(
                &found.dir,
                format!("is a discovery of the run {}, not of {}", own.display(), run.dir().display()),
                "give a discovery of this run, or the run of this discovery",
            ));
        }
    }
    match (data, run) {
        (Ok(data), _) => found.check_data(data.hash(), data.vocabulary()),
        (Err(_), Ok(run)) => {
            let (genes, peaks) = (found.vocabulary.genes.len(), found.vocabulary.peaks.len());
            if (genes, peaks) == (run.sizes.genes, run.sizes.peaks) {
                return Ok(());
            }
            Err(Error::input(
                &found.dir,
                format!(
                    "is a discovery of {genes} genes and {peaks} peaks, and the run of {} and {}",
                    run.sizes.genes, run.sizes.peaks
                ),
                "give a discovery of this run",
            ))
        }
        (Err(_), Err(_)) => Ok(()),
    }
}

struct Computed {
    evaluation: Shown<Evaluation>,
    embedding: Shown<Vec<[f32; 2]>>,
    told: Shown<Vec<GeneTold>>,
}

/// What the model says of the data.
fn compute(
    args: &Args,
    ctx: &Context,
    (run, model): (&Run, &Model<f32>),
    data: &DataSet,
    set: Option<&SampleSet>,
) -> Result<Computed> {
    let device = args.device.choose()?;
    let evaluation = match set {
        _ if args.no_evaluate => Err("Not computed (--no-evaluate).".to_string()),
        None => Err("The data set does not hold the pairs that the run was trained on.".into()),
        Some(set) if set.test.is_empty() => Err("The pairs have no test part.".into()),
        Some(set) => {
            let mut found = evaluate(Runner::new(model, &device)?, data, set, Part::Test, 128, &ctx.follow())?;
            found.towers = super::evaluate::of_towers(run, data, set, Part::Test, true, ctx)?;
            Ok(found)
        }
    };
    let embedding = if args.no_embedding {
        Err("Not computed (--no-embedding).".to_string())
    } else {
        let (z, width) = joint_embedding(run, Runner::new(model, &device)?, data, &ctx.follow())?;
        let how = UmapOptions { seed: ctx.seed, ..UmapOptions::default() };
        Ok(umap(Points { rows: &z, width }, &how, &ctx.follow())?)
    };
    let told = match (&evaluation, set) {
        (Ok(_), Some(set)) => of_genes(run, data, set, ctx)?,
        (Err(why), _) => Err(why.clone()),
        (Ok(_), None) => Ok(Vec::new()),
    };
    Ok(Computed { evaluation, embedding, told })
}

/// How well each gene is told by the run's towers.
pub(super) fn of_genes(run: &Run, data: &DataSet, set: &SampleSet, ctx: &Context) -> Result<Shown<Vec<GeneTold>>> {
    Ok(match run.towers(data)? {
        Some(towers) => Ok(genes_told(&towers, data, set, Part::Test, &ctx.follow())?),
        None => Err("The run has no towers, which tell expression.".into()),
    })
}

/// The last name of a folder.
pub(super) fn name_of(dir: &Path) -> String {
    let dir = std::fs::canonicalize(dir).unwrap_or_else(|_| dir.to_path_buf());
    dir.file_name().map_or_else(|| dir.display().to_string(), |n| n.to_string_lossy().into_owned())
}

/// Makes the page.
pub fn run(args: &Args, ctx: &Context) -> Result<()> {
    output_file(&args.out, args.force)?;
    let (mut run, found) = sources(args)?;
    if let Ok(run) = &mut run {
        run.allow_missing = args.which.allow_missing;
    }
    let data = data_of(args, &run, found.as_ref(), ctx)?;
    if let Some(found) = &found {
        check_discovery(found, &run, &data)?;
    }
    let set = match (&run, &data) {
        (Ok(run), Ok(data)) => data.samples(&run.config.samples).ok(),
        _ => None,
    };
    let computed = match (&run, &data) {
        (Ok(run), Ok(data)) => {
            let both = data.need_both("a report").map_err(|e| e.to_string());
            let model = match both {
                Err(e) => Err(e),
                // A run that has no checkpoint yet still has a report; data that do not fit are the user's to mend.
                Ok(()) if !run.checkpoint_path(args.which.checkpoint).exists() => {
                    Err(format!("The run has no checkpoint {} yet.", args.which.checkpoint.file_name()))
                }
                Ok(()) => Ok(run.model(data, args.which.checkpoint)?),
            };
            match model {
                Ok(model) => compute(args, ctx, (run, &model), data, set.as_ref())?,
                Err(why) => Computed { evaluation: Err(why.clone()), embedding: Err(why.clone()), told: Err(why) },
            }
        }
        (Err(why), _) | (_, Err(why)) => {
            let [evaluation, embedding, told] = [(); 3].map(|()| why.clone());
            Computed { evaluation: Err(evaluation), embedding: Err(embedding), told: Err(told) }
        }
    };
    let log = match &run {
        Ok(run) => log(run)?,
        Err(_) => Vec::new(),
    };
    let how = format!(
        "sccrossrec discover --run {run} --out links\nsccrossrec report {run} --discovery links --out F.html",
        run = quoted(&args.of)
    );
    let shown = Page {
        title: format!("Report on {}", name_of(&args.of)),
        run: run.as_ref().map(|r| (r, log)).map_err(String::clone),
        data: data.as_ref().map(|d| (d, set)).map_err(String::clone),
        evaluation: computed.evaluation,
        embedding: computed.embedding,
        told: computed.told,
        genome: args.genome.clone(),
        found: found.as_ref().ok_or(how),
        links: args.links as usize,
    };
    let follow = ctx.follow();
    follow.begin("draw page");
    let (html, extent) = page(&shown, &follow)?;
    write_text(&args.out, &html)?;
    drop(follow);
    let size = format!("{:.1} MB", extent.bytes as f64 / 1e6);
    ctx.result(
        &format!(
            "{}: {size}, {} pairs of a gene and a peak, {} cells in the plane",
            args.out.display(),
            extent.links,
            extent.cells
        ),
        &serde_json::json!({ "out": args.out, "bytes": extent.bytes, "links": extent.links, "cells": extent.cells }),
    );
    ctx.next("", &format!("open {} in a browser", quoted(&args.out)));
    Ok(())
}
