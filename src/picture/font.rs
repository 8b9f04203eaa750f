//! The letters of pictures: two weights of one typeface, in the program.

use std::sync::OnceLock;

use ttf_parser::{Face, OutlineBuilder};

/// Weight of the letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// Normal.
    Regular,
    /// Somewhat bold.
    Medium,
}

static FILES: [&[u8]; 2] = [include_bytes!("font/roboto-regular.ttf"), include_bytes!("font/roboto-medium.ttf")];

/// A typeface.
pub(super) struct Font {
    /// `None` only if the file in the program were damaged: then nothing is drawn.
    face: Option<Face<'static>>,
}

struct Pen<'b> {
    path: &'b mut tiny_skia::PathBuilder,
    at: (f32, f32),
    scale: f32,
}

impl Pen<'_> {
    fn place(&self, x: f32, y: f32) -> (f32, f32) {
        (self.at.0 + x * self.scale, self.at.1 - y * self.scale)
    }
}

impl OutlineBuilder for Pen<'_> {
    fn move_to(&mut self, x: f32, y: f32) {
        let p = self.place(x, y);
        self.path.move_to(p.0, p.1);
    }

    fn line_to(&mut self, x: f32, y: f32) {
        let p = self.place(x, y);
        self.path.line_to(p.0, p.1);
    }

    fn quad_to(&mut self, x1: f32, y1: f32, x: f32, y: f32) {
        let (a, p) = (self.place(x1, y1), self.place(x, y));
        self.path.quad_to(a.0, a.1, p.0, p.1);
    }

    fn curve_to(&mut self, x1: f32, y1: f32, x2: f32, y2: f32, x: f32, y: f32) {
        let (a, b, p) = (self.place(x1, y1), self.place(x2, y2), self.place(x, y));
        self.path.cubic_to(a.0, a.1, b.0, b.1, p.0, p.1);
    }

    fn close(&mut self) {
        self.path.close();
    }
}

impl Font {
    pub(super) fn of(weight: Weight) -> &'static Font {
        static FONTS: OnceLock<[Font; 2]> = OnceLock::new();
        let fonts = FONTS.get_or_init(|| FILES.map(|f| Font { face: Face::parse(f, 0).ok() }));
        &fonts[usize::from(weight == Weight::Medium)]
    }

    fn scale(&self, size: f32) -> f32 {
        self.face.as_ref().map_or(0.0, |f| size / f32::from(f.units_per_em()))
    }

    /// Glyph and advance of a character; one that the typeface lacks is a box.
    fn glyph(&self, c: char) -> (ttf_parser::GlyphId, f32) {
        let glyph = self.face.as_ref().and_then(|f| f.glyph_index(c)).unwrap_or(ttf_parser::GlyphId(0));
        (glyph, f32::from(self.face.as_ref().and_then(|f| f.glyph_hor_advance(glyph)).unwrap_or(0)))
    }

    pub(super) fn width(&self, text: &str, size: f32) -> f32 {
        text.chars().map(|c| self.glyph(c).1).sum::<f32>() * self.scale(size)
    }

    /// The outline of a text that begins at (x, y).
    pub(super) fn outline(&self, text: &str, size: f32, x: f32, y: f32) -> Option<tiny_skia::Path> {
        let face = self.face.as_ref()?;
        let scale = self.scale(size);
        let mut path = tiny_skia::PathBuilder::new();
        let mut pen = Pen { path: &mut path, at: (x, y), scale };
        for c in text.chars() {
            let (glyph, advance) = self.glyph(c);
            let _ = face.outline_glyph(glyph, &mut pen); // a space has none
            pen.at.0 += advance * scale;
        }
        path.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_have_widths_and_outlines() {
        for weight in [Weight::Regular, Weight::Medium] {
            let font = Font::of(weight);
            assert!(font.width("mm", 10.0) > 2.0 * font.width("ii", 10.0));
            assert_eq!(font.width("abc", 20.0), 2.0 * font.width("abc", 10.0));
            for c in "Aµ±–²≥β×…−".chars() {
                assert_ne!(font.glyph(c).0.0, 0, "{c}");
            }
            assert_eq!(font.glyph('漢').0.0, 0);
            let b = font.outline("Hg", 20.0, 5.0, 100.0).unwrap().bounds();
            assert!(b.left() > 5.0 && b.top() > 80.0 && b.bottom() > 100.0 && b.right() < 35.0, "{b:?}");
            assert!(font.outline(" ", 20.0, 0.0, 0.0).is_none());
        }
    }
}
