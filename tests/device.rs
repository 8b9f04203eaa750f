//! The CUDA engine, run on the CPU: the same kernel sources, launched by the same code through a stand-in driver. Golden
//! files end to end, training steps equal to the CPU's, resume, failures of the driver.

#[path = "common/compare.rs"]
mod compare;
#[path = "common/golden.rs"]
mod golden;

use std::path::Path;
use std::sync::{Arc, OnceLock};

use compare::{Pass, check, deciding, vectors};
use golden::Golden;
use sccrossrec::device::gpu::Kernels;
use sccrossrec::device::{Engine, Gpu, Precision, host, registry};
use sccrossrec::model::{Run, Want};

/// The host-run device, with all kernels.
fn device() -> (Arc<Gpu>, Kernels) {
    static DEVICE: OnceLock<(Arc<Gpu>, Kernels)> = OnceLock::new();
    DEVICE
        .get_or_init(|| {
            host::install(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("host")).unwrap();
            let gpu = Gpu::open(0).unwrap();
            assert!(gpu.is_host());
            let kernels = registry::load(&gpu, &[]).unwrap();
            (gpu, kernels)
        })
        .clone()
}

fn engine(model: &sccrossrec::model::Model<f32>, precision: Precision) -> Engine {
    let (gpu, kernels) = device();
    Engine::new(gpu, kernels, model, precision).unwrap()
}

const WANT: Want = Want { attention: true, translation: true, counts: false, nodes: false, decisions: true };

fn all(g: &Golden) -> Vec<usize> {
    (0..g.usize("data.label").len()).collect()
}

#[test]
fn golden_files() {
    for g in vectors() {
        let model = g.model::<f32>();
        let (batch, orders) = g.batch(&model, &all(&g));
        let mut engine = engine(&model, Precision::F32);
        let output = engine.gradients(&batch, None, WANT).unwrap();
        let grads = engine.grads().unwrap();
        // Decisions may differ only near a limit; the oracle, told to decide likewise, then gives the numbers.
        let exact = g.model::<f64>();
        let (wide, _) = g.batch(&exact, &all(&g));
        let free = exact
            .run(&wide, Run { want: WANT, grads: Some(&mut vec![0.0; model.params.layout().len()]), ..Run::default() });
        let differing = deciding(&g, &free.unwrap().decisions.unwrap(), output.decisions.as_ref().unwrap());
        assert_eq!(differing, 0, "{}", g.name);
        let mut worst = 0.0;
        check(&g, &Pass { output, grads, orders }, 1e-4, &mut worst);
        println!("{:<22} device f32 worst {worst:.1e}", g.name);
    }
}
