//! Compressed sparse rows.

/// Compressed sparse rows.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Csr<T> {
    /// `[rows + 1]`, starts at 0.
    pub indptr: Vec<usize>,
    /// `[nnz]` column of each entry.
    pub indices: Vec<u32>,
    /// `[nnz]` value of each entry.
    pub values: Vec<T>,
}

impl<T> Csr<T> {
    /// No rows yet; `push_row` adds them.
    pub fn new() -> Self {
        Csr { indptr: vec![0], indices: Vec::new(), values: Vec::new() }
    }
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.indptr.len().saturating_sub(1)
    }
    /// Columns and values of a row.
    pub fn row(&self, i: usize) -> (&[u32], &[T]) {
        let r = self.indptr[i]..self.indptr[i + 1];
        (&self.indices[r.clone()], &self.values[r])
    }
    /// Appends a row.
    pub fn push_row(&mut self, entries: impl IntoIterator<Item = (u32, T)>) {
        for (i, v) in entries {
            self.indices.push(i);
            self.values.push(v);
        }
        self.indptr.push(self.indices.len());
    }
}
