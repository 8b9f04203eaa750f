//! The log of a run: a record an epoch.

use std::path::Path;

use serde::de::Visitor;
use serde::{Deserialize, Serialize};

use super::run::Run;
use crate::error::{Error, Result};
use crate::files::atomic::{read_text, write_text};

/// The epochs of a run, from its `log.jsonl`; none where it has no log (imported weights) or no epoch is finished.
///
/// # Errors
/// A line that is no record.
pub fn log(run: &Run) -> Result<Vec<EpochRecord>> {
    let path = run.dir().join("log.jsonl");
    if !path.exists() {
        return Ok(Vec::new());
    }
    read_log(&path)
}

fn read_log(path: &Path) -> Result<Vec<EpochRecord>> {
    let text = read_text(path)?;
    let lines = text.lines().enumerate().filter(|l| !l.1.trim().is_empty());
    lines
        .map(|(i, line)| {
            serde_json::from_str(line).map_err(|e| {
                Error::input(path, format!("line {} is no epoch of a run ({e})", i + 1), "restore the file")
            })
        })
        .collect()
}

pub(crate) fn read_kept(path: &Path, records: usize) -> Result<Vec<EpochRecord>> {
    let text = if records == 0 && !path.exists() { String::new() } else { read_text(path)? };
    let bad = |found: String| Error::input(path, found, "restore the file or train again");
    let mut log = Vec::new();
    for (i, line) in text.lines().take(records).enumerate() {
        log.push(serde_json::from_str(line).map_err(|e| bad(format!("line {} is not a record ({e})", i + 1)))?);
    }
    if log.len() < records {
        return Err(bad(format!("has {} records where the training state has {records}", log.len())));
    }
    Ok(log)
}

/// Writes `log.jsonl` and `log.csv`, whose columns are the fields of the record, those that no record has included.
pub(crate) fn write_log(dir: &Path, log: &[EpochRecord]) -> Result<()> {
    let internal = |e: serde_json::Error| Error::Internal(format!("log: {e}"));
    let keys = Fields::of::<EpochRecord>();
    let mut lines = String::new();
    let mut table = if log.is_empty() { String::new() } else { keys.join(",") + "\n" };
    for record in log {
        lines += &(serde_json::to_string(record).map_err(internal)? + "\n");
        let fields = serde_json::to_value(record).map_err(internal)?;
        let cells: Vec<String> = keys
            .iter()
            .map(|k| fields.get(k).filter(|v| !v.is_null()).map_or(String::new(), ToString::to_string))
            .collect();
        table += &(cells.join(",") + "\n");
    }
    write_text(&dir.join("log.jsonl"), &lines)?;
    write_text(&dir.join("log.csv"), &table)
}

/// Asks a struct for the names of its fields: a source of data that has none, and keeps what is asked for.
struct Fields(&'static [&'static str]);

impl Fields {
    /// In the order of the struct, which a JSON object does not keep.
    fn of<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
        let mut fields = Fields(&[]);
        // Fails always, as there are no data.
        let _ = T::deserialize(&mut fields);
        fields.0
    }
}

impl<'de> serde::Deserializer<'de> for &mut Fields {
    type Error = serde::de::value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> std::result::Result<V::Value, Self::Error> {
        Err(serde::de::Error::custom("no data"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> std::result::Result<V::Value, Self::Error> {
        self.0 = fields;
        self.deserialize_any(visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct
        seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// One epoch: a line of `log.jsonl`. What is undefined (no validation samples, no positives) is `null`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochRecord {
    /// Number, from 1.
    pub epoch: u32,
    /// Steps done in all.
    pub step: u64,
    /// Training samples that counted.
    pub samples: u64,
    /// Training samples left out by `--on-nan skip`.
    pub skipped: u64,
    /// Mean training loss a sample, as it was at each step.
    pub loss: Option<f64>,
    /// Its cross-entropy part.
    pub match_loss: Option<f64>,
    /// Its translation part, before alpha.
    pub translation_loss: Option<f64>,
    /// Mean validation loss a sample.
    pub val_loss: Option<f64>,
    /// Its cross-entropy part.
    pub val_match_loss: Option<f64>,
    /// Matching accuracy in validation.
    pub val_accuracy: Option<f64>,
    /// Mean absolute error of predicted against true expression (0/1), over positives × genes, averaged over heads.
    pub val_mae: Option<f64>,
    /// Root mean squared error of the same, averaged over heads.
    pub val_rmse: Option<f64>,
    /// val_accuracy − val_mae: what the best model is chosen by.
    pub score: Option<f64>,
    /// Is this the best so far?
    pub best: bool,
    /// Training seconds of the epoch (since it was resumed, if it was).
    pub seconds: f64,
    /// Training samples a second.
    pub samples_per_second: f64,
    /// Learning rate of its last step; unknown in logs of older versions.
    #[serde(default)]
    pub lr: Option<f64>,
    /// Loss of the cis term a sample, a sum over genes, before its weight; none where the run has no such term.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cis_loss: Option<f64>,
    /// Contrastive loss, before its weight; none where the run has no such term.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contrast_loss: Option<f64>,
    /// Loss of the cis term in validation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val_cis_loss: Option<f64>,
}
