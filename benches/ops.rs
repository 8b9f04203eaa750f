//! Every op at NeurIPS-2021 shape (13,431 genes, 116,490 peaks, 1,000 and 4,000 a cell, binary ATAC), forward alone and
//! forward with backward, at batch 1 and 32, on the CPU: `cargo bench --bench ops`. The whole step is `--bench step`, the
//! kernels of a GPU are `--bench kernels`.

mod common;
#[path = "common/cpu.rs"]
mod cpu;

use std::time::Duration;

use criterion::Criterion;

fn main() {
    let mut c = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    let shape = common::NEURIPS;
    let (cells, model) = (common::Cells::new(&shape), common::model(&shape));
    for n in [1, 32] {
        cpu::ops(&mut c, &shape, &cells, &model, n, "");
    }
    cpu::adam(&mut c, &model, "step");
}
