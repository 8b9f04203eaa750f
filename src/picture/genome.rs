//! The order of a genome.

use std::cmp::Ordering;

use super::font::Weight;
use super::scene::{Anchor, Ink, Pen, Scene};
use crate::data::chromosomes::chrom_key;

/// Karyotype order: numbers by value, then X, Y, M, then all others by name, and the unknown last.
pub fn karyotype(a: &str, b: &str) -> Ordering {
    fn key(name: &str) -> (u8, u64) {
        match &*chrom_key(name) {
            "X" => (1, 0),
            "Y" => (1, 1),
            "M" => (1, 2),
            "" | "." | "Unknown" => (3, 0),
            bare => bare.parse().map_or((2, 0), |n| (0, n)),
        }
    }
    key(a).cmp(&key(b)).then_with(|| a.cmp(b))
}

/// Where something lies: chromosome by number, and base; -1 where that is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Index into the names of chromosomes.
    pub chrom: u32,
    /// Base, 0-based; -1 where unknown.
    pub base: i64,
}

/// Things in genome order.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// Index of each thing, by chromosome and base.
    pub index: Vec<u32>,
    /// Chromosomes that occur, in karyotype order: name, and where its things begin in `index`.
    pub chroms: Vec<(String, usize)>,
}

impl Order {
    /// Orders `wanted` of `places`.
    pub fn new(chroms: &[String], places: &[Place], wanted: impl Iterator<Item = u32>) -> Self {
        let mut by_name: Vec<usize> = (0..chroms.len()).collect();
        by_name.sort_by(|&a, &b| karyotype(&chroms[a], &chroms[b]));
        let mut rank = vec![0; chroms.len()];
        by_name.iter().enumerate().for_each(|(r, &c)| rank[c] = r);
        let rank_of = |i: u32| rank.get(places[i as usize].chrom as usize).copied().unwrap_or(chroms.len());
        let mut index: Vec<u32> = wanted.filter(|&i| (i as usize) < places.len()).collect();
        index.sort_by_key(|&i| (rank_of(i), places[i as usize].base, i));
        let mut starts: Vec<(String, usize)> = Vec::new();
        let mut last = None;
        for (at, &i) in index.iter().enumerate() {
            let r = rank_of(i);
            if last != Some(r) {
                last = Some(r);
                let name = by_name.get(r).map_or(".", |&c| chroms[c].as_str());
                starts.push((name.to_string(), at));
            }
        }
        Order { index, chroms: starts }
    }

    /// Each chromosome: name, and its part of `index`.
    pub fn parts(&self) -> impl Iterator<Item = (&str, std::ops::Range<usize>)> {
        let ends = self.chroms.iter().skip(1).map(|c| c.1).chain([self.index.len()]);
        self.chroms.iter().zip(ends).map(|((name, start), end)| (name.as_str(), *start..end))
    }
}

/// A chromosome's name on an axis.
pub(super) fn short_name(name: &str) -> &str {
    name.strip_prefix("chr").filter(|n| !n.is_empty()).unwrap_or(name)
}

/// Names along the bottom: (name, from, to) in units, those that fit.
pub(super) fn names_below(s: &mut Scene, y: f32, parts: &[(String, f32, f32)]) {
    let mut free = f32::NEG_INFINITY;
    for (name, from, to) in parts {
        let name = short_name(name);
        let (middle, width) = ((from + to) / 2.0, super::text_width(name, 13.0, Weight::Regular));
        s.line((*from, y), (*from, y + 5.0), Pen::new(Ink::Text, 1.0));
        if width <= (to - from).max(14.0) + 6.0 && middle - width / 2.0 > free {
            s.text(middle, y + 18.0, name, 13.0, Ink::Text, Anchor::Middle);
            free = middle + width / 2.0 + 3.0;
        }
    }
    if let Some((_, _, to)) = parts.last() {
        s.line((*to, y), (*to, y + 5.0), Pen::new(Ink::Text, 1.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chromosomes_are_in_karyotype_order() {
        let mut names = ["chrUnknown", "chrM", "chr10", "GL000009.2", "chrX", "2", "chr1", "chrY"];
        names.sort_by(|a, b| karyotype(a, b));
        assert_eq!(names, ["chr1", "2", "chr10", "chrX", "chrY", "chrM", "GL000009.2", "chrUnknown"]);
    }

    #[test]
    fn things_are_in_genome_order() {
        let chroms = ["chr2".to_string(), "chr1".into(), "chr3".into()];
        let place = |chrom, base| Place { chrom, base };
        let places = [place(0, 5), place(1, 9), place(1, 3), place(0, -1), place(9, 1)];
        let o = Order::new(&chroms, &places, 0..5);
        assert_eq!(o.index, [2, 1, 3, 0, 4]);
        let parts: Vec<_> = o.parts().map(|(n, r)| (n.to_string(), r)).collect();
        assert_eq!(parts, [("chr1".to_string(), 0..2), ("chr2".into(), 2..4), (".".into(), 4..5)]);
    }
}
