//! Pictures: one small drawing layer, written as SVG or as PNG, and what the program draws on it.
//!
//! A picture is a [`Scene`] in units of a CSS pixel, about 1,200 wide: dark on white, labelled axes with units, colours
//! that the colour-blind can tell apart ([`category`], [`ramp`]). PNG needs no fonts of the machine.
//!
//! ```
//! use sccrossrec::picture::{Scene, Theme, curves};
//! # let log: Vec<sccrossrec::train::EpochRecord> = vec![];
//! let scene: Scene = curves(&log, "first run");
//! let svg = scene.svg(Theme::White)?;
//! let png = scene.png(2.0)?; // two pixels a unit
//! # assert!(svg.starts_with("<svg") && png.starts_with(b"\x89PNG"));
//! # Ok::<(), sccrossrec::Error>(())
//! ```

pub(crate) mod arcs;
pub(crate) mod axis;
pub(crate) mod colour;
pub(crate) mod curves;
pub(crate) mod dotplot;
pub(crate) mod embedding;
pub(crate) mod font;
pub(crate) mod genome;
pub(crate) mod heat;
pub(crate) mod models;
pub(crate) mod png;
pub(crate) mod region;
pub(crate) mod scene;
pub(crate) mod svg;
pub(crate) mod tracks;
pub(crate) mod typemap;
pub(crate) mod umap;

use std::path::Path;

use crate::error::{Error, Result};

pub use arcs::{Arc, Arcs, arcs};
pub(crate) use axis::thousands;
pub use colour::{category, ramp};
pub use curves::curves;
pub use dotplot::dot_plot;
pub use embedding::embedding;
pub use font::Weight;
pub use genome::{Order, Place, karyotype};
pub use heat::{Heat, heat_map};
pub use region::region_picture;
pub use scene::{Anchor, Ink, Item, Label, Pen, SHAPES, Scene, Segment, Shape, fitted, text_width};
pub use svg::Theme;
pub(crate) use svg::{base64, escaped};
pub use tracks::{Smooth, Track, running, smooth, squashed, tracks};
pub use typemap::type_map;
pub use umap::{Colours, umap_plot};

/// A form of picture file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PictureForm {
    /// Vectors.
    Svg,
    /// Pixels.
    Png,
}

impl PictureForm {
    /// By the ending of a file name.
    ///
    /// # Errors
    /// Another ending than `.svg` and `.png`.
    pub fn of(path: &Path) -> Result<Self> {
        match path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase).as_deref() {
            Some("svg") => Ok(PictureForm::Svg),
            Some("png") => Ok(PictureForm::Png),
            _ => Err(Error::input(path, "names no form of picture", "end --out with .png or .svg")),
        }
    }

    /// The file's content; `scale` is pixels a unit of a PNG.
    ///
    /// # Errors
    /// A PNG of more than 16,384 pixels a side.
    pub fn write(self, scene: &Scene, scale: f32) -> Result<Vec<u8>> {
        match self {
            PictureForm::Svg => Ok(scene.svg(Theme::White)?.into_bytes()),
            PictureForm::Png => scene.png(scale),
        }
    }
}
