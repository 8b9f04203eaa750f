//! Where a picture goes.

use std::path::PathBuf;

use super::context::{Context, output_file};
use crate::error::Result;
use crate::files::atomic::write_atomic;
use crate::picture::{PictureForm, Scene};

/// Where to, and how fine.
#[derive(Debug, clap::Args)]
pub(super) struct Out {
    /// The picture
    #[arg(long, value_name = "F.png|F.svg")]
    pub(super) out: PathBuf,
    /// Replace --out if it exists
    #[arg(long)]
    pub(super) force: bool,
    /// Pixels a unit of a PNG, whose width is 1,200 units or more
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=8))]
    pub(super) scale: u8,
}

impl Out {
    /// Is the picture's name one that can be written?
    pub(super) fn check(&self) -> Result<PictureForm> {
        output_file(&self.out, self.force)?;
        PictureForm::of(&self.out)
    }

    /// Writes it, and says so.
    pub(super) fn write(&self, scene: &Scene, ctx: &Context) -> Result<()> {
        let form = self.check()?;
        let bytes = form.write(scene, f32::from(self.scale))?;
        write_atomic(&self.out, |out| std::io::Write::write_all(out, &bytes))?;
        let scale = if form == PictureForm::Png { f32::from(self.scale) } else { 1.0 };
        let (width, height) = (scene.width * scale, scene.height * scale);
        ctx.result(
            &format!("{width:.0} × {height:.0}, {} bytes: {}", bytes.len(), self.out.display()),
            &serde_json::json!({ "out": self.out, "bytes": bytes.len(), "width": width.round(), "height": height.round() }),
        );
        Ok(())
    }
}
