//! Encodings of the instructions that are used, from the Arm Architecture Reference Manual (DDI
//! 0487, C6 and C7): register fields are zero. Names are the mnemonics with the arrangement of the
//! result; the first field is at bit 0, the second at 5, the third at 16, a fourth at 10.

use crate::tile::Signs;

/// `b label`.
pub const B: u32 = 0x1400_0000;
/// `b.cond label`; the condition is in the lowest four bits.
pub const B_COND: u32 = 0x5400_0000;
/// `ret`.
pub const RET: u32 = 0xd65f_03c0;

/// Conditions.
pub const NE: u32 = 1;
pub const GE: u32 = 10;
pub const LT: u32 = 11;
pub const GT: u32 = 12;

/// `add xd, xn, #imm` with the number at bit 10 (12 bits; bit 22 shifts it by 12).
pub const ADD_IMM: u32 = 0x9100_0000;
pub const SUB_IMM: u32 = 0xd100_0000;
/// `subs xd, xn, #imm`.
pub const SUBS_IMM: u32 = 0xf100_0000;
pub const ADD: u32 = 0x8b00_0000;
/// `cmp xn, xm`: `subs xzr, xn, xm`.
pub const CMP: u32 = 0xeb00_001f;
/// `cmp xn, #imm`.
pub const CMP_IMM: u32 = 0xf100_001f;
/// `csel xd, xn, xm, cond`; the condition is at bit 12.
pub const CSEL: u32 = 0x9a80_0000;
/// `madd xd, xn, xm, xa`.
pub const MADD: u32 = 0x9b00_0000;
/// The number of the register that reads as zero, where it is not the stack pointer.
pub const ZERO: u32 = 31;
/// `movz`, `movn`, `movk xd, #imm, lsl #(16 * hw)`: the number at bit 5, `hw` at bit 21.
pub const MOVZ: u32 = 0xd280_0000;
pub const MOVN: u32 = 0x9280_0000;
pub const MOVK: u32 = 0xf280_0000;
/// `mov xd, xm`: `orr xd, xzr, xm`.
pub const MOV_X: u32 = 0xaa00_03e0;
/// `mov vd, vn`: `orr` with the same register twice.
pub const MOV_V: u32 = 0x4ea0_1c00;

/// A load or store of one register: the size in bytes, the forms with a scaled offset of 12 bits
/// at bit 10, and with one of 9 bits in bytes at bit 12.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    pub size: i64,
    pub scaled: u32,
    pub unscaled: u32,
}

impl Access {
    /// The instruction, where it reaches as far.
    pub fn encoded(self, disp: i64) -> Option<u32> {
        if disp >= 0 && disp % self.size == 0 && disp / self.size < 4096 {
            return Some(self.scaled | ((disp / self.size) as u32) << 10);
        }
        (-256..256).contains(&disp).then_some(self.unscaled | (disp as u32 & 0x1ff) << 12)
    }

    /// What an instruction without its registers is, and its displacement.
    pub fn of(word: u32) -> Option<(Access, i64)> {
        let all = LDR.iter().chain(&STR).chain(&[LDR_X, LDR_W, STR_X]);
        all.copied().find_map(|form| match () {
            _ if word & 0xffc0_0000 == form.scaled => Some((form, i64::from(word >> 10 & 0xfff) * form.size)),
            _ if word & 0xffe0_0c00 == form.unscaled => Some((form, i64::from((word << 11) as i32 >> 23))),
            _ => None,
        })
    }
}

const fn access(size: i64, scaled: u32, unscaled: u32) -> Access {
    Access { size, scaled, unscaled }
}

pub const LDR_X: Access = access(8, 0xf940_0000, 0xf840_0000);
pub const LDR_W: Access = access(4, 0xb940_0000, 0xb840_0000);
pub const STR_X: Access = access(8, 0xf900_0000, 0xf800_0000);
const LDR: [Access; 5] = [
    access(1, 0x3d40_0000, 0x3c40_0000),
    access(2, 0x7d40_0000, 0x7c40_0000),
    access(4, 0xbd40_0000, 0xbc40_0000),
    access(8, 0xfd40_0000, 0xfc40_0000),
    access(16, 0x3dc0_0000, 0x3cc0_0000),
];
const STR: [Access; 5] = [
    access(1, 0x3d00_0000, 0x3c00_0000),
    access(2, 0x7d00_0000, 0x7c00_0000),
    access(4, 0xbd00_0000, 0xbc00_0000),
    access(8, 0xfd00_0000, 0xfc00_0000),
    access(16, 0x3d80_0000, 0x3c80_0000),
];

/// `ldr` of 1 to 16 bytes into the low end of a vector.
pub fn ldr(bytes: usize) -> Access {
    LDR[bytes.trailing_zeros() as usize]
}

/// `str` of the low end of a vector.
pub fn str(bytes: usize) -> Access {
    STR[bytes.trailing_zeros() as usize]
}

/// `ldr qt, label`, the distance at bit 5.
pub const LDR_LITERAL: u32 = 0x9c00_0000;

/// The bits that name a lane of so many bytes in `ld1` and `st1` of one lane.
fn single(bytes: usize, lane: u32) -> u32 {
    match bytes {
        1 => (lane >> 3) << 30 | (lane & 7) << 10,
        2 => 0x4000 | (lane >> 2) << 30 | (lane & 3) << 11,
        4 => 0x8000 | (lane >> 1) << 30 | (lane & 1) << 12,
        _ => 0x8400 | lane << 30,
    }
}

/// `ld1 {vt.T}[lane], [xn]`.
pub fn ld1(bytes: usize, lane: usize) -> u32 {
    0x0d40_0000 | single(bytes, lane as u32)
}

/// `st1 {vt.T}[lane], [xn]`.
pub fn st1(bytes: usize, lane: usize) -> u32 {
    0x0d00_0000 | single(bytes, lane as u32)
}

/// `ld1 {vt.16b, ...}, [xn]` of so many consecutive registers, 2 to 4.
pub fn ld_neighbours(count: usize) -> u32 {
    0x4c40_0000 | [0xa000, 0x6000, 0x2000][count.clamp(2, 4) - 2]
}

/// `st2 {vt.T, ...}, [xn]` to `st4` of so many consecutive registers, 2 to 4, an element of each in turn.
pub fn st_turns(count: usize, size: usize) -> u32 {
    0x4c00_0000 | [0x8000, 0x4000, 0][count.clamp(2, 4) - 2] | size.ilog2() << 10
}

/// The bytes of an element that [`st_turns`] stores or [`ld_copies`] loads.
pub fn size_of_element(word: u32) -> usize {
    1 << (word >> 10 & 3)
}

/// `ld1r {vt.T}, [xn]` to `ld4r`: each of so many consecutive registers is filled with one element.
pub fn ld_copies(count: usize, size: usize) -> u32 {
    let count = count.clamp(1, 4) as u32 - 1;
    0x4d40_c000 | (count & 1) << 21 | (count >> 1) << 13 | size.ilog2() << 10
}

/// Makes either add a register (at bit 16; [`ZERO`]: the bytes it reads) to the address afterwards.
pub const AFTER: u32 = 0x0080_0000;

/// The number in `dup` and `mov` that names a lane.
fn lane5(bytes: usize, lane: usize) -> u32 {
    ((2 * lane as u32 + 1) * bytes as u32) << 16
}

/// `dup vd.T, vn.T[lane]`.
pub fn dup(bytes: usize, lane: usize) -> u32 {
    0x4e00_0400 | lane5(bytes, lane)
}

/// `mov vd.T[lane], vn.T[from]`.
pub fn ins(bytes: usize, lane: usize, from: usize) -> u32 {
    0x6e00_0400 | lane5(bytes, lane) | (from as u32 * bytes as u32) << 11
}

/// `ext vd.16b, vn.16b, vm.16b, #bytes`.
pub fn ext(bytes: usize) -> u32 {
    0x6e00_0000 | (bytes as u32) << 11
}

pub const FADD: u32 = 0x4e20_d400;
pub const FSUB: u32 = 0x4ea0_d400;
pub const FMUL: u32 = 0x6e20_dc00;
pub const FDIV: u32 = 0x6e20_fc00;
pub const FMIN: u32 = 0x4ea0_f400;
pub const FMAX: u32 = 0x4e20_f400;
pub const FMLA: u32 = 0x4e20_cc00;
pub const FNEG: u32 = 0x6ea0_f800;
pub const FABS: u32 = 0x4ea0_f800;
pub const FSQRT: u32 = 0x6ea1_f800;
pub const FRINTM: u32 = 0x4e21_9800;
pub const FRINTP: u32 = 0x4ea1_8800;
pub const FRINTZ: u32 = 0x4ea1_9800;
pub const FRINTN: u32 = 0x4e21_8800;
pub const FCVTZS: u32 = 0x4ea1_b800;
pub const FCVTZU: u32 = 0x6ea1_b800;
pub const FCVTNS: u32 = 0x4e21_a800;
pub const SCVTF: u32 = 0x4e21_d800;
pub const UCVTF: u32 = 0x6e21_d800;
pub const FCMEQ: u32 = 0x4e20_e400;
pub const FCMGE: u32 = 0x6e20_e400;
pub const FCMGT: u32 = 0x6ea0_e400;
/// `bfcvtn vd.4h, vn.4s`, of processors with BF16.
pub const BFCVTN: u32 = 0x0ea1_6800;
/// `fcvtl vd.4s, vn.4h`, `fcvtl2`, and the way back.
pub const FCVTL: u32 = 0x0e21_7800;
pub const FCVTN: u32 = 0x0e21_6800;

pub const ADD_V: u32 = 0x4ea0_8400;
pub const SUB_V: u32 = 0x6ea0_8400;
pub const MUL_V: u32 = 0x4ea0_9c00;
pub const MLA_V: u32 = 0x4ea0_9400;
pub const NEG_V: u32 = 0x6ea0_b800;
pub const ABS_V: u32 = 0x4ea0_b800;
pub const SMIN: u32 = 0x4ea0_6c00;
pub const SMAX: u32 = 0x4ea0_6400;
pub const UMIN: u32 = 0x6ea0_6c00;
pub const UMAX: u32 = 0x6ea0_6400;
pub const CMEQ: u32 = 0x6ea0_8c00;
pub const CMGT: u32 = 0x4ea0_3400;
pub const CMGE: u32 = 0x4ea0_3c00;
pub const CMHI: u32 = 0x6ea0_3400;
pub const CMHS: u32 = 0x6ea0_3c00;
/// Shifts each lane left by the signed lowest byte of the other's, right where it is negative.
pub const SSHL: u32 = 0x4ea0_4400;
pub const USHL: u32 = 0x6ea0_4400;
/// `dup vd.4s, wn`.
pub const DUP_W: u32 = 0x4e04_0c00;
/// `addp vd.4s, vn.4s, vm.4s`.
pub const ADDP: u32 = 0x4ea0_bc00;
pub const AND: u32 = 0x4e20_1c00;
pub const ORR: u32 = 0x4ea0_1c00;
pub const EOR: u32 = 0x6e20_1c00;
/// `bsl vd, vn, vm`: `vd ? vn : vm` bit by bit.
pub const BSL: u32 = 0x6e60_1c00;
/// `tbl vd.16b, {vn.16b-vn+3.16b}, vm.16b`: zero where the index lies beyond; `tbx`: as it is.
pub const TBL: u32 = 0x4e00_6000;
pub const TBX: u32 = 0x4e00_7000;
/// `tbl vd.16b, {vn.16b}, vm.16b`.
pub const TBL_ONE: u32 = 0x4e00_0000;
pub const MVN: u32 = 0x6e20_5800;

/// `shl vd.4s, vn.4s, #count`.
pub fn shl(count: u32) -> u32 {
    0x4f00_5400 | (32 + count) << 16
}

/// `sshr` (signed) or `ushr vd.4s, vn.4s, #count`, the count from 1 to 32.
pub fn shr(signed: bool, count: u32) -> u32 {
    (if signed { 0x4f00_0400 } else { 0x6f00_0400 }) | (64 - count) << 16
}

/// `shl vd.16b, vn.16b, #count`.
pub fn shl_bytes(count: u32) -> u32 {
    0x4f00_5400 | (8 + count) << 16
}

/// `sshr` (signed) or `ushr vd.16b, vn.16b, #count`, the count from 1 to 8.
pub fn shr_bytes(signed: bool, count: u32) -> u32 {
    (if signed { 0x4f00_0400 } else { 0x6f00_0400 }) | (16 - count) << 16
}

/// `scvtf` (signed) or `ucvtf vd.4s, vn.4s, #bits`: numbers of which so many bits are a fraction, from 1 to 32.
pub fn convert_fixed(signed: bool, bits: u32) -> u32 {
    (if signed { 0x4f00_e400 } else { 0x6f00_e400 }) | (64 - bits) << 16
}

/// `shrn vd.4h, vn.4s, #16` (`high`: `shrn2`): the upper halves of the lanes.
pub fn shrn16(high: bool) -> u32 {
    0x0f10_8400 | u32::from(high) << 30
}

/// `shll vd.4s, vn.4h, #16` (`high`: `shll2`).
pub fn shll16(high: bool) -> u32 {
    0x2e61_3800 | u32::from(high) << 30
}

/// Elements of so many bytes of the lower (`high`: upper) half, in lanes twice as wide.
pub fn widen(bytes: usize, signed: bool, high: bool) -> u32 {
    0x0f00_a400 | u32::from(!signed) << 29 | u32::from(high) << 30 | (8 * bytes as u32) << 16
}

/// The half of a narrowing instruction, into elements of so many bytes: `xtn` keeps the low bits.
pub fn xtn(bytes: usize, high: bool) -> u32 {
    0x0e21_2800 | u32::from(high) << 30 | bytes.trailing_zeros() << 22
}

/// Saturates: `sqxtn`, or `sqxtun` into unsigned elements.
pub fn sqxtn(bytes: usize, unsigned: bool, high: bool) -> u32 {
    let word = if unsigned { 0x2e21_2800 } else { 0x0e21_4800 };
    word | u32::from(high) << 30 | bytes.trailing_zeros() << 22
}

/// `sqrshrn vd.4h, vn.4s, #count` (`high`: `sqrshrn2`), the count from 1 to 16: rounds, halves up, and
/// saturates.
pub fn sqrshrn(count: u32, high: bool) -> u32 {
    0x0f00_9c00 | u32::from(high) << 30 | (32 - count) << 16
}

/// `srshr vd.4s, vn.4s, #count`, the count from 1 to 32.
pub fn srshr(count: u32) -> u32 {
    0x4f00_2400 | (64 - count) << 16
}

/// `srshl vd.4s, vn.4s, vm.4s`: shifts by the counts, rounds where they are negative.
pub const SRSHL: u32 = 0x4ea0_5400;

/// `sqdmulh vd.4s, vn.4s, vm.4s`.
pub const SQDMULH: u32 = 0x4ea0_b400;

/// `sqdmulh vd.4s, vn.4s, vm.s[lane]`.
pub fn sqdmulh_lane(lane: usize) -> u32 {
    0x4f80_c000 | lane4(lane)
}

/// An instruction on lanes of 32 bits, on bytes.
pub fn of_bytes(word: u32) -> u32 {
    word & !(3 << 22)
}

/// An instruction on lanes of 32 bits, on halves of them.
pub fn of_halves(word: u32) -> u32 {
    of_bytes(word) | 1 << 22
}

/// `sqadd vd.8h, vn.8h, vm.8h`.
pub const SQADD_H: u32 = 0x4e60_0c00;

/// `uzp1 vd.T, vn.T, vm.T`: the even elements of both.
pub fn uzp1(bytes: usize) -> u32 {
    0x4e00_1800 | bytes.trailing_zeros() << 22
}

/// `uzp2 vd.T, vn.T, vm.T`: the odd elements of both.
pub fn uzp2(bytes: usize) -> u32 {
    uzp1(bytes) | 0x4000
}

/// `zip1` or `zip2 vd.T, vn.T, vm.T`: the elements of the lower (`high`: upper) halves in turn.
pub fn zip(bytes: usize, high: bool) -> u32 {
    0x4e00_3800 | u32::from(high) << 14 | bytes.trailing_zeros() << 22
}

/// Products of the lower (`high`: upper) elements of so many bytes, in lanes twice as wide.
pub fn mull(bytes: usize, signed: bool, high: bool) -> u32 {
    0x0e20_c000 | u32::from(!signed) << 29 | u32::from(high) << 30 | bytes.trailing_zeros() << 22
}

/// As [`mull`], added to the destination.
pub fn mlal(bytes: usize, signed: bool, high: bool) -> u32 {
    0x0e20_8000 | u32::from(!signed) << 29 | u32::from(high) << 30 | bytes.trailing_zeros() << 22
}

/// `smlal vd.4s, vn.4h, vm.h[lane]` or `smlal2`; the last register is one of the first sixteen.
pub fn mlal_lane(high: bool, lane: usize) -> u32 {
    let lane = lane as u32;
    0x0f40_2000 | u32::from(high) << 30 | (lane & 1) << 20 | (lane >> 1 & 1) << 21 | (lane >> 2) << 11
}

/// `saddw vd.4s, vn.4s, vm.4h` or `saddw2`: adds the lower (`high`: upper) elements.
pub fn add_wide(high: bool) -> u32 {
    0x0e60_1000 | u32::from(high) << 30
}

/// `saddlp vd.T, vn.U` or `uaddlp`: the sums of neighbours of so many bytes, in lanes twice as wide.
pub fn addlp(bytes: usize, signed: bool) -> u32 {
    0x4e20_2800 | u32::from(!signed) << 29 | bytes.trailing_zeros() << 22
}

/// `sadalp vd.4s, vn.8h` or `uadalp`: adds the sums of neighbours.
pub fn adalp(signed: bool) -> u32 {
    0x4e60_6800 | u32::from(!signed) << 29
}

/// `sdot vd.4s, vn.16b, vm.16b` or `udot`.
pub fn dot(signed: bool) -> u32 {
    0x4e80_9400 | u32::from(!signed) << 29
}

/// `sdot` or `udot` by four bytes of the third register.
pub fn dot_lane(signed: bool, lane: usize) -> u32 {
    0x4f80_e000 | u32::from(!signed) << 29 | lane4(lane)
}

/// `usdot vd.4s, vn.16b, vm.16b`: unsigned by signed.
pub const USDOT: u32 = 0x4e80_9c00;

/// `smmla vd.4s, vn.16b, vm.16b`, `ummla`, or `usmmla` (unsigned by signed).
pub fn squares(signs: Signs) -> u32 {
    match signs {
        Signs::Ss => 0x4e80_a400,
        Signs::Uu => 0x6e80_a400,
        Signs::Us => 0x4e80_ac00,
    }
}

/// `usdot`, or `sudot` (signed by unsigned), by four bytes of the third register.
pub fn mixed_dot_lane(first_signed: bool, lane: usize) -> u32 {
    (if first_signed { 0x4f00_f000 } else { 0x4f80_f000 }) | lane4(lane)
}

/// The bits that name one of four lanes.
fn lane4(lane: usize) -> u32 {
    (lane as u32 & 1) << 21 | (lane as u32 >> 1) << 11
}

/// `fmla vd.4s, vn.4s, vm.s[lane]`.
pub fn fmla_lane(lane: usize) -> u32 {
    0x4f80_1000 | lane4(lane)
}

/// `fmla vd.8h, vn.8h, vm.h[lane]`; the last register is one of the first sixteen.
pub fn fmla_half_lane(lane: usize) -> u32 {
    let lane = lane as u32;
    0x4f00_1000 | (lane & 1) << 20 | (lane >> 1 & 1) << 21 | (lane >> 2) << 11
}

/// An operation on two vectors of floats as that on half floats, of processors with FP16.
pub fn of_pairs_of_half_floats(word: u32) -> u32 {
    word & !0x0020_c000 | 0x0040_0000
}

/// Likewise, on one vector.
pub fn of_half_floats(word: u32) -> u32 {
    word | 0x0058_0000
}

/// Whether an instruction's register at bit 16 must be one of the first sixteen.
pub fn takes_lower(word: u32) -> bool {
    word & 0xffc0_f400 == 0x4f00_1000 || word & 0xbfc0_f400 == 0x0f40_2000
}

/// `fmul vd.4s, vn.4s, vm.s[lane]`.
pub fn fmul_lane(lane: usize) -> u32 {
    0x4f80_9000 | lane4(lane)
}

/// The instruction that makes a vector with the same 32 bits in every lane, where there is one.
pub fn immediate(bits: u32) -> Option<u32> {
    let byte = |b: u32| (b >> 5) << 16 | (b & 31) << 5;
    for (word, bits) in [(0x4f00_0400, bits), (0x6f00_0400, !bits)] {
        for shift in 0..4 {
            if bits & !(0xff << (8 * shift)) == 0 {
                return Some(word | shift << 13 | byte(bits >> (8 * shift)));
            }
        }
    }
    if bits.to_le_bytes().iter().all(|&b| b == bits as u8) {
        return Some(0x4f00_e400 | byte(bits & 0xff));
    }
    // `fmov`: a sign, three bits of exponent, four of fraction.
    let exponent = bits >> 25 & 0x3f;
    (bits & 0x0007_ffff == 0 && (exponent == 0x20 || exponent == 0x1f))
        .then(|| 0x4f00_f400 | byte(bits >> 24 & 0x80 | bits >> 19 & 0x7f))
}

/// `movi vd.8h` of a number that fits, where there is one.
pub fn immediate_halves(value: u16) -> Option<u32> {
    let byte = |b: u32| (b >> 5) << 16 | (b & 31) << 5;
    let value = u32::from(value);
    for (word, bits) in [(0x4f00_8400, value), (0x6f00_8400, !value & 0xffff)] {
        for shift in 0..2 {
            if bits & !(0xff << (8 * shift)) == 0 {
                return Some(word | shift << 13 | byte(bits >> (8 * shift)));
            }
        }
    }
    None
}
