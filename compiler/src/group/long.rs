//! Sums of many floats are sums of sums.
//!
//! A sum is rounded at each addition to as many places as it has itself. Of numbers that are nearly alike, as those of a
//! plane whose mean is large beside their deviation, all additions are rounded the same way, and a mean of 500,000 of
//! them is off by more than they deviate. Sums of rows, and of these, are off by as much as a row and a column are.
//! ```text
//! over h < 720, w < 720                            over w < 720
//! fold sum x[c, h, w]                        ->    fold sum x[c, h, w] to rows[c, h], over h < 720, fold sum rows[c, h]
//! ```
//! Products of two tensors stay: their terms differ, and their sums are cut by blocks of their own. Golden:
//! `tests/golden/group/long_sums.txt`.

use super::rewrite::{Copy, keep, split_vars, with_axes, with_vars};
use crate::base::{Affine, DType, TensorType};
use crate::definition::{self, DefBuilder, Definition, Lowering, Stage};
use crate::scalar::Fold;

/// Terms from which on a sum is cut: a mean of so many that is a thousand times their deviation is off by less than a
/// hundredth of that.
const LONG: usize = 1 << 14;
/// Terms of its parts up to which no axis is divided for them.
const SHORT: usize = 1 << 12;

/// Cuts the long sums of a lowering.
pub(super) fn cut(lowering: &mut Lowering) {
    for stage in std::mem::take(&mut lowering.stages) {
        let cut = match &stage {
            Stage::Define(def) if is_long(def) => halves(lowering, def),
            _ => None,
        };
        match cut {
            Some(sums) => lowering.stages.extend(sums.map(Stage::Define)),
            None => lowering.stages.push(stage),
        }
    }
}

fn extent(vars: &[definition::Var]) -> usize {
    vars.iter().map(|v| v.extent).product()
}

/// Whether a definition sums more floats than it should at once, which are no products of two tensors.
fn is_long(def: &Definition) -> bool {
    let sums = def.fold.as_ref().is_some_and(|f| f.op == Fold::Sum && f.dtype == DType::F32);
    let folded = |e| def.walks(e, |v| v as usize >= def.axes);
    let product = def.factors().is_some_and(|[a, b]| a != b && folded(a) && folded(b));
    sums && !product && extent(&def.vars[def.axes..]) > LONG
}

/// Where the folded axes are cut, so that the larger part is as small as can be, and its extent.
fn middle(def: &Definition) -> Option<(usize, usize)> {
    let larger = |at: usize| extent(&def.vars[def.axes..at]).max(extent(&def.vars[at..]));
    (def.axes..def.vars.len()).map(|at| (at, larger(at))).min_by_key(|m| m.1)
}

/// The definition with its longest folded axis in two parts, as long as all of them need to be.
fn divided(def: &Definition) -> Option<Definition> {
    let long = (def.axes..def.vars.len()).max_by_key(|&v| def.vars[v].extent)?;
    let definition::Var { extent: points, size: None, .. } = def.vars[long] else { return None };
    let root = extent(&def.vars[def.axes..]).isqrt();
    let inner = (2..points).filter(|n| points.is_multiple_of(*n)).min_by_key(|n| n.abs_diff(root))?;
    let mut parts = vec![None; def.vars.len()];
    parts[long] = Some(vec![(0, inner as i64, points / inner), (1, 1, inner)]);
    with_vars(def, &split_vars(def, &parts))
}

/// A definition of sums over the inner ones of the folded axes, and one of their sums.
fn halves(lowering: &mut Lowering, def: &Definition) -> Option<[Definition; 2]> {
    let parts = middle(def).filter(|m| m.1 > SHORT).and_then(|_| divided(def));
    let def = parts.as_ref().unwrap_or(def);
    let (cut, larger) = middle(def)?;
    if larger > LONG {
        return None;
    }
    let (mut b, same) = with_axes(def, cut);
    let body = Copy::new(def, &same, None).expr(&mut b, def.fold.as_ref()?.body, &mut keep)?;
    let sum = b.fold(Fold::Sum, body);
    let shape: Vec<usize> = def.vars[..cut].iter().map(|v| v.extent).collect();
    let ty = TensorType::new(DType::F32, shape);
    let name = format!("{}.sums", def.name);
    let sums = lowering.temporary(&name, ty.clone());
    if def.vars[..cut].iter().any(|v| v.size.is_some()) {
        let dim = |v: &definition::Var| v.size.clone().unwrap_or_else(|| Affine::constant(v.extent as i64));
        lowering.dims.insert(sums, def.vars[..cut].iter().map(dim).collect());
    }
    let first = b.finish(&name, sums, &ty, sum);

    let mut b = DefBuilder::with_vars(def.vars[..cut].to_vec(), def.axes);
    let index = (0..cut).map(|v| b.var(v)).collect();
    let element = b.load(sums, &ty, index);
    let sum = b.fold(Fold::Sum, element);
    let finish = Copy::new(def, &same, Some(sum)).expr(&mut b, def.finish, &mut keep)?;
    let second = b.finish_at(&def.name, def.output.value, &def.output.ty, def.store.clone(), finish);
    Some([first, second])
}

#[cfg(test)]
mod tests {
    use super::cut;
    use crate::base::{DType, Tensor, TensorType};
    use crate::definition::{DefBuilder, Env, Lowering, interpret, verify};
    use crate::scalar::Fold;

    /// The sum over all axes, and how far the interpreter's is from it.
    fn sum(shape: &[usize], elements: &[f32]) -> (Lowering, impl Fn(&Lowering) -> f64) {
        let mut low = Lowering::default();
        let (ty, out) = (TensorType::new(DType::F32, shape), TensorType::new(DType::F32, [1]));
        let [x, y] = [("x", &ty), ("y", &out)].map(|(name, ty)| low.temporary(name, ty.clone()));
        let mut b = DefBuilder::new(&[1]);
        let index = shape.iter().enumerate().map(|(i, &n)| b.reduce(&format!("k{i}"), n)).collect();
        let element = b.load(x, &ty, index);
        let sum = b.fold(Fold::Sum, element);
        low.define(b.finish("y", y, &out, sum));
        let tensor = Tensor::new(shape, elements);
        let exact: f64 = elements.iter().map(|&v| f64::from(v)).sum();
        let off = move |low: &Lowering| {
            let mut env = Env::new(low);
            env.set(x, &tensor);
            interpret(low, &mut env).unwrap();
            let found = env.get(y, &out).unwrap().to_vec::<f32>().unwrap();
            (f64::from(found[0]) - exact).abs()
        };
        (low, off)
    }

    /// Numbers around 1000 that deviate by half: their mean is off by a hundredth of that at most.
    #[test]
    fn long_sums_keep_what_numbers_differ_in() {
        for shape in [vec![720, 720], vec![518_400], vec![8, 1, 64_800]] {
            let elements: Vec<f32> =
                (0..518_400u32).map(|i| 1000.0 + (i * 37 % 101) as f32 / 101.0).collect();
            let (mut low, off) = sum(&shape, &elements);
            let before = off(&low);
            cut(&mut low);
            verify(&low).unwrap();
            assert_eq!(low.stages.len(), 2);
            let [before, after] = [before, off(&low)].map(|sum| sum / 518_400.0);
            assert!(before > 0.1 && after < 0.005, "{before} and {after}");
        }
        let (mut low, _) = sum(&[128, 128], &[1.0; 128 * 128]);
        cut(&mut low);
        assert_eq!(low.stages.len(), 1);
    }
}
