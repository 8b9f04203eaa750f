//! Nothing of the user's is deleted, and what is of other data is not mixed.

use crate::base::Base;
use crate::common::program::{ok, refused};
use sccrossrec::DiscoveryFolder;
use sccrossrec::dataset::DataSet;

const WORDS: &str = "--rna rna.h5ad --atac atac.h5ad --gtf genes.gtf";

#[test]
fn force_removes_only_what_prepare_made() {
    let base = Base::new();
    base.put("base/run/best.safetensors", "weights");
    base.put("base/notes.txt", "mine");
    base.put("base/shards/mine.txt", "mine");
    base.put("base/shards/00007.shard", "of before");
    let (hash, _) = base.prepare("base", &format!("{WORDS} --force --min-common 0.6"));
    assert_eq!(hash, base.hash);
    for (file, content) in [("run/best.safetensors", "weights"), ("notes.txt", "mine"), ("shards/mine.txt", "mine")] {
        assert_eq!(std::fs::read_to_string(base.at("base").join(file)).unwrap(), content);
    }
    assert!(!base.at("base/shards/00007.shard").exists());
    DataSet::open(&base.at("base")).unwrap();
    let left: Vec<_> = std::fs::read_dir(base.dir.path())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|n| n.starts_with('.'))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn an_output_inside_of_an_input_or_of_data_is_refused() {
    let base = Base::new();
    refused(&base.try_prepare("base/inner", WORDS), &["is inside of", "a prepared data set"]);
    refused(&base.try_prepare("base/a/b", &format!("{WORDS} --force")), &["is inside of", "a prepared data set"]);
    assert!(!base.at("base/inner").exists() && !base.at("base/a").exists());
    let barcodes = base.barcodes.join("\n");
    let parts = (("features.tsv", crate::base::tsv(&base.features())), ("barcodes.tsv", barcodes));
    crate::base::folder(&base, "m", ("matrix.mtx", base.mtx("integer")), parts.0, parts.1);
    refused(&base.try_prepare("m/out", "--tenx m --obs cells.csv --gtf genes.gtf"), &["inside of", "input"]);
}

#[test]
fn a_discovery_tells_whose_it_is() {
    let base = Base::new();
    ok(base.dir.path(), &["discover", "--data", "base", "--out", "links", "--quiet"]);
    let found = DiscoveryFolder::open(&base.at("links")).unwrap();
    let data = DataSet::open(&base.at("base")).unwrap();
    found.check_data(data.hash(), data.vocabulary()).unwrap();
    let e = found.check_data("0123", data.vocabulary()).unwrap_err().to_string();
    assert!(e.contains("discovery of other data"), "{e}");
    let mut other = data.vocabulary().clone();
    other.genes.pop();
    let e = found.check_data(data.hash(), &other).unwrap_err().to_string();
    assert!(e.contains("20 genes and 40 peaks, not 19 and 40"), "{e}");
}
