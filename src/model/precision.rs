//! How matrices are multiplied.

/// How matrices are multiplied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// As accurate as f32 (three TF32 products on tensor cores).
    #[default]
    F32,
    /// bf16 products, f32 sums. Devices only.
    Bf16,
}

impl Precision {
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Precision::F32 => "_f32",
            Precision::Bf16 => "_bf16",
        }
    }

    /// `f32` or `bf16`.
    pub fn name(self) -> &'static str {
        &self.suffix()[1..]
    }
}
