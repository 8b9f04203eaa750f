//! Masked sparse gene–peak attention for paired single-cell RNA + ATAC data.
//!
//! Prepared data go in, a trained model and tables come out:
//!
//! | what | how |
//! | --- | --- |
//! | input files | [`annotate()`] fills their gaps, [`Simulation`] makes some with planted links |
//! | a data set | [`prepare()`] makes the folder, [`DataSet`] reads it, [`draw_samples`] draws a [`SampleSet`] |
//! | a model | [`ModelConfig`], [`Model`], one [`Batch`] at a time; [`Want`] says what is brought back, [`Output`] brings it |
//! | where it computes | [`Device`], [`Runner`] |
//! | a training | [`recipe`], [`TrainConfig`], [`train()`], [`resume`]; [`Run`] is the folder that it keeps |
//! | numbers | [`evaluate()`], [`embeddings`], [`translate`], [`match_partners`] |
//! | links | [`discover()`], [`DiscoveryFolder`] |
//! | a page | [`page`] |
//! | ops and kernels | [`ops`], [`tape`] |
//!
//! Long calls take a [`Progress`]; failures are one line with an exit code, [`Error`]. The mathematics is in
//! `docs/model.md`, the layers of the code in `docs/design.md`. What is not listed here may change at any time.
//!
//! # From files to links
//! ```
//! use sccrossrec::{
//!     Checkpoint, DataSet, DiscoverOptions, ModelConfig, Part, PrepareConfig, Run, SimulateConfig, Simulation, TrainConfig,
//!     discover, evaluate, prepare, recipe, train,
//! };
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
//! // ... and links: eleven scores side by side, five of them of the data alone, and chance.
//! std::fs::create_dir(dir.join("links"))?;
//! let options = DiscoverOptions { truth: Some(files.truth), ..Default::default() };
//! let made = discover(&model, &data, &options, &dir.join("links"), &())?;
//! let recovery = made.recovery.ok_or("known links were given")?;
//! assert_eq!((made.cells, recovery.scores.len()), (report.cells as u64, 11));
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
//! use sccrossrec::ops::adam::{self, AdamConfig};
//! use sccrossrec::{Batch, Dropout, Features, Init, Model, ModelConfig, Want};
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
// Allowed in the few modules that need it, which the test `architecture` lists; forbidden in all others.
#![deny(unsafe_code)]

#[doc(hidden)]
#[forbid(unsafe_code)]
pub mod annotate;
#[doc(hidden)]
#[forbid(unsafe_code)]
pub mod cli;
#[doc(hidden)]
#[forbid(unsafe_code)]
pub mod csr;
#[doc(hidden)]
pub mod data;
#[doc(hidden)]
pub mod dataset;
#[doc(hidden)]
pub mod device;
#[doc(hidden)]
#[forbid(unsafe_code)]
pub mod discover;
#[doc(hidden)]
pub mod engine;
#[doc(hidden)]
#[forbid(unsafe_code)]
pub mod error;
#[doc(hidden)]
#[forbid(unsafe_code)]
pub mod evaluate;
#[doc(hidden)]
#[forbid(unsafe_code)]
pub mod files;
#[doc(hidden)]
#[forbid(unsafe_code)]
pub mod interrupt;
#[doc(hidden)]
#[forbid(unsafe_code)]
pub mod memory;
#[doc(hidden)]
#[forbid(unsafe_code)]
pub mod model;
#[doc(hidden)]
#[forbid(unsafe_code)]
pub mod near;
pub mod ops;
#[doc(hidden)]
pub mod parity;
#[doc(hidden)]
#[forbid(unsafe_code)]
pub mod picture;
#[doc(hidden)]
#[forbid(unsafe_code)]
pub mod predict;
#[doc(hidden)]
#[forbid(unsafe_code)]
pub mod prepare;
#[doc(hidden)]
#[forbid(unsafe_code)]
pub mod profile;
#[doc(hidden)]
#[forbid(unsafe_code)]
pub mod progress;
#[doc(hidden)]
#[forbid(unsafe_code)]
pub mod real;
#[doc(hidden)]
#[forbid(unsafe_code)]
pub mod region;
#[doc(hidden)]
#[forbid(unsafe_code)]
pub mod report;
#[doc(hidden)]
#[forbid(unsafe_code)]
pub mod rng;
#[doc(hidden)]
pub mod simd;
#[doc(hidden)]
#[forbid(unsafe_code)]
pub mod simulate;
#[doc(hidden)]
#[forbid(unsafe_code)]
pub mod table;
#[forbid(unsafe_code)]
pub mod tape;
#[doc(hidden)]
#[forbid(unsafe_code)]
pub mod train;
#[doc(hidden)]
#[forbid(unsafe_code)]
pub mod vocabulary;

pub use annotate::{AnnotateConfig, annotate};
pub use dataset::{Access, DataSet, Io, Negatives, SampleConfig, SampleSet, SplitBy, draw_samples};
pub use discover::record::Discovery;
pub use discover::{DiscoverOptions, DiscoveryFolder, discover};
pub use engine::{Device, Runner};
pub use error::{Error, Result};
pub use evaluate::{Evaluation, Part, evaluate};
pub use model::output::{Output, Want};
pub use model::{
    Batch, CisConfig, CisGraph, CisTarget, Dropout, Features, Init, Model, ModelConfig, Params, Precision,
};
pub use predict::partners::{MatchOptions, Matches, Query, rank as match_partners};
pub use predict::{PredictOptions, embeddings, translate};
pub use prepare::{GeneFeatures, Pairing, PrepareConfig, PrepareReport, prepare};
pub use progress::Progress;
pub use report::{Page, page};
pub use simulate::{SimulateConfig, Simulation};
pub use train::{
    Checkpoint, EpochRecord, Observer, OnNan, Outcome, Run, Schedule, TrainConfig, TrainingPlan, TrainingStep, recipe,
    resume, resume_on, train, train_on,
};
pub use vocabulary::{Gene, Peak, Vocabulary};
