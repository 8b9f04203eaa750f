//! Genes, peaks and features taken from another data set.

use std::collections::HashMap;
use std::path::Path;

use super::config::PrepareConfig;
use super::vocabulary::{GENE_IDS, build_vocabulary, gene_features, locate_genes};
use super::write::Entries;
use super::{DROPPED, Input};
use crate::data::anndata::{Axis, MatrixKind, list};
use crate::data::chromosomes::chrom_key;
use crate::data::fasta::read_peak_sequences;
use crate::data::gtf::Gtf;
use crate::data::region::Region;
use crate::data::source::Modality;
use crate::data::source::columns::{locate_peaks, text_column};
use crate::dataset::DataSet;
use crate::dataset::manifest::MANIFEST;
use crate::error::{Error, Result};
use crate::vocabulary::Vocabulary;

/// How features met those of another data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Met {
    /// In both.
    pub both: usize,
    /// Only in the other data set: no cell here has them.
    pub absent: usize,
    /// Only here: dropped.
    pub dropped: usize,
}

/// Everything about genes and peaks: the vocabulary (without cells), their features, and where the features of the
/// files are in it.
pub(crate) struct Constant {
    pub(crate) vocabulary: Vocabulary,
    pub(crate) gene_features: Vec<String>,
    pub(crate) gene_extra: Vec<f32>,
    pub(crate) dna_length: usize,
    pub(crate) peak_dna: Vec<u8>,
    pub(crate) genes_in_gtf: Option<usize>,
    /// With `like`: of each feature of the file the index in the vocabulary, or [`DROPPED`].
    pub(crate) gene_map: Option<(Vec<u32>, Met)>,
    pub(crate) peak_map: Option<(Vec<u32>, Met)>,
}

/// Genes, peaks and features from the files.
pub(crate) fn constant_of(
    config: &PrepareConfig,
    rna: &Input,
    atac: &Input,
    say: &(dyn Fn(&str) + Sync),
) -> Result<Constant> {
    let genes = rna.source.as_ref();
    let gtf = config.gtf.as_deref().map(Gtf::read).transpose()?;
    let places = match &gtf {
        Some(gtf) => {
            let ids = GENE_IDS
                .into_iter()
                .find_map(|name| text_column(genes, Axis::Var, name).transpose())
                .transpose()?
                .map(|ids| ids.into_iter().map(Option::unwrap_or_default).collect::<Vec<_>>());
            let places = gtf.locate(&rna.named, ids.as_deref())?;
            let places: Vec<_> = places.into_iter().map(|found| found.map(|(place, _)| place)).collect();
            let found = places.iter().flatten().count();
            say(&format!("genes in the GTF: {found} of {}", rna.named.len()));
            Some(places)
        }
        None => None,
    };
    let genes_in_gtf = places.as_ref().map(|p| p.iter().flatten().count());
    let (gene_chroms, tss) = locate_genes(genes, places.as_deref(), rna.named.len())?;
    let regions = locate_peaks(atac.source.as_ref(), &atac.named)?;
    let at = atac.source.path();
    let vocabulary = build_vocabulary(at, rna.names.clone(), &gene_chroms, tss, atac.names.clone(), &regions)?;
    let (gene_features, gene_extra) = gene_features(config, genes, places.as_deref(), &vocabulary, say)?;
    let (mut dna_length, mut peak_dna) = (0, Vec::new());
    if let Some(fasta) = &config.fasta {
        let plain: Vec<Option<Region>> = regions.iter().map(|p| p.region.clone()).collect();
        let sequences = read_peak_sequences(fasta, &plain, config.dna_length)?;
        say(&format!(
            "peak sequences matched by {}; without one: {} of {}",
            if sequences.by_header { "header" } else { "position" },
            sequences.missing.len(),
            plain.len()
        ));
        let blank = sequences.codes.chunks(config.dna_length).filter(|c| c.iter().all(|&b| b == 0)).count();
        if blank > sequences.missing.len() {
            say(&format!("warning: {} sequences hold no A, C, G or T", blank - sequences.missing.len()));
        }
        peak_dna = sequences.codes;
        dna_length = config.dna_length;
    }
    Ok(Constant {
        vocabulary,
        gene_features,
        gene_extra,
        dna_length,
        peak_dna,
        genes_in_gtf,
        gene_map: None,
        peak_map: None,
    })
}

/// Genes, peaks and features of another data set, and where the features of the files are among them.
pub(crate) fn constant_like(
    config: &PrepareConfig,
    like: &DataSet,
    rna: Option<&Input>,
    atac: Option<&Input>,
    say: &(dyn Fn(&str) + Sync),
) -> Result<Constant> {
    let base = like.vocabulary();
    let features = like.features();
    let gene_map = rna.map(|input| {
        let theirs: Vec<&str> = base.genes.iter().map(|g| g.name.as_str()).collect();
        meet(config, like, input, &theirs, |_| None, say)
    });
    let peak_map = atac.map(|input| {
        let theirs: Vec<&str> = base.peaks.iter().map(|p| p.name.as_str()).collect();
        // One peak may be called chr1-100-200 here and chr1:100-200 there.
        let mut place: HashMap<(String, i64, i64), u32> = HashMap::new();
        for (i, p) in (0..).zip(&base.peaks).filter(|(_, p)| p.start >= 0) {
            let chrom = base.chromosomes.get(p.chrom as usize).map_or("", String::as_str);
            place.entry((chrom_key(chrom).to_string(), p.start, p.end)).or_insert(i);
        }
        // Their places are as `prepare` finds them; names that tell none are no error, as names may do.
        let places = locate_peaks(input.source.as_ref(), &input.named).unwrap_or_default();
        let by_place = |i: usize| {
            let region = places.get(i)?.region.as_ref()?;
            place.get(&(chrom_key(&region.chrom).to_string(), region.start, region.end)).copied()
        };
        meet(config, like, input, &theirs, by_place, say)
    });
    Ok(Constant {
        vocabulary: Vocabulary {
            chromosomes: base.chromosomes.clone(),
            unknown: base.unknown,
            genes: base.genes.clone(),
            peaks: base.peaks.clone(),
            ..Vocabulary::default()
        },
        gene_features: like.gene_features().to_vec(),
        gene_extra: features.gene_extra.clone(),
        dna_length: features.dna_length(),
        peak_dna: features.peak_dna.clone(),
        genes_in_gtf: None,
        gene_map: gene_map.transpose()?,
        peak_map: peak_map.transpose()?,
    })
}

/// Of each feature of `input` the number of the one of `theirs` it is: by name, else by `other`, told its number.
fn meet(
    config: &PrepareConfig,
    like: &DataSet,
    input: &Input,
    theirs: &[&str],
    other: impl Fn(usize) -> Option<u32>,
    say: &(dyn Fn(&str) + Sync),
) -> Result<(Vec<u32>, Met)> {
    let number: HashMap<&str, u32> = (0..).zip(theirs).map(|(i, n)| (*n, i)).collect();
    let mut taken = vec![false; theirs.len()];
    let mut map = vec![DROPPED; input.names.len()];
    let mut place = |to: &mut u32, found: Option<u32>| {
        if let Some(i) = found
            && !std::mem::replace(&mut taken[i as usize], true)
        {
            *to = i;
        }
    };
    for (to, name) in map.iter_mut().zip(&input.names) {
        place(to, number.get(name.as_str()).copied());
    }
    for (i, to) in map.iter_mut().enumerate().filter(|(_, to)| **to == DROPPED) {
        place(to, other(i));
    }
    let both = map.iter().filter(|&&i| i != DROPPED).count();
    let met = Met { both, absent: theirs.len() - both, dropped: map.len() - both };
    let what = if input.modality == Modality::Rna { "genes" } else { "peaks" };
    if both == 0 || (both as f64) < config.min_common * theirs.len() as f64 {
        let three = |names: &mut dyn Iterator<Item = &str>| names.take(3).collect::<Vec<_>>().join(", ");
        return Err(Error::input(
            input.source.path(),
            format!(
                "has {both} of the {} {what} of {}; it names them {}, the other {}",
                theirs.len(),
                like.dir().display(),
                three(&mut input.names.iter().map(String::as_str)),
                three(&mut theirs.iter().copied())
            ),
            "give data with the same features (or lower --min-common)",
        ));
    }
    say(&format!(
        "{what} as in {}: {both} of {}; {} of them are not in these data, {} of these data are not in it (dropped)",
        like.dir().display(),
        theirs.len(),
        met.absent,
        met.dropped
    ));
    Ok((map, met))
}

/// A model that was trained on values of one kind says nothing sensible of another.
pub(crate) fn refuse_other_kind(
    rows: &Entries,
    like: Option<MatrixKind>,
    asked: Option<MatrixKind>,
    input: Option<&Input>,
) -> Result<()> {
    let (Some(theirs), Some(ours), Some(input), None) = (like, rows.kind(), input, asked) else { return Ok(()) };
    let fits = |kind| ours == kind || (kind == MatrixKind::Counts && ours == MatrixKind::Binary);
    if fits(theirs) {
        return Ok(());
    }
    let what = input.modality.name().to_ascii_lowercase();
    Err(Error::input(
        input.source.path(),
        format!("`{}` holds values that are {ours}, where the data set of --like holds {theirs}", input.matrix.at()),
        format!(
            "choose another layer with {}{}, or say --{what}-values {} if that is meant",
            input.modality.layer_flag(),
            match input.source.layers() {
                layers if layers.is_empty() => String::new(),
                layers => format!(" (there are {})", list(&layers)),
            },
            match ours {
                MatrixKind::Binary => "binary",
                MatrixKind::Counts => "counts",
                MatrixKind::Normalised => "normalised",
            }
        ),
    ))
}

/// Refuses a target that exists; with `force`, one that is anything but an empty folder or a data set.
pub(crate) fn check_target(out: &Path, force: bool) -> Result<()> {
    let there = match std::fs::symlink_metadata(out) {
        Ok(meta) => meta,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::io(out, "read", e)),
    };
    let is_data = there.is_dir() && out.join(MANIFEST).is_file();
    let is_empty = there.is_dir() && std::fs::read_dir(out).is_ok_and(|mut d| d.next().is_none());
    match (is_empty, is_data, force) {
        (true, ..) | (_, true, true) => Ok(()),
        (_, true, false) => Err(Error::input(out, "a data set is there already", "replace it with --force")),
        _ => Err(Error::input(
            out,
            "something is there that is no prepared data set",
            "give another --out (it is not removed, --force or not)",
        )),
    }
}
