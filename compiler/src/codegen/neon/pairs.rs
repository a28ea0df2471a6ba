//! Joins neighbouring loads and stores of aarch64 code into `ldp` and `stp`, which Cranelift never
//! makes: one instruction, and one cycle of the load unit, instead of two.
//!
//! Works on the finished bytes of a function: finds the instructions whose meaning depends on where
//! they are (branches, loads of the constants behind the code), joins, and places them anew. Code
//! with anything it does not know is left as it is. The order of `order` brings partners together.

use std::collections::HashSet;

/// Loads or stores of one register at an immediate offset, and their pair form.
struct Form {
    /// Opcode with a scaled, unsigned offset of 12 bits.
    scaled: u32,
    /// Opcode with an offset of 9 bits in bytes.
    unscaled: u32,
    /// Opcode of the pair, with a scaled offset of 7 bits.
    pair: u32,
    size: i64,
    load: bool,
    /// Whether it moves general registers.
    general: bool,
}

const fn form(scaled: u32, unscaled: u32, pair: u32, size: i64, load: bool, general: bool) -> Form {
    Form { scaled, unscaled, pair, size, load, general }
}

const FORMS: &[Form] = &[
    form(0x3dc0_0000, 0x3cc0_0000, 0xad40_0000, 16, true, false),
    form(0x3d80_0000, 0x3c80_0000, 0xad00_0000, 16, false, false),
    form(0xfd40_0000, 0xfc40_0000, 0x6d40_0000, 8, true, false),
    form(0xfd00_0000, 0xfc00_0000, 0x6d00_0000, 8, false, false),
    form(0xbd40_0000, 0xbc40_0000, 0x2d40_0000, 4, true, false),
    form(0xbd00_0000, 0xbc00_0000, 0x2d00_0000, 4, false, false),
    form(0xf940_0000, 0xf840_0000, 0xa940_0000, 8, true, true),
    form(0xf900_0000, 0xf800_0000, 0xa900_0000, 8, false, true),
];

/// An access: its form, register, base register, and offset in bytes.
struct Access {
    form: &'static Form,
    register: u32,
    base: u32,
    offset: i64,
}

/// The function with its pairs joined. `code` must have no relocations.
pub fn join(code: &[u8]) -> Vec<u8> {
    try_join(code).unwrap_or_else(|| code.to_vec())
}

/// About how many instructions the function executes for each one that computes with vectors or
/// floats, in 1/1024.
pub fn overhead(code: &[u8]) -> u64 {
    let (all, useful) = counts(code);
    (u128::from(all) * 1024 / u128::from(useful.max(1))) as u64
}

/// About how many instructions the function executes.
pub fn executed(code: &[u8]) -> u64 {
    counts(code).0
}

/// Instructions of a function, and those of them that compute with vectors or floats: those in loops count eight times
/// per loop.
fn counts(code: &[u8]) -> (u64, u64) {
    let words = words(code);
    let end = instructions(&words).unwrap_or(words.len());
    // One more loop from each target of a branch back, one less after the branch.
    let mut depth = vec![0i32; end + 1];
    for (i, &word) in words[..end].iter().enumerate() {
        if let Some(to) = target(i, word).filter(|&to| (0..=i as i64).contains(&to)) {
            depth[to as usize] += 1;
            depth[i + 1] -= 1;
        }
    }
    let (mut loops, mut all, mut useful) = (0, 0u64, 0u64);
    for (&word, change) in words[..end].iter().zip(&depth) {
        loops += change;
        let weight = 8u64.saturating_pow(loops.clamp(0, 12) as u32);
        let moves = word & 0xbfe0_fc00 == 0x0ea0_1c00 && word >> 16 & 31 == word >> 5 & 31;
        let computes = word >> 25 & 7 == 7 && !moves;
        all = all.saturating_add(weight);
        useful = useful.saturating_add(if computes { weight } else { 0 });
    }
    (all, useful)
}

fn words(code: &[u8]) -> Vec<u32> {
    code.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// How many of the words are instructions: the constants begin where the first load of one points to.
fn instructions(words: &[u32]) -> Option<usize> {
    let mut end = words.len();
    for (i, &word) in words.iter().enumerate() {
        if i < end && is_literal(word) {
            end = end.min(usize::try_from(target(i, word)?).ok()?);
        }
    }
    Some(end)
}

fn try_join(code: &[u8]) -> Option<Vec<u8>> {
    let words = words(code);
    let end = instructions(&words)?;
    let mut targets = HashSet::new();
    for (i, &word) in words[..end].iter().enumerate() {
        if is_unknown(word) {
            return None;
        }
        if let Some(to) = target(i, word) {
            let to = usize::try_from(to).ok()?;
            let inside = if is_literal(word) { (end..words.len()).contains(&to) } else { to <= end };
            if !inside {
                return None;
            }
            targets.insert(to);
        }
    }
    // Which instructions stay, as what, and where.
    let mut out: Vec<(usize, u32)> = Vec::with_capacity(end);
    let mut i = 0;
    while i < end {
        let joined = (i + 1 < end && !targets.contains(&(i + 1))).then(|| pair(words[i], words[i + 1]));
        match joined.flatten() {
            Some(word) => {
                out.push((i, word));
                i += 2;
            }
            None => {
                out.push((i, words[i]));
                i += 1;
            }
        }
    }
    Some(place(&words, end, &out))
}

/// Lays the instructions out, and the constants behind them at the alignment they had.
fn place(words: &[u32], end: usize, out: &[(usize, u32)]) -> Vec<u8> {
    let constants = (out.len()..).find(|at| at % 4 == end % 4).unwrap_or(end);
    let mut moved = vec![0; words.len() + 1];
    for (new, window) in out.iter().enumerate() {
        moved[window.0] = new;
    }
    moved.iter_mut().skip(end).zip(constants..).for_each(|(place, new)| *place = new);
    let mut result: Vec<u32> = Vec::with_capacity(words.len());
    for (new, &(old, word)) in out.iter().enumerate() {
        let word = match target(old, word) {
            Some(to) => retarget(word, moved[to as usize] as i64 - new as i64),
            None => word,
        };
        result.push(word);
    }
    if end < words.len() {
        // Never executed.
        result.resize(constants, 0);
        result.extend(&words[end..]);
    }
    result.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn is_literal(word: u32) -> bool {
    word & 0x3b00_0000 == 0x1800_0000
}

/// Instructions that compute addresses in the code, or jump to computed ones.
fn is_unknown(word: u32) -> bool {
    let address = word & 0x1f00_0000 == 0x1000_0000;
    let call = word & 0xfc00_0000 == 0x9400_0000;
    let computed = word & 0xff9f_fc1f == 0xd61f_0000 && word & 0x0060_0000 != 0x0040_0000;
    address || call || computed
}

/// Offset field of an instruction relative to itself: its first bit and its length, in words.
fn relative(word: u32) -> Option<(u32, u32)> {
    let (branch, conditional) = (word & 0xfc00_0000 == 0x1400_0000, word & 0xff00_0000 == 0x5400_0000);
    let (compare, bit) = (word & 0x7e00_0000 == 0x3400_0000, word & 0x7e00_0000 == 0x3600_0000);
    match () {
        _ if branch => Some((0, 26)),
        _ if conditional || compare || is_literal(word) => Some((5, 19)),
        _ if bit => Some((5, 14)),
        _ => None,
    }
}

/// The index of the word that an instruction refers to.
fn target(at: usize, word: u32) -> Option<i64> {
    let (first, length) = relative(word)?;
    let distance = (word << (32 - first - length)) as i32 >> (32 - length);
    Some(at as i64 + i64::from(distance))
}

fn retarget(word: u32, distance: i64) -> u32 {
    let Some((first, length)) = relative(word) else { return word };
    let mask = (1u32 << length) - 1;
    word & !(mask << first) | (distance as u32 & mask) << first
}

fn access(word: u32) -> Option<Access> {
    let form = |form: &&Form| word & 0xffc0_0000 == form.scaled || word & 0xffe0_0c00 == form.unscaled;
    let form = FORMS.iter().find(form)?;
    let offset = match word & 0xffc0_0000 == form.scaled {
        true => i64::from(word >> 10 & 0xfff) * form.size,
        false => i64::from((word << 11) as i32 >> 23),
    };
    Some(Access { form, register: word & 31, base: word >> 5 & 31, offset })
}

/// The pair that does what two accesses do one after the other.
fn pair(first: u32, second: u32) -> Option<u32> {
    let (a, b) = (access(first)?, access(second)?);
    let clobbers = a.form.load && (a.register == b.register || a.form.general && a.register == a.base);
    if a.form.pair != b.form.pair || a.base != b.base || clobbers {
        return None;
    }
    let (low, high) = if a.offset < b.offset { (&a, &b) } else { (&b, &a) };
    let size = a.form.size;
    let fits = high.offset - low.offset == size
        && low.offset % size == 0
        && (-64..64).contains(&(low.offset / size));
    let offset = (low.offset / size) as u32 & 0x7f;
    fits.then_some(a.form.pair | offset << 15 | high.register << 10 | a.base << 5 | low.register)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|w| w.to_le_bytes()).collect()
    }

    /// ldr q0, [x1]; ldr q1, [x1, #16]; b.ne to the first; ret.
    #[test]
    fn neighbours_are_joined_and_branches_follow() {
        let code = bytes(&[0xd503_201f, 0x3dc0_0020, 0x3dc0_0421, 0x54ff_ffc1, 0xd65f_03c0]);
        // ldp q0, q1, [x1]; b.ne one word back.
        let joined = bytes(&[0xd503_201f, 0xad40_0420, 0x54ff_ffe1, 0xd65f_03c0]);
        assert_eq!(join(&code), joined);
    }

    /// fmla and a branch back to it: two for one. Nothing useful in the rest.
    #[test]
    fn loops_weigh_more() {
        let code = bytes(&[0x4e22_cc20, 0x54ff_ffe1, 0xd65f_03c0]);
        assert_eq!(overhead(&code), (8 + 8 + 1) * 1024 / 8);
    }

    /// A loop may begin at the second load; a base register must not be overwritten; a partner must
    /// be next; offsets must fit.
    #[test]
    fn what_must_not_be_joined_is_not() {
        let loops = bytes(&[0x3dc0_0020, 0x3dc0_0421, 0x54ff_ffe1, 0xd65f_03c0]);
        assert_eq!(join(&loops), loops);
        assert_eq!(pair(0xf940_0021, 0xf940_0422), None, "ldr x1, [x1]; ldr x2, [x1, #8]");
        assert_eq!(pair(0x3dc0_0020, 0x3dc0_0821), None, "0 and 32");
        assert_eq!(pair(0x3dc1_0020, 0x3dc1_0421), None, "1024 and 1040");
        assert_eq!(pair(0x3dc0_0020, 0x3d80_0421), None, "a load and a store");
        assert_eq!(pair(0x3dc0_0020, 0x3dc0_0420), None, "the same register");
    }

    /// ldr q0, constant; ldr q1, [x1]; ldr q2, [x1, #16]; ret; constant, aligned to 16 bytes.
    #[test]
    fn constants_stay_aligned() {
        let constant = [1, 2, 3, 4];
        let mut code = vec![0x9c00_0080, 0x3dc0_0021, 0x3dc0_0422, 0xd65f_03c0];
        code.extend(constant);
        let mut joined = vec![0x9c00_0080, 0xad40_0821, 0xd65f_03c0, 0];
        joined.extend(constant);
        assert_eq!(join(&bytes(&code)), bytes(&joined));
    }
}
