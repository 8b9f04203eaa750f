//! Cells in the plane, and what they can be coloured by.

use serde_json::{Value, json};

use super::html::{hex, numbers};
use crate::dataset::{Cell, DataSet};
use crate::error::Result;
use crate::evaluate::LogExpression;
use crate::picture::{Ink, Shape, category};

/// Cells on the page, at most: beyond that, evenly spread ones.
const MOST_CELLS: usize = 40_000;
/// Columns of cells to colour by, and values that one may have.
const MOST_COLUMNS: usize = 6;
const MOST_VALUES: usize = 60;
/// Genes to colour by: those with most links, and those that differ most between cells.
const MOST_GENES: usize = 24;
/// Levels of a number, beside none.
const LEVELS: f32 = 15.0;

/// Where the plane goes.
pub(super) const PLANE: &str = r#"<div class="controls"><label>Colour by <select id="plane-colour"></select></label></div>
<div class="plane"><canvas id="plane" role="img" aria-label="cells in the plane"></canvas>
<div class="legend" id="legend"></div></div>
"#;

fn shape_name(shape: Shape) -> &'static str {
    match shape {
        Shape::Disc => "disc",
        Shape::Triangle => "triangle",
        Shape::Square => "square",
        Shape::Diamond => "diamond",
        Shape::Plus => "plus",
        Shape::Drop => "drop",
    }
}

/// Values of cells in a few kinds: a code each, and name, colour, shape, cells and middle of each kind.
fn kinds(name: &str, values: &[String], of: &dyn Fn(usize) -> Option<u32>, kept: &[usize], at: [&[u16]; 2]) -> Value {
    let codes: Vec<u16> = kept.iter().map(|&i| of(i).and_then(|c| u16::try_from(c).ok()).unwrap_or(u16::MAX)).collect();
    let median = |mut values: Vec<u16>| {
        values.sort_unstable();
        values.get(values.len() / 2).copied().unwrap_or(0)
    };
    let mut cells: Vec<Vec<usize>> = vec![Vec::new(); values.len()];
    for (k, &c) in codes.iter().enumerate().filter(|x| usize::from(*x.1) < values.len()) {
        cells[usize::from(c)].push(k);
    }
    let labels: Vec<Value> = values
        .iter()
        .zip(&cells)
        .enumerate()
        .map(|(t, (name, cells))| {
            let (ink, shape) = category(t);
            let colour = if ink == Ink::Text { "ink".into() } else { hex(ink.rgb()) };
            let middle = at.map(|values| median(cells.iter().map(|&k| values[k]).collect()));
            json!({ "name": name, "colour": colour, "shape": shape_name(shape), "count": cells.len(), "middle": middle })
        })
        .collect();
    let wide = values.len() > 254;
    let narrow = || codes.iter().map(|&c| u8::try_from(c).unwrap_or(u8::MAX)).collect::<Vec<u8>>();
    let codes = if wide { numbers(&codes) } else { numbers(&narrow()) };
    json!({ "name": name, "wide": wide, "codes": codes, "labels": labels })
}

/// A number a cell in sixteen levels, two cells a byte: 0 for none, 15 from the value `high` on.
fn levels(name: &str, values: &[f32], unit: &str) -> Value {
    let mut some: Vec<f32> = values.iter().copied().filter(|&x| x > 0.0).collect();
    some.sort_by(f32::total_cmp);
    // A few extreme cells do not take the colours from the others.
    let high = some.get((some.len() * 99 / 100).min(some.len().saturating_sub(1))).copied().unwrap_or(1.0);
    let level = |x: f32| if x > 0.0 { (x / high * LEVELS).ceil().clamp(1.0, LEVELS) as u8 } else { 0 };
    let packed: Vec<u8> =
        values.chunks(2).map(|two| level(two[0]) | two.get(1).map_or(0, |&x| level(x)) << 4).collect();
    let found = some.len();
    json!({ "name": name, "unit": unit, "high": (f64::from(high) * 100.0).round() / 100.0, "found": found, "levels": numbers(&packed) })
}

/// Genes worth a colour: in turn those of most links and those whose mean differs most between types (between cells where there
/// are no types).
fn telling(data: &DataSet, log: &LogExpression, kept: &[usize], linked: Option<&[f64]>) -> Vec<usize> {
    let v = data.vocabulary();
    let (genes, types) = (v.genes.len(), v.cell_types.len().max(1));
    let (mut sums, mut squares) = (vec![0.0f64; genes * types], vec![0.0f64; genes]);
    let mut sizes = vec![0.0f64; types];
    let (mut cell, mut levels) = (Cell::default(), Vec::new());
    for &i in kept {
        data.rna_into(i, &mut cell);
        log.levels(&cell, &mut levels);
        let t = v.cell_type.get(i).map_or(0, |&t| t as usize);
        sizes[t] += 1.0;
        for (&g, &x) in cell.genes.iter().zip(&levels) {
            sums[t * genes + g as usize] += f64::from(x);
            squares[g as usize] += f64::from(x).powi(2);
        }
    }
    let n = kept.len().max(1) as f64;
    let varies: Vec<f64> = (0..genes)
        .map(|g| {
            let mean = (0..types).map(|t| sums[t * genes + g]).sum::<f64>() / n;
            if types == 1 {
                return squares[g] / n - mean * mean;
            }
            let of = |t: usize| sizes[t] * (sums[t * genes + g] / sizes[t].max(1.0) - mean).powi(2);
            (0..types).map(of).sum::<f64>() / n
        })
        .collect();
    let best = |values: &[f64]| super::links::largest(values, MOST_GENES);
    let mut chosen = linked.map(best).unwrap_or_default();
    for g in best(&varies) {
        if !chosen.contains(&g) {
            chosen.push(g);
        }
    }
    chosen.retain(|&g| squares[g] > 0.0);
    chosen
}

/// Coordinates as 16 bits, and what colours the cells: kinds (types, columns), depth, and the expression of some genes.
/// `linked` is how many links are expected of each gene. Brings back the number of cells, too.
///
/// # Errors
/// Data that cannot be read.
pub(super) fn embedding_json(at: &[[f32; 2]], data: &DataSet, linked: Option<&[f64]>) -> Result<(Value, usize)> {
    let v = data.vocabulary();
    let every = at.len().div_ceil(MOST_CELLS).max(1);
    let finite = |i: &usize| at[*i].iter().all(|x| x.is_finite());
    let kept: Vec<usize> = (0..at.len()).step_by(every).filter(finite).collect();
    let span = |c: usize| {
        let all = kept.iter().map(|&i| at[i][c]);
        all.fold((f32::INFINITY, f32::NEG_INFINITY), |(lo, hi), x| (lo.min(x), hi.max(x)))
    };
    let small = |x: f32, (lo, hi): (f32, f32)| ((x - lo) / (hi - lo).max(1e-30) * 65535.0).round() as u16;
    let [x, y] = [0, 1].map(|c| kept.iter().map(|&i| small(at[i][c], span(c))).collect::<Vec<u16>>());
    let mut columns = Vec::new();
    if !v.cell_types.is_empty() {
        columns.push(kinds("cell type", &v.cell_types, &|i| v.cell_type.get(i).copied(), &kept, [&x, &y]));
    }
    let telling_columns =
        v.obs.iter().filter(|o| o.name != "cell_type" && (2..=MOST_VALUES).contains(&o.categories.len()));
    for column in telling_columns.take(MOST_COLUMNS) {
        columns.push(kinds(&column.name, &column.categories, &|i| column.codes.get(i).copied(), &kept, [&x, &y]));
    }
    let depth = |f: fn((usize, usize)) -> usize| kept.iter().map(|&i| f(data.cell_sizes(i)) as f32).collect::<Vec<_>>();
    let (rna, atac) = data.kinds();
    let mut counts = Vec::new();
    if rna.is_some() {
        counts.push(levels("genes a cell", &depth(|s| s.0), "genes"));
    }
    if atac.is_some() {
        counts.push(levels("peaks a cell", &depth(|s| s.1), "peaks"));
    }
    let mut genes = Vec::new();
    if rna.is_some() && !kept.is_empty() {
        let cells: Vec<u32> = kept.iter().map(|&i| i as u32).collect();
        let log = LogExpression::fit(data, &cells)?;
        let chosen = telling(data, &log, &kept, linked);
        let mut values = vec![vec![0.0f32; kept.len()]; chosen.len()];
        let place: std::collections::HashMap<u32, usize> = (0..).zip(&chosen).map(|(k, &g)| (g as u32, k)).collect();
        let (mut cell, mut of) = (Cell::default(), Vec::new());
        for (k, &i) in kept.iter().enumerate() {
            data.rna_into(i, &mut cell);
            log.levels(&cell, &mut of);
            for (g, &x) in cell.genes.iter().zip(&of) {
                if let Some(&row) = place.get(g) {
                    values[row][k] = x;
                }
            }
        }
        data.check()?;
        let unit = if log.median().is_some() { "log expression" } else { "expression as stored" };
        genes = chosen.iter().zip(&values).map(|(&g, x)| levels(&v.genes[g].name, x, unit)).collect();
    }
    let value = json!({ "x": numbers(&x), "y": numbers(&y), "columns": columns, "counts": counts, "genes": genes });
    Ok((value, kept.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_levels() {
        let v = levels("g", &[0.0, 1.0, 2.0, 4.0, 3.0], "log");
        assert_eq!((v["high"].as_f64(), v["found"].as_u64()), (Some(4.0), Some(4)));
        // 0 | 4, 8 | 15, 12.
        assert_eq!(v["levels"], numbers(&[0x40u8, 0xf8, 0x0c]));
        assert_eq!(levels("g", &[0.0], "log")["levels"], numbers(&[0u8]));
    }
}
