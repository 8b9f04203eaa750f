//! Places on a genome as they are written: `chr1:100-200`, `chr1-100-200`, `chr1_100_200`, `chr1.100.200`, `chr1 100 200`.

/// A place on a genome, 0-based and half-open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    /// Chromosome.
    pub chrom: String,
    /// First base.
    pub start: i64,
    /// One past the last base.
    pub end: i64,
}

/// Reads `chr1-100-200`, `chr1:100-200`, `chr1_100_200`, `chr1.100.200` (as R data frames name it; of `1:100-200` they make `X1.100.200`), `chr1|100|200`
/// or `chr1 100 200`, in quotes or without, with thousands parted by commas and with a strand behind it (`:+`, `(-)`, `:*`) where
/// there is one. The name of the chromosome
/// may itself hold dashes, underscores and dots, as scaffolds do; `None` where the text is nothing of the kind or the region
/// is empty.
///
/// ```
/// use sccrossrec::data::region::parse_region;
/// let r = parse_region("chr1_KI270706v1_random-100-200").unwrap();
/// assert_eq!((r.chrom.as_str(), r.start, r.end), ("chr1_KI270706v1_random", 100, 200));
/// assert_eq!(parse_region("chr1.100.200"), parse_region("chr1 100 200"));
/// assert_eq!(parse_region("Gad1"), None);
/// ```
pub fn parse_region(name: &str) -> Option<Region> {
    let name = without_strand(name.trim().trim_matches(['"', '\'']));
    let part = |c: char| matches!(c, ':' | '-' | '_' | '.' | '|') || c.is_whitespace();
    let (rest, end) = name.rsplit_once(part)?;
    let rest = rest.strip_suffix('.').unwrap_or(rest); // chr1:100..200
    let (chrom, start) = rest.rsplit_once(part)?;
    let chrom = chrom.trim_end();
    // R puts an X before a name that begins with a digit, where it parts all words by dots.
    let by_r = chrom
        .strip_prefix('X')
        .filter(|c| c.starts_with(|c: char| c.is_ascii_digit()) && name.starts_with(&format!("{chrom}.{start}.")));
    let (start, end) = (number(start)?, number(end)?);
    let chrom = by_r.unwrap_or(chrom);
    if chrom.is_empty() || start >= end {
        return None;
    }
    Some(Region { chrom: chrom.to_string(), start, end })
}

/// Digits, perhaps parted by commas into threes.
fn number(text: &str) -> Option<i64> {
    let mut parts = text.split(',');
    let first = parts.next()?;
    let rest: Vec<&str> = parts.collect();
    let whole = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if !whole(first) || !rest.iter().all(|p| p.len() == 3 && whole(p)) || !rest.is_empty() && first.len() > 3 {
        return None;
    }
    match rest.is_empty() {
        true => first.parse().ok(),
        false => text.replace(',', "").parse().ok(),
    }
}

/// The name without the strand that GRanges and BED put behind it.
fn without_strand(name: &str) -> &str {
    for strand in ["+", "-", "*", "."] {
        if let Some(rest) = name.strip_suffix(strand).and_then(|r| r.strip_suffix([':', '_', ',', ' ', '\t', '|'])) {
            return rest.trim_end();
        }
        if let Some(rest) =
            name.strip_suffix(')').and_then(|r| r.strip_suffix(strand)).and_then(|r| r.strip_suffix('('))
        {
            return rest.trim_end();
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions() {
        let region = |chrom: &str, start, end| Some(Region { chrom: chrom.into(), start, end });
        for (name, want) in [
            ("chr1-100-200", region("chr1", 100, 200)),
            ("chr1:100-200", region("chr1", 100, 200)),
            ("chr1_100_200", region("chr1", 100, 200)),
            ("1:0-5", region("1", 0, 5)),
            ("GL000205.2-67850-68750", region("GL000205.2", 67850, 68750)),
            ("chrUn_GL000220v1_5_10", region("chrUn_GL000220v1", 5, 10)),
            ("chr6_GL000256v2_alt-5-10", region("chr6_GL000256v2_alt", 5, 10)),
            ("HLA-DRB1-5-10", region("HLA-DRB1", 5, 10)),
            ("chr1.100.200", region("chr1", 100, 200)),
            ("GL000205.2.67850.68750", region("GL000205.2", 67850, 68750)),
            ("chr1-KI270706v1-random-5-10", region("chr1-KI270706v1-random", 5, 10)),
            ("chr1 100 200", region("chr1", 100, 200)),
            ("chr1\t100\t200", region("chr1", 100, 200)),
            ("chr1:100-200:*", region("chr1", 100, 200)),
            ("chr1:100-200:+", region("chr1", 100, 200)),
            ("chr1:100-200:-", region("chr1", 100, 200)),
            ("chr1:100-200(-)", region("chr1", 100, 200)),
            ("chr1 100 200 +", region("chr1", 100, 200)),
            ("chr1:1,000-2,000", region("chr1", 1000, 2000)),
            ("chr1:100..200", region("chr1", 100, 200)),
            ("X1.100.200", region("1", 100, 200)),
            ("X.100.200", region("X", 100, 200)),
            ("X1:100-200", region("X1", 100, 200)),
            ("chr1|100|200", region("chr1", 100, 200)),
            ("\"chr1:100-200\"", region("chr1", 100, 200)),
            ("GRCh38_chr1:1-2", region("GRCh38_chr1", 1, 2)),
            ("chr1:1,00-200", None),
            ("chr1-200-100", None),
            ("chr1-100-100", None),
            ("chr1--100-200", region("chr1-", 100, 200)),
            ("chr1-100", None),
            ("-100-200", None),
            ("chr1-1e3-2000", None),
            ("chr1-100-99999999999999999999", None),
            ("peak_17", None),
            ("", None),
        ] {
            assert_eq!(parse_region(name), want, "{name}");
        }
    }
}
