//! SIMD kernels of `translate`, f32 only. Each returns false where it does not apply, and the plain path runs.

use super::Mask;
use crate::real::Real;

#[allow(clippy::too_many_arguments)]
pub(super) fn masks<T: Real>(
    _q: &[T],
    _genes: usize,
    _ke: &[T],
    _h: usize,
    _head: usize,
    _slice: usize,
    _limit: T,
    _masks: &mut [Mask],
) -> bool {
    false
}

pub(super) fn slope<T: Real>(_tile: &mut [T], _gs: &[T]) -> bool {
    false
}
