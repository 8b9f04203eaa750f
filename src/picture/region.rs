//! A region of the genome: coverage by cell type, peaks, genes, links, and the expression of a gene beside it.

use super::axis::{brief, colour_bar_flat, shade, thousands, tick, ticks};
use super::colour::category;
use super::font::Weight;
use super::models::{GeneTrack, gene_track};
use super::scene::{Anchor, Ink, Item, Label, Pen, Scene, Segment};
use super::{fitted, text_width};
use crate::region::{Known, Links, Region, Row};

const WIDTH: f32 = 1200.0;
const RIGHT: f32 = 24.0;
/// The column of expression.
const BARS: f32 = 176.0;
const TOP: f32 = 92.0;
const PEAK_INK: Ink = Ink::Rgb(70, 70, 70);
/// How far arcs hang down.
const HANG: f32 = 92.0;

/// Where the parts of the picture are.
struct Frame {
    left: f32,
    width: f32,
    lo: f64,
    hi: f64,
    row: f32,
}

impl Frame {
    fn of(r: &Region) -> Self {
        let name = |t: &Row| text_width(&t.name, 15.0, Weight::Medium);
        let names = r.types.iter().map(name).fold(70f32, f32::max).min(220.0);
        let left = names + 84.0;
        let bars = if bars(r) { BARS } else { 0.0 };
        let row = match r.types.len() {
            0..=8 => 62.0,
            9..=16 => 45.0,
            _ => 36.0,
        };
        Frame { left, width: WIDTH - left - RIGHT - bars, lo: r.start as f64, hi: r.end as f64, row }
    }

    fn px(&self, base: i64) -> f32 {
        self.left + self.width * ((base as f64 - self.lo) / (self.hi - self.lo).max(1.0)) as f32
    }

    /// The same, within the panel.
    fn within(&self, base: i64) -> f32 {
        self.px(base).clamp(self.left, self.left + self.width)
    }

    /// Left end and width of a peak: wide enough to be seen.
    fn block(&self, peak: &[i64; 2]) -> (f32, f32) {
        let (from, to) = (self.within(peak[0]), self.within(peak[1]));
        let wide = (to - from).max(3.0);
        ((from + to - wide) / 2.0, wide)
    }

    fn right(&self) -> f32 {
        self.left + self.width
    }
}

fn bars(r: &Region) -> bool {
    r.gene.is_some() && r.types.iter().any(|t| t.mean.is_some())
}

/// Top of an axis for these numbers: the largest; where a few are far above all others (more than three times the largest
/// but one in a hundred), the largest of the others, and they are cut. Tells whether any is.
pub(super) fn axis_top(values: impl Iterator<Item = f32>) -> (f64, bool) {
    let mut v: Vec<f32> = values.filter(|x| x.is_finite() && *x > 0.0).collect();
    v.sort_by(f32::total_cmp);
    let Some(&most) = v.last() else { return (1.0, false) };
    let usual = v[(v.len() - 1).saturating_sub((v.len() / 100).max(1))];
    match v.len() >= 10 && most > 3.0 * usual {
        true => (f64::from(usual), true),
        false => (f64::from(most), false),
    }
}

fn bold(s: &mut Scene, (x, y): (f32, f32), text: String, size: f32, anchor: Anchor) {
    let (ink, weight) = (Ink::Text, Weight::Medium);
    s.label(Label { x, y, text, size, ink, anchor, weight, turn: 0.0, halo: false });
}

/// Name of a part, at the left of it.
fn part_name(s: &mut Scene, f: &Frame, y: f32, name: &str, below: &[String]) {
    bold(s, (f.left - 14.0, y), name.into(), 15.0, Anchor::End);
    for (i, line) in below.iter().enumerate() {
        let text = fitted(line, 12.5, Weight::Regular, f.left - 22.0);
        s.text(f.left - 14.0, y + 17.0 + 16.0 * i as f32, text, 12.5, Ink::Muted, Anchor::End);
    }
}

/// A region as a picture: a row of coverage for each type on one axis, peaks, genes, links, the places; at the right the
/// expression of the gene it is about. 1,200 wide.
pub fn region_picture(r: &Region) -> Scene {
    let f = Frame::of(r);
    let genes = gene_track(r, f.left, f.width);
    let rows = TOP + f.row * r.types.len() as f32;
    let peaks = rows + 26.0;
    let track = peaks + 34.0;
    let links = track + genes.height + 14.0;
    let axis = links
        + match &r.links {
            Some(l) if l.shown.is_empty() => 66.0,
            Some(_) => HANG + 36.0,
            None => 0.0,
        };
    let notes = notes(r);
    let height = axis + 66.0 + 18.0 * notes.len() as f32;
    let place = format!("{}:{}-{}", r.chrom, thousands(r.start.max(0) as u64 + 1), thousands(r.end.max(0) as u64));
    let title = match &r.gene {
        Some(g) => format!("{}, {place}", g.name),
        None => place,
    };
    let mut s = Scene::new(WIDTH, height, format!("{title}: coverage by cell type"));
    let length = match r.end - r.start {
        n if n >= 10_000 => format!("{} kb", thousands(((n + 500) / 1000) as u64)),
        n => format!("{} bases", thousands(n as u64)),
    };
    s.heading(24.0, &title, &format!("{length} · coverage: {}", r.unit));
    // The gene's start goes through everything.
    if let Some(tss) = r.gene.as_ref().and_then(|g| g.tss).filter(|t| (r.start..r.end).contains(t)) {
        let x = f.px(tss);
        s.line((x, TOP - 6.0), (x, peaks + 18.0), Pen::new(Ink::Muted, 1.0).dashed(3.0, 3.0));
    }
    coverage(&mut s, r, &f);
    if bars(r) {
        expression(&mut s, r, &f);
    }
    part_name(&mut s, &f, peaks + 11.0, "peaks", &[]);
    for p in &r.peaks {
        let (from, wide) = f.block(p);
        s.rect([from, peaks, wide, 13.0], PEAK_INK);
    }
    if r.peaks.is_empty() {
        let x = f.left + f.width / 2.0;
        s.text(x, peaks + 11.0, "no peak of the data is here", 13.0, Ink::Muted, Anchor::Middle);
    }
    part_name(&mut s, &f, track + 22.0, "genes", &[]);
    draw_genes(&mut s, &genes, track);
    if let Some(l) = &r.links {
        draw_links(&mut s, &f, l, links);
    }
    places(&mut s, r, &f, axis);
    for (i, note) in notes.iter().enumerate() {
        s.text(24.0, axis + 66.0 + 18.0 * i as f32, note.as_str(), 12.5, Ink::Muted, Anchor::Start);
    }
    s
}

/// What has to be said below the picture.
fn notes(r: &Region) -> Vec<String> {
    let mut notes = Vec::new();
    if r.step.is_none() {
        notes.push("Coverage is told by peaks alone: each is a block of its own width and height.".into());
    }
    match r.known {
        Known::Exons => {}
        Known::Spans => notes.push("Genes from end to end: the annotation kept with the data has no exons.".into()),
        Known::Starts => notes.push(
            "Genes of the data by their starts alone: no annotation is kept with the data (prepare --gtf, or --gtf here)."
                .into(),
        ),
    }
    notes
}

fn coverage(s: &mut Scene, r: &Region, f: &Frame) {
    let (top, cut) = axis_top(r.types.iter().flat_map(|t| t.heights.iter().copied()));
    let small = f.row < 40.0;
    let some = r.types.iter().any(|t| t.heights.iter().any(|x| *x > 0.0));
    for (i, t) in r.types.iter().enumerate() {
        let base = TOP + f.row * (i + 1) as f32 - 7.0;
        let high = f.row - 12.0;
        let ink = category(i % 6).0;
        let size = if small { 13.5 } else { 15.0 };
        let name = fitted(&t.name, size, Weight::Medium, f.left - 62.0);
        let cells = format!("{} cells", thousands(t.cells as u64));
        let middle = base - high / 2.0;
        let (first, second) = if small { (middle + 0.0, middle + 13.0) } else { (middle, middle + 17.0) };
        bold(s, (f.left - 52.0, first + 1.0), name, size, Anchor::End);
        s.text(f.left - 52.0, second, cells, if small { 11.5 } else { 12.5 }, Ink::Muted, Anchor::End);
        // The same axis in every row; its numbers where there is room.
        let told = if cut { format!("≥{}", brief(top)) } else { brief(top) };
        s.line((f.left, base - high), (f.left, base), Pen::new(Ink::Muted, 1.0));
        for (y, text) in [(base - high, told), (base, "0".to_string())] {
            s.line((f.left - 4.0, y), (f.left, y), Pen::new(Ink::Muted, 1.0));
            if some && (!small || i == 0) {
                s.text(f.left - 7.0, y + 4.0, text, 11.5, Ink::Muted, Anchor::End);
            }
        }
        let up = |x: f32| high * (f64::from(x) / top).clamp(0.0, 1.0) as f32;
        match r.step {
            None => {
                for (p, &x) in r.peaks.iter().zip(&t.heights).filter(|(_, x)| **x > 0.0) {
                    let (from, wide) = f.block(p);
                    s.rect([from, base - up(x), wide, up(x)], ink);
                    if f64::from(x) > top * 1.0001 {
                        s.rect([from - 1.0, base - high - 3.0, wide + 2.0, 2.0], Ink::Text);
                    }
                }
            }
            Some(step) => {
                let at = |k: usize| f.within(r.start + step * k as i64);
                let mut points = vec![(f.left, base)];
                for (k, &x) in t.heights.iter().enumerate() {
                    points.extend([(at(k), base - up(x)), (at(k + 1), base - up(x))]);
                }
                points.push((f.right(), base));
                s.area(&points, ink, 1.0);
                for (k, _) in t.heights.iter().enumerate().filter(|(_, x)| f64::from(**x) > top * 1.0001) {
                    s.rect([at(k), base - high - 3.0, (at(k + 1) - at(k)).max(1.5), 2.0], Ink::Text);
                }
            }
        }
        s.line((f.left, base), (f.right(), base), Pen::new(Ink::Muted, 0.8));
    }
}

fn expression(s: &mut Scene, r: &Region, f: &Frame) {
    let name = r.gene.as_ref().map_or("", |g| g.name.as_str());
    let (x, room) = (f.right() + 30.0, BARS - 30.0 - 46.0);
    bold(s, (x, TOP - 28.0), fitted(&format!("RNA of {name}"), 14.0, Weight::Medium, BARS - 24.0), 14.0, Anchor::Start);
    s.text(x, TOP - 12.0, "bar: mean; %: cells with it", 12.5, Ink::Muted, Anchor::Start);
    let most = r.types.iter().filter_map(|t| t.mean).fold(0f32, f32::max);
    let bottom = TOP + f.row * r.types.len() as f32 - 7.0;
    for (i, t) in r.types.iter().enumerate() {
        let (Some(mean), Some(share)) = (t.mean, t.share) else { continue };
        let high = (f.row - 12.0).min(24.0);
        let middle = TOP + f.row * (i + 1) as f32 - 7.0 - (f.row - 12.0) / 2.0;
        let long = if most > 0.0 { room * mean / most } else { 0.0 };
        s.rect([x, middle - high / 2.0, long.max(0.5), high], category(i % 6).0);
        let told = match 100.0 * share {
            p if p > 0.0 && p < 1.0 => "<1 %".to_string(),
            p => format!("{p:.0} %"),
        };
        s.text(x + long + 6.0, middle + 4.5, told, 13.0, Ink::Text, Anchor::Start);
    }
    s.line((x, TOP), (x, bottom), Pen::new(Ink::Muted, 1.0));
    s.line((x, bottom), (x + room, bottom), Pen::new(Ink::Muted, 1.0));
    let ends = if most > 0.0 { vec![(0.0, "0".to_string()), (1.0, brief(f64::from(most)))] } else { Vec::new() };
    for (t, text) in ends {
        let at = x + room * t;
        s.line((at, bottom), (at, bottom + 4.0), Pen::new(Ink::Muted, 1.0));
        s.text(at, bottom + 17.0, text, 11.5, Ink::Muted, Anchor::Middle);
    }
    let told = fitted(&r.expression, 11.5, Weight::Regular, BARS - 18.0);
    s.text(x - 6.0, bottom + 33.0, told, 11.5, Ink::Muted, Anchor::Start);
}

fn draw_genes(s: &mut Scene, track: &GeneTrack, top: f32) {
    for item in &track.items {
        s.items.push(shifted(item, top));
    }
}

/// The item, so much lower.
fn shifted(item: &Item, by: f32) -> Item {
    match item.clone() {
        Item::Rect([x, y, w, h], ink) => Item::Rect([x, y + by, w, h], ink),
        Item::Path(path, fill, pen) => {
            let path = path.into_iter().map(|p| match p {
                Segment::Move(x, y) => Segment::Move(x, y + by),
                Segment::Line(x, y) => Segment::Line(x, y + by),
                Segment::Cubic([a, b, c, d, x, y]) => Segment::Cubic([a, b + by, c, d + by, x, y + by]),
                Segment::Close => Segment::Close,
            });
            Item::Path(path.collect(), fill, pen)
        }
        Item::Text(l) => Item::Text(Label { y: l.y + by, ..l }),
        other => other,
    }
}

/// Arcs that hang down from a line, deeper for farther ends; colour and width by probability, of 0 to 1.
fn draw_links(s: &mut Scene, f: &Frame, l: &Links, top: f32) {
    let count = match (l.shown.len(), l.of) {
        (n, of) if n == of => thousands(n as u64),
        (n, of) => format!("{} of {}", thousands(n as u64), thousands(of as u64)),
    };
    part_name(s, f, top + 16.0, "links", &[count, l.which.clone()]);
    s.line((f.left, top), (f.right(), top), Pen::new(Ink::Muted, 0.8));
    if l.shown.is_empty() {
        let told = match l.best {
            Some(p) => format!("no link counts here: the likeliest pair has a probability of {}", brief(p)),
            None => "no pair was tested here".into(),
        };
        s.text(f.left + f.width / 2.0, top + 30.0, told, 14.0, Ink::Muted, Anchor::Middle);
        return;
    }
    let ends = |a: &crate::region::RegionLink| (f.px(a.tss), f.px((a.peak[0] + a.peak[1]) / 2));
    let reach = l.shown.iter().map(|a| (ends(a).0 - ends(a).1).abs()).fold(f.width / 8.0, f32::max);
    // The likeliest last, above the others.
    for a in l.shown.iter().rev() {
        let (tss, x) = ends(a);
        let deep = (16.0 + HANG * ((x - tss).abs() / reach).sqrt()) * 4.0 / 3.0 * HANG / (HANG + 16.0);
        let (c1, c2) = (tss + (x - tss) * 0.15, x - (x - tss) * 0.15);
        let p = a.probability.clamp(0.0, 1.0);
        let [r, g, b] = shade(p);
        let path = vec![Segment::Move(tss, top), Segment::Cubic([c1, top + deep, c2, top + deep, x, top])];
        s.items.push(Item::Path(path, None, Some(Pen::new(Ink::Rgb(r, g, b), 1.2 + 2.6 * p as f32))));
    }
    let wide = 128f32.min(f.left - 24.0);
    colour_bar_flat(s, [f.left - 14.0 - wide, top + 80.0, wide, 12.0], &["0", "0.5", "1"], "probability of a link");
}

/// The axis of places.
fn places(s: &mut Scene, r: &Region, f: &Frame, y: f32) {
    s.line((f.left, y), (f.right(), y), Pen::new(Ink::Text, 1.0));
    let (unit, divisor) = if f.hi - f.lo >= 2e6 { ("Mb", 1e6) } else { ("kb", 1e3) };
    let (marks, decimals) = ticks(f.lo / divisor, f.hi / divisor, f64::from(f.width / 120.0));
    for m in marks {
        let x = f.px((m * divisor).round() as i64);
        s.line((x, y), (x, y + 6.0), Pen::new(Ink::Text, 1.0));
        let half = text_width(&tick(m, decimals), 13.5, Weight::Regular) / 2.0;
        let at = x.clamp(f.left + half - 20.0, WIDTH - half - 4.0);
        s.text(at, y + 22.0, tick(m, decimals), 13.5, Ink::Text, Anchor::Middle);
    }
    let name = format!("position on {} ({unit})", r.chrom);
    s.text(f.left + f.width / 2.0, y + 44.0, name, 14.0, Ink::Text, Anchor::Middle);
}

#[cfg(test)]
mod tests {
    use super::axis_top;

    #[test]
    fn an_outlier_does_not_crush_the_rest() {
        let many = || (1..=200).map(|i| i as f32 / 100.0);
        assert_eq!(axis_top(many()), (2.0, false));
        assert_eq!(axis_top(many().chain([90.0, 80.0])), (2.0, true));
        assert_eq!(axis_top([0.0, 5.0, 0.1].into_iter()), (5.0, false), "of a few none is an outlier");
        assert_eq!(axis_top(std::iter::empty()), (1.0, false));
    }
}
