//! A data set written: vocabulary, features, shards, samples, and what the manifest tells of them.

use std::path::Path;

use rayon::prelude::*;
use serde_json::json;

use super::cells::CellData;
use super::config::PrepareConfig;
use super::input::Inputs;
use super::like::Constant;
use super::promoters::PromoterShare;
use super::rows::{Entries, Matrices, NOTHING};
use super::vocabulary::write_vocabulary;
use crate::data::anndata::MatrixKind;
use crate::dataset;
use crate::dataset::manifest::{Content, MANIFEST, ObsHead, Part, write_part};
use crate::dataset::models::GENE_MODELS;
use crate::dataset::samples::UNLABELLED;
use crate::dataset::shard::{RowData, ShardData, ShardEntry, VocabularySizes};
use crate::dataset::{SampleConfig, SampleSet, codec, draw_samples, fingerprint, samples, shard};
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::vocabulary::Vocabulary;

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

/// Refuses a target inside of an input, of another data set or of a run.
pub(crate) fn check_place(out: &Path, config: &PrepareConfig) -> Result<()> {
    const FIX: &str = "choose another --out";
    let whole = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    // What is not made yet cannot be followed through links: its folder can.
    let there = |path: &Path| {
        let path = whole(path);
        let made = path.ancestors().find(|p| p.exists()).map(Path::to_path_buf).unwrap_or_default();
        let rest = path.strip_prefix(&made).map(Path::to_path_buf).unwrap_or_default();
        made.canonicalize().unwrap_or(made).join(rest)
    };
    let out_there = there(out);
    for above in out_there.ancestors().skip(1) {
        for (mark, what) in [(MANIFEST, "a prepared data set"), ("run.json", "a run"), ("discover.json", "a discovery")]
        {
            if above.join(mark).is_file() {
                return Err(Error::input(out, format!("is inside of {}, {what}", above.display()), FIX));
            }
        }
    }
    for input in [&config.rna, &config.atac, &config.like].into_iter().flatten() {
        let input = there(input);
        if input.is_dir() && out_there.starts_with(&input) {
            return Err(Error::input(out, format!("is (inside of) the input {}", input.display()), FIX));
        }
    }
    Ok(())
}

/// Is this a file, as seen from the folder of a data set, that makes it up?
pub(crate) fn is_ours(file: &Path) -> bool {
    let tables = [dataset::GENES.0, dataset::PEAKS.0, dataset::CELLS.0, GENE_MODELS];
    let mut named = tables.into_iter().chain([MANIFEST, dataset::OBS, dataset::FEATURES]);
    let folder = file.parent().and_then(Path::to_str);
    match folder {
        Some("") => named.any(|n| file == Path::new(n)),
        Some("shards") => file.extension().is_some_and(|e| e == "shard"),
        Some(samples::FOLDER) => true,
        _ => false,
    }
}

/// Writes the vocabulary, the columns of cells and the features.
pub(crate) fn write_constant(dir: &Path, constant: &Constant) -> Result<Vec<Part>> {
    let mut parts = write_vocabulary(dir, &constant.vocabulary)?;
    parts.push(write_part(dir, dataset::OBS, &dataset::obs_bytes(&constant.vocabulary.obs))?);
    let mut bytes = Vec::with_capacity(constant.gene_extra.len() * 4 + constant.peak_dna.len());
    bytes.extend(constant.gene_extra.iter().flat_map(|v| v.to_le_bytes()));
    bytes.extend(&constant.peak_dna);
    parts.push(write_part(dir, dataset::FEATURES, &bytes)?);
    Ok(parts)
}

/// Shards that were written.
pub(crate) struct Shards {
    pub files: Vec<ShardEntry>,
    /// Gene entries of all cells.
    pub rna_entries: u64,
    /// Peak entries of all cells.
    pub atac_entries: u64,
}

/// Writes the cells that are `kept` into shards, which are bound to the `parts` of the vocabulary `v`.
pub(crate) fn write_shards(
    dir: &Path,
    config: &PrepareConfig,
    v: &Vocabulary,
    parts: &[Part],
    kept: &[(u32, u32)],
    matrices: &Matrices,
    progress: &dyn Progress,
) -> Result<Shards> {
    let Matrices { rna, atac } = matrices;
    let sizes =
        VocabularySizes { genes: v.genes.len() as u64, peaks: v.peaks.len() as u64, fingerprint: fingerprint(parts) };
    let folder = dir.join("shards");
    std::fs::create_dir(&folder).map_err(|e| Error::io(&folder, "create", e))?;
    let ranks = |chrom: Vec<u32>| codec::ranks(&codec::order(&chrom));
    let gene_ranks = ranks(v.genes.iter().map(|g| g.chrom).collect());
    let peak_ranks = ranks(v.peaks.iter().map(|p| p.chrom).collect());
    // Entries and bytes of a row.
    let encode = |rows: &Entries, i: u32, ranks: &[u32], stored: bool| -> Result<(usize, Vec<u8>)> {
        let mut entries = rows.row(i)?;
        entries.iter_mut().for_each(|e| e.0 = ranks[e.0 as usize]);
        entries.sort_unstable_by_key(|e| e.0);
        let mut bytes = Vec::new();
        codec::encode(&entries, stored, &mut bytes);
        Ok((entries.len(), bytes))
    };
    let stored = |rows: &Entries| rows.kind().is_some_and(|k| k != MatrixKind::Binary);
    let (store_expr, store_acc) = (stored(rna), stored(atac));
    let mut out = Shards { files: Vec::new(), rna_entries: 0, atac_entries: 0 };
    progress.at("shards", 0, kept.len() as u64);
    for (number, cells) in kept.chunks(config.shard_cells).enumerate() {
        let rows = cells
            .par_iter()
            .map(|&(r, a)| {
                progress.check(NOTHING)?;
                Ok((encode(rna, r, &gene_ranks, store_expr)?, encode(atac, a, &peak_ranks, store_acc)?))
            })
            .collect::<Result<Vec<_>>>()?;
        let first = (number * config.shard_cells) as u64;
        let (genes, peaks) = (RowData::new(store_expr), RowData::new(store_acc));
        let mut d = ShardData { number: number as u32, first, genes, peaks };
        for (genes, peaks) in rows {
            d.genes.push(genes.0, &genes.1);
            d.peaks.push(peaks.0, &peaks.1);
        }
        out.rna_entries += d.genes.entries();
        out.atac_entries += d.peaks.entries();
        out.files.push(shard::write(dir, &format!("shards/{number:05}.shard"), sizes, &d)?);
        progress.at("shards", first + cells.len() as u64, kept.len() as u64);
    }
    Ok(out)
}

/// Draws `samples/default`: positives only where nothing is labelled, and told where parts stay empty.
fn default_samples(config: &PrepareConfig, v: &Vocabulary, progress: &dyn Progress) -> Result<SampleSet> {
    let mut recipe = config.samples.clone();
    let labelled = v.cell_types.iter().filter(|t| *t != UNLABELLED).count();
    if labelled == 0 {
        recipe.negative_ratio = 0.0; // said already, where the labels were looked for
    }
    let set = match draw_samples(v, &recipe) {
        // A few cells met by a trained model need not have pairs of every kind.
        Err(e) if config.like.is_some() && recipe.negative_ratio > 0.0 && !recipe.discovery => {
            progress.note(&format!("warning: there are positive pairs only: {e}"));
            draw_samples(v, &SampleConfig { negative_ratio: 0.0, ..recipe })?
        }
        set => set?,
    };
    if set.val.is_empty() || set.test.is_empty() {
        progress.note("warning: too few cells for a validation and a test part: all pairs are for training");
    }
    Ok(set)
}

/// Draws the samples that there will be, from cells as yet without names: what is wrong with them is an error.
pub(crate) fn try_samples(
    config: &PrepareConfig,
    inputs: &Inputs,
    told: &CellData,
    pairs: &[(u32, u32)],
) -> Result<()> {
    if inputs.paired() {
        default_samples(config, &told.draft(pairs), &())?;
    }
    Ok(())
}

/// Draws and writes `samples/default`; of one modality alone there is nothing to pair, and no file.
pub(crate) fn write_samples(
    dir: &Path,
    config: &PrepareConfig,
    inputs: &Inputs,
    v: &Vocabulary,
    data_hash: &str,
    progress: &dyn Progress,
) -> Result<SampleSet> {
    if !inputs.paired() {
        return Ok(SampleSet::default());
    }
    let set = default_samples(config, v, progress)?;
    samples::save(dir, "default", &set, data_hash, false)?;
    Ok(set)
}

/// What the manifest tells of the content.
pub(crate) fn content(
    constant: &Constant,
    kinds: (Option<MatrixKind>, Option<MatrixKind>),
    parts: Vec<Part>,
    shards: Vec<ShardEntry>,
) -> Content {
    let v = &constant.vocabulary;
    Content {
        cells: v.cells.len(),
        genes: v.genes.len(),
        peaks: v.peaks.len(),
        chromosomes: v.chromosomes.clone(),
        unknown: v.unknown,
        cell_types: v.cell_types.clone(),
        obs: v.obs.iter().map(|c| ObsHead { name: c.name.clone(), categories: c.categories.clone() }).collect(),
        gene_features: constant.gene_features.clone(),
        dna_length: constant.dna_length,
        rna_kind: kinds.0,
        atac_kind: kinds.1,
        parts,
        shards,
    }
}

/// What the manifest tells of where the data came from. `dropped`: cells only in the RNA file, only in the ATAC file, empty;
/// `unknown`: genes and peaks without a chromosome; `promoters`: shares of transcription starts near peaks.
pub(crate) fn origin(
    config: &PrepareConfig,
    inputs: &Inputs,
    dropped: [usize; 3],
    unknown: (usize, usize),
    promoters: Option<PromoterShare>,
) -> serde_json::Value {
    let shown = |path: &Path| path.display().to_string(); // a path need not be text, JSON must be
    let mut origin = json!({
        "program": concat!("sccrossrec ", env!("CARGO_PKG_VERSION")),
        "dataset": config.dataset, "like": config.like.as_deref().map(shown),
        "rna": config.rna.as_deref().map(shown), "rna_matrix": inputs.rna.as_ref().map(|i| i.matrix.at()),
        "atac": config.atac.as_deref().map(shown), "atac_matrix": inputs.atac.as_ref().map(|i| i.matrix.at()),
        "gtf": config.gtf.as_deref().map(shown), "obs": config.obs.as_deref().map(shown), "fasta": config.fasta.as_deref().map(shown),
        "only_rna": dropped[0], "only_atac": dropped[1], "dropped_empty": dropped[2],
        "genes_unknown": unknown.0, "peaks_unknown": unknown.1,
    });
    // What is not told is not there, as in data sets of before.
    if let Some(aliases) = &config.aliases {
        origin["aliases"] = shown(aliases).into();
    }
    if let Some(promoters) = promoters {
        origin["promoters"] = json!(promoters);
    }
    origin
}

/// Bytes of all files below a folder.
pub(crate) fn folder_bytes(dir: &Path) -> Result<u64> {
    let mut total = 0;
    for entry in std::fs::read_dir(dir).map_err(|e| Error::io(dir, "read", e))? {
        let entry = entry.map_err(|e| Error::io(dir, "read", e))?;
        let meta = entry.metadata().map_err(|e| Error::io(entry.path(), "read", e))?;
        total += if meta.is_dir() { folder_bytes(&entry.path())? } else { meta.len() };
    }
    Ok(total)
}
