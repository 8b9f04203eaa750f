//! What the ops read of a model: its tensors on a tape, and the constant features of its nodes.

use crate::model::nodes::NodeSet;
use crate::model::params::{LinearAt, TensorsAt};
use crate::model::{Batch, Model, Params};
use crate::ops::project::Side;
use crate::real::Real;
use crate::tape::{Tape, Var};

/// The tensors of a model on a tape.
pub(super) struct Leaves {
    /// By number in the layout.
    vars: Vec<Var>,
    /// Which is what.
    pub at: TensorsAt,
}

impl Leaves {
    pub fn new<'p, T: Real>(tape: &mut Tape<'p, T>, params: &'p Params<T>) -> Self {
        let layout = params.layout();
        let leaf = |(i, e): (usize, &crate::model::Entry)| {
            let shape = if e.shape.len() == 2 { [e.shape[0], e.shape[1]] } else { [1, e.shape[0]] };
            tape.param(i, &params.as_slice()[e.range.clone()], shape)
        };
        Leaves { vars: layout.entries().iter().enumerate().map(leaf).collect(), at: *layout.at() }
    }

    /// A tensor by its number.
    pub fn get(&self, tensor: usize) -> Var {
        self.vars[tensor]
    }

    /// Weight and bias of a linear map.
    pub fn linear(&self, map: LinearAt) -> (Var, Var) {
        (self.vars[map.weight], self.vars[map.bias])
    }
}

impl<T: Real> Model<T> {
    /// Constant features of genes, as the ops read them.
    pub(super) fn gene_side(&self) -> Side<'_, T> {
        Side::of_genes(&self.config, &self.features)
    }

    /// Constant features of peaks, as the ops read them.
    pub(super) fn peak_side(&self) -> Side<'_, T> {
        Side::of_peaks(&self.config, &self.features)
    }

    /// The gene nodes of a batch, with a table row for each gene that is translated: these, or all where none are named.
    pub(super) fn gene_nodes(&self, batch: &Batch<T>, translating: bool, genes: Option<&[u32]>) -> NodeSet<T> {
        match genes {
            Some(some) if translating => NodeSet::with(&batch.rna, &self.features.gene_chrom, some),
            _ => NodeSet::new(&batch.rna, &self.features.gene_chrom, translating),
        }
    }
}
