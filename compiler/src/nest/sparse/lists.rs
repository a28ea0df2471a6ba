//! Weights as lists of those that are not zero.
//!
//! ```text
//! start[0], ..., start[outputs]        groups of entries before those of each output, 32 bits each
//! place, weight,  place, weight, ...   where the channel's data begins, and the weight's bits
//! ```
//! The last group of an output may end with zeros that are multiplied by its first channel.

use crate::base::Affine;
use crate::schedule::Linear;
use crate::schedule::sparse::{Block, Product, Tap};

/// Words of an entry.
const ENTRY: usize = 2;
/// The share of weights that may be left.
const LEFT: f64 = 0.5;
/// The share of them that may be more among a sample of so many.
const UNSURE: f64 = 0.2;
const SAMPLE: usize = 1024;

/// Groups of weights that are not zero, of all outputs of a product whose weights mostly are.
pub fn kept<'a>(linear: &Linear, data: impl Fn(u32) -> Option<&'a [u8]>) -> Option<usize> {
    let product = Product::of(linear)?;
    let data = data(product.weights)?;
    let words = data.as_chunks::<4>().0;
    // Of most constants some say that there are few zeros.
    let some: Vec<bool> = words.iter().step_by((words.len() / SAMPLE).max(1)).map(is_zero).collect();
    if some.iter().filter(|zero| !*zero).count() as f64 > (LEFT + UNSURE) * some.len() as f64 {
        return None;
    }
    let taps = product.taps(linear);
    let outputs = nonzero(linear, &product, &taps, data);
    let all = linear.extent(product.outer) * taps.len();
    let kept: usize = outputs.iter().map(|list| list.len().div_ceil(product.together())).sum();
    ((kept * product.together()) as f64 <= LEFT * all as f64).then_some(kept)
}

fn is_zero(word: &[u8; 4]) -> bool {
    f32::from_le_bytes(*word) == 0.0
}

/// Of each output the numbers of the taps whose weights are not zero, and these.
fn nonzero(linear: &Linear, product: &Product, taps: &[Tap], data: &[u8]) -> Vec<Vec<(usize, [u8; 4])>> {
    let words = data.as_chunks::<4>().0;
    let weight = |o: usize, tap: Tap| words.get(product.place(o, tap)).copied().unwrap_or_default();
    let list = |o: usize| {
        let all = taps.iter().enumerate().map(|(i, &tap)| (i, weight(o, tap)));
        all.filter(|w| !is_zero(&w.1)).collect()
    };
    (0..linear.extent(product.outer)).map(list).collect()
}

/// Makes zeros of some weights, so that as many are left as a product is known to have, spread evenly.
pub fn thin(linear: &Linear, operand: u32, data: &mut [u8]) {
    let product = Product::of(linear).filter(|p| p.weights == operand);
    let (Some(product), Some(kept)) = (product, linear.facts.kept) else { return };
    let (taps, outer) = (product.taps(linear), linear.extent(product.outer));
    for o in 0..outer {
        let left = product.together() * (kept * (o + 1) / outer - kept * o / outer);
        for (i, &tap) in taps.iter().enumerate() {
            if (i + 1) * left / taps.len() == i * left / taps.len() {
                let place = 4 * product.place(o, tap);
                data[place..place + 4].fill(0);
            }
        }
    }
}

/// How the lists lie in memory.
#[derive(Clone)]
pub struct Lists {
    product: Product,
    outer: usize,
    taps: Vec<Tap>,
    /// Where the data begins that each tap is multiplied by.
    places: Vec<u32>,
    /// Groups of entries, and the entries of each.
    pub kept: usize,
    pub together: usize,
}

impl Lists {
    /// The lists of a product of so many groups of weights, whose data lie as those of a block.
    pub fn new(linear: &Linear, product: &Product, kept: usize, block: &Block, rows: usize) -> Lists {
        let taps = product.taps(linear);
        let place = |&tap: &Tap| product.data_at(linear, block, rows, tap) as u32;
        Lists {
            outer: linear.extent(product.outer),
            places: taps.iter().map(place).collect(),
            kept,
            together: product.together(),
            product: product.clone(),
            taps,
        }
    }

    /// The last place of data.
    pub fn last(&self) -> i64 {
        self.places.iter().max().map_or(0, |&place| i64::from(place))
    }

    /// Words before the first entry.
    fn head(&self) -> usize {
        (self.outer + 1).next_multiple_of(ENTRY * self.together)
    }

    /// Words in all.
    pub fn elems(&self) -> usize {
        self.head() + self.kept * self.together * ENTRY
    }

    /// Where an entry of a group is.
    pub fn entry(&self, group: &Affine, number: usize) -> Affine {
        group.scaled((self.together * ENTRY) as i64).offset((self.head() + number * ENTRY) as i64)
    }

    /// The bytes of an operand; `None` where it is not one of lists.
    pub fn packed(&self, linear: &Linear, operand: u32, data: &[u8]) -> Option<Vec<u8>> {
        if operand != self.product.weights {
            return None;
        }
        let (mut starts, mut entries) = (vec![0u32], Vec::new());
        for mut list in nonzero(linear, &self.product, &self.taps, data) {
            list.resize(list.len().next_multiple_of(self.together), (0, [0; 4]));
            starts.push(starts.last().copied().unwrap_or(0) + (list.len() / self.together) as u32);
            let place = |tap: usize| self.places[tap].to_le_bytes();
            entries.extend(list.into_iter().flat_map(|(tap, weight)| [place(tap), weight]).flatten());
        }
        starts.resize(self.head(), 0);
        Some(starts.into_iter().flat_map(u32::to_le_bytes).chain(entries).collect())
    }
}
