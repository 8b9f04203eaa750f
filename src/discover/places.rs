//! Files of genomic intervals against the places of a data set: lines, chromosomes by alias, overlaps.

use std::collections::HashMap;
use std::path::Path;

use crate::data::chromosomes::{Aliases, genome_prefix};
use crate::error::{Error, Result};
use crate::files::text::TextLines;
use crate::vocabulary::Vocabulary;

/// Calls `each` with the number (from 1) and text of every line of a file, plain or gzip, but for blank ones and those
/// that begin with `#` or are a `track` or `browser` line. A first line `#…` is passed to `header`.
pub(super) fn each_line(
    path: &Path,
    mut header: impl FnMut(&str),
    mut each: impl FnMut(usize, &str) -> Result<()>,
) -> Result<()> {
    let mut lines = TextLines::open(path)?;
    while let Some((number, text)) = lines.next()? {
        if number == 1
            && let Some(rest) = text.strip_prefix('#')
        {
            header(rest);
        }
        let word = text.split_ascii_whitespace().next().unwrap_or("#");
        if word.starts_with('#') || word == "track" || word == "browser" {
            continue;
        }
        each(number, &text)?;
    }
    Ok(())
}

/// Start and end of an interval; says what is wrong with them.
pub(super) fn interval(start: &str, end: &str) -> Result<(i64, i64), String> {
    match (start.parse::<i64>(), end.parse::<i64>()) {
        (Ok(s), Ok(e)) if s >= 0 && s < e => Ok((s, e)),
        (Ok(s), Ok(e)) if s >= 0 => Err(format!("has the start {s} at or after the end {e}")),
        _ => Err(format!("has the coordinates {start:?} to {end:?}")),
    }
}

/// Chromosomes of a data set by alias, and those of a file that were not found.
pub(super) struct Chromosomes<'v> {
    v: &'v Vocabulary,
    aliases: &'v Aliases,
    by_key: HashMap<String, u32>,
    /// Name as in the file → number, so that the alias is worked out once a name.
    found: HashMap<String, Option<u32>>,
    /// The first names that the data lack.
    lacking: Vec<String>,
}

impl<'v> Chromosomes<'v> {
    /// Of a data set; none is looked for yet.
    pub fn new(v: &'v Vocabulary, aliases: &'v Aliases) -> Self {
        let known = v.chromosomes.iter().enumerate().filter(|(i, _)| Some(*i as u32) != v.unknown);
        let by_key = known.map(|(i, name)| (aliases.key(name).into_owned(), i as u32)).collect();
        Chromosomes { v, aliases, by_key, found: HashMap::new(), lacking: Vec::new() }
    }

    /// Number of a chromosome, whatever the file calls it.
    pub fn find(&mut self, name: &str) -> Option<u32> {
        if let Some(&found) = self.found.get(name) {
            return found;
        }
        let known = |name: &str| self.by_key.get(self.aliases.key(name).as_ref()).copied();
        let found = known(name).or_else(|| known(genome_prefix(name)?.1));
        if found.is_none() && self.lacking.len() < 3 {
            self.lacking.push(name.to_string());
        }
        self.found.insert(name.to_string(), found);
        found
    }

    /// The refusal of a file whose chromosomes are all unknown.
    pub fn none_known(&self, path: &Path) -> Error {
        let known = self.v.chromosomes.iter().enumerate().filter(|(i, _)| Some(*i as u32) != self.v.unknown);
        let mut known: Vec<&str> = known.map(|(_, name)| name.as_str()).take(3).collect();
        if known.is_empty() {
            known.push("none with a known name");
        }
        Error::input(
            path,
            format!(
                "none of its chromosomes is in the data: it names {}, the data {}",
                self.lacking.join(", "),
                known.join(", ")
            ),
            "give a file of the same genome; where it only names chromosomes otherwise, a table of their names with \
             --aliases",
        )
    }
}

/// Intervals of one chromosome as an implicit balanced tree, sorted by start.
#[derive(Default)]
struct Tree {
    /// (start, end, id, largest end below this node).
    nodes: Vec<(i64, i64, u32, i64)>,
}

impl Tree {
    fn build(nodes: &mut [(i64, i64, u32, i64)]) -> i64 {
        if nodes.is_empty() {
            return i64::MIN;
        }
        let (left, rest) = nodes.split_at_mut(nodes.len() / 2);
        let furthest = Self::build(left);
        let Some((node, right)) = rest.split_first_mut() else { return furthest };
        node.3 = furthest.max(node.1).max(Self::build(right));
        node.3
    }

    fn visit(nodes: &[(i64, i64, u32, i64)], start: i64, end: i64, f: &mut impl FnMut(u32)) {
        let (left, rest) = nodes.split_at(nodes.len() / 2);
        let Some((node, right)) = rest.split_first() else { return };
        if node.3 <= start {
            return;
        }
        Self::visit(left, start, end, f);
        if node.0 < end {
            if node.1 > start {
                f(node.2);
            }
            Self::visit(right, start, end, f);
        }
    }
}

/// Which intervals overlap another one, by chromosome number. Finding k of n takes O(k log n).
pub(super) struct Overlaps {
    trees: HashMap<u32, Tree>,
}

impl Overlaps {
    /// Of (chromosome, start, end, id).
    pub fn new(items: impl Iterator<Item = (u32, i64, i64, u32)>) -> Self {
        let mut trees: HashMap<u32, Tree> = HashMap::new();
        for (chrom, start, end, id) in items {
            trees.entry(chrom).or_default().nodes.push((start, end, id, end));
        }
        for tree in trees.values_mut() {
            tree.nodes.sort_unstable();
            Tree::build(&mut tree.nodes);
        }
        Overlaps { trees }
    }

    /// Of the peaks whose place is known; ids are their data set indices.
    pub fn of_peaks(v: &Vocabulary) -> Self {
        let peaks = v.peaks.iter().enumerate().filter(|(_, p)| Some(p.chrom) != v.unknown && p.start >= 0);
        Self::new(peaks.map(|(i, p)| (p.chrom, p.start, p.end, i as u32)))
    }

    /// Of the genes whose TSS is known, `window` bases on both sides of it; ids are their data set indices.
    pub fn of_tss(v: &Vocabulary, window: i64) -> Self {
        let genes = v.genes.iter().enumerate().filter(|(_, g)| Some(g.chrom) != v.unknown);
        Self::new(genes.filter_map(|(i, g)| {
            let tss = g.tss?;
            Some((g.chrom, tss.saturating_sub(window), tss.saturating_add(window).saturating_add(1), i as u32))
        }))
    }

    /// Calls `f` with each that shares a base with `start..end`, by rising start.
    pub fn each(&self, chrom: u32, start: i64, end: i64, mut f: impl FnMut(u32)) {
        if let Some(tree) = self.trees.get(&chrom) {
            Tree::visit(&tree.nodes, start, end, &mut f);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn overlaps_equal_brute_force() {
        let mut rng = Rng::new(3, 0);
        let mut draw = |longest: usize| {
            let start = rng.below(2000) as i64;
            (rng.below(2) as u32, start, start + 1 + rng.below(longest) as i64)
        };
        for n in [0, 1, 2, 7, 300] {
            let items: Vec<_> = (0..n).map(|i| draw(if i % 10 == 0 { 1500 } else { 40 })).collect();
            let index = Overlaps::new(items.iter().enumerate().map(|(i, &(c, s, e))| (c, s, e, i as u32)));
            for _ in 0..200 {
                let (chrom, start, end) = draw(60);
                let mut found = Vec::new();
                index.each(chrom, start, end, |i| found.push(i));
                assert!(found.is_sorted_by_key(|&i| items[i as usize].1));
                found.sort_unstable();
                let want: Vec<u32> = (0..n as u32)
                    .filter(|&i| {
                        let (c, s, e) = items[i as usize];
                        c == chrom && s < end && e > start
                    })
                    .collect();
                assert_eq!(found, want);
            }
        }
    }
}
