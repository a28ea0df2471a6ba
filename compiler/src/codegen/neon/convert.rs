//! Conversions between lanes.

use super::Result;
use super::select::{Form, Select};
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
            (Convert::IntToFloat, Lane::I32, Lane::F32) => words::SCVTF,
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
                let signed = matches!(kind, Convert::SextLow(_));
                if let (8, Some(Form::Narrow { raw, bytes: 1, .. })) = (bits, self.form(a)) {
                    let raw = raw.clone();
                    return self.define(r, Form::Narrow { raw, bytes: 1, signed });
                }
                let dropped = 32 - u32::from(bits.min(32));
                if dropped == 0 {
                    return self.same(r, a);
                }
                let from = self.words(a)?;
                let to = self.target(r);
                for (&to, from) in to.iter().zip(from) {
                    let high = self.new1(words::shl(dropped), from);
                    self.op1(words::shr(signed, dropped), to, high);
                }
                return Ok(());
            }
            _ => return Err(format!("{kind:?} from {from:?} to {to:?} lanes")),
        };
        self.each1(word, r, a)
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
