//! What values an expression can have: for conversions and clamps that then need less.
//!
//! A quantized sum of products is bounded by its length, and so is its product with a constant
//! factor: the nearest integer of it fits a register, it is no NaN, and one clamp of integers remains
//! of what the definition says.

use crate::base::DType;
use crate::scalar::{Fold, Op, Scalar};
use crate::schedule::Linear;
use crate::schedule::linear::Node;

/// The numbers that a value lies between.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    /// The least.
    pub lo: f64,
    /// The largest.
    pub hi: f64,
    /// Whether it may be a NaN instead.
    pub nan: bool,
}

/// What bounded numbers are below.
pub const BOUND: f64 = (1 << 14) as f64;
/// More than a rounding of a float moves it, in parts of itself.
const ROUNDING: f64 = 1e-6;

impl Range {
    const UNKNOWN: Range = Range { lo: f64::NEG_INFINITY, hi: f64::INFINITY, nan: true };

    fn new(lo: f64, hi: f64) -> Range {
        Range { lo, hi, nan: false }
    }

    /// All values of an element type.
    pub fn of(dtype: DType) -> Range {
        match dtype.is_int() {
            true => Range::new(Scalar::lowest(dtype).to_f64(), Scalar::highest(dtype).to_f64()),
            false => Range::UNKNOWN,
        }
    }

    /// Whether each value that is a number lies in another range.
    pub fn inside(self, other: Range) -> bool {
        other.lo <= self.lo && self.hi <= other.hi
    }

    fn hull(values: &[f64], nan: bool) -> Range {
        match values.iter().any(|v| v.is_nan()) {
            true => Range::UNKNOWN,
            false => Range {
                lo: values.iter().copied().fold(f64::INFINITY, f64::min),
                hi: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
                nan,
            },
        }
    }

    /// What an operation of a type gives: floats round, integers wrap.
    fn computed(self, dtype: DType) -> Range {
        if dtype.is_int() {
            return if self.inside(Range::of(dtype)) { self } else { Range::of(dtype) };
        }
        let wider = Range {
            lo: self.lo - self.lo.abs() * ROUNDING,
            hi: self.hi + self.hi.abs() * ROUNDING,
            nan: self.nan,
        };
        let finite = wider.lo >= f64::from(f32::MIN) && wider.hi <= f64::from(f32::MAX);
        if finite { wider } else { Range::UNKNOWN }
    }
}

/// The range of an expression.
pub fn range(linear: &Linear, id: u32) -> Range {
    Ranges { linear, known: vec![None; id as usize + 1] }.of(id)
}

struct Ranges<'a> {
    linear: &'a Linear,
    known: Vec<Option<Range>>,
}

impl Ranges<'_> {
    fn of(&mut self, id: u32) -> Range {
        if let Some(known) = self.known[id as usize] {
            return known;
        }
        let dtype = self.linear.types[id as usize];
        if self.linear.facts.bounded == Some(id) {
            return Range::new(-BOUND, BOUND);
        }
        if let Some(fixed) = self.linear.facts.fixed.filter(|f| f.product == id) {
            let (sum, whole) = (self.of(fixed.sum), f64::from(1 << fixed.shift));
            return Range { lo: sum.lo / whole, hi: sum.hi / whole, nan: false };
        }
        let range = match &self.linear.nodes[id as usize] {
            _ if !(dtype == DType::F32 || dtype.is_int() && dtype.bits() <= 32) => Range::UNKNOWN,
            Node::Const(s) => Range::hull(&[s.to_f64()], false),
            Node::Acc => self.folded(dtype),
            // Wherever it is read, unless something else stands outside.
            Node::Load { operand, dynamic, guards, fill, .. } => {
                let known = self.linear.buffers[*operand as usize].magnitude;
                let inside = guards.is_empty() && (dynamic.is_empty() || fill.is_none());
                match known.filter(|_| inside) {
                    Some(known) => Range::new(-2f64.powi(known.below), 2f64.powi(known.below)),
                    None => Range::of(dtype),
                }
            }
            Node::Op(Op::Div, args) if dtype == DType::F32 => match divisor(self.linear, args[1]) {
                Some((least, _)) => {
                    let a = self.of(args[0]);
                    let most = a.lo.abs().max(a.hi.abs()) / least;
                    Range { lo: -most, hi: most, nan: a.nan }.computed(dtype)
                }
                None => Range::UNKNOWN,
            },
            Node::Op(op, args) => {
                let args: Vec<Range> = args.clone().into_iter().map(|a| self.of(a)).collect();
                operation(*op, &args).map_or(Range::of(dtype), |r| r.computed(dtype))
            }
            Node::Cast { to, arg, .. } => self.cast(*arg, *to),
            Node::Index(_) | Node::Bitcast { .. } | Node::Lookup { .. } => Range::of(dtype),
        };
        self.known[id as usize] = Some(range);
        range
    }

    fn cast(&mut self, arg: u32, to: DType) -> Range {
        let from = self.linear.types[arg as usize];
        let value = self.of(arg);
        match (from.is_int(), to.is_int()) {
            (true, false) => value.computed(to),
            (true, true) if value.inside(Range::of(to)) => value,
            // Saturates, and a NaN becomes 0.
            (false, true) if from == DType::F32 => {
                let all = Range::of(to);
                Range::new(value.lo.trunc().clamp(all.lo, 0.0), value.hi.trunc().clamp(0.0, all.hi))
            }
            _ => Range::of(to),
        }
    }

    /// Sums of integers that cannot wrap, and of floats in any order; the largest and the least.
    fn folded(&mut self, dtype: DType) -> Range {
        let Some((fold, _, body)) = self.linear.fold else { return Range::of(dtype) };
        // The body's expressions may be numbered after the ones asked for.
        let term = range(self.linear, body);
        let points: f64 = self.linear.reductions().map(|v| self.linear.extent(v) as f64).product();
        match (fold, dtype) {
            (Fold::Sum, DType::I32) => {
                Range::new(term.lo.min(0.0) * points, term.hi.max(0.0) * points).computed(dtype)
            }
            (Fold::Sum, DType::F32) if !term.nan && points * ROUNDING < 1.0 => {
                let all = 2.0 * points;
                Range::new(term.lo.min(0.0) * all, term.hi.max(0.0) * all).computed(dtype)
            }
            _ => Range::of(dtype),
        }
    }
}

/// The least magnitude of a divisor that is known and far from zero and from what floats hold, and one that none
/// exceeds.
pub fn divisor(linear: &Linear, id: u32) -> Option<(f64, f64)> {
    let (least, below) = match &linear.nodes[id as usize] {
        Node::Const(s) => (s.to_f64().abs(), s.to_f64().abs()),
        Node::Load { operand, guards, dynamic, .. } if guards.is_empty() && dynamic.is_empty() => {
            let known = linear.buffers[*operand as usize].magnitude?;
            (2f64.powi(known.least), 2f64.powi(known.below))
        }
        _ => return None,
    };
    (linear.types[id as usize] == DType::F32 && least > 1e-30 && below < 1e30).then_some((least, below))
}

/// What an operation on real numbers gives; `None` where nothing is known of it.
fn operation(op: Op, args: &[Range]) -> Option<Range> {
    let nan = args.iter().any(|a| a.nan);
    let (a, b) = (*args.first()?, *args.last()?);
    Some(match op {
        Op::Neg => Range { lo: -a.hi, hi: -a.lo, nan },
        Op::Sigmoid => Range { lo: 0.0, hi: 1.0, nan },
        Op::Tanh | Op::Erf => Range { lo: -1.0, hi: 1.0, nan },
        Op::Exp => Range { lo: a.lo.exp(), hi: a.hi.exp(), nan },
        Op::Log if a.lo > 0.0 => Range { lo: a.lo.ln(), hi: a.hi.ln(), nan },
        Op::Sqrt if a.lo >= 0.0 => Range { lo: a.lo.sqrt(), hi: a.hi.sqrt(), nan },
        Op::Add => Range::hull(&[a.lo + b.lo, a.hi + b.hi], nan),
        Op::Sub => Range::hull(&[a.lo - b.hi, a.hi - b.lo], nan),
        Op::Mul => Range::hull(&[a.lo * b.lo, a.lo * b.hi, a.hi * b.lo, a.hi * b.hi], nan),
        Op::Max => Range { lo: a.lo.max(b.lo), hi: a.hi.max(b.hi), nan },
        Op::Min => Range { lo: a.lo.min(b.lo), hi: a.hi.min(b.hi), nan },
        Op::Round | Op::Floor | Op::Ceil | Op::Trunc => Range { lo: a.lo.floor(), hi: a.hi.ceil(), nan },
        Op::Select => {
            let (yes, no) = (args[1], args[2]);
            Range { lo: yes.lo.min(no.lo), hi: yes.hi.max(no.hi), nan: yes.nan || no.nan }
        }
        _ => return None,
    })
}
