//! The same kernel from its last iterations to its first.
//!
//! What is written behind what is read moves towards lower addresses from step to step. A kernel that runs
//! backwards writes above what it reads, so that the next one has room below again ([`crate::plan`]).
//!
//! Only what carries nothing along is turned: loops whose iterations set each register before they read it, and
//! statements that share no register that either of them sets. What a kernel writes it must not read.

use super::reach::{is_walk, stores};
use super::visit::{any, each_addr, each_form, each_let, mentioned, read};
use super::{Access, Kernel, Reg, Stmt};
use crate::base::Affine;
use std::collections::HashSet;

/// The kernel backwards; `None` where its order matters, or may matter.
pub fn backwards(kernel: &Kernel) -> Option<Kernel> {
    let fixed = kernel.params.iter().any(|p| p.access == Access::ReadWrite) || is_bound(&kernel.body);
    let body = if fixed { None } else { turned(&kernel.body) }?;
    Some(Kernel { body, ..kernel.clone() })
}

/// Whether sizes known only at run time bound what is stored, or results have computed places.
fn is_bound(body: &[Stmt]) -> bool {
    any(body, &mut |stmt| match stmt {
        Stmt::Size { body, .. } => stores(body),
        Stmt::Store { addr, .. } => addr.dynamic.is_some(),
        _ => false,
    })
}

/// The statements with their loops backwards, the last part first.
fn turned(body: &[Stmt]) -> Option<Vec<Stmt>> {
    let mut setup: Vec<Stmt> = Vec::new();
    let mut parts: Vec<Vec<Stmt>> = Vec::new();
    let mut rest = body;
    while !rest.is_empty() {
        let straight = rest.iter().take_while(|s| !is_walk(s)).count();
        match straight {
            0 => parts.push(vec![turned_loop(&rest[0])?]),
            _ if !stores(&rest[..straight]) => setup.extend_from_slice(&rest[..straight]),
            _ => parts.push(rest[..straight].to_vec()),
        }
        rest = &rest[straight.max(1)..];
    }
    let is_free = |part: &Vec<Stmt>| {
        let set = assigned(part);
        let others = parts.iter().filter(|p| !std::ptr::eq(*p, part)).chain([&setup]);
        others.flatten().all(|stmt| !mentions(stmt, &set))
    };
    if !parts.iter().all(is_free) {
        return None;
    }
    setup.extend(parts.into_iter().rev().flatten());
    Some(setup)
}

fn turned_loop(stmt: &Stmt) -> Option<Stmt> {
    let Stmt::For { var, lo, hi, step, body } = stmt else { return None };
    let (first, end) = (lo.as_constant()?, hi.as_constant()?);
    let last = first + (end - 1 - first).div_euclid(*step) * step;
    if !carried(body).is_empty() {
        return None;
    }
    let mut body = turned(body).unwrap_or_else(|| body.clone());
    let from_end = Affine::var(*var).scaled(-1).offset(first + last);
    each_form(&mut body, &|v| v, &mut |form| *form = form.substitute(*var, &from_end));
    each_addr(&mut body, &mut |addr| addr.index = addr.index.substitute(*var, &from_end));
    Some(Stmt::For { var: *var, lo: lo.clone(), hi: hi.clone(), step: *step, body })
}

/// The registers that statements set and may read before.
fn carried(body: &[Stmt]) -> HashSet<Reg> {
    let set = assigned(body);
    let mut early = HashSet::new();
    read_first(body, &mut HashSet::new(), &mut early);
    set.intersection(&early).copied().collect()
}

/// Adds what statements read that is not in `set`, and to that what they set for certain.
fn read_first(body: &[Stmt], set: &mut HashSet<Reg>, early: &mut HashSet<Reg>) {
    for stmt in body {
        match stmt {
            Stmt::Let(reg, value) => {
                read(value, &mut |r| early.extend((!set.contains(&r)).then_some(r)));
                set.insert(*reg);
            }
            Stmt::For { lo, hi, body, .. } => {
                let runs = lo.as_constant().zip(hi.as_constant()).is_some_and(|(lo, hi)| lo < hi);
                let mut inside = set.clone();
                read_first(body, &mut inside, early);
                if runs {
                    *set = inside;
                }
            }
            Stmt::If { cond, then, otherwise } => {
                early.extend((!set.contains(cond)).then_some(*cond));
                [then, otherwise].into_iter().for_each(|body| read_first(body, &mut set.clone(), early));
            }
            Stmt::Size { body, .. } => read_first(body, set, early),
            Stmt::Loop { body } => read_first(body, &mut set.clone(), early),
            Stmt::Store { .. } | Stmt::Break { .. } | Stmt::Fail { .. } => {
                mentioned(stmt, &mut |r| early.extend((!set.contains(&r)).then_some(r)));
            }
        }
    }
}

/// The registers that statements assign.
fn assigned(body: &[Stmt]) -> HashSet<Reg> {
    let mut set = HashSet::new();
    each_let(body, &mut |reg, _| _ = set.insert(reg));
    set
}

fn mentions(stmt: &Stmt, regs: &HashSet<Reg>) -> bool {
    let mut found = false;
    mentioned(stmt, &mut |reg| found |= regs.contains(&reg));
    found
}
