//! The matrices as rows on disk, told by cell, with the indices of the vocabulary.

use std::path::Path;

use super::config::PrepareConfig;
use super::input::{Input, Inputs};
use crate::data::anndata::{MatrixKind, list};
use crate::data::source::Modality;
use crate::dataset::DataSet;
use crate::dataset::rows::{RowWriter, Rows};
use crate::error::{Error, Result};
use crate::memory;
use crate::progress::Progress;

/// What an interrupted run has saved.
pub(crate) const NOTHING: &str = "nothing was written";

/// A feature of the file that the vocabulary lacks.
pub(crate) const DROPPED: u32 = u32::MAX;

/// Bytes on the disk while a data set is made, of the entries that the files say they have: rows wait as index and value; a
/// matrix that is not in the order of cells waits in buckets besides; what stays takes a byte or two an entry.
fn disk_needed(inputs: &Inputs, features: usize) -> u64 {
    const WAITING: u64 = 8;
    const IN_BUCKETS: u64 = 12;
    const PACKED: u64 = 1;
    let matrices = || inputs.all().map(|i| &i.matrix);
    let entries: u64 = matrices().map(|m| m.entries().unwrap_or(0)).sum();
    let sorted = matrices().filter(|m| !m.by_rows()).map(|m| m.entries().unwrap_or(0)).max().unwrap_or(0);
    (entries * WAITING).saturating_add((sorted * IN_BUCKETS).max(entries * PACKED)).saturating_add(features as u64)
}

/// Tells how much of the disk is needed for `features` bytes of features and the matrices, and refuses to begin where less is
/// free.
pub(crate) fn check_room(out: &Path, inputs: &Inputs, features: usize, progress: &dyn Progress) -> Result<()> {
    let needed = disk_needed(inputs, features);
    memory::check_disk(out, needed)?;
    let free = memory::free_disk(out).map_or(String::new(), |free| format!("; {} are free", memory::size(free)));
    progress.note(&format!("disk: about {} while it is made{free}", memory::size(needed)));
    Ok(())
}

/// The rows of a modality, with the indices of the vocabulary; no entry at all where there is no such modality.
pub(crate) struct Entries {
    rows: Option<Rows>,
    /// Of each column of the file its index in the vocabulary, or [`DROPPED`]; the same where `None`.
    map: Option<Vec<u32>>,
}

impl Entries {
    pub(crate) fn kind(&self) -> Option<MatrixKind> {
        self.rows.as_ref().map(Rows::kind)
    }

    /// Row `i`, in no order.
    pub(crate) fn row(&self, i: u32) -> Result<Vec<(u32, f32)>> {
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
    fn has_entry(&self, i: u32) -> Result<bool> {
        match (&self.rows, &self.map) {
            (None, _) => Ok(true),
            (Some(rows), None) => Ok(rows.len(i as usize) > 0),
            (Some(_), Some(_)) => Ok(!self.row(i)?.is_empty()),
        }
    }
}

/// Reads a matrix into a file of rows.
fn read_rows(
    input: &Input,
    kind: Option<MatrixKind>,
    config: &PrepareConfig,
    scratch: &Path,
    progress: &dyn Progress,
) -> Result<Rows> {
    let (source, matrix) = (input.source.as_ref(), &input.matrix);
    let what = input.modality.name();
    let mut rows = RowWriter::create(&scratch.join(format!("{what}.rows")))?;
    let stage = if input.modality == Modality::Rna { "reading RNA" } else { "reading ATAC" };
    let total = matrix.rows() as u64;
    let mut done = 0;
    progress.at(stage, 0, total);
    matrix.for_each_block(config.streaming, scratch, &input.cells, &input.names, |block| {
        progress.check(NOTHING)?;
        done += block.rows() as u64;
        progress.at(stage, done, total);
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
    progress.note(&format!(
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
        progress.note(&format!(
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

/// A model that was trained on values of one kind says nothing sensible of another.
fn refuse_other_kind(
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

/// Both matrices.
pub(crate) struct Matrices {
    pub rna: Entries,
    pub atac: Entries,
}

impl Matrices {
    /// Reads the matrices of the files into the folder `scratch`; `maps` is [`Constant::maps`](super::like::Constant::maps).
    /// Values of another kind than was asked for, or than those of `like`, are refused.
    pub(crate) fn read(
        config: &PrepareConfig,
        inputs: &Inputs,
        maps: [Option<&[u32]>; 2],
        like: Option<&DataSet>,
        scratch: &Path,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let (like_rna, like_atac) = like.map_or((None, None), DataSet::kinds);
        let read = |input: &Option<Input>, asked, theirs, map: Option<&[u32]>| -> Result<Entries> {
            let rows = input.as_ref().map(|input| read_rows(input, asked, config, scratch, progress)).transpose()?;
            let entries = Entries { map: map.filter(|_| rows.is_some()).map(<[u32]>::to_vec), rows };
            refuse_other_kind(&entries, theirs, asked, input.as_ref())?;
            Ok(entries)
        };
        Ok(Matrices {
            rna: read(&inputs.rna, config.rna_kind, like_rna, maps[0])?,
            atac: read(&inputs.atac, config.atac_kind, like_atac, maps[1])?,
        })
    }

    /// What the values of RNA and of ATAC are; `None` where there is no such file.
    pub(crate) fn kinds(&self) -> (Option<MatrixKind>, Option<MatrixKind>) {
        (self.rna.kind(), self.atac.kind())
    }

    /// Those of the `pairs` that have a gene and a peak (in the files that are there); the others are told.
    pub(crate) fn keep(
        &self,
        inputs: &Inputs,
        pairs: &[(u32, u32)],
        progress: &dyn Progress,
    ) -> Result<Vec<(u32, u32)>> {
        let mut kept: Vec<(u32, u32)> = Vec::with_capacity(pairs.len());
        let (mut no_gene, mut no_peak) = (0, 0);
        for &(r, a) in pairs {
            let (gene, peak) = (self.rna.has_entry(r)?, self.atac.has_entry(a)?);
            no_gene += usize::from(!gene);
            no_peak += usize::from(!peak);
            if gene && peak {
                kept.push((r, a));
            }
        }
        let empty = pairs.len() - kept.len();
        if empty > 0 {
            progress
                .note(&format!("warning: dropped {empty} cells ({no_gene} without a gene, {no_peak} without a peak)"));
        }
        match inputs.all().next() {
            Some(first) if kept.is_empty() => Err(Error::input(
                first.source.path(),
                format!("none of the {} cells has a gene and a peak that can be used", pairs.len()),
                "give files in which they have",
            )),
            _ => Ok(kept),
        }
    }
}
