//! Clusters by Louvain's method in a graph of shared neighbours (Blondel et al. 2008; resolution as Reichardt and Bornholdt).
//!
//! See docs/model.md, eq. 84.

use std::collections::BTreeMap;

use crate::rng::Rng;

/// Neighbours two cells share, itself counted, to have an edge.
const SHARED: u32 = 2;
/// Resolutions between which one is looked for, and how often.
const BETWEEN: [f64; 2] = [0.05, 3.0];
const TRIES: usize = 9;
/// Cells of a cluster that counts.
const LEAST: usize = 10;
/// Rounds over all nodes of a level, and levels, at most.
const ROUNDS: usize = 30;
const LEVELS: usize = 30;
/// Stream of random numbers of the order of nodes.
const ORDER: u64 = 0x6C6F_7576;

/// A weighted graph without direction.
#[derive(Debug, Clone)]
pub struct SharedNeighbours {
    /// Of each node its neighbours and the weights of the edges; no node is its own neighbour here.
    edges: Vec<Vec<(u32, f64)>>,
    /// Weight inside each node, both ends counted.
    inside: Vec<f64>,
}

impl SharedNeighbours {
    /// Of cells and their k nearest neighbours: cells that share s ≥ 2 of their neighbours, each cell one of its own, have an
    /// edge of weight s / (2 (k + 1) − s).
    pub fn new(near: &[Vec<u32>]) -> Self {
        let n = near.len();
        let mut of: Vec<Vec<u32>> = (0..n as u32).map(|i| vec![i]).collect();
        for (i, near) in near.iter().enumerate() {
            near.iter().for_each(|&j| of[j as usize].push(i as u32));
        }
        let mut shared = vec![0u32; n];
        let edges = (0..n)
            .map(|i| {
                let mut met = Vec::new();
                for &j in near[i].iter().chain(&[i as u32]) {
                    for &c in &of[j as usize] {
                        if shared[c as usize] == 0 {
                            met.push(c);
                        }
                        shared[c as usize] += 1;
                    }
                }
                met.sort_unstable();
                let edge = |&c: &u32| {
                    let s = std::mem::take(&mut shared[c as usize]);
                    let all = (near[i].len() + near[c as usize].len() + 2) as f64;
                    (s >= SHARED && c as usize != i).then(|| (c, f64::from(s) / (all - f64::from(s))))
                };
                met.iter().filter_map(edge).collect()
            })
            .collect();
        SharedNeighbours { edges, inside: vec![0.0; n] }
    }

    /// Weight at each node, both ends of what is inside counted.
    fn degrees(&self) -> Vec<f64> {
        self.edges.iter().zip(&self.inside).map(|(e, i)| e.iter().map(|x| x.1).sum::<f64>() + i).collect()
    }

    /// Moves nodes, one at a time, to the community of a neighbour where modularity gains most, until none gains.
    fn moved(&self, resolution: f64, rng: &mut Rng) -> Vec<u32> {
        let n = self.edges.len();
        let degree = self.degrees();
        let all: f64 = degree.iter().sum();
        let mut of: Vec<u32> = (0..n as u32).collect();
        let mut total = degree.clone();
        let mut order: Vec<u32> = (0..n as u32).collect();
        rng.shuffle(&mut order);
        let mut to = vec![0.0; n];
        for _ in 0..ROUNDS {
            let mut moves = 0;
            for &i in &order {
                let i = i as usize;
                let own = of[i];
                let mut met = vec![own];
                for &(j, w) in &self.edges[i] {
                    let c = of[j as usize];
                    if to[c as usize] == 0.0 && c != own {
                        met.push(c);
                    }
                    to[c as usize] += w;
                }
                total[own as usize] -= degree[i];
                let gain = |c: u32| to[c as usize] - resolution * degree[i] * total[c as usize] / all;
                let mut best = (own, gain(own) + 1e-12);
                for &c in &met[1..] {
                    if gain(c) > best.1 {
                        best = (c, gain(c));
                    }
                }
                met.iter().for_each(|&c| to[c as usize] = 0.0);
                total[best.0 as usize] += degree[i];
                moves += usize::from(best.0 != own);
                of[i] = best.0;
            }
            if moves == 0 {
                break;
            }
        }
        of
    }

    /// The graph whose nodes are the communities `of`, numbered from 0 without gaps.
    fn folded(&self, of: &[u32], communities: usize) -> SharedNeighbours {
        let mut inside = vec![0.0; communities];
        let mut edges = vec![BTreeMap::<u32, f64>::new(); communities];
        for (i, e) in self.edges.iter().enumerate() {
            let c = of[i];
            inside[c as usize] += self.inside[i];
            for &(j, w) in e {
                match of[j as usize] {
                    d if d == c => inside[c as usize] += w,
                    d => *edges[c as usize].entry(d).or_default() += w,
                }
            }
        }
        SharedNeighbours { edges: edges.into_iter().map(|e| e.into_iter().collect()).collect(), inside }
    }

    /// Modularity of communities at a resolution (docs/model.md, eq. 84).
    pub fn modularity(&self, of: &[u32], resolution: f64) -> f64 {
        let degree = self.degrees();
        let all: f64 = degree.iter().sum();
        let mut total = vec![0.0; of.iter().max().map_or(0, |&c| c as usize + 1)];
        of.iter().zip(&degree).for_each(|(&c, d)| total[c as usize] += d);
        let within = |(i, e): (usize, &Vec<(u32, f64)>)| {
            e.iter().filter(|(j, _)| of[*j as usize] == of[i]).map(|x| x.1).sum::<f64>() + self.inside[i]
        };
        let inside: f64 = self.edges.iter().enumerate().map(within).sum();
        if all > 0.0 { inside / all - resolution * total.iter().map(|t| (t / all).powi(2)).sum::<f64>() } else { 0.0 }
    }

    /// The community of each node, numbered from 0.
    pub fn louvain(&self, resolution: f64, seed: u64) -> Vec<u32> {
        let mut rng = Rng::new(seed, ORDER);
        let mut graph = self.clone();
        let mut of: Vec<u32> = (0..self.edges.len() as u32).collect();
        for _ in 0..LEVELS {
            let mut now = graph.moved(resolution, &mut rng);
            let mut number = BTreeMap::new();
            for c in &mut now {
                let next = number.len() as u32;
                *c = *number.entry(*c).or_insert(next);
            }
            of.iter_mut().for_each(|c| *c = now[*c as usize]);
            if number.len() == graph.edges.len() {
                break;
            }
            graph = graph.folded(&now, number.len());
        }
        of
    }
}

/// Clusters at the resolution, of nine tried by bisection from 0.05 to 3, that gives `wanted` clusters of ten cells or more or is
/// next to it; and how many those are.
pub fn best_louvain(graph: &SharedNeighbours, wanted: usize, seed: u64) -> (Vec<u32>, usize) {
    let [mut low, mut high] = BETWEEN;
    let mut best: Option<(Vec<u32>, usize)> = None;
    for _ in 0..TRIES {
        let resolution = (low * high).sqrt();
        let of = graph.louvain(resolution, seed);
        let mut sizes = vec![0usize; of.iter().max().map_or(0, |&c| c as usize + 1)];
        of.iter().for_each(|&c| sizes[c as usize] += 1);
        let found = sizes.iter().filter(|&&s| s >= LEAST).count();
        if best.as_ref().is_none_or(|b| found.abs_diff(wanted) < b.1.abs_diff(wanted)) {
            best = Some((of, found));
        }
        match found.cmp(&wanted) {
            std::cmp::Ordering::Equal => break,
            std::cmp::Ordering::Greater => high = resolution,
            std::cmp::Ordering::Less => low = resolution,
        }
    }
    best.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_neighbours_by_hand() {
        // Cells 0, 1, 2 are each other's neighbours; 3 has 0 and 1, and is nobody's.
        let g = SharedNeighbours::new(&[vec![1, 2], vec![0, 2], vec![0, 1], vec![0, 1]]);
        // 0, 1, 2 share all three; 3 shares 0 and 1 with each.
        assert_eq!(g.edges[0], [(1, 1.0), (2, 1.0), (3, 0.5)]);
        assert_eq!(g.edges[3], [(0, 0.5), (1, 0.5), (2, 0.5)]);
    }

    /// Random graphs: the weights are those of sets compared one by one.
    #[test]
    fn weights_equal_sets() {
        let mut rng = Rng::new(3, 3);
        let n = 40;
        let near: Vec<Vec<u32>> = (0..n)
            .map(|i| {
                let mut all: Vec<u32> = (0..n).filter(|&j| j != i).collect();
                rng.shuffle(&mut all);
                all.truncate(6);
                all
            })
            .collect();
        let g = SharedNeighbours::new(&near);
        let has = |i: u32, j: u32| i == j || near[i as usize].contains(&j);
        for i in 0..n {
            for c in (0..n).filter(|&c| c != i) {
                let both = (0..n).filter(|&j| has(i, j) && has(c, j)).count();
                let any = (0..n).filter(|&j| has(i, j) || has(c, j)).count();
                let edge = g.edges[i as usize].iter().find(|e| e.0 == c).map(|e| e.1);
                assert_eq!(edge, (both >= 2).then(|| both as f64 / any as f64), "{i} {c}");
            }
        }
    }

    fn cliques(k: u32, size: u32) -> SharedNeighbours {
        let n = k * size;
        let edges = (0..n)
            .map(|i| {
                let mut e: Vec<(u32, f64)> =
                    (0..n).filter(|&j| j != i && j / size == i / size).map(|j| (j, 1.0)).collect();
                // A ring: the first of each with the last of the one before.
                if i % size == 0 {
                    e.push(((i + n - 1) % n, 1.0));
                }
                if i % size == size - 1 {
                    e.push(((i + 1) % n, 1.0));
                }
                e
            })
            .collect();
        SharedNeighbours { edges, inside: vec![0.0; n as usize] }
    }

    #[test]
    fn a_ring_of_cliques() {
        let g = cliques(6, 12);
        let of = g.louvain(1.0, 906);
        for i in 0..72 {
            for j in 0..72 {
                assert_eq!(of[i] == of[j], i / 12 == j / 12);
            }
        }
        // By hand: 6 × 66 edges within and 6 between; every clique has a sixth of all ends.
        assert!((g.modularity(&of, 1.0) - (396.0 / 402.0 - 1.0 / 6.0)).abs() < 1e-12);
        let (found, n) = best_louvain(&g, 6, 906);
        assert_eq!((n, found), (6, of.clone()));
        // Folding keeps modularity.
        let folded = g.folded(&of, 6);
        assert!((folded.modularity(&[0, 1, 2, 3, 4, 5], 1.0) - g.modularity(&of, 1.0)).abs() < 1e-12);
    }

    /// No single node would gain by another community of those there are.
    #[test]
    fn no_move_gains() {
        let mut rng = Rng::new(4, 4);
        let rows: Vec<f32> = (0..400).map(|i| (i % 4) as f32 * 3.0 + rng.normal() as f32).collect();
        let p = super::super::neighbours::Points { rows: &rows, width: 2 };
        let g = SharedNeighbours::new(&super::super::neighbours::nearest(p, p, 10, true));
        let of = g.moved(1.0, &mut rng);
        let now = g.modularity(&of, 1.0);
        for i in 0..of.len() {
            for &(j, _) in &g.edges[i] {
                let mut other = of.clone();
                other[i] = of[j as usize];
                assert!(g.modularity(&other, 1.0) <= now + 1e-9);
            }
        }
        assert!(g.modularity(&g.louvain(1.0, 906), 1.0) >= now - 1e-9);
    }
}
