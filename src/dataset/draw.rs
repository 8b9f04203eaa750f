//! Sample sets drawn: positives, negatives, parts.

use std::collections::HashSet;

use serde_json::json;

use super::samples::{Negatives, Sample, SampleConfig, SampleSet, SplitBy, UNLABELLED};
use crate::error::{Error, Result};
use crate::rng::Rng;
use crate::vocabulary::{ObsColumn, Vocabulary};

const STREAM: u64 = 0x5A00;

/// Cells by type, to draw negatives from.
struct Pool {
    /// Cells, those of a type side by side.
    cells: Vec<u32>,
    /// Range of each type in `cells`; unlabelled cells are not among them.
    types: Vec<std::ops::Range<usize>>,
}

impl Pool {
    fn new(cells: &[u32], v: &Vocabulary) -> Self {
        let mut pool = Pool { cells: Vec::with_capacity(cells.len()), types: Vec::new() };
        for (t, name) in v.cell_types.iter().enumerate() {
            let from = pool.cells.len();
            if name != UNLABELLED {
                pool.cells.extend(cells.iter().filter(|&&c| v.cell_type.get(c as usize) == Some(&(t as u32))));
            }
            if pool.cells.len() > from {
                pool.types.push(from..pool.cells.len());
            }
        }
        pool
    }

    /// Pairs (of either order) of cells of different types.
    fn easy_pairs(&self) -> u128 {
        let n = self.cells.len() as u128;
        self.types.iter().map(|t| t.len() as u128 * (n - t.len() as u128)).sum()
    }

    fn hard_pairs(&self) -> u128 {
        self.types.iter().map(|t| t.len() as u128 * (t.len() as u128 - 1)).sum()
    }

    /// Two cells at random given that their types differ.
    fn easy(&self, rng: &mut Rng) -> (u32, u32) {
        let n = self.cells.len();
        // The type of the first cell has probability n_t (n - n_t) / pairs; then both are uniform.
        let mut at = (u128::from(rng.next_u64()) * self.easy_pairs()) >> 64;
        let mut chosen = 0;
        for (i, t) in self.types.iter().enumerate() {
            let weight = t.len() as u128 * (n - t.len()) as u128;
            if at < weight {
                chosen = i;
                break;
            }
            at -= weight;
        }
        let t = &self.types[chosen];
        let m = self.cells[t.start + rng.below(t.len())];
        let mut other = rng.below(n - t.len());
        if other >= t.start {
            other += t.len();
        }
        (m, self.cells[other])
    }

    /// Two different cells of type number `t`.
    fn hard(&self, t: usize, rng: &mut Rng) -> (u32, u32) {
        let t = &self.types[t];
        let first = rng.below(t.len());
        let mut second = rng.below(t.len() - 1);
        if second >= first {
            second += 1;
        }
        (self.cells[t.start + first], self.cells[t.start + second])
    }

    /// `n` shared out over the types of two and more cells in proportion to their size (largest remainders).
    fn shares(&self, n: usize) -> Vec<usize> {
        let size = |t: &std::ops::Range<usize>| if t.len() > 1 { t.len() as u128 } else { 0 };
        let total: u128 = self.types.iter().map(size).sum();
        if total == 0 {
            return vec![0; self.types.len()];
        }
        let mut shares: Vec<usize> = self.types.iter().map(|t| (n as u128 * size(t) / total) as usize).collect();
        let mut order: Vec<usize> = (0..shares.len()).collect();
        order.sort_by_key(|&i| (std::cmp::Reverse(n as u128 * size(&self.types[i]) % total), i));
        let left = n - shares.iter().sum::<usize>();
        for &i in order.iter().take(left) {
            shares[i] += 1;
        }
        shares
    }
}

/// Names out of lists that are parted by commas: `list` may hold names one by one or several in one text, and a name may
/// itself hold commas. The longest known name wins; what is unknown stays, piece by piece.
pub fn names_of(list: &[String], known: &[String]) -> Vec<String> {
    let mut out = Vec::new();
    for text in list {
        let pieces: Vec<&str> = text.split(',').collect();
        let mut at = 0;
        while at < pieces.len() {
            let found = (at + 1..=pieces.len()).rev().find_map(|to| {
                let name = pieces[at..to].join(",");
                let name = known.iter().find(|k| **k == name || **k == name.trim())?;
                Some((name.clone(), to))
            });
            let (name, to) = found.unwrap_or_else(|| (pieces[at].to_string(), at + 1));
            out.push(name);
            at = to;
        }
    }
    out
}

/// Draws the negatives of one part: `n` of them. A pair that was drawn before is drawn again, up to 64 times, so that
/// pairs repeat only where hardly any other is left.
fn negatives(pool: &Pool, kind: Negatives, n: usize, part: &str, rng: &mut Rng) -> Result<Vec<Sample>> {
    let easy = match kind {
        Negatives::Easy => n,
        Negatives::Hard => 0,
        Negatives::Mixed => n.div_ceil(2),
    };
    if easy > 0 && pool.easy_pairs() == 0 {
        return Err(Error::usage(format!(
            "easy negatives need cells of at least two types, and {part} has {}; take more cell types, \
             --negatives hard, --negative-ratio 0 or --split sample",
            pool.types.len()
        )));
    }
    if n > easy && pool.hard_pairs() == 0 {
        return Err(Error::usage(format!(
            "hard negatives need two cells of one type, and {part} has no type with two; take more cells, \
             --negatives easy, --negative-ratio 0 or --split sample"
        )));
    }
    let mut seen = HashSet::with_capacity(n);
    let mut out = Vec::with_capacity(n);
    let mut add = |rng: &mut Rng, draw: &dyn Fn(&mut Rng) -> (u32, u32)| {
        let mut pair = draw(rng);
        for _ in 0..64 {
            if seen.insert(pair) {
                break;
            }
            pair = draw(rng);
        }
        seen.insert(pair);
        out.push(Sample { rna: pair.0, atac: pair.1, label: 0 });
    };
    for _ in 0..easy {
        add(rng, &|rng| pool.easy(rng));
    }
    for (t, share) in pool.shares(n - easy).into_iter().enumerate() {
        for _ in 0..share {
            add(rng, &|rng| pool.hard(t, rng));
        }
    }
    Ok(out)
}

/// Sizes of validation and test among `n`: a tenth each, at least one where there are three and more.
fn tenths(n: usize) -> usize {
    if n >= 3 { (n / 10).max(1) } else { 0 }
}

/// Cells of the training, validation and test part, whole batches each. Batches of more than a fifth of the cells, and
/// cells of no batch, go to training; of the others, in random order, as many as reach a tenth of the cells make the
/// test part, and again the validation part. Of two batches one is the test part, and a tenth of the cells of the other are
/// for validation.
fn deal_batches(
    v: &Vocabulary,
    config: &SampleConfig,
    column: &str,
    cells: &[u32],
    rng: &mut Rng,
) -> Result<[Vec<u32>; 3]> {
    let Some(obs) = v.obs.iter().find(|c| c.name == column) else {
        let names: Vec<String> = v.obs.iter().map(|c| c.name.clone()).collect();
        return Err(Error::usage(format!(
            "--split batch:{column}: the data set keeps no column {column:?} of obs; it keeps {} (not those of fractions, \
             of more than 1000 texts or of more than 100 numbers)",
            crate::data::anndata::list(&names)
        )));
    };
    let batch_of = |c: u32| obs.codes.get(c as usize).copied().filter(|&b| b != ObsColumn::MISSING);
    let mut size = vec![0usize; obs.categories.len()];
    cells.iter().filter_map(|&c| batch_of(c)).for_each(|b| size[b as usize] += 1);
    let there = |b: usize| size[b] > 0;
    let name = |b: &usize| obs.categories[*b].clone();
    let all: Vec<usize> = (0..size.len()).filter(|&b| there(b)).collect();
    let find = |names: &[String], flag: &str| -> Result<Vec<usize>> {
        let known = |n: &String| {
            all.iter().copied().find(|b| obs.categories[*b] == *n).ok_or_else(|| {
                let names: Vec<String> = all.iter().map(name).collect();
                let there = crate::data::anndata::list(&names);
                Error::usage(format!("{flag}: there is no cell with {column} {n:?}; there are {there}"))
            })
        };
        names_of(names, &obs.categories).iter().map(known).collect()
    };
    let mut test = find(&config.test_batches, "--test-batches")?;
    let mut val = find(&config.val_batches, "--val-batches")?;
    if let Some(both) = test.iter().find(|b| val.contains(b)) {
        return Err(Error::usage(format!(
            "{column} {:?} cannot be in both --val-batches and --test-batches",
            name(both)
        )));
    }
    let mut order: Vec<usize> = all.iter().copied().filter(|&b| !test.contains(&b) && !val.contains(&b)).collect();
    rng.shuffle(&mut order);
    order.sort_by_key(|&b| size[b] * 5 > cells.len()); // stable: large ones last
    let mut order = std::collections::VecDeque::from(order);
    // Batches that must be left for the parts to come; the training part is one.
    let two = all.len() == 2 && val.is_empty();
    let mut reserved = 1 + usize::from(test.is_empty()) + usize::from(val.is_empty() && !two);
    for (part, dealt) in [(&mut test, true), (&mut val, !two)] {
        if !part.is_empty() || !dealt {
            continue;
        }
        reserved -= 1;
        let mut n = 0;
        while order.len() > reserved {
            let Some(&b) = order.front() else { break };
            if !part.is_empty() && (n >= cells.len() / 10 || size[b] * 5 > cells.len()) {
                break;
            }
            n += size[b];
            part.push(b);
            order.pop_front();
        }
    }
    if test.is_empty() || (val.is_empty() && !two) || order.is_empty() {
        return Err(Error::usage(format!(
            "--split batch:{column} needs batches for training, validation and test, and there are {}: {}",
            all.len(),
            crate::data::anndata::list(&all.iter().map(name).collect::<Vec<_>>())
        )));
    }
    let mut parts: [Vec<u32>; 3] = Default::default();
    for &c in cells {
        let b = batch_of(c).map(|b| b as usize);
        let k = if b.is_some_and(|b| test.contains(&b)) {
            2
        } else if b.is_some_and(|b| val.contains(&b)) {
            1
        } else {
            0
        };
        parts[k].push(c);
    }
    parts.iter_mut().for_each(|p| rng.shuffle(p));
    if two {
        let n = tenths(parts[0].len());
        parts[1] = parts[0].split_off(parts[0].len() - n);
    }
    Ok(parts)
}

/// Draws a sample set: positives one a cell, negatives by `config`, parts 80/10/10. The result is a function of the
/// vocabulary and the configuration alone.
///
/// # Errors
/// [`Error::Usage`] for settings that cannot be met: no such cell type, column or batch, too few cells or batches.
pub fn draw_samples(v: &Vocabulary, config: &SampleConfig) -> Result<SampleSet> {
    if !(config.negative_ratio.is_finite() && (0.0..=1000.0).contains(&config.negative_ratio)) {
        return Err(Error::usage(format!(
            "--negative-ratio is {}; it must be a number from 0 to 1000",
            config.negative_ratio
        )));
    }
    let ratio = if config.discovery { 0.0 } else { config.negative_ratio };
    if ratio > 0.0 && v.cell_types.is_empty() {
        return Err(Error::usage(
            "negatives need cell types, and the data set has none; prepare it with --cell-type-column NAME, \
             or draw positives only with --discovery or --negative-ratio 0",
        ));
    }
    let only = names_of(&config.cell_types, &v.cell_types);
    for name in &only {
        if !v.cell_types.contains(name) {
            return Err(Error::usage(format!(
                "--cell-types: there is no cell type {name:?}; there are {}",
                crate::data::anndata::list(&v.cell_types)
            )));
        }
    }
    let wanted: Vec<bool> = v.cell_types.iter().map(|t| only.is_empty() || only.contains(t)).collect();
    let mut cells: Vec<u32> = (0..v.cells.len())
        .filter(|&i| v.cell_type.get(i).is_none_or(|&t| wanted.get(t as usize).copied().unwrap_or(false)))
        .map(|i| i as u32)
        .collect();
    if cells.is_empty() {
        return Err(Error::usage("no cell is left to make pairs of"));
    }
    let mut rng = Rng::new(config.seed, STREAM);
    let n_negatives = |positives: usize| (ratio * positives as f64).round() as usize;
    let mut samples: Vec<Sample> = Vec::new();
    let mut parts: [Vec<u32>; 3] = Default::default();
    let named = !(config.val_batches.is_empty() && config.test_batches.is_empty());
    if named && !matches!(config.split, SplitBy::Batch(_)) {
        return Err(Error::usage("--val-batches and --test-batches need --split batch:COLUMN"));
    }
    match &config.split {
        by @ (SplitBy::Cell | SplitBy::Batch(_)) => {
            let dealt = match by {
                SplitBy::Batch(column) => deal_batches(v, config, column, &cells, &mut rng)?,
                _ => {
                    rng.shuffle(&mut cells);
                    let tenth = tenths(cells.len());
                    let (train, rest) = cells.split_at(cells.len() - 2 * tenth);
                    let (val, test) = rest.split_at(tenth);
                    [train.to_vec(), val.to_vec(), test.to_vec()]
                }
            };
            let names = ["the training part", "the validation part", "the test part"];
            for (k, (cells, name)) in dealt.iter().zip(names).enumerate() {
                let from = samples.len();
                samples.extend(cells.iter().map(|&c| Sample { rna: c, atac: c, label: 1 }));
                let n = n_negatives(cells.len());
                if n > 0 {
                    let mut sorted = cells.to_vec();
                    sorted.sort_unstable();
                    let mut rng = Rng::new(config.seed, STREAM + 1 + k as u64);
                    samples.extend(negatives(&Pool::new(&sorted, v), config.negatives, n, name, &mut rng)?);
                }
                parts[k] = (from as u32..samples.len() as u32).collect();
                rng.shuffle(&mut parts[k]);
            }
        }
        SplitBy::Sample => {
            samples.extend(cells.iter().map(|&c| Sample { rna: c, atac: c, label: 1 }));
            let n = n_negatives(cells.len());
            if n > 0 {
                let mut rng = Rng::new(config.seed, STREAM + 1);
                samples.extend(negatives(&Pool::new(&cells, v), config.negatives, n, "the data set", &mut rng)?);
            }
            let mut order: Vec<u32> = (0..samples.len() as u32).collect();
            rng.shuffle(&mut order);
            let tenth = tenths(order.len());
            let test = order.split_off(order.len() - tenth);
            let val = order.split_off(order.len() - tenth);
            parts = [order, val, test];
        }
    }
    if u32::try_from(samples.len()).is_err() {
        return Err(Error::usage(format!("{} pairs; at most 2^32 - 1: lower --negative-ratio", samples.len())));
    }
    let mut recipe = json!(config);
    recipe["positives"] = json!(cells.len());
    if let SplitBy::Batch(column) = &config.split
        && let Some(obs) = v.obs.iter().find(|c| c.name == *column)
    {
        recipe["without_batch"] = json!(cells.iter().filter(|&&c| obs.value(c as usize).is_none()).count());
    }
    recipe["negatives_drawn"] = json!(samples.len() - cells.len());
    let [train, val, test] = parts;
    Ok(SampleSet { samples, train, val, test, recipe })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_hold_commas() {
        let known = ["B".to_string(), "T, naive".into(), "T".into()];
        assert_eq!(names_of(&["T, naive,B".into()], &known), ["T, naive", "B"]);
        assert_eq!(names_of(&["X,T".into()], &known), ["X", "T"]);
    }
}
