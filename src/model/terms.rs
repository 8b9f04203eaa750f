//! Which parts of the loss, and which outputs, a batch needs.

/// What a program computes beside the matching.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Terms {
    /// The published translation.
    pub translate: bool,
    /// Its exact counts, as well.
    pub counts: bool,
    /// The cis term.
    pub cis: bool,
    /// The cis term from ATAC alone, as well.
    pub blind: bool,
    /// The contrastive term.
    pub contrast: bool,
}
