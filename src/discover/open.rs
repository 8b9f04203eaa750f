//! A discovery opened by its own files.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::evidence::Selection;
use super::evidence::table::{read_links, read_type};
use super::maps::{LinkStat, Maps, TypeMap};
use super::record::{ATTENTION_TRACKS, AttentionSummary, Discovery, LinkFile};
use crate::data::region::parse_region;
use crate::error::{Error, Result};
use crate::files::atomic::read_text;
use crate::near::hint;
use crate::vocabulary::{Gene, Peak, Vocabulary};

/// Which maps of a discovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Links, of all cells and of each cell type.
    Links,
    /// What the attention of the model says, the same.
    Attention,
}

impl Maps {
    /// Reads the maps of a folder that `discover` made, of links or of attention.
    ///
    /// # Errors
    /// [`Error::Input`] where it is no such folder, or of other data, or made without a model.
    pub fn read(dir: &Path, v: &Vocabulary, source: Source) -> Result<Maps> {
        let at = dir.join("discover.json");
        let fix = "give the folder that `sccrossrec discover --out` made";
        if !at.exists() {
            return Err(Error::input(dir, "has no discover.json", fix));
        }
        let made: Discovery = serde_json::from_str(&read_text(&at)?)
            .map_err(|e| Error::input(&at, format!("is not the record of a discovery ({e})"), fix))?;
        made.check_files(&at)?;
        let files = map_files(&made, source).ok_or_else(|| Error::input(dir, NO_MODEL.0, NO_MODEL.1))?;
        let mut all = files.iter().enumerate().map(|(i, file)| {
            Ok(TypeMap {
                name: file.name.clone(),
                file_stem: stem(&file.file),
                cells: file.cells,
                links: file.read(dir, v, source, i, made.links.selection)?,
                peaks: Vec::with_capacity(v.peaks.len()),
                genes: Vec::with_capacity(v.genes.len()),
            })
        });
        let first = all.next().unwrap_or_else(|| Err(Error::Internal("a discovery without maps".into())))?;
        let mut maps = Maps { all: first, types: all.collect::<Result<Vec<_>>>()? };
        let tracks = track_files(source);
        for (file, width, n) in [(tracks[0], 4, v.peaks.len()), (tracks[1], 3, v.genes.len())] {
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

/// What is said where attention is asked for and there is none.
const NO_MODEL: (&str, &str) =
    ("was made without a model: there is no attention in it", "discover again with --run, or ask for links");

/// Name of a file without its endings.
fn stem(file: &Path) -> String {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    name.trim_end_matches(".gz").trim_end_matches(".tsv").to_string()
}

/// Tracks along peaks and genes.
fn track_files(source: Source) -> [&'static str; 2] {
    if source == Source::Links { ["peaks.tsv", "genes.tsv"] } else { ATTENTION_TRACKS }
}

/// A map of a discovery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapFile {
    /// `all`, or the cell type.
    pub name: String,
    /// Cells behind it.
    pub cells: u64,
    /// Links in it: those that count, of a type those active in it; or those with attention.
    pub links: u64,
    /// Its table, in the folder of the discovery.
    pub file: PathBuf,
}

impl MapFile {
    fn read(
        &self,
        dir: &Path,
        v: &Vocabulary,
        source: Source,
        map: usize,
        selection: Selection,
    ) -> Result<Vec<LinkStat>> {
        let path = dir.join(&self.file);
        match (source, map) {
            (Source::Attention, _) => TypeMap::read_links(&path, v),
            (Source::Links, 0) => read_links(&path, v),
            (Source::Links, _) => read_type(&path, v, selection),
        }
    }
}

/// Maps of links, or of attention where there is any: of all cells, then of the types.
fn map_files(made: &Discovery, source: Source) -> Option<Vec<MapFile>> {
    let of_attention =
        |f: &LinkFile| MapFile { name: f.cell_type.clone(), cells: f.cells, links: f.links, file: f.file.clone() };
    if source == Source::Attention {
        let AttentionSummary { all, cell_types, .. } = made.attention.as_ref()?;
        return Some(std::iter::once(all).chain(cell_types).map(of_attention).collect());
    }
    let links = &made.links;
    let all = MapFile { name: "all".into(), cells: made.cells, links: links.selected, file: links.file.clone() };
    let types = links.cell_types.iter().map(|t| MapFile {
        name: t.cell_type.clone(),
        cells: t.cells,
        links: t.active,
        file: t.file.clone(),
    });
    Some(std::iter::once(all).chain(types).collect())
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
    /// Hash of that data set, where the record tells it.
    pub data_hash: Option<String>,
    /// Names and places of genes and peaks; no cells.
    pub vocabulary: Vocabulary,
    /// Links expected of each map by peak, `[P]`; the maps are those of [`DiscoveryFolder::maps`].
    pub peak_tracks: Vec<Vec<f64>>,
    /// The same by gene, `[G]`.
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
        let data_hash = value["data_hash"].as_str().map(String::from);
        let made: Discovery = serde_json::from_value(value).map_err(bad)?;
        made.check_files(&at)?;
        let maps: Vec<String> = map_files(&made, Source::Links).into_iter().flatten().map(|m| m.name).collect();
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
        Ok(DiscoveryFolder {
            dir: dir.to_path_buf(),
            made,
            run,
            data,
            data_hash,
            vocabulary: v,
            peak_tracks,
            gene_tracks,
        })
    }

    /// Refuses data that are not those of this discovery: by their hash, or, where the record does not tell that, by the
    /// names of genes and peaks.
    ///
    /// # Errors
    /// Other data.
    pub fn check_data(&self, hash: &str, v: &Vocabulary) -> Result<()> {
        let names = |v: &Vocabulary| (v.genes.len(), v.peaks.len());
        let same_genes = self.vocabulary.genes.iter().map(|g| &g.name).eq(v.genes.iter().map(|g| &g.name));
        let same_peaks = self.vocabulary.peaks.iter().map(|p| &p.name).eq(v.peaks.iter().map(|p| &p.name));
        let (own, other) = (names(&self.vocabulary), names(v));
        // By the hash where it is known: names in tables may have been edited.
        let same = match &self.data_hash {
            Some(known) => known == hash && own == other,
            None => same_genes && same_peaks,
        };
        if same {
            return Ok(());
        }
        let what = match own == other {
            true => "other values or names".to_string(),
            false => format!("{} genes and {} peaks, not {} and {}", own.0, own.1, other.0, other.1),
        };
        Err(Error::input(
            &self.dir,
            format!("is a discovery of other data than these ({what})"),
            "give a discovery of the same data set, or discover again with it",
        ))
    }

    /// Maps of links: `all`, then the cell types in their order.
    pub fn maps(&self) -> Vec<MapFile> {
        map_files(&self.made, Source::Links).unwrap_or_default()
    }

    /// Maps of links or of attention.
    ///
    /// # Errors
    /// Attention, of a discovery without a model.
    pub fn maps_of(&self, source: Source) -> Result<Vec<MapFile>> {
        map_files(&self.made, source).ok_or_else(|| Error::input(&self.dir, NO_MODEL.0, NO_MODEL.1))
    }

    /// Number of a map by its cell type; `None`: all cells.
    ///
    /// # Errors
    /// No such cell type; the message names those that are like it.
    pub fn map(&self, source: Source, cell_type: Option<&str>) -> Result<usize> {
        let Some(name) = cell_type else { return Ok(0) };
        let maps = self.maps_of(source)?;
        maps.iter().position(|m| m.name == name).ok_or_else(|| {
            let hint = hint(name, maps.iter().map(|m| m.name.as_str()));
            let small = &self.made.links.small_types;
            let why = match source == Source::Links && small.iter().any(|s| s == name) {
                true => " (too few cells, --min-type-cells)",
                false => "",
            };
            Error::usage(format!("--cell-type {name}: there is no such map in {}{why}; {hint}", self.dir.display()))
        })
    }

    /// Links of a map, by falling score: of all cells every pair, of a type those active in it.
    ///
    /// # Errors
    /// A table that is missing or damaged.
    pub fn links(&self, source: Source, map: usize) -> Result<Vec<LinkStat>> {
        let maps = self.maps_of(source)?;
        let file = maps.get(map).ok_or_else(|| Error::Internal(format!("map {map} of a discovery")))?;
        file.read(&self.dir, &self.vocabulary, source, map, self.made.links.selection)
    }

    /// Tracks of a map along peaks, `[P]`.
    ///
    /// # Errors
    /// A table that is missing or damaged.
    pub fn peak_track(&self, source: Source, map: usize) -> Result<Vec<f64>> {
        if source == Source::Links {
            return Ok(self.peak_tracks.get(map).cloned().unwrap_or_default());
        }
        let names: Vec<String> = self.maps_of(source)?.into_iter().map(|m| m.name).collect();
        let path = self.dir.join(track_files(source)[0]);
        let (_, mut tracks) = table(&path, &read_text(&path)?, &["chrom", "start", "end", "peak"], &names)
            .map(|(rows, tracks)| (rows.len(), tracks))?;
        match tracks.get_mut(map) {
            Some(t) if t.len() == self.vocabulary.peaks.len() => Ok(std::mem::take(t)),
            _ => Err(Error::input(&path, "is not of the peaks of this discovery", AGAIN)),
        }
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
