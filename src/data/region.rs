//! Places on a genome as they are written: `chr1:100-200`, `chr1-100-200`, `chr1_100_200`.

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

/// Reads `chr1-100-200`, `chr1:100-200` or `chr1_100_200`. The name of the chromosome may itself hold dashes,
/// underscores and dots, as scaffolds do; `None` where the text is nothing of the kind or the region is empty.
///
/// ```
/// use sccrossrec::data::region::parse_region;
/// let r = parse_region("chr1_KI270706v1_random-100-200").unwrap();
/// assert_eq!((r.chrom.as_str(), r.start, r.end), ("chr1_KI270706v1_random", 100, 200));
/// assert_eq!(parse_region("Gad1"), None);
/// ```
pub fn parse_region(name: &str) -> Option<Region> {
    let (rest, end) = name.rsplit_once(['-', '_'])?;
    let (chrom, start) = rest.rsplit_once([':', '-', '_'])?;
    let number = |s: &str| -> Option<i64> {
        if s.is_empty() || !s.bytes().all(|b| b.is_ascii_digit()) { None } else { s.parse().ok() }
    };
    let (start, end) = (number(start)?, number(end)?);
    if chrom.is_empty() || start >= end {
        return None;
    }
    Some(Region { chrom: chrom.to_string(), start, end })
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
