//! The number types the CPU ops are generic over: f32 (fast) and f64 (the oracle of the gradient checks).

use std::fmt::{Debug, Display};
use std::iter::Sum;
use std::ops::{AddAssign, DivAssign, MulAssign, SubAssign};

/// f32 or f64.
pub trait Real:
    faer::traits::ComplexField
    + num_traits::Float
    + AddAssign
    + SubAssign
    + MulAssign
    + DivAssign
    + Sum
    + Default
    + Debug
    + Display
    + Send
    + Sync
    + 'static
{
    /// Rounds (or widens) an f64.
    fn of(x: f64) -> Self;
    /// A small integer, exactly.
    fn small(x: u8) -> Self;
    /// Widens to f64.
    fn f64(self) -> f64;
    /// The slices as f32 if that is what they are: the door to the SIMD kernels.
    fn as_f32(x: &[Self]) -> Option<&[f32]>;
    /// As [`Real::as_f32`], mutable.
    fn as_f32_mut(x: &mut [Self]) -> Option<&mut [f32]>;
}

impl Real for f32 {
    #[inline(always)]
    fn of(x: f64) -> Self {
        x as f32
    }
    #[inline(always)]
    fn small(x: u8) -> Self {
        f32::from(x)
    }
    #[inline(always)]
    fn f64(self) -> f64 {
        f64::from(self)
    }
    #[inline(always)]
    fn as_f32(x: &[Self]) -> Option<&[f32]> {
        Some(x)
    }
    #[inline(always)]
    fn as_f32_mut(x: &mut [Self]) -> Option<&mut [f32]> {
        Some(x)
    }
}

impl Real for f64 {
    #[inline(always)]
    fn of(x: f64) -> Self {
        x
    }
    #[inline(always)]
    fn small(x: u8) -> Self {
        f64::from(x)
    }
    #[inline(always)]
    fn f64(self) -> f64 {
        self
    }
    #[inline(always)]
    fn as_f32(_: &[Self]) -> Option<&[f32]> {
        None
    }
    #[inline(always)]
    fn as_f32_mut(_: &mut [Self]) -> Option<&mut [f32]> {
        None
    }
}

/// 1 / (1 + exp(−x)).
pub(crate) fn sigmoid<T: Real>(x: T) -> T {
    T::of(1.0) / (T::of(1.0) + num_traits::Float::exp(-x))
}
