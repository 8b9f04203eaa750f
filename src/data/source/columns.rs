//! Columns of a foreign table as what they stand for: chromosomes, places, strands.

use std::path::Path;

use super::form::{Modality, Source};
use crate::data::anndata::Column;
use crate::data::anndata::reader::Axis;
use crate::data::chromosomes::{chrom_key, genome_prefix, without_genome};
use crate::data::region::{Region, parse_region};
use crate::error::{Error, Result};
use crate::vocabulary::UNKNOWN;

/// Genes that are all named like peaks are the ATAC file given as RNA.
pub(crate) fn refuse_swapped(rna: &Path, genes: &[String]) -> Result<()> {
    let regions = genes.iter().filter(|n| parse_region(n).is_some()).count();
    if genes.is_empty() || regions < genes.len() {
        return Ok(());
    }
    Err(Error::input(
        rna,
        format!("--rna: all {regions} features are named like peaks, such as {}", genes[0]),
        "give the RNA file to --rna and the ATAC file to --atac",
    ))
}

/// A column as text; missing values are `None`. `None` where there is no such column.
pub(crate) fn text_column(data: &dyn Source, axis: Axis, name: &str) -> Result<Option<Vec<Option<String>>>> {
    Ok(data.column(axis, name)?.map(Column::into_text))
}

/// A column as numbers; missing ones are NaN.
pub(crate) fn number_column(data: &dyn Source, axis: Axis, name: &str) -> Result<Option<Vec<f64>>> {
    let Some(column) = data.column(axis, name)? else { return Ok(None) };
    Ok(Some(match column {
        Column::Ints(v) => v.into_iter().map(|x| x as f64).collect(),
        Column::Floats(v) => v,
        Column::Bools(v) => v.into_iter().map(|x| f64::from(u8::from(x))).collect(),
        Column::Strings(_) | Column::Categorical { .. } => {
            let text = text_column(data, axis, name)?.unwrap_or_default();
            let number = |s: Option<String>| match s.as_deref() {
                None => Ok(f64::NAN),
                Some("True" | "true" | "TRUE") => Ok(1.0),
                Some("False" | "false" | "FALSE") => Ok(0.0),
                Some(s) => s.parse().map_err(|_| {
                    Error::input(
                        data.path(),
                        format!("`{}/{name}` holds {s:?}, which is no number", axis.name()),
                        "make it a column of numbers",
                    )
                }),
            };
            text.into_iter().map(number).collect::<Result<_>>()?
        }
    }))
}

/// Chromosomes of features: a column of one of the usual names, else the places in `interval` (as 10x writes them).
pub(crate) fn chrom_column(data: &dyn Source) -> Result<Option<Vec<Option<String>>>> {
    for name in ["chrom", "chromosome", "chr", "seqnames", "Chromosome"] {
        if let Some(mut column) = text_column(data, Axis::Var, name)? {
            without_genome(column.iter_mut().flatten().collect());
            return Ok(Some(column));
        }
    }
    let mut places: Option<Vec<Option<String>>> = text_column(data, Axis::Var, "interval")?
        .map(|v| v.iter().map(|p| Some(parse_region(p.as_deref()?)?.chrom)).collect());
    without_genome(places.iter_mut().flatten().flatten().collect());
    Ok(places)
}

pub(crate) fn coordinates(data: &dyn Source) -> Result<Option<(Vec<f64>, Vec<f64>)>> {
    for (start, end) in [("chromStart", "chromEnd"), ("start", "end"), ("Start", "End")] {
        let start = number_column(data, Axis::Var, start)?;
        let end = number_column(data, Axis::Var, end)?;
        if let Some(both) = start.zip(end) {
            return Ok(Some(both));
        }
    }
    Ok(None)
}

/// `strand` of `var` (or `_`): `+` true, `-` false, anything else missing.
pub(crate) fn strand_column(rna: &dyn Source) -> Result<Option<Vec<Option<bool>>>> {
    for name in ["strand", "_"] {
        if let Some(text) = text_column(rna, Axis::Var, name)? {
            let strand = |s: &Option<String>| match s.as_deref() {
                Some("+" | "1" | "1.0") => Some(true),
                Some("-" | "-1" | "0" | "-1.0" | "0.0") => Some(false),
                _ => None,
            };
            return Ok(Some(text.iter().map(strand).collect()));
        }
    }
    Ok(None)
}

/// What is known of a peak: its chromosome, and its coordinates too where there are any.
pub(crate) struct PeakPlace {
    pub chrom: Option<String>,
    pub region: Option<Region>,
}

/// [`chrom_key`] without the genome that may stand before it.
fn bare_key(chrom: &str) -> std::borrow::Cow<'_, str> {
    chrom_key(genome_prefix(chrom).map_or(chrom, |p| p.1))
}

pub(crate) fn locate_peaks(atac: &dyn Source, names: &[String]) -> Result<Vec<PeakPlace>> {
    let chroms = chrom_column(atac)?;
    let bounds = coordinates(atac)?;
    let intervals = text_column(atac, Axis::Var, "interval")?;
    let mut places: Vec<PeakPlace> = names
        .iter()
        .enumerate()
        .map(|(i, name)| {
            let interval = intervals.as_ref().and_then(|v| parse_region(v[i].as_deref()?));
            let named = parse_region(name).or(interval).filter(|r| r.chrom != UNKNOWN);
            let chrom = match &chroms {
                Some(chroms) => chroms[i].clone().filter(|c| c != UNKNOWN),
                None => None,
            };
            let chrom = chrom.or_else(|| named.as_ref().map(|r| r.chrom.clone()));
            let from_columns = bounds.as_ref().and_then(|(start, end)| {
                let (start, end) = (start[i], end[i]);
                let whole = start >= 0.0 && end > start && end < 9e15;
                whole.then(|| Region { chrom: chrom.clone().unwrap_or_default(), start: start as i64, end: end as i64 })
            });
            let region = from_columns
                .filter(|r| !r.chrom.is_empty())
                .or_else(|| named.filter(|r| chrom.as_deref().is_none_or(|c| bare_key(c) == bare_key(&r.chrom))));
            PeakPlace { chrom, region }
        })
        .collect();
    without_genome(places.iter_mut().filter_map(|p| p.chrom.as_mut()).collect());
    without_genome(places.iter_mut().filter_map(|p| p.region.as_mut()).map(|r| &mut r.chrom).collect());
    if places.iter().all(|p| p.chrom.is_none()) {
        let shown: Vec<&str> = names.iter().take(3).map(String::as_str).collect();
        return Err(Error::input(
            atac.path(),
            format!(
                "no peak has a chromosome: `var` has no column `chrom`, and names such as {} are not of the form \
                 chr1-100-200 (parted by any of : - _ . and blanks)",
                shown.join(", ")
            ),
            "add the columns chrom, chromStart and chromEnd, or name the peaks so",
        ));
    }
    Ok(places)
}

/// Row of a cell in the file of a modality.
pub(crate) fn of_modality(cell: &(u32, u32), modality: Modality) -> u32 {
    if modality == Modality::Rna { cell.0 } else { cell.1 }
}
