//! Attention along the peaks as a bedGraph track.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use super::chrom_names::ChromNames;
use super::export::Export;
use super::fields::{chrom, number};
use crate::error::{Error, Result};
use crate::files::atomic::write_atomic;
use crate::vocabulary::Vocabulary;

/// Bits of a finite number that sort as it does.
fn sortable(x: f64) -> u64 {
    let bits = x.to_bits();
    if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
}

/// Pieces (start, end, value) of intervals that may overlap: a base under several has the largest value. Neighbours of
/// equal value are one piece.
fn pieces(intervals: &[(i64, i64, f64)]) -> Vec<(i64, i64, f64)> {
    // (place, ends there?, value)
    let mut events: Vec<(i64, bool, f64)> =
        intervals.iter().flat_map(|&(s, e, x)| [(s, false, x), (e, true, x)]).collect();
    events.sort_by_key(|e| e.0);
    let mut open: BTreeMap<u64, (f64, usize)> = BTreeMap::new();
    let mut out: Vec<(i64, i64, f64)> = Vec::new();
    let mut at = i64::MIN;
    for here in events.chunk_by(|a, b| a.0 == b.0) {
        let place = here[0].0;
        if let Some((_, &(value, _))) = open.last_key_value() {
            match out.last_mut() {
                Some(last) if last.1 == at && last.2 == value => last.1 = place,
                _ => out.push((at, place, value)),
            }
        }
        for &(_, ends, value) in here {
            let count = &mut open.entry(sortable(value)).or_insert((value, 0)).1;
            // An end has its start before it, so that this does not go below 0.
            *count = if ends { count.saturating_sub(1) } else { *count + 1 };
        }
        open.retain(|_, (_, count)| *count > 0);
        at = place;
    }
    out
}

/// Writes `[P]` values along the peaks as bedGraph (chromosome, start, end, value; no header), sorted and without
/// overlap: where peaks overlap, the largest value counts; touching pieces of equal value are one. `written` counts
/// peaks; those without a place or with a value that is no finite number are left out.
///
/// # Errors
/// A file that cannot be written.
pub fn write_bedgraph(path: &Path, v: &Vocabulary, values: &[f64], names: ChromNames) -> Result<Export> {
    if values.len() != v.peaks.len() {
        return Err(Error::Internal(format!("a track of {} values for {} peaks", values.len(), v.peaks.len())));
    }
    let mut by_chrom: BTreeMap<String, Vec<(i64, i64, f64)>> = BTreeMap::new();
    let mut written = 0;
    for (p, &value) in v.peaks.iter().zip(values) {
        if let (Some(chrom), true) = (chrom(v, p.chrom, names), value.is_finite() && p.start >= 0 && p.start < p.end) {
            by_chrom.entry(chrom).or_default().push((p.start, p.end, value + 0.0));
            written += 1;
        }
    }
    write_atomic(path, |out| {
        for (chrom, intervals) in &by_chrom {
            for (start, end, value) in pieces(intervals) {
                writeln!(out, "{chrom}\t{start}\t{end}\t{}", number(value))?;
            }
        }
        Ok(())
    })?;
    Ok(Export { file: path.to_path_buf(), written, left_out: v.peaks.len() as u64 - written })
}

/// Writes `chrom.sizes` (chromosome, bases), as bedGraphToBigWig wants it beside a bedGraph. The data do not hold the
/// sizes of chromosomes: a size is the end of what lies furthest, and so the smallest that will do; for a browser take
/// the genome's own.
///
/// # Errors
/// A file that cannot be written.
pub fn write_chrom_sizes(path: &Path, v: &Vocabulary, names: ChromNames) -> Result<()> {
    let mut sizes: BTreeMap<String, i64> = BTreeMap::new();
    let peaks = v.peaks.iter().map(|p| (p.chrom, p.end));
    let genes = v.genes.iter().map(|g| (g.chrom, g.tss.map_or(0, |t| t.saturating_add(1))));
    for (number, end) in peaks.chain(genes).filter(|x| x.1 > 0) {
        if let Some(chrom) = chrom(v, number, names) {
            let size = sizes.entry(chrom).or_default();
            *size = end.max(*size);
        }
    }
    write_atomic(path, |out| sizes.iter().try_for_each(|(chrom, size)| writeln!(out, "{chrom}\t{size}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn pieces_equal_base_by_base() {
        let mut rng = Rng::new(4, 0);
        for n in 0..60 {
            let intervals: Vec<_> = (0..n)
                .map(|_| {
                    let start = rng.below(150) as i64;
                    (start, start + 1 + rng.below(30) as i64, rng.below(4) as f64 - 1.0)
                })
                .collect();
            let found = pieces(&intervals);
            assert!(found.iter().all(|p| p.0 < p.1) && found.is_sorted_by(|a, b| a.1 <= b.0));
            assert!(found.is_sorted_by(|a, b| a.1 < b.0 || a.2 != b.2), "neighbours of equal value");
            for base in 0..200 {
                let under = |i: &&(i64, i64, f64)| i.0 <= base && base < i.1;
                let want = intervals.iter().filter(under).map(|i| i.2).reduce(f64::max);
                assert_eq!(found.iter().find(under).map(|i| i.2), want);
            }
        }
    }
}
