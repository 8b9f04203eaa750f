//! Packed rows: the genes, or the peaks, of one cell as the bytes of a shard (the format: module `shard`).
//!
//! Decoding is total: whatever the bytes and the counts are, it ends in a row whose indices are in range and in order and
//! whose values are numbers above 0, or in a word on what is wrong. It reserves no more than the vocabulary allows.

use bitpacking::{BitPacker, BitPacker4x};

use crate::files::bytes::Fields;

/// Numbers a block.
const BLOCK: usize = BitPacker4x::BLOCK_LEN;
/// In the first byte of a block: numbers too wide for it follow.
const PATCHED: u8 = 0x80;
/// Values are whole numbers up to [`WHOLE_MOST`], stored minus 1.
const WHOLE: u8 = 0;
/// Values are codes into a dictionary of the row.
const DICTIONARY: u8 = 1;
/// Values are f32.
const EXACT: u8 = 2;
/// Whole numbers to here are f32 without a gap.
const WHOLE_MOST: u32 = 1 << 24;

/// What is wrong with a row.
pub(crate) type Wrong = &'static str;

const SHORT: Wrong = "they end too early";

/// Genes, or peaks, in order of (chromosome, index): what the ranks in a shard stand for.
pub(crate) fn order(chrom: &[u32]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..chrom.len() as u32).collect();
    order.sort_by_key(|&k| chrom[k as usize]);
    order
}

/// Rank of each gene, or peak, in that order.
pub(crate) fn ranks(order: &[u32]) -> Vec<u32> {
    let mut ranks = vec![0; order.len()];
    (0u32..).zip(order).for_each(|(rank, &k)| ranks[k as usize] = rank);
    ranks
}

fn bits(n: u32) -> usize {
    (u32::BITS - n.leading_zeros()) as usize
}

fn packed_bytes(n: usize, width: usize) -> usize {
    (n * width).div_ceil(8)
}

fn put_bits(numbers: &[u32], width: usize, out: &mut Vec<u8>) {
    let (mut word, mut filled) = (0u64, 0);
    for &n in numbers {
        word |= u64::from(n) << filled;
        filled += width;
        while filled >= 8 {
            out.push(word as u8);
            word >>= 8;
            filled -= 8;
        }
    }
    if filled > 0 {
        out.push(word as u8);
    }
}

/// The inverse; what is missing reads as anything.
fn get_bits(bytes: &[u8], width: usize, out: &mut [u32]) {
    let (words, rest) = bytes.as_chunks();
    let mut last = [0; 4];
    last.iter_mut().zip(rest).for_each(|(l, &b)| *l = b);
    let mut words = words.iter();
    let (mut word, mut filled) = (0u64, 0);
    let mask = (1u64 << width) - 1;
    for n in out {
        if filled < width {
            word |= u64::from(u32::from_le_bytes(*words.next().unwrap_or(&last))) << filled;
            filled += 32;
        }
        *n = (word & mask) as u32;
        word >>= width;
        filled -= width;
    }
}

/// Appends numbers in blocks, each at the width that makes it smallest.
fn pack(numbers: &[u32], out: &mut Vec<u8>) {
    let packer = BitPacker4x::new();
    for block in numbers.chunks(BLOCK) {
        let n = block.len();
        let mut of_width = [0; 33];
        block.iter().for_each(|&v| of_width[bits(v)] += 1);
        let widest = of_width.iter().rposition(|&n| n > 0).unwrap_or(0);
        let (mut least, mut width) = (packed_bytes(n, widest), widest);
        let mut wider = 0;
        for w in (0..widest).rev() {
            wider += of_width[w + 1];
            let bytes = packed_bytes(n, w) + 2 + wider + packed_bytes(wider, widest - w);
            if bytes < least {
                (least, width) = (bytes, w);
            }
        }
        let patched = width < widest;
        out.push(width as u8 | if patched { PATCHED } else { 0 });
        let mut low = [0u32; BLOCK];
        low.iter_mut().zip(block).for_each(|(l, &v)| *l = (u64::from(v) & ((1 << width) - 1)) as u32);
        if n == BLOCK {
            let at = out.len();
            out.resize(at + packed_bytes(n, width), 0);
            packer.compress(&low, &mut out[at..], width as u8);
        } else {
            put_bits(&low[..n], width, out);
        }
        if patched {
            let wide = || block.iter().enumerate().filter(|(_, v)| bits(**v) > width);
            let high: Vec<u32> = wide().map(|(_, v)| v >> width).collect();
            out.extend([high.len() as u8, (widest - width) as u8]);
            out.extend(wide().map(|(i, _)| i as u8));
            put_bits(&high, widest - width, out);
        }
    }
}

/// Reads the first `n` numbers of a block into `out`.
fn unpack(from: &mut Fields<'_>, n: usize, out: &mut [u32; BLOCK]) -> Result<(), Wrong> {
    let &[head] = from.array().ok_or(SHORT)?;
    let width = usize::from(head & !PATCHED);
    if width > 32 {
        return Err("a block is more than 32 bits wide");
    }
    let low = from.take(packed_bytes(n, width)).ok_or(SHORT)?;
    if n == BLOCK {
        BitPacker4x::new().decompress(low, out, width as u8);
    } else {
        get_bits(low, width, &mut out[..n]);
    }
    if head & PATCHED != 0 {
        let &[count, more] = from.array().ok_or(SHORT)?;
        let (count, more) = (usize::from(count), usize::from(more));
        if count == 0 || count > n || more == 0 || width + more > 32 {
            return Err("a block has impossible patches");
        }
        let places = from.take(count).ok_or(SHORT)?;
        let mut high = [0; BLOCK];
        get_bits(from.take(packed_bytes(count, more)).ok_or(SHORT)?, more, &mut high[..count]);
        for (&place, high) in places.iter().zip(high) {
            *out[..n].get_mut(usize::from(place)).ok_or("a patch is outside its block")? |= high << width;
        }
    }
    Ok(())
}

/// Calls `each` with the numbers of every block of `n` numbers.
fn for_each_block(
    from: &mut Fields<'_>,
    n: usize,
    mut each: impl FnMut(&[u32]) -> Result<(), Wrong>,
) -> Result<(), Wrong> {
    let mut block = [0; BLOCK];
    for at in (0..n).step_by(BLOCK) {
        let m = (n - at).min(BLOCK);
        unpack(from, m, &mut block)?;
        each(&block[..m])?;
    }
    Ok(())
}

/// Appends the bytes of a row: its ranks, ascending, and its values where `stored`, else all are 1.
pub(crate) fn encode(row: &[(u32, f32)], stored: bool, out: &mut Vec<u8>) {
    let mut next = 0;
    let gaps: Vec<u32> = row
        .iter()
        .map(|&(rank, _)| {
            let gap = rank - next;
            next = rank + 1;
            gap
        })
        .collect();
    pack(&gaps, out);
    if !stored || row.is_empty() {
        return;
    }
    // The smallest of what can be; the first of equals.
    let mut best = vec![EXACT];
    best.extend(row.iter().flat_map(|e| e.1.to_le_bytes()));
    let mut distinct: Vec<u32> = row.iter().map(|e| e.1.to_bits()).collect();
    distinct.sort_unstable();
    distinct.dedup();
    if let Ok(n) = u16::try_from(distinct.len()) {
        let codes = row.iter().map(|e| distinct.partition_point(|&d| d < e.1.to_bits()) as u32);
        let mut other = vec![DICTIONARY];
        other.extend(n.to_le_bytes());
        other.extend(distinct.iter().flat_map(|d| d.to_le_bytes()));
        pack(&codes.collect::<Vec<_>>(), &mut other);
        if other.len() <= best.len() {
            best = other;
        }
    }
    if row.iter().all(|e| e.1.fract() == 0.0 && (1.0..=WHOLE_MOST as f32).contains(&e.1)) {
        let mut other = vec![WHOLE];
        pack(&row.iter().map(|e| e.1 as u32 - 1).collect::<Vec<_>>(), &mut other);
        if other.len() <= best.len() {
            best = other;
        }
    }
    out.append(&mut best);
}

/// Appends the `n` entries of a row: the indices at their ranks in `order`, and the values where they are `stored`.
pub(crate) fn decode(
    bytes: &[u8],
    n: usize,
    order: &[u32],
    stored: bool,
    index: &mut Vec<u32>,
    values: &mut Vec<f32>,
) -> Result<(), Wrong> {
    if n > order.len() {
        return Err("there are more than the vocabulary has");
    }
    let mut from = Fields(bytes);
    index.reserve(n);
    let mut next = 0;
    for_each_block(&mut from, n, |gaps| {
        let end = next as u64 + gaps.iter().map(|&g| u64::from(g)).sum::<u64>() + gaps.len() as u64;
        if end > order.len() as u64 {
            return Err("one is beyond the vocabulary");
        }
        let mut before = next;
        index.extend(gaps.iter().enumerate().map(|(i, &gap)| {
            before += gap as usize;
            order[before + i] // below `end`
        }));
        next = end as usize;
        Ok(())
    })?;
    if stored && n > 0 {
        decode_values(&mut from, n, values)?;
    }
    if from.0.is_empty() { Ok(()) } else { Err("bytes are left over") }
}

fn decode_values(from: &mut Fields<'_>, n: usize, values: &mut Vec<f32>) -> Result<(), Wrong> {
    let sound = |word: &[u8; 4]| (1..f32::INFINITY.to_bits()).contains(&u32::from_le_bytes(*word));
    let wrong = "a value is not a number above 0";
    values.reserve(n);
    match from.array().ok_or(SHORT)? {
        [WHOLE] => for_each_block(from, n, |block| {
            if block.iter().fold(0, |most, &x| most.max(x)) >= WHOLE_MOST {
                return Err("a whole number is too large");
            }
            values.extend(block.iter().map(|&x| (x + 1) as f32));
            Ok(())
        }),
        [DICTIONARY] => {
            let size = u16::from_le_bytes(*from.array().ok_or(SHORT)?);
            let (words, _) = from.take(usize::from(size) * 4).ok_or(SHORT)?.as_chunks();
            if !words.iter().all(sound) {
                return Err(wrong);
            }
            for_each_block(from, n, |codes| {
                if codes.iter().fold(0, |most, &c| most.max(c)) >= u32::from(size) {
                    return Err("a code is not in the dictionary");
                }
                values.extend(codes.iter().map(|&c| f32::from_le_bytes(words[c as usize])));
                Ok(())
            })
        }
        [EXACT] => {
            let (words, _) = from.take(n * 4).ok_or(SHORT)?.as_chunks();
            if !words.iter().all(sound) {
                return Err(wrong);
            }
            values.extend(words.iter().map(|w| f32::from_le_bytes(*w)));
            Ok(())
        }
        _ => Err("the values are coded in an unknown way"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rng::Rng;

    fn round_trip(row: &[(u32, f32)], order: &[u32], stored: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(row, stored, &mut bytes);
        // Appended to what is there.
        let (mut index, mut values) = (vec![7], vec![0.5]);
        decode(&bytes, row.len(), order, stored, &mut index, &mut values).unwrap();
        let ranks = ranks(order);
        assert_eq!(index[0], 7);
        assert!(index[1..].iter().map(|&k| ranks[k as usize]).eq(row.iter().map(|e| e.0)));
        let want = row.iter().filter(|_| stored).map(|e| e.1.to_bits());
        assert!(values[1..].iter().map(|v| v.to_bits()).eq(want));
        bytes
    }

    /// Ranks below `size`, about `n` of them, and values of a kind.
    fn row(r: &mut Rng, size: usize, n: usize, kind: usize) -> Vec<(u32, f32)> {
        let mut ranks: Vec<u32> = (0..size as u32).collect();
        r.shuffle(&mut ranks);
        ranks.truncate(n);
        if n > 0 && kind % 2 == 1 {
            ranks[0] = size as u32 - 1;
        }
        ranks.sort_unstable();
        ranks.dedup();
        let mut value = || match kind {
            0 => 1.0,
            1 => 1.0 + r.below(3) as f32,
            2 => (1 + r.below(4000)) as f32,
            3 => (((1 << 24) - 2 + r.below(4)) as f32).max(1.0),
            4 => 16_777_216.0 * (1 + r.below(1000)) as f32,
            5 => (0.37 * (1 + r.below(20)) as f32).ln_1p(),
            6 => f32::from_bits(1 + r.below(0x7f7f_ffff) as u32),
            7 => f32::from_bits(1 + r.below(9) as u32), // subnormal
            _ => f32::MAX,
        };
        ranks.into_iter().map(|k| (k, value())).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

        #[test]
        fn rows_come_back(
            seed in any::<u64>(),
            size in prop::sample::select(vec![1usize, 2, 127, 128, 129, 1000, 40_000]),
            n in prop::sample::select(vec![0usize, 1, 2, 5, 127, 128, 129, 255, 256, 257, 3000]),
            kind in 0usize..9,
        ) {
            let mut r = Rng::new(seed, 0);
            let chrom: Vec<u32> = (0..size).map(|_| r.below(5) as u32).collect();
            let order = order(&chrom);
            prop_assert!(order.is_sorted_by_key(|&k| (chrom[k as usize], k)));
            let row = row(&mut r, size, n.min(size), kind);
            round_trip(&row, &order, true);
            round_trip(&row, &order, false);
        }

        #[test]
        fn numbers_of_any_width_come_back(
            widths in prop::collection::vec(0u32..=32, 1..400),
            seed in any::<u64>(),
        ) {
            let mut r = Rng::new(seed, 1);
            let numbers: Vec<u32> =
                widths.iter().map(|&w| (r.next_u64() & ((1u64 << w) - 1)) as u32).collect();
            let mut bytes = Vec::new();
            pack(&numbers, &mut bytes);
            let (mut from, mut back) = (Fields(&bytes), Vec::<u32>::new());
            for_each_block(&mut from, numbers.len(), |b| { back.extend(b); Ok(()) }).unwrap();
            prop_assert_eq!(back, numbers);
            prop_assert!(from.0.is_empty());
        }

        /// Whatever is decoded is in range, in order and above 0; the rest has a word. Nothing panics.
        #[test]
        fn any_bytes_are_decoded_or_refused(
            bytes in prop::collection::vec(any::<u8>(), 0..700),
            n in 0usize..400,
            size in prop::sample::select(vec![0usize, 1, 300, 5000]),
            stored in any::<bool>(),
            kind in 0usize..9,
            seed in any::<u64>(),
        ) {
            let mut r = Rng::new(seed, 2);
            let order: Vec<u32> = (0..size as u32).collect();
            // Noise, and a sound row with noise over a few of its bytes or a wrong count.
            let mut sound = Vec::new();
            let len = n.min(size);
            if size > 0 {
                encode(&row(&mut r, size, len, kind), stored, &mut sound);
            }
            for (at, &b) in (0..r.below(4)).map(|_| r.below(sound.len().max(1))).zip(&bytes).collect::<Vec<_>>() {
                if let Some(x) = sound.get_mut(at) {
                    *x = b;
                }
            }
            sound.truncate(sound.len() - r.below(2) * r.below(sound.len().max(1)));
            for (bytes, n) in [(&bytes, n), (&sound, len), (&sound, n)] {
                let (mut index, mut values) = (Vec::new(), Vec::new());
                if decode(bytes, n, &order, stored, &mut index, &mut values).is_ok() {
                    prop_assert_eq!(index.len(), n);
                    prop_assert!(index.is_sorted_by(|a, b| a < b) && index.iter().all(|&k| (k as usize) < size));
                    prop_assert_eq!(values.len(), if stored { n } else { 0 });
                    prop_assert!(values.iter().all(|v| v.is_finite() && *v > 0.0));
                }
            }
        }
    }

    #[test]
    fn each_coding_is_taken_where_it_is_smallest() {
        let order: Vec<u32> = (0..3000).collect();
        let coding = |n: u32, value: &dyn Fn(u32) -> f32| {
            let row: Vec<(u32, f32)> = (0..n).map(|k| (k, value(k))).collect();
            let whole = round_trip(&row, &order, true);
            let index = round_trip(&row, &order, false);
            assert_eq!(whole[..index.len()], index);
            (whole[index.len()], whole.len() - index.len())
        };
        assert_eq!(coding(256, &|_| 1.0), (WHOLE, 3), "a byte a block");
        assert_eq!(coding(256, &|k| (1 + k % 4) as f32), (WHOLE, 1 + 2 * (1 + 32)));
        assert_eq!(coding(256, &|k| if k == 9 { 1000.0 } else { 1.0 }), (WHOLE, 1 + (1 + 2 + 1 + 2) + 1), "patched");
        assert_eq!(coding(256, &|k| (1.0 + (k % 4) as f32).ln_1p()), (DICTIONARY, 3 + 16 + 2 * (1 + 32)));
        assert_eq!(coding(256, &|k| 1e9 + 1e6 * (k % 2) as f32).0, DICTIONARY, "whole, but beyond 2^24");
        assert_eq!(coding(256, &|k| (2.0 + k as f32).ln()), (EXACT, 1 + 4 * 256));
        assert_eq!(coding(1, &|_| 0.5), (EXACT, 5));
        // A full range of indices: a byte a block.
        assert_eq!(round_trip(&(0..3000).map(|k| (k, 1.0)).collect::<Vec<_>>(), &order, false).len(), 24);
        assert_eq!(round_trip(&[], &order, true).len(), 0);
        assert_eq!(round_trip(&[(2999, 1.0)], &order, false).len(), 3);
    }

    #[test]
    fn faults_are_named() {
        let order: Vec<u32> = (0..300).collect();
        let (ramp, ones): (Vec<u8>, Vec<u8>) = ((0..4).collect(), vec![0, 0]);
        let wrong = |bytes: &[u8], n: usize, stored: bool| {
            decode(bytes, n, &order, stored, &mut Vec::new(), &mut Vec::new()).unwrap_err()
        };
        assert!(wrong(&[], 301, false).contains("more than the vocabulary"));
        assert_eq!(wrong(&[], 1, false), SHORT);
        assert_eq!(wrong(&[8], 1, false), SHORT);
        assert_eq!(wrong(&[0], 2, true), SHORT);
        assert!(wrong(&[33, 0, 0, 0, 0, 0], 1, false).contains("32 bits"));
        assert!(wrong(&[9, 44, 1], 1, false).contains("beyond"), "rank 300");
        assert!(wrong(&[32, 255, 255, 255, 255, 255, 255, 255, 255], 2, false).contains("beyond"));
        assert!(wrong(&ones, 1, false).contains("left over"));
        for patches in [[0, 1, 0, 0], [3, 1, 0, 0], [1, 0, 0, 0], [1, 33, 0, 0]] {
            assert!(wrong(&[&[PATCHED], &patches[..]].concat(), 2, false).contains("impossible"), "{patches:?}");
        }
        assert!(wrong(&[PATCHED, 1, 1, 2, 1], 2, false).contains("outside its block"));
        assert!(wrong(&[0, 9], 1, true).contains("unknown way"));
        assert!(wrong(&[&[0, WHOLE, 32][..], &[255; 4]].concat(), 1, true).contains("too large"));
        assert!(wrong(&[0, DICTIONARY, 0, 0, 0], 1, true).contains("not in the dictionary"));
        assert_eq!(wrong(&[0, DICTIONARY, 1, 0, 0], 1, true), SHORT);
        for value in [0.0, -1.0, f32::NAN, f32::INFINITY, -0.0] {
            let exact = [&[0, EXACT][..], &value.to_le_bytes()].concat();
            assert!(wrong(&exact, 1, true).contains("not a number above 0"), "{value}");
            let coded = [&[0, DICTIONARY, 1, 0][..], &value.to_le_bytes(), &[0]].concat();
            assert!(wrong(&coded, 1, true).contains("not a number above 0"), "{value}");
        }
        assert_eq!(wrong(&[&[0, EXACT][..], &ramp[..3]].concat(), 1, true), SHORT);
    }
}
