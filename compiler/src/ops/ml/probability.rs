//! Probabilities of the classes from those of pairs of classes, as libsvm couples them: a few steps of
//! descent, each class in turn, until they agree.

use crate::base::{Affine, DType, Tensor};
use crate::definition::Index;
use crate::error::Result;
use crate::ops::emit::{Arith, Emit, Val, require};
use crate::ops::routine::Code;
use crate::scalar::{Fold, Op};
use crate::tile::{Access, Bin, Cmp, Lane, Reg, Un, Value};

const F: DType = DType::F32;

/// Steps of descent at most.
const STEPS: f64 = 100.0;
/// What a probability of a pair is at least, and at most less than 1.
const LEAST: f64 = 1e-7;

/// Defines `[rows, classes]` from decisions `[rows, pairs]`: the sigmoid of each, scaled by `a` and moved by
/// `b`, is the probability of the second class of its pair.
pub fn couple(
    e: &mut Emit,
    decisions: &Val,
    pairs: &[(usize, usize)],
    classes: usize,
    [a, b]: [&[f32]; 2],
) -> Result<Val> {
    require(a.len() == pairs.len() && b.len() == pairs.len(), || {
        format!("{} and {} numbers of prob_a and prob_b do not fit {} pairs", a.len(), b.len(), pairs.len())
    })?;
    let rows = decisions.shape()[0];
    let (a, b) =
        (e.constant("prob_a", Tensor::new([a.len()], a)), e.constant("prob_b", Tensor::new([b.len()], b)));
    let first = e.map("first", F, decisions.shape(), |d| {
        let (x, a, b) = (d.broadcast(decisions, F), d.broadcast(&a, F), d.broadcast(&b, F));
        let scaled = d.times(x, a);
        let moved = d.plus(scaled, b);
        let negative = d.op(Op::Neg, &[moved]);
        let value = d.op(Op::Sigmoid, &[negative]);
        d.clamp(value, LEAST, 1.0 - LEAST)
    });
    let won = over(e, &first, pairs, classes);
    let diagonal = e.map("diagonal", F, [rows, classes], |d| {
        let j = d.reduce("j", classes);
        let x = d.elem(&won, &[d.var(0), j, d.var(1)], F);
        let square = d.times(x, x);
        d.fold(Fold::Sum, square)
    });
    let beside = e.map("beside", F, [rows, classes, classes], |d| {
        let (n, i, j) = (d.var(0), d.var(1), d.var(2));
        let (x, y) = (d.elem(&won, &[n.clone(), i.clone(), j.clone()], F), d.elem(&won, &[n, j, i], F));
        let product = d.times(x, y);
        d.op(Op::Neg, &[product])
    });
    let out = e.temp("probabilities", F, [rows, classes]);
    descend(e, &diagonal, &beside, &out);
    Ok(out)
}

/// How probable it is that class `i` is rather than class `j`: `[rows, i, j]`, 0 where they are the same.
fn over(e: &mut Emit, first: &Val, pairs: &[(usize, usize)], classes: usize) -> Val {
    let all = (0..classes).flat_map(|i| (0..classes).map(move |j| (i, j)));
    let entry = |(i, j): (usize, usize)| {
        let place = pairs.iter().position(|&p| p == (i.min(j), i.max(j))).unwrap_or(0);
        (
            place as i64,
            if i > j { 1f32 } else { 0.0 },
            [-1f32, 0.0, 1.0][usize::from(i <= j) + usize::from(i < j)],
        )
    };
    let entries: Vec<(i64, f32, f32)> = all.map(entry).collect();
    let square = [classes, classes];
    let places: Vec<i64> = entries.iter().map(|t| t.0).collect();
    let (bases, signs): (Vec<f32>, Vec<f32>) = entries.iter().map(|t| (t.1, t.2)).unzip();
    let places = e.constant("places", Tensor::new(square, &places));
    let (bases, signs) =
        (e.constant("bases", Tensor::new(square, &bases)), e.constant("signs", Tensor::new(square, &signs)));
    e.map("over", F, [first.shape()[0], classes, classes], |d| {
        let at = [d.var(1), d.var(2)];
        let place = d.elem(&places, &at, DType::I64);
        let x = d.elem_at(first, vec![Index::Affine(d.var(0)), Index::Dynamic(place)], F);
        let (base, sign) = (d.elem(&bases, &at, F), d.elem(&signs, &at, F));
        let signed = d.times(x, sign);
        d.plus(base, signed)
    })
}

/// The probabilities `p` that make `p Q p` least, with `Q` as its diagonal and what is beside it (0 on it).
fn descend(e: &mut Emit, diagonal: &Val, beside: &Val, out: &Val) {
    let [rows, classes] = [out.shape()[0], out.shape()[1]];
    let products = e.temp("products", F, [classes]);
    let mut code = Code::new(&e.ctx.node.name);
    let descent = Descent {
        diagonal: code.param("diagonal", diagonal, Access::Read),
        beside: code.param("beside", beside, Access::Read),
        p: code.param("p", out, Access::ReadWrite),
        products: code.param("products", &products, Access::ReadWrite),
        classes,
    };
    let c = classes as f64;
    code.repeat("row", rows, |code, row| {
        let (even, least) = (code.number(Lane::F32, 1.0 / c), code.number(Lane::F32, 0.005 / c));
        code.repeat("i", classes, |code, i| code.store(descent.p, descent.class(&row, &i), even));
        let (step, one, most) =
            (code.number(Lane::I64, 0.0), code.number(Lane::I64, 1.0), code.number(Lane::I64, STEPS));
        code.forever(|code| {
            let over = code.cmp(Cmp::Le, most, step);
            code.break_if(over);
            code.set(step, Value::Bin(Bin::Add, step, one));
            let (total, worst) = descent.gradient(code, &row);
            let done = code.cmp(Cmp::Lt, worst, least);
            code.break_if(done);
            code.repeat("i", classes, |code, i| descent.improve(code, &row, &i, total));
        });
    });
    code.finish(e.low);
}

/// The parameters of a descent, in each row of which there are `classes` probabilities.
struct Descent {
    /// The diagonal of `Q`.
    diagonal: u32,
    /// What is beside it.
    beside: u32,
    /// The probabilities.
    p: u32,
    /// `Q p` of the row at hand.
    products: u32,
    classes: usize,
}

impl Descent {
    fn class(&self, row: &Affine, i: &Affine) -> Affine {
        row.scaled(self.classes as i64).plus(i)
    }

    fn pair(&self, row: &Affine, i: &Affine, j: &Affine) -> Affine {
        let c = self.classes as i64;
        row.scaled(c * c).plus_scaled(i, c).plus(j)
    }

    /// Writes `Q p`; gives `p Q p`, and how far an element of `Q p` is from it at most: 0 where `p` is best.
    fn gradient(&self, code: &mut Code, row: &Affine) -> (Reg, Reg) {
        let (total, worst) = (code.number(Lane::F32, 0.0), code.number(Lane::F32, 0.0));
        code.repeat("i", self.classes, |code, i| {
            let at = self.class(row, &i);
            let (own, weight) = (code.load(self.p, at.clone()), code.load(self.diagonal, at));
            let sum = code.bin(Bin::Mul, own, weight);
            code.repeat("j", self.classes, |code, j| {
                let x = code.load(self.p, self.class(row, &j));
                let weight = code.load(self.beside, self.pair(row, &i, &j));
                add_product(code, sum, x, weight);
            });
            code.store(self.products, i.clone(), sum);
            add_product(code, total, own, sum);
        });
        code.repeat("i", self.classes, |code, i| {
            let x = code.load(self.products, i);
            let difference = code.bin(Bin::Sub, x, total);
            let size = code.let_(Lane::F32, Value::Un(Un::Abs, difference));
            code.set(worst, Value::Bin(Bin::Max, worst, size));
        });
        (total, worst)
    }

    /// Moves the probability of class `i` to where `p Q p` is least, divides all by their sum, and keeps `Q p` and
    /// `p Q p` up to date.
    fn improve(&self, code: &mut Code, row: &Affine, i: &Affine, total: Reg) {
        let at = self.class(row, i);
        let x = code.load(self.products, i.clone());
        let (weight, own) = (code.load(self.diagonal, at.clone()), code.load(self.p, at.clone()));
        let missing = code.bin(Bin::Sub, total, x);
        let change = code.bin(Bin::Div, missing, weight);
        let moved = code.bin(Bin::Add, own, change);
        code.store(self.p, at, moved);
        let one = code.number(Lane::F32, 1.0);
        let sum = code.bin(Bin::Add, one, change);
        // total = (total + change * (change * weight + 2 x)) / sum / sum
        let inner = code.bin(Bin::Mul, change, weight);
        let own = code.bin(Bin::Add, x, inner);
        let twice = code.bin(Bin::Add, own, x);
        add_product(code, total, change, twice);
        code.set(total, Value::Bin(Bin::Div, total, sum));
        code.set(total, Value::Bin(Bin::Div, total, sum));
        code.store(self.products, i.clone(), own);
        code.repeat("j", self.classes, |code, j| {
            let y = code.load(self.products, j.clone());
            let weight = code.load(self.beside, self.pair(row, i, &j));
            add_product(code, y, change, weight);
            let (y, z) = (code.bin(Bin::Div, y, sum), code.load(self.p, self.class(row, &j)));
            let z = code.bin(Bin::Div, z, sum);
            code.store(self.products, j.clone(), y);
            code.store(self.p, self.class(row, &j), z);
        });
    }
}

/// `sum += a * b`.
fn add_product(code: &mut Code, sum: Reg, a: Reg, b: Reg) {
    let product = code.bin(Bin::Mul, a, b);
    code.set(sum, Value::Bin(Bin::Add, sum, product));
}

#[cfg(test)]
mod tests {
    use crate::base::Tensor;
    use crate::graph::Attr;
    use crate::ops::older::fold;

    /// Of three classes, with the results of ONNX Runtime.
    #[test]
    fn three_classes() {
        let floats = |v: &[f32]| Attr::Floats(v.to_vec());
        let ints = |v: &[i64]| Attr::Ints(v.to_vec());
        let attrs = [
            ("kernel_type", Attr::Str("LINEAR".into())),
            ("support_vectors", floats(&[1.0, 0.0, 0.0, 1.0, -1.0, -1.0])),
            ("vectors_per_class", ints(&[1, 1, 1])),
            ("coefficients", floats(&[1.0, -1.0, -0.5, 0.5, 1.0, -1.0])),
            ("rho", floats(&[0.1, -0.2, 0.3])),
            ("prob_a", floats(&[-1.5, -1.0, -2.0])),
            ("prob_b", floats(&[0.1, 0.0, -0.1])),
            ("classlabels_ints", ints(&[7, 8, 9])),
        ];
        let x = Tensor::new([2, 2], &[0.5f32, -0.25, -1.0, 2.0]);
        let made = fold("ai.onnx.ml.SVMClassifier", 1, &attrs, &[x], 2).expect("classes");
        assert_eq!(made[0].to_i64s(), Some(vec![7, 8]));
        let p = made[1].to_vec::<f32>().expect("floats");
        let want = [0.492_081, 0.242_942_7, 0.264_976_35, 0.009_239_33, 0.987_823, 0.002_937_73];
        assert!(p.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-5), "{p:?}");
    }
}
