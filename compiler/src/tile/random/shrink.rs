//! Makes a kernel that shows a failure smaller, statement by statement.

use crate::tile::visit::each_reg;
use crate::tile::{Kernel, Reg, Stmt, verify};

/// The smallest kernel found by leaving out statements, and by putting the bodies of loops and
/// branches in their place, that is valid and still `fails`.
pub fn shrink(kernel: &Kernel, fails: &dyn Fn(&Kernel) -> bool) -> Kernel {
    let mut best = kernel.clone();
    let mut at = 0;
    loop {
        let mut changed = false;
        while let Some((without, unwrapped)) = cuts(&best, at) {
            let smaller = [Some(without), unwrapped].into_iter().flatten();
            match smaller.into_iter().find(|k| verify(k).is_ok() && fails(k)) {
                Some(kernel) => {
                    best = kernel;
                    changed = true;
                }
                None => at += 1,
            }
        }
        if !changed {
            let compact = without_unused(&best);
            return if fails(&compact) { compact } else { best };
        }
        at = 0;
    }
}

/// The kernel without its statement number `at`, and with that statement's body in its place.
fn cuts(kernel: &Kernel, at: usize) -> Option<(Kernel, Option<Kernel>)> {
    let (mut without, mut unwrapped) = (kernel.clone(), kernel.clone());
    let removed = replace(&mut without.body, &mut { at }, &|_| Vec::new())?;
    let has_body =
        !matches!(removed, Stmt::Let(..) | Stmt::Store { .. } | Stmt::Break { .. } | Stmt::Fail { .. });
    replace(&mut unwrapped.body, &mut { at }, &inner);
    Some((without, has_body.then_some(unwrapped)))
}

fn inner(stmt: &Stmt) -> Vec<Stmt> {
    match stmt {
        Stmt::For { body, .. } | Stmt::Loop { body } | Stmt::Size { body, .. } => body.clone(),
        Stmt::If { then, otherwise, .. } => then.iter().chain(otherwise).cloned().collect(),
        _ => Vec::new(),
    }
}

/// Puts other statements in the place of number `left`, counted in the order of the text.
fn replace(body: &mut Vec<Stmt>, left: &mut usize, by: &dyn Fn(&Stmt) -> Vec<Stmt>) -> Option<Stmt> {
    for i in 0..body.len() {
        if *left == 0 {
            let new = by(&body[i]);
            return body.splice(i..=i, new).next();
        }
        *left -= 1;
        let found = match &mut body[i] {
            Stmt::For { body, .. } | Stmt::Loop { body } | Stmt::Size { body, .. } => replace(body, left, by),
            Stmt::If { then, otherwise, .. } => {
                replace(then, left, by).or_else(|| replace(otherwise, left, by))
            }
            _ => None,
        };
        if found.is_some() {
            return found;
        }
    }
    None
}

/// The kernel with only the registers it mentions.
fn without_unused(kernel: &Kernel) -> Kernel {
    let mut kernel = kernel.clone();
    let mut number: Vec<Option<Reg>> = vec![None; kernel.regs.len()];
    let mut regs = Vec::new();
    let types = kernel.regs.clone();
    each_reg(&mut kernel.body, &mut |reg| {
        let old = *reg as usize;
        *reg = *number[old].get_or_insert_with(|| {
            regs.push(types[old]);
            (regs.len() - 1) as Reg
        });
    });
    kernel.regs = regs;
    kernel
}
