//! Colours that the colour-blind can tell apart.

use super::scene::{Ink, SHAPES, Shape};

/// Okabe and Ito's eight, the readable ones on white first.
const CATEGORIES: [Ink; 8] = [
    Ink::Rgb(0, 114, 178),
    Ink::Rgb(213, 94, 0),
    Ink::Rgb(0, 158, 115),
    Ink::Rgb(230, 159, 0),
    Ink::Rgb(204, 121, 167),
    Ink::Rgb(86, 180, 233),
    Ink::Text,
    Ink::Rgb(240, 228, 66),
];

/// Colour and shape of category `i`: eight colours, and with every eight another shape.
pub fn category(i: usize) -> (Ink, Shape) {
    (CATEGORIES[i % CATEGORIES.len()], SHAPES[i / CATEGORIES.len() % SHAPES.len()])
}

fn gamma(x: f64) -> f64 {
    if x <= 0.003_130_8 { 12.92 * x } else { 1.055 * x.powf(1.0 / 2.4) - 0.055 }
}

/// sRGB (0–1, perhaps beyond) of OKLab lightness, chroma and hue in degrees.
fn oklch(l: f64, chroma: f64, hue: f64) -> [f64; 3] {
    let (sin, cos) = hue.to_radians().sin_cos();
    let (a, b) = (chroma * cos, chroma * sin);
    let [l, m, s] = [
        l + 0.396_337_777_4 * a + 0.215_803_757_3 * b,
        l - 0.105_561_345_8 * a - 0.063_854_172_8 * b,
        l - 0.089_484_177_5 * a - 1.291_485_548 * b,
    ]
    .map(|x| x * x * x);
    [
        4.076_741_662_1 * l - 3.307_711_591_3 * m + 0.230_969_929_2 * s,
        -1.268_438_004_6 * l + 2.609_757_401_1 * m - 0.341_319_396_5 * s,
        -0.004_196_086_3 * l - 0.703_418_614_7 * m + 1.707_614_701 * s,
    ]
    .map(gamma)
}

/// Colour of `t` from 0 (pale yellow) to 1 (dark violet): even steps of lightness, so that it reads in grey, too.
pub fn ramp(t: f64) -> [u8; 3] {
    let t = if t.is_nan() { 0.0 } else { t.clamp(0.0, 1.0) };
    let (lightness, hue) = (0.965 - 0.70 * t, 105.0 + 195.0 * t);
    let mut chroma = 0.05 + 0.11 * (0.25 + t).min(1.0);
    loop {
        let c = oklch(lightness, chroma, hue);
        if chroma < 0.01 || c.iter().all(|x| (-0.001..=1.001).contains(x)) {
            return c.map(|x| (x.clamp(0.0, 1.0) * 255.0).round() as u8);
        }
        chroma *= 0.97;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ramp_darkens_evenly() {
        let light = |c: [u8; 3]| {
            let [r, g, b] = c.map(|x| (f64::from(x) / 255.0).powf(2.2));
            (0.2126 * r + 0.7152 * g + 0.0722 * b).cbrt()
        };
        let steps: Vec<f64> = (0..=20).map(|i| light(ramp(f64::from(i) / 20.0))).collect();
        for (i, w) in steps.windows(2).enumerate() {
            let step = w[0] - w[1];
            assert!((0.015..0.06).contains(&step), "step {i}: {step}");
        }
        assert_eq!(ramp(f64::NAN), ramp(0.0));
        assert_eq!(ramp(7.0), ramp(1.0));
    }

    #[test]
    fn categories_differ() {
        let all: Vec<_> = (0..48).map(category).collect();
        for (i, a) in all.iter().enumerate() {
            assert!(!all[..i].contains(a));
        }
    }
}
