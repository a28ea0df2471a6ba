//! Does two iterations of an innermost loop at once: half the tests and pointer steps, and twice the
//! statements for `order` to choose from.
//!
//! What a body sets before it reads it is another register in the second copy, so that the copies can
//! overlap; what it carries along stays one register, so every sum keeps its order.

use super::lives::{Lives, mentions, reads, writes};
use crate::base::Affine;
use crate::codegen::flatten::trip;
use crate::tile::{Addr, Kernel, LoopVar, Reg, Stmt, Value};
use std::collections::HashMap;

/// Bodies with more statements are long enough.
const LONGEST: usize = 160;

/// The second copy of a loop's body, where the loop runs an even number of times, known now.
pub fn second(kernel: &mut Kernel, lives: &mut Lives, stmt: &Stmt) -> Option<Vec<Stmt>> {
    let Stmt::For { var, lo, hi, step, body } = stmt else { return None };
    let even = trip(lo, hi, *step).is_some_and(|trip| trip >= 4 && trip % 2 == 0);
    (even && body.len() <= LONGEST).then(|| copy(kernel, lives, body, *var, *step))
}

/// The body one iteration later, with registers of its own where it can have them.
fn copy(kernel: &mut Kernel, lives: &mut Lives, body: &[Stmt], var: LoopVar, step: i64) -> Vec<Stmt> {
    let inside = mentions(body);
    let mut names: HashMap<Reg, Reg> = HashMap::new();
    let mut read = Vec::new();
    for stmt in body {
        read.extend(reads(stmt));
        if let Some(reg) = writes(stmt)
            && !read.contains(&reg)
            && !names.contains_key(&reg)
            && inside[&reg] == lives.mentions[reg as usize]
        {
            names.insert(reg, kernel.regs.len() as Reg);
            kernel.regs.push(kernel.regs[reg as usize]);
            lives.ranges.push(lives.ranges[reg as usize]);
            lives.mentions.push(inside[&reg]);
            lives.sizes.push(lives.sizes[reg as usize]);
        }
    }
    let name = |reg: Reg| names.get(&reg).copied().unwrap_or(reg);
    let later = |form: &Affine| form.offset(step * form.coefficient(var));
    let place = |addr: &Addr| Addr {
        param: addr.param,
        index: later(&addr.index),
        dynamic: addr.dynamic.map(|(reg, limit)| (name(reg), limit)),
    };
    body.iter()
        .map(|stmt| match stmt {
            Stmt::Let(reg, value) => Stmt::Let(name(*reg), renamed(value, &name, &later, &place)),
            Stmt::Store { addr, stride, src } => {
                Stmt::Store { addr: place(addr), stride: *stride, src: name(*src) }
            }
            other => other.clone(),
        })
        .collect()
}

fn renamed(
    value: &Value,
    name: &dyn Fn(Reg) -> Reg,
    later: &dyn Fn(&Affine) -> Affine,
    place: &dyn Fn(&Addr) -> Addr,
) -> Value {
    match value {
        Value::Const(bits) => Value::Const(*bits),
        Value::Index(form, step) => Value::Index(later(form), *step),
        Value::Copy(a) => Value::Copy(name(*a)),
        Value::Load(addr, stride) => Value::Load(place(addr), *stride),
        Value::LoadWords(addr, stride) => Value::LoadWords(place(addr), *stride),
        Value::LoadCouples(addr) => Value::LoadCouples(place(addr)),
        Value::Lookup(addr, a) => Value::Lookup(place(addr), name(*a)),
        Value::Un(op, a) => Value::Un(*op, name(*a)),
        Value::Bin(op, a, b) => Value::Bin(*op, name(*a), name(*b)),
        Value::Mla(c, a, b) => Value::Mla(name(*c), name(*a), name(*b)),
        Value::Dot(kind, c, a, b) => Value::Dot(*kind, name(*c), name(*a), name(*b)),
        Value::Cmp(op, a, b) => Value::Cmp(*op, name(*a), name(*b)),
        Value::Select(m, a, b) => Value::Select(name(*m), name(*a), name(*b)),
        Value::Convert(kind, a) => Value::Convert(*kind, name(*a)),
        Value::Splat(a) => Value::Splat(name(*a)),
        Value::Broadcast(a, lane) => Value::Broadcast(name(*a), *lane),
        Value::Pairs(pairs) => Value::Pairs(pairs.iter().map(|&(a, lane)| (name(a), lane)).collect()),
        Value::Reduce(fold, a) => Value::Reduce(*fold, name(*a)),
    }
}
