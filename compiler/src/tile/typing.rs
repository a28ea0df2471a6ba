//! What one statement may read and write: registers that are assigned, of the types its operations need, forms in
//! variables of loops around it, and elements inside their parameters (invariants 2, 3, 4 and 6 of [`super::verify`]).

use super::range::{Loop, is_empty, range};
use super::{Access, Addr, Kernel, Lane, Reg, RegType, TABLE, Value, extends, has_words, lanes, words_span};
use crate::base::Affine;

/// What is wrong, if anything.
pub(super) type Verdict = Result<(), String>;

fn require(holds: bool, reason: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(reason()) }
}

/// The operation is one that the lane type has.
fn exists(known: bool, on: RegType) -> Verdict {
    require(known, || format!("there is no such operation on {on}"))
}

/// The place of a statement in its kernel.
pub(super) struct Scope<'a> {
    pub kernel: &'a Kernel,
    /// The loops around it, outermost first.
    pub loops: &'a [Loop],
    /// Which registers are assigned on every path to it.
    pub assigned: &'a [bool],
}

impl Scope<'_> {
    /// A form is in variables of loops around.
    pub(super) fn form(&self, form: &Affine) -> Verdict {
        let around = |v: u32| self.loops.iter().any(|l| l.var == v);
        match form.terms.iter().find(|t| !around(t.0)) {
            None => Ok(()),
            Some((v, _)) => {
                let name = self.kernel.vars.get(*v as usize).map_or("?", String::as_str);
                Err(format!("no loop around has the variable '{name}'"))
            }
        }
    }

    /// A register is a condition.
    pub(super) fn condition(&self, reg: Reg) -> Verdict {
        let ty = self.used(reg)?;
        require(ty.lanes == 1 && ty.lane == ty.lane.mask(), || {
            format!("a condition must be a scalar mask, %{reg} is {ty}")
        })
    }

    /// A register is stored `stride` elements apart.
    pub(super) fn stored(&self, addr: &Addr, stride: i64, src: Reg) -> Verdict {
        let ty = self.used(src)?;
        self.address(addr, ty, (stride, 1), Access::Write)?;
        let dtype = self.kernel.params[addr.param as usize].dtype;
        if extends(dtype, ty.lane) { Ok(()) } else { self.element_fits(addr, ty) }
    }

    /// A number of one element is read.
    pub(super) fn number(&self, from: &Addr) -> Verdict {
        self.address(from, RegType { lane: Lane::I64, lanes: 1 }, (0, 1), Access::Read)
    }

    /// A value has the type of the register it is assigned to, and its operands have those it needs.
    pub(super) fn value(&self, dst: RegType, value: &Value) -> Verdict {
        match value {
            Value::Const(bits) => {
                let fits = match dst.lane {
                    Lane::F16 => *bits <= u64::from(u16::MAX),
                    Lane::F32 | Lane::I32 => *bits <= u64::from(u32::MAX),
                    Lane::M32 | Lane::M64 => *bits <= 1,
                    Lane::F64 | Lane::I64 => true,
                };
                require(fits, || format!("{bits:#x} does not fit {dst}"))
            }
            Value::Index(form, _) => {
                exists(matches!(dst.lane, Lane::I32 | Lane::I64), dst)?;
                self.form(form)
            }
            Value::Copy(a) => self.have(&[a], dst),
            Value::Load(..) | Value::LoadWords(..) | Value::LoadCouples(_) | Value::Lookup(..) => {
                self.loaded(dst, value)
            }
            Value::Splat(_) | Value::Broadcast(..) | Value::Pairs(_) | Value::Reduce(..) => {
                self.across(dst, value)
            }
            Value::Un(..)
            | Value::Bin(..)
            | Value::Mla(..)
            | Value::Dot(..)
            | Value::Cmp(..)
            | Value::Select(..)
            | Value::Convert(..) => self.lane_by_lane(dst, value),
        }
    }

    /// What is read from memory.
    fn loaded(&self, dst: RegType, value: &Value) -> Verdict {
        let (addr, step, span) = match value {
            Value::Load(addr, stride) => (addr, *stride, 1),
            Value::LoadCouples(addr) => (addr, 2, 2),
            Value::Lookup(addr, _) => (addr, 0, TABLE as i64),
            Value::LoadWords(addr, stride) => {
                let size = self.kernel.params.get(addr.param as usize).map_or(1, |p| p.dtype.size());
                let (step, span) = words_span(usize::from(dst.lanes), *stride, size);
                (addr, step, span)
            }
            _ => return Err(format!("{value:?} reads no memory")),
        };
        self.address(addr, dst, (step, span), Access::Read)?;
        if let Value::Load(..) = value {
            return self.element_fits(addr, dst);
        }
        result_is(RegType { lane: Lane::I32, ..dst }, dst)?;
        let dtype = self.kernel.params[addr.param as usize].dtype;
        match value {
            Value::LoadWords(_, stride) => match dtype.size() {
                _ if has_words(dtype.size(), *stride) => Ok(()),
                1 | 2 => Err(format!("words that lie {stride} bytes apart")),
                _ => Err(format!("words of {dtype} elements")),
            },
            Value::Lookup(_, a) => {
                require(dtype.size() == 1, || format!("a table of {dtype} elements"))?;
                self.have(&[a], dst)
            }
            _ => require(dtype.size() == 1, || format!("couples of {dtype} elements")),
        }
    }

    /// Each lane of the result is computed from the same lane of the operands.
    fn lane_by_lane(&self, dst: RegType, value: &Value) -> Verdict {
        match value {
            Value::Un(op, a) => {
                exists(lanes::un(*op, dst.lane).is_some(), dst)?;
                self.have(&[a], dst)
            }
            Value::Bin(op, a, b) => {
                exists(lanes::bin(*op, dst.lane).is_some(), dst)?;
                self.have(&[a, b], dst)
            }
            Value::Mla(c, a, b) => {
                exists(lanes::mla(dst.lane, true).is_some(), dst)?;
                self.have(&[c, a, b], dst)
            }
            Value::Dot(kind, c, a, b) => {
                exists(
                    dst.lane == Lane::I32 && usize::from(dst.lanes).is_multiple_of(lanes::together(*kind)),
                    dst,
                )?;
                self.have(&[c, a, b], dst)
            }
            Value::Cmp(op, a, b) => {
                let ty = self.used(*a)?;
                exists(lanes::cmp(*op, ty.lane).is_some(), RegType { lanes: dst.lanes, ..ty })?;
                self.have(&[b], ty)?;
                result_is(RegType { lane: ty.lane.mask(), ..ty }, dst)
            }
            Value::Select(mask, a, b) => {
                exists(dst.lane != Lane::F16, dst)?;
                self.have(&[mask], RegType { lane: dst.lane.mask(), ..dst })?;
                self.have(&[a, b], dst)
            }
            Value::Convert(kind, a) => {
                let ty = self.used(*a)?;
                result_is(RegType { lanes: ty.lanes, ..dst }, dst)?;
                let known = lanes::convert(*kind, ty.lane, dst.lane, 0).is_some();
                require(known, || format!("there is no such conversion of {ty} to {dst}"))
            }
            _ => Err(format!("{value:?} is not computed lane by lane")),
        }
    }

    /// Lanes of the result come from other lanes of the operands.
    fn across(&self, dst: RegType, value: &Value) -> Verdict {
        match value {
            Value::Splat(a) => self.have(&[a], RegType { lanes: 1, ..dst }),
            Value::Broadcast(a, lane) => {
                let ty = self.used(*a)?;
                result_is(RegType { lane: ty.lane, ..dst }, dst)?;
                require(*lane < ty.lanes, || format!("%{a} has only {} lanes", ty.lanes))
            }
            Value::Pairs(pairs) => {
                result_is(RegType { lanes: (2 * pairs.len()) as u8, ..dst }, dst)?;
                pairs.iter().try_for_each(|(a, lane)| {
                    let ty = self.used(*a)?;
                    let known = matches!(ty.lane, Lane::I32 | Lane::F32);
                    exists(known, RegType { lanes: dst.lanes, ..ty })?;
                    result_is(RegType { lane: ty.lane, ..dst }, dst)?;
                    let inside = lane.is_multiple_of(2) && lane + 1 < ty.lanes;
                    require(inside, || format!("%{a} has no pair of lanes at {lane}"))
                })
            }
            Value::Reduce(fold, a) => {
                let ty = self.used(*a)?;
                let known = lanes::fold(*fold, ty.lane).is_some();
                exists(known, RegType { lanes: dst.lanes, ..ty })?;
                result_is(RegType { lanes: 1, ..ty }, dst)
            }
            _ => Err(format!("{value:?} keeps to its lanes")),
        }
    }

    /// The type of a register that is read.
    fn used(&self, reg: Reg) -> Result<RegType, String> {
        match self.kernel.regs.get(reg as usize) {
            None => Err(format!("there is no %{reg}")),
            Some(_) if !self.assigned[reg as usize] => {
                Err(format!("%{reg} is not assigned on every path to here"))
            }
            Some(ty) => Ok(*ty),
        }
    }

    /// All of `regs` are assigned and of a type.
    fn have(&self, regs: &[&Reg], wanted: RegType) -> Verdict {
        regs.iter().try_for_each(|r| {
            let ty = self.used(**r)?;
            require(ty == wanted, || format!("%{r} is {ty} and should be {wanted}"))
        })
    }

    fn element_fits(&self, addr: &Addr, ty: RegType) -> Verdict {
        let dtype = self.kernel.params[addr.param as usize].dtype;
        let lane = RegType { lane: Lane::of(dtype), ..ty };
        require(ty.lane.holds(dtype), || format!("elements {dtype} are held in {lane}, not {ty}"))
    }

    /// All lanes of an access, `span` elements each and `step` apart, lie inside the parameter.
    fn address(&self, addr: &Addr, ty: RegType, (step, span): (i64, i64), access: Access) -> Verdict {
        let Some(param) = self.kernel.params.get(addr.param as usize) else {
            return Err(format!("there is no parameter {}", addr.param));
        };
        if param.access != access && param.access != Access::ReadWrite {
            return Err(format!("'{}' is declared {:?} only", param.name, param.access));
        }
        self.form(&addr.index)?;
        let mut limit = 0;
        if let Some((reg, most)) = addr.dynamic {
            self.have(&[&reg], RegType { lane: Lane::I64, lanes: 1 })?;
            limit = most as i128;
        }
        if self.loops.iter().any(is_empty) {
            return Ok(());
        }
        let Some((low, high)) = range(&addr.index, self.loops) else {
            return Err(format!("no range of the index into '{}' is found", param.name));
        };
        let across = i128::from(step) * (i128::from(ty.lanes) - 1);
        let first = i128::from(low) + across.min(0);
        let last = i128::from(high) + across.max(0) + limit + i128::from(span) - 1;
        let elems = param.elems;
        require(first >= 0 && last < elems as i128, || {
            format!("the access reaches from {first} to {last}, '{}' has {elems} elements", param.name)
        })
    }
}

fn result_is(wanted: RegType, dst: RegType) -> Verdict {
    require(wanted == dst, || format!("the result is {wanted}, not {dst}"))
}
