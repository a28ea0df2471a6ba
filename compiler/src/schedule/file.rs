//! Files of schedules: what `lmc tune` found and `lmc build --schedule` takes.
//!
//! ```text
//! target x86_64 native: Sse41 Avx Fma, 32 bytes, 16 registers
//! for 0x0123456789abcdef
//! schedule conv { ... }
//! ```
//! An entry belongs to one definition, by the hash of its linear text without the name. A file is of
//! one target; for another it is refused, since what is fast differs. An entry whose definition does
//! not occur is left unused, and said so: the model has changed since.

use super::linear::Linear;
use super::{Schedule, parse, verify};
use crate::base::elements::hash;
use crate::base::lex::Cursor;
use crate::error::{Error, Result};
use crate::target::Target;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

/// Schedules by definition, for one target.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Schedules {
    target: String,
    /// The text of each, with the line it begins at.
    entries: BTreeMap<u64, (String, usize)>,
    used: RefCell<BTreeSet<u64>>,
}

/// What a definition is known by: a hash of its text, without the name of the node it comes from.
pub fn key(linear: &Linear) -> u64 {
    hash(Linear { name: String::new(), ..linear.clone() }.to_string().as_bytes())
}

/// What of a target schedules depend on.
fn describe(target: &Target) -> String {
    let features: Vec<String> = target.features.iter().map(|f| format!("{f:?}")).collect();
    let (arch, cpu) = (format!("{:?}", target.arch).to_lowercase(), &target.cpu);
    let (bytes, registers) = (target.vector_bytes, target.vector_regs);
    format!("{arch} {cpu}: {}, {bytes} bytes, {registers} registers", features.join(" "))
}

impl Schedules {
    /// None yet.
    pub fn new(target: &Target) -> Schedules {
        Schedules { target: describe(target), ..Schedules::default() }
    }

    /// Adds the schedule of a definition.
    pub fn insert(&mut self, linear: &Linear, schedule: &Schedule) {
        self.entries.insert(key(linear), (schedule.display(linear), 0));
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Reads a file's text; an error where it is of another target.
    pub fn read(text: &str, target: &Target) -> Result<Schedules> {
        let foreign = || {
            Error::model("this is no file of schedules: 'target' or 'for' is expected")
                .advise("`lmc tune MODEL` writes such files")
        };
        let mut found = Schedules::default();
        let mut current: Option<u64> = None;
        for (i, line) in text.lines().enumerate() {
            let at = |e: Error| e.at(format!("line {}", i + 1));
            if let Some(name) = line.strip_prefix("target ") {
                found.target = name.trim().to_string();
            } else if let Some(number) = line.strip_prefix("for ") {
                let hex = number.trim().strip_prefix("0x").and_then(|h| u64::from_str_radix(h, 16).ok());
                let key = hex.ok_or_else(|| at(Error::model(format!("'{number}' is no hash"))))?;
                found.entries.insert(key, (String::new(), i + 1));
                current = Some(key);
            } else if let Some((entry, _)) = current.and_then(|key| found.entries.get_mut(&key)) {
                *entry += &format!("{line}\n");
            } else if !line.trim().is_empty() && !line.starts_with("//") {
                return Err(at(foreign()));
            }
        }
        if found.target.is_empty() {
            return Err(foreign());
        }
        let wanted = describe(target);
        if found.target != wanted {
            return Err(Error::options(format!("its schedules are for {}, not for {wanted}", found.target))
                .advise("Run `lmc tune` again with the same --target and --cpu as the build"));
        }
        Ok(found)
    }

    /// The schedule of a definition; `None` where the file has none. Errors name the line.
    pub fn get(&self, linear: &Linear) -> Result<Option<Schedule>> {
        let key = key(linear);
        let Some((text, line)) = self.entries.get(&key) else { return Ok(None) };
        self.used.borrow_mut().insert(key);
        // Blank lines before it, so that lines are those of the file.
        let text = format!("{}{text}", "\n".repeat(*line));
        let mut cursor = Cursor::new(&text)?;
        cursor.expect("schedule")?;
        let renamed = Linear { name: cursor.name("a name")?, ..linear.clone() };
        let schedule = parse(&text, &renamed)?;
        verify(&schedule, &renamed).map_err(|e| Error::model(e.reason).at(format!("line {line}")))?;
        Ok(Some(schedule))
    }

    /// What the user should know after a build: how many entries belong to no definition of the model.
    pub fn unused(&self) -> Option<String> {
        let unused = self.entries.len() - self.used.borrow().len();
        let all = self.entries.len();
        (unused > 0).then(|| {
            format!(
                "{unused} of {all} schedules belong to no kernel of this model: it, or lmc, has changed since; \
                 `lmc tune` makes new ones"
            )
        })
    }
}

impl std::fmt::Display for Schedules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "target {}", self.target)?;
        self.entries.iter().try_for_each(|(key, (text, _))| write!(f, "\nfor {key:#018x}\n{text}"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::choose::choose;
    use super::super::linear::Layout;
    use super::*;
    use crate::base::{DType, TensorType};
    use crate::definition::DefBuilder;
    use crate::scalar::Op;
    use crate::target::resolve;

    fn doubled(name: &str, elems: usize) -> Linear {
        let ty = TensorType::new(DType::F32, [elems]);
        let mut b = DefBuilder::new(&ty.shape);
        let axes = b.axes();
        let x = b.load(0, &ty, axes);
        let sum = b.op(Op::Add, &[x, x]);
        let dense = Layout::dense(&ty.shape);
        Linear::new(&b.finish(name, 1, &ty, sum), std::slice::from_ref(&dense), &[false], &dense)
    }

    /// What is written is read back, whatever the node's name; another target's file is refused, and
    /// what belongs to nothing is said.
    #[test]
    fn files_are_read_back() {
        let target = resolve("x86_64", "x86-64-v3").expect("a target");
        let (linear, other) = (doubled("a", 64), doubled("a", 65));
        let mut written = Schedules::new(&target);
        let schedule = choose(&linear, &target);
        written.insert(&linear, &schedule);
        written.insert(&other, &choose(&other, &target));
        let read = Schedules::read(&written.to_string(), &target).expect("a file");
        assert_eq!(read.get(&doubled("b", 64)).expect("an entry"), Some(schedule));
        assert_eq!(read.get(&doubled("a", 66)).expect("no entry"), None);
        assert!(read.unused().is_some_and(|note| note.starts_with("1 of 2 ")));
        let elsewhere = resolve("aarch64", "cortex-a53").expect("a target");
        let refused = Schedules::read(&written.to_string(), &elsewhere).expect_err("another target");
        assert!(refused.reason.contains("not for aarch64 cortex-a53"), "{refused}");
        let edited = written.to_string().replace("8 of", "7 of");
        let bad = Schedules::read(&edited, &target).expect("a file").get(&linear).expect_err("no 7 lanes");
        assert!(bad.to_string().contains("line"), "{bad}");
    }
}
