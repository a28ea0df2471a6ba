//! Expressions to registers: lane types, narrow integers, conversions.

use super::emit::{Emitter, addr};
use super::range::{Range, range};
use super::requantize::{Requantized, less_zero};
use super::{half, limits};
use crate::base::{Affine, DType};
use crate::scalar::{Op, Scalar};
use crate::schedule::Linear;
use crate::schedule::linear::{DynamicIndex, Guard, Node};
use crate::tile::{Addr, Bin, Cmp, Convert, Lane, Reg, RegType, Stmt, Un, Value};

/// The lane that holds an element type in a register; of the small floats, their code.
pub fn lane_of(dtype: DType) -> Lane {
    match dtype {
        DType::F64 => Lane::F64,
        DType::I64 | DType::U64 => Lane::I64,
        DType::Bool => Lane::M32,
        _ if dtype.is_float() && !dtype.is_small_float() => Lane::F32,
        _ => Lane::I32,
    }
}

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
            Node::Op(op, args) => match less_zero(self.linear, *op, args).filter(|_| dtype == DType::I32) {
                Some(integers) => integers.emit_less_zero(self, e, point, memo),
                None if let Some(limited) = limits::emit(self, e, id, point, memo) => limited,
                None => {
                    let from = self.linear.types[args[args.len() - 1] as usize];
                    let regs: Vec<Reg> = args.iter().map(|&a| self.eval_memo(e, a, point, memo)).collect();
                    let exact = self.min_max_with_constant(e, *op, args, &regs);
                    let result = exact.unwrap_or_else(|| super::ops::operation(e, *op, from, &regs));
                    if half::keeps(*op) { result } else { super::ops::round_half(e, result, dtype) }
                }
            },
            Node::Cast { to, saturate, arg } => {
                let from = self.linear.types[*arg as usize];
                if let Some(form) = self.linear.narrow_index(id) {
                    let index = self.index(e, form, Lane::I32, point);
                    super::ops::cast(e, index, DType::I32, *to, *saturate)
                } else if let Some(integers) = Requantized::of(self.linear, *arg, *to) {
                    integers.emit(self, e, point, memo)
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
    fn min_max_with_constant(&self, e: &mut Emitter, op: Op, args: &[u32], regs: &[Reg]) -> Option<Reg> {
        let bin = match op {
            Op::Max => Bin::Max,
            Op::Min => Bin::Min,
            _ => return None,
        };
        let is_number = |i: usize| match &self.linear.nodes[args[i] as usize] {
            Node::Const(s) => s.dtype == DType::F32 && !f32::from_bits(s.bits as u32).is_nan(),
            _ => false,
        };
        let (number, other) = if is_number(0) { (0, 1) } else { (1, 0) };
        is_number(number).then(|| e.value(e.ty(regs[0]), Value::Bin(bin, regs[number], regs[other])))
    }

    pub(super) fn place(&self, form: &Affine, point: &Point) -> Affine {
        form.map_vars(|v| point.place[v as usize].clone())
    }

    fn load(
        &self,
        e: &mut Emitter,
        (operand, form, dynamic, guards, fill): (u32, &Affine, &[DynamicIndex], &[Guard], Option<Scalar>),
        dtype: DType,
        point: &Point,
    ) -> Reg {
        if let (Guards::Outside, Some(fill), false) = (point.guards, fill, guards.is_empty()) {
            return constant(e, fill, point.lanes);
        }
        let guards = if point.guards == Guards::Inside { &[] } else { guards };
        let stride = point.vector.map_or(0, |v| form.coefficient(v));
        if let Some(at) = (self.packed)(operand, point) {
            let loaded = memory_load(e, addr(operand, at.index), dtype, i64::from(stride != 0), point.lanes);
            return at.second.map_or(loaded, |second| half_byte(e, loaded, dtype, second));
        }
        if let (0, true, Some(group)) = (stride, dynamic.is_empty() && guards.is_empty(), &point.group) {
            if form.coefficient(group.var) == 1 && dtype == DType::F32 && point.lanes > 1 {
                let ty = RegType { lane: Lane::F32, lanes: point.lanes as u8 };
                return self.lane_load(e, (operand, form), group, ty, point);
            }
        }
        let index = self.place(form, point);
        if guards.is_empty() && dynamic.is_empty() {
            return memory_load(e, addr(operand, index), dtype, stride, point.lanes);
        }
        self.load_checked(e, (operand, index, dynamic, guards, fill), dtype, stride, point)
    }

    /// Four bytes along the innermost reduction axis as the word of each lane: `left` of them, at
    /// the axis' end, are put together one by one.
    pub fn words(&self, e: &mut Emitter, id: u32, point: &Point, left: usize, along: u32) -> Option<Reg> {
        let id = self.linear.without_casts(id);
        let Node::Load { operand, addr: form, guards, fill, .. } = &self.linear.nodes[id as usize] else {
            return None;
        };
        let ints = |lanes: usize| RegType { lane: Lane::I32, lanes: lanes as u8 };
        if let (Guards::Outside, Some(fill), false) = (point.guards, fill, guards.is_empty()) {
            let word = (fill.bits & 0xff) * 0x0101_0101;
            return Some(e.value(ints(point.lanes), Value::Const(word)));
        }
        if let Some(at) = (self.packed)(*operand, point) {
            let at = (addr(*operand, at.index), at.word);
            return Some(e.value(
                ints(point.lanes),
                match at {
                    // What the other factor has above it is zero.
                    (at, 1) => Value::Load(at, 1),
                    (at, apart) => Value::LoadWords(at, apart as i64),
                },
            ));
        }
        let index = self.place(form, point);
        if point.vector == Some(along) {
            // Lanes are words of the sum.
            return Some(e.value(ints(point.lanes), Value::LoadWords(addr(*operand, index), 4)));
        }
        if (form.coefficient(along), point.vector.map(|v| form.coefficient(v)), left) == (1, Some(4), 4) {
            return Some(e.value(ints(point.lanes), Value::LoadWords(addr(*operand, index), 4)));
        }
        if point.vector.is_some_and(|v| form.coefficient(v) != 0) {
            return self.woven(e, *operand, (index, form.coefficient(along)), point, left);
        }
        if let (4, Some(group)) = (left, &point.group) {
            let start = point.start_of(group, form);
            let loaded = e.value(ints(usize::from(group.lanes)), Value::LoadWords(addr(*operand, start), 4));
            return Some(e.value(ints(point.lanes), Value::Broadcast(loaded, group.lane)));
        }
        let elems = self.linear.buffers[*operand as usize].elems as i64;
        let last = form.range(|v| self.linear.extent(v)).1;
        let word = |index: Affine| Value::LoadWords(addr(*operand, index), 0);
        if left >= 4 || last + 4 - (left as i64) < elems {
            // What follows the axis is multiplied by the packed factor's zeros.
            return Some(e.value(ints(point.lanes), word(index)));
        }
        if self.linear.extent(along) >= 4 {
            let word = e.value(ints(point.lanes), word(index.offset(left as i64 - 4)));
            let over = e.value(ints(point.lanes), Value::Const(8 * (4 - left as u64)));
            return Some(e.value(ints(point.lanes), Value::Bin(Bin::ShrU, word, over)));
        }
        let bytes = (0..left as i64).map(|i| index.offset(i * form.coefficient(along)));
        let word = self.joined(e, *operand, bytes.collect(), 1)?;
        Some(e.value(ints(point.lanes), Value::Splat(word)))
    }

    /// The word of each lane from bytes that lie a step apart, each loaded for all lanes.
    fn woven(
        &self,
        e: &mut Emitter,
        operand: u32,
        (index, step): (Affine, i64),
        point: &Point,
        left: usize,
    ) -> Option<Reg> {
        let bytes = (0..left.min(4) as i64).map(|i| index.offset(i * step)).collect();
        self.joined(e, operand, bytes, point.lanes)
    }

    /// Bytes at addresses, the first in the lowest place of a word.
    fn joined(&self, e: &mut Emitter, operand: u32, bytes: Vec<Affine>, lanes: usize) -> Option<Reg> {
        let ty = RegType { lane: Lane::I32, lanes: lanes as u8 };
        let signed = self.linear.buffers[operand as usize].dtype.is_signed_int();
        let mut word: Option<Reg> = None;
        for (i, index) in bytes.into_iter().enumerate() {
            let mut byte = e.value(ty, Value::Load(addr(operand, index), 1));
            if signed && i < 3 {
                byte = e.value(ty, Value::Convert(Convert::ZextLow(8), byte));
            }
            if i > 0 {
                let shift = e.value(ty, Value::Const(8 * i as u64));
                byte = e.value(ty, Value::Bin(Bin::Shl, byte, shift));
            }
            word = Some(word.map_or(byte, |w| e.value(ty, Value::Bin(Bin::Or, w, byte))));
        }
        word
    }

    /// An element that is loaded beside its neighbours, in all lanes.
    pub(super) fn lane_load(
        &self,
        e: &mut Emitter,
        (operand, form): (u32, &Affine),
        group: &Group,
        ty: RegType,
        point: &Point,
    ) -> Reg {
        let start = point.start_of(group, form);
        let together = RegType { lanes: group.lanes, ..ty };
        let loaded = e.value(together, Value::Load(addr(operand, start), 1));
        e.value(ty, Value::Broadcast(loaded, group.lane))
    }

    /// A load whose index may lie outside: compared, then clamped and replaced by the fill, or
    /// refused with an error code where there is no fill.
    fn load_checked(
        &self,
        e: &mut Emitter,
        (operand, form, dynamic, guards, fill): (u32, Affine, &[DynamicIndex], &[Guard], Option<Scalar>),
        dtype: DType,
        stride: i64,
        point: &Point,
    ) -> Reg {
        let i64s = RegType { lane: Lane::I64, lanes: 1 };
        let scalar = Point { lanes: 1, vector: None, group: None, ..*point };
        let mut inside: Option<Reg> = None;
        let mut offset: Option<Reg> = None;
        let mut limit = 0usize;
        let mut base = form.clone();
        if !guards.is_empty() {
            // The whole address becomes dynamic: outside, it is replaced by the first one from which
            // all lanes lie inside.
            let across = stride * (point.lanes as i64 - 1);
            let first = -across.min(0);
            offset = Some(e.value(i64s, Value::Index(form.offset(-first), 0)));
            let elems = self.linear.buffers[operand as usize].elems;
            limit = elems.saturating_sub(1).saturating_sub(across.unsigned_abs() as usize);
            base = Affine::constant(first);
        }
        for guard in guards {
            let at = self.place(&guard.form, point);
            let index = e.value(i64s, Value::Index(at, 0));
            inside = Some(both(e, inside, index, guard.extent, guard.size.as_ref()));
        }
        for d in dynamic {
            let index = self.eval(e, d.value, &scalar);
            let ok = (!d.inside).then(|| both(e, None, index, d.extent, d.size.as_ref()));
            let index = match (ok, fill) {
                (None, _) => index,
                (Some(ok), Some(_)) => {
                    inside = Some(match inside {
                        Some(before) => e.value(mask(Lane::M64), Value::Bin(Bin::And, before, ok)),
                        None => ok,
                    });
                    let zero = e.value(i64s, Value::Const(0));
                    e.value(i64s, Value::Select(ok, index, zero))
                }
                (Some(ok), None) => {
                    let bad = e.value(mask(Lane::M64), Value::Un(Un::Not, ok));
                    e.push(Stmt::Fail { cond: bad, code: self.index_error });
                    index
                }
            };
            let stride = e.value(i64s, Value::Const(d.stride as u64));
            let scaled = e.value(i64s, Value::Bin(Bin::Mul, index, stride));
            limit += if guards.is_empty() { d.extent.saturating_sub(1) * d.stride as usize } else { 0 };
            offset = Some(match offset {
                Some(sum) => e.value(i64s, Value::Bin(Bin::Add, sum, scaled)),
                None => scaled,
            });
        }
        let mut offset = offset.unwrap_or(0);
        if let (Some(inside), false) = (inside, guards.is_empty()) {
            let zero = e.value(i64s, Value::Const(0));
            offset = e.value(i64s, Value::Select(inside, offset, zero));
        }
        let place = Addr { param: operand, index: base, dynamic: Some((offset, limit)) };
        let loaded = memory_load(e, place, dtype, stride, point.lanes);
        match (inside, fill) {
            (Some(inside), Some(fill)) => {
                let fill = constant(e, fill, point.lanes);
                select(e, inside, loaded, fill)
            }
            _ => loaded,
        }
    }
}

fn mask(lane: Lane) -> RegType {
    RegType { lane, lanes: 1 }
}

/// `before and 0 <= index < extent`, or the size known at run time: one unsigned comparison.
fn both(e: &mut Emitter, before: Option<Reg>, index: Reg, extent: usize, size: Option<&Affine>) -> Reg {
    let extent = match size {
        Some(size) => Value::Index(size.clone(), 0),
        None => Value::Const(extent as u64),
    };
    let extent = e.value(RegType { lane: Lane::I64, lanes: 1 }, extent);
    let inside = e.value(mask(Lane::M64), Value::Cmp(Cmp::LtU, index, extent));
    match before {
        Some(before) => e.value(mask(Lane::M64), Value::Bin(Bin::And, before, inside)),
        None => inside,
    }
}

/// `mask ? a : b`, the mask brought to the operands' lanes and width.
pub fn select(e: &mut Emitter, cond: Reg, a: Reg, b: Reg) -> Reg {
    let ty = e.ty(a);
    let (wanted, have) = (ty.lane.mask(), e.ty(cond));
    let mut cond = cond;
    if have.lane != wanted {
        cond = e.value(RegType { lane: wanted, lanes: have.lanes }, Value::Convert(Convert::Int, cond));
    }
    if have.lanes != ty.lanes {
        cond = e.value(RegType { lane: wanted, lanes: ty.lanes }, Value::Splat(cond));
    }
    e.value(ty, Value::Select(cond, a, b))
}

/// A constant in every lane.
pub fn constant(e: &mut Emitter, s: Scalar, lanes: usize) -> Reg {
    let lane = lane_of(s.dtype);
    let ty = RegType { lane, lanes: lanes as u8 };
    let wide = match s.dtype {
        _ if lane == Lane::F32 && s.dtype != DType::F32 => crate::scalar::cast(s, DType::F32, true).bits,
        DType::I8 | DType::I16 | DType::I4 | DType::I2 => crate::scalar::cast(s, DType::I32, true).bits,
        _ => s.bits,
    };
    e.value(ty, Value::Const(wide))
}

/// One of the two elements of four bits in a byte, which was loaded with its sign.
fn half_byte(e: &mut Emitter, byte: Reg, dtype: DType, second: bool) -> Reg {
    let (ty, signed) = (e.ty(byte), dtype.is_signed_int());
    if !second {
        let low = if signed { Convert::SextLow(4) } else { Convert::ZextLow(4) };
        return e.value(ty, Value::Convert(low, byte));
    }
    let four = e.value(ty, Value::Const(4));
    e.value(ty, Value::Bin(if signed { Bin::ShrS } else { Bin::ShrU }, byte, four))
}

/// A load brought to the register form of its element type: truth values become masks.
fn memory_load(e: &mut Emitter, addr: Addr, dtype: DType, stride: i64, lanes: usize) -> Reg {
    let lane = if dtype == DType::Bool { Lane::I32 } else { lane_of(dtype) };
    let ty = RegType { lane, lanes: lanes as u8 };
    let loaded = e.value(ty, Value::Load(addr, stride));
    if dtype != DType::Bool {
        return loaded;
    }
    let zero = e.value(ty, Value::Const(0));
    e.value(RegType { lane: Lane::M32, ..ty }, Value::Cmp(Cmp::Ne, loaded, zero))
}

/// Stores a register as an element type.
pub fn memory_store(e: &mut Emitter, addr: Addr, dtype: DType, stride: i64, src: Reg) {
    let ty = e.ty(src);
    let src = match dtype {
        DType::Bool => {
            let ints = RegType { lane: Lane::I32, ..ty };
            let one = e.value(ints, Value::Const(1));
            let zero = e.value(ints, Value::Const(0));
            select(e, src, one, zero)
        }
        _ => src,
    };
    e.store(addr, stride, src);
}
