//! The engine's side of the comparison with the baseline in PyTorch: samples, weights, losses and gradients as files.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use sccrossrec::dataset::{DataSet, SampleSet};
use sccrossrec::model::{Model, ModelConfig};
use sccrossrec::train::{Checkpoint, recipe};
use sccrossrec::{Error, Result, train};
use serde_json::json;

/// What to compare on.
#[derive(clap::Args)]
pub struct Given {
    /// What `prepare` made
    #[arg(long)]
    pub data: PathBuf,
    /// Weights of this run [default: as a training begins]
    #[arg(long)]
    pub run: Option<PathBuf>,
    /// Samples, half of them positives
    #[arg(long, default_value_t = 32)]
    pub pool: usize,
}

/// A data set, some samples of its training part, and a model.
pub struct Side {
    pub data: DataSet,
    pub set: SampleSet,
    /// Positives and negatives in turn.
    pub pool: Vec<u32>,
    pub model: Model<f32>,
}

impl Given {
    /// Opens the data and makes the model.
    pub fn open(&self) -> Result<Side> {
        let data = DataSet::open(&self.data)?;
        let set = data.samples("default")?;
        let all = &set.samples;
        let of = |label: u8| set.train.iter().copied().filter(move |&i| all[i as usize].label == label);
        let pool: Vec<u32> = of(1).zip(of(0)).flat_map(|(p, n)| [p, n]).take(self.pool).collect();
        if pool.len() < 16 {
            return Err(Error::usage("the training part has fewer than 8 positives or negatives"));
        }
        let model = match &self.run {
            Some(run) => train::Run::open(run)?.model(&data, Checkpoint::Best)?,
            None => {
                let config = recipe("large-batch")?;
                Model::new(config.model_for(&data), data.features(), config.init(), config.seed)?
            }
        };
        Ok(Side { data, set, pool, model })
    }
}

/// Tensors on their way to a file.
#[derive(Default)]
struct File(Vec<(String, Dtype, Vec<usize>, Vec<u8>)>);

impl File {
    fn add<T: bytemuck::Pod>(&mut self, name: impl Into<String>, dtype: Dtype, shape: &[usize], x: &[T]) {
        self.0.push((name.into(), dtype, shape.to_vec(), bytemuck::cast_slice(x).to_vec()));
    }

    fn write(&self, path: &Path, metadata: HashMap<String, String>) -> Result<()> {
        let views: std::result::Result<Vec<_>, _> =
            self.0.iter().map(|(n, d, s, x)| TensorView::new(*d, s.clone(), x).map(|v| (n.as_str(), v))).collect();
        views
            .and_then(|v| serialize_to_file(v, Some(metadata), path))
            .map_err(|e| Error::Internal(format!("{}: {e}", path.display())))
    }
}

/// Positives, negatives and both, as numbers within the pool.
fn batches(pool: usize) -> Vec<(&'static str, Vec<usize>)> {
    vec![("positive", vec![0]), ("negative", vec![1]), ("mixed16", (0..16.min(pool)).collect())]
}

/// `inputs.safetensors`, `weights.safetensors` and `engine.safetensors` in `out`.
pub fn write(given: &Given, out: &Path) -> Result<()> {
    let Side { data, set, pool, model } = given.open()?;
    std::fs::create_dir_all(out).map_err(|e| Error::Internal(format!("{}: {e}", out.display())))?;
    let still = ModelConfig { dropout: 0.0, ..model.config().clone() };
    let model = model.with_config(still)?;
    let (f, c, v) = (model.features(), model.config(), data.vocabulary());
    let all = data.batch(&set, &pool);
    let mut inputs = File::default();
    inputs.add("gene_chrom", Dtype::U32, &[c.genes], &f.gene_chrom);
    inputs.add("peak_chrom", Dtype::U32, &[c.peaks], &f.peak_chrom);
    inputs.add("gene_extra", Dtype::F32, &[c.genes, c.gene_extra], &f.gene_extra);
    inputs.add("peak_dna", Dtype::U8, &[c.peaks, c.dna_length], &f.peak_dna);
    inputs.add("label", Dtype::U8, &[pool.len()], &all.label);
    for (name, rows) in [("rna", &all.rna), ("atac", &all.atac)] {
        let ptr: Vec<i64> = rows.indptr.iter().map(|&i| i as i64).collect();
        inputs.add(format!("{name}_indptr"), Dtype::I64, &[ptr.len()], &ptr);
        inputs.add(format!("{name}_indices"), Dtype::U32, &[rows.indices.len()], &rows.indices);
        inputs.add(format!("{name}_values"), Dtype::F32, &[rows.values.len()], &rows.values);
    }
    let barcodes: Vec<[&str; 2]> = pool
        .iter()
        .map(|&i| set.samples[i as usize])
        .map(|s| [s.rna, s.atac].map(|cell| v.cells[cell as usize].as_str()))
        .collect();
    let mut config = json!(c);
    config["unknown"] = json!(f.unknown);
    config["barcodes"] = json!(barcodes);
    let named: HashMap<_, _> = batches(pool.len()).into_iter().collect();
    let metadata = [("config", config.to_string()), ("batches", json!(named).to_string())];
    inputs.write(&out.join("inputs.safetensors"), metadata.map(|(k, v)| (k.to_string(), v)).into())?;

    let mut found = File::default();
    let mut grads = vec![0.0; model.params.layout().len()];
    for (name, which) in batches(pool.len()) {
        let numbers: Vec<u32> = which.iter().map(|&i| pool[i]).collect();
        grads.fill(0.0);
        let loss = model.train_step(&data.batch(&set, &numbers), None, &mut grads)?.loss;
        found.add(format!("{name}.loss"), Dtype::F32, &[1], &[loss]);
        for e in model.params.layout().entries() {
            found.add(format!("{name}.grad.{}", e.name), Dtype::F32, &e.shape, &grads[e.range.clone()]);
        }
        println!("{name}: loss {loss:.6}");
    }
    found.write(&out.join("engine.safetensors"), HashMap::new())?;
    train::tensors::save(&out.join("weights.safetensors"), &model.params, model.config())
}
