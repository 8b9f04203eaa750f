//! Genes and peaks: their chromosomes, places, features and order.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::config::{FEATURE_NAMES, GeneFeatures, PrepareConfig};
use crate::data::anndata::{Axis, list};
use crate::data::chromosomes::Aliases;
use crate::data::gtf::GeneLocation;
use crate::data::region::parse_region;
use crate::data::source;
use crate::data::source::columns::{PeakPlace, chrom_column, coordinates, number_column, strand_column, text_column};
use crate::dataset;
use crate::dataset::manifest;
use crate::dataset::manifest::{to_tsv, write_part};
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::vocabulary::{Gene, Peak, UNKNOWN, Vocabulary};

/// Columns of `var` that may hold the ids of genes, the first that is there.
pub(crate) const GENE_IDS: [&str; 4] = ["gene_ids", "gene_id", "ensembl_id", "feature_id"];

/// Tells what has no chromosome, no partner or no place; returns the genes and the peaks without a chromosome.
pub(crate) fn tell_gaps(v: &Vocabulary, progress: &dyn Progress) -> (usize, usize) {
    let known = |chrom: u32| Some(chrom) != v.unknown;
    let (genes, peaks) = (v.genes.len(), v.peaks.len());
    let with_gene: HashSet<u32> = v.genes.iter().map(|g| g.chrom).collect();
    let count = |of: &dyn Fn(&Peak) -> bool| v.peaks.iter().filter(|p| of(p)).count();
    let genes_unknown = v.genes.iter().filter(|g| !known(g.chrom)).count();
    let peaks_unknown = count(&|p| !known(p.chrom));
    let alone = count(&|p| known(p.chrom) && !with_gene.contains(&p.chrom));
    let no_tss = v.genes.iter().filter(|g| known(g.chrom) && g.tss.is_none()).count();
    let no_place = count(&|p| known(p.chrom) && p.start < 0);
    let unknown = format!("; they are on {UNKNOWN}, which matches nothing");
    // Pairs are made within a chromosome, and tested by distance.
    for (n, all, what, so) in [
        (genes_unknown, genes, "genes without a chromosome", unknown.as_str()),
        (peaks_unknown, peaks, "peaks without a chromosome", &unknown),
        (alone, peaks, "peaks on a chromosome without a gene, which match nothing", ""),
        (no_tss, genes, "genes with a chromosome but no TSS", "; distances are then unknown (--gtf tells)"),
        (no_place, peaks, "peaks with a chromosome but no start and end", "; distances are then unknown"),
    ] {
        if n > 0 {
            progress.note(&format!("{what}: {n} of {all}{so}"));
        }
    }
    (genes_unknown, peaks_unknown)
}

type Places<'a> = [Option<&'a GeneLocation>];

/// Chromosome and TSS of each gene.
type GenePlaces = (Vec<Option<String>>, Vec<Option<i64>>);

/// Chromosome and TSS of every gene: from `var`, else from the GTF.
pub(crate) fn locate_genes(
    rna: &dyn source::Source,
    places: Option<&Places<'_>>,
    n: usize,
    aliases: &Aliases,
) -> Result<GenePlaces> {
    let column = chrom_column(rna)?;
    if column.is_none() && places.is_none() {
        return Err(Error::input(
            rna.path(),
            format!("`var` has no column `chrom`; it has {}", list(&rna.columns(Axis::Var)?)),
            "give the annotation of the genome with --gtf",
        ));
    }
    let mut chroms = column.unwrap_or_else(|| vec![None; n]);
    chroms.iter_mut().filter(|c| c.as_deref() == Some(UNKNOWN)).for_each(|c| *c = None);
    let mut tss = gene_starts(rna, n)?;
    for (i, place) in places.unwrap_or(&[]).iter().enumerate() {
        if let Some(place) = place {
            if chroms[i].is_none() {
                chroms[i] = Some(place.chrom.clone());
            }
            if chroms[i].as_deref().is_some_and(|c| aliases.key(c) == aliases.key(&place.chrom)) {
                tss[i] = Some(place.tss);
            }
        }
    }
    if chroms.iter().all(Option::is_none) {
        return Err(Error::input(
            rna.path(),
            "`var/chrom` is empty for every gene",
            "give the annotation of the genome with --gtf",
        ));
    }
    Ok((chroms, tss))
}

/// Bases of an `interval` of 10x, which spans the transcription starts of a gene, up to which its middle stands for the TSS:
/// that is then off by no more than half of it.
const NARROW: i64 = 2000;

/// TSS from `tss` of `var` (0-based), else from `chromStart`, `chromEnd` and `strand`, where all three are there, else from
/// `interval` where that is narrow.
fn gene_starts(rna: &dyn source::Source, n: usize) -> Result<Vec<Option<i64>>> {
    let told = told_starts(rna, n)?;
    let Some(intervals) = text_column(rna, Axis::Var, "interval")?.filter(|_| told.iter().all(Option::is_none)) else {
        return Ok(told);
    };
    let middle = |place: &Option<String>| {
        let region = parse_region(place.as_deref()?)?;
        (region.end - region.start <= NARROW).then_some((region.start + region.end - 1) / 2)
    };
    Ok(intervals.iter().map(middle).collect())
}

fn told_starts(rna: &dyn source::Source, n: usize) -> Result<Vec<Option<i64>>> {
    let none = vec![None; n];
    if let Some(tss) = number_column(rna, Axis::Var, "tss")? {
        return Ok(tss.into_iter().map(|t| (0.0..9e15).contains(&t).then_some(t as i64)).collect());
    }
    let Some((start, end)) = coordinates(rna)? else { return Ok(none) };
    let Some(strand) = strand_column(rna)? else { return Ok(none) };
    Ok((0..n)
        .map(|i| match strand[i] {
            _ if !(start[i] >= 0.0 && end[i] > start[i]) => None,
            Some(true) => Some(start[i] as i64),
            Some(false) => Some(end[i] as i64 - 1),
            None => None,
        })
        .collect())
}

/// Chromosomes in order of first appearance over genes, then peaks. `chr1` and `1` are one; it is called as the
/// peaks call it, so that tracks and links carry the names of the peak file.
pub(crate) fn build_vocabulary(
    atac: &Path,
    gene_names: Vec<String>,
    gene_chroms: &[Option<String>],
    tss: Vec<Option<i64>>,
    peak_names: Vec<String>,
    (places, aliases): (&[PeakPlace], &Aliases),
) -> Result<Vocabulary> {
    let mut called: HashMap<Cow<'_, str>, &str> = HashMap::new();
    for chrom in places.iter().filter_map(|p| p.chrom.as_deref()) {
        called.entry(aliases.key(chrom)).or_insert(chrom);
    }
    let gene_keys: HashSet<Cow<'_, str>> = gene_chroms.iter().flatten().map(|c| aliases.key(c)).collect();
    if !gene_keys.iter().any(|k| called.contains_key(k)) {
        let some = |names: &mut dyn Iterator<Item = &str>| {
            let mut distinct: Vec<String> = Vec::new();
            for n in names {
                if distinct.len() < 3 && !distinct.iter().any(|d| d == n) {
                    distinct.push(n.to_string());
                }
            }
            distinct.join(", ")
        };
        return Err(Error::input(
            atac,
            format!(
                "no chromosome of the peaks ({}) is one of the genes ({})",
                some(&mut places.iter().filter_map(|p| p.chrom.as_deref())),
                some(&mut gene_chroms.iter().flatten().map(String::as_str))
            ),
            "give peaks and annotation of one genome; where it only names chromosomes otherwise, give a table of their \
             names, such as UCSC's chromAlias.txt, with --aliases",
        ));
    }
    let mut v = Vocabulary::default();
    let mut number: HashMap<String, u32> = HashMap::new();
    let mut index = |chrom: Option<&str>| -> u32 {
        let key = chrom.map_or(Cow::Borrowed(UNKNOWN), |c| aliases.key(c));
        if let Some(&i) = number.get(key.as_ref()) {
            return i;
        }
        let i = v.chromosomes.len() as u32;
        number.insert(key.to_string(), i);
        v.chromosomes.push(chrom.map_or(UNKNOWN, |c| called.get(&key).copied().unwrap_or(c)).to_string());
        if chrom.is_none() {
            v.unknown = Some(i);
        }
        i
    };
    let gene_index: Vec<u32> = gene_chroms.iter().map(|c| index(c.as_deref())).collect();
    let peak_index: Vec<u32> = places.iter().map(|p| index(p.chrom.as_deref())).collect();
    v.genes =
        gene_names.into_iter().zip(gene_index).zip(tss).map(|((name, chrom), tss)| Gene { name, chrom, tss }).collect();
    v.peaks = peak_names
        .into_iter()
        .zip(peak_index)
        .zip(places)
        .map(|((name, chrom), p)| {
            let (start, end) = p.region.as_ref().map_or((-1, -1), |r| (r.start, r.end));
            Peak { name, chrom, start, end }
        })
        .collect();
    Ok(v)
}

/// Names and values `[G, k]` of the gene features.
pub(crate) fn gene_features(
    config: &PrepareConfig,
    rna: &dyn source::Source,
    places: Option<&Places<'_>>,
    v: &Vocabulary,
    progress: &dyn Progress,
) -> Result<(Vec<String>, Vec<f32>)> {
    let (wanted, must): (Vec<&str>, bool) = match &config.gene_features {
        GeneFeatures::None => return Ok((Vec::new(), Vec::new())),
        GeneFeatures::Present => (FEATURE_NAMES.to_vec(), false),
        GeneFeatures::Named(names) => {
            (FEATURE_NAMES.into_iter().filter(|f| names.iter().any(|n| n == f)).collect(), true)
        }
    };
    let n = v.genes.len();
    let mut columns: Vec<(String, Vec<f64>)> = Vec::new();
    for name in wanted {
        let column = if name == "strand" {
            let from_var = strand_column(rna)?;
            if from_var.is_none() && places.is_none() {
                None
            } else {
                let from_var = from_var.unwrap_or_else(|| vec![None; n]);
                let strand = |i: usize| {
                    let known = from_var[i].or_else(|| places.and_then(|p| p[i]).and_then(|p| p.forward));
                    known.map_or(0.5, |f| f64::from(u8::from(f)))
                };
                Some((0..n).map(strand).collect())
            }
        } else {
            number_column(rna, Axis::Var, name)?
        };
        match column {
            Some(mut values) => {
                let mut missing = 0;
                for (v, gene) in values.iter_mut().zip(&v.genes) {
                    if v.is_nan() {
                        missing += 1;
                        *v = 0.0;
                    } else if !(*v as f32).is_finite() {
                        return Err(Error::input(
                            rna.path(),
                            format!("`var/{name}` of gene {} is {v}", gene.name),
                            "mend it, or leave the feature out of --gene-features",
                        ));
                    }
                }
                if missing > 0 {
                    progress.note(&format!("warning: `var/{name}` is missing for {missing} of {n} genes; 0 is used"));
                }
                columns.push((name.to_string(), values));
            }
            None if must => {
                return Err(Error::input(
                    rna.path(),
                    format!("`var` has no column `{name}`; it has {}", list(&rna.columns(Axis::Var)?)),
                    "leave it out of --gene-features",
                ));
            }
            None => {}
        }
    }
    let values = (0..n).flat_map(|g| columns.iter().map(move |(_, c)| c[g] as f32)).collect();
    Ok((columns.into_iter().map(|(name, _)| name).collect(), values))
}

pub(crate) fn write_vocabulary(dir: &Path, v: &Vocabulary) -> Result<Vec<manifest::Part>> {
    let chrom = |i: u32| Cow::from(v.chromosomes[i as usize].as_str());
    let number = |n: i64| Cow::from(n.to_string());
    let genes = to_tsv(
        &dataset::GENES.1,
        v.genes.iter().map(|g| vec![Cow::from(g.name.as_str()), chrom(g.chrom), g.tss.map_or(Cow::from(""), number)]),
    );
    let peaks = to_tsv(
        &dataset::PEAKS.1,
        v.peaks.iter().map(|p| vec![Cow::from(p.name.as_str()), chrom(p.chrom), number(p.start), number(p.end)]),
    );
    let cells = to_tsv(
        &dataset::CELLS.1,
        v.cells.iter().enumerate().map(|(i, c)| {
            let t = v.cell_type.get(i).map_or("", |&t| v.cell_types[t as usize].as_str());
            vec![Cow::from(c.as_str()), Cow::from(t)]
        }),
    );
    [(dataset::GENES.0, genes), (dataset::PEAKS.0, peaks), (dataset::CELLS.0, cells)]
        .into_iter()
        .map(|(file, text)| write_part(dir, file, text.as_bytes()))
        .collect()
}
