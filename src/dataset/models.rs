//! Models of genes in a data set: a table of its own, compressed, that no hash covers, as nothing but pictures reads it.

use std::borrow::Cow;
use std::io::{Read, Write};
use std::path::Path;

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

use super::manifest::{DAMAGED, from_tsv, to_tsv};
use crate::data::exons::GeneModel;
use crate::error::{Error, Result};

/// Name of the table.
pub(crate) const GENE_MODELS: &str = "gene-models.tsv.gz";

/// The end and the coding part are told from the start of the gene; each exon by the bases between it and the one before (the
/// first: from the start of the gene), and its length. One that is the whole gene is [`WHOLE`].
const HEADER: [&str; 7] = ["gene", "chrom", "strand", "start", "bases", "coding", "exons"];
const WHOLE: &str = "=";

/// The table of these models.
///
/// # Errors
/// None but failures of ours.
pub(crate) fn pack(models: &[GeneModel]) -> Result<Vec<u8>> {
    let text = to_tsv(
        &HEADER,
        models.iter().map(|m| {
            let strand = m.forward.map_or(".", |f| if f { "+" } else { "-" });
            let coding = m.coding.map_or(String::new(), |[from, to]| format!("{}-{}", from - m.start, to - m.start));
            let mut last = m.start;
            let exons: Vec<String> = (m.exons.iter())
                .map(|&[from, to]| {
                    let told = format!("{}+{}", from - last, to - from);
                    last = to;
                    told
                })
                .collect();
            let exons = if m.exons == [[m.start, m.end]] { WHOLE.into() } else { exons.join(",") };
            vec![
                Cow::from(m.name.as_str()),
                Cow::from(m.chrom.as_str()),
                Cow::from(strand),
                Cow::from(m.start.to_string()),
                Cow::from((m.end - m.start).to_string()),
                Cow::from(coding),
                Cow::from(exons),
            ]
        }),
    );
    let failed = |e: std::io::Error| Error::Internal(format!("gene models: {e}"));
    let mut out = GzEncoder::new(Vec::new(), Compression::best());
    out.write_all(text.as_bytes()).map_err(failed)?;
    out.finish().map_err(failed)
}

fn model(row: &[String]) -> Option<GeneModel> {
    let [name, chrom, strand, start, bases, coding, exons] = row else { return None };
    let start = start.parse::<i64>().ok()?;
    let end = start + bases.parse::<i64>().ok()?;
    let coding = match coding.split_once('-') {
        None => None,
        Some((from, to)) => Some([start + from.parse::<i64>().ok()?, start + to.parse::<i64>().ok()?]),
    };
    let whole = exons == WHOLE;
    let mut last = start;
    let exons = exons.split(',').filter(|e| !e.is_empty()).map(|e| {
        let (gap, length) = e.split_once('+')?;
        let from = last + gap.parse::<i64>().ok()?;
        last = from + length.parse::<i64>().ok()?;
        Some([from, last])
    });
    let exons = if whole { vec![[start, end]] } else { exons.collect::<Option<Vec<_>>>()? };
    let forward = match strand.as_str() {
        "+" => Some(true),
        "-" => Some(false),
        _ => None,
    };
    Some(GeneModel { name: name.clone(), chrom: chrom.clone(), forward, start, end, coding, exons })
}

/// Models of such a table, which was read from `path`.
///
/// # Errors
/// Another table.
pub(crate) fn unpack(path: &Path, bytes: &[u8]) -> Result<Vec<GeneModel>> {
    let bad = |what: String| Error::input(path, what, DAMAGED);
    let mut text = Vec::new();
    GzDecoder::new(bytes).read_to_end(&mut text).map_err(|e| bad(format!("cannot be unpacked ({e})")))?;
    let rows = text.iter().filter(|&&b| b == b'\n').count().saturating_sub(1);
    let rows = from_tsv(path, &text, &HEADER, rows)?;
    rows.iter().map(|r| model(r).ok_or_else(|| bad("is no table of gene models".into()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_come_back() {
        let model = |name: &str, forward, coding, exons: &[[i64; 2]]| GeneModel {
            name: name.into(),
            chrom: "chr1".into(),
            forward,
            start: 100,
            end: 1000,
            coding,
            exons: exons.to_vec(),
        };
        let all = [
            model("A\tb", Some(true), Some([150, 820]), &[[100, 200], [800, 900]]),
            model("B", Some(false), None, &[[150, 151]]),
            model("C", None, None, &[]),
            model("D", None, None, &[[100, 1000]]),
        ];
        let packed = pack(&all).unwrap();
        assert_eq!(packed, pack(&all).unwrap());
        assert_eq!(unpack(Path::new("x"), &packed).unwrap(), all);
        assert_eq!(unpack(Path::new("x"), &pack(&[]).unwrap()).unwrap(), []);
        assert!(unpack(Path::new("x"), &packed[..packed.len() - 9]).is_err());
    }
}
