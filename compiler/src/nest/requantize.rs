//! Quantization in integer registers.
//!
//! Before: `u8(min(max(round(y) + zero, 0), 255))` with floats throughout. Where `y` is known to be a
//! number that is not too large ([`super::range`]), the nearest integer is one instruction, and zero
//! point and clamp follow in integers, where encoders narrow and clamp at once. The same values:
//! what rounds in the float sum lies far outside of the clamp.
//!
//! A quotient by a constant is a product with its reciprocal, corrected by what that leaves of the
//! dividend: rounded correctly (Markstein, IBM J. Res. Dev. 34, 1990), where nothing overflows. Of a dividend of which
//! nothing is known, what lies so far out that it ends at a limit is limited before.

use super::range::{BOUND, divisor, range};
use crate::base::DType;
use crate::scalar::{Op, Scalar};
use crate::schedule::Linear;
use crate::schedule::linear::{Node, Pair};

/// Numbers of this magnitude convert exactly, and have room for a zero point.
const FITS: f64 = (1 << 30) as f64;
/// Sums of floats up to here are exact for integers.
const EXACT: f64 = (1 << 23) as f64;

/// The conversion of a float to a narrow integer, taken apart.
pub struct Requantized {
    /// What is rounded.
    pub value: u32,
    pub(super) zero: Zero,
    pub(super) lo: i64,
    pub(super) hi: i64,
    /// The magnitude that the dividend is limited to before it is divided.
    pub(super) within: Option<f64>,
}

/// A zero point.
pub(super) enum Zero {
    Known(i64),
    /// An integer expression.
    Value(u32),
}

impl Requantized {
    /// Takes apart the argument of a conversion to `to`; `None` where it has another form or its
    /// range is not known.
    pub fn of(linear: &Linear, arg: u32, to: DType) -> Option<Requantized> {
        Requantized::parts(linear, arg, to).filter(|found| found.is_bounded(linear))
    }

    /// The same; or a quotient by a constant, whose dividend may be anything.
    pub fn limited(linear: &Linear, arg: u32, to: DType) -> Option<Requantized> {
        let found = Requantized::parts(linear, arg, to)?;
        if found.is_bounded(linear) {
            return Some(found);
        }
        let Node::Op(Op::Div, args) = &linear.nodes[found.value as usize] else { return None };
        let (least, below) = divisor(linear, args[1])?;
        let zero = match found.zero {
            Zero::Known(n) => n.abs() as f64,
            Zero::Value(id) => {
                let known = range(linear, id);
                known.lo.abs().max(known.hi.abs())
            }
        };
        let beyond = zero + found.lo.abs().max(found.hi.abs()) as f64 + 1.0;
        let within = 2f64.powi(beyond.log2().ceil() as i32) * below;
        (within / least <= BOUND).then_some(Requantized { within: Some(within), ..found })
    }

    /// Whether what is rounded is a number that is not too large.
    fn is_bounded(&self, linear: &Linear) -> bool {
        let known = range(linear, self.value);
        !known.nan && known.lo >= -FITS && known.hi <= FITS
    }

    fn parts(linear: &Linear, arg: u32, to: DType) -> Option<Requantized> {
        if !to.is_int() || to.bits() > 16 || linear.types[arg as usize] != DType::F32 {
            return None;
        }
        let (inner, lo, hi) = clamped(linear, arg, to)?;
        let round = |e: u32| match &linear.nodes[e as usize] {
            Node::Op(Op::Round, args) => Some(args[0]),
            _ => None,
        };
        let (value, zero) = match &linear.nodes[inner as usize] {
            Node::Op(Op::Add, args) => {
                let either = |n: usize, z: usize| Some((round(args[n])?, integer(linear, args[z])?));
                either(0, 1).or_else(|| either(1, 0))?
            }
            _ => (round(inner)?, Zero::Known(0)),
        };
        Some(Requantized { value, zero, lo, hi, within: None })
    }

    /// The integers above which others are, for every zero point; `data` gives the bytes of constant operands.
    pub fn steps<'a>(
        &self,
        linear: &Linear,
        data: impl Fn(u32) -> Option<&'a [u8]>,
    ) -> Option<std::ops::Range<i64>> {
        let (least, most) = match (self.zero(linear, data), &self.zero) {
            (Some(n), _) | (None, &Zero::Known(n)) => (n, n),
            (None, &Zero::Value(id)) => {
                let known = range(linear, id);
                (known.lo as i64, known.hi as i64)
            }
        };
        Some(self.lo.checked_sub(most)?..self.hi.checked_sub(least)?)
    }

    /// The zero point, where it is known.
    pub fn zero<'a>(&self, linear: &Linear, data: impl Fn(u32) -> Option<&'a [u8]>) -> Option<i64> {
        let id = match self.zero {
            Zero::Known(n) => return Some(n),
            Zero::Value(id) => id,
        };
        let Node::Load { operand, .. } = &linear.nodes[id as usize] else { return None };
        match (data(*operand)?, linear.types[id as usize]) {
            (&[byte], DType::I8) => Some(i64::from(byte as i8)),
            (&[byte], DType::U8) => Some(i64::from(byte)),
            _ => None,
        }
    }

    /// Whether the limits are those of a type.
    pub(super) fn limits(&self, to: DType) -> bool {
        (self.lo, self.hi) == (Scalar::lowest(to).to_i64(), Scalar::highest(to).to_i64())
    }

    /// The zero point, where it is the value of an expression.
    pub fn zero_value(&self) -> Option<u32> {
        match self.zero {
            Zero::Known(_) => None,
            Zero::Value(id) => Some(id),
        }
    }

    pub(super) fn pair(&self, linear: &Linear) -> Option<Pair> {
        linear.facts.pair.filter(|p| p.value == self.value)
    }
}

/// `c - z`, where `c` is a conversion with the zero point `z`: that conversion. `fused`: the target multiplies and adds
/// at once, and so divides what may be anything, too.
pub fn less_zero(linear: &Linear, op: Op, args: &[u32], fused: bool) -> Option<Requantized> {
    let (Op::Sub, &[integers, zero]) = (op, args) else { return None };
    let [integers, zero] = [integers, zero].map(|id| narrow(linear, id));
    let Node::Cast { to, arg, .. } = linear.nodes[integers as usize] else { return None };
    let found = match fused {
        true => Requantized::limited(linear, arg, to)?,
        false => Requantized::of(linear, arg, to)?,
    };
    let same = match (&found.zero, &linear.nodes[zero as usize]) {
        (Zero::Value(id), _) => *id == zero,
        (Zero::Known(n), Node::Const(s)) => s.to_i64() == *n,
        _ => false,
    };
    same.then_some(found)
}

/// The conversions whose zero point is an expression's value, and is taken off again.
pub fn taken_back(linear: &Linear, zero: u32, fused: bool) -> impl Iterator<Item = Requantized> {
    let found = linear.nodes.iter().filter_map(move |n| match n {
        Node::Op(op, args) => less_zero(linear, *op, args, fused),
        _ => None,
    });
    found.filter(move |integers| integers.zero_value() == Some(zero))
}

/// An integer before it is widened to 32 bits.
pub(super) fn narrow(linear: &Linear, mut id: u32) -> u32 {
    while let Node::Cast { to: DType::I32, arg, .. } = linear.nodes[id as usize] {
        let from = linear.types[arg as usize];
        if !from.is_int() || from.bits() > 16 {
            break;
        }
        id = arg;
    }
    id
}

/// Whether an expression is what quantized values are divided by.
pub fn divides(linear: &Linear, id: u32) -> bool {
    let by = |n: &Node| match n {
        Node::Cast { to, arg, .. } => match Requantized::limited(linear, *arg, *to) {
            Some(found) => {
                let whole = found.pair(linear).is_none();
                whole
                    && matches!(&linear.nodes[found.value as usize], Node::Op(Op::Div, args) if args[1] == id)
            }
            None => false,
        },
        _ => false,
    };
    divisor(linear, id).is_some() && linear.nodes.iter().any(by)
}

/// What is clamped, and to which integers: the type's own range at most.
fn clamped(linear: &Linear, mut id: u32, to: DType) -> Option<(u32, i64, i64)> {
    let (mut lo, mut hi) = (Scalar::lowest(to).to_f64(), Scalar::highest(to).to_f64());
    while let Node::Op(op @ (Op::Min | Op::Max), args) = &linear.nodes[id as usize] {
        let number = |e: u32| match &linear.nodes[e as usize] {
            Node::Const(s) => Some(s.to_f64()).filter(|n| n.fract() == 0.0),
            _ => None,
        };
        let (limit, inner) = match (number(args[0]), number(args[1])) {
            (Some(limit), _) => (limit, args[1]),
            (_, Some(limit)) => (limit, args[0]),
            _ => return None,
        };
        if *op == Op::Min {
            hi = hi.min(limit)
        } else {
            lo = lo.max(limit)
        }
        id = inner;
    }
    // In whatever order limits come that leave something between them.
    (lo <= hi).then_some((id, lo as i64, hi as i64))
}

/// A zero point: a float that is an integer, small enough for sums to be exact.
fn integer(linear: &Linear, id: u32) -> Option<Zero> {
    let known = range(linear, id);
    if known.nan || known.lo < -EXACT || known.hi > EXACT {
        return None;
    }
    match &linear.nodes[id as usize] {
        Node::Const(s) => Some(s.to_f64()).filter(|n| n.fract() == 0.0).map(|n| Zero::Known(n as i64)),
        Node::Cast { arg, .. } => {
            if let Node::Const(s) = &linear.nodes[*arg as usize] {
                return linear.types[*arg as usize].is_int().then(|| Zero::Known(s.to_i64()));
            }
            let from = linear.types[*arg as usize];
            (from.is_int() && from.bits() <= 32).then_some(Zero::Value(*arg))
        }
        _ => None,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::{Nested, bounded, fix, nest, place};
    use super::*;
    use crate::base::TensorType;
    use crate::definition::{DefBuilder, Definition, ExprId};
    use crate::scalar::Fold;
    use crate::scalar::fixed::settled;
    use crate::schedule::linear::{Buffer, Layout, Magnitude};
    use crate::schedule::{Schedule, choose::choose};
    use crate::target::resolve;

    const SHAPE: (usize, usize, usize) = (9, 37, 29);

    /// `i8(round((silu(q((a * w + bias) * scale)) + r) / divisor) - 3)`, where `q` rounds to bytes with a zero point
    /// that is taken back; or without the last two operands, `q` and SiLU.
    fn product(residual: bool) -> Definition {
        let (m, n, k) = SHAPE;
        let ty = |dtype, shape: &[usize]| TensorType::new(dtype, shape);
        let (a, w, y) = (ty(DType::U8, &[m, k]), ty(DType::I8, &[k, n]), ty(DType::I8, &[m, n]));
        let mut b = DefBuilder::new(&y.shape);
        let (row, column, depth) = (b.var(0), b.var(1), b.reduce("k", k));
        let left = b.load(0, &a, vec![row.clone(), depth.clone()]);
        let right = b.load(1, &w, vec![depth, column.clone()]);
        let (left, right) = (b.cast(DType::I32, left), b.cast(DType::I32, right));
        let term = b.op(Op::Mul, &[left, right]);
        let acc = b.fold(Fold::Sum, term);
        let bias = b.load(2, &ty(DType::I32, &[n]), vec![column.clone()]);
        let sum = b.op(Op::Add, &[acc, bias]);
        let sum = b.cast(DType::F32, sum);
        let scale = b.load(3, &ty(DType::F32, &[n]), vec![column.clone()]);
        let mut value = b.op(Op::Mul, &[sum, scale]);
        if residual {
            let r = b.load(4, &y, vec![row, column]);
            let r = b.cast(DType::F32, r);
            let bytes = b.op(Op::Round, &[value]);
            let bytes = quantized(&mut b, bytes, 5.0);
            let (bytes, zero) = (b.cast(DType::I32, bytes), b.number(DType::I8, 5.0));
            let zero = b.cast(DType::I32, zero);
            let bytes = b.op(Op::Sub, &[bytes, zero]);
            value = b.cast(DType::F32, bytes);
            let share = b.op(Op::Sigmoid, &[value]);
            value = b.op(Op::Mul, &[value, share]);
            value = b.op(Op::Add, &[value, r]);
            let divisor = b.load(5, &ty(DType::F32, &[]), vec![]);
            value = b.op(Op::Div, &[value, divisor]);
        }
        let nearest = b.op(Op::Round, &[value]);
        let narrow = quantized(&mut b, nearest, -3.0);
        b.finish("product", 6, &y, narrow)
    }

    /// What was rounded, as bytes.
    pub(in super::super) fn quantized(b: &mut DefBuilder, nearest: ExprId, zero: f64) -> ExprId {
        let zero = b.number(DType::F32, zero);
        let moved = b.op(Op::Add, &[nearest, zero]);
        let (lo, hi) = (b.number(DType::F32, -128.0), b.number(DType::F32, 127.0));
        let above = b.op(Op::Max, &[moved, lo]);
        let inside = b.op(Op::Min, &[above, hi]);
        b.cast(DType::I8, inside)
    }

    fn data(operand: usize, elems: usize, dtype: DType) -> Vec<u8> {
        let number = |i: usize| (i * 37 + i / 7 * 11 + operand * 5) % 251;
        let bytes = |i: usize| match dtype {
            DType::I32 => (number(i) as i32 * 8 - 1000).to_le_bytes().to_vec(),
            DType::F32 => {
                let scale = 0.003 + 0.00001 * number(i) as f32;
                let settled = settled(scale, |s| vec![s], 7, &(-1 << 20..=1 << 20), -126..131);
                settled.to_le_bytes().to_vec()
            }
            _ => vec![number(i) as u8],
        };
        match operand {
            5 => 1.3f32.to_le_bytes().to_vec(),
            _ => (0..elems).flat_map(bytes).collect(),
        }
    }

    #[test]
    fn what_may_be_large_is_not_bounded() {
        let def = product(false);
        let layouts: Vec<Layout> = def.operands.iter().map(|o| Layout::dense(&o.ty.shape)).collect();
        let constant: Vec<bool> = (0..layouts.len()).map(|i| matches!(i, 1..=3)).collect();
        let mut linear = Linear::new(&def, &layouts, &constant, &Layout::dense(&def.output.ty.shape));
        linear.buffers[2].magnitude = Some(Magnitude { least: i32::MIN, below: 11 });
        linear.buffers[3].magnitude = Some(Magnitude { least: -9, below: 1 });
        let mut bytes: Vec<Vec<u8>> =
            linear.buffers.iter().enumerate().map(|(i, b)| data(i, b.elems, b.dtype)).collect();
        let bounded = |bytes: &[Vec<u8>]| {
            bounded(&linear, |i| constant[i as usize].then(|| bytes[i as usize].as_slice()))
        };
        assert!(bounded(&bytes).is_some());
        // The scale of the last channel.
        bytes[3].truncate(4 * (SHAPE.1 - 1));
        bytes[3].extend(1f32.to_le_bytes());
        assert!(bounded(&bytes).is_none());
    }

    fn run(linear: &Linear, schedule: &Schedule) -> (Nested, Vec<u8>) {
        run_with(linear, schedule, |_| None)
    }

    fn run_with(
        linear: &Linear,
        schedule: &Schedule,
        instead: impl Fn(usize) -> Option<Vec<u8>>,
    ) -> (Nested, Vec<u8>) {
        let nested = nest(linear, schedule, true, 1).unwrap();
        crate::tile::verify(&nested.kernel).unwrap_or_else(|e| panic!("{e}"));
        let operands = linear.buffers.iter().enumerate();
        let mut buffers: Vec<Vec<u8>> = operands
            .map(|(i, b)| {
                let data = instead(i).unwrap_or_else(|| data(i, b.elems, b.dtype));
                nested.packed(linear, i as u32, &data).unwrap_or(data)
            })
            .collect();
        buffers.push(vec![0; linear.output.elems]);
        buffers.push(vec![0; nested.between * 4]);
        buffers.truncate(nested.kernel.params.len());
        assert_eq!(crate::tile::interpret(&nested.kernel, &mut buffers).unwrap(), 0);
        (nested, buffers.swap_remove(linear.buffers.len()))
    }

    #[test]
    fn what_is_known_of_constants_leaves_integers_and_the_same_bits() {
        for residual in [false, true] {
            let def = product(residual);
            let layouts: Vec<Layout> = def.operands.iter().map(|o| Layout::dense(&o.ty.shape)).collect();
            let constant: Vec<bool> = (0..layouts.len()).map(|i| matches!(i, 1 | 2 | 3 | 5)).collect();
            let out = Layout::dense(&def.output.ty.shape);
            let unknown = Linear::new(&def, &layouts, &constant, &out);
            let (plain, expected) = run(&unknown, &Schedule::naive(&unknown));
            assert!(plain.kernel.to_string().contains("round"));
            let mut linear = unknown.clone();
            let known = [(2, i32::MIN, 11), (3, -9, -7), (5, 0, 1)];
            for (operand, least, below) in known.into_iter().take(2 + usize::from(residual)) {
                linear.buffers[operand].magnitude = Some(Magnitude { least, below });
            }
            let bytes: Vec<Vec<u8>> =
                (linear.buffers.iter().enumerate()).map(|(i, b)| data(i, b.elems, b.dtype)).collect();
            let small = bounded(&linear, |i| constant[i as usize].then(|| bytes[i as usize].as_slice()));
            assert_eq!(small.is_some(), !residual, "a product of a sum and a scale");
            linear.facts.bounded = small;
            let mut fixed = linear.clone();
            let factors = fix(&mut fixed, |i| constant[i as usize].then(|| bytes[i as usize].as_slice()));
            assert_eq!(factors.is_some(), !residual, "a product of a sum and a scale");
            if let Some((operand, factors)) = factors {
                let schedule = choose(&fixed, &resolve("aarch64", "cortex-a53").unwrap());
                let (nested, got) =
                    run_with(&fixed, &schedule, |i| (i == operand as usize).then(|| factors.clone()));
                let text = nested.kernel.to_string();
                assert!(text.contains("shr_round") && !text.contains("nearest"), "{text}");
                assert_eq!(got, expected, "{text}");
            }
            for cpu in ["x86-64-v4", "x86-64-v3"] {
                let mut placed = linear.clone();
                let given = |i: u32| constant[i as usize].then(|| bytes[i as usize].as_slice());
                let new = place(&mut placed, given, |_| true);
                let new = new.expect("numbers for every channel");
                let schedule = choose(&placed, &resolve("x86_64", cpu).unwrap());
                let other = |i: usize| new.iter().find(|n| n.0 as usize == i).map(|n| n.1.clone());
                let (nested, got) = run_with(&placed, &schedule, other);
                let text = nested.kernel.to_string();
                assert!(text.contains("mla") && (residual || !text.contains("nearest")), "{text}");
                assert_eq!(got, expected, "{cpu}: {text}");
            }
            for (triple, cpu) in [("x86_64", "x86-64-v4"), ("x86_64", "x86-64-v3"), ("aarch64", "cortex-a53")]
            {
                let schedule = choose(&linear, &resolve(triple, cpu).unwrap());
                let (nested, got) = run(&linear, &schedule);
                let text = nested.kernel.to_string();
                assert!(text.contains("nearest") && !text.contains("round"), "{text}");
                assert!(residual || text.contains("nearest_small"), "{text}");
                assert!(!residual || text.contains("-133"), "the zero point moves the limits: {text}");
                assert_eq!(got, expected, "{cpu}: {text}");
            }
        }
    }

    /// What made a table's index of a byte is left behind unused, and does not count as what takes its zero point off;
    /// nor does it matter what is computed with the entry.
    #[test]
    fn offsets_hold_zero_points_of_bytes_that_are_looked_up() {
        check_looked_up(false);
        check_looked_up(true);
    }

    /// A product's bytes looked up in a table, and stored; `inside`: by way of other integers.
    fn check_looked_up(inside: bool) {
        let def = product(false);
        let layouts: Vec<Layout> = def.operands.iter().map(|o| Layout::dense(&o.ty.shape)).collect();
        let constant: Vec<bool> = (0..layouts.len()).map(|i| matches!(i, 1..=3)).collect();
        let mut linear = Linear::new(&def, &layouts, &constant, &Layout::dense(&def.output.ty.shape));
        let plain = run(&linear, &Schedule::naive(&linear)).1;
        for (operand, least, below) in [(2, i32::MIN, 11), (3, -9, -7)] {
            linear.buffers[operand].magnitude = Some(Magnitude { least, below });
        }
        let (byte, table) = (linear.finish, linear.buffers.len() as u32);
        let elems = crate::tile::TABLE;
        linear.buffers.push(Buffer { elems, constant: true, ..linear.buffers[1].clone() });
        let lookup = Node::Lookup { operand: table, arg: byte };
        let unsigned = Node::Bitcast { to: DType::U8, arg: byte };
        let index = Node::Cast { to: DType::I64, saturate: false, arg: byte + 1 };
        linear.nodes.extend([unsigned, index, lookup]);
        linear.types.extend([DType::U8, DType::I64, DType::I8]);
        if inside {
            linear.nodes.push(Node::Cast { to: DType::I32, saturate: false, arg: byte + 3 });
            linear.nodes.push(Node::Cast { to: DType::I8, saturate: false, arg: byte + 4 });
            linear.types.extend([DType::I32, DType::I8]);
        }
        linear.finish = linear.nodes.len() as u32 - 1;
        let bytes: Vec<Vec<u8>> =
            (linear.buffers.iter().enumerate()).map(|(i, b)| data(i, b.elems, b.dtype)).collect();
        let given = |i: u32| (i > 0).then(|| bytes[i as usize].as_slice());
        linear.facts.bounded = bounded(&linear, given);
        let new = place(&mut linear, given, |_| true);
        let new = new.expect("numbers for every channel");
        assert!(linear.facts.placed.unwrap().whole, "{linear}");
        let looked_up: Vec<u8> = plain.iter().map(|&b| bytes[table as usize][b as usize]).collect();
        for cpu in ["x86-64-v4", "x86-64-v3"] {
            let schedule = choose(&linear, &resolve("x86_64", cpu).unwrap());
            let other = |i: usize| new.iter().find(|n| n.0 as usize == i).map(|n| n.1.clone());
            let (nested, got) = run_with(&linear, &schedule, other);
            assert_eq!(got, looked_up, "{cpu}: {}", nested.kernel);
        }
    }
}
