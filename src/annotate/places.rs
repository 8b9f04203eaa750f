//! Where genes and peaks lie: from their columns and names, and from a GTF.

use std::collections::HashMap;

use super::columns::{Columns, chromosomes, number, place};
use super::config::AnnotateConfig;
use super::report::{GeneCounts, PeakCounts};
use crate::data::anndata::{Axis, Column};
use crate::data::chromosomes::Aliases;
use crate::data::gtf::{By, Gtf};
use crate::data::region::Region;
use crate::data::source::Source;
use crate::data::source::columns::{
    chrom_column, coordinates, locate_peaks, number_column, strand_column, text_column,
};
use crate::error::Result;
use crate::prepare::like::tell_annotation;
use crate::prepare::vocabulary::GENE_IDS;
use crate::progress::Progress;
use crate::vocabulary::UNKNOWN;

/// Counts, places `[P]`, chromosomes `[P]`, columns.
pub(crate) type Peaks = (PeakCounts, Vec<Option<Region>>, Vec<Option<String>>, Columns);

/// Where the peaks lie, and the columns that tell it.
pub(crate) fn peaks(atac: &dyn Source, names: &[String]) -> Result<Peaks> {
    let places = locate_peaks(atac, names)?;
    let bounds = coordinates(atac)?;
    let mut counts = PeakCounts { all: names.len(), ..PeakCounts::default() };
    for (i, (p, name)) in places.iter().zip(names).enumerate() {
        let column = |v: &Vec<f64>| place(v[i]);
        let in_file = bounds.as_ref().and_then(|(s, e)| column(s).zip(column(e)));
        match &p.region {
            Some(r) if in_file == Some((r.start, r.end)) => counts.from_columns += 1,
            Some(_) => counts.from_names += 1,
            None => {
                counts.not_parsed += 1;
                if counts.not_parsed_names.len() < 3 {
                    counts.not_parsed_names.push(name.clone());
                }
            }
        }
        counts.unknown += usize::from(p.chrom.is_none());
    }
    let chroms: Vec<Option<String>> = places.iter().map(|p| p.chrom.clone()).collect();
    let regions: Vec<Option<Region>> = places.into_iter().map(|p| p.region).collect();
    let mut columns = Columns::default();
    let chrom_gaps = match text_column(atac, Axis::Var, "chrom")? {
        Some(old) => old.iter().zip(&chroms).any(|(old, new)| new.is_some() && old != new),
        None => false,
    };
    columns.fill(atac, "chrom", chromosomes(&chroms), chrom_gaps)?;
    for (name, value) in [("chromStart", true), ("chromEnd", false)] {
        let new: Vec<Option<i64>> =
            regions.iter().map(|r| r.as_ref().map(|r| if value { r.start } else { r.end })).collect();
        let old = number_column(atac, Axis::Var, name)?;
        let gaps = old.is_some_and(|old| old.iter().zip(&new).any(|(old, new)| place(*old).is_none() && new.is_some()));
        columns.fill(atac, name, number(&new), gaps)?;
    }
    Ok((counts, regions, chroms, columns))
}

/// What is known of where a gene lies.
#[derive(Default, Clone)]
struct GenePlace {
    chrom: Option<String>,
    start: Option<i64>,
    end: Option<i64>,
    forward: Option<bool>,
    tss: Option<i64>,
}

/// Where the genes lie, and the columns that tell it.
pub(crate) fn genes(
    config: &AnnotateConfig,
    rna: &dyn Source,
    names: &[String],
    gtf: Option<&Gtf>,
    peak_chroms: &[Option<String>],
    aliases: &Aliases,
    progress: &dyn Progress,
) -> Result<(GeneCounts, Columns)> {
    let mut genes = vec![GenePlace::default(); names.len()];
    if let Some(chroms) = chrom_column(rna)? {
        genes.iter_mut().zip(chroms).for_each(|(g, c)| g.chrom = c.filter(|c| c != UNKNOWN));
    }
    if let Some((start, end)) = coordinates(rna)? {
        for ((g, start), end) in genes.iter_mut().zip(start).zip(end) {
            (g.start, g.end) = (place(start), place(end));
        }
    }
    if let Some(strands) = strand_column(rna)? {
        genes.iter_mut().zip(strands).for_each(|(g, s)| g.forward = s);
    }
    if let Some(tss) = number_column(rna, Axis::Var, "tss")? {
        genes.iter_mut().zip(tss).for_each(|(g, t)| g.tss = place(t));
    }
    let mut counts = GeneCounts { all: names.len(), ..GeneCounts::default() };
    counts.had_chromosome = genes.iter().filter(|g| g.chrom.is_some()).count();
    let before = genes.clone();
    if let Some(gtf) = gtf {
        let mut ids = None;
        for name in GENE_IDS {
            if let Some(column) = text_column(rna, Axis::Var, name)? {
                ids = Some(column.into_iter().map(Option::unwrap_or_default).collect::<Vec<_>>());
                break;
            }
        }
        let mut called = HashMap::new();
        for chrom in peak_chroms.iter().flatten() {
            called.entry(aliases.key(chrom)).or_insert(chrom);
        }
        let has_peaks = |chrom: &str| called.contains_key(&aliases.key(chrom));
        let located = gtf.locate(names, ids.as_deref(), &has_peaks, config.force_annotation)?;
        tell_annotation(gtf, &located.several, names, progress);
        for ((gene, found), name) in genes.iter_mut().zip(located.places).zip(names) {
            let Some((there, by)) = found else {
                counts.not_in_gtf += 1;
                if counts.not_in_gtf_names.len() < 3 {
                    counts.not_in_gtf_names.push(name.clone());
                }
                continue;
            };
            match by {
                By::Id => counts.by_id += 1,
                By::Name => counts.by_name += 1,
            }
            let key = aliases.key(&there.chrom);
            let differs = gene.chrom.as_deref().is_some_and(|c| aliases.key(c) != key);
            if config.overwrite {
                *gene = GenePlace::default();
            } else if differs {
                counts.other_chromosome += 1;
                continue;
            }
            gene.chrom.get_or_insert_with(|| called.get(&key).map_or(&there.chrom, |c| *c).clone());
            // Start and end are of one source.
            if gene.start.is_none() || gene.end.is_none() {
                (gene.start, gene.end) = (Some(there.start), Some(there.end));
            }
            gene.forward = gene.forward.or(there.forward);
            gene.tss = gene.tss.or(Some(there.tss));
        }
    }
    for gene in &mut genes {
        if let (None, Some(start), Some(end), Some(forward)) = (gene.tss, gene.start, gene.end, gene.forward) {
            gene.tss = Some(if forward { start } else { end - 1 });
        }
    }
    counts.unknown = genes.iter().filter(|g| g.chrom.is_none()).count();
    if 2 * (counts.by_id + counts.by_name) < counts.by_id + counts.by_name + counts.not_in_gtf {
        progress.note(&format!(
            "warning: only {} of {} genes are in the GTF: is it the one of this genome?",
            counts.by_id + counts.by_name,
            counts.all
        ));
    }

    let mut columns = Columns::default();
    let changed =
        |same: fn(&GenePlace, &GenePlace) -> bool| genes.iter().zip(&before).any(|(new, old)| !same(new, old));
    let numbers = |of: fn(&GenePlace) -> Option<i64>| number(&genes.iter().map(of).collect::<Vec<_>>());
    let chroms: Vec<Option<String>> = genes.iter().map(|g| g.chrom.clone()).collect();
    columns.fill(rna, "chrom", chromosomes(&chroms), changed(|a, b| a.chrom == b.chrom))?;
    columns.fill(rna, "chromStart", numbers(|g| g.start), changed(|a, b| a.start == b.start))?;
    columns.fill(rna, "chromEnd", numbers(|g| g.end), changed(|a, b| a.end == b.end))?;
    let sign = |g: &GenePlace| match g.forward {
        Some(true) => "+".to_string(),
        Some(false) => "-".to_string(),
        None => ".".to_string(),
    };
    let strands = genes.iter().any(|g| g.forward.is_some()).then(|| Column::Strings(genes.iter().map(sign).collect()));
    columns.fill(rna, "strand", strands, changed(|a, b| a.forward == b.forward))?;
    columns.fill(rna, "tss", numbers(|g| g.tss), changed(|a, b| a.tss == b.tss))?;
    Ok((counts, columns))
}
