//! How large the number is that a definition requantizes, from the constants at hand.
//!
//! A sum of products of bytes is at most the sum of its weights' magnitudes times the largest byte; times
//! the scale of its channel that is mostly little more than what the result can hold, and conversions of
//! small numbers take less.

use super::requantize::Requantized;
use crate::base::affine::SIZE;
use crate::base::{Affine, DType};
use crate::scalar::Op;
use crate::schedule::linear::Node;
use crate::schedule::{Linear, added_first};

/// What bounded numbers are below.
pub const BOUND: f64 = (1 << 14) as f64;

/// The product of a sum and a scale that is requantized, where its magnitude is below [`BOUND`] in every
/// channel. `data` gives the bytes of constant operands.
pub fn bounded<'a>(linear: &Linear, data: impl Fn(u32) -> Option<&'a [u8]>) -> Option<u32> {
    let Node::Cast { to, arg, .. } = linear.nodes[linear.finish as usize] else { return None };
    let product = Requantized::of(linear, arg, to)?.value;
    let Node::Op(Op::Mul, args) = &linear.nodes[product as usize] else { return None };
    let (sum, addend) = added_first(linear)?;
    let is_sum = |id: u32| match linear.nodes[id as usize] {
        Node::Cast { to: DType::F32, arg, .. } => arg == sum,
        _ => false,
    };
    let (_, scale) = [(args[0], args[1]), (args[1], args[0])].into_iter().find(|pair| is_sum(pair.0))?;
    let constant = |id: u32| Constant::of(linear, id, &data);
    let (addend, scale) = (constant(addend)?, constant(scale)?);
    let (weights, largest) = weights(linear, &constant)?;
    let vars: Vec<u32> = linear.axes().filter(|&v| weights.follows(v) || addend.follows(v)).collect();
    if scale.addr.terms.iter().any(|t| !vars.contains(&t.0)) {
        return None;
    }
    let steps = weights.steps(linear);
    let again: usize =
        linear.reductions().filter(|&v| !weights.follows(v)).map(|v| linear.extent(v)).product();
    let channels: usize = vars.iter().map(|&v| linear.extent(v)).product();
    let below = |channel: usize| {
        let mut rest = channel;
        let digit = |&v: &u32| {
            let digit = rest % linear.extent(v);
            rest /= linear.extent(v);
            (v, digit as i64)
        };
        let digits: Vec<(u32, i64)> = vars.iter().map(digit).collect();
        let place = |v: u32| digits.iter().find(|d| d.0 == v).map_or(0, |d| d.1);
        let first = weights.addr.eval(place);
        let sum: f64 = steps.iter().map(|step| weights.at(first + step).abs()).sum();
        let sum = sum * largest * again as f64 + addend.at(addend.addr.eval(place)).abs();
        sum * scale.at(scale.addr.eval(place)).abs() < BOUND
    };
    (0..channels).all(below).then_some(product)
}

/// The constant factor of a sum of products of bytes, and the largest magnitude of the other one.
fn weights<'a>(
    linear: &Linear,
    constant: &impl Fn(u32) -> Option<Constant<'a>>,
) -> Option<(Constant<'a>, f64)> {
    let Node::Op(Op::Mul, args) = &linear.nodes[linear.fold?.2 as usize] else { return None };
    let factor = |mut id: u32| {
        while let Node::Cast { arg, .. } = linear.nodes[id as usize] {
            id = arg;
        }
        let largest = match linear.types[id as usize] {
            DType::I8 => 128.0,
            DType::U8 => 255.0,
            _ => return None,
        };
        Some((id, largest))
    };
    let (a, b) = (factor(args[0])?, factor(args[1])?);
    [(a, b), (b, a)].into_iter().find_map(|(w, x)| Some((constant(w.0)?, x.1)))
}

/// A plain load of a constant.
struct Constant<'a> {
    addr: Affine,
    dtype: DType,
    data: &'a [u8],
}

impl<'a> Constant<'a> {
    fn of(linear: &Linear, id: u32, data: &impl Fn(u32) -> Option<&'a [u8]>) -> Option<Constant<'a>> {
        let Node::Load { operand, addr, dynamic, guards, .. } = &linear.nodes[id as usize] else {
            return None;
        };
        let dtype = linear.types[id as usize];
        let known = matches!(dtype, DType::I8 | DType::U8 | DType::I32 | DType::F32);
        let plain = dynamic.is_empty() && guards.is_empty() && addr.terms.iter().all(|t| t.0 < SIZE);
        let data = data(*operand).filter(|_| known && plain)?;
        Some(Constant { addr: addr.clone(), dtype, data })
    }

    fn follows(&self, var: u32) -> bool {
        self.addr.coefficient(var) != 0
    }

    /// From the first element of a reduction to each.
    fn steps(&self, linear: &Linear) -> Vec<i64> {
        linear.reductions().filter(|&v| self.follows(v)).fold(vec![0], |steps, v| {
            let step = self.addr.coefficient(v);
            let from = |&first: &i64| (0..linear.extent(v) as i64).map(move |i| first + i * step);
            steps.iter().flat_map(from).collect()
        })
    }

    /// An element; more than any number where there is none.
    fn at(&self, index: i64) -> f64 {
        let bytes = |size: usize| {
            let start = usize::try_from(index).ok()?.checked_mul(size)?;
            self.data.get(start..start + size)
        };
        let word = || bytes(4)?.try_into().ok().map(i32::from_le_bytes);
        let number = match self.dtype {
            DType::I8 => bytes(1).map(|b| f64::from(b[0] as i8)),
            DType::U8 => bytes(1).map(|b| f64::from(b[0])),
            DType::F32 => word().map(|bits| f64::from(f32::from_bits(bits as u32))),
            _ => word().map(f64::from),
        };
        number.unwrap_or(f64::INFINITY)
    }
}
