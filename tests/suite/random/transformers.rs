//! Recipes of transformers, node by node as exporters write them, in floats or half floats.

use super::blocks::cast;
use super::maker::{Maker, V};
use super::moves::with_axes;
use super::recipes::Recipe;
use super::windows::ints;
use lmc::base::{DType, Tensor};
use lmc::graph::Attr;

pub const RECIPES: &[(&str, Recipe)] = &[
    ("Attention by products", |m| Block::of(m, DType::F32)?.attention(Form::any)),
    ("Attention of half floats", |m| Block::of(m, DType::F16)?.attention(Form::any)),
    ("Attention with rotated positions", |m| Block::of(m, DType::F32)?.attention(Form::decoder)),
    ("Normalization by nodes", |m| Block::of(m, DType::F32)?.normalized()),
    ("Normalization of half floats", |m| Block::of(m, DType::F16)?.normalized()),
    ("Feed-forward", |m| Block::of(m, DType::F32)?.feed_forward()),
    ("Feed-forward of half floats", |m| Block::of(m, DType::F16)?.feed_forward()),
];

/// What an attention is like.
struct Form {
    /// Whether queries, keys and values come out of one product.
    joined: bool,
    /// Whether they are rotated by their positions.
    rotated: bool,
    /// How many heads share keys and values.
    shared: i64,
    /// How keys are turned: with their heads, or after them.
    keys_at_once: bool,
    /// Where the scores are scaled: at the queries, at both, or after the product.
    scaled: usize,
    /// How places are excluded: not, by a sum, or by a choice.
    mask: usize,
}

impl Form {
    fn any(m: &mut Maker) -> Form {
        let shared = m.random.pick(&[1, 1, 2]);
        Form { shared, rotated: m.random.chance(25), ..Form::plain(m) }
    }

    fn decoder(m: &mut Maker) -> Form {
        let shared = m.random.pick(&[1, 2, 4]);
        Form { shared, rotated: true, ..Form::plain(m) }
    }

    fn plain(m: &mut Maker) -> Form {
        Form {
            joined: m.random.chance(40),
            rotated: false,
            shared: 1,
            keys_at_once: m.random.chance(50),
            scaled: m.random.below(3),
            mask: m.random.below(3),
        }
    }
}

/// A sequence of vectors and what is computed from it.
struct Block<'a> {
    m: &'a mut Maker,
    ty: DType,
    /// Batch, length, heads, size of a head.
    sizes: [i64; 4],
    x: V,
}

impl<'a> Block<'a> {
    fn of(m: &'a mut Maker, ty: DType) -> Option<Block<'a>> {
        if m.opset < 11 {
            return None;
        }
        let head = m.random.pick(&[2, 4, 6, 8, 8, 16]);
        let sizes = [m.random.pick(&[1, 1, 2]), m.random.between(1, 19), m.random.pick(&[1, 2, 4, 4]), head];
        let [b, n, heads, size] = sizes;
        let shape = [b as usize, n as usize, (heads * size) as usize];
        let x = match ty {
            DType::F32 => m.value(ty, |s| s == shape, &shape),
            _ => m.fresh(ty, &shape),
        };
        Some(Block { m, ty, sizes, x })
    }

    fn width(&self) -> usize {
        (self.sizes[2] * self.sizes[3]) as usize
    }

    fn number(&mut self, value: f32) -> V {
        let v = self.m.number(value);
        if self.ty == DType::F32 { v } else { self.m.narrowed(v, self.ty) }
    }

    fn data(&mut self, shape: &[usize]) -> V {
        let data = self.m.data(self.ty, shape);
        self.m.constant(data)
    }

    /// A product with constants, with or without a bias.
    fn linear(&mut self, x: V, n: usize) -> Option<V> {
        let k = *self.m.shape(x).last()?;
        let w = self.m.weights(&[k, n], k);
        let w = if self.ty == DType::F32 { w } else { self.m.narrowed(w, self.ty) };
        let y = self.m.one("MatMul", &[x, w], &[])?;
        if self.m.random.chance(30) {
            return Some(y);
        }
        let bias = self.data(&[n]);
        let inputs = if self.m.random.chance(50) { [y, bias] } else { [bias, y] };
        self.m.one("Add", &inputs, &[])
    }

    /// Vectors as heads, or with `perm` for keys.
    fn heads(&mut self, y: V, heads: i64, perm: [i64; 4]) -> Option<V> {
        let [b, n, _, size] = self.sizes;
        let apart = match self.m.random.below(3) {
            0 => [0, 0, heads, size],
            1 => [b, -1, heads, size],
            _ => [b, n, heads, size],
        };
        let apart = self.m.ints(&apart);
        let y = self.m.one("Reshape", &[y, apart], &[])?;
        self.m.one("Transpose", &[y], &[("perm", ints(perm))])
    }

    /// `x * cos + turned(x) * sin`, halves of each head swapped.
    fn rotate(&mut self, x: V) -> Option<V> {
        let [_, n, _, size] = self.sizes;
        let half = size / 2;
        let (axes, zero, middle, end) =
            (self.m.ints(&[3]), self.m.ints(&[0]), self.m.ints(&[half]), self.m.ints(&[size]));
        let a = self.m.one("Slice", &[x, zero, middle, axes], &[])?;
        let b = self.m.one("Slice", &[x, middle, end, axes], &[])?;
        let b = self.m.one("Neg", &[b], &[])?;
        let turned = self.m.one("Concat", &[b, a], &[("axis", Attr::Int(-1))])?;
        let shape = [1, 1, n as usize, size as usize];
        let (cos, sin) = (self.data(&shape), self.data(&shape));
        let (y, z) = (self.m.one("Mul", &[x, cos], &[])?, self.m.one("Mul", &[turned, sin], &[])?);
        self.m.one("Add", &[y, z], &[])
    }

    /// Each head several times, one after the other.
    fn repeated(&mut self, x: V, times: i64) -> Option<V> {
        let [b, n, heads, size] = self.sizes;
        let wide = with_axes(self.m, "Unsqueeze", x, &[2])?;
        let to = self.m.ints(&[b, heads / times, times, n, size]);
        let wide = self.m.one("Expand", &[wide, to], &[])?;
        let flat = self.m.ints(&[b, heads, n, size]);
        self.m.one("Reshape", &[wide, flat], &[])
    }

    /// Queries, keys and values.
    fn projections(&mut self, form: &Form, kept: i64) -> Option<[V; 3]> {
        let (x, width, narrow) = (self.x, self.width(), (kept * self.sizes[3]) as usize);
        if !form.joined {
            return Some([self.linear(x, width)?, self.linear(x, narrow)?, self.linear(x, narrow)?]);
        }
        let all = self.linear(x, width + 2 * narrow)?;
        let sizes = [width as i64, narrow as i64, narrow as i64];
        let axis = ("axis", Attr::Int(2));
        let parts = if self.m.opset < 13 {
            self.m.node("Split", &[Some(all)], &[axis, ("split", ints(sizes))], 3)?
        } else {
            let sizes = self.m.ints(&sizes);
            self.m.node("Split", &[Some(all), Some(sizes)], &[axis], 3)?
        };
        parts.try_into().ok()
    }

    fn masked(&mut self, scores: V, form: &Form) -> Option<V> {
        let [b, n, ..] = self.sizes.map(|d| d as usize);
        match form.mask {
            0 => Some(scores),
            1 => {
                // 1 for what is seen, as models are given it.
                let seen: Vec<i64> =
                    (0..b * n).map(|i| i64::from(i % n == 0 || self.m.random.chance(70))).collect();
                let seen = self.m.input(Tensor::new([b, n], &seen));
                let seen = with_axes(self.m, "Unsqueeze", seen, &[1, 2])?;
                let seen = cast(self.m, seen, self.ty)?;
                let (one, least) = (self.number(1.0), self.number(-10000.0));
                let hidden = self.m.one("Sub", &[one, seen], &[])?;
                let hidden = self.m.one("Mul", &[hidden, least], &[])?;
                self.m.one("Add", &[scores, hidden], &[])
            }
            _ => {
                let before: Vec<u8> = (0..n * n).map(|i| u8::from(i % n <= i / n)).collect();
                let ty = lmc::base::TensorType::new(DType::Bool, [1, 1, n, n]);
                let before = self.m.constant(Tensor::from_bytes(ty, before)?);
                let least = self.m.random.pick(&[-10000.0, f32::NEG_INFINITY]);
                let least = self.number(least);
                self.m.one("Where", &[before, scores, least], &[])
            }
        }
    }

    fn attention(mut self, form: fn(&mut Maker) -> Form) -> Option<()> {
        let form = form(self.m);
        let [b, n, heads, size] = self.sizes;
        let times = if heads % form.shared == 0 { form.shared } else { 1 };
        let [mut q, mut k, v] = self.projections(&form, heads / times)?;
        let at_once = form.keys_at_once && !form.rotated && times == 1;
        q = self.heads(q, heads, [0, 2, 1, 3])?;
        k = self.heads(k, heads / times, if at_once { [0, 2, 3, 1] } else { [0, 2, 1, 3] })?;
        let mut v = self.heads(v, heads / times, [0, 2, 1, 3])?;
        if form.rotated {
            (q, k) = (self.rotate(q)?, self.rotate(k)?);
        }
        if times > 1 {
            (k, v) = (self.repeated(k, times)?, self.repeated(v, times)?);
        }
        if !at_once {
            k = self.m.one("Transpose", &[k], &[("perm", ints([0, 1, 3, 2]))])?;
        }
        let root = (size as f32).sqrt();
        let (whole, part) = (self.number(root), self.number(1.0 / root.sqrt()));
        match form.scaled {
            0 => q = self.m.one("Div", &[q, whole], &[])?,
            1 => (q, k) = (self.m.one("Mul", &[q, part], &[])?, self.m.one("Mul", &[part, k], &[])?),
            _ => {}
        }
        let mut scores = self.m.one("MatMul", &[q, k], &[])?;
        if form.scaled > 1 {
            scores = self.m.one("Div", &[scores, whole], &[])?;
        }
        let scores = self.masked(scores, &form)?;
        let axis = if self.m.opset < 13 { 3 } else { -1 };
        let weights = self.m.one("Softmax", &[scores], &[("axis", Attr::Int(axis))])?;
        let y = self.m.one("MatMul", &[weights, v], &[])?;
        let y = self.m.one("Transpose", &[y], &[("perm", ints([0, 2, 1, 3]))])?;
        let flat = self.m.ints(&[b, n, heads * size]);
        let y = self.m.one("Reshape", &[y, flat], &[])?;
        let width = self.width();
        let y = self.linear(y, width)?;
        self.m.one("Add", &[y, self.x], &[]).map(drop)
    }

    fn mean(&mut self, x: V) -> Option<V> {
        if self.m.opset < 18 {
            return self.m.one("ReduceMean", &[x], &[("axes", ints([-1]))]);
        }
        let axes = self.m.ints(&[-1]);
        self.m.one("ReduceMean", &[x, axes], &[])
    }

    /// By the mean and the variance, or by the mean square alone.
    fn normalized(mut self) -> Option<()> {
        let x = self.x;
        let (two, least) = (self.number(2.0), self.number(0.01));
        let centered = if self.m.random.chance(50) {
            let mean = self.mean(x)?;
            self.m.one("Sub", &[x, mean], &[])?
        } else {
            x
        };
        let squares = match self.m.random.below(2) {
            0 => self.m.one("Pow", &[centered, two], &[])?,
            _ => self.m.one("Mul", &[centered, centered], &[])?,
        };
        let spread = self.mean(squares)?;
        let spread = self.m.one("Add", &[spread, least], &[])?;
        let spread = self.m.one("Sqrt", &[spread], &[])?;
        let y = if self.m.random.chance(50) {
            self.m.one("Div", &[centered, spread], &[])?
        } else {
            let factor = self.m.one("Reciprocal", &[spread], &[])?;
            self.m.one("Mul", &[centered, factor], &[])?
        };
        let width = self.width();
        let (scale, bias) = (self.data(&[width]), self.data(&[width]));
        let y = self.m.one("Mul", &[scale, y], &[])?;
        let y = if self.m.random.chance(60) { self.m.one("Add", &[y, bias], &[])? } else { y };
        self.x = y;
        self.linear(y, 5).map(drop)
    }

    /// A wider layer with an activation or a gate, and a narrower one.
    fn feed_forward(mut self) -> Option<()> {
        let (x, width) = (self.x, self.width());
        let wide = 2 * width;
        let y = self.linear(x, wide)?;
        let y = match self.m.random.below(4) {
            0 => {
                let (root, one, half) =
                    (self.number(std::f32::consts::SQRT_2), self.number(1.0), self.number(0.5));
                let z = self.m.one("Div", &[y, root], &[])?;
                let z = self.m.one("Erf", &[z], &[])?;
                let z = self.m.one("Add", &[z, one], &[])?;
                let z = self.m.one("Mul", &[y, z], &[])?;
                self.m.one("Mul", &[z, half], &[])?
            }
            1 => {
                let gate = self.linear(x, wide)?;
                let s = self.m.one("Sigmoid", &[gate], &[])?;
                let gate = self.m.one("Mul", &[gate, s], &[])?;
                self.m.one("Mul", &[gate, y], &[])?
            }
            2 => {
                let (three, factor) = (self.number(3.0), self.number(0.044_715));
                let (root, one, half) = (self.number(0.797_884_6), self.number(1.0), self.number(0.5));
                let z = self.m.one("Pow", &[y, three], &[])?;
                let z = self.m.one("Mul", &[z, factor], &[])?;
                let z = self.m.one("Add", &[y, z], &[])?;
                let z = self.m.one("Mul", &[z, root], &[])?;
                let z = self.m.one("Tanh", &[z], &[])?;
                let z = self.m.one("Add", &[z, one], &[])?;
                let y = self.m.one("Mul", &[y, half], &[])?;
                self.m.one("Mul", &[y, z], &[])?
            }
            _ => self.m.one("Relu", &[y], &[])?,
        };
        let y = self.linear(y, width)?;
        self.m.one("Add", &[x, y], &[]).map(drop)
    }
}
