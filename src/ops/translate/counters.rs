//! Bit masks over genes, and counters that add 64 genes with a word.

use crate::simd::vectorized;

/// Genes a block of the forward pass covers: eight 64-bit words of mask a column.
pub(super) const WORDS: usize = 8;
pub(super) const BLOCK: usize = 64 * WORDS;
pub(super) type Mask = [u64; WORDS];

/// Bit-sliced counters of `BLOCK` genes. Started `limit + 1` below the overflow, an overflow means "more than limit".
pub(super) struct Counters {
    planes: Vec<Mask>,
    pub over: Mask,
}

impl Counters {
    /// Counters that overflow when more than `limit` was added.
    pub fn threshold(limit: usize) -> Self {
        let bits = (usize::BITS - limit.leading_zeros()) as usize;
        let first = (1usize << bits) - (limit + 1);
        let planes = (0..bits).map(|i| [if first >> i & 1 == 1 { u64::MAX } else { 0 }; WORDS]).collect();
        Counters { planes, over: [0; WORDS] }
    }

    /// Counters that hold up to `most`.
    pub fn exact(most: usize) -> Self {
        Counters { planes: vec![[0; WORDS]; (usize::BITS - most.leading_zeros()) as usize], over: [0; WORDS] }
    }

    /// Counters of which nothing is known but which ran over.
    pub fn only_over(over: Mask) -> Self {
        Counters { planes: Vec::new(), over }
    }

    pub fn full(&self) -> bool {
        self.over.iter().all(|&w| w == u64::MAX)
    }

    pub fn is_over(&self, gene: usize) -> bool {
        self.over[gene / 64] >> (gene % 64) & 1 == 1
    }

    pub fn count(&self, gene: usize) -> u32 {
        self.planes.iter().enumerate().map(|(i, p)| ((p[gene / 64] >> (gene % 64) & 1) as u32) << i).sum()
    }
}

vectorized! {
    /// Adds the masks of some columns to the counters, 512 genes at a time: a ripple of carries through the planes.
    pub(crate) fn add_masks(counters: &mut Counters, masks: &[Mask], columns: &[u32]) {
        for &c in columns {
            let mut carry = masks[c as usize];
            for plane in &mut counters.planes {
                for (p, c) in plane.iter_mut().zip(&mut carry) {
                    (*p, *c) = (*p ^ *c, *p & *c);
                }
            }
            for (o, c) in counters.over.iter_mut().zip(&carry) {
                *o |= c;
            }
        }
    }
}
