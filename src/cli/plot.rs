//! `plot`: one picture, as PNG or SVG.

use std::path::{Path, PathBuf};

use super::context::{Context, DeviceArg, Which};
use super::picture::Out;
use super::plot_region::{DotplotArgs, RegionArgs};
use crate::discover::evidence::Selection;
use crate::discover::tf::{TfFile, TfTrack};
use crate::discover::{DiscoveryFolder, Source};
use crate::engine::Runner;
use crate::error::{Error, Result};
use crate::near::hint;
use crate::picture::{Arc, Arcs, Heat, Order, Scene, Track, arcs, curves, embedding, heat_map, smooth, tracks};
use crate::predict::joint_embedding;
use crate::report::pca;
use crate::train::Run;
use crate::train::log::log;

/// Flags of `plot`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

/// The pictures.
#[derive(Debug, clap::Subcommand)]
enum What {
    /// Loss, matching accuracy and translation error of a run, by epoch
    Curves(Curves),
    /// Cells by the first two principal components of their joint embedding
    Embedding(Embedding),
    /// Cells by UMAP of their joint embedding, coloured by type, a column, or a gene
    Umap(super::plot_umap::Args),
    /// The attention of one cell: genes × peaks
    Heatmap(Heatmap),
    /// The links of one gene, as arcs along its chromosome
    Arcs(ArcsArgs),
    /// Links expected along the genome, raw and smoothed, beside transcription factors
    Tracks(TracksArgs),
    /// A gene or region as a genome browser shows it: coverage by cell type, peaks, genes, links
    Region(RegionArgs),
    /// Genes by cell type: the share of cells that have each, and its mean expression
    Dotplot(DotplotArgs),
}

#[derive(Debug, clap::Args)]
struct Curves {
    /// The run: the --out folder of `train`
    #[arg(long, value_name = "RUN")]
    run: PathBuf,
    #[command(flatten)]
    out: Out,
}

#[derive(Debug, clap::Args)]
struct Embedding {
    /// The run: the --out folder of `train`
    #[arg(long, value_name = "RUN")]
    run: PathBuf,
    /// Other data than the run was trained on
    #[arg(long, value_name = "DATA")]
    data: Option<PathBuf>,
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    out: Out,
    #[command(flatten)]
    device: DeviceArg,
}

#[derive(Debug, clap::Args)]
struct Heatmap {
    /// The discovery: the --out folder of `discover`
    #[arg(long, value_name = "OUT")]
    discovery: PathBuf,
    /// The cell
    #[arg(long, value_name = "BARCODE")]
    cell: String,
    /// Only this chromosome
    #[arg(long, value_name = "NAME")]
    chrom: Option<String>,
    #[command(flatten)]
    out: Out,
}

#[derive(Debug, clap::Args)]
struct ArcsArgs {
    /// The discovery: the --out folder of `discover`
    #[arg(long, value_name = "OUT")]
    discovery: PathBuf,
    /// The gene
    #[arg(long, value_name = "NAME")]
    gene: String,
    /// Links of this cell type [default: of all cells]
    #[arg(long, value_name = "T")]
    cell_type: Option<String>,
    /// Attention of the model in place of links
    #[arg(long)]
    attention: bool,
    /// Largest false discovery rate (q) of the links to draw [default: that of the discovery]
    #[arg(long, value_name = "Q", value_parser = super::discover::share, conflicts_with = "attention")]
    max_q: Option<f64>,
    /// Least probability of the links to draw [default: that of the discovery]
    #[arg(long, value_name = "P", value_parser = super::discover::share, conflicts_with = "attention")]
    min_probability: Option<f64>,
    /// Links to draw, the best first
    #[arg(long, value_name = "N", default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..))]
    top: u32,
    /// Bases either side of the TSS to show [default: as many as the links need]
    #[arg(long, value_name = "BASES", value_parser = clap::value_parser!(u32).range(1..))]
    around: Option<u32>,
    #[command(flatten)]
    out: Out,
}

#[derive(Debug, clap::Args)]
struct TracksArgs {
    /// The discovery: the --out folder of `discover`
    #[arg(long, value_name = "OUT")]
    discovery: PathBuf,
    /// Links of this cell type [default: of all cells]
    #[arg(long, value_name = "T")]
    cell_type: Option<String>,
    /// Attention of the model in place of the links expected
    #[arg(long)]
    attention: bool,
    /// Where a transcription factor binds: narrowPeak or BED, and the column of its score
    #[arg(long, value_name = "F.bed[:COLUMN]")]
    tf: Vec<TfFile>,
    /// Only this chromosome
    #[arg(long, value_name = "NAME")]
    chrom: Option<String>,
    #[command(flatten)]
    out: Out,
}

/// Draws and writes.
pub fn run(args: &Args, ctx: &Context) -> Result<()> {
    let (scene, out) = match &args.what {
        What::Curves(a) => (a.scene(&a.out)?, &a.out),
        What::Embedding(a) => (a.scene(&a.out, ctx)?, &a.out),
        What::Umap(a) => (super::plot_umap::scene(a, ctx)?, &a.out),
        What::Heatmap(a) => (a.scene(&a.out)?, &a.out),
        What::Arcs(a) => (a.scene(&a.out)?, &a.out),
        What::Tracks(a) => (a.scene(&a.out)?, &a.out),
        What::Region(a) => (a.scene(ctx)?, &a.out),
        What::Dotplot(a) => (a.scene(ctx)?, &a.out),
    };
    out.write(&scene, ctx)
}

fn title_of(dir: &Path) -> String {
    let dir = std::fs::canonicalize(dir).unwrap_or_else(|_| dir.to_path_buf());
    dir.file_name().map_or_else(|| dir.display().to_string(), |n| n.to_string_lossy().into_owned())
}

impl Curves {
    fn scene(&self, out: &Out) -> Result<Scene> {
        out.check()?;
        let run = Run::open(&self.run)?;
        Ok(curves(&log(&run)?, &format!("Training of {}", title_of(&self.run))))
    }
}

impl Embedding {
    fn scene(&self, out: &Out, ctx: &Context) -> Result<Scene> {
        out.check()?;
        let device = self.device.choose()?;
        let run = self.which.open(&self.run)?;
        let data = super::evaluate::open_data(&run, self.data.as_ref(), ctx)?;
        let model = run.model(&data, self.which.checkpoint)?;
        let (z, width) = joint_embedding(&run, Runner::new(&model, &device)?, &data, &ctx.follow())?;
        let p = pca(&z, width);
        let axes =
            [0, 1].map(|i| format!("principal component {} ({:.1} % of the variance)", i + 1, 100.0 * p.share[i]));
        let v = data.vocabulary();
        let title = format!("Joint embedding of {}", title_of(&self.run));
        Ok(embedding(&p.points, &v.cell_type, &v.cell_types, [&axes[0], &axes[1]], &title))
    }
}

/// A chromosome of the discovery by its name, written with or without `chr`.
fn chromosome(found: &DiscoveryFolder, name: &str) -> Result<u32> {
    let names = &found.vocabulary.chromosomes;
    let bare = |n: &str| n.strip_prefix("chr").unwrap_or(n).to_string();
    let at = names.iter().position(|n| n == name).or_else(|| names.iter().position(|n| bare(n) == bare(name)));
    at.map(|i| i as u32).ok_or_else(|| {
        let hint = hint(name, names.iter().map(String::as_str));
        Error::usage(format!("--chrom {name}: there is no such chromosome in {}; {hint}", found.dir.display()))
    })
}

impl Heatmap {
    fn scene(&self, out: &Out) -> Result<Scene> {
        out.check()?;
        let found = DiscoveryFolder::open(&self.discovery)?;
        let only = self.chrom.as_deref().map(|c| chromosome(&found, c)).transpose()?;
        let mut pairs = found.cell(&self.cell)?;
        let v = &found.vocabulary;
        pairs.retain(|p| only.is_none_or(|c| v.genes[p.gene as usize].chrom == c));
        let distinct = |of: fn(&crate::discover::Pair) -> u32| {
            let mut all: Vec<u32> = pairs.iter().map(of).collect();
            all.sort_unstable();
            all.dedup();
            all.into_iter()
        };
        let title = match only {
            None => format!("Attention in cell {}", self.cell),
            Some(c) => format!("Attention in cell {}, {}", self.cell, v.chromosomes[c as usize]),
        };
        Ok(heat_map(&Heat {
            genes: Order::new(&v.chromosomes, &found.gene_places(), distinct(|p| p.gene)),
            peaks: Order::new(&v.chromosomes, &found.peak_places(), distinct(|p| p.peak)),
            pairs: pairs.iter().map(|p| (p.gene, p.peak, f64::from(p.weight))).collect(),
            title,
            gene_names: v.genes.iter().map(|g| g.name.clone()).collect(),
            peak_names: match only {
                Some(_) => found.peak_places().iter().map(|p| format!("{:.2} Mb", p.base as f64 / 1e6)).collect(),
                None => Vec::new(),
            },
        }))
    }
}

/// Links, or attention where that is asked for.
fn source(attention: bool) -> Source {
    if attention { Source::Attention } else { Source::Links }
}

impl ArcsArgs {
    /// Which links to draw.
    fn selection(&self, found: &DiscoveryFolder) -> Selection {
        let usual = found.made.links.selection;
        // A bound that is asked for stands alone.
        let q = if self.min_probability.is_some() { 1.0 } else { usual.max_q };
        Selection {
            max_q: self.max_q.unwrap_or(q),
            min_probability: self.min_probability.unwrap_or(usual.min_probability),
        }
    }

    fn scene(&self, out: &Out) -> Result<Scene> {
        out.check()?;
        let found = DiscoveryFolder::open(&self.discovery)?;
        let source = source(self.attention);
        let all = found.links(source, found.map(source, self.cell_type.as_deref())?)?;
        let (score, counts) = match source {
            Source::Attention => ("attention summed over cells", None),
            Source::Links => ("probability of a link", Some(self.selection(&found))),
        };
        let gene = found.gene(&self.gene)?;
        let v = &found.vocabulary;
        let g = &v.genes[gene as usize];
        let tss = g.tss.ok_or_else(|| {
            Error::input(
                found.dir.join("genes.tsv"),
                format!("has no TSS of {}", self.gene),
                "prepare the data with --gtf and discover again",
            )
        })?;
        let links: Vec<Arc> = all
            .iter()
            .filter(|l| l.gene == gene && counts.is_none_or(|c| self.cell_type.is_some() || c.holds(l.qvalue, l.score)))
            .map(|l| {
                let p = &v.peaks[l.peak as usize];
                Arc { start: p.start, end: p.end, score: l.score, cells: u64::from(l.cells) }
            })
            .collect();
        let inside = |l: &&Arc| {
            l.start >= 0 && self.around.is_none_or(|w| ((l.start + l.end) / 2).abs_diff(tss) <= u64::from(w))
        };
        Ok(arcs(&Arcs {
            gene: self.gene.clone(),
            chrom: v.chromosomes.get(g.chrom as usize).cloned().unwrap_or_default(),
            tss,
            of: links.len(),
            links: links.iter().filter(inside).take(self.top as usize).copied().collect(),
            cell_type: self.cell_type.clone().unwrap_or_else(|| "all cells".into()),
            score: score.into(),
            most: (source == Source::Links).then_some(1.0),
            around: self.around.map(i64::from),
        }))
    }
}

impl TracksArgs {
    fn scene(&self, out: &Out) -> Result<Scene> {
        out.check()?;
        let found = DiscoveryFolder::open(&self.discovery)?;
        let source = source(self.attention);
        let map = found.map(source, self.cell_type.as_deref())?;
        let v = &found.vocabulary;
        let chrom = self.chrom.as_deref().map(|c| chromosome(&found, c)).transpose()?;
        let places = found.peak_places();
        let order = Order::new(&v.chromosomes, &places, 0..v.peaks.len() as u32);
        let bases: Vec<f64> = places.iter().map(|p| p.base as f64).collect();
        let whose = self.cell_type.as_deref().unwrap_or("all cells");
        let mut shown = vec![Track {
            name: format!("{}, {whose}", if self.attention { "attention" } else { "links expected" }),
            unit: "sum".into(),
            values: found.peak_track(source, map)?,
        }];
        let factors = TfTrack::read_all(&self.tf, v)?;
        shown.extend(factors.into_iter().map(|t| Track { name: t.name, unit: "score".into(), values: t.scores }));
        let title = format!("Tracks of {}", title_of(&self.discovery));
        let chrom = chrom.map(|c| v.chromosomes[c as usize].as_str());
        Ok(tracks(&order, &bases, chrom, &shown, smooth(v.peaks.len()), &title))
    }
}
