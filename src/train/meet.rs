//! A trained model meets other data: rows by name, chromosomes by name.

use std::collections::HashMap;

use super::run::Run;
use super::start::cis_graph;
use super::towers;
use super::towers::TOWERS;
use crate::data::anndata::MatrixKind;
use crate::dataset::DataSet;
use crate::error::{Error, Result};
use crate::model::{Model, ModelConfig, PREFIX, ParamLayout, Params, Towers};
use crate::vocabulary::Vocabulary;

impl Run {
    pub(crate) fn fit(&self, data: &DataSet, stored: Params<f32>) -> Result<Model<f32>> {
        let vocabulary = data.vocabulary();
        let features = data.features();
        let (at, fix) = (data.dir(), "prepare the data with --like the run's data set");
        if data.gene_features() != self.file.gene_features {
            let list = |names: &[String]| if names.is_empty() { "none".into() } else { names.join(", ") };
            let found = format!(
                "has the gene features {} where the run has {}",
                list(data.gene_features()),
                list(&self.file.gene_features)
            );
            return Err(Error::input(at, found, fix));
        }
        if features.dna_length() != self.sizes.dna_length {
            let found = format!(
                "has {} bases of DNA a peak where the run has {}",
                features.dna_length(),
                self.sizes.dna_length
            );
            return Err(Error::input(at, found, fix));
        }
        let genes = self.rows(data, "gene", &self.genes, vocabulary.genes.iter().map(|g| g.name.as_str()).collect())?;
        let peaks = self.rows(data, "peak", &self.peaks, vocabulary.peaks.iter().map(|p| p.name.as_str()).collect())?;
        let chromosomes = self.chromosomes(data, vocabulary)?;
        let config = ModelConfig {
            genes: genes.len(),
            peaks: peaks.len(),
            chromosomes: chromosomes.len(),
            ..self.sizes.clone()
        };
        let same =
            |rows: &[Option<usize>], n: usize| rows.len() == n && rows.iter().enumerate().all(|(i, r)| *r == Some(i));
        if same(&genes, self.file.gene_rows)
            && same(&peaks, self.file.peak_rows)
            && same(&chromosomes, self.sizes.chromosomes)
        {
            let cis = cis_graph(&config, data);
            return Model::of_params(config, features, cis, stored);
        }
        let params = rearrange(&stored, &config, &self.sizes, &genes, &peaks, &chromosomes)?;
        let cis = cis_graph(&config, data);
        Model::of_params(config, features, cis, params)
    }

    /// The towers of the run for the genes and peaks of `data`, met by name as in [`Run::model`]; `None` where it has none.
    ///
    /// # Errors
    /// As [`Run::model`]; RNA of another kind than the towers know.
    pub fn towers(&self, data: &DataSet) -> Result<Option<Towers<f32>>> {
        let path = self.dir.join("checkpoints").join(TOWERS);
        if !path.exists() {
            return Ok(None);
        }
        let towers = towers::open(&path)?;
        if (towers.config.genes, towers.config.peaks) != (self.genes.len(), self.peaks.len()) {
            return Err(Error::input(
                &path,
                "has other genes or peaks than the run",
                "restore the file or train again",
            ));
        }
        let counts = data.kinds().0.map(|k| k == MatrixKind::Counts);
        if counts.is_some_and(|c| c != towers.config.counts) {
            let [has, knows] =
                if towers.config.counts { ["no raw counts", "raw counts"] } else { ["raw counts", "none"] };
            return Err(Error::input(
                data.dir(),
                format!("has {has} of RNA where the run was trained on {knows}"),
                "prepare the data from values of the same kind",
            ));
        }
        let v = data.vocabulary();
        let genes = self.rows(data, "gene", &self.genes, v.genes.iter().map(|g| g.name.as_str()).collect())?;
        let peaks = self.rows(data, "peak", &self.peaks, v.peaks.iter().map(|p| p.name.as_str()).collect())?;
        let same = |rows: &[Option<usize>], n| rows.len() == n && rows.iter().enumerate().all(|(i, r)| *r == Some(i));
        if same(&genes, self.genes.len()) && same(&peaks, self.peaks.len()) {
            return Ok(Some(towers));
        }
        towers::rearranged(towers, &genes, &peaks).map(Some)
    }

    /// The run's row of each of the data set's names.
    fn rows(&self, data: &DataSet, what: &str, ours: &[String], theirs: Vec<&str>) -> Result<Vec<Option<usize>>> {
        if ours.len() == theirs.len() && ours.iter().zip(&theirs).all(|(a, b)| a == b) {
            return Ok((0..ours.len()).map(Some).collect());
        }
        let mut index = HashMap::with_capacity(ours.len());
        for (i, name) in ours.iter().enumerate() {
            if index.insert(name.as_str(), i).is_some() {
                return Err(Error::input(
                    &self.dir,
                    format!("{what} name {name:?} occurs twice, so data in another order cannot be met by name"),
                    "make the names unique, prepare and train again",
                ));
            }
        }
        let rows: Vec<_> = theirs.iter().map(|n| index.get(n).copied()).collect();
        let mut used = vec![false; ours.len()];
        for (&row, name) in rows.iter().zip(&theirs) {
            if let Some(i) = row
                && std::mem::replace(&mut used[i], true)
            {
                return Err(Error::input(
                    data.dir(),
                    format!("{what} name {name:?} occurs twice, so it cannot be met by name"),
                    "make the names unique and prepare again",
                ));
            }
        }
        let unknown = rows.iter().filter(|r| r.is_none()).count();
        let missing = used.iter().filter(|u| !**u).count();
        if unknown == rows.len() {
            return Err(Error::input(
                data.dir(),
                format!("has no {what} name in common with the run {}", self.dir.display()),
                "give the data set of this run, or one with the same genes and peaks",
            ));
        }
        if unknown + missing > 0 && !self.allow_missing {
            return Err(Error::input(
                data.dir(),
                format!(
                    "lacks {missing} of the run's {} {what} names and has {unknown} that the run does not know",
                    ours.len()
                ),
                "prepare the data with --like the run's data set, or add --allow-missing",
            ));
        }
        Ok(rows)
    }

    /// The run's column of each of the data set's chromosomes.
    fn chromosomes(&self, data: &DataSet, vocabulary: &Vocabulary) -> Result<Vec<Option<usize>>> {
        let ours = &self.file.chromosomes;
        let columns: Vec<_> = vocabulary.chromosomes.iter().map(|c| ours.iter().position(|o| o == c)).collect();
        let unknown: Vec<_> =
            vocabulary.chromosomes.iter().zip(&columns).filter(|(_, c)| c.is_none()).map(|(n, _)| n.as_str()).collect();
        if !unknown.is_empty() && !self.allow_missing {
            return Err(Error::input(
                data.dir(),
                format!("has chromosomes that the run does not know: {}", unknown.join(", ")),
                "prepare the data with --like the run's data set, or add --allow-missing",
            ));
        }
        Ok(columns)
    }
}

/// Parameters of a model of size `config` out of `stored`, by row of the id tables and column of the one-hot.
pub(crate) fn rearrange(
    stored: &Params<f32>,
    config: &ModelConfig,
    from: &ModelConfig,
    genes: &[Option<usize>],
    peaks: &[Option<usize>],
    chromosomes: &[Option<usize>],
) -> Result<Params<f32>> {
    let mut params = Params::zeros(std::sync::Arc::new(ParamLayout::new(config)));
    let d = config.embedding_dim;
    for e in params.layout().clone().entries() {
        let source = stored.get(&e.name);
        let target = &mut params.as_mut_slice()[e.range.clone()];
        let Some(source) = source else {
            return Err(Error::Internal(format!("tensor `{}` is not in the stored layout", e.name)));
        };
        let rows_of = |rows| Some((rows, e.shape.get(1).copied().unwrap_or(1)));
        let table = match e.name.as_str() {
            "rna_idembedding.weight" | "cis.gene.weight" | "cis.gene.bias" => rows_of(genes),
            "atac_idembedding.weight" => rows_of(peaks),
            _ => None,
        };
        let node_map = e.name.strip_prefix(PREFIX).and_then(|n| n.strip_suffix(".weight")).and_then(|n| match n {
            "rna_query" | "rna_value" | "rna_self_attention" => Some(d + 1 + from.gene_features()),
            "atac_key" | "atac_value" | "atac_self_attention" => Some(d + 1 + from.peak_features()),
            _ => None,
        });
        let node_map = node_map.or((e.name == "cis.cell.weight").then(|| d + 1 + from.peak_features()));
        if let Some((rows, width)) = table {
            for (out, row) in target.chunks_exact_mut(width).zip(rows) {
                if let Some(i) = row {
                    out.copy_from_slice(&source[i * width..(i + 1) * width]);
                }
            }
        } else if let Some(old) = node_map {
            let new = e.shape[1];
            for (out, row) in target.chunks_exact_mut(new).zip(source.chunks_exact(old)) {
                out[..=d].copy_from_slice(&row[..=d]);
                for (j, column) in chromosomes.iter().enumerate() {
                    if let Some(c) = column {
                        out[d + 1 + j] = row[d + 1 + c];
                    }
                }
                out[d + 1 + chromosomes.len()..].copy_from_slice(&row[d + 1 + from.chromosomes..]);
            }
        } else {
            target.copy_from_slice(source);
        }
    }
    Ok(params)
}
