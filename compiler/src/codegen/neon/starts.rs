//! Accumulators that begin with the same vectors in memory (a bias) load them each.
//!
//! A nest loads such vectors once for all rows of a tile and copies them: an instruction for each
//! accumulator. Loads in pairs are half as many.

use super::lives::{reads, writes};
use crate::tile::{Access, Kernel, Lane, Reg, Stmt, Value};
use std::collections::HashMap;

/// Changes copies of what is only loaded and copied into loads, but not those into registers that
/// `but` names.
pub fn load_each(kernel: &mut Kernel, but: &dyn Fn(Reg) -> bool) {
    let mut uses = Uses { assigned: vec![0; kernel.regs.len()], kept: vec![0; kernel.regs.len()] };
    uses.count(&kernel.body);
    let fits = |r: Reg, value: &Value| match value {
        Value::Load(addr, 1) => {
            let param = &kernel.params[addr.param as usize];
            // What a load converts is copied sooner.
            let converts = param.dtype.size() < 4 && kernel.regs[r as usize].lane != Lane::F16;
            param.access == Access::Read
                && !converts
                && addr.dynamic.is_none()
                && uses.assigned[r as usize] == 1
                && uses.kept[r as usize] == 0
        }
        _ => false,
    };
    let mut body = std::mem::take(&mut kernel.body);
    replace(&mut body, &fits, but);
    kernel.body = body;
}

/// How often registers are assigned, and read other than to be copied.
struct Uses {
    assigned: Vec<usize>,
    kept: Vec<usize>,
}

impl Uses {
    fn count(&mut self, body: &[Stmt]) {
        for stmt in body {
            writes(stmt).into_iter().for_each(|r| self.assigned[r as usize] += 1);
            match stmt {
                Stmt::Let(_, Value::Copy(_)) => {}
                Stmt::For { body, .. } | Stmt::Loop { body } | Stmt::Size { body, .. } => self.count(body),
                Stmt::If { then, otherwise, .. } => {
                    reads(stmt).into_iter().for_each(|r| self.kept[r as usize] += 1);
                    self.count(then);
                    self.count(otherwise);
                }
                _ => reads(stmt).into_iter().for_each(|r| self.kept[r as usize] += 1),
            }
        }
    }
}

/// A load moves to where it is copied within a straight run without stores: what it reads may be what
/// the kernel writes over.
fn replace(body: &mut Vec<Stmt>, fits: &dyn Fn(Reg, &Value) -> bool, but: &dyn Fn(Reg) -> bool) {
    let mut loaded: HashMap<Reg, (usize, Value)> = HashMap::new();
    let mut moved = Vec::new();
    for (i, stmt) in body.iter_mut().enumerate() {
        match stmt {
            Stmt::Let(r, value) if fits(*r, value) => {
                loaded.insert(*r, (i, value.clone()));
            }
            Stmt::Let(r, value) => {
                if let Value::Copy(a) = value
                    && let Some((at, load)) = loaded.get(a).filter(|_| !but(*r))
                {
                    moved.push((*a, *at));
                    *value = load.clone();
                }
            }
            Stmt::For { body, .. } | Stmt::Loop { body } | Stmt::Size { body, .. } => {
                replace(body, fits, but);
                loaded.clear();
            }
            Stmt::If { then, otherwise, .. } => {
                replace(then, fits, but);
                replace(otherwise, fits, but);
                loaded.clear();
            }
            Stmt::Store { .. } => loaded.clear(),
            Stmt::Break { .. } | Stmt::Fail { .. } => {}
        }
    }
    // Copies that were left need the first load.
    let left = |r: Reg, body: &[Stmt]| body.iter().any(|s| copies(s, r));
    let gone: Vec<usize> = moved.iter().filter(|m| !left(m.0, body)).map(|m| m.1).collect();
    let mut at = 0;
    body.retain(|_| {
        at += 1;
        !gone.contains(&(at - 1))
    });
}

/// Whether a statement, or one inside it, copies a register.
fn copies(stmt: &Stmt, r: Reg) -> bool {
    match stmt {
        Stmt::Let(_, Value::Copy(a)) => *a == r,
        Stmt::For { body, .. } | Stmt::Loop { body } | Stmt::Size { body, .. } => {
            body.iter().any(|s| copies(s, r))
        }
        Stmt::If { then, otherwise, .. } => then.iter().chain(otherwise).any(|s| copies(s, r)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tile::parse;

    const START: &str = "kernel sums { read a: i32[8] write c: i32[8]
%0: i32x4 = load a[0]
%1: i32x4 = %0
";

    fn changed(rest: &str) -> String {
        let mut kernel = parse(&format!("{START}{rest}\n}}")).unwrap_or_else(|e| panic!("{e}"));
        load_each(&mut kernel, &|_| false);
        kernel.to_string()
    }

    #[test]
    fn copies_become_loads() {
        let text = changed("%2: i32x4 = %0\nstore c[0] = %1\nstore c[4] = %2");
        assert_eq!((text.matches("load a[0]").count(), text.matches("= %0\n").count()), (2, 0), "{text}");
    }

    #[test]
    fn what_is_read_otherwise_or_after_a_store_stays() {
        let text = changed("%2: i32x4 = add %0, %1\nstore c[0] = %2");
        assert_eq!((text.matches("load a[0]").count(), text.matches("= %0\n").count()), (1, 1), "{text}");
        let text = changed("store c[0] = %1\n%2: i32x4 = %0\nstore c[4] = %2");
        assert_eq!((text.matches("load a[0]").count(), text.matches("= %0\n").count()), (2, 1), "{text}");
    }
}
