//! A discovery, opened by its own files: without the data set or the run that it is of.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::near::hint;
use crate::data::anndata::{Column, H5Context, open_hdf5, plausible, text_of};
use crate::data::region::parse_region;
use crate::discover::evidence;
use crate::discover::maps::{LinkStat, TypeMap};
use crate::discover::tf::EVIDENCE;
use crate::discover::{Discovery, LinkFile, Pair};
use crate::error::{Error, Result};
use crate::graph::{Gene, Peak, Vocabulary};
use crate::picture::Place;
use crate::train::files::read_text;

const AGAIN: &str = "run `discover` again";

/// A folder that `discover` made.
#[derive(Debug, Clone)]
pub struct Found {
    /// The folder.
    pub dir: PathBuf,
    /// Its record.
    pub made: Discovery,
    /// The run it is of, as it was named then.
    pub run: Option<PathBuf>,
    /// The data set it is of, as it was named then.
    pub data: Option<PathBuf>,
    /// Names and places of genes and peaks; no cells.
    pub vocabulary: Vocabulary,
    /// Attention of each map summed over genes, `[P]`; the maps are those of [`Found::maps`].
    pub peak_tracks: Vec<Vec<f64>>,
    /// The same summed over peaks, `[G]`.
    pub gene_tracks: Vec<Vec<f64>>,
}

/// Rows of a track table: the fields before the numbers, and a column of numbers each map.
type Table<'t> = (Vec<Vec<&'t str>>, Vec<Vec<f64>>);

fn table<'t>(path: &Path, text: &'t str, head: &[&str], maps: &[String]) -> Result<Table<'t>> {
    let bad = |found: String| Error::input(path, found, AGAIN);
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap_or("").split('\t').collect();
    if names.len() != head.len() + maps.len() || !names.starts_with(head) {
        let of = maps.len();
        return Err(bad(format!("its header is not {} and a column of each of {of} maps", head.join(", "))));
    }
    let (mut fields, mut columns) = (Vec::new(), vec![Vec::new(); maps.len()]);
    for (i, line) in lines.enumerate() {
        let row: Vec<&str> = line.split('\t').collect();
        let numbers: Option<Vec<f64>> = row.iter().skip(head.len()).map(|x| x.parse().ok()).collect();
        let numbers = numbers.filter(|n| n.len() == maps.len());
        let numbers = numbers.ok_or_else(|| bad(format!("line {} is not a row of such a table", i + 2)))?;
        columns.iter_mut().zip(numbers).for_each(|(c, x)| c.push(x));
        fields.push(row[..head.len()].to_vec());
    }
    Ok((fields, columns))
}

impl Found {
    /// Opens a folder: its record and tracks. Links and cells are read when they are asked for.
    ///
    /// # Errors
    /// A folder that `discover` did not make, or whose tables are damaged.
    pub fn open(dir: &Path) -> Result<Self> {
        let at = dir.join("discover.json");
        if !at.exists() {
            return Err(Error::input(
                dir,
                "is not a discovery: there is no discover.json in it",
                "give the folder that `sccrossrec discover --out` made",
            ));
        }
        let bad = |e: serde_json::Error| Error::input(&at, format!("is not the record of a discovery ({e})"), AGAIN);
        let value: serde_json::Value = serde_json::from_str(&read_text(&at)?).map_err(bad)?;
        let path = |name: &str| value[name].as_str().map(PathBuf::from);
        let (run, data) = (path("run"), path("data"));
        let made: Discovery = serde_json::from_value(value).map_err(bad)?;
        made.check_files(&at)?;
        let maps = names(&made);
        let mut v = Vocabulary { cell_types: maps[1..].to_vec(), ..Vocabulary::default() };
        let mut chroms: HashMap<String, u32> = HashMap::new();
        let mut chrom = |v: &mut Vocabulary, name: &str| -> u32 {
            if let Some(&c) = chroms.get(name) {
                return c;
            }
            let c = v.chromosomes.len() as u32;
            v.chromosomes.push(name.to_string());
            chroms.insert(name.to_string(), c);
            c
        };
        let whole = |path: &Path, line: usize, x: &str| -> Result<i64> {
            if x == "." {
                return Ok(-1);
            }
            x.parse().map_err(|_| Error::input(path, format!("line {line}: {x:?} is no coordinate"), AGAIN))
        };
        let file = dir.join("genes.tsv");
        let text = read_text(&file)?;
        let (rows, gene_tracks) = table(&file, &text, &["chrom", "tss", "gene"], &maps)?;
        for (i, row) in rows.iter().enumerate() {
            let tss = Some(whole(&file, i + 2, row[1])?).filter(|t| *t >= 0);
            let chrom = chrom(&mut v, row[0]);
            v.genes.push(Gene { name: row[2].to_string(), chrom, tss });
        }
        let file = dir.join("peaks.tsv");
        let text = read_text(&file)?;
        let (rows, peak_tracks) = table(&file, &text, &["chrom", "start", "end", "peak"], &maps)?;
        for (i, row) in rows.iter().enumerate() {
            let (start, end) = (whole(&file, i + 2, row[1])?, whole(&file, i + 2, row[2])?);
            let chrom = chrom(&mut v, row[0]);
            v.peaks.push(Peak { name: row[3].to_string(), chrom, start, end });
        }
        Ok(Found { dir: dir.to_path_buf(), made, run, data, vocabulary: v, peak_tracks, gene_tracks })
    }

    /// Files of the maps: `all`, then the cell types in their order.
    pub fn maps(&self) -> impl Iterator<Item = &LinkFile> {
        std::iter::once(&self.made.all).chain(&self.made.cell_types)
    }

    /// Number of a map by its cell type; `None`: all cells.
    ///
    /// # Errors
    /// No such cell type; the message names those that are like it.
    pub fn map(&self, cell_type: Option<&str>) -> Result<usize> {
        let Some(name) = cell_type else { return Ok(0) };
        let names = names(&self.made);
        names.iter().position(|n| n == name).ok_or_else(|| {
            let hint = hint(name, names.iter().map(String::as_str));
            Error::usage(format!("--cell-type {name}: there is no such map in {}; {hint}", self.dir.display()))
        })
    }

    /// Links of a map, by falling score.
    ///
    /// # Errors
    /// A table that is missing or damaged.
    pub fn links(&self, map: usize) -> Result<Vec<LinkStat>> {
        let file = self.maps().nth(map).ok_or_else(|| Error::Internal(format!("map {map} of a discovery")))?;
        TypeMap::read_links(&self.dir.join(&file.file), &self.vocabulary)
    }

    /// The evidence, by falling probability, which is the score; `None` where the discovery has none.
    ///
    /// # Errors
    /// A table that is missing or damaged.
    pub fn evidence(&self) -> Result<Option<Vec<LinkStat>>> {
        let file = self.made.evidence.as_ref().map(|e| self.dir.join(&e.file));
        file.map(|file| evidence::read(&file, &self.vocabulary)).transpose()
    }

    /// Does this name mean the evidence? It is [`EVIDENCE`], where no cell type is called so.
    pub fn is_evidence(&self, name: Option<&str>) -> bool {
        name == Some(EVIDENCE) && self.made.evidence.is_some() && !names(&self.made).iter().any(|n| n == EVIDENCE)
    }

    /// Links of a cell type, of all cells (`None`), or the evidence: [`Found::is_evidence`].
    ///
    /// # Errors
    /// As [`Found::map`] and [`Found::links`].
    pub fn links_of(&self, name: Option<&str>) -> Result<Vec<LinkStat>> {
        if self.is_evidence(name) {
            return Ok(self.evidence()?.unwrap_or_default());
        }
        self.links(self.map(name)?)
    }

    /// Number of a gene by its name.
    ///
    /// # Errors
    /// No such gene; the message names those that are like it.
    pub fn gene(&self, name: &str) -> Result<u32> {
        let names = || self.vocabulary.genes.iter().map(|g| g.name.as_str());
        names().position(|n| n == name).map(|i| i as u32).ok_or_else(|| {
            let hint = hint(name, names());
            Error::usage(format!("--gene {name}: there is no such gene in {}; {hint}", self.dir.display()))
        })
    }

    /// Chromosome and TSS of every gene.
    pub fn gene_places(&self) -> Vec<Place> {
        self.vocabulary.genes.iter().map(|g| Place { chrom: g.chrom, base: g.tss.unwrap_or(-1) }).collect()
    }

    /// Chromosome and middle of every peak.
    pub fn peak_places(&self) -> Vec<Place> {
        let middle = |p: &Peak| if p.start < 0 || p.end < 0 { -1 } else { p.start.midpoint(p.end) };
        self.vocabulary.peaks.iter().map(|p| Place { chrom: p.chrom, base: middle(p) }).collect()
    }

    /// The attention of one cell, by (gene, peak).
    ///
    /// # Errors
    /// No such cell; the message names those that are like it. A file that is missing, damaged, or of other genes and peaks.
    pub fn cell(&self, barcode: &str) -> Result<Vec<Pair>> {
        let path = self.dir.join(&self.made.attention);
        let bad = |found: String| Error::input(&path, found, AGAIN);
        if !path.exists() {
            return Err(bad("is not there".into()));
        }
        let (file, bytes) = open_hdf5(&path, AGAIN)?;
        let set = |name: &str| file.dataset(name).at(&path, || format!("read `{name}`"));
        let Column::Strings(names) = text_of(&path, bytes, &set("cells")?, "cells")? else {
            return Err(bad("`cells` is not text".into()));
        };
        let row = names.iter().position(|n| n == barcode).ok_or_else(|| {
            let hint = hint(barcode, names.iter().map(String::as_str));
            Error::usage(format!("--cell {barcode}: there is no such cell in {}; {hint}", path.display()))
        })?;
        for (name, n) in [("genes", self.vocabulary.genes.len()), ("peaks", self.vocabulary.peaks.len())] {
            let size = set(name)?.size();
            if size != n {
                return Err(bad(format!("has {size} {name} where {name}.tsv has {n}")));
            }
        }
        let Column::Ints(indptr) = text_of(&path, bytes, &set("indptr")?, "indptr")? else {
            return Err(bad("`indptr` does not hold whole numbers".into()));
        };
        let place = |i: usize| indptr.get(i).and_then(|&p| usize::try_from(p).ok());
        let (Some(from), Some(to)) = (place(row), place(row + 1)) else {
            return Err(bad("`indptr` is too short or damaged".into()));
        };
        let mut out = Vec::new();
        let (gene, peak) = (set("gene")?, set("peak")?);
        let (weight, score) = (set("weight")?, set("score")?);
        for (set, name) in [(&gene, "gene"), (&peak, "peak"), (&weight, "weight"), (&score, "score")] {
            let shape = set.get_shape().at(&path, || format!("read the shape of `{name}`"))?;
            plausible(&path, bytes, name, &shape, 4)?;
        }
        if from > to || [&gene, &peak, &weight, &score].iter().any(|s| s.size() < to) {
            return Err(bad("`indptr` does not fit the pairs".into()));
        }
        if from == to {
            return Ok(out);
        }
        let at = |e: hdf5::Result<_>| e.at(&path, || "read the pairs".into());
        let (gene, peak) = (at(gene.read_slice_1d::<u32, _>(from..to))?, at(peak.read_slice_1d::<u32, _>(from..to))?);
        let at = |e: hdf5::Result<_>| e.at(&path, || "read the pairs".into());
        let (weight, score) = (at(weight.read_slice_1d::<f32, _>(from..to))?, at(score.read_slice_1d(from..to))?);
        for i in 0..to - from {
            let pair = Pair { gene: gene[i], peak: peak[i], weight: weight[i], score: score[i] };
            if pair.gene as usize >= self.vocabulary.genes.len() || pair.peak as usize >= self.vocabulary.peaks.len() {
                return Err(bad(format!("pair {} is of no gene or peak", from + i)));
            }
            out.push(pair);
        }
        Ok(out)
    }

    /// A peak in words: its place, and its name where that says something else.
    pub fn peak_name(&self, peak: u32) -> String {
        let p = &self.vocabulary.peaks[peak as usize];
        let chrom = self.vocabulary.chromosomes.get(p.chrom as usize).map_or(".", String::as_str);
        match parse_region(&p.name) {
            Some(r) if r.chrom == chrom && (r.start, r.end) == (p.start, p.end) => {
                format!("{chrom}:{}-{}", p.start, p.end)
            }
            _ => p.name.clone(),
        }
    }
}

fn names(made: &Discovery) -> Vec<String> {
    std::iter::once(&made.all).chain(&made.cell_types).map(|f| f.cell_type.clone()).collect()
}
