//! A GPU as the engine sees it: one primary context, a stream that computes and one that copies, raw device memory,
//! pinned host memory, events, modules and kernels. Everything the driver can refuse comes back as an [`Error`].
//!
//! One stream policy: kernels run on `compute`, uploads on `copy`; events order the two. cudarc's own event tracking is
//! switched off before anything is allocated.

use std::collections::HashMap;
use std::sync::Arc;

use cudarc::driver::{
    CudaContext, CudaEvent, CudaFunction, CudaGraph, CudaModule, CudaStream, DriverError, result, sys,
};
use cudarc::nvrtc::Ptx;

use super::abi::{Args, LaunchShape};
use crate::error::{Error, Result};

/// What the host-run driver calls its device.
const HOST_NAME: &str = "sccrossrec host driver";

/// An error of the driver while `doing` something.
pub(crate) fn driver(doing: impl std::fmt::Display) -> impl FnOnce(DriverError) -> Error {
    move |e| {
        let name = e.error_name().ok().and_then(|n| n.to_str().ok()).unwrap_or("unknown error").to_string();
        let text = e.error_string().ok().and_then(|n| n.to_str().ok()).unwrap_or("").to_string();
        let saved = "try again; `sccrossrec doctor` tells how the device is".to_string();
        Error::Device { doing: doing.to_string(), code: e.0 as u32, name, text, saved }
    }
}

/// One device.
#[derive(Debug)]
pub struct Gpu {
    context: Arc<CudaContext>,
    compute: Arc<CudaStream>,
    copy: Arc<CudaStream>,
    name: String,
    capability: (i32, i32),
}

/// Is there a driver library on this machine?
#[allow(unsafe_code)]
pub fn driver_present() -> bool {
    // SAFETY: loads the library and drops it again; its initialisers are the driver's own.
    unsafe { sys::is_culib_present() }
}

/// The newest CUDA version that the driver knows, as (major, minor). The driver must be there.
#[allow(unsafe_code)]
pub fn driver_version() -> Option<(i32, i32)> {
    let mut version = 0;
    // SAFETY: writes one number; the library was found by `driver_present`.
    let said = driver_present().then(|| unsafe { sys::cuDriverGetVersion(&mut version) })?;
    (said == sys::CUresult::CUDA_SUCCESS).then_some((version / 1000, version % 1000 / 10))
}

/// How many devices the driver has; none without a driver.
pub fn device_count() -> usize {
    if !driver_present() || result::init().is_err() {
        return 0;
    }
    CudaContext::device_count().map_or(0, |n| n as usize)
}

impl Gpu {
    /// Opens device number `ordinal`.
    ///
    /// # Errors
    /// [`Error::Usage`] with what is missing: no driver library, no device, no device of that number.
    #[allow(unsafe_code)]
    pub fn open(ordinal: usize) -> Result<Arc<Self>> {
        if !driver_present() {
            return Err(Error::usage(format!(
                "--device cuda:{ordinal}: there is no NVIDIA driver here (libcuda.so.1 is not to be found); install one, or \
                 use --device cpu"
            )));
        }
        let none = |e: DriverError| {
            Error::usage(format!(
                "--device cuda:{ordinal}: the driver finds no device ({}); use --device cpu",
                name_of(e)
            ))
        };
        result::init().map_err(none)?;
        let count = CudaContext::device_count().map_err(none)?;
        if ordinal >= count as usize {
            return Err(Error::usage(format!(
                "--device cuda:{ordinal}: there {} {count} device{}, numbered from 0; choose another",
                if count == 1 { "is" } else { "are" },
                if count == 1 { "" } else { "s" },
            )));
        }
        let at = |what: &'static str| driver(format!("open device {ordinal}: {what}"));
        let context = CudaContext::new(ordinal).map_err(at("context"))?;
        // SAFETY: all memory is this module's own, and its streams are ordered by events of its own.
        unsafe { context.disable_event_tracking() };
        let compute = context.new_stream().map_err(at("stream"))?;
        let copy = context.new_stream().map_err(at("stream"))?;
        let name = context.name().map_err(at("name"))?;
        let capability = context.compute_capability().map_err(at("compute capability"))?;
        let gpu = Gpu { context, compute, copy, name, capability };
        if capability < (8, 0) {
            return Err(Error::usage(format!(
                "--device cuda:{ordinal}: {} has compute capability {}.{}; 8.0 or newer is needed",
                gpu.name, capability.0, capability.1
            )));
        }
        Ok(Arc::new(gpu))
    }

    /// The same device and context with streams of its own: what runs there is not in the order of the others, and may be
    /// captured while they are used.
    pub(crate) fn fork(&self) -> Result<Arc<Self>> {
        let stream = || self.context.new_stream().map_err(driver("make a stream"));
        Ok(Arc::new(Gpu {
            context: self.context.clone(),
            compute: stream()?,
            copy: stream()?,
            name: self.name.clone(),
            capability: self.capability,
        }))
    }

    /// The device's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Compute capability, (major, minor).
    pub fn capability(&self) -> (i32, i32) {
        self.capability
    }

    /// Is this the driver that runs kernels on the CPU?
    pub fn is_host(&self) -> bool {
        self.name.starts_with(HOST_NAME)
    }

    /// The target that kernels are compiled for at run time, such as `sm_90a`.
    pub fn target(&self) -> String {
        let (major, minor) = self.capability;
        format!("sm_{major}{minor}{}", if (major, minor) == (9, 0) { "a" } else { "" })
    }

    /// Free and total device memory, bytes.
    pub fn memory(&self) -> Result<(usize, usize)> {
        self.context.mem_get_info().map_err(driver("ask for the free memory"))
    }

    /// Multiprocessors of the device.
    pub fn multiprocessors(&self) -> Result<u32> {
        let attribute = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
        Ok(self.context.attribute(attribute).map_err(driver("ask for the multiprocessors"))? as u32)
    }

    /// The driver's context: what other CUDA crates share.
    pub fn context(&self) -> &Arc<CudaContext> {
        &self.context
    }

    /// The stream that computes.
    pub fn compute(&self) -> &Arc<CudaStream> {
        &self.compute
    }

    /// The stream that uploads.
    pub(crate) fn copy(&self) -> &Arc<CudaStream> {
        &self.copy
    }

    /// Loads a module: a fatbin, cubin or PTX, or what [`crate::device::host`] made.
    pub fn module(self: &Arc<Self>, name: &str, image: &[u8]) -> Result<Module> {
        let mut image = image.to_vec();
        image.push(0); // PTX is a C string
        let module = self.context.load_module(Ptx::from_binary(image)).map_err(driver(format!("load {name}")))?;
        Ok(Module { gpu: self.clone(), name: name.to_string(), module })
    }

    /// An event; with `timed`, one that [`Event::since`] takes.
    pub(crate) fn event(&self, timed: bool) -> Result<Event> {
        let flags =
            if timed { sys::CUevent_flags::CU_EVENT_DEFAULT } else { sys::CUevent_flags::CU_EVENT_DISABLE_TIMING };
        Ok(Event(self.context.new_event(Some(flags)).map_err(driver("make an event"))?))
    }

    /// Waits for all that was given to the device.
    pub fn synchronize(&self) -> Result<()> {
        self.context.synchronize().map_err(driver("wait for the device"))
    }
}

fn name_of(e: DriverError) -> String {
    e.error_name().ok().and_then(|n| n.to_str().ok()).unwrap_or("unknown error").to_string()
}

/// A point in a stream.
#[derive(Debug)]
pub(crate) struct Event(CudaEvent);

impl Event {
    pub fn record(&self, stream: &CudaStream) -> Result<()> {
        self.0.record(stream).map_err(driver("record an event"))
    }

    /// Lets `stream` wait for it.
    pub fn hold(&self, stream: &CudaStream) -> Result<()> {
        stream.wait(&self.0).map_err(driver("wait for an event"))
    }

    /// Waits for it here.
    pub fn synchronize(&self) -> Result<()> {
        self.0.synchronize().map_err(driver("wait for an event"))
    }

    /// Seconds from `start` to this one; both are past.
    pub fn since(&self, start: &Event) -> Result<f64> {
        Ok(f64::from(start.0.elapsed_ms(&self.0).map_err(driver("read the time between two events"))?) * 1e-3)
    }
}

/// Device memory, freed with this.
#[derive(Debug)]
pub(crate) struct Memory {
    gpu: Arc<Gpu>,
    address: u64,
    bytes: usize,
}

#[allow(unsafe_code)]
impl Memory {
    /// `bytes` of memory, not initialised.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] where the device has not so much.
    pub fn new(gpu: &Arc<Gpu>, bytes: usize, what: &str) -> Result<Self> {
        gpu.context.bind_to_thread().map_err(driver("take the context"))?;
        // SAFETY: the context is current; the address is kept until the only call of free, in drop.
        let address = unsafe { result::malloc_sync(bytes.max(1)) }.map_err(|e| {
            if e.0 == sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY {
                let free = gpu.memory().map_or(0, |m| m.0);
                let fix = "free some, or use --device cpu".to_string();
                Error::OutOfMemory { what: what.to_string(), bytes: bytes as u64, free: free as u64, fix }
            } else {
                driver(format!("allocate {bytes} bytes for {what}"))(e)
            }
        })?;
        Ok(Memory { gpu: gpu.clone(), address, bytes })
    }

    pub fn address(&self) -> u64 {
        self.address
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn check(&self, offset: usize, bytes: usize) -> Result<u64> {
        if offset.checked_add(bytes).is_none_or(|end| end > self.bytes) {
            return Err(Error::Internal(format!("{bytes} bytes at {offset} of {} bytes of device memory", self.bytes)));
        }
        Ok(self.address + offset as u64)
    }

    /// Copies host numbers to `offset` and waits.
    pub fn write<T: bytemuck::Pod>(&self, offset: usize, data: &[T]) -> Result<()> {
        let at = self.check(offset, size_of_val(data))?;
        if data.is_empty() {
            return Ok(());
        }
        let stream = &self.gpu.compute;
        self.gpu.context.bind_to_thread().map_err(driver("take the context"))?;
        // SAFETY: the range lies in this allocation, and `data` lives until the wait below.
        unsafe { result::memcpy_htod_async(at, data, stream.cu_stream()) }.map_err(driver("copy to the device"))?;
        stream.synchronize().map_err(driver("copy to the device"))
    }

    /// Copies numbers from `offset` to the host and waits.
    pub fn read<T: bytemuck::Pod>(&self, offset: usize, out: &mut [T]) -> Result<()> {
        let at = self.check(offset, size_of_val(out))?;
        if out.is_empty() {
            return Ok(());
        }
        let stream = &self.gpu.compute;
        self.gpu.context.bind_to_thread().map_err(driver("take the context"))?;
        // SAFETY: the range lies in this allocation, and `out` lives until the wait below.
        unsafe { result::memcpy_dtoh_async(out, at, stream.cu_stream()) }.map_err(driver("copy from the device"))?;
        stream.synchronize().map_err(driver("copy from the device"))
    }

    /// Sets bytes, in the order of the compute stream.
    pub fn fill(&self, offset: usize, bytes: usize, value: u8) -> Result<()> {
        let at = self.check(offset, bytes)?;
        if bytes == 0 {
            return Ok(());
        }
        self.gpu.context.bind_to_thread().map_err(driver("take the context"))?;
        // SAFETY: the range lies in this allocation.
        unsafe { result::memset_d8_async(at, value, bytes, self.gpu.compute.cu_stream()) }
            .map_err(driver("fill device memory"))
    }

    /// Starts a copy from pinned memory on `stream`. The pinned range must not change until an event recorded behind the
    /// copy is past: the caller sees to that.
    pub fn upload(&self, offset: usize, from: &Pinned, at: usize, bytes: usize, stream: &CudaStream) -> Result<()> {
        let to = self.check(offset, bytes)?;
        if bytes == 0 {
            return Ok(());
        }
        let from = &from.bytes()[at..at + bytes];
        // SAFETY: both ranges were checked; pinned memory stays where it is.
        unsafe { result::memcpy_htod_async(to, from, stream.cu_stream()) }.map_err(driver("upload a batch"))
    }

    /// Starts a copy to pinned memory on `stream`.
    pub fn download(&self, offset: usize, to: &mut Pinned, at: usize, bytes: usize, stream: &CudaStream) -> Result<()> {
        let from = self.check(offset, bytes)?;
        let to = &mut to.bytes_mut()[at..at + bytes];
        // SAFETY: both ranges were checked; pinned memory stays where it is.
        unsafe { result::memcpy_dtoh_async(to, from, stream.cu_stream()) }.map_err(driver("download results"))
    }
}

#[allow(unsafe_code)]
impl Drop for Memory {
    fn drop(&mut self) {
        let _ = self.gpu.context.bind_to_thread();
        // SAFETY: allocated in `new`, freed only here. A context that died has freed it already and says so: ignored.
        let _ = unsafe { result::free_sync(self.address) };
    }
}

/// Page-locked host memory: what an asynchronous copy needs.
#[derive(Debug)]
pub(crate) struct Pinned {
    gpu: Arc<Gpu>,
    data: *mut u8,
    len: usize,
}

// SAFETY: it owns its memory and hands it out by the rules of borrowing.
#[allow(unsafe_code)]
unsafe impl Send for Pinned {}

#[allow(unsafe_code)]
impl Pinned {
    pub fn new(gpu: &Arc<Gpu>, len: usize) -> Result<Self> {
        gpu.context.bind_to_thread().map_err(driver("take the context"))?;
        let doing = || driver(format!("allocate {len} bytes of pinned host memory"));
        // SAFETY: the context is current; freed only in drop.
        let data = unsafe { result::malloc_host(len.max(1), 0) }.map_err(doing())?.cast::<u8>();
        // SAFETY: `len` bytes of fresh memory, initialised before anyone reads them.
        unsafe { data.write_bytes(0, len) };
        Ok(Pinned { gpu: gpu.clone(), data, len })
    }

    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `len` initialised bytes, owned by this.
        unsafe { std::slice::from_raw_parts(self.data, self.len) }
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.data, self.len) }
    }
}

#[allow(unsafe_code)]
impl Drop for Pinned {
    fn drop(&mut self) {
        let _ = self.gpu.context.bind_to_thread();
        // SAFETY: allocated in `new`, freed only here.
        let _ = unsafe { result::free_host(self.data.cast()) };
    }
}

/// A loaded module.
#[derive(Debug, Clone)]
pub struct Module {
    gpu: Arc<Gpu>,
    name: String,
    module: Arc<CudaModule>,
}

impl Module {
    /// The kernel of that name, if the module has it, with the shape it carries.
    ///
    /// # Errors
    /// A kernel without its shape symbol; a shape that the device cannot launch.
    #[allow(unsafe_code)]
    pub fn kernel(&self, name: &str) -> Result<Option<Kernel>> {
        let Ok(function) = self.module.load_function(name) else { return Ok(None) };
        let symbol = format!("{name}_shape");
        let missing = |found: String| {
            Error::input(
                &self.name,
                format!("kernel `{name}` {found}"),
                "define it with SCX_KERNEL, as kernels/README.md shows",
            )
        };
        let view = self
            .module
            .get_global(&symbol, &self.gpu.compute)
            .map_err(|_| missing(format!("comes without its launch shape `{symbol}`")))?;
        let mut words = [0u32; 4];
        if view.len() != size_of_val(&words) {
            return Err(missing(format!("has a launch shape of {} bytes, not {}", view.len(), size_of_val(&words))));
        }
        self.gpu.context.bind_to_thread().map_err(driver("take the context"))?;
        let (address, _keep) = cudarc::driver::DevicePtr::device_ptr(&view, &self.gpu.compute);
        // SAFETY: sixteen bytes of a module's constant, read into sixteen bytes.
        unsafe { result::memcpy_dtoh_sync(&mut words, address) }.map_err(driver(format!("read `{symbol}`")))?;
        let shape = LaunchShape { threads: words[0], shared_bytes: words[1], tile_x: words[2], tile_y: words[3] };
        let limit = self.shared_limit()?;
        if shape.threads == 0
            || shape.threads > 1024
            || shape.tile_x == 0
            || shape.tile_y == 0
            || shape.shared_bytes > limit
        {
            return Err(missing(format!(
                "has a launch shape that cannot be: {} threads, {} bytes of shared memory (at most {limit}), tile {} x {}",
                shape.threads, shape.shared_bytes, shape.tile_x, shape.tile_y
            )));
        }
        if shape.shared_bytes > 0 {
            let attribute = sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            function
                .set_attribute(attribute, shape.shared_bytes as i32)
                .map_err(driver(format!("give {} bytes of shared memory to `{name}`", shape.shared_bytes)))?;
        }
        Ok(Some(Kernel { name: name.to_string(), function: Function::Cudarc(function), shape }))
    }

    /// Shared memory a block may ask for.
    fn shared_limit(&self) -> Result<u32> {
        let attribute = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN;
        Ok(self.gpu.context.attribute(attribute).map_err(driver("ask for the shared memory"))? as u32)
    }
}

/// A kernel that can be launched.
#[derive(Debug, Clone)]
pub struct Kernel {
    name: String,
    function: Function,
    shape: LaunchShape,
}

/// By way of which crate a kernel is launched.
#[derive(Debug, Clone)]
enum Function {
    Cudarc(CudaFunction),
    #[cfg(feature = "cust")]
    Cust(Arc<super::cust::CustKernel>),
}

#[cfg(feature = "cust")]
impl From<super::cust::CustKernel> for Kernel {
    fn from(kernel: super::cust::CustKernel) -> Self {
        let (name, shape) = (kernel.name().to_string(), kernel.shape);
        Kernel { name, function: Function::Cust(Arc::new(kernel)), shape }
    }
}

impl Kernel {
    /// Its entry point.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its launch shape.
    pub fn shape(&self) -> LaunchShape {
        self.shape
    }

    /// Registers a thread, and bytes of local memory a thread (spills and arrays), as the driver reports them.
    pub fn resources(&self) -> Result<(i32, i32)> {
        let doing = || driver(format!("ask for the resources of `{}`", self.name));
        match &self.function {
            Function::Cudarc(f) => Ok((f.num_regs().map_err(doing())?, f.local_size_bytes().map_err(doing())?)),
            #[cfg(feature = "cust")]
            Function::Cust(_) => Ok((0, 0)), // `cust` has no call for it
        }
    }
}

/// A launch with all it needs: it can be repeated, and captured.
#[derive(Debug, Clone)]
pub struct Launch {
    kernel: Kernel,
    grid: [u32; 3],
    args: Vec<u64>,
}

impl Launch {
    /// A launch of `kernel` over `grid` blocks with `args`. An empty grid launches nothing.
    ///
    /// The kernel must take `A`; that is the contract of its entry point's name.
    #[allow(unsafe_code)]
    pub fn new<A: Args>(kernel: &Kernel, grid: [u32; 3], args: &A) -> Self {
        let mut words = vec![0u64; size_of::<A>().div_ceil(8)];
        // SAFETY: `A` is plain and `words` has room for it.
        unsafe {
            std::ptr::copy_nonoverlapping(
                std::ptr::from_ref(args).cast::<u8>(),
                words.as_mut_ptr().cast(),
                size_of::<A>(),
            );
        }
        Launch { kernel: kernel.clone(), grid, args: words }
    }

    /// The kernel's entry point.
    pub fn name(&self) -> &str {
        &self.kernel.name
    }

    /// Blocks.
    pub fn grid(&self) -> [u32; 3] {
        self.grid
    }

    /// Gives it to the stream.
    #[allow(unsafe_code)]
    pub fn run(&self, stream: &CudaStream) -> Result<()> {
        if self.grid.contains(&0) {
            return Ok(());
        }
        let shape = self.kernel.shape;
        let grid = (self.grid[0], self.grid[1], self.grid[2]);
        #[allow(clippy::infallible_destructuring_match)] // with the feature `cust` there are two
        let function = match &self.kernel.function {
            Function::Cudarc(f) => f,
            #[cfg(feature = "cust")]
            // SAFETY: as below; the words start with the argument struct.
            Function::Cust(kernel) => return unsafe { kernel.launch(grid, &self.args[0], stream) },
        };
        let mut args = [self.args.as_ptr().cast_mut().cast::<std::ffi::c_void>()];
        // SAFETY: one argument, of the size that the entry point takes (`Launch::new`); its addresses lie in memory that
        // whoever recorded the launch keeps. The context is current: streams are used from threads that bound it.
        unsafe {
            result::launch_kernel(
                function.cu_function(),
                grid,
                (shape.threads, 1, 1),
                shape.shared_bytes,
                stream.cu_stream(),
                &mut args,
            )
        }
        .map_err(driver(format!("launch `{}` ({} x {} x {} blocks)", self.kernel.name, grid.0, grid.1, grid.2)))
    }
}

/// Captures what `body` gives to the compute stream into a graph.
pub(crate) fn capture(gpu: &Gpu, body: impl FnOnce() -> Result<()>) -> Result<CudaGraph> {
    let stream = &gpu.compute;
    let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
    stream.begin_capture(mode).map_err(driver("begin to capture a graph"))?;
    let outcome = body();
    let graph = stream.end_capture(sys::CUgraphInstantiate_flags(0)).map_err(driver("capture a graph"));
    outcome?;
    graph?.ok_or_else(|| Error::Internal("the captured graph is empty".into()))
}

/// Kernels by entry point.
#[derive(Debug, Clone, Default)]
pub struct Kernels(HashMap<String, Kernel>);

impl Kernels {
    /// Adds or replaces one.
    pub fn insert(&mut self, kernel: Kernel) {
        self.0.insert(kernel.name.clone(), kernel);
    }

    /// The kernel of that entry point.
    pub fn get(&self, name: &str) -> Result<&Kernel> {
        self.0.get(name).ok_or_else(|| Error::Internal(format!("no kernel `{name}` was loaded")))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Kernel> {
        self.0.values()
    }
}
