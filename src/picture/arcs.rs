//! The links of a gene as arcs.

use super::axis::{brief, colour_bar, shade, thousands, ticks};
use super::font::Weight;
use super::genome::short_name;
use super::scene::{Anchor, Ink, Item, Label, Pen, Scene, Segment};

/// A link to a peak.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Arc {
    /// First base of the peak, 0-based.
    pub start: i64,
    /// One past its last base.
    pub end: i64,
    /// Score, ≥ 0.
    pub score: f64,
    /// Cells behind it.
    pub cells: u64,
}

/// What a picture of arcs shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Arcs {
    /// Gene.
    pub gene: String,
    /// Its chromosome.
    pub chrom: String,
    /// Its transcription start, 0-based.
    pub tss: i64,
    /// Links to draw.
    pub links: Vec<Arc>,
    /// Links there are.
    pub of: usize,
    /// Whose links they are.
    pub cell_type: String,
    /// What their score is, in words.
    pub score: String,
    /// Top of its scale, which begins at 0: 1 for a probability; `None`: the largest that is drawn.
    pub most: Option<f64>,
    /// Bases either side of the TSS to show; `None`: as many as the links need.
    pub around: Option<i64>,
}

const LEFT: f32 = 60.0;
const WIDTH: f32 = 1000.0;
/// Where arcs stand, and the axis.
const BASE: f32 = 420.0;
const AXIS: f32 = BASE + 58.0;

/// Arcs from the TSS to its peaks, higher for farther ones, width and colour by score; the scores of the five best
/// are written. 1,200 × 560.
pub fn arcs(a: &Arcs) -> Scene {
    let mut s = Scene::new(1200.0, 560.0, format!("Links of {} in {}", a.gene, a.cell_type));
    let shown: Vec<&Arc> = {
        let inside = |l: &&Arc| {
            a.around.is_none_or(|w| (l.start + l.end) / 2 >= a.tss - w && (l.start + l.end) / 2 <= a.tss + w)
        };
        let mut v: Vec<&Arc> = a.links.iter().filter(|l| l.start >= 0).filter(inside).collect();
        v.sort_by(|x, y| x.score.total_cmp(&y.score));
        v
    };
    let count = match (shown.len(), a.of) {
        (n, of) if n == of => format!("{} links", thousands(n as u64)),
        (n, of) => format!("{} of {} links", thousands(n as u64), thousands(of as u64)),
    };
    s.heading(16.0, &format!("{} – {}", a.gene, a.cell_type), &format!("{count}, by {}", a.score));
    let ends = || shown.iter().flat_map(|l| [l.start, l.end]).chain([a.tss]);
    let (lo, hi) = match a.around {
        Some(w) => (a.tss - w, a.tss + w),
        None => (ends().min().unwrap_or(a.tss), ends().max().unwrap_or(a.tss)),
    };
    let room = ((hi - lo) / 25).max(if a.around.is_some() { 0 } else { 500 });
    let (lo, hi) = ((lo - room).max(0) as f64, (hi + room) as f64);
    let px = |base: f64| LEFT + WIDTH * ((base - lo) / (hi - lo).max(1.0)) as f32;
    let most = a.most.unwrap_or_else(|| shown.last().map_or(0.0, |l| l.score)).max(f64::MIN_POSITIVE);
    let tss = px(a.tss as f64);
    let reach = shown.iter().map(|l| (px((l.start + l.end) as f64 / 2.0) - tss).abs()).fold(1f32, f32::max);
    let mut labels: Vec<(f32, f32, f64)> = Vec::new();
    for (i, l) in shown.iter().enumerate() {
        let x = px((l.start + l.end) as f64 / 2.0);
        let t = (l.score / most).clamp(0.0, 1.0);
        let height = 40.0 + 250.0 * ((x - tss).abs() / reach).sqrt();
        // A cubic whose control points are at 4/3 of the height reaches the height.
        let up = BASE - height * 4.0 / 3.0;
        let (c1, c2) = (tss + (x - tss) * 0.15, x - (x - tss) * 0.15);
        let [r, g, b] = shade(t);
        let path = vec![Segment::Move(tss, BASE), Segment::Cubic([c1, up, c2, up, x, BASE])];
        s.items.push(Item::Path(path, None, Some(Pen::new(Ink::Rgb(r, g, b), 1.2 + 4.3 * t as f32))));
        if i + 5 >= shown.len() {
            // On the way down to the peak, where arcs are apart.
            let (t, u) = (0.74f32, 0.26f32);
            let at = |a: f32, b: f32, c: f32, d: f32| {
                u * u * u * a + 3.0 * u * u * t * b + 3.0 * u * t * t * c + t * t * t * d
            };
            labels.push((at(tss, c1, c2, x), at(BASE, up, up, BASE), l.score));
        }
    }
    // The axis, peaks on it, the TSS.
    s.line((LEFT, BASE), (LEFT + WIDTH, BASE), Pen::new(Ink::Text, 1.2));
    for l in &shown {
        let (from, to) = (px(l.start as f64), px(l.end as f64));
        let wide = (to - from).max(3.0);
        s.rect([(from + to) / 2.0 - wide / 2.0, BASE - 1.0, wide, 14.0], Ink::Rgb(0, 114, 178));
    }
    s.area(&[(tss - 7.0, BASE + 28.0), (tss + 7.0, BASE + 28.0), (tss, BASE + 14.0)], Ink::Text, 1.0);
    let write = |s: &mut Scene, x: f32, y: f32, text: String, size: f32, weight: Weight| {
        let half = super::text_width(&text, size, weight) / 2.0;
        let x = x.clamp(LEFT + half, LEFT + WIDTH - half);
        s.label(Label { x, y, text, size, ink: Ink::Text, anchor: Anchor::Middle, weight, turn: 0.0, halo: true });
    };
    write(&mut s, tss, BASE + 44.0, super::fitted(&format!("{} TSS", a.gene), 15.0, Weight::Medium, 300.0), 15.0, {
        Weight::Medium
    });
    let mut taken: Vec<(f32, f32)> = Vec::new();
    for (x, y, score) in labels.into_iter().rev() {
        let mut y = y + 4.5;
        while taken.iter().any(|t| (t.0 - x).abs() < 52.0 && (t.1 - y).abs() < 16.0) {
            y -= 16.5;
        }
        taken.push((x, y));
        write(&mut s, x, y, brief(score), 13.5, Weight::Regular);
    }
    s.line((LEFT, AXIS), (LEFT + WIDTH, AXIS), Pen::new(Ink::Text, 1.0));
    let (unit, divisor) = if hi - lo > 1.5e6 { ("Mb", 1e6) } else { ("kb", 1e3) };
    let (marks, decimals) = ticks(lo / divisor, hi / divisor, 9.0);
    for m in marks {
        let x = px(m * divisor);
        s.line((x, AXIS), (x, AXIS + 6.0), Pen::new(Ink::Text, 1.0));
        s.text(x, AXIS + 22.0, super::axis::tick(m, decimals), 14.0, Ink::Text, Anchor::Middle);
    }
    let name = format!("position on chromosome {} ({unit}); boxes are peaks", short_name(&a.chrom));
    s.text(LEFT + WIDTH / 2.0, AXIS + 48.0, name, 15.0, Ink::Text, Anchor::Middle);
    if shown.is_empty() {
        s.text(LEFT + WIDTH / 2.0, 240.0, "no links here", 17.0, Ink::Muted, Anchor::Middle);
    } else {
        let name = if a.most == Some(1.0) { "probability" } else { "score" };
        let numbers: Vec<_> = [0.0, 0.25, 0.5, 0.75, 1.0].iter().map(|&t| (t, brief(most * t))).collect();
        colour_bar(&mut s, [1094.0, 130.0, 18.0, 200.0], &numbers, &[name]);
    }
    s
}
