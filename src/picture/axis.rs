//! Ticks, numbers, and the frame of a plot.

use super::font::Weight;
use super::scene::{Anchor, Ink, Label, Pen, Scene};

/// A whole number with commas.
pub(crate) fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// A distance between ticks that gives about `n` of them over `span`: 1, 2 or 5 times a power of ten.
pub(super) fn step(span: f64, n: f64) -> f64 {
    let rough = (span / n.max(1.0)).max(f64::MIN_POSITIVE);
    let power = 10f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0].into_iter().map(|m| m * power).find(|s| *s >= rough * 0.999).unwrap_or(10.0 * power)
}

/// Ticks within [lo, hi], about `n`, and the decimals that tell them apart.
pub(super) fn ticks(lo: f64, hi: f64, n: f64) -> (Vec<f64>, usize) {
    if !(lo.is_finite() && hi.is_finite() && hi > lo) {
        return (vec![lo], 2);
    }
    let step = step(hi - lo, n);
    let decimals = (-step.log10().floor()).clamp(0.0, 12.0) as usize;
    let first = (lo / step - 1e-9).ceil();
    let last = (hi / step + 1e-9).floor();
    ((0..=(last - first).max(0.0) as usize).map(|i| (first + i as f64) * step).collect(), decimals)
}

/// A number on an axis.
pub(super) fn tick(x: f64, decimals: usize) -> String {
    let s = format!("{x:.decimals$}");
    let s = if s.trim_start_matches('-').chars().all(|c| c == '0' || c == '.') { s.replace('-', "") } else { s };
    match (s.strip_prefix('-'), decimals) {
        (None, 0) if x < 1e18 => thousands(x.round() as u64),
        (Some(s), _) => format!("−{s}"),
        _ => s,
    }
}

/// A number of three digits or so.
pub(super) fn brief(x: f64) -> String {
    let a = x.abs();
    match a {
        _ if !x.is_finite() => "–".into(),
        _ if a == 0.0 => "0".into(),
        _ if !(1e-3..1e6).contains(&a) => format!("{x:.1e}"),
        _ if a < 1.0 => format!("{x:.3}").trim_end_matches('0').to_string(),
        _ if a < 10.0 => format!("{x:.2}"),
        _ if a < 100.0 => format!("{x:.1}"),
        _ => tick(x, 0),
    }
}

/// A plot's frame, and the way from numbers to places in it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Panel {
    /// x, y, width, height.
    pub at: [f32; 4],
    /// Numbers at the left and at the right.
    pub x: [f64; 2],
    /// Numbers at the bottom and at the top.
    pub y: [f64; 2],
}

impl Panel {
    /// Where a number of the horizontal axis lies, in units of the scene.
    pub fn px(&self, x: f64) -> f32 {
        self.at[0] + self.at[2] * ((x - self.x[0]) / (self.x[1] - self.x[0])) as f32
    }

    /// The same of the vertical axis.
    pub fn py(&self, y: f64) -> f32 {
        self.at[1] + self.at[3] * (1.0 - ((y - self.y[0]) / (self.y[1] - self.y[0])) as f32)
    }

    /// Horizontal grid lines with their numbers, about one every 45 units, and what they count.
    pub fn left(&self, s: &mut Scene, name: &str) {
        let [x, _, w, h] = self.at;
        let (ticks, decimals) = ticks(self.y[0], self.y[1], f64::from(h / 45.0).max(1.0));
        let mut widest = 0f32;
        for &t in &ticks {
            let at = self.py(t);
            s.line((x, at), (x + w, at), Pen::new(Ink::Grid, 1.0));
            let text = tick(t, decimals);
            widest = widest.max(super::text_width(&text, 14.0, Weight::Regular));
            s.text(x - 8.0, at + 5.0, text, 14.0, Ink::Text, Anchor::End);
        }
        self.left_name(s, name, widest + 24.0);
    }

    /// What the vertical axis counts, that far left of it.
    pub fn left_name(&self, s: &mut Scene, name: &str, away: f32) {
        let [x, y, _, h] = self.at;
        s.label(Label {
            x: x - away,
            y: y + h / 2.0,
            text: name.into(),
            size: 15.0,
            ink: Ink::Text,
            anchor: Anchor::Middle,
            weight: Weight::Regular,
            turn: -90.0,
            halo: false,
        });
    }

    /// Ticks below with their numbers (only whole ones?), and what they count; with grid lines?
    pub fn below(&self, s: &mut Scene, name: &str, whole: bool, grid: bool) {
        let [x, y, w, h] = self.at;
        let mut n = f64::from(w / 90.0).max(1.0);
        if whole {
            n = n.min((self.x[1] - self.x[0]).max(1.0));
        }
        let (ticks, decimals) = ticks(self.x[0], self.x[1], n);
        for &t in ticks.iter().filter(|t| !whole || t.fract() == 0.0) {
            let at = self.px(t);
            if grid {
                s.line((at, y), (at, y + h), Pen::new(Ink::Grid, 1.0));
            }
            s.line((at, y + h), (at, y + h + 5.0), Pen::new(Ink::Text, 1.0));
            s.text(at, y + h + 21.0, tick(t, decimals), 14.0, Ink::Text, Anchor::Middle);
        }
        s.text(x + w / 2.0, y + h + 44.0, name, 15.0, Ink::Text, Anchor::Middle);
    }

    /// The axes themselves.
    pub fn axes(&self, s: &mut Scene) {
        let [x, y, w, h] = self.at;
        s.polyline(&[(x, y), (x, y + h), (x + w, y + h)], Pen::new(Ink::Text, 1.2));
    }
}

/// The ramp without its palest part, which is hard to see on white.
pub(super) fn shade(t: f64) -> [u8; 3] {
    super::ramp(0.12 + 0.88 * t)
}

/// A colour bar of [`shade`]: upright at `at` (x, y, width, height), its numbers to the right, what it counts above.
pub(super) fn colour_bar(s: &mut Scene, [x, y, w, h]: [f32; 4], numbers: &[(f64, String)], name: &[&str]) {
    let squares = (0..128).rev().map(|i| shade(f64::from(i) / 127.0)).collect();
    s.items.push(super::scene::Item::Image([x, y, w, h], 1, squares));
    s.frame([x, y, w, h], Pen::new(Ink::Muted, 1.0));
    for (t, text) in numbers {
        let at = y + h * (1.0 - *t as f32);
        s.line((x + w, at), (x + w + 5.0, at), Pen::new(Ink::Muted, 1.0));
        s.text(x + w + 9.0, at + 5.0, text.as_str(), 14.0, Ink::Text, Anchor::Start);
    }
    for (i, line) in name.iter().rev().enumerate() {
        s.text(x, y - 12.0 - 18.0 * i as f32, *line, 14.0, Ink::Text, Anchor::Start);
    }
}

/// A colour bar of [`shade`] that lies at `at` (x, y, width, height): its numbers (at its left, middle and right) below, what
/// it counts above.
pub(super) fn colour_bar_flat(s: &mut Scene, [x, y, w, h]: [f32; 4], numbers: &[&str; 3], name: &str) {
    let squares = (0..128).map(|i| shade(f64::from(i) / 127.0)).collect();
    s.items.push(super::scene::Item::Image([x, y, w, h], 128, squares));
    s.frame([x, y, w, h], Pen::new(Ink::Muted, 1.0));
    for (i, text) in numbers.iter().enumerate() {
        let at = x + w * i as f32 / 2.0;
        s.line((at, y + h), (at, y + h + 4.0), Pen::new(Ink::Muted, 1.0));
        s.text(at, y + h + 18.0, *text, 12.5, Ink::Text, Anchor::Middle);
    }
    s.text(x, y - 8.0, name, 13.0, Ink::Text, Anchor::Start);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round() {
        assert_eq!(ticks(0.0, 1.0, 5.0), (vec![0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0], 1));
        assert_eq!(ticks(3.0, 47.0, 4.0).0, [20.0, 40.0]);
        let (t, d) = ticks(-0.02, 0.02, 4.0);
        let text: Vec<_> = t.iter().map(|&t| tick(t, d)).collect();
        assert_eq!(text, ["−0.02", "−0.01", "0.00", "0.01", "0.02"]);
        assert_eq!(ticks(5.0, 5.0, 3.0).0, [5.0]);
        assert_eq!(ticks(f64::NAN, 1.0, 3.0).0.len(), 1);
    }

    #[test]
    fn numbers_are_brief() {
        let all = [0.0, 0.25, 0.0001, 1.5, 12.34, 123_456.7, 5e7, f64::NAN].map(brief);
        assert_eq!(all, ["0", "0.25", "1.0e-4", "1.50", "12.3", "123,457", "5.0e7", "–"]);
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
    }
}
