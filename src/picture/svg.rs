//! A scene as SVG.

use std::fmt::Write;

use super::font::Weight;
use super::png::encode;
use super::scene::{Anchor, Ink, Item, Label, Pen, Scene, Segment, Shape};
use crate::error::Result;

/// Text of an XML document; what XML cannot hold becomes U+FFFD.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\t' | '\n' | '\r' => out.push(' '),
            '\0'..='\x1f' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// Base64 with padding.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let n = three.iter().enumerate().fold(0u32, |n, (i, &b)| n | u32::from(b) << (16 - 8 * i));
        for i in 0..4 {
            let letter = LETTERS[(n >> (18 - 6 * i)) as usize & 63];
            out.push(if i <= three.len() { char::from(letter) } else { '=' });
        }
    }
    out
}

/// A number to two decimals, as short as it goes.
fn short(x: f32) -> String {
    let s = format!("{x:.2}");
    let s = s.trim_end_matches('0').trim_end_matches('.');
    if s == "-0" || s.is_empty() { "0".into() } else { s.to_string() }
}

/// How colours are written: on white, or as CSS variables `--ink`, `--muted`, `--grid`, `--shade`, `--paper` of the page
/// around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Theme {
    /// For a file of its own.
    White,
    /// For a page with those variables.
    Page,
}

fn ink(ink: Ink, theme: Theme) -> String {
    let name = match (theme, ink) {
        (Theme::Page, Ink::Text) => "ink",
        (Theme::Page, Ink::Muted) => "muted",
        (Theme::Page, Ink::Grid) => "grid",
        (Theme::Page, Ink::Shade) => "shade",
        (Theme::Page, Ink::Paper) => "paper",
        _ => {
            let [r, g, b] = ink.rgb();
            return format!("#{r:02x}{g:02x}{b:02x}");
        }
    };
    format!("var(--{name})")
}

fn pen(p: &Pen, theme: Theme) -> String {
    let mut out = format!(r#" stroke="{}" stroke-width="{}""#, ink(p.ink, theme), short(p.width));
    if let Some([dash, gap]) = p.dash {
        let _ = write!(out, r#" stroke-dasharray="{} {}""#, short(dash), short(gap));
    }
    if p.opacity < 1.0 {
        let _ = write!(out, r#" stroke-opacity="{}""#, short(p.opacity));
    }
    out
}

fn path(segments: &[Segment]) -> String {
    let mut out = String::new();
    for s in segments {
        let _ = match s {
            Segment::Move(x, y) => write!(out, "M{} {}", short(*x), short(*y)),
            Segment::Line(x, y) => write!(out, "L{} {}", short(*x), short(*y)),
            Segment::Cubic(c) => write!(out, "C{}", c.map(short).join(" ")),
            Segment::Close => write!(out, "Z"),
        };
    }
    out
}

fn text(l: &Label, theme: Theme) -> String {
    let mut out = format!(r#"<text x="{}" y="{}" font-size="{}" fill="{}""#, short(l.x), short(l.y), short(l.size), {
        ink(l.ink, theme)
    });
    match l.anchor {
        Anchor::Start => {}
        Anchor::Middle => out += r#" text-anchor="middle""#,
        Anchor::End => out += r#" text-anchor="end""#,
    }
    if l.weight == Weight::Medium {
        out += r#" font-weight="500""#;
    }
    if l.turn != 0.0 {
        let _ = write!(out, r#" transform="rotate({} {} {})""#, short(l.turn), short(l.x), short(l.y));
    }
    if l.halo {
        let paper = ink(Ink::Paper, theme);
        let _ = write!(out, r#" stroke="{paper}" stroke-width="3.5" stroke-linejoin="round" paint-order="stroke""#);
    }
    let _ = writeln!(out, ">{}</text>", escaped(&l.text));
    out
}

impl Scene {
    /// As an SVG document (or element), `width` × `height` of its own size where it is a file, else as wide as its place.
    ///
    /// # Errors
    /// None but failures of ours.
    pub fn svg(&self, theme: Theme) -> Result<String> {
        let (w, h) = (short(self.width), short(self.height));
        let mut out = format!(r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}""#);
        if theme == Theme::White {
            let _ = write!(out, r#" width="{w}" height="{h}""#);
        }
        let title = escaped(&self.title);
        let _ = writeln!(
            out,
            r#" role="img" aria-label="{title}" font-family="Roboto, 'Helvetica Neue', Arial, 'Liberation Sans', sans-serif">"#
        );
        if theme == Theme::White {
            let _ = writeln!(out, r#"<title>{title}</title><rect width="{w}" height="{h}" fill="{}"/>"#, {
                ink(Ink::Paper, theme)
            });
        }
        for item in &self.items {
            match item {
                Item::Rect([x, y, w, h], i) => {
                    let _ = writeln!(
                        out,
                        r#"<rect x="{}" y="{}" width="{}" height="{}" fill="{}"/>"#,
                        short(*x),
                        short(*y),
                        short(*w),
                        short(*h),
                        ink(*i, theme)
                    );
                }
                Item::Path(segments, fill, stroke) => {
                    let fill = match fill {
                        None => r#" fill="none""#.to_string(),
                        Some((i, o)) if *o < 1.0 => {
                            format!(r#" fill="{}" fill-opacity="{}""#, ink(*i, theme), short(*o))
                        }
                        Some((i, _)) => format!(r#" fill="{}""#, ink(*i, theme)),
                    };
                    let stroke = stroke.as_ref().map_or(String::new(), |p| pen(p, theme));
                    let _ = writeln!(out, r#"<path d="{}"{fill}{stroke} stroke-linejoin="round"/>"#, path(segments));
                }
                Item::Points(points, shape, r, i, opacity) => {
                    let colour = ink(*i, theme);
                    let mut d = String::new();
                    for &(x, y) in points {
                        if *shape == Shape::Disc {
                            let _ = write!(d, "M{} {}h0", short(x), short(y));
                            continue;
                        }
                        for (k, (dx, dy)) in shape.corners().iter().enumerate() {
                            let letter = if k == 0 { 'M' } else { 'L' };
                            let _ = write!(d, "{letter}{} {}", short(x + dx * r), short(y + dy * r));
                        }
                        d.push('Z');
                    }
                    let _ = match shape {
                        Shape::Disc => writeln!(
                            out,
                            r#"<path d="{d}" fill="none" stroke="{colour}" stroke-width="{}" stroke-linecap="round" stroke-opacity="{}"/>"#,
                            short(2.0 * r),
                            short(*opacity)
                        ),
                        _ => writeln!(out, r#"<path d="{d}" fill="{colour}" fill-opacity="{}"/>"#, short(*opacity)),
                    };
                }
                Item::Text(l) => out += &text(l, theme),
                Item::Image([x, y, w, h], columns, colours) => {
                    let image = base64(&encode(*columns, colours)?);
                    let _ = writeln!(
                        out,
                        r#"<image x="{}" y="{}" width="{}" height="{}" preserveAspectRatio="none" image-rendering="pixelated" href="data:image/png;base64,{image}"/>"#,
                        short(*x),
                        short(*y),
                        short(*w),
                        short(*h)
                    );
                }
            }
        }
        out += "</svg>\n";
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_every_rest() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xff, 0xfe, 0xfd]), "//79");
    }

    #[test]
    fn names_are_text() {
        let mut s = Scene::new(10.0, 10.0, "a\"b");
        s.text(1.0, 2.0, "</text><script>\u{1}", 10.0, Ink::Text, Anchor::Start);
        let svg = s.svg(Theme::White).unwrap();
        assert!(
            svg.contains(">&lt;/text&gt;&lt;script&gt;\u{fffd}</text>") && svg.contains(r#"aria-label="a&quot;b""#)
        );
        assert!(svg.contains("#1a1a1a") && s.svg(Theme::Page).unwrap().contains("var(--ink)"));
        assert_eq!((short(-0.001), short(1.5), short(100.0)), ("0".into(), "1.5".into(), "100".into()));
    }
}
