//! SIMD kernels of `translate`. Where one does not apply it returns false, and the plain path runs.

use rayon::prelude::*;

use crate::real::Real;
use crate::simd::{Isa, dot, vectorized};

/// Keys of one head packed for the mask kernels, in panels of `COLUMNS` columns, the last one padded with zeros.
///
/// With VNNI both sides are first rounded to 16-bit integers: `x = (Q + e) / inv`. The product of the rounded rows in
/// 32-bit integers (twice the rate of f32) then lies within `‖e‖‖K‖ + ‖Q‖‖f‖` of the scaled score, which decides all
/// scores but those next to the limit; these few are computed from the f32 rows. A decision is thus that of an f32 product.
#[derive(Debug)]
pub(super) struct PackedKeys<'a> {
    panels: Panels,
    /// The f32 rows, `[U, H]`, and where this head lies in them.
    ke: &'a [f32],
    h: usize,
    head: usize,
    slice: usize,
}

#[derive(Debug)]
enum Panels {
    /// `[panel][slice][COLUMNS]`.
    Float(Vec<f32>),
    /// `[panel][pair][COLUMNS][2]`, and each column's rounding.
    Integer(Vec<i16>, Vec<Rounding>),
}

/// Columns of a panel.
const COLUMNS: usize = 14;
/// Genes of a panel: two vectors of sixteen.
const GENES: usize = 32;

impl<'a> PackedKeys<'a> {
    /// Packs head `head` of effective keys `[U, H]`; none where no mask kernel can run.
    pub(super) fn new<T: Real>(ke: &'a [T], h: usize, head: usize, slice: usize) -> Option<Self> {
        Self::of(crate::simd::isa(), ke, h, head, slice)
    }

    /// The same for an instruction set that this machine has.
    fn of<T: Real>(isa: Isa, ke: &'a [T], h: usize, head: usize, slice: usize) -> Option<Self> {
        if isa < Isa::Avx512 {
            return None;
        }
        let ke = T::as_f32(ke)?;
        let key = |c: usize| &ke[c * h + head * slice..][..slice];
        let n = ke.len() / h;
        let panels = if isa == Isa::Avx512 {
            let mut data = vec![0.0; n.div_ceil(COLUMNS) * COLUMNS * slice];
            data.par_chunks_mut(COLUMNS * slice).enumerate().for_each(|(p, out)| {
                for c in 0..COLUMNS.min(n - p * COLUMNS) {
                    for (t, &x) in key(p * COLUMNS + c).iter().enumerate() {
                        out[t * COLUMNS + c] = x;
                    }
                }
            });
            Panels::Float(data)
        } else {
            let size = COLUMNS * slice.next_multiple_of(2);
            let mut data = vec![0; n.div_ceil(COLUMNS) * size];
            let mut rounding = vec![Rounding::default(); n.next_multiple_of(COLUMNS)];
            data.par_chunks_mut(size).zip(rounding.par_chunks_mut(COLUMNS)).enumerate().for_each(|(p, (out, r))| {
                let mut row = Vec::new();
                for (c, r) in r.iter_mut().enumerate().take(n - p * COLUMNS) {
                    *r = Rounding::of(key(p * COLUMNS + c), &mut row);
                    scatter_pairs(&row, out, COLUMNS, c);
                }
            });
            Panels::Integer(data, rounding)
        };
        Some(PackedKeys { panels, ke, h, head, slice })
    }

    fn key(&self, column: usize) -> &[f32] {
        &self.ke[column * self.h + self.head * self.slice..][..self.slice]
    }
}

/// How a row became integers.
#[derive(Debug, Clone, Copy, Default)]
struct Rounding {
    /// The integers are the row times this, rounded.
    inv: f32,
    /// At least the length of what rounding left over; infinite where integers say nothing.
    rest: f32,
}

/// The product of a row's and a column's integers stays below 2^31 if each has at most this length.
const LENGTH: f32 = 46_340.0;

impl Rounding {
    /// Rounds a row to integers of a length of about 46,000, each in 16 bits.
    fn of(row: &[f32], out: &mut Vec<i16>) -> Self {
        let (mut square, mut most) = (0.0, 0.0);
        measure(row, &mut square, &mut most);
        out.clear();
        out.resize(row.len(), 0);
        if most == 0.0 && square == 0.0 {
            return Rounding { inv: 1.0, rest: 0.0 };
        }
        // Outside, squares or scales would leave the range of f32; NaN is outside, too.
        if !(1e-24..1e24).contains(&square) || row.len() > 65_536 {
            return Rounding { inv: 0.0, rest: f32::INFINITY };
        }
        let inv = (46_000.0 / square.sqrt()).min(32_767.0 / most);
        let mut rest = 0.0;
        round(row, inv, out, &mut rest);
        // 46,000 + half the root of 65,536 < LENGTH. The product x × inv is itself rounded: 46,000 × 2^-24 at most.
        Rounding { inv, rest: rest.sqrt() * 1.001 + 0.01 }
    }
}

vectorized! {
    /// The sum of squares (in sixteen lanes) and the largest absolute value; NaN in the row makes the sum NaN.
    fn measure(row: &[f32], square: &mut f32, most: &mut f32) {
        let (mut sums, mut tops) = ([0.0f32; 16], [0.0f32; 16]);
        for x in row.chunks(16) {
            for ((s, m), &x) in sums.iter_mut().zip(&mut tops).zip(x) {
                *s += x * x;
                *m = m.max(x.abs());
            }
        }
        *square = sums.iter().sum();
        *most = tops.iter().fold(0.0, |a, &b| a.max(b));
    }
}

vectorized! {
    /// `out = round(row × inv)`, and the sum of squares of what that left over.
    fn round(row: &[f32], inv: f32, out: &mut [i16], rest: &mut f32) {
        const SHIFT: f32 = 12_582_912.0; // 1.5 × 2^23: its last place is 1
        let mut sums = [0.0f32; 16];
        for (x, out) in row.chunks(16).zip(out.chunks_mut(16)) {
            for ((s, &x), o) in sums.iter_mut().zip(x).zip(out) {
                let x = x * inv;
                let shifted = x + SHIFT;
                let e = x - (shifted - SHIFT);
                *s += e * e;
                *o = (shifted.to_bits() as i32).wrapping_sub(SHIFT.to_bits() as i32) as i16;
            }
        }
        *rest = sums.iter().sum();
    }
}

/// `out[pair][at][2]`, `out` `[pairs][width][2]`: the numbers of a row, two and two.
fn scatter_pairs(row: &[i16], out: &mut [i16], width: usize, at: usize) {
    for (pair, row) in out.chunks_exact_mut(2 * width).zip(row.chunks(2)) {
        pair[2 * at..][..row.len()].copy_from_slice(row);
    }
}

/// Bit g of `masks[u]` becomes [q_g·k_u > limit] for the genes of one block (`q` `[genes, H]`, genes ≤ 512).
/// `masks` must come in as zeros.
pub(super) fn masks<T: Real>(
    keys: Option<&PackedKeys>,
    q: &[T],
    genes: usize,
    limit: T,
    masks: &mut [super::counters::Mask],
) -> bool {
    #[cfg(target_arch = "x86_64")]
    if let (Some(keys), Some(q)) = (keys, T::as_f32(q)) {
        let query = |g: usize| &q[g * keys.h + keys.head * keys.slice..][..keys.slice];
        let limit = limit.f64() as f32;
        match &keys.panels {
            Panels::Float(data) => float_masks(keys.slice, data, query, genes, limit, masks),
            Panels::Integer(data, rounding) => integer_masks(keys, data, rounding, query, genes, limit, masks),
        }
        return true;
    }
    let _ = (keys, q, genes, limit, masks);
    false
}

/// Bits of the genes of panel `p`: padded genes score 0, which may lie above a negative limit.
#[cfg(target_arch = "x86_64")]
fn live(genes: usize, p: usize) -> u32 {
    let live = (genes - p * GENES).min(GENES);
    if live == GENES { u32::MAX } else { (1 << live) - 1 }
}

#[cfg(target_arch = "x86_64")]
fn float_masks<'q>(
    slice: usize,
    keys: &[f32],
    query: impl Fn(usize) -> &'q [f32],
    genes: usize,
    limit: f32,
    masks: &mut [super::counters::Mask],
) {
    let mut packed = vec![0.0f32; genes.next_multiple_of(GENES) * slice];
    for g in 0..genes {
        for (t, &x) in query(g).iter().enumerate() {
            packed[(g / GENES * slice + t) * GENES + g % GENES] = x;
        }
    }
    for (key, masks) in keys.chunks_exact(COLUMNS * slice).zip(masks.chunks_mut(COLUMNS)) {
        for (p, q) in packed.chunks_exact(GENES * slice).enumerate() {
            let mut words = [0u32; COLUMNS];
            // SAFETY: packed keys exist only where the machine has AVX-512.
            #[allow(unsafe_code)]
            unsafe {
                panel(q, key, limit, &mut words);
            }
            for (mask, &w) in masks.iter_mut().zip(&words) {
                mask[p / 2] |= u64::from(w & live(genes, p)) << (32 * (p % 2));
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn integer_masks<'q>(
    keys: &PackedKeys,
    data: &[i16],
    rounding: &[Rounding],
    query: impl Fn(usize) -> &'q [f32],
    genes: usize,
    limit: f32,
    masks: &mut [super::counters::Mask],
) {
    let size = keys.slice.next_multiple_of(2);
    let mut packed = vec![0i16; genes.next_multiple_of(GENES) * size];
    // What a score times the scale of its gene is compared with, and how far it may be off for the gene's sake.
    let (mut middle, mut off) = (vec![0.0f32; packed.len() / size], vec![0.0f32; packed.len() / size]);
    let mut row = Vec::new();
    for g in 0..genes {
        let r = Rounding::of(query(g), &mut row);
        scatter_pairs(&row, &mut packed[g / GENES * GENES * size..][..GENES * size], GENES, g % GENES);
        // 1,024 and more for the rounding of the middle and of the score in f32.
        (middle[g], off[g]) = (limit * r.inv, LENGTH * r.rest + 1024.0);
    }
    let panels = data.chunks_exact(COLUMNS * size).zip(rounding.chunks_exact(COLUMNS));
    for (c, ((key, rounding), masks)) in panels.zip(masks.chunks_mut(COLUMNS)).enumerate() {
        for (p, q) in packed.chunks_exact(GENES * size).enumerate() {
            let (mut words, mut unsure) = ([0u32; COLUMNS], [0u32; COLUMNS]);
            let genes_of = p * GENES..(p + 1) * GENES;
            let sides = (&middle[genes_of.clone()], &off[genes_of]);
            // SAFETY: integers exist only where the machine has AVX-512 with VNNI.
            #[allow(unsafe_code)]
            unsafe {
                integer_panel(q, key, sides, rounding, &mut words, &mut unsure);
            }
            for (i, (mask, (&w, &unsure))) in masks.iter_mut().zip(words.iter().zip(&unsure)).enumerate() {
                let live = live(genes, p);
                let (mut word, mut open) = (w & live, unsure & live);
                while open != 0 {
                    let bit = open.trailing_zeros();
                    open &= open - 1;
                    // SAFETY: as above.
                    #[allow(unsafe_code)]
                    let score = unsafe { wide_dot(query(p * GENES + bit as usize), keys.key(c * COLUMNS + i)) };
                    word = word & !(1 << bit) | u32::from(score > limit) << bit;
                }
                mask[p / 2] |= u64::from(word) << (32 * (p % 2));
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn wide_dot(a: &[f32], b: &[f32]) -> f32 {
    dot(a, b)
}

/// 32 genes × 14 columns in integers: which scores lie above the limit, and which are too near to tell.
/// `q` `[pairs][32][2]`, `k` `[pairs][14][2]`, (middle, off) `[32]`.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn integer_panel(
    q: &[i16],
    k: &[i16],
    (middle, off): (&[f32], &[f32]),
    rounding: &[Rounding],
    words: &mut [u32; COLUMNS],
    unsure: &mut [u32; COLUMNS],
) {
    use std::arch::x86_64::*;
    let mut acc = [[_mm512_setzero_si512(); 2]; COLUMNS];
    for (q, k) in q.as_chunks::<{ 2 * GENES }>().0.iter().zip(k.as_chunks::<{ 2 * COLUMNS }>().0) {
        let (low, high) = load_pairs(q);
        for c in 0..COLUMNS {
            let b = _mm512_set1_epi32(i32::from(k[2 * c + 1]) << 16 | i32::from(k[2 * c] as u16));
            acc[c][0] = _mm512_dpwssd_epi32(acc[c][0], low, b);
            acc[c][1] = _mm512_dpwssd_epi32(acc[c][1], high, b);
        }
    }
    let middle = load(middle.as_chunks().0.first().expect("32 genes"));
    let off = load(off.as_chunks().0.first().expect("32 genes"));
    for c in 0..COLUMNS {
        let (inv, rest) = (_mm512_set1_ps(rounding[c].inv), _mm512_set1_ps(LENGTH * rounding[c].rest));
        let side = |acc, middle, off| {
            let d = _mm512_sub_ps(_mm512_cvtepi32_ps(acc), _mm512_mul_ps(middle, inv));
            let above = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(d, _mm512_setzero_ps());
            // Not greater, so that NaN is unsure.
            let unsure = _mm512_cmp_ps_mask::<_CMP_NGT_UQ>(_mm512_abs_ps(d), _mm512_add_ps(off, rest));
            (u32::from(above), u32::from(unsure))
        };
        let (low, high) = (side(acc[c][0], middle.0, off.0), side(acc[c][1], middle.1, off.1));
        words[c] = low.0 | high.0 << 16;
        unsure[c] = low.1 | high.1 << 16;
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
#[inline]
fn load_pairs(q: &[i16; 2 * GENES]) -> (std::arch::x86_64::__m512i, std::arch::x86_64::__m512i) {
    use std::arch::x86_64::_mm512_loadu_si512;
    // SAFETY: both halves lie inside the array.
    #[allow(unsafe_code)]
    unsafe {
        (_mm512_loadu_si512(q.as_ptr().cast()), _mm512_loadu_si512(q.as_ptr().add(GENES).cast()))
    }
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

    /// What of a case is checked: the mask kernel of each instruction set against plain dot products. Returns how many
    /// scores lie so near to the limit that f32 may go either way.
    fn check(q: &[f32], k: &[f32], (h, head, slice): (usize, usize, usize), limit: f32, near: f64) -> usize {
        let (genes, n) = (q.len() / h, k.len() / h);
        let part = |x: &[f32], i: usize| x[i * h + head * slice..][..slice].to_vec();
        let mut close = 0;
        for isa in [Isa::Avx512, Isa::Vnni] {
            if crate::simd::isa() < isa {
                println!("skipped: no {isa:?} here");
                continue;
            }
            let packed = PackedKeys::of(isa, k, h, head, slice).unwrap();
            let mut got = vec![[0u64; crate::ops::translate::counters::WORDS]; n];
            assert!(masks(Some(&packed), q, genes, limit, &mut got));
            for (u, mask) in got.iter().enumerate() {
                for g in 0..512 {
                    let bit = mask[g / 64] >> (g % 64) & 1 == 1;
                    if g >= genes {
                        assert!(!bit, "{isa:?}: padded gene {g}");
                        continue;
                    }
                    let (a, b) = (part(q, g), part(k, u));
                    let terms = || a.iter().zip(&b).map(|(&x, &y)| f64::from(x) * f64::from(y));
                    let (score, size) = (terms().sum::<f64>(), terms().map(f64::abs).sum::<f64>());
                    if (score - f64::from(limit)).abs() <= near * size + f64::from(f32::MIN_POSITIVE) {
                        close += 1;
                    } else {
                        assert_eq!(bit, score > f64::from(limit), "{isa:?}: gene {g}, column {u}: {score}");
                    }
                }
            }
        }
        close
    }

    /// Sizes that fill no panel, odd ones, several heads.
    #[test]
    fn masks_equal_plain_products() {
        let mut r = crate::rng::Rng::new(4, 4);
        for (genes, n, h, head, slice) in [
            (70, 33, 16, 0, 16),
            (512, 14, 32, 1, 16),
            (1, 1, 8, 0, 8),
            (33, 29, 12, 2, 4),
            (40, 15, 7, 0, 7),
            (96, 40, 256, 0, 256),
        ] {
            let mut draw = |n: usize| (0..n).map(|_| r.normal() as f32).collect::<Vec<f32>>();
            let (q, k) = (draw(genes * h), draw(n * h));
            for limit in [-0.5f32, 0.0, 1.3, 14.0] {
                let close = check(&q, &k, (h, head, slice), limit, 1e-6);
                assert!(close * 1000 <= 2 * genes * n, "{close} of {} too near to be checked", genes * n);
            }
        }
    }

    /// Rows that integers serve badly or not at all: zero, one large number, tiny, huge, infinite, NaN, and scores that lie
    /// exactly on or a little beside the limit.
    #[test]
    fn masks_of_awkward_rows() {
        let h = 64;
        let mut r = crate::rng::Rng::new(5, 5);
        let mut draw = |scale: f32| (0..h).map(|_| scale * r.normal() as f32).collect::<Vec<f32>>();
        let mut rows: Vec<Vec<f32>> = [1.0, 1e-3, 1e3, 1e-14, 1e14, 1e-30].map(&mut draw).into();
        rows.push(vec![0.0; h]);
        for (at, x) in [(3, 1e6), (63, -7.0), (0, 1e-8)] {
            rows.push(vec![0.0; h]);
            rows.last_mut().unwrap()[at] = x;
        }
        let mut spiked = draw(1.0);
        spiked[9] = 1e5;
        rows.push(spiked);
        // Powers of two: exact in integers and in f32, so that score and limit can be equal.
        rows.push((0..h).map(|i| if i % 3 == 0 { 0.5 } else { -0.25 }).collect());
        let finite = rows.concat();
        let exact: f32 = rows[11].iter().map(|x| x * x).sum();
        for limit in [0.0f32, 1.4, -1e-6, exact, exact + 1e-5, exact - 1e-5] {
            check(&finite, &finite, (h, 0, h), limit, 1e-6);
        }
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut row = vec![1.0; h];
            row[5] = bad;
            for isa in [Isa::Avx512, Isa::Vnni].into_iter().filter(|&i| i <= crate::simd::isa()) {
                for (q, k) in [(&row, &finite), (&finite, &row)] {
                    let mut got = vec![[0u64; crate::ops::translate::counters::WORDS]; k.len() / h];
                    assert!(masks(PackedKeys::of(isa, k, h, 0, h).as_ref(), q, q.len() / h, 1.0, &mut got));
                    for (u, k) in k.chunks(h).enumerate() {
                        for (g, q) in q.chunks(h).enumerate() {
                            assert_eq!(got[u][0] >> g & 1 == 1, dot(q, k) > 1.0, "{isa:?} {bad}: {g}, {u}");
                        }
                    }
                }
            }
        }
    }

    /// Integers leave few scores open: otherwise they are no faster.
    #[test]
    fn integers_decide_nearly_all() {
        let mut r = crate::rng::Rng::new(6, 6);
        let mut row = Vec::new();
        for h in [32, 256] {
            for _ in 0..50 {
                let x: Vec<f32> = (0..h).map(|_| r.normal() as f32 * 0.3).collect();
                let rounding = Rounding::of(&x, &mut row);
                let left: f64 = x
                    .iter()
                    .zip(&row)
                    .map(|(&x, &q)| (f64::from(x) * f64::from(rounding.inv) - f64::from(q)).powi(2))
                    .sum();
                let length = row.iter().map(|&q| f64::from(q).powi(2)).sum::<f64>().sqrt();
                assert!(left.sqrt() <= f64::from(rounding.rest) && left.sqrt() > 0.9 * f64::from(rounding.rest) - 0.02);
                assert!((45_000.0..f64::from(LENGTH)).contains(&length), "{length}");
                // Scores of random rows spread by |q||k| / √h; the band is 2 × 46,340 × rest of 46,000² that is |q||k|.
                let share = 0.8 * f64::from(rounding.rest) * 2.0 / 46_000.0 * f64::from(h as u32).sqrt();
                assert!(share < 0.005, "{share}");
            }
        }
    }
}
