//! Names of chromosomes in the files of browsers.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

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
}
