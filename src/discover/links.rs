//! Sums of attention over cells, per gene–peak link: by its weight A_ij, averaged over heads, as published.
//!
//! See docs/model.md, eq. 69.

use rayon::prelude::*;

use super::attention::Pair;

/// A gene–peak link and its sum.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Link {
    /// Data set index of the gene.
    pub gene: u32,
    /// Data set index of the peak.
    pub peak: u32,
    /// Sum of its weights over cells.
    pub weight: f64,
    /// Cells that contributed.
    pub cells: u32,
}

impl Link {
    fn key(&self) -> (u32, u32) {
        (self.gene, self.peak)
    }
}

/// Pairs held back before they are sorted into the sums.
const PENDING: usize = 1 << 20;

/// Sums over cells, sorted by (gene, peak). Memory: 24 bytes a distinct link, and a constant number of pairs held
/// back (or as many as there are links, if that is more). The sums depend on the order of additions alone.
#[derive(Debug, Clone, Default)]
pub struct LinkTable {
    links: Vec<Link>,
    pending: Vec<Link>,
}

/// Adds up neighbours of equal key; the input is sorted.
fn compact(links: &mut Vec<Link>) {
    links.dedup_by(|next, kept| {
        let same = next.key() == kept.key();
        if same {
            kept.weight += next.weight;
            kept.cells += next.cells;
        }
        same
    });
}

/// Merges two sorted tables, adding up what is in both.
fn merged(a: Vec<Link>, b: &[Link]) -> Vec<Link> {
    if a.is_empty() {
        return b.to_vec();
    }
    let mut out = Vec::with_capacity(a.len() + b.len());
    let mut rest = b.iter().copied().peekable();
    for link in a {
        while let Some(l) = rest.next_if(|l| l.key() < link.key()) {
            out.push(l);
        }
        match rest.next_if(|l| l.key() == link.key()) {
            Some(l) => out.push(Link { weight: link.weight + l.weight, cells: link.cells + l.cells, ..link }),
            None => out.push(link),
        }
    }
    out.extend(rest);
    out
}

impl LinkTable {
    /// No links yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the contribution of one pair in one cell.
    pub fn add(&mut self, gene: u32, peak: u32, contribution: f64) {
        self.pending.push(Link { gene, peak, weight: contribution, cells: 1 });
        if self.pending.len() >= PENDING.max(self.links.len()) {
            self.settle();
        }
    }

    /// Adds the pairs of one cell, each by its weight.
    pub fn add_cell(&mut self, pairs: &[Pair]) {
        pairs.iter().for_each(|p| self.add(p.gene, p.peak, f64::from(p.weight)));
    }

    fn settle(&mut self) {
        let mut pending = std::mem::take(&mut self.pending);
        pending.par_sort_by_key(Link::key); // stable: equal keys stay in the order of addition
        compact(&mut pending);
        self.links = merged(std::mem::take(&mut self.links), &pending);
        pending.clear();
        self.pending = pending;
    }

    /// Adds another table's sums.
    pub fn merge(&mut self, other: &mut LinkTable) {
        other.settle();
        self.settle();
        self.links = merged(std::mem::take(&mut self.links), &other.links);
    }

    /// The links, sorted by (gene, peak).
    pub fn links(&mut self) -> &[Link] {
        if !self.pending.is_empty() {
            self.settle();
        }
        &self.links
    }

    /// The links, sorted by (gene, peak), and no table more.
    pub fn into_links(mut self) -> Vec<Link> {
        self.links();
        self.links
    }

    /// The links by falling weight; equal ones by (gene, peak).
    pub fn ranked(&mut self) -> Vec<Link> {
        let mut links = self.links().to_vec();
        links.par_sort_by(|a, b| b.weight.total_cmp(&a.weight).then(a.key().cmp(&b.key())));
        links
    }
}
