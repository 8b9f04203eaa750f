//! Names and numbers as fields of the files of other programs.

use super::chrom_names::ChromNames;
use crate::vocabulary::Vocabulary;

/// A name as one field of a browser's file: blanks become `_`, an empty one `.`; no more than 255 bytes.
pub(super) fn token(name: &str) -> String {
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
pub(super) fn number(x: f64) -> String {
    match x.abs() {
        a if a == 0.0 || (1e-4..1e15).contains(&a) => format!("{}", x + 0.0),
        _ => format!("{x:e}"),
    }
}

/// A chromosome's name in the files of browsers; `None` where it is unknown.
pub(super) fn chrom(v: &Vocabulary, chrom: u32, names: ChromNames) -> Option<String> {
    if Some(chrom) == v.unknown {
        return None;
    }
    v.chromosomes.get(chrom as usize).map(|name| token(&names.of(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

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
