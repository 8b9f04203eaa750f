//! Filters of HDF5 beyond its own: zstd and lz4 are read, any other is told by its name.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_int, c_uint, c_void};
use std::io::Read;
use std::path::Path;
use std::sync::Once;

use hdf5::Dataset;
use hdf5::filters::H5Z_filter_t;
use hdf5_sys::h5z::{H5Z_CLASS_T_VERS, H5Z_FLAG_REVERSE, H5Z_class2_t, H5Zregister};

use crate::data::sniff::filter_name;
use crate::error::{Error, Result};

/// Numbers of the filters that are read here.
const LZ4: H5Z_filter_t = 32_004;
const ZSTD: H5Z_filter_t = 32_015;

/// Largest chunk that is unpacked: HDF5 allows no larger one.
const LARGEST: u64 = u32::MAX as u64;

/// Makes zstd and lz4 known to HDF5, once a process.
pub(super) fn register() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for (id, name, filter) in [(ZSTD, c"zstd", zstd as Callback), (LZ4, c"lz4", lz4 as Callback)] {
            let class = H5Z_class2_t {
                version: H5Z_CLASS_T_VERS as c_int,
                id,
                encoder_present: 0,
                decoder_present: 1,
                name: name.as_ptr().cast::<c_char>(),
                can_apply: None,
                set_local: None,
                filter: Some(filter),
            };
            // SAFETY: HDF5 copies the class; its name and function live as long as the program. A filter that cannot be
            // registered is one that is not available, which is told where it is needed.
            hdf5::sync::sync(|| unsafe { H5Zregister((&raw const class).cast()) });
        }
    });
}

type Callback = unsafe extern "C" fn(c_uint, usize, *const c_uint, usize, *mut usize, *mut *mut c_void) -> usize;

/// Refuses a data set that is packed in a way that cannot be read; `field` is its name in messages.
pub(super) fn check(path: &Path, set: &Dataset, field: &str) -> Result<()> {
    register();
    for filter in set.filters() {
        let id = filter.id();
        if filter.decode_enabled() {
            continue;
        }
        let name = filter_name(id).unwrap_or("a filter that is not known here");
        return Err(Error::input(
            path,
            format!("`{field}` is compressed with {name} (HDF5 filter {id}), which is not supported"),
            "write it again with gzip, in Python: import anndata, hdf5plugin; \
             anndata.read_h5ad(\"IN.h5ad\").write_h5ad(\"OUT.h5ad\", compression=\"gzip\")",
        ));
    }
    Ok(())
}

/// Hands HDF5 what `unpack` makes of its buffer, in the place of that; 0 tells it of a failure.
///
/// # Safety
/// The arguments are those of HDF5's call of a filter.
unsafe fn replace(
    flags: c_uint,
    bytes: usize,
    size: *mut usize,
    buffer: *mut *mut c_void,
    unpack: impl Fn(&[u8]) -> Option<Vec<u8>>,
) -> usize {
    if flags & H5Z_FLAG_REVERSE == 0 {
        return 0; // nothing is packed here
    }
    // SAFETY: HDF5 hands over a buffer of at least `bytes` bytes.
    let packed = unsafe { std::slice::from_raw_parts((*buffer).cast::<u8>(), bytes) };
    let Ok(Some(plain)) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| unpack(packed))) else { return 0 };
    // SAFETY: a buffer of one byte or more from the allocator that HDF5 frees its own with; the old one is HDF5's and
    // is not used after it was given back.
    unsafe {
        let new = libc::malloc(plain.len().max(1));
        if new.is_null() {
            return 0;
        }
        std::ptr::copy_nonoverlapping(plain.as_ptr(), new.cast::<u8>(), plain.len());
        libc::free(*buffer);
        *buffer = new;
        *size = plain.len().max(1);
    }
    plain.len()
}

/// HDF5's call of the filter zstd.
///
/// # Safety
/// As [`replace`].
unsafe extern "C" fn zstd(
    flags: c_uint,
    _: usize,
    _: *const c_uint,
    bytes: usize,
    size: *mut usize,
    buffer: *mut *mut c_void,
) -> usize {
    // SAFETY: the arguments are passed on.
    unsafe { replace(flags, bytes, size, buffer, unpack_zstd) }
}

/// HDF5's call of the filter lz4.
///
/// # Safety
/// As [`replace`].
unsafe extern "C" fn lz4(
    flags: c_uint,
    _: usize,
    _: *const c_uint,
    bytes: usize,
    size: *mut usize,
    buffer: *mut *mut c_void,
) -> usize {
    // SAFETY: the arguments are passed on.
    unsafe { replace(flags, bytes, size, buffer, unpack_lz4) }
}

/// A frame of zstd.
fn unpack_zstd(packed: &[u8]) -> Option<Vec<u8>> {
    let decoder = ruzstd::decoding::StreamingDecoder::new(packed).ok()?;
    let mut out = Vec::new();
    decoder.take(LARGEST + 1).read_to_end(&mut out).ok()?;
    (out.len() as u64 <= LARGEST).then_some(out)
}

/// Blocks of lz4 as the HDF5 filter writes them: length of all and of a block when unpacked, then each block with its
/// length when packed, all of them big-endian; a block that did not shrink is stored as it is.
fn unpack_lz4(packed: &[u8]) -> Option<Vec<u8>> {
    let (head, mut rest) = packed.split_at_checked(12)?;
    let all = u64::from_be_bytes(head[..8].try_into().ok()?);
    let block = u64::from(u32::from_be_bytes(head[8..].try_into().ok()?));
    // A block of lz4 shrinks at most by 255.
    if all > LARGEST || all / 256 > packed.len() as u64 || all > 0 && block == 0 {
        return None;
    }
    let mut out = Vec::with_capacity(all as usize);
    while (out.len() as u64) < all {
        let (length, after) = rest.split_at_checked(4)?;
        let (bytes, after) = after.split_at_checked(u32::from_be_bytes(length.try_into().ok()?) as usize)?;
        let plain = block.min(all - out.len() as u64) as usize;
        if bytes.len() == plain {
            out.extend_from_slice(bytes);
        } else {
            let there = out.len();
            out.resize(there + plain, 0);
            let n = lz4_flex::block::decompress_into(bytes, &mut out[there..]).ok()?;
            if n != plain {
                return None;
            }
        }
        rest = after;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_lz4() {
        let text: Vec<u8> = (0..1000u32).map(|i| (i % 7) as u8).collect();
        let mut packed = 1000u64.to_be_bytes().to_vec();
        packed.extend(600u32.to_be_bytes());
        let first = lz4_flex::block::compress(&text[..600]);
        packed.extend((first.len() as u32).to_be_bytes());
        packed.extend(&first);
        packed.extend(400u32.to_be_bytes()); // stored as it is
        packed.extend(&text[600..]);
        assert_eq!(unpack_lz4(&packed).as_deref(), Some(text.as_slice()));
        for n in 0..packed.len() {
            assert_eq!(unpack_lz4(&packed[..n]), None, "cut at {n}");
        }
        let mut huge = packed.clone();
        huge[..8].copy_from_slice(&u64::MAX.to_be_bytes());
        assert_eq!(unpack_lz4(&huge), None);
    }

    #[test]
    fn frames_of_zstd() {
        // Magic; one segment whose length takes a byte: 8; a stored block of 5 bytes; a last one, of 3 times a byte.
        let frame = b"\x28\xb5\x2f\xfd\x20\x08\x28\0\0hello\x1b\0\0!";
        assert_eq!(unpack_zstd(frame).as_deref(), Some(&b"hello!!!"[..]));
        for n in 0..frame.len() {
            assert_eq!(unpack_zstd(&frame[..n]), None, "cut at {n}");
        }
    }

    #[test]
    fn what_is_no_zstd() {
        for bytes in [&b""[..], b"abc", b"\x28\xb5\x2f\xfd\xff\xff"] {
            assert_eq!(unpack_zstd(bytes), None);
        }
    }
}
