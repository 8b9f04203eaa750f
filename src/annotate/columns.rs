//! Columns of `var` for the annotated files.

use crate::data::anndata::{Axis, Column};
use crate::data::source::Source;
use crate::error::Result;
use crate::vocabulary::UNKNOWN;

/// Columns for a file.
#[derive(Default)]
pub(crate) struct Columns {
    /// New or filled.
    pub new: Vec<(String, Column)>,
    /// Names of those that stay as they are.
    pub kept: Vec<String>,
}

impl Columns {
    /// Adds a column, unless it is there and nothing of it was filled; nothing known adds nothing.
    pub(crate) fn fill(&mut self, data: &dyn Source, name: &str, values: Option<Column>, filled: bool) -> Result<()> {
        let there = data.columns(Axis::Var)?.iter().any(|c| c == name);
        match values {
            Some(values) if filled || !there => self.new.push((name.to_string(), values)),
            _ if there => self.kept.push(name.to_string()),
            _ => {}
        }
        Ok(())
    }
}

/// Has `var` all these columns?
pub(crate) fn has_all(data: &dyn Source, names: &[&str]) -> Result<bool> {
    let there = data.columns(Axis::Var)?;
    Ok(names.iter().all(|n| there.iter().any(|c| c == n)))
}

/// Numbers as whole ones where none is missing, else with NaN; `None` where all are missing.
pub(crate) fn number(values: &[Option<i64>]) -> Option<Column> {
    if values.iter().all(Option::is_none) {
        return None;
    }
    let whole: Option<Vec<i64>> = values.iter().copied().collect();
    Some(match whole {
        Some(v) => Column::Ints(v),
        None => Column::Floats(values.iter().map(|v| v.map_or(f64::NAN, |v| v as f64)).collect()),
    })
}

/// Chromosomes with `chrUnknown` for the missing; `None` where all are missing.
pub(crate) fn chromosomes(values: &[Option<String>]) -> Option<Column> {
    let named = |c: &Option<String>| c.clone().unwrap_or_else(|| UNKNOWN.to_string());
    values.iter().any(Option::is_some).then(|| Column::Strings(values.iter().map(named).collect()))
}

/// A place that can be one: 0-based, not negative, small enough for a whole number.
pub(crate) fn place(x: f64) -> Option<i64> {
    (0.0..9e15).contains(&x).then_some(x as i64)
}
