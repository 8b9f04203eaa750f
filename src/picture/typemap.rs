//! Genes against cell types.

use super::axis::{colour_bar, shade};
use super::font::Weight;
use super::scene::{Anchor, Ink, Label, Scene, fitted};

/// Squares of `rows` × `columns`, `values` row by row, each row as a share of its largest number. 1,200 wide.
pub fn type_map(rows: &[String], columns: &[String], values: &[f64], title: &str, note: &str) -> Scene {
    let size = |text: &str, size: f32| super::text_width(text, size, Weight::Regular);
    let widest = columns.iter().map(|c| size(&fitted(c, 14.0, Weight::Regular, 200.0), 14.0)).fold(20f32, f32::max);
    let (left, top) = (180.0, 92.0 + widest * 0.71);
    let step = 21.0;
    let across = (800.0 / columns.len().max(1) as f32).clamp(14.0, 60.0);
    let width = across * columns.len() as f32;
    let height = step * rows.len() as f32;
    let mut s = Scene::new(1200.0f32.max(left + width + 260.0), (top + height + 24.0).max(330.0), title);
    s.heading(16.0, title, note);
    for (c, name) in columns.iter().enumerate() {
        s.label(Label {
            x: left + across * (c as f32 + 0.5) + 4.0,
            y: top - 8.0,
            text: fitted(name, 14.0, Weight::Regular, 200.0),
            size: 14.0,
            ink: Ink::Text,
            anchor: Anchor::Start,
            weight: Weight::Regular,
            turn: -45.0,
            halo: false,
        });
    }
    for (r, name) in rows.iter().enumerate() {
        let y = top + step * r as f32;
        let of_row = values.get(r * columns.len()..(r + 1) * columns.len()).unwrap_or(&[]);
        let most = of_row.iter().copied().filter(|x| x.is_finite()).fold(0f64, f64::max);
        let name = fitted(name, 14.0, Weight::Regular, left - 26.0);
        s.text(left - 8.0, y + step * 0.5 + 5.0, name, 14.0, Ink::Text, Anchor::End);
        for (c, &x) in of_row.iter().enumerate() {
            let [red, green, blue] = shade(if most > 0.0 { x / most } else { 0.0 });
            s.rect([left + across * c as f32, y, across - 1.0, step - 1.0], Ink::Rgb(red, green, blue));
        }
    }
    let numbers: Vec<_> = [0.0, 0.5, 1.0].iter().map(|&t| (t, format!("{t:.1}"))).collect();
    colour_bar(&mut s, [left + width + 40.0, top + 24.0, 18.0, 150.0], &numbers, &["share of the", "row’s largest"]);
    s
}
