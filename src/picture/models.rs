//! Models of genes, in as many lines as their names need.

use super::font::Weight;
use super::scene::{Anchor, Ink, Item, Label, Pen, Segment};
use super::{fitted, text_width};
use crate::data::exons::GeneModel;
use crate::region::{Known, Region};

/// Height of a line: a name and the gene below it.
const LINE: f32 = 36.0;
/// Lines with names; what finds no room in them is drawn without a name, close together.
const LINES: usize = 9;
const DENSE: f32 = 12.0;
const SIZE: f32 = 13.0;

/// Genes as they are drawn, from a top at 0.
pub(super) struct GeneTrack {
    pub items: Vec<Item>,
    pub height: f32,
}

/// Where the end of each line is.
fn line_for(ends: &mut Vec<f32>, from: f32, to: f32, most: usize) -> Option<usize> {
    let at = match ends.iter().position(|&end| end < from) {
        Some(at) => at,
        None if ends.len() < most => {
            ends.push(f32::MIN);
            ends.len() - 1
        }
        None => return None,
    };
    ends[at] = to;
    Some(at)
}

/// The genes of a region: exons as boxes (high where they code), introns as lines, arrows for the strand, names above. The
/// gene that the region is about is dark and first, others are grey; all are dark where it is about none.
pub(super) fn gene_track(r: &Region, left: f32, width: f32) -> GeneTrack {
    let px = |base: i64| {
        let at = left + width * ((base - r.start) as f64 / (r.end - r.start).max(1) as f64) as f32;
        at.clamp(left, left + width)
    };
    let inside = |m: &GeneModel| (r.start..r.end).contains(&m.tss());
    let focus = r.gene.as_ref().map(|g| g.name.as_str());
    let mut genes: Vec<&GeneModel> = r.genes.iter().collect();
    genes.sort_by_key(|m| (focus != Some(m.name.as_str()), m.start));
    let mut track = GeneTrack { items: Vec::new(), height: 0.0 };
    let mut ends: Vec<f32> = Vec::new();
    let mut unnamed: Vec<&GeneModel> = Vec::new();
    // Lines are filled from the left, but for that of the gene asked for, which nothing must share.
    for m in genes {
        let (from, to) = (px(m.start), px(m.end));
        let name = fitted(&m.name, SIZE, Weight::Medium, width / 2.0);
        let half = text_width(&name, SIZE, Weight::Medium) / 2.0;
        let middle = ((from + to) / 2.0).clamp(left + half, left + width - half);
        let own = focus == Some(m.name.as_str());
        let (first, last) = (from.min(middle - half), to.max(middle + half));
        let end = if own { f32::MAX } else { last + 12.0 };
        let Some(line) = line_for(&mut ends, first, end, LINES) else {
            unnamed.push(m);
            continue;
        };
        let dark = focus.is_none() || own;
        let y = LINE * line as f32;
        track.items.push(Item::Text(Label {
            x: middle,
            y: y + 12.0,
            text: name,
            size: SIZE,
            ink: if dark { Ink::Text } else { Ink::Rgb(110, 110, 110) },
            anchor: Anchor::Middle,
            weight: if own { Weight::Medium } else { Weight::Regular },
            turn: 0.0,
            halo: true,
        }));
        draw(&mut track.items, m, &px, y + 25.0, (r.known, dark, inside(m)));
    }
    track.height = LINE * ends.len().max(1) as f32;
    let mut ends: Vec<f32> = Vec::new();
    let more = unnamed.len();
    for m in unnamed {
        let (from, to) = (px(m.start), px(m.end));
        let line = line_for(&mut ends, from, to + 3.0, 6).unwrap_or(5);
        draw(&mut track.items, m, &px, track.height + 22.0 + DENSE * line as f32, (r.known, focus.is_none(), false));
    }
    if more > 0 {
        let text = match more {
            1 => "1 more, whose name has no room".to_string(),
            n => format!("{n} more, whose names have no room"),
        };
        let label = Label {
            x: left,
            y: track.height + 10.0,
            text,
            size: 12.0,
            ink: Ink::Muted,
            anchor: Anchor::Start,
            weight: Weight::Regular,
            turn: 0.0,
            halo: true,
        };
        track.items.push(Item::Text(label));
        track.height += 22.0 + DENSE * ends.len() as f32;
    }
    if r.genes.is_empty() {
        let label = Label {
            x: left + width / 2.0,
            y: 20.0,
            text: "no gene is here".into(),
            size: SIZE,
            ink: Ink::Muted,
            anchor: Anchor::Middle,
            weight: Weight::Regular,
            turn: 0.0,
            halo: false,
        };
        track.items.push(Item::Text(label));
    }
    track
}

/// One gene about the line `y`: what is known of genes, is it dark, and is its start in the picture?
fn draw(
    items: &mut Vec<Item>,
    m: &GeneModel,
    px: &dyn Fn(i64) -> f32,
    y: f32,
    (known, dark, begins): (Known, bool, bool),
) {
    let ink = if dark { Ink::Rgb(24, 60, 120) } else { Ink::Rgb(150, 150, 150) };
    let (from, to) = (px(m.start), px(m.end));
    let line = |points: &[(f32, f32)], width: f32| {
        let path = points.iter().enumerate().map(|(i, p)| match i {
            0 => Segment::Move(p.0, p.1),
            _ => Segment::Line(p.0, p.1),
        });
        Item::Path(path.collect(), None, Some(Pen::new(ink, width)))
    };
    if known == Known::Starts {
        // A flag: where it begins, nothing more.
        items.push(line(&[(from, y + 7.0), (from, y - 6.0)], 2.0));
        return;
    }
    items.push(line(&[(from, y), (to.max(from + 1.5), y)], 1.3));
    if m.exons.is_empty() {
        items.push(Item::Rect([from, y - 2.5, (to - from).max(2.0), 5.0], ink));
    }
    for e in &m.exons {
        // Of an exon the coding part is high, the rest is low.
        let [c, d] = m.coding.unwrap_or([e[1], e[1]]);
        let (c, d) = (c.clamp(e[0], e[1]), d.clamp(e[0], e[1]));
        let parts =
            if m.coding.is_some() { [(e[0], c, 3.0), (c, d, 5.5), (d, e[1], 3.0)] } else { [(e[0], e[1], 4.0); 3] };
        for (a, b, half) in parts.into_iter().filter(|p| p.0 < p.1) {
            let (a, b) = (px(a), px(b));
            if b > a || (a > from && a < to) {
                items.push(Item::Rect([a, y - half, (b - a).max(1.2), 2.0 * half], ink));
            }
        }
    }
    let Some(forward) = m.forward else { return };
    let side = if forward { 1.0 } else { -1.0 };
    let chevron = |x: f32, size: f32| [(x - side * size, y - size), (x, y), (x - side * size, y + size)];
    // Arrows along it, where no box is.
    let boxes: Vec<(f32, f32)> = m.exons.iter().map(|e| (px(e[0]) - 5.0, px(e[1]) + 5.0)).collect();
    let free = |x: f32| boxes.iter().all(|b| x < b.0 || x > b.1);
    let n = ((to - from) / 34.0).floor() as usize;
    let spans = m.exons.is_empty();
    for k in 0..n {
        let x = from + (to - from) * (k as f32 + 0.5) / n as f32;
        if free(x) && spans {
            let path = chevron(x, 4.5);
            let segments = vec![
                Segment::Move(path[0].0, path[0].1),
                Segment::Line(path[1].0, path[1].1),
                Segment::Line(path[2].0, path[2].1),
            ];
            items.push(Item::Path(segments, None, Some(Pen::new(Ink::Paper, 1.6))));
        } else if free(x) {
            items.push(line(&chevron(x, 3.5), 1.2));
        }
    }
    // Where it begins: an arrow up and along.
    let x = if forward { from } else { to };
    if begins && dark {
        items.push(line(&[(x, y), (x, y - 9.0), (x + side * 9.0, y - 9.0)], 1.3));
        items.push(line(&[(x + side * 6.0, y - 11.5), (x + side * 9.0, y - 9.0), (x + side * 6.0, y - 6.5)], 1.3));
    } else if n == 0 {
        // Too short for arrows along it.
        let x = if forward { to.max(from + 1.5) + 5.0 } else { from - 5.0 };
        items.push(line(&chevron(x, 3.0), 1.2));
    }
}
