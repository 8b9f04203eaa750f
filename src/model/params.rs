//! Parameters: one flat arena with named tensors under the published names (docs/model.md, section 9.1).

use std::ops::Range;
use std::sync::Arc;

use super::cis::BINS;
use super::config::ModelConfig;
use crate::real::Real;
use crate::rng::Rng;

/// One tensor of the arena.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Published name, e.g. `cross_attention_layer.rna_query.weight`.
    pub name: String,
    /// Shape, row-major.
    pub shape: Vec<usize>,
    /// Where it lies in the arena.
    pub range: Range<usize>,
}

/// Names, shapes and places of all tensors of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    entries: Vec<Entry>,
    len: usize,
}

/// The six linear maps of gene and peak nodes, in checkpoint order.
pub const PREFIX: &str = "cross_attention_layer.";

impl Layout {
    /// The tensors of a model, in checkpoint order.
    pub fn new(c: &ModelConfig) -> Self {
        let mut l = Layout { entries: Vec::new(), len: 0 };
        let (h, d) = (c.hidden, c.embedding_dim);
        let (rna, atac) = (d + 1 + c.gene_features(), d + 1 + c.peak_features());
        l.tensor("rna_idembedding.weight".into(), &[c.genes, d]);
        l.tensor("atac_idembedding.weight".into(), &[c.peaks, d]);
        let node = [("rna_query", rna), ("atac_key", atac), ("rna_value", rna), ("atac_value", atac)];
        for (name, width) in node {
            l.linear(&format!("{PREFIX}{name}"), h, width);
        }
        if c.heads > 1 {
            l.linear(&format!("{PREFIX}rna_out_proj"), h, h);
            l.linear(&format!("{PREFIX}atac_out_proj"), h, h);
        }
        l.linear(&format!("{PREFIX}rna_self_attention"), h, rna);
        l.linear(&format!("{PREFIX}atac_self_attention"), h, atac);
        l.linear(&format!("{PREFIX}dim_reduction_rna"), h, 2 * h);
        l.linear(&format!("{PREFIX}dim_reduction_atac"), h, 2 * h);
        l.linear("fc1", h, 2 * h);
        l.linear("fc2", h / 2, h);
        l.linear("fc3", 2, h / 2);
        if let Some(cis) = &c.cis {
            l.linear("cis.cell", cis.components, atac);
            l.linear("cis.gene", c.genes, cis.components + 2);
            l.tensor("cis.decay".into(), &[BINS]);
        }
        l
    }

    fn tensor(&mut self, name: String, shape: &[usize]) {
        let n = shape.iter().product::<usize>();
        self.entries.push(Entry { name, shape: shape.to_vec(), range: self.len..self.len + n });
        self.len += n;
    }

    fn linear(&mut self, name: &str, out: usize, inp: usize) {
        self.tensor(format!("{name}.weight"), &[out, inp]);
        self.tensor(format!("{name}.bias"), &[out]);
    }

    /// All tensors, in order; their ranges cover `0..len()` exactly.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The tensor of that name.
    pub fn find(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|e| e.name == name)
    }

    /// Numbers in the arena.
    pub fn len(&self) -> usize {
        self.len
    }

    /// No tensors?
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// How the parameters start. Named, so that recipes can choose.
/// See docs/model.md, section 4.9.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// PyTorch's defaults: Linear uniform ±1/sqrt(in), Embedding normal with this standard deviation (published: 1).
    PyTorch {
        /// Standard deviation of the id tables.
        embedding_std: f64,
    },
}

/// The parameters of a model: a flat arena and its layout. Gradients and moments are arenas of the same layout.
#[derive(Debug, Clone)]
pub struct Params<T> {
    layout: Arc<Layout>,
    data: Vec<T>,
}

impl<T: Real> Params<T> {
    /// All zeros.
    pub fn zeros(layout: Arc<Layout>) -> Self {
        let data = vec![T::of(0.0); layout.len()];
        Params { layout, data }
    }

    /// Seeded start; each tensor draws from a stream of its own, so sizes of one do not move another.
    pub fn init(layout: Arc<Layout>, init: Init, seed: u64) -> Self {
        let mut p = Self::zeros(layout);
        let Init::PyTorch { embedding_std } = init;
        let entries = p.layout.entries.clone();
        let mut bound = 0.0;
        for (i, e) in entries.iter().enumerate() {
            let mut rng = Rng::new(seed, 0x1000 + i as u64);
            let out = &mut p.data[e.range.clone()];
            if e.name.starts_with("cis.gene") || e.name == "cis.decay" {
                // 0: genes start at their frequency, distances alike.
            } else if e.name.ends_with("idembedding.weight") {
                out.iter_mut().for_each(|x| *x = T::of(embedding_std * rng.normal()));
            } else {
                if e.shape.len() == 2 {
                    bound = 1.0 / (e.shape[1] as f64).sqrt(); // the bias that follows has the bound of its weight
                }
                out.iter_mut().for_each(|x| *x = T::of((2.0 * rng.uniform() - 1.0) * bound));
            }
        }
        p
    }

    /// Names, shapes and places.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// A tensor by its published name.
    pub fn get(&self, name: &str) -> Option<&[T]> {
        self.layout.find(name).map(|e| &self.data[e.range.clone()])
    }

    /// A tensor by its published name, to write.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut [T]> {
        let range = self.layout.find(name)?.range.clone();
        Some(&mut self.data[range])
    }

    /// The whole arena.
    pub fn as_slice(&self) -> &[T] {
        &self.data
    }

    /// The whole arena, to write.
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        &mut self.data
    }
}
