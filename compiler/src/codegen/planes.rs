//! Which stores write neighbours in memory lane by lane, so that lanes are turned and stored as one.
//!
//! A network's last layer makes channels of points side by side, and stores them as planes:
//! ```text
//! store y[i] stride 1024 = %0          lanes of 4 x 4 numbers of these are turned at once (eight shuffles),
//! store y[i + 1] stride 1024 = %1      each then is four neighbours in memory
//! store y[i + 2] stride 1024 = %2
//! store y[i + 3] stride 1024 = %3
//! ```
//! One by one each lane is a store of its own. Those of a plane are stored where the last one stands; nothing between
//! them reaches what they write.

use crate::codegen::blocks::are_words;
use crate::tile::{Addr, Kernel, Reg, RegType, Stmt, Value};
use std::collections::HashMap;

/// Points that are stored together, at least.
pub const FEWEST: usize = 4;

/// What a store of planes does.
#[derive(Clone)]
pub enum Stored {
    /// Waits for the last one.
    Earlier,
    /// Stores all of them.
    Last(Planes),
}

/// Neighbours that are stored together.
#[derive(Clone)]
pub struct Planes {
    /// In the order of memory, a power of two of them.
    pub regs: Vec<Reg>,
    /// Where the first lane of the first is stored.
    pub start: Addr,
    /// Elements from one lane to the next.
    pub stride: i64,
}

/// What an encoder stores together.
#[derive(Clone, Copy)]
pub struct Takes {
    /// Elements from one lane to the next, at least.
    pub stride: i64,
    /// Neighbours of a type at once, at most.
    pub most: fn(RegType) -> usize,
}

impl Takes {
    /// As many as a vector has lanes, so that each lane is a vector in the end.
    pub const ALL: Takes = Takes {
        stride: FEWEST as i64,
        most: |ty| usize::from(ty.lanes).next_power_of_two().clamp(FEWEST, 16),
    };
    /// Four, but lanes that lie nearer, which take turns.
    pub const FOUR: Takes = Takes { stride: FEWEST as i64 + 1, most: |_| FEWEST };
}

/// A store whose lanes lie apart.
#[derive(Clone, Copy)]
struct Apart<'a> {
    stmt: &'a Stmt,
    addr: &'a Addr,
    stride: i64,
    src: Reg,
    ty: RegType,
}

impl<'a> Apart<'a> {
    /// That of a store of numbers of 32 bits.
    fn of(kernel: &Kernel, takes: Takes, stmt: &'a Stmt) -> Option<Apart<'a>> {
        let Stmt::Store { addr, stride, src } = stmt else { return None };
        let (ty, dtype) = (kernel.regs[*src as usize], kernel.params[addr.param as usize].dtype);
        let apart = ty.lanes > 1 && stride.abs() >= takes.stride && addr.dynamic.is_none();
        (apart && are_words(ty, dtype)).then_some(Apart { stmt, addr, stride: *stride, src: *src, ty })
    }

    /// Whether it stores lanes as far apart as another one.
    fn is_like(&self, other: &Apart) -> bool {
        (self.addr.param, self.stride, self.ty) == (other.addr.param, other.stride, other.ty)
    }

    /// Whether it writes none of what so many neighbours of another one do that is like it.
    fn is_beside(&self, other: &Apart, neighbours: usize) -> bool {
        let from = self.addr.index.plus_scaled(&other.addr.index, -1);
        let lanes = i64::from(self.ty.lanes);
        let near = |lane: i64| (from.base - lane * self.stride).abs() < neighbours as i64;
        from.is_constant() && !(1 - lanes..lanes).any(near)
    }
}

/// The stores that are done together, by their statements' addresses.
pub fn planes(kernel: &Kernel, takes: Takes) -> HashMap<*const Stmt, Stored> {
    let mut found = HashMap::new();
    collect((kernel, takes), &kernel.body, &mut found);
    found
}

fn collect(of: (&Kernel, Takes), body: &[Stmt], found: &mut HashMap<*const Stmt, Stored>) {
    for (i, stmt) in body.iter().enumerate() {
        match stmt {
            Stmt::Store { .. } if !found.contains_key(&std::ptr::from_ref(stmt)) => {
                let Some(first) = Apart::of(of.0, of.1, stmt) else { continue };
                let members = neighbours(of, first, &body[i + 1..]);
                let Some(last) = members.last() else { continue };
                found.extend(members.iter().map(|m| (std::ptr::from_ref(m.stmt), Stored::Earlier)));
                let regs = members.iter().map(|m| m.src).collect();
                let planes = Planes { regs, start: first.addr.clone(), stride: first.stride };
                found.insert(std::ptr::from_ref(last.stmt), Stored::Last(planes));
            }
            Stmt::For { body, .. } | Stmt::Loop { body } | Stmt::Size { body, .. } => {
                collect(of, body, found)
            }
            Stmt::If { then, otherwise, .. } => {
                collect(of, then, found);
                collect(of, otherwise, found);
            }
            _ => {}
        }
    }
}

/// A store and those behind it of what follows in memory, a power of two of them; none where they are fewer than are
/// stored together.
fn neighbours<'a>((kernel, takes): (&Kernel, Takes), first: Apart<'a>, rest: &'a [Stmt]) -> Vec<Apart<'a>> {
    let param = first.addr.param;
    // Lanes that lie nearer would be written by several of them.
    let most = (takes.most)(first.ty).min(first.stride.unsigned_abs() as usize);
    let mut members = vec![first];
    for stmt in rest {
        match stmt {
            _ if members.len() == most => break,
            Stmt::Let(reg, _) if members.iter().any(|m| m.src == *reg) => break,
            Stmt::Let(
                _,
                Value::Load(addr, _)
                | Value::LoadWords(addr, _)
                | Value::LoadCouples(addr)
                | Value::Lookup(addr, _),
            ) if addr.param == param => break,
            Stmt::Store { addr, .. } if addr.param == param => {
                let Some(next) = Apart::of(kernel, takes, stmt).filter(|s| s.is_like(&first)) else { break };
                if next.addr.index == first.addr.index.offset(members.len() as i64) {
                    members.push(next);
                } else if !next.is_beside(&first, most) {
                    break;
                }
            }
            Stmt::Let(..) | Stmt::Store { .. } => {}
            _ => break,
        }
    }
    members.truncate(if members.len() < FEWEST { 0 } else { 1 << members.len().ilog2() });
    members
}
