//! Stores of vectors whose lanes take turns in memory (channels of pixels): `st2` to `st4` write two to
//! four vectors at once, an element of each in turn.
//!
//! The first of such stores wait, packed, for the last. They take consecutive registers, which the allocator
//! gives where it can (`emit` writes the elements one by one where it could not).

use super::address::Mem;
use super::inst::{Kind, NOWHERE, VReg, read};
use super::lives::writes;
use super::select::Select;
use super::words;
use crate::tile::{Addr, Reg, Stmt, Value};

/// Stores that one instruction can do.
const MOST: i64 = 4;

impl Select<'_> {
    /// Takes note of the stores that a list of statements begins with, where their lanes take turns and
    /// nothing in between reads what they write or writes what they read.
    pub(super) fn look_for_turns(&mut self, body: &[Stmt]) {
        let [Stmt::Store { addr, stride: stride @ 2..=MOST, src }, rest @ ..] = body else { return };
        let dtype = self.kernel.params[addr.param as usize].dtype;
        let bytes = usize::from(self.ty(*src).lanes) * dtype.size();
        if self.turns.left > 0 || !bytes.is_multiple_of(16) {
            return;
        }
        let mut sources: Vec<Reg> = vec![*src];
        for stmt in rest {
            match stmt {
                Stmt::Store { addr: next, stride: same, src } => {
                    let place = Addr { index: addr.index.offset(sources.len() as i64), ..addr.clone() };
                    let alike = self.ty(*src) == self.ty(sources[0]) && !sources.contains(src);
                    if *next != place || same != stride || !alike {
                        return;
                    }
                    sources.push(*src);
                }
                Stmt::Let(
                    _,
                    Value::Load(from, _)
                    | Value::LoadWords(from, _)
                    | Value::LoadCouples(from)
                    | Value::Lookup(from, _),
                ) if from.param == addr.param => {
                    return;
                }
                Stmt::Let(..) if writes(stmt).is_some_and(|r| sources.contains(&r)) => return,
                Stmt::Let(..) => {}
                _ => return,
            }
            if sources.len() == *stride as usize {
                self.turns.left = sources.len();
                return;
            }
        }
    }

    /// Lets a store wait, or stores it with all that wait where it is the last; whether it is one of those.
    pub(super) fn take_turn(&mut self, packed: &[VReg], size: usize, mem: Mem) -> bool {
        if self.turns.left == 0 {
            return false;
        }
        self.turns.left -= 1;
        self.turns.packed.push(packed.to_vec());
        if self.turns.left == 0 {
            let packed = std::mem::take(&mut self.turns.packed);
            let first = mem.offset(-(((packed.len() - 1) * size) as i64));
            for vector in 0..packed[0].len() {
                let address = self.at(first.offset((16 * packed.len() * vector) as i64));
                let field = |(i, of): (usize, &Vec<VReg>)| read(of[vector], if i == 0 { 0 } else { NOWHERE });
                let mut fields: Vec<_> = packed.iter().enumerate().map(field).collect();
                fields.push(read(address, 5));
                self.push(words::st_turns(packed.len(), size), fields, Kind::Turns(packed.len() as u8));
            }
        }
        true
    }
}
