//! Names of chromosomes: what UCSC, Ensembl, GENCODE and GenBank call one and the same sequence.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io::BufRead;
use std::path::Path;

use crate::error::{Error, Result};
use crate::files::text::{open_text, text_error};

/// What a chromosome is compared by: `chr1` and `1` are one, and so are `chrM`, `MT` and `M`. A scaffold goes by its
/// GenBank accession, which UCSC puts inside its names: `chr1_KI270706v1_random`, `chrUn_KI270706v1` and `KI270706.1`
/// are one. The version is no part of it, as UCSC leaves it out for some genomes (`chr1_GL456211_random` is Ensembl's
/// `GL456211.1`).
///
/// ```
/// use sccrossrec::data::chromosomes::chrom_key;
/// assert_eq!(chrom_key("chr10"), chrom_key("10"));
/// assert_eq!(chrom_key("MT"), chrom_key("chrM"));
/// assert_ne!(chrom_key("chr1"), chrom_key("chr10"));
/// assert_eq!(chrom_key("chr6_GL000256v2_alt"), chrom_key("GL000256.2"));
/// ```
pub fn chrom_key(name: &str) -> Cow<'_, str> {
    let bare = match name.get(..3) {
        Some(prefix) if prefix.eq_ignore_ascii_case("chr") && name.len() > 3 => &name[3..],
        _ => name,
    };
    if bare == "MT" {
        return Cow::Borrowed("M");
    }
    // UCSC: what it belongs to, accession, kind of scaffold.
    let inner = match bare.split_once('_') {
        Some((_, rest)) => match rest.rsplit_once('_') {
            Some((accession, "random" | "alt" | "fix" | "hap")) => accession,
            _ => rest,
        },
        None => bare,
    };
    match accession(inner) {
        Some(accession) if accession.bytes().all(|b| !b.is_ascii_lowercase()) => Cow::Borrowed(accession),
        Some(accession) => Cow::Owned(accession.to_ascii_uppercase()), // as in hg19
        None => Cow::Borrowed(bare),
    }
}

/// A GenBank accession of a scaffold without its version (`.1`, UCSC `v1`): two letters and six or eight digits, or
/// four letters and eight to ten.
fn accession(name: &str) -> Option<&str> {
    let letters = name.bytes().take_while(u8::is_ascii_alphabetic).count();
    let digits = name[letters..].bytes().take_while(u8::is_ascii_digit).count();
    if !matches!((letters, digits), (2, 6 | 8) | (4, 8..=10)) {
        return None;
    }
    let (accession, version) = name.split_at(letters + digits);
    let number = match version.strip_prefix(['.', 'v']) {
        None => version.is_empty(),
        Some(v) => !v.is_empty() && v.bytes().all(|b| b.is_ascii_digit()),
    };
    number.then_some(accession)
}

/// Names of chromosomes that are the same by a table, beside those that [`chrom_key`] knows.
#[derive(Debug, Clone, Default)]
pub struct Aliases {
    /// Key of a name → key that stands for it, which may have one in its turn.
    same: HashMap<String, String>,
}

impl Aliases {
    /// Reads a table of names parted by tabs, plain or gzip: all names of a row are one chromosome. Lines that begin
    /// with `#` are skipped. Of a table with three columns the third tells where the name is from, as in UCSC's
    /// `chromAlias`; of any other number of columns all are names.
    ///
    /// # Errors
    /// A line without a second column; a file with no line at all.
    pub fn read(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::io(path, "read", e))?;
        let reader = open_text(path, file)?;
        let mut aliases = Aliases::default();
        for (number, line) in reader.lines().enumerate() {
            let line = line.map_err(|e| text_error(path, number + 1, e))?;
            let line = line.trim_end_matches('\r');
            if line.starts_with('#') || line.trim().is_empty() {
                continue;
            }
            let fields: Vec<&str> = line.split('\t').map(str::trim).collect();
            let names = match fields.len() {
                1 => {
                    return Err(Error::input(
                        path,
                        format!("line {} has one column", number + 1),
                        "give a table of names parted by tabs, such as UCSC's chromAlias.txt",
                    ));
                }
                3 => &fields[..2],
                _ => &fields[..],
            };
            let mut names = names.iter().filter(|n| !n.is_empty()).flat_map(|n| n.split(',')).map(str::trim);
            let Some(first) = names.next().map(|n| aliases.key(n).into_owned()) else { continue };
            for name in names {
                let name = aliases.key(name).into_owned();
                if name != first {
                    aliases.same.insert(name, first.clone());
                }
            }
        }
        if aliases.same.is_empty() {
            return Err(Error::input(path, "no alias in it", "give a table of names parted by tabs"));
        }
        Ok(aliases)
    }

    /// [`chrom_key`], the table applied.
    pub fn key<'n>(&'n self, name: &'n str) -> Cow<'n, str> {
        let mut key = chrom_key(name);
        while let Some(next) = self.same.get(key.as_ref()) {
            key = Cow::Borrowed(next); // only keys that nothing stands for were given one, so that this ends
        }
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_one_sequence() {
        for names in [
            &["chr1", "1", "Chr1", "CHR1"][..],
            &["chrM", "MT", "M", "chrMT"],
            &["chrX", "X"],
            &["chr1_KI270706v1_random", "KI270706.1", "chr1_KI270706_random", "KI270706"],
            &["chrUn_GL000220v1", "GL000220.1", "chrUn_gl000220"],
            &["chr6_GL000256v2_alt", "GL000256.2"],
            &["chr1_GL456211_random", "GL456211.1"],
            &["chrUn_JH584304", "JH584304.1"],
            &["chr4_JH584295v1_random", "JH584295.1"],
            &["chr1_KN196472v1_fix", "KN196472.1"],
            &["chrUn_AAEX03020198v1", "AAEX03020198.1"],
        ] {
            for name in names {
                assert_eq!(chrom_key(name), chrom_key(names[0]), "{name}");
            }
        }
    }

    #[test]
    fn the_names_of_different_sequences() {
        let all = [
            "chr1",
            "chr10",
            "chrX",
            "chrx",
            "chrM",
            "chrUn_GL000220v1",
            "chrUn_GL000219v1",
            "chr1_KI270706v1_random",
            "HLA-DRB1",
            "NC_000001.11",
            "NC_000002.12",
            "chr17_ctg5_hap1",
            "chr6_apd_hap1",
            "CHR_HSCHR1_1_CTG3",
            "chr",
            "scaffold_12",
            "scaffold_12.1",
            "chrEBV",
            "GL00022.1",
            "chrUnknown",
            "C12345.1",
            "C12345.2",
            "1_2",
            "",
            "_",
        ];
        for (i, a) in all.iter().enumerate() {
            for b in &all[i + 1..] {
                assert_ne!(chrom_key(a), chrom_key(b), "{a} and {b}");
            }
        }
        assert_eq!(chrom_key("é1"), "é1");
    }

    fn table(text: &str) -> Result<Aliases> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("alias.tsv");
        std::fs::write(&path, text).unwrap();
        Aliases::read(&path)
    }

    #[test]
    fn tables() {
        let two = table("# UCSC\tRefSeq\nchr1\tNC_000001.11\nchr2\tNC_000002.12\r\n\n").unwrap();
        assert_eq!((two.key("NC_000001.11"), two.key("1"), two.key("3")), ("1".into(), "1".into(), "3".into()));
        assert_eq!(two.key("NC_000002.12"), two.key("chr2"));
        let source = table(
            "HSCHR6_MHC_APD_CTG1\tchr6_GL000250v2_alt\tensembl,genbank\nCM000663.2\tchr1\tgenbank\nNC_000001.11\tchr1\trefseq\n",
        );
        let source = source.unwrap();
        assert_eq!(source.key("HSCHR6_MHC_APD_CTG1"), source.key("GL000250.2"));
        assert_eq!(source.key("CM000663.2"), source.key("chr1"));
        assert_eq!(source.key("NC_000001.11"), source.key("CM000663.2"));
        assert_ne!(source.key("genbank"), source.key("chr1"));
        let many = table("chr1\t1\tCM000663.2\tNC_000001.11\nchr9\t\tCM000671.2\tNC_000009.12\n").unwrap();
        assert_eq!(many.key("NC_000009.12"), many.key("9"));
        assert_eq!(many.key("NC_000001.11"), many.key("chr1"));
        assert!(table("chr1 1\n").unwrap_err().to_string().contains("line 1 has one column"));
        assert!(table("#a\tb\n").unwrap_err().to_string().contains("no alias"));
    }
}
