//! The weights of a convolution by minimal filtering, as its kernel reads them.

use super::constants::Constants;
use super::filter::filter;
use crate::nest::Nested;
use crate::scalar::Scalar;
use crate::schedule::Linear;
use crate::schedule::winograd::{Conv, HALVES, WINDOW};

/// How the weights are stored.
pub struct Weights {
    pub(super) conv: Conv,
    pub(super) outputs: usize,
    /// The words of eight channels lie in halves.
    pub(super) halves: bool,
    /// Lanes of a vector, where the weights of columns of points lie together.
    pub(super) columns: Option<usize>,
    pub(super) products: Linear,
    pub(super) inner: Nested,
    pub(super) constants: Constants,
}

impl Weights {
    /// The transformed weights, packed as the products read them, or another constant that is changed.
    pub fn packed(&self, linear: &Linear, operand: u32, data: &[u8]) -> Option<Vec<u8>> {
        if operand != self.conv.weights {
            return self.constants.packed(operand, data);
        }
        let made = self.transformed(linear, data);
        let bytes: Vec<u8> = match self.conv.couples {
            false => made.iter().flat_map(|&v| (v as f32).to_le_bytes()).collect(),
            true => self.coupled(linear, &made),
        };
        if let Some(lanes) = self.columns {
            return Some(self.by_columns(linear, &bytes, lanes));
        }
        let packed = self.inner.packed(&self.products, 1, &bytes).unwrap_or(bytes);
        Some(if self.halves { halves_apart(&packed) } else { packed })
    }

    /// Words of each point, channel in, channel out, in the order in which columns of points read them: of each
    /// column, vector of channels out, channel in, point.
    fn by_columns(&self, linear: &Linear, words: &[u8], lanes: usize) -> Vec<u8> {
        let (outer, inner) = (linear.extent(self.conv.outer), self.conv.channels(linear));
        let n = self.outputs + WINDOW - 1;
        let mut packed = Vec::with_capacity(words.len());
        for column in 0..n {
            for first in (0..outer).step_by(lanes) {
                for channel in 0..inner {
                    for row in 0..n {
                        let at = ((row * n + column) * inner + channel) * outer;
                        let end = outer.min(first + lanes);
                        packed.extend_from_slice(&words[4 * (at + first)..4 * (at + end)]);
                    }
                }
            }
        }
        packed
    }

    /// The transformed weights, neighbouring channels in the halves of 32 bits, and zero behind an odd one.
    fn coupled(&self, linear: &Linear, made: &[f64]) -> Vec<u8> {
        let (inner, outer) = (linear.extent(self.conv.inner), linear.extent(self.conv.outer));
        let whole = |v: f64| (v as i16).to_le_bytes();
        let points = made.chunks_exact(inner * outer);
        let couples = points.flat_map(|point| point.chunks(2 * outer));
        let second = |c: &[f64], o: usize| c.get(outer + o).copied().unwrap_or(0.0);
        couples.flat_map(|c| (0..outer).flat_map(move |o| [c[o], second(c, o)]).flat_map(whole)).collect()
    }

    /// The transformed weights: of each point, channel in, channel out.
    fn transformed(&self, linear: &Linear, data: &[u8]) -> Vec<f64> {
        let (conv, matrix) = (&self.conv, filter(self.outputs, self.conv.couples).weights);
        let (channels, outer) = (linear.extent(conv.inner), linear.extent(conv.outer));
        let dtype = linear.buffers[conv.weights as usize].dtype;
        let size = dtype.size();
        let [down, across] = conv.slides.map(|s| s.window);
        let at = |o: usize, c: usize, k: usize, l: usize| {
            let place = conv.weight.eval(|v| match v {
                _ if v == conv.outer => o as i64,
                _ if v == conv.inner => c as i64,
                _ if v == down => k as i64,
                _ if v == across => l as i64,
                _ => 0,
            }) as usize;
            Scalar::from_le(dtype, &data[size * place..size * (place + 1)]).to_f64()
        };
        let n = matrix.len();
        let mut made = vec![0f64; n * n * channels * outer];
        for o in 0..outer {
            for c in 0..channels {
                let window: [[f64; 3]; 3] = std::array::from_fn(|k| std::array::from_fn(|l| at(o, c, k, l)));
                let dot = |m: &[f64; 3], x: [f64; 3]| m[0] * x[0] + m[1] * x[1] + m[2] * x[2];
                for (i, row) in matrix.iter().enumerate() {
                    let half: [f64; 3] = std::array::from_fn(|l| dot(row, window.map(|k| k[l])));
                    for (j, column) in matrix.iter().enumerate() {
                        made[((i * n + j) * channels + c) * outer + o] = dot(column, half);
                    }
                }
            }
        }
        made
    }
}

/// Of each eight words first all lower halves, then all upper ones.
fn halves_apart(words: &[u8]) -> Vec<u8> {
    let half = |some: &[u8], from: usize| -> Vec<u8> {
        some.chunks_exact(4).flat_map(|word| [word[from], word[from + 1]]).collect()
    };
    words.chunks_exact(4 * HALVES).flat_map(|some| [half(some, 0), half(some, 2)].concat()).collect()
}
