//! Loops that run once are no loops: their variable is a constant of every address in them, or, where they
//! run once or not at all, another form of the variables around.

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

/// The variable of a loop that runs once or not at all, as a form of the variables around: it begins there
/// or behind, and ends by the next number.
pub fn once<'a>(lo: &'a Bound, hi: &Bound, step: i64) -> Option<&'a Affine> {
    let only = |form: &&Affine| !form.is_constant() && hi.0.contains(&form.offset(1));
    lo.0.iter().find(only).filter(|_| step > 0)
}

/// What has to hold for a loop to run that does so once at most: forms that are not negative.
pub fn conditions(lo: &Bound, hi: &Bound, value: &Affine) -> Vec<Affine> {
    let above = lo.0.iter().map(|form| value.plus_scaled(form, -1));
    let below = hi.0.iter().map(|form| form.plus_scaled(value, -1).offset(-1));
    above.chain(below).filter(|form| !form.is_constant() || form.base < 0).collect()
}

fn statements(body: &[Stmt], known: &mut Vec<Option<Affine>>) -> Vec<Stmt> {
    let mut out = Vec::with_capacity(body.len());
    for stmt in body {
        match stmt {
            Stmt::For { var, lo, hi, step, body } => {
                let (lo, hi) = (bound(lo, known, i64::max), bound(hi, known, i64::min));
                let outer = known[*var as usize].clone();
                match trip(&lo, &hi, *step) {
                    Some(0) => {}
                    Some(1) => {
                        known[*var as usize] = Some(lo.0[0].clone());
                        out.extend(statements(body, known));
                    }
                    _ => {
                        known[*var as usize] = once(&lo, &hi, *step).cloned();
                        let body = statements(body, known);
                        out.push(Stmt::For { var: *var, lo, hi, step: *step, body });
                    }
                }
                known[*var as usize] = outer;
            }
            Stmt::Size { var, from, max, body } => {
                let body = statements(body, known);
                out.push(Stmt::Size { var: *var, from: place(from, known), max: *max, body });
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

fn value(value: &Value, known: &[Option<Affine>]) -> Value {
    match value {
        Value::Index(form, step) => Value::Index(affine(form, known), *step),
        Value::Load(addr, stride) => Value::Load(place(addr, known), *stride),
        Value::LoadWords(addr, stride) => Value::LoadWords(place(addr, known), *stride),
        Value::LoadCouples(addr) => Value::LoadCouples(place(addr, known)),
        Value::Lookup(addr, a) => Value::Lookup(place(addr, known), *a),
        other => other.clone(),
    }
}

fn place(addr: &Addr, known: &[Option<Affine>]) -> Addr {
    Addr { index: affine(&addr.index, known), ..addr.clone() }
}

fn affine(form: &Affine, known: &[Option<Affine>]) -> Affine {
    let value = |v: LoopVar| known[v as usize].clone().unwrap_or_else(|| Affine::var(v));
    form.map_vars(value)
}

/// The bound with known variables replaced; constants among its forms are joined.
fn bound(bound: &Bound, known: &[Option<Affine>], join: fn(i64, i64) -> i64) -> Bound {
    let (constant, mut forms): (Vec<_>, Vec<_>) =
        bound.0.iter().map(|form| affine(form, known)).partition(Affine::is_constant);
    if let Some(joined) = constant.iter().map(|form| form.base).reduce(join) {
        forms.push(Affine::constant(joined));
    }
    Bound(forms)
}
