//! A scene as PNG.

use tiny_skia::{
    Color, FillRule, FilterQuality, IntSize, LineJoin, Paint, Path, PathBuilder, Pixmap, PixmapPaint, Rect, Stroke,
    StrokeDash, Transform,
};

use super::font::Font;
use super::scene::{Anchor, Ink, Item, Label, Pen, Scene, Segment, Shape};
use crate::error::{Error, Result};

/// Largest side of a picture in pixels.
const MAX_SIDE: f32 = 16_384.0;

fn paint(ink: Ink, opacity: f32) -> Paint<'static> {
    let [r, g, b] = ink.rgb();
    let mut paint = Paint { anti_alias: true, ..Paint::default() };
    paint.set_color(Color::from_rgba8(r, g, b, (opacity.clamp(0.0, 1.0) * 255.0).round() as u8));
    paint
}

fn stroke(p: &Pen) -> Stroke {
    Stroke {
        width: p.width,
        line_join: LineJoin::Round,
        dash: p.dash.and_then(|[d, g]| StrokeDash::new(vec![d, g], 0.0)),
        ..Stroke::default()
    }
}

fn path(segments: &[Segment]) -> Option<Path> {
    let mut out = PathBuilder::new();
    for s in segments {
        match *s {
            Segment::Move(x, y) => out.move_to(x, y),
            Segment::Line(x, y) => out.line_to(x, y),
            Segment::Cubic([a, b, c, d, x, y]) => out.cubic_to(a, b, c, d, x, y),
            Segment::Close => out.close(),
        }
    }
    out.finish()
}

fn pixmap(width: f32, height: f32) -> Result<Pixmap> {
    let side = |x: f32| if (1.0..=MAX_SIDE).contains(&x) { Some(x.round() as u32) } else { None };
    side(width).zip(side(height)).and_then(|(w, h)| Pixmap::new(w, h)).ok_or_else(|| {
        Error::usage(format!("a picture of {width:.0} × {height:.0} pixels cannot be made; lower --scale"))
    })
}

/// A small image: `columns` wide, as PNG.
pub(super) fn encode(columns: usize, colours: &[[u8; 3]]) -> Result<Vec<u8>> {
    let bad = |e: String| Error::Internal(format!("image of {columns} columns and {} squares: {e}", colours.len()));
    image(columns, colours).ok_or_else(|| bad("no such size".into()))?.encode_png().map_err(|e| bad(e.to_string()))
}

fn image(columns: usize, colours: &[[u8; 3]]) -> Option<Pixmap> {
    let rows = colours.len().checked_div(columns)?;
    let bytes = colours.iter().flat_map(|&[r, g, b]| [r, g, b, 255]).take(rows * columns * 4).collect();
    Pixmap::from_vec(bytes, IntSize::from_wh(u32::try_from(columns).ok()?, u32::try_from(rows).ok()?)?)
}

fn text(out: &mut Pixmap, l: &Label, scale: Transform) {
    let font = Font::of(l.weight);
    let before = match l.anchor {
        Anchor::Start => 0.0,
        Anchor::Middle => font.width(&l.text, l.size) / 2.0,
        Anchor::End => font.width(&l.text, l.size),
    };
    let Some(outline) = font.outline(&l.text, l.size, l.x - before, l.y) else { return };
    let place = if l.turn == 0.0 { scale } else { scale.pre_concat(Transform::from_rotate_at(l.turn, l.x, l.y)) };
    if l.halo {
        let rim = stroke(&Pen::new(Ink::Paper, 3.5));
        out.stroke_path(&outline, &paint(Ink::Paper, 1.0), &rim, place, None);
    }
    out.fill_path(&outline, &paint(l.ink, 1.0), FillRule::Winding, place, None);
}

impl Scene {
    /// As PNG, `scale` pixels a unit; letters come with the program.
    ///
    /// # Errors
    /// A side beyond 16,384 pixels.
    pub fn png(&self, scale: f32) -> Result<Vec<u8>> {
        let mut out = pixmap(self.width * scale, self.height * scale)?;
        out.fill(Color::WHITE);
        let to = Transform::from_scale(scale, scale);
        for item in &self.items {
            match item {
                Item::Rect([x, y, w, h], ink) => {
                    if let Some(r) = Rect::from_xywh(*x, *y, *w, *h) {
                        out.fill_rect(r, &paint(*ink, 1.0), to, None);
                    }
                }
                Item::Path(segments, fill, pen) => {
                    let Some(path) = path(segments) else { continue };
                    if let Some((ink, opacity)) = fill {
                        out.fill_path(&path, &paint(*ink, *opacity), FillRule::Winding, to, None);
                    }
                    if let Some(p) = pen {
                        out.stroke_path(&path, &paint(p.ink, p.opacity), &stroke(p), to, None);
                    }
                }
                Item::Points(points, shape, r, ink, opacity) => {
                    let mut all = PathBuilder::new();
                    for &(x, y) in points {
                        match shape {
                            Shape::Disc => all.push_circle(x, y, *r),
                            _ => {
                                for (k, (dx, dy)) in shape.corners().iter().enumerate() {
                                    let (x, y) = (x + dx * r, y + dy * r);
                                    if k == 0 { all.move_to(x, y) } else { all.line_to(x, y) }
                                }
                                all.close();
                            }
                        }
                    }
                    if let Some(path) = all.finish() {
                        out.fill_path(&path, &paint(*ink, *opacity), FillRule::Winding, to, None);
                    }
                }
                Item::Text(l) => text(&mut out, l, to),
                Item::Image([x, y, w, h], columns, colours) => {
                    let Some(image) = image(*columns, colours) else { continue };
                    let (sx, sy) = (w / image.width() as f32, h / image.height() as f32);
                    let place = to.pre_translate(*x, *y).pre_scale(sx, sy);
                    let how = PixmapPaint { quality: FilterQuality::Nearest, ..PixmapPaint::default() };
                    out.draw_pixmap(0, 0, image.as_ref(), &how, place, None);
                }
            }
        }
        out.encode_png().map_err(|e| Error::Internal(format!("PNG: {e}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pixel(png: &[u8], x: u32, y: u32) -> [u8; 3] {
        let p = Pixmap::decode_png(png).unwrap().pixel(x, y).unwrap();
        [p.red(), p.green(), p.blue()]
    }

    #[test]
    fn everything_lands_where_it_should() {
        let mut s = Scene::new(100.0, 50.0, "test");
        s.rect([10.0, 10.0, 10.0, 10.0], Ink::Rgb(255, 0, 0));
        s.line((30.0, 20.0), (50.0, 20.0), Pen::new(Ink::Rgb(0, 0, 255), 4.0));
        s.items.push(Item::Points(vec![(60.0, 20.0)], Shape::Disc, 5.0, Ink::Rgb(0, 255, 0), 1.0));
        let squares = vec![[255, 0, 0], [0, 255, 0], [0, 0, 255], [0, 0, 0]];
        s.items.push(Item::Image([70.0, 10.0, 20.0, 20.0], 2, squares));
        s.text(10.0, 48.0, "HHHH", 20.0, Ink::Text, Anchor::Start);
        let png = s.png(2.0).unwrap();
        assert_eq!(pixel(&png, 30, 30), [255, 0, 0]);
        assert_eq!(pixel(&png, 80, 40), [0, 0, 255]);
        assert_eq!(pixel(&png, 120, 40), [0, 255, 0]);
        assert_eq!(
            [(145, 25), (175, 25), (145, 55)].map(|(x, y)| pixel(&png, x, y)),
            [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
        );
        assert_eq!(pixel(&png, 2, 2), [255, 255, 255]);
        let p = Pixmap::decode_png(&png).unwrap();
        assert_eq!((p.width(), p.height()), (200, 100));
        let dark = (20..120)
            .flat_map(|x| (68..98).map(move |y| (x, y)))
            .filter(|&(x, y)| p.pixel(x, y).is_some_and(|p| p.red() < 60));
        assert!(dark.count() > 300, "letters are drawn");
        assert!(s.png(400.0).unwrap_err().to_string().contains("40000 × 20000"));
        assert!(s.png(f32::NAN).is_err());
    }
}
