//! How many vectors registers of the kernel take: narrow values few, sums that are kept in pairs two for
//! one, numbers that stand in instructions none.

use super::flip::ONES;
use super::isa::Isa;
use super::lives::operands;
use crate::tile::{Bin, Convert, Dot, EACH, Kernel, Lane, Reg, Value, assignments};

/// Registers that are sums of products of bytes and what these begin with, where they are kept as
/// sums of pairs.
pub fn split(kernel: &Kernel, all: &[Vec<&Value>], isa: Isa) -> Vec<bool> {
    let ones = |r: Reg| matches!(all[r as usize][..], [Value::Const(bits)] if *bits == u64::from(ONES));
    let is_sum = |(r, list): (usize, &Vec<&Value>)| {
        let own = |v: &&Value| match v {
            Value::Const(0) => true,
            Value::Load(addr, _) => kernel.params[addr.param as usize].dtype.size() == 4,
            Value::Copy(a) => *a != r as Reg,
            Value::Bin(Bin::Add, acc, _) => *acc == r as Reg,
            Value::Dot(Dot::Halves | Dot::HalfPairs | Dot::Bytes | Dot::Couples | Dot::CoupleHalves, ..) => {
                false
            }
            Value::Dot(_, acc, a, b) => *acc == r as Reg && *a != *acc && *b != *acc && !ones(*b),
            _ => false,
        };
        let multiplies = list.iter().any(|v| matches!(v, Value::Dot(..)));
        !isa.dot && multiplies && list.len() > 1 && list.iter().all(own)
    };
    all.iter().enumerate().map(is_sum).collect()
}

/// Constants that stand in instructions: counts of shifts, and the limits of bytes, to which narrowing
/// clamps.
fn numbers(all: &[Vec<&Value>]) -> Vec<bool> {
    let bits = |r: Reg| match all[r as usize][..] {
        [Value::Const(bits)] => Some(*bits as i32),
        _ => None,
    };
    let limit = |r: Reg| matches!(bits(r), Some(-128 | 127 | 0 | 255));
    let mut numbers: Vec<bool> = (0..all.len() as Reg).map(|r| bits(r).is_some()).collect();
    for value in all.iter().flatten() {
        for (place, r) in operands(value).into_iter().enumerate() {
            numbers[r as usize] &= match value {
                Value::Bin(Bin::Shl | Bin::ShrS | Bin::ShrU | Bin::ShrRound, ..) => place == 1,
                Value::Bin(Bin::Min | Bin::Max, ..) => limit(r),
                Value::Dot(Dot::HalfPairs, ..) => place == 0 && bits(r) == Some(0),
                Value::Dot(Dot::Couples, ..) => place == 2 && bits(r) == Some(EACH as i32),
                _ => false,
            };
        }
    }
    numbers
}

/// Registers that are kept as sums of pairs: they begin with what is widened anew for each.
pub fn sums_of_pairs(kernel: &Kernel, isa: Isa) -> Vec<bool> {
    split(kernel, &assignments(kernel), isa)
}

/// The vectors that each register of a kernel takes while it waits.
pub fn sizes(kernel: &Kernel, isa: Isa) -> Vec<usize> {
    let all = assignments(kernel);
    let split = split(kernel, &all, isa);
    let numbers = numbers(&all);
    let size = |(r, list): (usize, &Vec<&Value>)| {
        let lanes = usize::from(kernel.regs[r].lanes);
        match list[..] {
            [Value::Const(_)] if numbers[r] => 0,
            [Value::Load(_, 0) | Value::LoadWords(_, 0) | Value::Const(_)] => 1,
            _ if kernel.regs[r].lane == Lane::F16 => lanes.div_ceil(8),
            [Value::Load(addr, _)] if !kernel.params[addr.param as usize].dtype.is_float() => {
                (lanes * kernel.params[addr.param as usize].dtype.size()).div_ceil(16)
            }
            [Value::Bin(Bin::Xor, a, _)] if matches!(all[*a as usize][..], [Value::LoadWords(_, 0)]) => 1,
            [Value::Convert(Convert::ZextLow(8), _) | Value::Lookup(..)] => lanes.div_ceil(16),
            [Value::Bin(Bin::Shl, a, _)]
                if matches!(all[*a as usize][..], [Value::Convert(Convert::ZextLow(8), _)]) =>
            {
                lanes.div_ceil(16)
            }
            _ => lanes.div_ceil(4) * if split[r] { 2 } else { 1 },
        }
    };
    all.iter().enumerate().map(size).collect()
}
