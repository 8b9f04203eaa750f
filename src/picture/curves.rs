//! Training curves.

use super::axis::Panel;
use super::font::Weight;
use super::scene::{Anchor, Ink, Label, Pen, Scene, Shape};
use crate::train::EpochRecord;

const TRAIN: Ink = Ink::Rgb(0, 114, 178);
const VAL: Ink = Ink::Rgb(213, 94, 0);

type Of = fn(&EpochRecord) -> Option<f64>;

/// One panel: title, what the axis counts, and (name, colour, numbers) of each line.
type Shown = (&'static str, &'static str, &'static [(&'static str, Ink, Of)]);

const PANELS: [Shown; 3] = [
    ("Loss", "loss a sample", &[("training", TRAIN, |r| r.loss), ("validation", VAL, |r| r.val_loss)]),
    ("Matching accuracy", "share of samples", &[("validation", VAL, |r| r.val_accuracy)]),
    ("Translation error", "mean absolute error", &[("validation", VAL, |r| r.val_mae)]),
];

/// Loss, matching accuracy and translation error by epoch; the best epoch is marked. 1,200 × 430, or less without a
/// heading.
pub fn curves(log: &[EpochRecord], title: &str) -> Scene {
    let top = if title.is_empty() { 50.0 } else { 116.0 };
    let mut s =
        Scene::new(1200.0, top + 314.0, "Training curves: loss, matching accuracy and translation error by epoch");
    let best = log.iter().filter(|r| r.best).map(|r| r.epoch).next_back();
    let note = match (log.last(), best) {
        (None, _) => "no epoch is finished".to_string(),
        (Some(l), Some(b)) => format!("{} epochs, best by validation: epoch {b}", l.epoch),
        (Some(l), None) => format!("{} epochs", l.epoch),
    };
    if !title.is_empty() {
        s.heading(16.0, title, &note);
    }
    for (i, (name, axis, lines)) in PANELS.iter().enumerate() {
        panel(&mut s, [86.0 + 395.0 * i as f32, top, 300.0, 250.0], log, best, name, axis, lines);
    }
    s
}

fn panel(
    s: &mut Scene,
    at: [f32; 4],
    log: &[EpochRecord],
    best: Option<u32>,
    name: &str,
    axis: &str,
    lines: &[(&str, Ink, Of)],
) {
    let numbers = || log.iter().flat_map(|r| lines.iter().filter_map(|l| (l.2)(r))).filter(|x| x.is_finite());
    let (lo, hi) = numbers().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), x| (a.min(x), b.max(x)));
    let title = Label {
        x: at[0],
        y: at[1] - 28.0,
        text: name.into(),
        size: 17.0,
        ink: Ink::Text,
        anchor: Anchor::Start,
        weight: Weight::Medium,
        turn: 0.0,
        halo: false,
    };
    s.label(title);
    let last = log.last().map_or(1, |r| r.epoch);
    let first = log.first().map_or(1, |r| r.epoch);
    let side = if last > first { 0.04 * f64::from(last - first) } else { 0.5 };
    let x = [f64::from(first) - side, f64::from(last) + side];
    if lo > hi {
        s.frame(at, Pen::new(Ink::Grid, 1.0));
        s.text(at[0] + at[2] / 2.0, at[1] + at[3] / 2.0, "not measured", 15.0, Ink::Muted, Anchor::Middle);
        return;
    }
    let room = ((hi - lo) * 0.08).max(hi.abs() * 1e-3).max(1e-6);
    let p = Panel { at, x, y: [lo - room, hi + room] };
    p.left(s, axis);
    p.below(s, "epoch", true, false);
    p.axes(s);
    if let Some(b) = best {
        let at_x = p.px(f64::from(b));
        s.line((at_x, at[1]), (at_x, at[1] + at[3]), Pen::new(Ink::Muted, 1.2).dashed(5.0, 4.0));
        let right = at_x > at[0] + at[2] / 2.0;
        let (x, anchor) = if right { (at_x - 6.0, Anchor::End) } else { (at_x + 6.0, Anchor::Start) };
        s.label(Label {
            x,
            y: at[1] + at[3] - 8.0,
            text: "best".into(),
            size: 14.0,
            ink: Ink::Muted,
            anchor,
            weight: Weight::Regular,
            turn: 0.0,
            halo: true,
        });
    }
    let mut legend = at[0] + at[2];
    for (name, ink, of) in lines.iter().rev() {
        let points: Vec<(f32, f32)> = log
            .iter()
            .filter_map(|r| of(r).filter(|y| y.is_finite()).map(|y| (p.px(f64::from(r.epoch)), p.py(y))))
            .collect();
        s.polyline(&points, Pen::new(*ink, 2.4));
        if points.len() <= 30 {
            s.items.push(super::scene::Item::Points(points, Shape::Disc, 3.4, *ink, 1.0));
        }
        s.text(legend, at[1] - 8.0, *name, 14.0, Ink::Text, Anchor::End);
        legend -= super::text_width(name, 14.0, Weight::Regular) + 8.0;
        s.line((legend - 22.0, at[1] - 13.0), (legend, at[1] - 13.0), Pen::new(*ink, 2.8));
        legend -= 38.0;
    }
}
