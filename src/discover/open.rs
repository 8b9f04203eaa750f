//! A discovery opened by its own files.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::evidence;
use super::maps::{LinkStat, Maps, TypeMap};
use super::record::{Discovery, LinkFile};
use super::tf::EVIDENCE;
use crate::data::region::parse_region;
use crate::error::{Error, Result};
use crate::files::atomic::read_text;
use crate::near::hint;
use crate::vocabulary::{Gene, Peak, Vocabulary};

impl Maps {
    /// Reads the maps of a folder that `discover` made.
    ///
    /// # Errors
    /// [`Error::Input`] where it is no such folder, or of other data.
    pub fn read(dir: &Path, v: &Vocabulary) -> Result<Maps> {
        let at = dir.join("discover.json");
        let fix = "give the folder that `sccrossrec discover --out` made";
        if !at.exists() {
            return Err(Error::input(dir, "has no discover.json", fix));
        }
        let made: Discovery = serde_json::from_str(&read_text(&at)?)
            .map_err(|e| Error::input(&at, format!("is not the record of a discovery ({e})"), fix))?;
        made.check_files(&at)?;
        let mut maps = Maps { all: open(dir, &made.all, v)?, types: Vec::new() };
        for t in &made.cell_types {
            maps.types.push(open(dir, t, v)?);
        }
        for (file, width, n) in [("peaks.tsv", 4, v.peaks.len()), ("genes.tsv", 3, v.genes.len())] {
            let path = dir.join(file);
            let text = read_text(&path)?;
            let bad = |what: String| Error::input(&path, what, "run `discover` again");
            let mut rows = 0;
            for (i, line) in text.lines().skip(1).enumerate() {
                let numbers: Option<Vec<f64>> = line.split('\t').skip(width).map(|x| x.parse().ok()).collect();
                let numbers = numbers.filter(|x| x.len() == maps.types.len() + 1 && i < n);
                let numbers = numbers.ok_or_else(|| bad(format!("line {} is no row of these data", i + 2)))?;
                for (m, x) in std::iter::once(&mut maps.all).chain(&mut maps.types).zip(numbers) {
                    let track = if width == 4 { &mut m.peaks } else { &mut m.genes };
                    track.push(x);
                }
                rows += 1;
            }
            if rows != n {
                return Err(bad(format!("has {rows} rows for {n} of the data")));
            }
        }
        Ok(maps)
    }
}

pub(crate) fn open(dir: &Path, file: &LinkFile, v: &Vocabulary) -> Result<TypeMap> {
    Ok(TypeMap {
        name: file.cell_type.clone(),
        file_stem: file.file.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        cells: file.cells,
        links: TypeMap::read_links(&dir.join(&file.file), v)?,
        peaks: Vec::with_capacity(v.peaks.len()),
        genes: Vec::with_capacity(v.genes.len()),
    })
}

pub(crate) const AGAIN: &str = "run `discover` again";

/// A folder that `discover` made.
#[derive(Debug, Clone)]
pub struct DiscoveryFolder {
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
    /// Attention of each map summed over genes, `[P]`; the maps are those of [`DiscoveryFolder::maps`].
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

impl DiscoveryFolder {
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
        Ok(DiscoveryFolder { dir: dir.to_path_buf(), made, run, data, vocabulary: v, peak_tracks, gene_tracks })
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

    /// Links of a cell type, of all cells (`None`), or the evidence: [`DiscoveryFolder::is_evidence`].
    ///
    /// # Errors
    /// As [`DiscoveryFolder::map`] and [`DiscoveryFolder::links`].
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

pub(crate) fn names(made: &Discovery) -> Vec<String> {
    std::iter::once(&made.all).chain(&made.cell_types).map(|f| f.cell_type.clone()).collect()
}
