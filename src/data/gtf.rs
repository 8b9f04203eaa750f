//! Gene annotation from a GENCODE or Ensembl GTF, plain or gzip: chromosome, strand and transcription start.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::files::text::{open_text, text_error};

/// Where a gene lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GeneLocation {
    /// Chromosome, as the GTF writes it.
    pub chrom: String,
    /// `+` true, `-` false; `None` where the GTF does not say.
    pub forward: Option<bool>,
    /// First base, 0-based.
    pub start: i64,
    /// One past the last base.
    pub end: i64,
    /// Transcription start, 0-based: the first base of a `+` gene, the last of a `-` gene.
    pub tss: i64,
}

/// How a gene was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// By its id.
    Id,
    /// By its name.
    Name,
}

/// Genes of a GTF, by id (version cut off) and by name.
#[derive(Debug, Clone)]
pub struct Gtf {
    path: PathBuf,
    genes: Vec<GeneLocation>,
    by_id: HashMap<String, usize>,
    by_name: HashMap<String, usize>,
    examples: Vec<String>,
}

/// An id of Ensembl without its version; the copy on Y of a gene that is on X as well keeps its mark (`_PAR_Y`). Other
/// ids are left as they are: in `RP11-34P13.7` the number tells which gene.
fn without_version(id: &str) -> Cow<'_, str> {
    match id.split_once('.') {
        Some((stem, version)) if stem.starts_with("ENS") && stem.ends_with(|c: char| c.is_ascii_digit()) => {
            match version.ends_with(PAR_Y) {
                true => Cow::Owned(format!("{stem}{PAR_Y}")),
                false => Cow::Borrowed(stem),
            }
        }
        _ => Cow::Borrowed(id),
    }
}

/// Mark of GENCODE's ids on the pseudoautosomal regions of Y.
const PAR_Y: &str = "_PAR_Y";

struct Extent {
    chrom: String,
    forward: Option<bool>,
    start: i64,
    end: i64,
    whole: bool,
}

impl Gtf {
    /// Reads a GTF. `gene` records count; a gene without one spans its other records. Of several genes with one id
    /// or name the first is taken.
    ///
    /// # Errors
    /// [`Error::Input`] that names the line where it is no GTF; [`Error::Io`].
    pub fn read(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::io(path, "read", e))?;
        let mut reader = open_text(path, file)?;
        let mut order: Vec<(String, Option<String>, Extent)> = Vec::new();
        let mut seen: HashMap<String, usize> = HashMap::new();
        let mut line = Vec::new();
        let mut number = 0usize;
        loop {
            line.clear();
            number += 1;
            if reader.read_until(b'\n', &mut line).map_err(|e| text_error(path, number, e))? == 0 {
                break;
            }
            let text = std::str::from_utf8(&line).map_err(|_| {
                Error::input(path, format!("line {number} is not text"), "give a GTF file, plain or gzip")
            })?;
            let text = text.trim_end_matches(['\n', '\r']);
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let wrong = |what: &str| {
                Error::input(
                    path,
                    format!("line {number} {what}"),
                    "give a GTF file (nine columns parted by tabs), plain or gzip",
                )
            };
            let fields: Vec<&str> = text.split('\t').collect();
            let &[chrom, _, feature, start, end, _, strand, _, attributes] = fields.as_slice() else {
                return Err(wrong(&format!("has {} columns", fields.len())));
            };
            let Some(id) = attribute(attributes, "gene_id") else {
                if feature == "gene" {
                    return Err(wrong("has no gene_id"));
                }
                continue;
            };
            let (start, end) = match (start.parse::<i64>(), end.parse::<i64>()) {
                (Ok(start), Ok(end)) if start >= 1 && end >= start => (start, end),
                _ => return Err(wrong(&format!("has the coordinates {start:?} to {end:?}"))),
            };
            let forward = match strand {
                "+" => Some(true),
                "-" => Some(false),
                _ => None,
            };
            let whole = feature == "gene";
            let extent = Extent { chrom: chrom.to_string(), forward, start: start - 1, end, whole };
            match seen.get(id) {
                None => {
                    seen.insert(id.to_string(), order.len());
                    order.push((id.to_string(), attribute(attributes, "gene_name").map(String::from), extent));
                }
                Some(&i) => {
                    let (_, name, known) = &mut order[i];
                    if name.is_none() {
                        *name = attribute(attributes, "gene_name").map(String::from);
                    }
                    if whole && !known.whole {
                        *known = extent;
                    } else if !whole && !known.whole && known.chrom == extent.chrom {
                        known.start = known.start.min(extent.start);
                        known.end = known.end.max(extent.end);
                    }
                }
            }
        }
        if order.is_empty() {
            return Err(Error::input(path, "no gene with a gene_id in it", "give a GENCODE or Ensembl GTF"));
        }
        let mut gtf = Gtf {
            path: path.to_path_buf(),
            genes: Vec::with_capacity(order.len()),
            by_id: HashMap::new(),
            by_name: HashMap::new(),
            examples: Vec::new(),
        };
        for (id, name, e) in order {
            let at = gtf.genes.len();
            if gtf.examples.len() < 3 {
                gtf.examples.push(match &name {
                    Some(name) => format!("{id} ({name})"),
                    None => id.clone(),
                });
            }
            gtf.by_id.entry(without_version(&id).into_owned()).or_insert(at);
            if let Some(name) = name {
                gtf.by_name.entry(name).or_insert(at);
            }
            let tss = if e.forward == Some(false) { e.end - 1 } else { e.start };
            gtf.genes.push(GeneLocation { chrom: e.chrom, forward: e.forward, start: e.start, end: e.end, tss });
        }
        Ok(gtf)
    }

    /// Genes in it.
    pub fn len(&self) -> usize {
        self.genes.len()
    }

    /// No genes? (Never true: such a file is refused.)
    pub fn is_empty(&self) -> bool {
        self.genes.is_empty()
    }

    /// A gene by id; the version of an Ensembl id (`.1`) is ignored.
    pub fn by_id(&self, id: &str) -> Option<&GeneLocation> {
        self.by_id.get(without_version(id).as_ref()).map(|&i| &self.genes[i])
    }

    /// A gene by name.
    pub fn by_name(&self, name: &str) -> Option<&GeneLocation> {
        self.by_name.get(name).map(|&i| &self.genes[i])
    }

    /// A gene by its id where that is given (or by a name that is an id), else by its name.
    pub fn find(&self, name: &str, id: Option<&str>) -> Option<(&GeneLocation, By)> {
        let id = id.filter(|id| !id.is_empty()).and_then(|id| self.by_id(id));
        let by_id = id.or_else(|| self.by_id(name)).map(|g| (g, By::Id));
        by_id.or_else(|| self.by_name(name).map(|g| (g, By::Name)))
    }

    /// Locates every gene: see [`Gtf::find`]. None found at all is an error that shows three names of each side.
    ///
    /// # Errors
    /// [`Error::Input`] where none is found at all.
    pub fn locate(&self, names: &[String], ids: Option<&[String]>) -> Result<Vec<Option<(&GeneLocation, By)>>> {
        let id = |i: usize| ids.and_then(|ids| ids.get(i)).map(String::as_str);
        let found: Vec<_> = names.iter().enumerate().map(|(i, name)| self.find(name, id(i))).collect();
        if !names.is_empty() && found.iter().all(Option::is_none) {
            let ours: Vec<&str> = match ids {
                Some(ids) => ids.iter().take(3).map(String::as_str).collect(),
                None => names.iter().take(3).map(String::as_str).collect(),
            };
            return Err(Error::input(
                &self.path,
                format!(
                    "none of the {} genes is in it; the data name them {}, the GTF {}",
                    names.len(),
                    ours.join(", "),
                    self.examples.join(", ")
                ),
                "give the GTF of the genome and annotation the data were made with",
            ));
        }
        Ok(found)
    }
}

/// The value of an attribute: `gene_id "ENSG…"; gene_name "…";`, quoted or not.
fn attribute<'a>(attributes: &'a str, key: &str) -> Option<&'a str> {
    let mut rest = attributes;
    loop {
        rest = rest.trim_start_matches([' ', ';']);
        if rest.is_empty() {
            return None;
        }
        let name_end = rest.find([' ', ';'])?;
        let (name, after) = rest.split_at(name_end);
        let after = after.trim_start_matches(' ');
        let (value, next) = if let Some(quoted) = after.strip_prefix('"') {
            let end = quoted.find('"')?;
            (&quoted[..end], &quoted[end + 1..])
        } else {
            let end = after.find(';').unwrap_or(after.len());
            (after[..end].trim_end(), &after[end..])
        };
        if name == key {
            return Some(value);
        }
        rest = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gtf(text: &str) -> Result<Gtf> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.gtf");
        std::fs::write(&path, text).unwrap();
        Gtf::read(&path)
    }

    #[test]
    fn attributes() {
        let a = r#"gene_id "ENSG1.2"; gene_version 5; gene_name "a; b"; level 2;"#;
        assert_eq!(attribute(a, "gene_id"), Some("ENSG1.2"));
        assert_eq!(attribute(a, "gene_version"), Some("5"));
        assert_eq!(attribute(a, "gene_name"), Some("a; b"));
        assert_eq!(attribute(a, "gene"), None);
        assert_eq!(attribute("gene_id \"open", "gene_id"), None);
        assert_eq!(attribute("", "gene_id"), None);
    }

    #[test]
    fn locations_versions_and_strands() {
        let text = "#!x\nchr1\ts\tgene\t101\t200\t.\t+\t.\tgene_id \"ENSG00000000001.3\"; gene_name \"A\";\n\
            chr1\ts\texon\t1\t20\t.\t+\t.\tgene_id \"ENSG00000000001.3\"; gene_name \"A\";\n\
            2\ts\ttranscript\t11\t20\t.\t-\t.\tgene_id \"ENSG00000000002\"; gene_name \"B\";\n\
            2\ts\texon\t31\t40\t.\t-\t.\tgene_id \"ENSG00000000002\"; gene_name \"B\";\n\
            3\ts\tgene\t1\t2\t.\t.\t.\tgene_id \"g3\"; gene_name \"A\";\n";
        let g = gtf(text).unwrap();
        assert_eq!(g.len(), 3);
        let a = g.by_id("ENSG00000000001.9").unwrap();
        assert_eq!((a.chrom.as_str(), a.forward, a.tss), ("chr1", Some(true), 100));
        let b = g.by_name("B").unwrap();
        assert_eq!((b.chrom.as_str(), b.forward, b.tss), ("2", Some(false), 39), "spans its records");
        assert_eq!(g.by_name("A"), g.by_id("ENSG00000000001"), "the first of two");
        assert_eq!(g.by_id("g3").unwrap().forward, None);
        assert_eq!((a.start, a.end, b.start, b.end), (100, 200, 10, 40));
        let names = ["A".to_string(), "ENSG00000000002.7".into(), "Z".into()];
        let found = g.locate(&names, None).unwrap();
        assert_eq!(found.iter().map(|f| f.map(|f| f.1)).collect::<Vec<_>>(), [Some(By::Name), Some(By::Id), None]);
        let e = g.locate(&["Y".into(), "Z".into()], None).unwrap_err().to_string();
        assert!(e.contains("Y, Z") && e.contains("ENSG00000000001.3 (A)"), "{e}");
    }

    #[test]
    fn ids_and_names_of_all_kinds() {
        let line = |chrom: &str, start: u32, attributes: &str| {
            format!("{chrom}\ts\tgene\t{start}\t{}\t.\t+\t.\t{attributes}\n", start + 9)
        };
        let text = line("chrX", 1, r#"gene_id "ENSG00000182378.15"; gene_type "p"; gene_name "PLCXD1"; level 2;"#)
            + &line("chrY", 51, r#"gene_id "ENSG00000182378.15_PAR_Y"; gene_name "PLCXD1"; tag "PAR";"#)
            + &line("1", 101, r#"gene_biotype "x"; gene_id "ENSG00000223972"; gene_name "Ddx1"; gene_version "5";"#)
            + &line("1", 201, r#"gene_id "ENSMUSG00000000028"; gene_version "16"; gene_name "DDX1"; gene_source "s";"#)
            + &line("2", 301, r#"gene_id "RP11-34P13.7";"#)
            + &line("3", 401, r#"gene_id "RP11-34P13.8";"#);
        let g = gtf(&text).unwrap();
        let at = |name: &str, id: Option<&str>| g.find(name, id).map(|(g, by)| (g.start, by));
        assert_eq!(at("?", Some("ENSG00000182378")), Some((0, By::Id)));
        assert_eq!(at("?", Some("ENSG00000182378.1_PAR_Y")), Some((50, By::Id)));
        assert_eq!(at("PLCXD1", None), Some((0, By::Name)), "X comes first");
        assert_eq!(at("?", Some("ENSG00000223972.2")), Some((100, By::Id)));
        assert_eq!((at("Ddx1", None), at("DDX1", Some(""))), (Some((100, By::Name)), Some((200, By::Name))));
        assert_eq!(at("ddx1", None), None, "capitals count");
        assert_eq!(at("ENSMUSG00000000028.3", None), Some((200, By::Id)));
        assert_eq!((at("RP11-34P13.8", None), at("RP11-34P13.9", None)), (Some((400, By::Id)), None));
    }

    #[test]
    fn what_is_no_gtf_is_refused() {
        for (text, part) in [
            ("", "no gene"),
            ("chr1\t1\t2\n", "line 1 has 3 columns"),
            ("chr1\ts\tgene\tx\t2\t.\t+\t.\tgene_id \"a\";\n", "coordinates"),
            ("chr1\ts\tgene\t5\t2\t.\t+\t.\tgene_id \"a\";\n", "coordinates"),
            ("chr1\ts\tgene\t1\t2\t.\t+\t.\tname \"a\";\n", "no gene_id"),
        ] {
            let e = gtf(text).unwrap_err().to_string();
            assert!(e.contains(part) && e.contains("a.gtf"), "{e}");
        }
    }
}
