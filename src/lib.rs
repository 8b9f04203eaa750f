//! Masked sparse gene–peak attention for paired single-cell RNA + ATAC data.
//!
//! # A tour, in the order of the work
//! 1. [`data`] reads and writes AnnData, GTF and FASTA, and simulates data with planted gene–peak regulation.
//! 2. [`graph`] makes of two AnnData files a data set: cells in memory-mapped shards, vocabularies, constant features,
//!    and sample sets (positives, negatives, parts), from which it assembles batches.
//! 3. [`tape`] records operations and runs their derivatives backwards.
//! 4. [`ops`] holds the operations, each with a forward and a backward pass, and the optimiser ([`ops::adam`]).
//! 5. [`model`] puts them together: sizes, parameters in one arena under the published names, the forward and backward
//!    pass over a batch, and a plain pair-by-pair reference path.
//! 6. [`train`] runs the epochs and keeps a RUN: settings, checkpoints, log, and all that resuming needs.
//! 7. [`evaluate`] measures matching and translation, each beside trivial baselines; [`predict`] writes embeddings and
//!    translated RNA; [`matching`] ranks the partners of cells.
//! 8. [`discover`] reads the attention back as gene–peak links, cell by cell and summed over cell types.
//!
//! 9. [`picture`] draws curves, embeddings, heat maps, arcs and tracks as SVG or PNG; [`report`] puts a run and a discovery
//!    on one page that works offline.
//!
//! Beside them: [`error`] (one line for every failure, with its exit code), [`rng`] (counter-based random numbers, so
//! that no result depends on the number of threads), [`real`] (f32 and f64), [`simd`], [`profile`] (where the time goes),
//! [`interrupt`] (Ctrl-C), and [`cli`] (the program itself). [`device`] holds the CUDA kernels.
//!
//! # From files to links
//! ```
//! use sccrossrec::simulate::{SimulateConfig, Simulation};
//! use sccrossrec::discover::{DiscoverOptions, discover};
//! use sccrossrec::evaluate::{Part, evaluate};
//! use sccrossrec::dataset::DataSet;
//! use sccrossrec::model::ModelConfig;
//! use sccrossrec::prepare::{PrepareConfig, prepare};
//! use sccrossrec::train::{Checkpoint, Run, TrainConfig, recipe, train};
//!
//! # let dir = std::env::temp_dir().join(format!("sccrossrec-doc-tour-{}", std::process::id()));
//! # std::fs::create_dir_all(&dir)?;
//! // Two small AnnData files and the links planted in them.
//! let small = SimulateConfig { cells: 120, genes: 24, peaks: 96, chromosomes: 3, cell_types: 3, ..Default::default() };
//! let files = Simulation::new(small)?.write(&dir, &())?;
//!
//! // A data set with its sample set `default`: 80/10/10 of the cells, a negative a positive.
//! let report = prepare(&PrepareConfig::new(&files.rna, &files.atac), &dir.join("data"), &())?;
//! let data = DataSet::open(&dir.join("data"))?;
//! let set = data.samples("default")?;
//! assert_eq!(set.samples.len(), 2 * report.cells);
//!
//! // A run of one epoch.
//! let base = recipe("default")?;
//! let small = ModelConfig { hidden: 16, embedding_dim: 8, ..base.model };
//! let config = TrainConfig { epochs: 1, batch_size: 32, model: small, ..base };
//! let outcome = train(&data, &set, &config, &dir.join("run"), &mut ())?;
//! assert_eq!(outcome.steps, set.train.len().div_ceil(32) as u64);
//!
//! // Its best parameters, on the test samples ...
//! let model = Run::open(&dir.join("run"))?.model(&data, Checkpoint::Best)?;
//! let found = evaluate(&model, &data, &set, Part::Test, 64, &())?;
//! assert_eq!(found.matching.model.samples, set.test.len() as u64);
//! println!("{}", found.table());
//!
//! // ... and read back as links: ten scores side by side, four of them of the data alone, and chance.
//! std::fs::create_dir(dir.join("links"))?;
//! let options = DiscoverOptions { truth: Some(files.truth), ..Default::default() };
//! let made = discover(&model, &data, &options, &dir.join("links"), &())?;
//! let recovery = made.recovery.ok_or("known links were given")?;
//! assert_eq!((made.cells, recovery.scores.len()), (report.cells as u64, 10));
//! # std::fs::remove_dir_all(&dir)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # A training loop of one's own
//! Gradients and moments are arenas like the parameters; a batch is made of lists of (index, value), sorted by
//! (chromosome, index), from wherever they come.
//! ```
//! use std::sync::Arc;
//!
//! use sccrossrec::model::{Batch, Dropout, Features, Init, Model, ModelConfig};
//! use sccrossrec::model::output::Want;
//! use sccrossrec::ops::adam;
//! use sccrossrec::ops::adam::AdamConfig;
//!
//! // Two genes and four peaks on two chromosomes.
//! let features = Features::<f32> {
//!     gene_chrom: vec![0, 1],
//!     peak_chrom: vec![0, 0, 1, 1],
//!     chromosomes: 2,
//!     unknown: None,
//!     gene_extra: vec![],
//!     peak_dna: vec![],
//! };
//! let config =
//!     ModelConfig { genes: 2, peaks: 4, chromosomes: 2, embedding_dim: 8, hidden: 8, dropout: 0.0, ..Default::default() };
//! let mut model = Model::new(config, Arc::new(features), Init::PyTorch { embedding_std: 1.0 }, 906)?;
//!
//! // A positive sample and a negative one: label, number, genes, peaks.
//! let mut batch = Batch::new();
//! batch.push(1, 0, [(0, 2.0), (1, 1.0)], [(0, 1.0), (2, 1.0)]);
//! batch.push(0, 1, [(0, 2.0), (1, 1.0)], [(1, 1.0), (3, 1.0)]);
//!
//! let n = model.params.layout().len();
//! let (mut grads, mut m, mut v) = (vec![0.0; n], vec![0.0; n], vec![0.0; n]);
//! let adam = AdamConfig { lr: 1e-2, ..Default::default() };
//! let before = model.forward(&batch, Want::default())?.match_loss;
//! for t in 1..=50 {
//!     model.train_step(&batch, Some(Dropout { seed: 906, step: t }), &mut grads)?;
//!     adam::step(model.params.as_mut_slice(), &mut grads, &mut m, &mut v, &adam, t); // leaves the gradients at 0
//! }
//! let after = model.forward(&batch, Want::default())?;
//! assert!(after.match_loss < before / 2.0);
//! assert!(after.logits[1] > after.logits[0] && after.logits[3] < after.logits[2]);
//! # Ok::<(), sccrossrec::Error>(())
//! ```
#![warn(missing_docs)]
// Allowed in the few modules that need it, which `tests/architecture` lists; forbidden in all others.
#![deny(unsafe_code)]

#[forbid(unsafe_code)]
pub mod annotate;
#[forbid(unsafe_code)]
pub mod cli;
#[forbid(unsafe_code)]
pub mod csr;
pub mod data;
pub mod dataset;
pub mod device;
#[forbid(unsafe_code)]
pub mod discover;
pub mod engine;
#[forbid(unsafe_code)]
pub mod error;
#[forbid(unsafe_code)]
pub mod evaluate;
#[forbid(unsafe_code)]
pub mod files;
#[forbid(unsafe_code)]
pub mod interrupt;
#[forbid(unsafe_code)]
pub mod memory;
#[forbid(unsafe_code)]
pub mod model;
#[forbid(unsafe_code)]
pub mod near;
pub mod ops;
pub mod parity;
#[forbid(unsafe_code)]
pub mod picture;
#[forbid(unsafe_code)]
pub mod predict;
#[forbid(unsafe_code)]
pub mod prepare;
#[forbid(unsafe_code)]
pub mod profile;
#[forbid(unsafe_code)]
pub mod progress;
#[forbid(unsafe_code)]
pub mod real;
#[forbid(unsafe_code)]
pub mod report;
#[forbid(unsafe_code)]
pub mod rng;
pub mod simd;
#[forbid(unsafe_code)]
pub mod simulate;
#[forbid(unsafe_code)]
pub mod table;
#[forbid(unsafe_code)]
pub mod tape;
#[forbid(unsafe_code)]
pub mod train;
#[forbid(unsafe_code)]
pub mod vocabulary;

pub use error::{Error, Result};
