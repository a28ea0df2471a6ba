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

use crate::base::DType;
use crate::tile::{Addr, Kernel, Lane, Reg, RegType, Stmt, Value, assignments};
use std::collections::HashMap;

/// What a load of a block does.
#[derive(Clone)]
pub enum Turned {
    /// Loads all of the block.
    First(Block),
    /// Has been loaded.
    Later,
}

/// Four vectors that are loaded together.
#[derive(Clone)]
pub struct Block {
    /// In the order of memory.
    pub regs: [Reg; 4],
    /// Where the first of them begins.
    pub start: Addr,
    /// Elements from one lane to the next.
    pub stride: i64,
}

/// Whether an encoder turns registers of a type with elements of another in memory.
pub type Takes = fn(RegType, DType) -> bool;

/// Lanes that are as in memory, of 32 bits.
pub fn are_words(ty: RegType, dtype: DType) -> bool {
    matches!(ty.lane, Lane::F32 | Lane::I32) && dtype.size() == 4
}

/// Bytes in lanes of 32 bits.
pub fn are_bytes(ty: RegType, dtype: DType) -> bool {
    matches!(dtype, DType::I8 | DType::U8) && ty.lane == Lane::I32
}

/// The loads that form blocks, by their statements' addresses.
pub fn blocks(kernel: &Kernel, takes: Takes) -> HashMap<*const Stmt, Turned> {
    let single: Vec<bool> = assignments(kernel).iter().map(|a| a.len() == 1).collect();
    let mut found = HashMap::new();
    collect((kernel, takes), &single, &kernel.body, &mut found);
    found
}

fn collect(of: (&Kernel, Takes), single: &[bool], body: &[Stmt], found: &mut HashMap<*const Stmt, Turned>) {
    for (i, stmt) in body.iter().enumerate() {
        match stmt {
            Stmt::Let(..) if !found.contains_key(&std::ptr::from_ref(stmt)) => {
                let Some((members, block)) = block(of, single, &body[i..]) else { continue };
                found.extend(members.map(|member| (std::ptr::from_ref(member), Turned::Later)));
                found.insert(std::ptr::from_ref(stmt), Turned::First(block));
            }
            Stmt::For { body, .. } | Stmt::Loop { body } | Stmt::Size { body, .. } => {
                collect(of, single, body, found);
            }
            Stmt::If { then, otherwise, .. } => {
                collect(of, single, then, found);
                collect(of, single, otherwise, found);
            }
            _ => {}
        }
    }
}

/// The block of which the first of some statements loads a part, and the statements that load it.
fn block<'a>(
    (kernel, takes): (&Kernel, Takes),
    single: &[bool],
    stmts: &'a [Stmt],
) -> Option<([&'a Stmt; 4], Block)> {
    let apart = |stmt: &'a Stmt| match stmt {
        Stmt::Let(r, Value::Load(addr, stride)) if addr.dynamic.is_none() => Some((*r, addr, *stride)),
        _ => None,
    };
    let (first, start, step) = apart(stmts.first()?)?;
    let (ty, param) = (kernel.regs[first as usize], &kernel.params[start.param as usize]);
    if !takes(ty, param.dtype) || step.abs() < 4 || !single[first as usize] {
        return None;
    }
    // By place, from three before the first one to three behind it.
    let mut members: [Option<(&Stmt, Reg)>; 7] = [None; 7];
    members[3] = Some((&stmts[0], first));
    for stmt in &stmts[1..] {
        match stmt {
            Stmt::Store { addr, .. } if addr.param == start.param => return None,
            Stmt::Let(..) | Stmt::Store { .. } => {}
            _ => return None,
        }
        let joins = |&(r, addr, stride): &(Reg, &Addr, i64)| {
            let alike = (addr.param, stride) == (start.param, step) && kernel.regs[r as usize] == ty;
            alike && single[r as usize]
        };
        let Some((r, addr, _)) = apart(stmt).filter(joins) else { continue };
        let Some(place) = (0..7).find(|&place| addr.index == start.index.offset(place - 3)) else { continue };
        let member = &mut members[place as usize];
        if member.is_none() {
            *member = Some((stmt, r));
        }
        let whole = |block: &[Option<(&'a Stmt, Reg)>]| block.iter().copied().collect::<Option<Vec<_>>>();
        let found = (0..4).find_map(|from| Some((from, whole(&members[from..from + 4])?)));
        if let Some((from, block)) = found {
            let block: [(&Stmt, Reg); 4] = block.try_into().ok()?;
            let start = Addr { index: start.index.offset(from as i64 - 3), ..start.clone() };
            return Some((block.map(|m| m.0), Block { regs: block.map(|m| m.1), start, stride: step }));
        }
    }
    None
}
