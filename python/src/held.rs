//! An AnnData object in memory: its matrices stay numpy's, and are read block by block where they lie.

use std::ops::Range;
use std::sync::Arc;

use numpy::{PyArray1, PyArrayMethods, PyUntypedArrayMethods};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use sccrossrec::data::anndata::{Column, HeldMatrix, HeldNumbers};
use sccrossrec::data::source;

use crate::error::raised;

/// An array of a type that numpy knows.
#[derive(Debug)]
enum Numbers {
    F32(Py<PyArray1<f32>>),
    F64(Py<PyArray1<f64>>),
    I8(Py<PyArray1<i8>>),
    I16(Py<PyArray1<i16>>),
    I32(Py<PyArray1<i32>>),
    I64(Py<PyArray1<i64>>),
    U8(Py<PyArray1<u8>>),
    U16(Py<PyArray1<u16>>),
    U32(Py<PyArray1<u32>>),
    U64(Py<PyArray1<u64>>),
    Bool(Py<PyArray1<bool>>),
}

/// Calls for the array inside, whatever its type.
macro_rules! each {
    ($numbers:expr, $array:ident => $body:expr) => {
        match $numbers {
            Numbers::F32($array) => $body,
            Numbers::F64($array) => $body,
            Numbers::I8($array) => $body,
            Numbers::I16($array) => $body,
            Numbers::I32($array) => $body,
            Numbers::I64($array) => $body,
            Numbers::U8($array) => $body,
            Numbers::U16($array) => $body,
            Numbers::U32($array) => $body,
            Numbers::U64($array) => $body,
            Numbers::Bool($array) => $body,
        }
    };
}

/// A number of numpy's as the library reads it.
trait Number: numpy::Element + Copy {
    fn value(self) -> f32;
    fn index(self) -> i64;
}

macro_rules! number {
    ($($t:ty),*) => {$(
        impl Number for $t {
            fn value(self) -> f32 {
                self as f32
            }
            fn index(self) -> i64 {
                self as i64
            }
        }
    )*};
}
number!(f32, f64, i8, i16, i32, i64, u8, u16, u32, u64);

impl Number for bool {
    fn value(self) -> f32 {
        f32::from(u8::from(self))
    }
    fn index(self) -> i64 {
        i64::from(self)
    }
}

/// Some of an array, through `read`. Nothing where it has shrunk, which is then told by the number that came.
fn some<T: Number, O>(array: &Py<PyArray1<T>>, range: Range<usize>, read: fn(T) -> O) -> Vec<O> {
    Python::attach(|py| {
        let array = array.bind(py).readonly();
        let part = array.as_slice().ok().and_then(|all| all.get(range)).unwrap_or_default();
        part.iter().map(|&x| read(x)).collect()
    })
}

impl HeldNumbers for Numbers {
    fn len(&self) -> usize {
        Python::attach(|py| each!(self, a => a.bind(py).len()))
    }

    fn values(&self, range: Range<usize>) -> Vec<f32> {
        each!(self, a => some(a, range, Number::value))
    }

    fn indices(&self, range: Range<usize>) -> Vec<i64> {
        each!(self, a => some(a, range, Number::index))
    }
}

fn numbers(array: &Bound<'_, PyAny>) -> PyResult<Arc<dyn HeldNumbers>> {
    macro_rules! first {
        ($($variant:ident: $t:ty),*) => {
            $(if let Ok(a) = array.cast::<PyArray1<$t>>() {
                if !a.is_c_contiguous() {
                    return Err(PyValueError::new_err("an array with gaps; give numpy.ascontiguousarray of it"));
                }
                return Ok(Arc::new(Numbers::$variant(a.clone().unbind())));
            })*
        };
    }
    first!(
        F32: f32, F64: f64, I8: i8, I16: i16, I32: i32, I64: i64, U8: u8, U16: u16, U32: u32, U64: u64, Bool: bool
    );
    let dtype = array.getattr("dtype").map_or_else(|_| array.get_type().to_string(), |d| d.to_string());
    Err(PyTypeError::new_err(format!("an array of one dimension and of numbers is needed, not {dtype}")))
}

/// A column of `obs` or `var`, as its kind says.
fn column(kind: &str, values: &Bound<'_, PyAny>, categories: Option<Vec<String>>) -> PyResult<Column> {
    Ok(match (kind, categories) {
        ("strings", None) => Column::Strings(values.extract()?),
        ("categorical", Some(categories)) => Column::Categorical { codes: values.extract()?, categories },
        ("ints", None) => Column::Ints(values.extract()?),
        ("floats", None) => Column::Floats(values.extract()?),
        ("bools", None) => Column::Bools(values.extract()?),
        _ => return Err(PyValueError::new_err(format!("no column of kind {kind:?}"))),
    })
}

/// Name, kind, values, categories.
type Given<'py> = (String, String, Bound<'py, PyAny>, Option<Vec<String>>);

fn columns(given: Vec<Given<'_>>) -> PyResult<Vec<(String, Column)>> {
    given.into_iter().map(|(name, kind, values, more)| Ok((name, column(&kind, &values, more)?))).collect()
}

/// Cells × features in memory. `name` stands for it in messages, and where `call` wants a path.
///
/// `obs` and `var` are names and columns `(name, kind, values, categories)`, with kinds strings, categorical, ints, floats and
/// bools. `matrices` are `(name, layout, arrays)`: of `csr` and `csc` starts, indices and values, of `dense` the values, row after
/// row. The first is `X`. Arrays are kept, not copied: leave them as they are while a call works on them.
#[pyclass(frozen, module = "sccrossrec._native")]
#[derive(Debug)]
pub struct Held(pub source::Held);

#[pymethods]
impl Held {
    #[new]
    fn new(
        name: String,
        obs: (Vec<String>, Vec<Given<'_>>),
        var: (Vec<String>, Vec<Given<'_>>),
        matrices: Vec<(String, String, Vec<Bound<'_, PyAny>>)>,
    ) -> PyResult<Self> {
        let mut all = Vec::with_capacity(matrices.len());
        for (layer, layout, arrays) in matrices {
            let arrays = arrays.iter().map(numbers).collect::<PyResult<Vec<_>>>()?;
            let matrix = match (&*layout, &arrays[..]) {
                ("csr", [starts, indices, values]) => HeldMatrix::Csr(starts.clone(), indices.clone(), values.clone()),
                ("csc", [starts, indices, values]) => HeldMatrix::Csc(starts.clone(), indices.clone(), values.clone()),
                ("dense", [values]) => HeldMatrix::Dense(values.clone()),
                (other, _) => return Err(PyValueError::new_err(format!("no layout {other:?} of so many arrays"))),
            };
            all.push((layer, matrix));
        }
        let (obs, var) = ((obs.0, columns(obs.1)?), (var.0, columns(var.1)?));
        Ok(Held(source::Held::new(name, obs, var, all).map_err(|e| raised(&e))?))
    }

    /// What it is called.
    #[getter]
    fn name(&self) -> String {
        self.0.name().display().to_string()
    }
}
