//! Recipes of quantized nets: blocks of convolutional nets as quantizers write them.
//!
//! Scales are powers of two and sums short, so that all arithmetic is exact and results are equal to the
//! bit, however it is done. Where a scale is none, the net ends with what has been rounded once.

use super::maker::{Maker, V};
use super::recipes::Recipe;
use super::windows::ints;
use lmc::base::{DType, Tensor, TensorType};
use lmc::graph::Attr;

pub const RECIPES: &[(&str, Recipe)] = &[("Net between quantizations", between)];

const F: DType = DType::F32;

/// A net that grows, of dequantized values or of floats.
pub struct Net<'a> {
    pub m: &'a mut Maker,
    /// The type of the activations; f32 where nothing is quantized.
    pub kind: DType,
    /// How many of 100 rows of weights are zeros.
    pub dead: usize,
    /// All that nothing else may read.
    pub made: Vec<V>,
    /// What blocks may read.
    pub values: Vec<V>,
}

/// What follows a value; its first dimensions are batch and channels.
type Block = fn(&mut Net, V) -> Option<V>;

const BLOCKS: &[Block] = &[
    |n, x| n.conv(x),
    |n, x| n.conv(x),
    |n, x| n.conv(x),
    |n, x| n.conv(x),
    |n, x| n.transposed(x),
    |n, x| n.sum(x),
    |n, x| n.sum(x),
    |n, x| n.product(x),
    |n, x| n.concat(x),
    |n, x| n.max_pool(x),
    |n, x| n.mean(x),
    |n, x| n.gate(x),
    |n, x| n.shuffle(x),
    |n, x| n.parts(x),
    |n, x| n.upsample(x),
    |n, x| n.pad(x),
    |n, x| n.turned(x),
    |n, x| n.curve(x),
];

impl Net<'_> {
    pub fn one(&mut self, op: &str, inputs: &[V], attrs: &[(&str, Attr)]) -> Option<V> {
        let inputs: Vec<_> = inputs.iter().copied().map(Some).collect();
        Some(self.node(op, &inputs, attrs, 1)?[0])
    }

    pub fn node(
        &mut self,
        op: &str,
        inputs: &[Option<V>],
        attrs: &[(&str, Attr)],
        outputs: usize,
    ) -> Option<Vec<V>> {
        let made = self.m.node(op, inputs, attrs, outputs)?;
        if self.quantized() {
            made.iter().for_each(|&v| self.m.state_exact(v));
        }
        self.made.extend(&made);
        Some(made)
    }

    pub fn quantized(&self) -> bool {
        self.kind != F
    }

    pub fn power(&mut self, exponent: i64) -> V {
        self.m.number((exponent as f32).exp2())
    }

    fn zero(&mut self) -> Option<V> {
        let points: &[i64] = match self.kind {
            DType::U8 => &[0, 100, 128, 255],
            DType::I8 => &[0, -128, 5, 127],
            DType::U16 => &[0, 32768, 1000],
            _ => &[0, -700],
        };
        let point = self.m.random.pick(points).to_le_bytes();
        let ty = TensorType::new(self.kind, []);
        let size = ty.bytes();
        Some(self.m.constant(Tensor::from_bytes(ty, &point[..size])?))
    }

    /// A tensor quantized and put back.
    pub fn rounded(&mut self, x: V, scale: V) -> Option<V> {
        if !self.quantized() {
            return Some(x);
        }
        let zero = self.zero()?;
        let q = self.one("QuantizeLinear", &[x, scale, zero], &[])?;
        self.one("DequantizeLinear", &[q, scale, zero], &[])
    }

    pub fn fresh(&mut self, shape: &[usize]) -> Option<V> {
        let (x, scale) = (self.m.fresh(F, shape), self.power(-6));
        self.rounded(x, scale)
    }

    /// Dequantized weights whose first dimension (`axis`) may have a scale for each index.
    pub fn weights(&mut self, shape: &[usize], axis: usize) -> Option<V> {
        use DType::*;
        if !self.quantized() {
            let terms = shape.iter().product::<usize>() / shape[axis];
            let w = self.m.weights(shape, terms);
            return Some(self.without_rows(w, axis, &[0]));
        }
        let kinds: &[DType] = if self.m.opset >= 21 { &[I8, I8, I8, U8, I4, U4] } else { &[I8, I8, I8, U8] };
        let kind = self.m.random.pick(kinds);
        let data = self.m.data(kind, shape);
        let w = self.m.constant(data);
        let each = self.m.opset >= 13 && self.m.random.chance(50);
        let dims = if each { vec![shape[axis]] } else { vec![] };
        let count = dims.iter().product();
        let scales: Vec<f32> = (0..count).map(|_| (self.m.random.between(-9, -7) as f32).exp2()).collect();
        let scales = self.m.constant(Tensor::new(&dims[..], &scales));
        let mut inputs = vec![w, scales];
        if self.m.random.chance(80) {
            let points: &[u8] = match kind {
                U8 => &[0, 100, 128],
                I8 => &[0, 0, 0, 3],
                _ => &[0, 3],
            };
            let points: Vec<u8> = (0..count).map(|_| self.m.random.pick(points)).collect();
            inputs[0] = self.without_rows(w, axis, &points);
            inputs.push(self.m.constant(Tensor::from_bytes(TensorType::new(kind, dims), points)?));
        }
        let axis = [("axis", Attr::Int(axis as i64))];
        self.one("DequantizeLinear", &inputs, if each { &axis } else { &[] })
    }

    /// Constants of which some indices of a dimension have one value: that of this list, or its only one, in all bytes.
    fn without_rows(&mut self, w: V, axis: usize, values: &[u8]) -> V {
        let tensor = self.m.graph.value(w).constant.clone().expect("a constant");
        let (size, shape) = (tensor.ty.dtype.size(), &tensor.ty.shape);
        let run = shape[axis + 1..].iter().product::<usize>() * size;
        let dead: Vec<bool> = (0..shape[axis]).map(|_| self.m.random.chance(self.dead)).collect();
        let mut bytes = tensor.data.to_vec();
        for (i, row) in bytes.chunks_mut(run.max(1)).enumerate() {
            let at = i % dead.len();
            if dead[at] {
                row.fill(values[at % values.len()]);
            }
        }
        self.m.constant(Tensor::from_bytes(tensor.ty.clone(), bytes).expect("as many bytes"))
    }

    /// A bias in floats, or in integers of a step that products have too.
    pub fn bias(&mut self, n: usize) -> Option<V> {
        if !self.quantized() || self.m.random.chance(50) {
            let data = self.m.data(F, &[n]);
            return Some(self.m.constant(data));
        }
        let data = self.m.data(DType::I32, &[n]);
        let (data, scale) = (self.m.constant(data), self.power(-9));
        self.one("DequantizeLinear", &[data, scale], &[])
    }

    fn activation(&mut self, x: V) -> Option<V> {
        match self.m.random.below(6) {
            0 | 1 => self.one("Relu", &[x], &[]),
            2 if self.m.opset >= 11 => {
                let (lo, hi) = (self.m.number(0.0), self.m.number(6.0));
                self.one("Clip", &[x, lo, hi], &[])
            }
            3 => self.one("LeakyRelu", &[x], &[("alpha", Attr::Float(0.25))]),
            4 => {
                let slopes = [self.m.shape(x)[1], 1, 1];
                let slopes = &slopes[..self.m.shape(x).len() - 1];
                let data = self.m.data(F, slopes);
                let slopes = self.m.constant(data);
                self.one("PRelu", &[x, slopes], &[])
            }
            _ => Some(x),
        }
    }

    /// A function of a quantized value of so many operations that a table is less, quantized.
    fn curve(&mut self, x: V) -> Option<V> {
        if self.kind.size() > 1 {
            return Some(x);
        }
        let scale = self.power(-5);
        let x = self.rounded(x, scale)?;
        let mut y = x;
        for _ in 0..self.m.random.between(2, 9) {
            let exponent = self.m.random.between(-3, 2);
            let by = self.power(exponent);
            y = self.one("Sub", &[y, by], &[])?;
            y = self.one("Abs", &[y], &[])?;
        }
        if self.m.random.chance(50) {
            y = self.one("Mul", &[x, y], &[])?;
        }
        let scale = self.power(-4);
        self.rounded(y, scale)
    }

    fn conv(&mut self, x: V) -> Option<V> {
        let shape = self.m.shape(x);
        let (c, dims) = (shape[1], shape.len() - 2);
        let groups = self.m.random.pick(&[1, 1, 1, c, c, if c % 2 == 0 { 2 } else { 1 }]);
        let out = if groups == 1 {
            self.m.random.between(1, 24) as usize
        } else {
            c * self.m.random.pick(&[1, 1, 2])
        };
        let square = self.m.random.pick(&[1usize, 1, 3, 3, 5]);
        let kernel: Vec<usize> = (0..dims)
            .map(|_| if self.m.random.chance(90) { square } else { self.m.random.pick(&[1, 2, 3]) })
            .collect();
        let (step, spread) = (self.m.random.pick(&[1, 1, 2]), self.m.random.pick(&[1, 1, 1, 2]));
        let reach = |i: usize| ((kernel[i] - 1) * spread) as i64;
        // All around; or as TensorFlow pads, at the end alone where it is odd.
        let early = self.m.random.chance(70);
        let before = |i: usize| if early { (reach(i) + 1) / 2 } else { reach(i) / 2 };
        let pads = (0..dims).map(before).chain((0..dims).map(|i| reach(i) - before(i)));
        let attrs = [
            ("pads", ints(pads)),
            ("strides", ints(vec![step; dims])),
            ("dilations", ints(vec![spread as i64; dims])),
            ("group", Attr::Int(groups as i64)),
        ];
        let w = self.weights(&[&[out, c / groups], &kernel[..]].concat(), 0)?;
        let mut inputs = vec![x, w];
        if self.m.random.chance(70) {
            inputs.push(self.bias(out)?);
        }
        let y = self.one("Conv", &inputs, &attrs)?;
        self.activation(y)
    }

    pub fn transposed(&mut self, x: V) -> Option<V> {
        let shape = self.m.shape(x);
        let (dims, out) = (shape.len() - 2, self.m.random.between(1, 9) as usize);
        let kernel = self.m.random.pick(&[2usize, 3, 4]);
        let w = self.weights(&[&[shape[1], out], &vec![kernel; dims][..]].concat(), 1)?;
        self.one(
            "ConvTranspose",
            &[x, w],
            &[("strides", ints(vec![2; dims])), ("pads", ints(vec![0; 2 * dims]))],
        )
    }

    /// Another value of this shape, or of one that broadcasts.
    fn other(&mut self, x: V) -> Option<V> {
        let shape = self.m.shape(x);
        let alike: Vec<V> = self.values.iter().copied().filter(|&v| self.m.shape(v) == shape).collect();
        if self.m.random.chance(70) && !alike.is_empty() {
            return Some(self.m.random.pick(&alike));
        }
        let side: Vec<usize> = match self.m.random.below(3) {
            0 => shape.iter().enumerate().map(|(i, &d)| if i == 1 { d } else { 1 }).collect(),
            _ => shape,
        };
        self.fresh(&side)
    }

    fn sum(&mut self, x: V) -> Option<V> {
        let other = self.other(x)?;
        let op = self.m.random.pick(&["Add", "Add", "Sub"]);
        let y = self.one(op, &[x, other], &[])?;
        if self.m.random.chance(40) { self.one("Relu", &[y], &[]) } else { Some(y) }
    }

    fn product(&mut self, x: V) -> Option<V> {
        let other = self.other(x)?;
        self.one("Mul", &[x, other], &[])
    }

    fn concat(&mut self, x: V) -> Option<V> {
        let shape = self.m.shape(x);
        let fits = |m: &Maker, v: V| m.shape(v)[0] == shape[0] && m.shape(v)[2..] == shape[2..];
        let alike: Vec<V> = self.values.iter().copied().filter(|&v| fits(self.m, v)).collect();
        let other = self.m.random.pick(&alike);
        let parts = if self.m.random.chance(50) { vec![x, other] } else { vec![other, x, other] };
        self.one("Concat", &parts, &[("axis", Attr::Int(1))])
    }

    fn max_pool(&mut self, x: V) -> Option<V> {
        let shape = self.m.shape(x);
        let dims = shape.len() - 2;
        let (kernel, step) = (self.m.random.pick(&[2, 3]), self.m.random.pick(&[1, 2]));
        let pad = self.m.random.between(0, 1);
        (shape[2..].iter().all(|&extent| extent as i64 + 2 * pad >= kernel)).then_some(())?;
        let attrs = [
            ("kernel_shape", ints(vec![kernel; dims])),
            ("strides", ints(vec![step; dims])),
            ("pads", ints(vec![pad; 2 * dims])),
        ];
        self.one("MaxPool", &[x], &attrs)
    }

    /// Of windows or of all, where their number is a power of two.
    fn mean(&mut self, x: V) -> Option<V> {
        let shape = self.m.shape(x);
        if shape[2..].iter().product::<usize>().is_power_of_two() && self.m.random.chance(50) {
            return self.one("GlobalAveragePool", &[x], &[]);
        }
        (!shape[2..].contains(&1)).then_some(())?;
        let dims = shape.len() - 2;
        let attrs = [("kernel_shape", ints(vec![2; dims])), ("strides", ints(vec![2; dims]))];
        self.one("AveragePool", &[x], &attrs)
    }

    /// Channels times what a small net makes of their largest elements.
    fn gate(&mut self, x: V) -> Option<V> {
        let c = self.m.shape(x)[1];
        let ones = vec![1; self.m.shape(x).len() - 2];
        let y = self.one("GlobalMaxPool", &[x], &[])?;
        let scale = self.power(-6);
        let y = self.rounded(y, scale)?;
        let w = self.weights(&[&[4, c], &ones[..]].concat(), 0)?;
        let y = self.one("Conv", &[y, w], &[])?;
        let y = self.one("Relu", &[y], &[])?;
        let y = self.rounded(y, scale)?;
        let w = self.weights(&[&[c, 4], &ones[..]].concat(), 0)?;
        let y = self.one("Conv", &[y, w], &[])?;
        let attrs = [("alpha", Attr::Float(0.25)), ("beta", Attr::Float(0.5))];
        let y = self.one("HardSigmoid", &[y], &attrs)?;
        let fine = self.power(-8);
        let y = self.rounded(y, fine)?;
        self.one("Mul", &[x, y], &[])
    }

    /// Channels in another order, by groups.
    pub fn shuffle(&mut self, x: V) -> Option<V> {
        let shape: Vec<i64> = self.m.shape(x).iter().map(|&d| d as i64).collect();
        if shape[1] % 2 > 0 {
            return None;
        }
        let apart = self.m.ints(&[&[shape[0], 2, shape[1] / 2], &shape[2..]].concat());
        let perm = [0, 2, 1].into_iter().chain(3..=shape.len() as i64);
        let y = self.one("Reshape", &[x, apart], &[])?;
        let y = self.one("Transpose", &[y], &[("perm", ints(perm))])?;
        let back = self.m.ints(&shape);
        self.one("Reshape", &[y, back], &[])
    }

    /// Some channels pass by, as in nets of cross stages.
    fn parts(&mut self, x: V) -> Option<V> {
        let c = self.m.shape(x)[1] as i64;
        if c < 2 || self.m.opset < 13 {
            return None;
        }
        let at = self.m.random.between(1, c - 1);
        let sizes = self.m.ints(&[at, c - at]);
        let parts = self.node("Split", &[Some(x), Some(sizes)], &[("axis", Attr::Int(1))], 2)?;
        let y = self.conv(parts[0])?;
        if self.m.shape(y)[2..] != self.m.shape(x)[2..] {
            return Some(y);
        }
        let scale = self.power(-5);
        let y = self.rounded(y, scale)?;
        self.one("Concat", &[y, parts[1]], &[("axis", Attr::Int(1))])
    }

    pub fn upsample(&mut self, x: V) -> Option<V> {
        if self.m.opset < 13 {
            return None;
        }
        let shape = self.m.shape(x);
        let scales: Vec<f32> = shape.iter().enumerate().map(|(i, _)| if i < 2 { 1.0 } else { 2.0 }).collect();
        let scales = self.m.constant(Tensor::new([scales.len()], &scales));
        let attrs = [
            ("mode", Attr::Str("nearest".into())),
            ("coordinate_transformation_mode", Attr::Str("asymmetric".into())),
            ("nearest_mode", Attr::Str("floor".into())),
        ];
        Some(self.node("Resize", &[Some(x), None, Some(scales)], &attrs, 1)?[0])
    }

    fn pad(&mut self, x: V) -> Option<V> {
        if self.m.opset < 11 {
            return None;
        }
        let dims = self.m.shape(x).len();
        let sides: Vec<i64> =
            (0..2 * dims).map(|i| if i % dims < 2 { 0 } else { self.m.random.between(0, 2) }).collect();
        let sides = self.m.ints(&sides);
        self.one("Pad", &[x, sides], &[])
    }

    /// Channels last for a while, with a product by constants of them.
    fn turned(&mut self, x: V) -> Option<V> {
        let shape = self.m.shape(x);
        let rank = shape.len() as i64;
        let last = [0].into_iter().chain(2..rank).chain([1]);
        let y = self.one("Transpose", &[x], &[("perm", ints(last))])?;
        let out = self.m.random.between(1, 9) as usize;
        let w = self.weights(&[shape[1], out], 1)?;
        let y = self.one("MatMul", &[y, w], &[])?;
        let scale = self.power(-5);
        let y = self.rounded(y, scale)?;
        let first = [0, rank - 1].into_iter().chain(1..rank - 1);
        self.one("Transpose", &[y], &[("perm", ints(first))])
    }
}

/// Blocks between quantizations; at the end there may be a classifier.
fn between(m: &mut Maker) -> Option<()> {
    use DType::*;
    let kinds: &[DType] = if m.opset >= 21 { &[U8, I8, U8, I8, U16, I16] } else { &[U8, I8] };
    if m.opset < 10 {
        return None;
    }
    let kind = m.random.pick(kinds);
    let mut shape = vec![m.random.pick(&[1, 1, 1, 2]), m.random.pick(&[1, 2, 3, 4, 8, 16, 17])];
    (0..m.random.pick(&[2, 2, 2, 1])).for_each(|_| shape.push(m.random.between(3, 12) as usize));
    let mut net = Net { m, kind, dead: 0, made: Vec::new(), values: Vec::new() };
    let done = net.grow(&shape);
    let made = net.made;
    m.close(&made);
    done
}

impl Net<'_> {
    fn grow(&mut self, shape: &[usize]) -> Option<()> {
        let x = self.fresh(shape)?;
        self.values.push(x);
        let wide = matches!(self.kind, DType::U16 | DType::I16);
        for _ in 0..if wide { 1 } else { self.m.random.between(1, 5) } {
            let last = *self.values.last()?;
            let from = if self.m.random.chance(80) { last } else { self.m.random.pick(&self.values) };
            let block = self.m.random.pick(BLOCKS);
            let Some(y) = block(self, from) else { continue };
            if self.m.ty(y).elems() > 20_000 || self.m.shape(y).contains(&0) {
                break;
            }
            if self.m.random.chance(15) {
                // A scale that is no power of two: equal to one step, so nothing follows.
                let (scale, zero) = (self.m.number(0.0173), self.zero()?);
                if !wide {
                    self.one("QuantizeLinear", &[y, scale, zero], &[])?;
                    return Some(());
                }
            }
            let exponent = self.m.random.between(-6, -3);
            let scale = self.power(exponent);
            let y = self.rounded(y, scale)?;
            self.values.push(y);
        }
        let y = *self.values.last()?;
        if self.m.random.chance(25) && !wide {
            let y = self.one("Flatten", &[y], &[])?;
            let (k, n) = (self.m.shape(y)[1], self.m.random.between(1, 12) as usize);
            if k < 500 {
                let w = self.weights(&[n, k], 0)?;
                let bias = self.bias(n)?;
                self.one("Gemm", &[y, w, bias], &[("transB", Attr::Int(1))])?;
            }
        }
        Some(())
    }
}
