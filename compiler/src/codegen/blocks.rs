//! Which loads form blocks of four by four that are turned in registers.
//!
//! A copy that exchanges axes loads lanes that lie apart, one by one, and the next vector's lanes beside them:
//! ```text
//! %0 = load in0[i] stride 3136          quarters of 4 lanes: rows of in0[i], in0[i + 3136], ...
//! %1 = load in0[i + 1] stride 3136      every 4 x 4 block of them turned at once
//! %2 = load in0[i + 2] stride 3136
//! %3 = load in0[i + 3] stride 3136
//! ```
//! Four such vectors are loaded as their rows in memory, 128 bits of each lane, and turned by eight shuffles. They are
//! loaded where the first one stands; nothing between them writes what they read.

use crate::tile::{Addr, Kernel, Lane, Reg, Stmt, Value, assignments};
use std::collections::HashMap;

/// What a load of a block does.
#[derive(Clone, Copy)]
pub enum Turned {
    /// Loads all of the block.
    First([Reg; 4]),
    /// Has been loaded.
    Later,
}

/// The loads that form blocks, by their statements' addresses.
pub fn blocks(kernel: &Kernel) -> HashMap<*const Stmt, Turned> {
    let single: Vec<bool> = assignments(kernel).iter().map(|a| a.len() == 1).collect();
    let mut found = HashMap::new();
    collect(kernel, &single, &kernel.body, &mut found);
    found
}

fn collect(kernel: &Kernel, single: &[bool], body: &[Stmt], found: &mut HashMap<*const Stmt, Turned>) {
    for (i, stmt) in body.iter().enumerate() {
        match stmt {
            Stmt::Let(..) if !found.contains_key(&std::ptr::from_ref(stmt)) => {
                let Some(block) = block(kernel, single, &body[i..]) else { continue };
                for (number, (member, _)) in block.iter().enumerate() {
                    let turned = if number == 0 { Turned::First(block.map(|b| b.1)) } else { Turned::Later };
                    found.insert(std::ptr::from_ref(*member), turned);
                }
            }
            Stmt::For { body, .. } | Stmt::Loop { body } | Stmt::Size { body, .. } => {
                collect(kernel, single, body, found);
            }
            Stmt::If { then, otherwise, .. } => {
                collect(kernel, single, then, found);
                collect(kernel, single, otherwise, found);
            }
            _ => {}
        }
    }
}

/// The block that begins with the first of some statements.
fn block<'a>(kernel: &Kernel, single: &[bool], stmts: &'a [Stmt]) -> Option<[(&'a Stmt, Reg); 4]> {
    let apart = |stmt: &'a Stmt| match stmt {
        Stmt::Let(r, Value::Load(addr, stride)) if addr.dynamic.is_none() => Some((*r, addr, *stride)),
        _ => None,
    };
    let (first, start, step) = apart(stmts.first()?)?;
    let (ty, param) = (kernel.regs[first as usize], &kernel.params[start.param as usize]);
    let quarters = matches!(ty.lane, Lane::F32 | Lane::I32) && param.dtype.size() == 4 && ty.lanes % 4 == 0;
    if !quarters || step.abs() < 4 || !single[first as usize] {
        return None;
    }
    let mut members = vec![(&stmts[0], first)];
    for stmt in &stmts[1..] {
        match stmt {
            Stmt::Store { addr, .. } if addr.param == start.param => return None,
            Stmt::Let(..) | Stmt::Store { .. } => {}
            _ => return None,
        }
        let next = start.index.offset(members.len() as i64);
        let joins = |&(r, addr, stride): &(Reg, &Addr, i64)| {
            let alike = (addr.param, stride) == (start.param, step) && kernel.regs[r as usize] == ty;
            alike && addr.index == next && single[r as usize]
        };
        if let Some((r, ..)) = apart(stmt).filter(joins) {
            members.push((stmt, r));
        }
        if members.len() == 4 {
            break;
        }
    }
    members.try_into().ok()
}
