//! Gene annotation from GTF or GFF3 (GENCODE, Ensembl, RefSeq, UCSC), plain or gzip: chromosome, strand and transcription
//! start.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::chromosomes::{genome_prefix, is_whole, without_genome};
use super::species;
use crate::error::{Error, Result};
use crate::files::text::TextLines;

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

/// Genes of a GTF or GFF3, by id (version cut off) and by name.
#[derive(Debug, Clone)]
pub struct Gtf {
    path: PathBuf,
    genes: Vec<GeneLocation>,
    /// Records behind each place that no record of the gene itself tells; 0 of others.
    records: Vec<usize>,
    ids: usize,
    by_id: HashMap<String, Vec<usize>>,
    by_name: HashMap<String, Vec<usize>>,
    examples: Vec<String>,
    split: usize,
    skipped: usize,
}

/// Genes of some data, brought onto an annotation.
#[derive(Debug, Clone)]
pub struct Located<'g> {
    /// Where each gene lies, and how that was found.
    pub places: Vec<Option<(&'g GeneLocation, By)>>,
    /// Genes that are at several places of the annotation; the place that has peaks comes first, then one on a whole
    /// chromosome, then that with most records, then the first of the file.
    pub several: Vec<usize>,
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

/// Bases between records of one gene, beyond which they are of two places; of one transcript (introns are long).
const APART: i64 = 500_000;
const APART_IN_TRANSCRIPT: i64 = 1_300_000;

/// A place of a gene, as far as it was read.
pub(super) struct Locus {
    chrom: String,
    forward: Option<bool>,
    start: i64,
    end: i64,
    /// Told by a record of the gene itself.
    pub(super) whole: bool,
    records: usize,
    transcripts: Vec<String>,
}

/// What a line tells.
pub(super) struct Record<'l> {
    pub(super) id: Cow<'l, str>,
    pub(super) name: Option<Cow<'l, str>>,
    pub(super) transcript: Option<Cow<'l, str>>,
    pub(super) locus: Locus,
}

/// A gene as far as it was read.
struct Draft {
    id: String,
    name: Option<String>,
    loci: Vec<Locus>,
}

impl Draft {
    fn add(&mut self, new: Locus, transcript: Option<&str>) {
        let same = |l: &Locus| l.chrom == new.chrom && (l.forward == new.forward || l.forward.is_none());
        let gap = |l: &Locus| (new.start - l.end).max(l.start - new.end);
        let near = |l: &Locus| {
            let of_transcript = transcript.is_some_and(|t| l.transcripts.iter().any(|known| known == t));
            same(l) && gap(l) <= if of_transcript { APART_IN_TRANSCRIPT } else { APART }
        };
        let own = |l: &Locus| if new.whole && l.whole { same(l) && gap(l) <= 0 } else { near(l) };
        let Some(known) = self.loci.iter_mut().find(|l| own(l)) else {
            self.loci.push(new);
            return;
        };
        known.records += 1;
        if let Some(t) = transcript.filter(|t| !known.transcripts.iter().any(|known| known == t)) {
            known.transcripts.push(t.to_string());
        }
        if new.whole && !known.whole {
            (known.start, known.end, known.forward, known.whole) = (new.start, new.end, new.forward, true);
        } else if !new.whole && !known.whole {
            known.start = known.start.min(new.start);
            known.end = known.end.max(new.end);
        }
    }
}

/// What a line says of a gene; `None` where it says nothing of one.
///
/// # Errors
/// What is wrong with the line, in words.
pub(super) fn record(line: &str) -> Result<Option<Record<'_>>, String> {
    let fields: Vec<&str> = line.trim_end_matches('\t').split('\t').collect();
    let &[chrom, _, feature, start, end, _, strand, _, attributes] = fields.as_slice() else {
        return Err(format!("has {} columns", fields.len()));
    };
    let gff3 = is_gff3(attributes);
    let get = |keys: &[&str]| keys.iter().find_map(|key| value(attributes, key, gff3)).filter(|v| !v.is_empty());
    let own_id = || get(&["ID"]).map(|id| without_kind(id));
    let whole = feature == "gene"
        || gff3 && (feature.ends_with("gene") || get(&["ID"]).is_some_and(|id| id.starts_with("gene:")));
    let id = match (whole, gff3) {
        (true, true) => get(&["gene_id"]).or_else(own_id),
        (_, false) => get(&["gene_id"]),
        (false, true) => get(&["gene_id", "gene"]),
    };
    let Some(id) = id else {
        return if whole { Err("has no gene_id".into()) } else { Ok(None) };
    };
    let name = match gff3 && whole {
        true => get(&["gene_name", "Name", "gene", "gene_symbol"]),
        false => get(&["gene_name", "gene", "gene_symbol"]),
    };
    let (start, end) = match (start.parse::<i64>(), end.parse::<i64>()) {
        (Ok(start), Ok(end)) if start >= 1 && end >= start => (start - 1, end),
        _ => return Err(format!("has the coordinates {start:?} to {end:?}")),
    };
    let forward = match strand {
        "+" => Some(true),
        "-" => Some(false),
        _ => None,
    };
    let transcript = get(&["transcript_id", "Parent"]);
    let chrom = chrom.trim().to_string();
    let transcripts = transcript.iter().map(|t| t.to_string()).collect();
    let locus = Locus { chrom, forward, start, end, whole, records: 1, transcripts };
    Ok(Some(Record { id, name, transcript, locus }))
}

impl Gtf {
    /// Reads a GTF or GFF3. Records of genes count; a gene without one spans its other records, and is at several places
    /// where those are on several chromosomes or strands or far apart. Lines that say nothing of a gene, and such as cannot
    /// be read while others can, are skipped.
    ///
    /// # Errors
    /// [`Error::Input`] that names the first bad line where no gene was found; [`Error::Io`].
    pub fn read(path: &Path) -> Result<Self> {
        let mut lines = TextLines::open(path)?;
        let mut order: Vec<Draft> = Vec::new();
        let mut seen: HashMap<String, usize> = HashMap::new();
        let (mut bad, mut skipped): (Option<(usize, String)>, usize) = (None, 0);
        while let Some((number, text)) = lines.next()? {
            if text == "##FASTA" {
                break; // sequences may follow in GFF3
            }
            if text.trim().is_empty() || text.starts_with('#') || text.starts_with("track ") {
                continue;
            }
            let Record { id, name, transcript, locus } = match record(&text) {
                Ok(Some(record)) => record,
                Ok(None) => continue,
                Err(what) => {
                    skipped += 1;
                    bad = bad.or(Some((number, what)));
                    continue;
                }
            };
            match seen.get(id.as_ref()) {
                None => {
                    seen.insert(id.to_string(), order.len());
                    let name = name.map(Cow::into_owned);
                    order.push(Draft { id: id.into_owned(), name, loci: vec![locus] });
                }
                Some(&i) => {
                    let draft = &mut order[i];
                    draft.name = draft.name.take().or(name.map(Cow::into_owned));
                    draft.add(locus, transcript.as_deref());
                }
            }
        }
        if order.is_empty() {
            const FIX: &str = "give a GTF or GFF3 file (nine columns parted by tabs), plain or gzip";
            return Err(match bad {
                Some((number, what)) => Error::input(path, format!("line {number} {what}"), FIX),
                None => Error::input(path, "no gene with a gene_id in it", FIX),
            });
        }
        Ok(Self::of(path, order, skipped))
    }

    fn of(path: &Path, order: Vec<Draft>, skipped: usize) -> Self {
        let mut gtf = Gtf {
            path: path.to_path_buf(),
            genes: Vec::with_capacity(order.len()),
            records: Vec::with_capacity(order.len()),
            ids: order.len(),
            by_id: HashMap::new(),
            by_name: HashMap::new(),
            examples: Vec::new(),
            split: 0,
            skipped,
        };
        for Draft { id, name, mut loci } in order {
            if gtf.examples.len() < 3 {
                gtf.examples.push(match &name {
                    Some(name) if *name != id => format!("{id} ({name})"),
                    _ => id.clone(),
                });
            }
            if loci.iter().any(|l| l.whole) {
                loci.retain(|l| l.whole);
            }
            gtf.split += usize::from(loci.len() > 1);
            for l in loci {
                let at = gtf.genes.len();
                gtf.by_id.entry(without_version(&id).into_owned()).or_default().push(at);
                if let Some(name) = &name {
                    gtf.by_name.entry(name.clone()).or_default().push(at);
                }
                let tss = if l.forward == Some(false) { l.end - 1 } else { l.start };
                let (chrom, forward, start, end) = (l.chrom, l.forward, l.start, l.end);
                gtf.genes.push(GeneLocation { chrom, forward, start, end, tss });
                gtf.records.push(if l.whole { 0 } else { l.records });
            }
        }
        without_genome(gtf.genes.iter_mut().map(|g| &mut g.chrom).collect());
        gtf
    }

    /// Genes in it.
    pub fn len(&self) -> usize {
        self.ids
    }

    /// No genes? (Never true: such a file is refused.)
    pub fn is_empty(&self) -> bool {
        self.ids == 0
    }

    /// Genes whose records are at several places.
    pub fn split(&self) -> usize {
        self.split
    }

    /// Lines that could not be read.
    pub fn skipped(&self) -> usize {
        self.skipped
    }

    /// The place of several that comes first.
    fn best(&self, found: &[usize], has_peaks: &dyn Fn(&str) -> bool) -> Option<&GeneLocation> {
        let rank = |&i: &usize| {
            let chrom = &self.genes[i].chrom;
            (has_peaks(chrom), is_whole(chrom), self.records[i], std::cmp::Reverse(i))
        };
        found.iter().copied().max_by_key(rank).map(|i| &self.genes[i])
    }

    fn ids_of(&self, id: &str) -> &[usize] {
        self.by_id.get(without_version(id).as_ref()).map_or(&[], Vec::as_slice)
    }

    fn names_of(&self, name: &str) -> &[usize] {
        self.by_name.get(name).map_or(&[], Vec::as_slice)
    }

    /// A gene by id; the version of an Ensembl id (`.1`) is ignored.
    pub fn by_id(&self, id: &str) -> Option<&GeneLocation> {
        self.best(self.ids_of(id), &|_| true)
    }

    /// A gene by name.
    pub fn by_name(&self, name: &str) -> Option<&GeneLocation> {
        self.best(self.names_of(name), &|_| true)
    }

    /// Places of a gene by its id where that is given (or by a name that is an id), else by its name, else by these without
    /// the genome that 10x puts before them.
    fn all(&self, name: &str, id: Option<&str>) -> (&[usize], By) {
        let id = id.filter(|id| !id.is_empty());
        let find = |name: &str, id: Option<&str>| {
            let by_id = id.into_iter().chain([name]).map(|id| self.ids_of(id)).find(|f| !f.is_empty());
            by_id.map_or((self.names_of(name), By::Name), |found| (found, By::Id))
        };
        let found = find(name, id);
        let bare = |name| genome_prefix(name).map_or(name, |p| p.1);
        if found.0.is_empty() { find(bare(name), id.map(bare)) } else { found }
    }

    /// A gene by its id where that is given (or by a name that is an id), else by its name.
    pub fn find(&self, name: &str, id: Option<&str>) -> Option<(&GeneLocation, By)> {
        let (found, by) = self.all(name, id);
        self.best(found, &|_| true).map(|g| (g, by))
    }

    /// Locates every gene: see [`Gtf::find`]. `has_peaks` tells whether there are peaks on a chromosome. None found at all,
    /// or without `force` fewer than a fifth, is an error that shows three names of each side and what genomes they seem to
    /// be of.
    ///
    /// # Errors
    /// [`Error::Input`] where too few are found.
    pub fn locate(
        &self,
        names: &[String],
        ids: Option<&[String]>,
        has_peaks: &dyn Fn(&str) -> bool,
        force: bool,
    ) -> Result<Located<'_>> {
        let id = |i: usize| ids.and_then(|ids| ids.get(i)).map(String::as_str);
        let mut located = Located { places: Vec::with_capacity(names.len()), several: Vec::new() };
        for (i, name) in names.iter().enumerate() {
            let (found, by) = self.all(name, id(i));
            let place = self.best(found, has_peaks);
            let elsewhere =
                |g: &GeneLocation| place.is_some_and(|p| p.chrom != g.chrom || (p.tss - g.tss).abs() > APART);
            if found.iter().any(|&f| elsewhere(&self.genes[f])) {
                located.several.push(i);
            }
            located.places.push(place.map(|g| (g, by)));
        }
        let found = located.places.iter().flatten().count();
        if !names.is_empty() && (found == 0 || found * 5 < names.len() && !force) {
            return Err(self.too_few(names, ids, found));
        }
        Ok(located)
    }

    fn too_few(&self, names: &[String], ids: Option<&[String]>, found: usize) -> Error {
        let ours: Vec<&str> = ids.unwrap_or(names).iter().take(3).map(String::as_str).collect();
        let count = match found {
            0 => format!("none of the {} genes is in it", names.len()),
            n => format!("only {n} of the {} genes are in it", names.len()),
        };
        let data = species::guess(ids.unwrap_or(&[]).iter().chain(names).map(String::as_str));
        let theirs = species::guess(self.by_id.keys().chain(self.by_name.keys()).map(String::as_str));
        let looks = match (data, theirs) {
            (Some(data), Some(theirs)) if data != theirs => {
                format!(", which look {data}, where the GTF looks {theirs}")
            }
            _ => String::new(),
        };
        let fix = match found {
            0 => "give the GTF of the genome and annotation the data were made with",
            _ => {
                "give the GTF of the genome and annotation the data were made with, or take this one with \
                  --force-annotation"
            }
        };
        Error::input(
            &self.path,
            format!("{count}; the data name them {}, the GTF {}{looks}", ours.join(", "), self.examples.join(", ")),
            fix,
        )
    }
}

/// Are the attributes written `key=value`?
pub(super) fn is_gff3(attributes: &str) -> bool {
    let first = attributes.trim_start().split([' ', ';', '"']).next().unwrap_or("");
    first.contains('=')
}

/// An id of GFF3 without its kind: `gene:ENSG…` (Ensembl), `gene-TP53` (RefSeq).
pub(super) fn without_kind(id: Cow<'_, str>) -> Cow<'_, str> {
    match id.strip_prefix("gene:").or_else(|| id.strip_prefix("gene-")).map(str::len) {
        Some(n) => Cow::Owned(id[id.len() - n..].to_string()),
        None => id,
    }
}

/// The value of an attribute of GTF or of GFF3.
pub(super) fn value<'a>(attributes: &'a str, key: &str, gff3: bool) -> Option<Cow<'a, str>> {
    if !gff3 {
        return attribute(attributes, key).map(Cow::Borrowed);
    }
    let of_key = |part: &'a str| part.trim().split_once('=').filter(|(name, _)| *name == key).map(|(_, value)| value);
    attributes.split(';').find_map(of_key).map(|value| decoded(value.trim_matches('"')))
}

/// A value of GFF3, in which some letters are written `%2C`.
fn decoded(value: &str) -> Cow<'_, str> {
    if !value.contains('%') {
        return Cow::Borrowed(value);
    }
    let (mut out, mut rest) = (Vec::new(), value.as_bytes());
    while let Some((&first, after)) = rest.split_first() {
        let code = after.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match code.filter(|_| first == b'%') {
            Some(code) => {
                out.push(code);
                rest = &after[2..];
            }
            None => {
                out.push(first);
                rest = after;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
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
        let on_3 = g.locate(&["A".to_string()], None, &|chrom| chrom == "3", false).unwrap();
        assert_eq!(on_3.places[0].map(|p| p.0.chrom.as_str()), Some("3"), "peaks tell");
        assert_eq!(on_3.several, [0]);
        assert_eq!(g.by_id("g3").unwrap().forward, None);
        assert_eq!((a.start, a.end, b.start, b.end), (100, 200, 10, 40));
        let names = ["A".to_string(), "ENSG00000000002.7".into(), "Z".into()];
        let found = g.locate(&names, None, &|_| true, false).unwrap().places;
        assert_eq!(found.iter().map(|f| f.map(|f| f.1)).collect::<Vec<_>>(), [Some(By::Name), Some(By::Id), None]);
        let e = g.locate(&["Y".into(), "Z".into()], None, &|_| true, true).unwrap_err().to_string();
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
    fn gff3() {
        let line = |kind: &str, attributes: &str| format!("1\ts\t{kind}\t101\t200\t.\t-\t.\t{attributes}\n");
        let text = "##gff-version 3\n1\tG\tchromosome\t1\t900\t.\t.\t.\tID=chromosome:1;Alias=CM000663.2\n".to_string()
            + &line("gene", "ID=gene:ENSG00000000001;Name=A%2CB;gene_id=ENSG00000000001;version=3")
            + &line("mRNA", "ID=transcript:ENST1;Parent=gene:ENSG00000000001")
            + &line("ncRNA_gene", "ID=gene:ENSG00000000002;Name=C")
            + &line("gene", "ID=gene-TP53;Dbxref=GeneID:7157;Name=TP53;gbkey=Gene;gene=TP53")
            + &line("exon", "ID=exon-1;Parent=rna-1;gene=TP53")
            + "##FASTA\n>1\nACGT\n";
        let g = gtf(&text).unwrap();
        assert_eq!((g.len(), g.skipped(), g.split()), (3, 0, 0));
        for (name, by) in [("A,B", By::Name), ("C", By::Name), ("TP53", By::Id), ("ENSG00000000002.4", By::Id)] {
            let (place, how) = g.find(name, None).unwrap();
            assert_eq!((place.tss, place.chrom.as_str(), how), (199, "1", by), "{name}");
        }
        assert_eq!(g.find("GRCh38_C", Some("GRCh38_ENSG00000000002")).map(|f| f.1), Some(By::Id));
    }

    #[test]
    fn records_far_apart_are_of_two_places() {
        let exon = |start: i64, id: &str, transcript: &str| {
            let end = start + 99;
            format!("chr1\ts\texon\t{start}\t{end}\t.\t+\t.\tgene_id \"{id}\"; transcript_id \"{transcript}\";\n")
        };
        let text = exon(201, "A", "t_dup1")
            + &exon(2_000_001, "A", "t")
            + &exon(2_000_501, "A", "t")
            + &exon(1001, "B", "u")
            + &exon(1_000_001, "B", "u");
        let g = gtf(&text).unwrap();
        assert_eq!((g.len(), g.split()), (2, 1));
        assert_eq!(g.by_id("A").map(|a| (a.start, a.end)), Some((2_000_000, 2_000_600)), "where most records are");
        assert_eq!(g.by_id("B").map(|a| (a.start, a.end)), Some((1000, 1_000_100)), "a long intron");
    }

    #[test]
    fn an_annotation_of_something_else_is_refused() {
        let line = |i: usize, name: &str| {
            format!(
                "1\ts\tgene\t{}\t{}\t.\t+\t.\tgene_id \"ENSMUSG0000000000{i}\"; gene_name \"{name}\";\n",
                i + 1,
                i + 9
            )
        };
        let mouse = ["Gad1", "Actb", "Gapdh", "Sox2", "MALAT1"];
        let g = gtf(&mouse.iter().enumerate().map(|(i, n)| line(i, n)).collect::<String>()).unwrap();
        let human = ["GAD1", "ACTB", "GAPDH", "SOX2", "PAX6", "MALAT1"].map(String::from);
        let e = g.locate(&human, None, &|_| true, false).unwrap_err().to_string();
        for part in ["only 1 of the 6 genes", "look human", "looks mouse", "--force-annotation"] {
            assert!(e.contains(part), "{part}: {e}");
        }
        assert_eq!(g.locate(&human, None, &|_| true, true).unwrap().places.iter().flatten().count(), 1);
    }

    #[test]
    fn a_bad_line_among_good_ones_is_skipped() {
        let good = "chr1\ts\tgene\t1\t2\t.\t+\t.\tgene_id \"a\";\t\n";
        let g = gtf(&format!("chr1\t1\t2\n{good}chr1\ts\tgene\tx\t2\t.\t+\t.\tgene_id \"b\";\n")).unwrap();
        assert_eq!((g.len(), g.skipped()), (1, 2));
    }

    #[test]
    fn a_genome_before_every_chromosome_is_taken_off() {
        let line = |chrom: &str, id: &str| format!("{chrom}\ts\tgene\t1\t2\t.\t+\t.\tgene_id \"{id}\";\n");
        let of = |a: &str, b: &str| {
            let g = gtf(&(line(a, "a") + &line(b, "b"))).unwrap();
            ["a", "b"].map(|id| g.by_id(id).unwrap().chrom.clone())
        };
        assert_eq!(of("GRCh38_chr1", "GRCh38_chrX"), ["chr1", "chrX"]);
        assert_eq!(of("GRCh38_chr1", "mm10_chr1"), ["GRCh38_chr1", "mm10_chr1"], "of two genomes it tells which");
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
