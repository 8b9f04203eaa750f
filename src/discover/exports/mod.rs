//! Maps in the files of other programs.
//!
//! | form | file | for | one entry a |
//! | --- | --- | --- | --- |
//! | [`Format::Parquet`] | `links.parquet` | pandas, Polars, DuckDB, R | link, of every map |
//! | [`Format::Bedpe`] | `bedpe/TYPE.bedpe` | IGV, igv.js, bedtools | link |
//! | [`Format::Interact`] | `interact/TYPE.interact` | UCSC Genome Browser, bedToBigBed | link |
//! | [`Format::Longrange`] | `longrange/TYPE.longrange` | WashU Epigenome Browser | link, twice |
//! | [`Format::Bedgraph`] | `bedgraph/TYPE.bedgraph`, `bedgraph/chrom.sizes` | any browser, bedGraphToBigWig | piece of the genome |
//! | [`Format::Edges`] | `edges/TYPE.tsv` | Cytoscape, networkx, igraph | link |
//! | [`Format::H5ad`] | `discovery.h5ad` | anndata, scanpy | cell and gene |
//!
//! `TYPE` is [`TypeMap::file_stem`]. Coordinates are 0-based and half-open; a gene is its TSS, one base. Files of a
//! browser have no use for a link without a number or a place: one whose score is NaN or infinite, or whose peak or TSS
//! is unknown, is left out and counted. They are sorted by the bytes of the chromosome's name, then by start and end, as
//! bgzip and tabix or bedToBigBed want it; blanks in names become `_`. The other forms hold every link. Each file is
//! whole or not there.

pub mod browser;
pub mod h5ad;
pub mod parquet;
pub mod track;

use std::borrow::Cow;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::maps::{LinkStat, Maps, TypeMap, field};
use crate::error::{Error, Result};
use crate::files::atomic::write_atomic;
use crate::vocabulary::Vocabulary;

pub use browser::{write_bedpe, write_interact, write_longrange};
pub use h5ad::{Embedding, write_h5ad};
pub use parquet::write_parquet;
pub use track::{write_bedgraph, write_chrom_sizes};

/// A form of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// All link tables in one Parquet file
    Parquet,
    /// Links for IGV and bedtools
    Bedpe,
    /// Links for the UCSC Genome Browser
    Interact,
    /// Links for the WashU Epigenome Browser
    Longrange,
    /// Attention along the peaks
    Bedgraph,
    /// Edge lists for Cytoscape
    Edges,
    /// Cells, embedding and attention per gene for scanpy
    H5ad,
}

/// How the files of browsers name chromosomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum ChromNames {
    /// As the data do
    #[default]
    Data,
    /// chr1, chrM
    Ucsc,
    /// 1, MT
    Ensembl,
}

/// Is this a scaffold's accession with its version, as `KI270706.1`?
fn accession(name: &str, point: char) -> Option<(&str, &str)> {
    let (stem, version) = name.split_once(point)?;
    let letters = stem.bytes().take_while(u8::is_ascii_uppercase).count();
    let digits = stem.len() - letters;
    let sound = stem[letters..].bytes().all(|b| b.is_ascii_digit())
        && version.bytes().all(|b| b.is_ascii_digit())
        && !version.is_empty();
    (sound && (1..=4).contains(&letters) && digits >= 5).then_some((stem, version))
}

impl ChromNames {
    /// A chromosome's name in this style. UCSC's name of a scaffold cannot be told from Ensembl's: it stays; the other
    /// way (`chr1_KI270706v1_random` to `KI270706.1`) it can where it holds a version.
    ///
    /// ```
    /// use sccrossrec::discover::exports::ChromNames;
    /// assert_eq!(ChromNames::Ucsc.of("MT"), "chrM");
    /// assert_eq!(ChromNames::Ensembl.of("chr1_KI270706v1_random"), "KI270706.1");
    /// assert_eq!(ChromNames::Data.of("1"), "1");
    /// ```
    pub fn of(self, name: &str) -> Cow<'_, str> {
        let bare = name.get(..3).filter(|p| p.eq_ignore_ascii_case("chr") && name.len() > 3).map(|_| &name[3..]);
        match self {
            ChromNames::Data => Cow::Borrowed(name),
            ChromNames::Ucsc => match bare.unwrap_or(name) {
                "MT" | "M" => Cow::Borrowed("chrM"),
                rest if bare.is_some() => match name.starts_with("chr") {
                    true => Cow::Borrowed(name),
                    false => Cow::Owned(format!("chr{rest}")),
                },
                // Whole chromosomes have short names: 1, X, 2L, VIII.
                rest if rest.len() <= 5 && rest.bytes().all(|b| b.is_ascii_alphanumeric()) => {
                    Cow::Owned(format!("chr{rest}"))
                }
                _ => Cow::Borrowed(name),
            },
            ChromNames::Ensembl => match bare {
                None if name == "M" => Cow::Borrowed("MT"),
                None => Cow::Borrowed(name),
                Some("M" | "MT") => Cow::Borrowed("MT"),
                Some(rest) => match rest.split_once('_') {
                    None => Cow::Borrowed(rest),
                    Some((_, scaffold)) => {
                        let scaffold = scaffold.split('_').next().unwrap_or(scaffold);
                        match accession(scaffold, 'v') {
                            Some((stem, version)) => Cow::Owned(format!("{stem}.{version}")),
                            None => Cow::Borrowed(name),
                        }
                    }
                },
            },
        }
    }
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Export {
    /// The file.
    pub file: PathBuf,
    /// Links (of a track: peaks, of the AnnData: cells) in it.
    pub written: u64,
    /// Left out, for want of a place or a number.
    pub left_out: u64,
}

/// A name as one field of a browser's file: blanks become `_`, an empty one `.`; no more than 255 bytes.
fn token(name: &str) -> String {
    let mut text: String = name.chars().map(|c| if c.is_whitespace() || c.is_control() { '_' } else { c }).collect();
    while text.len() > 255 {
        text.pop();
    }
    match text.is_empty() {
        true => ".".into(),
        false => text,
    }
}

/// The shortest text that reads back as the same number.
fn number(x: f64) -> String {
    match x.abs() {
        a if a == 0.0 || (1e-4..1e15).contains(&a) => format!("{}", x + 0.0),
        _ => format!("{x:e}"),
    }
}

/// A chromosome's name in the files of browsers; `None` where it is unknown.
fn chrom(v: &Vocabulary, chrom: u32, names: ChromNames) -> Option<String> {
    if Some(chrom) == v.unknown {
        return None;
    }
    v.chromosomes.get(chrom as usize).map(|name| token(&names.of(name)))
}

/// Writes an edge list for Cytoscape: a table parted by tabs, a line a link, by falling score, with the columns source
/// (peak), target (gene), interaction (`peak-gene`), score, zscore, pvalue, qvalue, n_cells, distance, chrom, cell_type.
/// What is unknown is empty.
///
/// # Errors
/// A file that cannot be written.
pub fn write_edges(path: &Path, v: &Vocabulary, map: &TypeMap) -> Result<Export> {
    let optional = |x: f64| if x.is_nan() { String::new() } else { number(x) };
    write_atomic(path, |out| {
        writeln!(
            out,
            "source\ttarget\tinteraction\tscore\tzscore\tpvalue\tqvalue\tn_cells\tdistance\tchrom\tcell_type"
        )?;
        for l in &map.links {
            let (g, p) = (&v.genes[l.gene as usize], &v.peaks[l.peak as usize]);
            let [score, z, pvalue, q] = [l.score, l.zscore, l.pvalue, l.qvalue].map(optional);
            let distance = crate::vocabulary::distance(v, l.gene, l.peak).map_or(String::new(), number);
            writeln!(
                out,
                "{}\t{}\tpeak-gene\t{score}\t{z}\t{pvalue}\t{q}\t{}\t{distance}\t{}\t{}",
                field(&p.name),
                field(&g.name),
                l.cells,
                v.chromosomes.get(p.chrom as usize).map_or(Default::default(), |c| field(c)),
                field(&map.name)
            )?;
        }
        Ok(())
    })?;
    Ok(Export { file: path.to_path_buf(), written: map.links.len() as u64, left_out: 0 })
}

/// Checks that a map is of this vocabulary.
fn check(v: &Vocabulary, map: &TypeMap) -> Result<()> {
    let (genes, peaks) = (v.genes.len(), v.peaks.len());
    let inside = |l: &LinkStat| (l.gene as usize) < genes && (l.peak as usize) < peaks;
    match map.peaks.len() == peaks && map.genes.len() == genes && map.links.iter().all(inside) {
        true => Ok(()),
        false => Err(Error::Internal(format!("the map of {:?} is not of {genes} genes and {peaks} peaks", map.name))),
    }
}

/// Writes the maps in these forms into `folder`, which must exist: the files that the module names, but for
/// [`Format::H5ad`], which needs more than maps ([`write_h5ad`]).
///
/// # Errors
/// A file or folder that cannot be written; [`Error::Interrupted`]. Files written by then stay, each whole.
pub fn write_maps(
    folder: &Path,
    v: &Vocabulary,
    maps: &Maps,
    formats: &[Format],
    names: ChromNames,
) -> Result<Vec<Export>> {
    let all: Vec<&TypeMap> = std::iter::once(&maps.all).chain(&maps.types).collect();
    all.iter().try_for_each(|m| check(v, m))?;
    let mut made = Vec::new();
    let within = |name: &str| {
        let inner = folder.join(name);
        std::fs::create_dir_all(&inner).map_err(|e| Error::io(&inner, "create", e)).map(|()| inner)
    };
    for format in formats {
        let (name, ending) = match format {
            Format::Parquet => {
                made.push(write_parquet(&folder.join("links.parquet"), v, &all)?);
                continue;
            }
            Format::H5ad => continue,
            Format::Bedpe => ("bedpe", "bedpe"),
            Format::Interact => ("interact", "interact"),
            Format::Longrange => ("longrange", "longrange"),
            Format::Bedgraph => ("bedgraph", "bedgraph"),
            Format::Edges => ("edges", "tsv"),
        };
        let inner = within(name)?;
        for map in &all {
            crate::interrupt::check("the exports written so far are whole")?;
            let path = inner.join(format!("{}.{ending}", map.file_stem));
            made.push(match format {
                Format::Bedpe => write_bedpe(&path, v, map, names)?,
                Format::Interact => write_interact(&path, v, map, names)?,
                Format::Longrange => write_longrange(&path, v, map, names)?,
                Format::Bedgraph => write_bedgraph(&path, v, &map.peaks, names)?,
                _ => write_edges(&path, v, map)?,
            });
        }
        if *format == Format::Bedgraph {
            write_chrom_sizes(&inner.join("chrom.sizes"), v, names)?;
        }
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_chromosomes() {
        for (name, ucsc, ensembl) in [
            ("chr1", "chr1", "1"),
            ("1", "chr1", "1"),
            ("CHRX", "chrX", "X"),
            ("MT", "chrM", "MT"),
            ("chrM", "chrM", "MT"),
            ("M", "chrM", "MT"),
            ("chrMT", "chrM", "MT"),
            ("2L", "chr2L", "2L"),
            ("chrUn_GL000220v1", "chrUn_GL000220v1", "GL000220.1"),
            ("chr6_GL000256v2_alt", "chr6_GL000256v2_alt", "GL000256.2"),
            ("chr1_GL456211_random", "chr1_GL456211_random", "chr1_GL456211_random"),
            ("KI270706.1", "KI270706.1", "KI270706.1"),
            ("chr", "chrchr", "chr"),
            ("é", "é", "é"),
        ] {
            assert_eq!(ChromNames::Ucsc.of(name), ucsc, "{name}");
            assert_eq!(ChromNames::Ensembl.of(name), ensembl, "{name}");
            assert_eq!(ChromNames::Data.of(name), name);
        }
    }

    #[test]
    fn numbers_read_back() {
        for x in [0.0, -0.0, 1.0, 0.1, 1e-300, 123456.789, 1e300, -2.5e-7, f64::MIN_POSITIVE, 1.0 / 3.0] {
            let text = number(x);
            assert_eq!(text.parse::<f64>().unwrap(), x, "{text}");
            assert!(text.len() < 30, "{text}");
        }
        assert_eq!(number(-0.0), "0");
    }

    #[test]
    fn names_are_one_field() {
        assert_eq!((token("a\tb c\n"), token(""), token("x")), ("a_b_c_".into(), ".".into(), "x".into()));
        assert_eq!(token(&"é".repeat(200)).len(), 254);
    }
}
