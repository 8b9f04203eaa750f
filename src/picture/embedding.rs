//! Cells in a plane.

use super::axis::{Panel, thousands};
use super::colour::category;
use super::font::Weight;
use super::scene::{Anchor, Ink, Item, Label, Scene, fitted};
use crate::rng::philox;

/// Layers in which cells are drawn, so that no type lies on top of all others.
const LAYERS: usize = 8;

/// Where the middle of some cells is: medians of x and y.
fn middle(points: &[(f64, f64)]) -> (f64, f64) {
    let median = |mut v: Vec<f64>| {
        v.sort_by(f64::total_cmp);
        v[v.len() / 2]
    };
    (median(points.iter().map(|p| p.0).collect()), median(points.iter().map(|p| p.1).collect()))
}

/// Cells at (x, y), coloured and shaped by type and labelled; `types` names them, `type_of` is `[N]` an index into it (any
/// other number: no type), `axes` names the axes. 1,200 × 820.
pub fn embedding(points: &[(f64, f64)], type_of: &[u32], types: &[String], axes: [&str; 2], title: &str) -> Scene {
    let mut s = Scene::new(1200.0, 820.0, "Cells by their joint embedding, coloured by cell type");
    let n = points.len();
    s.heading(24.0, title, &format!("{} cells", thousands(n as u64)));
    let finite: Vec<(f64, f64)> = points.iter().copied().filter(|p| p.0.is_finite() && p.1.is_finite()).collect();
    let span = |f: fn(&(f64, f64)) -> f64| {
        let (lo, hi) = finite.iter().map(f).fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), x| (a.min(x), b.max(x)));
        let room = ((hi - lo) * 0.03).max(1e-6);
        if lo <= hi { [lo - room, hi + room] } else { [0.0, 1.0] }
    };
    let p = Panel { at: [96.0, 84.0, 800.0, 660.0], x: span(|p| p.0), y: span(|p| p.1) };
    p.left(&mut s, axes[1]);
    p.below(&mut s, axes[0], false, true);
    p.axes(&mut s);
    let mut of_type: Vec<Vec<usize>> = vec![Vec::new(); types.len() + 1];
    for (i, point) in points.iter().enumerate() {
        if point.0.is_finite() && point.1.is_finite() {
            let t = type_of.get(i).map_or(types.len(), |&t| (t as usize).min(types.len()));
            of_type[t].push(i);
        }
    }
    let radius = (260.0 / (n.max(1) as f32).sqrt()).clamp(1.6, 4.5);
    let opacity = if n > 2000 { 0.75 } else { 0.9 };
    for layer in 0..LAYERS {
        for (t, cells) in of_type.iter().enumerate() {
            let here: Vec<(f32, f32)> = cells
                .iter()
                .filter(|&&i| philox([i as u32, 0, 0, 0x706c_6f74], [0, 0])[0] as usize % LAYERS == layer)
                .map(|&i| (p.px(points[i].0), p.py(points[i].1)))
                .collect();
            if !here.is_empty() {
                let (ink, shape) =
                    if t == types.len() { (Ink::Rgb(160, 160, 160), super::scene::Shape::Disc) } else { category(t) };
                s.items.push(Item::Points(here, shape, radius, ink, opacity));
            }
        }
    }
    // Labels at the middle of each type, moved apart from above.
    let mut labels: Vec<(f32, f32, &str)> = of_type
        .iter()
        .zip(types)
        .filter(|(cells, _)| !cells.is_empty())
        .map(|(cells, name)| {
            let m = middle(&cells.iter().map(|&i| points[i]).collect::<Vec<_>>());
            (p.px(m.0), p.py(m.1), name.as_str())
        })
        .collect();
    labels.sort_by(|a, b| a.1.total_cmp(&b.1));
    let mut placed: Vec<[f32; 4]> = Vec::new();
    for (x, y, name) in labels {
        let text = fitted(name, 15.0, Weight::Medium, 220.0);
        let half = super::text_width(&text, 15.0, Weight::Medium) / 2.0;
        let x = x.clamp(p.at[0] + half, (p.at[0] + p.at[2] - half).max(p.at[0] + half));
        let mut y = y;
        while let Some(b) =
            placed.iter().find(|b| x - half < b[2] && x + half > b[0] && y - 15.0 < b[3] && y + 3.0 > b[1])
        {
            y = b[3] + 15.5;
        }
        placed.push([x - half, y - 15.0, x + half, y + 3.0]);
        s.label(Label {
            x,
            y,
            text,
            size: 15.0,
            ink: Ink::Text,
            anchor: Anchor::Middle,
            weight: Weight::Medium,
            turn: 0.0,
            halo: true,
        });
    }
    legend(&mut s, &of_type, types);
    s
}

fn legend(s: &mut Scene, of_type: &[Vec<usize>], types: &[String]) {
    let shown: Vec<usize> = (0..of_type.len()).filter(|&t| !of_type[t].is_empty()).collect();
    let step = (640.0 / shown.len().max(1) as f32).min(26.0);
    let size = (step - 6.0).clamp(9.0, 15.0);
    for (row, &t) in shown.iter().enumerate() {
        let y = 104.0 + step * row as f32;
        let (ink, shape) =
            if t == types.len() { (Ink::Rgb(160, 160, 160), super::scene::Shape::Disc) } else { category(t) };
        s.items.push(Item::Points(vec![(930.0, y - size * 0.36)], shape, size * 0.42, ink, 1.0));
        let count = thousands(of_type[t].len() as u64);
        let room = 1176.0 - 950.0 - super::text_width(&count, size, Weight::Regular) - 10.0;
        let name = types.get(t).map_or("no type", String::as_str);
        s.text(948.0, y, fitted(name, size, Weight::Regular, room), size, Ink::Text, Anchor::Start);
        s.text(1180.0, y, count, size, Ink::Muted, Anchor::End);
    }
    s.text(1180.0, 80.0, "cells", 13.0, Ink::Muted, Anchor::End);
}
