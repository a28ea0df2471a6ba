//! Binds the sizes of a kernel: each becomes a parameter, and a variable around the whole body.

use crate::base::affine::{SIZE, as_size};
use crate::base::{Affine, Bound, DType};
use crate::tile::{Access, Addr, Kernel, Param, Stmt, Value};
use std::collections::BTreeMap;

/// Replaces the sizes in a kernel's forms by variables of its own; gives their numbers, in the order
/// of the parameters that hold them, which are the last.
pub fn bind(kernel: &mut Kernel) -> Vec<usize> {
    let mut found = BTreeMap::new();
    each_form(&mut kernel.body, &mut |form| {
        form.terms.iter().filter(|t| t.0 >= SIZE).for_each(|t| {
            found.insert(t.0, 0);
        });
    });
    if found.is_empty() {
        return Vec::new();
    }
    for (size, var) in &mut found {
        let (number, _) = as_size(*size).unwrap_or_default();
        *var = kernel.vars.len() as u32;
        kernel.vars.push(format!("size{number}"));
    }
    each_form(&mut kernel.body, &mut |form| {
        let terms = std::mem::take(&mut form.terms);
        terms.iter().for_each(|&(v, c)| form.add_term(found.get(&v).copied().unwrap_or(v), c));
    });
    let mut numbers = Vec::new();
    let mut body = std::mem::take(&mut kernel.body);
    for (&size, &var) in &found {
        let (number, max) = as_size(size).unwrap_or_default();
        let param = kernel.params.len() as u32;
        let name = format!("n{number}");
        kernel.params.push(Param { name, dtype: DType::I64, elems: 1, access: Access::Read });
        numbers.push(number);
        body = vec![Stmt::Size {
            var,
            from: Addr { param, index: Affine::constant(0), dynamic: None },
            max: max as i64,
            body,
        }];
    }
    kernel.body = body;
    numbers
}

/// Calls `f` with every affine form.
pub fn each_form(body: &mut [Stmt], f: &mut dyn FnMut(&mut Affine)) {
    let bound = |bound: &mut Bound, f: &mut dyn FnMut(&mut Affine)| bound.0.iter_mut().for_each(f);
    let place = |addr: &mut Addr, f: &mut dyn FnMut(&mut Affine)| f(&mut addr.index);
    for stmt in body {
        match stmt {
            Stmt::Let(_, Value::Index(form, _)) => f(form),
            Stmt::Let(
                _,
                Value::Load(addr, _)
                | Value::LoadWords(addr, _)
                | Value::LoadCouples(addr)
                | Value::Lookup(addr, _),
            ) => place(addr, f),
            Stmt::Store { addr, .. } => place(addr, f),
            Stmt::For { lo, hi, body, .. } => {
                bound(lo, f);
                bound(hi, f);
                each_form(body, f);
            }
            Stmt::If { then, otherwise, .. } => {
                each_form(then, f);
                each_form(otherwise, f);
            }
            Stmt::Size { from, body, .. } => {
                place(from, f);
                each_form(body, f);
            }
            Stmt::Loop { body } => each_form(body, f),
            Stmt::Let(..) | Stmt::Break { .. } | Stmt::Fail { .. } => {}
        }
    }
}
