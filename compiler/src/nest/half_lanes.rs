//! Expressions in lanes of half floats, for targets that compute in these.
//!
//! Definitions compute on half floats in `f32` and round each result. One operation in half floats is both
//! (`schedule/halves.rs` says of which expressions), so conversions between the two are left out.

use super::emit::{Emitter, addr};
use super::expr::{Exprs, Point};
use super::ops::operation;
use crate::base::{Affine, DType};
use crate::scalar::cast;
use crate::schedule::linear::Node;
use crate::tile::{Lane, Reg, RegType, Value};

impl Exprs<'_> {
    /// An expression at a point, as half floats.
    pub fn half(&self, e: &mut Emitter, id: u32, point: &Point) -> Reg {
        self.half_memo(e, id, point, &mut vec![None; id as usize + 1])
    }

    fn half_memo(&self, e: &mut Emitter, id: u32, point: &Point, memo: &mut Vec<Option<Reg>>) -> Reg {
        if let Some(reg) = memo[id as usize] {
            return reg;
        }
        if let (Some(acc), true) = (point.acc, self.started == Some(id)) {
            return acc;
        }
        let ty = RegType { lane: Lane::F16, lanes: point.lanes as u8 };
        let reg = match &self.linear.nodes[id as usize] {
            Node::Const(s) => e.value(ty, Value::Const(cast(*s, DType::F16, true).bits)),
            Node::Cast { arg, .. } => self.half_memo(e, *arg, point, memo),
            Node::Op(op, args) => {
                let regs: Vec<Reg> = args.iter().map(|&a| self.half_memo(e, a, point, memo)).collect();
                let exact = self.min_max_with_constant(e, *op, args, &regs);
                exact.unwrap_or_else(|| operation(e, *op, DType::F16, &regs))
            }
            Node::Load { operand, addr: form, .. } => self.half_load(e, (*operand, form), ty, point),
            _ => point.acc.unwrap_or(0),
        };
        memo[id as usize] = Some(reg);
        reg
    }

    fn half_load(&self, e: &mut Emitter, (operand, form): (u32, &Affine), ty: RegType, point: &Point) -> Reg {
        let stride = point.vector.map_or(0, |v| form.coefficient(v));
        if let Some(at) = (self.packed)(operand, point) {
            return e.value(ty, Value::Load(addr(operand, at.index), i64::from(stride != 0)));
        }
        match &point.group {
            Some(group) if stride == 0 && form.coefficient(group.var) == 1 => {
                self.lane_load(e, (operand, form), group, ty, point)
            }
            _ => e.value(ty, Value::Load(addr(operand, self.place(form, point)), stride)),
        }
    }
}
