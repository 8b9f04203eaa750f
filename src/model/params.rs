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

/// A linear map: the numbers of its weight and its bias among [`ParamLayout::entries`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LinearAt {
    pub weight: usize,
    pub bias: usize,
}

/// The tensors of one modality, by their numbers among [`ParamLayout::entries`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NodesAt {
    /// Id embeddings.
    pub table: usize,
    /// Queries of genes, keys of peaks.
    pub score: LinearAt,
    /// What a node sends to those that attend to it.
    pub value: LinearAt,
    /// With more than one head: mixes what the heads brought.
    pub out: Option<LinearAt>,
    /// What a node says alone.
    pub own: LinearAt,
    /// Makes one of message and own.
    pub reduce: LinearAt,
}

/// The tensors of the cis term, by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CisAt {
    pub cell: LinearAt,
    pub gene: LinearAt,
    pub decay: usize,
}

/// Which tensor is what, by number: found once, when the layout is made, so that a pass looks up no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TensorsAt {
    pub rna: NodesAt,
    pub atac: NodesAt,
    /// The matching head.
    pub fc: [LinearAt; 3],
    pub cis: Option<CisAt>,
}

/// Names, shapes and places of all tensors of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct ParamLayout {
    entries: Vec<Entry>,
    at: TensorsAt,
    len: usize,
}

/// Prefix of the linear maps of gene and peak nodes.
pub const PREFIX: &str = "cross_attention_layer.";

/// The tensors of a layout so far.
#[derive(Default)]
pub(crate) struct Building {
    entries: Vec<Entry>,
    len: usize,
}

impl Building {
    /// Number of a new tensor.
    pub fn tensor(&mut self, name: &str, shape: &[usize]) -> usize {
        let n = shape.iter().product::<usize>();
        self.entries.push(Entry { name: name.into(), shape: shape.to_vec(), range: self.len..self.len + n });
        self.len += n;
        self.entries.len() - 1
    }

    /// Numbers of a new linear map.
    pub fn linear(&mut self, name: &str, out: usize, inp: usize) -> LinearAt {
        let weight = self.tensor(&format!("{name}.weight"), &[out, inp]);
        LinearAt { weight, bias: self.tensor(&format!("{name}.bias"), &[out]) }
    }

    /// The tensors, and how many numbers they have in all.
    pub fn finish(self) -> (Vec<Entry>, usize) {
        (self.entries, self.len)
    }

    /// A linear map of gene or peak nodes.
    fn node(&mut self, name: &str, out: usize, inp: usize) -> LinearAt {
        self.linear(&format!("{PREFIX}{name}"), out, inp)
    }
}

impl ParamLayout {
    /// The tensors of a model, in checkpoint order.
    pub fn new(c: &ModelConfig) -> Self {
        let mut l = Building::default();
        let (h, d, heads) = (c.hidden, c.embedding_dim, c.heads);
        let (rna, atac) = (d + 1 + c.gene_features(), d + 1 + c.peak_features());
        let tables =
            [l.tensor("rna_idembedding.weight", &[c.genes, d]), l.tensor("atac_idembedding.weight", &[c.peaks, d])];
        let scores = [l.node("rna_query", h, rna), l.node("atac_key", h, atac)];
        let values = [l.node("rna_value", h, rna), l.node("atac_value", h, atac)];
        let outs = ["rna_out_proj", "atac_out_proj"].map(|name| (heads > 1).then(|| l.node(name, h, h)));
        let own = [l.node("rna_self_attention", h, rna), l.node("atac_self_attention", h, atac)];
        let reduce = [l.node("dim_reduction_rna", h, 2 * h), l.node("dim_reduction_atac", h, 2 * h)];
        let fc = [l.linear("fc1", h, 2 * h), l.linear("fc2", h / 2, h), l.linear("fc3", 2, h / 2)];
        let cis = c.cis.as_ref().map(|cis| CisAt {
            cell: l.linear("cis.cell", cis.components, atac),
            gene: l.linear("cis.gene", c.genes, cis.components + 2),
            decay: l.tensor("cis.decay", &[BINS]),
        });
        let [rna, atac] = [0, 1].map(|i| NodesAt {
            table: tables[i],
            score: scores[i],
            value: values[i],
            out: outs[i],
            own: own[i],
            reduce: reduce[i],
        });
        ParamLayout { entries: l.entries, at: TensorsAt { rna, atac, fc, cis }, len: l.len }
    }

    /// All tensors, in order; their ranges cover `0..len()` exactly.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Which tensor is what.
    pub(crate) fn at(&self) -> &TensorsAt {
        &self.at
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
    layout: Arc<ParamLayout>,
    data: Vec<T>,
}

impl<T: Real> Params<T> {
    /// All zeros.
    pub fn zeros(layout: Arc<ParamLayout>) -> Self {
        let data = vec![T::of(0.0); layout.len()];
        Params { layout, data }
    }

    /// Seeded start; each tensor draws from a stream of its own, so sizes of one do not move another.
    pub fn init(layout: Arc<ParamLayout>, init: Init, seed: u64) -> Self {
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
    pub fn layout(&self) -> &Arc<ParamLayout> {
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
