//! Weights in and out under the published names, and runs that meet other data by name.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::common::tiny::{self, Order};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use sccrossrec::dataset::DataSet;
use sccrossrec::model::output::Want;
use sccrossrec::model::{CisConfig, Init, Model, ModelConfig, ParamLayout, Params};
use sccrossrec::prepare::{PrepareConfig, prepare};
use sccrossrec::train;
use sccrossrec::train::tensors as checkpoint;
use sccrossrec::train::tensors::TensorFile as File;
use sccrossrec::train::weights::{Constants, Imported};
use sccrossrec::train::{Checkpoint, Run, TrainConfig, weights};

fn config() -> TrainConfig {
    let recipe = train::recipe("large-batch").unwrap();
    let model = ModelConfig { hidden: 16, embedding_dim: 12, heads: 2, ..recipe.model };
    TrainConfig { epochs: 1, batch_size: 8, model, ..recipe }
}

/// With a cis term.
fn terms() -> TrainConfig {
    let mut config = config();
    config.model.cis = Some(CisConfig { weight: 0.1, components: 4, ..CisConfig::default() });
    config
}

fn trained(dir: &Path, data: &DataSet) -> Run {
    trained_as(dir, data, &config())
}

fn trained_as(dir: &Path, data: &DataSet, config: &TrainConfig) -> Run {
    let out = dir.join("run");
    train::train(data, &data.samples("default").unwrap(), config, &out, &mut ()).unwrap();
    Run::open(&out).unwrap()
}

fn import(file: &Path, data: &DataSet, out: &Path) -> Run {
    std::fs::create_dir_all(out).unwrap();
    Imported::read(file, data, &Constants::default()).unwrap().write(data, out).unwrap();
    Run::open(out).unwrap()
}

/// Logits and embedding of all cells, their counts, and what the cis term says of each.
type Outputs = (Vec<f32>, Vec<f32>, Vec<Vec<u32>>, Vec<Vec<f32>>);

fn outputs(model: &Model<f32>, data: &DataSet, order: impl Fn(u32) -> u32) -> Outputs {
    let cells: Vec<u32> = (0..data.n_cells() as u32).map(order).collect();
    let out = model.forward(&data.batch_of_cells(&cells), Want { counts: true, cis: true, ..Want::default() }).unwrap();
    let cells = if model.config().cis.is_some() { data.n_cells() } else { 0 };
    assert_eq!(out.cis.iter().filter(|c| c.len() == model.config().genes).count(), cells);
    (out.logits, out.embedding, out.counts, out.cis)
}

fn same(c: u32) -> u32 {
    c
}

#[test]
fn out_and_in_again() {
    out_and_in(&config());
}

#[test]
fn out_and_in_again_with_a_cis_term() {
    out_and_in(&terms());
}

fn out_and_in(config: &TrainConfig) {
    let dir = tempfile::tempdir().unwrap();
    let data = tiny::data(dir.path());
    let run = trained_as(dir.path(), &data, config);
    let file = dir.path().join("w.safetensors");
    weights::export(&run, Checkpoint::Best, &file).unwrap();
    let back = import(&file, &data, &dir.path().join("back"));
    let want = outputs(&run.model(&data, Checkpoint::Best).unwrap(), &data, same);
    for which in [Checkpoint::Best, Checkpoint::Last] {
        assert_eq!(outputs(&back.model(&data, which).unwrap(), &data, same), want);
    }
    let again = dir.path().join("again.safetensors");
    weights::export(&back, Checkpoint::Last, &again).unwrap();
    assert!(std::fs::read(&file).unwrap() == std::fs::read(&again).unwrap());
    // Python's safetensors reads the same file format; here its Rust reader checks header and offsets
    let bytes = std::fs::read(&file).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let names: BTreeSet<_> = tensors.names().into_iter().map(str::to_string).collect();
    assert_eq!(names, ParamLayout::new(&run.sizes).entries().iter().map(|e| e.name.clone()).collect());
}

/// Published id tables can have more rows than the data set has genes.
#[test]
fn extra_rows_stay_unused_and_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let data = tiny::data(dir.path());
    let exact = config().model_for(&data);
    let wide = ModelConfig { genes: exact.genes + 7, peaks: exact.peaks + 2, ..exact.clone() };
    let params = Params::<f32>::init(Arc::new(ParamLayout::new(&wide)), Init::PyTorch { embedding_std: 1.0 }, 3);
    let file = dir.path().join("wide.safetensors");
    checkpoint::save(&file, &params, &wide).unwrap();
    let imported = Imported::read(&file, &data, &Constants::default()).unwrap();
    assert_eq!(imported.unused_rows(), [7, 2]);
    let run = import(&file, &data, &dir.path().join("wide"));
    let model = run.model(&data, Checkpoint::Best).unwrap();
    assert_eq!((model.config().genes, model.config().peaks), (exact.genes, exact.peaks));

    // The same model made by hand from the first rows.
    let mut by_hand = Params::<f32>::zeros(Arc::new(ParamLayout::new(&exact)));
    for e in by_hand.layout().clone().entries() {
        let source = params.get(&e.name).unwrap();
        let n = e.range.len();
        by_hand.get_mut(&e.name).unwrap().copy_from_slice(&source[..n]);
    }
    let by_hand = Model::of_params(exact, data.features(), None, by_hand).unwrap();
    assert_eq!(outputs(&model, &data, same), outputs(&by_hand, &data, same));

    let back = dir.path().join("back.safetensors");
    weights::export(&run, Checkpoint::Best, &back).unwrap();
    assert!(std::fs::read(&file).unwrap() == std::fs::read(&back).unwrap());
}

#[test]
fn other_number_types_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let data = tiny::data(dir.path());
    let run = trained(dir.path(), &data);
    let file = dir.path().join("w.safetensors");
    weights::export(&run, Checkpoint::Best, &file).unwrap();
    let source = File::read(&file).unwrap();
    let write = |name: &str, dtype: Dtype, encode: &dyn Fn(f32) -> Vec<u8>| -> PathBuf {
        let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = source
            .tensors
            .iter()
            .map(|(n, t)| (n.clone(), t.shape.clone(), t.values.iter().flat_map(|&x| encode(x)).collect()))
            .collect();
        let views = bytes.iter().map(|(n, s, b)| (n.clone(), TensorView::new(dtype, s.clone(), b).unwrap()));
        let meta = HashMap::from([("config".to_string(), source.metadata["config"].clone())]);
        let path = dir.path().join(name);
        safetensors::serialize_to_file(views, Some(meta), &path).unwrap();
        path
    };
    let largest = |a: &Params<f32>, b: &Params<f32>| {
        a.as_slice().iter().zip(b.as_slice()).map(|(x, y)| (x - y).abs() / x.abs().max(1e-2)).fold(0f32, f32::max)
    };
    let want = run.model(&data, Checkpoint::Best).unwrap().params;
    for (name, dtype, tolerance, encode) in [
        ("f64", Dtype::F64, 0.0, &(|x: f32| f64::from(x).to_le_bytes().to_vec()) as &dyn Fn(f32) -> Vec<u8>),
        ("f16", Dtype::F16, 1e-3, &|x| half::f16::from_f32(x).to_le_bytes().to_vec()),
        ("bf16", Dtype::BF16, 1e-2, &|x| half::bf16::from_f32(x).to_le_bytes().to_vec()),
    ] {
        let path = write(name, dtype, encode);
        let run = import(&path, &data, &dir.path().join(format!("run-{name}")));
        let got = run.model(&data, Checkpoint::Best).unwrap().params;
        let off = largest(&want, &got);
        assert!(off <= tolerance, "{name}: off by {off}");
        assert!(tolerance == 0.0 || off > 0.0, "{name}: not rounded, so not the type it says");
    }
    // without metadata, the number of heads is asked for
    let bytes: Vec<_> =
        source.tensors.iter().map(|(n, t)| (n, t.shape.clone(), bytemuck::cast_slice(&t.values))).collect();
    let views = bytes.iter().map(|(n, s, b)| (n.as_str(), TensorView::new(Dtype::F32, s.clone(), b).unwrap()));
    let bare = dir.path().join("bare.safetensors");
    safetensors::serialize_to_file(views, None, &bare).unwrap();
    let e = Imported::read(&bare, &data, &Constants::default()).unwrap_err();
    assert!(e.exit_code() == 2 && e.to_string().contains("--heads"), "{e}");
    Imported::read(&bare, &data, &Constants { heads: Some(2), alpha: None }).unwrap();
}

#[test]
fn what_cannot_be_imported_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let data = tiny::data(dir.path());
    let exact = config().model_for(&data);
    let file = dir.path().join("w.safetensors");
    let read = |config: &ModelConfig, change: &dyn Fn(&mut Params<f32>)| {
        let mut params =
            Params::<f32>::init(Arc::new(ParamLayout::new(config)), Init::PyTorch { embedding_std: 1.0 }, 3);
        change(&mut params);
        checkpoint::save(&file, &params, config).unwrap();
        let e = Imported::read(&file, &data, &Constants::default()).unwrap_err();
        assert_eq!(e.exit_code(), 2);
        e.to_string()
    };
    let text = read(&ModelConfig { genes: exact.genes - 1, ..exact.clone() }, &|_| {});
    assert!(text.contains("rna_idembedding.weight") && text.contains("29 rows") && text.contains("30"), "{text}");
    let text = read(&ModelConfig { chromosomes: exact.chromosomes + 1, ..exact.clone() }, &|_| {});
    assert!(text.contains("rna_query.weight") && text.contains("[16, 17]") && text.contains("[16, 16]"), "{text}");
    let text = read(&exact, &|p| p.get_mut("fc2.bias").unwrap()[3] = f32::NAN);
    assert!(text.contains("fc2.bias") && text.contains("not finite"), "{text}");
}

/// Other orders of genes, peaks and chromosomes change nothing; other names are counted and refused.
#[test]
fn data_are_met_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let data = tiny::data(dir.path());
    let run = trained_as(dir.path(), &data, &terms());
    let other = DataSet::open(&tiny::prepared(dir.path(), "reversed", Order::Reversed)).unwrap();
    assert_ne!(data.vocabulary().genes[0], other.vocabulary().genes[0]);
    assert_ne!(data.vocabulary().chromosomes, other.vocabulary().chromosomes);
    let (logits, z, counts, cis) = outputs(&run.model(&data, Checkpoint::Best).unwrap(), &data, same);
    let place = |c: u32| {
        let name = &data.vocabulary().cells[c as usize];
        other.vocabulary().cells.iter().position(|n| n == name).unwrap() as u32
    };
    let (logits2, z2, counts2, cis2) = outputs(&run.model(&other, Checkpoint::Best).unwrap(), &other, place);
    for (a, b) in logits.iter().zip(&logits2).chain(z.iter().zip(&z2)) {
        assert!((a - b).abs() < 1e-4 * (1.0 + a.abs()), "{a} against {b}");
    }
    for (a, b) in cis.iter().zip(&cis2).flat_map(|(a, b)| a.iter().zip(b.iter().rev())) {
        assert!((a - b).abs() < 1e-4 * (1.0 + a.abs()), "cis: {a} against {b}");
    }
    let genes = run.sizes.genes;
    for (a, b) in counts.iter().zip(&counts2) {
        for (head, other) in a.chunks_exact(genes).zip(b.chunks_exact(genes)) {
            assert!(head.iter().eq(other.iter().rev()), "counts differ");
        }
    }

    // Without the last ten genes.
    let (rna, atac) = (dir.path().join("less-rna.h5ad"), dir.path().join("data-atac.h5ad"));
    tiny::matrix(&rna, "gene", tiny::GENES - 10, 1000, Order::Plain);
    let less = dir.path().join("less");
    prepare(&PrepareConfig::new(rna, atac), &less, &()).unwrap();
    let less = DataSet::open(&less).unwrap();
    let e = run.model(&less, Checkpoint::Best).unwrap_err();
    assert!(e.exit_code() == 2 && e.to_string().contains("lacks 10 of the run's 30 gene names and has 0"), "{e}");
    let mut run = run;
    run.allow_missing = true;
    let model = run.model(&less, Checkpoint::Best).unwrap();
    assert_eq!(model.config().genes, tiny::GENES - 10);
    outputs(&model, &less, same);
}

/// The golden parameters have the names of the layout, all of them and no others.
#[test]
fn golden_parameters_have_the_published_names() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut files = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "safetensors") {
            continue;
        }
        files += 1;
        let file = File::read(&path).unwrap();
        let golden: BTreeSet<_> = file.tensors.keys().filter_map(|n| n.strip_prefix("param.")).collect();
        let heads = serde_json::from_str::<serde_json::Value>(&file.metadata["config"]).unwrap()["heads"].as_u64();
        let config = ModelConfig { heads: heads.unwrap() as usize, hidden: 8, ..ModelConfig::default() };
        let layout = ParamLayout::new(&config);
        let ours: BTreeSet<_> = layout.entries().iter().map(|e| e.name.as_str()).collect();
        assert_eq!(golden, ours, "{}", path.display());
    }
    assert!(files >= 10, "only {files} golden files");
}
