//! The loads of an expression: along lanes, out of packed constants, as words of bytes, one element for all lanes, and
//! such whose index is only known at run time.

use super::{Exprs, Group, Guards, Point};
use crate::base::{Affine, DType};
use crate::nest::emit::{Emitter, addr};
use crate::nest::registers::{constant, half_byte, memory_load, select};
use crate::scalar::Scalar;
use crate::schedule::linear::{DynamicIndex, Guard, Node};
use crate::tile::{Addr, Bin, Cmp, Convert, Lane, Reg, RegType, Stmt, Un, Value};

impl Exprs<'_> {
    pub(super) fn load(
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

    /// What lies so many elements behind what an expression loads, which nothing guards.
    pub(super) fn load_behind(&self, e: &mut Emitter, id: u32, apart: i64, point: &Point) -> Reg {
        let Node::Load { operand, addr, .. } = &self.linear.nodes[id as usize] else {
            return constant(e, Scalar::from_i64(DType::F32, 0), point.lanes);
        };
        let dtype = self.linear.types[id as usize];
        self.load(e, (*operand, &addr.offset(apart), &[], &[], None), dtype, point)
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
            // Words of dense constants have other channels' numbers behind the axis.
            let inside = u64::from(u32::MAX >> (8 * (4 - left.min(4))));
            let word = ((fill.bits & 0xff) * 0x0101_0101) & inside;
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
    pub(in crate::nest) fn lane_load(
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
        let mut inside: Option<Reg> = None;
        let mut offset: Option<Reg> = None;
        let mut limit = 0usize;
        let mut base = form.clone();
        if !guards.is_empty() {
            // The whole address becomes dynamic: outside, it is replaced by the first one from which
            // all lanes lie inside.
            let across = stride * (point.lanes as i64 - 1);
            let first = -across.min(0);
            offset = Some(e.value(NUMBER, Value::Index(form.offset(-first), 0)));
            let elems = self.linear.buffers[operand as usize].elems;
            limit = elems.saturating_sub(1).saturating_sub(across.unsigned_abs() as usize);
            base = Affine::constant(first);
        }
        for guard in guards {
            let at = self.place(&guard.form, point);
            let index = e.value(NUMBER, Value::Index(at, 0));
            let lies = lies_inside(e, index, guard.extent, guard.size.as_ref());
            inside = Some(both(e, inside, lies));
        }
        for d in dynamic {
            let index = self.computed(e, d, fill.is_some(), &mut inside, point);
            let stride = e.value(NUMBER, Value::Const(d.stride as u64));
            let scaled = e.value(NUMBER, Value::Bin(Bin::Mul, index, stride));
            limit += if guards.is_empty() { d.extent.saturating_sub(1) * d.stride as usize } else { 0 };
            offset = Some(match offset {
                Some(sum) => e.value(NUMBER, Value::Bin(Bin::Add, sum, scaled)),
                None => scaled,
            });
        }
        let mut offset = offset.unwrap_or(0);
        if let (Some(inside), false) = (inside, guards.is_empty()) {
            let zero = e.value(NUMBER, Value::Const(0));
            offset = e.value(NUMBER, Value::Select(inside, offset, zero));
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

    /// An index computed at run time: 0 where it lies outside and the load is `filled`, which `inside` tells then,
    /// along with what it told before.
    fn computed(
        &self,
        e: &mut Emitter,
        d: &DynamicIndex,
        filled: bool,
        inside: &mut Option<Reg>,
        point: &Point,
    ) -> Reg {
        let scalar = Point { lanes: 1, vector: None, group: None, ..*point };
        let index = self.eval(e, d.value, &scalar);
        if d.inside {
            return index;
        }
        let lies = lies_inside(e, index, d.extent, d.size.as_ref());
        if !filled {
            let bad = e.value(CONDITION, Value::Un(Un::Not, lies));
            e.push(Stmt::Fail { cond: bad, code: self.index_error });
            return index;
        }
        *inside = Some(both(e, *inside, lies));
        let zero = e.value(NUMBER, Value::Const(0));
        e.value(NUMBER, Value::Select(lies, index, zero))
    }
}

const NUMBER: RegType = RegType { lane: Lane::I64, lanes: 1 };
const CONDITION: RegType = RegType { lane: Lane::M64, lanes: 1 };

/// `0 <= index < extent`, or the size known at run time: one unsigned comparison.
fn lies_inside(e: &mut Emitter, index: Reg, extent: usize, size: Option<&Affine>) -> Reg {
    let extent = match size {
        Some(size) => Value::Index(size.clone(), 0),
        None => Value::Const(extent as u64),
    };
    let extent = e.value(NUMBER, extent);
    e.value(CONDITION, Value::Cmp(Cmp::LtU, index, extent))
}

fn both(e: &mut Emitter, before: Option<Reg>, condition: Reg) -> Reg {
    match before {
        Some(before) => e.value(CONDITION, Value::Bin(Bin::And, before, condition)),
        None => condition,
    }
}
