//! Kernels: parity of every entry point of the registry with the CPU ops, and the verbs `kernels` and `doctor`, on the
//! host-run device.

use std::path::Path;

use sccrossrec::device::check::{Cases, check_ops};
use sccrossrec::device::{Gpu, Precision, host, registry};

#[test]
fn every_built_in_kernel_is_right() {
    host::install(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("host")).unwrap();
    let gpu = Gpu::open(0).unwrap();
    let kernels = registry::load(&gpu, &[]).unwrap();
    for precision in [Precision::F32, Precision::Bf16] {
        let report = check_ops(&gpu, &kernels, &registry::OPS, precision, Cases::Quick).unwrap();
        println!("{}", report.table());
        assert!(report.passed() && report.deterministic, "{}", report.table());
        for op in registry::OPS {
            assert!(report.rows.iter().any(|r| r.op == op), "{op} was not checked");
        }
    }
}
