//! The autograd tape: ops record themselves going forward; `backward` replays them in reverse and frees as it goes.
//!
//! A [`Tape`] lives for one batch. Parameters are borrowed, not copied; their gradients are added to the caller's
//! arena. Every other value is owned by the tape and dropped as soon as its own op has run backward.
//!
//! ```
//! use sccrossrec::tape::{Grads, Tape};
//! let w = [2.0f64, 3.0];
//! let mut tape = Tape::recording();
//! let x = tape.param(0, &w, [1, 2]);
//! let y = tape.value(vec![w[0] * w[0], w[1] * w[1]], [1, 2]);
//! tape.record("square", &[y], move |s| {
//!     let dy = s.take(y);
//!     let mut dx = s.take(x);
//!     for (i, d) in dx.iter_mut().enumerate() {
//!         *d += 2.0 * s.value(x)[i] * dy[i];
//!     }
//!     s.put(x, dx);
//! });
//! let mut arena = [0.0f64; 2];
//! tape.backward(y, &[1.0, 1.0], Grads::new(vec![&mut arena[..]])).unwrap();
//! assert_eq!(arena, [4.0, 6.0]);
//! ```

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

use crate::error::{Error, Result};
use crate::real::Real;

thread_local! {
    /// The first op of a watched pass that was not finite, on this thread; `None` where nothing is watched.
    static WATCH: RefCell<Option<Option<Found>>> = const { RefCell::new(None) };
}

/// An op that made numbers that are not finite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub op: &'static str,
    pub backward: bool,
}

/// Runs `pass` on this thread and tells the first op whose values or gradients were not finite. Slow: all of them are read.
pub(crate) fn watch<R>(pass: impl FnOnce() -> R) -> (R, Option<Found>) {
    WATCH.set(Some(None));
    let made = pass();
    (made, WATCH.take().flatten())
}

/// Notes `op` where something is watched, nothing was found yet, and one of `numbers` is not finite.
fn look<'x, T: Real + 'x>(op: &'static str, backward: bool, numbers: impl Iterator<Item = &'x [T]>) {
    WATCH.with_borrow_mut(|watch| {
        if let Some(found @ None) = watch
            && numbers.flatten().any(|x| !x.f64().is_finite())
        {
            *found = Some(Found { op, backward });
        }
    });
}

/// A value on the tape: a matrix `[rows, columns]`, row-major.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Var(usize);

enum Value<'p, T> {
    Owned(Vec<T>),
    Param(usize, &'p [T]),
    Freed,
}

type Backward<'p, T> = Box<dyn FnOnce(&mut Sweep<'_, 'p, T>) + 'p>;

struct Record<'p, T> {
    name: &'static str,
    outputs: Vec<Var>,
    backward: Backward<'p, T>,
}

/// The tape. `'p` is the life of the parameters.
pub struct Tape<'p, T> {
    values: Vec<Value<'p, T>>,
    shapes: Vec<[usize; 2]>,
    records: Option<Vec<Record<'p, T>>>,
}

impl<'p, T: Real> Tape<'p, T> {
    /// A tape that remembers how to go back.
    pub fn recording() -> Self {
        Tape { values: Vec::new(), shapes: Vec::new(), records: Some(Vec::new()) }
    }

    /// A tape for inference: ops run, nothing is remembered.
    pub fn inference() -> Self {
        Tape { values: Vec::new(), shapes: Vec::new(), records: None }
    }

    fn push(&mut self, value: Value<'p, T>, shape: [usize; 2]) -> Var {
        self.values.push(value);
        self.shapes.push(shape);
        Var(self.values.len() - 1)
    }

    /// Parameter number `index` of the arena, borrowed.
    pub fn param(&mut self, index: usize, data: &'p [T], shape: [usize; 2]) -> Var {
        assert_eq!(data.len(), shape[0] * shape[1], "parameter {index}: length against shape");
        self.push(Value::Param(index, data), shape)
    }

    /// A value computed by an op.
    pub fn value(&mut self, data: Vec<T>, shape: [usize; 2]) -> Var {
        assert_eq!(data.len(), shape[0] * shape[1], "value: length against shape");
        self.push(Value::Owned(data), shape)
    }

    /// The numbers of `v`.
    pub fn get(&self, v: Var) -> &[T] {
        match &self.values[v.0] {
            Value::Owned(x) => x,
            Value::Param(_, x) => x,
            Value::Freed => &[],
        }
    }

    /// `[rows, columns]` of `v`.
    pub fn shape(&self, v: Var) -> [usize; 2] {
        self.shapes[v.0]
    }

    /// Records how to go back through the op that made `outputs`. In an inference tape the closure is dropped.
    pub fn record(&mut self, name: &'static str, outputs: &[Var], backward: impl FnOnce(&mut Sweep<'_, 'p, T>) + 'p) {
        look(name, false, outputs.iter().map(|&o| self.get(o)));
        if let Some(r) = &mut self.records {
            r.push(Record { name, outputs: outputs.to_vec(), backward: Box::new(backward) });
        }
    }

    /// Runs backward from `root` with gradient `seed`, adding parameter gradients to `grads`, and frees the tape.
    pub fn backward(self, root: Var, seed: &[T], grads: Grads<'_, T>) -> Result<()> {
        let Some(records) = self.records else {
            return Err(Error::Internal("backward on an inference tape".into()));
        };
        let n = self.values.len();
        let mut sweep = Sweep {
            values: self.values,
            shapes: self.shapes,
            grads: (0..n).map(|_| None).collect(),
            params: grads.slices.into_iter().map(Some).collect(),
            op: "",
        };
        sweep.grads[root.0] = Some(seed.to_vec());
        for Record { name, outputs, backward } in records.into_iter().rev() {
            if outputs.iter().any(|o| sweep.grads[o.0].is_some()) {
                sweep.op = name;
                let span = crate::profile::span(name, "backward");
                backward(&mut sweep);
                drop(span);
                if sweep.params.iter().any(Option::is_none) {
                    return Err(Error::Internal(format!("op `{name}` did not put back the gradient of a parameter")));
                }
            }
            for o in outputs {
                sweep.grads[o.0] = None;
                sweep.values[o.0] = Value::Freed;
            }
        }
        Ok(())
    }
}

/// The gradient arena, cut into one slice a parameter (in the order of [`Tape::param`]'s indices).
pub struct Grads<'g, T> {
    slices: Vec<&'g mut [T]>,
}

impl<'g, T> Grads<'g, T> {
    /// One slice a parameter.
    pub fn new(slices: Vec<&'g mut [T]>) -> Self {
        Grads { slices }
    }
}

/// A gradient on loan to an op: put it back with [`Sweep::put`].
pub enum Loan<'g, T> {
    /// Of a value of the tape.
    Owned(Vec<T>),
    /// Of a parameter: a slice of the arena.
    Arena(&'g mut [T]),
}

impl<T> Deref for Loan<'_, T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        match self {
            Loan::Owned(v) => v,
            Loan::Arena(v) => v,
        }
    }
}

impl<T> DerefMut for Loan<'_, T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match self {
            Loan::Owned(v) => v,
            Loan::Arena(v) => v,
        }
    }
}

/// The state of a backward pass, as an op sees it.
pub struct Sweep<'g, 'p, T> {
    values: Vec<Value<'p, T>>,
    shapes: Vec<[usize; 2]>,
    grads: Vec<Option<Vec<T>>>,
    params: Vec<Option<&'g mut [T]>>,
    /// The op at work.
    op: &'static str,
}

impl<'g, T: Real> Sweep<'g, '_, T> {
    /// The numbers of `v` (inputs and outputs of the op are still there).
    pub fn value(&self, v: Var) -> &[T] {
        match &self.values[v.0] {
            Value::Owned(x) => x,
            Value::Param(_, x) => x,
            Value::Freed => &[],
        }
    }

    /// Takes the gradient of `v` (zeros if nothing was added yet) to read it or to add to it.
    pub fn take(&mut self, v: Var) -> Loan<'g, T> {
        if let Value::Param(i, _) = self.values[v.0]
            && let Some(slice) = self.params.get_mut(i).and_then(Option::take)
        {
            return Loan::Arena(slice);
        }
        let [r, c] = self.shapes[v.0];
        Loan::Owned(self.grads[v.0].take().unwrap_or_else(|| vec![T::of(0.0); r * c]))
    }

    /// Puts back a gradient that was added to.
    pub fn put(&mut self, v: Var, grad: Loan<'g, T>) {
        look(self.op, true, std::iter::once(&*grad));
        match (grad, &self.values[v.0]) {
            (Loan::Arena(slice), Value::Param(i, _)) => self.params[*i] = Some(slice),
            (Loan::Owned(x), _) => self.grads[v.0] = Some(x),
            (Loan::Arena(_), _) => unreachable!("an arena slice is lent only for a parameter"),
        }
    }
}
