//! Regions, cut from what is read of a data set once.

use std::path::Path;

use super::fragments;
use super::parts::{Focus, Links, Region, RegionLink, RegionOptions, Row};
use super::place::{Site, of_annotation};
use super::profiles::Profiles;
use crate::data::anndata::MatrixKind;
use crate::data::exons::GeneModel;
use crate::dataset::DataSet;
use crate::discover::evidence::Selection;
use crate::discover::maps::LinkStat;
use crate::discover::{DiscoveryFolder, Source};
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::vocabulary::Vocabulary;

/// All that regions of a data set are cut from.
#[derive(Debug, Clone)]
pub struct Regions {
    vocabulary: Vocabulary,
    profiles: Profiles,
    rna: bool,
    binary: bool,
    models: Option<Vec<GeneModel>>,
    links: Option<(Vec<LinkStat>, Selection)>,
}

impl Regions {
    /// Reads what regions need: every cell of the data once, the gene models of the data set (or of `gtf`, where that is
    /// given), and the links of a discovery of these data.
    ///
    /// # Errors
    /// Data without ATAC; a discovery of other data; files that cannot be read.
    pub fn open(data: &DataSet, discovery: Option<&Path>, gtf: Option<&Path>, progress: &dyn Progress) -> Result<Self> {
        if data.kinds().1.is_none() {
            let what = "has no ATAC, and so no coverage";
            return Err(Error::input(data.dir(), what, "prepare both modalities (--rna and --atac)"));
        }
        let v = data.vocabulary();
        let links = match discovery {
            None => None,
            Some(dir) => {
                let found = DiscoveryFolder::open(dir)?;
                found.check_data(data.hash(), v)?;
                Some((found.links(Source::Links, 0)?, found.made.links.selection))
            }
        };
        let models = match gtf {
            Some(path) => Some(of_annotation(path, v)?),
            None => data.gene_models()?,
        };
        let profiles = Profiles::of(data, progress)?;
        let binary = data.kinds().1 == Some(MatrixKind::Binary);
        Ok(Regions { vocabulary: v.clone(), profiles, rna: data.kinds().0.is_some(), binary, models, links })
    }

    /// The region of a gene, or one that is written `chr1:1000-2000`. Without [`RegionOptions::around`] that of a gene holds
    /// the gene, its links, and 50,000 bases either side of its start.
    ///
    /// # Errors
    /// No such gene or chromosome, with names that are like it; no such cell type; a place that is not known.
    pub fn region(&self, what: &str, options: &RegionOptions) -> Result<Region> {
        let v = &self.vocabulary;
        let models = self.models.as_deref();
        let site = Site::find(v, models, what)?;
        let chosen = self.profiles.rows(&options.cell_types)?;
        let links = self.links.as_ref().map(|(all, usual)| self.links_of(&site, options, all, *usual));
        let (start, end) = site.window(options.around, links.as_ref());
        let mut peaks: Vec<u32> = (0..v.peaks.len() as u32)
            .filter(|&p| {
                let p = &v.peaks[p as usize];
                p.chrom == site.chrom && p.start >= 0 && p.start < end && p.end > start
            })
            .collect();
        peaks.sort_by_key(|&p| (v.peaks[p as usize].start, p));
        let at = |p: u32| [v.peaks[p as usize].start, v.peaks[p as usize].end];
        let gene = site.gene.as_ref().and_then(|g| g.number).filter(|_| self.rna);
        let types = chosen.iter().map(|&t| {
            let of = &self.profiles.types[t];
            let shown = gene.map(|g| of.genes[g as usize]);
            Row {
                name: of.name.clone(),
                cells: of.cells,
                heights: peaks.iter().map(|&p| of.per_kb(p as usize, v)).collect(),
                share: shown.map(|d| d.share),
                mean: shown.map(|d| d.mean),
            }
        });
        let (genes, known) = site.genes(v, models, (start, end));
        Ok(Region {
            chrom: v.chromosomes[site.chrom as usize].clone(),
            start,
            end,
            types: types.collect(),
            peaks: peaks.iter().map(|&p| at(p)).collect(),
            unit: self.unit(if self.binary { "open peaks" } else { "ATAC counts" }),
            step: None,
            genes,
            known,
            links,
            gene: site.gene.map(|g| Focus { name: g.name, tss: g.tss }),
            expression: self.profiles.expression().into(),
        })
    }

    /// Puts the coverage that fragments tell in the place of that of peaks, in steps of a width that fits a picture: cut
    /// sites (the first and the last base of each fragment), smoothed over 100 bases. Tells what had to be taken off of
    /// barcodes, if anything.
    ///
    /// # Errors
    /// As `data::fragments::fragments_in`; fragments of other cells.
    pub fn cover(&self, region: &mut Region, fragments: &Path) -> Result<Option<String>> {
        let place = (region.start, region.end);
        let cuts = fragments::cuts(fragments, &self.vocabulary, &self.profiles, &region.chrom, place)?;
        for row in &mut region.types {
            let of = self.profiles.types.iter().position(|t| t.name == row.name);
            row.heights = of.map(|t| cuts.heights[t].clone()).unwrap_or_default();
        }
        region.step = Some(cuts.step);
        region.unit = self.unit("cut sites");
        Ok(cuts.once)
    }

    /// Of every type what it shows of genes and peaks.
    pub fn profiles(&self) -> &Profiles {
        &self.profiles
    }

    fn unit(&self, what: &str) -> String {
        match self.profiles.median {
            Some(m) => {
                let depth = if self.binary { "open peaks" } else { "counts in peaks" };
                format!("{what} per kb in a cell of median depth ({m:.0} {depth})")
            }
            None => format!("{what} per kb, mean of the cells (values as stored: they are no counts)"),
        }
    }

    /// The links of a site, by falling probability.
    fn links_of(&self, site: &Site, options: &RegionOptions, all: &[LinkStat], usual: Selection) -> Links {
        let v = &self.vocabulary;
        // A bound that is asked for stands alone.
        let q = if options.min_probability.is_some() { 1.0 } else { usual.max_q };
        let counts = Selection {
            max_q: options.max_q.unwrap_or(q),
            min_probability: options.min_probability.unwrap_or(usual.min_probability),
        };
        let inside = |x: i64| site.inside(options.around, x);
        let mut shown: Vec<RegionLink> = Vec::new();
        let (mut of, mut best) = (0, None);
        for l in all {
            let (g, p) = (&v.genes[l.gene as usize], &v.peaks[l.peak as usize]);
            let Some(tss) = g.tss.filter(|_| g.chrom == site.chrom && p.chrom == site.chrom && p.start >= 0) else {
                continue;
            };
            let of_site = match site.gene.as_ref().map(|s| s.number) {
                Some(number) => number == Some(l.gene),
                None => inside(tss),
            };
            if !(of_site && inside((p.start + p.end) / 2)) {
                continue;
            }
            best = Some(best.map_or(l.score, |b: f64| b.max(l.score)));
            if counts.holds(l.qvalue, l.score) {
                of += 1;
                let (gene, peak) = (g.name.clone(), [p.start, p.end]);
                shown.push(RegionLink { gene, tss, peak, probability: l.score, qvalue: l.qvalue });
            }
        }
        shown.sort_by(|a, b| b.probability.total_cmp(&a.probability));
        shown.truncate(options.top.unwrap_or(usize::MAX));
        let which = match (counts.max_q < 1.0, counts.min_probability > 0.0) {
            (true, true) => format!("q ≤ {}, probability ≥ {}", counts.max_q, counts.min_probability),
            (true, false) => format!("q ≤ {}", counts.max_q),
            (false, true) => format!("probability ≥ {}", counts.min_probability),
            (false, false) => "all pairs".into(),
        };
        Links { shown, of, which, best }
    }
}
