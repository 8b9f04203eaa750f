//! `plot region` and `plot dotplot`: pictures of a data set by cell type.

use std::path::PathBuf;

use super::context::Context;
use super::picture::Out;
use crate::error::Result;
use crate::picture::{Scene, dot_plot, region_picture};
use crate::region::{RegionOptions, Regions, dots};

/// Flags of `plot region`.
#[derive(Debug, clap::Args)]
pub(super) struct RegionArgs {
    /// A gene, or a region such as chr2:70500000-70700000
    #[arg(value_name = "GENE|CHR:START-END")]
    what: String,
    /// The data set: the --out folder of `prepare`
    #[arg(long, value_name = "DATA")]
    data: PathBuf,
    /// Links of this discovery: the --out folder of `discover` [default: none are drawn]
    #[arg(long, value_name = "OUT")]
    discovery: Option<PathBuf>,
    /// Gene models of this annotation (GTF or GFF3, plain or gzip) [default: those the data set keeps]
    #[arg(long, value_name = "FILE")]
    gtf: Option<PathBuf>,
    /// Coverage by the cut sites of these fragments (10x fragments.tsv.gz, with its .tbi) [default: by the peaks of the data]
    #[arg(long, value_name = "FILE")]
    fragments: Option<PathBuf>,
    /// Bases either side of the TSS, or beyond the ends of the region [default: the gene, its links and 50000 bases]
    #[arg(long, value_name = "BASES", value_parser = clap::value_parser!(u32).range(1..))]
    around: Option<u32>,
    /// Only cells of these types, in this order
    #[arg(long, value_name = "A,B")]
    cell_types: Vec<String>,
    /// Largest false discovery rate (q) of the links to draw [default: that of the discovery]
    #[arg(long, value_name = "Q", value_parser = super::discover::share, requires = "discovery")]
    max_q: Option<f64>,
    /// Least probability of the links to draw [default: that of the discovery]
    #[arg(long, value_name = "P", value_parser = super::discover::share, requires = "discovery")]
    min_probability: Option<f64>,
    /// Links to draw, the best first
    #[arg(long, value_name = "N", default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..))]
    top: u32,
    #[command(flatten)]
    pub(super) out: Out,
}

/// Flags of `plot dotplot`.
#[derive(Debug, clap::Args)]
pub(super) struct DotplotArgs {
    /// The data set: the --out folder of `prepare`
    #[arg(long, value_name = "DATA")]
    data: PathBuf,
    /// The genes, in this order
    #[arg(long, value_name = "A,B,…", required = true)]
    genes: Vec<String>,
    /// Only cells of these types, in this order
    #[arg(long, value_name = "A,B")]
    cell_types: Vec<String>,
    /// Colours of each gene from its least to its most, not one scale for all
    #[arg(long)]
    scale_genes: bool,
    #[command(flatten)]
    pub(super) out: Out,
}

impl RegionArgs {
    pub(super) fn scene(&self, ctx: &Context) -> Result<Scene> {
        self.out.check()?;
        let data = ctx.open_data(&self.data)?;
        let regions = Regions::open(&data, self.discovery.as_deref(), self.gtf.as_deref(), &ctx.follow())?;
        let mut region = regions.region(
            &self.what,
            &RegionOptions {
                around: self.around.map(i64::from),
                cell_types: self.cell_types.clone(),
                max_q: self.max_q,
                min_probability: self.min_probability,
                top: Some(self.top as usize),
            },
        )?;
        if let Some(fragments) = &self.fragments
            && let Some(once) = regions.cover(&mut region, fragments)?
        {
            ctx.say(&format!("{}: barcodes agree once {once}; taken so", fragments.display()));
        }
        Ok(region_picture(&region))
    }
}

impl DotplotArgs {
    pub(super) fn scene(&self, ctx: &Context) -> Result<Scene> {
        self.out.check()?;
        let data = ctx.open_data(&self.data)?;
        let found = dots(&data, &self.genes, &self.cell_types, &ctx.follow())?;
        Ok(dot_plot(&found, self.scale_genes, "Expression by cell type"))
    }
}
