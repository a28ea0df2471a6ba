//! Loads that are one instruction, and the accesses that take displacements.

use super::inst::{Inst, Kind, VReg};
use super::words::Access;

/// Loads of one instruction.
pub struct Group {
    /// Where it is: at one of the loads that it is in place of, or before an instruction that has nothing to do
    /// with its address.
    pub at: usize,
    /// What it is in place of.
    pub gone: Vec<usize>,
    /// The registers in order.
    pub members: Vec<VReg>,
    /// The address: a register, ...
    pub base: VReg,
    /// ... and bytes from it.
    pub disp: i64,
    /// Each lane of a register is the same element, of so many bytes.
    pub copies: Option<usize>,
}

impl Group {
    /// The bytes that it reads.
    pub fn bytes(&self) -> i64 {
        self.members.len() as i64 * self.copies.unwrap_or(16) as i64
    }

    /// The instructions that it is in place of, where neighbours in reach are loaded in pairs.
    pub fn before(&self) -> i64 {
        let near = (-1024..=1008).contains(&self.disp) && self.disp + self.bytes() <= 1024;
        match (self.copies, near) {
            (Some(_), _) => self.gone.len() as i64,
            (_, true) => (self.gone.len() as i64 + 1) / 2,
            _ => self.gone.len() as i64,
        }
    }
}

/// A load or store with a displacement, its base, and the displacement.
pub fn access(inst: &Inst) -> Option<(Access, VReg, i64)> {
    let (form, disp) = Access::of(inst.word)?;
    let fits = matches!(inst.kind, Kind::Plain | Kind::Store) && inst.fields.len() == 2;
    fits.then(|| (form, inst.fields[1].reg, disp))
}
