//! Data that somebody else holds in memory, such as an AnnData object of Python: names and columns, and matrices that are read
//! block by block where they lie.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::form::{Form, Source};
use crate::data::anndata::Column;
use crate::data::anndata::matrix::{HeldMatrix, Matrix};
use crate::data::anndata::reader::{Axis, list};
use crate::error::{Error, Result};

/// Cells × features held in memory. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Held(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: PathBuf,
    names: [Vec<String>; 2],
    columns: [Vec<(String, Column)>; 2],
    /// The first one, and the layers by name.
    matrices: Vec<(String, HeldMatrix)>,
    chosen: usize,
}

impl Held {
    /// `name` stands for the data in messages and where a path is asked for. `cells` and `features` are the names and the
    /// columns of `obs` and `var`; the first of the `matrices` (`X` and layers, by name) is taken where no layer is asked for.
    ///
    /// # Errors
    /// No matrix; names that are there twice; columns of another length; matrices that contradict themselves or the names.
    pub fn new(
        name: impl Into<PathBuf>,
        cells: (Vec<String>, Vec<(String, Column)>),
        features: (Vec<String>, Vec<(String, Column)>),
        matrices: Vec<(String, HeldMatrix)>,
    ) -> Result<Held> {
        let name = name.into();
        for ((names, columns), what) in [(&cells, "obs"), (&features, "var")] {
            if let Some((column, _)) = columns.iter().find(|c| c.1.len() != names.len()) {
                let found = format!("`{what}` has {} rows, but its column {column:?} another number", names.len());
                return Err(Error::input(&name, found, "give columns of one length"));
            }
        }
        if matrices.is_empty() {
            return Err(Error::input(&name, "has no matrix", "give X or a layer"));
        }
        let held = Held(Arc::new(Inner {
            name,
            names: [cells.0, features.0],
            columns: [cells.1, features.1],
            matrices,
            chosen: 0,
        }));
        for (layer, _) in &held.0.matrices {
            held.matrix_of(layer)?;
        }
        Ok(held)
    }

    /// What it is called.
    pub fn name(&self) -> &Path {
        &self.0.name
    }

    fn matrix_of(&self, layer: &str) -> Result<Matrix> {
        let inner = &*self.0;
        let found = inner.matrices.iter().find(|m| m.0 == layer).ok_or_else(|| {
            let there: Vec<String> = inner.matrices.iter().map(|m| m.0.clone()).collect();
            Error::input(
                &inner.name,
                format!("has no layer {layer:?}; there is {}", list(&there)),
                "choose one of these",
            )
        })?;
        let at = if layer == "X" { "X".to_string() } else { format!("layers/{layer}") };
        Matrix::held(&inner.name, &at, found.1.clone(), inner.names[0].len(), inner.names[1].len())
    }

    /// With a layer in the place of the first matrix.
    pub(crate) fn with_layer(self, layer: Option<&str>) -> Result<Held> {
        let Some(layer) = layer else { return Ok(self) };
        self.matrix_of(layer)?;
        let chosen = self.0.matrices.iter().position(|m| m.0 == layer).unwrap_or(0);
        let inner = &*self.0;
        Ok(Held(Arc::new(Inner {
            name: inner.name.clone(),
            names: inner.names.clone(),
            columns: inner.columns.clone(),
            matrices: inner.matrices.clone(),
            chosen,
        })))
    }
}

fn side(axis: Axis) -> usize {
    match axis {
        Axis::Obs => 0,
        Axis::Var => 1,
    }
}

impl Source for Held {
    fn path(&self) -> &Path {
        &self.0.name
    }

    fn form(&self) -> Form {
        Form::Held
    }

    fn names(&self, axis: Axis) -> Result<Vec<String>> {
        Ok(self.0.names[side(axis)].clone())
    }

    fn columns(&self, axis: Axis) -> Result<Vec<String>> {
        let mut names: Vec<String> = self.0.columns[side(axis)].iter().map(|c| c.0.clone()).collect();
        names.sort();
        Ok(names)
    }

    fn column(&self, axis: Axis, name: &str) -> Result<Option<Column>> {
        Ok(self.0.columns[side(axis)].iter().find(|c| c.0 == name).map(|c| c.1.clone()))
    }

    fn layers(&self) -> Vec<String> {
        self.0.matrices.iter().map(|m| m.0.clone()).filter(|l| l != "X").collect()
    }

    fn matrix(&self, layer: Option<&str>, _: &str) -> Result<Matrix> {
        self.matrix_of(layer.unwrap_or(&self.0.matrices[self.0.chosen].0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::anndata::Streaming;
    use crate::data::anndata::matrix::HeldNumbers;

    impl HeldNumbers for Vec<f64> {
        fn len(&self) -> usize {
            Vec::len(self)
        }
        fn values(&self, range: std::ops::Range<usize>) -> Vec<f32> {
            self[range].iter().map(|&x| x as f32).collect()
        }
        fn indices(&self, range: std::ops::Range<usize>) -> Vec<i64> {
            self[range].iter().map(|&x| x as i64).collect()
        }
    }

    fn numbers(of: &[f64]) -> Arc<dyn HeldNumbers> {
        Arc::new(of.to_vec())
    }

    fn names(of: &[&str]) -> Vec<String> {
        of.iter().map(|s| s.to_string()).collect()
    }

    fn held(matrices: Vec<(&str, HeldMatrix)>) -> Result<Held> {
        let matrices = matrices.into_iter().map(|(n, m)| (n.to_string(), m)).collect();
        Held::new("rna in memory", (names(&["a", "b"]), vec![]), (names(&["x", "y", "z"]), vec![]), matrices)
    }

    fn rows(held: &Held, layer: Option<&str>) -> Vec<(Vec<u32>, Vec<f32>)> {
        let mut all = Vec::new();
        let (obs, var) = (held.names(Axis::Obs).unwrap(), held.names(Axis::Var).unwrap());
        let dir = tempfile::tempdir().unwrap();
        let how = Streaming { block: 1, bucket: 2 };
        let matrix = held.matrix(layer, "--rna-layer").unwrap();
        matrix
            .for_each_block(how, dir.path(), &obs, &var, |b| {
                for r in 0..b.rows() {
                    let span = b.indptr[r]..b.indptr[r + 1];
                    all.push((b.indices[span.clone()].to_vec(), b.values[span].to_vec()));
                }
                Ok(())
            })
            .unwrap();
        all
    }

    #[test]
    fn one_matrix_in_three_layouts() {
        let csr = HeldMatrix::Csr(numbers(&[0., 2., 3.]), numbers(&[2., 0., 1.]), numbers(&[3., 1., 2.]));
        let csc = HeldMatrix::Csc(numbers(&[0., 1., 2., 3.]), numbers(&[0., 1., 0.]), numbers(&[1., 2., 3.]));
        let dense = HeldMatrix::Dense(numbers(&[1., 0., 3., 0., 2., 0.]));
        let all = held(vec![("X", csr), ("csc", csc), ("dense", dense)]).unwrap();
        let want = vec![(vec![0, 2], vec![1.0, 3.0]), (vec![1], vec![2.0])];
        for layer in [None, Some("csc"), Some("dense")] {
            assert_eq!(rows(&all, layer), want, "{layer:?}");
        }
        assert_eq!(rows(&all.clone().with_layer(Some("csc")).unwrap(), None), want);
        let e = all.with_layer(Some("counts")).unwrap_err().to_string();
        assert!(e.contains("rna in memory") && e.contains("csc"), "{e}");
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let csr = |ptr: &[f64], at: &[f64]| HeldMatrix::Csr(numbers(ptr), numbers(at), numbers(&[1., 2.]));
        for (matrix, part) in [
            (csr(&[0., 2.], &[0., 1.]), "starts"),
            (csr(&[0., 2., 1.], &[0., 1.]), "do not rise"),
            (csr(&[0., 1., 2.], &[0.]), "indices"),
            (HeldMatrix::Dense(numbers(&[1., 2.])), "values for 2 × 3"),
        ] {
            let e = held(vec![("X", matrix)]).unwrap_err().to_string();
            assert!(e.contains(part), "{e}");
        }
        let beyond = held(vec![("X", csr(&[0., 1., 2.], &[0., 3.]))]).unwrap();
        let (obs, var) = (beyond.names(Axis::Obs).unwrap(), beyond.names(Axis::Var).unwrap());
        let m = beyond.matrix(None, "").unwrap();
        let e = m.for_each_block(Streaming::default(), Path::new("."), &obs, &var, |_| Ok(())).unwrap_err().to_string();
        assert!(e.contains("names column 3 of 3"), "{e}");
    }
}
