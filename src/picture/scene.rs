//! A drawing in units of a CSS pixel, independent of the form it is written in.

use super::font::{Font, Weight};

/// A colour, by its part in the picture or by value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ink {
    /// Text and axes.
    Text,
    /// Text and lines of less weight.
    Muted,
    /// Grid lines.
    Grid,
    /// Shading of every other band.
    Shade,
    /// Background.
    Paper,
    /// sRGB.
    Rgb(u8, u8, u8),
}

impl Ink {
    /// On white paper.
    pub fn rgb(self) -> [u8; 3] {
        match self {
            Ink::Text => [26, 26, 26],
            Ink::Muted => [90, 90, 90],
            Ink::Grid => [221, 221, 221],
            Ink::Shade => [243, 243, 243],
            Ink::Paper => [255, 255, 255],
            Ink::Rgb(r, g, b) => [r, g, b],
        }
    }
}

/// Where text sits relative to its point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// Begins there.
    Start,
    /// Centred.
    Middle,
    /// Ends there.
    End,
}

/// Shape of a marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A disc.
    Disc,
    /// A triangle on its base.
    Triangle,
    /// A square.
    Square,
    /// A square on its corner.
    Diamond,
    /// A plus sign.
    Plus,
    /// A triangle on its tip.
    Drop,
}

/// All shapes, in the order they are given out.
pub const SHAPES: [Shape; 6] = [Shape::Disc, Shape::Triangle, Shape::Square, Shape::Diamond, Shape::Plus, Shape::Drop];

impl Shape {
    /// Corners around (0, 0) for a radius of 1; none for the disc.
    pub(super) fn corners(self) -> &'static [(f32, f32)] {
        const T: f32 = 0.38;
        match self {
            Shape::Disc => &[],
            Shape::Triangle => &[(0.0, -1.25), (1.15, 0.8), (-1.15, 0.8)],
            Shape::Drop => &[(0.0, 1.25), (1.15, -0.8), (-1.15, -0.8)],
            Shape::Square => &[(-0.92, -0.92), (0.92, -0.92), (0.92, 0.92), (-0.92, 0.92)],
            Shape::Diamond => &[(0.0, -1.3), (1.3, 0.0), (0.0, 1.3), (-1.3, 0.0)],
            Shape::Plus => &[
                (-T, -1.3),
                (T, -1.3),
                (T, -T),
                (1.3, -T),
                (1.3, T),
                (T, T),
                (T, 1.3),
                (-T, 1.3),
                (-T, T),
                (-1.3, T),
                (-1.3, -T),
                (-T, -T),
            ],
        }
    }
}

/// A piece of a path.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Segment {
    /// Begins a line.
    Move(f32, f32),
    /// A straight line.
    Line(f32, f32),
    /// A cubic curve: two control points and the end.
    Cubic([f32; 6]),
    /// Back to the last beginning.
    Close,
}

/// How a line is drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pen {
    /// Colour.
    pub ink: Ink,
    /// Width.
    pub width: f32,
    /// Lengths of dash and gap.
    pub dash: Option<[f32; 2]>,
    /// 0 to 1.
    pub opacity: f32,
}

impl Pen {
    /// A solid line.
    pub fn new(ink: Ink, width: f32) -> Self {
        Pen { ink, width, dash: None, opacity: 1.0 }
    }

    /// With dashes.
    pub fn dashed(self, dash: f32, gap: f32) -> Self {
        Pen { dash: Some([dash, gap]), ..self }
    }

    /// Translucent.
    pub fn opacity(self, opacity: f32) -> Self {
        Pen { opacity, ..self }
    }
}

/// A line of text.
#[derive(Debug, Clone, PartialEq)]
pub struct Label {
    /// Point of the base line.
    pub x: f32,
    /// Point of the base line.
    pub y: f32,
    /// What it says.
    pub text: String,
    /// Height of the letters' em.
    pub size: f32,
    /// Colour.
    pub ink: Ink,
    /// Which part of it is at the point.
    pub anchor: Anchor,
    /// Bold?
    pub weight: Weight,
    /// Degrees, clockwise, about the point.
    pub turn: f32,
    /// With a rim of the paper's colour?
    pub halo: bool,
}

/// Something drawn.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// A filled rectangle: x, y, width, height.
    Rect([f32; 4], Ink),
    /// A path, filled (colour, opacity), drawn along, or both.
    Path(Vec<Segment>, Option<(Ink, f32)>, Option<Pen>),
    /// Markers of one shape, radius, colour and opacity.
    Points(Vec<(f32, f32)>, Shape, f32, Ink, f32),
    /// Text.
    Text(Label),
    /// Coloured squares, row by row from the top, over x, y, width, height.
    Image([f32; 4], usize, Vec<[u8; 3]>),
}

/// A picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Scene {
    /// Width.
    pub width: f32,
    /// Height.
    pub height: f32,
    /// What it shows, for those who cannot see it.
    pub title: String,
    /// In the order they are drawn.
    pub items: Vec<Item>,
}

impl Scene {
    /// An empty picture.
    pub fn new(width: f32, height: f32, title: impl Into<String>) -> Self {
        Scene { width, height, title: title.into(), items: Vec::new() }
    }

    /// A filled rectangle.
    pub fn rect(&mut self, [x, y, w, h]: [f32; 4], ink: Ink) {
        self.items.push(Item::Rect([x, y, w, h], ink));
    }

    /// A straight line.
    pub fn line(&mut self, from: (f32, f32), to: (f32, f32), pen: Pen) {
        self.items.push(Item::Path(vec![Segment::Move(from.0, from.1), Segment::Line(to.0, to.1)], None, Some(pen)));
    }

    /// A line through points.
    pub fn polyline(&mut self, points: &[(f32, f32)], pen: Pen) {
        if let Some((&first, rest)) = points.split_first() {
            let start = [Segment::Move(first.0, first.1)];
            let path = start.into_iter().chain(rest.iter().map(|p| Segment::Line(p.0, p.1))).collect();
            self.items.push(Item::Path(path, None, Some(pen)));
        }
    }

    /// A filled outline.
    pub fn area(&mut self, points: &[(f32, f32)], ink: Ink, opacity: f32) {
        if let Some((&first, rest)) = points.split_first() {
            let start = [Segment::Move(first.0, first.1)];
            let lines = rest.iter().map(|p| Segment::Line(p.0, p.1));
            let path = start.into_iter().chain(lines).chain([Segment::Close]).collect();
            self.items.push(Item::Path(path, Some((ink, opacity)), None));
        }
    }

    /// The rim of a rectangle.
    pub fn frame(&mut self, [x, y, w, h]: [f32; 4], pen: Pen) {
        let path = [(x + w, y), (x + w, y + h), (x, y + h)].map(|p| Segment::Line(p.0, p.1));
        let path = [Segment::Move(x, y)].into_iter().chain(path).chain([Segment::Close]).collect();
        self.items.push(Item::Path(path, None, Some(pen)));
    }

    /// Text of normal weight.
    pub fn text(&mut self, x: f32, y: f32, text: impl Into<String>, size: f32, ink: Ink, anchor: Anchor) {
        self.label(Label {
            x,
            y,
            text: text.into(),
            size,
            ink,
            anchor,
            weight: Weight::Regular,
            turn: 0.0,
            halo: false,
        });
    }

    /// Text, all settings by hand.
    pub fn label(&mut self, label: Label) {
        self.items.push(Item::Text(label));
    }

    /// The picture's heading, at the top left, and a line of less weight below it.
    pub fn heading(&mut self, x: f32, title: &str, below: &str) {
        let room = self.width - x - 16.0;
        self.label(Label {
            x,
            y: 34.0,
            text: fitted(title, 21.0, Weight::Medium, room),
            size: 21.0,
            ink: Ink::Text,
            anchor: Anchor::Start,
            weight: Weight::Medium,
            turn: 0.0,
            halo: false,
        });
        if !below.is_empty() {
            self.text(x, 56.0, fitted(below, 15.0, Weight::Regular, room), 15.0, Ink::Muted, Anchor::Start);
        }
    }
}

/// Width of a text.
pub fn text_width(text: &str, size: f32, weight: Weight) -> f32 {
    Font::of(weight).width(text, size)
}

/// The text, cut with an ellipsis where it is wider than `room`.
pub fn fitted(text: &str, size: f32, weight: Weight, room: f32) -> String {
    if text_width(text, size, weight) <= room {
        return text.to_string();
    }
    let mut kept: Vec<char> = text.chars().collect();
    while kept.pop().is_some() {
        let cut: String = kept.iter().collect::<String>() + "…";
        if text_width(&cut, size, weight) <= room {
            return cut;
        }
    }
    String::new()
}
