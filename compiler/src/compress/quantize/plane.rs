//! Rounding of the weights of sums, one after another: each to the integer next to what makes up for those before it.

use super::patches::Patches;
use std::ops::Range;

/// Sums that are rounded side by side.
pub(super) const LANES: usize = 8;

/// What is added to the diagonal of products of data, in parts of its mean, so that weights do not fit chance.
const DAMPING: f64 = 0.05;

/// The triangle that a block's weights are rounded by.
pub(super) struct Plane {
    /// The weights from those with the least data to those with the most, which are rounded first.
    order: Vec<usize>,
    /// Of row `i`: what each later weight's error counts in units of its own.
    factors: Vec<f64>,
}

/// An element of products of which the part below the diagonal is used.
fn at(products: &[f64], size: usize, i: usize, j: usize) -> f64 {
    products[i.max(j) * size + i.min(j)]
}

impl Plane {
    /// Of products of data.
    pub fn new(products: &[f64], size: usize) -> Option<Plane> {
        let mean = (0..size).map(|i| at(products, size, i, i)).sum::<f64>() / size as f64;
        if size < 2 || mean <= 0.0 || !mean.is_finite() {
            return None;
        }
        let mut order: Vec<usize> = (0..size).collect();
        order.sort_by(|&a, &b| at(products, size, a, a).total_cmp(&at(products, size, b, b)));
        let mut lower = vec![0.0; size * size];
        for i in 0..size {
            for j in 0..=i {
                let (before, line) = lower.split_at(i * size);
                let other = if i == j { line } else { &before[j * size..] };
                let sum: f64 = line[..j].iter().zip(&other[..j]).map(|(a, b)| a * b).sum();
                let damped = if i == j { DAMPING * mean } else { 0.0 };
                let rest = at(products, size, order[i], order[j]) + damped - sum;
                lower[i * size + j] =
                    if i == j { rest.max(DAMPING * mean * 0.5).sqrt() } else { rest / lower[j * size + j] };
            }
        }
        let factors = (0..size * size).map(|k| {
            let (i, j) = (k / size, k % size);
            if j > i { lower[j * size + i] / lower[i * size + i] } else { 0.0 }
        });
        let factors = factors.collect();
        Some(Plane { order, factors })
    }

    /// The one that takes each weight's nearest integer.
    pub fn nearest(size: usize) -> Plane {
        Plane { order: (0..size).collect(), factors: vec![0.0; size * size] }
    }

    /// What weight `i` makes up for, of the errors of those after it.
    fn shift(&self, i: usize, off: &[[f64; LANES]]) -> [f64; LANES] {
        let size = off.len();
        let mut sum = [0.0; LANES];
        for (factor, off) in self.factors[i * size..][..size].iter().zip(off).skip(i + 1) {
            sum.iter_mut().zip(off).for_each(|(s, o)| *s += factor * o);
        }
        sum
    }

    /// Rounds the weights of up to [`LANES`] sums that lie in a block of neighbours.
    pub fn round(&self, weights: &Weights, block: &Range<usize>, outputs: &[usize]) -> Block {
        let (least, most) = weights.limits;
        let size = block.len();
        let mut made = Block {
            places: vec![[0; LANES]; size],
            integers: vec![[0; LANES]; size],
            off: vec![[0.0; LANES]; size],
        };
        let mut off = vec![[0.0f64; LANES]; size];
        for i in (0..size).rev() {
            let (shift, element) = (self.shift(i, &off), self.order[i]);
            for lane in 0..LANES {
                let output = outputs[lane.min(outputs.len() - 1)];
                let place = weights.patches.weight(output, block.start + element);
                let weight = f64::from(weights.elements[place]);
                let scale = f64::from(weights.scales[weights.owners[place]]);
                let integer = ((weight + shift[lane]) / scale).round_ties_even().clamp(least, most);
                off[i][lane] = weight - integer * scale;
                made.places[element][lane] = place;
                made.integers[element][lane] = integer as i64;
                made.off[element][lane] = off[i][lane];
            }
        }
        made
    }
}

/// Weights, and the grid that they are rounded to.
pub(super) struct Weights<'a> {
    pub patches: &'a Patches,
    pub elements: &'a [f32],
    pub scales: &'a [f32],
    /// By weight, which scale is its own.
    pub owners: Vec<usize>,
    pub limits: (f64, f64),
}

/// Rounded weights of a block, by element and sum.
pub(super) struct Block {
    /// Which weights they are.
    pub places: Vec<[usize; LANES]>,
    pub integers: Vec<[i64; LANES]>,
    off: Vec<[f64; LANES]>,
}

impl Block {
    /// What the sums are off by on data with these products, squared and added.
    pub fn error(&self, products: &[f64], sums: usize) -> f64 {
        let size = self.off.len();
        let mut error = 0.0;
        for (i, line) in products.chunks_exact(size).enumerate() {
            let mut sum = [0.0; LANES];
            // The other triangle is the same, so that what lies off the diagonal counts twice.
            for (product, off) in line.iter().zip(&self.off[..i]) {
                sum.iter_mut().zip(off).for_each(|(s, o)| *s += 2.0 * product * o);
            }
            for ((own, sum), _) in self.off[i].iter().zip(sum).zip(0..sums) {
                error += own * (sum + line[i] * own);
            }
        }
        error
    }
}
