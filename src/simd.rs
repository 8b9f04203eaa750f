//! Run-time dispatch of plain loops: the same body compiled for AVX-512, AVX2 and the baseline.
//!
//! Bodies use separate multiplies and adds in a fixed order (no contraction), so every version gives the same bits.

use crate::real::Real;

/// Instruction sets the kernels are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// What every machine has.
    Scalar,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F, BW, DQ and VL.
    Avx512,
    /// The same with VNNI: products of 16-bit integers.
    Vnni,
}

/// The best instruction set of this machine; `SCCROSSREC_ISA` (`scalar`, `avx2`, `avx512`, `vnni`) may ask for a lesser one.
pub fn isa() -> Isa {
    static ISA: std::sync::OnceLock<Isa> = std::sync::OnceLock::new();
    *ISA.get_or_init(|| {
        let best = detect();
        let asked = match std::env::var("SCCROSSREC_ISA").as_deref() {
            Ok("scalar") => Isa::Scalar,
            Ok("avx2") => Isa::Avx2,
            Ok("avx512") => Isa::Avx512,
            _ => Isa::Vnni,
        };
        best.min(asked)
    })
}

#[cfg(target_arch = "x86_64")]
fn detect() -> Isa {
    let wide = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl");
    let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    match (wide && avx2, avx2) {
        (true, _) if is_x86_feature_detected!("avx512vnni") => Isa::Vnni,
        (true, _) => Isa::Avx512,
        (_, true) => Isa::Avx2,
        _ => Isa::Scalar,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn detect() -> Isa {
    Isa::Scalar
}

/// Defines a function whose body is compiled three times and chosen at run time.
macro_rules! vectorized {
    ($(#[$doc:meta])* $vis:vis fn $name:ident $(<$t:ident : $bound:path>)? ($($arg:ident : $ty:ty),* $(,)?) $body:block) => {
        $(#[$doc])*
        #[inline]
        #[allow(unsafe_code, clippy::too_many_arguments)]
        $vis fn $name $(<$t: $bound>)? ($($arg: $ty),*) {
            #[inline(always)]
            fn body $(<$t: $bound>)? ($($arg: $ty),*) $body
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2")]
            fn avx512 $(<$t: $bound>)? ($($arg: $ty),*) { body($($arg),*) }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2")]
            fn avx2 $(<$t: $bound>)? ($($arg: $ty),*) { body($($arg),*) }
            match $crate::simd::isa() {
                // SAFETY: `isa()` found these features on this machine.
                #[cfg(target_arch = "x86_64")]
                $crate::simd::Isa::Avx512 | $crate::simd::Isa::Vnni => unsafe { avx512($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::simd::Isa::Avx2 => unsafe { avx2($($arg),*) },
                _ => body($($arg),*),
            }
        }
    };
}

vectorized! {
    /// `out += w × x`, number by number.
    pub fn axpy<T: Real>(out: &mut [T], w: T, x: &[T]) {
        for (o, &x) in out.iter_mut().zip(x) {
            *o += w * x;
        }
    }
}

vectorized! {
    /// `out = Σ rows`, number by number, rows in order. Each row is as long as `out`.
    pub fn sum_rows<T: Real>(out: &mut [T], rows: &[&[T]]) {
        out.fill(T::of(0.0));
        for row in rows {
            for (o, &x) in out.iter_mut().zip(*row) {
                *o += x;
            }
        }
    }
}

vectorized! {
    /// `out += Σ w[i] × table[rows[i]]`, rows of the length of `out`, in order.
    pub fn gather_sum<T: Real>(out: &mut [T], w: &[T], table: &[T], stride: usize, rows: &[u32]) {
        for (&w, &r) in w.iter().zip(rows) {
            let row = &table[r as usize * stride..][..out.len()];
            for (o, &x) in out.iter_mut().zip(row) {
                *o += w * x;
            }
        }
    }
}

/// Dot product in 16 fixed lanes, so that the compiler may use vectors and the order is the same everywhere.
pub fn dot<T: Real>(a: &[T], b: &[T]) -> T {
    let mut lanes = [T::of(0.0); 16];
    let (ac, bc) = (a.chunks_exact(16), b.chunks_exact(16));
    let tail = ac.remainder().iter().zip(bc.remainder()).fold(T::of(0.0), |t, (&x, &y)| t + x * y);
    for (x, y) in ac.zip(bc) {
        for l in 0..16 {
            lanes[l] += x[l] * y[l];
        }
    }
    lanes.iter().fold(tail, |t, &l| t + l)
}

pub(crate) use vectorized;
