//! Genes, peaks and features taken from another data set.

use std::collections::{HashMap, HashSet};

use super::config::PrepareConfig;
use super::input::{Input, Inputs};
use super::models::models_near;
use super::report::Met;
use super::rows::DROPPED;
use super::vocabulary::{GENE_IDS, build_vocabulary, gene_features, locate_genes};
use crate::data::anndata::Axis;
use crate::data::chromosomes::Aliases;
use crate::data::fasta::read_peak_sequences;
use crate::data::gtf::Gtf;
use crate::data::region::Region;
use crate::data::source::Modality;
use crate::data::source::columns::{locate_peaks, text_column};
use crate::dataset::DataSet;
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::vocabulary::Vocabulary;

/// Everything about genes and peaks: the vocabulary (without cells), their features, and where the features of the
/// files are in it.
pub(crate) struct Constant {
    pub vocabulary: Vocabulary,
    /// Names of the k gene features.
    pub gene_features: Vec<String>,
    /// `[G, k]`.
    pub gene_extra: Vec<f32>,
    pub dna_length: usize,
    /// `[P, dna_length]` base codes.
    pub peak_dna: Vec<u8>,
    pub genes_in_gtf: Option<usize>,
    /// Models of the genes near peaks, as a data set keeps them.
    pub gene_models: Option<Vec<u8>>,
    /// With `like`: of each feature of the file the index in the vocabulary, or [`DROPPED`].
    pub gene_map: Option<(Vec<u32>, Met)>,
    pub peak_map: Option<(Vec<u32>, Met)>,
}

impl Constant {
    /// Of each feature of the RNA and of the ATAC file its index in the vocabulary; `None`: the same.
    pub(crate) fn maps(&self) -> [Option<&[u32]>; 2] {
        [&self.gene_map, &self.peak_map].map(|map| map.as_ref().map(|m| m.0.as_slice()))
    }
}

/// Genes, peaks and features: those of `like`, else those of the files.
pub(crate) fn constant(
    config: &PrepareConfig,
    like: Option<&DataSet>,
    inputs: &Inputs,
    progress: &dyn Progress,
) -> Result<Constant> {
    match (like, &inputs.rna, &inputs.atac) {
        (Some(like), rna, atac) => constant_like(config, like, rna.as_ref(), atac.as_ref(), progress),
        (None, Some(rna), Some(atac)) => constant_of(config, rna, atac, progress),
        _ => Err(Error::usage("one modality alone needs --like DATA, the data set of the trained model")),
    }
}

/// Genes, peaks and features from the files.
fn constant_of(config: &PrepareConfig, rna: &Input, atac: &Input, progress: &dyn Progress) -> Result<Constant> {
    let genes = rna.source.as_ref();
    let aliases = config.aliases.as_deref().map(Aliases::read).transpose()?.unwrap_or_default();
    let regions = locate_peaks(atac.source.as_ref(), &atac.named)?;
    let gtf = config.gtf.as_deref().map(Gtf::read).transpose()?;
    let places = match &gtf {
        Some(gtf) => {
            let ids = GENE_IDS
                .into_iter()
                .find_map(|name| text_column(genes, Axis::Var, name).transpose())
                .transpose()?
                .map(|ids| ids.into_iter().map(Option::unwrap_or_default).collect::<Vec<_>>());
            let with_peaks: HashSet<_> =
                regions.iter().filter_map(|p| p.chrom.as_deref()).map(|c| aliases.key(c)).collect();
            let has_peaks = |chrom: &str| with_peaks.contains(&aliases.key(chrom));
            let located = gtf.locate(&rna.named, ids.as_deref(), &has_peaks, config.force_annotation)?;
            let places: Vec<_> = located.places.into_iter().map(|found| found.map(|(place, _)| place)).collect();
            let found = places.iter().flatten().count();
            progress.note(&format!("genes in the GTF: {found} of {}", rna.named.len()));
            tell_annotation(gtf, &located.several, &rna.named, progress);
            Some(places)
        }
        None => None,
    };
    let genes_in_gtf = places.as_ref().map(|p| p.iter().flatten().count());
    let (gene_chroms, tss) = locate_genes(genes, places.as_deref(), rna.named.len(), &aliases)?;
    let at = atac.source.path();
    let of_peaks = (regions.as_slice(), &aliases);
    let vocabulary = build_vocabulary(at, rna.names.clone(), &gene_chroms, tss, atac.names.clone(), of_peaks)?;
    let gene_models = config.gtf.as_deref().map(|gtf| models_near(gtf, &vocabulary, &aliases, progress)).transpose()?;
    let (gene_features, gene_extra) = gene_features(config, genes, places.as_deref(), &vocabulary, progress)?;
    let (mut dna_length, mut peak_dna) = (0, Vec::new());
    if let Some(fasta) = &config.fasta {
        let plain: Vec<Option<Region>> = regions.iter().map(|p| p.region.clone()).collect();
        let sequences = read_peak_sequences(fasta, &plain, config.dna_length)?;
        progress.note(&format!(
            "peak sequences matched by {}; without one: {} of {}",
            if sequences.by_header { "header" } else { "position" },
            sequences.missing.len(),
            plain.len()
        ));
        let blank = sequences.codes.chunks(config.dna_length).filter(|c| c.iter().all(|&b| b == 0)).count();
        if blank > sequences.missing.len() {
            progress.note(&format!("warning: {} sequences hold no A, C, G or T", blank - sequences.missing.len()));
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
        gene_models,
        gene_map: None,
        peak_map: None,
    })
}

/// Tells what of an annotation was skipped, and which genes it has at several places.
pub(crate) fn tell_annotation(gtf: &Gtf, several: &[usize], names: &[String], progress: &dyn Progress) {
    if gtf.skipped() > 0 {
        progress.note(&format!("lines of the GTF that could not be read and were skipped: {}", gtf.skipped()));
    }
    if !several.is_empty() {
        let some: Vec<&str> = several.iter().take(3).map(|&i| names[i].as_str()).collect();
        progress.note(&format!(
            "warning: {} names are at several places of the GTF, such as {}; taken is a place with peaks, else on a whole \
             chromosome, else that with most records, else the first",
            several.len(),
            some.join(", ")
        ));
    }
}

/// Genes, peaks and features of another data set, and where the features of the files are among them.
fn constant_like(
    config: &PrepareConfig,
    like: &DataSet,
    rna: Option<&Input>,
    atac: Option<&Input>,
    progress: &dyn Progress,
) -> Result<Constant> {
    let base = like.vocabulary();
    let features = like.features();
    let aliases = config.aliases.as_deref().map(Aliases::read).transpose()?.unwrap_or_default();
    let gene_map = rna.map(|input| {
        let theirs: Vec<&str> = base.genes.iter().map(|g| g.name.as_str()).collect();
        meet(config, like, input, &theirs, |_| None, progress)
    });
    let peak_map = atac.map(|input| {
        let theirs: Vec<&str> = base.peaks.iter().map(|p| p.name.as_str()).collect();
        // One peak may be called chr1-100-200 here and chr1:100-200 there.
        let mut place: HashMap<(String, i64, i64), u32> = HashMap::new();
        for (i, p) in (0..).zip(&base.peaks).filter(|(_, p)| p.start >= 0) {
            let chrom = base.chromosomes.get(p.chrom as usize).map_or("", String::as_str);
            place.entry((aliases.key(chrom).to_string(), p.start, p.end)).or_insert(i);
        }
        // Their places are as `prepare` finds them; names that tell none are no error, as names may do.
        let places = locate_peaks(input.source.as_ref(), &input.named).unwrap_or_default();
        let by_place = |i: usize| {
            let region = places.get(i)?.region.as_ref()?;
            place.get(&(aliases.key(&region.chrom).to_string(), region.start, region.end)).copied()
        };
        meet(config, like, input, &theirs, by_place, progress)
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
        gene_models: like.packed_models()?,
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
    progress: &dyn Progress,
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
    progress.note(&format!(
        "{what} as in {}: {both} of {}; {} of them are not in these data, {} of these data are not in it (dropped)",
        like.dir().display(),
        theirs.len(),
        met.absent,
        met.dropped
    ));
    Ok((map, met))
}
