//! Shards and tables written.

use std::path::Path;

use rayon::prelude::*;

use super::config::PrepareConfig;
use super::{DROPPED, Input};
use crate::data::anndata::{MatrixKind, list};
use crate::data::source::Modality;
use crate::dataset::rows::{RowWriter, Rows};
use crate::dataset::samples::UNLABELLED;
use crate::dataset::shard::{RowData, ShardData, VocabularySizes};
use crate::dataset::{SampleConfig, SampleSet, codec, draw_samples, shard};
use crate::error::{Error, Result};
use crate::interrupt;
use crate::progress::Hooks;
use crate::vocabulary::Vocabulary;

/// Bytes on the disk while a data set is made, of the entries that the files say they have: rows wait as index and value; a
/// matrix that is not in the order of cells waits in buckets besides; what stays takes a byte or two an entry.
pub(crate) fn disk_needed(rna: &Option<Input>, atac: &Option<Input>, features: usize) -> u64 {
    const WAITING: u64 = 8;
    const IN_BUCKETS: u64 = 12;
    const PACKED: u64 = 1;
    let inputs = || rna.iter().chain(atac).map(|i| &i.matrix);
    let entries: u64 = inputs().map(|m| m.entries().unwrap_or(0)).sum();
    let sorted = inputs().filter(|m| !m.by_rows()).map(|m| m.entries().unwrap_or(0)).max().unwrap_or(0);
    (entries * WAITING).saturating_add((sorted * IN_BUCKETS).max(entries * PACKED)).saturating_add(features as u64)
}

/// The rows of a modality, with the indices of the vocabulary; no entry at all where there is no such modality.
pub(crate) struct Entries {
    pub(crate) rows: Option<Rows>,
    /// Of each column of the file its index in the vocabulary, or [`DROPPED`]; the same where `None`.
    pub(crate) map: Option<Vec<u32>>,
}

impl Entries {
    pub(crate) fn kind(&self) -> Option<MatrixKind> {
        self.rows.as_ref().map(Rows::kind)
    }

    /// Row `i`, in no order.
    fn row(&self, i: u32) -> Result<Vec<(u32, f32)>> {
        let Some(rows) = &self.rows else { return Ok(Vec::new()) };
        let (index, values) = rows.row(i as usize)?;
        let mut entries: Vec<(u32, f32)> = index.into_iter().zip(values).collect();
        if let Some(map) = &self.map {
            entries.retain_mut(|e| {
                e.0 = map[e.0 as usize];
                e.0 != DROPPED
            });
        }
        Ok(entries)
    }

    /// Has row `i` an entry, or need it none?
    pub(crate) fn has_entry(&self, i: u32) -> Result<bool> {
        match (&self.rows, &self.map) {
            (None, _) => Ok(true),
            (Some(rows), None) => Ok(rows.len(i as usize) > 0),
            (Some(_), Some(_)) => Ok(!self.row(i)?.is_empty()),
        }
    }
}

/// Reads a matrix into a file of rows.
pub(crate) fn read_rows(
    input: &Input,
    kind: Option<MatrixKind>,
    config: &PrepareConfig,
    scratch: &Path,
    hooks: Hooks<'_>,
) -> Result<Rows> {
    let (source, matrix) = (input.source.as_ref(), &input.matrix);
    let what = input.modality.name();
    let mut rows = RowWriter::create(&scratch.join(format!("{what}.rows")))?;
    let stage = if input.modality == Modality::Rna { "reading RNA" } else { "reading ATAC" };
    let total = matrix.rows() as u64;
    let mut done = 0;
    (hooks.step)(stage, 0, total);
    matrix.for_each_block(config.streaming, scratch, &input.cells, &input.names, |block| {
        interrupt::check("nothing was written")?;
        done += block.rows() as u64;
        (hooks.step)(stage, done, total);
        rows.append(&block)
    })?;
    let rows = rows.finish()?;
    let at = matrix.at();
    let others = || {
        let others: Vec<String> = source.layers().into_iter().filter(|l| !at.ends_with(l.as_str())).collect();
        if others.is_empty() {
            "give another file".to_string()
        } else {
            format!("choose another with {} (there are {})", input.modality.layer_flag(), list(&others))
        }
    };
    if rows.entries() == 0 {
        return Err(Error::input(source.path(), format!("every value of `{at}` is 0"), others()));
    }
    (hooks.say)(&format!(
        "{what}: `{at}` of {} ({}), {} × {}, {}, {} entries: {}, largest {}",
        source.path().display(),
        source.form(),
        matrix.rows(),
        matrix.cols(),
        matrix.layout(),
        rows.entries(),
        rows.kind(),
        rows.largest()
    ));
    if rows.largest() > 16_777_216.0 {
        (hooks.say)(&format!(
            "warning: {what} values above 2^24 are kept to 24 bits (the largest is {})",
            rows.largest()
        ));
    }
    match kind {
        // Counts that happen to be 0 and 1 only are counts nevertheless.
        Some(want) if want != rows.kind() && !(want == MatrixKind::Counts && rows.kind() == MatrixKind::Binary) => {
            Err(Error::input(
                source.path(),
                format!("`{at}` holds {} (largest {}), not {want}", rows.kind(), rows.largest()),
                others(),
            ))
        }
        _ => Ok(rows),
    }
}

#[allow(clippy::too_many_arguments)]
pub(crate) fn write_shards(
    dir: &Path,
    config: &PrepareConfig,
    sizes: VocabularySizes,
    v: &Vocabulary,
    kept: &[(u32, u32)],
    rna: &Entries,
    atac: &Entries,
    hooks: Hooks<'_>,
) -> Result<(Vec<shard::ShardEntry>, (u64, u64))> {
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
    let (store_expr, store_acc) =
        (rna.kind().is_some_and(|k| k != MatrixKind::Binary), atac.kind().is_some_and(|k| k != MatrixKind::Binary));
    let mut entries = (0, 0);
    let mut out = Vec::new();
    (hooks.step)("shards", 0, kept.len() as u64);
    for (number, cells) in kept.chunks(config.shard_cells).enumerate() {
        let rows = cells
            .par_iter()
            .map(|&(r, a)| {
                interrupt::check("nothing was written")?;
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
        entries.0 += d.genes.entries();
        entries.1 += d.peaks.entries();
        out.push(shard::write(dir, &format!("shards/{number:05}.shard"), sizes, &d)?);
        (hooks.step)("shards", first + cells.len() as u64, kept.len() as u64);
    }
    Ok((out, entries))
}

pub(crate) fn default_samples(
    config: &PrepareConfig,
    v: &Vocabulary,
    say: &(dyn Fn(&str) + Sync),
) -> Result<SampleSet> {
    let mut recipe = config.samples.clone();
    let labelled = v.cell_types.iter().filter(|t| *t != UNLABELLED).count();
    if labelled == 0 {
        recipe.negative_ratio = 0.0; // said already, where the labels were looked for
    }
    let set = match draw_samples(v, &recipe) {
        // A few cells met by a trained model need not have pairs of every kind.
        Err(e) if config.like.is_some() && recipe.negative_ratio > 0.0 && !recipe.discovery => {
            say(&format!("warning: `samples/default` holds positives only: {e}"));
            draw_samples(v, &SampleConfig { negative_ratio: 0.0, ..recipe })?
        }
        set => set?,
    };
    if set.val.is_empty() || set.test.is_empty() {
        say("warning: too few cells for a validation and a test part: all samples are for training");
    }
    Ok(set)
}

pub(crate) fn folder_bytes(dir: &Path) -> Result<u64> {
    let mut total = 0;
    for entry in std::fs::read_dir(dir).map_err(|e| Error::io(dir, "read", e))? {
        let entry = entry.map_err(|e| Error::io(dir, "read", e))?;
        let meta = entry.metadata().map_err(|e| Error::io(entry.path(), "read", e))?;
        total += if meta.is_dir() { folder_bytes(&entry.path())? } else { meta.len() };
    }
    Ok(total)
}
