//! What towers say of cells: their places, their expression, their partners, and which of them are in doubt.
//!
//! See docs/model.md, sections 4.10 and 8.1 to 8.3.

use std::collections::HashMap;
use std::path::Path;

use rayon::prelude::*;

use super::chosen::{Chosen, NOTHING, origin};
use crate::csr::Csr;
use crate::data::anndata::{AnnDataWriter, Column, Frame};
use crate::dataset::DataSet;
use crate::error::{Error, Result};
use crate::evaluate::neighbours::{Points, nearest};
use crate::evaluate::ranking::benjamini_hochberg;
use crate::evaluate::towers::{Side, TowerVectors};
use crate::evaluate::{Dot, PartnerMetrics, partners};
use crate::memory;
use crate::model::Towers;
use crate::ops::matmul::{View, product};
use crate::predict::partners::Query;
use crate::progress::Progress;
use crate::rng::Rng;
use crate::train::Run;

/// Cells passed, and queries scored, at a time.
const CHUNK: usize = 256;
/// Levels and probabilities below this are left out of files.
const LEAST: f32 = 1e-3;
/// Stream of the doublets that are made.
const DOUBLETS: u64 = 0x444F_5542;
/// Neighbours among which made doublets are counted.
const NEAR: usize = 30;
/// Cells that doublets are made of, at most.
const MOST_DOUBLETS: usize = 20_000;

/// Vectors of cells from the modalities that the data have.
///
/// # Errors
/// As [`TowerVectors::of`].
pub(crate) fn vectors(
    towers: &Towers<f32>,
    data: &DataSet,
    cells: &[u32],
    progress: &dyn Progress,
) -> Result<TowerVectors> {
    let (rna, atac) = data.kinds();
    let sides: Vec<Side> =
        [(rna, Side::Rna), (atac, Side::Atac)].into_iter().filter(|x| x.0.is_some()).map(|x| x.1).collect();
    TowerVectors::of(towers, data, cells, &sides, progress)
}

/// Adds places of cells to a file: obsm `X_sccrossrec` (the joint one), `X_sccrossrec_rna`, `X_sccrossrec_atac` `[n, size]`, and
/// what each side says of depth, `X_sccrossrec_rna_depth`, `X_sccrossrec_atac_depth`. The score of a pair is the product of
/// `[rna | rna_depth]` and `[atac | atac_depth]`.
pub(super) fn write_vectors(writer: &mut AnnDataWriter, v: &TowerVectors) -> Result<()> {
    let n = v.rna.len().max(v.atac.len()) / v.width.max(1);
    writer.dense_f32("obsm/X_sccrossrec", n, v.size, &v.joint())?;
    for (side, name, there) in [(Side::Rna, "rna", &v.rna), (Side::Atac, "atac", &v.atac)] {
        if !there.is_empty() {
            writer.dense_f32(&format!("obsm/X_sccrossrec_{name}"), n, v.size, &v.plain(side))?;
            writer.dense_f32(&format!("obsm/X_sccrossrec_{name}_depth"), n, v.width - v.size, &v.depth(side))?;
        }
    }
    Ok(())
}

/// Writes the expression told from the ATAC of `chosen` to `out` (replaced), cells × genes. `X` is the expected level: log1p of
/// counts scaled to the median training cell where the run was trained on counts (and `uns/log1p` says so), else the value as it
/// was stored. Layer `counts` is the expected count in a median cell (of counts alone), `probability` that of the gene to be
/// detected in one, `detected` 1 where it is above a half. Numbers below 0.001 are left out. `progress` is told the cells done,
/// as stage `translate`.
///
/// # Errors
/// Towers that do not predict; data without ATAC; a file that cannot be written. Nothing is then left of it.
pub fn write_expression(
    run: &Run,
    towers: &Towers<f32>,
    data: &DataSet,
    chosen: &Chosen,
    out: &Path,
    progress: &dyn Progress,
) -> Result<()> {
    if data.kinds().1.is_none() {
        return Err(Error::input(data.dir(), "has no ATAC to translate from", "prepare it with --atac"));
    }
    if !towers.predicts() {
        let found = "was trained without a prediction of expression";
        return Err(Error::input(
            run.dir(),
            found,
            "train with --predict-weight above 0, or take --translation published",
        ));
    }
    let v = data.vocabulary();
    let genes = v.genes.len();
    let parts = [("towers", 4 * towers.layout().len() as u64), ("expression", (CHUNK * genes * 4 * 6) as u64)];
    memory::check("a translation", &parts, data.access().memory_limit, |_| {
        "give it more with --memory-limit, or take --translation published".into()
    })?;
    let chromosome = |c: u32| v.chromosomes.get(c as usize).cloned().unwrap_or_default();
    let var = Frame {
        index: v.genes.iter().map(|g| g.name.clone()).collect(),
        columns: vec![("chrom".into(), Column::Strings(v.genes.iter().map(|g| chromosome(g.chrom)).collect()))],
    };
    let mut writer = AnnDataWriter::create(out, &chosen.obs(data), &var)?;
    origin(&mut writer, run, data)?;
    let counts = towers.config().counts;
    let scale = if counts {
        format!("log1p of counts scaled to {} a cell, the median of the training cells", towers.config().median)
    } else {
        "values as they were stored".into()
    };
    writer.uns_string("sccrossrec/scale", &scale)?;
    if counts {
        writer.uns_string("log1p/base", "e")?;
    }
    let mut x = writer.csr("X", genes)?;
    let mut expected = if counts { Some(writer.csr("layers/counts", genes)?) } else { None };
    let mut probability = writer.csr("layers/probability", genes)?;
    let mut detected = writer.csr("layers/detected", genes)?;
    let mut done = 0;
    progress.at("translate", 0, chosen.cells.len() as u64);
    for chunk in chosen.cells.chunks(CHUNK) {
        progress.check(NOTHING)?;
        let mut atac = Csr::new();
        for &c in chunk {
            atac.push_row(data.cell(c as usize).atac());
        }
        data.check()?;
        let told = towers.expression(&atac);
        let rows = |values: &[f32], keep: &dyn Fn(f32) -> Option<f32>| {
            let mut out = Csr::new();
            for row in values.chunks_exact(genes) {
                out.push_row((0..).zip(row).filter_map(|(g, &x)| Some((g, keep(x)?))));
            }
            out
        };
        let some = |x: f32| (x.abs() >= LEAST).then_some(x);
        x.append(&rows(&told.level, &some))?;
        if let Some(layer) = &mut expected {
            layer.append(&rows(&told.count, &some))?;
        }
        probability.append(&rows(&told.probability, &some))?;
        detected.append(&rows(&told.probability, &|p| (p > 0.5).then_some(1.0)))?;
        done += chunk.len() as u64;
        progress.at("translate", done, chosen.cells.len() as u64);
    }
    x.finish()?;
    if let Some(layer) = expected {
        layer.finish()?;
    }
    probability.finish()?;
    detected.finish()?;
    writer.finish()
}

/// A partner by the towers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TowerPartner {
    /// Place of the cell among those of the other side.
    pub cell: u32,
    /// Product of both vectors.
    pub score: f32,
    /// Share of all cells of the other side by a softmax of calibrated scores: that it is the partner, where there is one.
    pub probability: f32,
    /// Probability that this RNA and this ATAC are of one cell, where every other pair is (`NaN` without calibration).
    pub pair_probability: f32,
}

/// What [`rank_by_towers`] found.
#[derive(Debug, Clone, PartialEq)]
pub struct TowerMatches {
    /// Of each query its partners, best first.
    pub partners: Vec<Vec<TowerPartner>>,
    /// Over cells of one name on both sides, in both directions; `None` where there are fewer than two.
    pub metrics: Option<PartnerMetrics>,
    /// Such cells.
    pub known: u64,
}

/// Ranks all cells of one side for each of the other, by one product of matrices. Memory: the vectors, and a block of scores.
///
/// # Errors
/// Data without the modality that is asked of them; [`Error::Interrupted`].
pub fn rank_by_towers(
    towers: &Towers<f32>,
    rna: (&DataSet, &[u32]),
    atac: (&DataSet, &[u32]),
    query: Query,
    top: usize,
    progress: &dyn Progress,
) -> Result<TowerMatches> {
    if rna.0.kinds().0.is_none() {
        return Err(Error::input(rna.0.dir(), "has no RNA", "give data with RNA as --rna"));
    }
    if atac.0.kinds().1.is_none() {
        return Err(Error::input(atac.0.dir(), "has no ATAC", "give data with ATAC as --atac"));
    }
    let of_rna = TowerVectors::of(towers, rna.0, rna.1, &[Side::Rna], progress)?;
    let of_atac = TowerVectors::of(towers, atac.0, atac.1, &[Side::Atac], progress)?;
    let width = of_rna.width;
    let (queries, targets) = match query {
        Query::Rna => (&of_rna.rna, &of_atac.atac),
        Query::Atac => (&of_atac.atac, &of_rna.rna),
    };
    let (n, m) = (queries.len() / width, targets.len() / width);
    let (scale, top) = (towers.scale(), top.min(m));
    let mut found = Vec::with_capacity(n);
    let mut scores = Vec::new();
    for block in queries.chunks(CHUNK * width) {
        progress.check(NOTHING)?;
        let rows = block.len() / width;
        scores.resize(rows * m, 0f32);
        product(&mut scores[..rows * m], View::new(block, rows, width), View::new(targets, m, width).t(), false);
        let best = |row: &[f32]| {
            let most = row.iter().fold(f32::MIN, |a, &x| a.max(x));
            let sum: f64 = row.iter().map(|&x| (scale * f64::from(x - most)).exp()).sum();
            let mut order: Vec<u32> = (0..m as u32).collect();
            let by = |a: &u32, b: &u32| row[*b as usize].total_cmp(&row[*a as usize]).then(a.cmp(b));
            if top < m {
                order.select_nth_unstable_by(top, by);
                order.truncate(top);
            }
            order.sort_unstable_by(by);
            let of = |cell: u32| {
                let score = row[cell as usize];
                let pair = towers.calibration().map_or(f64::NAN, |c| c.pair(f64::from(score)));
                let probability = ((scale * f64::from(score - most)).exp() / sum) as f32;
                TowerPartner { cell, score, probability, pair_probability: pair as f32 }
            };
            order.into_iter().map(of).collect::<Vec<_>>()
        };
        found.extend(scores[..rows * m].par_chunks(m.max(1)).map(best).collect::<Vec<_>>());
        progress.at("match", found.len() as u64, n as u64);
    }
    // Cells of one name on both sides.
    let place: HashMap<&str, usize> =
        atac.1.iter().enumerate().map(|(i, &c)| (atac.0.vocabulary().cells[c as usize].as_str(), i)).collect();
    let both: Vec<(usize, usize)> = (rna.1.iter().enumerate())
        .filter_map(|(i, &c)| Some((i, *place.get(rna.0.vocabulary().cells[c as usize].as_str())?)))
        .collect();
    let pick = |rows: &[f32], at: &dyn Fn(&(usize, usize)) -> usize| -> Vec<f32> {
        both.iter().flat_map(|x| &rows[at(x) * width..(at(x) + 1) * width]).copied().collect()
    };
    let (r, a) = (pick(&of_rna.rna, &|x| x.0), pick(&of_atac.atac, &|x| x.1));
    let v = rna.0.vocabulary();
    let types: Vec<u32> = both.iter().filter_map(|x| v.cell_type.get(rna.1[x.0] as usize).copied()).collect();
    let types = (types.len() == both.len()).then_some(types);
    let dot = Dot { rna: &r, atac: &a, width };
    let sharp = towers.calibration().map_or(scale, |c| c.match_scale) as f32;
    let metrics = (both.len() > 1).then(|| partners(&dot, types.as_deref(), Some(sharp)));
    Ok(TowerMatches { partners: found, metrics, known: both.len() as u64 })
}

/// A cell whose RNA and ATAC may not be of one cell, or that may be two.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Doubt {
    /// Place of the cell among those asked for.
    pub cell: u32,
    /// Product of its vectors.
    pub own_score: f32,
    /// Share of the other cells whose ATAC scores higher with its RNA, or whose RNA with its ATAC: the mean of both.
    pub closer: f32,
    /// Probability that its RNA and its ATAC are of one cell, where one pair in two is.
    pub pair_probability: f32,
    /// Share of validation cells with so low a score of their own, or lower.
    pub p_swapped: f32,
    /// The same as a false discovery rate over all cells (Benjamini and Hochberg).
    pub q_swapped: f32,
    /// Share of doublets made of two cells of the data among its 30 nearest, over that among all: above 1 where there are more.
    pub doublet_score: f32,
}

/// Looks for cells in doubt among `cells` (docs/model.md, section 8.1).
///
/// # Errors
/// Data without RNA or ATAC, or with fewer than three cells; [`Error::Interrupted`].
pub fn doubts(
    towers: &Towers<f32>,
    data: &DataSet,
    cells: &[u32],
    seed: u64,
    progress: &dyn Progress,
) -> Result<Vec<Doubt>> {
    data.need_both("a look for cells in doubt")?;
    let n = cells.len();
    if n < 3 {
        return Err(Error::usage("--doubts: there are fewer than three cells to compare"));
    }
    let v = vectors(towers, data, cells, progress)?;
    let width = v.width;
    let own: Vec<f32> = (v.rna.chunks_exact(width).zip(v.atac.chunks_exact(width)))
        .map(|(r, a)| r.iter().zip(a).map(|(x, y)| x * y).sum())
        .collect();
    progress.begin("doubts");
    let mut closer = vec![0f64; n];
    for (queries, targets) in [(&v.rna, &v.atac), (&v.atac, &v.rna)] {
        let mut at = 0;
        let mut scores = Vec::new();
        for block in queries.chunks(CHUNK * width) {
            progress.check(NOTHING)?;
            let rows = block.len() / width;
            scores.resize(rows * n, 0f32);
            product(&mut scores[..rows * n], View::new(block, rows, width), View::new(targets, n, width).t(), false);
            let more = |(i, row): (usize, &[f32])| {
                let mine = row[at + i];
                row.iter().filter(|&&x| x > mine).count() as f64 / (n - 1) as f64
            };
            let shares: Vec<f64> = scores[..rows * n].par_chunks(n).enumerate().map(more).collect();
            shares.into_iter().enumerate().for_each(|(i, x)| closer[at + i] += x / 2.0);
            at += rows;
        }
    }
    let doublets = doublet_scores(towers, data, cells, &v, seed, progress)?;
    let c = towers.calibration();
    let p: Vec<f64> = own.iter().map(|&s| c.map_or(f64::NAN, |c| c.as_low(f64::from(s)))).collect();
    let q = benjamini_hochberg(&p, n as u64);
    Ok((0..n)
        .map(|i| Doubt {
            cell: i as u32,
            own_score: own[i],
            closer: closer[i] as f32,
            pair_probability: c.map_or(f64::NAN, |c| c.pair(f64::from(own[i]))) as f32,
            p_swapped: p[i] as f32,
            q_swapped: q[i] as f32,
            doublet_score: doublets[i] as f32,
        })
        .collect())
}

/// Made doublets among the nearest of each cell, over their share among all.
fn doublet_scores(
    towers: &Towers<f32>,
    data: &DataSet,
    cells: &[u32],
    v: &TowerVectors,
    seed: u64,
    progress: &dyn Progress,
) -> Result<Vec<f64>> {
    let made = cells.len().min(MOST_DOUBLETS);
    let mut rng = Rng::new(seed, DOUBLETS);
    let mut all = v.joint();
    let real = cells.len();
    for start in (0..made).step_by(CHUNK) {
        progress.check(NOTHING)?;
        let (mut rna, mut atac) = (Csr::new(), Csr::new());
        for _ in start..(start + CHUNK).min(made) {
            let (a, b) = (cells[rng.below(real)], cells[rng.below(real)]);
            let (a, b) = (data.cell(a as usize), data.cell(b as usize));
            rna.push_row(summed(a.rna(), b.rna()));
            atac.push_row(summed(a.atac(), b.atac()));
        }
        data.check()?;
        let rows = TowerVectors { rna: towers.of_rna(&rna), atac: towers.of_atac(&atac), width: v.width, size: v.size };
        all.extend(rows.joint());
    }
    let points = Points { rows: &all, width: v.size };
    let query = Points { rows: &all[..real * v.size], width: v.size };
    // One more, since each is its own nearest.
    let near = nearest(points, query, NEAR + 1, false);
    let share = made as f64 / (real + made - 1) as f64;
    let of = |(i, near): (usize, &Vec<u32>)| {
        let others: Vec<u32> = near.iter().copied().filter(|&j| j as usize != i).take(NEAR).collect();
        let of_made = others.iter().filter(|&&j| j as usize >= real).count() as f64;
        of_made / others.len().max(1) as f64 / share
    };
    Ok(near.iter().enumerate().map(of).collect())
}

/// Entries of two cells, added where both have one; by number.
fn summed(a: impl Iterator<Item = (u32, f32)>, b: impl Iterator<Item = (u32, f32)>) -> Vec<(u32, f32)> {
    let mut all: Vec<(u32, f32)> = a.chain(b).collect();
    all.sort_by_key(|x| x.0);
    let mut out: Vec<(u32, f32)> = Vec::with_capacity(all.len());
    for (i, x) in all {
        match out.last_mut() {
            Some(last) if last.0 == i => last.1 += x,
            _ => out.push((i, x)),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_cells_are_one_doublet() {
        let a = [(3u32, 1.0f32), (1, 2.0)];
        let b = [(3u32, 4.0f32), (0, 1.0)];
        assert_eq!(summed(a.into_iter(), b.into_iter()), [(0, 1.0), (1, 2.0), (3, 5.0)]);
    }
}
