//! Walks over the statements of a kernel: what they mention, changed in place.

use super::{Addr, Kernel, LoopVar, Reg, Stmt, Value};
use crate::base::Affine;

/// Every register that statements mention.
pub fn each_reg(body: &mut [Stmt], f: &mut impl FnMut(&mut Reg)) {
    for stmt in body {
        match stmt {
            Stmt::Let(dst, value) => {
                f(dst);
                operands(value, f);
            }
            Stmt::Store { addr, src, .. } => {
                f(src);
                computed(addr, f);
            }
            Stmt::For { body, .. } | Stmt::Loop { body } | Stmt::Size { body, .. } => each_reg(body, f),
            Stmt::If { cond, then, otherwise } => {
                f(cond);
                each_reg(then, f);
                each_reg(otherwise, f);
            }
            Stmt::Break { cond } | Stmt::Fail { cond, .. } => f(cond),
        }
    }
}

fn computed(addr: &mut Addr, f: &mut impl FnMut(&mut Reg)) {
    if let Some((reg, _)) = &mut addr.dynamic {
        f(reg);
    }
}

fn operands(value: &mut Value, f: &mut impl FnMut(&mut Reg)) {
    match value {
        Value::Const(_) | Value::Index(..) => {}
        Value::Load(addr, _) | Value::LoadWords(addr, _) | Value::LoadCouples(addr) => computed(addr, f),
        Value::Lookup(addr, a) => {
            computed(addr, f);
            f(a);
        }
        Value::Copy(a) | Value::Un(_, a) | Value::Convert(_, a) => f(a),
        Value::Splat(a) | Value::Broadcast(a, _) | Value::Reduce(_, a) => f(a),
        Value::Pairs(pairs) => pairs.iter_mut().for_each(|pair| f(&mut pair.0)),
        Value::Bin(_, a, b) | Value::Cmp(_, a, b) => [a, b].into_iter().for_each(f),
        Value::Mla(a, b, c) | Value::Dot(_, a, b, c) | Value::Select(a, b, c) => {
            [a, b, c].into_iter().for_each(f);
        }
    }
}

/// The registers that a statement mentions, those of its body too.
pub fn mentioned(stmt: &Stmt, f: &mut impl FnMut(Reg)) {
    each_reg(&mut [stmt.clone()], &mut |reg| f(*reg));
}

/// The registers that a value is computed from.
pub fn read(value: &Value, f: &mut impl FnMut(Reg)) {
    operands(&mut value.clone(), &mut |reg| f(*reg));
}

/// Whether a statement, or one within those of the list, is such a one.
pub fn any<'a>(body: &'a [Stmt], test: &mut impl FnMut(&'a Stmt) -> bool) -> bool {
    for stmt in body {
        let found = test(stmt)
            || match stmt {
                Stmt::For { body, .. } | Stmt::Loop { body } | Stmt::Size { body, .. } => any(body, test),
                Stmt::If { then, otherwise, .. } => any(then, test) || any(otherwise, test),
                Stmt::Let(..) | Stmt::Store { .. } | Stmt::Break { .. } | Stmt::Fail { .. } => false,
            };
        if found {
            return true;
        }
    }
    false
}

/// Every assignment of statements.
pub fn each_let<'a>(body: &'a [Stmt], f: &mut impl FnMut(Reg, &'a Value)) {
    any(body, &mut |stmt| {
        if let Stmt::Let(reg, value) = stmt {
            f(*reg, value);
        }
        false
    });
}

/// The values assigned to each register of a kernel.
pub fn assignments(kernel: &Kernel) -> Vec<Vec<&Value>> {
    let mut all = vec![Vec::new(); kernel.regs.len()];
    each_let(&kernel.body, &mut |reg, value| all[reg as usize].push(value));
    all
}

/// Every address of statements.
pub fn each_addr(body: &mut [Stmt], f: &mut impl FnMut(&mut Addr)) {
    for stmt in body {
        match stmt {
            Stmt::Let(
                _,
                Value::Load(addr, _)
                | Value::LoadWords(addr, _)
                | Value::LoadCouples(addr)
                | Value::Lookup(addr, _),
            ) => f(addr),
            Stmt::Store { addr, .. } => f(addr),
            Stmt::Size { from, body, .. } => {
                f(from);
                each_addr(body, f);
            }
            Stmt::For { body, .. } | Stmt::Loop { body } => each_addr(body, f),
            Stmt::If { then, otherwise, .. } => {
                each_addr(then, f);
                each_addr(otherwise, f);
            }
            _ => {}
        }
    }
}

/// Every loop variable and every affine form of statements.
pub fn each_form(body: &mut [Stmt], var: &impl Fn(LoopVar) -> LoopVar, f: &mut impl FnMut(&mut Affine)) {
    for stmt in body {
        match stmt {
            Stmt::Let(_, Value::Index(form, _)) => f(form),
            Stmt::For { var: own, lo, hi, body, .. } => {
                *own = var(*own);
                lo.0.iter_mut().chain(&mut hi.0).for_each(&mut *f);
                each_form(body, var, f);
            }
            Stmt::Size { var: own, body, .. } => {
                *own = var(*own);
                each_form(body, var, f);
            }
            Stmt::Loop { body } => each_form(body, var, f),
            Stmt::If { then, otherwise, .. } => {
                each_form(then, var, f);
                each_form(otherwise, var, f);
            }
            _ => {}
        }
    }
}

/// The statements of a kernel as statements of another one: registers are numbered from `regs` on,
/// loop variables are renamed, and each parameter is a place in one of the other's: its number and
/// elements from its start.
pub fn moved(mut body: Vec<Stmt>, regs: Reg, vars: &[LoopVar], params: &[(u32, i64)]) -> Vec<Stmt> {
    let form = |form: &Affine| form.map_vars(|v| Affine::var(vars[v as usize]));
    each_reg(&mut body, &mut |reg| *reg += regs);
    each_form(&mut body, &|v| vars[v as usize], &mut |f| *f = form(f));
    each_addr(&mut body, &mut |addr| {
        let (param, from) = params[addr.param as usize];
        (addr.param, addr.index) = (param, form(&addr.index).offset(from));
    });
    body
}
