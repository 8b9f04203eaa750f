//! Local regression in one dimension, computed as Cleveland and Grosse's `dloess` does with its default settings
//! (`surface = "interpolate"`): local fits at the vertices of a k-d tree, cubic blending between them.

/// Points below which a cell is not cut, as a share of the points in a neighbourhood.
const CELL: f64 = 0.2;

/// How far the outer vertices lie outside of the points, as a share of their range.
const MARGIN: f64 = 0.005;

/// Terms of the local polynomial: 1, x, x².
const TERMS: usize = 3;

/// Fitted values at `x` of a local regression of `y` on `x` of degree 2, in the order given. A neighbourhood holds
/// the share `span` of the points; their weights are tricube. Where `dloess` gives
/// up, this goes on: a neighbourhood with two distinct `x` gets a line, with one a constant, and one whose points are
/// all equally far is widened until some are not.
///
/// `None` where the lengths differ, a number is not finite or `span` is not in (0, 1].
///
/// ```
/// use sccrossrec::annotate::loess::loess;
/// let x: Vec<f64> = (0..50).map(f64::from).collect();
/// let y: Vec<f64> = x.iter().map(|x| 2.0 + x * x).collect();
/// let fitted = loess(&x, &y, 0.3).unwrap();
/// assert!(fitted.iter().zip(&y).all(|(f, y)| (f - y).abs() < 1e-6 * y));
/// ```
pub fn loess(x: &[f64], y: &[f64], span: f64) -> Option<Vec<f64>> {
    if x.len() != y.len() || !(span > 0.0 && span <= 1.0) || !x.iter().chain(y).all(|v| v.is_finite()) {
        return None;
    }
    let n = x.len();
    if n == 0 {
        return Some(Vec::new());
    }
    let mut sorted = x.to_vec();
    sorted.sort_by(f64::total_cmp);
    let near = ((n as f64 * span + 1e-5) as usize).clamp(TERMS.min(n), n);
    let vertices = vertices(&sorted, (n as f64 * span * CELL) as usize);
    let fits: Vec<Fit> = vertices.iter().map(|&at| local_fit(at, x, y, near)).collect();
    Some(x.iter().map(|&x| blend(x, &vertices, &fits)).collect())
}

/// Vertices of the tree over sorted points, rising. A cell of more than `leaf` points is cut at its median, between
/// values where such a place is near.
fn vertices(sorted: &[f64], leaf: usize) -> Vec<f64> {
    let (first, last) = (sorted[0], sorted[sorted.len() - 1]);
    let margin = (MARGIN * (last - first)).max(1e-30 + first.abs().max(last.abs()) * 1e-12);
    let (low, high) = (first - margin, last + margin);
    let mut out = vec![low, high];
    let mut cells = vec![(0, sorted.len() - 1, low, high)];
    while let Some((from, to, low, high)) = cells.pop() {
        if to - from < leaf.max(1) {
            continue;
        }
        // Counted from 1, as the original does: which of two medians it is depends on that.
        let middle = (from + to + 2) / 2 - 1;
        let cut = end_of_run(sorted, from, to, middle);
        let at = sorted[cut];
        if at <= low || at >= high {
            continue;
        }
        out.push(at);
        cells.push((from, cut, low, at));
        cells.push((cut + 1, to, at, high));
    }
    out.sort_by(f64::total_cmp);
    out
}

/// The place nearest to `middle` in `from..to` at which a run of equal values ends, looking one step above, one below,
/// two above and so on; `middle` itself once that has left the cell on either side.
fn end_of_run(sorted: &[f64], from: usize, to: usize, middle: usize) -> usize {
    for step in 0..=to - from {
        for at in [middle.checked_add(step), middle.checked_sub(step)] {
            match at {
                Some(at) if (from..to).contains(&at) => {
                    if sorted[at] != sorted[at + 1] {
                        return at;
                    }
                }
                _ => return middle,
            }
        }
    }
    middle
}

/// A local polynomial at a vertex.
struct Fit {
    value: f64,
    slope: f64,
}

fn local_fit(at: f64, x: &[f64], y: &[f64], near: usize) -> Fit {
    let squared = |x: f64| (x - at) * (x - at);
    let mut distances: Vec<f64> = x.iter().map(|&x| squared(x)).collect();
    let (closer, &mut reach, farther) = distances.select_nth_unstable_by(near - 1, f64::total_cmp);
    let reach = match closer.iter().any(|&d| d < reach) {
        true => reach,
        // Next to the reach all weights are 0.
        false => farther.iter().copied().filter(|&d| d > reach).min_by(f64::total_cmp).unwrap_or(f64::INFINITY),
    };
    let mut columns: [Vec<f64>; TERMS] = Default::default();
    let mut target = Vec::with_capacity(near);
    let mut distinct: Vec<f64> = Vec::with_capacity(TERMS);
    for (&x, &y) in x.iter().zip(y) {
        let d = squared(x);
        if d < reach {
            let ratio = (d / reach).sqrt();
            let weight = (1.0 - ratio * ratio * ratio).powi(3).sqrt();
            columns[0].push(weight);
            columns[1].push(weight * (x - at));
            columns[2].push(weight * (x - at) * (x - at));
            target.push(weight * y);
            if distinct.len() < TERMS && !distinct.contains(&x) {
                distinct.push(x);
            }
        }
    }
    // As many terms as the points can tell.
    columns.iter_mut().skip(distinct.len()).for_each(|c| c.fill(0.0));
    let [value, slope, _] = least_squares(columns, &target);
    Fit { value, slope }
}

/// Coefficients of the columns that come nearest to the target; of several, the least in columns of length 1.
fn least_squares(mut columns: [Vec<f64>; TERMS], target: &[f64]) -> [f64; TERMS] {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let mut scale = [1.0; TERMS];
    for (column, scale) in columns.iter_mut().zip(&mut scale) {
        let norm = dot(column, column).sqrt();
        if norm > 0.0 {
            *scale = norm;
            column.iter_mut().for_each(|v| *v /= norm);
        }
    }
    // Singular values by turning pairs of columns until all are orthogonal (one-sided Jacobi): A = (A V) Vᵀ.
    let mut turned = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
    for _ in 0..60 {
        let mut done = true;
        for (p, q) in [(0, 1), (0, 2), (1, 2)] {
            let (pp, qq, pq) =
                (dot(&columns[p], &columns[p]), dot(&columns[q], &columns[q]), dot(&columns[p], &columns[q]));
            if pq.abs() <= 1e-16 * (pp * qq).sqrt() || pq == 0.0 {
                continue;
            }
            done = false;
            let tau = (qq - pp) / (2.0 * pq);
            let t = tau.signum() / (tau.abs() + (1.0 + tau * tau).sqrt());
            let c = 1.0 / (1.0 + t * t).sqrt();
            let s = c * t;
            let (left, right) = columns.split_at_mut(q);
            for (a, b) in left[p].iter_mut().zip(&mut right[0]) {
                (*a, *b) = (c * *a - s * *b, s * *a + c * *b);
            }
            for row in &mut turned {
                (row[p], row[q]) = (c * row[p] - s * row[q], s * row[p] + c * row[q]);
            }
        }
        if done {
            break;
        }
    }
    let singular: Vec<f64> = columns.iter().map(|c| dot(c, c).sqrt()).collect();
    let least = singular.iter().copied().fold(0.0, f64::max) * 100.0 * f64::EPSILON;
    let mut out = [0.0; TERMS];
    for (k, column) in columns.iter().enumerate() {
        if singular[k] > least {
            let along = dot(column, target) / (singular[k] * singular[k]);
            for (out, row) in out.iter_mut().zip(&turned) {
                *out += row[k] * along;
            }
        }
    }
    out.iter_mut().zip(scale).for_each(|(v, scale)| *v /= scale);
    out
}

/// The cubic between two vertices with their values and slopes.
fn blend(x: f64, vertices: &[f64], fits: &[Fit]) -> f64 {
    let right = vertices.partition_point(|&v| v < x).clamp(1, vertices.len() - 1);
    let (a, b) = (&fits[right - 1], &fits[right]);
    let width = vertices[right] - vertices[right - 1];
    let t = (x - vertices[right - 1]) / width;
    let u = 1.0 - t;
    u * u * (1.0 + 2.0 * t) * a.value
        + t * t * (3.0 - 2.0 * t) * b.value
        + (t * u * u * a.slope - t * t * u * b.slope) * width
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_fitted() {
        assert_eq!(loess(&[1.0], &[1.0, 2.0], 0.3), None);
        assert_eq!(loess(&[1.0, f64::NAN], &[1.0, 2.0], 0.3), None);
        assert_eq!(loess(&[1.0, 2.0], &[1.0, f64::INFINITY], 0.3), None);
        assert_eq!(loess(&[1.0], &[1.0], 0.0), None);
        assert_eq!(loess(&[], &[], 0.3), Some(vec![]));
    }

    #[test]
    fn few_and_tied_points() {
        let near = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-9);
        assert!(near(&loess(&[2.0], &[5.0], 0.3).unwrap(), &[5.0]));
        // One value of x: its mean.
        let same = loess(&[2.0; 4], &[1.0, 2.0, 3.0, 6.0], 0.3).unwrap();
        assert!(near(&same, &[3.0; 4]), "{same:?}");
        // Two values of x: a line.
        let two = loess(&[1.0, 1.0, 2.0, 2.0], &[1.0, 3.0, 5.0, 7.0], 1.0).unwrap();
        assert!(two.iter().zip([2.0, 2.0, 6.0, 6.0]).all(|(a, b)| (a - b).abs() < 1e-3), "{two:?}");
        // Most points at one place, as genes seen once are.
        let x: Vec<f64> = (0..100).map(|i| if i < 70 { 0.0 } else { f64::from(i) }).collect();
        let fitted = loess(&x, &x, 0.3).unwrap();
        assert!(fitted.iter().zip(&x).all(|(f, x)| (f - x).abs() < 0.2), "{fitted:?}");
    }
}
