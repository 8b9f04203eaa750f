//! `plot umap`: cells in the plane.

use std::path::PathBuf;

use super::context::{Context, DeviceArg, Which};
use super::picture::Out;
use super::report::name_of;
use crate::dataset::{Cell, DataSet};
use crate::engine::Runner;
use crate::error::{Error, Result};
use crate::evaluate::{LogExpression, Points, UmapOptions, umap};
use crate::near::hint;
use crate::picture::{Colours, Scene, thousands, umap_plot};
use crate::predict::joint_embedding;
use crate::vocabulary::REPLICATE_COLUMNS;

/// Flags of `plot umap`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The run: the --out folder of `train`
    #[arg(long, value_name = "RUN")]
    run: PathBuf,
    /// What colours the cells: type, batch, another column of cells, or a gene [default: type]
    #[arg(long, value_name = "type|batch|COLUMN|GENE", alias = "color")]
    colour: Option<String>,
    /// Neighbours that a cell is held by, itself among them
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = clap::value_parser!(u16).range(2..=500))]
    neighbours: u16,
    /// Distance in the plane of cells that count as together: smaller packs groups more densely
    #[arg(long, value_name = "D", default_value_t = 0.3, value_parser = least)]
    min_dist: f64,
    /// Other data than the run was trained on
    #[arg(long, value_name = "DATA")]
    data: Option<PathBuf>,
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    pub(super) out: Out,
    #[command(flatten)]
    device: DeviceArg,
}

fn least(text: &str) -> std::result::Result<f64, String> {
    text.parse().ok().filter(|x| (0.0..=2.0).contains(x)).ok_or_else(|| "give a number from 0 to 2".into())
}

/// Levels of a gene.
fn of_gene(data: &DataSet, gene: usize) -> Result<Colours> {
    let cells: Vec<u32> = (0..data.n_cells() as u32).collect();
    let log = LogExpression::fit(data, &cells)?;
    let (mut cell, mut levels) = (Cell::default(), Vec::new());
    let mut of = |i: usize| {
        data.rna_into(i, &mut cell);
        log.levels(&cell, &mut levels);
        cell.genes.iter().position(|&g| g as usize == gene).map_or(0.0, |k| levels[k])
    };
    let values = (0..data.n_cells()).map(&mut of).collect();
    data.check()?;
    let unit = if log.median().is_some() { "log expression" } else { "expression as stored" };
    Ok(Colours::Numbers(values, unit.into()))
}

/// What a name stands for: types, a column, or a gene; and what it is called below the heading.
fn colours(data: &DataSet, name: Option<&str>) -> Result<(Colours, String)> {
    let v = data.vocabulary();
    let of_types = || (Colours::Kinds(v.cell_type.clone(), v.cell_types.clone()), "cell type".to_string());
    let Some(name) = name else {
        return Ok(if v.cell_types.is_empty() {
            (Colours::Kinds(Vec::new(), Vec::new()), "no types".into())
        } else {
            of_types()
        });
    };
    if ["type", "cell_type"].contains(&name) && !v.cell_types.is_empty() {
        return Ok(of_types());
    }
    let batch = || REPLICATE_COLUMNS.iter().find_map(|n| v.obs.iter().find(|o| o.name.eq_ignore_ascii_case(n)));
    let column = v.obs.iter().find(|o| o.name == name).or_else(|| (name == "batch").then(batch).flatten());
    if let Some(column) = column {
        return Ok((Colours::Kinds(column.codes.clone(), column.categories.clone()), column.name.clone()));
    }
    let gene = v.genes.iter().position(|g| g.name == name);
    let gene = gene.or_else(|| v.genes.iter().position(|g| g.name.eq_ignore_ascii_case(name)));
    match gene {
        Some(_) if data.kinds().0.is_none() => {
            Err(Error::input(data.dir(), "has no RNA to colour by", "colour by type or by a column of cells"))
        }
        Some(g) => Ok((of_gene(data, g)?, v.genes[g].name.clone())),
        None => {
            let names = ["type"].into_iter().chain(v.obs.iter().map(|o| o.name.as_str()));
            let hint = hint(name, names.chain(v.genes.iter().map(|g| g.name.as_str())));
            Err(Error::usage(format!(
                "--colour {name}: no such column of cells or gene in {}; {hint}",
                data.dir().display()
            )))
        }
    }
}

/// The picture.
pub(super) fn scene(args: &Args, ctx: &Context) -> Result<Scene> {
    args.out.check()?;
    let device = args.device.choose()?;
    let run = args.which.open(&args.run)?;
    let data = super::evaluate::open_data(&run, args.data.as_ref(), ctx)?;
    let (colours, by) = colours(&data, args.colour.as_deref())?;
    let model = run.model(&data, args.which.checkpoint)?;
    let (z, width) = joint_embedding(&run, Runner::new(&model, &device)?, &data, &ctx.follow())?;
    let how =
        UmapOptions { neighbours: usize::from(args.neighbours), min_dist: args.min_dist, epochs: None, seed: ctx.seed };
    let places = umap(Points { rows: &z, width }, &how, &ctx.follow())?;
    let below = format!("{} cells by UMAP of their joint embedding, coloured by {by}", thousands(places.len() as u64));
    Ok(umap_plot(&places, &colours, &name_of(&args.run), &below))
}
