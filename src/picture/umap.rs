//! Cells in a plane, coloured by kinds or by a number.

use super::axis::thousands;
use super::colour::{category, ramp};
use super::font::Weight;
use super::scene::{Anchor, Ink, Item, Label, Pen, Scene, Shape, fitted};
use super::text_width;
use crate::rng::philox;

/// What cells are coloured by.
#[derive(Debug, Clone, PartialEq)]
pub enum Colours {
    /// `[N]` a kind each (any number beyond the names: none), and the names of the kinds.
    Kinds(Vec<u32>, Vec<String>),
    /// `[N]` a number each, 0 and below pale, and its unit.
    Numbers(Vec<f32>, String),
}

/// Width and height of the picture, and the square that cells are in.
const SIZE: [f32; 2] = [1200.0, 900.0];
const PLACE: [f32; 4] = [24.0, 80.0, 860.0, 796.0];
/// Layers in which cells are drawn, so that no kind lies on top of all others.
const LAYERS: usize = 8;
/// Steps of a ramp.
const STEPS: usize = 24;
/// Size of names of kinds, and the largest number of kinds that is named in the plane.
const TEXT: f32 = 15.0;
const MOST_NAMED: usize = 40;
/// Cells of no kind.
const NONE: Ink = Ink::Rgb(160, 160, 160);
/// Value at which a number has its full colour: this share of those above 0 is below it.
const HIGH: f64 = 0.99;

/// Cells at `points` (NaN: no place), by `colours`. 1,200 × 900; no axes, since directions and lengths of such a plane mean nothing.
pub fn umap_plot(points: &[[f32; 2]], colours: &Colours, title: &str, below: &str) -> Scene {
    let mut s = Scene::new(SIZE[0], SIZE[1], format!("{title}: {below}"));
    s.heading(24.0, title, below);
    let finite: Vec<usize> = (0..points.len()).filter(|&i| points[i].iter().all(|x| x.is_finite())).collect();
    let span = |c: usize| {
        let all = finite.iter().map(|&i| points[i][c]);
        all.fold((f32::INFINITY, f32::NEG_INFINITY), |(lo, hi), x| (lo.min(x), hi.max(x)))
    };
    let (sx, sy) = (span(0), span(1));
    // One scale for both directions.
    let unit = (PLACE[2] / (sx.1 - sx.0).max(1e-6)).min(PLACE[3] / (sy.1 - sy.0).max(1e-6)) * 0.97;
    let middle = |(lo, hi): (f32, f32)| f32::midpoint(lo, hi);
    let at = |i: usize| {
        let x = PLACE[0] + PLACE[2] / 2.0 + (points[i][0] - middle(sx)) * unit;
        (x, PLACE[1] + PLACE[3] / 2.0 - (points[i][1] - middle(sy)) * unit)
    };
    let radius = (260.0 / (finite.len().max(1) as f32).sqrt()).clamp(1.4, 4.5);
    let layer = |i: usize| philox([i as u32, 0, 0, 0x706c_6f74], [0, 0])[0] as usize % LAYERS;
    match colours {
        Colours::Kinds(of, names) => {
            let kind = |i: usize| of.get(i).map_or(names.len(), |&k| (k as usize).min(names.len()));
            let mut cells: Vec<Vec<usize>> = vec![Vec::new(); names.len() + 1];
            finite.iter().for_each(|&i| cells[kind(i)].push(i));
            for l in 0..LAYERS {
                for (k, cells) in cells.iter().enumerate() {
                    let here: Vec<(f32, f32)> = cells.iter().filter(|&&i| layer(i) == l).map(|&i| at(i)).collect();
                    let (ink, shape) = if k == names.len() { (NONE, Shape::Disc) } else { category(k) };
                    if !here.is_empty() {
                        s.items.push(Item::Points(here, shape, radius, ink, 0.8));
                    }
                }
            }
            let places: Vec<Vec<(f32, f32)>> =
                cells[..names.len()].iter().map(|c| c.iter().map(|&i| at(i)).collect()).collect();
            if names.len() <= MOST_NAMED {
                name_kinds(&mut s, &places, names);
            }
            legend(&mut s, &cells, names);
        }
        Colours::Numbers(values, unit) => {
            let mut some: Vec<f32> = finite.iter().map(|&i| values[i]).filter(|&x| x > 0.0).collect();
            some.sort_by(f32::total_cmp);
            let high = some.get((some.len() as f64 * HIGH) as usize).or(some.last()).copied().unwrap_or(1.0);
            let step = |i: usize| match values[i] {
                x if x > 0.0 => 1 + ((x / high * (STEPS - 1) as f32) as usize).min(STEPS - 2),
                _ => 0,
            };
            // The highest last: few cells with much are what such a picture is for.
            for k in 0..STEPS {
                let here: Vec<(f32, f32)> = finite.iter().filter(|&&i| step(i) == k).map(|&i| at(i)).collect();
                let [r, g, b] = ramp(0.08 + 0.92 * k as f64 / (STEPS - 1) as f64);
                let (ink, opacity) = if k == 0 { (Ink::Grid, 0.9) } else { (Ink::Rgb(r, g, b), 0.9) };
                if !here.is_empty() {
                    s.items.push(Item::Points(here, Shape::Disc, radius, ink, opacity));
                }
            }
            ramp_legend(&mut s, high, unit, some.len(), finite.len());
        }
    }
    s
}

fn overlap(a: &[f32; 4], b: &[f32; 4]) -> bool {
    a[0] < b[2] && a[2] > b[0] && a[1] < b[3] && a[3] > b[1]
}

/// Names at the medians of their cells; one that would lie on another is moved to the nearest free place, and a line leads back.
fn name_kinds(s: &mut Scene, cells: &[Vec<(f32, f32)>], names: &[String]) {
    let median = |mut v: Vec<f32>| {
        v.sort_by(f32::total_cmp);
        v[v.len() / 2]
    };
    let mut kinds: Vec<usize> = (0..names.len()).filter(|&k| !cells[k].is_empty()).collect();
    // The largest keep their place.
    kinds.sort_by_key(|&k| (std::cmp::Reverse(cells[k].len()), k));
    let mut taken: Vec<[f32; 4]> = Vec::new();
    let mut labels = Vec::new();
    for k in kinds {
        let (x, y) = (median(cells[k].iter().map(|c| c.0).collect()), median(cells[k].iter().map(|c| c.1).collect()));
        let text = fitted(&names[k], TEXT, Weight::Medium, 220.0);
        let half = text_width(&text, TEXT, Weight::Medium) / 2.0 + 2.0;
        let boxed = |dx: f32, dy: f32| {
            let cx = (x + dx).clamp(PLACE[0] + half, PLACE[0] + PLACE[2] - half);
            let cy = (y + dy).clamp(PLACE[1] + TEXT, PLACE[1] + PLACE[3] - 4.0);
            [cx - half, cy - TEXT, cx + half, cy + 4.0]
        };
        let spiral = (0..400).map(|i| (0.7 * i as f32, 2.4 * i as f32)).map(|(r, turn)| {
            let turn = turn.to_radians() * 10.0;
            boxed(1.6 * r * turn.cos(), r * turn.sin())
        });
        let place =
            spiral.into_iter().find(|b| !taken.iter().any(|t| overlap(t, b))).unwrap_or_else(|| boxed(0.0, 0.0));
        taken.push(place);
        let (cx, cy) = (f32::midpoint(place[0], place[2]), place[3] - 4.0);
        if (cx - x).hypot(cy - y) > 18.0 {
            s.line((cx, cy - 5.0), (x, y), Pen::new(Ink::Muted, 1.0));
        }
        labels.push(Label {
            x: cx,
            y: cy,
            text,
            size: TEXT,
            ink: Ink::Text,
            anchor: Anchor::Middle,
            weight: Weight::Medium,
            turn: 0.0,
            halo: true,
        });
    }
    labels.into_iter().for_each(|l| s.label(l));
}

fn legend(s: &mut Scene, cells: &[Vec<usize>], names: &[String]) {
    let shown: Vec<usize> = (0..cells.len()).filter(|&k| !cells[k].is_empty()).collect();
    let step = (760.0 / shown.len().max(1) as f32).min(26.0);
    let size = (step - 5.0).clamp(7.0, 15.0);
    s.text(1180.0, 84.0, "cells", 13.0, Ink::Muted, Anchor::End);
    for (row, &k) in shown.iter().enumerate() {
        let y = 108.0 + step * row as f32;
        let (ink, shape) = if k == names.len() { (NONE, Shape::Disc) } else { category(k) };
        s.items.push(Item::Points(vec![(916.0, y - size * 0.36)], shape, size * 0.42, ink, 1.0));
        let count = thousands(cells[k].len() as u64);
        let room = 1180.0 - 932.0 - text_width(&count, size, Weight::Regular) - 10.0;
        let name = names.get(k).map_or("none", String::as_str);
        s.text(932.0, y, fitted(name, size, Weight::Regular, room), size, Ink::Text, Anchor::Start);
        s.text(1180.0, y, count, size, Ink::Muted, Anchor::End);
    }
}

fn ramp_legend(s: &mut Scene, high: f32, unit: &str, found: usize, all: usize) {
    let (x, y, w, h) = (916.0, 128.0, 26.0, 300.0);
    s.text(x, 104.0, fitted(unit, 15.0, Weight::Regular, 264.0), 15.0, Ink::Text, Anchor::Start);
    let steps = 60;
    for k in 0..steps {
        let t = f64::from(k) / f64::from(steps - 1);
        let [r, g, b] = ramp(0.08 + 0.92 * t);
        let each = h / steps as f32;
        s.rect([x, y + h - each * (k + 1) as f32, w, each + 0.5], Ink::Rgb(r, g, b));
    }
    s.text(x + w + 10.0, y + 11.0, format!("{high:.2} and above"), 14.0, Ink::Text, Anchor::Start);
    s.text(x + w + 10.0, y + h, "above 0", 14.0, Ink::Text, Anchor::Start);
    s.rect([x, y + h + 14.0, w, 16.0], Ink::Grid);
    s.text(x + w + 10.0, y + h + 27.0, "none", 14.0, Ink::Text, Anchor::Start);
    let text = format!("{} of {} cells", thousands(found as u64), thousands(all as u64));
    s.text(x, y + h + 58.0, format!("in {text}"), 14.0, Ink::Muted, Anchor::Start);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Twelve kinds on one spot: every name has a place of its own.
    #[test]
    fn names_do_not_lie_on_each_other() {
        let names: Vec<String> = (0..12).map(|i| format!("a type named {i}")).collect();
        let points: Vec<[f32; 2]> = (0..240).map(|i| [(i % 5) as f32 * 0.01, (i / 240) as f32]).collect();
        let of: Vec<u32> = (0..240).map(|i| i % 12).collect();
        let s = umap_plot(&points, &Colours::Kinds(of, names), "t", "b");
        let boxes: Vec<[f32; 4]> = (s.items.iter())
            .filter_map(|i| match i {
                Item::Text(l) if l.halo => {
                    let half = text_width(&l.text, l.size, l.weight) / 2.0;
                    Some([l.x - half, l.y - l.size, l.x + half, l.y + 3.0])
                }
                _ => None,
            })
            .collect();
        assert_eq!(boxes.len(), 12);
        for (i, a) in boxes.iter().enumerate() {
            assert!(a[0] >= 0.0 && a[2] <= SIZE[0] && a[1] >= 0.0 && a[3] <= SIZE[1]);
            assert!(!boxes[..i].iter().any(|b| overlap(a, b)), "{boxes:?}");
        }
    }
}
