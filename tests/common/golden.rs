//! Reads the golden vectors: safetensors whose metadata key `config` is JSON.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use safetensors::{Dtype, SafeTensors};
use sccrossrec::csr::Csr;
use sccrossrec::model::{Batch, Features, Init, Model, ModelConfig};
use sccrossrec::real::Real;

/// One golden file.
pub struct Golden {
    pub name: String,
    pub config: serde_json::Value,
    bytes: Vec<u8>,
}

/// All golden files: `SCCROSSREC_GOLDEN` if set, else `tests/golden`.
pub fn all() -> Vec<Golden> {
    let dir = std::env::var_os("SCCROSSREC_GOLDEN")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden"), PathBuf::from);
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&dir)
        .unwrap_or_else(|e| panic!("{}: {e}", dir.display()))
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "safetensors"))
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "no golden files in {}", dir.display());
    paths.iter().map(|p| Golden::read(p)).collect()
}

impl Golden {
    pub fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap();
        let (_, meta) = SafeTensors::read_metadata(&bytes).unwrap();
        let config = serde_json::from_str(&meta.metadata().as_ref().unwrap()["config"]).unwrap();
        Golden { name: path.file_stem().unwrap().to_string_lossy().into_owned(), config, bytes }
    }

    pub fn names(&self) -> Vec<String> {
        SafeTensors::deserialize(&self.bytes).unwrap().names().iter().map(|s| s.to_string()).collect()
    }

    pub fn has(&self, name: &str) -> bool {
        SafeTensors::deserialize(&self.bytes).unwrap().tensor(name).is_ok()
    }

    pub fn shape(&self, name: &str) -> Vec<usize> {
        SafeTensors::deserialize(&self.bytes).unwrap().tensor(name).unwrap().shape().to_vec()
    }

    /// A tensor as f64, whatever it is stored as.
    pub fn f64(&self, name: &str) -> Vec<f64> {
        let all = SafeTensors::deserialize(&self.bytes).unwrap();
        let t = all.tensor(name).unwrap_or_else(|_| panic!("{}: no tensor {name}", self.name));
        let eight =
            |f: fn([u8; 8]) -> f64| t.data().chunks_exact(8).map(|c| f(c.try_into().unwrap())).collect::<Vec<f64>>();
        match t.dtype() {
            Dtype::F64 => eight(f64::from_le_bytes),
            Dtype::I64 => eight(|b| i64::from_le_bytes(b) as f64),
            d => panic!("{name}: dtype {d:?}"),
        }
    }

    pub fn usize(&self, name: &str) -> Vec<usize> {
        self.f64(name).iter().map(|&x| x as usize).collect()
    }

    fn number(&self, key: &str) -> f64 {
        self.config[key].as_f64().unwrap_or_else(|| panic!("{}: config has no {key}", self.name))
    }

    pub fn config(&self) -> ModelConfig {
        let n = |k| self.number(k) as usize;
        let (fg, fp) = (self.shape("data.gene_features")[1], self.shape("data.peak_features")[1]);
        ModelConfig {
            genes: n("genes"),
            peaks: n("peaks"),
            chromosomes: n("chromosomes"),
            gene_extra: fg - n("chromosomes"),
            dna_length: fp - n("chromosomes"),
            embedding_dim: n("embedding_dim"),
            hidden: n("hidden"),
            heads: n("heads"),
            top_k: n("top_k"),
            tau: self.number("tau"),
            min_peaks: n("min_peaks"),
            dropout: self.number("dropout"),
            alpha: self.number("alpha"),
            ..ModelConfig::default()
        }
    }

    /// The model with the golden parameters.
    pub fn model<T: Real>(&self) -> Model<T> {
        let config = self.config();
        let c = config.chromosomes;
        let chrom = |name: &str| self.usize(name).iter().map(|&x| x as u32).collect::<Vec<u32>>();
        let rest = |name: &str| -> Vec<f64> {
            let width = self.shape(name)[1];
            self.f64(name).chunks_exact(width).flat_map(|r| r[c..].to_vec()).collect()
        };
        let codes = rest("data.peak_features").into_iter().map(|x| {
            let code = x * 4.0;
            assert!(code.fract() == 0.0 && (0.0..=4.0).contains(&code), "a peak feature is no base: {x}");
            code as u8
        });
        let features = Features {
            gene_chrom: chrom("data.gene_chrom"),
            peak_chrom: chrom("data.peak_chrom"),
            chromosomes: c,
            unknown: None,
            gene_extra: rest("data.gene_features").iter().map(|&x| T::of(x)).collect(),
            peak_dna: codes.collect(),
        };
        let mut model = Model::new(config, Arc::new(features), Init::PyTorch { embedding_std: 1.0 }, 0).unwrap();
        let mut wanted: Vec<String> =
            self.names().iter().filter_map(|n| n.strip_prefix("param.").map(String::from)).collect();
        for e in model.params.layout().clone().entries() {
            let data = self.f64(&format!("param.{}", e.name));
            assert_eq!(self.shape(&format!("param.{}", e.name)), e.shape, "{}: shape of {}", self.name, e.name);
            let out = model.params.get_mut(&e.name).unwrap();
            out.iter_mut().zip(data).for_each(|(o, x)| *o = T::of(x));
            wanted.retain(|w| *w != e.name);
        }
        assert!(wanted.is_empty(), "{}: golden parameters the model lacks: {wanted:?}", self.name);
        model
    }

    /// Samples `which` as a batch, rows sorted by (chromosome, index); and for each sample the order of its gene and
    /// peak nodes: golden row of each of our rows.
    pub fn batch<T: Real>(&self, model: &Model<T>, which: &[usize]) -> (Batch<T>, Vec<[Vec<usize>; 2]>) {
        let label = self.usize("data.label");
        let side = |name: &str, chrom: &[u32]| -> (Csr<T>, Vec<Vec<usize>>) {
            let ptr = self.usize(&format!("data.{name}_indptr"));
            let index = self.usize(&format!("data.{name}_indices"));
            let value = self.f64(&format!("data.{name}_values"));
            let mut csr = Csr::new();
            let mut orders = Vec::new();
            for &i in which {
                let mut order: Vec<usize> = (0..ptr[i + 1] - ptr[i]).collect();
                order.sort_by_key(|&e| (chrom[index[ptr[i] + e]], index[ptr[i] + e]));
                csr.push_row(order.iter().map(|&e| (index[ptr[i] + e] as u32, T::of(value[ptr[i] + e]))));
                orders.push(order);
            }
            (csr, orders)
        };
        let (rna, genes) = side("rna", &model.features().gene_chrom);
        let (atac, peaks) = side("atac", &model.features().peak_chrom);
        let batch = Batch {
            label: which.iter().map(|&i| label[i] as u8).collect(),
            sample: which.iter().map(|&i| i as u64).collect(),
            rna,
            atac,
        };
        (batch, genes.into_iter().zip(peaks).map(|(g, p)| [g, p]).collect())
    }
}

/// Largest difference, relative to the largest magnitude of `want` (absolute where that is 0).
pub fn error(got: &[f64], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    assert!(got.iter().all(|x| x.is_finite()), "a number is not finite");
    let scale = want.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    let worst = got.iter().zip(want).fold(0.0f64, |m, (a, b)| m.max((a - b).abs()));
    if scale == 0.0 { worst } else { worst / scale }
}

pub fn f64s<T: Real>(x: &[T]) -> Vec<f64> {
    x.iter().map(|v| v.f64()).collect()
}
