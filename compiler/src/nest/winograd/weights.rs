//! The weights of a convolution by minimal filtering, as its kernel reads them.

use super::constants::Constants;
use super::filters;
use crate::nest::Nested;
use crate::scalar::Scalar;
use crate::schedule::Linear;
use crate::schedule::winograd::{Block, Conv, HALVES, Tiles};

/// How the weights are stored.
pub struct Weights {
    pub(super) conv: Conv,
    pub(super) tiles: Tiles,
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
        let (outer, inner) = (linear.extent(self.conv.outer), self.conv.summed(linear, self.tiles.part));
        let [rows, columns] = Block::of(&self.conv, linear, self.tiles).inputs;
        let mut packed = Vec::with_capacity(words.len());
        for column in 0..columns {
            for first in (0..outer).step_by(lanes) {
                for channel in 0..inner {
                    for row in 0..rows {
                        let at = ((row * columns + column) * inner + channel) * outer;
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

    /// The transformed weights: of each point, part of the window, channel in, channel out.
    fn transformed(&self, linear: &Linear, data: &[u8]) -> Vec<f64> {
        let Tiles { outputs, part, .. } = self.tiles;
        let [down, across] = filters(&self.conv, (outputs, part)).map(|f| f.weights);
        let (channels, outer) = (linear.extent(self.conv.inner), linear.extent(self.conv.outer));
        let [parts_down, parts_across] = self.conv.parts(linear, part);
        let parts = parts_down * parts_across;
        let dot = |m: &[f64], x: &[f64]| m.iter().zip(x).map(|(m, x)| m * x).sum::<f64>();
        let mut made = vec![0f64; down.len() * across.len() * parts * channels * outer];
        for (channel, o) in (0..parts * channels).flat_map(|channel| (0..outer).map(move |o| (channel, o))) {
            let (number, c) = (channel / channels, channel % channels);
            let (top, left) = (number / parts_across * part, number % parts_across * part);
            let column = |l: usize| {
                (0..down[0].len()).map(move |k| self.weight(linear, data, (o, c), (top + k, left + l)))
            };
            let columns: Vec<Vec<f64>> = (0..part).map(|l| column(l).collect()).collect();
            for (i, row) in down.iter().enumerate() {
                let half: Vec<f64> = columns.iter().map(|column| dot(row, column)).collect();
                for (j, column) in across.iter().enumerate() {
                    let point = (i * across.len() + j) * parts * channels + channel;
                    made[point * outer + o] = dot(column, &half);
                }
            }
        }
        made
    }

    /// A weight of a channel out and a channel in, at a place in the window; behind it zero.
    fn weight(&self, linear: &Linear, data: &[u8], (o, c): (usize, usize), (k, l): (usize, usize)) -> f64 {
        let (conv, down) = (&self.conv, self.conv.rows.slide().map(|s| s.window));
        let (dtype, across) = (linear.buffers[conv.weights as usize].dtype, conv.across.window);
        if k >= down.map_or(1, |w| linear.extent(w)) || l >= linear.extent(across) {
            return 0.0;
        }
        let place = conv.weight.eval(|v| match v {
            _ if v == conv.outer => o as i64,
            _ if v == conv.inner => c as i64,
            _ if Some(v) == down => k as i64,
            _ if v == across => l as i64,
            _ => 0,
        }) as usize;
        let size = dtype.size();
        Scalar::from_le(dtype, &data[size * place..size * (place + 1)]).to_f64()
    }
}

/// Of each eight words first all lower halves, then all upper ones.
fn halves_apart(words: &[u8]) -> Vec<u8> {
    let half = |some: &[u8], from: usize| -> Vec<u8> {
        some.chunks_exact(4).flat_map(|word| [word[from], word[from + 1]]).collect()
    };
    words.chunks_exact(4 * HALVES).flat_map(|some| [half(some, 0), half(some, 2)].concat()).collect()
}
