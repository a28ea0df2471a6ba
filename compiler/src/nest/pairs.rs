//! Sums of two bytes that are requantized by two multiply-adds.
//!
//! A residual sum brings two tensors of bytes to floats, scales and adds them, and divides by the scale of the
//! result: seven operations, each rounded, of two bytes. `x * a + (y * b + c)` is two. It is taken where it rounds
//! to the same integers as the definition for each of the 65536 pairs, which are tried; where the first factors
//! do not, others a few units in their last places away may.

use super::grid::{BYTES, Cone, known, least, replaceable, users_are};
use super::requantize::Requantized;
use crate::schedule::Linear;
use crate::schedule::linear::{Node, Pair};

/// Sums this near to a half may be rounded otherwise.
const DOUBTFUL: f64 = 1.0 / 1024.0;
/// How many units in the last place factors are moved, and steps of [`NUDGE`] the offset.
const TRIED: [i32; 2] = [3, 12];
/// A part of the last place of sums.
const NUDGE: f64 = 1.0 / (1 << 18) as f64;

/// Puts two multiply-adds in place of what a definition requantizes, where that is a function of two bytes and
/// they give the same: the operands that hold the factors then, and their new elements. `data` gives the bytes of
/// constant operands.
pub fn pair<'a>(linear: &mut Linear, data: impl Fn(u32) -> Option<&'a [u8]>) -> Option<Vec<(u32, Vec<u8>)>> {
    let (pair, new) = (0..linear.nodes.len() as u32).rev().find_map(|id| of_conversion(linear, id, &data))?;
    linear.facts.pair = Some(pair);
    for (operand, numbers) in &new {
        linear.buffers[*operand as usize].elems = numbers.len() / size_of::<f32>();
    }
    Some(new)
}

/// The multiply-adds of what is converted to bytes, and the operands that hold their factors.
fn of_conversion<'a>(
    linear: &Linear,
    id: u32,
    data: &impl Fn(u32) -> Option<&'a [u8]>,
) -> Option<(Pair, Vec<(u32, Vec<u8>)>)> {
    let Node::Cast { to, arg, .. } = linear.nodes[id as usize] else { return None };
    let found = Requantized::of(linear, arg, to).filter(|_| to.bits() == 8)?;
    let known = |id: u32| known(linear, id, data);
    let cone = Cone::of(linear, found.value, &known);
    let bytes: [u32; 2] = cone.bytes.clone().try_into().ok()?;
    let loads = scales(linear, &cone.nodes)?;
    let steps = found.steps(linear, data)?;
    let (rounded, exact) = (sums(linear, &cone, &known, true)?, sums(linear, &cone, &known, false)?);
    let [x, y] = bytes.map(|id| numbers(linear, id, data));
    let nearest = |v: f64| (v.round_ties_even() as i64).clamp(steps.start, steps.end);
    let wanted = rounded.iter().map(|&v| nearest(v)).collect();
    let [a, b, c] = Points { bytes: &[x?, y?], wanted, nearest: &nearest }.factors(&exact)?;
    let factors = [loads[0].0, loads[1].0];
    let (offset, apart) = loads.get(2).map_or((factors[0], 1), |load| (load.0, 0));
    let pair = Pair { value: found.value, bytes, factors, offset, apart };
    let numbers = [vec![a], vec![b], vec![c]];
    let mut new: Vec<(u32, Vec<f32>)> = loads.iter().map(|load| load.1).zip(numbers).collect();
    if apart > 0 {
        new[0].1.push(c);
    }
    let bytes = |numbers: Vec<f32>| numbers.into_iter().flat_map(f32::to_le_bytes).collect();
    Some((pair, new.into_iter().map(|(operand, numbers)| (operand, bytes(numbers))).collect()))
}

/// The numbers that a byte stands for where it is read: less its zero point, where that costs nothing.
fn numbers<'a>(linear: &Linear, id: u32, data: &impl Fn(u32) -> Option<&'a [u8]>) -> Option<Vec<f64>> {
    let zero = integers(linear, id).map_or(Some(0), |i| i.zero(linear, data))?;
    Some((0..BYTES).map(|i| least(linear, id) + i as f64 - zero as f64).collect())
}

/// The conversion that a byte is.
pub(super) fn integers(linear: &Linear, id: u32) -> Option<Requantized> {
    let Node::Cast { to, arg, .. } = linear.nodes[id as usize] else { return None };
    Requantized::of(linear, arg, to)
}

/// The loads of three numbers, and their operands, that nothing else reads: they make room for the factors. Of two, where
/// the scale of the result is what it is multiplied by again, the first makes room for the offset as well.
fn scales(linear: &Linear, nodes: &[u32]) -> Option<Vec<(u32, u32)>> {
    let one = |operand: u32| linear.buffers[operand as usize].elems == 1;
    let load = |&id: &u32| {
        let operand = replaceable(linear, id).filter(|&operand| one(operand) && users_are(linear, id, nodes));
        operand.map(|operand| (id, operand))
    };
    Some(nodes.iter().filter_map(load).take(3).collect::<Vec<_>>()).filter(|loads| loads.len() >= 2)
}

/// The sum of each pair of bytes, rounded as floats are or not at all, in the order of the first.
fn sums(linear: &Linear, cone: &Cone, known: &dyn Fn(u32) -> Option<f64>, rounded: bool) -> Option<Vec<f64>> {
    let last = cone.grids(linear, known, rounded)?[*cone.nodes.last()? as usize].take()?;
    (last.steps == [BYTES, 1]).then_some(last.numbers)
}

/// What factors have to give.
struct Points<'a> {
    bytes: &'a [Vec<f64>; 2],
    /// By pairs of bytes.
    wanted: Vec<i64>,
    nearest: &'a dyn Fn(f64) -> i64,
}

impl Points<'_> {
    /// Factors that round to what is wanted, near those that the exact sums follow.
    fn factors(&self, exact: &[f64]) -> Option<[f32; 3]> {
        let last = BYTES - 1;
        let width = last as f64;
        let slopes = [(exact[last * BYTES] - exact[0]) / width, (exact[last] - exact[0]) / width];
        let offset = exact[0] - slopes[0] * self.bytes[0][0] - slopes[1] * self.bytes[1][0];
        let doubtful = |&i: &usize| (exact[i] - exact[i].floor() - 0.5).abs() < DOUBTFUL;
        let doubtful: Vec<usize> = (0..exact.len()).filter(doubtful).collect();
        let near =
            |slope: f64, by: i32| Some(f32::from_bits((slope as f32).to_bits().checked_add_signed(by)?));
        let turns = |most: i32| (0..=most).flat_map(|i| [i, -i]).skip(1);
        for c in turns(TRIED[1]).map(|by| (offset + f64::from(by) * NUDGE) as f32) {
            for a in turns(TRIED[0]).filter_map(|by| near(slopes[0], by)) {
                for b in turns(TRIED[0]).filter_map(|by| near(slopes[1], by)) {
                    let factors = [a, b, c];
                    if doubtful.iter().all(|&i| self.fits(factors, i)) {
                        return (0..exact.len()).all(|i| self.fits(factors, i)).then_some(factors);
                    }
                }
            }
        }
        None
    }

    /// Whether a pair of bytes gives what is wanted, as kernels compute it.
    fn fits(&self, [a, b, c]: [f32; 3], pair: usize) -> bool {
        let [x, y] = [self.bytes[0][pair / BYTES] as f32, self.bytes[1][pair % BYTES] as f32];
        let sum = x.mul_add(a, y.mul_add(b, c));
        f64::from(sum.abs()) <= super::range::BOUND && (self.nearest)(f64::from(sum)) == self.wanted[pair]
    }
}

/// The expressions that are computed: of a sum of two bytes these and the factors alone.
pub(super) fn needed(linear: &Linear) -> Vec<u32> {
    let args = |id: u32| match linear.facts.pair.filter(|pair| pair.value == id) {
        Some(Pair { bytes: [x, y], factors: [a, b], offset, .. }) => vec![x, y, a, b, offset],
        None => linear.nodes[id as usize].args(),
    };
    let mut wanted = vec![false; linear.nodes.len()];
    wanted[linear.finish as usize] = true;
    for id in (0..=linear.finish).rev() {
        if wanted[id as usize] {
            args(id).into_iter().for_each(|arg| wanted[arg as usize] = true);
        }
    }
    (0..=linear.finish).filter(|&id| wanted[id as usize]).collect()
}

/// The bytes of a sum whose zero point is an expression's value, and is taken off.
pub(super) fn taken_back(linear: &Linear, zero: u32) -> impl Iterator<Item = Requantized> {
    let bytes = linear.facts.pair.into_iter().flat_map(|pair| pair.bytes);
    bytes.filter_map(|id| integers(linear, id)).filter(move |i| i.zero_value() == Some(zero))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{DType, TensorType};
    use crate::definition::{DefBuilder, Definition, ExprId};
    use crate::nest::nest;
    use crate::scalar::{Fold, Op};
    use crate::schedule::choose::choose;
    use crate::schedule::linear::{Layout, Magnitude};
    use crate::target::resolve;
    use crate::tile::interpret;

    const CHANNELS: usize = 37;
    const DEPTH: usize = 5;

    fn scalar(dtype: DType) -> TensorType {
        TensorType::new(dtype, [])
    }

    fn bytes(b: &mut DefBuilder, value: ExprId, zero: ExprId) -> ExprId {
        let nearest = b.op(Op::Round, &[value]);
        let zero = b.cast(DType::F32, zero);
        let moved = b.op(Op::Add, &[nearest, zero]);
        let (lo, hi) = (b.number(DType::F32, 0.0), b.number(DType::F32, 255.0));
        let above = b.op(Op::Max, &[moved, lo]);
        let inside = b.op(Op::Min, &[above, hi]);
        b.cast(DType::U8, inside)
    }

    fn floats(b: &mut DefBuilder, byte: ExprId, zero: ExprId, scale: u32) -> ExprId {
        let (byte, zero) = (b.cast(DType::I32, byte), b.cast(DType::I32, zero));
        let byte = b.op(Op::Sub, &[byte, zero]);
        let byte = b.cast(DType::F32, byte);
        let scale = b.load(scale, &scalar(DType::F32), vec![]);
        b.op(Op::Mul, &[byte, scale])
    }

    /// `q(x * in2 + (in1 - in3) * in4 / in5)`: `x` is each byte, or a sum of products that is quantized. Its
    /// zero point is that of the result as well. `again`: the result is multiplied by its scale again, and stored as floats.
    fn sum(product: bool, again: bool) -> Definition {
        let shape = [256, if product { CHANNELS } else { 256 }];
        let ty = |dtype, shape: &[usize]| TensorType::new(dtype, shape);
        let mut b = DefBuilder::new(&shape);
        let (row, column) = (b.var(0), b.var(1));
        let zero;
        let first = if product {
            let depth = b.reduce("k", DEPTH);
            let left = b.load(0, &ty(DType::U8, &[256, DEPTH]), vec![row.clone(), depth.clone()]);
            let right = b.load(7, &ty(DType::I8, &[DEPTH, CHANNELS]), vec![depth, column.clone()]);
            let (left, right) = (b.cast(DType::I32, left), b.cast(DType::I32, right));
            let term = b.op(Op::Mul, &[left, right]);
            let acc = b.fold(Fold::Sum, term);
            zero = b.load(6, &scalar(DType::U8), vec![]);
            let acc = b.cast(DType::F32, acc);
            let scale = b.load(8, &ty(DType::F32, &[CHANNELS]), vec![column.clone()]);
            let product = b.op(Op::Mul, &[acc, scale]);
            bytes(&mut b, product, zero)
        } else {
            zero = b.load(6, &scalar(DType::U8), vec![]);
            b.load(0, &ty(DType::U8, &shape), vec![row.clone(), column.clone()])
        };
        let first = floats(&mut b, first, zero, 2);
        let second = b.load(1, &ty(DType::I8, &shape), vec![row, column]);
        let other = b.load(3, &scalar(DType::I8), vec![]);
        let second = floats(&mut b, second, other, 4);
        let sum = b.op(Op::Add, &[first, second]);
        let divisor = b.load(5, &scalar(DType::F32), vec![]);
        let value = b.op(Op::Div, &[sum, divisor]);
        let narrow = bytes(&mut b, value, zero);
        if again {
            let wide = floats(&mut b, narrow, zero, 5);
            return b.finish("sum", 9, &ty(DType::F32, &shape), wide);
        }
        b.finish("sum", 9, &ty(DType::U8, &shape), narrow)
    }

    /// The elements of an operand, by its value.
    fn data(value: u32, elems: usize, scales: [f32; 3]) -> Vec<u8> {
        match value {
            0 if elems == 1 << 16 => (0..elems).map(|i| (i / 256) as u8).collect(),
            0 => (0..elems).map(|i| (i * 37 + i / 7) as u8).collect(),
            1 => (0..elems).map(|i| (i % 256 + i / 9473) as u8).collect(),
            2 => scales[0].to_le_bytes().to_vec(),
            3 => vec![(-7i8) as u8],
            4 => scales[1].to_le_bytes().to_vec(),
            5 => scales[2].to_le_bytes().to_vec(),
            6 => vec![120],
            7 => (0..elems).map(|i| (i * 53 + i / 5) as u8).collect(),
            _ => (0..elems).flat_map(|i| (0.01 + 0.0003 * i as f32).to_le_bytes()).collect(),
        }
    }

    /// The result, and whether it is made by two multiply-adds; the kernel's text.
    fn run(def: &Definition, scales: [f32; 3], cpu: Option<(&str, &str)>) -> (Vec<u8>, bool, String) {
        let layouts: Vec<Layout> = def.operands.iter().map(|o| Layout::dense(&o.ty.shape)).collect();
        let constant: Vec<bool> = def.operands.iter().map(|o| o.value > 1).collect();
        let mut linear = Linear::new(def, &layouts, &constant, &Layout::dense(&def.output.ty.shape));
        let mut operands: Vec<Vec<u8>> =
            def.operands.iter().map(|o| data(o.value, o.ty.elems(), scales)).collect();
        for (buffer, operand) in linear.buffers.iter_mut().zip(&def.operands) {
            let float = operand.value > 1 && operand.ty.dtype == DType::F32;
            buffer.magnitude = float.then_some(Magnitude { least: -9, below: 1 });
        }
        let (mut fused, mut schedule) = (true, crate::schedule::Schedule::naive(&linear));
        if let Some((triple, cpu)) = cpu {
            let known = operands.clone();
            let new = pair(&mut linear, |i| constant[i as usize].then(|| known[i as usize].as_slice()));
            new.into_iter().flatten().for_each(|(operand, factor)| operands[operand as usize] = factor);
            let target = resolve(triple, cpu).unwrap();
            (fused, schedule) = (target.fma, choose(&linear, &target));
        }
        let nested = nest(&linear, &schedule, fused, 1).unwrap();
        let text = nested.kernel.to_string();
        crate::tile::verify(&nested.kernel).unwrap_or_else(|e| panic!("{e}: {text}"));
        let packed = operands.into_iter().enumerate();
        let mut buffers: Vec<Vec<u8>> =
            packed.map(|(i, d)| nested.packed(&linear, i as u32, &d).unwrap_or(d)).collect();
        let out = buffers.len();
        buffers.push(vec![0; linear.output.elems * linear.output.dtype.size()]);
        buffers.push(vec![0; nested.between * 4]);
        buffers.truncate(nested.kernel.params.len());
        assert_eq!(interpret(&nested.kernel, &mut buffers).unwrap(), 0);
        (buffers.swap_remove(out), linear.facts.pair.is_some(), text)
    }

    #[test]
    fn two_multiply_adds_give_the_same_bytes_of_all_pairs() {
        let x86 = Some(("x86_64", "x86-64-v4"));
        let mut found = 0;
        for i in 0..6u8 {
            let scale = |by: f32| 0.011 + (f32::from(i + 1) * by).fract() * 0.137;
            let scales = [scale(0.618034), scale(0.414214), scale(0.732051) + 0.01];
            for again in [false, true] {
                let (wanted, none, _) = run(&sum(false, again), scales, None);
                let (got, paired, text) = run(&sum(false, again), scales, x86);
                assert!(!none && got == wanted, "{scales:?}: {text}");
                assert!(!paired || !text.contains("div"), "{text}");
                found += u32::from(paired);
            }
        }
        assert!(found >= 10, "{found} of 12");
        // Each other sum lies between two integers; its floats are rounded to either side.
        let halves = [0.1, 0.3, 0.2];
        assert_eq!(run(&sum(false, false), halves, x86).0, run(&sum(false, false), halves, None).0);
    }

    #[test]
    fn a_byte_that_the_definition_computes_stays_a_float() {
        let scales = [0.031, 0.022, 0.047];
        let (wanted, ..) = run(&sum(true, false), scales, None);
        for cpu in [("x86_64", "x86-64-v4"), ("x86_64", "x86-64-v3"), ("aarch64", "neoverse-n1")] {
            let (got, paired, text) = run(&sum(true, false), scales, Some(cpu));
            assert!(paired && text.contains("round") && !text.contains("div"), "{text}");
            assert_eq!(got, wanted, "{cpu:?}: {text}");
        }
    }
}
