//! Conversions between lanes.

use super::Result;
use super::inst::VReg;
use super::select::{Derived, Form, Select};
use super::words;
use crate::tile::{Convert, Lane, Reg, Un, Value};

impl Select<'_> {
    /// Translates a conversion.
    pub(super) fn convert(&mut self, r: Reg, kind: Convert, a: Reg) -> Result<()> {
        let (to, from) = (self.ty(r).lane, self.ty(a).lane);
        let word = match (kind, from, to) {
            (Convert::Bits, _, Lane::F32 | Lane::I32) | (Convert::Int, Lane::M32, Lane::M32) => {
                return self.same(r, a);
            }
            (Convert::FloatToInt, Lane::F32, Lane::I32) => match self.single(a) {
                // Rounds, then converts: one instruction.
                Some(Value::Un(Un::Round, inner)) if self.single(*inner).is_some() => {
                    return self.each1(words::FCVTNS, r, *inner);
                }
                _ => words::FCVTZS,
            },
            (Convert::Nearest | Convert::NearestSmall, Lane::F32, Lane::I32) => words::FCVTNS,
            (Convert::FloatToUint, Lane::F32, Lane::I32) => words::FCVTZU,
            (Convert::Float, Lane::F16, Lane::F32) => return self.widen_halves(r, a),
            (Convert::IntToFloat, Lane::I32, Lane::F32) => {
                if self.bytes_to_floats(r, a)? {
                    return Ok(());
                }
                words::SCVTF
            }
            (Convert::UintToFloat, Lane::I32, Lane::F32) => words::UCVTF,
            (Convert::RoundF16, Lane::F32, Lane::F32) => {
                return self.each(r, a, |s, v| {
                    let half = s.new1(words::FCVTN, v);
                    s.new1(words::FCVTL, half)
                });
            }
            (Convert::RoundBf16, Lane::F32, Lane::F32) => {
                return self.each(r, a, |s, v| match s.isa.brain {
                    true => {
                        let half = s.new1(words::BFCVTN, v);
                        s.new1(words::shll16(false), half)
                    }
                    false => {
                        let rounded = s.rounded_brain(v);
                        let upper = s.splat(0xffff_0000);
                        s.new2(words::AND, rounded, upper)
                    }
                });
            }
            (Convert::SextLow(bits) | Convert::ZextLow(bits), Lane::I32, Lane::I32) => {
                return self.low_bits(r, a, (matches!(kind, Convert::SextLow(_)), u32::from(bits)));
            }
            _ => return Err(format!("{kind:?} from {from:?} to {to:?} lanes")),
        };
        self.each1(word, r, a)
    }

    /// So many low bits of each lane, extended by sign or by zeros.
    fn low_bits(&mut self, r: Reg, a: Reg, (signed, bits): (bool, u32)) -> Result<()> {
        match (bits, self.raw_bytes(a)) {
            (8, Some((raw, _))) => return self.define(r, Form::Narrow { raw, bytes: 1, signed }),
            (1..8, Some((raw, _))) => {
                let up = |v: &VReg| self.new1(words::shl_bytes(8 - bits), *v);
                let high: Vec<VReg> = raw.iter().map(up).collect();
                return self.shift_bytes(r, &high, (signed, 8 - bits));
            }
            (32.., _) => return self.same(r, a),
            _ => {}
        }
        let from = self.words(a)?;
        let to = self.target(r);
        for (&to, from) in to.iter().zip(from) {
            let high = self.new1(words::shl(32 - bits), from);
            self.op1(words::shr(signed, 32 - bits), to, high);
        }
        Ok(())
    }

    /// The vectors of a value that is bytes as loaded, and whether they extend by sign.
    pub(super) fn raw_bytes(&self, r: Reg) -> Option<(Vec<VReg>, bool)> {
        match self.form(r)? {
            Form::Narrow { raw, bytes: 1, signed } => Some((raw.clone(), *signed)),
            _ => None,
        }
    }

    /// Bytes shifted to the right, before anything widens them.
    pub(super) fn shift_bytes(&mut self, r: Reg, raw: &[VReg], (signed, count): (bool, u32)) -> Result<()> {
        let raw = raw.iter().map(|&v| self.new1(words::shr_bytes(signed, count), v)).collect();
        self.define(r, Form::Narrow { raw, bytes: 1, signed })
    }

    /// Floats of bytes as loaded: a lookup puts each at the top of a lane, of which the rest is a fraction then. That is
    /// two instructions for four lanes in place of two and a half, where a lookup takes no longer than a widening: on
    /// processors that have products of bytes (of those without, Cortex-A72 takes one and a half cycles for it). A
    /// kernel that adds such products has no registers left for the places.
    fn bytes_to_floats(&mut self, r: Reg, a: Reg) -> Result<bool> {
        let widened =
            self.derived.contains_key(&Derived::Words(a)) || self.split[r as usize] || !self.looks_up;
        let Some((raw, signed)) = self.raw_bytes(a).filter(|_| !widened) else { return Ok(false) };
        let top = |s: &mut Self, i: usize| {
            let mut places = [u8::MAX; 16];
            (0..4).for_each(|lane| places[4 * lane + 3] = (4 * (i % 4) + lane) as u8);
            let places = s.constant(places);
            s.new2(words::TBL_ONE, raw[i / 4], places)
        };
        let to = self.target(r);
        let tops: Vec<VReg> = (0..to.len()).map(|i| top(self, i)).collect();
        to.iter().zip(tops).for_each(|(&to, top)| self.op1(words::convert_fixed(signed, 24), to, top));
        Ok(true)
    }

    /// Half floats to four floats a vector.
    fn widen_halves(&mut self, r: Reg, a: Reg) -> Result<()> {
        let from = self.words(a)?;
        let to = self.target(r);
        for (i, &to) in to.iter().enumerate() {
            self.op1(words::FCVTL | (i as u32 % 2) << 30, to, from[i / 2]);
        }
        Ok(())
    }
}
