//! The maps of cell types: links with their statistics, and the tracks of peaks and genes, in memory and on disk.
//!
//! # On disk
//! In the folder that `discover` makes; tables are parted by tabs, with a header line, coordinates 0-based and half-open:
//!
//! | file | content |
//! | --- | --- |
//! | `links.tsv`, `links/TYPE.tsv`, `links-untested.tsv`, `replicates.tsv` | the evidence: [`evidence::table`](super::evidence::table) |
//! | `peaks.tsv`, `genes.tsv` | chrom, start, end, peak (or chrom, tss, gene), then for `all` and each cell type the links expected: sums of probabilities, of a type over the links active in it |
//! | `attention.tsv`, `attention/TYPE.tsv` | what attention says: the columns of [`LINK_COLUMNS`], by falling score; `.` where a coordinate is unknown, `NaN` where a statistic is |
//! | `attention-peaks.tsv`, `attention-genes.tsv` | as `peaks.tsv` and `genes.tsv`, the attention summed over cells and all genes (or peaks) |
//! | `discover.json` | what was made, from what |

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::path::Path;

use crate::error::{Error, Result};
use crate::files::atomic::{read_text, write_atomic};
use crate::vocabulary::{Vocabulary, distance};

/// Columns of a table of attention.
pub const LINK_COLUMNS: [&str; 14] = [
    "chrom",
    "start",
    "end",
    "gene",
    "tss",
    "distance",
    "score",
    "zscore",
    "pvalue",
    "qvalue",
    "n_cells",
    "mean",
    "cell_type",
    "peak",
];

/// A gene–peak link of the cells of one type (or of all), with its statistics.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LinkStat {
    /// Data set index of the gene.
    pub gene: u32,
    /// Data set index of the peak.
    pub peak: u32,
    /// Attention summed over cells; of a link, its probability.
    pub score: f64,
    /// Cells that contributed.
    pub cells: u32,
    /// Standard deviations above the mean of the null; NaN where there is none, or it has no spread.
    pub zscore: f64,
    /// Chance of such a score under the null; NaN where there is none.
    pub pvalue: f64,
    /// Benjamini–Hochberg over all pairs tested; NaN where there is no p-value.
    pub qvalue: f64,
}

/// The map of one cell type, or of all cells.
#[derive(Debug, Clone, PartialEq)]
pub struct TypeMap {
    /// Cell type; `all` for all cells.
    pub name: String,
    /// Its name in file names.
    pub file_stem: String,
    /// Cells behind it.
    pub cells: u64,
    /// Links by falling score.
    pub links: Vec<LinkStat>,
    /// `[P]` attention summed over cells and genes: docs/model.md, eq. 69.
    pub peaks: Vec<f64>,
    /// `[G]` attention summed over cells and peaks.
    pub genes: Vec<f64>,
}

/// All maps of a discovery.
#[derive(Debug, Clone, PartialEq)]
pub struct Maps {
    /// Over all cells looked at.
    pub all: TypeMap,
    /// Of each cell type, in the order of the data set.
    pub types: Vec<TypeMap>,
}

impl Maps {
    /// The map of all cells alone, by another name and without links.
    pub(super) fn of_all(&self, name: &str) -> Self {
        let all = TypeMap { name: name.into(), file_stem: name.into(), links: Vec::new(), ..self.all.clone() };
        Maps { all, types: Vec::new() }
    }
}

/// Longest name that is made of a cell type.
const LONGEST: usize = 150;

/// File names of cell types, no longer than 150 letters: letters, digits and `.+-_` stay, anything else becomes `_`; equal ones are numbered.
pub(crate) fn file_names(types: &[String]) -> Vec<String> {
    let mut taken = HashSet::new();
    let mut names = Vec::new();
    for t in types {
        let plain: String =
            t.chars().map(|c| if c.is_ascii_alphanumeric() || "+-_.".contains(c) { c } else { '_' }).collect();
        let plain = plain.trim_start_matches('.');
        // A file system takes 255 bytes, with what is put behind.
        let plain = &plain[..plain.len().min(LONGEST)];
        let mut name = plain.to_string();
        let mut k = 2;
        // Case is folded, as some file systems do.
        while name.is_empty() || !taken.insert(name.to_lowercase()) {
            name = format!("{plain}_{k}");
            k += 1;
        }
        names.push(name);
    }
    names
}

/// A name as one field of a table, whatever it holds.
pub fn field(name: &str) -> Cow<'_, str> {
    if name.contains(['\t', '\n', '\r']) { Cow::from(name.replace(['\t', '\n', '\r'], " ")) } else { Cow::from(name) }
}

/// A coordinate; `.` where it is unknown.
pub(super) fn known(x: i64) -> String {
    if x < 0 { ".".into() } else { x.to_string() }
}

/// Name of a chromosome as a field.
pub(super) fn chromosome(v: &Vocabulary, chrom: u32) -> Cow<'_, str> {
    v.chromosomes.get(chrom as usize).map_or(Cow::from("."), |c| field(c))
}

/// The first columns of a table of attention: chrom, start, end, gene, tss, distance; parted by tabs.
pub(super) fn place(v: &Vocabulary, gene: u32, peak: u32) -> String {
    let (g, p) = (&v.genes[gene as usize], &v.peaks[peak as usize]);
    let tss = g.tss.map_or(".".into(), |t| t.to_string());
    let far = distance(v, gene, peak).map_or(".".into(), |d| format!("{d:.0}"));
    let (start, end) = (known(p.start), known(p.end));
    format!("{}\t{start}\t{end}\t{}\t{tss}\t{far}", chromosome(v, p.chrom), field(&g.name))
}

/// A number that reads back as itself.
fn exact(x: f64) -> String {
    if x.is_nan() { "NaN".into() } else { format!("{x:e}") }
}

impl TypeMap {
    /// Writes the link table of [`LINK_COLUMNS`]; distance is |TSS − peak midpoint| in bases, mean the score a cell.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write_links(&self, path: &Path, v: &Vocabulary) -> Result<()> {
        let cell_type = field(&self.name);
        write_atomic(path, |out| {
            writeln!(out, "{}", LINK_COLUMNS.join("\t"))?;
            for l in &self.links {
                writeln!(
                    out,
                    "{}\t{}\t{}\t{}\t{}\t{}\t{}\t{cell_type}\t{}",
                    place(v, l.gene, l.peak),
                    exact(l.score),
                    exact(l.zscore),
                    exact(l.pvalue),
                    exact(l.qvalue),
                    l.cells,
                    exact(l.score / self.cells.max(1) as f64),
                    field(&v.peaks[l.peak as usize].name),
                )?;
            }
            Ok(())
        })
    }

    /// Reads a table that [`TypeMap::write_links`] wrote, with genes and peaks by name.
    ///
    /// # Errors
    /// [`Error::Input`] with the line of what cannot be read, or of a name that the vocabulary lacks.
    pub fn read_links(path: &Path, v: &Vocabulary) -> Result<Vec<LinkStat>> {
        let genes: HashMap<Cow<'_, str>, u32> = (0..).zip(&v.genes).map(|(i, g)| (field(&g.name), i)).collect();
        let peaks: HashMap<Cow<'_, str>, u32> = (0..).zip(&v.peaks).map(|(i, p)| (field(&p.name), i)).collect();
        let text = read_text(path)?;
        let mut lines = text.lines();
        let fix = "run `discover` again";
        if lines.next() != Some(LINK_COLUMNS.join("\t").as_str()) {
            return Err(Error::input(path, format!("its header is not {}", LINK_COLUMNS.join(" ")), fix));
        }
        let row = |line: &str| -> Option<LinkStat> {
            let f: Vec<&str> = line.split('\t').collect();
            let [_, _, _, gene, _, _, score, zscore, pvalue, qvalue, cells, _, _, peak] = f[..] else { return None };
            Some(LinkStat {
                gene: *genes.get(gene)?,
                peak: *peaks.get(peak)?,
                score: score.parse().ok()?,
                zscore: zscore.parse().ok()?,
                pvalue: pvalue.parse().ok()?,
                qvalue: qvalue.parse().ok()?,
                cells: cells.parse().ok()?,
            })
        };
        lines
            .enumerate()
            .map(|(i, line)| {
                row(line).ok_or_else(|| Error::input(path, format!("line {} is no link of these data", i + 2), fix))
            })
            .collect()
    }
}

impl Maps {
    /// The map of all cells, then those of the types.
    pub fn iter(&self) -> impl Iterator<Item = &TypeMap> {
        std::iter::once(&self.all).chain(&self.types)
    }

    /// Writes tracks along peaks and genes into files of these names in `dir`.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write_tracks(&self, dir: &Path, [of_peaks, of_genes]: [&str; 2], v: &Vocabulary) -> Result<()> {
        let names: Vec<Cow<'_, str>> = self.iter().map(|m| field(&m.name)).collect();
        let values = |of: &dyn Fn(&TypeMap) -> f64| self.iter().map(|m| exact(of(m))).collect::<Vec<_>>().join("\t");
        write_atomic(&dir.join(of_peaks), |out| {
            writeln!(out, "chrom\tstart\tend\tpeak\t{}", names.join("\t"))?;
            for (i, p) in v.peaks.iter().enumerate() {
                let (start, end) = (known(p.start), known(p.end));
                let row = values(&|m| m.peaks[i]);
                writeln!(out, "{}\t{start}\t{end}\t{}\t{row}", chromosome(v, p.chrom), field(&p.name))?;
            }
            Ok(())
        })?;
        write_atomic(&dir.join(of_genes), |out| {
            writeln!(out, "chrom\ttss\tgene\t{}", names.join("\t"))?;
            for (i, g) in v.genes.iter().enumerate() {
                let tss = g.tss.map_or(".".into(), |t| t.to_string());
                let row = values(&|m| m.genes[i]);
                writeln!(out, "{}\t{tss}\t{}\t{row}", chromosome(v, g.chrom), field(&g.name))?;
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discover::links::Link;
    use crate::discover::null;

    #[test]
    fn types_become_file_names() {
        let types: Vec<String> = ["CD4+ T", "CD4+_T", "a/b", "", "..", "cd4+_t"].map(String::from).to_vec();
        let long = ["x".repeat(300), "x".repeat(299)];
        assert_eq!(file_names(&long), ["x".repeat(150), format!("{}_2", "x".repeat(150))]);
        assert_eq!(file_names(&types), ["CD4+_T", "CD4+_T_2", "a_b", "_2", "_3", "cd4+_t_3"]);
    }

    #[test]
    fn a_name_is_one_field() {
        let gene = |name: &str| crate::vocabulary::Gene { name: name.into(), chrom: 0, tss: Some(5) };
        let v = Vocabulary {
            chromosomes: vec!["chr\t1".into()],
            genes: vec![gene("a\tb"), gene("c\nd")],
            peaks: vec![crate::vocabulary::Peak { name: "p\rq".into(), chrom: 0, start: 10, end: 20 }],
            ..Vocabulary::default()
        };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("links.tsv");
        let link = |gene, weight| null::plain(&Link { gene, peak: 0, weight, cells: 2 });
        let map = TypeMap {
            name: "T\tcell".into(),
            file_stem: "T_cell".into(),
            cells: 4,
            links: vec![link(0, 2.0), link(1, 1.0)],
            peaks: vec![],
            genes: vec![],
        };
        map.write_links(&path, &v).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let rows: Vec<Vec<&str>> = text.lines().map(|l| l.split('\t').collect()).collect();
        assert_eq!(rows.len(), 3);
        assert_eq!(
            rows[1],
            ["chr 1", "10", "20", "a b", "5", "10", "2e0", "NaN", "NaN", "NaN", "2", "5e-1", "T cell", "p q"]
        );
        assert_eq!((rows[2][3], rows[2].len()), ("c d", 14));
        let back = TypeMap::read_links(&path, &v).unwrap();
        assert_eq!(back.len(), 2);
        assert!(back.iter().zip(&map.links).all(|(a, b)| (a.gene, a.peak, a.score) == (b.gene, b.peak, b.score)));
    }
}
