//! The cis graph: which peaks may regulate a gene, by distance.
//!
//! See docs/model.md, section 3.5.

use crate::vocabulary::Vocabulary;

/// Upper ends of the distance bins of [`CisGraph::bin`], in bases; a last bin has no end.
pub const BIN_ENDS: [i64; 7] = [1_000, 5_000, 20_000, 50_000, 100_000, 200_000, 500_000];
/// Distance bins; the last one holds the pairs whose distance is unknown, too.
pub const BINS: usize = BIN_ENDS.len() + 1;

/// For each gene the peaks whose middle lies within a window of its TSS. A gene without a TSS, or on a chromosome where no
/// peak has a place, has all peaks of its chromosome, and no edges: see [`CisGraph::whole`]. Nothing is on `chrUnknown`.
///
/// Made from names and places when a data set is opened, in O(E), so that a window is an option of training and not of the
/// shards. `E` is near 38 a gene at 500 kb on NeurIPS-2021.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CisGraph {
    /// Bases on either side of the TSS.
    pub window: i64,
    /// `[P + 1]` where the edges of a peak start.
    pub peak_ptr: Vec<usize>,
    /// `[E]` gene of each edge, ascending within a peak.
    pub gene: Vec<u32>,
    /// `[E]` distance bin of each edge.
    pub bin: Vec<u8>,
    /// `[G]` does the gene take its whole chromosome?
    pub whole: Vec<bool>,
}

/// Bin of a distance in bases.
pub fn distance_bin(distance: i64) -> u8 {
    BIN_ENDS.partition_point(|&end| end < distance) as u8
}

impl CisGraph {
    /// The pairs of a vocabulary within `window` bases.
    pub fn new(v: &Vocabulary, window: i64) -> Self {
        let middle = |p: &crate::vocabulary::Peak| (p.start >= 0 && p.end > p.start).then(|| (p.start + p.end) / 2);
        let known = |chrom: u32| Some(chrom) != v.unknown;
        let mut placed = vec![false; v.chromosomes.len()];
        v.peaks.iter().filter(|p| middle(p).is_some()).for_each(|p| placed[p.chrom as usize] = true);
        let whole: Vec<bool> =
            v.genes.iter().map(|g| known(g.chrom) && (g.tss.is_none() || !placed[g.chrom as usize])).collect();
        let mut starts: Vec<(u32, i64, u32)> = (0..)
            .zip(&v.genes)
            .filter(|(_, g)| known(g.chrom) && placed[g.chrom as usize])
            .filter_map(|(i, g)| Some((g.chrom, g.tss?, i)))
            .collect();
        starts.sort_unstable();
        let (mut peak_ptr, mut gene, mut bin) = (vec![0], Vec::new(), Vec::new());
        let mut near: Vec<(u32, u8)> = Vec::new();
        for p in &v.peaks {
            if let Some(middle) = middle(p) {
                let from = starts.partition_point(|s| (s.0, s.1) < (p.chrom, middle.saturating_sub(window)));
                let to = starts.partition_point(|s| (s.0, s.1) <= (p.chrom, middle.saturating_add(window)));
                near.clear();
                near.extend(starts[from..to].iter().map(|s| (s.2, distance_bin((s.1 - middle).abs()))));
                near.sort_unstable();
                gene.extend(near.iter().map(|n| n.0));
                bin.extend(near.iter().map(|n| n.1));
            }
            peak_ptr.push(gene.len());
        }
        CisGraph { window, peak_ptr, gene, bin, whole }
    }

    /// G.
    pub fn genes(&self) -> usize {
        self.whole.len()
    }

    /// P.
    pub fn peaks(&self) -> usize {
        self.peak_ptr.len() - 1
    }

    /// E.
    pub fn len(&self) -> usize {
        self.gene.len()
    }

    /// No edges?
    pub fn is_empty(&self) -> bool {
        self.gene.is_empty()
    }

    /// Genes and bins of the edges of a peak.
    pub fn of_peak(&self, peak: usize) -> (&[u32], &[u8]) {
        let r = self.peak_ptr[peak]..self.peak_ptr[peak + 1];
        (&self.gene[r.clone()], &self.bin[r])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vocabulary::{Gene, Peak};

    fn vocabulary() -> Vocabulary {
        let gene = |chrom, tss| Gene { name: String::new(), chrom, tss };
        let peak = |chrom, start: i64| Peak {
            name: String::new(),
            chrom,
            start,
            end: start + if start < 0 { 0 } else { 100 },
        };
        Vocabulary {
            chromosomes: ["chr1", "chr2", "chrUnknown", "chr4"].map(String::from).to_vec(),
            unknown: Some(2),
            // Not in order of their places.
            genes: vec![
                gene(0, Some(900_000)),
                gene(0, Some(10_000)),
                gene(0, None),
                gene(2, Some(5)),
                gene(1, Some(50)),
                gene(3, Some(7)),
            ],
            peaks: vec![peak(0, 9_950), peak(0, 500_000), peak(0, -1), peak(1, 500), peak(2, 0), peak(0, 400_000)],
            ..Vocabulary::default()
        }
    }

    #[test]
    fn pairs_within_the_window_and_no_others() {
        let v = vocabulary();
        for window in [0, 450, 389_950, 390_050, 500_000, 2_000_000] {
            let graph = CisGraph::new(&v, window);
            let mut want = Vec::new();
            for (j, p) in v.peaks.iter().enumerate() {
                for (i, g) in v.genes.iter().enumerate() {
                    if let (Some(tss), true) = (g.tss, p.start >= 0)
                        && g.chrom == p.chrom
                        && g.chrom != 2
                        && (tss - (p.start + p.end) / 2).abs() <= window
                    {
                        want.push((j, i as u32));
                    }
                }
            }
            let got: Vec<(usize, u32)> =
                (0..v.peaks.len()).flat_map(|j| graph.of_peak(j).0.iter().map(move |&g| (j, g))).collect();
            assert_eq!(got, want, "{window}");
            assert!(window < 500_000 || got.len() > 4);
            // Without a TSS, or where no peak of the chromosome has a place.
            assert_eq!(graph.whole, [false, false, true, false, false, true]);
        }
    }

    #[test]
    fn bins_are_closed_at_their_ends() {
        for (distance, bin) in [(0, 0), (1_000, 0), (1_001, 1), (500_000, 6), (500_001, 7), (i64::MAX, 7)] {
            assert_eq!(distance_bin(distance), bin, "{distance}");
        }
    }
}
