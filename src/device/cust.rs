//! Kernels launched through [`cust`], for users of the Rust-CUDA crates: on the primary context that the engine uses by
//! way of cudarc, on the engine's stream and its buffers.
//!
//! In the registry they are replacements: `--kernel adam=cust:mine.cu` (or .ptx, .cubin, .fatbin) loads the file by
//! `cust`, and the engine launches the entry points it defines through it, beside its own.
//!
//! Only with the cargo feature `cust`. That crate needs a CUDA library folder to build (`CUDA_LIBRARY_PATH` where CUDA is
//! in no usual place) and links libcuda, so that a program built with the feature starts only where a driver is
//! installed. The feature is compiled in this project's checks; launches were **not** run: the checks have no driver.
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use sccrossrec::device::cust::CustKernel;
//!
//! #[repr(C)]
//! #[derive(Clone, Copy)]
//! struct ScaleArgs {
//!     x: u64, // float*
//!     by: f32,
//!     n: u32,
//! }
//!
//! let context = cudarc::driver::CudaContext::new(0)?;
//! let stream = context.default_stream();
//! let x = stream.clone_htod(&[1.0f32; 1000])?;
//! let kernel = CustKernel::load(&context, &std::fs::read("scale.cubin")?, "scale")?;
//! let blocks = 1000_u32.div_ceil(kernel.shape.tile_x);
//! let (pointer, _in_use) = cudarc::driver::DevicePtr::device_ptr(&x, &stream);
//! // SAFETY: `scale` takes this struct, and `n` is the length of `x`.
//! unsafe { kernel.launch((blocks, 1, 1), &ScaleArgs { x: pointer, by: 2.0, n: 1000 }, &stream)? };
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![allow(unsafe_code)]

use std::ffi::CString;
use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaStream};
use cust::context::Context;
use cust::device::Device;
use cust::error::CudaError;
use cust::memory::{CopyDestination, DeviceCopy, DevicePointer, DeviceSlice};
use cust::module::Module;
use cust::sys;

use super::abi::LaunchShape;
use crate::error::{Error, Result};

/// A kernel in a module that `cust` loaded.
#[derive(Debug)]
pub struct CustKernel {
    // Dropped before the context it lives in.
    module: Module,
    name: String,
    /// Its launch shape, as its module says.
    pub shape: LaunchShape,
    context: Context,
    engine: Arc<CudaContext>,
}

// SAFETY: handles of the driver are good on any thread; `launch` makes the context current first, and the driver orders
// what is given to a stream.
unsafe impl Send for CustKernel {}
// SAFETY: as above; nothing in it changes behind a shared reference.
unsafe impl Sync for CustKernel {}

impl CustKernel {
    /// Loads kernel `name` from an image (fatbin, cubin, or PTX with its closing NUL) into the engine's context: the
    /// device's primary one, which `cust` retains as well.
    pub fn load(engine: &Arc<CudaContext>, image: &[u8], name: &str) -> Result<Self> {
        let failed = |doing: &str, e: CudaError| Error::usage(format!("kernel {name}: cust cannot {doing}: {e:?}"));
        let symbol = CString::new(format!("{name}_shape"))
            .map_err(|_| Error::usage(format!("kernel {name:?}: a name has no NUL character")))?;
        cust::init(cust::CudaFlags::empty()).map_err(|e| failed("start", e))?;
        let device = Device::get_device(engine.ordinal() as u32).map_err(|e| failed("find the device", e))?;
        let context = Context::new(device).map_err(|e| failed("retain the device's context", e))?;
        if context.as_raw().cast::<()>() != engine.cu_ctx().cast::<()>() {
            return Err(Error::usage(format!(
                "kernel {name}: the engine's context is not the primary one of device {}; make it with CudaContext::new",
                engine.ordinal()
            )));
        }
        // `cust` hands all images to the one call that tells them apart.
        let module = Module::from_fatbin(image, &[]).map_err(|e| failed("load the image", e))?;
        let mut words = [0u32; 4];
        let symbol = module.get_global::<[u32; 4]>(&symbol).map_err(|e| failed("find its NAME_shape", e))?;
        symbol.copy_to(&mut words).map_err(|e| failed("read its NAME_shape", e))?;
        let [threads, shared_bytes, tile_x, tile_y] = words;
        let shape = LaunchShape { threads, shared_bytes, tile_x, tile_y };
        let function = module.get_function(name).map_err(|e| failed("find the kernel", e))?;
        let attribute = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        // SAFETY: the function is of a loaded module. More than 48 KiB must be asked for.
        let code = unsafe { sys::cuFuncSetAttribute(function.to_raw(), attribute, shape.shared_bytes as i32) };
        if code != sys::CUresult::CUDA_SUCCESS {
            return Err(Error::usage(format!(
                "kernel {name}: {} bytes of shared memory: {code:?}",
                shape.shared_bytes
            )));
        }
        Ok(CustKernel { module, name: name.to_string(), shape, context, engine: engine.clone() })
    }

    /// Its entry point.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The module, for use with `cust` itself.
    pub fn module(&self) -> &Module {
        &self.module
    }

    /// The context, shared with the engine.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Puts a launch on the engine's stream, in order with the engine's own work there. The kernel takes `args` by value.
    ///
    /// # Safety
    /// `T` is laid out as the kernel's argument struct (`repr(C)`, `abi.h`); each pointer in it is of device memory as
    /// large as the kernel reads and writes, alive until the stream got there, and written by nothing else meanwhile;
    /// the stream is of this kernel's context.
    pub unsafe fn launch<T: Copy>(&self, grid: (u32, u32, u32), args: &T, stream: &CudaStream) -> Result<()> {
        let failed = |what: String| Error::usage(format!("kernel {}: launch failed: {what}", self.name));
        self.engine.bind_to_thread().map_err(|e| failed(e.to_string()))?;
        let function = self.module.get_function(&self.name).map_err(|e| failed(format!("{e:?}")))?;
        let mut parameters = [std::ptr::from_ref(args).cast_mut().cast()];
        // SAFETY: the driver copies the one parameter, of the kernel's own size, before it returns; the rest is the
        // caller's promise.
        let code = unsafe {
            sys::cuLaunchKernel(
                function.to_raw(),
                grid.0,
                grid.1,
                grid.2,
                self.shape.threads,
                1,
                1,
                self.shape.shared_bytes,
                stream.cu_stream().cast(),
                parameters.as_mut_ptr(),
                std::ptr::null_mut(),
            )
        };
        if code == sys::CUresult::CUDA_SUCCESS { Ok(()) } else { Err(failed(format!("{code:?}"))) }
    }
}

/// `length` items of the engine's device memory as a slice of `cust`, which does not own it.
///
/// # Safety
/// `pointer` is a device pointer (a cudarc `CUdeviceptr`) of the current context, to at least `length` items of `T`, which
/// live as long as the slice is used.
pub unsafe fn device_slice<T: DeviceCopy>(pointer: u64, length: usize) -> DeviceSlice<T> {
    // SAFETY: the caller's promise.
    unsafe { DeviceSlice::from_raw_parts(DevicePointer::from_raw(pointer), length) }
}
