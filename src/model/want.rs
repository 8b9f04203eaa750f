//! What a pass is asked for beside the loss: translation, counts, attention, single nodes.

/// What a forward pass should bring back besides loss, logits and embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Want {
    /// The sparse attention of every sample.
    pub attention: bool,
    /// Predicted expression of every positive sample (label 1).
    pub translation: bool,
    /// The counts n_i behind it (implies `translation`).
    pub counts: bool,
    /// Node outputs r_i and p_j.
    pub nodes: bool,
    /// The choices made (see [`crate::model::Decisions`]).
    pub decisions: bool,
    /// What the cis term predicts of every positive sample.
    pub cis: bool,
}
