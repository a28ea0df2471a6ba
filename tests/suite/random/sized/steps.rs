//! What random graphs with free sizes are made of.

use super::{Dim, Fixed, Free, Sized, Value};
use crate::support::onnx::{int, ints, text};
use lmc::base::Tensor;

/// Adds nodes that read a value; `None` where they do not fit it.
pub type Step = fn(&mut Sized, &Value) -> Option<Value>;

/// What random graphs are made of.
pub const STEPS: &[Step] = &[
    Sized::unary,
    Sized::binary,
    Sized::beside,
    Sized::product,
    Sized::scores,
    Sized::softmax,
    Sized::reduce,
    Sized::best,
    Sized::transpose,
    Sized::concat,
    Sized::slice,
    Sized::turned,
    Sized::pad,
    Sized::conv,
    Sized::pool,
    Sized::normalize,
    Sized::row,
    Sized::heads,
    Sized::flat,
    Sized::expand,
    Sized::sums,
    Sized::positions,
    Sized::before,
    Sized::tile,
    Sized::resize,
    Sized::recurrent,
    Sized::filled,
    Sized::parts,
    Sized::scattered,
];

impl Sized {
    fn unary(&mut self, x: &Value) -> Option<Value> {
        let op = self.random.pick(&["Relu", "Tanh", "Sigmoid", "Neg", "Abs", "Identity"]);
        Some(self.add(op, &[&x.name], vec![], &x.dims))
    }

    fn operator(&mut self) -> &'static str {
        self.random.pick(&["Add", "Mul", "Sub", "Max", "Min"])
    }

    /// With a value of the same sizes.
    fn binary(&mut self, x: &Value) -> Option<Value> {
        let alike: Vec<Value> = self.values.iter().filter(|v| v.dims == x.dims).cloned().collect();
        let at = self.random.below(alike.len());
        let op = self.operator();
        Some(self.add(op, &[&x.name, &alike.get(at)?.name], vec![], &x.dims))
    }

    /// With constants that are repeated along what is free.
    fn beside(&mut self, x: &Value) -> Option<Value> {
        let shape: Vec<usize> = x.dims.iter().map(|d| if let Fixed(d) = d { *d } else { 1 }).collect();
        let (other, op) = (self.numbers(&shape), self.operator());
        Some(self.add(op, &[&x.name, &other], vec![], &x.dims))
    }

    fn product(&mut self, x: &Value) -> Option<Value> {
        let (&Fixed(k), before) = x.dims.split_last()? else { return None };
        let n = self.random.pick(&[1usize, 4, 8, 13]);
        let w = self.numbers(&[k, n]);
        let dims = [before, &[Fixed(n)]].concat();
        (before.len() < 4).then(|| self.add("MatMul", &[&x.name, &w], vec![], &dims))
    }

    /// Of each row with each other one.
    fn scores(&mut self, x: &Value) -> Option<Value> {
        let rank = x.dims.len();
        let mut order: Vec<i64> = (0..rank as i64).collect();
        order.swap(rank.checked_sub(2)?, rank - 1);
        let mut dims = x.dims.clone();
        dims.swap(rank - 2, rank - 1);
        let turned = self.add("Transpose", &[&x.name], vec![ints("perm", &order)], &dims);
        dims = x.dims.clone();
        dims[rank - 1] = dims[rank - 2];
        Some(self.add("MatMul", &[&x.name, &turned.name], vec![], &dims))
    }

    fn softmax(&mut self, x: &Value) -> Option<Value> {
        let (axis, op) = (self.axis(x), self.random.pick(&["Softmax", "Softmax", "LogSoftmax"]));
        Some(self.add(op, &[&x.name], vec![int("axis", axis as i64)], &x.dims))
    }

    fn reduce(&mut self, x: &Value) -> Option<Value> {
        let axis = self.axis(x);
        let op = self.random.pick(&["ReduceMean", "ReduceMax", "ReduceL2", "ReduceMin"]);
        let keep = self.random.between(0, 1);
        let mut dims = x.dims.clone();
        if keep == 1 {
            dims[axis] = Fixed(1);
        } else {
            dims.remove(axis);
        }
        let attrs = vec![ints("axes", &[axis as i64]), int("keepdims", keep)];
        (!dims.is_empty()).then(|| self.add(op, &[&x.name], attrs, &dims))
    }

    /// The place of the largest element, as a float.
    fn best(&mut self, x: &Value) -> Option<Value> {
        let axis = self.axis(x);
        let mut dims = x.dims.clone();
        dims[axis] = Fixed(1);
        let best = self.add("ArgMax", &[&x.name], vec![int("axis", axis as i64)], &dims);
        Some(self.add("Cast", &[&best.name], vec![int("to", 1)], &dims))
    }

    fn transpose(&mut self, x: &Value) -> Option<Value> {
        let order = self.random.order(x.dims.len());
        let dims: Vec<Dim> = order.iter().map(|&i| x.dims[i]).collect();
        let order: Vec<i64> = order.into_iter().map(|i| i as i64).collect();
        Some(self.add("Transpose", &[&x.name], vec![ints("perm", &order)], &dims))
    }

    /// With itself, or with constants that follow what is free.
    fn concat(&mut self, x: &Value) -> Option<Value> {
        let axis = self.axis(x);
        let shape: Vec<usize> = x.dims.iter().map(|d| if let Fixed(d) = d { *d } else { 1 }).collect();
        let fits = x.dims.iter().enumerate().all(|(i, d)| i == axis || matches!(d, Fixed(_)));
        let other = if fits && self.random.chance(60) { self.numbers(&shape) } else { x.name.clone() };
        let mut dims = x.dims.clone();
        dims[axis] = match dims[axis] {
            Fixed(d) => Fixed(2 * d),
            Free(_) => self.fresh(),
        };
        let inputs = if self.random.chance(50) { [&x.name, &other[..]] } else { [&other[..], &x.name] };
        Some(self.add("Concat", &inputs, vec![int("axis", axis as i64)], &dims))
    }

    fn sliced(&mut self, x: &Value, axis: usize, [from, to, step]: [i64; 3], size: Dim) -> Value {
        let lists = [&[from], &[to], &[axis as i64], &[step]].map(|l| self.list(l));
        let [from, to, axes, steps] = lists.each_ref().map(String::as_str);
        let mut dims = x.dims.clone();
        dims[axis] = size;
        self.add("Slice", &[&x.name, from, to, axes, steps], vec![], &dims)
    }

    fn slice(&mut self, x: &Value) -> Option<Value> {
        let axis = self.axis(x);
        if let Fixed(d) = x.dims[axis] {
            return (d > 1).then(|| self.sliced(x, axis, [1, d as i64, 1], Fixed(d - 1)));
        }
        let size = self.fresh();
        let range = self.random.pick(&[[1, i64::MAX, 1], [0, -1, 1], [0, i64::MAX, 2]]);
        Some(self.sliced(x, axis, range, size))
    }

    fn turned(&mut self, x: &Value) -> Option<Value> {
        let axis = self.axis(x);
        Some(self.sliced(x, axis, [-1, i64::MIN, -1], x.dims[axis]))
    }

    fn pad(&mut self, x: &Value) -> Option<Value> {
        let (axis, rank) = (self.axis(x), x.dims.len());
        let (before, after) = (self.random.between(0, 2), self.random.between(0, 2));
        let mut sides = vec![0; 2 * rank];
        (sides[axis], sides[axis + rank]) = (before, after);
        let sides = self.list(&sides);
        let mut dims = x.dims.clone();
        dims[axis] = match dims[axis] {
            Fixed(d) => Fixed(d + (before + after) as usize),
            Free(_) => self.fresh(),
        };
        Some(self.add("Pad", &[&x.name, &sides], vec![], &dims))
    }

    /// The sizes behind a window, where it moves over what is free.
    fn windowed(&mut self, x: &Value, channels: Dim) -> Vec<Dim> {
        let spatial: Vec<Dim> = x.dims[2..].iter().map(|_| self.fresh()).collect();
        [&[x.dims[0], channels], &spatial[..]].concat()
    }

    fn conv(&mut self, x: &Value) -> Option<Value> {
        let &[_, Fixed(c), _, ..] = &x.dims[..] else { return None };
        let spatial = x.dims.len() - 2;
        if x.dims[2..].iter().any(|d| matches!(d, Fixed(d) if *d < 3)) || spatial > 2 {
            return None;
        }
        let (k, depthwise) = (self.random.pick(&[1usize, 3, 3, 2]), self.random.chance(30));
        let (out, groups) = if depthwise { (c, c) } else { (self.random.pick(&[1, 4, 8]), 1) };
        let w = self.numbers(&[&[out, c / groups], &vec![k; spatial][..]].concat());
        let (step, side) = (self.random.pick(&[1i64, 1, 2]), self.random.between(0, k as i64 / 2));
        let attrs = vec![
            ints("pads", &vec![side; 2 * spatial]),
            ints("strides", &vec![step; spatial]),
            int("group", groups as i64),
        ];
        let dims = self.windowed(x, Fixed(out));
        Some(self.add("Conv", &[&x.name, &w], attrs, &dims))
    }

    fn pool(&mut self, x: &Value) -> Option<Value> {
        if x.dims.len() < 3 || x.dims[2..].iter().any(|d| matches!(d, Fixed(d) if *d < 3)) {
            return None;
        }
        let spatial = x.dims.len() - 2;
        let op = self.random.pick(&["MaxPool", "AveragePool"]);
        let (k, step) = (self.random.pick(&[2i64, 3]), self.random.pick(&[1i64, 2]));
        let attrs = vec![
            ints("kernel_shape", &vec![k; spatial]),
            ints("strides", &vec![step; spatial]),
            ints("pads", &vec![1; 2 * spatial]),
            int("ceil_mode", self.random.between(0, 1)),
        ];
        let dims = self.windowed(x, x.dims[1]);
        Some(self.add(op, &[&x.name], attrs, &dims))
    }

    fn normalize(&mut self, x: &Value) -> Option<Value> {
        let (last, rank) = (*x.dims.last()?, x.dims.len());
        match (last, x.dims.get(1)) {
            (_, Some(&Fixed(c))) if rank > 2 && self.random.chance(50) => {
                let (scale, bias) = (self.numbers(&[c]), self.numbers(&[c]));
                Some(self.add("InstanceNormalization", &[&x.name, &scale, &bias], vec![], &x.dims))
            }
            (Fixed(d), _) => {
                let mut one = x.dims.clone();
                one[rank - 1] = Fixed(1);
                let axes = vec![ints("axes", &[-1])];
                let mean = self.add("ReduceMean", &[&x.name], axes.clone(), &one);
                let centered = self.add("Sub", &[&x.name, &mean.name], vec![], &x.dims);
                let squares = self.add("Mul", &[&centered.name, &centered.name], vec![], &x.dims);
                let spread = self.add("ReduceMean", &[&squares.name], axes, &one);
                let least = self.constant(Tensor::scalar(0.5f32));
                let spread = self.add("Add", &[&spread.name, &least], vec![], &one);
                let spread = self.add("Sqrt", &[&spread.name], vec![], &one);
                let y = self.add("Div", &[&centered.name, &spread.name], vec![], &x.dims);
                let scale = self.numbers(&[d]);
                Some(self.add("Mul", &[&y.name, &scale], vec![], &x.dims))
            }
            _ => None,
        }
    }

    /// The first or the last of an axis.
    fn row(&mut self, x: &Value) -> Option<Value> {
        let (axis, at) = (self.axis(x), self.random.pick(&[0i64, -1]));
        let at = self.constant(Tensor::scalar(at));
        let mut dims = x.dims.clone();
        dims.remove(axis);
        (!dims.is_empty()).then(|| self.add("Gather", &[&x.name, &at], vec![int("axis", axis as i64)], &dims))
    }

    /// Rows cut into heads, which lie before them.
    fn heads(&mut self, x: &Value) -> Option<Value> {
        let &[b, n, Fixed(d)] = &x.dims[..] else { return None };
        if d % 2 > 0 {
            return None;
        }
        let to = self.list(&[0, 0, 2, d as i64 / 2]);
        let half = Fixed(d / 2);
        let y = self.add("Reshape", &[&x.name, &to], vec![], &[b, n, Fixed(2), half]);
        Some(self.add("Transpose", &[&y.name], vec![ints("perm", &[0, 2, 1, 3])], &[b, Fixed(2), n, half]))
    }

    /// Dimensions joined, by a shape that is computed or by one that is not.
    fn flat(&mut self, x: &Value) -> Option<Value> {
        if x.dims.len() < 3 {
            return None;
        }
        let joined = self.fresh();
        if self.random.chance(50) {
            let to = self.list(&[0, -1]);
            return Some(self.add("Reshape", &[&x.name, &to], vec![], &[x.dims[0], joined]));
        }
        let shape = self.add("Shape", &[&x.name], vec![], &[Fixed(x.dims.len())]);
        let last = self.sliced(&shape, 0, [-1, i64::MAX, 1], Fixed(1));
        let rest = self.list(&[-1]);
        let to = self.add("Concat", &[&rest, &last.name], vec![int("axis", 0)], &[Fixed(2)]);
        Some(self.add("Reshape", &[&x.name, &to.name], vec![], &[joined, *x.dims.last()?]))
    }

    /// Of one row as many as another value has.
    fn expand(&mut self, x: &Value) -> Option<Value> {
        let y = self.reduce(x)?;
        let shape = self.add("Shape", &[&x.name], vec![], &[Fixed(x.dims.len())]);
        (y.dims.len() == x.dims.len()).then(|| self.add("Expand", &[&y.name, &shape.name], vec![], &x.dims))
    }

    fn sums(&mut self, x: &Value) -> Option<Value> {
        let axis = self.axis(x);
        let axis = self.constant(Tensor::scalar(axis as i64));
        let reverse = self.random.between(0, 1);
        Some(self.add("CumSum", &[&x.name, &axis], vec![int("reverse", reverse)], &x.dims))
    }

    /// The numbers of an axis' places, added along it.
    fn positions(&mut self, x: &Value) -> Option<Value> {
        let (axis, rank) = (self.axis(x), x.dims.len());
        let shape = self.add("Shape", &[&x.name], vec![], &[Fixed(rank)]);
        let [at, zero, one] = [axis as i64, 0, 1].map(|n| self.constant(Tensor::scalar(n)));
        let size = self.add("Gather", &[&shape.name, &at], vec![], &[]);
        let places = self.add("Range", &[&zero, &size.name, &one], vec![], &[x.dims[axis]]);
        let places = self.add("Cast", &[&places.name], vec![int("to", 1)], &places.dims);
        let mut to = vec![1; rank];
        to[axis] = -1;
        let to = self.list(&to);
        let places = self.add("Reshape", &[&places.name, &to], vec![], &[]);
        Some(self.add("Add", &[&x.name, &places.name], vec![], &x.dims))
    }

    /// Scores of what lies behind, excluded by a mask of the places.
    fn before(&mut self, x: &Value) -> Option<Value> {
        let &[.., n, same] = &x.dims[..] else { return None };
        if n != same {
            return None;
        }
        let shape = self.add("Shape", &[&x.name], vec![], &[Fixed(x.dims.len())]);
        let [at, zero, one] = [x.dims.len() as i64 - 1, 0, 1].map(|n| self.constant(Tensor::scalar(n)));
        let size = self.add("Gather", &[&shape.name, &at], vec![], &[]);
        let places = self.add("Range", &[&zero, &size.name, &one], vec![], &[n]);
        let axes = self.list(&[1]);
        let down = self.add("Unsqueeze", &[&places.name, &axes], vec![], &[n, Fixed(1)]);
        let seen = self.add("LessOrEqual", &[&places.name, &down.name], vec![], &[n, n]);
        let least = self.constant(Tensor::scalar(-1e4f32));
        let y = self.add("Where", &[&seen.name, &x.name, &least], vec![], &x.dims);
        Some(self.add("Softmax", &[&y.name], vec![int("axis", -1)], &x.dims))
    }

    fn tile(&mut self, x: &Value) -> Option<Value> {
        let axis = self.axis(x);
        let mut times = vec![1; x.dims.len()];
        times[axis] = 2;
        let times = self.list(&times);
        let mut dims = x.dims.clone();
        dims[axis] = match dims[axis] {
            Fixed(d) => Fixed(2 * d),
            Free(_) => self.fresh(),
        };
        Some(self.add("Tile", &[&x.name, &times], vec![], &dims))
    }

    fn resize(&mut self, x: &Value) -> Option<Value> {
        if x.dims.len() < 3 {
            return None;
        }
        let scales: Vec<f32> = (0..x.dims.len()).map(|i| if i < 2 { 1.0 } else { 2.0 }).collect();
        let scales = self.constant(Tensor::new([scales.len()], &scales));
        let attrs = vec![
            text("mode", self.random.pick(&["nearest", "linear"])),
            text("coordinate_transformation_mode", "asymmetric"),
            text("nearest_mode", "floor"),
        ];
        let dims = self.windowed(x, x.dims[1]);
        Some(self.add("Resize", &[&x.name, "", &scales], attrs, &dims))
    }

    /// Over the first dimension.
    fn recurrent(&mut self, x: &Value) -> Option<Value> {
        let &[time, batch, Fixed(d)] = &x.dims[..] else { return None };
        let (op, gates) = self.random.pick(&[("LSTM", 4), ("GRU", 3), ("RNN", 1)]);
        let (w, r) = (self.numbers(&[1, 5 * gates, d]), self.numbers(&[1, 5 * gates, 5]));
        let direction = text("direction", self.random.pick(&["forward", "reverse"]));
        let y = self.add(
            op,
            &[&x.name, &w, &r],
            vec![int("hidden_size", 5), direction],
            &[time, Fixed(1), batch, Fixed(5)],
        );
        let axes = self.list(&[1]);
        Some(self.add("Squeeze", &[&y.name, &axes], vec![], &[time, batch, Fixed(5)]))
    }

    /// As many equal numbers as there are elements.
    fn filled(&mut self, x: &Value) -> Option<Value> {
        let shape = self.add("Shape", &[&x.name], vec![], &[Fixed(x.dims.len())]);
        let y = self.add("ConstantOfShape", &[&shape.name], vec![], &x.dims);
        let y = self.add("Cos", &[&y.name], vec![], &x.dims);
        Some(self.add("Sub", &[&y.name, &x.name], vec![], &x.dims))
    }

    /// Halves of what is fixed, one of which gates the other.
    fn parts(&mut self, x: &Value) -> Option<Value> {
        let even = |d: &Dim| matches!(d, Fixed(d) if d % 2 == 0);
        let axis = x.dims.iter().position(even)?;
        let Fixed(d) = x.dims[axis] else { return None };
        let first = self.sliced(x, axis, [0, d as i64 / 2, 1], Fixed(d / 2));
        let second = self.sliced(x, axis, [d as i64 / 2, d as i64, 1], Fixed(d / 2));
        let gate = self.add("Sigmoid", &[&first.name], vec![], &first.dims);
        Some(self.add("Mul", &[&gate.name, &second.name], vec![], &second.dims))
    }

    /// All elements along what is fixed at one place of it, or a part of them as a tuple names it.
    fn scattered(&mut self, x: &Value) -> Option<Value> {
        let axis = x.dims.iter().position(|d| matches!(d, Fixed(_)))?;
        let Fixed(d) = x.dims[axis] else { return None };
        let at = self.random.below(d);
        let (tuples, shape) = match axis {
            0 if self.random.chance(50) => (true, self.list(&[1, 1])),
            _ => {
                let shape = self.add("Shape", &[&x.name], vec![], &[Fixed(x.dims.len())]);
                (false, shape.name)
            }
        };
        let at = self.constant(Tensor::scalar(at as i64));
        let places = self.add("Expand", &[&at, &shape], vec![], &[]).name;
        if tuples {
            let part = self.sliced(x, 0, [0, 1, 1], Fixed(1));
            return Some(self.add("ScatterND", &[&x.name, &places, &part.name], vec![], &x.dims));
        }
        let axis = int("axis", axis as i64);
        Some(self.add("ScatterElements", &[&x.name, &places, &x.name], vec![axis], &x.dims))
    }
}
