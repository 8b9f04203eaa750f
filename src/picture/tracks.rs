//! Numbers along the genome.

use super::axis::{Panel, thousands};
use super::font::Weight;
use super::genome::{Order, names_below, short_name};
use super::scene::{Anchor, Ink, Label, Pen, Scene};

/// Numbers of all peaks.
#[derive(Debug, Clone, PartialEq)]
pub struct Track {
    /// What they are.
    pub name: String,
    /// What they count.
    pub unit: String,
    /// `[P]`, by number of the peak.
    pub values: Vec<f64>,
}

/// A running mean and standard deviation.
#[derive(Debug, Clone, PartialEq)]
pub struct Smooth {
    /// Mean.
    pub mean: Vec<f64>,
    /// Standard deviation (of the window's numbers as they are).
    pub sd: Vec<f64>,
}

/// The number that a share `q` of the finite `values` does not exceed, between neighbours by interpolation; 0 of none.
pub(super) fn percentile(values: &[f64], q: f64) -> f64 {
    let mut v: Vec<f64> = values.iter().copied().filter(|x| x.is_finite()).collect();
    if v.is_empty() {
        return 0.0;
    }
    v.sort_by(f64::total_cmp);
    let at = q.clamp(0.0, 1.0) * (v.len() - 1) as f64;
    let (low, part) = (at.floor() as usize, at.fract());
    v[low] + part * (v[(low + 1).min(v.len() - 1)] - v[low])
}

/// Peaks under the running mean: max(101, 10⁻⁵ P), made odd.
pub fn smooth(peaks: usize) -> usize {
    let n = (peaks as f64 * 1e-5) as usize;
    n.max(101) | 1
}

/// arcsinh(y / 95th percentile), cut at the 99.5 percentile. Where the 95th percentile is 0, that of the numbers above 0
/// takes its place. What is not finite counts as 0.
/// See docs/model.md, section 8.6.
pub fn squashed(values: &[f64]) -> Vec<f64> {
    let plain: Vec<f64> = values.iter().map(|&x| if x.is_finite() { x } else { 0.0 }).collect();
    let mut scale = percentile(&plain, 0.95);
    if scale <= 0.0 {
        scale = percentile(&plain.iter().copied().filter(|x| *x > 0.0).collect::<Vec<_>>(), 0.95);
    }
    if scale <= 0.0 {
        return plain.iter().map(|_| 0.0).collect();
    }
    let out: Vec<f64> = plain.iter().map(|x| (x / scale).asinh()).collect();
    let cap = percentile(&out, 0.995);
    // Fewer than one number in 200 is above 0: then nothing is cut.
    if cap > 0.0 { out.iter().map(|x| x.min(cap)).collect() } else { out }
}

/// Mean ± standard deviation over `window` (odd) numbers around each; at the ends over those there are.
pub fn running(values: &[f64], window: usize) -> Smooth {
    let half = window / 2;
    let mut sums = vec![(0f64, 0f64)];
    // About the mean of all: differences of sums of squares stay exact enough.
    let centre = values.iter().sum::<f64>() / values.len().max(1) as f64;
    for x in values {
        let (d, last) = (x - centre, sums[sums.len() - 1]);
        sums.push((last.0 + d, last.1 + d * d));
    }
    let mut out = Smooth { mean: Vec::with_capacity(values.len()), sd: Vec::with_capacity(values.len()) };
    for i in 0..values.len() {
        let (from, to) = (i.saturating_sub(half), (i + half + 1).min(values.len()));
        let n = (to - from) as f64;
        let mean = (sums[to].0 - sums[from].0) / n;
        out.mean.push(centre + mean);
        out.sd.push(((sums[to].1 - sums[from].1) / n - mean * mean).max(0.0).sqrt());
    }
    out
}

const INKS: [Ink; 3] = [Ink::Rgb(0, 114, 178), Ink::Rgb(213, 94, 0), Ink::Rgb(0, 158, 115)];
const LEFT: f32 = 96.0;
const WIDTH: f32 = 1076.0;
/// Height of a track.
const STEP: f32 = 350.0;

/// Tracks along the genome: each raw (the largest number of a column of pixels), then squashed ([`squashed`]) and smoothed
/// ([`running`] over `window` peaks in genome order). `bases` is `[P]` the middle of each peak, used where one
/// chromosome (`chrom`, by its name in `order`) is shown; else peaks are evenly spread. 1,200 wide, 350 high a track.
pub fn tracks(
    order: &Order,
    bases: &[f64],
    chrom: Option<&str>,
    tracks: &[Track],
    window: usize,
    title: &str,
) -> Scene {
    let height = 84.0 + STEP * tracks.len() as f32 + 62.0;
    let mut s = Scene::new(1200.0, height, format!("{title}: tracks along the genome"));
    let range = match chrom {
        None => 0..order.index.len(),
        Some(c) => order.parts().find(|p| p.0 == c).map_or(0..0, |p| p.1),
    };
    let note = format!(
        "{} peaks; smoothed: arcsinh(y / 95th percentile), cut at the 99.5 percentile, mean ± sd over {} peaks",
        thousands(range.len() as u64),
        thousands(window as u64)
    );
    s.heading(16.0, title, &note);
    if range.is_empty() {
        return s;
    }
    let base = |i: usize| bases.get(order.index[i] as usize).copied().unwrap_or(0.0) / 1e6;
    // Unknown places (below 0) are at the left end.
    let place = |i: usize| if chrom.is_some() { base(i).max(0.0) } else { i as f64 };
    let (first, last) = (place(range.start), place(range.end - 1));
    let x = [first, if last > first { last } else { first + 1.0 }];
    let bottom = 84.0 + STEP * tracks.len() as f32 - 30.0;
    let parts: Vec<(String, f32, f32)> = {
        let p = Panel { at: [LEFT, 0.0, WIDTH, 1.0], x, y: [0.0, 1.0] };
        order
            .parts()
            .map(|(n, r)| (n.to_string(), p.px(r.start as f64), p.px(r.end.saturating_sub(1) as f64)))
            .collect()
    };
    for (t, track) in tracks.iter().enumerate() {
        let ink = INKS[t % INKS.len()];
        let raw: Vec<f64> = order.index.iter().map(|&i| track.values.get(i as usize).copied().unwrap_or(0.0)).collect();
        let smooth = running(&squashed(&raw), window);
        let top = 84.0 + STEP * t as f32;
        for (k, label) in [format!("{}, raw", track.name), format!("{}, smoothed", track.name)].into_iter().enumerate()
        {
            let at = [LEFT, top + 24.0 + STEP / 2.0 * k as f32, WIDTH, STEP / 2.0 - 50.0];
            let high = |v: &mut dyn Iterator<Item = f64>| v.filter(|x| x.is_finite()).fold(0f64, f64::max).max(1e-12);
            let most = match k {
                0 => high(&mut raw[range.clone()].iter().copied()),
                _ => high(&mut range.clone().map(|i| smooth.mean[i] + smooth.sd[i])),
            };
            let p = Panel { at, x, y: [0.0, most * 1.04] };
            if chrom.is_none() {
                for (i, (_, from, to)) in parts.iter().enumerate() {
                    if i % 2 == 1 {
                        s.rect([*from, at[1], to - from, at[3]], Ink::Shade);
                    }
                }
            }
            p.left(&mut s, if k == 0 { &track.unit } else { "arcsinh" });
            match k {
                0 => raw_bars(&mut s, &p, range.clone(), &place, &raw, ink),
                _ => smooth_line(&mut s, &p, range.clone(), &place, &smooth, ink),
            }
            p.axes(&mut s);
            s.label(Label {
                x: LEFT,
                y: at[1] - 7.0,
                text: label,
                size: 15.0,
                ink: Ink::Text,
                anchor: Anchor::Start,
                weight: Weight::Medium,
                turn: 0.0,
                halo: false,
            });
        }
    }
    let p = Panel { at: [LEFT, bottom - 1.0, WIDTH, 5.0], x, y: [0.0, 1.0] };
    match chrom {
        Some(c) => p.below(&mut s, &format!("position on chromosome {} (Mb)", short_name(c)), false, false),
        None => {
            names_below(&mut s, bottom + 4.0, &parts);
            let middle = LEFT + WIDTH / 2.0;
            s.text(middle, bottom + 48.0, "peaks by chromosome and position", 15.0, Ink::Text, Anchor::Middle);
        }
    }
    s
}

/// A line a column of half a pixel: the largest of its numbers.
fn raw_bars(
    s: &mut Scene,
    p: &Panel,
    range: std::ops::Range<usize>,
    place: &dyn Fn(usize) -> f64,
    raw: &[f64],
    ink: Ink,
) {
    let columns = (2.0 * WIDTH) as usize;
    let mut high = vec![0f64; columns + 1];
    for i in range {
        let c = ((p.px(place(i)) - LEFT) * 2.0).clamp(0.0, columns as f32) as usize;
        if raw[i].is_finite() {
            high[c] = high[c].max(raw[i]);
        }
    }
    let base = p.py(0.0);
    let mut path = Vec::new();
    for (c, &h) in high.iter().enumerate().filter(|(_, h)| **h > 0.0) {
        let x = LEFT + c as f32 / 2.0;
        path.extend([super::scene::Segment::Move(x, base), super::scene::Segment::Line(x, p.py(h))]);
    }
    if !path.is_empty() {
        s.items.push(super::scene::Item::Path(path, None, Some(Pen::new(ink, 0.9))));
    }
}

/// Mean as a line, ± sd as a band, averaged over columns of a unit.
fn smooth_line(
    s: &mut Scene,
    p: &Panel,
    range: std::ops::Range<usize>,
    place: &dyn Fn(usize) -> f64,
    smooth: &Smooth,
    ink: Ink,
) {
    let mut columns: Vec<(f32, f64, f64, f64)> = Vec::new(); // column, sum of means, of sds, number
    for i in range {
        let x = p.px(place(i)).round();
        match columns.last_mut().filter(|c| c.0 == x) {
            Some(c) => *c = (x, c.1 + smooth.mean[i], c.2 + smooth.sd[i], c.3 + 1.0),
            None => columns.push((x, smooth.mean[i], smooth.sd[i], 1.0)),
        }
    }
    let at = |c: &(f32, f64, f64, f64), k: f64| (c.0, p.py((c.1 + k * c.2) / c.3).min(p.at[1] + p.at[3]));
    let mut band: Vec<(f32, f32)> = columns.iter().map(|c| at(c, 1.0)).collect();
    band.extend(columns.iter().rev().map(|c| at(c, -1.0)));
    s.area(&band, ink, 0.22);
    s.polyline(&columns.iter().map(|c| at(c, 0.0)).collect::<Vec<_>>(), Pen::new(ink, 1.8));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_mean_equals_the_long_way() {
        let values: Vec<f64> = (0..50).map(|i| f64::from((i * 37) % 11) + 1e4).collect();
        let s = running(&values, 7);
        for i in 0..50usize {
            let w = &values[i.saturating_sub(3)..(i + 4).min(50)];
            let mean = w.iter().sum::<f64>() / w.len() as f64;
            let sd = (w.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / w.len() as f64).sqrt();
            assert!((s.mean[i] - mean).abs() < 1e-8 && (s.sd[i] - sd).abs() < 1e-8, "{i}");
        }
        assert!(running(&[], 7).mean.is_empty());
    }

    #[test]
    fn windows_and_scales() {
        assert_eq!([0, 116_490, 10_200_000, 20_000_000].map(smooth), [101, 101, 103, 201]);
        let values: Vec<f64> = (0..=1000).map(f64::from).collect();
        let s = squashed(&values);
        assert_eq!(s[950], 1f64.asinh());
        assert_eq!((s[995], s[1000]), ((995.0f64 / 950.0).asinh(), (995.0f64 / 950.0).asinh()));
        assert_eq!(squashed(&[0.0, f64::NAN]), [0.0, 0.0]);
        let mut sparse = vec![0.0; 1000];
        sparse[5] = 4.0;
        assert_eq!(squashed(&sparse)[5], 1f64.asinh());
        assert_eq!(percentile(&[4.0, 1.0, 2.0], 0.75), 3.0);
    }
}
