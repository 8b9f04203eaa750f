//! Distance bins of the mixture.

/// Upper ends of the distance bins of the mixture, in bases; then pairs beyond, then those of unknown distance.
pub const ENDS: [f64; 11] = [1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 3.5e5, 5e5, 1e6];
/// Distance bins of the mixture.
pub const EVIDENCE_BINS: usize = ENDS.len() + 2;
/// Most transcription starts nearer to the peak that are told apart.
pub const NEARER: usize = 8;

/// Bin of a distance in bases.
pub fn evidence_bin(distance: Option<f64>) -> usize {
    distance.map_or(EVIDENCE_BINS - 1, |d| ENDS.partition_point(|&end| end < d))
}
