//! Recipes of nets as architectures have them: residuals whose channels are padded, values that windows of several
//! sizes and strides read, channels that are constant, branches that are joined again, several heads.
//!
//! Quantized ones are exact like those in `nets`; of floats, means and activations are rounded.

use super::maker::{Maker, V};
use super::nets::Net;
use super::recipes::Recipe;
use super::windows::ints;
use lmc::base::{DType, Tensor};
use lmc::graph::Attr;

pub const RECIPES: &[(&str, Recipe)] = &[
    ("Net with branches", |m| structured(m, DType::F32)),
    ("Net with branches between quantizations", |m| {
        let kind = m.random.pick(&[DType::U8, DType::I8]);
        structured(m, kind)
    }),
];

const F: DType = DType::F32;
/// The axis of channels.
const CHANNELS: (&str, Attr) = ("axis", Attr::Int(1));

/// A square window: its channels, extent, stride and groups.
#[derive(Clone, Copy)]
struct Window {
    out: usize,
    kernel: usize,
    step: i64,
    groups: usize,
}

/// A window of stride 1 in one group.
fn plain(out: usize, kernel: usize) -> Window {
    Window { out, kernel, step: 1, groups: 1 }
}

/// A filter of single channels.
fn depthwise(channels: usize, kernel: usize, step: i64) -> Window {
    Window { out: channels, kernel, step, groups: channels }
}

impl Net<'_> {
    fn channels(&self, x: V) -> usize {
        self.m.shape(x)[1]
    }

    fn width(&mut self, most: i64) -> usize {
        self.m.random.between(1, most) as usize
    }

    /// Quantized and put back, by a step of its own.
    fn step(&mut self, x: V) -> Option<V> {
        let exponent = self.m.random.between(-5, -4);
        let scale = self.power(exponent);
        self.rounded(x, scale)
    }

    fn window(&mut self, x: V, window: Window) -> Option<V> {
        let Window { out, kernel, step, groups } = window;
        let w = self.weights(&[out, self.channels(x) / groups, kernel, kernel], 0)?;
        let mut inputs = vec![x, w];
        if self.m.random.chance(60) {
            inputs.push(self.bias(out)?);
        }
        let pad = (kernel as i64 - 1) / 2;
        let attrs =
            [("pads", ints([pad; 4])), ("strides", ints([step; 2])), ("group", Attr::Int(groups as i64))];
        let y = self.one("Conv", &inputs, &attrs)?;
        self.step(y)
    }

    /// A window, perhaps with a normalization, and an activation.
    fn layer(&mut self, x: V, window: Window) -> Option<V> {
        let y = self.window(x, window)?;
        let y = if self.m.random.chance(40) { self.normalized(y)? } else { y };
        self.active(y)
    }

    /// A layer of any extent.
    fn any_layer(&mut self, x: V, out: usize) -> Option<V> {
        let kernel = self.m.random.pick(&[1, 1, 3, 3, 5]);
        self.layer(x, plain(out, kernel))
    }

    /// As many numbers, of which some are one value.
    fn numbers(&mut self, shape: &[usize], dead: f32) -> V {
        let values = self.m.data(F, shape).to_vec::<f32>().expect("floats");
        let each = values.into_iter().map(|v| if self.m.random.chance(self.dead) { dead } else { v });
        let values: Vec<f32> = each.collect();
        self.m.constant(Tensor::new(shape, &values))
    }

    /// A normalization by variances of 1 less epsilon.
    fn normalized(&mut self, x: V) -> Option<V> {
        let c = [self.channels(x)];
        let (gamma, beta) = (self.numbers(&c, 0.0), self.numbers(&c, 0.0));
        let (mean, variance) = (self.numbers(&c, 0.5), vec![0.75f32; c[0]]);
        let variance = self.m.constant(Tensor::new(c, &variance));
        self.one("BatchNormalization", &[x, gamma, beta, mean, variance], &[("epsilon", Attr::Float(0.25))])
    }

    fn active(&mut self, x: V) -> Option<V> {
        let y = match self.m.random.below(9) {
            0 | 1 => self.one("Relu", &[x], &[])?,
            2 | 3 => {
                let one = self.m.random.pick(&[0.0, 1.0]);
                let slopes = self.numbers(&[self.channels(x), 1, 1], one);
                self.one("PRelu", &[x, slopes], &[])?
            }
            4 => {
                let (low, high) = (self.m.number(0.0), self.m.number(6.0));
                self.one("Clip", &[x, low, high], &[])?
            }
            5 if self.m.opset >= 14 => self.one("HardSwish", &[x], &[])?,
            6 => self.one("LeakyRelu", &[x], &[("alpha", Attr::Float(0.125))])?,
            7 => {
                let y = self.one("Sigmoid", &[x], &[])?;
                self.one("Mul", &[x, y], &[])?
            }
            _ => return Some(x),
        };
        self.step(y)
    }

    /// So many channels: the first ones, or others that are zeros beside them.
    fn fitted(&mut self, x: V, channels: usize) -> Option<V> {
        let (c, mut shape) = (self.channels(x), self.m.shape(x));
        if c == channels {
            return Some(x);
        }
        if c > channels {
            return self.slice(x, 0, channels);
        }
        let more = channels - c;
        if self.m.random.chance(70) {
            let before = if self.m.random.chance(30) { self.m.random.below(more + 1) } else { 0 };
            let mut sides = [0; 8];
            (sides[1], sides[5]) = (before as i64, (more - before) as i64);
            let sides = self.m.ints(&sides);
            return self.one("Pad", &[x, sides], &[]);
        }
        shape[1] = more;
        let zeros = Tensor::new(&shape[..], &vec![0f32; shape.iter().product()]);
        let zeros = self.m.constant(zeros);
        self.one("Concat", &[x, zeros], &[CHANNELS])
    }

    fn slice(&mut self, x: V, from: usize, to: usize) -> Option<V> {
        let bounds = [from, to, 1].map(|at| self.m.ints(&[at as i64]));
        self.one("Slice", &[x, bounds[0], bounds[1], bounds[2]], &[])
    }

    /// The way beside a residual, with as many rows and columns.
    fn beside(&mut self, x: V, step: i64) -> Option<V> {
        if step == 1 {
            return Some(x);
        }
        let even = self.m.shape(x)[2..].iter().all(|d| d % 2 == 0);
        match self.m.random.below(4) {
            0 => self.window(x, Window { step, ..plain(self.channels(x), 1) }),
            1 if even => {
                self.one("MaxPool", &[x], &[("kernel_shape", ints([2, 2])), ("strides", ints([2, 2]))])
            }
            _ => self.one("MaxPool", &[x], &[("kernel_shape", ints([1, 1])), ("strides", ints([2, 2]))]),
        }
    }

    fn residual(&mut self, x: V) -> Option<V> {
        let c = self.channels(x);
        let more = self.width(8);
        let out = self.m.random.pick(&[c, c, c + more]);
        let step =
            if self.m.shape(x)[2..].iter().all(|&d| d > 3) { self.m.random.pick(&[1, 1, 2]) } else { 1 };
        let y = match self.m.random.below(3) {
            0 => {
                let kernel = self.m.random.pick(&[3, 5]);
                let y = self.window(x, depthwise(c, kernel, step))?;
                self.window(y, plain(out, 1))?
            }
            1 => {
                let wide = 1 + self.width(18);
                let y = self.layer(x, plain(wide, 1))?;
                let y = self.layer(y, depthwise(wide, 3, step))?;
                let y = if self.m.random.chance(40) { self.excited(y)? } else { y };
                self.window(y, plain(out, 1))?
            }
            _ => {
                let kernel = self.m.random.pick(&[1, 3, 5]);
                let y = self.layer(x, Window { step, ..plain(out, kernel) })?;
                let kernel = self.m.random.pick(&[1, 3]);
                self.window(y, plain(out, kernel))?
            }
        };
        let side = self.beside(x, step)?;
        let side = if self.m.random.chance(20) { self.window(side, plain(out, 1))? } else { side };
        let side = self.fitted(side, out)?;
        let terms = if self.m.random.chance(50) { [y, side] } else { [side, y] };
        let y = self.one("Add", &terms, &[])?;
        let y = self.step(y)?;
        self.active(y)
    }

    /// One number per channel.
    fn pooled(&mut self, x: V) -> Option<V> {
        let exact = self.m.shape(x)[2..].iter().product::<usize>().is_power_of_two();
        let means = !self.quantized() || exact;
        self.one(if means { "GlobalAveragePool" } else { "GlobalMaxPool" }, &[x], &[])
    }

    /// Channels times what a small net makes of them.
    fn excited(&mut self, x: V) -> Option<V> {
        let c = self.channels(x);
        let y = self.pooled(x)?;
        let y = self.step(y)?;
        let y = self.layer(y, plain((c / 4).max(1), 1))?;
        let y = self.window(y, plain(c, 1))?;
        let gate = self.m.random.pick(&["Sigmoid", "HardSigmoid"]);
        let y = self.one(gate, &[y], &[])?;
        let fine = self.power(-8);
        let y = self.rounded(y, fine)?;
        let y = self.one("Mul", &[x, y], &[])?;
        self.step(y)
    }

    /// Half of the channels pass by, and all are shuffled.
    fn shuffled(&mut self, x: V) -> Option<V> {
        let c = self.channels(x);
        if c % 2 == 1 {
            return self.any_layer(x, c + 1);
        }
        let half = c / 2;
        let parts = if self.m.random.chance(50) {
            let sizes = self.m.ints(&[half as i64; 2]);
            self.node("Split", &[Some(x), Some(sizes)], &[CHANNELS], 2)?
        } else {
            vec![self.slice(x, 0, half)?, self.slice(x, half, c)?]
        };
        let y = self.layer(parts[1], plain(half, 1))?;
        let y = self.window(y, depthwise(half, 3, 1))?;
        let y = self.layer(y, plain(half, 1))?;
        let y = self.one("Concat", &[parts[0], y], &[CHANNELS])?;
        self.shuffle(y)
    }

    /// Windows of several extents that read the same.
    fn inception(&mut self, x: V) -> Option<V> {
        let mut parts = Vec::new();
        for _ in 0..self.m.random.between(1, 4) {
            let out = self.width(14);
            parts.push(self.any_layer(x, out)?);
        }
        if self.m.random.chance(50) {
            parts.push(x);
        }
        if self.m.random.chance(30) {
            let attrs = [("kernel_shape", ints([3, 3])), ("pads", ints([1; 4]))];
            parts.push(self.one("MaxPool", &[x], &attrs)?);
        }
        let order = self.m.random.order(parts.len());
        let parts: Vec<V> = order.into_iter().map(|i| parts[i]).collect();
        let y = self.one("Concat", &parts, &[CHANNELS])?;
        if self.channels(y) > 40 { self.layer(y, plain(12, 1)) } else { Some(y) }
    }

    /// Twice as large, joined with one of that size where there is one.
    fn joined(&mut self, x: V) -> Option<V> {
        let up = if self.m.random.chance(70) { self.upsample(x)? } else { self.transposed(x)? };
        let up = self.step(up)?;
        let alike = |n: &Self, v: V| n.m.shape(v)[2..] == n.m.shape(up)[2..];
        let found = self.values.iter().copied().find(|&v| alike(self, v))?;
        if self.m.random.chance(50) {
            let side = self.fitted(found, self.channels(up))?;
            return self.one("Add", &[side, up], &[]);
        }
        self.one("Concat", &[found, up], &[CHANNELS])
    }

    /// Each channel times a constant, and another added.
    fn scaled(&mut self, x: V) -> Option<V> {
        let shape = [1, self.channels(x), 1, 1];
        let (by, more) = (self.numbers(&shape, 0.0), self.numbers(&shape, 0.0));
        let y = self.one("Mul", &[x, by], &[])?;
        let y = self.one("Add", &[y, more], &[])?;
        self.step(y)
    }

    fn head(&mut self, x: V) -> Option<V> {
        let shape = self.m.shape(x);
        let out = self.width(11);
        match self.m.random.below(4) {
            0 => self.window(x, plain(out, 1)),
            1 => {
                let y = self.window(x, plain(6, 1))?;
                let y = self.one("Transpose", &[y], &[("perm", ints([0, 2, 3, 1]))])?;
                let rows = self.m.ints(&[shape[0] as i64, -1, 3]);
                self.one("Reshape", &[y, rows], &[])
            }
            rest => {
                let short = !self.quantized() || shape[1..].iter().product::<usize>() < 400;
                let y = if rest == 2 || !short { self.pooled(x)? } else { x };
                let y = self.step(y)?;
                let y = self.one("Flatten", &[y], &[])?;
                let w = self.weights(&[out, self.m.shape(y)[1]], 0)?;
                let bias = self.bias(out)?;
                self.one("Gemm", &[y, w, bias], &[("transB", Attr::Int(1))])
            }
        }
    }

    fn build(&mut self, shape: &[usize]) -> Option<()> {
        let x = self.fresh(shape)?;
        let out = 1 + self.width(16);
        let mut x = self.layer(x, plain(out, 3))?;
        self.values.push(x);
        for _ in 0..self.m.random.between(2, 5) {
            let wide = 1 + self.width(16);
            let block = self.m.random.below(11);
            let y = match block {
                0..4 => self.residual(x),
                4 => self.excited(x),
                5 => self.shuffled(x),
                6 | 7 => self.inception(x),
                8 => self.joined(x),
                9 => self.scaled(x),
                _ => self.any_layer(x, wide),
            };
            let Some(y) = y else { continue };
            x = y;
            self.values.push(x);
            if self.m.random.chance(25) {
                self.head(x)?;
            }
        }
        self.head(x).map(drop)
    }
}

/// Blocks and heads.
fn structured(m: &mut Maker, kind: DType) -> Option<()> {
    if m.opset < 13 {
        return None;
    }
    let side = m.random.pick(&[4, 8, 8, 16]);
    let (high, wide) = if m.random.chance(60) {
        (side, side)
    } else {
        (m.random.between(4, 13) as usize, m.random.between(4, 13) as usize)
    };
    let shape = [1, m.random.pick(&[1, 3, 3, 8]), high, wide];
    let dead = m.random.pick(&[0, 0, 20, 50, 80]);
    let mut net = Net { m, kind, dead, made: Vec::new(), values: Vec::new() };
    let done = net.build(&shape);
    let made = net.made;
    m.close(&made);
    done
}
