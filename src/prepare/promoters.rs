//! Are peaks and annotation of one build of the genome? Transcription starts have peaks near them far more often than places
//! beside them, unless the coordinates are of another build.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::progress::Progress;
use crate::vocabulary::Vocabulary;

/// Bases from a TSS to a peak that is near.
const NEAR: i64 = 1000;
/// How far starts are shifted, to both sides: beyond what belongs to a promoter, within a neighbourhood alike.
const SHIFTS: [i64; 10] =
    [-500_000, -400_000, -300_000, -200_000, -100_000, 100_000, 200_000, 300_000, 400_000, 500_000];
/// Starts that are needed to tell.
const ENOUGH: usize = 100;

/// Shares of transcription starts with a peak within 1 kb.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PromoterShare {
    /// Starts on chromosomes with peaks.
    pub starts: usize,
    /// Share with a peak within 1 kb.
    pub near: f64,
    /// The same of starts shifted by 100 to 500 kb.
    pub shifted: f64,
}

impl PromoterShare {
    /// Of a vocabulary; `None` where no gene has a TSS on a chromosome with peaks whose places are known.
    pub(crate) fn of(v: &Vocabulary) -> Option<Self> {
        let mut peaks: HashMap<u32, Vec<(i64, i64)>> = HashMap::new();
        for p in v.peaks.iter().filter(|p| Some(p.chrom) != v.unknown && p.start >= 0) {
            peaks.entry(p.chrom).or_default().push((p.start, p.end));
        }
        // The furthest end so far, so that the last start before a place tells whether any peak reaches it.
        for on in peaks.values_mut() {
            on.sort_unstable();
            let mut furthest = i64::MIN;
            on.iter_mut().for_each(|p| {
                furthest = furthest.max(p.1);
                p.1 = furthest;
            });
        }
        let starts: Vec<(u32, i64)> =
            v.genes.iter().filter_map(|g| Some((g.chrom, g.tss?))).filter(|g| peaks.contains_key(&g.0)).collect();
        let near = |&(chrom, tss): &(u32, i64), shift: i64| {
            let on = &peaks[&chrom];
            let at = tss.saturating_add(shift);
            let before = on.partition_point(|p| p.0 <= at.saturating_add(NEAR));
            before > 0 && on[before - 1].1 > at.saturating_sub(NEAR)
        };
        let share = |shift: i64| starts.iter().filter(|s| near(s, shift)).count() as f64 / starts.len() as f64;
        (!starts.is_empty()).then(|| PromoterShare {
            starts: starts.len(),
            near: share(0),
            shifted: SHIFTS.iter().map(|&s| share(s)).sum::<f64>() / SHIFTS.len() as f64,
        })
    }

    /// As `prepare` kept them in the origin of a data set; `None` in data sets of before.
    pub(crate) fn kept(origin: &serde_json::Value) -> Option<Self> {
        serde_json::from_value(origin.get("promoters")?.clone()).ok()
    }

    /// Tells the shares, and warns where starts have hardly more peaks than other places.
    pub(crate) fn tell(&self, progress: &dyn Progress) {
        progress.note(&format!("TSS with a peak within 1 kb: {self}"));
        if self.is_odd() {
            progress.note(
                "warning: peaks are near transcription starts hardly more often than elsewhere: are peaks and annotation of \
                 one build of the genome (such as hg38 and not hg19, mm10 and not mm39)? lift one over to the other, or \
                 give the GTF of the build that the peaks were called on",
            );
        }
    }

    /// Are starts of about as many peaks as other places? At the chance of other places the count of starts has a spread of
    /// about the root of what is expected.
    pub(crate) fn is_odd(&self) -> bool {
        let n = self.starts as f64;
        let expected = self.shifted * n;
        // Without a peak anywhere near genes nothing can be told.
        self.starts >= ENOUGH
            && expected > 0.0
            && (self.near < 1.5 * self.shifted || self.near * n <= expected + 3.0 * expected.sqrt())
    }
}

impl std::fmt::Display for PromoterShare {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.3} of {} ({:.3} of places 100 to 500 kb off)", self.near, self.starts, self.shifted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vocabulary::{Gene, Peak};

    /// 200 genes, 5 Mb apart, half of them with a peak that begins `off` bases from their TSS.
    fn share(off: i64, build: i64) -> PromoterShare {
        let mut v = Vocabulary { chromosomes: vec!["1".into()], ..Vocabulary::default() };
        for i in 0..200 {
            let tss = 10_000_000 + 5_000_000 * i;
            v.genes.push(Gene { name: format!("g{i}"), chrom: 0, tss: Some(tss) });
            let start = if i % 2 == 0 { tss + off } else { tss + 2_500_000 };
            v.peaks.push(Peak { name: format!("p{i}"), chrom: 0, start: start + build, end: start + build + 500 });
        }
        v.peaks.reverse();
        PromoterShare::of(&v).unwrap()
    }

    #[test]
    fn promoters_have_peaks_where_the_build_is_one() {
        for off in [0, -200, 1000, -1499] {
            let s = share(off, 0);
            assert_eq!((s.starts, s.near, s.shifted, s.is_odd()), (200, 0.5, 0.0, false), "{off}");
        }
        for off in [1001, -1500] {
            assert_eq!(share(off, 0).near, 0.0, "{off}");
        }
        // Beside a start there are as many peaks as at it.
        let off = share(0, 200_000);
        assert_eq!((off.near, off.shifted, off.is_odd()), (0.0, 0.05, true));
        assert_eq!(PromoterShare::of(&Vocabulary::default()), None);
    }
}
