//! Genes by cell type: discs by the share of cells, their colour by mean expression.

use super::axis::{brief, colour_bar_flat, shade, thousands};
use super::font::Weight;
use super::region::axis_top;
use super::scene::{Anchor, Ink, Label, Pen, Scene, Shape};
use super::{fitted, text_width};
use crate::region::Dots;

/// Between two genes, and between two types.
const STEP: (f32, f32) = (44.0, 36.0);
/// Radius of the disc of all cells.
const RADIUS: f32 = 15.0;
/// What the legends need at the right.
const LEGEND: f32 = 250.0;
/// Shares of cells in the legend.
const SHARES: [f32; 4] = [0.1, 0.25, 0.5, 1.0];

fn radius(share: f32) -> f32 {
    RADIUS * share.clamp(0.0, 1.0).sqrt()
}

/// Discs, a row for each type and a column for each gene: area by the share of cells that have it, colour by mean expression
/// on one scale, or with `by_gene` from the least to the most of each gene. At least 1,200 wide.
pub fn dot_plot(d: &Dots, by_gene: bool, title: &str) -> Scene {
    let name = |t: &(String, usize)| text_width(&t.0, 15.0, Weight::Regular);
    let left = d.types.iter().map(name).fold(60f32, f32::max).min(280.0) + 100.0;
    let label = d.genes.iter().map(|g| text_width(g, 14.0, Weight::Regular)).fold(30f32, f32::max).min(200.0);
    let top = 92.0 + label * 0.78 + 12.0;
    let wide = STEP.0 * d.genes.len() as f32;
    let step = STEP.0.max(((1200.0 - LEGEND - left - label * 0.7) / d.genes.len().max(1) as f32).min(64.0));
    let right = left + step * d.genes.len() as f32;
    let legend = right + label * 0.7 + 24.0;
    let width = (legend + LEGEND).max(1200.0).max(left + wide);
    let bottom = top + STEP.1 * d.types.len() as f32;
    let mut s = Scene::new(width, (bottom + 36.0).max(top + 290.0), format!("{title}: genes by cell type"));
    let colours = if by_gene { "each gene from its least to its most" } else { "one scale for all genes" };
    s.heading(24.0, title, &format!("mean expression, {}; {colours}", d.expression));
    let (most, cut) = axis_top(d.dots.iter().flatten().map(|x| x.mean));
    let at = |g: usize, t: usize| (left + step * (g as f32 + 0.5), top + STEP.1 * (t as f32 + 0.5));
    for (t, (name, cells)) in d.types.iter().enumerate() {
        let y = at(0, t).1;
        s.line((left, y), (right, y), Pen::new(Ink::Grid, 1.0));
        let name = fitted(name, 15.0, Weight::Regular, 280.0);
        s.text(left - 76.0, y + 5.0, name, 15.0, Ink::Text, Anchor::End);
        s.text(left - 12.0, y + 4.5, thousands(*cells as u64), 12.5, Ink::Muted, Anchor::End);
    }
    s.text(left - 12.0, top - 8.0, "cells", 12.5, Ink::Muted, Anchor::End);
    for (g, gene) in d.genes.iter().enumerate() {
        let x = at(g, 0).0;
        s.line((x, top), (x, bottom), Pen::new(Ink::Grid, 1.0));
        let text = fitted(gene, 14.0, Weight::Regular, 200.0);
        let (size, ink, anchor, weight) = (14.0, Ink::Text, Anchor::Start, Weight::Regular);
        s.label(Label { x: x + 2.0, y: top - 9.0, text, size, ink, anchor, weight, turn: -50.0, halo: false });
        let means = || d.dots.iter().map(|row| f64::from(row[g].mean));
        let (low, high) = match by_gene {
            true => (means().fold(f64::MAX, f64::min), means().fold(0.0, f64::max)),
            false => (0.0, most),
        };
        for (t, row) in d.dots.iter().enumerate().filter(|(_, row)| row[g].share > 0.0) {
            let [r, gr, b] = shade((f64::from(row[g].mean) - low) / (high - low).max(f64::MIN_POSITIVE));
            s.items.push(super::Item::Points(
                vec![at(g, t)],
                Shape::Disc,
                radius(row[g].share).max(0.8),
                Ink::Rgb(r, gr, b),
                1.0,
            ));
        }
    }
    s.frame([left, top, right - left, bottom - top], Pen::new(Ink::Muted, 1.0));
    s.text(legend, top + 4.0, "cells with the gene", 14.0, Ink::Text, Anchor::Start);
    for (i, share) in SHARES.into_iter().enumerate() {
        let (x, y) = (legend + 18.0, top + 30.0 + 33.0 * i as f32);
        s.items.push(super::Item::Points(vec![(x, y)], Shape::Disc, radius(share), Ink::Rgb(120, 120, 120), 1.0));
        s.text(x + 28.0, y + 5.0, format!("{:.0} %", 100.0 * share), 14.0, Ink::Text, Anchor::Start);
    }
    let told = if cut { format!("≥ {}", brief(most)) } else { brief(most) };
    let half = brief(most / 2.0);
    let marks = if by_gene { ["least", "", "most"] } else { ["0", half.as_str(), told.as_str()] };
    let name = if by_gene { "mean expression of each gene" } else { "mean expression" };
    colour_bar_flat(&mut s, [legend, top + 30.0 + 33.0 * 4.0 + 40.0, 180.0, 14.0], &marks, name);
    s
}
