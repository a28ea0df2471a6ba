//! Expressions to registers: lane types, narrow integers, conversions.

mod limits;
mod load;
pub(super) mod requantize;

use super::emit::{Emitter, addr};
use super::half;
use super::range::{Range, range};
use super::registers::constant;
use super::requantize::{Requantized, less_zero};
use crate::base::{Affine, DType};
use crate::scalar::Op;
use crate::schedule::Linear;
use crate::schedule::linear::Node;
use crate::tile::{Bin, Lane, Reg, RegType, Value};
use requantize::Site;

/// Where the variables of the definition stand at one point of the tile.
pub struct Point<'a> {
    /// Each variable as a form in the kernel's loop variables; for the vector variable, lane 0.
    pub place: &'a [Affine],
    /// The variable that runs along the lanes.
    pub vector: Option<u32>,
    /// Lanes computed.
    pub lanes: usize,
    /// The folded value.
    pub acc: Option<Reg>,
    /// What is known of the guards here.
    pub guards: Guards,
    /// Loads that walk a reduction axis by 1 and not the vector axis are made for several of its
    /// points at once, and each is broadcast from its lane.
    pub group: Option<Group>,
    /// Elements between the start of the tile and this point along the vector axis.
    pub chunk: i64,
}

impl Point<'_> {
    /// The address of the first of the points that are loaded together.
    pub fn start_of(&self, group: &Group, form: &Affine) -> Affine {
        form.map_vars(|v| match v == group.var {
            true => group.start.clone(),
            false => self.place[v as usize].clone(),
        })
    }
}

/// What is known of the guards at a point.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Guards {
    /// Nothing: they are tested.
    Tested,
    /// The indices lie inside.
    Inside,
    /// Some index lies outside: guarded loads give their fill.
    Outside,
}

/// Neighbouring points of a reduction axis that are loaded together.
#[derive(Clone)]
pub struct Group {
    /// The reduction axis.
    pub var: u32,
    /// Place of the first of them.
    pub start: Affine,
    /// How many.
    pub lanes: u8,
    /// Which of them this point is.
    pub lane: u8,
}

/// Where an element of a packed operand is.
pub struct PackedAt {
    /// Its address.
    pub index: Affine,
    /// Whether it is the second of two elements of four bits at that address; `None`: it is alone.
    pub second: Option<bool>,
    /// Bytes from a lane's word to the next one's, of a factor of products of bytes.
    pub word: usize,
}

/// How an operand's addresses are rewritten: packed operands are read in another order.
pub type Packed<'a> = dyn Fn(u32, &Point) -> Option<PackedAt> + 'a;

/// Emits the expressions of one definition.
pub struct Exprs<'a> {
    /// The definition.
    pub linear: &'a Linear,
    /// Rewrites addresses of packed operands.
    pub packed: &'a Packed<'a>,
    /// Code that a failed bounds check returns.
    pub index_error: i32,
    /// The expression that the folded value is already: accumulators began with what it adds.
    pub started: Option<u32>,
}

/// The register that holds the expression `id`, an operation.
fn operation(at: &mut Site, id: u32, (op, args): (Op, &[u32])) -> Reg {
    let (exprs, dtype) = (at.exprs, at.exprs.linear.types[id as usize]);
    if let Some(integers) = less_zero(exprs.linear, op, args, at.e.fused()).filter(|_| dtype == DType::I32) {
        return integers.emit_less_zero(at);
    }
    if let Some(limited) = limits::emit(at, id) {
        return limited;
    }
    let from = exprs.linear.types[args[args.len() - 1] as usize];
    let regs: Vec<Reg> = args.iter().map(|&a| at.eval(a)).collect();
    let exact = exprs.min_max_with_constant(at.e, op, args, &regs);
    let result = exact.unwrap_or_else(|| super::ops::operation(at.e, op, from, &regs));
    if half::keeps(op) { result } else { super::ops::round_half(at.e, result, dtype) }
}

impl Exprs<'_> {
    /// The register that holds an expression at a point. Expressions that do not depend on the
    /// vector variable are computed in every lane alike, but for the indices of loads.
    pub fn eval(&self, e: &mut Emitter, id: u32, point: &Point) -> Reg {
        let mut memo = vec![None; id as usize + 1];
        self.eval_memo(e, id, point, &mut memo)
    }

    pub(super) fn eval_memo(
        &self,
        e: &mut Emitter,
        id: u32,
        point: &Point,
        memo: &mut Vec<Option<Reg>>,
    ) -> Reg {
        if let Some(reg) = memo[id as usize] {
            return reg;
        }
        if let (Some(acc), true) = (point.acc, self.started == Some(id)) {
            return acc;
        }
        let dtype = self.linear.types[id as usize];
        let reg = match &self.linear.nodes[id as usize] {
            Node::Const(s) => constant(e, *s, point.lanes),
            Node::Index(form) => self.index(e, form, Lane::I64, point),
            Node::Acc => point.acc.unwrap_or(0),
            Node::Load { operand, addr, dynamic, guards, fill } => {
                self.load(e, (*operand, addr, dynamic, guards, *fill), dtype, point)
            }
            Node::Op(op, args) => operation(&mut Site { exprs: self, e, point, memo }, id, (*op, args)),
            Node::Cast { to, saturate, arg } => {
                let from = self.linear.types[*arg as usize];
                if let Some(form) = self.linear.narrow_index(id) {
                    let index = self.index(e, form, Lane::I32, point);
                    super::ops::cast(e, index, DType::I32, *to, *saturate)
                } else if let Some(integers) = self.requantized(e, *arg, *to) {
                    integers.emit(&mut Site { exprs: self, e, point, memo })
                } else {
                    let value = self.eval_memo(e, *arg, point, memo);
                    match half::holds(self.linear, *arg, *to) || half::later(self.linear, id) {
                        true => value,
                        false => super::ops::cast(e, value, from, self.cast_to(*arg, *to), *saturate),
                    }
                }
            }
            Node::Lookup { operand, arg } => {
                let byte = self.eval_memo(e, *arg, point, memo);
                e.value(e.ty(byte), Value::Lookup(addr(*operand, Affine::constant(0)), byte))
            }
            Node::Bitcast { to, arg } => {
                let from = self.linear.types[*arg as usize];
                let value = self.eval_memo(e, *arg, point, memo);
                super::ops::bitcast(e, value, from, *to)
            }
        };
        memo[id as usize] = Some(reg);
        reg
    }

    /// The conversion to a narrow integer, taken apart.
    fn requantized(&self, e: &Emitter, arg: u32, to: DType) -> Option<Requantized> {
        match e.fused() {
            true => Requantized::limited(self.linear, arg, to),
            false => Requantized::of(self.linear, arg, to),
        }
    }

    /// The type to convert to in a register: a narrow one whose range a value does not leave is `i32`,
    /// which needs no clamp.
    fn cast_to(&self, arg: u32, to: DType) -> DType {
        let from = self.linear.types[arg as usize];
        let lanes = from == DType::F32 || from.is_int() && from.bits() <= 32;
        let narrow = to.is_int() && to.bits() < 32;
        match narrow && lanes && range(self.linear, arg).inside(Range::of(to)) {
            true => DType::I32,
            false => to,
        }
    }

    fn index(&self, e: &mut Emitter, form: &Affine, lane: Lane, point: &Point) -> Reg {
        let step = point.vector.map_or(0, |v| form.coefficient(v));
        e.value(RegType { lane, lanes: point.lanes as u8 }, Value::Index(self.place(form, point), step))
    }

    /// `max(x, constant)` of floats keeps a NaN of `x` without a test for it when the constant
    /// comes first: the comparison is then false, which gives the second operand.
    pub(super) fn min_max_with_constant(
        &self,
        e: &mut Emitter,
        op: Op,
        args: &[u32],
        regs: &[Reg],
    ) -> Option<Reg> {
        let bin = match op {
            Op::Max => Bin::Max,
            Op::Min => Bin::Min,
            _ => return None,
        };
        let (number, other) = if self.is_number(args[0]) { (0, 1) } else { (1, 0) };
        self.is_number(args[number])
            .then(|| e.value(e.ty(regs[0]), Value::Bin(bin, regs[number], regs[other])))
    }

    /// Whether an expression is a constant float, as such or from another type of floats, and no NaN.
    fn is_number(&self, id: u32) -> bool {
        match &self.linear.nodes[id as usize] {
            Node::Const(s) => s.dtype.is_float() && !s.to_f64().is_nan(),
            Node::Cast { to, arg, .. } => to.is_float() && self.is_number(*arg),
            _ => false,
        }
    }

    pub(super) fn place(&self, form: &Affine, point: &Point) -> Affine {
        form.map_vars(|v| point.place[v as usize].clone())
    }
}
