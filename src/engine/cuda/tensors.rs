//! Parameters, gradients and moments, to the device and back.

use super::Engine;
use crate::device::abi::Control;
use crate::device::arena::Span;
use crate::error::{Error, Result};

impl Engine {
    fn scatter(&self, span: Span<f32>, data: &[f32]) -> Result<()> {
        let mut all = vec![0f32; self.state.len];
        for (e, &at) in self.layout.entries().iter().zip(&self.state.starts) {
            all[at..at + e.range.len()].copy_from_slice(&data[e.range.clone()]);
        }
        self.state.arena.write(span, &all)
    }

    fn gather(&self, span: Span<f32>) -> Result<Vec<f32>> {
        let all = self.state.arena.read(span, self.state.len)?;
        let mut out = vec![0f32; self.layout.len()];
        for (e, &at) in self.layout.entries().iter().zip(&self.state.starts) {
            out[e.range.clone()].copy_from_slice(&all[at..at + e.range.len()]);
        }
        Ok(out)
    }

    /// Replaces the parameters: an arena of the model's layout.
    pub fn set_params(&mut self, params: &[f32]) -> Result<()> {
        self.scatter(self.state.p, params)
    }

    /// The parameters, as an arena of the model's layout.
    pub fn params(&self) -> Result<Vec<f32>> {
        self.gather(self.state.p)
    }

    /// The gradients, as an arena of the model's layout.
    pub fn grads(&self) -> Result<Vec<f32>> {
        self.gather(self.state.g)
    }

    /// Replaces the gradients: an arena of the model's layout.
    pub(crate) fn set_grads(&mut self, grads: &[f32]) -> Result<()> {
        self.scatter(self.state.g, grads)
    }

    /// Replaces the moments, arenas of the model's layout, and the number of steps they are the result of.
    pub fn set_moments(&mut self, m: &[f32], v: &[f32], updates: u64, stop_on_nan: bool) -> Result<()> {
        self.scatter(self.state.m, m)?;
        self.scatter(self.state.v, v)?;
        self.set_control(updates, stop_on_nan)
    }

    /// The moments, arenas of the model's layout.
    pub fn moments(&self) -> Result<(Vec<f32>, Vec<f32>)> {
        Ok((self.gather(self.state.m)?, self.gather(self.state.v)?))
    }

    /// Sets the number of optimiser steps taken; lets them be taken again after one that was not finite.
    pub(crate) fn set_control(&mut self, updates: u64, stop_on_nan: bool) -> Result<()> {
        let updates = u32::try_from(updates).map_err(|_| Error::usage("more than four thousand million steps"))?;
        let control = Control { updates, stop_on_nan: u32::from(stop_on_nan), ..Control::default() };
        self.state.arena.write(self.state.control, &[control])
    }
}
