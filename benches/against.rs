//! The engine's side of the comparison with `benches/baseline`: `benches/compare.sh` is the command that uses it.
//!
//! * `cargo bench --bench against -- write --data DATA --out DIR` writes `inputs.safetensors` (features and samples, as
//!   they are in DATA), `weights.safetensors`, and `engine.safetensors`: losses and gradients without dropout.
//! * `… -- samples --data DATA --out F.tsv`: barcodes, label and part of each sample.
//! * `… -- serve --data DATA`: trains and looks by request. A line on standard input is `step I J …` or `look I J …`,
//!   numbers of samples among those that `write` wrote; the answer is a line of JSON with seconds.
//! * `… -- plot --out DIR F.csv …`: the pictures.

#[path = "common/chart.rs"]
mod chart;

use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Parser, Subcommand};
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use sccrossrec::graph::{DataSet, SampleSet};
use sccrossrec::model::{Dropout, Model, Run, Want};
use sccrossrec::ops::adam::{Others, RowAdam};
use sccrossrec::train::{self, Checkpoint, recipe};
use sccrossrec::{Error, Result};
use serde_json::json;

#[derive(Parser)]
struct Options {
    #[command(subcommand)]
    what: What,
    /// What cargo adds
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

#[derive(clap::Args)]
struct Given {
    /// What `prepare` made
    #[arg(long)]
    data: PathBuf,
    /// Weights of this run [default: as a training begins]
    #[arg(long)]
    run: Option<PathBuf>,
    /// Samples, half of them positives
    #[arg(long, default_value_t = 32)]
    pool: usize,
}

#[derive(Subcommand)]
enum What {
    /// Inputs, weights, losses and gradients, for Python
    Write {
        #[command(flatten)]
        given: Given,
        #[arg(long)]
        out: PathBuf,
    },
    /// The sample set as a table
    Samples {
        #[arg(long)]
        data: PathBuf,
        #[arg(long)]
        out: PathBuf,
    },
    /// Steps and forward passes by request
    Serve {
        #[command(flatten)]
        given: Given,
    },
    /// Pictures of measurements
    Plot {
        #[arg(long)]
        out: PathBuf,
        /// Tables of `compare.sh`
        #[arg(required = true)]
        csv: Vec<PathBuf>,
    },
}

/// A data set, some samples of its training part, and a model.
struct Side {
    data: DataSet,
    set: SampleSet,
    /// Positives and negatives in turn.
    pool: Vec<u32>,
    model: Model<f32>,
}

impl Given {
    fn open(&self) -> Result<Side> {
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
                let config = recipe("default")?;
                Model::new(config.model(&data), data.features(), config.init(), config.seed)?
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

fn write(given: &Given, out: &Path) -> Result<()> {
    let Side { data, set, pool, mut model } = given.open()?;
    std::fs::create_dir_all(out).map_err(|e| Error::Internal(format!("{}: {e}", out.display())))?;
    model.config.dropout = 0.0;
    let (f, c, v) = (&model.features, &model.config, data.vocabulary());
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
    train::checkpoint::save(&out.join("weights.safetensors"), &model.params, &model.config)
}

fn samples(data: &Path, out: &Path) -> Result<()> {
    let data = DataSet::open(data)?;
    let set = data.samples("default")?;
    let cells = &data.vocabulary().cells;
    let mut text = String::from("rna\tatac\tlabel\tpart\n");
    for (part, numbers) in [("train", &set.train), ("val", &set.val), ("test", &set.test)] {
        for &i in numbers {
            let s = set.samples[i as usize];
            text += &format!("{}\t{}\t{}\t{part}\n", cells[s.rna as usize], cells[s.atac as usize], s.label);
        }
    }
    std::fs::write(out, text).map_err(|e| Error::Internal(format!("{}: {e}", out.display())))
}

/// A training by request, with the optimiser as `train` has it.
fn serve(given: &Given) -> Result<()> {
    let Side { data, set, pool, mut model } = given.open()?;
    let n = model.params.layout().len();
    let (mut grads, mut m, mut v) = (vec![0.0; n], vec![0.0; n], vec![0.0; n]);
    let config = recipe("published")?.adam;
    let mut adam = RowAdam::new(model.config.genes + model.config.peaks, model.config.embedding_dim, Others::Later);
    let mut step = 0;
    println!("{}", json!({ "samples": pool.len(), "threads": rayon::current_num_threads(), "parameters": n }));
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|e| Error::Internal(e.to_string()))?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let numbers: Option<Vec<u32>> =
            words.iter().skip(1).map(|w| w.parse::<usize>().ok().and_then(|i| pool.get(i).copied())).collect();
        let (Some(&what), Some(numbers)) = (words.first(), numbers.filter(|n| !n.is_empty())) else {
            return Err(Error::usage(format!("{line:?}: is no request")));
        };
        let began = Instant::now();
        let batch = data.batch(&set, &numbers);
        let reading = began.elapsed().as_secs_f64();
        if what == "look" {
            adam.flush(model.params.as_mut_slice(), &mut m, &mut v);
        }
        let began = Instant::now();
        let loss = match what {
            "step" => {
                step += 1;
                let rows = model.table_rows(&batch, None);
                adam.catch_up(model.params.as_mut_slice(), &mut m, &mut v, &rows);
                let dropout = Some(Dropout { seed: 906, step });
                let out = model.run(&batch, Run { dropout, grads: Some(&mut grads), ..Run::default() })?;
                adam.step(model.params.as_mut_slice(), &mut grads, &mut m, &mut v, &config, step, &rows);
                out.loss
            }
            "look" => model.forward(&batch, Want { translation: true, ..Want::default() })?.loss,
            other => return Err(Error::usage(format!("{other:?}: is no request"))),
        };
        answer(&json!({ "reading": reading, "seconds": began.elapsed().as_secs_f64(), "loss": loss }))?;
    }
    Ok(())
}

fn answer(line: &serde_json::Value) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|e| Error::Internal(e.to_string()))
}

fn main() {
    let done = match Options::parse().what {
        What::Write { given, out } => write(&given, &out),
        What::Samples { data, out } => samples(&data, &out),
        What::Serve { given } => serve(&given),
        What::Plot { out, csv } => chart::plot(&out, &csv),
    };
    if let Err(e) = done {
        eprintln!("{e}");
        std::process::exit(e.exit_code());
    }
}
