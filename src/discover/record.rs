//! `discover.json`: what a discovery made, and of what.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::evidence::table::LinksSummary;
use super::exports::Export;
use super::maps::TypeMap;
use super::null::Null;
use super::recovery::Recovery;
use super::tf::TfComparison;
use crate::error::{Error, Result};
use crate::files::atomic::write_text;
use crate::vocabulary::Vocabulary;

/// What attention says of the cells of a type, or of all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinkFile {
    /// The cell type, or `all` for all cells looked at.
    pub cell_type: String,
    /// Cells behind it.
    pub cells: u64,
    /// Links with attention in at least one of them.
    pub links: u64,
    /// Pairs tested, those without attention included: what q-values count.
    #[serde(default)]
    pub tests: u64,
    /// Links with a p-value.
    pub tested: u64,
    /// Of these with q below 0.05.
    pub significant: u64,
    /// Its table, in the folder of the discovery.
    pub file: PathBuf,
}

impl Discovery {
    /// Refuses a record (the file `at`) of files outside of its folder: it may come from elsewhere, or be damaged.
    pub(crate) fn check_files(&self, at: &Path) -> Result<()> {
        let named = self.files();
        match named.iter().find(|f| !is_inside(f)) {
            None => Ok(()),
            Some(file) => Err(Error::input(
                at,
                format!("names the file {}, which is not inside of its folder", file.display()),
                "run `discover` again",
            )),
        }
    }

    /// What was made, in the folder.
    fn files(&self) -> HashSet<PathBuf> {
        let links = &self.links;
        let mut files: HashSet<PathBuf> = [&links.file, &links.untested_file].into_iter().cloned().collect();
        files.extend(links.cell_types.iter().map(|t| t.file.clone()));
        files.extend(links.replicates_file.clone());
        if let Some(a) = &self.attention {
            files.extend(a.cell_types.iter().chain([&a.all]).map(|t| t.file.clone()));
            files.extend(ATTENTION_TRACKS.map(PathBuf::from));
            files.insert(a.file.clone());
        }
        for export in &self.exports {
            if export.file.extension().is_some_and(|e| e == "bedgraph") {
                files.insert(export.file.with_file_name("chrom.sizes"));
            }
            files.insert(export.file.clone());
        }
        files.extend(["tf.tsv", "tf-peaks.tsv"].map(PathBuf::from).into_iter().filter(|_| self.tf.is_some()));
        files.extend(self.recovery.iter().map(|_| PathBuf::from("recovery.tsv")));
        files
    }
}

/// Tracks of attention along peaks and genes.
pub(crate) const ATTENTION_TRACKS: [&str; 2] = ["attention-peaks.tsv", "attention-genes.tsv"];

impl LinkFile {
    pub(crate) fn write(map: &TypeMap, tests: u64, file: PathBuf, out: &Path, v: &Vocabulary) -> Result<LinkFile> {
        map.write_links(&out.join(&file), v)?;
        Ok(LinkFile {
            cell_type: map.name.clone(),
            cells: map.cells,
            links: map.links.len() as u64,
            tests,
            tested: map.links.iter().filter(|l| !l.pvalue.is_nan()).count() as u64,
            significant: map.links.iter().filter(|l| l.qvalue < 0.05).count() as u64,
            file,
        })
    }
}

/// How attention counts towards a link: by its weight A_ij, averaged over heads and summed over cells, as published.
pub(crate) const SCORE: &str = "weight";

/// Reads [`Discovery::score`]; nothing else is known.
fn score<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    match String::deserialize(from)? {
        s if s == SCORE => Ok(s),
        s => Err(D::Error::custom(format!("unknown score `{s}`, expected `{SCORE}`"))),
    }
}

/// What the attention of a model says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttentionSummary {
    /// How attention counts: `weight`, summed over cells.
    #[serde(deserialize_with = "score")]
    pub score: String,
    /// What it was tested against.
    pub null: Null,
    /// Cells (and shuffled ones) taken over from a discovery that was stopped.
    pub resumed: u64,
    /// (cell, gene, peak) with attention.
    pub pairs: u64,
    /// The attention of every cell, in the folder of the discovery.
    pub file: PathBuf,
    /// Over all cells looked at.
    pub all: LinkFile,
    /// Of each cell type; empty where the data have no cell types.
    pub cell_types: Vec<LinkFile>,
}

/// What [`discover`](super::discover) made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Discovery {
    /// Bases up to which a pair was looked at.
    pub window: f64,
    /// Cells looked at.
    pub cells: u64,
    /// The links.
    pub links: LinksSummary,
    /// What the attention of the model says; none without a model.
    pub attention: Option<AttentionSummary>,
    /// With known links: how well they are found.
    pub recovery: Option<Recovery>,
    /// With binding sites: how links and attention compare with them.
    #[serde(default)]
    pub tf: Option<TfComparison>,
    /// What was written for other programs; files in the folder of the discovery.
    #[serde(default)]
    pub exports: Vec<Export>,
}

/// What a discovery left in `out`, by its own record; `None` where there is none.
pub(crate) fn earlier(out: &Path) -> Option<Discovery> {
    serde_json::from_slice(&std::fs::read(out.join("discover.json")).ok()?).ok()
}

/// Writes the record into `out`, and what `about` says besides.
pub(super) fn write(out: &Path, made: &Discovery, about: &serde_json::Map<String, serde_json::Value>) -> Result<()> {
    let internal = |e: serde_json::Error| Error::Internal(format!("discovery: {e}"));
    let mut json = serde_json::to_value(made).map_err(internal)?;
    if let Some(fields) = json.as_object_mut() {
        fields.extend(about.clone());
    }
    write_text(&out.join("discover.json"), &format!("{json:#}\n"))
}

/// Does this name, as seen from a folder, stay inside of it?
fn is_inside(file: &Path) -> bool {
    file.components().all(|c| matches!(c, std::path::Component::Normal(_)))
}

/// Removes the files of an earlier discovery that this one did not make: beside the new ones they would pass for results
/// of the same model. Only what its record names goes, and nothing outside the folder.
pub(crate) fn remove_earlier(out: &Path, old: &Discovery, new: &Discovery) -> Result<()> {
    let kept = new.files();
    for file in old.files().into_iter().filter(|f| !kept.contains(f) && is_inside(f)) {
        let path = out.join(&file);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::io(&path, "remove", e)),
            _ => {}
        }
        for folder in file.ancestors().skip(1).filter(|f| !f.as_os_str().is_empty()) {
            let _ = std::fs::remove_dir(out.join(folder)); // stays where it holds anything
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discover::evidence::by_type::TypeSummary;

    #[test]
    fn files_of_an_earlier_discovery_go() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("links")).unwrap();
        std::fs::create_dir_all(dir.path().join("exports/bedpe")).unwrap();
        let files = ["links/B.tsv", "links/T.tsv", "links/notes.tsv", "links.tsv", "exports/bedpe/T.bedpe", "tf.tsv"];
        for file in files {
            std::fs::write(dir.path().join(file), "x").unwrap();
        }
        let of_type = |name: &str, file: &str| TypeSummary {
            cell_type: name.into(),
            cells: 1,
            links: 1,
            active: 1,
            file: file.into(),
        };
        let new = Discovery {
            window: 1.0,
            cells: 1,
            links: LinksSummary {
                file: "links.tsv".into(),
                cell_types: vec![of_type("B", "links/B.tsv")],
                ..LinksSummary::default()
            },
            attention: None,
            recovery: None,
            tf: None,
            exports: vec![],
        };
        let outside = dir.path().join("../outside-of-it.tsv");
        let mut old = new.clone();
        old.links.cell_types.extend([of_type("T", "links/T.tsv"), of_type("bad", outside.to_str().unwrap())]);
        old.exports.push(Export { file: "exports/bedpe/T.bedpe".into(), written: 1, left_out: 0 });
        std::fs::write(&outside, "x").unwrap();
        remove_earlier(dir.path(), &old, &new).unwrap();
        let there = |f: &str| dir.path().join(f).exists();
        assert!(there("links/B.tsv") && there("links/notes.tsv") && there("links.tsv") && there("tf.tsv"));
        assert!(!there("links/T.tsv") && !there("exports") && outside.exists());
        std::fs::remove_file(outside).unwrap();
    }
}
