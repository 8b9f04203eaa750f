//! The launch ABI: what `kernels/common/abi.h` says, for Rust. The build writes the constants and structs from that header
//! (`src/device/header.rs`), and both compilers assert that they lie in memory alike: see there.
#![allow(missing_docs)]

use std::marker::PhantomData;

/// A device address of numbers of type `T`. Says nothing of how many there are, nor whether they are alive: the arena
/// it came from does.
#[repr(transparent)]
pub struct Ptr<T>(pub u64, PhantomData<T>);

impl<T> Ptr<T> {
    /// The address 0, which optional fields take for "none".
    pub const NULL: Self = Ptr(0, PhantomData);

    /// An address.
    pub const fn new(address: u64) -> Self {
        Ptr(address, PhantomData)
    }

    /// `n` numbers further on.
    pub const fn add(self, n: usize) -> Self {
        Ptr(self.0 + (n * size_of::<T>()) as u64, PhantomData)
    }

    /// The same address, read as another type.
    pub const fn cast<U>(self) -> Ptr<U> {
        Ptr(self.0, PhantomData)
    }
}

impl<T> Clone for Ptr<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Ptr<T> {}

impl<T> Default for Ptr<T> {
    fn default() -> Self {
        Self::NULL
    }
}

impl<T> std::fmt::Debug for Ptr<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// A plain struct that a kernel takes by value.
///
/// # Safety
/// `Self` is `repr(C)`, has no padding that matters and is the argument struct of the kernels it is launched with.
#[allow(unsafe_code)]
pub unsafe trait Args: Copy + 'static {}

/// Name and size of a struct, and of each of its fields the name in C++ and the offset.
pub type Layout = (&'static str, usize, &'static [(&'static str, usize)]);

/// For every struct of the header: `Name: ["name in C++" name_in_rust, ...];`
macro_rules! args {
    ($($name:ident: [$($c:literal $field:ident),*];)*) => {
        $(
            // SAFETY: the `repr(C)` struct of that name in `abi.h`, without holes: the build has compared the layouts.
            #[allow(unsafe_code)]
            unsafe impl Args for $name {}
        )*

        /// How every struct lies in memory.
        pub const LAYOUTS: &[Layout] =
            &[$((stringify!($name), size_of::<$name>(), &[$(($c, std::mem::offset_of!($name, $field))),*]),)*];
    };
}

include!(concat!(env!("OUT_DIR"), "/abi.rs"));
