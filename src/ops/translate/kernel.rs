//! SIMD kernels of `translate`. Where one does not apply it returns false, and the plain path runs.

use crate::real::Real;
use crate::simd::vectorized;

/// Keys of one head packed for the mask kernel: panels of `COLUMNS` columns, `[panel][slice][COLUMNS]`, the last one
/// padded with zeros.
#[derive(Debug)]
pub(super) struct PackedKeys {
    data: Vec<f32>,
    slice: usize,
}

/// Columns of a panel.
const COLUMNS: usize = 14;
/// Genes of a panel: two vectors of sixteen.
#[cfg(target_arch = "x86_64")]
const GENES: usize = 32;

impl PackedKeys {
    /// Packs head `head` of effective keys `[U, H]`; none where the mask kernel cannot run.
    pub(super) fn new<T: Real>(ke: &[T], h: usize, head: usize, slice: usize) -> Option<Self> {
        if !cfg!(target_arch = "x86_64") || crate::simd::isa() != crate::simd::Isa::Avx512 {
            return None;
        }
        let ke = T::as_f32(ke)?;
        use rayon::prelude::*;
        let n = ke.len() / h;
        let mut data = vec![0.0f32; n.div_ceil(COLUMNS) * COLUMNS * slice];
        data.par_chunks_mut(COLUMNS * slice).enumerate().for_each(|(p, out)| {
            for c in 0..COLUMNS.min(n - p * COLUMNS) {
                let key = &ke[(p * COLUMNS + c) * h + head * slice..][..slice];
                for (t, &x) in key.iter().enumerate() {
                    out[t * COLUMNS + c] = x;
                }
            }
        });
        Some(PackedKeys { data, slice })
    }
}

/// Bit g of `masks[u]` becomes [q_g·k_u > limit] for the genes of one block (`q` `[genes, H]`, genes ≤ 512).
/// `masks` must come in as zeros.
pub(super) fn masks<T: Real>(
    keys: Option<&PackedKeys>,
    q: &[T],
    genes: usize,
    h: usize,
    head: usize,
    limit: T,
    masks: &mut [super::Mask],
) -> bool {
    #[cfg(target_arch = "x86_64")]
    if let (Some(keys), Some(q)) = (keys, T::as_f32(q)) {
        let slice = keys.slice;
        let panels = genes.div_ceil(GENES);
        let mut packed = vec![0.0f32; panels * GENES * slice];
        for g in 0..genes {
            let row = &q[g * h + head * slice..][..slice];
            for (t, &x) in row.iter().enumerate() {
                packed[(g / GENES * slice + t) * GENES + g % GENES] = x;
            }
        }
        let limit = limit.f64() as f32;
        for (key, masks) in keys.data.chunks_exact(COLUMNS * slice).zip(masks.chunks_mut(COLUMNS)) {
            for (p, q) in packed.chunks_exact(GENES * slice).enumerate() {
                let mut words = [0u32; COLUMNS];
                // SAFETY: packed keys exist only where `isa()` is AVX-512.
                #[allow(unsafe_code)]
                unsafe {
                    panel(q, key, limit, &mut words);
                }
                // Padded genes score 0, which may lie above a negative limit: cut them off.
                let live = (genes - p * GENES).min(GENES);
                let cut = if live == GENES { u32::MAX } else { (1 << live) - 1 };
                for (mask, &w) in masks.iter_mut().zip(&words) {
                    mask[p / 2] |= u64::from(w & cut) << (32 * (p % 2));
                }
            }
        }
        return true;
    }
    let _ = (keys, q, genes, h, head, limit, masks);
    false
}

/// 32 genes × 14 columns: twenty-eight accumulators, compared with the limit as they leave the registers.
/// `q` `[slice][32]`, `k` `[slice][14]`.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn panel(q: &[f32], k: &[f32], limit: f32, words: &mut [u32; COLUMNS]) {
    use std::arch::x86_64::*;
    let mut acc = [[_mm512_setzero_ps(); 2]; COLUMNS];
    for (q, k) in q.as_chunks::<GENES>().0.iter().zip(k.as_chunks::<COLUMNS>().0) {
        let (low, high) = load(q);
        for c in 0..COLUMNS {
            let b = _mm512_set1_ps(k[c]);
            acc[c][0] = _mm512_fmadd_ps(low, b, acc[c][0]);
            acc[c][1] = _mm512_fmadd_ps(high, b, acc[c][1]);
        }
    }
    let limit = _mm512_set1_ps(limit);
    for c in 0..COLUMNS {
        let low = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(acc[c][0], limit);
        let high = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(acc[c][1], limit);
        words[c] = u32::from(low) | u32::from(high) << 16;
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
#[inline]
fn load(q: &[f32; GENES]) -> (std::arch::x86_64::__m512, std::arch::x86_64::__m512) {
    use std::arch::x86_64::_mm512_loadu_ps;
    // SAFETY: both halves lie inside the array.
    #[allow(unsafe_code)]
    unsafe {
        (_mm512_loadu_ps(q.as_ptr()), _mm512_loadu_ps(q.as_ptr().add(16)))
    }
}

/// logit → s (1 − s) × g, in place, f32: within 5e-7 of the exact value, relative.
pub(super) fn slope<T: Real>(tile: &mut [T], gs: &[T]) -> bool {
    match (T::as_f32_mut(tile), T::as_f32(gs)) {
        (Some(tile), Some(gs)) => {
            slope_f32(tile, gs);
            true
        }
        _ => false,
    }
}

vectorized! {
    fn slope_f32(tile: &mut [f32], gs: &[f32]) {
        for (x, &g) in tile.iter_mut().zip(gs) {
            // s (1 − s) = e / (1 + e)², e = exp(−|x|); exp by 2^n × a polynomial of the rest, |rest| ≤ ln 2 / 2.
            let a = -x.abs().min(87.0);
            let shifted = a * std::f32::consts::LOG2_E + 12_582_912.0; // rounds; n sits in the low bits
            let n = shifted - 12_582_912.0;
            let r = (a - n * 0.693_359_4) + n * 2.121_944_4e-4;
            let p = 1.987_569_1e-4;
            let p = p * r + 1.398_199_9e-3;
            let p = p * r + 8.333_452e-3;
            let p = p * r + 4.166_579_6e-2;
            let p = p * r + 0.166_666_66;
            let p = p * r + 0.5;
            let p = p * (r * r) + r + 1.0;
            let e = p * f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
            let d = 1.0 + e;
            // NaN stays NaN: min() above would hide it.
            *x = if x.is_nan() { *x } else { e / (d * d) * g };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slope_is_the_derivative_of_the_sigmoid() {
        let x: Vec<f32> = (-20_000..=20_000).map(|i| i as f32 * 0.005).collect();
        let mut got = x.clone();
        assert!(slope(&mut got, &vec![1.0f32; x.len()]));
        for (&x, &g) in x.iter().zip(&got) {
            let e = (-f64::from(x).abs()).exp(); // s (1 − s) without the cancellation of 1 − s
            let want = e / ((1.0 + e) * (1.0 + e));
            let off = (f64::from(g) - want).abs();
            // Below exp(−87) f32 has no normal numbers; there the kernel stays at exp(−87).
            assert!(off <= 5e-7 * want || x.abs() > 87.0 && off < 2e-38, "{x}: {g} against {want}");
        }
        let mut nan = [f32::NAN];
        slope(&mut nan, &[1.0f32]);
        assert!(nan[0].is_nan());
    }

    /// The mask kernel against plain dot products, with sizes that fill no panel.
    #[test]
    fn masks_equal_plain_products() {
        let mut r = crate::rng::Rng::new(4, 4);
        for (genes, n, h, head, slice) in
            [(70, 33, 16, 0, 16), (512, 14, 32, 1, 16), (1, 1, 8, 0, 8), (33, 29, 12, 2, 4)]
        {
            let mut draw = |n: usize| (0..n).map(|_| r.normal() as f32).collect::<Vec<f32>>();
            let (q, k) = (draw(genes * h), draw(n * h));
            let Some(packed) = PackedKeys::new(&k, h, head, slice) else {
                println!("skipped: no AVX-512 here");
                return;
            };
            for limit in [-0.5f32, 1.3] {
                let mut got = vec![[0u64; super::super::WORDS]; n];
                assert!(masks(Some(&packed), &q, genes, h, head, limit, &mut got));
                for (u, mask) in got.iter().enumerate() {
                    for g in 0..512 {
                        let bit = mask[g / 64] >> (g % 64) & 1 == 1;
                        let dot = |g: usize| -> f64 {
                            (0..slice)
                                .map(|t| {
                                    f64::from(q[g * h + head * slice + t]) * f64::from(k[u * h + head * slice + t])
                                })
                                .sum()
                        };
                        let want = g < genes && dot(g) > f64::from(limit);
                        let close = g < genes && (dot(g) - f64::from(limit)).abs() < 1e-5;
                        assert!(bit == want || close, "gene {g}, column {u}");
                    }
                }
            }
        }
    }
}
