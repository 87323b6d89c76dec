//! The search for the parameters of a model.
//!
//! The models have one to four parameters and a cheap, smooth likelihood, which is all that the simplex search of
//! Nelder and Mead (The Computer Journal 7, 1965) needs. We do not use argmin for these few lines: it brings eight
//! crates, among them `paste`, which nobody maintains.

/// The search ends when the values at the corners of the simplex differ by less, relative to the values. That is above
/// the rounding error of a sum of a million logarithms, and far below what is evidence for anything.
const PRECISION: f64 = 1e-11;

/// The most steps of one search. Searches in four dimensions need about 200.
const MOST_STEPS: u32 = 2000;

/// The most searches, each from the result of the one before. A simplex can collapse before it reaches the minimum;
/// a new one then goes on.
const MOST_SEARCHES: u32 = 8;

/// A corner of the simplex, and the value there.
type Corner<const N: usize> = ([f64; N], f64);

/// Returns where `function` is least near `start`, and its value there. Points at which the function is infinite or
/// not a number are never chosen, unless `start` is one.
pub(crate) fn minimum<const N: usize>(
    start: [f64; N],
    function: impl Fn(&[f64; N]) -> f64,
) -> Corner<N> {
    let value = |point: [f64; N]| {
        let value = function(&point);
        (point, if value.is_nan() { f64::INFINITY } else { value })
    };
    let mut best = value(start);
    for _ in 0..MOST_SEARCHES {
        let found = search(best, &value);
        let is_better = found.1 < best.1 - precision(found.1);
        best = found;
        if !is_better {
            break;
        }
    }
    best
}

/// Returns the best corner of a simplex that has moved from `start` to a minimum.
fn search<const N: usize>(start: Corner<N>, value: &impl Fn([f64; N]) -> Corner<N>) -> Corner<N> {
    let mut corners = vec![start];
    for dimension in 0..N {
        let mut point = start.0;
        point[dimension] += 0.5;
        corners.push(value(point));
    }
    for _ in 0..MOST_STEPS {
        corners.sort_by(|left, right| left.1.total_cmp(&right.1));
        let (best, worst) = (corners[0], corners[N]);
        if worst.1 - best.1 < precision(best.1) {
            break;
        }
        let mut centre = [0.0; N];
        for (point, _) in &corners[..N] {
            for (sum, coordinate) in centre.iter_mut().zip(point) {
                *sum += coordinate / f64::from(u32::try_from(N).unwrap_or(u32::MAX));
            }
        }
        let beyond = |factor: f64| value(between(&centre, &worst.0, -factor));
        let reflected = beyond(1.0);
        let replacement = if reflected.1 < best.1 {
            let expanded = beyond(2.0);
            if expanded.1 < reflected.1 { expanded } else { reflected }
        } else if reflected.1 < corners[N.saturating_sub(1)].1 {
            reflected
        } else {
            let contracted = beyond(if reflected.1 < worst.1 { 0.5 } else { -0.5 });
            if contracted.1 < worst.1.min(reflected.1) {
                contracted
            } else {
                for corner in &mut corners[1..] {
                    *corner = value(between(&best.0, &corner.0, 0.5));
                }
                continue;
            }
        };
        corners[N] = replacement;
    }
    corners.into_iter().min_by(|left, right| left.1.total_cmp(&right.1)).unwrap_or(start)
}

fn precision(value: f64) -> f64 {
    PRECISION * (1.0 + value.abs())
}

/// Returns the point at `share` of the way from one point to another.
fn between<const N: usize>(from: &[f64; N], to: &[f64; N], share: f64) -> [f64; N] {
    std::array::from_fn(|dimension| from[dimension] + share * (to[dimension] - from[dimension]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_minimum_is_found_in_a_curved_valley() {
        // Rosenbrock's function.
        let (point, value) =
            minimum([-1.2, 1.0], |[x, y]| 100.0 * (y - x * x).powi(2) + (1.0 - x).powi(2));
        assert!(value < 1e-6, "{value}");
        assert!((point[0] - 1.0).abs() < 1e-3 && (point[1] - 1.0).abs() < 1e-3, "{point:?}");
    }

    #[test]
    fn the_minimum_is_found_in_one_and_in_four_dimensions() {
        let (point, _) = minimum([5.0], |[x]| (x - 2.0).abs());
        assert!((point[0] - 2.0).abs() < 1e-6, "{point:?}");
        let (point, _) = minimum([3.0, -2.0, 1.0, 9.0], |point| {
            point.iter().zip(1..).map(|(x, at)| f64::from(at) * (x - f64::from(at)).powi(2)).sum()
        });
        for (x, at) in point.into_iter().zip(1..) {
            assert!((x - f64::from(at)).abs() < 1e-3, "{point:?}");
        }
    }

    #[test]
    fn the_search_stays_where_the_function_is_finite() {
        let (point, value) = minimum([2.0, 2.0], |[x, y]| {
            if *x < 1.0 {
                f64::INFINITY
            } else if *y < 1.0 {
                f64::NAN
            } else {
                x + y
            }
        });
        assert!(value < 2.001 && point[0] >= 1.0 && point[1] >= 1.0, "{point:?}: {value}");
    }
}
