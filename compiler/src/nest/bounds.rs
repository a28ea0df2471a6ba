//! How large the number is that a definition requantizes, from the constants at hand.
//!
//! A sum of products of bytes is at most the sum of its weights' magnitudes times the largest byte; times
//! the scale of its channel that is mostly little more than what the result can hold, and conversions of
//! small numbers take less.

use super::range::BOUND;
use super::requantize::Requantized;
use crate::base::affine::SIZE;
use crate::base::{Affine, DType};
use crate::scalar::Op;
use crate::schedule::linear::Node;
use crate::schedule::winograd::{Conv, SUMS_OF_FOUR};
use crate::schedule::{Linear, added_first};

/// The product of a sum and a scale that is requantized, where its magnitude is below [`BOUND`] in every
/// channel. `data` gives the bytes of constant operands.
pub fn bounded<'a>(linear: &Linear, data: impl Fn(u32) -> Option<&'a [u8]>) -> Option<u32> {
    let Node::Cast { to, arg, .. } = linear.nodes[linear.before_tables() as usize] else { return None };
    let product = Requantized::of(linear, arg, to)?.value;
    let Node::Op(Op::Mul, args) = &linear.nodes[product as usize] else { return None };
    let (sum, _) = added_first(linear)?;
    let is_sum = |id: u32| match linear.nodes[id as usize] {
        Node::Cast { to: DType::F32, arg, .. } => arg == sum,
        _ => false,
    };
    let (_, scale) = [(args[0], args[1]), (args[1], args[0])].into_iter().find(|pair| is_sum(pair.0))?;
    let sums = Sums::of(linear, sum, &data)?;
    let scale = Constant::of(linear, scale, &data)?;
    let below = |(least, most, at): (f64, f64, i64)| {
        let scale = scale.at(at).abs();
        least.abs().max(most.abs()) * scale < BOUND
    };
    sums.by(&scale.addr)?.all(below).then_some(product)
}

/// Whether the sums of a convolution stay below [`SUMS_OF_FOUR`] in every channel, where its number of products alone
/// does not say so.
pub fn small_sums<'a>(linear: &Linear, data: impl Fn(u32) -> Option<&'a [u8]>) -> bool {
    let large = |conv: &Conv| conv.couples && conv.most(linear) >= SUMS_OF_FOUR;
    let acc = linear.nodes.iter().position(|n| matches!(n, Node::Acc));
    let Some(acc) = acc.filter(|_| Conv::of(linear).is_some_and(|conv| large(&conv))) else { return false };
    let sum = added_first(linear).map_or(acc as u32, |(sum, _)| sum);
    let below = |(least, most, _): (f64, f64, i64)| least.abs().max(most.abs()) < SUMS_OF_FOUR as f64;
    let small = |sums: &Sums| sums.by(&Affine::constant(0)).is_some_and(|mut channels| channels.all(below));
    // Without the addend, too: not all of them are added to the products.
    Sums::of(linear, sum, &data).is_some_and(|sums| small(&sums) && small(&Sums { addend: None, ..sums }))
}

/// Sums of products of bytes by constants, and what is added to them.
pub struct Sums<'l, 'a> {
    linear: &'l Linear,
    weights: Constant<'a>,
    addend: Option<Constant<'a>>,
    /// What the other factor's bytes lie between.
    bytes: (f64, f64),
    /// The axes of which each point has its own weights or addend.
    vars: Vec<u32>,
    /// From a channel's first weight to each.
    steps: Vec<i64>,
    /// How often each is added.
    again: f64,
}

impl<'l, 'a> Sums<'l, 'a> {
    /// The sums that an expression is; `None` where it is something else, or its constants are not known.
    pub fn of(linear: &'l Linear, sum: u32, data: &impl Fn(u32) -> Option<&'a [u8]>) -> Option<Sums<'l, 'a>> {
        let addend = match added_first(linear) {
            Some((of, addend)) if of == sum => Some(Constant::of(linear, addend, data)?),
            _ => matches!(linear.nodes[sum as usize], Node::Acc).then_some(None)?,
        };
        let (weights, bytes) = weights(linear, &|id| Constant::of(linear, id, data))?;
        let follows = |v: u32| weights.follows(v) || addend.as_ref().is_some_and(|a| a.follows(v));
        let vars: Vec<u32> = linear.axes().filter(|&v| follows(v)).collect();
        let steps = weights.steps(linear);
        let again: usize =
            linear.reductions().filter(|&v| !weights.follows(v)).map(|v| linear.extent(v)).product();
        Some(Sums { linear, weights, addend, bytes, vars, steps, again: again as f64 })
    }

    /// What the sum of each channel lies between, and the element of another constant that belongs to it;
    /// `None` where that follows other axes.
    pub fn by(&self, other: &Affine) -> Option<impl Iterator<Item = (f64, f64, i64)>> {
        let channels: usize = self.vars.iter().map(|&v| self.linear.extent(v)).product();
        let known = other.terms.iter().all(|t| self.vars.contains(&t.0));
        known.then(|| {
            (0..channels).map(|channel| {
                let mut rest = channel;
                let digit = |&v: &u32| {
                    let digit = rest % self.linear.extent(v);
                    rest /= self.linear.extent(v);
                    (v, digit as i64)
                };
                let digits: Vec<(u32, i64)> = self.vars.iter().map(digit).collect();
                let place = |v: u32| digits.iter().find(|d| d.0 == v).map_or(0, |d| d.1);
                let (least, most) = self.range(place);
                (least, most, other.eval(place))
            })
        })
    }

    fn range(&self, place: impl Fn(u32) -> i64 + Copy) -> (f64, f64) {
        let first = self.weights.addr.eval(place);
        let (mut least, mut most) = (0.0, 0.0);
        for step in &self.steps {
            let weight = self.weights.at(first + step);
            let [a, b] = [weight * self.bytes.0, weight * self.bytes.1];
            least += a.min(b);
            most += a.max(b);
        }
        let addend = self.addend.as_ref().map_or(0.0, |a| a.at(a.addr.eval(place)));
        (least * self.again + addend, most * self.again + addend)
    }
}

/// The constant factor of a sum of products of bytes, and what the other one lies between.
fn weights<'a>(
    linear: &Linear,
    constant: &impl Fn(u32) -> Option<Constant<'a>>,
) -> Option<(Constant<'a>, (f64, f64))> {
    let Node::Op(Op::Mul, args) = &linear.nodes[linear.fold?.2 as usize] else { return None };
    let factor = |id: u32| {
        let id = linear.without_casts(id);
        let bytes = match linear.types[id as usize] {
            DType::I8 => (-128.0, 127.0),
            DType::U8 => (0.0, 255.0),
            _ => return None,
        };
        Some((id, bytes))
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
