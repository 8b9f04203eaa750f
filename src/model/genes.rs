//! A random subset of the genes, for the translation loss of a step.
//!
//! See docs/model.md, section 5.2.

use crate::rng::Rng;

/// Streams of the subsets: this plus the step.
const GENES: u64 = 0x4745_4E45_0000_0000;

/// `n` of `genes` genes, ascending: each subset of that size is as likely as any other. A function of seed and step, the
/// same for all samples of a batch. All of them where there are no more.
pub fn sample_genes(genes: usize, n: usize, seed: u64, step: u64) -> Vec<u32> {
    let n = n.min(genes);
    let mut rng = Rng::new(seed, GENES.wrapping_add(step));
    let mut all: Vec<u32> = (0..genes as u32).collect();
    for i in 0..n {
        all.swap(i, i + rng.below(genes - i));
    }
    all.truncate(n);
    all.sort_unstable();
    all
}
