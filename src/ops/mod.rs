//! The ops of the model. Each states its contract, its shapes, its forward and its backward pass.

pub mod adam;
#[forbid(unsafe_code)]
pub mod attend;
#[forbid(unsafe_code)]
pub mod cis;
#[forbid(unsafe_code)]
pub mod contrast;
#[forbid(unsafe_code)]
pub mod head;
#[forbid(unsafe_code)]
pub mod losses;
#[forbid(unsafe_code)]
pub mod matmul;
pub mod pool;
pub mod project;
#[forbid(unsafe_code)]
pub mod registry;
#[forbid(unsafe_code)]
pub mod rows;
#[forbid(unsafe_code)]
pub mod tower;
pub mod translate;

use crate::device::op::Op;
use crate::device::region::Region;

/// All ops, in the order in which they are listed.
pub(crate) static ALL: &[&Op] = &[
    &project::cuda::OP,
    &attend::cuda::OP,
    &pool::cuda::OP,
    &head::cuda::OP,
    &contrast::cuda::OP,
    &cis::cuda::OP,
    &translate::cuda::OP,
    &adam::cuda::OP,
];

/// The op of that name.
pub(crate) fn find(name: &str) -> Option<&'static Op> {
    ALL.iter().copied().find(|op| op.name == name)
}

/// The regions of all ops.
pub(crate) fn regions() -> Vec<&'static [Region]> {
    ALL.iter().map(|op| op.regions).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_ops_have_one_name_place_or_kernel() {
        let all = |of: fn(&Op) -> Vec<String>| {
            let mut all: Vec<String> = ALL.iter().flat_map(|op| of(op)).collect();
            let n = all.len();
            all.sort();
            all.dedup();
            assert_eq!(all.len(), n, "{all:?}");
        };
        all(|op| vec![op.name.to_string()]);
        all(|op| op.turns.iter().map(|t| t.place.to_string()).collect());
        all(|op| op.entries().flat_map(|e| e.names()).collect());
        assert!(ALL.iter().flat_map(|op| op.turns).flat_map(|t| t.sums_by).all(|name| find(name).is_some()));
    }
}
