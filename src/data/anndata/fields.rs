//! Elements of a data set, or of one field of a compound data set, as a vector: the one place that asks HDF5 for a
//! part of a compound type, which the safe bindings cannot name at run time.
#![allow(unsafe_code)]

use std::path::Path;

use hdf5::types::{CompoundField, CompoundType, TypeDescriptor};
use hdf5::{Container, Dataset, Datatype, H5Type};
use hdf5_sys::h5d::H5Dread;
use hdf5_sys::h5p::H5P_DEFAULT;
use hdf5_sys::h5s::H5S_ALL;

use super::filters::check;
use crate::error::{Error, Result};

/// What is read: all of a data set or attribute, or a field of a compound data set.
#[derive(Clone, Copy)]
pub(super) enum Elements<'a> {
    Whole(&'a Container),
    Field(&'a Dataset, &'a str),
}

impl Elements<'_> {
    /// Type of an element in the file.
    pub(super) fn descriptor(&self) -> hdf5::Result<TypeDescriptor> {
        match self {
            Elements::Whole(set) => set.dtype()?.to_descriptor(),
            Elements::Field(set, name) => match fields(set)?.into_iter().find(|f| f.name == *name) {
                Some(field) => Ok(field.ty),
                None => Err(hdf5::Error::Internal(format!("no field {name}"))),
            },
        }
    }

    /// Lengths of the dimensions.
    pub(super) fn shape(&self) -> hdf5::Result<Vec<usize>> {
        match self {
            Elements::Whole(set) => set.get_shape(),
            Elements::Field(set, _) => set.get_shape(),
        }
    }

    /// Refuses what is packed in a way that cannot be read; attributes are not packed.
    pub(super) fn check_filters(&self, path: &Path, field: &str) -> Result<()> {
        match self {
            Elements::Whole(set) => set.as_dataset().map_or(Ok(()), |set| check(path, &set, field)),
            Elements::Field(set, _) => check(path, set, field),
        }
    }

    /// Bytes of an element in the file; of a field, those of all fields, which share the file's chunks.
    pub(super) fn size(&self) -> usize {
        let set: &Container = match self {
            Elements::Whole(set) => set,
            Elements::Field(set, _) => set,
        };
        set.dtype().map(|t| t.size()).unwrap_or(8)
    }

    /// All elements, converted to `T` where HDF5 can.
    pub(super) fn read<T: H5Type>(&self) -> hdf5::Result<Vec<T>> {
        match self {
            Elements::Whole(set) => set.read_raw(),
            Elements::Field(set, name) => read_field(set, name),
        }
    }
}

/// Fields of a compound data set, in order; none where it is something else.
pub(super) fn fields(set: &Dataset) -> hdf5::Result<Vec<CompoundField>> {
    match set.dtype()?.to_descriptor()? {
        TypeDescriptor::Compound(compound) => Ok(compound.fields),
        _ => Ok(Vec::new()),
    }
}

fn read_field<T: H5Type>(set: &Dataset, name: &str) -> hdf5::Result<Vec<T>> {
    // A field that the file lacks would be left as it is: uninitialised.
    let there = fields(set)?.into_iter().any(|f| f.name == name);
    let n = set.get_shape()?.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    let Some(n) = n.filter(|_| there) else {
        return Err(hdf5::Error::Internal(format!("no field {name}")));
    };
    if n == 0 {
        return Ok(Vec::new());
    }
    let memory = CompoundType { fields: vec![CompoundField::typed::<T>(name, 0, 0)], size: size_of::<T>() };
    let memory = Datatype::from_descriptor(&TypeDescriptor::Compound(memory))?;
    let mut out: Vec<T> = Vec::with_capacity(n);
    let to = out.as_mut_ptr().cast();
    // SAFETY: HDF5 writes n elements of the memory type, which has the size of `T` and is `T`'s own type at offset 0:
    // valid elements, within the capacity of `out`. Nothing of `out` counts before it succeeded.
    let status = hdf5::sync::sync(|| unsafe { H5Dread(set.id(), memory.id(), H5S_ALL, H5S_ALL, H5P_DEFAULT, to) });
    if status < 0 {
        return Err(hdf5::Error::Internal(format!("H5Dread of the field {name} failed")));
    }
    // SAFETY: see above.
    unsafe { out.set_len(n) };
    Ok(out)
}

/// Number of elements of a data set whose size the file can bear: gzip shrinks at most by 1,032.
pub(crate) fn plausible(path: &Path, bytes: u64, field: &str, shape: &[usize], element: usize) -> Result<usize> {
    let n = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    let limit = bytes.saturating_mul(1_100).saturating_add(1 << 20);
    match n.and_then(|n| n.checked_mul(element).map(|b| (n, b))) {
        Some((n, total)) if total as u64 <= limit => Ok(n),
        _ => Err(Error::input(
            path,
            format!("`{field}` says it has {shape:?} elements, more than a file of {bytes} bytes can hold"),
            "the file is damaged; make or fetch it again",
        )),
    }
}

pub(super) fn descriptor(at: &Container) -> hdf5::Result<TypeDescriptor> {
    at.dtype()?.to_descriptor()
}
