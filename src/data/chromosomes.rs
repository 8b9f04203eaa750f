//! Names of chromosomes: what UCSC, Ensembl, GENCODE, GenBank and RefSeq call one and the same sequence.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use super::table::Rows;
use crate::error::{Error, Result};
use crate::vocabulary::UNKNOWN;

/// What a chromosome is compared by: `chr1` and `1` are one, and so are `chrM`, `MT` and `M`. A scaffold goes by its
/// GenBank accession, which UCSC puts inside its names: `chr1_KI270706v1_random`, `chrUn_KI270706v1` and `KI270706.1`
/// are one, also with the dashes of Seurat or the points of R in the place of `_`. The version is no part of it, as UCSC
/// leaves it out for some genomes (`chr1_GL456211_random` is Ensembl's `GL456211.1`). RefSeq's and GenBank's accessions of
/// the chromosomes of human, mouse, rat and zebrafish are known (`NC_000001.11` is `1`).
///
/// ```
/// use sccrossrec::data::chromosomes::chrom_key;
/// assert_eq!(chrom_key("chr10"), chrom_key("10"));
/// assert_eq!(chrom_key("MT"), chrom_key("chrM"));
/// assert_ne!(chrom_key("chr1"), chrom_key("chr10"));
/// assert_eq!(chrom_key("chr6_GL000256v2_alt"), chrom_key("GL000256.2"));
/// assert_eq!(chrom_key("NC_000023.11"), chrom_key("chrX"));
/// ```
pub fn chrom_key(name: &str) -> Cow<'_, str> {
    let bare = match name.get(..3) {
        Some(prefix) if prefix.eq_ignore_ascii_case("chr") && name.len() > 3 => &name[3..],
        _ => name,
    };
    if bare == "MT" {
        return Cow::Borrowed("M");
    }
    if let Some(known) = of_archive(bare) {
        return known;
    }
    // UCSC: what it belongs to, accession, kind of scaffold.
    match accession(bare).or_else(|| bare.split(['_', '-', '.']).find_map(accession)) {
        Some(accession) if accession.bytes().all(|b| !b.is_ascii_lowercase()) => Cow::Borrowed(accession),
        Some(accession) => Cow::Owned(accession.to_ascii_uppercase()), // as in hg19
        None => Cow::Borrowed(bare),
    }
}

/// Accessions of whole chromosomes: prefix, number of the first, chromosomes with a number, and the names after these.
const ARCHIVE: [(&str, u64, u64, &[&str]); 10] = [
    ("NC_", 1, 22, &["X", "Y"]),      // human
    ("NC_", 60_925, 22, &["X", "Y"]), // human, T2T
    ("NC_", 67, 19, &["X", "Y"]),     // mouse
    ("NC_", 5_100, 20, &["X"]),       // rat to rn6
    ("NC_", 51_336, 20, &["X", "Y"]), // rat from rn7
    ("NC_", 7_112, 25, &[]),          // zebrafish
    ("NC_", 12_920, 0, &["M"]),       // human
    ("NC_", 5_089, 0, &["M"]),        // mouse
    ("CM", 663, 22, &["X", "Y"]),     // human
    ("CM", 994, 19, &["X", "Y"]),     // mouse
];

/// The chromosome that RefSeq or GenBank calls so, with a version or without.
fn of_archive(name: &str) -> Option<Cow<'static, str>> {
    let (stem, version) = name.split_once('.').unwrap_or((name, "1"));
    let is_number = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if !is_number(version) {
        return None;
    }
    // Seurat writes dashes.
    let digits = ["NC_", "NC-", "CM"].into_iter().find_map(|p| Some((&p[..2], stem.strip_prefix(p)?)));
    let (kind, digits) = digits.filter(|d| d.1.len() == 6 && is_number(d.1))?;
    let number: u64 = digits.parse().ok()?;
    ARCHIVE.iter().filter(|a| a.0[..2] == *kind).find_map(|&(_, first, numbered, others)| {
        let at = number.checked_sub(first)?;
        match at < numbered {
            true => Some(Cow::Owned((at + 1).to_string())),
            false => others.get((at - numbered) as usize).map(|name| Cow::Borrowed(*name)),
        }
    })
}

/// Is this the name of a whole chromosome, not of a scaffold, patch or haplotype?
pub(crate) fn is_whole(name: &str) -> bool {
    let key = chrom_key(name);
    key.len() <= 5 && key.bytes().all(|b| b.is_ascii_alphanumeric())
}

/// Genomes whose name 10x and others put before that of a gene or chromosome, as `GRCh38_chr1`.
const GENOMES: [&str; 16] = [
    "GRCh38",
    "GRCh37",
    "GRCm38",
    "GRCm39",
    "hg38",
    "hg19",
    "hg18",
    "mm9",
    "mm10",
    "mm39",
    "rn6",
    "rn7",
    "mRatBN7.2",
    "Rnor_6.0",
    "GRCz11",
    "T2T-CHM13",
];

/// The name of a genome at the front, with the `_` that part it, and what comes after; `None` where there is none.
///
/// ```
/// use sccrossrec::data::chromosomes::genome_prefix;
/// assert_eq!(genome_prefix("GRCh38_chr1"), Some(("GRCh38_", "chr1")));
/// assert_eq!(genome_prefix("mm10___Gad1"), Some(("mm10___", "Gad1")));
/// assert_eq!(genome_prefix("chr1"), None);
/// ```
pub fn genome_prefix(name: &str) -> Option<(&str, &str)> {
    GENOMES.iter().find_map(|genome| {
        let start = name.get(..genome.len()).filter(|s| s.eq_ignore_ascii_case(genome))?;
        let rest = &name[start.len()..];
        // The version of a reference may follow: GRCh38-2020-A.
        let rest = match rest.strip_prefix("-20") {
            Some(version) => version.find('_').map_or("", |at| &version[at..]),
            None => rest,
        };
        let bare = rest.trim_start_matches('_');
        let sound = bare.len() < rest.len() || rest.starts_with('-') && rest.len() > 1;
        let bare = bare.strip_prefix('-').unwrap_or(bare);
        (sound && !bare.is_empty()).then(|| name.split_at(name.len() - bare.len()))
    })
}

/// The one genome that these names all begin with, with what parts it from them; `None` where they are of none or several.
fn one_genome<'n>(names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let mut names = names.into_iter();
    let first = genome_prefix(names.next()?)?.0;
    names.all(|n| genome_prefix(n).is_some_and(|p| p.0 == first)).then_some(first)
}

/// Takes off the genome that stands before each chromosome (`GRCh38_chr1`), where it is one and the same.
pub(crate) fn without_genome(chroms: Vec<&mut String>) {
    let known = |c: &&mut String| c.as_str() != UNKNOWN;
    if one_genome(chroms.iter().filter(|c| known(c)).map(|c| c.as_str())).is_none() {
        return;
    }
    for chrom in chroms {
        if let Some((_, bare)) = genome_prefix(chrom) {
            *chrom = bare.to_string();
        }
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
    /// Reads a table of names, plain or gzip: all names of a row are one chromosome. Lines that begin
    /// with `#` are skipped. Of a table with three columns the third tells where the name is from, as in UCSC's
    /// `chromAlias`; of any other number of columns all are names.
    ///
    /// # Errors
    /// A file in which no line has a second column.
    pub fn read(path: &Path) -> Result<Self> {
        let mut rows = Rows::open(path, true)?;
        let mut aliases = Aliases::default();
        let (mut alone, mut named) = (None, false);
        while let Some(row) = rows.next()? {
            let fields: Vec<&str> = row.fields.iter().map(|f| f.trim()).collect();
            let names = match fields.len() {
                1 => {
                    alone = alone.or(Some(row.line)); // says nothing
                    continue;
                }
                3 => &fields[..2],
                _ => &fields[..],
            };
            let mut names = names.iter().filter(|n| !n.is_empty()).flat_map(|n| n.split(',')).map(str::trim);
            let Some(first) = names.next().map(|n| aliases.key(n).into_owned()) else { continue };
            named = true;
            for name in names {
                let name = aliases.key(name).into_owned();
                if name != first {
                    aliases.same.insert(name, first.clone());
                }
            }
        }
        const FIX: &str = "give a table of names parted by tabs, such as UCSC's chromAlias.txt";
        match (named, alone) {
            (true, _) => {}
            (false, Some(line)) => return Err(Error::input(path, format!("line {line} has one column"), FIX)),
            (false, None) => return Err(Error::input(path, "no alias in it", FIX)),
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
            &["chr1-KI270706v1-random", "chr1.KI270706v1.random", "KI270706.1"],
            &["NC_000001.11", "NC_000001.10", "chr1", "CM000663.2", "NC-000001.11", "NC_060925.1"],
            &["NC_000023.11", "NC_000086.8", "X", "CM000685.2"],
            &["NC_000085.7", "19", "NC_000019.10", "CM001012.3"],
            &["NC_012920.1", "NC_005089.1", "MT"],
            &["NC_007136.7", "25"],
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
            "NT_187361.1",
            "NC_000002.12",
            "NC_999999.1",
            "NC_000001.x",
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

    #[test]
    fn genomes_before_names() {
        assert_eq!(one_genome(["GRCh38_chr1", "GRCh38_X"]), Some("GRCh38_"));
        assert_eq!(one_genome(["GRCh38_chr1", "mm10_chr1"]), None, "of two genomes they tell which");
        assert_eq!(one_genome(["GRCh38_chr1", "chr2"]), None);
        assert_eq!((one_genome([]), one_genome(["GRCh38", "GRCh38_"])), (None, None));
        assert_eq!(genome_prefix("GRCh38-2020-A_chr1"), Some(("GRCh38-2020-A_", "chr1")));
        assert_eq!(genome_prefix("hg38-chr1"), Some(("hg38-", "chr1")), "with Seurat's dashes");
    }

    fn table(text: &str) -> Result<Aliases> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("alias.tsv");
        std::fs::write(&path, text).unwrap();
        Aliases::read(&path)
    }

    #[test]
    fn tables() {
        let two = table("# UCSC\tRefSeq\nchr1\tNC_800001.11\nchr2\tNC_800002.12\r\n\n").unwrap();
        assert_eq!((two.key("NC_800001.11"), two.key("1"), two.key("3")), ("1".into(), "1".into(), "3".into()));
        assert_eq!(two.key("NC_800002.12"), two.key("chr2"));
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
        for text in ["chrA NC_800001.1\n", "chrA,NC_800001.1\nchrB,NC_800002.1\nalone\n"] {
            let parted = table(text).unwrap();
            assert_eq!(parted.key("NC_800001.1"), parted.key("A"), "{text}");
        }
        assert!(table("chr1\n").unwrap_err().to_string().contains("line 1 has one column"));
        assert!(table("#a\tb\n").unwrap_err().to_string().contains("no alias"));
    }
}
