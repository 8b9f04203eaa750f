//! Models of genes from a GTF or GFF3: the exons of one transcript a gene, to be drawn.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::gtf::{is_gff3, record, value, without_kind};
use crate::error::{Error, Result};
use crate::files::text::TextLines;

/// A gene as it is drawn. Places are 0-based and half-open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GeneModel {
    /// Its name; its id where it has none.
    pub name: String,
    /// Chromosome.
    pub chrom: String,
    /// `+` true, `-` false; `None` where the annotation does not say.
    pub forward: Option<bool>,
    /// First base of the gene.
    pub start: i64,
    /// One past its last base.
    pub end: i64,
    /// From the first to past the last coding base of the transcript; `None` where it codes for nothing.
    pub coding: Option<[i64; 2]>,
    /// Exons of the transcript, by start, none touching another; empty where the annotation has none.
    pub exons: Vec<[i64; 2]>,
}

impl GeneModel {
    /// Transcription start: the first base of a `+` gene, the last of a `-` gene.
    pub fn tss(&self) -> i64 {
        if self.forward == Some(false) { self.end - 1 } else { self.start }
    }
}

#[derive(Default)]
struct Transcript {
    name: String,
    exons: Vec<[i64; 2]>,
    coding: Vec<[i64; 2]>,
    rank: u8,
}

fn bases(parts: &[[i64; 2]]) -> i64 {
    parts.iter().map(|p| p[1] - p[0]).sum()
}

/// What an annotation says of a transcript by its tags: the one chosen to stand for the gene, its principal isoform, one of
/// its basic set.
fn rank(attributes: &str) -> u8 {
    let has = |tag: &str| attributes.contains(tag);
    u8::from(has("Ensembl_canonical") || has("MANE_Select")) * 4
        + u8::from(has("appris_principal")) * 2
        + u8::from(has("basic"))
}

struct Draft {
    id: String,
    name: Option<String>,
    chrom: String,
    forward: Option<bool>,
    span: Option<[i64; 2]>,
    transcripts: Vec<Transcript>,
}

impl Draft {
    fn transcript(&mut self, name: &str) -> &mut Transcript {
        let at = self.transcripts.iter().rposition(|t| t.name == name).unwrap_or_else(|| {
            self.transcripts.push(Transcript { name: name.into(), ..Transcript::default() });
            self.transcripts.len() - 1
        });
        &mut self.transcripts[at]
    }

    /// The gene with the transcript that stands for it: by its tags, then the longest coding sequence, then the most
    /// bases of exons, then the first.
    fn model(mut self) -> Option<GeneModel> {
        for t in &mut self.transcripts {
            if t.exons.is_empty() {
                t.exons.clone_from(&t.coding);
            }
        }
        let best = (self.transcripts.iter().enumerate().filter(|t| !t.1.exons.is_empty()))
            .max_by_key(|(i, t)| (t.rank, bases(&t.coding), bases(&t.exons), std::cmp::Reverse(*i)));
        let (mut exons, coding) = best.map_or((Vec::new(), &[][..]), |(_, t)| (t.exons.clone(), &t.coding));
        let ends = |parts: &[[i64; 2]]| Some([parts.iter().map(|p| p[0]).min()?, parts.iter().map(|p| p[1]).max()?]);
        let coding = ends(coding);
        let [start, end] = self.span.or_else(|| ends(&exons))?;
        exons.sort_unstable();
        exons.dedup_by(|next, kept| {
            let touch = next[0] <= kept[1];
            if touch {
                kept[1] = kept[1].max(next[1]);
            }
            touch
        });
        let name = self.name.unwrap_or(self.id);
        Some(GeneModel { name, chrom: self.chrom, forward: self.forward, start, end, coding, exons })
    }
}

/// What a line of GFF3 says that names only its parent, of genes that were told before: gene, transcript.
fn by_parent<'l>(attributes: &'l str, parents: &mut HashMap<String, String>) -> Option<(String, Cow<'l, str>)> {
    let parent = value(attributes, "Parent", true)?;
    if parent.starts_with("gene:") {
        let gene = without_kind(parent.clone()).into_owned();
        let own = value(attributes, "ID", true)?;
        parents.insert(own.to_string(), gene.clone());
        return Some((gene, own));
    }
    parents.get(parent.as_ref()).map(|gene| (gene.clone(), parent))
}

/// Reads the models of all genes, in the order of the file: of each the transcript that its tags name first (Ensembl's
/// canonical one, the principal isoform, the basic set), else that with the longest coding sequence, else that with most
/// bases. A gene without exons in the file has none.
///
/// # Errors
/// [`Error::Input`] where there is no gene in it; [`Error::Io`].
pub fn gene_models(path: &Path) -> Result<Vec<GeneModel>> {
    let mut lines = TextLines::open(path)?;
    let mut drafts: Vec<Draft> = Vec::new();
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut parents: HashMap<String, String> = HashMap::new();
    while let Some((_, text)) = lines.next()? {
        if text == "##FASTA" {
            break;
        }
        let mut fields = text.trim_end_matches('\t').split('\t');
        let (chrom, feature) = (fields.next().unwrap_or(""), fields.nth(1).unwrap_or(""));
        let attributes = fields.nth(5).unwrap_or("");
        let place = || {
            let mut f = text.split('\t').skip(3);
            let (start, end) = (f.next()?.parse::<i64>().ok()?, f.next()?.parse::<i64>().ok()?);
            let forward = f.nth(1).and_then(|s| match s {
                "+" => Some(true),
                "-" => Some(false),
                _ => None,
            });
            (start >= 1 && end >= start).then_some(([start - 1, end], forward))
        };
        let Some((span, forward)) = place().filter(|_| !text.starts_with('#')) else { continue };
        let gff3 = is_gff3(attributes);
        // A line of GFF3 is of the transcript that is its parent, whatever else it names.
        let parent = if gff3 { value(attributes, "Parent", true) } else { None };
        let (id, name, transcript, whole) = match record(&text) {
            Ok(Some(r)) => (r.id.into_owned(), r.name, parent.or(r.transcript), r.locus.whole),
            Ok(None) if gff3 => match by_parent(attributes, &mut parents) {
                Some((gene, transcript)) => (gene, None, Some(transcript), false),
                None => continue,
            },
            _ => continue,
        };
        let key = format!("{id}\t{chrom}\t{forward:?}");
        let at = *seen.entry(key).or_insert_with(|| {
            let chrom = chrom.trim().to_string();
            drafts.push(Draft { id, name: None, chrom, forward, span: None, transcripts: Vec::new() });
            drafts.len() - 1
        });
        let draft = &mut drafts[at];
        if draft.name.is_none() {
            draft.name = name.map(Cow::into_owned);
        }
        if whole {
            draft.span = Some(span);
            continue;
        }
        let all = transcript.unwrap_or_default();
        for name in all.split(',') {
            match feature {
                "exon" => draft.transcript(name).exons.push(span),
                "CDS" => draft.transcript(name).coding.push(span),
                "transcript" | "mRNA" => {}
                _ => continue,
            }
            let t = draft.transcript(name);
            t.rank = t.rank.max(rank(attributes));
        }
    }
    let models: Vec<GeneModel> = drafts.into_iter().filter_map(Draft::model).collect();
    if models.is_empty() {
        const FIX: &str = "give a GTF or GFF3 file (nine columns parted by tabs), plain or gzip";
        return Err(Error::input(path, "no gene with a place in it", FIX));
    }
    Ok(models)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn models(text: &str) -> Vec<GeneModel> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.gtf");
        std::fs::write(&path, text).unwrap();
        gene_models(&path).unwrap()
    }

    fn line(feature: &str, start: i64, end: i64, more: &str) -> String {
        format!("chr1\ts\t{feature}\t{start}\t{end}\t.\t-\t.\tgene_id \"G1.2\"; gene_name \"A\"; {more}\n")
    }

    #[test]
    fn the_transcript_that_stands_for_a_gene() {
        let exon = |t: &str, start, end, tag: &str| line("exon", start, end, &format!("transcript_id \"{t}\"; {tag}"));
        let long = exon("t1", 101, 400, "") + &exon("t1", 501, 900, "");
        let basic = exon("t2", 801, 900, "tag \"basic\";") + &exon("t2", 101, 200, "tag \"basic\";");
        let coding = line("CDS", 151, 200, "transcript_id \"t2\";") + &line("CDS", 801, 850, "transcript_id \"t2\";");
        let g = models(&(line("gene", 51, 1000, "") + &long + &basic + &coding));
        let want = GeneModel {
            name: "A".into(),
            chrom: "chr1".into(),
            forward: Some(false),
            start: 50,
            end: 1000,
            coding: Some([150, 850]),
            exons: vec![[100, 200], [800, 900]],
        };
        assert_eq!((g.as_slice(), g[0].tss()), (&[want][..], 999));
        // Without tags the coding one; without that, the longest; exons that touch are one.
        let plain = exon("t2", 101, 200, "") + &exon("t2", 201, 210, "") + &coding;
        assert_eq!(models(&(long.clone() + &plain))[0].exons, [[100, 210]]);
        let only = models(&long);
        assert_eq!((only[0].start, only[0].end, only[0].coding), (100, 900, None));
        assert!(models(&line("gene", 51, 1000, ""))[0].exons.is_empty());
    }

    #[test]
    fn gff3_of_ensembl_and_of_refseq() {
        let line = |feature: &str, start: i64, end: i64, what: &str| {
            format!("1\ts\t{feature}\t{start}\t{end}\t.\t+\t.\t{what}\n")
        };
        let text = line("gene", 101, 900, "ID=gene:ENSG1;Name=A;gene_id=ENSG1")
            + &line("mRNA", 101, 900, "ID=transcript:ENST1;Parent=gene:ENSG1;tag=basic,Ensembl_canonical")
            + &line("exon", 101, 200, "Parent=transcript:ENST1;Name=ENSE1")
            + &line("CDS", 151, 200, "ID=CDS:P;Parent=transcript:ENST1")
            + &line("exon", 801, 900, "Parent=transcript:ENST1;Name=ENSE2")
            + &line("gene", 2001, 2900, "ID=gene-B;Name=B;gene=B")
            + &line("mRNA", 2001, 2900, "ID=rna-N;Parent=gene-B;gene=B;transcript_id=N")
            + &line("exon", 2001, 2100, "ID=e1;Parent=rna-N;gene=B;transcript_id=N")
            + &line("CDS", 2051, 2100, "ID=c1;Parent=rna-N;gene=B;protein_id=P");
        let g = models(&text);
        assert_eq!(g.len(), 2, "{g:?}");
        assert_eq!((g[0].exons.as_slice(), g[0].coding), (&[[100, 200], [800, 900]][..], Some([150, 200])));
        assert_eq!((g[1].name.as_str(), g[1].exons.as_slice()), ("B", &[[2000, 2100]][..]));
        assert_eq!(g[1].coding, Some([2050, 2100]));
    }
}
