//! Random graphs with a batch left to run time, and of fixed size, of which much is computed entry by entry.

use super::{BATCH, Dim, Fixed, Sized, Value, agree_at};
use crate::random::setting;
use crate::sizes::{bounded, decode};
use crate::support::{scratch, write};
use lmc::error::{Error, Kind};
use lmc::import::Bindings;
use lmc::plan::{Program, Step};
use prost::Message;

/// The length, which is known.
const LONG: usize = 9;

impl Sized {
    /// Adds a product that makes single entries worth while, whatever else there is.
    fn with_work(&mut self) {
        let dims = [BATCH, Fixed(64), Fixed(48)];
        let work = Value { name: "work".into(), dims: dims.to_vec() };
        self.inputs.push(work.clone());
        let weights = self.numbers(&[48, 48]);
        let product = self.add("MatMul", &["work", &weights], Vec::new(), &dims);
        self.values.extend([work, product]);
    }

    /// Whether each input has entries, in first place.
    fn has_entries(&self) -> bool {
        let apart = |dims: &[Dim]| dims[0] == BATCH || !dims.contains(&BATCH);
        self.has_batch() && self.inputs.iter().all(|v| apart(&v.dims))
    }
}

/// Whether a program goes from entry to entry. Where their number is fixed nothing stands beside that loop; whatever other
/// loops a graph has, the product does.
fn repeats(program: &Program) -> bool {
    match program.steps.as_slice() {
        [Step::Repeat { trip: None, .. }] => true,
        [.., Step::Repeat { trip, .. }] => trip.is_some(),
        _ => false,
    }
}

#[test]
fn random_batches_agree_with_each_size() {
    let (folder, first) = (scratch("random_batches"), setting("LMC_RANDOM_FIRST", 1));
    let (mut compared, mut apart, mut all) = (0, 0, 0);
    let (mut refused, mut wrong) = (Vec::new(), Vec::new());
    for seed in first..first + setting("LMC_RANDOM_BATCHES", 120) {
        let mut made = Sized::new(seed);
        if !made.has_entries() {
            continue;
        }
        made.with_work();
        let proto = made.model();
        let what = |e: Error| {
            write(&folder, &format!("{seed}.onnx"), proto.encode_to_vec());
            format!("seed {seed}: {e}")
        };
        let length = ("length".to_string(), LONG);
        let free = Bindings { dims: [length.clone()].into(), ..bounded(&[("batch", 3)]) };
        let fixed = Bindings { dims: [length, ("batch".to_string(), 3)].into(), ..Bindings::default() };
        let sizes = [(LONG, 3), (LONG, 1), (LONG, 2)];
        for (bindings, sizes) in [(free, &sizes[..]), (fixed, &sizes[..1])] {
            let mut see = |program: &Program| apart += usize::from(repeats(program));
            all += 1;
            match agree_at(seed, &made, &decode(&proto), (bindings, sizes), &mut see) {
                Ok(results) => compared += results,
                Err(e) if e.kind == Kind::Model => refused.push(what(e)),
                Err(e) => wrong.push(what(e)),
            }
        }
    }
    println!(
        "{compared} results compared, {} graphs refused, {apart} of {all} entry by entry",
        refused.len()
    );
    refused.iter().for_each(|r| println!("{r}"));
    assert!(wrong.is_empty() && compared > 2 * refused.len() && 4 * apart > all, "{}", wrong.join("\n"));
}
