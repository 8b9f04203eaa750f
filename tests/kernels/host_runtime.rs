//! CUDA kernels on the host: what the stand-in driver and its header promise, through unmodified cudarc. And tests of
//! the tester: kernels with mistakes must fail.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::common::program::one_test;
use cudarc::driver::sys::{self, CUgraphInstantiate_flags, CUresult, CUstreamCaptureMode};
use cudarc::driver::{
    CudaContext, CudaFunction, CudaModule, CudaSlice, CudaStream, DevicePtr, DeviceRepr, DriverError, LaunchConfig,
    PushKernelArg,
};
use cudarc::nvrtc::Ptx;
use sccrossrec::device::host;
use sccrossrec::device::host::HostCompiler;

const BASIC: &str = include_str!("basic.cu");
const TENSOR: &str = include_str!("tensor.cu");
const BROKEN: &str = include_str!("broken.cu");

fn cache() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("host-runtime")
}

/// The driver with the settings it begins with, one test at a time: settings and errors belong to the process.
struct Host {
    stream: Arc<CudaStream>,
    context: Arc<CudaContext>,
    _turn: MutexGuard<'static, ()>,
}

impl Host {
    fn new() -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(|e| e.into_inner());
        host::install(&cache()).unwrap();
        for name in ["SEED", "THREADS", "MEMORY", "FAIL_ALLOC_ABOVE", "FAIL_LAUNCH"] {
            assert!(host::configure(&format!("SCX_HOST_{name}"), None));
        }
        let context = CudaContext::new(0).unwrap();
        let stream = context.new_stream().unwrap();
        Host { stream, context, _turn: turn }
    }

    fn seed(&self, seed: u64) {
        host::configure("SCX_HOST_SEED", Some(&seed.to_string()));
    }

    fn module(&self, name: &str, source: &str) -> Arc<CudaModule> {
        self.compiled(&HostCompiler::find().unwrap(), name, source)
    }

    fn compiled(&self, compiler: &HostCompiler, name: &str, source: &str) -> Arc<CudaModule> {
        let path = compiler.kernel(&cache(), name, source, &[]).unwrap();
        self.context.load_module(Ptx::from_binary(host::image(&path))).unwrap()
    }

    fn address<T>(&self, slice: &CudaSlice<T>) -> u64 {
        slice.device_ptr(&self.stream).0
    }

    fn launch<A: DeviceRepr>(
        &self,
        f: &CudaFunction,
        grid: (u32, u32),
        block: (u32, u32, u32),
        shared: u32,
        args: A,
    ) -> Result<(), DriverError> {
        let config = LaunchConfig { grid_dim: (grid.0, grid.1, 1), block_dim: block, shared_mem_bytes: shared };
        // SAFETY: the arguments are those of the kernel, and its addresses are of live buffers that are large enough;
        // where a test gives others on purpose, the driver or the sanitizer takes note.
        unsafe { self.stream.launch_builder(f).arg(&args).launch(config) }.map(|_| ())
    }
}

/// Argument structs of the test kernels.
macro_rules! arguments {
    ($($name:ident { $($field:ident: $ty:ty),* })*) => {$(
        #[repr(C)]
        #[derive(Clone, Copy)]
        struct $name { $($field: $ty),* }
        // SAFETY: a plain struct, field by field that of the kernel file.
        unsafe impl DeviceRepr for $name {}
    )*};
}
arguments! {
    Sum { x: u64, sum: u64, n: u32 }
    Product { x: u64, y: u64, z: u64, m: u32, n: u32, k: u32 }
    TensorProduct { x: u64, y: u64, z: u64, m: u32, n: u32, k: u32, wait: u32 }
    Compact { x: u64, kept: u64, count: u64, n: u32 }
    Out { out: u64 }
    Scale { x: u64, by: f32, n: u32 }
    Convert { x: u64, out: u64, n: u32 }
    Broken { out: u64, fixed: u32 }
    Loop { out: u64, times: u32 }
}

#[track_caller]
fn fails<T: Debug>(result: Result<T, DriverError>, code: CUresult) {
    assert_eq!(result.map_err(|e| e.0).unwrap_err(), code);
}

/// Numbers between -1 and 1, always the same.
fn numbers(n: usize, seed: u32) -> Vec<f32> {
    (0..n as u32)
        .map(|i| {
            (i.wrapping_mul(2654435761).wrapping_add(seed.wrapping_mul(40503)) >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

#[test]
fn describes_itself() {
    let host = Host::new();
    assert_eq!(host.context.name().unwrap(), "sccrossrec host driver (CPU)");
    assert_eq!(host.context.compute_capability().unwrap(), (9, 0));
    assert_eq!(host.context.total_mem().unwrap(), 8 << 30);
    assert!(!host.context.has_async_alloc());
    let (free, total) = host.context.mem_get_info().unwrap();
    let _taken = host.stream.alloc_zeros::<u8>(1 << 20).unwrap();
    assert_eq!(host.context.mem_get_info().unwrap(), (free - (1 << 20), total));
    fails(CudaContext::new(1), CUresult::CUDA_ERROR_INVALID_DEVICE);
    let e = DriverError(CUresult::CUDA_ERROR_OUT_OF_MEMORY);
    assert_eq!(e.error_name().unwrap().to_str().unwrap(), "CUDA_ERROR_OUT_OF_MEMORY");
    assert!(format!("{e}").contains("out of memory"));
}

#[test]
fn sums_a_vector() {
    let host = Host::new();
    let f = host.module("basic.cu", BASIC).load_function("block_sum").unwrap();
    let n = 100_003;
    let x = host.stream.clone_htod(&numbers(n, 1)).unwrap();
    let want: f64 = numbers(n, 1).iter().map(|&v| f64::from(v)).sum();
    for seed in 0..4 {
        host.seed(seed);
        let sum = host.stream.alloc_zeros::<f32>(1).unwrap();
        let args = Sum { x: host.address(&x), sum: host.address(&sum), n: n as u32 };
        host.launch(&f, (37, 1), (256, 1, 1), 0, args).unwrap();
        let got = f64::from(host.stream.clone_dtoh(&sum).unwrap()[0]);
        assert!((got - want).abs() < 1e-2, "{got} {want}");
    }
}

#[test]
fn multiplies_in_dynamic_shared_memory() {
    let host = Host::new();
    let module = host.module("basic.cu", BASIC);
    let f = module.load_function("matmul").unwrap();
    // The launch shape is a symbol of the module.
    let mut shape = [0u8; 16];
    host.stream.memcpy_dtoh(&module.get_global("matmul_shape", &host.stream).unwrap(), &mut shape).unwrap();
    let shape: Vec<u32> = shape.chunks(4).map(|c| u32::from_le_bytes(c.try_into().unwrap())).collect();
    assert_eq!(shape, [256, 65536, 16, 16]);
    assert_eq!(f.max_threads_per_block().unwrap(), 256);

    let (m, n, k) = (50u32, 33u32, 21u32);
    let (x, y) = (numbers((m * k) as usize, 2), numbers((k * n) as usize, 3));
    let (dx, dy) = (host.stream.clone_htod(&x).unwrap(), host.stream.clone_htod(&y).unwrap());
    let z = host.stream.alloc_zeros::<f32>((m * n) as usize).unwrap();
    let args = Product { x: host.address(&dx), y: host.address(&dy), z: host.address(&z), m, n, k };
    let grid = (n.div_ceil(16), m.div_ceil(16));
    // More than 48 KiB must be asked for.
    fails(host.launch(&f, grid, (256, 1, 1), shape[1], args), CUresult::CUDA_ERROR_INVALID_VALUE);
    let most = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
    fails(f.set_attribute(most, 232449), CUresult::CUDA_ERROR_INVALID_VALUE);
    f.set_attribute(most, shape[1] as i32).unwrap();
    host.launch(&f, grid, (256, 1, 1), shape[1], args).unwrap();
    let got = host.stream.clone_dtoh(&z).unwrap();
    for i in 0..m {
        for j in 0..n {
            let want: f64 =
                (0..k).map(|q| f64::from(x[(i * k + q) as usize]) * f64::from(y[(q * n + j) as usize])).sum();
            assert!((f64::from(got[(i * n + j) as usize]) - want).abs() < 1e-5);
        }
    }
}

#[test]
fn refuses_impossible_launches() {
    let host = Host::new();
    let f = host.module("basic.cu", BASIC).load_function("scale").unwrap();
    let x = host.stream.clone_htod(&[1.0f32]).unwrap();
    let args = Scale { x: host.address(&x), by: 2.0, n: 1 };
    for (grid, block) in [
        ((0, 1), (128, 1, 1)),
        ((1, 1), (0, 1, 1)),
        ((1, 1), (1025, 1, 1)),
        ((1, 1), (256, 1, 1)),
        ((1, 70000), (1, 1, 1)),
    ] {
        fails(host.launch(&f, grid, block, 0, args), CUresult::CUDA_ERROR_INVALID_VALUE);
    }
    host.launch(&f, (1, 1), (128, 1, 1), 0, args).unwrap();
    assert_eq!(host.stream.clone_dtoh(&x).unwrap(), [2.0]);
    // Another compiler's output is not an image, and an unknown kernel is not found.
    fails(host.context.load_module(Ptx::from_src(".version 9.0")).map(|_| ()), CUresult::CUDA_ERROR_INVALID_IMAGE);
    let module = host.module("basic.cu", BASIC);
    fails(module.load_function("absent").map(|_| ()), CUresult::CUDA_ERROR_NOT_FOUND);
}

#[test]
fn compacts_with_votes() {
    let host = Host::new();
    let f = host.module("basic.cu", BASIC).load_function("compact").unwrap();
    let x: Vec<i32> = (0..10_000).map(|i| i * 7919 % 101 - 50).collect();
    let mut want: Vec<i32> = x.iter().copied().filter(|&v| v > 0).collect();
    want.sort_unstable();
    let dx = host.stream.clone_htod(&x).unwrap();
    for seed in [0, 5, 6] {
        host.seed(seed);
        let (kept, count) =
            (host.stream.alloc_zeros::<i32>(x.len()).unwrap(), host.stream.alloc_zeros::<u32>(1).unwrap());
        let args =
            Compact { x: host.address(&dx), kept: host.address(&kept), count: host.address(&count), n: x.len() as u32 };
        host.launch(&f, (40, 1), (256, 1, 1), 0, args).unwrap();
        let count = host.stream.clone_dtoh(&count).unwrap()[0] as usize;
        let mut got = host.stream.clone_dtoh(&kept).unwrap()[..count].to_vec();
        got.sort_unstable();
        assert_eq!(got, want);
    }
}

#[test]
fn collectives_give_what_cuda_says() {
    let host = Host::new();
    let f = host.module("basic.cu", BASIC).load_function("collectives").unwrap();
    for seed in [0, 1, 2] {
        host.seed(seed);
        let out = host.stream.alloc_zeros::<u32>(11 * 32).unwrap();
        host.launch(&f, (1, 1), (32, 1, 1), 0, Out { out: host.address(&out) }).unwrap();
        let got = host.stream.clone_dtoh(&out).unwrap();
        for lane in 0..32u32 {
            let at = |row: u32| got[(row * 32 + lane) as usize];
            assert_eq!(at(0), (lane & !7) + 5);
            assert_eq!(at(1), if lane % 16 < 3 { lane } else { lane - 3 });
            assert_eq!(at(2), if lane % 4 > 1 { lane } else { lane + 2 });
            assert_eq!(at(3), lane ^ 9);
            assert_eq!(at(4), (0..32).filter(|l| l % 3 == 0).map(|l| 1u32 << l).sum::<u32>());
            assert_eq!(at(5), 1);
            assert_eq!(at(6), (0..32).filter(|l| l / 7 == lane / 7).map(|l| 1u32 << l).sum::<u32>());
            assert_eq!(at(7), 31 * 16 + 31 + 1);
            assert_eq!(at(8), if lane < 16 { lane ^ 1 } else { 31 });
            assert_eq!(at(9), 7);
            assert_eq!(at(10), if lane < 8 { u32::MAX } else { 0 });
        }
    }
}

#[test]
fn barriers_count_and_threads_may_leave() {
    let host = Host::new();
    let f = host.module("basic.cu", BASIC).load_function("barriers").unwrap();
    for seed in [0, 1, 2] {
        host.seed(seed);
        let out = host.stream.alloc_zeros::<u32>(8).unwrap();
        host.launch(&f, (1, 1), (4, 8, 3), 0, Out { out: host.address(&out) }).unwrap();
        assert_eq!(host.stream.clone_dtoh(&out).unwrap(), [48, 1, 0, 40803, 63, 0, 0, 64]);
    }
}

#[test]
fn what_nobody_wrote_is_nan() {
    let host = Host::new();
    let f = host.module("basic.cu", BASIC).load_function("unwritten").unwrap();
    // SAFETY: the memory is read below to see what it holds; any bits are numbers.
    let fresh = unsafe { host.stream.alloc::<f32>(64) }.unwrap();
    assert!(host.stream.clone_dtoh(&fresh).unwrap().iter().all(|v| v.is_nan()));
    host::configure("SCX_HOST_THREADS", Some("1"));
    for _ in 0..2 {
        let out = host.stream.alloc_zeros::<u32>(64).unwrap();
        host.launch(&f, (4, 1), (32, 1, 1), 128, Out { out: host.address(&out) }).unwrap();
        assert_eq!(host.stream.clone_dtoh(&out).unwrap(), [u32::MAX; 64]);
    }
}

fn bf16(v: f32) -> u16 {
    half::bf16::from_f32(v).to_bits()
}

#[test]
fn tensor_products_match_a_double_loop() {
    let host = Host::new();
    let module = host.module("tensor.cu", TENSOR);
    let (m, n, k) = (48u32, 40u32, 64u32);
    let (x, y) = (numbers((m * k) as usize, 4), numbers((n * k) as usize, 5));
    let check = |got: &[f32], n: u32, k: u32, m: u32, round: &dyn Fn(f32) -> f64| {
        for i in 0..m {
            for j in 0..n {
                let want: f64 = (0..k).map(|q| round(x[(i * k + q) as usize]) * round(y[(j * k + q) as usize])).sum();
                let got = f64::from(got[(i * n + j) as usize]);
                assert!((got - want).abs() < 2e-6 * f64::from(k), "({i}, {j}): {got} {want}");
            }
        }
    };
    let product = module.load_function("product_bf16").unwrap();
    let (bx, by): (Vec<u16>, Vec<u16>) = (x.iter().map(|&v| bf16(v)).collect(), y.iter().map(|&v| bf16(v)).collect());
    let (dx, dy) = (host.stream.clone_htod(&bx).unwrap(), host.stream.clone_htod(&by).unwrap());
    for seed in [0, 3] {
        host.seed(seed);
        let z = host.stream.alloc_zeros::<f32>((m * n) as usize).unwrap();
        let args =
            |wait| TensorProduct { x: host.address(&dx), y: host.address(&dy), z: host.address(&z), m, n, k, wait };
        host.launch(&product, (n / 8, m / 16), (32, 1, 1), 1536, args(1)).unwrap();
        check(&host.stream.clone_dtoh(&z).unwrap(), n, k, m, &|v| half::bf16::from_f32(v).to_f64());
        // A copy nobody waits for never lands: every result is wrong.
        host.launch(&product, (n / 8, m / 16), (32, 1, 1), 1536, args(0)).unwrap();
        assert!(host.stream.clone_dtoh(&z).unwrap().iter().all(|v| v.is_nan()));
    }

    let product = module.load_function("product_tf32").unwrap();
    let (m, n) = (45, 37);
    let (dx, dy) = (host.stream.clone_htod(&x).unwrap(), host.stream.clone_htod(&y).unwrap());
    let z = host.stream.alloc_zeros::<f32>((m * n) as usize).unwrap();
    let args = TensorProduct { x: host.address(&dx), y: host.address(&dy), z: host.address(&z), m, n, k, wait: 1 };
    host.launch(&product, (n.div_ceil(8), m.div_ceil(16)), (32, 1, 1), 768, args).unwrap();
    let tf32 = |v: f32| f64::from(f32::from_bits((v.to_bits() + 0x1000) & 0xffff_e000));
    check(&host.stream.clone_dtoh(&z).unwrap(), n, k, m, &tf32);
}

#[test]
fn conversions_round_as_the_device() {
    let host = Host::new();
    let f = host.module("tensor.cu", TENSOR).load_function("convert").unwrap();
    let mut x = numbers(1000, 6);
    x.extend([
        0.0,
        -0.0,
        f32::from_bits(0x3f80_8000),
        f32::from_bits(0x3f81_8000),
        3.4028235e38,
        1e-40,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
    ]);
    let n = x.len();
    let (dx, out) = (host.stream.clone_htod(&x).unwrap(), host.stream.alloc_zeros::<u32>(2 * n + 128).unwrap());
    let args = Convert { x: host.address(&dx), out: host.address(&out), n: n as u32 };
    host.launch(&f, (1, 1), (32, 1, 1), 512, args).unwrap();
    let got = host.stream.clone_dtoh(&out).unwrap();
    for (i, &v) in x.iter().enumerate() {
        let (low, high) = (got[i] as u16, (got[i] >> 16) as u16);
        if v.is_nan() {
            assert_eq!((low, high, got[n + i]), (0x7fff, 0x7fff, 0x7fff_ffff));
            continue;
        }
        assert_eq!((low, high), (bf16(v), bf16(-v)), "{v}");
        assert_eq!(got[n + i], (v.to_bits() + 0x1000) & 0xffff_e000);
    }
    for lane in 0..32 {
        for m in 0..4 {
            let (row, column) = (m % 2 * 8 + lane % 4 * 2, m / 2 * 8 + lane / 4);
            assert_eq!(got[2 * n + m * 32 + lane], (((row + 1) * 16 + column) << 16 | (row * 16 + column)) as u32);
        }
    }
}

#[test]
fn graphs_replay_with_the_arguments_they_were_captured_with() {
    let host = Host::new();
    // SAFETY: the buffers of this test are used on one stream only.
    unsafe { host.context.disable_event_tracking() };
    let f = host.module("basic.cu", BASIC).load_function("scale").unwrap();
    let mut x = host.stream.clone_htod(&[1.0f32, 2.0, 3.0]).unwrap();
    let mut y = host.stream.alloc_zeros::<f32>(3).unwrap();
    let start = || host.stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).unwrap();
    start();
    assert_eq!(host.stream.capture_status().unwrap(), sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_ACTIVE);
    for by in [2.0, 5.0] {
        let args = Scale { x: host.address(&x), by, n: 3 };
        host.launch(&f, (1, 1), (128, 1, 1), 0, args).unwrap();
    }
    host.stream.memcpy_dtod(&x, &mut y).unwrap();
    host.stream.memset_zeros(&mut x.slice_mut(0..1)).unwrap();
    let graph = host.stream.end_capture(CUgraphInstantiate_flags(0)).unwrap().unwrap();
    assert_eq!(host.stream.clone_dtoh(&x).unwrap(), [1.0, 2.0, 3.0]);

    let mut nodes = 0;
    // SAFETY: no array is given, so that the number of nodes comes back.
    let counted = unsafe { sys::cuGraphGetNodes(graph.cu_graph(), std::ptr::null_mut(), &mut nodes) };
    assert_eq!((counted, nodes), (CUresult::CUDA_SUCCESS, 4));
    let before = host::counters().unwrap();
    graph.upload().unwrap();
    graph.launch().unwrap();
    graph.launch().unwrap();
    let after = host::counters().unwrap();
    assert_eq!((after.launches - before.launches, after.graph_launches - before.graph_launches), (4, 2));
    assert_eq!((after.allocations, after.synchronisations), (before.allocations, before.synchronisations));
    assert_eq!(host.stream.clone_dtoh(&x).unwrap(), [0.0, 200.0, 300.0]);
    assert_eq!(host.stream.clone_dtoh(&y).unwrap(), [0.0, 200.0, 300.0]);
    host.stream.memcpy_htod(&[7.0], &mut x.slice_mut(0..1)).unwrap();
    graph.launch().unwrap();
    assert_eq!(host.stream.clone_dtoh(&y).unwrap(), [70.0, 2000.0, 3000.0]);

    // What waits or allocates ends a capture.
    for wrong in 0..4 {
        start();
        let code = match wrong {
            0 => host.stream.synchronize().unwrap_err(),
            1 => host.stream.alloc_zeros::<f32>(8).unwrap_err(),
            2 => host.context.synchronize().unwrap_err(),
            _ => host.stream.memcpy_htod(&[1.0], &mut x.slice_mut(0..1)).unwrap_err(),
        };
        assert_eq!(code.0, CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
        let ended = host.stream.end_capture(CUgraphInstantiate_flags(0)).map(|_| ());
        fails(ended, CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    }
    host.stream.synchronize().unwrap();
}

#[test]
fn captures_follow_events_to_other_streams() {
    let host = Host::new();
    // SAFETY: the streams are ordered by hand.
    unsafe { host.context.disable_event_tracking() };
    let other = host.context.new_stream().unwrap();
    let mut x = host.stream.clone_htod(&[1.0f32; 4]).unwrap();
    let mut y = host.stream.clone_htod(&[1.0f32; 4]).unwrap();
    let outside = host.stream.record_event(None).unwrap();
    for join in [true, false] {
        host.stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED).unwrap();
        let fork = host.stream.record_event(None).unwrap();
        fails(fork.synchronize(), CUresult::CUDA_ERROR_CAPTURED_EVENT);
        other.wait(&fork).unwrap();
        other.memset_zeros(&mut y).unwrap();
        host.stream.memset_zeros(&mut x).unwrap();
        if join {
            host.stream.wait(&other.record_event(None).unwrap()).unwrap();
            let graph = host.stream.end_capture(CUgraphInstantiate_flags(0)).unwrap().unwrap();
            assert_eq!(host.stream.clone_dtoh(&y).unwrap(), [1.0; 4]);
            graph.launch().unwrap();
            assert_eq!(host.stream.clone_dtoh(&x).unwrap(), [0.0; 4]);
            assert_eq!(host.stream.clone_dtoh(&y).unwrap(), [0.0; 4]);
        } else {
            let ended = host.stream.end_capture(CUgraphInstantiate_flags(0)).map(|_| ());
            fails(ended, CUresult::CUDA_ERROR_STREAM_CAPTURE_UNJOINED);
        }
    }
    host.stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED).unwrap();
    fails(host.stream.wait(&outside), CUresult::CUDA_ERROR_STREAM_CAPTURE_ISOLATION);
    assert!(host.stream.end_capture(CUgraphInstantiate_flags(0)).is_err());
}

#[test]
fn events_tell_time() {
    let host = Host::new();
    let f = host.module("basic.cu", BASIC).load_function("barrier_loop").unwrap();
    let out = host.stream.alloc_zeros::<u32>(8).unwrap();
    let flags = Some(sys::CUevent_flags::CU_EVENT_DEFAULT);
    let start = host.stream.record_event(flags).unwrap();
    host.launch(&f, (8, 1), (256, 1, 1), 0, Loop { out: host.address(&out), times: 100 }).unwrap();
    let end = host.stream.record_event(flags).unwrap();
    host.stream.wait(&end).unwrap();
    assert!(end.is_complete());
    assert!(start.elapsed_ms(&end).unwrap() > 0.0);
    let untimed = host.stream.record_event(None).unwrap();
    fails(start.elapsed_ms(&untimed), CUresult::CUDA_ERROR_INVALID_HANDLE);
}

#[test]
fn memory_is_counted_bounded_and_checked() {
    let host = Host::new();
    host::configure("SCX_HOST_MEMORY", Some("1000000"));
    let before = host::counters().unwrap();
    let held = host.stream.alloc_zeros::<u8>(600_000).unwrap();
    fails(host.stream.alloc_zeros::<u8>(600_000), CUresult::CUDA_ERROR_OUT_OF_MEMORY);
    drop(held);
    let mut held = host.stream.alloc_zeros::<u8>(600_000).unwrap();
    host::configure("SCX_HOST_FAIL_ALLOC_ABOVE", Some("1000"));
    fails(host.stream.alloc_zeros::<u8>(1001), CUresult::CUDA_ERROR_OUT_OF_MEMORY);
    host.stream.alloc_zeros::<u8>(1000).unwrap();
    let after = host::counters().unwrap();
    assert_eq!((after.allocations - before.allocations, after.frees - before.frees), (3, 2));
    assert_eq!((after.bytes - before.bytes, after.peak_bytes >= 601_000), (600_000, true));
    // Copies stay inside one allocation.
    let address = host.address(&held);
    // SAFETY: the driver refuses the call.
    let past = unsafe { sys::cuMemsetD8Async(address + 1, 0, 600_000, host.stream.cu_stream()) };
    assert_eq!(past, CUresult::CUDA_ERROR_INVALID_VALUE);
    // SAFETY: as above.
    assert_eq!(unsafe { sys::cuMemFree_v2(address + 256) }, CUresult::CUDA_ERROR_INVALID_VALUE);

    // Pinned memory does not make the host wait; other memory does.
    // SAFETY: every item is written below before it is read.
    let mut pinned = unsafe { host.context.alloc_pinned::<u8>(600_000) }.unwrap();
    pinned.as_mut_slice().unwrap().fill(3);
    let before = host::counters().unwrap();
    host.stream.memcpy_htod(&pinned, &mut held).unwrap();
    host.stream.memcpy_dtoh(&held, &mut pinned).unwrap();
    assert_eq!(host::counters().unwrap().synchronisations, before.synchronisations);
    assert_eq!(host.stream.clone_dtoh(&held).unwrap(), vec![3; 600_000]);
    assert_eq!(host::counters().unwrap().synchronisations, before.synchronisations + 1);
    // A fill of four-byte items.
    // SAFETY: the range lies in the buffer.
    let filled = unsafe { sys::cuMemsetD32Async(address, 0x0102_0304, 2, host.stream.cu_stream()) };
    assert_eq!(filled, CUresult::CUDA_SUCCESS);
    assert_eq!(host.stream.clone_dtoh(&held).unwrap()[..9], [4, 3, 2, 1, 4, 3, 2, 1, 3]);
}

#[test]
fn a_failed_launch_kills_the_context_until_it_is_released() {
    let mut host = Host::new();
    for round in 0..2 {
        let f = host.module("basic.cu", BASIC).load_function("scale").unwrap();
        let x = host.stream.clone_htod(&[1.0f32]).unwrap();
        let args = Scale { x: host.address(&x), by: 2.0, n: 1 };
        host::configure("SCX_HOST_FAIL_LAUNCH", Some("2"));
        host.launch(&f, (1, 1), (128, 1, 1), 0, args).unwrap();
        assert_eq!(host.stream.clone_dtoh(&x).unwrap(), [2.0]);
        fails(host.launch(&f, (1, 1), (128, 1, 1), 0, args), CUresult::CUDA_ERROR_LAUNCH_FAILED);
        fails(host.stream.synchronize(), CUresult::CUDA_ERROR_LAUNCH_FAILED);
        fails(host.stream.clone_dtoh(&x), CUresult::CUDA_ERROR_LAUNCH_FAILED);
        assert!(host::last_failure().unwrap().contains("kernel scale: failed on purpose"), "round {round}");
        drop((f, x));
        host = again(host);
    }
}

/// The driver after an error: everything of the old context must be dropped by now.
fn again(host: Host) -> Host {
    drop(host);
    Host::new()
}

/// The line of broken.cu with this mistake.
fn line_of(mistake: &str) -> usize {
    1 + BROKEN.lines().position(|l| l.ends_with(&format!("  // the mistake: {mistake}"))).unwrap()
}

/// Runs a kernel of broken.cu on 64 numbers (NaN before), mended or not, under a seed.
fn broken(host: &Host, name: &str, seed: u64, fixed: bool) -> Result<Vec<f32>, DriverError> {
    host.seed(seed);
    let module = host.module("broken.cu", BROKEN);
    let threads = module.get_global(&format!("{name}_shape"), &host.stream).map(|g| {
        let mut shape = [0u8; 16];
        host.stream.memcpy_dtoh(&g, &mut shape).unwrap();
        [u32::from_le_bytes(shape[..4].try_into().unwrap()), u32::from_le_bytes(shape[4..8].try_into().unwrap())]
    })?;
    let f = module.load_function(name)?;
    // SAFETY: what the kernel leaves unwritten is NaN.
    let out = unsafe { host.stream.alloc::<f32>(64) }?;
    let args = Broken { out: host.address(&out), fixed: fixed.into() };
    host.launch(&f, (1, 1), (threads[0], 1, 1), threads[1], args)?;
    host.stream.clone_dtoh(&out)
}

#[test]
fn a_missing_barrier_gives_wrong_results() {
    let host = Host::new();
    for (name, n) in [("missing_barrier", 64), ("missing_syncwarp", 32)] {
        let want: Vec<f32> = (0..n).map(|i| (n - 1 - i) as f32).collect();
        let mut wrong = 0;
        for seed in 0..16 {
            assert_eq!(broken(&host, name, seed, true).unwrap()[..n], want, "{name} {seed}");
            wrong += usize::from(broken(&host, name, seed, false).unwrap()[..n] != want);
        }
        assert_eq!(wrong, 16, "{name}: seen under every seed");
    }
}

#[test]
fn divergence_is_an_error_not_a_hang() {
    let mut host = Host::new();
    let cases = [
        ("divergent_barrier", "divergent barrier: thread"),
        ("unreached_barrier", "no thread can go on"),
        ("mixed_collectives", "different collectives"),
        ("own_mask", "with mask 0x7fffffff, which leaves it out"),
        ("behind_shared", "wrote behind the 64 bytes of dynamic shared memory"),
    ];
    for (name, message) in cases {
        for seed in [0, 1] {
            broken(&host, name, seed, true).unwrap_or_else(|e| panic!("{name} {seed}: {e} {:?}", host::last_failure()));
            fails(broken(&host, name, seed, false), CUresult::CUDA_ERROR_LAUNCH_FAILED);
            let failure = host::last_failure().unwrap();
            assert!(failure.contains(&format!("kernel {name}: block (0, 0, 0)")), "{failure}");
            assert!(failure.contains(message), "{failure}");
            host = again(host);
        }
    }
    // States of the threads, and where in the file they are.
    let line = line_of("unreached");
    fails(broken(&host, "unreached_barrier", 0, false), CUresult::CUDA_ERROR_LAUNCH_FAILED);
    let failure = host::last_failure().unwrap();
    assert!(failure.contains(&format!("thread 0-15: wait at __syncthreads (broken.cu:{line})")), "{failure}");
    assert!(failure.contains("thread 16-31: wait at __syncwarp"), "{failure}");
    host = again(host);
    broken(&host, "behind_global", 0, true).unwrap();
    fails(broken(&host, "behind_global", 0, false), CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
    assert!(host::last_failure().unwrap().contains("a thread wrote behind an allocation of 256 bytes"));
    again(host);
}

#[test]
fn faults_end_the_launch_not_the_process() {
    let mut host = Host::new();
    let cases = [
        ("wild_pointer", CUresult::CUDA_ERROR_ILLEGAL_ADDRESS, "thread (7, 0, 0) reads or writes address 0x1c"),
        ("division_by_zero", CUresult::CUDA_ERROR_LAUNCH_FAILED, "thread (0, 0, 0) divided an integer by zero"),
        ("deep_stack", CUresult::CUDA_ERROR_ILLEGAL_ADDRESS, "more local variables than its stack holds"),
    ];
    for round in 0..2 {
        for (name, code, message) in cases {
            if name != "deep_stack" {
                broken(&host, name, round, true).unwrap();
            }
            fails(broken(&host, name, 0, false), code);
            let failure = host::last_failure().unwrap();
            assert!(failure.contains(message), "{failure}");
            host = again(host);
        }
    }
}

#[test]
fn compile_errors_name_the_line() {
    let _host = Host::new();
    let source = "#include \"common/cuda.h\"\nstruct A { int* x; };\nSCX_KERNEL(k, A, 32, 0, 1, 1) { a.y[0] = 1; }\n";
    let e = HostCompiler::find().unwrap().kernel(&cache(), "wrong.cu", source, &[]).unwrap_err();
    let text = e.to_string();
    assert!(text.starts_with("wrong.cu: 3:") && text.contains("error:") && text.contains("y"), "{text}");
    assert_eq!(e.exit_code(), 2);
    let log = text.split('(').next_back().unwrap().split(" has all").next().unwrap();
    assert!(std::fs::read_to_string(log).unwrap().contains("wrong.cu:3:"), "{text}");
}

#[test]
fn kernels_include_what_they_are_given() {
    let host = Host::new();
    let source = "#include \"common/cuda.h\"\n#include \"common/extra.h\"\n\
                  SCX_KERNEL(k, A, 32, 0, 1, 1) { if (threadIdx.x == 0) *a.x = VALUE; }\n";
    for value in [3, 4] {
        let extra = format!("struct A {{ int* x; }};\n#define VALUE {value}\n");
        let includes = [("common/extra.h", extra.as_str())];
        let path = HostCompiler::find().unwrap().kernel(&cache(), "with extra.cu", source, &includes).unwrap();
        let f = host.context.load_module(Ptx::from_binary(host::image(&path))).unwrap().load_function("k").unwrap();
        let x = host.stream.alloc_zeros::<i32>(1).unwrap();
        host.launch(&f, (1, 1), (32, 1, 1), 0, Out { out: host.address(&x) }).unwrap();
        assert_eq!(host.stream.clone_dtoh(&x).unwrap(), [value]);
    }
}

/// In a child process of [`the_sanitizer_names_the_line`]: runs one kernel under AddressSanitizer.
#[test]
fn sanitized_child() {
    let Ok(case) = std::env::var("SCX_TEST_SANITIZED") else { return };
    let (name, fixed) = case.split_once(' ').unwrap();
    let host = Host::new();
    let compiler = HostCompiler::find().unwrap().sanitize(true);
    let broken = host.compiled(&compiler, "broken.cu", BROKEN).load_function(name).ok();
    if let Some(f) = broken {
        let threads = f.max_threads_per_block().unwrap() as u32;
        for seed in [0, 1] {
            host.seed(seed);
            let out = host.stream.alloc_zeros::<f32>(64).unwrap();
            let args = Broken { out: host.address(&out), fixed: fixed.parse().unwrap() };
            host.launch(&f, (1, 1), (threads, 1, 1), 64, args).unwrap();
        }
    } else {
        let f = host.compiled(&compiler, "basic.cu", BASIC).load_function(name).unwrap();
        for seed in [0, 1] {
            host.seed(seed);
            let x = host.stream.clone_htod(&numbers(5000, 1)).unwrap();
            let sum = host.stream.alloc_zeros::<f32>(1).unwrap();
            let args = Sum { x: host.address(&x), sum: host.address(&sum), n: 5000 };
            host.launch(&f, (9, 1), (256, 1, 1), 0, args).unwrap();
        }
    }
    println!("finished {case}");
}

#[test]
fn the_sanitizer_names_the_line() {
    let _host = Host::new();
    let Some(library) = HostCompiler::find().unwrap().sanitizer() else {
        println!("skipped: the compiler has no shared AddressSanitizer");
        return;
    };
    let run = |case: &str| {
        let out = one_test(module_path!(), "sanitized_child")
            .env("SCX_TEST_SANITIZED", case)
            .env("LD_PRELOAD", &library)
            .env("ASAN_OPTIONS", "detect_leaks=0:detect_stack_use_after_return=0")
            .output()
            .unwrap();
        String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
    };
    let cases = [
        ("behind_global", "heap-buffer-overflow", line_of("global")),
        ("behind_static", "global-buffer-overflow", line_of("static")),
        ("behind_shared", "use-after-poison", line_of("dynamic")),
        ("misaligned", "misaligned address", line_of("vector")),
    ];
    for (name, what, line) in cases {
        let text = run(&format!("{name} 1"));
        assert!(text.contains(&format!("finished {name} 1")), "{text}");
        let text = run(&format!("{name} 0"));
        assert!(text.contains(what) && text.contains(&format!("broken.cu:{line}")), "{text}");
    }
    for name in ["block_sum", "missing_barrier"] {
        let text = run(&format!("{name} 1"));
        assert!(text.contains(&format!("finished {name} 1")), "{text}");
    }
}

/// `cargo test --release --test kernels host_runtime::speed -- --ignored --nocapture` shows how fast the host runs kernels.
#[test]
#[ignore = "a measurement"]
fn speed() {
    let host = Host::new();
    let module = host.module("basic.cu", BASIC);
    let time = |what: &str, per: f64, unit: &str, run: &dyn Fn()| {
        run();
        let start = std::time::Instant::now();
        run();
        println!("{what}: {:.1} {unit}", start.elapsed().as_secs_f64() / per);
    };
    for threads in ["1", "0"] {
        host::configure("SCX_HOST_THREADS", if threads == "0" { None } else { Some(threads) });
        println!("workers: {}", if threads == "0" { "one a core" } else { threads });
        for seed in [0, 1] {
            host.seed(seed);
            println!("seed {seed}");
            let n = 1u32 << 22;
            let x = host.stream.alloc_zeros::<f32>(n as usize).unwrap();
            let f = module.load_function("scale").unwrap();
            time("a thread that never waits", f64::from(n) * 1e-9, "ns", &|| {
                host.launch(&f, (n / 128, 1), (128, 1, 1), 0, Scale { x: host.address(&x), by: 1.0, n }).unwrap();
            });
            time("a launch of one block", 1000.0 * 1e-6, "us", &|| {
                for _ in 0..1000 {
                    host.launch(&f, (1, 1), (128, 1, 1), 0, Scale { x: host.address(&x), by: 1.0, n: 128 }).unwrap();
                }
            });
            for name in ["barrier_loop", "shuffle_loop"] {
                let f = module.load_function(name).unwrap();
                time(&format!("{name}, a thread and turn"), 64.0 * 256.0 * 200.0 * 1e-9, "ns", &|| {
                    host.launch(&f, (64, 1), (256, 1, 1), 0, Loop { out: host.address(&x), times: 200 }).unwrap();
                });
            }
            let f = host.module("tensor.cu", TENSOR).load_function("product_bf16").unwrap();
            let (m, k) = (256, 256);
            let y = host.stream.alloc_zeros::<u16>(m * k).unwrap();
            let z = host.stream.alloc_zeros::<f32>(m * m).unwrap();
            let args = TensorProduct {
                x: host.address(&y),
                y: host.address(&y),
                z: host.address(&z),
                m: m as u32,
                n: m as u32,
                k: k as u32,
                wait: 1,
            };
            let start = std::time::Instant::now();
            host.launch(&f, (m as u32 / 8, m as u32 / 16), (32, 1, 1), 1536, args).unwrap();
            let flops = 2.0 * (m * m * k) as f64;
            println!("product_bf16: {:.2} GFLOP/s", flops / start.elapsed().as_secs_f64() * 1e-9);
        }
    }
}
