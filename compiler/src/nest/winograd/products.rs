//! The products of a filtered convolution of bytes: those of whole numbers, made products of couples.

use crate::tile::{Dot, Kernel, Reg, RegType, Stmt, Value, mentioned};
use std::collections::HashMap;

/// Products of numbers become products of couples. Sums that begin with zero begin with their first product,
/// where no loop lies between.
pub fn multiply_couples(kernel: &mut Kernel, kind: Dot) {
    let mut body = std::mem::take(&mut kernel.body);
    let mut zeros = Zeros { regs: &mut kernel.regs, kept: Vec::new() };
    couples_of(&mut body, kind, &mut zeros);
    let zeros = zeros.kept.into_iter().map(|reg| Stmt::Let(reg, Value::Const(0)));
    kernel.body = zeros.chain(body).collect();
}

/// Registers that stay zero: one of each type.
struct Zeros<'a> {
    regs: &'a mut Vec<RegType>,
    kept: Vec<Reg>,
}

impl Zeros<'_> {
    fn of(&mut self, reg: Reg) -> Reg {
        let ty = self.regs[reg as usize];
        if let Some(&known) = self.kept.iter().find(|&&zero| self.regs[zero as usize] == ty) {
            return known;
        }
        self.regs.push(ty);
        let zero = self.regs.len() as Reg - 1;
        self.kept.push(zero);
        zero
    }
}

fn couples_of(body: &mut Vec<Stmt>, kind: Dot, zeros: &mut Zeros) {
    // Where registers became zero that nothing has read since.
    let mut begun: HashMap<Reg, usize> = HashMap::new();
    let mut unused = Vec::new();
    for (at, stmt) in body.iter_mut().enumerate() {
        match stmt {
            Stmt::Let(reg, Value::Const(0)) => _ = begun.insert(*reg, at),
            Stmt::Let(reg, value) => {
                if let Value::Mla(acc, a, b) = *value {
                    let start = begun.remove(&acc).filter(|_| acc == *reg);
                    unused.extend(start);
                    let acc = if start.is_some() { zeros.of(acc) } else { acc };
                    *value = Value::Dot(kind, acc, a, b);
                }
            }
            Stmt::For { body, .. } | Stmt::Loop { body } | Stmt::Size { body, .. } => {
                begun.clear();
                couples_of(body, kind, zeros);
            }
            _ => {}
        }
        if !matches!(stmt, Stmt::Let(_, Value::Const(_))) {
            mentioned(stmt, &mut |reg| _ = begun.remove(&reg));
        }
    }
    unused.sort_unstable();
    unused.into_iter().rev().for_each(|at| _ = body.remove(at));
}
