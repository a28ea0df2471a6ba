//! The steps of a program as data, which the function `run` reads.
//!
//! A list of 32-bit words. Each operation is one word, `operation << 28 | number of arguments`, then its
//! arguments, then what else it needs:
//!
//! | operation | argument | then |
//! |---|---|---|
//! | call | one per parameter | bytes from the first kernel to this one |
//! | begin a repetition | a smaller count, or none | the count, low half first |
//! | next iteration | | bytes to what follows the repetition |
//! | end of a repetition | | |
//! | go | | bytes |
//! | go unless | a boolean | bytes |
//! | done | | |
//!
//! An argument is one word, `moves << 31 | segment << shift | offset`. A segment is a place that `run` computes
//! when it begins: where a buffer of the application, the arena or the constants begin, or a multiple of
//! `1 << shift` bytes past that; there is one per place that an argument needs. Where an argument moves, a word
//! follows for each repetition around: the bytes that an iteration adds.

use crate::error::{Error, Result};
use crate::plan::{Arg, Base, Program, Step, each_argument};

/// What an operation does, in the order of the numbers that stand for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Call,
    Begin,
    Next,
    End,
    Go,
    GoUnless,
    Done,
}

impl Operation {
    /// All of them.
    pub const ALL: [Operation; 7] = {
        use Operation::*;
        [Call, Begin, Next, End, Go, GoUnless, Done]
    };
}

/// Bits of a word that an operation's number is above of.
pub(super) const OPERATION: u32 = 28;

/// Where arguments begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// The buffer; the first of all constants stands for all, none for [`Steps::numbers`].
    pub base: Option<Base>,
    /// Bytes past it.
    pub offset: i64,
}

/// The steps of a program.
#[derive(Clone, Debug, PartialEq)]
pub struct Steps {
    /// The words.
    pub words: Vec<u32>,
    /// The numbers that kernels read, of all kernels that read some.
    pub numbers: Vec<i64>,
    /// Which words are to be the bytes from the first kernel to another one.
    pub kernels: Vec<(usize, u32)>,
    /// What `run` computes when it begins.
    pub(super) segments: Vec<Segment>,
    /// Bits of an argument that are its offset.
    pub(super) shift: u32,
    /// Whether an argument moves.
    pub(super) moving: bool,
    /// Repetitions within repetitions, at most.
    pub(super) depth: usize,
    /// The operations there are.
    pub(super) used: Vec<Operation>,
}

/// The steps of a program as words. A kernel that reads `numbers` has a pointer to them as its last argument.
pub(super) fn encode(program: &Program, numbers: &[Vec<i64>]) -> Result<Steps> {
    let constants = program.constant_offsets().0;
    let tables = tables(numbers);
    let mut places: Vec<Segment> = tables.iter().flatten().copied().collect();
    let mut unknown = None;
    each_argument(&mut program.steps.clone(), &mut |arg| match place(arg, &constants) {
        Ok(place) => places.push(place),
        Err(error) => unknown = Some(error),
    });
    if let Some(error) = unknown {
        return Err(error);
    }
    let (segments, shift) = segments(&places)?;
    let steps = Steps {
        words: Vec::new(),
        numbers: numbers.concat(),
        kernels: Vec::new(),
        segments,
        shift,
        moving: false,
        depth: 0,
        used: Vec::new(),
    };
    let mut writer = Writer { program, constants, tables, steps };
    writer.steps(&program.steps, 0)?;
    writer.operation(Operation::Done, &[], None, 0)?;
    Ok(writer.steps)
}

/// Where each kernel's numbers are, one table after the other.
fn tables(numbers: &[Vec<i64>]) -> Vec<Option<Segment>> {
    let begin = |end: &mut usize, numbers: &Vec<i64>| {
        let table = Segment { base: None, offset: 8 * *end as i64 };
        *end += numbers.len();
        Some((!numbers.is_empty()).then_some(table))
    };
    numbers.iter().scan(0, begin).collect()
}

/// Where an argument is in the first iteration of all repetitions.
fn place(arg: &Arg, constants: &[usize]) -> Result<Segment> {
    let (base, offset) = match arg.base {
        Base::Constant(i) => {
            let at = constants.get(i as usize).ok_or_else(|| Error::bug("a constant that does not exist"))?;
            (Base::Constant(0), at + arg.offset)
        }
        base => (base, arg.offset),
    };
    Ok(Segment { base: Some(base), offset: offset as i64 })
}

/// The segments for some places, and the bits of an offset: as few segments as there can be.
fn segments(places: &[Segment]) -> Result<(Vec<Segment>, u32)> {
    for bits in 0..OPERATION {
        let shift = 31 - bits;
        let mut segments = Vec::new();
        for place in places {
            let segment = start(*place, shift);
            if !segments.contains(&segment) {
                segments.push(segment);
            }
            if segments.len() > 1 << bits {
                break;
            }
        }
        if segments.len() <= 1 << bits {
            return Ok((segments, shift));
        }
    }
    Err(Error::bug("more arguments than segments can be numbered for"))
}

/// The segment of a place.
fn start(place: Segment, shift: u32) -> Segment {
    Segment { offset: place.offset >> shift << shift, ..place }
}

struct Writer<'a> {
    program: &'a Program,
    constants: Vec<usize>,
    /// Where each kernel's numbers are.
    tables: Vec<Option<Segment>>,
    steps: Steps,
}

impl Writer<'_> {
    fn steps(&mut self, steps: &[Step], depth: usize) -> Result<()> {
        steps.iter().try_for_each(|step| match step {
            Step::Call { kernel, args } => self.call(*kernel, args, depth),
            Step::Repeat { count, trip, cond, body } => {
                self.repeat(*count, trip.as_slice(), cond.as_slice(), body, depth)
            }
            Step::If { cond, then, otherwise } => {
                self.operation(Operation::GoUnless, std::slice::from_ref(cond), None, depth)?;
                let not = self.ahead();
                self.steps(then, depth)?;
                if otherwise.is_empty() {
                    return self.arrive(not);
                }
                self.operation(Operation::Go, &[], None, depth)?;
                let end = self.ahead();
                self.arrive(not)?;
                self.steps(otherwise, depth)?;
                self.arrive(end)
            }
        })
    }

    fn call(&mut self, kernel: u32, args: &[Arg], depth: usize) -> Result<()> {
        let params = self.program.kernels.get(kernel as usize).map(|k| k.params.len());
        if params != Some(args.len()) {
            return Err(Error::bug(format!("the call of kernel {kernel} does not fit its parameters")));
        }
        let table = self.tables.get(kernel as usize).copied().flatten();
        self.operation(Operation::Call, args, table, depth)?;
        let at = self.ahead();
        self.steps.kernels.push((at, kernel));
        Ok(())
    }

    fn repeat(&mut self, count: u64, trip: &[Arg], cond: &[Arg], body: &[Step], depth: usize) -> Result<()> {
        self.operation(Operation::Begin, trip, None, depth)?;
        let count = count.min(i64::MAX as u64);
        self.steps.words.extend([count as u32, (count >> 32) as u32]);
        let top = self.steps.words.len();
        self.operation(Operation::Next, &[], None, depth + 1)?;
        let mut exits = vec![self.ahead()];
        if !cond.is_empty() {
            self.operation(Operation::GoUnless, cond, None, depth + 1)?;
            exits.push(self.ahead());
        }
        self.steps(body, depth + 1)?;
        self.operation(Operation::Go, &[], None, depth + 1)?;
        let back = self.ahead();
        self.distance(back, top)?;
        exits.into_iter().try_for_each(|exit| self.arrive(exit))?;
        self.operation(Operation::End, &[], None, depth)?;
        self.steps.depth = self.steps.depth.max(depth + 1);
        Ok(())
    }

    /// An operation and its arguments, the numbers' table last.
    fn operation(
        &mut self,
        operation: Operation,
        args: &[Arg],
        table: Option<Segment>,
        depth: usize,
    ) -> Result<()> {
        let count = u32::try_from(args.len() + table.iter().len()).ok().filter(|n| n >> OPERATION == 0);
        let count = count.ok_or_else(|| Error::bug("too many arguments"))?;
        self.steps.words.push((operation as u32) << OPERATION | count);
        if !self.steps.used.contains(&operation) {
            self.steps.used.push(operation);
        }
        args.iter().try_for_each(|arg| self.argument(arg, depth))?;
        table.iter().try_for_each(|table| {
            let word = self.word(*table)?;
            self.steps.words.push(word);
            Ok(())
        })
    }

    fn argument(&mut self, arg: &Arg, depth: usize) -> Result<()> {
        if arg.strides.len() > depth {
            return Err(Error::bug("an argument moves with more repetitions than surround it"));
        }
        let word = self.word(place(arg, &self.constants)?)?;
        let moves = arg.strides.iter().any(|s| *s != 0);
        self.steps.words.push(u32::from(moves) << 31 | word);
        if moves {
            self.steps.moving = true;
            let far =
                |_| Error::model("an iteration moves an argument by more than the 2 GiB that code reaches");
            for i in 0..depth {
                let stride = i32::try_from(arg.strides.get(i).copied().unwrap_or(0));
                self.steps.words.push(stride.map_err(far)? as u32);
            }
        }
        Ok(())
    }

    /// A place that does not move.
    fn word(&self, place: Segment) -> Result<u32> {
        let segment = start(place, self.steps.shift);
        let number = self.steps.segments.iter().position(|s| *s == segment);
        let number = number.ok_or_else(|| Error::bug("an argument without a segment"))? as u32;
        Ok(number << self.steps.shift | (place.offset - segment.offset) as u32)
    }

    /// A word to be filled in.
    fn ahead(&mut self) -> usize {
        self.steps.words.push(0);
        self.steps.words.len() - 1
    }

    /// Makes a word the distance to here.
    fn arrive(&mut self, word: usize) -> Result<()> {
        self.distance(word, self.steps.words.len())
    }

    /// Makes a word the bytes from behind itself to another word.
    fn distance(&mut self, word: usize, to: usize) -> Result<()> {
        let bytes = i32::try_from(4 * (to as i64 - word as i64 - 1));
        self.steps.words[word] = bytes.map_err(|_| Error::bug("more than 2 GiB of steps"))? as u32;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Segment, segments, start};
    use crate::plan::Base;

    /// One segment per buffer where buffers are small, more where offsets would not fit beside their numbers.
    #[test]
    fn segments_are_as_few_as_can_be() {
        let at = |base, offset| Segment { base: Some(base), offset };
        let small = [at(Base::Arena, 64), at(Base::Arena, 1 << 20), at(Base::Constant(0), 5)];
        let expected = (vec![at(Base::Arena, 0), at(Base::Constant(0), 0)], 30);
        assert_eq!(segments(&small).unwrap(), expected);
        let inputs = (0..5).map(|i| at(Base::Input(i), 3 << 28));
        let large: Vec<Segment> = inputs.chain([at(Base::Arena, 1 << 28), at(Base::Arena, 0)]).collect();
        let (segments_of_large, shift) = segments(&large).unwrap();
        assert_eq!((segments_of_large.len(), shift), (7, 28));
        for place in large {
            let segment = start(place, shift);
            assert!(segments_of_large.contains(&segment) && place.offset - segment.offset < 1 << shift);
        }
        let far: Vec<Segment> = (0..9).map(|i| at(Base::Arena, i << 29)).collect();
        assert_eq!(segments(&far).unwrap().1, 27);
    }
}
