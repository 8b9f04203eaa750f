//! Where a region is: the gene or the place that was asked for, the window around it, and the genes in that.

use std::collections::HashMap;
use std::path::Path;

use super::parts::{Known, Links};
use crate::data::chromosomes::chrom_key;
use crate::data::exons::{GeneModel, gene_models};
use crate::data::region::parse_region;
use crate::error::{Error, Result};
use crate::near::hint;
use crate::vocabulary::Vocabulary;

/// Bases either side of a TSS that a window holds at least.
const AROUND: i64 = 50_000;

/// The gene that was asked for.
#[derive(Debug, Clone)]
pub(super) struct OfGene {
    pub name: String,
    /// Its number in the data, where they measure it.
    pub number: Option<u32>,
    pub tss: Option<i64>,
}

/// What was asked for.
#[derive(Debug, Clone)]
pub(super) struct Site {
    pub chrom: u32,
    pub gene: Option<OfGene>,
    /// The region, or the span of the gene.
    pub span: [i64; 2],
}

/// The genes of an annotation on the chromosomes of the data, by chromosome (named as in the data) and start.
pub(super) fn of_annotation(path: &Path, v: &Vocabulary) -> Result<Vec<GeneModel>> {
    let names: HashMap<_, &String> = v.chromosomes.iter().map(|n| (chrom_key(n), n)).collect();
    let mut models = gene_models(path)?;
    models.retain_mut(|m| {
        let known = names.get(&chrom_key(&m.chrom)).copied();
        known.inspect(|name| m.chrom.clone_from(name)).is_some()
    });
    if models.is_empty() {
        let what = "has no gene on a chromosome of the data";
        return Err(Error::input(path, what, "give the annotation of the genome the data were made with"));
    }
    models.sort_by(|a, b| (&a.chrom, a.start, a.end, &a.name).cmp(&(&b.chrom, b.start, b.end, &b.name)));
    Ok(models)
}

/// A gene of which nothing is known but its start.
fn start_of(name: &str, chrom: &str, tss: i64) -> GeneModel {
    GeneModel {
        name: name.into(),
        chrom: chrom.into(),
        forward: None,
        start: tss,
        end: tss + 1,
        coding: None,
        exons: Vec::new(),
    }
}

/// Does the text mean a region, right or wrong?
fn looks_like_region(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(_, rest)| rest.starts_with(|c: char| c.is_ascii_digit()))
}

impl Site {
    /// Finds a gene of the data or of the annotation by its name, or a region.
    pub(super) fn find(v: &Vocabulary, models: Option<&[GeneModel]>, what: &str) -> Result<Site> {
        let models = models.unwrap_or(&[]);
        if let Some(number) = v.genes.iter().position(|g| g.name == what) {
            let g = &v.genes[number];
            let chrom = v.chromosomes.get(g.chrom as usize).map_or("", String::as_str);
            let tss = g.tss.ok_or_else(|| {
                Error::usage(format!(
                    "{what}: the data do not tell where it lies; prepare them with --gtf, or give a region such as \
                     chr1:1000000-1200000"
                ))
            })?;
            // By its name, else by its start: the data may call it by its id.
            let here = || models.iter().filter(|m| m.chrom == chrom);
            let model = here().find(|m| m.name == what).or_else(|| here().find(|m| m.tss() == tss));
            let span = model.map_or([tss, tss + 1], |m| [m.start, m.end]);
            let gene = OfGene { name: what.into(), number: Some(number as u32), tss: Some(tss) };
            return Ok(Site { chrom: g.chrom, gene: Some(gene), span });
        }
        let chrom_of =
            |name: &str| v.chromosomes.iter().position(|n| chrom_key(n) == chrom_key(name)).map(|c| c as u32);
        if let Some(m) = models.iter().find(|m| m.name == what)
            && let Some(chrom) = chrom_of(&m.chrom)
        {
            let number = v.genes.iter().position(|g| g.chrom == chrom && g.tss == Some(m.tss())).map(|n| n as u32);
            let gene = OfGene { name: what.into(), number, tss: Some(m.tss()) };
            return Ok(Site { chrom, gene: Some(gene), span: [m.start, m.end] });
        }
        if let Some(r) = parse_region(what) {
            let chrom = chrom_of(&r.chrom).ok_or_else(|| {
                let hint = hint(&r.chrom, v.chromosomes.iter().map(String::as_str));
                Error::usage(format!("{what}: the data have no chromosome {}; {hint}", r.chrom))
            })?;
            return Ok(Site { chrom, gene: None, span: [r.start, r.end] });
        }
        if looks_like_region(what) {
            return Err(Error::usage(format!(
                "{what} is no region; write it as chr1:1000000-1200000, the smaller end first"
            )));
        }
        let names = v.genes.iter().map(|g| g.name.as_str()).chain(models.iter().map(|m| m.name.as_str()));
        Err(Error::usage(format!(
            "{what}: there is no such gene in the data or their annotation, and it is no region such as \
             chr1:1000000-1200000; {}",
            hint(what, names)
        )))
    }

    /// The window that is asked for, where it is: around the TSS, or the region and some more.
    fn asked(&self, around: Option<i64>) -> Option<[i64; 2]> {
        match (&self.gene, around) {
            (Some(g), Some(w)) => {
                let tss = g.tss.unwrap_or(self.span[0]);
                Some([tss - w, tss + w + 1])
            }
            (Some(_), None) => None,
            (None, w) => Some([self.span[0] - w.unwrap_or(0), self.span[1] + w.unwrap_or(0)]),
        }
    }

    /// Is a base in the window that was asked for?
    pub(super) fn inside(&self, around: Option<i64>, x: i64) -> bool {
        self.asked(around).is_none_or(|[from, to]| (from..to).contains(&x))
    }

    /// The window, from its first base to past its last one.
    pub(super) fn window(&self, around: Option<i64>, links: Option<&Links>) -> (i64, i64) {
        if let Some([from, to]) = self.asked(around) {
            return (from.max(0), to);
        }
        let tss = self.gene.as_ref().and_then(|g| g.tss).unwrap_or(self.span[0]);
        let links = || links.iter().flat_map(|l| &l.shown).flat_map(|l| l.peak);
        let lo = links().chain([self.span[0], tss - AROUND]).min().unwrap_or(tss);
        let hi = links().chain([self.span[1], tss + AROUND]).max().unwrap_or(tss);
        let room = (hi - lo) / 30;
        ((lo - room).max(0), hi + room)
    }

    /// The genes in a window, by start, and what is known of them: of the annotation, else of the data.
    pub(super) fn genes(
        &self,
        v: &Vocabulary,
        models: Option<&[GeneModel]>,
        (start, end): (i64, i64),
    ) -> (Vec<GeneModel>, Known) {
        let chrom = v.chromosomes[self.chrom as usize].as_str();
        let inside = |m: &GeneModel| m.start < end && m.end > start;
        if let Some(models) = models {
            let mut genes: Vec<GeneModel> = models.iter().filter(|m| m.chrom == chrom && inside(m)).cloned().collect();
            genes.sort_by_key(|m| m.start);
            // The gene that was asked for is called as the data call it.
            if let Some(g) = &self.gene
                && !genes.iter().any(|m| m.name == g.name)
                && let Some(same) = genes.iter_mut().find(|m| Some(m.tss()) == g.tss)
            {
                same.name.clone_from(&g.name);
            }
            let exons = genes.iter().any(|m| !m.exons.is_empty());
            // One that the annotation lacks is drawn by its start.
            if let Some(OfGene { name, tss: Some(tss), .. }) = &self.gene
                && !genes.iter().any(|m| m.name == *name)
            {
                genes.extend(Some(start_of(name, chrom, *tss)).filter(inside));
            }
            return (genes, if exons { Known::Exons } else { Known::Spans });
        }
        let of_data = v.genes.iter().filter(|g| g.chrom == self.chrom).filter_map(|g| {
            let tss = g.tss?;
            let model = start_of(&g.name, chrom, tss);
            Some(model).filter(inside)
        });
        let mut genes: Vec<GeneModel> = of_data.collect();
        genes.sort_by_key(|m| m.start);
        (genes, Known::Starts)
    }
}
