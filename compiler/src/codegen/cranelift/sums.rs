//! Sums of half floats as sums of `f32`: Cranelift has no products of half floats. They lose less so.

use crate::tile::{Convert, Kernel, Lane, Reg, Stmt, Value};
use half::f16;

/// Gives all lanes of half floats 32 bits.
pub fn in_floats(kernel: &mut Kernel) {
    let halves: Vec<bool> = kernel.regs.iter().map(|ty| ty.lane == Lane::F16).collect();
    if halves.contains(&true) {
        kernel.regs.iter_mut().filter(|ty| ty.lane == Lane::F16).for_each(|ty| ty.lane = Lane::F32);
        kernel.body.iter_mut().for_each(|stmt| statement(stmt, &|r| halves[r as usize]));
    }
}

fn statement(stmt: &mut Stmt, was_half: &dyn Fn(Reg) -> bool) {
    let body = |body: &mut Vec<Stmt>| body.iter_mut().for_each(|stmt| statement(stmt, was_half));
    match stmt {
        Stmt::Let(r, value) => match *value {
            Value::Convert(Convert::Float, a) if was_half(a) => *value = Value::Copy(a),
            Value::Const(bits) if was_half(*r) => {
                *value = Value::Const(f16::from_bits(bits as u16).to_f32().to_bits().into());
            }
            _ => {}
        },
        Stmt::For { body: inner, .. } | Stmt::Size { body: inner, .. } | Stmt::Loop { body: inner } => {
            body(inner);
        }
        Stmt::If { then, otherwise, .. } => {
            body(then);
            body(otherwise);
        }
        Stmt::Store { .. } | Stmt::Break { .. } | Stmt::Fail { .. } => {}
    }
}
