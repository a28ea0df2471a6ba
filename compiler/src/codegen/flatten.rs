//! Loops that run once are no loops: their variable is a constant of every address in them.

use crate::base::{Affine, Bound};
use crate::tile::{Addr, Kernel, LoopVar, Stmt, Value};

/// The kernel without loops of no or one iteration, where that is known at compile time.
pub fn flatten(kernel: &Kernel) -> Kernel {
    let mut flat = kernel.clone();
    flat.body = statements(&kernel.body, &mut vec![None; kernel.vars.len()]);
    flat
}

/// The iterations of a loop with constant bounds.
pub fn trip(lo: &Bound, hi: &Bound, step: i64) -> Option<i64> {
    let (lo, hi) = (lo.as_constant()?, hi.as_constant()?);
    Some(if lo < hi { (hi - lo + step - 1) / step } else { 0 })
}

fn statements(body: &[Stmt], known: &mut Vec<Option<i64>>) -> Vec<Stmt> {
    let mut out = Vec::with_capacity(body.len());
    for stmt in body {
        match stmt {
            Stmt::For { var, lo, hi, step, body } => {
                let (lo, hi) = (bound(lo, known, i64::max), bound(hi, known, i64::min));
                let outer = known[*var as usize];
                match trip(&lo, &hi, *step) {
                    Some(0) => {}
                    Some(1) => {
                        known[*var as usize] = lo.as_constant();
                        out.extend(statements(body, known));
                    }
                    _ => {
                        known[*var as usize] = None;
                        let body = statements(body, known);
                        out.push(Stmt::For { var: *var, lo, hi, step: *step, body });
                    }
                }
                known[*var as usize] = outer;
            }
            Stmt::Size { var, param, max, body } => {
                let body = statements(body, known);
                out.push(Stmt::Size { var: *var, param: *param, max: *max, body });
            }
            Stmt::If { cond, then, otherwise } => {
                let (then, otherwise) = (statements(then, known), statements(otherwise, known));
                out.push(Stmt::If { cond: *cond, then, otherwise });
            }
            Stmt::Loop { body } => out.push(Stmt::Loop { body: statements(body, known) }),
            Stmt::Let(reg, value) => out.push(Stmt::Let(*reg, self::value(value, known))),
            Stmt::Store { addr, stride, src } => {
                out.push(Stmt::Store { addr: place(addr, known), stride: *stride, src: *src });
            }
            Stmt::Break { .. } | Stmt::Fail { .. } => out.push(stmt.clone()),
        }
    }
    out
}

fn value(value: &Value, known: &[Option<i64>]) -> Value {
    match value {
        Value::Index(form, step) => Value::Index(affine(form, known), *step),
        Value::Load(addr, stride) => Value::Load(place(addr, known), *stride),
        Value::LoadWords(addr, stride) => Value::LoadWords(place(addr, known), *stride),
        Value::LoadCouples(addr) => Value::LoadCouples(place(addr, known)),
        other => other.clone(),
    }
}

fn place(addr: &Addr, known: &[Option<i64>]) -> Addr {
    Addr { index: affine(&addr.index, known), ..addr.clone() }
}

fn affine(form: &Affine, known: &[Option<i64>]) -> Affine {
    let value = |v: LoopVar| known[v as usize].map_or_else(|| Affine::var(v), Affine::constant);
    form.map_vars(value)
}

/// The bound with known variables replaced; constants among its forms are joined.
fn bound(bound: &Bound, known: &[Option<i64>], join: fn(i64, i64) -> i64) -> Bound {
    let (constant, mut forms): (Vec<_>, Vec<_>) =
        bound.0.iter().map(|form| affine(form, known)).partition(Affine::is_constant);
    if let Some(joined) = constant.iter().map(|form| form.base).reduce(join) {
        forms.push(Affine::constant(joined));
    }
    Bound(forms)
}
