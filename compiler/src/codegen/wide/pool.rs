//! Constants after the code: largest first, each at its own alignment, none twice.

/// The placed constants.
#[derive(Debug)]
pub struct Pool {
    /// All bytes.
    pub bytes: Vec<u8>,
    /// Where each constant is.
    pub offsets: Vec<usize>,
    /// Alignment of the whole.
    pub align: usize,
}

impl Default for Pool {
    fn default() -> Self {
        Pool { bytes: Vec::new(), offsets: Vec::new(), align: 4 }
    }
}

impl Pool {
    /// Places constants of 4 to 64 bytes; one that is found inside a larger one takes no room.
    pub fn place(constants: &[Vec<u8>]) -> Pool {
        let mut order: Vec<usize> = (0..constants.len()).collect();
        order.sort_by_key(|&i| std::cmp::Reverse(constants[i].len()));
        let mut pool = Pool { offsets: vec![0; constants.len()], ..Pool::default() };
        for i in order {
            let constant = &constants[i];
            pool.align = pool.align.max(constant.len());
            let known = pool.bytes.chunks(constant.len()).position(|c| c == constant);
            pool.offsets[i] = known.map_or(pool.bytes.len(), |p| p * constant.len());
            if known.is_none() {
                pool.bytes.extend_from_slice(constant);
            }
        }
        pool
    }
}
