//! One cell, as it is read from a shard.

/// Decodes a cell into the memory of another.
pub type ReadCell<'a> = dyn Fn(u32, &mut Cell) + Sync + 'a;

/// Values of a cell's entries: all 1 (binary data store none), or one f32 each.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// This many entries, each 1.
    Ones(usize),
    /// One value each.
    F32(Vec<f32>),
}

impl Values {
    /// Value of entry `i`.
    pub fn get(&self, i: usize) -> f32 {
        match self {
            Values::Ones(_) => 1.0,
            Values::F32(v) => v[i],
        }
    }
}

impl Default for Values {
    fn default() -> Self {
        Values::Ones(0)
    }
}

/// One cell, decoded. Genes and peaks are sorted by (chromosome, index).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Cell {
    /// Data set index of each gene node.
    pub genes: Vec<u32>,
    /// e, expression of each gene node.
    pub expr: Values,
    /// Data set index of each peak node.
    pub peaks: Vec<u32>,
    /// a, accessibility of each peak node.
    pub acc: Values,
}

impl Cell {
    /// Gene nodes: (index, e).
    pub fn rna(&self) -> impl Iterator<Item = (u32, f32)> + '_ {
        self.genes.iter().enumerate().map(|(i, &g)| (g, self.expr.get(i)))
    }

    /// Peak nodes: (index, a).
    pub fn atac(&self) -> impl Iterator<Item = (u32, f32)> + '_ {
        self.peaks.iter().enumerate().map(|(i, &p)| (p, self.acc.get(i)))
    }
}
